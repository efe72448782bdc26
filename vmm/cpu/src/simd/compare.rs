//! CMPxx, COMISx and UCOMISx (SDM vol. 2).

use super::float::{Real, Result};
use super::mxcsr::Mxcsr;
use super::soft;
use std::cmp::Ordering;

/// Whether a legacy predicate (imm8\[2:0\], SDM vol. 2 table 3-1) holds.
#[inline(always)]
fn holds(predicate: u8, order: Option<Ordering>) -> bool {
    let base = match predicate & 3 {
        0 => order == Some(Ordering::Equal),
        1 => order == Some(Ordering::Less),
        2 => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        _ => order.is_none(),
    };
    base != (predicate & 4 != 0)
}

/// The predicates that ask for an order are invalid on any NaN.
fn signals(predicate: u8) -> bool {
    matches!(predicate & 3, 1 | 2)
}

/// One lane; ordinary numbers need no look at MXCSR.
#[inline(always)]
fn order<F: Real>(a: u64, b: u64, mxcsr: Mxcsr, signaling: bool) -> (Option<Ordering>, u32) {
    let normal = |x: u64| (x & F::INFINITY).wrapping_sub(1 << F::FRACTION) < F::INFINITY - (1 << F::FRACTION);
    if normal(a) & normal(b) {
        let key = |x: u64| if x & F::SIGN == 0 { x as i64 } else { -((x & !F::SIGN) as i64) };
        return (Some(key(a).cmp(&key(b))), 0);
    }
    soft::compare::<F>(a, b, mxcsr, signaling)
}

/// CMPPS, CMPPD
#[inline]
pub fn packed<F: Real>(a: u128, b: u128, predicate: u8, mxcsr: &mut Mxcsr) -> Result<u128> {
    let (mut register, mut all_flags) = (0, 0);
    for i in 0..F::LANES {
        let (order, flags) = order::<F>(F::lane(a, i), F::lane(b, i), *mxcsr, signals(predicate));
        let mask = if holds(predicate, order) { u128::MAX >> (128 - F::WIDTH) } else { 0 };
        register |= mask << (F::WIDTH * i as u32);
        all_flags |= flags;
    }
    mxcsr.settle(all_flags)?;
    Ok(register)
}

/// CMPSS, CMPSD
#[inline]
pub fn scalar<F: Real>(a: u128, b: u128, predicate: u8, mxcsr: &mut Mxcsr) -> Result<u128> {
    let (order, flags) = order::<F>(F::lane(a, 0), F::lane(b, 0), *mxcsr, signals(predicate));
    mxcsr.settle(flags)?;
    Ok(F::with_low(a, if holds(predicate, order) { u64::MAX } else { 0 }))
}

/// ZF, PF and CF as COMISx and UCOMISx set them; OF, SF and AF are cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompareFlags {
    /// Equal, or unordered.
    pub zero: bool,
    /// Unordered.
    pub parity: bool,
    /// Less, or unordered.
    pub carry: bool,
}

/// UCOMISx or, when `signaling`, COMISx
#[inline]
pub fn flags<F: Real>(a: u128, b: u128, signaling: bool, mxcsr: &mut Mxcsr) -> Result<CompareFlags> {
    let (order, flags) = order::<F>(F::lane(a, 0), F::lane(b, 0), *mxcsr, signaling);
    mxcsr.settle(flags)?;
    let unordered = order.is_none();
    Ok(CompareFlags {
        zero: unordered || order == Some(Ordering::Equal),
        parity: unordered,
        carry: unordered || order == Some(Ordering::Less),
    })
}
