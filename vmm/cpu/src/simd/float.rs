//! SSE floating-point arithmetic on whole registers (SDM vol. 1 §11.4, §11.5).
//!
//! Each function first tries the host's own arithmetic, which is right when the guest rounds to nearest with all
//! exceptions masked, operands are normal numbers or zeros, the result is too and not near underflow, and an inexact
//! result shows no more than is shown already (PE is sticky) or there provably is none. Everything else goes the slow
//! and exact way of [`super::soft`].

use super::lanes::{join, split, with_low32, with_low64};
use super::mxcsr::{Mxcsr, PRECISION, Rounding, Unmasked};
use super::soft::{self, Format, Outcome};

/// The operations are allowed to fail with an unmasked exception only.
pub type Result<T> = std::result::Result<T, Unmasked>;

/// binary32
#[derive(Clone, Copy, Debug)]
pub struct Single;
/// binary64
#[derive(Clone, Copy, Debug)]
pub struct Double;

impl Format for Single {
    const WIDTH: u32 = 32;
    const FRACTION: u32 = 23;
}

impl Format for Double {
    const WIDTH: u32 = 64;
    const FRACTION: u32 = 52;
}

/// A format that registers are divided into, with the host's arithmetic on it.
pub trait Real: Format {
    /// The number of lanes.
    const LANES: usize;

    /// The bits of a lane.
    fn lane(register: u128, i: usize) -> u64 {
        (register >> (Self::WIDTH * i as u32)) as u64 & (u64::MAX >> (64 - Self::WIDTH))
    }

    /// The register with its lowest lane replaced.
    fn with_low(register: u128, low: u64) -> u128;

    /// The number that bits stand for, on the host; not for NaNs.
    fn value(bits: u64) -> f64;

    /// A number in the format, rounded to nearest.
    fn rounded(value: f64) -> u64;

    /// An integer in the format, rounded to nearest.
    fn from_integer(integer: i64) -> u64;

    /// The host's result of an operation, if it may stand for the guest's; `inexact` allows it to be rounded.
    fn quick<O: Operation>(a: u64, b: u64, inexact: bool) -> Option<u64>;

    /// The same for a whole register.
    fn quick_all<E: Operation, O: Operation>(a: u128, b: u128, inexact: bool) -> Option<u128>;
}

/// The host's two floating-point types behind one face.
pub trait Host: Copy {
    /// Its arithmetic.
    fn add(self, b: Self) -> Self;
    /// Its arithmetic.
    fn sub(self, b: Self) -> Self;
    /// Its arithmetic.
    fn mul(self, b: Self) -> Self;
    /// Its arithmetic.
    fn div(self, b: Self) -> Self;
    /// Its arithmetic.
    fn sqrt(self) -> Self;
    /// The opposite.
    fn neg(self) -> Self;
    /// A comparison; false for NaNs.
    fn less(self, b: Self) -> bool;
    /// `a + b = sum` without error, given that no operand or result is infinite or a NaN.
    fn sum_is_exact(a: Self, b: Self, sum: Self) -> bool;
    /// `a · b = product` without error; false where that is not cheap to know.
    fn product_is_exact(a: Self, b: Self, product: Self) -> bool;
}

macro_rules! host_arithmetic {
    () => {
        #[inline(always)]
        fn add(self, b: Self) -> Self {
            self + b
        }

        #[inline(always)]
        fn sub(self, b: Self) -> Self {
            self - b
        }

        #[inline(always)]
        fn mul(self, b: Self) -> Self {
            self * b
        }

        #[inline(always)]
        fn div(self, b: Self) -> Self {
            self / b
        }

        #[inline(always)]
        fn sqrt(self) -> Self {
            self.sqrt()
        }

        #[inline(always)]
        fn neg(self) -> Self {
            -self
        }

        #[inline(always)]
        fn less(self, b: Self) -> bool {
            self < b
        }

        /// Knuth's TwoSum: the error of a sum to nearest is a number, and this is it.
        #[inline(always)]
        fn sum_is_exact(a: Self, b: Self, sum: Self) -> bool {
            let b_part = sum - a;
            let a_part = sum - b_part;
            (a - a_part) + (b - b_part) == 0.0
        }
    };
}

impl Host for f32 {
    host_arithmetic!();

    /// The product of 24-bit significands fits in 53 bits, and no exponent is out of reach.
    #[inline(always)]
    fn product_is_exact(a: Self, b: Self, product: Self) -> bool {
        f64::from(a) * f64::from(b) == f64::from(product)
    }
}

