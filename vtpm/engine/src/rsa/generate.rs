//! How keys are made. **Frozen**: primary keys come of seeds by it, so that an endorsement key that anyone ever
//! trusted is found again only while not a bit of this changes.

use crypto_bigint::{BoxedUint, Limb, NonZero, Resize};
use zeroize::Zeroizing;

use super::key::{PrivateKey, number};
use super::prime::{may_be_prime, sieve, small_primes};
use crate::drbg::Drbg;

/// How many odd numbers from a random one on are looked at before another is drawn. Frozen.
const WINDOW: usize = 4096;
/// The most numbers drawn for a key. Less than one of a hundred windows has no prime.
const DRAWS: usize = 64;
/// How many of the highest bits of the primes may not all be equal (FIPS 186-5, A.1.3, step 5.4).
const FAR_BITS: usize = 100;

/// Makes a key of `bits` (a multiple of 128) with the exponent `e`, a prime above 2^16. `None` cannot happen short
/// of a defect.
///
/// # The frozen definition
/// A *draw* asks the generator for bits/16 octets, one request. They are a number S, big-endian, in which the two
/// highest bits and the lowest are then set.
///
/// A *prime of the generator* is the least prime p among S, S + 2, …, S + 2·4095 for which p - 1 is no multiple of
/// e and that is below 2^(bits/2). If there is none, the next draw takes the place of S.
///
/// The key's first prime is the generator's first. The second is its next, if the two differ in their highest 100
/// bits; otherwise the next is taken instead, and so on. The modulus is their product.
///
/// This is all of it: how primes are recognised (sieve and number of rounds) has no part, as long as it is right.
///
/// # Why it is good enough
/// As in FIPS 186-5, A.1.3, both primes are above sqrt(2)·2^(bits/2-1), as their two highest bits are set; the
/// modulus has all its bits; |p - q| > 2^(bits/2-100). Its demand on the private exponent d > 2^(bits/2) is met as d
/// is at least lcm(p-1, q-1)/e, which is too small only if p - 1 and q - 1 share nearly half of their bits: no
/// random primes do. Primes after a long gap are likelier than others, by a factor that costs an attacker's
/// uncertainty less than four bits.
///
/// `wanted` is asked before each candidate; when it is not, the answer is `None`. It has no part in which key is made.
pub(crate) fn generate_while(random: &mut Drbg, bits: u16, e: u32, wanted: &dyn Fn() -> bool) -> Option<PrivateKey> {
    let small = small_primes();
    let mut next = |draws| prime(random, usize::from(bits / 16), e, (&small, wanted), draws);
    let p = next(DRAWS)?;
    let q = (0..DRAWS).take_while(|_| wanted()).find_map(|_| next(DRAWS).filter(|q| differ(&p, q)))?;
    PrivateKey::from_primes((*p).clone(), (*q).clone(), bits, e)
}

/// [`generate_while`] it is done.
#[cfg(test)]
pub(crate) fn generate(random: &mut Drbg, bits: u16, e: u32) -> Option<PrivateKey> {
    generate_while(random, bits, e, &|| true)
}

fn differ(p: &BoxedUint, q: &BoxedUint) -> bool {
    let bits = p.bits_precision() as usize;
    let low = (bits - FAR_BITS) as u32;
    p.shr(low) != q.shr(low)
}

/// What the search for a prime is done with: the small primes, and whether it is still wanted.
type Search<'a> = (&'a [u32], &'a dyn Fn() -> bool);

fn prime(random: &mut Drbg, size: usize, e: u32, by: Search<'_>, draws: usize) -> Option<Zeroizing<BoxedUint>> {
    (0..draws).take_while(|_| by.1()).find_map(|_| draw(random, size).and_then(|start| search(&start, e, by)))
}

fn draw(random: &mut Drbg, size: usize) -> Option<Zeroizing<BoxedUint>> {
    let mut drawn = Zeroizing::new(alloc::vec![0; size]);
    random.generate(&mut drawn);
    *drawn.first_mut()? |= 0b1100_0000;
    *drawn.last_mut()? |= 1;
    number(&drawn, size).map(Zeroizing::new)
}

