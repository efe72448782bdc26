//! Exceptions and interrupts (SDM vol. 3A, chapter 6).

use super::*;
use crate::apic::{Delivery, Destination, Message};

const INT: u8 = 0xCD;
const HLT: u8 = 0xF4;
const UD2: [u8; 2] = [0x0F, 0x0B];

#[test]
fn a_fault_in_64_bit_mode_pushes_five_words_on_an_aligned_stack() {
    let mut m = Machine::long();
    m.core().regs[reg::RSP] = STACK - 4;
    m.core().set_rflags(fl::IF | fl::CF | fl::NT);
    assert_eq!(m.raises(&UD2), UD);
    // Faults push RF (SDM vol. 3B, §18.3.1.1).
    let flags = fl::FIXED | fl::IF | fl::CF | fl::NT | fl::RF;
    assert_eq!(m.frame(), [CODE, CODE64.into(), flags, STACK - 4, KERNEL_DATA.into()]);
    assert_eq!(m.core().regs[reg::RSP], STACK - 16 - 40);
    assert_eq!(m.core().rflags(), fl::FIXED | fl::CF);
}

#[test]
fn a_fault_in_a_program_changes_to_the_stack_of_the_tss() {
    let mut m = Machine::long();
    assert_eq!(m.user64().raises(&UD2), UD);
    assert_eq!(m.frame(), [CODE, USER64.into(), fl::FIXED | fl::RF, USER_STACK, USER_DATA.into()]);
    assert_eq!(m.core().regs[reg::RSP], RSP0 - 40);
    assert_eq!((m.core().seg[seg::SS].selector, m.core().cpl), (0, 0));
}

#[test]
fn software_interrupts_push_the_next_instruction_and_leave_rf_alone() {
    let mut m = Machine::long();
    assert_eq!(m.user64().raises(&[INT, 0x80]), (0x80, None));
    assert_eq!(m.frame()[0], CODE + 2);
    assert_eq!(m.frame()[2], fl::FIXED);
    let mut m = Machine::long();
    assert_eq!(m.raises(&[0xCC]), (3, None));
    assert_eq!(m.frame()[0], CODE + 1);
    let mut m = Machine::long();
    assert_eq!(m.raises(&[0xF1]), (1, None));
}

#[test]
fn gates_that_programs_may_not_use_are_general_protection() {
    // Vector · 8, IDT bit; no EXT for INT n (SDM vol. 3A, §6.13).
    assert_eq!(Machine::long().user64().raises(&[INT, 0x20]), gp(0x20 * 8 + 2));
    // INT1 does not look at the DPL.
    assert_eq!(Machine::long().user64().raises(&[0xF1]), (1, None));
    assert_eq!(Machine::protected().user32().raises(&[INT, 0x20]), gp(0x20 * 8 + 2));
}

#[test]
fn bad_gates_have_their_vector_in_the_error_code() {
    let with = |n: u64, gate: [u64; 2], code: &[u8]| {
        let mut m = Machine::long();
        m.put(IDT + 16 * n, gate[0]);
        m.put(IDT + 16 * n + 8, gate[1]);
        m.raises(code)
    };
    let target = HANDLERS;
    // Not present: #NP. For INT without, for #UD with EXT.
    assert_eq!(with(0x40, gate64(target, CODE64, 0x0E, 0), &[INT, 0x40]), (11, Some(0x202)));
    assert_eq!(with(6, gate64(target, CODE64, 0x0E, 0), &UD2), (11, Some(0x33)));
    // No gate of 64-bit mode.
    assert_eq!(with(0x40, gate64(target, CODE64, 0x86, 0), &[INT, 0x40]), gp(0x202));
    assert_eq!(with(6, gate64(target, CODE64, 0x85, 0), &UD2), gp(0x33));
    // Code segment: null, outside the table, data, 32 bits, not present.
    assert_eq!(with(0x40, gate64(target, 0, 0x8E, 0), &[INT, 0x40]), gp(0));
    assert_eq!(with(6, gate64(target, 0, 0x8E, 0), &UD2), gp(1));
    assert_eq!(with(0x40, gate64(target, 0x200, 0x8E, 0), &[INT, 0x40]), gp(0x200));
    assert_eq!(with(0x40, gate64(target, KERNEL_DATA, 0x8E, 0), &[INT, 0x40]), gp(KERNEL_DATA.into()));
    assert_eq!(with(6, gate64(target, CODE32, 0x8E, 0), &UD2), gp(u32::from(CODE32) + 1));
    assert_eq!(with(0x40, gate64(target, ABSENT_CODE, 0x8E, 0), &[INT, 0x40]), (11, Some(ABSENT_CODE.into())));
    // The handler's address is not canonical.
    assert_eq!(with(0x40, gate64(1 << 60, CODE64, 0x8E, 0), &[INT, 0x40]), gp(0));
}

