use std::sync::Arc;

use super::*;
use crate::backend::Msi;
use crate::devices::testing::TestSink;
use crate::devices::{MmioDevice, RestoreError, SaveRestore, lock};

const MASK: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;

fn ioapic() -> (Ioapic, Arc<TestSink>) {
    let sink = TestSink::new();
    (Ioapic::new(sink.clone()), sink)
}

fn read(ioapic: &mut Ioapic, register: u8) -> u32 {
    ioapic.mmio_write(0, &u32::from(register).to_le_bytes());
    let mut data = [0xFF; 4];
    ioapic.mmio_read(0x10, &mut data);
    u32::from_le_bytes(data)
}

fn write(ioapic: &mut Ioapic, register: u8, value: u32) {
    ioapic.mmio_write(0, &u32::from(register).to_le_bytes());
    ioapic.mmio_write(0x10, &value.to_le_bytes());
}

fn entry(ioapic: &mut Ioapic, pin: u8) -> u64 {
    u64::from(read(ioapic, 0x10 + 2 * pin)) | u64::from(read(ioapic, 0x11 + 2 * pin)) << 32
}

fn set_entry(ioapic: &mut Ioapic, pin: u8, value: u64) {
    // The order Linux uses when it unmasks: high half first.
    write(ioapic, 0x11 + 2 * pin, (value >> 32) as u32);
    write(ioapic, 0x10 + 2 * pin, value as u32);
}

#[test]
fn identification() {
    let (mut ioapic, _) = ioapic();
    assert_eq!(read(&mut ioapic, 1), 0x0017_0020);
    write(&mut ioapic, 0, 0xFFFF_FFFF);
    assert_eq!(read(&mut ioapic, 0), 0x0F00_0000);
    assert_eq!(read(&mut ioapic, 2), 0x0F00_0000);
    write(&mut ioapic, 1, 0);
    assert_eq!(read(&mut ioapic, 1), 0x0017_0020, "read-only");
    for pin in 0..24 {
        assert_eq!(entry(&mut ioapic, pin), MASK);
    }
    assert_eq!(read(&mut ioapic, 0x10 + 48), 0, "no 25th pin");
    assert_eq!(read(&mut ioapic, 0xFF), 0);
}

#[test]
fn reserved_and_read_only_bits_cannot_be_written() {
    let (mut ioapic, _) = ioapic();
    set_entry(&mut ioapic, 5, u64::MAX);
    assert_eq!(entry(&mut ioapic, 5), 0xFF00_0000_0001_AFFF);
}

#[test]
fn an_edge_sends_one_message() {
    let (mut ioapic, sink) = ioapic();
    set_entry(&mut ioapic, 4, 0x31 | 3 << 56);
    ioapic.set_pin(4, true);
    ioapic.set_pin(4, true);
    ioapic.set_pin(4, false);
    assert_eq!(*lock(&sink.messages), [Msi { address: 0xFEE0_3000, data: 0x31 }]);
    ioapic.set_pin(4, true);
    assert_eq!(sink.take_vectors(), [0x31, 0x31]);
    assert_eq!(entry(&mut ioapic, 4) & REMOTE_IRR, 0);
    ioapic.end_of_interrupt(0x31);
    assert!(sink.take_vectors().is_empty(), "an edge is not sent again");
}

#[test]
fn messages_carry_mode_and_destination() {
    let (mut ioapic, sink) = ioapic();
    // Logical destination, lowest priority, level-triggered, active low.
    set_entry(&mut ioapic, 9, 0x45 | 1 << 8 | 1 << 11 | 1 << 13 | LEVEL | 0x81 << 56);
    ioapic.set_pin(9, true);
    assert_eq!(*lock(&sink.messages), [Msi { address: 0xFEE8_1004, data: 0xC145 }]);
    assert_eq!(lock(&sink.routes).last(), Some(&(9, Some(Msi { address: 0xFEE8_1004, data: 0xC145 }))));
}

#[test]
fn an_edge_on_a_masked_pin_is_lost() {
    let (mut ioapic, sink) = ioapic();
    ioapic.set_pin(4, true);
    set_entry(&mut ioapic, 4, 0x31);
    assert!(sink.take_vectors().is_empty());
}

#[test]
fn a_level_is_sent_again_until_it_goes_away() {
    let (mut ioapic, sink) = ioapic();
    set_entry(&mut ioapic, 9, 0x40 | LEVEL);
    ioapic.set_pin(9, true);
    assert_eq!(sink.take_vectors(), [0x40]);
    assert_ne!(entry(&mut ioapic, 9) & REMOTE_IRR, 0);
    ioapic.set_pin(9, false);
    ioapic.set_pin(9, true);
    assert!(sink.take_vectors().is_empty(), "in service");
    ioapic.end_of_interrupt(0x41);
    assert!(sink.take_vectors().is_empty(), "another vector's end");
    ioapic.end_of_interrupt(0x40);
    assert_eq!(sink.take_vectors(), [0x40], "still high");
    ioapic.set_pin(9, false);
    ioapic.mmio_write(0x40, &0x40_u32.to_le_bytes());
    assert_eq!(entry(&mut ioapic, 9) & REMOTE_IRR, 0, "the EOI register does the same");
    assert!(sink.take_vectors().is_empty());
}

