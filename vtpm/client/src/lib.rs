//! How a monitor talks to its vTPM process: the wire protocol, and both ends' use of it.
//!
//! A monitor starts one `bulla-vtpm` process for its VM ([`VtpmProcess`]) and shares one thing with
//! it: a connected `AF_UNIX` stream socket. On it the monitor asks and the vTPM answers, strictly in
//! turn. [`VtpmClient`] is the asking side; the answering side is `bulla_vtpm::server`. Both put
//! bytes on the socket and take them off through [`frame`], so there is one parser.
//!
//! # The protocol, version 2
//!
//! All integers are big-endian, as in the TPM's own commands.
//!
//! ```text
//! request   u32 length   of what follows: 2 to 2 + 4096
//!           u8  op
//!           u8  locality
//!           ..  payload  0 to 4096 bytes
//!
//! reply     u32 length   of what follows: 1 to 1 + 4096
//!           u8  status   0: done; else why not, and no payload
//!           ..  payload  0 to 4096 bytes
//! ```
//!
//! | op | name             | locality | payload of the request | payload of the reply                  |
//! |----|------------------|----------|------------------------|---------------------------------------|
//! | 1  | Command          | 0 to 4   | a TPM command          | the TPM's response                    |
//! | 2  | HashStart        | 4        |                        |                                       |
//! | 3  | HashData         | 4        | bytes to hash          |                                       |
//! | 4  | HashEnd          | 4        |                        | TPML_DIGEST_VALUES: what was extended |
//! | 5  | PowerOn          | 0        | u16 protocol version   |                                       |
//! | 6  | Info             | 0        |                        | u16 version, u16 most payload         |
//! | 7  | Established      | 0        |                        | u8: 1 after a dynamic launch, else 0  |
//! | 8  | ResetEstablished | 3, 4     |                        |                                       |
//!
//! A TPM without power does nothing: PowerOn (the `_TPM_Init` signal) comes before anything but Info,
//! and again at each reset of the VM. HashStart, HashData and HashEnd are the signals `_TPM_Hash_Start`,
//! `_TPM_Hash_Data`, `_TPM_Hash_End` (TPM 2.0 Part 3, "_TPM_Hash_Start" and following); between start and end only
//! HashData, PowerOn, Info and Established are in place. A dynamic launch is a HashStart after the first Command since
//! PowerOn; what is told of it lasts until ResetEstablished (PTP 1.05, TPM_ACCESS_x.tpmEstablishment), over PowerOn too. What is out of place is refused with a [`Status`], changes nothing, and
//! the conversation goes on.
//!
//! A frame whose length is out of bounds, a frame cut short by the end of the stream, or bytes after a
//! frame that nobody waited for cannot be answered in step: the vTPM exits, the client gives the
//! socket up. Closing the socket between frames is how the monitor ends its vTPM.
#![forbid(unsafe_code)]

mod client;
mod error;
mod exit;
mod find;
pub mod frame;
mod locality;
mod process;

pub use client::{DEFAULT_LIMIT, Info, VtpmClient};
pub use error::{BadReply, Error, Fault, SpawnError};
pub use exit::Exit;
pub use find::{BINARY_NAME, BINARY_VARIABLE, NotFound, find_binary};
pub use frame::{MAX_PAYLOAD, Op, PROTOCOL_VERSION, Status};
pub use locality::{Locality, NoSuchLocality};
pub use process::{StatePlace, VtpmChild, VtpmProcess};