impl Host for f64 {
    host_arithmetic!();

    /// Known to be exact when the significant bits of the factors fit in a result together.
    #[inline(always)]
    fn product_is_exact(a: Self, b: Self, product: Self) -> bool {
        let significant = |x: Self| 53 - (x.to_bits() | 1 << 52).trailing_zeros();
        significant(a) + significant(b) <= 53 && a * b == product
    }
}

/// An arithmetic operation: on the host, its errors, and on integers.
pub trait Operation {
    /// Whether a zero result of operands that are not zero is exact.
    const ZERO_IS_EXACT: bool;
    /// Whether the result is one of the operands.
    const SELECTS: bool = false;

    /// The host's result.
    fn host<H: Host>(a: H, b: H) -> H;
    /// Whether that has no error.
    fn is_exact<H: Host>(a: H, b: H, result: H) -> bool;
    /// The result on integers.
    fn soft<F: Format>(a: u64, b: u64, mxcsr: Mxcsr) -> Outcome;
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $soft:path, zero $zero:literal, $selects:literal,
        |$a:ident, $b:ident| $host:expr, |$x:ident, $y:ident, $r:ident| $exact:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl Operation for $name {
            const ZERO_IS_EXACT: bool = $zero;
            const SELECTS: bool = $selects;

            #[inline(always)]
            fn host<H: Host>($a: H, $b: H) -> H {
                $host
            }

            #[inline(always)]
            fn is_exact<H: Host>($x: H, $y: H, $r: H) -> bool {
                $exact
            }

            #[inline(always)]
            fn soft<F: Format>(a: u64, b: u64, mxcsr: Mxcsr) -> Outcome {
                $soft(a, b, mxcsr)
            }
        }
    )*};
}

operations! {
    /// ADDxx
    Add: soft::add::<F>, zero true, false, |a, b| a.add(b), |a, b, r| H::sum_is_exact(a, b, r);
    /// SUBxx
    Sub: soft::sub::<F>, zero true, false, |a, b| a.sub(b), |a, b, r| H::sum_is_exact(a, b.neg(), r);
    /// MULxx
    Mul: soft::mul::<F>, zero false, false, |a, b| a.mul(b), |a, b, r| H::product_is_exact(a, b, r);
    /// DIVxx
    Div: soft::div::<F>, zero false, false, |a, b| a.div(b), |a, b, r| H::product_is_exact(r, b, a);
    /// SQRTxx of the second operand
    Sqrt: sqrt_second::<F>, zero true, false, |_a, b| b.sqrt(), |_a, b, r| H::product_is_exact(r, r, b);
    /// MINxx
    Min: soft::min::<F>, zero true, true, |a, b| if a.less(b) { a } else { b }, |_a, _b, _r| true;
    /// MAXxx
    Max: soft::max::<F>, zero true, true, |a, b| if b.less(a) { a } else { b }, |_a, _b, _r| true;
}

fn sqrt_second<F: Format>(_: u64, b: u64, mxcsr: Mxcsr) -> Outcome {
    soft::sqrt::<F>(b, mxcsr)
}

