//! Control and debug registers (SDM vol. 3A, §2.5; vol. 3B, §18.2; vol. 2B, MOV).

use super::{bare_linear, privileged};
use crate::core::{Core, cr};
use crate::cpuid::PHYSICAL_BITS;
use crate::fault::{R, vector};
use crate::insn::{Insn, LONG};
use crate::mem::Access;
use crate::segment::kind;

/// Bits of CR0 that exist.
const CR0: u64 = cr::CR0_PE
    | cr::CR0_MP
    | cr::CR0_EM
    | cr::CR0_TS
    | cr::CR0_ET
    | cr::CR0_NE
    | cr::CR0_WP
    | cr::CR0_AM
    | cr::CR0_NW
    | cr::CR0_CD
    | cr::CR0_PG;
/// CR4 bits whose change makes PAE paging load its four pointers again (SDM vol. 3A, §4.4.1).
const CR4_PDPTE: u64 = cr::CR4_PAE | cr::CR4_PGE | cr::CR4_PSE | cr::CR4_SMEP;
/// CR4 bits that translations depend on.
const CR4_PAGING: u64 = CR4_PDPTE | cr::CR4_PCIDE | cr::CR4_SMAP;
/// DR6 bits that always read as 1.
const DR6_ONES: u64 = 0xFFFF_0FF0;
/// DR6 bits that can be written: B0–B3, BD, BS, BT.
const DR6_WRITABLE: u64 = 0xE00F;
/// DR6.BD: a debug register was accessed with DR7.GD set.
const DR6_BD: u64 = 1 << 13;
/// DR7 bits that always read as 1.
const DR7_ONES: u64 = 0x400;
/// DR7 bits that can be written: L0–G3, LE, GE, GD and the conditions.
const DR7_WRITABLE: u64 = 0xFFFF_23FF;
const DR7_GD: u64 = 1 << 13;

impl Core {
    fn cr4_allowed(&self) -> u64 {
        let f = &self.features;
        let on = |announced: bool, bit: u64| if announced { bit } else { 0 };
        cr::CR4_MCE
            | cr::CR4_PCE
            | on(f.tsc, cr::CR4_TSD)
            | on(f.de, cr::CR4_DE)
            | on(f.pse, cr::CR4_PSE)
            | on(f.pae, cr::CR4_PAE)
            | on(f.pge, cr::CR4_PGE)
            | on(f.fxsr, cr::CR4_OSFXSR)
            | on(f.sse, cr::CR4_OSXMMEXCPT)
            | on(f.umip, cr::CR4_UMIP)
            | on(f.fsgsbase, cr::CR4_FSGSBASE)
            | on(f.pcid, cr::CR4_PCIDE)
            | on(f.xsave, cr::CR4_OSXSAVE)
            | on(f.smep, cr::CR4_SMEP)
            | on(f.smap, cr::CR4_SMAP)
    }

    /// PAE paging without IA-32e mode.
    fn legacy_pae(&self) -> bool {
        self.cr0 & cr::CR0_PG != 0 && self.cr4 & cr::CR4_PAE != 0 && !self.long_mode()
    }

    /// The four page-directory pointers that `cr3` points to: #GP(0) for reserved bits (SDM vol. 3A, §4.4.1).
    fn load_pdptes(&mut self, cr3: u64) -> R<[u64; 4]> {
        let reserved = 0x1E6 | u64::MAX << PHYSICAL_BITS;
        let mut new = [0; 4];
        for (at, pdpte) in (cr3 & 0xFFFF_FFE0..).step_by(8).zip(&mut new) {
            *pdpte = self.tlb.map().read::<u64>(at).unwrap_or(u64::MAX);
            if *pdpte & 1 != 0 && *pdpte & reserved != 0 {
                return Err(self.gp(0));
            }
        }
        Ok(new)
    }

    /// Loads them after a task switch has changed CR3.
    pub(crate) fn load_pdptes_again(&mut self) -> R {
        self.pdptes = self.load_pdptes(self.cr3)?;
        Ok(())
    }

