//! The double extended-precision format and operands taken apart (SDM vol. 1, sections 4.2.2 and 8.2.2).

use std::fmt;

/// The bias of the double extended-precision exponent.
pub(super) const BIAS: i32 = 16383;
/// The exponent field of infinities and NaNs.
pub(super) const EXPONENT_ONES: u16 = 0x7fff;
/// The integer bit of a significand.
pub(super) const INTEGER: u64 = 1 << 63;
/// The bit that tells a quiet NaN from a signaling one.
pub(super) const QUIET: u64 = 1 << 62;

/// An 80-bit value as a register holds it: any bits at all, well formed or not.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct F80 {
    /// The significand with its explicit integer bit (bits 63:0).
    pub significand: u64,
    /// The sign (bit 15) and the biased exponent (bits 14:0).
    pub sign_exponent: u16,
}

impl fmt::Debug for F80 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:016x}", self.sign_exponent, self.significand)
    }
}

impl F80 {
    /// +0.0
    pub const ZERO: Self = Self { significand: 0, sign_exponent: 0 };
    /// +1.0
    pub const ONE: Self = Self { significand: INTEGER, sign_exponent: 0x3fff };
    /// The quiet NaN that a masked invalid operation gives ("real indefinite", SDM vol. 1, section 4.8.3.7).
    pub const INDEFINITE: Self = Self { significand: INTEGER | QUIET, sign_exponent: 0xffff };

    /// The value of ten bytes in memory.
    pub fn from_bytes(bytes: [u8; 10]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        Self { significand: u64::from_le_bytes([a, b, c, d, e, f, g, h]), sign_exponent: u16::from_le_bytes([i, j]) }
    }

    /// The ten bytes in memory.
    pub fn to_bytes(self) -> [u8; 10] {
        let [a, b, c, d, e, f, g, h] = self.significand.to_le_bytes();
        let [i, j] = self.sign_exponent.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j]
    }

    /// The value in the low 80 bits of `bits`, as FXSAVE lays it out.
    pub fn from_bits(bits: u128) -> Self {
        Self { significand: bits as u64, sign_exponent: (bits >> 64) as u16 }
    }

    /// The value in the low 80 bits, the others zero.
    pub fn to_bits(self) -> u128 {
        u128::from(self.sign_exponent) << 64 | u128::from(self.significand)
    }

    pub(super) const fn new(negative: bool, exponent: u16, significand: u64) -> Self {
        Self { significand, sign_exponent: exponent | (negative as u16) << 15 }
    }

    pub(super) const fn zero(negative: bool) -> Self {
        Self::new(negative, 0, 0)
    }

    pub(super) const fn infinity(negative: bool) -> Self {
        Self::new(negative, EXPONENT_ONES, INTEGER)
    }

    pub(super) fn negative(self) -> bool {
        self.sign_exponent >> 15 != 0
    }

    pub(super) fn exponent(self) -> u16 {
        self.sign_exponent & EXPONENT_ONES
    }
}

/// What kind of number an operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Zero,
    Finite,
    Infinity,
    Quiet,
    Signaling,
    /// An encoding that the processor since the 387 does not take: unnormal, pseudo-infinity, pseudo-NaN
    /// (SDM vol. 1, section 8.2.2).
    Unsupported,
}

/// An operand of an instruction, widened without loss from whatever format it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    pub(super) kind: Kind,
    pub(super) negative: bool,
    /// The exponent of the integer bit, unbiased; of finite numbers only.
    pub(super) exponent: i32,
    /// Normalized in a finite number; with integer and quiet bit in a NaN.
    pub(super) significand: u64,
    /// The source was a denormal (or a pseudo-denormal).
    pub(super) denormal: bool,
}

impl Operand {
    fn special(kind: Kind, negative: bool, significand: u64) -> Self {
        Self { kind, negative, exponent: 0, significand, denormal: false }
    }

    /// A finite number whose integer bit would be bit 63 of `significand` at `exponent`, not zero, not yet normalized.
    fn finite(negative: bool, exponent: i32, significand: u64, denormal: bool) -> Self {
        let shift = significand.leading_zeros();
        Self {
            kind: Kind::Finite,
            negative,
            exponent: exponent - shift as i32,
            significand: significand << (shift & 63),
            denormal,
        }
    }

