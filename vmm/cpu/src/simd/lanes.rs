//! A 128-bit register as equal lanes, lane 0 in the least significant bits (SDM vol. 1 §4.6).
//!
//! Everything here inlines into the caller, where the compiler turns the fixed-length loops into vector code.

/// An integer that a register is divided into.
pub trait Lane: Copy {
    /// All lanes of a register.
    type All: Copy;

    /// Divides a register.
    fn split(register: u128) -> Self::All;

    /// Puts a register together again.
    fn join(lanes: Self::All) -> u128;

    /// The register with `f` applied to each lane.
    fn map(register: u128, f: impl Fn(Self) -> Self) -> u128;

    /// The register made from the lanes of two, pair by pair.
    fn zip(a: u128, b: u128, f: impl Fn(Self, Self) -> Self) -> u128;
}

macro_rules! lanes {
    ($($lane:ident * $count:literal),*) => {$(
        impl Lane for $lane {
            type All = [$lane; $count];

            #[inline(always)]
            fn split(register: u128) -> Self::All {
                let bytes = register.to_le_bytes();
                let (parts, _) = bytes.as_chunks();
                std::array::from_fn(|i| $lane::from_le_bytes(parts[i]))
            }

            #[inline(always)]
            fn join(lanes: Self::All) -> u128 {
                let mut bytes = [0; 16];
                let (parts, _) = bytes.as_chunks_mut();
                for (part, lane) in parts.iter_mut().zip(lanes) {
                    *part = lane.to_le_bytes();
                }
                u128::from_le_bytes(bytes)
            }

            #[inline(always)]
            fn map(register: u128, f: impl Fn(Self) -> Self) -> u128 {
                Self::join(Self::split(register).map(f))
            }

            #[inline(always)]
            fn zip(a: u128, b: u128, f: impl Fn(Self, Self) -> Self) -> u128 {
                let (a, b) = (Self::split(a), Self::split(b));
                Self::join(std::array::from_fn(|i| f(a[i], b[i])))
            }
        }
    )*};
}

lanes!(u8 * 16, i8 * 16, u16 * 8, i16 * 8, u32 * 4, i32 * 4, u64 * 2, i64 * 2);

/// The register with `f` applied to each lane.
#[inline(always)]
pub fn map<L: Lane>(register: u128, f: impl Fn(L) -> L) -> u128 {
    L::map(register, f)
}

/// The register made from the lanes of two, pair by pair.
#[inline(always)]
pub fn zip<L: Lane>(a: u128, b: u128, f: impl Fn(L, L) -> L) -> u128 {
    L::zip(a, b, f)
}

/// The lanes of a register.
#[inline(always)]
pub fn split<L: Lane>(register: u128) -> L::All {
    L::split(register)
}

/// The register with these lanes.
#[inline(always)]
pub fn join<L: Lane>(lanes: L::All) -> u128 {
    L::join(lanes)
}

/// The lower half of a register.
#[inline(always)]
pub fn low(register: u128) -> u64 {
    register as u64
}

/// The upper half of a register.
#[inline(always)]
pub fn high(register: u128) -> u64 {
    (register >> 64) as u64
}

/// A register from its two halves.
#[inline(always)]
pub fn halves(low: u64, high: u64) -> u128 {
    u128::from(low) | u128::from(high) << 64
}

/// `register` with its lowest 64 bits replaced.
#[inline(always)]
pub fn with_low64(register: u128, low: u64) -> u128 {
    register & !u128::from(u64::MAX) | u128::from(low)
}

/// `register` with its lowest 32 bits replaced.
#[inline(always)]
pub fn with_low32(register: u128, low: u32) -> u128 {
    register & !u128::from(u32::MAX) | u128::from(low)
}
