//! Single bits, bit counts, BMI.

use super::{Place, Source};
use crate::core::Core;
use crate::fault::R;
use crate::flags::{Lazy, bits as fl};
use crate::insn::Insn;
use crate::word::Word;

/// What a bit test does to the bit.
pub(crate) const KEEP: u8 = 0;
/// BTS.
pub(crate) const SET: u8 = 1;
/// BTR.
pub(crate) const RESET: u8 = 2;
/// BTC.
pub(crate) const FLIP: u8 = 3;

#[inline(always)]
fn change<const HOW: u8>(value: u64, bit: u64) -> u64 {
    match HOW {
        KEEP => value,
        SET => value | bit,
        RESET => value & !bit,
        _ => value ^ bit,
    }
}

/// BT and its kin on a register, or with an immediate.
pub(crate) fn bt<T: Word, D: Place, S: Source, const HOW: u8>(core: &mut Core, i: &Insn) -> R {
    let n = S::get::<T>(core, i)?.wide() & u64::from(T::BITS - 1);
    let old: T = if HOW == KEEP {
        D::get(core, i)?
    } else {
        D::swap(core, i, |old: T| (T::cut(change::<HOW>(old.wide(), 1 << n)), old))?
    };
    core.lazy = core.lazy.with_cf(old.wide() >> n & 1 != 0);
    Ok(())
}

/// BT and its kin on a bit string in memory: the register also selects the word.
pub(crate) fn bt_string<T: Word, const HOW: u8>(core: &mut Core, i: &Insn) -> R {
    let n = T::get(&core.regs, i.src).sext() as i64;
    let away = (n >> T::BITS.trailing_zeros()).wrapping_mul(T::BYTES as i64);
    // The same instruction with another displacement; one that does not fit goes into a spare register's place.
    let mut there = *i;
    let spare = 18;
    core.regs[spare] = core.regs[usize::from(i.base & 31)].wrapping_add(away as u64);
    there.base = spare as u8;
    let n = n as u64 & u64::from(T::BITS - 1);
    let old: T = if HOW == KEEP {
        core.load(&there)?
    } else {
        core.rmw(&there, |old: T| (T::cut(change::<HOW>(old.wide(), 1 << n)), old))?
    };
    core.lazy = core.lazy.with_cf(old.wide() >> n & 1 != 0);
    Ok(())
}

/// BSF (`FORWARD`) and BSR: the destination stays if the source is 0.
pub(crate) fn scan<T: Word, S: Source, const FORWARD: bool>(core: &mut Core, i: &Insn) -> R {
    let value = S::get::<T>(core, i)?;
    core.lazy = Lazy::logic(value);
    if value.wide() != 0 {
        let n = if FORWARD { value.wide().trailing_zeros() } else { 63 - value.wide().leading_zeros() };
        T::set(&mut core.regs, i.dst, T::cut(n.into()));
    }
    Ok(())
}

/// TZCNT (`TRAILING`) and LZCNT.
pub(crate) fn count_zeros<T: Word, S: Source, const TRAILING: bool>(core: &mut Core, i: &Insn) -> R {
    let value = S::get::<T>(core, i)?.wide();
    let n = match (value, TRAILING) {
        (0, _) => T::BITS,
        (v, true) => v.trailing_zeros(),
        (v, false) => v.leading_zeros() - (64 - T::BITS),
    };
    let r = T::cut(n.into());
    T::set(&mut core.regs, i.dst, r);
    core.lazy = Lazy::with(r, value == 0, false);
    Ok(())
}

/// POPCNT.
pub(crate) fn popcnt<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let value = S::get::<T>(core, i)?.wide();
    T::set(&mut core.regs, i.dst, T::cut(value.count_ones().into()));
    core.lazy = Lazy::from_bits(if value == 0 { fl::ZF } else { 0 });
    Ok(())
}

/// ANDN: third operand and not second.
pub(crate) fn andn<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let b = S::get::<T>(core, i)?.wide();
    let r = T::cut(!T::get(&core.regs, i.src).wide() & b);
    T::set(&mut core.regs, i.dst, r);
    core.lazy = Lazy::logic(r);
    Ok(())
}

