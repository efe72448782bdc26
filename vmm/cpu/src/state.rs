//! A processor's state as plain data: between two instructions, in and out.

use crate::apic::BASE_ENABLED;
use crate::core::{Core, Seg, Table, cr};
use crate::flags::bits as fl;
use crate::insn::{reg, seg};
use crate::pv::{MSR_STEAL_TIME, MSR_SYSTEM_TIME, MSR_WALL_CLOCK, Paravirt};
use crate::x87::Fpu;

/// What a program on the processor can see of it, but its local APIC and time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub struct State {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub regs: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS.
    pub seg: [Seg; 6],
    pub tr: Seg,
    pub ldtr: Seg,
    pub gdtr: Table,
    pub idtr: Table,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    pub apic_base: u64,
    pub dr: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,
    pub fpu: Fpu,
    pub xmm: [u128; 16],
    pub mxcsr: u32,
    /// Number and value of model-specific registers, ascending.
    pub msrs: Vec<(u32, u64)>,
}

/// A state that the processor cannot be in: the name of the field that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no processor can have this in {field}")]
pub struct BadState {
    /// Name of the field.
    pub field: &'static str,
    /// The model-specific register, if that is what was refused.
    pub msr: Option<u32>,
}

/// IA32_MTRR_DEF_TYPE, and what can be in it: type, FE, E.
const MTRR_DEF_TYPE: u32 = 0x2FF;
const MTRR_DEF_TYPE_DEFINED: u64 = 0xCFF;

/// Model-specific registers that belong to the state.
const MSRS: &[u32] = &[
    0x174,
    0x175,
    0x176,
    0x1A0,
    0x277,
    MTRR_DEF_TYPE,
    MSR_WALL_CLOCK,
    MSR_SYSTEM_TIME,
    MSR_STEAL_TIME,
    0xC000_0081,
    0xC000_0082,
    0xC000_0083,
    0xC000_0084,
    0xC000_0102,
    0xC000_0103,
];

const CR0_DEFINED: u64 = cr::CR0_PE
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
const CR4_DEFINED: u64 = cr::CR4_TSD
    | cr::CR4_DE
    | cr::CR4_PSE
    | cr::CR4_PAE
    | cr::CR4_PGE
    | cr::CR4_PCE
    | cr::CR4_OSFXSR
    | cr::CR4_OSXMMEXCPT
    | cr::CR4_UMIP
    | cr::CR4_FSGSBASE
    | cr::CR4_PCIDE
    | cr::CR4_OSXSAVE
    | cr::CR4_SMEP
    | cr::CR4_SMAP;
const EFER_DEFINED: u64 = cr::EFER_SCE | cr::EFER_LME | cr::EFER_LMA | cr::EFER_NXE;

