//! Control registers, MSRs, translations.

use super::*;

const HLT: u8 = 0xF4;

/// mov crN, rax (or eax).
fn to_cr(n: u8) -> [u8; 4] {
    [0x0F, 0x22, 0xC0 | n << 3, HLT]
}

fn write_cr(mut m: Machine, n: u8, value: u64) -> Result<u64, Caught> {
    m.core().regs[reg::RAX] = value;
    m.run(&to_cr(n));
    if m.core().regs[reg::RIP] >= HANDLERS {
        return Err(m.caught());
    }
    let core = m.core();
    Ok([core.cr0, 0, core.cr2, core.cr3, core.cr4][usize::from(n)])
}

#[test]
fn cr0_is_checked() {
    let cr0 = Machine::long().core().cr0;
    for bad in [cr0 | 1 << 32, cr0 & !cr::CR0_PE, cr0 & !cr::CR0_PG, cr0 | cr::CR0_NW] {
        assert_eq!(write_cr(Machine::long(), 0, bad), Err(gp(0)), "{bad:#x}");
    }
    assert_eq!(write_cr(Machine::long(), 0, cr0 | cr::CR0_TS | 1 << 6), Ok(cr0 | cr::CR0_TS));
    // ET is always 1.
    assert_eq!(write_cr(Machine::protected(), 0, 0x21), Ok(0x31));
    // Long mode without PAE, and from a code segment with L.
    let mut m = Machine::protected();
    m.core().efer = cr::EFER_LME;
    assert_eq!(write_cr(m, 0, cr::CR0_PG | 0x31), Err(gp(0)));
    let mut m = Machine::protected();
    m.core().efer = cr::EFER_LME;
    m.core().cr4 = cr::CR4_PAE;
    m.core().seg[seg::CS].access |= 1 << 13;
    assert_eq!(write_cr(m, 0, cr::CR0_PG | 0x31), Err(gp(0)));
}

#[test]
fn cr4_is_checked() {
    let pae = cr::CR4_PAE;
    for bad in [
        0,
        pae | cr::CR4_VME,
        pae | cr::CR4_PVI,
        pae | 1 << 12,
        pae | 1 << 13,
        pae | 1 << 14,
        pae | 1 << 22,
        pae | 1 << 63,
    ] {
        assert_eq!(write_cr(Machine::long(), 4, bad), Err(gp(0)), "{bad:#x}");
    }
    let good = pae | cr::CR4_PGE | cr::CR4_OSFXSR | cr::CR4_SMEP | cr::CR4_UMIP | cr::CR4_FSGSBASE | cr::CR4_PCIDE;
    assert_eq!(write_cr(Machine::long(), 4, good & !cr::CR4_SMEP), Ok(good & !cr::CR4_SMEP));
    // PCIDE with a PCID in CR3, and outside IA-32e mode.
    let mut m = Machine::long();
    m.core().cr3 |= 8;
    assert_eq!(write_cr(m, 4, pae | cr::CR4_PCIDE), Err(gp(0)));
    assert_eq!(write_cr(Machine::protected(), 4, cr::CR4_PCIDE), Err(gp(0)));
}

#[test]
fn cr3_is_checked() {
    assert_eq!(write_cr(Machine::long(), 3, 0x8000 | 1 << 40), Err(gp(0)));
    assert_eq!(write_cr(Machine::long(), 3, 0x8000 | 1 << 63), Err(gp(0)));
    let mut m = Machine::long();
    m.core().cr4 |= cr::CR4_PCIDE;
    assert_eq!(write_cr(m, 3, 0x8000 | 5 | 1 << 63), Ok(0x8005));
}

