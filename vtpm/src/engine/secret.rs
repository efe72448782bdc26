//! Secrets of fixed capacity.

use std::boxed::Box;

use bulla_tpm_types::HashAlg;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Octets of a primary seed and of a proof: as many as the largest digest (Part 1, 14.3).
pub(super) const SEED_SIZE: usize = 64;

/// A primary seed or a proof, on the heap so that moving it leaves no copy behind.
pub(super) type Seed = Box<Zeroizing<[u8; SEED_SIZE]>>;

/// An all-zero seed, to be filled.
pub(super) fn empty_seed() -> Seed {
    Box::new(Zeroizing::new([0; SEED_SIZE]))
}

/// An authValue, without its trailing zeros (Part 1, 19.6.4.3).
#[derive(Default)]
pub(super) struct AuthValue(Zeroizing<Box<[u8]>>);

impl AuthValue {
    /// Keeps `value` without its trailing zeros.
    pub(super) fn new(value: &[u8]) -> Self {
        Self(Zeroizing::new(trimmed(value).into()))
    }

    /// Whether `value`, without its trailing zeros, is this one; in constant time for equal lengths.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        trimmed(value).ct_eq(&self.0).into()
    }
}

fn trimmed(value: &[u8]) -> &[u8] {
    let len = value.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    value.get(..len).unwrap_or_default()
}

/// The algorithm of tickets, obfuscation and primary key derivation (CONTEXT_INTEGRITY_HASH_ALG).
pub(super) const INTEGRITY_HASH: HashAlg = HashAlg::Sha256;