impl Core {
    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            regs: std::array::from_fn(|n| self.regs[n]),
            rip: self.regs[reg::RIP],
            rflags: self.rflags(),
            seg: std::array::from_fn(|n| self.seg[n]),
            tr: self.tr,
            ldtr: self.ldtr,
            gdtr: self.gdtr,
            idtr: self.idtr,
            cr0: self.cr0,
            cr2: self.cr2,
            cr3: self.cr3,
            cr4: self.cr4,
            cr8: self.cr8(),
            efer: self.efer,
            apic_base: self.apic.base(),
            dr: self.dr,
            dr6: self.dr6,
            dr7: self.dr7,
            fpu: self.fpu.clone(),
            xmm: self.xmm,
            mxcsr: self.mxcsr,
            msrs: MSRS.iter().filter_map(|&index| Some((index, self.plain_msr(index)?))).collect(),
        }
    }

    /// Takes a state over. What is halted runs again.
    ///
    /// # Errors
    /// [`BadState`] for what no sequence of instructions leads to; nothing is changed then.
    pub fn set_state(&mut self, state: &State) -> Result<(), BadState> {
        check(state)?;
        for &(index, value) in &state.msrs {
            let address = matches!(index, 0x175 | 0x176 | 0xC000_0082 | 0xC000_0083 | 0xC000_0102);
            let reserved = index == MTRR_DEF_TYPE && value & !MTRR_DEF_TYPE_DEFINED != 0;
            if self.plain_msr(index).is_none() || reserved || address && !Self::canonical(value) {
                return Err(BadState { field: "msrs", msr: Some(index) });
            }
        }
        // Last among the things that can fail, first among those that change.
        let mut apic = self.apic.save(self.now());
        apic.base = state.apic_base;
        apic.tpr = (state.cr8 << 4) as u8;
        let now = self.now();
        self.apic.restore(&apic, now).map_err(|bad| BadState { field: bad.field, msr: None })?;
        for (to, from) in self.regs.iter_mut().zip(state.regs) {
            *to = from;
        }
        self.regs[reg::RIP] = state.rip;
        for (to, from) in self.seg.iter_mut().zip(state.seg) {
            *to = from;
        }
        (self.tr, self.ldtr, self.gdtr, self.idtr) = (state.tr, state.ldtr, state.gdtr, state.idtr);
        (self.cr0, self.cr2, self.cr3, self.cr4) = (state.cr0 | cr::CR0_ET, state.cr2, state.cr3, state.cr4);
        self.efer = state.efer;
        (self.dr, self.dr6, self.dr7) = (state.dr, state.dr6, state.dr7);
        self.fpu = state.fpu.clone();
        (self.xmm, self.mxcsr) = (state.xmm, state.mxcsr);
        for &(index, value) in &state.msrs {
            self.set_plain_msr(index, value);
        }
        self.set_rflags(state.rflags);
        self.halted = false;
        self.shadow = crate::core::Shadow::None;
        (self.replay.used, self.pending_db, self.hits, self.fresh_rf) = (0, 0, 0, 0);
        self.replay.done.clear();
        self.refresh();
        self.load_saved_pdptes();
        self.flush_tlb();
        self.recheck = true;
        Ok(())
    }

    /// With PAE paging outside long mode, CR3's four entries are part of the state (SDM vol. 3A, §4.4.1).
    fn load_saved_pdptes(&mut self) {
        const PAE: u64 = cr::CR4_PAE;
        if self.cr0 & cr::CR0_PG == 0 || self.cr4 & PAE == 0 || self.long_mode() {
            return;
        }
        let table = self.cr3 & 0xFFFF_FFE0;
        let map = self.tlb.map();
        let entries = std::array::from_fn(|n| map.read::<u64>(table + 8 * n as u64).unwrap_or(0));
        self.pdptes = entries;
    }

    fn plain_msr(&self, index: u32) -> Option<u64> {
        Some(match index {
            0x174 => self.msr.sysenter_cs,
            0x175 => self.msr.sysenter_esp,
            0x176 => self.msr.sysenter_eip,
            0x1A0 => self.msr.misc_enable,
            0x277 => self.msr.pat,
            MTRR_DEF_TYPE => self.msr.mtrr.default,
            0xC000_0081 => self.msr.star,
            0xC000_0082 => self.msr.lstar,
            0xC000_0083 => self.msr.cstar,
            0xC000_0084 => self.msr.sfmask,
            0xC000_0102 => self.msr.kernel_gs_base,
            0xC000_0103 => self.msr.tsc_aux,
            _ if Paravirt::has(index, &self.features) => return self.pv.read(index).ok(),
            _ => return None,
        })
    }

    fn set_plain_msr(&mut self, index: u32, value: u64) {
        match index {
            0x174 => self.msr.sysenter_cs = value,
            0x175 => self.msr.sysenter_esp = value,
            0x176 => self.msr.sysenter_eip = value,
            0x1A0 => self.msr.misc_enable = value,
            0x277 => self.msr.pat = value,
            MTRR_DEF_TYPE => self.msr.mtrr.default = value,
            0xC000_0081 => self.msr.star = value,
            0xC000_0082 => self.msr.lstar = value,
            0xC000_0083 => self.msr.cstar = value,
            0xC000_0084 => self.msr.sfmask = value,
            0xC000_0102 => self.msr.kernel_gs_base = value,
            0xC000_0103 => self.msr.tsc_aux = value,
            MSR_WALL_CLOCK => self.pv.wall_clock = value,
            MSR_SYSTEM_TIME => self.pv.system_time = value,
            MSR_STEAL_TIME => self.pv.steal_time = value,
            _ => {}
        }
    }
}

