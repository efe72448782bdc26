//! String instructions.
//!
//! Each iteration of a repeated one is complete in itself: registers are moved on after every element, so that a fault
//! leaves exactly the rest to do. Long repetitions hand back to the run loop now and then, so that interrupts come through.

use super::alu;
use crate::core::Core;
use crate::fault::{Event, R};
use crate::flags::bits as fl;
use crate::insn::{Insn, REP, REPNE, reg, seg};
use crate::mem::{Access, PAGE};
use crate::word::Word;

/// Iterations between looks at interrupts.
const BATCH: u32 = 1024;

impl Core {
    /// Moves a string register on by one element.
    #[inline(always)]
    pub(crate) fn advance(&mut self, register: usize, size: u64, i: &Insn) {
        let step = if self.flags & fl::DF == 0 { size } else { size.wrapping_neg() };
        self.set_by_address_size(register, self.regs[register].wrapping_add(step), i);
    }

    /// Writes a register as an address of the instruction's address size.
    #[inline(always)]
    pub(crate) fn set_by_address_size(&mut self, register: usize, value: u64, i: &Insn) {
        let mask = i.address_mask();
        let old = self.regs[register];
        self.regs[register] = if mask == 0xFFFF { old & !mask | value & mask } else { value & mask };
    }

    /// Linear address of the source element.
    #[inline(always)]
    pub(crate) fn source(&mut self, size: u64, i: &Insn) -> R<u64> {
        let offset = self.regs[reg::RSI] & i.address_mask();
        self.linear_at(usize::from(i.seg), offset, size, Access::Read)
    }

    /// Linear address of the destination element, always in ES.
    #[inline(always)]
    pub(crate) fn destination(&mut self, size: u64, access: Access, i: &Insn) -> R<u64> {
        let offset = self.regs[reg::RDI] & i.address_mask();
        self.linear_at(seg::ES, offset, size, access)
    }

    /// Carries out `element` once, or as often as rCX says under a repeat prefix; `more` is asked after each one.
    #[inline(always)]
    pub(crate) fn repeat(
        &mut self,
        i: &Insn,
        element: impl Fn(&mut Self, &Insn) -> R,
        more: impl Fn(&Self) -> bool,
    ) -> R {
        if i.bits & (REP | REPNE) == 0 {
            return element(self, i);
        }
        let mask = i.address_mask();
        for _ in 0..BATCH {
            let count = self.regs[reg::RCX] & mask;
            if count == 0 {
                return Ok(());
            }
            element(self, i)?;
            // Not `count`: the element may have done several (`bulk`).
            let left = (self.regs[reg::RCX] & mask).wrapping_sub(1);
            self.set_by_address_size(reg::RCX, left, i);
            // Devices that answered were for this element.
            if !self.replay.done.is_empty() {
                self.replay.done.clear();
                self.replay.used = 0;
            }
            if left & mask == 0 || !more(self) {
                return Ok(());
            }
            // Single steps are between elements, too (SDM vol. 3B, §18.3.1.4).
            if self.leave_block || self.hits != 0 || self.flags & fl::TF != 0 {
                break;
            }
        }
        Err(self.stop(Event::Again))
    }
}

/// MOVS.
pub(crate) fn movs<T: Word>(core: &mut Core, i: &Insn) -> R {
    core.repeat(
        i,
        |core, i| {
            bulk::<T, true>(core, i)?;
            let from = core.source(T::BYTES as u64, i)?;
            let to = core.destination(T::BYTES as u64, Access::Write, i)?;
            let value: T = core.load_at(usize::from(i.seg), from)?;
            core.store_at(seg::ES, to, value)?;
            core.advance(reg::RSI, T::BYTES as u64, i);
            core.advance(reg::RDI, T::BYTES as u64, i);
            Ok(())
        },
        |_| true,
    )
}

