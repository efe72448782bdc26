//! Stores: the top of the stack in the formats of memory (SDM vol. 1, sections 4.2, 4.7 and 4.9).

use super::float::{F80, Kind, Operand, QUIET};
use super::round::{
    Context, Rounded, shift_right_sticky,
    status::{OE, PE, UE},
};

/// A binary interchange format of IEEE 754.
#[derive(Clone, Copy)]
struct Format {
    /// The significand's width with its hidden bit.
    bits: u32,
    /// The exponent field's largest value.
    ones: i32,
}

impl Format {
    fn assemble(self, negative: bool, exponent: i32, fraction: u64) -> u64 {
        let width = 32 - self.ones.leading_zeros();
        let hidden = 1u64 << (self.bits - 1);
        u64::from(negative) << (self.bits - 1 + width) | (exponent as u64) << (self.bits - 1) | fraction & (hidden - 1)
    }
}

/// FST m32fp.
pub(super) fn to_f32(cx: &mut Context, a: Operand) -> u32 {
    narrow(cx, a, Format { bits: 24, ones: 0xff }) as u32
}

/// FST m64fp.
pub(super) fn to_f64(cx: &mut Context, a: Operand) -> u64 {
    narrow(cx, a, Format { bits: 53, ones: 0x7ff })
}

/// The value in a narrower format. After an unmasked overflow or underflow there is nothing to store.
fn narrow(cx: &mut Context, a: Operand, format: Format) -> u64 {
    let Format { bits, ones } = format;
    match a.kind {
        Kind::Zero => return format.assemble(a.negative, 0, 0),
        Kind::Infinity => return format.assemble(a.negative, ones, 0),
        Kind::Finite => {}
        Kind::Quiet | Kind::Signaling | Kind::Unsupported => {
            let nan = cx.nan(a, a).unwrap_or(F80::INDEFINITE);
            return format.assemble(nan.negative(), ones, (nan.significand | QUIET) >> (64 - bits));
        }
    }
    let significand = u128::from(a.significand) << 64;
    let drop = 128 - bits;
    let biased = a.exponent + (ones >> 1);
    let mut rounded = cx.round(a.negative, significand, drop);
    let mut carried = rounded.kept >> bits != 0;
    let tiny = biased < 0 || biased == 0 && !carried;
    let mut exponent = biased;
    if biased <= 0 {
        if tiny && cx.unmasked(UE) {
            cx.raised |= UE;
            return 0;
        }
        let shift = u32::try_from(1 - biased).unwrap_or(u32::MAX);
        rounded = cx.round(a.negative, shift_right_sticky(significand, shift), drop);
        carried = false;
        exponent = i32::from(rounded.kept >> (bits - 1) != 0);
    }
    exponent += i32::from(carried);
    if exponent >= ones {
        cx.raised |= OE;
        if cx.unmasked(OE) {
            return 0;
        }
        cx.raised |= PE;
        cx.up = cx.overflows_to_infinity(a.negative);
        return if cx.up {
            format.assemble(a.negative, ones, 0)
        } else {
            format.assemble(a.negative, ones - 1, u64::MAX)
        };
    }
    cx.note(rounded);
    if tiny && rounded.inexact {
        cx.raised |= UE;
    }
    format.assemble(a.negative, exponent, (rounded.kept >> u32::from(carried)) as u64)
}

/// The rounded magnitude of a finite number or zero, if it is below 2^64.
fn magnitude(cx: &Context, a: Operand) -> Option<Rounded> {
    match (a.kind, a.exponent) {
        (Kind::Zero, _) => Some(Rounded { kept: 0, inexact: false, up: false }),
        (Kind::Finite, 64..) => None,
        (Kind::Finite, exponent) => {
            let shift = u32::try_from(63 - exponent).unwrap_or(0);
            // Two bits below the point are enough, the lower of them sticky.
            Some(cx.round(a.negative, shift_right_sticky(u128::from(a.significand) << 2, shift), 2))
        }
        _ => None,
    }
}

impl Context {
    /// The magnitude of a finite number below 2^63, rounded to an integer.
    pub(super) fn integer(&mut self, a: Operand) -> u128 {
        match magnitude(self, a) {
            Some(rounded) => {
                self.note(rounded);
                rounded.kept
            }
            None => u128::from(a.significand),
        }
    }

    /// The magnitude rounded to an integer if it is at most `limit`; otherwise the operation is invalid.
    fn integer_within(&mut self, a: Operand, limit: u128) -> Option<u64> {
        match magnitude(self, a) {
            Some(rounded) if rounded.kept <= limit => {
                self.note(rounded);
                u64::try_from(rounded.kept).ok()
            }
            _ => {
                self.invalid();
                None
            }
        }
    }

    /// This operation, but truncating (FISTTP).
    pub(super) fn truncating(control: u16) -> Self {
        Self::new(control | 3 << 10)
    }
}

/// FIST: a signed integer of `bits` bits, sign-extended; the most negative one ("integer indefinite") is the masked
/// response to what does not fit.
pub(super) fn to_integer(cx: &mut Context, a: Operand, bits: u32) -> i64 {
    let limit = (1u128 << (bits - 1)) - u128::from(!a.negative);
    match cx.integer_within(a, limit) {
        Some(magnitude) if a.negative => 0i64.wrapping_sub_unsigned(magnitude),
        Some(magnitude) => magnitude as i64,
        None => i64::MIN >> (64 - bits),
    }
}

/// FBSTP: eighteen packed decimal digits and a sign.
pub(super) fn to_decimal(cx: &mut Context, a: Operand) -> [u8; 10] {
    match cx.integer_within(a, 999_999_999_999_999_999) {
        Some(mut value) => {
            let mut bytes = [0; 10];
            let [digits @ .., sign] = &mut bytes;
            for pair in digits {
                *pair = (value % 10) as u8 | ((value / 10 % 10) << 4) as u8;
                value /= 100;
            }
            *sign = u8::from(a.negative) << 7;
            bytes
        }
        // "Packed BCD integer indefinite" (SDM vol. 1, table 4-4).
        None => DECIMAL_INDEFINITE,
    }
}

/// What FBSTP stores for what does not fit.
pub(super) const DECIMAL_INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];
/// Single-precision real indefinite.
pub(super) const F32_INDEFINITE: u32 = 0xffc0_0000;
/// Double-precision real indefinite.
pub(super) const F64_INDEFINITE: u64 = 0xfff8 << 48;
