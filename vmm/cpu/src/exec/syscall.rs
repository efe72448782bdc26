//! Fast system calls (SDM vol. 3A, §5.8.7 and §5.8.8), the way of Intel's processors.

use crate::core::{Core, Seg, cr};
use crate::fault::R;
use crate::flags::{Lazy, bits as fl};
use crate::insn::{Insn, LONG, reg, seg};
use crate::segment::null;

/// Flat 4 GiB, read and write, present, accessed; DPL 0.
const DATA: u32 = 0xC093;
/// Flat 4 GiB, execute and read, present, accessed, 32 bits; DPL 0.
const CODE32: u32 = 0xC09B;
/// The same for 64-bit mode.
const CODE64: u32 = 0xA09B;
/// DPL 3.
const USER: u32 = 0x60;

fn flat(selector: u16, access: u32) -> Seg {
    Seg { selector, base: 0, limit: u32::MAX, access }
}

/// SYSCALL.
pub(crate) fn syscall(core: &mut Core, _: &Insn) -> R {
    if core.efer & cr::EFER_SCE == 0 || !core.bits64() {
        return Err(core.ud());
    }
    core.regs[reg::RCX] = core.regs[reg::RIP];
    let flags = core.rflags();
    core.regs[reg::R11] = flags & !fl::RF;
    core.regs[reg::RIP] = core.msr.lstar;
    let after = flags & !core.msr.sfmask & !fl::RF;
    core.lazy = Lazy::from_bits(after);
    core.flags = after & fl::DEFINED & !fl::ARITH | fl::FIXED;
    let cs = (core.msr.star >> 32) as u16 & !3;
    core.seg[seg::CS] = flat(cs, CODE64);
    core.seg[seg::SS] = flat(cs.wrapping_add(8), DATA);
    core.refresh();
    if core.flags & fl::TF == 0 {
        // No trap behind a SYSCALL that has cleared TF.
        core.faulted = true;
    }
    Ok(())
}

/// SYSRET.
pub(crate) fn sysret(core: &mut Core, i: &Insn) -> R {
    if core.efer & cr::EFER_SCE == 0 || !core.bits64() {
        return Err(core.ud());
    }
    if core.cpl != 0 {
        return Err(core.gp(0));
    }
    let base = (core.msr.star >> 48) as u16;
    let rcx = core.regs[reg::RCX];
    let cs = if i.third == 8 {
        if !Core::canonical(rcx) {
            return Err(core.gp(0));
        }
        core.regs[reg::RIP] = rcx;
        flat(base.wrapping_add(16) | 3, CODE64 | USER)
    } else {
        core.regs[reg::RIP] = rcx & 0xFFFF_FFFF;
        flat(base | 3, CODE32 | USER)
    };
    core.seg[seg::CS] = cs;
    core.seg[seg::SS] = flat(base.wrapping_add(8) | 3, DATA | USER);
    core.change_flags(core.regs[reg::R11] & !(fl::RF | fl::VM), fl::DEFINED);
    core.refresh();
    Ok(())
}

/// SYSENTER.
pub(crate) fn sysenter(core: &mut Core, _: &Insn) -> R {
    let cs = core.msr.sysenter_cs as u16;
    if core.cr0 & cr::CR0_PE == 0 || null(cs) {
        return Err(core.gp(0));
    }
    let long = core.long_mode();
    core.flags &= !(fl::VM | fl::IF | fl::RF);
    let (rip, rsp) = (core.msr.sysenter_eip, core.msr.sysenter_esp);
    core.regs[reg::RIP] = if long { rip } else { rip & 0xFFFF_FFFF };
    core.regs[reg::RSP] = if long { rsp } else { rsp & 0xFFFF_FFFF };
    core.seg[seg::CS] = flat(cs & !3, if long { CODE64 } else { CODE32 });
    core.seg[seg::SS] = flat((cs & !3).wrapping_add(8), DATA);
    core.refresh();
    Ok(())
}

/// SYSEXIT.
pub(crate) fn sysexit(core: &mut Core, i: &Insn) -> R {
    let cs = core.msr.sysenter_cs as u16;
    if core.cr0 & cr::CR0_PE == 0 || null(cs) || core.cpl != 0 {
        return Err(core.gp(0));
    }
    let (rip, rsp) = (core.regs[reg::RDX], core.regs[reg::RCX]);
    let wide = i.third == 8 && i.has(LONG);
    if wide && !(Core::canonical(rip) && Core::canonical(rsp)) {
        return Err(core.gp(0));
    }
    let (distance, code, mask) = if wide { (32, CODE64, u64::MAX) } else { (16, CODE32, 0xFFFF_FFFF) };
    core.regs[reg::RIP] = rip & mask;
    core.regs[reg::RSP] = rsp & mask;
    core.seg[seg::CS] = flat(cs.wrapping_add(distance) | 3, code | USER);
    core.seg[seg::SS] = flat(cs.wrapping_add(distance + 8) | 3, DATA | USER);
    core.refresh();
    Ok(())
}
