//! Near jumps, calls and returns.

use super::Source;
use crate::core::Core;
use crate::fault::R;
use crate::insn::{Insn, reg, seg};
use crate::word::Word;

/// Jumps by a distance in code with instruction pointers of `T`.
#[inline(always)]
fn relative<T: Word>(core: &mut Core, i: &Insn) -> R {
    let target = core.regs[reg::RIP].wrapping_add(i.imm);
    go::<T>(core, target)
}

/// Jumps to an offset. Outside 64-bit mode the limit of CS is looked at when the target is fetched.
#[inline(always)]
fn go<T: Word>(core: &mut Core, target: u64) -> R {
    let target = target & T::MASK;
    if T::BITS == 64 && !Core::canonical(target) {
        return Err(core.gp(0));
    }
    if T::BITS < 64 && target > u64::from(core.seg[seg::CS].limit) {
        return Err(core.gp(0));
    }
    core.regs[reg::RIP] = target;
    Ok(())
}

/// JMP rel.
pub(crate) fn jmp<T: Word>(core: &mut Core, i: &Insn) -> R {
    relative::<T>(core, i)
}

/// JMP r/m.
pub(crate) fn jmp_to<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let target: T = S::get(core, i)?;
    go::<T>(core, target.wide())
}

/// Jcc.
pub(crate) fn jcc<T: Word, const C: u8>(core: &mut Core, i: &Insn) -> R {
    if core.lazy.condition::<C>() { relative::<T>(core, i) } else { Ok(()) }
}

/// JCXZ, JECXZ, JRCXZ.
pub(crate) fn jcxz<T: Word>(core: &mut Core, i: &Insn) -> R {
    if core.regs[reg::RCX] & i.address_mask() == 0 { relative::<T>(core, i) } else { Ok(()) }
}

/// LOOP (`KIND` 2), LOOPE (1), LOOPNE (0).
pub(crate) fn looping<T: Word, const KIND: u8>(core: &mut Core, i: &Insn) -> R {
    let mask = i.address_mask();
    let old = core.regs[reg::RCX];
    let count = old.wrapping_sub(1) & mask;
    let again = count != 0
        && match KIND {
            0 => !core.lazy.zf(),
            1 => core.lazy.zf(),
            _ => true,
        };
    if again {
        relative::<T>(core, i)?;
    }
    // A 32-bit counter clears the upper half, as every 32-bit write does.
    core.regs[reg::RCX] = if mask == 0xFFFF { old & !mask | count } else { count };
    Ok(())
}

/// CALL: checks the target before it pushes.
#[inline(always)]
fn call_to<T: Word>(core: &mut Core, target: u64) -> R {
    let back = core.regs[reg::RIP];
    go::<T>(core, target)?;
    if let Err(fault) = core.push(T::cut(back)) {
        core.regs[reg::RIP] = back;
        return Err(fault);
    }
    Ok(())
}

/// CALL rel.
pub(crate) fn call<T: Word>(core: &mut Core, i: &Insn) -> R {
    call_to::<T>(core, core.regs[reg::RIP].wrapping_add(i.imm))
}

/// CALL r/m.
pub(crate) fn call_indirect<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let target: T = S::get(core, i)?;
    call_to::<T>(core, target.wide())
}

/// RET, RET imm16.
pub(crate) fn ret<T: Word>(core: &mut Core, i: &Insn) -> R {
    let target: T = core.peek(0)?;
    go::<T>(core, target.wide())?;
    core.drop_stack(T::BYTES as u64 + (i.imm & 0xFFFF));
    Ok(())
}
