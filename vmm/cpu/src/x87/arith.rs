//! The four operations and the square root: exact results, rounded once (IEEE 754; SDM vol. 1, section 8.3.5).

use super::float::{F80, Kind, Operand};
use super::round::{Context, shift_right_sticky, status::ZE};

/// A two-operand instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binary {
    /// FADD
    Add,
    /// FSUB; FSUBR with the operands the other way round.
    Sub,
    /// FMUL
    Mul,
    /// FDIV; FDIVR with the operands the other way round.
    Div,
}

pub(super) fn binary(cx: &mut Context, operation: Binary, a: Operand, b: Operand) -> F80 {
    if let Some(nan) = cx.nan(a, b) {
        return nan;
    }
    match operation {
        Binary::Add => add(cx, a, b),
        Binary::Sub => add(cx, a, Operand { negative: !b.negative, ..b }),
        Binary::Mul => mul(cx, a, b),
        Binary::Div => div(cx, a, b),
    }
}

fn add(cx: &mut Context, a: Operand, b: Operand) -> F80 {
    if a.kind == Kind::Infinity && b.kind == Kind::Infinity && a.negative != b.negative {
        return cx.invalid();
    }
    if cx.denormal(&[a, b]) {
        return F80::INDEFINITE;
    }
    match (a.kind, b.kind) {
        (Kind::Infinity, _) => return a.value(),
        (_, Kind::Infinity) => return b.value(),
        (Kind::Zero, Kind::Zero) => {
            let negative = if a.negative == b.negative { a.negative } else { cx.rounds_down() };
            return F80::zero(negative);
        }
        (Kind::Zero, _) => return finish_one(cx, b),
        (_, Kind::Zero) => return finish_one(cx, a),
        _ => {}
    }
    let (large, small) = if (a.exponent, a.significand) >= (b.exponent, b.significand) { (a, b) } else { (b, a) };
    // One bit of room above for the carry, 63 below, of which the last is sticky.
    let left = u128::from(large.significand) << 63;
    let right = shift_right_sticky(u128::from(small.significand) << 63, large.exponent.abs_diff(small.exponent));
    let sum = if a.negative == b.negative { left + right } else { left - right };
    if sum == 0 {
        return F80::zero(cx.rounds_down());
    }
    let shift = sum.leading_zeros();
    let bits = cx.precision();
    cx.finish(large.negative, large.exponent + 1 - shift as i32, sum << shift, bits)
}

/// An operand that comes through an operation as it is, but for the precision.
fn finish_one(cx: &mut Context, a: Operand) -> F80 {
    let bits = cx.precision();
    cx.finish(a.negative, a.exponent, u128::from(a.significand) << 64, bits)
}

fn mul(cx: &mut Context, a: Operand, b: Operand) -> F80 {
    let negative = a.negative != b.negative;
    if matches!((a.kind, b.kind), (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity)) {
        return cx.invalid();
    }
    if cx.denormal(&[a, b]) {
        return F80::INDEFINITE;
    }
    match (a.kind, b.kind) {
        (Kind::Infinity, _) | (_, Kind::Infinity) => return F80::infinity(negative),
        (Kind::Zero, _) | (_, Kind::Zero) => return F80::zero(negative),
        _ => {}
    }
    let product = u128::from(a.significand) * u128::from(b.significand);
    let shift = product.leading_zeros();
    let bits = cx.precision();
    cx.finish(negative, a.exponent + b.exponent + 1 - shift as i32, product << shift, bits)
}

fn div(cx: &mut Context, a: Operand, b: Operand) -> F80 {
    let negative = a.negative != b.negative;
    match (a.kind, b.kind) {
        (Kind::Infinity, Kind::Infinity) | (Kind::Zero, Kind::Zero) => return cx.invalid(),
        (Kind::Finite, Kind::Zero) => {
            cx.raised |= ZE;
            return F80::infinity(negative);
        }
        _ => {}
    }
    if cx.denormal(&[a, b]) {
        return F80::INDEFINITE;
    }
    match (a.kind, b.kind) {
        (Kind::Infinity, _) => return F80::infinity(negative),
        (Kind::Zero, _) | (_, Kind::Infinity) => return F80::zero(negative),
        _ => {}
    }
    // Two digits of a long division to the base 2^64; both operands are normalized, so the first is not zero.
    let divisor = u128::from(b.significand);
    let dividend = u128::from(a.significand) << 63;
    let (first, rest) = (dividend / divisor, (dividend % divisor) << 64);
    let (second, rest) = (rest / divisor, rest % divisor);
    let quotient = first << 64 | second | u128::from(rest != 0);
    let shift = quotient.leading_zeros();
    let bits = cx.precision();
    cx.finish(negative, a.exponent - b.exponent - shift as i32, quotient << shift, bits)
}

pub(super) fn sqrt(cx: &mut Context, a: Operand) -> F80 {
    if let Some(nan) = cx.nan(a, a) {
        return nan;
    }
    if a.kind == Kind::Zero {
        return a.value();
    }
    if a.negative {
        return cx.invalid();
    }
    if cx.denormal(&[a]) {
        return F80::INDEFINITE;
    }
    if a.kind == Kind::Infinity {
        return a.value();
    }
    let radicand = u128::from(a.significand) << if a.exponent & 1 == 0 { 63 } else { 64 };
    let root = radicand.isqrt();
    let rest = radicand - root * root;
    // (root + ½)² = root² + root + ¼: the rest tells which side of the half the true root is; it never is the half.
    let below = if rest > root { 1 << 63 | 1 } else { u128::from(rest != 0) };
    let bits = cx.precision();
    cx.finish(false, a.exponent >> 1, root << 64 | below, bits)
}

/// The order of two operands, `None` when they have none; `quiet` (FUCOM) lets quiet NaNs pass without an exception.
pub(super) fn compare(cx: &mut Context, a: Operand, b: Operand, quiet: bool) -> Option<std::cmp::Ordering> {
    if cx.nan(a, b).is_some() {
        if !quiet {
            cx.invalid();
        }
        return None;
    }
    cx.denormal(&[a, b]);
    let key = |x: Operand| {
        let magnitude = match x.kind {
            Kind::Zero => (0, 0, 0),
            Kind::Infinity => (2, 0, 0),
            _ => (1, x.exponent, x.significand),
        };
        (x.negative && x.kind != Kind::Zero, magnitude)
    };
    let ((a_negative, a), (b_negative, b)) = (key(a), key(b));
    Some(match (a_negative, b_negative) {
        (false, false) => a.cmp(&b),
        (true, true) => b.cmp(&a),
        (a_negative, _) if a_negative => std::cmp::Ordering::Less,
        _ => std::cmp::Ordering::Greater,
    })
}
