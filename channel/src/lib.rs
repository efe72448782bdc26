//! The attested shared-memory channel, no_std + alloc
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;
mod aead;
pub mod noise;
pub mod raw;
pub mod record;
pub mod region;
pub mod ring;
mod sync;

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
