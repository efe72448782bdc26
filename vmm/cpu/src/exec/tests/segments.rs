//! Segment loads and questions about selectors (SDM vol. 2, MOV, LAR, LSL, VERR, ARPL, LLDT, LTR).

use super::*;

/// mov ds, ax and mov ss, ax.
const MOV_DS: [u8; 3] = [0x8E, 0xD8, 0xF4];
const MOV_SS: [u8; 3] = [0x8E, 0xD0, 0xF4];

fn with_ax(mut m: Machine, selector: u16, code: &[u8]) -> Caught {
    m.core().regs[reg::RAX] = selector.into();
    m.raises(code)
}

#[test]
fn data_segments_are_checked() {
    for machine in [Machine::long, Machine::protected] {
        assert_eq!(with_ax(machine(), 0x200, &MOV_DS), gp(0x200));
        assert_eq!(with_ax(machine(), EXECUTE_ONLY, &MOV_DS), gp(EXECUTE_ONLY.into()));
        assert_eq!(with_ax(machine(), TSS_SELECTOR, &MOV_DS), gp(TSS_SELECTOR.into()));
        assert_eq!(with_ax(machine(), ABSENT_DATA, &MOV_DS), (11, Some(ABSENT_DATA.into())));
        // RPL above DPL.
        assert_eq!(with_ax(machine(), KERNEL_DATA | 3, &MOV_DS), gp(KERNEL_DATA.into()));
        // The LDT is null.
        assert_eq!(with_ax(machine(), 0xC, &MOV_DS), gp(0xC));
    }
    let mut m = Machine::long();
    m.user64();
    assert_eq!(with_ax(m, KERNEL_DATA, &MOV_DS), gp(KERNEL_DATA.into()));
}

#[test]
fn loading_a_segment_marks_it_accessed() {
    let mut m = Machine::protected();
    let at = GDT + u64::from(KERNEL_DATA);
    m.put(at, 0x00CF_9200_0001_FFFF_u64);
    m.core().regs[reg::RAX] = KERNEL_DATA.into();
    m.completes(&MOV_DS);
    assert_eq!(m.get::<u64>(at), 0x00CF_9300_0001_FFFF);
    assert_eq!(m.core().seg[seg::DS], Seg { selector: 0x10, base: 1, limit: u32::MAX, access: 0xC093 });
}

#[test]
fn null_data_segments_fault_when_used_outside_64_bit_mode() {
    let mut m = Machine::protected();
    // xor eax, eax; mov ds, ax; mov al, [0]
    assert_eq!(m.raises(&[0x31, 0xC0, 0x8E, 0xD8, 0xA0, 0, 0, 0, 0]), gp(0));
    let mut m = Machine::long();
    m.completes(&[0x31, 0xC0, 0x8E, 0xD8, 0xA0, 0, 0, 4, 0, 0, 0, 0, 0, 0xF4]);
}

#[test]
fn stack_segments_are_checked() {
    assert_eq!(with_ax(Machine::protected(), 0, &MOV_SS), gp(0));
    for machine in [Machine::long, Machine::protected] {
        assert_eq!(with_ax(machine(), READ_ONLY, &MOV_SS), gp(READ_ONLY.into()));
        assert_eq!(with_ax(machine(), CODE64, &MOV_SS), gp(CODE64.into()));
        assert_eq!(with_ax(machine(), USER_DATA, &MOV_SS), gp(u32::from(USER_DATA & !3)));
        assert_eq!(with_ax(machine(), ABSENT_DATA, &MOV_SS), (12, Some(ABSENT_DATA.into())));
        assert_eq!(with_ax(machine(), 0x200, &MOV_SS), gp(0x200));
    }
    // A null SS is fine below level 3 in 64-bit mode, with an RPL of the CPL.
    Machine::long().completes(&[0x31, 0xC0, 0x8E, 0xD0, 0xF4]);
    assert_eq!(with_ax(Machine::long(), 3, &MOV_SS), gp(0));
    let mut m = Machine::long();
    m.user64();
    assert_eq!(with_ax(m, 3, &MOV_SS), gp(0));
}

#[test]
fn cs_cannot_be_loaded_with_mov() {
    assert_eq!(Machine::long().raises(&[0x8E, 0xC8]), UD);
}