#[test]
fn an_idt_that_is_too_short_is_general_protection() {
    let mut m = Machine::long();
    m.core().idtr.limit = 0x40 * 16 + 14;
    assert_eq!(m.raises(&[INT, 0x40]), gp(0x202));
}

#[test]
fn interrupt_stack_table_and_trap_gates() {
    let mut m = Machine::long();
    let [low, high] = gate64(HANDLERS + 16 * 0x40, CODE64, 0x8F, 1);
    m.put(IDT + 16 * 0x40, low);
    m.put(IDT + 16 * 0x40 + 8, high);
    m.core().set_rflags(fl::IF | fl::TF);
    assert_eq!(m.raises(&[INT, 0x40]), (0x40, None));
    assert_eq!(m.core().regs[reg::RSP], IST1 - 40);
    // A trap gate leaves IF.
    assert_eq!(m.core().rflags(), fl::FIXED | fl::IF);
    // A TSS too short for the table.
    let mut m = Machine::long();
    m.put(IDT + 16 * 0x40, low);
    m.core().tr.limit = 0x2A;
    assert_eq!(m.raises(&[INT, 0x40]), (10, Some(TSS_SELECTOR.into())));
}

#[test]
fn page_faults_set_cr2_and_say_what_was_wrong() {
    // mov al, [HOLE]; mov [HOLE], al
    let read = [0xA0, 0, 0, 5, 0, 0, 0, 0, 0];
    let write = [0xA2, 8, 0, 5, 0, 0, 0, 0, 0];
    let mut m = Machine::long();
    assert_eq!(m.raises(&read), (14, Some(0)));
    assert_eq!(m.core().cr2, HOLE);
    assert_eq!(m.frame()[0], CODE);
    let mut m = Machine::long();
    assert_eq!(m.raises(&write), (14, Some(2)));
    assert_eq!(m.core().cr2, HOLE + 8);
    // Programs in the kernel's page: present, user.
    let mut m = Machine::long();
    assert_eq!(m.user64().raises(&[0xA2, 0, 0x10, 5, 0, 0, 0, 0, 0]), (14, Some(7)));
}

#[test]
fn a_page_fault_on_the_handlers_stack_is_a_double_fault_and_then_the_end() {
    let mut m = Machine::long();
    let [low, high] = gate64(HANDLERS + 16 * 8, CODE64, 0x8E, 1);
    m.put(IDT + 16 * 8, low);
    m.put(IDT + 16 * 8 + 8, high);
    m.core().regs[reg::RSP] = HOLE + 0x800;
    // The page fault of PUSH, then the one of its own delivery.
    assert_eq!(m.raises(&[0x50]), (8, Some(0)));
    assert_eq!(m.frame()[0], CODE);
    assert_eq!(m.core().cr2, HOLE + 0x7F8);
    let mut m = Machine::long();
    m.core().regs[reg::RSP] = HOLE + 0x800;
    assert_eq!(m.try_run(&[0x50]), Some(Exit::Shutdown));
}

