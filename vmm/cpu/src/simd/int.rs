//! Packed integer arithmetic, logic, comparison and shifts (SDM vol. 2, the `P…` instructions).
//!
//! All functions take whole XMM registers. The MMX forms of those that work lane by lane are the same functions on
//! zero-extended operands; see [`super::mmx`] for the rest.

use super::host;
use super::lanes::{Lane, halves, high, join, low, map, split, zip};

macro_rules! lane_by_lane {
    ($($(#[$doc:meta])* $name:ident = $lane:ident: $f:expr;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(a: u128, b: u128) -> u128 {
            zip::<$lane>(a, b, $f)
        }
    )*};
}

lane_by_lane! {
    /// PADDD
    paddd = u32: u32::wrapping_add;
    /// PADDQ
    paddq = u64: u64::wrapping_add;
    /// PSUBD
    psubd = u32: u32::wrapping_sub;
    /// PSUBQ
    psubq = u64: u64::wrapping_sub;
    /// PMINSD
    pminsd = i32: Ord::min;
    /// PMINUD
    pminud = u32: Ord::min;
    /// PMAXSD
    pmaxsd = i32: Ord::max;
    /// PMAXUD
    pmaxud = u32: Ord::max;
    /// PCMPEQD
    pcmpeqd = i32: |a, b| -i32::from(a == b);
    /// PCMPEQQ
    pcmpeqq = i64: |a, b| -i64::from(a == b);
    /// PCMPGTD
    pcmpgtd = i32: |a, b| -i32::from(a > b);
    /// PCMPGTQ
    pcmpgtq = i64: |a, b| -i64::from(a > b);
    /// PMULLD
    pmulld = u32: u32::wrapping_mul;
    /// PMULUDQ
    pmuludq = u64: |a, b| (a & 0xffff_ffff) * (b & 0xffff_ffff);
    /// PMULDQ
    pmuldq = i64: |a, b| i64::from(a as i32) * i64::from(b as i32);
    /// PSIGND
    psignd = i32: |a, b| a.wrapping_mul(b.signum());
}

