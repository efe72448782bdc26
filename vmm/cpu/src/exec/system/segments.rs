//! Segment registers in MOV, PUSH, POP and the far pointer loads; questions about selectors.

use super::{operand16, result16, set_register};
use crate::core::{Core, Shadow, cr};
use crate::fault::R;
use crate::flags::bits as fl;
use crate::insn::{Insn, reg, seg};
use crate::segment::{Descriptor, Stack, kind, null, rpl};
use crate::word::Word;

/// After MOV SS and POP SS interrupts and traps wait for the next instruction (SDM vol. 3A, §6.8.3).
fn shade(core: &mut Core, which: usize) {
    if which == seg::SS {
        core.shadow = Shadow::MovSs;
        core.recheck = true;
    }
}

/// MOV Sreg, r/m16.
pub(crate) fn mov_to<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    let selector = operand16::<MEMORY>(core, i)?;
    let which = usize::from(i.dst);
    core.load_segment(which, selector)?;
    shade(core, which);
    Ok(())
}

/// MOV r/m16, Sreg.
pub(crate) fn mov_from<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    let selector = core.seg[usize::from(i.src & 7)].selector;
    result16::<MEMORY>(core, i, u64::from(selector))
}

/// PUSH Sreg.
pub(crate) fn push(core: &mut Core, i: &Insn) -> R {
    let selector = core.seg[usize::from(i.dst & 7)].selector;
    let mut stack = Stack::current(core, 0);
    stack.push(core, u64::from(i.third), u64::from(selector))?;
    core.regs[reg::RSP] = stack.sp;
    Ok(())
}

/// POP Sreg.
pub(crate) fn pop(core: &mut Core, i: &Insn) -> R {
    let size = u64::from(i.third);
    let selector = core.peek_sized(0, size)? as u16;
    let (which, mask) = (usize::from(i.dst), core.stack_mask);
    core.load_segment(which, selector)?;
    // The stack that was popped from, even if this was POP SS.
    let sp = core.regs[reg::RSP].wrapping_add(size);
    let rsp = &mut core.regs[reg::RSP];
    *rsp = if mask == 0xFFFF { *rsp & !mask | sp & mask } else { sp & mask };
    shade(core, which);
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS: the segment register is in `imm`, the operand size in `third`.
pub(crate) fn load_far(core: &mut Core, i: &Insn) -> R {
    let (selector, offset) = core.far_pointer(i, u64::from(i.third))?;
    core.load_segment(i.imm as usize, selector)?;
    set_register(core, i.dst, i.third, offset);
    Ok(())
}

fn set_zf(core: &mut Core, on: bool) {
    core.change_flags(if on { fl::ZF } else { 0 }, fl::ZF);
}

/// In real and virtual-8086 mode these do not exist.
pub(super) fn protected_only(core: &mut Core) -> R {
    if core.cr0 & cr::CR0_PE != 0 && core.flags & fl::VM == 0 { Ok(()) } else { Err(core.ud()) }
}

/// The descriptor that LAR, LSL, VERR or VERW asks about, if this level may see it.
fn visible(core: &mut Core, selector: u16) -> R<Option<Descriptor>> {
    if null(selector) {
        return Ok(None);
    }
    let level = core.cpl.max(rpl(selector));
    Ok(core.descriptor(selector)?.filter(|d| d.conforming() || level <= d.dpl()))
}

/// LAR.
pub(crate) fn lar<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    let selector = operand16::<MEMORY>(core, i)?;
    let long = core.long_mode();
    let d = visible(core, selector)?.filter(|d| {
        d.is_segment()
            || match d.kind() & !kind::BUSY {
                kind::TSS => true,
                kind::CALL => true,
                kind::TSS16 | kind::CALL16 | kind::TASK_GATE => !long && d.kind() != 7 && d.kind() != 6,
                _ => d.kind() == kind::LDT,
            } && d.kind() != kind::INTERRUPT
    });
    if let Some(d) = d {
        set_register(core, i.dst, i.third, d.raw >> 32 & 0x00F0_FF00);
    }
    set_zf(core, d.is_some());
    Ok(())
}

/// LSL.
pub(crate) fn lsl<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    let selector = operand16::<MEMORY>(core, i)?;
    let long = core.long_mode();
    let d = visible(core, selector)?.filter(|d| {
        d.is_segment()
            || d.kind() == kind::LDT
            || match d.kind() & !kind::BUSY {
                kind::TSS => true,
                kind::TSS16 => !long,
                _ => false,
            }
    });
    if let Some(d) = d {
        set_register(core, i.dst, i.third, u64::from(d.limit()));
    }
    set_zf(core, d.is_some());
    Ok(())
}

/// VERR.
pub(crate) fn verr<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    let selector = operand_dst::<MEMORY>(core, i)?;
    let readable = visible(core, selector)?.is_some_and(Descriptor::readable);
    set_zf(core, readable);
    Ok(())
}

/// VERW.
pub(crate) fn verw<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    let selector = operand_dst::<MEMORY>(core, i)?;
    let writable = visible(core, selector)?.is_some_and(Descriptor::writable);
    set_zf(core, writable);
    Ok(())
}

/// The only operand, of 16 bits.
pub(super) fn operand_dst<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R<u16> {
    if MEMORY { core.load::<u16>(i) } else { Ok(u16::get(&core.regs, i.dst)) }
}

/// ARPL.
pub(crate) fn arpl<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    let wanted = u16::get(&core.regs, i.src) & 3;
    let raise = |old: u16| if old & 3 < wanted { (old & !3 | wanted, true) } else { (old, false) };
    let raised = if MEMORY {
        core.rmw::<u16, bool>(i, raise)?
    } else {
        let (new, raised) = raise(u16::get(&core.regs, i.dst));
        u16::set(&mut core.regs, i.dst, new);
        raised
    };
    set_zf(core, raised);
    Ok(())
}
