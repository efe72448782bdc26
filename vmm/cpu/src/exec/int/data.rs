//! Moving data: MOV and its kin, the stack, conversions.

use super::{Place, Source};
use crate::core::Core;
use crate::fault::R;
use crate::flags::{Lazy, bits as fl};
use crate::insn::{Insn, reg, seg};
use crate::mem::{Access, Plain};
use crate::word::{HIGH, Word};

/// MOV.
pub(crate) fn mov<T: Word, D: Place, S: Source>(core: &mut Core, i: &Insn) -> R {
    let value: T = S::get(core, i)?;
    D::put(core, i, value)
}

/// MOV with a 64-bit absolute address that no displacement can hold.
pub(crate) fn mov_absolute<T: Word, const LOAD: bool>(core: &mut Core, i: &Insn) -> R {
    let access = if LOAD { Access::Read } else { Access::Write };
    let la = core.linear_at(usize::from(i.seg), i.imm, T::BYTES as u64, access)?;
    if LOAD {
        let value: T = core.load_at(usize::from(i.seg), la)?;
        T::set(&mut core.regs, reg::RAX as u8, value);
        Ok(())
    } else {
        let value = T::get(&core.regs, reg::RAX as u8);
        core.store_at(usize::from(i.seg), la, value)
    }
}

/// MOVZX.
pub(crate) fn movzx<T: Word, F: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let value: F = S::get(core, i)?;
    T::set(&mut core.regs, i.dst, T::cut(value.wide()));
    Ok(())
}

/// MOVSX, MOVSXD.
pub(crate) fn movsx<T: Word, F: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let value: F = S::get(core, i)?;
    T::set(&mut core.regs, i.dst, T::cut(value.sext()));
    Ok(())
}

/// LEA.
pub(crate) fn lea<T: Word>(core: &mut Core, i: &Insn) -> R {
    let offset = if i.imm != 0 { i.imm & i.address_mask() } else { core.offset(i) };
    T::set(&mut core.regs, i.dst, T::cut(offset));
    Ok(())
}

/// XCHG.
pub(crate) fn xchg<T: Word, D: Place>(core: &mut Core, i: &Insn) -> R {
    let new = T::get(&core.regs, i.src);
    let old: T = D::swap(core, i, |old| (new, old))?;
    T::set(&mut core.regs, i.src, old);
    Ok(())
}

/// CMOVcc: the source is read whatever the condition.
pub(crate) fn cmov<T: Word, S: Source, const C: u8>(core: &mut Core, i: &Insn) -> R {
    let value: T = S::get(core, i)?;
    let value = if core.lazy.condition::<C>() { value } else { T::get(&core.regs, i.dst) };
    T::set(&mut core.regs, i.dst, value);
    Ok(())
}

/// SETcc.
pub(crate) fn setcc<D: Place, const C: u8>(core: &mut Core, i: &Insn) -> R {
    let value = u8::from(core.lazy.condition::<C>());
    D::put(core, i, value)
}

/// BSWAP (16 bits: undefined, gives 0 as processors do).
pub(crate) fn bswap<T: Word>(core: &mut Core, i: &Insn) -> R {
    let value = T::get(&core.regs, i.dst).wide();
    let value = if T::BITS == 16 { 0 } else { value.swap_bytes() >> (64 - T::BITS) };
    T::set(&mut core.regs, i.dst, T::cut(value));
    Ok(())
}

/// MOVBE.
pub(crate) fn movbe<T: Word, D: Place, S: Source>(core: &mut Core, i: &Insn) -> R {
    let value: T = S::get(core, i)?;
    D::put(core, i, T::cut(value.wide().swap_bytes() >> (64 - T::BITS)))
}

/// MOVNTI and other stores that are only hints beside MOV go through [`mov`]. CBW, CWDE, CDQE: `F` to twice its width.
pub(crate) fn extend<F: Word, T: Word>(core: &mut Core, _: &Insn) -> R {
    let value = F::get(&core.regs, reg::RAX as u8).sext();
    T::set(&mut core.regs, reg::RAX as u8, T::cut(value));
    Ok(())
}

