//! Binary floating point on integers: every rounding mode, every flag (SDM vol. 1 §4.8, §4.9, §11.5).
//!
//! This is the slow and exact way. It is our own rather than a crate's because what SSE does beyond IEEE 754 (DAZ, FTZ,
//! the denormal-operand exception, tininess after rounding, NaN selection, unmasked responses) is most of it, and the
//! rest is short: a value is a sign, a 64-bit significand and an exponent; results are made exactly, or with a sticky
//! lowest bit, in 128 bits, and rounded in one place.

use super::mxcsr::{DENORMAL, INVALID, Mxcsr, OVERFLOW, PRECISION, Rounding, UNDERFLOW, ZERO_DIVIDE};
use std::cmp::Ordering;

/// An IEEE 754 binary interchange format, as the low `WIDTH` bits of a `u64`.
pub trait Format: Copy {
    /// Bits of the whole.
    const WIDTH: u32;
    /// Bits of the trailing significand field.
    const FRACTION: u32;

    /// The largest exponent, which is the bias, too.
    const BIAS: i32 = (1 << (Self::WIDTH - Self::FRACTION - 2)) - 1;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::WIDTH - 1);
    /// Positive infinity, which is the exponent field, too.
    const INFINITY: u64 = Self::SIGN - (1 << Self::FRACTION);
    /// What makes a NaN quiet.
    const QUIET: u64 = 1 << (Self::FRACTION - 1);
    /// The real indefinite (SDM vol. 1 §4.8.3.7).
    const INDEFINITE: u64 = Self::SIGN | Self::INFINITY | Self::QUIET;
}

/// A result and the exceptions on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub(super) bits: u64,
    pub(super) flags: u32,
}

impl Outcome {
    fn exact(bits: u64) -> Self {
        Self { bits, flags: 0 }
    }

