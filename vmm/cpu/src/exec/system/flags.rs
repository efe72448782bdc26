//! Flags as a whole, and the interrupt flag.

use crate::core::{Core, Shadow, cr};
use crate::fault::R;
use crate::flags::bits as fl;
use crate::insn::{Insn, reg};
use crate::mem::Mmu;
use crate::segment::Stack;

/// CLI and STI: allowed at IOPL (SDM vol. 2A, CLI). In real mode the level is 0.
fn may_change_if(core: &mut Core) -> R {
    if core.cpl <= core.iopl() { Ok(()) } else { Err(core.gp(0)) }
}

/// CLI.
pub(crate) fn cli(core: &mut Core, _: &Insn) -> R {
    may_change_if(core)?;
    core.flags &= !fl::IF;
    Ok(())
}

/// STI: interrupts are held off for one more instruction if they were before.
///
/// The run loop only looks when something waits. Otherwise nothing can come before the end of a slice, and the shadow, if
/// it is still there then, holds it off for an instruction more than it would have to.
pub(crate) fn sti(core: &mut Core, _: &Insn) -> R {
    may_change_if(core)?;
    if core.flags & fl::IF == 0 {
        core.flags |= fl::IF;
        core.shadow = Shadow::None;
        core.recheck |= core.interrupt_waits();
        core.shadow = Shadow::Sti;
        core.leave_block |= core.recheck;
    }
    Ok(())
}

/// PUSHF, of `i.third` bytes.
pub(crate) fn pushf(core: &mut Core, i: &Insn) -> R {
    if core.flags & fl::VM != 0 && core.iopl() < 3 {
        return Err(core.gp(0));
    }
    let image = core.rflags() & !(fl::VM | fl::RF);
    let mut stack = Stack::current(core, 0);
    stack.push(core, u64::from(i.third), image)?;
    core.regs[reg::RSP] = stack.sp;
    Ok(())
}

/// POPF, of `i.third` bytes (SDM vol. 2B, table 4-15).
pub(crate) fn popf(core: &mut Core, i: &Insn) -> R {
    let size = u64::from(i.third);
    let v86 = core.flags & fl::VM != 0;
    if v86 && core.iopl() < 3 {
        return Err(core.gp(0));
    }
    let image = core.peek_sized(0, size)?;
    let mut mask = fl::ARITH | fl::TF | fl::DF | fl::NT;
    if core.cpl <= core.iopl() {
        mask |= fl::IF;
    }
    if core.cpl == 0 {
        mask |= fl::IOPL;
    }
    if size > 2 {
        // RF becomes 0 whatever is popped.
        mask |= fl::AC | fl::ID | fl::RF;
    }
    core.set_sp(core.regs[reg::RSP].wrapping_add(size));
    core.change_flags(image & !fl::RF, mask);
    core.leave_block |= core.recheck;
    Ok(())
}

fn set_ac(core: &mut Core, on: bool) -> R {
    if core.cpl != 0 || core.flags & fl::VM != 0 {
        return Err(core.ud());
    }
    core.flags = core.flags & !fl::AC | if on { fl::AC } else { 0 };
    core.mmu = if on { Mmu::SupervisorAc } else { Mmu::Supervisor };
    Ok(())
}

/// STAC.
pub(crate) fn stac(core: &mut Core, _: &Insn) -> R {
    set_ac(core, true)
}

/// CLAC.
pub(crate) fn clac(core: &mut Core, _: &Insn) -> R {
    set_ac(core, false)
}

/// CLTS.
pub(crate) fn clts(core: &mut Core, _: &Insn) -> R {
    super::privileged(core)?;
    core.cr0 &= !cr::CR0_TS;
    core.refresh();
    Ok(())
}
