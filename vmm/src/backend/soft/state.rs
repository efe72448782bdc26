//! Between the processor's state and the neutral one.

use bulla_cpu::core::{Core, Seg, Table};
use bulla_cpu::state::{BadState, State};
use bulla_cpu::x87::{F80, Fpu};

use crate::backend::{CpuState, DescriptorTable, FpuState, Msr, Registers, Segment, SegmentRegisters, VcpuError};

/// Reads everything.
pub(super) fn get(core: &Core) -> CpuState {
    let s = core.state();
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = s.regs;
    let (rip, rflags) = (s.rip, s.rflags);
    let [es, cs, ss, ds, fs, gs] = s.seg.map(from_seg);
    let (tr, ldt) = (from_seg(s.tr), from_seg(s.ldtr));
    CpuState {
        registers: Registers {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        },
        segments: SegmentRegisters { cs, ds, es, fs, gs, ss, tr, ldt },
        gdt: from_table(s.gdtr),
        idt: from_table(s.idtr),
        cr0: s.cr0,
        cr2: s.cr2,
        cr3: s.cr3,
        cr4: s.cr4,
        cr8: s.cr8,
        efer: s.efer,
        apic_base: s.apic_base,
        db: s.dr,
        dr6: s.dr6,
        dr7: s.dr7,
        fpu: FpuState { xmm: s.xmm.map(u128::to_le_bytes), mxcsr: s.mxcsr, ..from_fpu(&s.fpu) },
        msrs: s.msrs.iter().map(|&(index, value)| Msr { index, value }).collect(),
    }
}

/// Sets everything.
pub(super) fn set(core: &mut Core, state: &CpuState) -> Result<(), VcpuError> {
    let r = &state.registers;
    let g = &state.segments;
    let new = State {
        regs: [
            r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14,
            r.r15,
        ],
        rip: r.rip,
        rflags: r.rflags,
        seg: [g.es, g.cs, g.ss, g.ds, g.fs, g.gs].map(to_seg),
        tr: to_seg(g.tr),
        ldtr: to_seg(g.ldt),
        gdtr: Table { base: state.gdt.base, limit: state.gdt.limit },
        idtr: Table { base: state.idt.base, limit: state.idt.limit },
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        cr8: state.cr8,
        efer: state.efer,
        apic_base: state.apic_base,
        dr: state.db,
        dr6: state.dr6,
        dr7: state.dr7,
        fpu: to_fpu(&state.fpu),
        xmm: state.fpu.xmm.map(u128::from_le_bytes),
        mxcsr: state.fpu.mxcsr,
        msrs: state.msrs.iter().map(|msr| (msr.index, msr.value)).collect(),
    };
    core.set_state(&new).map_err(|bad| refused(state, bad))
}

/// Sets what all processors of a machine have to have in common (SDM vol. 3A, §12.11.8): a PC's firmware does it before
/// it starts them.
pub(super) fn set_alike(core: &mut Core, first: &CpuState) -> Result<(), VcpuError> {
    const ALIKE: [u32; 3] = [IA32_MISC_ENABLE, IA32_PAT, IA32_MTRR_DEF_TYPE];
    const IA32_MISC_ENABLE: u32 = 0x1A0;
    const IA32_PAT: u32 = 0x277;
    const IA32_MTRR_DEF_TYPE: u32 = 0x2FF;
    let alike = first.msrs.iter().filter(|msr| ALIKE.contains(&msr.index));
    let new = State { msrs: alike.map(|msr| (msr.index, msr.value)).collect(), ..core.state() };
    core.set_state(&new).map_err(|bad| refused(first, bad))
}

fn refused(state: &CpuState, bad: BadState) -> VcpuError {
    match bad.msr {
        Some(index) => {
            let value = state.msrs.iter().find(|msr| msr.index == index).map_or(0, |msr| msr.value);
            VcpuError::MsrRefused { index, value }
        }
        None => VcpuError::Host {
            what: "set the processor's state",
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, bad),
        },
    }
}

fn from_seg(s: Seg) -> Segment {
    Segment { base: s.base, limit: s.limit, selector: s.selector, access: s.access }
}

fn to_seg(s: Segment) -> Seg {
    Seg { selector: s.selector, base: s.base, limit: s.limit, access: s.access }
}

fn from_table(t: Table) -> DescriptorTable {
    DescriptorTable { base: t.base, limit: t.limit }
}

/// Registers of the stack, from the top.
const ST: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

fn from_fpu(fpu: &Fpu) -> FpuState {
    FpuState {
        st: ST.map(|n| (fpu.raw(n).to_bits() & ((1 << 80) - 1)).to_le_bytes()),
        fcw: fpu.control(),
        fsw: fpu.status(),
        ftw: fpu.abridged_tags(),
        fop: fpu.opcode,
        fip: fpu.ip,
        fdp: fpu.dp,
        ..FpuState::default()
    }
}

fn to_fpu(state: &FpuState) -> Fpu {
    let mut fpu = Fpu::new();
    fpu.set_control(state.fcw);
    // It says which register is the top of the stack.
    fpu.set_status(state.fsw);
    fpu.set_abridged_tags(state.ftw);
    for (n, bytes) in ST.into_iter().zip(state.st) {
        fpu.set_raw(n, F80::from_bits(u128::from_le_bytes(bytes) & ((1 << 80) - 1)));
    }
    (fpu.opcode, fpu.ip, fpu.dp) = (state.fop, state.fip, state.fdp);
    fpu
}