    fn invalid<F: Format>() -> Self {
        Self { bits: F::INDEFINITE, flags: INVALID }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Magnitude {
    Zero,
    /// `significand · 2^exponent`, bit 63 of the significand being set.
    Finite {
        exponent: i32,
        significand: u64,
    },
    Infinite,
}

use Magnitude::{Finite, Infinite, Zero};

#[derive(Clone, Copy)]
struct Number {
    negative: bool,
    magnitude: Magnitude,
}

pub(super) fn is_nan<F: Format>(bits: u64) -> bool {
    bits & !F::SIGN > F::INFINITY
}

fn is_signaling<F: Format>(bits: u64) -> bool {
    is_nan::<F>(bits) && bits & F::QUIET == 0
}

/// A number and DE, if it is denormal; not for NaNs.
fn unpack<F: Format>(bits: u64, mxcsr: Mxcsr) -> (Number, u32) {
    let negative = bits & F::SIGN != 0;
    let field = ((bits & F::INFINITY) >> F::FRACTION) as i32;
    let fraction = bits & ((1 << F::FRACTION) - 1);
    let lowest = 1 - F::BIAS - F::FRACTION as i32;
    let (magnitude, flags) = if bits & !F::SIGN == 0 {
        (Zero, 0)
    } else if field == 0 {
        if mxcsr.denormals_are_zeros() { (Zero, 0) } else { (normalized(fraction, lowest), DENORMAL) }
    } else if bits & F::INFINITY == F::INFINITY {
        (Infinite, 0)
    } else {
        (normalized(fraction | 1 << F::FRACTION, lowest + field - 1), 0)
    };
    (Number { negative, magnitude }, flags)
}

fn normalized(significand: u64, exponent: i32) -> Magnitude {
    let shift = significand.leading_zeros();
    Finite { exponent: exponent - shift as i32, significand: significand << shift }
}

fn signed<F: Format>(negative: bool, magnitude: u64) -> u64 {
    if negative { F::SIGN | magnitude } else { magnitude }
}

/// Whether what is cut off (as a fraction of 2¹²⁸ units in the last place) rounds the magnitude up.
fn rounds_up(rounding: Rounding, negative: bool, odd: bool, rest: u128) -> bool {
    const HALF: u128 = 1 << 127;
    match rounding {
        Rounding::Nearest => rest > HALF || rest == HALF && odd,
        Rounding::Down => negative && rest != 0,
        Rounding::Up => !negative && rest != 0,
        Rounding::Zero => false,
    }
}

/// `value` without its lowest `count` bits, and those as a fraction of 2¹²⁸.
fn cut(value: u128, count: u32) -> (u128, u128) {
    match count {
        0 => (value, 0),
        1..=127 => (value >> count, value << (128 - count)),
        128 => (0, value),
        // Less than half of a unit, and not nothing unless the value is.
        _ => (0, u128::from(value != 0)),
    }
}

/// `±significand · 2^exponent` in the format; the significand is not 0, and its lowest bit may stand for more below it
/// if it is well below the precision.
fn round<F: Format>(negative: bool, exponent: i32, significand: u128, mxcsr: Mxcsr) -> Outcome {
    let precision = F::FRACTION + 1;
    let zeros = significand.leading_zeros();
    let significand = significand << zeros;
    let exponent = exponent - zeros as i32 + 127;
    let up = |kept: u128, rest| rounds_up(mxcsr.rounding(), negative, kept & 1 == 1, rest);

    // As if the exponent had no bounds.
    let (kept, rest) = cut(significand, 128 - precision);
    let rounded = kept + u128::from(up(kept, rest));
    let rounded_exponent = exponent + (rounded >> precision) as i32;
    let precision_flag = if rest == 0 { 0 } else { PRECISION };

    let smallest = 1 - F::BIAS;
    if rounded_exponent < smallest {
        if mxcsr.unmasks(UNDERFLOW) {
            return Outcome { bits: 0, flags: UNDERFLOW | precision_flag };
        }
        if mxcsr.flushes_to_zero() {
            return Outcome { bits: signed::<F>(negative, 0), flags: UNDERFLOW | PRECISION };
        }
        let (kept, rest) = cut(significand, 128 - precision + smallest.abs_diff(exponent));
        // Rounding up into the exponent field makes the smallest normal number, as it should.
        let magnitude = (kept + u128::from(up(kept, rest))) as u64;
        let flags = if rest == 0 { 0 } else { UNDERFLOW | PRECISION };
        return Outcome { bits: signed::<F>(negative, magnitude), flags };
    }
    if rounded_exponent > F::BIAS {
        if mxcsr.unmasks(OVERFLOW) {
            return Outcome { bits: 0, flags: OVERFLOW | precision_flag };
        }
        let to_infinity = match mxcsr.rounding() {
            Rounding::Nearest => true,
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
        };
        let magnitude = F::INFINITY - u64::from(!to_infinity);
        return Outcome { bits: signed::<F>(negative, magnitude), flags: OVERFLOW | PRECISION };
    }
    // The leading bit, being above the fraction field, adds the 1 that is missing here to the exponent.
    let field = (exponent + F::BIAS - 1) as u64;
    let magnitude = (field << F::FRACTION) + rounded as u64;
    Outcome { bits: signed::<F>(negative, magnitude), flags: precision_flag }
}

/// The NaN that two operands, at least one of them a NaN, result in (SDM vol. 1 table 4-7).
fn propagate<F: Format>(a: u64, b: u64) -> Outcome {
    let flags = if is_signaling::<F>(a) || is_signaling::<F>(b) { INVALID } else { 0 };
    Outcome { bits: F::QUIET | if is_nan::<F>(a) { a } else { b }, flags }
}

/// A two-operand operation around what it does to numbers.
fn binary<F: Format>(a: u64, b: u64, mxcsr: Mxcsr, f: impl FnOnce(Number, Number) -> Outcome) -> Outcome {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        return propagate::<F>(a, b);
    }
    let ((a, a_flags), (b, b_flags)) = (unpack::<F>(a, mxcsr), unpack::<F>(b, mxcsr));
    with_denormals(f(a, b), a_flags | b_flags)
}

/// DE has a lower priority than IE and ZE (SDM vol. 1 §4.9.2).
fn with_denormals(outcome: Outcome, denormal: u32) -> Outcome {
    let flags = if outcome.flags & (INVALID | ZERO_DIVIDE) == 0 { outcome.flags | denormal } else { outcome.flags };
    Outcome { flags, ..outcome }
}

pub(super) fn add<F: Format>(a: u64, b: u64, mxcsr: Mxcsr) -> Outcome {
    binary::<F>(a, b, mxcsr, |a, b| sum::<F>(a, b, mxcsr))
}

pub(super) fn sub<F: Format>(a: u64, b: u64, mxcsr: Mxcsr) -> Outcome {
    binary::<F>(a, b, mxcsr, |a, b| sum::<F>(a, Number { negative: !b.negative, ..b }, mxcsr))
}

fn sum<F: Format>(a: Number, b: Number, mxcsr: Mxcsr) -> Outcome {
    match (a.magnitude, b.magnitude) {
        (Infinite, Infinite) if a.negative != b.negative => Outcome::invalid::<F>(),
        (Infinite, _) => Outcome::exact(signed::<F>(a.negative, F::INFINITY)),
        (_, Infinite) => Outcome::exact(signed::<F>(b.negative, F::INFINITY)),
        (Zero, Zero) if a.negative == b.negative => Outcome::exact(signed::<F>(a.negative, 0)),
        (Zero, Zero) => Outcome::exact(cancelled::<F>(mxcsr)),
        (Finite { exponent, significand }, Zero) => round::<F>(a.negative, exponent, significand.into(), mxcsr),
        (Zero, Finite { exponent, significand }) => round::<F>(b.negative, exponent, significand.into(), mxcsr),
        (
            Finite { exponent: a_exponent, significand: a_significand },
            Finite { exponent: b_exponent, significand: b_significand },
        ) => {
            // 62 bits below and one above: what a shift drops is far below the precision and only needs to be seen.
            let (a_wide, b_wide) = (u128::from(a_significand) << 62, u128::from(b_significand) << 62);
            let exponent = a_exponent.max(b_exponent);
            let a_wide = shifted_sticky(a_wide, exponent.abs_diff(a_exponent));
            let b_wide = shifted_sticky(b_wide, exponent.abs_diff(b_exponent));
            let exponent = exponent - 62;
            if a.negative == b.negative {
                return round::<F>(a.negative, exponent, a_wide + b_wide, mxcsr);
            }
            match a_wide.cmp(&b_wide) {
                Ordering::Equal => Outcome::exact(cancelled::<F>(mxcsr)),
                Ordering::Greater => round::<F>(a.negative, exponent, a_wide - b_wide, mxcsr),
                Ordering::Less => round::<F>(b.negative, exponent, b_wide - a_wide, mxcsr),
            }
        }
    }
}

/// The zero that opposite operands add up to.
fn cancelled<F: Format>(mxcsr: Mxcsr) -> u64 {
    signed::<F>(mxcsr.rounding() == Rounding::Down, 0)
}

fn shifted_sticky(value: u128, count: u32) -> u128 {
    let (kept, rest) = cut(value, count);
    kept | u128::from(rest != 0)
}

pub(super) fn mul<F: Format>(a: u64, b: u64, mxcsr: Mxcsr) -> Outcome {
    binary::<F>(a, b, mxcsr, |a, b| {
        let negative = a.negative != b.negative;
        match (a.magnitude, b.magnitude) {
            (Infinite, Zero) | (Zero, Infinite) => Outcome::invalid::<F>(),
            (Infinite, _) | (_, Infinite) => Outcome::exact(signed::<F>(negative, F::INFINITY)),
            (Zero, _) | (_, Zero) => Outcome::exact(signed::<F>(negative, 0)),
            (Finite { exponent: ae, significand: a }, Finite { exponent: be, significand: b }) => {
                round::<F>(negative, ae + be, u128::from(a) * u128::from(b), mxcsr)
            }
        }
    })
}

pub(super) fn div<F: Format>(a: u64, b: u64, mxcsr: Mxcsr) -> Outcome {
    binary::<F>(a, b, mxcsr, |a, b| {
        let negative = a.negative != b.negative;
        match (a.magnitude, b.magnitude) {
            (Infinite, Infinite) | (Zero, Zero) => Outcome::invalid::<F>(),
            (Infinite, _) => Outcome::exact(signed::<F>(negative, F::INFINITY)),
            (Zero, _) | (_, Infinite) => Outcome::exact(signed::<F>(negative, 0)),
            (_, Zero) => Outcome { bits: signed::<F>(negative, F::INFINITY), flags: ZERO_DIVIDE },
            (Finite { exponent: ae, significand: a }, Finite { exponent: be, significand: b }) => {
                let (dividend, divisor) = (u128::from(a) << 64, u128::from(b));
                // At least 64 bits of quotient, and one more for the remainder.
                let quotient = (dividend / divisor) << 1 | u128::from(dividend % divisor != 0);
                round::<F>(negative, ae - be - 65, quotient, mxcsr)
            }
        }
    })
}

pub(super) fn sqrt<F: Format>(a: u64, mxcsr: Mxcsr) -> Outcome {
    if is_nan::<F>(a) {
        return propagate::<F>(a, a);
    }
    let (number, denormal) = unpack::<F>(a, mxcsr);
    let outcome = match number.magnitude {
        Zero => Outcome::exact(signed::<F>(number.negative, 0)),
        _ if number.negative => Outcome::invalid::<F>(),
        Infinite => Outcome::exact(F::INFINITY),
        Finite { exponent, significand } => {
            // An even exponent, and a root of 63 or 64 bits.
            let (wide, exponent) = if exponent % 2 == 0 {
                (u128::from(significand) << 64, exponent - 64)
            } else {
                (u128::from(significand) << 63, exponent - 63)
            };
            let root = wide.isqrt();
            round::<F>(false, exponent / 2 - 1, root << 1 | u128::from(root * root != wide), mxcsr)
        }
    };
    with_denormals(outcome, denormal)
}

/// MINxx and MAXxx return the second operand if either is a NaN or both are zeros (SDM vol. 2).
fn select<F: Format>(a: u64, b: u64, mxcsr: Mxcsr, first: Ordering) -> Outcome {
    let (order, flags) = compare::<F>(a, b, mxcsr, true);
    let bits = if order == Some(first) { a } else { b };
    let denormal = bits & F::INFINITY == 0;
    Outcome { bits: if denormal && mxcsr.denormals_are_zeros() { bits & F::SIGN } else { bits }, flags }
}

pub(super) fn min<F: Format>(a: u64, b: u64, mxcsr: Mxcsr) -> Outcome {
    select::<F>(a, b, mxcsr, Ordering::Less)
}

pub(super) fn max<F: Format>(a: u64, b: u64, mxcsr: Mxcsr) -> Outcome {
    select::<F>(a, b, mxcsr, Ordering::Greater)
}

/// How two values compare, `None` being unordered; `signaling` makes quiet NaNs invalid, too.
pub(super) fn compare<F: Format>(a: u64, b: u64, mxcsr: Mxcsr, signaling: bool) -> (Option<Ordering>, u32) {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        let invalid = signaling || is_signaling::<F>(a) || is_signaling::<F>(b);
        return (None, if invalid { INVALID } else { 0 });
    }
    let ((x, x_flags), (y, y_flags)) = (unpack::<F>(a, mxcsr), unpack::<F>(b, mxcsr));
    let key = |bits: u64, number: Number| {
        let magnitude = if number.magnitude == Zero { 0 } else { (bits & !F::SIGN) as i64 };
        if number.negative { -magnitude } else { magnitude }
    };
    (Some(key(a, x).cmp(&key(b, y))), x_flags | y_flags)
}

