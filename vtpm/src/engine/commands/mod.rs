//! The commands, one function each, grouped as Part 3 groups them.
//!
//! Each takes the TPM and the call, whose handles and sessions are checked already. It unmarshals all
//! parameters first, and answers an error before it has changed anything.

pub(super) mod attest;
pub(super) mod capability;
pub(super) mod clock;
pub(super) mod context;
pub(super) mod hash;
pub(super) mod lifecycle;
pub(super) mod pcr;
pub(super) mod primary;
pub(super) mod properties;
pub(super) mod random;
pub(super) mod selftest;

/// TPM_PT_INPUT_BUFFER: the largest TPM2B_MAX_BUFFER, and the largest TPM2B_EVENT.
pub(super) const MAX_BUFFER: usize = 1024;