/// STOS.
pub(crate) fn stos<T: Word>(core: &mut Core, i: &Insn) -> R {
    core.repeat(
        i,
        |core, i| {
            bulk::<T, false>(core, i)?;
            let to = core.destination(T::BYTES as u64, Access::Write, i)?;
            let value = T::get(&core.regs, reg::RAX as u8);
            core.store_at(seg::ES, to, value)?;
            core.advance(reg::RDI, T::BYTES as u64, i);
            Ok(())
        },
        |_| true,
    )
}

/// Does what is left on the current page(s) of a forward REP MOVS (`COPY`) or REP STOS, all but the last element, in one
/// go, in ordinary memory of 64-bit mode. Does nothing where there is nothing to gain.
fn bulk<T: Word, const COPY: bool>(core: &mut Core, i: &Insn) -> R {
    let size = T::BYTES as u64;
    if !i.has(REP) || core.regs[reg::RCX] < 8 || core.flags & (fl::DF | fl::TF) != 0 {
        return Ok(());
    }
    if !core.bits64() || i.address_mask() != u64::MAX || core.dr7 & 0xFF != 0 {
        return Ok(());
    }
    let to = core.regs[reg::RDI];
    let from = if COPY { core.source(1, i)? } else { to };
    let room = |la: u64| (PAGE - la % PAGE) / size;
    let count = (core.regs[reg::RCX] - 1).min(room(to)).min(room(from));
    let bytes = (count * size) as usize;
    let done = if COPY {
        // Elements that overlap ahead of themselves repeat a pattern: leave those to the loop.
        to.wrapping_sub(from) >= bytes as u64 && core.tlb.copy(core.mmu, from, to, bytes)
    } else {
        let value = T::get(&core.regs, reg::RAX as u8);
        core.tlb.fill_memory(core.mmu, to, value, count as usize)
    };
    if done {
        if COPY {
            core.regs[reg::RSI] = core.regs[reg::RSI].wrapping_add(bytes as u64);
        }
        core.regs[reg::RDI] = to.wrapping_add(bytes as u64);
        core.regs[reg::RCX] -= count;
    }
    Ok(())
}

/// LODS.
pub(crate) fn lods<T: Word>(core: &mut Core, i: &Insn) -> R {
    core.repeat(
        i,
        |core, i| {
            let from = core.source(T::BYTES as u64, i)?;
            let value: T = core.load_at(usize::from(i.seg), from)?;
            T::set(&mut core.regs, reg::RAX as u8, value);
            core.advance(reg::RSI, T::BYTES as u64, i);
            Ok(())
        },
        |_| true,
    )
}

/// REPE goes on while ZF, REPNE while not.
fn go_on(i: &Insn) -> impl Fn(&Core) -> bool {
    let equal = !i.has(REPNE);
    move |core| core.lazy.zf() == equal
}

/// SCAS.
pub(crate) fn scas<T: Word>(core: &mut Core, i: &Insn) -> R {
    core.repeat(
        i,
        |core, i| {
            let at = core.destination(T::BYTES as u64, Access::Read, i)?;
            let value: T = core.load_at(seg::ES, at)?;
            core.lazy = alu::sub(T::get(&core.regs, reg::RAX as u8), value, 0).1;
            core.advance(reg::RDI, T::BYTES as u64, i);
            Ok(())
        },
        go_on(i),
    )
}

/// CMPS.
pub(crate) fn cmps<T: Word>(core: &mut Core, i: &Insn) -> R {
    core.repeat(
        i,
        |core, i| {
            let from = core.source(T::BYTES as u64, i)?;
            let a: T = core.load_at(usize::from(i.seg), from)?;
            let at = core.destination(T::BYTES as u64, Access::Read, i)?;
            let b: T = core.load_at(seg::ES, at)?;
            core.lazy = alu::sub(a, b, 0).1;
            core.advance(reg::RSI, T::BYTES as u64, i);
            core.advance(reg::RDI, T::BYTES as u64, i);
            Ok(())
        },
        go_on(i),
    )
}
