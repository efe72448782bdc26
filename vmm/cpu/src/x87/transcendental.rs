//! The transcendental instructions (SDM vol. 1, sections 8.3.7 to 8.3.10, and vol. 2A).
//!
//! Series with 128-bit significands, rounded once: the results are those of exact arithmetic, rounded, but for
//! arguments whose result lies within about 2^-50 ulp of a rounding boundary. Real processors differ from this, and
//! from each other, by up to an ulp. The trigonometric functions reduce their arguments by the processors' own π.

use super::float::{F80, Kind, Operand};
use super::round::{Context, status::ZE};
use super::wide::Wide;

/// Terms of the power series: with arguments up to 1/8 (arctangent), 0.18 (logarithm), 0.7 (exponential) and 0.8
/// (sine, cosine) each has reached 2^-110 by then.
const TERMS: u32 = 28;

/// F2XM1: 2^a - 1.
pub(super) fn exp2_minus_1(cx: &mut Context, a: Operand) -> F80 {
    if let Some(nan) = cx.nan(a, a) {
        return nan;
    }
    if cx.denormal(&[a]) {
        return F80::INDEFINITE;
    }
    match a.kind {
        Kind::Infinity if a.negative => return F80 { sign_exponent: 0xbfff, ..F80::ONE },
        Kind::Infinity | Kind::Zero => return a.value(),
        // The exact ends of the range; beyond it the result is undefined and the operand stays.
        _ if a.exponent > 0 || a.exponent == 0 && a.significand << 1 != 0 => return a.value(),
        _ if a.exponent == 0 && a.negative => return F80 { sign_exponent: 0xbffe, ..F80::ONE },
        _ if a.exponent == 0 => return F80::ONE,
        _ => {}
    }
    let t = Wide::operand(a).mul(Wide::LN_2);
    // e^t - 1 = t·(1 + t/2·(1 + t/3·(…)))
    let mut sum = Wide::ONE;
    for n in (2..TERMS + 6).rev() {
        sum = Wide::ONE.add(t.mul(sum).div_small(n));
    }
    t.mul(sum).inexact(cx)
}

/// log₂((1 + s) / (1 - s))
fn log2_ratio(s: Wide) -> Wide {
    let square = s.mul(s);
    let mut sum = Wide::ZERO;
    for n in (0..TERMS).rev() {
        sum = square.mul(sum).add(Wide::ONE.div_small(2 * n + 1));
    }
    s.mul(sum).mul(Wide::LOG2_E).scaled(1)
}

/// log₂ of a positive finite number.
fn log2(a: Operand) -> Wide {
    // Significands above √2 belong to the next power of two, so that the two parts of the sum never cancel.
    let above = u64::from(a.significand > 0xb504_f333_f9de_6484) as i32;
    let m = Wide::new(-above, u128::from(a.significand) << 64);
    Wide::integer((a.exponent + above).into()).add(log2_ratio(m.sub(Wide::ONE).div(m.add(Wide::ONE))))
}

/// FYL2X: y·log₂(x).
pub(super) fn y_log2_x(cx: &mut Context, x: Operand, y: Operand) -> F80 {
    if let Some(nan) = cx.nan(x, y) {
        return nan;
    }
    let one = x.kind == Kind::Finite && x.exponent == 0 && x.significand << 1 == 0;
    if x.negative && x.kind != Kind::Zero {
        return cx.invalid();
    }
    match (x.kind, y.kind) {
        (Kind::Zero, Kind::Zero) | (Kind::Infinity, Kind::Zero) => return cx.invalid(),
        (Kind::Finite, Kind::Infinity) if one => return cx.invalid(),
        (Kind::Zero, Kind::Finite) => {
            cx.raised |= ZE;
            return F80::infinity(!y.negative);
        }
        _ => {}
    }
    if cx.denormal(&[x, y]) {
        return F80::INDEFINITE;
    }
    let below_one = x.kind == Kind::Zero || x.kind == Kind::Finite && x.exponent < 0;
    let negative = y.negative != below_one;
    match (x.kind, y.kind) {
        (Kind::Zero | Kind::Infinity, _) | (_, Kind::Infinity) => return F80::infinity(negative),
        (_, Kind::Zero) => return F80::zero(negative),
        _ if one => return F80::zero(y.negative),
        _ => {}
    }
    let product = Wide::operand(y).mul(log2(x));
    // log₂ of a power of two is exact, and so may the product be.
    if x.significand << 1 == 0 { product.exact(cx) } else { product.inexact(cx) }
}