#[test]
fn contributory_exceptions_double_and_benign_ones_do_not() {
    // #GP whose gate is not present: contributory on contributory.
    let mut m = Machine::long();
    m.put(IDT + 16 * 13, 0u64);
    assert_eq!(m.raises(&[INT, 0x40, HLT]), (0x40, None));
    let mut m = Machine::long();
    m.put(IDT + 16 * 13, 0u64);
    // mov cr4, rax with reserved bits.
    m.core().regs[reg::RAX] = u64::MAX;
    assert_eq!(m.raises(&[0x0F, 0x22, 0xE0]), (8, Some(0)));
    // #UD (benign), then #NP by its gate: delivered one after the other.
    let mut m = Machine::long();
    m.put(IDT + 16 * 6, gate64(HANDLERS, CODE64, 0x0E, 0)[0]);
    assert_eq!(m.raises(&UD2), (11, Some(0x33)));
    // #GP (contributory) with its handler in the hole: the page fault comes at the handler, not in the delivery.
    let mut m = Machine::long();
    m.put(IDT + 16 * 13, gate64(HOLE, CODE64, 0x8E, 0)[0]);
    m.core().regs[reg::RAX] = u64::MAX;
    assert_eq!(m.raises(&[0x0F, 0x22, 0xE0]), (14, Some(0x10)));
    assert_eq!(m.core().cr2, HOLE);
}

#[test]
fn without_an_idt_everything_ends() {
    for mut m in [Machine::long(), Machine::protected(), Machine::real()] {
        m.core().idtr.limit = 0;
        assert_eq!(m.try_run(&UD2), Some(Exit::Shutdown));
    }
}

#[test]
fn protected_mode_pushes_words_of_the_gates_size() {
    let mut m = Machine::protected();
    m.core().set_rflags(fl::IF | fl::ZF);
    assert_eq!(m.raises(&[INT, 0x40]), (0x40, None));
    let frame = [0, 1, 2].map(|n| m.top::<u32>(n));
    assert_eq!(frame, [CODE as u32 + 2, CODE32.into(), (fl::FIXED | fl::IF | fl::ZF) as u32]);
    assert_eq!(m.core().regs[reg::RSP], STACK - 12);
    // A 16-bit gate; its handler is where offset bits 0–15 say.
    let mut m = Machine::protected();
    m.put(IDT + 8 * 0x40, gate32(0x8000, CODE32, 0x86));
    m.put(0x8000, HLT);
    m.run(&[INT, 0x40]);
    assert_eq!((m.core().regs[reg::RIP], m.core().regs[reg::RSP]), (0x8001, STACK - 6));
    assert_eq!([m.top::<u16>(0), m.top::<u16>(1)], [(CODE + 2) as u16, CODE32]);
}

#[test]
fn protected_mode_changes_stacks_to_an_inner_level() {
    let mut m = Machine::protected();
    assert_eq!(m.user32().raises(&UD2), UD);
    let frame = [0, 1, 2, 3, 4].map(|n| u64::from(m.top::<u32>(n)));
    assert_eq!(frame, [CODE, USER32.into(), fl::FIXED | fl::RF, USER_STACK, USER_DATA.into()]);
    assert_eq!((m.core().seg[seg::SS].selector, m.core().cpl), (KERNEL_DATA, 0));
    // The stack segment in the TSS is bad: #TS; then, since #TS has the same problem, a double fault and the end.
    for bad in [0, 0x200, u32::from(READ_ONLY), u32::from(USER_DATA)] {
        let mut m = Machine::protected();
        m.put(TSS + 8, bad);
        assert_eq!(m.user32().try_run(&UD2), Some(Exit::Shutdown));
    }
}