    /// Writes CR0.
    pub(crate) fn write_cr0(&mut self, value: u64) -> R {
        let has = |bit: u64| value & bit != 0;
        let bad = value >> 32 != 0
            || has(cr::CR0_PG) && !has(cr::CR0_PE)
            || has(cr::CR0_NW) && !has(cr::CR0_CD)
            || !has(cr::CR0_PG) && (self.cr4 & cr::CR4_PCIDE != 0 || self.bits64());
        if bad {
            return Err(self.gp(0));
        }
        let value = value & CR0 | cr::CR0_ET;
        let changed = self.cr0 ^ value;
        let starts_paging = changed & value & cr::CR0_PG != 0;
        let mut efer = self.efer;
        if starts_paging && efer & cr::EFER_LME != 0 {
            let pae = self.cr4 & cr::CR4_PAE != 0;
            // The TSS must not be one of 16 bits (SDM vol. 3A, §9.8.5.4).
            let tss16 = self.tr.usable() && self.tr.kind() as u8 & !kind::BUSY == kind::TSS16;
            if !pae || self.seg[crate::insn::seg::CS].long() || tss16 {
                return Err(self.gp(0));
            }
            efer |= cr::EFER_LMA;
        } else if !has(cr::CR0_PG) {
            efer &= !cr::EFER_LMA;
        }
        let pae = has(cr::CR0_PG) && self.cr4 & cr::CR4_PAE != 0 && efer & cr::EFER_LMA == 0;
        if pae && changed & (cr::CR0_PG | cr::CR0_CD | cr::CR0_NW) != 0 {
            self.pdptes = self.load_pdptes(self.cr3)?;
        }
        self.cr0 = value;
        self.efer = efer;
        if changed & (cr::CR0_PG | cr::CR0_WP | cr::CR0_PE) != 0 {
            self.flush_tlb();
        }
        self.refresh();
        Ok(())
    }

    /// Writes CR3.
    fn write_cr3(&mut self, value: u64) -> R {
        let pcid = self.cr4 & cr::CR4_PCIDE != 0;
        // Bit 63: translations of the new PCID may stay. None are kept here.
        let value = if pcid { value & !(1 << 63) } else { value };
        if self.long_mode() && value >> PHYSICAL_BITS != 0 {
            return Err(self.gp(0));
        }
        if self.legacy_pae() {
            self.pdptes = self.load_pdptes(value)?;
        }
        self.cr3 = value;
        self.flush_tlb();
        Ok(())
    }

    /// Writes CR4.
    fn write_cr4(&mut self, value: u64) -> R {
        let changed = self.cr4 ^ value;
        let sets_pcide = changed & value & cr::CR4_PCIDE != 0;
        let bad = value & !self.cr4_allowed() != 0
            || self.long_mode() && value & cr::CR4_PAE == 0
            || sets_pcide && (!self.long_mode() || self.cr3 & 0xFFF != 0);
        if bad {
            return Err(self.gp(0));
        }
        let pae = self.cr0 & cr::CR0_PG != 0 && value & cr::CR4_PAE != 0 && !self.long_mode();
        if pae && changed & CR4_PDPTE != 0 {
            self.pdptes = self.load_pdptes(self.cr3)?;
        }
        self.cr4 = value;
        if changed & CR4_PAGING != 0 {
            self.flush_tlb();
        }
        self.refresh();
        Ok(())
    }

    /// What every access to a debug register is checked for. Returns the register's number: DR4 and DR5 are DR6 and DR7
    /// while CR4.DE is clear (SDM vol. 3B, §18.2.2).
    fn debug_register(&mut self, number: u8) -> R<usize> {
        let number = match number {
            4 | 5 if self.cr4 & cr::CR4_DE != 0 => return Err(self.ud()),
            4 | 5 => number + 2,
            _ => number,
        };
        privileged(self)?;
        if self.dr7 & DR7_GD != 0 {
            self.dr6 |= DR6_BD;
            return Err(self.raise(vector::DB));
        }
        Ok(usize::from(number))
    }
}