    /// A register or ten bytes of memory.
    pub fn f80(value: F80) -> Self {
        let (negative, significand) = (value.negative(), value.significand);
        let integer = significand & INTEGER != 0;
        match value.exponent() {
            0 if significand == 0 => Self::special(Kind::Zero, negative, 0),
            0 => Self::finite(negative, 1 - BIAS, significand, true),
            _ if !integer => Self::special(Kind::Unsupported, negative, significand),
            EXPONENT_ONES if significand == INTEGER => Self::special(Kind::Infinity, negative, significand),
            EXPONENT_ONES if significand & QUIET != 0 => Self::special(Kind::Quiet, negative, significand),
            EXPONENT_ONES => Self::special(Kind::Signaling, negative, significand),
            exponent => Self::finite(negative, i32::from(exponent) - BIAS, significand, false),
        }
    }

    /// Single precision in memory.
    pub fn f32(bits: u32) -> Self {
        Self::ieee(bits >> 31 != 0, (bits >> 23) as u16 & 0xff, u64::from(bits) << 41 >> 1, 0xff)
    }

    /// Double precision in memory.
    pub fn f64(bits: u64) -> Self {
        Self::ieee(bits >> 63 != 0, (bits >> 52) as u16 & 0x7ff, bits << 12 >> 1, 0x7ff)
    }

    /// An IEEE 754 interchange format: the fraction from bit 62 down, the exponent field and the field's largest value.
    fn ieee(negative: bool, exponent: u16, fraction: u64, ones: u16) -> Self {
        let bias = i32::from(ones >> 1);
        match exponent {
            0 if fraction == 0 => Self::special(Kind::Zero, negative, 0),
            0 => Self::finite(negative, 1 - bias, fraction, true),
            _ if exponent != ones => Self::finite(negative, i32::from(exponent) - bias, fraction | INTEGER, false),
            _ if fraction == 0 => Self::special(Kind::Infinity, negative, INTEGER),
            _ if fraction & QUIET != 0 => Self::special(Kind::Quiet, negative, fraction | INTEGER),
            _ => Self::special(Kind::Signaling, negative, fraction | INTEGER),
        }
    }

    /// A signed integer in memory, sign-extended.
    pub fn integer(value: i64) -> Self {
        match value {
            0 => Self::special(Kind::Zero, false, 0),
            _ => Self::finite(value < 0, 63, value.unsigned_abs(), false),
        }
    }

    /// Eighteen packed decimal digits and a sign (SDM vol. 1, section 4.7). Digits above nine are undefined by the
    /// manual; they count for what they are worth.
    pub fn decimal(bytes: [u8; 10]) -> Self {
        let [digits @ .., sign] = bytes;
        let value =
            digits.iter().rev().fold(0u64, |sum, pair| sum * 100 + u64::from(pair >> 4) * 10 + u64::from(pair & 15));
        match value {
            0 => Self::special(Kind::Zero, sign >> 7 != 0, 0),
            _ => Self::finite(sign >> 7 != 0, 63, value, false),
        }
    }

    pub(super) fn is_nan(self) -> bool {
        matches!(self.kind, Kind::Quiet | Kind::Signaling)
    }

    /// The register that holds this operand: exact, and a NaN as it is.
    pub(super) fn value(self) -> F80 {
        match self.kind {
            Kind::Zero => F80::zero(self.negative),
            Kind::Infinity => F80::infinity(self.negative),
            Kind::Quiet | Kind::Signaling | Kind::Unsupported => {
                F80::new(self.negative, EXPONENT_ONES, self.significand)
            }
            Kind::Finite => {
                let biased = self.exponent + BIAS;
                if biased > 0 {
                    F80::new(self.negative, biased as u16, self.significand)
                } else {
                    // Only what came from a denormal register gets here, so no bit is lost. A pseudo-denormal has
                    // exponent one and comes out as the normal number that it is worth.
                    let shift = u32::try_from(1 - biased).unwrap_or(63);
                    F80::new(self.negative, 0, self.significand.checked_shr(shift).unwrap_or(0))
                }
            }
        }
    }
}
