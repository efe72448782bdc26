//! Model-specific registers (SDM vol. 4, chapter 2).

use super::system::privileged;
use crate::apic::{MSR_APIC_BASE, MSR_TSC_DEADLINE, MSR_X2APIC, MSR_X2APIC_LAST, Refused};
use crate::core::{Core, cr};
use crate::cpuid::PHYSICAL_BITS;
use crate::fault::R;
use crate::insn::{Insn, reg, seg};
use crate::pv::Paravirt;
use crate::word::Word;

const IA32_TIME_STAMP_COUNTER: u32 = 0x10;
const IA32_PLATFORM_ID: u32 = 0x17;
const IA32_BIOS_SIGN_ID: u32 = 0x8B;
const IA32_MTRRCAP: u32 = 0xFE;
const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_SYSENTER_ESP: u32 = 0x175;
const IA32_SYSENTER_EIP: u32 = 0x176;
const IA32_MCG_CAP: u32 = 0x179;
const IA32_MCG_STATUS: u32 = 0x17A;
const IA32_MISC_ENABLE: u32 = 0x1A0;
const IA32_DEBUGCTL: u32 = 0x1D9;
const IA32_MTRR_PHYS: u32 = 0x200;
const IA32_MTRR_PHYS_LAST: u32 = IA32_MTRR_PHYS + 2 * MTRR_RANGES - 1;
const IA32_PAT: u32 = 0x277;
const IA32_MTRR_DEF_TYPE: u32 = 0x2FF;
const IA32_EFER: u32 = 0xC000_0080;
const IA32_STAR: u32 = 0xC000_0081;
const IA32_LSTAR: u32 = 0xC000_0082;
const IA32_CSTAR: u32 = 0xC000_0083;
const IA32_FMASK: u32 = 0xC000_0084;
const IA32_FS_BASE: u32 = 0xC000_0100;
const IA32_GS_BASE: u32 = 0xC000_0101;
const IA32_KERNEL_GS_BASE: u32 = 0xC000_0102;
const IA32_TSC_AUX: u32 = 0xC000_0103;

/// Variable ranges.
const MTRR_RANGES: u32 = 8;
/// IA32_MTRRCAP: variable ranges, fixed ranges, write-combining.
const MTRRCAP: u64 = MTRR_RANGES as u64 | 1 << 8 | 1 << 10;
/// IA32_MTRR_DEF_TYPE: type, FE, E.
const MTRR_DEF_TYPE: u64 = 0xCFF;
/// IA32_MISC_ENABLE: fast strings; and what is left out: BTS and PEBS.
const MISC_ENABLE_READ_ONLY: u64 = 1 << 11 | 1 << 12;
/// IA32_DEBUGCTL: LBR and BTF can be set; neither has an effect (there are no branch records; single steps stay steps of
/// one instruction).
const DEBUGCTL: u64 = 3;

/// Memory type range registers. Memory has no types here: they are remembered, no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mtrr {
    /// IA32_MTRR_DEF_TYPE.
    pub default: u64,
    /// Base and mask of the variable ranges.
    pub variable: [u64; 2 * MTRR_RANGES as usize],
    /// The fixed ranges: one of 64 KiB pieces, two of 16 KiB, eight of 4 KiB.
    pub fixed: [u64; 11],
}

/// Place of a fixed-range register.
fn fixed_range(index: u32) -> Option<usize> {
    match index {
        0x250 => Some(0),
        0x258..=0x259 => Some((index - 0x257) as usize),
        0x268..=0x26F => Some((index - 0x265) as usize),
        _ => None,
    }
}

/// UC, WC, WT, WP, WB.
fn mtrr_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6)
}

/// The same, and UC− (SDM vol. 3A, table 12-10).
fn pat_type(kind: u8) -> bool {
    mtrr_type(kind) || kind == 7
}

fn all_bytes(value: u64, fits: fn(u8) -> bool) -> bool {
    value.to_le_bytes().into_iter().all(fits)
}