fn register(core: &Core, i: &Insn, number: u8) -> u64 {
    let value = core.regs[usize::from(number & 15)];
    if i.has(LONG) { value } else { value & 0xFFFF_FFFF }
}

fn set_register(core: &mut Core, i: &Insn, number: u8, value: u64) {
    core.regs[usize::from(number & 15)] = if i.has(LONG) { value } else { value & 0xFFFF_FFFF };
}

/// MOV CRn, r.
pub(crate) fn to_cr(core: &mut Core, i: &Insn) -> R {
    privileged(core)?;
    let value = register(core, i, i.src);
    match i.dst {
        0 => core.write_cr0(value),
        2 => {
            core.cr2 = value;
            Ok(())
        }
        3 => core.write_cr3(value),
        4 => core.write_cr4(value),
        8 => match u8::try_from(value) {
            Ok(class @ 0..16) => {
                core.set_cr8(class);
                Ok(())
            }
            _ => Err(core.gp(0)),
        },
        _ => Err(core.ud()),
    }
}

/// MOV r, CRn.
pub(crate) fn from_cr(core: &mut Core, i: &Insn) -> R {
    privileged(core)?;
    let value = match i.src {
        0 => core.cr0,
        2 => core.cr2,
        3 => core.cr3,
        4 => core.cr4,
        8 => core.cr8(),
        _ => return Err(core.ud()),
    };
    set_register(core, i, i.dst, value);
    Ok(())
}

/// MOV DRn, r.
pub(crate) fn to_dr(core: &mut Core, i: &Insn) -> R {
    let value = register(core, i, i.src);
    let number = core.debug_register(i.dst)?;
    if number >= 6 && value >> 32 != 0 {
        return Err(core.gp(0));
    }
    match number {
        0..4 => core.dr[number] = value,
        6 => core.dr6 = value & DR6_WRITABLE | DR6_ONES,
        _ => core.dr7 = value & DR7_WRITABLE | DR7_ONES,
    }
    // Pages with watchpoints stay out of the translation cache, and every instruction is looked at.
    if number != 6 {
        core.flush_tlb();
        core.recheck = true;
    }
    Ok(())
}

/// MOV r, DRn.
pub(crate) fn from_dr(core: &mut Core, i: &Insn) -> R {
    let value = match core.debug_register(i.src)? {
        number @ 0..4 => core.dr[number],
        6 => core.dr6,
        _ => core.dr7,
    };
    set_register(core, i, i.dst, value);
    Ok(())
}

/// LMSW: the low four bits of CR0; PE is never cleared.
pub(crate) fn lmsw<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    privileged(core)?;
    let value = u64::from(super::segments::operand_dst::<MEMORY>(core, i)?);
    core.write_cr0(core.cr0 & !0xE | value & 0xF)
}

/// INVLPG.
pub(crate) fn invlpg(core: &mut Core, i: &Insn) -> R {
    privileged(core)?;
    let la = bare_linear(core, i);
    core.tlb.flush_page(la);
    core.stamp += 1;
    Ok(())
}

/// INVPCID (SDM vol. 2A). All translations go, which every type allows.
pub(crate) fn invpcid(core: &mut Core, i: &Insn) -> R {
    if core.cr0 & cr::CR0_PE != 0 {
        privileged(core)?;
    }
    let what = register(core, i, i.dst);
    let at = core.linear(i, 16, Access::Read)?;
    let descriptor = core.load_at::<u128>(usize::from(i.seg), at)?;
    let (pcid, la) = (descriptor as u64, (descriptor >> 64) as u64);
    let unused = pcid & 0xFFF != 0 && core.cr4 & cr::CR4_PCIDE == 0;
    let bad = what > 3 || pcid >> 12 != 0 || what < 2 && unused || what == 0 && !Core::canonical(la);
    if bad {
        return Err(core.gp(0));
    }
    core.flush_tlb();
    Ok(())
}