/// What can be told from the state alone.
fn check(state: &State) -> Result<(), BadState> {
    let must = |good: bool, field| if good { Ok(()) } else { Err(BadState { field, msr: None }) };
    let (cr0, cr4, efer) = (state.cr0, state.cr4, state.efer);
    let paging = cr0 & cr::CR0_PG != 0;
    must(cr0 & !CR0_DEFINED == 0 && (!paging || cr0 & cr::CR0_PE != 0), "cr0")?;
    must(cr0 & (cr::CR0_NW | cr::CR0_CD) != cr::CR0_NW, "cr0")?;
    must(cr4 & !CR4_DEFINED == 0, "cr4")?;
    let active = efer & cr::EFER_LMA != 0;
    must(efer & !EFER_DEFINED == 0 && active == (paging && efer & cr::EFER_LME != 0), "efer")?;
    must(!active || cr4 & cr::CR4_PAE != 0, "cr4")?;
    must(active || cr4 & cr::CR4_PCIDE == 0, "cr4")?;
    must(state.cr3 >> crate::cpuid::PHYSICAL_BITS == 0, "cr3")?;
    must(state.cr8 <= 15, "cr8")?;
    must(state.apic_base & BASE_ENABLED == 0 || state.apic_base >> crate::cpuid::PHYSICAL_BITS == 0, "apic_base")?;
    must(state.rflags & !(fl::DEFINED | fl::FIXED) == 0, "rflags")?;
    must(state.rflags & fl::VM == 0 || cr0 & cr::CR0_PE != 0 && !active, "rflags")?;
    must(state.dr7 >> 32 == 0 && state.dr6 >> 32 == 0, "dr7")?;
    must(state.mxcsr & !0xFFFF == 0, "mxcsr")?;
    let cs = &state.seg[seg::CS];
    must(!(cs.long() && cs.big() && active), "cs")?;
    let bases = state.seg.iter().chain([&state.tr, &state.ldtr]).map(|s| s.base);
    must(bases.chain([state.gdtr.base, state.idtr.base]).all(Core::canonical), "segment base")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mem::AddressSpace;
    use crate::{Clock, Config, Cpu};

    fn cpu() -> Cpu {
        let clock = Clock::Instructions { wall: 0 };
        let config = Config { cpuid: crate::cpuid::table(), processors: 1, clock, seed: Some(0) };
        Cpu::new(Arc::new(AddressSpace::default()), &config)
    }

    /// Every field different from that after power-on, and possible.
    fn unusual(mut state: State) -> State {
        for (n, value) in (1u64..).zip(&mut state.regs) {
            *value = n << 40 | n;
        }
        (state.rip, state.rflags) = (0xFFFF_8000_0000_1234, 0x246);
        for (n, segment) in (1u16..).zip(&mut state.seg) {
            *segment = Seg { selector: n << 3, base: u64::from(n) << 32, limit: u32::MAX, access: 0xC093 };
        }
        state.seg[seg::CS] = Seg { selector: 8, base: 0, limit: u32::MAX, access: 0xA09B };
        state.tr = Seg { selector: 0x40, base: 0x1000, limit: 0x67, access: 0x8B };
        state.ldtr = Seg { selector: 0, base: 0x2000, limit: 0, access: Seg::UNUSABLE };
        state.gdtr = Table { base: 0x3000, limit: 0x7F };
        state.idtr = Table { base: 0x4000, limit: 0xFFF };
        (state.cr0, state.cr2, state.cr3) = (0x8005_0033, 0x5000, 0x6000);
        (state.cr4, state.cr8, state.efer) = (0x6A0, 3, 0xD01);
        state.apic_base = 0xFEE0_0D00;
        (state.dr, state.dr6, state.dr7) = ([1, 2, 3, 4], 0xFFFF_0FF1, 0x401);
        (state.xmm, state.mxcsr) = ([u128::MAX / 3; 16], 0x1FA0);
        for (n, (index, value)) in (1u64..).zip(&mut state.msrs) {
            *value = if *index == MTRR_DEF_TYPE { 0x806 } else { n << 12 };
        }
        state.fpu.set_control(0x27F);
        state.fpu.set_abridged_tags(0x81);
        state
    }

    #[test]
    fn a_state_goes_in_and_comes_out() {
        let mut cpu = cpu();
        let core = cpu.core_mut(0).unwrap();
        let state = unusual(core.state());
        core.set_state(&state).unwrap();
        assert_eq!(core.state(), state);
        assert!(core.bits64());
    }

    #[test]
    fn an_impossible_state_is_refused_by_name_and_changes_nothing() {
        let mut cpu = cpu();
        let core = cpu.core_mut(0).unwrap();
        let before = core.state();
        let good = unusual(before.clone());
        let mut cs = good.seg;
        cs[seg::CS].access |= 1 << 14;
        let bad = [
            ("cr0", State { cr0: 0x8000_0000, ..good.clone() }),
            ("cr0", State { cr0: good.cr0 | 1 << 40, ..good.clone() }),
            ("cr0", State { cr0: good.cr0 | cr::CR0_NW, ..good.clone() }),
            ("cr4", State { cr4: good.cr4 | 1 << 22, ..good.clone() }),
            ("cr4", State { cr4: 0, ..good.clone() }),
            // LMA without paging.
            ("efer", State { cr0: 0x33, ..good.clone() }),
            ("efer", State { efer: good.efer | 1 << 14, ..good.clone() }),
            ("cr3", State { cr3: 1 << 40, ..good.clone() }),
            ("cr8", State { cr8: 16, ..good.clone() }),
            ("base", State { apic_base: 0xFEE0_0001, ..good.clone() }),
            ("rflags", State { rflags: 1 << 40, ..good.clone() }),
            ("rflags", State { rflags: fl::VM | 2, ..good.clone() }),
            ("mxcsr", State { mxcsr: 1 << 16, ..good.clone() }),
            ("cs", State { seg: cs, ..good.clone() }),
            ("segment base", State { gdtr: Table { base: 1 << 47, limit: 0 }, ..good.clone() }),
            ("msrs", State { msrs: vec![(0x12345, 0)], ..good.clone() }),
            ("msrs", State { msrs: vec![(MTRR_DEF_TYPE, 1 << 12)], ..good.clone() }),
            ("msrs", State { msrs: vec![(0xC000_0082, 1 << 47)], ..good.clone() }),
        ];
        for (field, state) in bad {
            assert_eq!(core.set_state(&state).map_err(|bad| bad.field), Err(field));
            assert_eq!(core.state(), before);
        }
    }
}