impl Mtrr {
    fn read(&self, index: u32) -> Option<u64> {
        match index {
            IA32_MTRRCAP => Some(MTRRCAP),
            IA32_MTRR_DEF_TYPE => Some(self.default),
            IA32_MTRR_PHYS..=IA32_MTRR_PHYS_LAST => self.variable.get((index - IA32_MTRR_PHYS) as usize).copied(),
            _ => self.fixed.get(fixed_range(index)?).copied(),
        }
    }

    fn write(&mut self, index: u32, value: u64) -> Option<()> {
        let sound = match index {
            IA32_MTRR_DEF_TYPE => value & !MTRR_DEF_TYPE == 0 && mtrr_type(value as u8),
            IA32_MTRR_PHYS..=IA32_MTRR_PHYS_LAST if value >> PHYSICAL_BITS != 0 => false,
            IA32_MTRR_PHYS..=IA32_MTRR_PHYS_LAST if index.is_multiple_of(2) => {
                value & 0xF00 == 0 && mtrr_type(value as u8)
            }
            IA32_MTRR_PHYS..=IA32_MTRR_PHYS_LAST => value & 0x7FF == 0,
            _ => all_bytes(value, mtrr_type),
        };
        let place = match index {
            IA32_MTRR_DEF_TYPE => &mut self.default,
            IA32_MTRR_PHYS..=IA32_MTRR_PHYS_LAST => self.variable.get_mut((index - IA32_MTRR_PHYS) as usize)?,
            _ => self.fixed.get_mut(fixed_range(index)?)?,
        };
        *place = value;
        sound.then_some(())
    }
}

impl Core {
    /// The value of an MSR; `None` is #GP(0).
    pub(crate) fn read_msr(&mut self, index: u32) -> Option<u64> {
        let m = &self.msr;
        Some(match index {
            IA32_TIME_STAMP_COUNTER => self.tsc(),
            IA32_PLATFORM_ID | IA32_MCG_CAP | IA32_MCG_STATUS => 0,
            MSR_APIC_BASE => self.apic.base(),
            IA32_BIOS_SIGN_ID => m.microcode,
            IA32_SYSENTER_CS => m.sysenter_cs,
            IA32_SYSENTER_ESP => m.sysenter_esp,
            IA32_SYSENTER_EIP => m.sysenter_eip,
            IA32_MISC_ENABLE => m.misc_enable | MISC_ENABLE_READ_ONLY,
            IA32_DEBUGCTL => m.debugctl,
            IA32_PAT if self.features.pat => m.pat,
            MSR_TSC_DEADLINE => self.tsc_deadline().ok()?,
            MSR_X2APIC..=MSR_X2APIC_LAST => self.apic_msr_read(index).ok()?,
            IA32_EFER => self.efer,
            IA32_STAR => m.star,
            IA32_LSTAR => m.lstar,
            IA32_CSTAR => m.cstar,
            IA32_FMASK => m.sfmask,
            IA32_FS_BASE => self.seg[seg::FS].base,
            IA32_GS_BASE => self.seg[seg::GS].base,
            IA32_KERNEL_GS_BASE => m.kernel_gs_base,
            IA32_TSC_AUX if self.features.rdtscp => m.tsc_aux,
            _ if Paravirt::has(index, &self.features) => self.pv_read(index).ok()?,
            _ if self.features.mtrr => m.mtrr.read(index)?,
            _ => return None,
        })
    }