/// One format to another; the payload of a NaN keeps its most significant bits.
pub(super) fn convert<F: Format, G: Format>(a: u64, mxcsr: Mxcsr) -> Outcome {
    let negative = a & F::SIGN != 0;
    if is_nan::<F>(a) {
        let fraction = a << (64 - F::FRACTION) >> (64 - G::FRACTION);
        let flags = if is_signaling::<F>(a) { INVALID } else { 0 };
        return Outcome { bits: signed::<G>(negative, G::INFINITY | G::QUIET | fraction), flags };
    }
    let (number, denormal) = unpack::<F>(a, mxcsr);
    let outcome = match number.magnitude {
        Zero => Outcome::exact(signed::<G>(negative, 0)),
        Infinite => Outcome::exact(signed::<G>(negative, G::INFINITY)),
        Finite { exponent, significand } => round::<G>(negative, exponent, significand.into(), mxcsr),
    };
    with_denormals(outcome, denormal)
}

/// A signed integer in the format.
pub(super) fn from_integer<F: Format>(a: i64, mxcsr: Mxcsr) -> Outcome {
    match a.unsigned_abs() {
        0 => Outcome::exact(0),
        magnitude => round::<F>(a < 0, 0, magnitude.into(), mxcsr),
    }
}

/// A number as a signed integer of `width` bits, which is the integer indefinite (its least value) where it does not
/// fit. Denormals are no exception here.
pub(super) fn to_integer<F: Format>(a: u64, width: u32, rounding: Rounding, mxcsr: Mxcsr) -> (i64, u32) {
    let limit = 1_u128 << (width - 1);
    let indefinite = ((limit as u64).wrapping_neg() as i64, INVALID);
    if is_nan::<F>(a) {
        return indefinite;
    }
    let (Number { negative, magnitude }, _) = unpack::<F>(a, mxcsr);
    match magnitude {
        Zero => (0, 0),
        Infinite => indefinite,
        Finite { exponent, significand } => {
            let wide = match exponent {
                1.. => return indefinite,
                // In units of 2⁻⁶⁴, so that nothing is shifted to the left.
                _ => cut(significand.into(), exponent.unsigned_abs()),
            };
            let (kept, rest) = wide;
            let value = kept + u128::from(rounds_up(rounding, negative, kept & 1 == 1, rest));
            if value > limit || value == limit && !negative {
                return indefinite;
            }
            let value = value as i64;
            (if negative { value.wrapping_neg() } else { value }, if rest == 0 { 0 } else { PRECISION })
        }
    }
}

/// A number rounded to an integral one in the same format. Denormals are no exception here.
pub(super) fn to_integral<F: Format>(a: u64, rounding: Rounding, mxcsr: Mxcsr) -> Outcome {
    if is_nan::<F>(a) {
        return propagate::<F>(a, a);
    }
    let (Number { negative, magnitude }, _) = unpack::<F>(a, mxcsr);
    match magnitude {
        Zero => Outcome::exact(signed::<F>(negative, 0)),
        Infinite | Finite { exponent: 0.., .. } => Outcome::exact(a),
        Finite { exponent, significand } => {
            let (kept, rest) = cut(significand.into(), exponent.unsigned_abs());
            let value = kept + u128::from(rounds_up(rounding, negative, kept & 1 == 1, rest));
            let bits = match value {
                0 => signed::<F>(negative, 0),
                _ => round::<F>(negative, 0, value, mxcsr).bits,
            };
            Outcome { bits, flags: if rest == 0 { 0 } else { PRECISION } }
        }
    }
}
