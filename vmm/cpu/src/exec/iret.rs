//! IRET (SDM vol. 2A, IRET) and the instructions that interrupt.

use crate::core::{Core, Seg, cr};
use crate::fault::{R, vector};
use crate::flags::bits as fl;
use crate::insn::{Insn, reg, seg};
use crate::segment::rpl;

/// Flags that every level may change.
const ANY_LEVEL: u64 = fl::ARITH | fl::TF | fl::DF | fl::NT;
/// More of them, above bit 15.
const ANY_LEVEL_HIGH: u64 = fl::RF | fl::AC | fl::ID;

/// IRET, IRETD, IRETQ.
pub(crate) fn iret(core: &mut Core, i: &Insn) -> R {
    let size = u64::from(i.third);
    if core.cr0 & cr::CR0_PE == 0 {
        iret16(core, size, fl::IF | fl::IOPL)?;
    } else if core.flags & fl::VM != 0 {
        if core.iopl() < 3 {
            return Err(core.gp(0));
        }
        iret16(core, size, fl::IF)?;
    } else if core.flags & fl::NT != 0 {
        if core.long_mode() {
            return Err(core.gp(0));
        }
        core.return_to_task()?;
    } else {
        iret_protected(core, size)?;
    }
    if core.nmi_blocked {
        core.nmi_blocked = false;
        // Another NMI may have come meanwhile.
        core.recheck = true;
    }
    core.fresh_rf = core.flags & fl::RF;
    Ok(())
}

/// In real and virtual-8086 mode.
fn iret16(core: &mut Core, size: u64, more: u64) -> R {
    let ip = core.peek_sized(0, size)?;
    let cs = core.peek_sized(size, size)? as u16;
    let flags = core.peek_sized(2 * size, size)?;
    if ip > u64::from(core.seg[seg::CS].limit) {
        return Err(core.gp(0));
    }
    core.regs[reg::RIP] = ip;
    core.seg[seg::CS] = core.flat16(seg::CS, cs);
    core.set_sp(core.regs[reg::RSP].wrapping_add(3 * size));
    core.change_flags(flags, ANY_LEVEL | more | if size > 2 { ANY_LEVEL_HIGH } else { 0 });
    Ok(())
}

fn iret_protected(core: &mut Core, size: u64) -> R {
    let ip = core.peek_sized(0, size)?;
    let selector = core.peek_sized(size, size)? as u16;
    let flags = core.peek_sized(2 * size, size)?;
    if size == 4 && flags & fl::VM != 0 && core.cpl == 0 && !core.long_mode() {
        return to_v86(core, ip, selector, flags);
    }
    let mut mask = ANY_LEVEL;
    if core.cpl <= core.iopl() {
        mask |= fl::IF;
    }
    if core.cpl == 0 {
        mask |= fl::IOPL;
    }
    if size > 2 {
        mask |= ANY_LEVEL_HIGH | if core.cpl == 0 { fl::VIF | fl::VIP } else { 0 };
    }
    let code = core.return_code(selector)?;
    if core.bits64() || rpl(selector) > core.cpl {
        let sp = core.peek_sized(3 * size, size)?;
        let ss = core.peek_sized(4 * size, size)? as u16;
        let ss = core.return_stack(ss, rpl(selector), code)?;
        core.go_back(code, selector, ip, Some(ss), sp)?;
    } else {
        let sp = core.regs[reg::RSP].wrapping_add(3 * size);
        core.go_back(code, selector, ip, None, sp)?;
    }
    core.change_flags(flags, mask);
    Ok(())
}

/// To virtual-8086 mode (SDM vol. 3A, §21.2.5).
fn to_v86(core: &mut Core, ip: u64, cs: u16, flags: u64) -> R {
    let sp = core.peek_sized(12, 4)?;
    let mut selectors = [0; 5];
    for (k, selector) in selectors.iter_mut().enumerate() {
        *selector = core.peek_sized(16 + 4 * k as u64, 4)? as u16;
    }
    if ip > 0xFFFF {
        return Err(core.gp(0));
    }
    core.change_flags(flags, fl::DEFINED);
    let order = [seg::SS, seg::ES, seg::DS, seg::FS, seg::GS];
    for (which, selector) in order.into_iter().zip(selectors).chain([(seg::CS, cs)]) {
        core.seg[which] = Seg::real(selector, 0xF3);
    }
    core.regs[reg::RIP] = ip;
    core.regs[reg::RSP] = sp;
    core.refresh();
    Ok(())
}

/// INT n.
pub(crate) fn int_n(core: &mut Core, i: &Insn) -> R {
    if core.flags & fl::VM != 0 && core.iopl() < 3 {
        return Err(core.gp(0));
    }
    core.software_interrupt(i.imm as u8)
}

/// INT3.
pub(crate) fn int3(core: &mut Core, _: &Insn) -> R {
    core.software_interrupt(vector::BP)
}

/// INT1.
pub(crate) fn int1(core: &mut Core, _: &Insn) -> R {
    core.debug_interrupt()
}

/// INTO.
pub(crate) fn into(core: &mut Core, _: &Insn) -> R {
    if core.lazy.of() { core.software_interrupt(vector::OF) } else { Ok(()) }
}