#[test]
fn pop_and_push_of_segment_registers() {
    // push fs; pop gs in 64-bit mode; push ds; pop es in protected mode.
    let mut m = Machine::long();
    m.core().seg[seg::FS] = Seg { selector: USER_DATA, ..Seg::default() };
    m.completes(&[0x0F, 0xA0, 0x0F, 0xA9, 0xF4]);
    assert_eq!((m.core().seg[seg::GS].selector, m.core().regs[reg::RSP]), (USER_DATA, STACK));
    assert_eq!(m.get::<u64>(STACK - 8), USER_DATA.into());
    let mut m = Machine::protected();
    m.core().seg[seg::ES] = Seg::unusable(0, 0);
    m.completes(&[0x1E, 0x07, 0xF4]);
    assert_eq!((m.core().seg[seg::ES].selector, m.core().regs[reg::RSP]), (KERNEL_DATA, STACK));
    // A bad selector leaves the stack pointer.
    let mut m = Machine::protected();
    assert_eq!(m.raises(&[0x6A, 0x70, 0x1F]), gp(0x70));
    assert_eq!(m.top::<u32>(1), CODE as u32 + 2);
    assert_eq!(m.core().regs[reg::RSP], STACK - 4 - 16);
}

#[test]
fn far_pointers_load_both_halves_or_none() {
    let mut m = Machine::protected();
    m.put(DATA, 0x1234_5678_u32);
    m.put(DATA + 4, USER_DATA);
    // lfs ecx, [DATA]
    m.completes(&[0x0F, 0xB4, 0x0D, 0, 0, 4, 0, 0xF4]);
    assert_eq!((m.core().regs[reg::RCX], m.core().seg[seg::FS].selector), (0x1234_5678, USER_DATA));
    let mut m = Machine::protected();
    m.put(DATA + 4, 0x208_u16);
    assert_eq!(m.raises(&[0x0F, 0xB4, 0x0D, 0, 0, 4, 0, 0xF4]), gp(0x208));
    assert_eq!(m.core().regs[reg::RCX], 0);
}

#[test]
fn real_mode_segments_keep_their_limits() {
    let mut m = Machine::real();
    m.core().seg[seg::DS].limit = u32::MAX;
    // mov ax, 0x123; mov ds, ax
    m.completes(&[0xB8, 0x23, 0x01, 0x8E, 0xD8, 0xF4]);
    assert_eq!(m.core().seg[seg::DS], Seg { selector: 0x123, base: 0x1230, limit: u32::MAX, access: 0x93 });
}

fn ask(code: &[u8], selector: u16) -> (bool, u64) {
    let mut m = Machine::long();
    m.core().regs[reg::RCX] = selector.into();
    m.core().regs[reg::RAX] = 0xDEAD;
    m.completes(code);
    (m.core().lazy.zf(), m.core().regs[reg::RAX])
}

#[test]
fn lar_and_lsl() {
    let lar = [0x0F, 0x02, 0xC1, 0xF4];
    assert_eq!(ask(&lar, CODE64), (true, 0x00A0_9B00));
    assert_eq!(ask(&lar, TSS_SELECTOR), (true, 0x0000_8900));
    assert_eq!(ask(&lar, LDT_SELECTOR), (true, 0x0000_8200));
    for bad in [0, 3, 0x200, KERNEL_DATA | 3, 0xC] {
        assert_eq!(ask(&lar, bad), (false, 0xDEAD), "{bad:#x}");
    }
    let lsl = [0x0F, 0x03, 0xC1, 0xF4];
    assert_eq!(ask(&lsl, CODE64), (true, 0xFFFF_FFFF));
    assert_eq!(ask(&lsl, CODE16), (true, 0xFFFF));
    assert_eq!(ask(&lsl, TSS_SELECTOR), (true, 0x2088));
    assert_eq!(ask(&lsl, 0), (false, 0xDEAD));
}

#[test]
fn system_descriptors_that_lar_and_lsl_know() {
    // Types 0–15 of a present system descriptor in 64-bit mode (SDM vol. 2A, tables 3-53 and 3-54).
    for kind in 0..16_u64 {
        let mut m = Machine::long();
        m.put(GDT + 0xC0, 0x0000_8000_0000_0077 | kind << 40);
        m.core().regs[reg::RCX] = 0xC0;
        m.completes(&[0x0F, 0x02, 0xC1, 0xF4]);
        assert_eq!(m.core().lazy.zf(), matches!(kind, 2 | 9 | 11 | 12), "LAR of type {kind}");
        let mut m = Machine::protected();
        m.put(GDT + 0xC0, 0x0000_8000_0000_0077 | kind << 40);
        m.core().regs[reg::RCX] = 0xC0;
        m.completes(&[0x0F, 0x02, 0xC1, 0xF4]);
        assert_eq!(m.core().lazy.zf(), matches!(kind, 1..=5 | 9 | 11 | 12), "LAR of type {kind}");
        let mut m = Machine::protected();
        m.put(GDT + 0xC0, 0x0000_8000_0000_0077 | kind << 40);
        m.core().regs[reg::RCX] = 0xC0;
        m.completes(&[0x0F, 0x03, 0xC1, 0xF4]);
        assert_eq!(m.core().lazy.zf(), matches!(kind, 1..=3 | 9 | 11), "LSL of type {kind}");
    }
}