/// The same, for which the host may have an instruction.
macro_rules! hosted {
    ($($(#[$doc:meta])* $name:ident = $lane:ident: $f:expr;)*) => {
        $($(#[$doc])*
        #[inline]
        pub fn $name(a: u128, b: u128) -> u128 {
            host::$name(a, b).unwrap_or_else(|| portable::$name(a, b))
        })*

        /// The same, whatever the host.
        pub(super) mod portable {
            use super::{product, zip};

            $(pub(in super::super) fn $name(a: u128, b: u128) -> u128 {
                zip::<$lane>(a, b, $f)
            })*
        }
    };
}

hosted! {
    /// PADDB
    paddb = u8: u8::wrapping_add;
    /// PADDW
    paddw = u16: u16::wrapping_add;
    /// PADDSB
    paddsb = i8: i8::saturating_add;
    /// PADDSW
    paddsw = i16: i16::saturating_add;
    /// PADDUSB
    paddusb = u8: u8::saturating_add;
    /// PADDUSW
    paddusw = u16: u16::saturating_add;
    /// PSUBB
    psubb = u8: u8::wrapping_sub;
    /// PSUBW
    psubw = u16: u16::wrapping_sub;
    /// PSUBSB
    psubsb = i8: i8::saturating_sub;
    /// PSUBSW
    psubsw = i16: i16::saturating_sub;
    /// PSUBUSB
    psubusb = u8: u8::saturating_sub;
    /// PSUBUSW
    psubusw = u16: u16::saturating_sub;
    /// PAVGB
    pavgb = u8: |a, b| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;
    /// PAVGW
    pavgw = u16: |a, b| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16;
    /// PMINSB
    pminsb = i8: Ord::min;
    /// PMINSW
    pminsw = i16: Ord::min;
    /// PMINUB
    pminub = u8: Ord::min;
    /// PMINUW
    pminuw = u16: Ord::min;
    /// PMAXSB
    pmaxsb = i8: Ord::max;
    /// PMAXSW
    pmaxsw = i16: Ord::max;
    /// PMAXUB
    pmaxub = u8: Ord::max;
    /// PMAXUW
    pmaxuw = u16: Ord::max;
    /// PCMPEQB
    pcmpeqb = i8: |a, b| -i8::from(a == b);
    /// PCMPEQW
    pcmpeqw = i16: |a, b| -i16::from(a == b);
    /// PCMPGTB
    pcmpgtb = i8: |a, b| -i8::from(a > b);
    /// PCMPGTW
    pcmpgtw = i16: |a, b| -i16::from(a > b);
    /// PMULLW
    pmullw = u16: u16::wrapping_mul;
    /// PMULHW
    pmulhw = i16: |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16;
    /// PMULHUW
    pmulhuw = u16: |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16;
    /// PMULHRSW: the product in 1.15 fixed point, rounded
    pmulhrsw = i16: |a, b| ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16;
    /// PMADDWD
    pmaddwd = u32: |a, b| product(a, b).wrapping_add(product(a >> 16, b >> 16));
    /// PMADDUBSW: unsigned bytes of the first operand times signed bytes of the second
    pmaddubsw = i16: |a, b| {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        (i16::from(a[0]) * i16::from(b[0] as i8)).saturating_add(i16::from(a[1]) * i16::from(b[1] as i8))
    };
    /// PSIGNB
    psignb = i8: |a, b| a.wrapping_mul(b.signum());
    /// PSIGNW
    psignw = i16: |a, b| a.wrapping_mul(b.signum());
    /// PSADBW
    psadbw = u64: |a, b| {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        (0..8).map(|i| u64::from(a[i].abs_diff(b[i]))).sum()
    };
}

/// The signed product of the low words.
#[inline(always)]
fn product(a: u32, b: u32) -> u32 {
    (i32::from(a as i16) * i32::from(b as i16)) as u32
}

/// PAND, ANDPS, ANDPD
#[inline]
pub fn pand(a: u128, b: u128) -> u128 {
    a & b
}

/// PANDN, ANDNPS, ANDNPD: the first operand is inverted
#[inline]
pub fn pandn(a: u128, b: u128) -> u128 {
    !a & b
}

/// POR, ORPS, ORPD
#[inline]
pub fn por(a: u128, b: u128) -> u128 {
    a | b
}

/// PXOR, XORPS, XORPD
#[inline]
pub fn pxor(a: u128, b: u128) -> u128 {
    a ^ b
}

/// PABSB
#[inline]
pub fn pabsb(a: u128) -> u128 {
    map(a, i8::wrapping_abs)
}

/// PABSW
#[inline]
pub fn pabsw(a: u128) -> u128 {
    map(a, i16::wrapping_abs)
}

/// PABSD
#[inline]
pub fn pabsd(a: u128) -> u128 {
    map(a, i32::wrapping_abs)
}

/// Pairs of neighbouring words of `a`, then of `b`, made one.
#[inline(always)]
fn across16(a: u128, b: u128, f: impl Fn(i16, i16) -> i16) -> u128 {
    let (a, b) = (split::<i16>(a), split::<i16>(b));
    join::<i16>(std::array::from_fn(|i| {
        let (from, i) = if i < 4 { (a, 2 * i) } else { (b, 2 * (i - 4)) };
        f(from[i], from[i + 1])
    }))
}

/// Pairs of neighbouring doublewords of `a`, then of `b`, made one.
#[inline(always)]
fn across32(a: u128, b: u128, f: impl Fn(u32, u32) -> u32) -> u128 {
    let (a, b) = (split::<u32>(a), split::<u32>(b));
    join::<u32>([f(a[0], a[1]), f(a[2], a[3]), f(b[0], b[1]), f(b[2], b[3])])
}

/// PHADDW
#[inline]
pub fn phaddw(a: u128, b: u128) -> u128 {
    across16(a, b, i16::wrapping_add)
}

/// PHADDSW
#[inline]
pub fn phaddsw(a: u128, b: u128) -> u128 {
    across16(a, b, i16::saturating_add)
}

/// PHADDD
#[inline]
pub fn phaddd(a: u128, b: u128) -> u128 {
    across32(a, b, u32::wrapping_add)
}

/// PHSUBW
#[inline]
pub fn phsubw(a: u128, b: u128) -> u128 {
    across16(a, b, i16::wrapping_sub)
}

/// PHSUBSW
#[inline]
pub fn phsubsw(a: u128, b: u128) -> u128 {
    across16(a, b, i16::saturating_sub)
}

/// PHSUBD
#[inline]
pub fn phsubd(a: u128, b: u128) -> u128 {
    across32(a, b, u32::wrapping_sub)
}

/// PHMINPOSUW: the least word, and where it is
#[inline]
pub fn phminposuw(a: u128) -> u128 {
    let mut least = (u16::MAX, 0);
    for (i, word) in split::<u16>(a).into_iter().enumerate().rev() {
        if word <= least.0 {
            least = (word, i);
        }
    }
    u128::from(least.0) | (least.1 as u128) << 16
}

/// MPSADBW: eight sums of absolute differences between a block of four bytes of `b` and the bytes of `a`
#[inline]
pub fn mpsadbw(a: u128, b: u128, imm: u8) -> u128 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    let (from_a, from_b) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
    join::<u16>(std::array::from_fn(|i| (0..4).map(|j| u16::from(a[from_a + i + j].abs_diff(b[from_b + j]))).sum()))
}

/// PTEST: ZF and CF
#[inline]
pub fn ptest(a: u128, b: u128) -> (bool, bool) {
    (a & b == 0, !a & b == 0)
}

/// Each lane shifted by `count` if that is less than its width, else `beyond`.
#[inline(always)]
fn shift<L: Lane>(a: u128, count: u64, width: u32, by: impl Fn(L, u32) -> L) -> u128 {
    if count < u64::from(width) { map(a, |lane| by(lane, count as u32)) } else { 0 }
}

/// PSLLW
#[inline]
pub fn psllw(a: u128, count: u64) -> u128 {
    shift(a, count, 16, |lane: u16, n| lane << n)
}

/// PSLLD
#[inline]
pub fn pslld(a: u128, count: u64) -> u128 {
    shift(a, count, 32, |lane: u32, n| lane << n)
}

/// PSLLQ
#[inline]
pub fn psllq(a: u128, count: u64) -> u128 {
    shift(a, count, 64, |lane: u64, n| lane << n)
}

/// PSRLW
#[inline]
pub fn psrlw(a: u128, count: u64) -> u128 {
    shift(a, count, 16, |lane: u16, n| lane >> n)
}

/// PSRLD
#[inline]
pub fn psrld(a: u128, count: u64) -> u128 {
    shift(a, count, 32, |lane: u32, n| lane >> n)
}

/// PSRLQ
#[inline]
pub fn psrlq(a: u128, count: u64) -> u128 {
    shift(a, count, 64, |lane: u64, n| lane >> n)
}

/// PSRAW: a count beyond the width leaves only signs
#[inline]
pub fn psraw(a: u128, count: u64) -> u128 {
    let count = count.min(15);
    map(a, |lane: i16| lane >> count)
}

/// PSRAD: a count beyond the width leaves only signs
#[inline]
pub fn psrad(a: u128, count: u64) -> u128 {
    let count = count.min(31);
    map(a, |lane: i32| lane >> count)
}

/// PSLLDQ: whole bytes
#[inline]
pub fn pslldq(a: u128, bytes: u8) -> u128 {
    a.checked_shl(u32::from(bytes) * 8).unwrap_or(0)
}

/// PSRLDQ: whole bytes
#[inline]
pub fn psrldq(a: u128, bytes: u8) -> u128 {
    a.checked_shr(u32::from(bytes) * 8).unwrap_or(0)
}

/// PCLMULQDQ: the carry-less product of one half of each operand
///
/// Where the host cannot do it, in constant time: GHASH keys go through here.
#[inline]
pub fn pclmulqdq(a: u128, b: u128, imm: u8) -> u128 {
    let a = if imm & 1 == 0 { low(a) } else { high(a) };
    let b = if imm & 0x10 == 0 { low(b) } else { high(b) };
    host::clmul(a, b).unwrap_or_else(|| clmul(a, b))
}

/// The carry-less product.
pub(super) fn clmul(a: u64, b: u64) -> u128 {
    (0..64).fold(0, |sum, bit| sum ^ (u128::from(a) << bit & u128::from(b >> bit & 1).wrapping_neg()))
}

/// MOVQ xmm, and what else clears the upper half
#[inline]
pub fn low_half(a: u128) -> u128 {
    halves(low(a), 0)
}
