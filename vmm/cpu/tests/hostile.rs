//! Guests that mean no good: the program around the processor goes on, with a reason.

mod common;

use bulla_cpu::Exit;
use bulla_cpu::core::Table;
use bulla_cpu::insn::reg;
use common::{CODE, HANDLER, IDT, MODES, Machine, Mode, PT, STACK, TABLES};

/// OUT 0xF4, AL, for saying that code came here; then for ever.
const SAY: [u8; 4] = [0xE6, 0xF4, 0xEB, 0xFE];

fn said(machine: &Machine) -> Vec<u8> {
    machine.devices.written.iter().filter(|(port, _)| *port == 0xF4).map(|(_, value)| *value).collect()
}

/// Runs `code` in `mode` for `most` instructions.
fn run(mode: Mode, code: &[u8], most: u64) -> (Machine, Option<Exit>) {
    let mut machine = Machine::new(64, mode);
    machine.write(CODE, code);
    let exit = machine.run(most, 1 << 16);
    (machine, exit)
}

#[test]
fn code_that_changes_the_next_instruction_runs_what_it_wrote() {
    // mov byte ptr [rip + 1], 2; mov al, 1 (the 1 is overwritten)
    let code = [&[0xC6, 0x05, 1, 0, 0, 0, 2, 0xB0, 1][..], &SAY].concat();
    let (machine, exit) = run(Mode::Long, &code, 100);
    assert_eq!((said(&machine), exit), (vec![2], None));
}

#[test]
fn code_that_changes_code_it_has_run_already_runs_the_new_one() {
    // mov ecx, 2; again: mov al, 1; out 0xF4, al; mov byte ptr [rip - 9 → 1], 7; loop again; for ever
    let code = [0xB9, 2, 0, 0, 0, 0xB0, 1, 0xE6, 0xF4, 0xC6, 0x05, 0xF6, 0xFF, 0xFF, 0xFF, 7, 0xE2, 0xF3, 0xEB, 0xFE];
    let (machine, _) = run(Mode::Long, &code, 100);
    assert_eq!(said(&machine), [1, 7]);
}

#[test]
fn code_changed_through_another_address_of_the_same_page_is_noticed() {
    let mut machine = Machine::new(64, Mode::Long);
    // 0x20000 is the page of the code, too.
    machine.put(PT + 8 * 0x20, CODE | 7);
    // mov ecx, 2; again: mov al, 1; out 0xF4, al; mov byte ptr [0x20006], 7; loop again; for ever
    let code = [0xB9, 2, 0, 0, 0, 0xB0, 1, 0xE6, 0xF4, 0xC6, 0x04, 0x25, 6, 0, 2, 0, 7, 0xE2, 0xF2, 0xEB, 0xFE];
    machine.write(CODE, &code);
    machine.run(100, 1 << 16);
    assert_eq!(said(&machine), [1, 7]);
}

#[test]
fn a_repeated_store_over_itself_ends_with_the_code_it_wrote() {
    // mov edi, CODE; mov ecx, 4096; mov al, 0xF4 (HLT); rep stosb
    let code = [0xBF, 0, 0x80, 0, 0, 0xB9, 0, 16, 0, 0, 0xB0, 0xF4, 0xF3, 0xAA];
    let (machine, exit) = run(Mode::Long, &code, 100_000);
    // It waits for an interrupt that cannot come.
    assert!(matches!(exit, Some(Exit::Kicked)), "{exit:?}");
    assert!(machine.state().rip > CODE);
}

#[test]
fn an_instruction_across_two_pages_is_read_from_both_and_from_what_is_there_now() {
    let mut machine = Machine::new(64, Mode::Long);
    // mov eax, 0x04030201, with its immediate on the next page.
    machine.write(0x20FFF, &[0xB8, 1, 2, 3, 4, 0xE6, 0xF4, 0xEB, 0xFE]);
    machine.change(|state| state.rip = 0x20FFF);
    machine.run(10, 1 << 16);
    assert_eq!(machine.state().regs[reg::RAX], 0x0403_0201);
    // The next page is another one now.
    machine.write(0x30000, &[5, 6, 7, 8, 0xE6, 0xF4, 0xEB, 0xFE]);
    machine.put(PT + 8 * 0x21, 0x30007);
    machine.change(|state| state.rip = 0x20FFF);
    machine.run(10, 1 << 16);
    assert_eq!(machine.state().regs[reg::RAX], 0x0807_0605);
    // And now it is none: #PF, for the address of its first byte, and the handler returns to the same.
    machine.put(PT + 8 * 0x21, 0);
    machine.change(|state| (state.rip, state.regs[reg::RAX]) = (0x20FFF, 0));
    assert_eq!(machine.run(10, 1 << 16), None);
    assert_eq!((machine.state().cr2, machine.state().regs[reg::RAX]), (0x21000, 0));
}

#[test]
fn faults_without_end_end_with_the_number_of_steps() {
    for mode in MODES {
        // UD2; the handler returns to it.
        let (machine, exit) = run(mode, &[0x0F, 0x0B], 10_000);
        assert_eq!(exit, None, "{mode:?}");
        let retired = machine.cpu.retired();
        assert!((10_000..30_000).contains(&retired), "{mode:?}: {retired}");
    }
}