/// FYL2XP1: y·log₂(x + 1).
pub(super) fn y_log2_x_plus_1(cx: &mut Context, x: Operand, y: Operand) -> F80 {
    if let Some(nan) = cx.nan(x, y) {
        return nan;
    }
    let negative = x.negative != y.negative;
    match (x.kind, y.kind) {
        (Kind::Infinity, _) if x.negative => return cx.invalid(),
        (Kind::Zero, Kind::Infinity) | (Kind::Infinity, Kind::Zero) => return cx.invalid(),
        _ => {}
    }
    if cx.denormal(&[x, y]) {
        return F80::INDEFINITE;
    }
    match (x.kind, y.kind) {
        (Kind::Infinity, _) | (_, Kind::Infinity) => return F80::infinity(negative),
        (Kind::Zero, _) | (_, Kind::Zero) => return F80::zero(negative),
        _ => {}
    }
    // Defined for |x| up to 1 - √½. Beyond, this goes on to -1 and 1; x stays where the logarithm does not exist.
    if x.exponent >= 0 {
        return if x.negative { y.value() } else { Wide::operand(y).mul(log2_beyond(x)).inexact(cx) };
    }
    let x = Wide::operand(x);
    // (1 + s) / (1 - s) = 1 + x
    Wide::operand(y).mul(log2_ratio(x.div(x.add(Wide::TWO)))).inexact(cx)
}

/// log₂(1 + x) for x of one or more, where the sum does not cancel.
fn log2_beyond(x: Operand) -> Wide {
    let sum = Wide::operand(x).add(Wide::ONE);
    log2(Operand { exponent: sum.exponent, significand: (sum.significand >> 64) as u64, ..x })
}

/// arctan(k/4), k = 0 to 4.
const ARCTANGENTS: [Wide; 5] = [
    Wide::ZERO,
    Wide::new(-3, 0xfadb_afc9_6406_eb15_6dc7_9ef5_f7a2_17e5),
    Wide::new(-2, 0xed63_382b_0dda_7b45_6fe4_45ec_bc3a_8d03),
    Wide::new(-1, 0xa4bc_7d19_34f7_0924_19a8_7f2a_457d_ac9e),
    Wide::new(-1, Wide::HALF_PI.significand),
];

/// The arctangent of a number between 0 and 1.
fn arctangent(q: Wide) -> Wide {
    // To the nearest quarter c: arctan q = arctan c + arctan((q - c) / (1 + q·c)).
    let mut quarter = 0u32;
    while quarter < 4 && Wide::normalized(false, -3, u128::from(2 * quarter + 1)).less(q) {
        quarter += 1;
    }
    let c = Wide::normalized(false, -2, quarter.into());
    let known = ARCTANGENTS.get(quarter as usize).copied().unwrap_or(Wide::ZERO);
    let r = if quarter == 0 { q } else { q.sub(c).div(Wide::ONE.add(q.mul(c))) };
    let square = r.mul(r);
    let mut sum = Wide::ZERO;
    for n in (0..TERMS).rev() {
        sum = Wide::ONE.div_small(2 * n + 1).sub(square.mul(sum));
    }
    known.add(r.mul(sum))
}

