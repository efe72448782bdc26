//! The agent in a Linux guest, and the words that it and its monitor exchange.
//!
//! The agent reads the event log that Linux shows, has the TPM quote the boot's PCRs over a nonce of the host's, and
//! hands both out as the claims of `docs/evidence.md`. It is in the trusted base of every guest that starts with it, so it is
//! small: no CBOR library, no cryptography but one SHA-256, no unsafe code.
//!
//! - [`frame`]: messages on a serial line, for both ends.
//! - [`talk`]: the agent's side of the conversation.
//! - [`tpm`]: attestation key, quote and PCR values through any [`tpm::Transport`].
//! - [`claims`]: the claims as deterministic CBOR.
#![forbid(unsafe_code)]

pub mod claims;
pub mod frame;
pub mod talk;
pub mod tpm;

#[cfg(test)]
mod testing;
