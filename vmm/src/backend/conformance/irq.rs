//! Message-signalled interrupts, and the end of level-triggered ones.

use super::guest::{Access, CODE, Guest, STOP_CODE};
use crate::backend::{BackendError, DescriptorTable, IOAPIC_PINS, Msi};

const VECTOR: u8 = 0x40;
const IDT: u64 = 0xA000;
const HANDLER: u64 = 0xB000;
/// Address of the HLT in [`WAIT`].
const WAITING: u64 = CODE + 5 + 6 + STOP_CODE.len() as u64 + 1;
/// Message data bits: level-triggered, asserted (SDM vol. 3A, §11.11.2).
const LEVEL: u32 = (1 << 15) | (1 << 14);

/// Switches the local APIC on (spurious-interrupt vector register), stops, waits for an interrupt.
const WAIT: &[&[u8]] = &[
    &[0xB9, 0xF0, 0x00, 0xE0, 0xFE], // mov ecx, 0xFEE000F0
    &[0xC7, 0x01, 0xFF, 0x01, 0, 0], // mov dword [rcx], 0x1FF
    &STOP_CODE,
    &[0xFB],       // sti
    &[0xF4],       // 1: hlt
    &[0xEB, 0xFD], // jmp 1b
];

/// A guest with its local APIC on, about to wait.
fn waiting_guest() -> Option<Guest> {
    let mut guest = Guest::new(&WAIT.concat())?;
    // mov ecx, 0xFEE000B0; mov dword [rcx], 0 (end of interrupt)
    let mut handler = vec![0xB9, 0xB0, 0x00, 0xE0, 0xFE, 0xC7, 0x01, 0, 0, 0, 0];
    // mov edx, 0x500; out dx, al; stop
    handler.extend([0xBA, 0x00, 0x05, 0, 0, 0xEE]);
    handler.extend(STOP_CODE);
    handler.extend([0xEB, 0xFE]);
    guest.write(HANDLER, &handler);
    // A 64-bit interrupt gate: offset 15–0, selector 8, type 0xE present, offset 63–16.
    let gate = [HANDLER.to_le_bytes()[0], HANDLER.to_le_bytes()[1], 8, 0, 0, 0x8E, 0, 0];
    guest.write(IDT + u64::from(VECTOR) * 16, &gate);
    guest.change(|state| state.idt = DescriptorTable { base: IDT, limit: 0xFFF });
    assert_eq!(guest.run_to_stop(), []);
    Some(guest)
}

fn message(flags: u32) -> Msi {
    Msi { address: 0xFEE0_0000, data: u32::from(VECTOR) | flags }
}

#[test]
fn a_message_runs_the_guest_s_handler() {
    let Some(mut guest) = waiting_guest() else { return };
    let sink = guest.partition.irq_sink();
    for _ in 0..3 {
        sink.signal_msi(message(0)).unwrap();
        assert_eq!(guest.run_to_stop(), [Access::Out(0x500, vec![0])]);
        guest.change(|state| {
            state.registers.rip = WAITING;
            state.registers.rflags |= 1 << 9;
        });
    }
}

#[test]
fn the_end_of_an_interrupt_is_told_for_a_vector_that_a_pin_is_routed_to() {
    for routed in [true, false] {
        let Some(mut guest) = waiting_guest() else { return };
        let sink = guest.partition.irq_sink();
        if routed {
            sink.route_pin(4, Some(message(LEVEL))).unwrap();
        }
        sink.signal_msi(message(LEVEL)).unwrap();
        let seen = guest.run_to_stop();
        assert_eq!(seen.contains(&Access::Eoi(VECTOR)), routed, "{seen:x?}");
    }
}

#[test]
fn a_pin_that_does_not_exist_is_refused() {
    let Some(guest) = Guest::new(&[]) else { return };
    let sink = guest.partition.irq_sink();
    sink.route_pin(IOAPIC_PINS - 1, Some(message(0))).unwrap();
    sink.route_pin(IOAPIC_PINS - 1, None).unwrap();
    let error = sink.route_pin(IOAPIC_PINS, None).unwrap_err();
    assert!(matches!(error, BackendError::NoSuchPin(IOAPIC_PINS)), "{error:?}");
}