macro_rules! real {
    ($format:ident, $host:ident, $bits:ident * $lanes:literal, $with_low:ident, $quick_lane:ident) => {
        /// The host's result for one lane, and whether it is the guest's, too, but for its exactness.
        #[inline(always)]
        fn $quick_lane<O: Operation>(a: $bits, b: $bits) -> ($bits, bool) {
            const ONE: $bits = 1 << $format::FRACTION;
            const EXPONENT: $bits = $format::INFINITY as $bits;
            // Normal, or zero.
            let ordinary = |x: $bits| ((x & EXPONENT).wrapping_sub(ONE) < EXPONENT - ONE) | (x << 1 == 0);
            let bits = O::host($host::from_bits(a), $host::from_bits(b)).to_bits();
            let zero = (bits << 1 == 0) & (O::ZERO_IS_EXACT | (a << 1 == 0) | (b << 1 == 0));
            // Above the smallest exponent, which a tiny result might have been rounded up to.
            let safe = ((bits & EXPONENT).wrapping_sub(2 * ONE) < EXPONENT - 2 * ONE) | zero;
            (bits, ordinary(a) & ordinary(b) & (O::SELECTS | safe))
        }

        impl Real for $format {
            const LANES: usize = $lanes;

            #[inline(always)]
            fn with_low(register: u128, low: u64) -> u128 {
                $with_low(register, low as $bits)
            }

            #[inline(always)]
            fn value(bits: u64) -> f64 {
                $host::from_bits(bits as $bits).into()
            }

            #[inline(always)]
            fn rounded(value: f64) -> u64 {
                (value as $host).to_bits().into()
            }

            #[inline(always)]
            fn from_integer(integer: i64) -> u64 {
                (integer as $host).to_bits().into()
            }

            #[inline(always)]
            fn quick<O: Operation>(a: u64, b: u64, inexact: bool) -> Option<u64> {
                let (bits, fits) = $quick_lane::<O>(a as $bits, b as $bits);
                let (x, y) = ($host::from_bits(a as $bits), $host::from_bits(b as $bits));
                (fits && (inexact || O::is_exact(x, y, $host::from_bits(bits)))).then_some(bits.into())
            }

            #[inline(always)]
            fn quick_all<E: Operation, O: Operation>(a: u128, b: u128, inexact: bool) -> Option<u128> {
                let (a, b) = (split::<$bits>(a), split::<$bits>(b));
                let lanes: [($bits, bool); $lanes] = std::array::from_fn(|i| {
                    if i % 2 == 0 { $quick_lane::<E>(a[i], b[i]) } else { $quick_lane::<O>(a[i], b[i]) }
                });
                // All lanes together, so that the compiler makes vectors of them.
                let fits = lanes.iter().fold(true, |all, lane| all & lane.1);
                let result = lanes.map(|lane| lane.0);
                let exact = |i: usize| {
                    let [x, y, r] = [a[i], b[i], result[i]].map($host::from_bits);
                    if i % 2 == 0 { E::is_exact(x, y, r) } else { O::is_exact(x, y, r) }
                };
                (fits && (inexact || (0..$lanes).all(exact))).then(|| join::<$bits>(result))
            }
        }
    };
}

real!(Single, f32, u32 * 4, with_low32, quick_single);
real!(Double, f64, u64 * 2, with_low64, quick_double);

/// An operation on the lowest lanes; the rest is `a`'s.
#[inline]
pub fn scalar<F: Real, O: Operation>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    let (x, y) = (F::lane(a, 0), F::lane(b, 0));
    if (O::SELECTS || mxcsr.is_plain())
        && let Some(low) = F::quick::<O>(x, y, mxcsr.is_inexact())
    {
        return Ok(F::with_low(a, low));
    }
    slow_scalar::<F, O>(a, b, mxcsr)
}

#[cold]
#[inline(never)]
fn slow_scalar<F: Real, O: Operation>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    let Outcome { bits, flags } = O::soft::<F>(F::lane(a, 0), F::lane(b, 0), *mxcsr);
    mxcsr.settle(flags)?;
    Ok(F::with_low(a, bits))
}

/// SQRTSx: unlike the others, it has nothing to do with the first operand's lowest lane
#[inline]
pub fn sqrt_scalar<F: Real>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    scalar::<F, Sqrt>(F::with_low(a, F::lane(b, 0)), b, mxcsr)
}

/// An operation on all lanes.
#[inline]
pub fn packed<F: Real, O: Operation>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    alternating::<F, O, O>(a, b, mxcsr)
}

/// SQRTPx
#[inline]
pub fn sqrt_packed<F: Real>(b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    packed::<F, Sqrt>(b, b, mxcsr)
}

/// ADDSUBPx
#[inline]
pub fn addsub<F: Real>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    alternating::<F, Sub, Add>(a, b, mxcsr)
}

/// HADDPx and HSUBPx: neighbours of `a`, then of `b`
#[inline]
pub fn horizontal<F: Real, O: Operation>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    let (even, odd) = deinterleaved::<F>(a, b);
    packed::<F, O>(even, odd, mxcsr)
}

/// The even lanes of `a` and `b`, and the odd ones.
fn deinterleaved<F: Real>(a: u128, b: u128) -> (u128, u128) {
    if F::LANES == 4 {
        (super::shuffle::shufps(a, b, 0b10_00_10_00), super::shuffle::shufps(a, b, 0b11_01_11_01))
    } else {
        (super::shuffle::punpcklqdq(a, b), super::shuffle::punpckhqdq(a, b))
    }
}

/// One operation on the even lanes and one on the odd ones.
#[inline]
fn alternating<F: Real, E: Operation, O: Operation>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    if (E::SELECTS || mxcsr.is_plain())
        && let Some(all) = F::quick_all::<E, O>(a, b, mxcsr.is_inexact())
    {
        return Ok(all);
    }
    each_lane::<F>(mxcsr, |i, mxcsr| {
        let (a, b) = (F::lane(a, i), F::lane(b, i));
        if i % 2 == 0 { E::soft::<F>(a, b, mxcsr) } else { O::soft::<F>(a, b, mxcsr) }
    })
}