/// CWD, CDQ, CQO.
pub(crate) fn sign_to_dx<T: Word>(core: &mut Core, _: &Insn) -> R {
    let sign = (T::get(&core.regs, reg::RAX as u8).sext() as i64 >> 63) as u64;
    T::set(&mut core.regs, reg::RDX as u8, T::cut(sign));
    Ok(())
}

/// XLAT.
pub(crate) fn xlat(core: &mut Core, i: &Insn) -> R {
    let offset = core.regs[reg::RBX].wrapping_add(core.regs[reg::RAX] & 0xFF) & i.address_mask();
    let la = core.linear_at(usize::from(i.seg), offset, 1, Access::Read)?;
    let value: u8 = core.load_at(usize::from(i.seg), la)?;
    u8::set(&mut core.regs, 0, value);
    Ok(())
}

/// LAHF.
pub(crate) fn lahf(core: &mut Core, _: &Insn) -> R {
    let flags = (core.lazy.bits() & 0xD5 | fl::FIXED) as u8;
    u8::set(&mut core.regs, HIGH, flags);
    Ok(())
}

/// SAHF.
pub(crate) fn sahf(core: &mut Core, _: &Insn) -> R {
    let ah = u64::from(u8::get(&core.regs, HIGH));
    let of = core.lazy.bits() & fl::OF;
    core.lazy = Lazy::from_bits(ah & 0xD5 | of);
    Ok(())
}

/// CLC, STC: `VALUE` 0, 1; CMC: 2.
pub(crate) fn carry<const VALUE: u8>(core: &mut Core, _: &Insn) -> R {
    let cf = match VALUE {
        0 => false,
        1 => true,
        _ => !core.lazy.cf(),
    };
    core.lazy = core.lazy.with_cf(cf);
    Ok(())
}

/// CLD, STD.
pub(crate) fn direction<const DOWN: bool>(core: &mut Core, _: &Insn) -> R {
    core.flags = core.flags & !fl::DF | if DOWN { fl::DF } else { 0 };
    Ok(())
}

/// NOP, PAUSE, and hints.
pub(crate) fn nop(_: &mut Core, _: &Insn) -> R {
    Ok(())
}

impl Core {
    /// Writes below the stack pointer and moves it.
    #[inline(always)]
    pub(crate) fn push<T: Plain>(&mut self, value: T) -> R {
        let mask = self.stack_mask;
        let sp = self.regs[reg::RSP].wrapping_sub(T::BYTES as u64);
        let la = if self.bits64() { sp } else { self.linear_at(seg::SS, sp & mask, T::BYTES as u64, Access::Write)? };
        self.store_at(seg::SS, la, value)?;
        self.regs[reg::RSP] = self.regs[reg::RSP] & !mask | sp & mask;
        Ok(())
    }

    /// Reads at the stack pointer, `above` bytes up.
    #[inline(always)]
    pub(crate) fn peek<T: Plain>(&mut self, above: u64) -> R<T> {
        let at = self.regs[reg::RSP].wrapping_add(above);
        let la = if self.bits64() {
            at
        } else {
            let at = at & self.stack_mask;
            self.linear_at(seg::SS, at, T::BYTES as u64, Access::Read)?
        };
        self.load_at(seg::SS, la)
    }

    /// Moves the stack pointer up.
    #[inline(always)]
    pub(crate) fn drop_stack(&mut self, bytes: u64) {
        let mask = self.stack_mask;
        let sp = self.regs[reg::RSP];
        self.regs[reg::RSP] = sp & !mask | sp.wrapping_add(bytes) & mask;
    }
}

/// PUSH.
pub(crate) fn push<T: Word, S: Source>(core: &mut Core, i: &Insn) -> R {
    let value: T = S::get(core, i)?;
    core.push(value)
}

/// POP to a register: one that is the stack pointer gets the value, not the sum.
pub(crate) fn pop<T: Word>(core: &mut Core, i: &Insn) -> R {
    let value: T = core.peek(0)?;
    core.drop_stack(T::BYTES as u64);
    T::set(&mut core.regs, i.dst, value);
    Ok(())
}

