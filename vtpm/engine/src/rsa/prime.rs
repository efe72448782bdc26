//! Whether a number is prime: trial division and Miller and Rabin's test.

use alloc::vec::Vec;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Limb, NonZero};
use zeroize::Zeroizing;

use super::key::{number, octets};
use crate::drbg::Drbg;

/// Candidates are divided by the odd primes below this.
const SMALL: usize = 1 << 16;

/// Miller and Rabin's test (FIPS 186-5, B.3.1) of an odd number of whole words: to the base 2, which almost no
/// composite passes, and to `rounds` more.
///
/// The bases come of a generator of their own, seeded with the number: the one that drew the number is not asked,
/// so what it gives next does not depend on how numbers are tested.
pub(super) fn may_be_prime(candidate: &BoxedUint, rounds: usize) -> bool {
    let Some(odd) = candidate.to_odd().into_option() else {
        return false;
    };
    let bits = candidate.bits_precision();
    let size = bits as usize / 8;
    let params = BoxedMontyParams::new(odd);
    let less_one = Zeroizing::new(candidate.wrapping_sub(BoxedUint::one_with_precision(bits)));
    let twos = less_one.trailing_zeros();
    let odd_part = Zeroizing::new(less_one.shr(twos));
    let one = BoxedMontyForm::one(&params);
    let minus_one = one.neg();
    let is_witness = |base: BoxedUint| {
        let mut power = BoxedMontyForm::new(base, &params).pow(&odd_part);
        if power == one || power == minus_one {
            return false;
        }
        for _ in 1..twos {
            power = power.square();
            if power == minus_one {
                return false;
            }
        }
        true
    };
    let Some(two) = number(&[2], size) else {
        return false;
    };
    if is_witness(two) {
        return false;
    }
    let mut bases = Drbg::new(&[b"bulla Miller-Rabin", &Zeroizing::new(octets(candidate, size))]);
    let mut drawn = Zeroizing::new(alloc::vec![0; size]);
    (0..rounds).all(|_| {
        bases.generate(&mut drawn);
        let Some(base) = number(&drawn, size) else {
            return false;
        };
        !is_witness(base.rem(params.modulus().as_nz_ref()))
    })
}

/// The odd primes below [`SMALL`].
pub(super) fn small_primes() -> Vec<u32> {
    // One flag for each odd number.
    let mut composite = alloc::vec![false; SMALL / 2];
    let mut primes = Vec::new();
    for i in 1..SMALL / 2 {
        if composite.get(i) == Some(&false) {
            let p = 2 * i + 1;
            primes.push(p as u32);
            composite.iter_mut().skip(p * p / 2).step_by(p).for_each(|c| *c = true);
        }
    }
    primes
}

/// Of `start`, `start` + 2, … (`count` numbers), which have no factor among `primes`. `start` is odd, and larger
/// than their squares.
pub(super) fn sieve(start: &BoxedUint, count: usize, primes: &[u32]) -> Option<Vec<bool>> {
    let mut prime = alloc::vec![true; count];
    // Four primes of 16 bits make a word: one long division for all of them.
    for group in primes.chunks(4) {
        let product = group.iter().fold(1u64, |product, p| product.wrapping_mul((*p).into()));
        let residue = start.rem_limb(NonZero::new(Limb(product)).into_option()?).0;
        for p in group {
            let p = u64::from(*p);
            // start + 2i = 0 (mod p) for i = -start / 2 (mod p), and 1/2 = (p + 1) / 2.
            let first = (p - residue % p) * p.div_ceil(2) % p;
            prime.iter_mut().skip(first as usize).step_by(p as usize).for_each(|c| *c = false);
        }
    }
    Some(prime)
}