#[test]
fn pae_paging_loads_four_pointers() {
    let pae = |pdpte: u64| {
        let mut m = Machine::protected();
        m.put(0x8000, 0x9000_u64 | pdpte);
        m.put(0x9000, 0x83_u64);
        m.core().cr4 = cr::CR4_PAE | cr::CR4_PSE;
        m.core().cr3 = 0x8000;
        m
    };
    assert!(write_cr(pae(1), 0, cr::CR0_PG | 0x31).is_ok());
    // Reserved bits (SDM vol. 3A, §4.4.1); not looked at when not present.
    assert_eq!(write_cr(pae(3), 0, cr::CR0_PG | 0x31), Err(gp(0)));
    assert_eq!(write_cr(pae(1 | 1 << 63), 0, cr::CR0_PG | 0x31), Err(gp(0)));
    // They stay what they were until CR3 is written.
    let mut m = pae(1);
    m.core().regs[reg::RAX] = cr::CR0_PG | 0x31;
    // mov cr0, eax; mov dword [0x8000], 0; invlpg [0]; mov al, [DATA]
    m.completes(&[
        0x0F, 0x22, 0xC0, 0xC7, 0x05, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x0F, 0x01, 0x3D, 0, 0, 0, 0, 0xA0, 0, 0, 4, 0, HLT,
    ]);
}

#[test]
fn cr8_and_registers_that_do_not_exist() {
    let mut m = Machine::long();
    m.core().regs[reg::RAX] = 9;
    // mov cr8, rax; mov rcx, cr8
    m.completes(&[0x44, 0x0F, 0x22, 0xC0, 0x44, 0x0F, 0x20, 0xC1, HLT]);
    assert_eq!(m.core().regs[reg::RCX], 9);
    let mut m = Machine::long();
    m.core().regs[reg::RAX] = 16;
    assert_eq!(m.raises(&[0x44, 0x0F, 0x22, 0xC0]), gp(0));
    for n in [1, 5, 6, 7] {
        assert_eq!(Machine::long().raises(&to_cr(n)), UD);
    }
    for code in [
        [0x0F, 0x20, 0xC0],
        [0x0F, 0x22, 0xC0],
        [0x0F, 0x21, 0xC0],
        [0x0F, 0x06, 0x90],
        [0x0F, 0x08, 0x90],
        [0x0F, 0x09, 0x90],
    ] {
        assert_eq!(Machine::long().user64().raises(&code), gp(0), "{code:x?}");
    }
}

#[test]
fn from_real_mode_to_64_bit_mode_step_by_step() {
    let mut m = Machine::real();
    m.put(0x8000, 0x9007_u64);
    m.put(0x9000, 0xA007_u64);
    m.put(0xA000, 0x87_u64);
    m.put(0x4_0000, 0xFF_u16);
    m.put(0x4_0002, GDT as u32);
    m.put(0x1_0100, HLT);
    m.completes(&[
        0x0F, 0x01, 0x16, 0, 0, // lgdt [0]
        0x66, 0xB8, 0x20, 0, 0, 0, 0x0F, 0x22, 0xE0, // mov eax, PAE; mov cr4, eax
        0x66, 0xB8, 0, 0x80, 0, 0, 0x0F, 0x22, 0xD8, // mov eax, 0x8000; mov cr3, eax
        0x66, 0xB9, 0x80, 0, 0, 0xC0, 0x0F, 0x32, 0x0D, 0, 1, 0x0F, 0x30, // EFER |= LME
        0x66, 0xB8, 1, 0, 0, 0x80, 0x0F, 0x22, 0xC0, // mov eax, PG | PE; mov cr0, eax
        0x66, 0xEA, 0, 1, 1, 0, 8, 0, // jmp 8:0x10100
    ]);
    assert_eq!(m.core().mode, crate::core::Code::Bits64);
    assert_eq!(m.core().efer, cr::EFER_LME | cr::EFER_LMA);
    assert_eq!(m.core().regs[reg::RIP], 0x1_0101);
}