/// POP to memory: an address made with the stack pointer uses its value after the pop (SDM vol. 2, POP).
pub(crate) fn pop_mem<T: Word>(core: &mut Core, i: &Insn) -> R {
    let value: T = core.peek(0)?;
    let sp = core.regs[reg::RSP];
    core.drop_stack(T::BYTES as u64);
    let stored = core.store(i, value);
    if stored.is_err() {
        core.regs[reg::RSP] = sp;
    }
    stored
}

/// PUSHA.
pub(crate) fn pusha<T: Word>(core: &mut Core, _: &Insn) -> R {
    let sp = core.regs[reg::RSP];
    core.probe_stack(8 * T::BYTES as u64)?;
    for r in 0..8u8 {
        let value = if usize::from(r) == reg::RSP { T::cut(sp) } else { T::get(&core.regs, r) };
        if let Err(fault) = core.push(value) {
            core.regs[reg::RSP] = sp;
            return Err(fault);
        }
    }
    Ok(())
}

/// POPA.
pub(crate) fn popa<T: Word>(core: &mut Core, _: &Insn) -> R {
    let mut values = [T::cut(0); 8];
    for (k, value) in values.iter_mut().enumerate() {
        *value = core.peek((k * T::BYTES) as u64)?;
    }
    for (k, value) in values.into_iter().enumerate() {
        let r = 7 - k;
        if r != reg::RSP {
            T::set(&mut core.regs, r as u8, value);
        }
    }
    core.drop_stack(8 * T::BYTES as u64);
    Ok(())
}

impl Core {
    /// Would `size` bytes of pushes go through?
    pub(crate) fn probe_stack(&mut self, size: u64) -> R {
        let mask = self.stack_mask;
        let low = self.regs[reg::RSP].wrapping_sub(size) & mask;
        let la = self.linear_at(seg::SS, low, 1, Access::Write)?;
        self.probe(self.mmu, seg::SS, la, size as usize, Access::Write)
    }
}

/// ENTER (SDM vol. 2A).
pub(crate) fn enter<T: Word>(core: &mut Core, i: &Insn) -> R {
    let (size, level) = (i.imm & 0xFFFF, i.imm >> 32 & 31);
    let (sp, bp) = (core.regs[reg::RSP], core.regs[reg::RBP]);
    let mask = core.stack_mask;
    let frame = sp.wrapping_sub(T::BYTES as u64);
    let entered = (|| {
        core.push(T::cut(bp))?;
        for k in 1..level {
            let at = bp.wrapping_sub(k * T::BYTES as u64) & mask;
            let la = core.linear_at(seg::SS, at, T::BYTES as u64, Access::Read)?;
            let value: T = core.load_at(seg::SS, la)?;
            core.push(value)?;
        }
        if level > 0 {
            core.push(T::cut(frame))?;
        }
        // A write through the new stack pointer must be possible (SDM vol. 2, ENTER); a page fault here leaves everything.
        let new = core.regs[reg::RSP].wrapping_sub(size) & mask;
        let la = core.linear_at(seg::SS, new, T::BYTES as u64, Access::Write)?;
        core.probe(core.mmu, seg::SS, la, T::BYTES, Access::Write)?;
        Ok(new)
    })();
    match entered {
        Ok(new) => {
            core.regs[reg::RSP] = sp & !mask | new;
            T::set(&mut core.regs, reg::RBP as u8, T::cut(frame));
            Ok(())
        }
        Err(fault) => {
            core.regs[reg::RSP] = sp;
            Err(fault)
        }
    }
}

/// LEAVE.
pub(crate) fn leave<T: Word>(core: &mut Core, _: &Insn) -> R {
    let (sp, mask) = (core.regs[reg::RSP], core.stack_mask);
    core.regs[reg::RSP] = sp & !mask | core.regs[reg::RBP] & mask;
    match core.peek::<T>(0) {
        Ok(value) => {
            core.drop_stack(T::BYTES as u64);
            T::set(&mut core.regs, reg::RBP as u8, value);
            Ok(())
        }
        Err(fault) => {
            core.regs[reg::RSP] = sp;
            Err(fault)
        }
    }
}
