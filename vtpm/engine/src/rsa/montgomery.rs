//! Powers modulo an odd number of a length that is known when compiling: what the search for primes spends its time
//! with. crypto-bigint does the same at half the speed, for want of a power of two of its own and because it
//! multiplies in passes that keep both carries.
//!
//! No branch and no address depends on the numbers, only on their length.

use alloc::vec::Vec;

use zeroize::{Zeroize, Zeroizing};

/// Bits of an exponent that one multiplication covers.
const WINDOW: usize = 4;

/// An odd modulus of `N` words, least significant first.
pub(super) struct Montgomery<const N: usize> {
    modulus: Zeroizing<[u64; N]>,
    /// -1/modulus mod 2^64.
    inverse: u64,
    /// 2^(64 N) mod modulus: what stands for 1.
    one: Zeroizing<[u64; N]>,
}

/// A number modulo the modulus, times 2^(64 N).
pub(super) type Residue<const N: usize> = Zeroizing<[u64; N]>;

impl<const N: usize> Montgomery<N> {
    /// `modulus` is odd and larger than one.
    pub(super) fn new(modulus: [u64; N]) -> Self {
        let low = modulus.first().copied().unwrap_or_default();
        // Newton: each step doubles the number of bits that are right, from three.
        let inverse = (0..5).fold(low, |x, _| x.wrapping_mul(2u64.wrapping_sub(low.wrapping_mul(x))));
        let mut one = Zeroizing::new([0; N]);
        if let Some(low) = one.first_mut() {
            *low = 1;
        }
        let mut this =
            Self { modulus: Zeroizing::new(modulus), inverse: inverse.wrapping_neg(), one: Zeroizing::new([0; N]) };
        for _ in 0..64 * N {
            one = this.double(&one);
        }
        this.one = one;
        this
    }

    /// What stands for 1.
    pub(super) fn one(&self) -> &Residue<N> {
        &self.one
    }

    /// What stands for -1.
    pub(super) fn minus_one(&self) -> Residue<N> {
        let mut out = self.modulus.clone();
        subtract(&mut out, &self.one, u64::MAX);
        out
    }

    /// What stands for a number of no more than `N` words.
    pub(super) fn residue(&self, number: &[u64; N]) -> Residue<N> {
        // Montgomery's product of the number and 2^(128 N).
        let mut square = self.one.clone();
        for _ in 0..64 * N {
            square = self.double(&square);
        }
        self.multiply(number, &square)
    }

    /// x·y/2^(64 N), below the modulus; one of the two is.
    fn multiply(&self, x: &[u64; N], y: &[u64; N]) -> Residue<N> {
        let mut out = Zeroizing::new([0; N]);
        let mut over = 0;
        for y in y {
            let mut carry = 0;
            for (out, x) in out.iter_mut().zip(x) {
                (*out, carry) = multiply_add(*out, *x, *y, carry);
            }
            let (top, next) = add(over, carry);
            // A multiple of the modulus that makes the lowest word zero, which then goes.
            let q = out.first().copied().unwrap_or_default().wrapping_mul(self.inverse);
            let mut carry = 0;
            let mut below = 0;
            for (i, modulus) in self.modulus.iter().enumerate() {
                let (low, high) = multiply_add(out[i], q, *modulus, carry);
                if i > 0 {
                    out[i - 1] = low;
                }
                (below, carry) = (low, high);
            }
            debug_assert!(N > 1 || below == 0);
            let (top, more) = add(top, carry);
            out[N - 1] = top;
            over = next + more;
        }
        self.reduce(&mut out, over);
        out
    }

    /// x·x/2^(64 N).
    pub(super) fn square(&self, x: &Residue<N>) -> Residue<N> {
        self.multiply(x, x)
    }

    /// 2x, for an x below the modulus.
    fn double(&self, x: &[u64; N]) -> Residue<N> {
        let mut out = Zeroizing::new([0; N]);
        let mut carry = 0;
        for (out, x) in out.iter_mut().zip(x) {
            *out = x << 1 | carry;
            carry = x >> 63;
        }
        self.reduce(&mut out, carry);
        out
    }

    /// Subtracts the modulus from `over`·2^(64 N) + x unless that is below it.
    fn reduce(&self, x: &mut [u64; N], over: u64) {
        let mut less = Zeroizing::new(*x);
        let borrow = subtract(&mut less, &self.modulus, u64::MAX);
        // The difference counts when there was something over, or nothing had to be borrowed.
        let mask = 0u64.wrapping_sub(over | (borrow ^ 1));
        x.iter_mut().zip(less.iter()).for_each(|(x, less)| *x = *less & mask | *x & !mask);
    }

    /// 2 to the power of an exponent, of which the highest words may be zero.
    pub(super) fn power_of_two(&self, exponent: &[u64; N]) -> Residue<N> {
        let mut power = self.one.clone();
        for word in exponent.iter().rev() {
            for bit in (0..64).rev() {
                power = self.square(&power);
                let doubled = self.double(&power);
                let mask = 0u64.wrapping_sub(word >> bit & 1);
                power.iter_mut().zip(doubled.iter()).for_each(|(x, d)| *x = *d & mask | *x & !mask);
            }
        }
        power
    }