#[test]
fn verr_and_verw() {
    let (verr, verw) = ([0x0F, 0x00, 0xE1, 0xF4], [0x0F, 0x00, 0xE9, 0xF4]);
    for (selector, read, write) in
        [(KERNEL_DATA, true, true), (READ_ONLY, true, false), (EXECUTE_ONLY, false, false), (0, false, false)]
    {
        assert_eq!(ask(&verr, selector).0, read);
        assert_eq!(ask(&verw, selector).0, write);
    }
    for code in [[0x0F, 0x00, 0xE1, 0xF4], [0x0F, 0x02, 0xC1, 0xF4], [0x0F, 0x00, 0xC1, 0xF4]] {
        assert_eq!(Machine::real().raises(&code), UD);
    }
}

#[test]
fn arpl_raises_only() {
    for (old, wanted, new, zf) in [(0x10, 3, 0x13, true), (0x13, 1, 0x13, false)] {
        let mut m = Machine::protected();
        (m.core().regs[reg::RAX], m.core().regs[reg::RCX]) = (old, wanted);
        m.completes(&[0x63, 0xC8, 0xF4]);
        assert_eq!((m.core().regs[reg::RAX], m.core().lazy.zf()), (new, zf));
    }
}

#[test]
fn local_descriptor_tables() {
    let mut m = Machine::protected();
    m.put(LDT + 8, 0x00CF_9300_0002_FFFF_u64);
    m.core().regs[reg::RAX] = LDT_SELECTOR.into();
    // lldt ax; mov al, 0xC; mov ds, ax
    m.completes(&[0x0F, 0x00, 0xD0, 0xB0, 0x0C, 0x8E, 0xD8, 0xF4]);
    assert_eq!(m.core().seg[seg::DS].base, 2);
    let lldt = |selector| with_ax(Machine::long(), selector, &[0x0F, 0x00, 0xD0, 0xF4]);
    assert_eq!(lldt(TSS_SELECTOR), gp(TSS_SELECTOR.into()));
    assert_eq!(lldt(LDT_SELECTOR | 4), gp(u32::from(LDT_SELECTOR) | 4));
    assert_eq!(lldt(0x200), gp(0x200));
}

#[test]
fn the_task_register() {
    let ltr = [0x0F, 0x00, 0xD8, 0xF4];
    let mut m = Machine::long();
    m.core().regs[reg::RAX] = TSS_SELECTOR.into();
    m.completes(&ltr);
    // Busy now, in memory and in TR.
    assert_eq!(m.get::<u8>(GDT + u64::from(TSS_SELECTOR) + 5), 0x8B);
    assert_eq!(m.core().tr, Seg { selector: TSS_SELECTOR, base: TSS, limit: 0x2088, access: 0x8B });
    m.core().halted = false;
    assert_eq!(m.raises(&ltr), gp(TSS_SELECTOR.into()));
    assert_eq!(with_ax(Machine::long(), 0, &ltr), gp(0));
    assert_eq!(with_ax(Machine::long(), CODE64, &ltr), gp(CODE64.into()));
    let mut m = Machine::long();
    m.user64();
    assert_eq!(with_ax(m, TSS_SELECTOR, &ltr), gp(0));
}

#[test]
fn table_registers_and_umip() {
    // lgdt [DATA]; sgdt [DATA + 0x10]
    let code = [0x0F, 0x01, 0x14, 0x25, 0, 0, 4, 0, 0x0F, 0x01, 0x04, 0x25, 0x10, 0, 4, 0, 0xF4];
    let mut m = Machine::long();
    m.put(DATA, 0x77_u16);
    m.put(DATA + 2, 0xFFFF_8000_1234_5678_u64);
    m.completes(&code);
    assert_eq!(m.core().gdtr, Table { base: 0xFFFF_8000_1234_5678, limit: 0x77 });
    assert_eq!((m.get::<u16>(DATA + 0x10), m.get::<u64>(DATA + 0x12)), (0x77, 0xFFFF_8000_1234_5678));
    let mut m = Machine::long();
    m.put(DATA + 2, 1u64 << 50);
    assert_eq!(m.raises(&code), gp(0));
    let umip = |code: &[u8]| {
        let mut m = Machine::long();
        m.core().cr4 |= cr::CR4_UMIP;
        m.user64().raises(code)
    };
    // sgdt, sidt, sldt, str, smsw
    for code in [&code[8..16], &[0x0F, 0x01, 0x0C, 0x24], &[0x0F, 0x00, 0xC0], &[0x0F, 0x00, 0xC8], &[0x0F, 0x01, 0xE0]]
    {
        assert_eq!(umip(code), gp(0), "{code:x?}");
    }
    // smsw eax shows all of CR0.
    let mut m = Machine::long();
    m.completes(&[0x0F, 0x01, 0xE0, 0xF4]);
    let cr0 = m.core().cr0;
    assert_eq!(m.core().regs[reg::RAX], cr0);
}
