//! System instructions.

pub(crate) mod control;
pub(crate) mod flags;
pub(crate) mod misc;
pub(crate) mod port;
pub(crate) mod segments;
pub(crate) mod tables;

use crate::core::Core;
use crate::fault::R;
use crate::insn::{Insn, seg};
use crate::mem::{Access, Plain};
use crate::word::Word;

/// An operand of 16 bits: register `src`, or memory.
fn operand16<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R<u16> {
    if MEMORY { core.load::<u16>(i) } else { Ok(u16::get(&core.regs, i.src)) }
}

/// Writes a result: 16 bits to memory, or `i.third` bytes to register `dst`.
fn result16<const MEMORY: bool>(core: &mut Core, i: &Insn, value: u64) -> R {
    if MEMORY {
        return core.store(i, value as u16);
    }
    set_register(core, i.dst, i.third, value);
    Ok(())
}

/// Writes the low `size` bytes to a general register.
fn set_register(core: &mut Core, number: u8, size: u8, value: u64) {
    match size {
        8 => u64::set(&mut core.regs, number, value),
        4 => u32::set(&mut core.regs, number, value as u32),
        _ => u16::set(&mut core.regs, number, value as u16),
    }
}

/// Only for level 0, else #GP(0).
#[inline(always)]
pub(crate) fn privileged(core: &mut Core) -> R {
    if core.cpl == 0 { Ok(()) } else { Err(core.gp(0)) }
}

/// Linear address of the memory operand without any check: for instructions that do not access it.
fn bare_linear(core: &Core, i: &Insn) -> u64 {
    let offset = core.offset(i);
    let which = usize::from(i.seg);
    let base = core.seg[which & 7].base;
    if !core.bits64() {
        base.wrapping_add(offset) & 0xFFFF_FFFF
    } else if which == seg::FS || which == seg::GS {
        base.wrapping_add(offset)
    } else {
        offset
    }
}

/// Reads at a distance from the start of the memory operand, of which `size` bytes count.
fn load_part<T: Plain>(core: &mut Core, i: &Insn, size: u64, distance: u64) -> R<T> {
    let at = core.linear(i, size, Access::Read)?.wrapping_add(distance);
    let at = if core.bits64() { at } else { at & 0xFFFF_FFFF };
    core.load_at(usize::from(i.seg), at)
}

/// Moves SI, DI or CX, as wide as addresses are.
fn set_counter(core: &mut Core, i: &Insn, number: usize, value: u64) {
    let mask = i.address_mask();
    let r = &mut core.regs[number];
    *r = if mask == 0xFFFF { *r & !mask | value & mask } else { value & mask };
}

/// Does nothing.
pub(crate) fn nothing(_: &mut Core, _: &Insn) -> R {
    Ok(())
}

/// A hint to the processor's caches that a page fault must still come of: CLFLUSH, CLFLUSHOPT.
pub(crate) fn touch(core: &mut Core, i: &Insn) -> R {
    let at = core.linear(i, 1, Access::Read)?;
    core.probe(core.mmu, usize::from(i.seg), at, 1, Access::Read)
}