/// All lanes the slow way; what one of them finds does not change how the next is computed.
#[cold]
#[inline(never)]
fn each_lane<F: Real>(mxcsr: &mut Mxcsr, f: impl Fn(usize, Mxcsr) -> Outcome) -> Result<u128> {
    let (mut register, mut all_flags) = (0, 0);
    for i in 0..F::LANES {
        let Outcome { bits, flags } = f(i, *mxcsr);
        register |= u128::from(bits) << (F::WIDTH * i as u32);
        all_flags |= flags;
    }
    mxcsr.settle(all_flags)?;
    Ok(register)
}

/// The rounding mode of ROUNDxx, and the exceptions it may report.
fn rounding(imm: u8, mxcsr: Mxcsr) -> (Rounding, u32) {
    let rounding = if imm & 4 == 0 { Rounding::from_bits(imm.into()) } else { mxcsr.rounding() };
    (rounding, if imm & 8 == 0 { !0 } else { !PRECISION })
}

/// ROUNDPS, ROUNDPD
pub fn round_packed<F: Real>(b: u128, imm: u8, mxcsr: &mut Mxcsr) -> Result<u128> {
    let (rounding, reported) = rounding(imm, *mxcsr);
    each_lane::<F>(mxcsr, |i, mxcsr| {
        let outcome = soft::to_integral::<F>(F::lane(b, i), rounding, mxcsr);
        Outcome { flags: outcome.flags & reported, ..outcome }
    })
}

/// ROUNDSS, ROUNDSD
pub fn round_scalar<F: Real>(a: u128, b: u128, imm: u8, mxcsr: &mut Mxcsr) -> Result<u128> {
    let (rounding, reported) = rounding(imm, *mxcsr);
    let Outcome { bits, flags } = soft::to_integral::<F>(F::lane(b, 0), rounding, *mxcsr);
    mxcsr.settle(flags & reported)?;
    Ok(F::with_low(a, bits))
}

/// DPPS, DPPD: products and sums are rounded one by one, and each reports its exceptions
pub fn dot_product<F: Real>(a: u128, b: u128, imm: u8, mxcsr: &mut Mxcsr) -> Result<u128> {
    // Lanes that the immediate leaves out are +0, of which nothing is computed.
    let chosen = (0..F::LANES).filter(|i| imm >> (4 + i) & 1 == 1);
    let lane_mask = u128::MAX >> (128 - F::WIDTH);
    let kept = chosen.fold(0, |mask, i| mask | lane_mask << (F::WIDTH * i as u32));
    let products = packed::<F, Mul>(a & kept, b & kept, mxcsr)?;
    let pairs = horizontal::<F, Add>(products, products, mxcsr)?;
    let sum = if F::LANES == 4 { horizontal::<F, Add>(pairs, pairs, mxcsr)? } else { pairs };
    let low = u128::from(F::lane(sum, 0));
    Ok((0..F::LANES).filter(|i| imm >> i & 1 == 1).fold(0, |all, i| all | low << (F::WIDTH * i as u32)))
}

/// RCPPS of one lane
///
/// Hardware gives 12 bits from a table that differs between makers; here the quotient is rounded to single precision,
/// well within the architectural bound of 1.5 · 2⁻¹². As there, MXCSR neither matters nor changes, denormals count as
/// zeros, and tiny results are flushed.
pub fn reciprocal(a: u32) -> u32 {
    approximate(a, |x| 1.0 / x)
}

/// RSQRTPS of one lane, likewise
pub fn reciprocal_root(a: u32) -> u32 {
    approximate(a, |x| 1.0 / x.sqrt())
}

fn approximate(a: u32, f: impl Fn(f64) -> f64) -> u32 {
    const SIGN: u32 = Single::SIGN as u32;
    if soft::is_nan::<Single>(a.into()) {
        return a | Single::QUIET as u32;
    }
    let a = if a & Single::INFINITY as u32 == 0 { a & SIGN } else { a };
    let result = f(f64::from(f32::from_bits(a))) as f32;
    if result.is_nan() {
        Single::INDEFINITE as u32
    } else if result.is_subnormal() {
        result.to_bits() & SIGN
    } else if result.is_infinite() {
        // Only of a zero, whose sign counts even under a root.
        Single::INFINITY as u32 | a & SIGN
    } else {
        result.to_bits()
    }
}