/// FPATAN: the angle of the point (x, y), all four quadrants (SDM vol. 2A, table 3-30).
pub(super) fn arctangent_of(cx: &mut Context, x: Operand, y: Operand) -> F80 {
    if let Some(nan) = cx.nan(x, y) {
        return nan;
    }
    if cx.denormal(&[x, y]) {
        return F80::INDEFINITE;
    }
    let angle = match (y.kind, x.kind) {
        (Kind::Infinity, Kind::Infinity) if x.negative => Wide::HALF_PI.add(Wide::HALF_PI.scaled(-1)),
        (Kind::Infinity, Kind::Infinity) => Wide::HALF_PI.scaled(-1),
        (Kind::Infinity, _) => Wide::HALF_PI,
        (Kind::Zero, _) | (_, Kind::Infinity) if x.negative => Wide::PI,
        (Kind::Zero, _) | (_, Kind::Infinity) => return F80::zero(y.negative),
        (_, Kind::Zero) => Wide::HALF_PI,
        _ => {
            let (x_size, y_size) = (Wide::operand(x).abs(), Wide::operand(y).abs());
            let first = if x_size.less(y_size) {
                Wide::HALF_PI.sub(arctangent(x_size.div(y_size)))
            } else {
                arctangent(y_size.div(x_size))
            };
            if x.negative { Wide::PI.sub(first) } else { first }
        }
    };
    Wide { negative: y.negative, ..angle }.inexact(cx)
}

/// The trigonometric instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trigonometric {
    Sin,
    Cos,
    Tan,
}

/// The argument's magnitude less the nearest multiple of π/2, and that multiple (its low bits). The argument is below
/// 2^63. Exact, with the π of 66 bits that the processors have inside (SDM vol. 1, section 8.3.8).
fn reduce(a: Operand) -> (Wide, u128) {
    // π/2 in units of 2^-67.
    const HALF_PI: u128 = 0xc_90fd_aa22_168c_234c;
    if a.exponent < -4 {
        return (Wide::operand(a).abs(), 0);
    }
    let (mut rest, mut multiple) = (u128::from(a.significand), 0u128);
    // In these units the argument is its significand times 2^left; the rest is below 2^68 throughout.
    let mut left = u32::try_from(a.exponent + 4).unwrap_or(0);
    loop {
        let step = left.min(56);
        rest <<= step;
        multiple = (multiple << step) | (rest / HALF_PI);
        rest %= HALF_PI;
        left -= step;
        if left == 0 {
            break;
        }
    }
    if rest << 1 > HALF_PI {
        return (Wide::normalized(true, -67, HALF_PI - rest), multiple + 1);
    }
    (Wide::normalized(false, -67, rest), multiple)
}

/// FSIN, FCOS, FPTAN; `None` when the argument is out of range (C2).
pub(super) fn trigonometric(cx: &mut Context, function: Trigonometric, a: Operand) -> Option<F80> {
    if let Some(nan) = cx.nan(a, a) {
        return Some(nan);
    }
    if a.kind == Kind::Infinity {
        return Some(cx.invalid());
    }
    if cx.denormal(&[a]) {
        return Some(F80::INDEFINITE);
    }
    if a.kind == Kind::Zero {
        return Some(if function == Trigonometric::Cos { F80::ONE } else { a.value() });
    }
    if a.exponent >= 63 {
        return None;
    }
    let (angle, quadrant) = reduce(a);
    let (sine, cosine) = sine_and_cosine(angle);
    let (sine, cosine) = match quadrant & 3 {
        0 => (sine, cosine),
        1 => (cosine, sine.neg()),
        2 => (sine.neg(), cosine.neg()),
        _ => (cosine.neg(), sine),
    };
    let odd = |value: Wide| Wide { negative: value.negative != a.negative, ..value };
    let result = match function {
        Trigonometric::Sin => odd(sine),
        Trigonometric::Cos => cosine,
        // A tangent is larger than so small an angle, but by less than there are bits for.
        Trigonometric::Tan if a.exponent < -64 => Wide::operand(a),
        Trigonometric::Tan => odd(sine.div(cosine)),
    };
    Some(result.inexact(cx))
}

/// Of an angle of at most π/4.
fn sine_and_cosine(r: Wide) -> (Wide, Wide) {
    let square = r.mul(r);
    let (mut sine, mut cosine) = (Wide::ONE, Wide::ONE);
    for n in (1..TERMS / 2 + 4).rev() {
        sine = Wide::ONE.sub(square.mul(sine).div_small(2 * n * (2 * n + 1)));
        cosine = Wide::ONE.sub(square.mul(cosine).div_small(2 * n * (2 * n - 1)));
    }
    (r.mul(sine), cosine)
}
