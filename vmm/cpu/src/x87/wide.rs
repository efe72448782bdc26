//! Floating point with 128-bit significands, truncating: room enough to round to 64 bits afterwards.

use super::float::{F80, Kind, Operand};
use super::round::{Context, shift_right_sticky};

/// `significand · 2^(exponent - 127)`; the significand is normalized, or zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wide {
    pub(super) negative: bool,
    pub(super) exponent: i32,
    pub(super) significand: u128,
}

/// The upper half of a product of two 128-bit numbers.
fn multiply_high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let middle = a0 * b1 + ((a0 * b0) >> 64);
    let other = a1 * b0 + (middle & LOW);
    a1 * b1 + (middle >> 64) + (other >> 64)
}

impl Wide {
    pub(super) const ZERO: Self = Self { negative: false, exponent: 0, significand: 0 };
    pub(super) const ONE: Self = Self::new(0, 1 << 127);
    pub(super) const TWO: Self = Self::new(1, 1 << 127);
    pub(super) const HALF_PI: Self = Self::new(0, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1);
    pub(super) const PI: Self = Self::new(1, Self::HALF_PI.significand);
    pub(super) const LN_2: Self = Self::new(-1, 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af);
    pub(super) const LOG2_E: Self = Self::new(0, 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e88);
    pub(super) const LOG2_10: Self = Self::new(1, 0xd49a_784b_cd1b_8afe_492b_f6ff_4daf_db4c);
    pub(super) const LOG10_2: Self = Self::new(-2, 0x9a20_9a84_fbcf_f798_8f89_59ac_0b7c_9178);

    pub(super) const fn new(exponent: i32, significand: u128) -> Self {
        Self { negative: false, exponent, significand }
    }

    /// `significand · 2^exponent` of any significand.
    pub(super) fn normalized(negative: bool, exponent: i32, significand: u128) -> Self {
        if significand == 0 {
            return Self::ZERO;
        }
        let shift = significand.leading_zeros();
        Self { negative, exponent: exponent + 127 - shift as i32, significand: significand << shift }
    }

    pub(super) fn integer(value: i64) -> Self {
        Self::normalized(value < 0, 0, value.unsigned_abs().into())
    }

    /// A finite operand or zero.
    pub(super) fn operand(a: Operand) -> Self {
        match a.kind {
            Kind::Finite => {
                Self { negative: a.negative, exponent: a.exponent, significand: u128::from(a.significand) << 64 }
            }
            _ => Self::ZERO,
        }
    }

    pub(super) fn neg(self) -> Self {
        Self { negative: !self.negative, ..self }
    }

    pub(super) fn abs(self) -> Self {
        Self { negative: false, ..self }
    }

    /// Times a power of two.
    pub(super) fn scaled(self, by: i32) -> Self {
        Self { exponent: self.exponent + by, ..self }
    }

    pub(super) fn add(self, other: Self) -> Self {
        if self.significand == 0 {
            return other;
        }
        if other.significand == 0 {
            return self;
        }
        let (large, small) = if (self.exponent, self.significand) >= (other.exponent, other.significand) {
            (self, other)
        } else {
            (other, self)
        };
        // A bit above for the carry and a sticky one below.
        let left = large.significand >> 1;
        let right = shift_right_sticky(small.significand >> 1, large.exponent.abs_diff(small.exponent));
        let sum = if large.negative == small.negative { left + right } else { left - right };
        Self::normalized(large.negative, large.exponent - 126, sum)
    }

    pub(super) fn sub(self, other: Self) -> Self {
        self.add(other.neg())
    }

    pub(super) fn mul(self, other: Self) -> Self {
        let high = multiply_high(self.significand, other.significand);
        Self::normalized(self.negative != other.negative, self.exponent + other.exponent - 126, high)
    }

    /// Divides by a number that is not zero.
    pub(super) fn div(self, other: Self) -> Self {
        let (divisor, mut rest) = (other.significand, self.significand);
        let mut quotient = 0u128;
        // Long division, bit by bit; the dividend's first bit is at most the divisor's.
        let mut overflow = false;
        for _ in 0..128 {
            quotient <<= 1;
            if overflow || rest >= divisor {
                rest = rest.wrapping_sub(divisor);
                quotient |= 1;
            }
            overflow = rest >> 127 != 0;
            rest <<= 1;
        }
        Self::normalized(self.negative != other.negative, self.exponent - other.exponent - 127, quotient)
    }

    /// Divides by a small number that is not zero.
    pub(super) fn div_small(self, divisor: u32) -> Self {
        let divisor = u128::from(divisor.max(1));
        let (quotient, rest) = (self.significand / divisor, self.significand % divisor);
        if quotient == 0 {
            return Self::ZERO;
        }
        let shift = quotient.leading_zeros();
        let below = (rest << 64) / divisor;
        let significand = quotient << shift | (below << shift) >> 64;
        Self { negative: self.negative, exponent: self.exponent - shift as i32, significand }
    }

    pub(super) fn less(self, other: Self) -> bool {
        let difference = self.sub(other);
        difference.negative && difference.significand != 0
    }

    /// The register for this value, which is taken for inexact.
    pub(super) fn inexact(self, cx: &mut Context) -> F80 {
        self.round(cx, 1)
    }

    /// The register for this value, which is taken for exact.
    pub(super) fn exact(self, cx: &mut Context) -> F80 {
        self.round(cx, 0)
    }

    fn round(self, cx: &mut Context, sticky: u128) -> F80 {
        if self.significand == 0 {
            return F80::zero(self.negative);
        }
        cx.finish(self.negative, self.exponent, self.significand | sticky, 64)
    }
}
