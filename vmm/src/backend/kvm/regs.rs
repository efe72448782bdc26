//! Between KVM's register structures and the neutral state. (x87 and SSE: [`super::fpu`].)

use kvm_bindings::{kvm_debugregs, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

use super::{fpu, msrs};
use crate::backend::{CpuState, DescriptorTable, Registers, Segment, SegmentRegisters, VcpuError};

fn host(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> VcpuError {
    move |e| VcpuError::Host { what, source: e.into() }
}

/// Reads everything.
pub(super) fn get(vcpu: &VcpuFd, msr_indices: &[u32]) -> Result<CpuState, VcpuError> {
    let s = vcpu.get_sregs().map_err(host("read control registers"))?;
    let debug = vcpu.get_debug_regs().map_err(host("read debug registers"))?;
    Ok(CpuState {
        registers: from_regs(&vcpu.get_regs().map_err(host("read registers"))?),
        segments: SegmentRegisters {
            cs: from_segment(&s.cs),
            ds: from_segment(&s.ds),
            es: from_segment(&s.es),
            fs: from_segment(&s.fs),
            gs: from_segment(&s.gs),
            ss: from_segment(&s.ss),
            tr: from_segment(&s.tr),
            ldt: from_segment(&s.ldt),
        },
        gdt: DescriptorTable { base: s.gdt.base, limit: s.gdt.limit },
        idt: DescriptorTable { base: s.idt.base, limit: s.idt.limit },
        cr0: s.cr0,
        cr2: s.cr2,
        cr3: s.cr3,
        cr4: s.cr4,
        cr8: s.cr8,
        efer: s.efer,
        apic_base: s.apic_base,
        db: debug.db,
        dr6: debug.dr6,
        dr7: debug.dr7,
        fpu: fpu::get(vcpu)?,
        msrs: msrs::get(vcpu, msr_indices)?,
    })
}

/// Sets everything.
pub(super) fn set(vcpu: &VcpuFd, state: &CpuState) -> Result<(), VcpuError> {
    let seg = &state.segments;
    let sregs = kvm_sregs {
        cs: to_segment(&seg.cs),
        ds: to_segment(&seg.ds),
        es: to_segment(&seg.es),
        fs: to_segment(&seg.fs),
        gs: to_segment(&seg.gs),
        ss: to_segment(&seg.ss),
        tr: to_segment(&seg.tr),
        ldt: to_segment(&seg.ldt),
        gdt: kvm_dtable { base: state.gdt.base, limit: state.gdt.limit, ..Default::default() },
        idt: kvm_dtable { base: state.idt.base, limit: state.idt.limit, ..Default::default() },
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        cr8: state.cr8,
        efer: state.efer,
        apic_base: state.apic_base,
        interrupt_bitmap: [0; 4],
    };
    vcpu.set_sregs(&sregs).map_err(host("set control registers"))?;
    vcpu.set_regs(&to_regs(&state.registers)).map_err(host("set registers"))?;
    fpu::set(vcpu, &state.fpu)?;
    let debug = kvm_debugregs { db: state.db, dr6: state.dr6, dr7: state.dr7, ..Default::default() };
    vcpu.set_debug_regs(&debug).map_err(host("set debug registers"))?;
    msrs::set(vcpu, &state.msrs)
}

fn from_segment(s: &kvm_segment) -> Segment {
    let bits = [
        (s.type_, 0, 0xF),
        (s.s, 4, 1),
        (s.dpl, 5, 3),
        (s.present, 7, 1),
        (s.avl, 12, 1),
        (s.l, 13, 1),
        (s.db, 14, 1),
        (s.g, 15, 1),
        (s.unusable, 16, 1),
    ];
    let access = bits.iter().fold(0, |access, (value, shift, mask)| access | (u32::from(value & mask) << shift));
    Segment { base: s.base, limit: s.limit, selector: s.selector, access }
}

fn to_segment(s: &Segment) -> kvm_segment {
    let field = |shift: u32, mask: u8| (s.access >> shift) as u8 & mask;
    kvm_segment {
        base: s.base,
        limit: s.limit,
        selector: s.selector,
        type_: field(0, 0xF),
        s: field(4, 1),
        dpl: field(5, 3),
        present: field(7, 1),
        avl: field(12, 1),
        l: field(13, 1),
        db: field(14, 1),
        g: field(15, 1),
        unusable: field(16, 1),
        padding: 0,
    }
}

/// The two register structures have the same field names.
macro_rules! copy_registers {
    ($from:expr => $to:ident) => {{
        let r = $from;
        $to {
            rax: r.rax,
            rbx: r.rbx,
            rcx: r.rcx,
            rdx: r.rdx,
            rsi: r.rsi,
            rdi: r.rdi,
            rsp: r.rsp,
            rbp: r.rbp,
            r8: r.r8,
            r9: r.r9,
            r10: r.r10,
            r11: r.r11,
            r12: r.r12,
            r13: r.r13,
            r14: r.r14,
            r15: r.r15,
            rip: r.rip,
            rflags: r.rflags,
        }
    }};
}

fn from_regs(r: &kvm_regs) -> Registers {
    copy_registers!(r => Registers)
}

fn to_regs(r: &Registers) -> kvm_regs {
    copy_registers!(r => kvm_regs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_access_right_survives_the_way_there_and_back() {
        for bit in (0..17).filter(|bit| Segment::ACCESS_MASK & (1 << bit) != 0) {
            let segment = Segment { base: 7, limit: 9, selector: 0x33, access: 1 << bit };
            assert_eq!(from_segment(&to_segment(&segment)), segment, "bit {bit}");
        }
    }

    #[test]
    fn code_64_means_what_it_says() {
        let s = to_segment(&Segment::flat(8, Segment::CODE_64));
        assert_eq!((s.type_, s.s, s.dpl, s.present, s.l, s.db, s.g, s.unusable), (11, 1, 0, 1, 1, 0, 1, 0));
    }
}
