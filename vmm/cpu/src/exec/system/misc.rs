//! Identification, time, randomness, halting, and the bases of FS and GS.

use super::{privileged, set_register};
use crate::core::{Core, Shadow, cr};
use crate::fault::R;
use crate::flags::{Lazy, bits as fl};
use crate::insn::{Insn, reg, seg};
use crate::word::Word;

fn set_pair(core: &mut Core, value: u64) {
    u32::set(&mut core.regs, reg::RAX as u8, value as u32);
    u32::set(&mut core.regs, reg::RDX as u8, (value >> 32) as u32);
}

/// CPUID.
pub(crate) fn cpuid(core: &mut Core, _: &Insn) -> R {
    let output = core.cpuid_leaf(core.regs[reg::RAX] as u32, core.regs[reg::RCX] as u32);
    for (number, value) in [reg::RAX, reg::RBX, reg::RCX, reg::RDX].into_iter().zip(output) {
        core.regs[number] = u64::from(value);
    }
    Ok(())
}

/// CR4.TSD: the time is not for programs.
fn may_read_time(core: &mut Core) -> R {
    if core.cr4 & cr::CR4_TSD != 0 && core.cpl != 0 { Err(core.gp(0)) } else { Ok(()) }
}

/// RDTSC.
pub(crate) fn rdtsc(core: &mut Core, _: &Insn) -> R {
    may_read_time(core)?;
    let tsc = core.tsc();
    set_pair(core, tsc);
    Ok(())
}

/// RDTSCP.
pub(crate) fn rdtscp(core: &mut Core, i: &Insn) -> R {
    rdtsc(core, i)?;
    core.regs[reg::RCX] = core.msr.tsc_aux & 0xFFFF_FFFF;
    Ok(())
}

/// There are no counters: RDPMC.
pub(crate) fn protection(core: &mut Core, _: &Insn) -> R {
    Err(core.gp(0))
}

/// RDRAND and RDSEED always have a number: CF set, the other arithmetic flags clear.
pub(crate) fn random(core: &mut Core, i: &Insn) -> R {
    let value = core.random();
    set_register(core, i.dst, i.third, value);
    core.lazy = Lazy::from_bits(fl::CF);
    Ok(())
}

/// HLT.
pub(crate) fn hlt(core: &mut Core, _: &Insn) -> R {
    privileged(core)?;
    core.halted = true;
    core.shadow = Shadow::None;
    core.recheck = true;
    Ok(())
}

/// PAUSE: this processor waits for another one, which may have its turn now.
pub(crate) fn pause(core: &mut Core, _: &Insn) -> R {
    core.yields = true;
    core.recheck = true;
    Ok(())
}

/// INVD, WBINVD: there are no caches to write back.
pub(crate) fn for_kernels(core: &mut Core, _: &Insn) -> R {
    privileged(core)
}

/// SWAPGS.
pub(crate) fn swapgs(core: &mut Core, _: &Insn) -> R {
    privileged(core)?;
    std::mem::swap(&mut core.seg[seg::GS].base, &mut core.msr.kernel_gs_base);
    Ok(())
}

/// RDFSBASE and RDGSBASE: the segment is in `imm`.
pub(crate) fn read_base(core: &mut Core, i: &Insn) -> R {
    if core.cr4 & cr::CR4_FSGSBASE == 0 {
        return Err(core.ud());
    }
    let base = core.seg[i.imm as usize & 7].base;
    set_register(core, i.dst, i.third, base);
    Ok(())
}

/// WRFSBASE and WRGSBASE: the segment is in `imm`.
pub(crate) fn write_base(core: &mut Core, i: &Insn) -> R {
    if core.cr4 & cr::CR4_FSGSBASE == 0 {
        return Err(core.ud());
    }
    let base = core.regs[usize::from(i.dst & 15)];
    let base = if i.third == 4 { base & 0xFFFF_FFFF } else { base };
    if !Core::canonical(base) {
        return Err(core.gp(0));
    }
    core.seg[i.imm as usize & 7].base = base;
    Ok(())
}

/// VMCALL and VMMCALL: this "KVM" has no hypercalls and says so (Linux: Documentation/virt/kvm/x86/hypercalls.rst).
pub(crate) fn hypercall(core: &mut Core, _: &Insn) -> R {
    const ENOSYS: i64 = -1000;
    const EPERM: i64 = -1;
    let answer = if core.cpl == 0 { ENOSYS } else { EPERM } as u64;
    core.regs[reg::RAX] = if core.bits64() { answer } else { answer & 0xFFFF_FFFF };
    Ok(())
}

/// BOUND, of `i.third` bytes: #BR outside the two bounds.
pub(crate) fn bound(core: &mut Core, i: &Insn) -> R {
    let size = u64::from(i.third);
    let outside = if i.third == 2 {
        let low = super::load_part::<u16>(core, i, 2 * size, 0)? as i16;
        let high = super::load_part::<u16>(core, i, 2 * size, size)? as i16;
        let index = u16::get(&core.regs, i.dst) as i16;
        index < low || index > high
    } else {
        let low = super::load_part::<u32>(core, i, 2 * size, 0)? as i32;
        let high = super::load_part::<u32>(core, i, 2 * size, size)? as i32;
        let index = u32::get(&core.regs, i.dst) as i32;
        index < low || index > high
    };
    if outside { Err(core.raise(crate::fault::vector::BR)) } else { Ok(()) }
}
