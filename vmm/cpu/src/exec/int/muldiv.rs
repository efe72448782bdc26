//! Multiplication and division.

use super::Source;
use crate::core::Core;
use crate::fault::{R, vector};
use crate::flags::Lazy;
use crate::insn::{Insn, reg};
use crate::word::{HIGH, Word};

/// Writes a double-width product to AX or rDX:rAX.
#[inline(always)]
fn put_double<T: Word>(core: &mut Core, low: T, high: T) {
    if T::BITS == 8 {
        u8::set(&mut core.regs, 0, low.wide() as u8);
        u8::set(&mut core.regs, HIGH, high.wide() as u8);
    } else {
        T::set(&mut core.regs, reg::RAX as u8, low);
        T::set(&mut core.regs, reg::RDX as u8, high);
    }
}

/// MUL.
pub(crate) fn mul<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let b: T = S::get(core, i)?;
    let a = T::get(&core.regs, 0);
    let p = u128::from(a.wide()) * u128::from(b.wide());
    let (low, high) = (T::cut(p as u64), T::cut((p >> T::BITS) as u64));
    put_double(core, low, high);
    let wide = high.wide() != 0;
    core.lazy = Lazy::with(low, wide, wide);
    Ok(())
}

/// IMUL with one operand.
pub(crate) fn imul<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let b: T = S::get(core, i)?;
    let a = T::get(&core.regs, 0);
    let p = i128::from(a.sext() as i64) * i128::from(b.sext() as i64);
    let (low, high) = (T::cut(p as u64), T::cut((p >> T::BITS) as u64));
    put_double(core, low, high);
    let wide = p != i128::from(low.sext() as i64);
    core.lazy = Lazy::with(low, wide, wide);
    Ok(())
}

/// IMUL with two or three operands.
pub(crate) fn imul_to<T: Word, A: Source, B: Source>(core: &mut Core, i: &Insn) -> R {
    let a: T = A::get(core, i)?;
    let b: T = B::get(core, i)?;
    let p = i128::from(a.sext() as i64) * i128::from(b.sext() as i64);
    let low = T::cut(p as u64);
    T::set(&mut core.regs, i.dst, low);
    let wide = p != i128::from(low.sext() as i64);
    core.lazy = Lazy::with(low, wide, wide);
    Ok(())
}

/// MULX: the high half last, so that it stays if both are the same register.
pub(crate) fn mulx<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let b: T = S::get(core, i)?;
    let p = u128::from(T::get(&core.regs, reg::RDX as u8).wide()) * u128::from(b.wide());
    T::set(&mut core.regs, i.src, T::cut(p as u64));
    T::set(&mut core.regs, i.dst, T::cut((p >> T::BITS) as u64));
    Ok(())
}

/// DIV.
pub(crate) fn div<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let b = u128::from(S::get::<T>(core, i)?.wide());
    let a = dividend::<T>(core);
    let Some(q) = a.checked_div(b).filter(|&q| q <= u128::from(T::MASK)) else {
        return Err(core.raise(vector::DE));
    };
    put_double(core, T::cut(q as u64), T::cut((a % b) as u64));
    Ok(())
}

/// IDIV.
pub(crate) fn idiv<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let b = i128::from(S::get::<T>(core, i)?.sext() as i64);
    let shift = 128 - 2 * T::BITS;
    let a = (dividend::<T>(core) << shift) as i128 >> shift;
    let fits = |q: &i128| *q == i128::from(T::cut(*q as u64).sext() as i64);
    let Some(q) = a.checked_div(b).filter(fits) else {
        return Err(core.raise(vector::DE));
    };
    put_double(core, T::cut(q as u64), T::cut((a % b) as u64));
    Ok(())
}

#[inline(always)]
fn dividend<T: Word>(core: &Core) -> u128 {
    if T::BITS == 8 {
        return u128::from(core.regs[reg::RAX] as u16);
    }
    let (low, high) = (T::get(&core.regs, reg::RAX as u8), T::get(&core.regs, reg::RDX as u8));
    u128::from(high.wide()) << T::BITS | u128::from(low.wide())
}
