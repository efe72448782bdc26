//! Keys and the two operations on them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bulla_tpm_types::RsaParms;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, ConcatenatingMul, Limb, NonZero, Odd, Resize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::prime;
use crate::drbg::Drbg;
use crate::secret::Secret;

/// The exponent that 0 stands for (Part 2, 12.2.3.5).
const DEFAULT_EXPONENT: u32 = 65537;

/// The public exponent of parameters: the default or another prime above 2^16 (Part 1, B.2); `None` for what is
/// neither.
pub(crate) fn exponent(parms: &RsaParms) -> Option<u32> {
    match parms.exponent {
        0 => Some(DEFAULT_EXPONENT),
        e if e > 1 << 16 && is_small_prime(e) => Some(e),
        _ => None,
    }
}

fn is_small_prime(n: u32) -> bool {
    let divides = |d: u64| u64::from(n) % d == 0;
    n % 2 == 1 && !(3u64..).step_by(2).take_while(|d| d * d <= u64::from(n)).any(divides)
}

/// The public half of a key.
#[derive(Clone)]
pub(crate) struct PublicKey {
    modulus: BoxedMontyParams,
    exponent: u32,
}

impl PublicKey {
    /// The key of a public area: its modulus has the size that its parameters say, all of it, and is odd.
    pub(crate) fn new(parms: &RsaParms, modulus: &[u8]) -> Option<Self> {
        let fits = modulus.len() == usize::from(parms.key_bits / 8) && *modulus.first()? >= 0x80;
        let modulus = fits.then(|| number(modulus, modulus.len()))??;
        let modulus = BoxedMontyParams::new_vartime(modulus.into_odd().into_option()?);
        Some(Self { modulus, exponent: exponent(parms)? })
    }

    /// Octets of the modulus.
    pub(crate) fn size(&self) -> usize {
        self.bits() as usize / 8
    }

    fn bits(&self) -> u32 {
        self.modulus.bits_precision()
    }

    fn power(&self, base: &BoxedUint) -> BoxedMontyForm {
        let exponent = BoxedUint::from(self.exponent);
        BoxedMontyForm::new(base.clone(), &self.modulus).pow_bounded_exp(&exponent, u32::BITS)
    }

    /// A number below the modulus, of its size; `None` for another.
    fn element(&self, octets: &[u8]) -> Option<BoxedUint> {
        number(octets, self.size()).filter(|n| n < self.modulus.modulus().as_ref())
    }

    /// RSAEP and RSAVP1 (RFC 8017, 5.1.1 and 5.2.2): as many octets as the modulus has. `None` for what is not below
    /// the modulus.
    pub(crate) fn apply(&self, input: &[u8]) -> Option<Vec<u8>> {
        let power = self.power(&self.element(input)?).retrieve();
        Some(octets(&power, self.size()).to_vec())
    }
}

/// A private key, as two primes. The first is what a TPM2B_PRIVATE_KEY_RSA holds.
#[derive(Clone)]
pub(crate) struct PrivateKey {
    public: PublicKey,
    primes: [Prime; 2],
    /// The inverse of the second prime modulo the first.
    coefficient: Zeroizing<BoxedUint>,
}

/// A prime and the private exponent modulo it less one.
#[derive(Clone)]
struct Prime {
    value: Zeroizing<BoxedUint>,
    exponent: Zeroizing<BoxedUint>,
}

impl Prime {
    /// d = e^-1 mod (p-1) = (1 + k(p-1)) / e with k = -(p-1)^-1 mod e; `None` when there is none. `e` is a prime.
    fn new(value: BoxedUint, e: u32) -> Option<Self> {
        let value = Zeroizing::new(value);
        let bits = value.bits_precision();
        let divisor = NonZero::new(Limb(e.into())).into_option()?;
        let less_one = Zeroizing::new(value.wrapping_sub(BoxedUint::one_with_precision(bits)));
        let residue = less_one.rem_limb(divisor).0;
        if residue == 0 {
            return None;
        }
        let k = BoxedUint::from(u64::from(e) - inverse(residue, e.into()));
        let product = Zeroizing::new(less_one.concatenating_mul(&k).wrapping_add(BoxedUint::one()));
        let exponent = Zeroizing::new(product.div_rem_limb(divisor).0.resize_unchecked(bits));
        Some(Self { value, exponent })
    }

    fn odd(&self) -> Option<Odd<BoxedUint>> {
        self.value.to_odd().into_option()
    }

    /// The private operation modulo this prime.
    fn power(&self, base: &BoxedUint) -> Option<BoxedMontyForm> {
        let params = BoxedMontyParams::new(self.odd()?);
        let base = base.rem(params.modulus().as_nz_ref());
        Some(BoxedMontyForm::new(base, &params).pow(&self.exponent))
    }
}

/// a^-1 = a^(e-2) mod e, for a prime e of 32 bits.
fn inverse(a: u64, e: u64) -> u64 {
    let square_and_multiply = |result: u64, bit: u32| {
        let square = result * result % e;
        if (e - 2) >> bit & 1 == 1 { square * a % e } else { square }
    };
    (0..u32::BITS).rev().fold(1, square_and_multiply)
}

