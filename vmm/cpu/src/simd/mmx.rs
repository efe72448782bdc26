//! The 64-bit MMX forms, made from the XMM ones.
//!
//! A function that works lane by lane is right on zero-extended operands as it is. The others follow here.

use super::lanes::{halves, high, low};

/// A lane-by-lane operation.
#[inline(always)]
pub fn lanes(a: u64, b: u64, f: impl Fn(u128, u128) -> u128) -> u64 {
    low(f(a.into(), b.into()))
}

/// An operation that takes the lanes of `a`, then those of `b`: packs and horizontal sums.
#[inline(always)]
pub fn joined(a: u64, b: u64, f: impl Fn(u128, u128) -> u128) -> u64 {
    low(f(halves(a, b), 0))
}

/// The upper result of an interleaving of lower halves: PUNPCKH*.
#[inline(always)]
pub fn upper(a: u64, b: u64, f: impl Fn(u128, u128) -> u128) -> u64 {
    high(f(a.into(), b.into()))
}

/// PSHUFB: only three bits of each control byte choose
#[inline]
pub fn pshufb(a: u64, control: u64) -> u64 {
    low(super::shuffle::pshufb(a.into(), u128::from(control & 0x8787_8787_8787_8787)))
}

/// PALIGNR
#[inline]
pub fn palignr(a: u64, b: u64, imm: u8) -> u64 {
    halves(b, a).checked_shr(u32::from(imm) * 8).map_or(0, low)
}
