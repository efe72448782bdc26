//! Moves of lanes: shuffles, packs, unpacks, blends, insertions, extensions and sign masks.

use super::host;
use super::lanes::{Lane, halves, high, join, low, split, with_low64};

/// Functions for which the host may have an instruction.
macro_rules! hosted {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(a: u128, b: u128) -> u128 {
            host::$name(a, b).unwrap_or_else(|| portable::$name(a, b))
        }
    )*};
}

hosted! {
    /// PSHUFB
    pshufb;
    /// PUNPCKLBW
    punpcklbw;
    /// PUNPCKHBW
    punpckhbw;
    /// PUNPCKLWD
    punpcklwd;
    /// PUNPCKHWD
    punpckhwd;
    /// PACKSSWB
    packsswb;
    /// PACKUSWB
    packuswb;
    /// PACKSSDW
    packssdw;
    /// PACKUSDW
    packusdw;
}

/// The two-bit field `i` of an immediate.
#[inline(always)]
fn select(imm: u8, i: usize) -> usize {
    usize::from(imm >> (2 * i) & 3)
}

/// PSHUFD
#[inline]
pub fn pshufd(a: u128, imm: u8) -> u128 {
    let a = split::<u32>(a);
    join::<u32>(std::array::from_fn(|i| a[select(imm, i)]))
}

/// PSHUFW, on the four words of an MMX register
#[inline]
pub fn pshufw(a: u64, imm: u8) -> u64 {
    (0..4).fold(0, |sum, i| sum | (a >> (16 * select(imm, i)) & 0xffff) << (16 * i))
}

/// PSHUFLW
#[inline]
pub fn pshuflw(a: u128, imm: u8) -> u128 {
    with_low64(a, pshufw(low(a), imm))
}

/// PSHUFHW
#[inline]
pub fn pshufhw(a: u128, imm: u8) -> u128 {
    halves(low(a), pshufw(high(a), imm))
}

/// SHUFPS
#[inline]
pub fn shufps(a: u128, b: u128, imm: u8) -> u128 {
    let (a, b) = (split::<u32>(a), split::<u32>(b));
    join::<u32>([a[select(imm, 0)], a[select(imm, 1)], b[select(imm, 2)], b[select(imm, 3)]])
}

/// SHUFPD
#[inline]
pub fn shufpd(a: u128, b: u128, imm: u8) -> u128 {
    let (a, b) = (split::<u64>(a), split::<u64>(b));
    join::<u64>([a[usize::from(imm & 1)], b[usize::from(imm >> 1 & 1)]])
}

macro_rules! unpacks {
    ($($see:vis $low:ident, $high:ident = $lane:ident * $half:literal;)*) => {$(
        #[doc = concat!("The lanes of the lower halves, interleaved: ", stringify!($low))]
        #[inline]
        $see fn $low(a: u128, b: u128) -> u128 {
            let (a, b) = (split::<$lane>(a), split::<$lane>(b));
            join::<$lane>(std::array::from_fn(|i| if i % 2 == 0 { a[i / 2] } else { b[i / 2] }))
        }

        #[doc = concat!("The lanes of the upper halves, interleaved: ", stringify!($high))]
        #[inline]
        $see fn $high(a: u128, b: u128) -> u128 {
            let (a, b) = (split::<$lane>(a), split::<$lane>(b));
            join::<$lane>(std::array::from_fn(|i| if i % 2 == 0 { a[$half + i / 2] } else { b[$half + i / 2] }))
        }
    )*};
}

unpacks! {
    pub punpckldq, punpckhdq = u32 * 2;
    pub punpcklqdq, punpckhqdq = u64 * 1;
}

/// The same as above, whatever the host.
pub(super) mod portable {
    use super::{join, split};

    pub(in super::super) fn pshufb(a: u128, control: u128) -> u128 {
        let from = a.to_le_bytes();
        u128::from_le_bytes(control.to_le_bytes().map(|c| if c & 0x80 == 0 { from[usize::from(c & 15)] } else { 0 }))
    }

    unpacks! {
        pub(in super::super) punpcklbw, punpckhbw = u8 * 8;
        pub(in super::super) punpcklwd, punpckhwd = u16 * 4;
    }

    /// The lanes of `a`, then of `b`, each made half as wide.
    macro_rules! packs {
        ($($name:ident = $wide:ident * $half:literal => $narrow:ident;)*) => {$(
            pub(in super::super) fn $name(a: u128, b: u128) -> u128 {
                let (a, b) = (split::<$wide>(a), split::<$wide>(b));
                let narrow = |wide: $wide| wide.clamp($narrow::MIN.into(), $narrow::MAX.into()) as $narrow;
                join::<$narrow>(std::array::from_fn(|i| narrow(if i < $half { a[i] } else { b[i - $half] })))
            }
        )*};
    }

    packs! {
        packsswb = i16 * 8 => i8;
        packuswb = i16 * 8 => u8;
        packssdw = i32 * 4 => i16;
        packusdw = i32 * 4 => u16;
    }
}

/// The lowest lanes, each extended to a wider one.
macro_rules! extensions {
    ($($(#[$doc:meta])* $name:ident = $narrow:ident => $wide:ident;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(a: u128) -> u128 {
            let a = split::<$narrow>(a);
            join::<$wide>(std::array::from_fn(|i| $wide::from(a[i])))
        }
    )*};
}