#[test]
fn from_virtual_8086_mode_all_segments_are_saved() {
    let mut m = Machine::protected();
    m.core().set_rflags(fl::VM | 3 << 12);
    for (which, selector) in
        [(seg::CS, 0x1000), (seg::SS, 0x2000), (seg::DS, 1), (seg::ES, 2), (seg::FS, 3), (seg::GS, 4)]
    {
        m.core().seg[which] = Seg::real(selector, 0xF3);
    }
    m.core().refresh();
    m.core().regs[reg::RIP] = 0;
    m.core().regs[reg::RSP] = 0x100;
    assert_eq!(m.raises(&[INT, 0x80]), (0x80, None));
    let frame = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|n| u64::from(m.top::<u32>(n)));
    assert_eq!(frame, [2, 0x1000, fl::FIXED | fl::VM | fl::IOPL, 0x100, 0x2000, 2, 1, 3, 4]);
    assert_eq!(m.core().seg[seg::DS], Seg::unusable(0, 0));
    assert_eq!((m.core().cpl, m.core().rflags()), (0, fl::FIXED | fl::IOPL));
    // Without IOPL 3, INT n is #GP(0) (SDM vol. 3A, §21.2.7).
    let mut m = Machine::protected();
    m.core().set_rflags(fl::VM);
    m.core().seg[seg::CS] = Seg::real(0x1000, 0xF3);
    m.core().seg[seg::SS] = Seg::real(0x2000, 0xF3);
    m.core().refresh();
    m.core().regs[reg::RIP] = 0;
    assert_eq!(m.raises(&[INT, 0x80]), gp(0));
}

#[test]
fn real_mode_goes_through_the_vector_table() {
    let mut m = Machine::real();
    m.core().set_rflags(fl::IF | fl::TF | fl::CF | fl::AC);
    // TF: the trap behind the first NOP.
    assert_eq!(m.raises(&[0x90, 0x90]), (1, None));
    assert_eq!([0, 1, 2].map(|n| m.top::<u16>(n)), [1, 0x1000, (fl::FIXED | fl::IF | fl::TF | fl::CF) as u16]);
    assert_eq!(m.core().rflags(), fl::FIXED | fl::CF);
    assert_eq!(m.core().dr6 & 1 << 14, 1 << 14);
    assert_eq!(Machine::real().raises(&UD2), UD);
}

#[test]
fn a_fault_changes_nothing_else() {
    let mut m = Machine::long();
    m.user64();
    let before = (m.core().regs, m.core().seg[seg::DS]);
    // push [HOLE]
    assert_eq!(m.raises(&[0xFF, 0x34, 0x25, 0, 0, 5, 0]), (14, Some(4)));
    let frame = m.frame();
    assert_eq!((frame[0], frame[3]), (CODE, USER_STACK));
    let mut after = m.core().regs;
    (after[reg::RIP], after[reg::RSP]) = (before.0[reg::RIP], before.0[reg::RSP]);
    assert_eq!((after, m.core().seg[seg::DS]), before);
}

#[test]
fn single_steps_and_breakpoints() {
    // popf sets TF: no trap behind POPF itself, one behind the NOP after it.
    let mut m = Machine::long();
    m.put(STACK - 8, fl::FIXED | fl::TF);
    m.core().regs[reg::RSP] = STACK - 8;
    assert_eq!(m.raises(&[0x9D, 0x90, 0x90]), (1, None));
    assert_eq!(m.frame()[0], CODE + 2);
    assert_eq!(m.core().dr6, 0xFFFF_4FF0);
    // A code breakpoint is a fault: before the instruction, RF clear in the image.
    let mut m = Machine::long();
    m.core().dr[1] = CODE + 1;
    m.core().dr7 = 0x404;
    m.core().recheck = true;
    assert_eq!(m.raises(&[0x90, 0x90, 0x90]), (1, None));
    assert_eq!((m.frame()[0], m.frame()[2]), (CODE + 1, fl::FIXED));
    assert_eq!(m.core().dr6, 0xFFFF_0FF2);
    // With RF it is passed once.
    let mut m = Machine::long();
    m.core().dr[0] = CODE;
    m.core().dr7 = 0x401;
    m.core().set_rflags(fl::RF);
    m.completes(&[0x90, HLT]);
    // A data breakpoint is a trap: behind the store.
    let mut m = Machine::long();
    m.core().dr[0] = DATA;
    m.core().dr7 = 0x401 | 0xD << 16;
    assert_eq!(m.raises(&[0xA2, 2, 0, 4, 0, 0, 0, 0, 0, 0x90]), (1, None));
    assert_eq!(m.frame()[0], CODE + 9);
    assert_eq!(m.core().dr6, 0xFFFF_0FF1);
}

