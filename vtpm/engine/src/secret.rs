//! Secrets of fixed capacity.

use alloc::boxed::Box;

use bulla_tpm_types::HashAlg;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The largest digest, nonce and authValue.
pub(super) const MAX_DIGEST: usize = 64;
/// Octets of a primary seed and of a proof: as many as the largest digest (Part 1, 14.3).
pub(super) const SEED_SIZE: usize = MAX_DIGEST;

/// A primary seed or a proof, on the heap so that moving it leaves no copy behind.
pub(super) type Seed = Box<Zeroizing<[u8; SEED_SIZE]>>;

/// An all-zero seed, to be filled.
pub(super) fn empty_seed() -> Seed {
    Box::new(Zeroizing::new([0; SEED_SIZE]))
}

/// Octets that only the TPM may know.
pub(super) type Secret = Zeroizing<Box<[u8]>>;

/// An authValue, without its trailing zeros (Part 1, 19.6.4.3).
#[derive(Clone, Default)]
pub(super) struct AuthValue(Secret);

impl AuthValue {
    /// Keeps `value` without its trailing zeros.
    pub(super) fn new(value: &[u8]) -> Self {
        Self(Zeroizing::new(trimmed(value).into()))
    }

    /// The value, without its trailing zeros.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value with zeros after it, up to this size: what is wrapped does not tell how long it is.
    pub(super) fn padded(&self, size: usize) -> Secret {
        let mut padded = Zeroizing::new(alloc::vec![0; size.max(self.0.len())].into_boxed_slice());
        padded.iter_mut().zip(self.0.iter()).for_each(|(to, from)| *to = *from);
        padded
    }
}

/// Whether two authValues are the same but for their trailing zeros; in constant time for equal lengths.
pub(super) fn same_auth(a: &[u8], b: &[u8]) -> bool {
    trimmed(a).ct_eq(trimmed(b)).into()
}

fn trimmed(value: &[u8]) -> &[u8] {
    let len = value.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    value.get(..len).unwrap_or_default()
}

/// The algorithm of tickets, obfuscation and primary key derivation (CONTEXT_INTEGRITY_HASH_ALG).
pub(super) const INTEGRITY_HASH: HashAlg = HashAlg::Sha256;
