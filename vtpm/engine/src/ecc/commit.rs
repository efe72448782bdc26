//! Commitments: random numbers of which a point is answered first, and which are used once, later (Part 1, C.2).
//!
//! A number is not kept: it is derived from a secret and the counter of its commitment. The secret does not outlive a
//! loss of power, unlike what Part 1 allows for TPM Resume and TPM Restart: whoever copied a stored state could
//! otherwise have the same number used twice, and two ECDAA signatures with one number give the key away.

use zeroize::Zeroizing;

use super::PrivateKey;
use crate::drbg::Drbg;

/// How many commitments may be open: the bits of commitArray.
const OPEN: u32 = u128::BITS;
/// Octets of commitNonce.
const NONCE: usize = 32;

/// commitNonce, commitCounter and commitArray; by default, as before power comes on, with no secret.
#[derive(Default)]
pub(crate) struct Commitments {
    nonce: Zeroizing<[u8; NONCE]>,
    counter: u64,
    /// The bit of a commitment is its counter, modulo as many as there are.
    open: u128,
}

impl Commitments {
    /// No commitments, and a fresh secret.
    pub(crate) fn new(random: &mut Drbg) -> Self {
        let mut nonce = Zeroizing::new([0; NONCE]);
        random.generate(&mut *nonce);
        Self { nonce, counter: 0, open: 0 }
    }

    /// The number of the next commitment, for a key's Name; an empty Name for a number that belongs to no key.
    pub(crate) fn next(&self, curve: u16, name: &[u8]) -> Option<PrivateKey> {
        self.number(self.counter, curve, name)
    }

    /// Makes the commitment whose number [`Commitments::next`] told, and answers its count. The one that had its place
    /// before can no longer be used.
    pub(crate) fn commit(&mut self) -> u16 {
        let count = self.counter as u16;
        self.open |= bit(self.counter);
        self.counter = self.counter.wrapping_add(1);
        count
    }

    /// The number of an open commitment; `None` when there is none of that count.
    pub(crate) fn open(&self, count: u16, curve: u16, name: &[u8]) -> Option<PrivateKey> {
        let age = (self.counter as u16).wrapping_sub(count);
        let counter = self.counter.checked_sub(age.into())?;
        let is_open = (1..=OPEN).contains(&age.into()) && self.open & bit(counter) != 0;
        is_open.then(|| self.number(counter, curve, name))?
    }

    /// A commitment was used: it cannot be used again.
    pub(crate) fn end(&mut self, count: u16) {
        self.open &= !bit(count.into());
    }

    fn number(&self, counter: u64, curve: u16, name: &[u8]) -> Option<PrivateKey> {
        let mut derived = Drbg::new(&[&*self.nonce, &counter.to_be_bytes(), &curve.to_be_bytes(), name]);
        PrivateKey::generate(curve, &mut derived)
    }
}

fn bit(counter: u64) -> u128 {
    1 << (counter % u64::from(OPEN))
}

#[cfg(test)]
mod tests {
    use bulla_tpm_types::ecc;

    use super::*;

    const CURVE: u16 = ecc::NIST_P256;

    fn point(number: Option<PrivateKey>) -> Option<bulla_tpm_types::EccPoint> {
        number?.point()
    }

    #[test]
    fn a_commitment_is_used_once_and_by_whom_it_was_made_for() {
        let mut c = Commitments::new(&mut Drbg::new(&[b"seed"]));
        assert!(c.open(0, CURVE, b"key").is_none());
        let made = point(c.next(CURVE, b"key"));
        assert_eq!(c.commit(), 0);
        assert_ne!(point(c.next(CURVE, b"key")), made);
        assert_eq!(point(c.open(0, CURVE, b"key")), made);
        assert_ne!(point(c.open(0, CURVE, b"other")), made);
        assert!(c.open(1, CURVE, b"key").is_none());
        assert!(c.open(128, CURVE, b"key").is_none(), "a count of which only the place is right");
        c.end(0);
        assert!(c.open(0, CURVE, b"key").is_none());
    }

    #[test]
    fn the_oldest_commitments_give_way() {
        let mut c = Commitments::new(&mut Drbg::new(&[b"seed"]));
        (0..0x1_0000u32).for_each(|n| assert_eq!(u32::from(c.commit()), n));
        // The counts begin anew, the numbers do not.
        let first = point(c.number(0, CURVE, &[]));
        assert_eq!(c.commit(), 0);
        assert!(c.open(0, CURVE, &[]).is_some_and(|n| n.point() != first));
        assert!(c.open(0xff81, CURVE, &[]).is_some(), "128 are open");
        assert!(c.open(0xff80, CURVE, &[]).is_none());
    }

    #[test]
    fn another_secret_other_numbers() {
        let of = |seed: &[u8]| point(Commitments::new(&mut Drbg::new(&[seed])).next(CURVE, &[]));
        assert_ne!(of(b"one"), of(b"other"));
    }
}