    /// `base` to the power of an exponent.
    pub(super) fn power(&self, base: &Residue<N>, exponent: &[u64; N]) -> Residue<N> {
        let mut powers = Vec::with_capacity(1 << WINDOW);
        powers.push(self.one.clone());
        for n in 1..1 << WINDOW {
            powers.push(self.multiply(base, &powers[n - 1]));
        }
        let mut power = self.one.clone();
        for word in exponent.iter().rev() {
            for shift in (0..64).step_by(WINDOW).rev() {
                for _ in 0..WINDOW {
                    power = self.square(&power);
                }
                let wanted = word >> shift & ((1 << WINDOW) - 1);
                // Every entry is read, whichever is wanted.
                let mut factor = Zeroizing::new([0; N]);
                for (n, entry) in (0u64..).zip(&powers) {
                    let other = (n ^ wanted).wrapping_sub(1) >> 63;
                    let mask = 0u64.wrapping_sub(other);
                    factor.iter_mut().zip(entry.iter()).for_each(|(f, e)| *f |= *e & mask);
                }
                power = self.multiply(&factor, &power);
            }
        }
        powers.iter_mut().for_each(Zeroize::zeroize);
        power
    }
}

/// t + a·b + carry: its low and its high word.
#[inline(always)]
fn multiply_add(t: u64, a: u64, b: u64, carry: u64) -> (u64, u64) {
    let wide = u128::from(t) + u128::from(a) * u128::from(b) + u128::from(carry);
    (wide as u64, (wide >> 64) as u64)
}

/// a + b, and the carry.
#[inline(always)]
fn add(a: u64, b: u64) -> (u64, u64) {
    let wide = u128::from(a) + u128::from(b);
    (wide as u64, (wide >> 64) as u64)
}

/// Subtracts the masked `y`; answers the borrow.
#[inline(always)]
fn subtract<const N: usize>(x: &mut [u64; N], y: &[u64; N], mask: u64) -> u64 {
    x.iter_mut().zip(y).fold(0, |borrow, (x, y)| {
        let wide = u128::from(*x).wrapping_sub(u128::from(*y & mask)).wrapping_sub(u128::from(borrow));
        *x = wide as u64;
        (wide >> 64) as u64 & 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
    use crypto_bigint::{BoxedUint, Resize};
    use proptest::prelude::*;

    fn boxed(words: &[u64]) -> BoxedUint {
        BoxedUint::from_words(words.iter().copied())
    }

    /// What crypto-bigint makes of the same numbers.
    fn expected<const N: usize>(modulus: &[u64; N], base: &[u64; N], exponent: &[u64; N]) -> Vec<u64> {
        let params = BoxedMontyParams::new(boxed(modulus).to_odd().into_option().expect("odd"));
        let base = boxed(base).rem(params.modulus().as_nz_ref());
        BoxedMontyForm::new(base, &params).pow(&boxed(exponent)).retrieve().to_words().to_vec()
    }

    fn check<const N: usize>(mut modulus: [u64; N], base: [u64; N], exponent: [u64; N]) {
        modulus[0] |= 1;
        modulus[N - 1] |= 1;
        let ours = Montgomery::new(modulus);
        let mut unit = [0; N];
        unit[0] = 1;
        let plain = |residue: &Residue<N>| ours.multiply(&unit, residue).to_vec();
        assert_eq!(plain(ours.one()), unit);
        assert_eq!(plain(&ours.power(&ours.residue(&base), &exponent)), expected(&modulus, &base, &exponent));
        let mut two = [0; N];
        two[0] = 2;
        assert_eq!(plain(&ours.power_of_two(&exponent)), expected(&modulus, &two, &exponent));
        let minus_one = boxed(&modulus).wrapping_sub(BoxedUint::one().resize_unchecked(64 * N as u32));
        assert_eq!(plain(&ours.minus_one()), minus_one.to_words().to_vec());
    }

    fn words<const N: usize>() -> impl Strategy<Value = [u64; N]> {
        // Words of all ones and all zeros are where carries go wrong.
        let word = prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)];
        proptest::collection::vec(word, N).prop_map(|v| v.try_into().expect("N words"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn powers_are_those_of_another_implementation(
            (m, b, e) in (words::<4>(), words::<4>(), words::<4>()),
            (n, c, f) in (words::<8>(), words::<8>(), words::<8>()),
        ) {
            check(m, b, e);
            check(n, c, f);
        }
    }

    #[test]
    fn the_longest_modulus_and_the_largest_numbers() {
        check([u64::MAX; 32], [u64::MAX; 32], [u64::MAX; 32]);
        check([u64::MAX; 16], [u64::MAX - 1; 16], [1; 16]);
    }
}
