//! Conversions between formats and integers, CVTxx2xx (SDM vol. 2).

use super::float::{Double, Real, Result, Single};
use super::lanes::{halves, join, low, split};
use super::mxcsr::{Mxcsr, Rounding};
use super::soft::{self, Format, Outcome};

/// The low lane of one format in another: CVTSS2SD, CVTSD2SS
#[inline]
pub fn scalar<F: Real, G: Real>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    Ok(G::with_low(a, between::<F, G>(F::lane(b, 0), mxcsr)?))
}

#[inline]
fn between<F: Format, G: Format>(b: u64, mxcsr: &mut Mxcsr) -> Result<u64> {
    // To more precision, normal numbers are rebiased; nothing can happen.
    let normal = (b & F::INFINITY).wrapping_sub(1 << F::FRACTION) < F::INFINITY - (1 << F::FRACTION);
    if G::FRACTION > F::FRACTION && normal {
        let rebias = ((G::BIAS - F::BIAS) as u64) << G::FRACTION;
        let sign = (b & F::SIGN) << (G::WIDTH - F::WIDTH);
        return Ok(sign | (((b & !F::SIGN) << (G::FRACTION - F::FRACTION)) + rebias));
    }
    let Outcome { bits, flags } = soft::convert::<F, G>(b, *mxcsr);
    mxcsr.settle(flags)?;
    Ok(bits)
}

/// All results before any flag is settled, so that the exceptions of the lanes are joined.
fn joined<const N: usize>(mxcsr: &mut Mxcsr, f: impl Fn(usize, Mxcsr) -> Outcome) -> Result<[u64; N]> {
    let outcomes: [Outcome; N] = std::array::from_fn(|i| f(i, *mxcsr));
    mxcsr.settle(outcomes.iter().fold(0, |flags, outcome| flags | outcome.flags))?;
    Ok(outcomes.map(|outcome| outcome.bits))
}

/// CVTPS2PD
pub fn cvtps2pd(b: u64, mxcsr: &mut Mxcsr) -> Result<u128> {
    let lanes = joined(mxcsr, |i, mxcsr| soft::convert::<Single, Double>(Single::lane(b.into(), i), mxcsr))?;
    Ok(join::<u64>(lanes))
}

/// CVTPD2PS
pub fn cvtpd2ps(b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    let [x, y] = joined(mxcsr, |i, mxcsr| soft::convert::<Double, Single>(Double::lane(b, i), mxcsr))?;
    Ok(u128::from(x | y << 32))
}

/// CVTDQ2PS
pub fn cvtdq2ps(b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    let b = split::<i32>(b);
    let lanes: [u64; 4] = joined(mxcsr, |i, mxcsr| soft::from_integer::<Single>(b[i].into(), mxcsr))?;
    Ok(join::<u32>(lanes.map(|lane| lane as u32)))
}

/// CVTPI2PS: two integers to the low lanes
pub fn cvtpi2ps(b: u64, mxcsr: &mut Mxcsr) -> Result<u64> {
    Ok(low(cvtdq2ps(b.into(), mxcsr)?))
}

/// CVTDQ2PD, CVTPI2PD: always exact
#[inline]
pub fn cvtdq2pd(b: u64) -> u128 {
    halves(f64::from(b as i32).to_bits(), f64::from((b >> 32) as i32).to_bits())
}

/// CVTSI2SS, CVTSI2SD of a sign-extended integer
#[inline]
pub fn from_integer<F: Real>(a: u128, b: i64, mxcsr: &mut Mxcsr) -> Result<u128> {
    if F::WIDTH == 64 && b.unsigned_abs() <= 1 << 53 {
        return Ok(F::with_low(a, (b as f64).to_bits()));
    }
    let Outcome { bits, flags } = soft::from_integer::<F>(b, *mxcsr);
    mxcsr.settle(flags)?;
    Ok(F::with_low(a, bits))
}

/// The rounding of a conversion to integers: as MXCSR says, or toward zero for the CVTT forms.
#[inline(always)]
fn rounding(truncate: bool, mxcsr: Mxcsr) -> Rounding {
    if truncate { Rounding::Zero } else { mxcsr.rounding() }
}

/// CVTSS2SI, CVTSD2SI and their CVTT forms, to `width` bits
#[inline]
pub fn to_integer<F: Real>(b: u128, width: u32, truncate: bool, mxcsr: &mut Mxcsr) -> Result<i64> {
    let (value, flags) = soft::to_integer::<F>(F::lane(b, 0), width, rounding(truncate, *mxcsr), *mxcsr);
    mxcsr.settle(flags)?;
    Ok(value)
}

/// Lanes to doublewords.
fn to_doublewords<F: Real, const N: usize>(b: u128, truncate: bool, mxcsr: &mut Mxcsr) -> Result<[u64; N]> {
    joined(mxcsr, |i, mxcsr| {
        let (value, flags) = soft::to_integer::<F>(F::lane(b, i), 32, rounding(truncate, mxcsr), mxcsr);
        Outcome { bits: u64::from(value as u32), flags }
    })
}

/// CVTPS2DQ, CVTTPS2DQ
pub fn cvtps2dq(b: u128, truncate: bool, mxcsr: &mut Mxcsr) -> Result<u128> {
    let lanes: [u64; 4] = to_doublewords::<Single, 4>(b, truncate, mxcsr)?;
    Ok(join::<u32>(lanes.map(|lane| lane as u32)))
}

/// CVTPS2PI, CVTTPS2PI: of the two low lanes
pub fn cvtps2pi(b: u64, truncate: bool, mxcsr: &mut Mxcsr) -> Result<u64> {
    let [x, y] = to_doublewords::<Single, 2>(b.into(), truncate, mxcsr)?;
    Ok(x | y << 32)
}

/// CVTPD2DQ, CVTTPD2DQ, and CVTPD2PI, CVTTPD2PI
pub fn cvtpd2dq(b: u128, truncate: bool, mxcsr: &mut Mxcsr) -> Result<u64> {
    let [x, y] = to_doublewords::<Double, 2>(b, truncate, mxcsr)?;
    Ok(x | y << 32)
}
