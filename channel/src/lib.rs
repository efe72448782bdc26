//! The attested channel: two virtual machines talk through shared memory, and the host carries ciphertext.
//!
//! Both ends run a Noise XX handshake through two rings of fixed slots. Messages 2 and 3 of it carry a TPM quote
//! over the handshake's own transcript, so each end learns what the other one booted, in this very
//! conversation; afterwards every message is a ChaCha20-Poly1305 record. README.md in this folder says whom that
//! protects against, and gives every byte on the wire.
//!
//! Architecture invariants:
//!
//! - No value read from the shared region is ever used as an index or a length before it was compared with what this
//!   side expects; nothing in the region is read twice.
//! - The crate knows of no operating system, clock, thread or TPM transport: random bytes, quotes and waiting are
//!   the caller's.
//! - `unsafe` exists in [`raw`] alone.
//! - After the first failure a channel is closed, and its keys are gone.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod aead;
pub mod appraise;
mod channel;
pub mod handshake;
pub mod identity;
pub mod noise;
#[expect(unsafe_code, reason = "the one module that touches memory by address; its rules are at its top")]
pub mod raw;
pub mod record;
pub mod region;
pub mod ring;
mod sync;

pub use appraise::{AkName, PcrRule, PeerPolicy, PinnedAks, VerifiedIdentity};
pub use channel::{Channel, Error};
pub use handshake::{Attester, BoxError, State};
pub use identity::{AttestedIdentity, PcrSet, PcrValue};
pub use noise::Role;
pub use raw::RawRegion;
pub use record::MAX_MESSAGE;
pub use region::{HeapRegion, Region};

/// What a channel is called; both ends must use the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId([u8; 32]);

impl ChannelId {
    /// A channel of this identifier: 32 bytes of any value, chosen by whoever connects the two ends.
    #[must_use]
    pub const fn new(id: [u8; 32]) -> Self {
        Self(id)
    }

    /// The identifier.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
