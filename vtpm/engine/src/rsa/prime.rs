//! Whether a number is prime: trial division and Miller and Rabin's test.

use alloc::vec::Vec;

use crypto_bigint::{BoxedUint, Integer, Limb, NonZero};
use zeroize::Zeroizing;

use super::key::{number, octets};
use super::montgomery::{Montgomery, Residue};
use crate::drbg::Drbg;

/// Candidates are divided by the odd primes below this.
const SMALL: usize = 1 << 16;

/// Miller and Rabin's test (FIPS 186-5, B.3.1) of an odd number of whole words: to the base 2, which almost no
/// composite passes, and to `rounds` more.
///
/// The bases come of a generator of their own, seeded with the number: the one that drew the number is not asked,
/// so what it gives next does not depend on how numbers are tested. A number of a length that no key's primes have
/// is none.
pub(super) fn may_be_prime(candidate: &BoxedUint, rounds: usize) -> bool {
    match candidate.bits_precision() {
        512 => is_strong::<8>(candidate, rounds),
        1024 => is_strong::<16>(candidate, rounds),
        1536 => is_strong::<24>(candidate, rounds),
        2048 => is_strong::<32>(candidate, rounds),
        _ => false,
    }
}

fn is_strong<const N: usize>(candidate: &BoxedUint, rounds: usize) -> bool {
    let (Some(modulus), true) = (words::<N>(candidate), bool::from(candidate.is_odd())) else {
        return false;
    };
    let bits = candidate.bits_precision();
    let size = bits as usize / 8;
    let less_one = Zeroizing::new(candidate.wrapping_sub(BoxedUint::one_with_precision(bits)));
    let twos = less_one.trailing_zeros();
    let Some(odd_part) = words::<N>(&Zeroizing::new(less_one.shr(twos))) else {
        return false;
    };
    let field = Montgomery::new(*modulus);
    let minus_one = field.minus_one();
    let passes = |mut power: Residue<N>| {
        if power == *field.one() || power == minus_one {
            return true;
        }
        (1..twos).any(|_| {
            power = field.square(&power);
            power == minus_one
        })
    };
    if !passes(field.power_of_two(&odd_part)) {
        return false;
    }
    let mut bases = Drbg::new(&[b"bulla Miller-Rabin", &Zeroizing::new(octets(candidate, size))]);
    let mut drawn = Zeroizing::new(alloc::vec![0; size]);
    (0..rounds).all(|_| {
        bases.generate(&mut drawn);
        let base = number(&drawn, size).and_then(|base| words::<N>(&base));
        base.is_some_and(|base| passes(field.power(&field.residue(&base), &odd_part)))
    })
}

/// The words of a number, least significant first; `None` if it has not that many.
fn words<const N: usize>(number: &BoxedUint) -> Option<Zeroizing<[u64; N]>> {
    let mut words = Zeroizing::new([0; N]);
    let limbs = number.as_limbs();
    if limbs.len() != N {
        return None;
    }
    words.iter_mut().zip(limbs).for_each(|(word, limb)| *word = limb.0);
    Some(words)
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