#[test]
fn leaving_long_mode_through_compatibility_mode() {
    let mut m = Machine::long();
    m.level(0, CODE32, KERNEL_DATA);
    let cr0 = m.core().cr0;
    m.core().regs[reg::RAX] = cr0 & !cr::CR0_PG;
    m.completes(&to_cr(0));
    assert_eq!(m.core().efer & (cr::EFER_LMA | cr::EFER_LME), cr::EFER_LME);
}

#[test]
fn lmsw_sets_pe_and_never_clears_it() {
    let mut m = Machine::real();
    m.core().regs[reg::RAX] = 0xF;
    m.completes(&[0x0F, 0x01, 0xF0, HLT]);
    assert_eq!(m.core().cr0 & 0xF, 0xF);
    let mut m = Machine::protected();
    m.core().regs[reg::RAX] = 0;
    m.completes(&[0x0F, 0x01, 0xF0, HLT]);
    assert_eq!(m.core().cr0 & 0xF, 1);
}

#[test]
fn translations_are_forgotten_when_told() {
    // mov al, [DATA]; unmap its page through the table; (invlpg [DATA]); mov al, [DATA]
    let unmap = [0xC6, 0x04, 0x25, 0, 0xB2, 0, 0, 0];
    let read = [0x8A, 0x04, 0x25, 0, 0, 4, 0];
    let invlpg = [0x0F, 0x01, 0x3C, 0x25, 0, 0, 4, 0];
    let mut m = Machine::long();
    assert_eq!(m.raises(&[&read[..], &unmap, &invlpg, &read].concat()), (14, Some(0)));
    let mut m = Machine::long();
    // mov rcx, cr3; mov cr3, rcx
    assert_eq!(m.raises(&[&read[..], &unmap, &[0x0F, 0x20, 0xD9, 0x0F, 0x22, 0xD9], &read].concat()), (14, Some(0)));
}

#[test]
fn invpcid_is_checked() {
    let invpcid = |kind: u64, pcid: u64, la: u64, cr4: u64| {
        let mut m = Machine::long();
        m.core().cr4 |= cr4;
        m.core().regs[reg::RAX] = kind;
        m.put(DATA, pcid);
        m.put(DATA + 8, la);
        m.run(&[0x66, 0x0F, 0x38, 0x82, 0x04, 0x25, 0, 0, 4, 0, HLT]);
        (m.core().regs[reg::RIP] >= HANDLERS).then(|| m.caught())
    };
    for kind in 0..4 {
        assert_eq!(invpcid(kind, 0, 0, 0), None);
    }
    assert_eq!(invpcid(4, 0, 0, 0), Some(gp(0)));
    assert_eq!(invpcid(0, 0x1000, 0, cr::CR4_PCIDE), Some(gp(0)));
    assert_eq!(invpcid(1, 1, 0, 0), Some(gp(0)));
    assert_eq!(invpcid(1, 1, 0, cr::CR4_PCIDE), None);
    assert_eq!(invpcid(0, 0, 1 << 50, 0), Some(gp(0)));
    assert_eq!(invpcid(1, 0, 1 << 50, 0), None);
}

fn wrmsr(m: &mut Machine, index: u32, value: u64) -> Option<Caught> {
    m.core().regs[reg::RCX] = index.into();
    m.core().regs[reg::RAX] = value & 0xFFFF_FFFF;
    m.core().regs[reg::RDX] = value >> 32;
    m.core().regs[reg::RIP] = CODE;
    m.core().halted = false;
    m.run(&[0x0F, 0x30, HLT]);
    (m.core().regs[reg::RIP] >= HANDLERS).then(|| m.caught())
}

fn rdmsr(m: &mut Machine, index: u32) -> u64 {
    m.core().regs[reg::RCX] = index.into();
    // Elsewhere than WRMSR: code that changes behind the processor's back stays what it was.
    m.core().regs[reg::RIP] = CODE + 0x100;
    m.core().halted = false;
    m.completes(&[0x0F, 0x32, HLT]);
    m.core().regs[reg::RDX] << 32 | m.core().regs[reg::RAX]
}