/// The first prime in the window of a number.
fn search(start: &BoxedUint, e: u32, (small, wanted): Search<'_>) -> Option<Zeroizing<BoxedUint>> {
    let e = NonZero::new(Limb(e.into())).into_option()?;
    let flags = sieve(start, WINDOW, small)?;
    let bits = start.bits_precision();
    (0u64..).zip(flags).filter(|(_, may_be)| *may_be).take_while(|_| wanted()).find_map(|(i, _)| {
        let (candidate, carry) = start.overflowing_add(BoxedUint::from(2 * i).resize_unchecked(bits));
        let candidate = Zeroizing::new(candidate);
        let usable = !bool::from(carry) && candidate.rem_limb(e).0 != 1;
        (usable && may_be_prime(&candidate, rounds(bits))).then_some(candidate)
    })
}

/// Rounds of Miller and Rabin's test after the first, for candidates drawn at random: more than FIPS 186-5, table
/// B.1, asks for an error below that of guessing the key.
fn rounds(bits: u32) -> usize {
    if bits < 1024 { 7 } else { 4 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_tpm_types::{HashAlg, hash};

    fn sha256(octets: &[u8]) -> String {
        hash::digest(HashAlg::Sha256, &[octets]).as_bytes().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// SHA-256 of the modulus and of the first prime, and the eight octets that the generator gives next.
    ///
    /// Frozen: computed by `vectors/rsa.py`, which has its own generator, sieve and arithmetic.
    const VECTORS: [(u16, &str, &str, u64); 4] = [
        (
            1024,
            "ff587f859508bef2811c3a5d9bfa9276b65c829b892a7e90a65988f2a63c405c",
            "b27bc58e35226667dda0dae8e0e12a6fc3c613e2fbd20d137eac7bb7589a8cb2",
            0x5c7a_fba3_3d9e_0d7e,
        ),
        (
            2048,
            "cdff605042d816c5e244ca5242b907de2852834282832a5f143c90fdd5932945",
            "d029969a319b44922e70b8f8b7137533b509cdb276c2e405ac4af7d75eaf204b",
            0x5996_ad48_e3f6_3fb8,
        ),
        (
            3072,
            "c8da3e839d5c872be9cadac5f2f12cd583b18b4ab60efcee5f6d3e6bf4224d05",
            "0050de1be162649120d87c91c002ecc20d5241cde31f9e850c7fbf070eb3f346",
            0xdbfe_ed8f_2fc6_9a9f,
        ),
        (
            4096,
            "ff3420160330b0d9d9661e63eee6a377c74901b10a4c845d1cc1312534638ae6",
            "5459e44a682920349d67c4d41efd380892f530d8282906c5ebbf009c37118310",
            0xdf90_193f_1da8_3858,
        ),
    ];

    #[test]
    fn keys_of_a_generator_are_for_ever() {
        for (bits, modulus, prime, next) in VECTORS {
            let mut random = Drbg::new(&[b"bulla RSA vector", &bits.to_be_bytes()]);
            let key = generate(&mut random, bits, 65537).expect("a key");
            assert_eq!(sha256(&key.modulus()), modulus);
            assert_eq!(sha256(&key.prime()), prime);
            let mut after = [0; 8];
            random.generate(&mut after);
            assert_eq!(u64::from_be_bytes(after), next);
        }
        let key = generate(&mut Drbg::new(&[b"bulla RSA vector e"]), 1024, 4_294_967_291).expect("a key");
        assert_eq!(sha256(&key.modulus()), "ec2863461ee2d5aaf2e5742328d582785fec6dd5244d6d40e2a1c3eb4be96c31");
    }

    #[test]
    fn a_search_that_is_no_longer_wanted_ends() {
        let left = core::cell::Cell::new(5);
        let wanted = || {
            left.set(left.get() - 1);
            left.get() >= 0
        };
        assert!(generate_while(&mut Drbg::new(&[b"cancel"]), 4096, 65537, &wanted).is_none());
        assert!(left.get() > -10, "asked {} times after it was not wanted", -left.get());
    }

    #[test]
    fn primes_that_begin_alike_are_not_taken() {
        let p = number(&[0xc5; 64], 64).expect("fits");
        let mut octets = [0xc5; 64];
        octets[13] = 0;
        assert!(!differ(&p, &number(&octets, 64).expect("fits")));
        octets[12] = 0;
        assert!(differ(&p, &number(&octets, 64).expect("fits")));
    }
}