impl PrivateKey {
    /// The key of two primes of half its size each; `None` when they make no key of `bits`.
    pub(super) fn from_primes(p: BoxedUint, q: BoxedUint, bits: u16, e: u32) -> Option<Self> {
        let modulus = p.concatenating_mul(&q);
        let size = usize::from(bits / 8);
        let parms = RsaParms { key_bits: bits, exponent: e, symmetric: Default::default(), scheme: Default::default() };
        let public = PublicKey::new(&parms, &octets(&modulus, size))?;
        let primes = [Prime::new(p, e)?, Prime::new(q, e)?];
        let [p, q] = &primes;
        let q_mod_p = Zeroizing::new(q.value.rem(p.odd()?.as_nz_ref()));
        let coefficient = Zeroizing::new(q_mod_p.invert_odd_mod(&p.odd()?).into_option()?);
        Some(Self { public, primes, coefficient })
    }

    /// The key of a modulus and its first prime: what a sensitive area holds (Part 2, 12.3.2.4). `None` when the two
    /// do not belong together, or the factors are no primes of half the size.
    pub(crate) fn from_prime(parms: &RsaParms, modulus: &[u8], prime: &[u8]) -> Option<Self> {
        let half = usize::from(parms.key_bits / 16);
        if prime.len() != half || *prime.first()? < 0x80 {
            return None;
        }
        let n = number(modulus, usize::from(parms.key_bits / 8))?;
        let p = number(prime, half)?;
        let divisor = p.clone().into_nz().into_option()?;
        let (q, rest) = n.div_rem(&divisor);
        let q = Zeroizing::new(q);
        if !bool::from(rest.is_zero()) || q.bits() != p.bits_precision() {
            return None;
        }
        let q = (*q).clone().resize_unchecked(p.bits_precision());
        let key = Self::from_primes(p, q, parms.key_bits, exponent(parms)?)?;
        // Whoever made the key need not have made it well.
        let are_prime = key.primes.iter().all(|p| prime::may_be_prime(&p.value, 0));
        (are_prime && key.modulus()[..] == *modulus).then_some(key)
    }

    /// The public half.
    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The modulus, in all its octets.
    pub(crate) fn modulus(&self) -> Box<[u8]> {
        octets(self.public.modulus.modulus(), self.public.size())
    }

    /// The first prime, in all its octets.
    pub(crate) fn prime(&self) -> Secret {
        let [p, _] = &self.primes;
        Secret::new(octets(&p.value, self.public.size() / 2))
    }

    /// RSADP and RSASP1 (RFC 8017, 5.1.2 and 5.2.1), by the Chinese remainder theorem: as many octets as the modulus
    /// has. What is computed on is blinded: what time it takes is unrelated to the input, too.
    ///
    /// `None` for what is not below the modulus, and when the result is not what the public operation undoes: a
    /// computation gone wrong would give away the primes (Boneh, DeMillo and Lipton, 1997).
    pub(crate) fn apply(&self, random: &mut Drbg, input: &[u8]) -> Option<Secret> {
        let params = &self.public.modulus;
        let input = self.public.element(input)?;
        let (blind, unblind) = self.blinding(random)?;
        let element = BoxedMontyForm::new(input.clone(), params);
        let blinded = Zeroizing::new(element.mul(&self.public.power(&blind)).retrieve());
        let power = Zeroizing::new(self.power(&blinded)?);
        let result = BoxedMontyForm::new((*power).clone(), params).mul(&unblind);
        let result = Zeroizing::new(result.retrieve());
        let undone = self.public.power(&result).retrieve();
        let size = self.public.size();
        let right: bool = octets(&undone, size).ct_eq(&octets(&input, size)).into();
        right.then(|| Secret::new(octets(&result, size)))
    }

    /// A random unit modulo n and its inverse.
    fn blinding(&self, random: &mut Drbg) -> Option<(Zeroizing<BoxedUint>, BoxedMontyForm)> {
        let mut drawn = Zeroizing::new(alloc::vec![0; self.public.size()]);
        random.generate(&mut drawn);
        // Below the modulus, whose highest bit is set. That a number is not a unit tells the factors: it is none of
        // those that anybody finds by drawing.
        *drawn.first_mut()? &= 0x7f;
        let blind = Zeroizing::new(number(&drawn, self.public.size())?);
        let inverse = BoxedMontyForm::new((*blind).clone(), &self.public.modulus).invert().into_option()?;
        Some((blind, inverse))
    }

    /// m = m_q + q((m_p - m_q) q^-1 mod p) (RFC 8017, 5.1.2).
    fn power(&self, base: &BoxedUint) -> Option<BoxedUint> {
        let [p, q] = &self.primes;
        let (mod_p, mod_q) = (p.power(base)?, Zeroizing::new(q.power(base)?.retrieve()));
        let params = mod_p.params();
        let form = |n: &BoxedUint| BoxedMontyForm::new(n.rem(params.modulus().as_nz_ref()), params);
        let h = Zeroizing::new(mod_p.sub(&form(&mod_q)).mul(&form(&self.coefficient)).retrieve());
        let sum = h.concatenating_mul(&*q.value).wrapping_add(&*mod_q);
        Some(sum)
    }
}

/// A number of `size` octets.
pub(super) fn number(octets: &[u8], size: usize) -> Option<BoxedUint> {
    BoxedUint::from_be_slice(octets, u32::try_from(size.checked_mul(8)?).ok()?).ok()
}

/// The lowest `size` octets of a number, big-endian.
pub(super) fn octets(number: &BoxedUint, size: usize) -> Box<[u8]> {
    let all = Zeroizing::new(number.to_be_bytes());
    let mut out = alloc::vec![0; size].into_boxed_slice();
    out.iter_mut().rev().zip(all.iter().rev()).for_each(|(out, octet)| *out = *octet);
    out
}
