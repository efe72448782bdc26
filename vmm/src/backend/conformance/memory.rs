//! Memory slots.

use std::sync::Arc;

use vm_memory::{Bytes, MemoryRegionAddress};

use super::guest::{Access, Guest, NOTHING, STOP_CODE, plain, region};
use crate::backend::{BackendError, MemorySlot, SlotId};

/// `mov eax, [0xE0000000]; mov ebx, eax`, then `mov dword [0xE0000000], 7`, then stop.
fn read_then_write() -> Vec<u8> {
    let mut code = vec![0xB9, 0x00, 0x00, 0x00, 0xE0]; // mov ecx, 0xE0000000
    code.extend([0x8B, 0x01, 0x89, 0xC3]); // mov eax, [rcx]; mov ebx, eax
    code.extend([0xC7, 0x01, 7, 0, 0, 0]); // mov dword [rcx], 7
    code.extend(STOP_CODE);
    code
}

#[test]
fn a_removed_slot_reads_as_all_ones_and_its_memory_is_left_alone() {
    let Some(mut guest) = Guest::new(&read_then_write()) else { return };
    let start = guest.vcpu.state().unwrap();
    let window = region(NOTHING, 0x4000);
    window.write_slice(&0x1234_5678u32.to_le_bytes(), MemoryRegionAddress(0)).unwrap();
    let id = guest.add(&window);
    assert_eq!(guest.run_to_stop(), []);
    assert_eq!(guest.vcpu.state().unwrap().registers.rbx, 0x1234_5678);
    assert_eq!(window.read_obj::<u32>(MemoryRegionAddress(0)).unwrap(), 7);

    guest.partition.remove_memory(id).unwrap();
    window.write_slice(&[0; 4], MemoryRegionAddress(0)).unwrap();
    guest.vcpu.set_state(&start).unwrap();
    assert_eq!(guest.run_to_stop(), [Access::Read(NOTHING, 4), Access::Write(NOTHING, vec![7, 0, 0, 0])]);
    assert_eq!(guest.vcpu.state().unwrap().registers.rbx, 0xFFFF_FFFF);
    assert_eq!(Arc::strong_count(&window), 1, "nothing of the partition holds the memory");
    assert_eq!(window.read_obj::<u32>(MemoryRegionAddress(0)).unwrap(), 0);
    let again = guest.partition.remove_memory(id).unwrap_err();
    assert!(matches!(again, BackendError::NoSuchSlot(_)), "{again:?}");
}

#[test]
fn a_write_to_a_read_only_slot_is_mmio() {
    let Some(mut guest) = Guest::new(&read_then_write()) else { return };
    let rom = region(NOTHING, 0x1000);
    guest.partition.add_memory(MemorySlot { read_only: true, ..plain(&rom) }).unwrap();
    assert_eq!(guest.run_to_stop(), [Access::Write(NOTHING, vec![7, 0, 0, 0])]);
    assert_eq!(rom.read_obj::<u32>(MemoryRegionAddress(0)).unwrap(), 0);
}

#[test]
fn the_dirty_log_names_the_page_written_and_is_empty_afterwards() {
    let Some(mut guest) = Guest::new(&read_then_write()) else { return };
    let window = region(NOTHING - 0x2000, 0x4000);
    let id = guest.partition.add_memory(MemorySlot { track_dirty: true, ..plain(&window) }).unwrap();
    guest.run_to_stop();
    let log = guest.partition.dirty_log().unwrap();
    assert_eq!(log.take_dirty(id).unwrap(), [1 << 2]);
    assert_eq!(log.take_dirty(id).unwrap(), [0]);
    let untracked = log.take_dirty(SlotId(0)).unwrap_err();
    assert!(matches!(untracked, BackendError::NoSuchSlot(SlotId(0))), "{untracked:?}");
}

#[test]
fn slots_that_overlap_or_are_not_whole_pages_are_refused() {
    let Some(guest) = Guest::new(&[]) else { return };
    let add = |base, size| guest.partition.add_memory(plain(&region(base, size)));
    let id = add(0x10_0000, 0x2000).unwrap();
    for base in [0xF_F000, 0x10_0000, 0x10_1000] {
        let error = add(base, 0x2000).unwrap_err();
        assert!(matches!(error, BackendError::SlotOverlap { other: 0x10_0000, .. }), "{error:?}");
    }
    add(0x10_2000, 0x1000).unwrap();
    guest.partition.remove_memory(id).unwrap();
    add(0x10_0000, 0x2000).unwrap();
    for (base, size) in [(0x20_0800, 0x1000), (0x20_0000, 0x800)] {
        let error = add(base, size).unwrap_err();
        assert!(matches!(error, BackendError::SlotShape { .. }), "{error:?}");
    }
}
