//! Conversions between formats and integers, CVTxx2xx (SDM vol. 2).

use super::float::{Double, Real, Result, Single};
use super::lanes::{halves, join, low, split};
use super::mxcsr::{Mxcsr, PRECISION, Rounding};
use super::soft::{self, Format, Outcome};

/// The low lane of one format in another: CVTSS2SD, CVTSD2SS
#[inline]
pub fn scalar<F: Real, G: Real>(a: u128, b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    Ok(G::with_low(a, between::<F, G>(F::lane(b, 0), mxcsr)?))
}

#[inline]
fn between<F: Real, G: Real>(b: u64, mxcsr: &mut Mxcsr) -> Result<u64> {
    if let Some(bits) = quick_between::<F, G>(b, *mxcsr) {
        return Ok(bits);
    }
    let Outcome { bits, flags } = soft::convert::<F, G>(b, *mxcsr);
    mxcsr.settle(flags)?;
    Ok(bits)
}

/// The host's conversion of ordinary numbers: always to more precision; to less where a rounded result is to nearest
/// and shows no more than is shown already.
#[inline(always)]
fn quick_between<F: Real, G: Real>(b: u64, mxcsr: Mxcsr) -> Option<u64> {
    let value = F::value(b);
    let bits = G::rounded(value);
    let fits = if G::FRACTION > F::FRACTION {
        is_normal::<F>(b)
    } else {
        // Above the smallest exponent, which a tiny result might have been rounded up to.
        is_normal::<F>(b)
            && (bits & G::INFINITY).wrapping_sub(2 << G::FRACTION) < G::INFINITY - (2 << G::FRACTION)
            && mxcsr.is_plain()
            && (mxcsr.is_inexact() || G::value(bits) == value)
    };
    (fits || b & !F::SIGN == 0).then_some(bits)
}

#[inline(always)]
fn is_normal<F: Format>(b: u64) -> bool {
    (b & F::INFINITY).wrapping_sub(1 << F::FRACTION) < F::INFINITY - (1 << F::FRACTION)
}

/// All results before any flag is settled, so that the exceptions of the lanes are joined.
fn joined<const N: usize>(mxcsr: &mut Mxcsr, f: impl Fn(usize, Mxcsr) -> Outcome) -> Result<[u64; N]> {
    let outcomes: [Outcome; N] = std::array::from_fn(|i| f(i, *mxcsr));
    mxcsr.settle(outcomes.iter().fold(0, |flags, outcome| flags | outcome.flags))?;
    Ok(outcomes.map(|outcome| outcome.bits))
}

/// All lanes the quick way, if each of them allows it.
#[inline(always)]
fn all<const N: usize>(f: impl Fn(usize) -> Option<u64>) -> Option<[u64; N]> {
    let mut lanes = [0; N];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = f(i)?;
    }
    Some(lanes)
}

/// CVTPS2PD
#[inline]
pub fn cvtps2pd(b: u64, mxcsr: &mut Mxcsr) -> Result<u128> {
    let lane = |i| Single::lane(b.into(), i);
    let lanes = match all(|i| quick_between::<Single, Double>(lane(i), *mxcsr)) {
        Some(lanes) => lanes,
        None => joined(mxcsr, |i, mxcsr| soft::convert::<Single, Double>(lane(i), mxcsr))?,
    };
    Ok(join::<u64>(lanes))
}

/// CVTPD2PS
#[inline]
pub fn cvtpd2ps(b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    let lane = |i| Double::lane(b, i);
    let [x, y] = match all(|i| quick_between::<Double, Single>(lane(i), *mxcsr)) {
        Some(lanes) => lanes,
        None => joined(mxcsr, |i, mxcsr| soft::convert::<Double, Single>(lane(i), mxcsr))?,
    };
    Ok(u128::from(x | y << 32))
}

/// CVTDQ2PS
#[inline]
pub fn cvtdq2ps(b: u128, mxcsr: &mut Mxcsr) -> Result<u128> {
    let b = split::<i32>(b);
    let lanes: [u64; 4] = match all(|i| quick_from_integer::<Single>(b[i].into(), *mxcsr)) {
        Some(lanes) => lanes,
        None => joined(mxcsr, |i, mxcsr| soft::from_integer::<Single>(b[i].into(), mxcsr))?,
    };
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
    if let Some(low) = quick_from_integer::<F>(b, *mxcsr) {
        return Ok(F::with_low(a, low));
    }
    let Outcome { bits, flags } = soft::from_integer::<F>(b, *mxcsr);
    mxcsr.settle(flags)?;
    Ok(F::with_low(a, bits))
}

/// The host's conversion: exact, or to nearest and showing no more than is shown already.
#[inline(always)]
fn quick_from_integer<F: Real>(b: i64, mxcsr: Mxcsr) -> Option<u64> {
    let exact = b.unsigned_abs() <= 2 << F::FRACTION;
    (exact || mxcsr.is_plain() && mxcsr.is_inexact()).then(|| F::from_integer(b))
}

/// The host's conversion of a number whose integral part fits and that is integral already, or whose fraction shows no
/// more than is shown already.
#[inline(always)]
fn quick_to_integer<F: Real>(b: u64, width: u32, truncate: bool, mxcsr: Mxcsr) -> Option<i64> {
    let value = F::value(b);
    // Not for NaNs.
    if value.abs() < (1_u64 << (width - 1)) as f64 {
        let truncated = value as i64;
        if truncated as f64 == value || truncate && mxcsr.is_inexact() && !mxcsr.unmasks(PRECISION) {
            return Some(truncated);
        }
    }
    None
}

/// The rounding of a conversion to integers: as MXCSR says, or toward zero for the CVTT forms.
#[inline(always)]
fn rounding(truncate: bool, mxcsr: Mxcsr) -> Rounding {
    if truncate { Rounding::Zero } else { mxcsr.rounding() }
}

/// CVTSS2SI, CVTSD2SI and their CVTT forms, to `width` bits
#[inline]
pub fn to_integer<F: Real>(b: u128, width: u32, truncate: bool, mxcsr: &mut Mxcsr) -> Result<i64> {
    if let Some(value) = quick_to_integer::<F>(F::lane(b, 0), width, truncate, *mxcsr) {
        return Ok(value);
    }
    let (value, flags) = soft::to_integer::<F>(F::lane(b, 0), width, rounding(truncate, *mxcsr), *mxcsr);
    mxcsr.settle(flags)?;
    Ok(value)
}

/// Lanes to doublewords.
fn to_doublewords<F: Real, const N: usize>(b: u128, truncate: bool, mxcsr: &mut Mxcsr) -> Result<[u64; N]> {
    let quick = |i| quick_to_integer::<F>(F::lane(b, i), 32, truncate, *mxcsr).map(|value| u64::from(value as u32));
    if let Some(lanes) = all(quick) {
        return Ok(lanes);
    }
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