#[test]
fn a_masked_level_is_sent_on_unmask() {
    let (mut ioapic, sink) = ioapic();
    set_entry(&mut ioapic, 9, 0x40 | LEVEL | MASK);
    ioapic.set_pin(9, true);
    assert!(sink.take_vectors().is_empty());
    set_entry(&mut ioapic, 9, 0x40 | LEVEL);
    assert_eq!(sink.take_vectors(), [0x40]);
    // Masked while in service: the end still counts, and unmasking sends again.
    set_entry(&mut ioapic, 9, 0x40 | LEVEL | MASK);
    ioapic.end_of_interrupt(0x40);
    assert!(sink.take_vectors().is_empty());
    set_entry(&mut ioapic, 9, 0x40 | LEVEL);
    assert_eq!(sink.take_vectors(), [0x40]);
}

#[test]
fn masking_keeps_the_route() {
    let (mut ioapic, sink) = ioapic();
    set_entry(&mut ioapic, 9, 0x40 | LEVEL);
    let routes = lock(&sink.routes).len();
    set_entry(&mut ioapic, 9, 0x40 | LEVEL | MASK);
    // The write of the high half still saw an unmasked entry.
    assert_eq!(lock(&sink.routes).len(), routes + 1);
    assert!(lock(&sink.routes).iter().all(|(pin, msi)| *pin == 9 && msi.is_some()));
    ioapic.reset();
    assert_eq!(lock(&sink.routes).iter().filter(|(_, msi)| msi.is_none()).count(), 24);
}

#[test]
fn switching_to_edge_and_back_clears_remote_irr() {
    let (mut ioapic, sink) = ioapic();
    set_entry(&mut ioapic, 9, 0x40 | LEVEL);
    ioapic.set_pin(9, true);
    ioapic.set_pin(9, false);
    set_entry(&mut ioapic, 9, 0x40 | MASK);
    set_entry(&mut ioapic, 9, 0x40 | LEVEL);
    assert_eq!(entry(&mut ioapic, 9) & REMOTE_IRR, 0);
    assert_eq!(sink.take_vectors(), [0x40]);
}

#[test]
fn ext_int_entries_send_nothing() {
    let (mut ioapic, sink) = ioapic();
    set_entry(&mut ioapic, 0, 7 << 8);
    ioapic.set_pin(0, true);
    assert!(lock(&sink.messages).is_empty());
}

#[test]
fn odd_accesses_do_nothing() {
    let (mut ioapic, sink) = ioapic();
    set_entry(&mut ioapic, 3, 0x33);
    let saved = ioapic.save();
    ioapic.mmio_write(0x10, &[1]);
    ioapic.mmio_write(0x10, &[1, 2, 3]);
    ioapic.mmio_write(0x11, &[1, 2, 3, 4]);
    ioapic.mmio_write(0x04, &[9; 8]);
    ioapic.mmio_write(0xFFF, &[9]);
    assert_eq!(ioapic.save(), saved);
    let mut data = [0xFF; 8];
    ioapic.mmio_read(0x0C, &mut data);
    assert_eq!(data, [0xFF, 0xFF, 0xFF, 0xFF, 0x33, 0, 0, 0]);
    ioapic.set_pin(24, true);
    ioapic.set_pin(255, true);
    assert!(sink.take_vectors().is_empty());
}

#[test]
fn a_restored_ioapic_goes_on_where_the_saved_one_was() {
    let (mut ioapic, _) = ioapic();
    set_entry(&mut ioapic, 9, 0x40 | LEVEL);
    set_entry(&mut ioapic, 4, 0x31);
    ioapic.set_pin(9, true);
    let json = serde_json::to_string(&ioapic.save()).unwrap();
    let (mut other, sink) = self::ioapic();
    other.restore(&serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(other.save(), ioapic.save());
    assert_eq!(lock(&sink.routes).iter().map(|(pin, _)| *pin).collect::<Vec<_>>(), [4, 9]);
    assert!(sink.take_vectors().is_empty());
    other.end_of_interrupt(0x40);
    assert_eq!(sink.take_vectors(), [0x40]);
}

#[test]
fn impossible_saved_states_are_refused() {
    let (mut ioapic, _) = ioapic();
    let good = ioapic.save();
    let bad = [
        IoapicState { redirection: vec![0; 23], ..good.clone() },
        IoapicState { redirection: vec![1 << 20; 24], ..good.clone() },
        IoapicState { levels: 1 << 24, ..good.clone() },
        IoapicState { id: 16, ..good.clone() },
    ];
    for state in bad {
        assert!(matches!(ioapic.restore(&state), Err(RestoreError::Invalid { .. })), "{state:?}");
    }
    assert_eq!(ioapic.save(), good);
}