    /// Writes an MSR; `None` is #GP(0), with nothing changed.
    pub(crate) fn write_msr(&mut self, index: u32, value: u64) -> Option<()> {
        let address = Self::canonical(value).then_some(value);
        let accepted = |done: Result<(), Refused>| done.ok();
        match index {
            IA32_TIME_STAMP_COUNTER => self.set_tsc(value),
            MSR_APIC_BASE => return accepted(self.set_apic_base(value)),
            // Writing 0 asks for the revision, which stays what it is; nothing can be loaded.
            IA32_BIOS_SIGN_ID => {}
            IA32_MCG_STATUS if value == 0 => {}
            IA32_SYSENTER_CS => self.msr.sysenter_cs = value & 0xFFFF_FFFF,
            IA32_SYSENTER_ESP => self.msr.sysenter_esp = address?,
            IA32_SYSENTER_EIP => self.msr.sysenter_eip = address?,
            IA32_MISC_ENABLE => self.msr.misc_enable = value & !MISC_ENABLE_READ_ONLY,
            IA32_DEBUGCTL => self.msr.debugctl = (value & !DEBUGCTL == 0).then_some(value)?,
            IA32_PAT if self.features.pat => self.msr.pat = all_bytes(value, pat_type).then_some(value)?,
            MSR_TSC_DEADLINE => return accepted(self.set_tsc_deadline(value)),
            MSR_X2APIC..=MSR_X2APIC_LAST => return accepted(self.apic_msr_write(index, value)),
            IA32_EFER => return self.write_efer(value),
            IA32_STAR => self.msr.star = value,
            IA32_LSTAR => self.msr.lstar = address?,
            IA32_CSTAR => self.msr.cstar = address?,
            IA32_FMASK => self.msr.sfmask = value & 0xFFFF_FFFF,
            IA32_FS_BASE => self.seg[seg::FS].base = address?,
            IA32_GS_BASE => self.seg[seg::GS].base = address?,
            IA32_KERNEL_GS_BASE => self.msr.kernel_gs_base = address?,
            IA32_TSC_AUX if self.features.rdtscp => self.msr.tsc_aux = (value >> 32 == 0).then_some(value)?,
            _ if Paravirt::has(index, &self.features) => return accepted(self.pv_write(index, value)),
            _ if self.features.mtrr => {
                let mut new = self.msr.mtrr.clone();
                new.write(index, value)?;
                self.msr.mtrr = new;
            }
            _ => return None,
        }
        Some(())
    }

    /// EFER (SDM vol. 3A, §2.2.1): LMA is read-only, LME changes only while paging is off.
    fn write_efer(&mut self, value: u64) -> Option<()> {
        let f = &self.features;
        let on = |announced: bool, bit: u64| if announced { bit } else { 0 };
        let writable = on(f.syscall, cr::EFER_SCE) | on(f.lm, cr::EFER_LME) | on(f.nx, cr::EFER_NXE);
        if value & !(writable | cr::EFER_LMA) != 0 {
            return None;
        }
        let new = value & writable | self.efer & cr::EFER_LMA;
        let changed = self.efer ^ new;
        if changed & cr::EFER_LME != 0 && self.cr0 & cr::CR0_PG != 0 {
            return None;
        }
        self.efer = new;
        if changed & cr::EFER_NXE != 0 {
            self.flush_tlb();
            self.leave_block = true;
        }
        self.refresh();
        Some(())
    }
}

/// RDMSR.
pub(crate) fn rdmsr(core: &mut Core, _: &Insn) -> R {
    privileged(core)?;
    let Some(value) = core.read_msr(core.regs[reg::RCX] as u32) else { return Err(core.gp(0)) };
    u32::set(&mut core.regs, reg::RAX as u8, value as u32);
    u32::set(&mut core.regs, reg::RDX as u8, (value >> 32) as u32);
    Ok(())
}

/// WRMSR.
pub(crate) fn wrmsr(core: &mut Core, _: &Insn) -> R {
    privileged(core)?;
    let value = core.regs[reg::RDX] << 32 | core.regs[reg::RAX] & 0xFFFF_FFFF;
    if core.write_msr(core.regs[reg::RCX] as u32, value).is_none() {
        return Err(core.gp(0));
    }
    core.leave_block |= core.recheck;
    Ok(())
}