extensions! {
    /// PMOVSXBW
    pmovsxbw = i8 => i16;
    /// PMOVSXBD
    pmovsxbd = i8 => i32;
    /// PMOVSXBQ
    pmovsxbq = i8 => i64;
    /// PMOVSXWD
    pmovsxwd = i16 => i32;
    /// PMOVSXWQ
    pmovsxwq = i16 => i64;
    /// PMOVSXDQ
    pmovsxdq = i32 => i64;
    /// PMOVZXBW
    pmovzxbw = u8 => u16;
    /// PMOVZXBD
    pmovzxbd = u8 => u32;
    /// PMOVZXBQ
    pmovzxbq = u8 => u64;
    /// PMOVZXWD
    pmovzxwd = u16 => u32;
    /// PMOVZXWQ
    pmovzxwq = u16 => u64;
    /// PMOVZXDQ
    pmovzxdq = u32 => u64;
}

/// PALIGNR: `a:b` shifted right by whole bytes
#[inline]
pub fn palignr(a: u128, b: u128, imm: u8) -> u128 {
    match u32::from(imm) {
        0 => b,
        n @ 1..16 => b >> (8 * n) | a << (128 - 8 * n),
        n @ 16..32 => a >> (8 * (n - 16)),
        _ => 0,
    }
}

/// The lanes of `b` where the sign of the mask's lane is set, else those of `a`.
#[inline(always)]
fn blend(a: u128, b: u128, signs: u128) -> u128 {
    a & !signs | b & signs
}

/// PBLENDVB, the mask being XMM0
#[inline]
pub fn pblendvb(a: u128, b: u128, mask: u128) -> u128 {
    let signs = mask >> 7 & 0x0101_0101_0101_0101_0101_0101_0101_0101;
    blend(a, b, (signs << 8).wrapping_sub(signs))
}

/// BLENDVPS, the mask being XMM0
#[inline]
pub fn blendvps(a: u128, b: u128, mask: u128) -> u128 {
    blend(a, b, i32::map(mask, |lane| lane >> 31))
}

/// BLENDVPD, the mask being XMM0
#[inline]
pub fn blendvpd(a: u128, b: u128, mask: u128) -> u128 {
    blend(a, b, i64::map(mask, |lane| lane >> 63))
}

macro_rules! blends {
    ($($(#[$doc:meta])* $name:ident = $lane:ident;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(a: u128, b: u128, imm: u8) -> u128 {
            let (a, b) = (split::<$lane>(a), split::<$lane>(b));
            join::<$lane>(std::array::from_fn(|i| if imm >> i & 1 == 0 { a[i] } else { b[i] }))
        }
    )*};
}

blends! {
    /// PBLENDW
    pblendw = u16;
    /// BLENDPS
    blendps = u32;
    /// BLENDPD
    blendpd = u64;
}

macro_rules! insertions {
    ($($(#[$doc:meta])* $insert:ident $extract:ident = $lane:ident * $mask:literal;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $insert(a: u128, value: $lane, imm: u8) -> u128 {
            let place = u32::from(imm & $mask) * $lane::BITS;
            a & !(u128::from($lane::MAX) << place) | u128::from(value) << place
        }

        #[doc = concat!("The lane that an immediate chooses: ", stringify!($extract))]
        #[inline]
        pub fn $extract(a: u128, imm: u8) -> $lane {
            (a >> (u32::from(imm & $mask) * $lane::BITS)) as $lane
        }
    )*};
}

insertions! {
    /// PINSRB
    pinsrb pextrb = u8 * 15;
    /// PINSRW
    pinsrw pextrw = u16 * 7;
    /// PINSRD
    pinsrd pextrd = u32 * 3;
    /// PINSRQ
    pinsrq pextrq = u64 * 1;
}

/// INSERTPS with the source lane already chosen: `imm[5:4]` is where it goes, `imm[3:0]` what is cleared
#[inline]
pub fn insertps(a: u128, value: u32, imm: u8) -> u128 {
    let mut lanes = split::<u32>(a);
    lanes[select(imm, 2)] = value;
    join::<u32>(std::array::from_fn(|i| if imm >> i & 1 == 0 { lanes[i] } else { 0 }))
}

/// PMOVMSKB
#[inline]
pub fn pmovmskb(a: u128) -> u32 {
    host::pmovmskb(a).unwrap_or_else(|| portable_pmovmskb(a))
}

pub(super) fn portable_pmovmskb(a: u128) -> u32 {
    a.to_le_bytes().into_iter().rev().fold(0, |mask, lane| mask << 1 | u32::from(lane >> 7))
}

/// MOVMSKPS
#[inline]
pub fn movmskps(a: u128) -> u32 {
    split::<u32>(a).into_iter().rev().fold(0, |mask, lane| mask << 1 | lane >> 31)
}

/// MOVMSKPD
#[inline]
pub fn movmskpd(a: u128) -> u32 {
    (low(a) >> 63 | high(a) >> 63 << 1) as u32
}

/// MOVDDUP
#[inline]
pub fn movddup(a: u128) -> u128 {
    halves(low(a), low(a))
}

/// MOVSLDUP
#[inline]
pub fn movsldup(a: u128) -> u128 {
    pshufd(a, 0b10_10_00_00)
}

/// MOVSHDUP
#[inline]
pub fn movshdup(a: u128) -> u128 {
    pshufd(a, 0b11_11_01_01)
}
