//! Remainders, scaling, splitting and rounding to integers: FPREM, FPREM1, FSCALE, FXTRACT, FRNDINT
//! (SDM vol. 2A, under each name).

use super::float::{F80, Kind, Operand};
use super::round::{Context, status::ZE};

/// What FPREM and FPREM1 leave behind.
#[derive(Clone, Copy)]
pub(super) struct Remainder {
    pub(super) value: F80,
    pub(super) quotient: Quotient,
}

/// What FPREM and FPREM1 know of the quotient.
#[derive(Clone, Copy)]
pub(super) enum Quotient {
    /// There is none: an operand is a NaN, or the operation invalid.
    None,
    /// The reduction is incomplete.
    Partial,
    /// Its low bits.
    Low(u64),
}

/// FPREM, or FPREM1 when `nearest`: the remainder of `a / b` with the quotient truncated, or rounded to nearest.
pub(super) fn remainder(cx: &mut Context, a: Operand, b: Operand, nearest: bool) -> Remainder {
    let none = |value| Remainder { value, quotient: Quotient::None };
    let done = |value| Remainder { value, quotient: Quotient::Low(0) };
    if let Some(nan) = cx.nan(a, b) {
        return none(nan);
    }
    if a.kind == Kind::Infinity || b.kind == Kind::Zero {
        return none(cx.invalid());
    }
    if cx.denormal(&[a, b]) {
        return none(F80::INDEFINITE);
    }
    if a.kind == Kind::Zero {
        return done(a.value());
    }
    let distance = a.exponent.saturating_sub(b.exponent);
    if b.kind == Kind::Infinity || distance < -1 || distance == -1 && !nearest {
        return done(exact(cx, a.negative, a.exponent, a.significand.into()));
    }
    if distance > 63 {
        // One step takes off at least 32 bits; how many is the implementation's choice.
        let step = 32 | distance & 31;
        let rest = (u128::from(a.significand) << step) % u128::from(b.significand);
        return Remainder { value: exact(cx, a.negative, a.exponent - step, rest), quotient: Quotient::Partial };
    }
    // At exponent -1 the divisor is shifted instead, so that both stand at the exponent of the smaller.
    let (dividend, divisor, exponent) = if distance < 0 {
        (u128::from(a.significand), u128::from(b.significand) << 1, a.exponent)
    } else {
        (u128::from(a.significand) << distance, u128::from(b.significand), b.exponent)
    };
    let (mut quotient, mut rest, mut negative) = (dividend / divisor, dividend % divisor, a.negative);
    if nearest && (rest << 1 > divisor || rest << 1 == divisor && quotient & 1 != 0) {
        quotient += 1;
        rest = divisor - rest;
        negative = !negative;
    }
    Remainder { value: exact(cx, negative, exponent, rest), quotient: Quotient::Low(quotient as u64) }
}

/// A result that needs no rounding: `significand · 2^(exponent - 63)`, below 2^65.
fn exact(cx: &mut Context, negative: bool, exponent: i32, significand: u128) -> F80 {
    if significand == 0 {
        return F80::zero(negative);
    }
    let shift = significand.leading_zeros();
    cx.finish(negative, exponent + 64 - shift as i32, significand << shift, 64)
}

/// FRNDINT.
pub(super) fn round_to_integer(cx: &mut Context, a: Operand) -> F80 {
    if let Some(nan) = cx.nan(a, a) {
        return nan;
    }
    if cx.denormal(&[a]) {
        return F80::INDEFINITE;
    }
    if a.kind != Kind::Finite || a.exponent >= 63 {
        return a.value();
    }
    let kept = cx.integer(a);
    let up = cx.up;
    let value = exact(cx, a.negative, 63, kept);
    cx.up = up;
    value
}

/// FSCALE: `a` times two to the power of `b` truncated.
pub(super) fn scale(cx: &mut Context, a: Operand, b: Operand) -> F80 {
    if let Some(nan) = cx.nan(a, b) {
        return nan;
    }
    let undefined = match a.kind {
        Kind::Zero => !b.negative,
        Kind::Infinity => b.negative,
        _ => false,
    };
    if b.kind == Kind::Infinity && undefined {
        return cx.invalid();
    }
    if cx.denormal(&[a, b]) {
        return F80::INDEFINITE;
    }
    match (a.kind, b.kind) {
        (Kind::Zero | Kind::Infinity, _) => return a.value(),
        (_, Kind::Infinity) if b.negative => return F80::zero(a.negative),
        (_, Kind::Infinity) => return F80::infinity(a.negative),
        _ => {}
    }
    // Beyond 2^16 every result overflows or underflows alike.
    let magnitude = match (b.kind, b.exponent) {
        (Kind::Finite, 0..16) => (b.significand >> (63 - b.exponent)) as i32,
        (Kind::Finite, 16..) => 1 << 16,
        _ => 0,
    };
    let by = if b.negative { -magnitude } else { magnitude };
    cx.finish(a.negative, a.exponent + by, u128::from(a.significand) << 64, 64)
}

/// FXTRACT: the exponent, which takes the operand's place, and the significand, which is pushed.
pub(super) fn extract(cx: &mut Context, a: Operand) -> (F80, F80) {
    if let Some(nan) = cx.nan(a, a) {
        return (nan, nan);
    }
    match a.kind {
        Kind::Zero => {
            cx.raised |= ZE;
            (F80::infinity(true), a.value())
        }
        Kind::Infinity => (F80::infinity(false), a.value()),
        _ => {
            cx.denormal(&[a]);
            (Operand::integer(a.exponent.into()).value(), Operand { exponent: 0, denormal: false, ..a }.value())
        }
    }
}