#[test]
fn a_fault_loop_that_uses_up_the_stack_ends_in_a_shutdown() {
    // Every handler faults again, deeper on the stack; below the stack there is nothing.
    let mut machine = Machine::new(64, Mode::Long);
    for vector in 0..32 {
        machine.put(IDT + 16 * vector, CODE | 8 << 16 | 0x8E00 << 32);
    }
    machine.put(PT + 8 * 0xD, 0);
    machine.write(CODE, &[0x0F, 0x0B]);
    assert_eq!(machine.run(1_000_000, 1 << 16), Some(Exit::Shutdown));
    // It stays down: running on says so again, or does nothing, but does not go on.
    let before = machine.state();
    assert!(matches!(machine.run(1000, 1 << 10), Some(Exit::Shutdown | Exit::Kicked)));
    assert_eq!(machine.state().rip, before.rip);
}

#[test]
fn without_an_idt_the_first_fault_is_the_third() {
    for mode in MODES {
        let mut machine = Machine::new(64, mode);
        machine.write(CODE, &[0x0F, 0x0B]);
        machine.change(|state| state.idtr = Table { base: 0, limit: 0 });
        assert_eq!(machine.run(1000, 1 << 16), Some(Exit::Shutdown), "{mode:?}");
    }
}

#[test]
fn an_idt_in_unmapped_memory_is_a_triple_fault() {
    let mut machine = Machine::new(64, Mode::User);
    machine.write(CODE, &[0xF4]);
    machine.change(|state| state.idtr = Table { base: 0xFFFF_9000_0000_0000, limit: 0xFFF });
    assert_eq!(machine.run(1000, 1 << 16), Some(Exit::Shutdown));
}

#[test]
fn page_tables_of_every_wild_kind_end_in_a_page_fault_or_a_shutdown() {
    let wild = [
        0,                     // nothing
        TABLES[0] | 7,         // itself
        0xFFFF_FFFF_FFFF_FFFF, // all bits
        0x000F_FFFF_FFFF_F007, // memory that is not there
        0xFEE0_0007,           // the local APIC
        0xFF_FFFF_F087,        // a large page where none can be
        CODE | 7,              // the code as a table
        1,                     // page 0, for reading
    ];
    for (level, table) in TABLES[..4].iter().enumerate() {
        for entry in wild {
            let mut machine = Machine::new(64, Mode::Long);
            // The page tables are changed by the guest, which then goes on through them: mov [rdi], rsi; mov cr3, rax;
            // mov rax, [rbx]; push rax; for ever
            machine.write(CODE, &[0x48, 0x89, 0x37, 0x0F, 0x22, 0xD8, 0x48, 0x8B, 0x03, 0x50, 0xEB, 0xFE]);
            machine.change(|state| {
                state.regs[reg::RDI] = *table;
                state.regs[reg::RSI] = entry;
                state.regs[reg::RAX] = state.cr3;
                state.regs[reg::RBX] = 0x1_2345_6789;
            });
            let exit = machine.run(10_000, 1 << 16);
            assert!(matches!(exit, None | Some(Exit::Shutdown)), "level {level}, {entry:#x}: {exit:?}");
        }
    }
}

#[test]
fn code_in_device_memory_and_beyond_memory_is_no_reason_to_panic() {
    for rip in [common::APIC, 0x3F000, 0x40_0000, 0x7FFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFE] {
        let mut machine = Machine::new(64, Mode::Long);
        machine.change(|state| state.rip = rip);
        let exit = machine.run(10_000, 1 << 12);
        assert!(matches!(exit, None | Some(Exit::Shutdown | Exit::Kicked)), "{rip:#x}: {exit:?}");
    }
}

#[test]
fn decoded_code_takes_bounded_memory() {
    // Two MiB of one-byte instructions, then back.
    let mut machine = Machine::new(1024, Mode::Long);
    let (first, end) = (0x10_0000u64, 0x30_0000u64);
    machine.write(first, &vec![0x90; (end - first) as usize]);
    let back = (first as i64 - (end as i64)) as i32;
    let jump = [&[0xE9][..], &back.to_le_bytes()].concat();
    machine.write(end - 5, &jump);
    machine.change(|state| state.rip = first);
    let mut most = 0;
    for _ in 0..50 {
        assert_eq!(machine.run(100_000, 1 << 16), None);
        most = most.max(machine.cpu.cached());
    }
    assert!((100_000..400_000).contains(&most), "{most}");
}

#[test]
fn random_code_in_every_mode_ends() {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (seed >> 56) as u8
    };
    for n in 0..300 {
        let mode = MODES[n % MODES.len()];
        let mut machine = Machine::new(64, mode);
        let code: Vec<u8> = (0..4096).map(|_| random()).collect();
        machine.write(CODE, &code);
        if n % 3 == 0 {
            let handler: Vec<u8> = (0..256).map(|_| random()).collect();
            machine.write(HANDLER, &handler);
        }
        machine.change(|state| {
            for (register, value) in state.regs.iter_mut().enumerate() {
                *value = if register == reg::RSP { STACK } else { u64::from(random()) << 9 | u64::from(random()) };
            }
        });
        machine.run(10_000, 1 << 10);
        assert!(machine.cpu.retired() < 60_000);
        // Where it stopped is a state that it can be started from again.
        let state = machine.state();
        machine.set_state(&state);
        assert_eq!(machine.state(), state);
    }
}