#[test]
fn general_detect_stops_debug_register_accesses_once() {
    let mut m = Machine::long();
    m.core().dr7 = 0x2400;
    // mov rax, dr0
    assert_eq!(m.raises(&[0x0F, 0x21, 0xC0]), (1, None));
    assert_eq!(m.frame()[0], CODE);
    assert_eq!((m.core().dr6, m.core().dr7), (0xFFFF_2FF0, 0x400));
}

#[test]
fn nmis_are_blocked_until_iret() {
    let mut m = Machine::long();
    m.core().nmi_pending = 1;
    assert_eq!(m.raises(&[0x90, HLT]), (2, None));
    assert!(m.core().nmi_blocked);
    // The handler's HLT is left for another NMI only behind IRET.
    m.core().nmi_pending = 1;
    m.core().halted = false;
    let handler = m.core().regs[reg::RIP];
    m.put(handler, 0x48_u8);
    m.put(handler + 1, 0xCF_u8);
    m.run(&[]);
    assert_eq!(m.caught(), (2, None));
    assert!(m.core().nmi_blocked);
    assert_eq!(m.frame()[0], CODE);
}

#[test]
fn mov_ss_holds_nmis_off_for_one_instruction() {
    let mut m = Machine::long();
    m.core().nmi_pending = 1;
    // The machine starts in the shadow of such an instruction, so that MOV SS itself is reached.
    m.core().shadow = crate::core::Shadow::MovSs;
    m.core().regs[reg::RAX] = KERNEL_DATA.into();
    assert_eq!(m.raises(&[0x8E, 0xD0, 0x90, 0x90]), (2, None));
    assert_eq!(m.frame()[0], CODE + 3);
}

/// An interrupt of vector 0x41 waits at the local APIC.
fn with_interrupt(mut m: Machine) -> Machine {
    let apic = &mut m.core().apic;
    let _ = apic.mmio_write(0xF0, &0x1FF_u32.to_le_bytes(), 0);
    let message = Message { destination: Destination::All, delivery: Delivery::Fixed, vector: 0x41, level: false };
    assert_eq!(apic.receive(&message), None);
    m
}

#[test]
fn sti_holds_interrupts_off_for_one_instruction_and_popf_does_not() {
    for (code, rip) in [
        (&[0xFB, 0x90, 0x90, HLT][..], 2),
        (&[0xFB, HLT, 0x90], 2),
        (&[0xFB, 0xFA, 0xFB, 0x90, 0x90], 4),
        (&[0x9C, 0x5B, 0x80, 0xCF, 2, 0x53, 0x9D, 0x90], 7),
        // A second STI does not shade.
        (&[0xFB, 0xFB, 0x90], 2),
    ] {
        let mut m = with_interrupt(Machine::long());
        assert_eq!(m.raises(code), (0x41, None), "{code:x?}");
        assert_eq!(m.frame()[0], CODE + rip, "{code:x?}");
    }
}

#[test]
fn interrupts_wake_from_hlt_even_behind_an_old_shadow() {
    let mut m = Machine::long();
    m.completes(&[0xFB, 0x90, HLT]);
    let mut m = with_interrupt(m);
    m.core().halted = false;
    m.core().recheck = true;
    assert_eq!(m.raises(&[0x90, HLT]), (0x41, None));
    assert_eq!(m.frame()[0], CODE + 3);
}

#[test]
fn priorities_hold_interrupts_back() {
    let mut m = with_interrupt(Machine::long());
    m.core().set_rflags(fl::IF);
    m.core().regs[reg::RAX] = 4;
    m.core().shadow = crate::core::Shadow::Sti;
    // mov cr8, rax; nop; xor eax, eax; mov cr8, rax; nop
    let code = [0x44, 0x0F, 0x22, 0xC0, 0x90, 0x31, 0xC0, 0x44, 0x0F, 0x22, 0xC0, 0x90];
    assert_eq!(m.raises(&code), (0x41, None));
    assert_eq!(m.frame()[0], CODE + 11);
}