/// BLSR (`KIND` 0), BLSMSK (1), BLSI (2).
pub(crate) fn lowest<T: Word, S: Source, const KIND: u8>(core: &mut Core, i: &Insn) -> R {
    let v = S::get::<T>(core, i)?.wide();
    let (r, cf) = match KIND {
        0 => (v & v.wrapping_sub(1), v == 0),
        1 => (v ^ v.wrapping_sub(1), v == 0),
        _ => (v & v.wrapping_neg(), v != 0),
    };
    let r = T::cut(r);
    T::set(&mut core.regs, i.dst, r);
    core.lazy = Lazy::with(r, cf, false);
    Ok(())
}

/// BEXTR.
pub(crate) fn bextr<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let v = S::get::<T>(core, i)?.wide();
    let control = T::get(&core.regs, i.third).wide();
    let (start, len) = (control & 0xFF, control >> 8 & 0xFF);
    let shifted = if start < 64 { v >> start } else { 0 };
    let r = T::cut(if len < 64 { shifted & ((1 << len) - 1) } else { shifted });
    T::set(&mut core.regs, i.dst, r);
    core.lazy = Lazy::logic(r);
    Ok(())
}

/// BZHI.
pub(crate) fn bzhi<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let v = S::get::<T>(core, i)?.wide();
    let n = T::get(&core.regs, i.third).wide() & 0xFF;
    let over = n >= u64::from(T::BITS);
    let r = T::cut(if over { v } else { v & ((1 << n) - 1) });
    T::set(&mut core.regs, i.dst, r);
    core.lazy = Lazy::with(r, over, false);
    Ok(())
}

/// PDEP.
pub(crate) fn pdep<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let mut mask = S::get::<T>(core, i)?.wide();
    let mut from = T::get(&core.regs, i.src).wide();
    let mut r = 0;
    while mask != 0 {
        let bit = mask & mask.wrapping_neg();
        if from & 1 != 0 {
            r |= bit;
        }
        from >>= 1;
        mask &= mask - 1;
    }
    T::set(&mut core.regs, i.dst, T::cut(r));
    Ok(())
}

/// PEXT.
pub(crate) fn pext<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let mut mask = S::get::<T>(core, i)?.wide();
    let from = T::get(&core.regs, i.src).wide();
    let (mut r, mut k) = (0, 0);
    while mask != 0 {
        let bit = mask & mask.wrapping_neg();
        if from & bit != 0 {
            r |= 1 << k;
        }
        k += 1;
        mask &= mask - 1;
    }
    T::set(&mut core.regs, i.dst, T::cut(r));
    Ok(())
}

/// CMPXCHG8B (`T` = u64) and CMPXCHG16B.
pub(crate) fn cmpxchg8b(core: &mut Core, i: &Insn) -> R {
    let half = |core: &Core, low: usize, high: usize| core.regs[low] & 0xFFFF_FFFF | core.regs[high] << 32;
    let (wanted, new) = (half(core, 0, 2), half(core, 3, 1));
    let old: u64 = core.rmw(i, |old| (if old == wanted { new } else { old }, old))?;
    finish_cmpxchg(core, old == wanted);
    if old != wanted {
        core.regs[0] = old & 0xFFFF_FFFF;
        core.regs[2] = old >> 32;
    }
    Ok(())
}

/// CMPXCHG16B: 16-byte aligned or #GP(0).
pub(crate) fn cmpxchg16b(core: &mut Core, i: &Insn) -> R {
    let la = core.linear(i, 16, crate::mem::Access::Write)?;
    if la % 16 != 0 {
        return Err(core.gp(0));
    }
    let whole = |core: &Core, low: usize, high: usize| u128::from(core.regs[low]) | u128::from(core.regs[high]) << 64;
    let (wanted, new) = (whole(core, 0, 2), whole(core, 3, 1));
    let old: u128 = core.rmw(i, |old| (if old == wanted { new } else { old }, old))?;
    finish_cmpxchg(core, old == wanted);
    if old != wanted {
        core.regs[0] = old as u64;
        core.regs[2] = (old >> 64) as u64;
    }
    Ok(())
}

/// ZF says whether they were equal; the other flags stay.
fn finish_cmpxchg(core: &mut Core, equal: bool) {
    let flags = core.lazy.bits() & !fl::ZF | if equal { fl::ZF } else { 0 };
    core.lazy = Lazy::from_bits(flags);
}
