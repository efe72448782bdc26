//! TPM 2.0 wire structures and the TCG event log, for both ends of the wire.
//!
//! The vTPM unmarshals commands with these types and needs the exact response code that the specification
//! asks for each malformed field; the firmware, the monitor, the tenants and the verifier build commands and
//! read responses with them. No `std`, no unsafe code, and bytes from the other side never cause a panic or
//! an allocation larger than the bytes themselves.
//!
//! Names follow the TPM 2.0 Library Specification (Part 2) without their `TPM_` prefixes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod attest;
mod attributes;
mod buffers;
mod codec;
pub mod command;
mod constants;
mod context;
mod error;
pub mod eventlog;
#[cfg(feature = "hash")]
pub mod hash;
mod nv;
mod pcr;
mod public;
pub mod response;
mod schemes;
mod sessions;
mod signature;
pub mod templates;

pub use attest::{Attest, Attested, ClockInfo, CreationData, TimeInfo};
pub use attributes::{CommandAttributes, Locality, NvAttributes, ObjectAttributes, SessionAttributes};
pub use buffers::{Auth, Data, Digest, EccParameter, Ha, Label, List, Name, Nonce, PublicKeyRsa, Tpm2b};
pub use codec::{Marshal, Reader, Unmarshal, Writer};
pub use constants::{AlgId, Handle, HashAlg, Rc, StartupType, alg, cap, cc, ecc, ht, pt, pt_pcr, rc, rh, st};
pub use context::Context;
pub use error::{Error, ErrorKind};
pub use nv::{MAX_NV_BUFFER_SIZE, NvKind, NvPin, NvPublic};
pub use pcr::{DigestValues, IMPLEMENTATION_PCR, PCR_SELECT_SIZE, PcrSelection, PcrSelectionList};
pub use public::{Derive, EccParms, EccPoint, Public, PublicKind, RsaParms};
pub use schemes::{AsymScheme, KdfScheme, KeyedHashScheme, SessionSymmetric, Symmetric};
pub use sessions::{AuthCommand, AuthResponse, SensitiveCreate, TkCreation};
pub use signature::{Signature, SignatureValue};