#[test]
fn msrs_keep_what_is_written() {
    let mut m = Machine::long();
    for (index, value) in [
        (0x174, 0x10),
        (0x175, 0xFFFF_8000_0000_0000),
        (0x176, 0x7FFF_FFFF_FFFF),
        (0x277, 0x0007_0406_0007_0405),
        (0x200, 0x8000_0006),
        (0x201, 0xFF_8000_0800),
        (0x26F, 0x0606_0606_0606_0606),
        (0x2FF, 0xC06),
        (0xC000_0081, 0x0023_0010_0000_0000),
        (0xC000_0082, 0xFFFF_FFFF_8000_0000),
        (0xC000_0084, 0x0004_7700),
        (0xC000_0100, 0x1234),
        (0xC000_0101, 0x5678),
        (0xC000_0102, 0x9ABC),
        (0xC000_0103, 3),
    ] {
        assert_eq!(wrmsr(&mut m, index, value), None, "{index:#x}");
        assert_eq!(rdmsr(&mut m, index), value, "{index:#x}");
    }
    assert_eq!(m.core().seg[seg::FS].base, 0x1234);
    assert_eq!(rdmsr(&mut m, 0xFE), 0x508);
    assert_eq!(rdmsr(&mut m, 0xC000_0080), m.core().efer);
}

#[test]
fn msrs_refuse_what_the_architecture_refuses() {
    for (index, value) in [
        (0x175, 1 << 47),
        (0x277, 0x0000_0000_0000_0002),
        (0x2FF, 7),
        (0x201, 0x100),
        (0x200, 1 << 40),
        (0xFE, 0),
        (0x1D9, 1 << 5),
        (0xC000_0080, 1 << 12),
        (0xC000_0080, cr::EFER_SCE),
        (0xC000_0082, 1 << 60),
        (0xC000_0100, 1 << 60),
        (0xC000_0103, 1 << 32),
        (0x48, 1),
        (0x1234_5678, 0),
    ] {
        assert_eq!(wrmsr(&mut Machine::long(), index, value), Some(gp(0)), "{index:#x}");
    }
    let mut m = Machine::long();
    m.core().regs[reg::RCX] = 0x1234_5678;
    assert_eq!(m.raises(&[0x0F, 0x32]), gp(0));
    assert_eq!(Machine::long().user64().raises(&[0x0F, 0x32]), gp(0));
}

#[test]
fn debug_registers_have_fixed_bits() {
    let mut m = Machine::long();
    m.core().regs[reg::RAX] = 0xFFFF_FFFF & !0xFF;
    // mov dr7, rax; mov rcx, dr7; mov dr6, rax; mov rdx, dr6
    m.completes(&[0x0F, 0x23, 0xF0, 0x0F, 0x21, 0xF2, HLT]);
    assert_eq!(m.core().dr6, 0xFFFF_EFF0);
    let mut m = Machine::long();
    m.core().regs[reg::RAX] = 0xFFFF_DF00;
    m.completes(&[0x0F, 0x23, 0xF8, 0x0F, 0x21, 0xF9, HLT]);
    assert_eq!(m.core().regs[reg::RCX], 0xFFFF_0700);
    for n in [0xF0, 0xF8] {
        let mut m = Machine::long();
        m.core().regs[reg::RAX] = 1 << 32;
        assert_eq!(m.raises(&[0x0F, 0x23, n]), gp(0));
    }
    // DR4 is DR6 unless CR4.DE.
    let mut m = Machine::long();
    m.completes(&[0x0F, 0x21, 0xE1, HLT]);
    assert_eq!(m.core().regs[reg::RCX], 0xFFFF_0FF0);
    let mut m = Machine::long();
    m.core().cr4 |= cr::CR4_DE;
    assert_eq!(m.raises(&[0x0F, 0x21, 0xE1]), UD);
}
