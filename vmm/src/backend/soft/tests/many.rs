//! Several processors that take turns.

use std::sync::Arc;

use vm_memory::{Bytes, MemoryRegionAddress};

use super::backend;
use super::guest::{Guest, STOP_CODE, plain};
use crate::backend::{BackendError, CpuFeatures, GuestIo, Kick, VcpuExit};

/// Stops the guest at any port write.
struct Stop(Arc<dyn Kick>);

impl GuestIo for Stop {
    fn pio_read(&mut self, _port: u16, _data: &mut [u8]) {}
    fn pio_write(&mut self, _port: u16, _data: &[u8]) {
        self.0.kick();
    }
    fn mmio_read(&mut self, _gpa: u64, _data: &mut [u8]) {}
    fn mmio_write(&mut self, _gpa: u64, _data: &[u8]) {}
    fn end_of_interrupt(&mut self, _vector: u8) {}
}

/// Where the second processor starts, and where it leaves its mark.
const START: u64 = 0xC000;
const MARK: u64 = 0x9000;
const STEAL_TIME: u64 = 0x9040;

/// What the first processor does: asks for its steal time, starts the second one with INIT and a start-up message, waits for the
/// mark, and a while longer.
const FIRST: &[&[u8]] = &[
    &[0xB9, 0x03, 0x4D, 0x56, 0x4B], // mov ecx, 0x4B564D03 (MSR_KVM_STEAL_TIME)
    &[0xB8, 0x41, 0x90, 0, 0],       // mov eax, 0x9041
    &[0x31, 0xD2],                   // xor edx, edx
    &[0x0F, 0x30],                   // wrmsr
    &[0xB9, 0x10, 0x03, 0xE0, 0xFE], // mov ecx, 0xFEE00310
    &[0xC7, 0x01, 0, 0, 0, 1],       // mov dword [rcx], 1 << 24
    &[0xB9, 0x00, 0x03, 0xE0, 0xFE], // mov ecx, 0xFEE00300
    &[0xC7, 0x01, 0, 0x45, 0, 0],    // mov dword [rcx], 0x4500 (INIT)
    &[0xC7, 0x01, 0x0C, 0x46, 0, 0], // mov dword [rcx], 0x460C (start-up at 0xC000)
    &[0xB9, 0, 0x90, 0, 0],          // mov ecx, 0x9000
    &[0x80, 0x39, 0x77],             // 1: cmp byte [rcx], 0x77
    &[0x75, 0xFB],                   // jne 1b
    &[0xB9, 0, 0, 1, 0],             // mov ecx, 0x10000
    &[0xE2, 0xFE],                   // 2: loop 2b
    &STOP_CODE,
];

/// What the second does, in real mode: `mov byte [0x9000], 0x77; jmp $`.
const SECOND: &[u8] = &[0xC6, 0x06, 0x00, 0x90, 0x77, 0xEB, 0xFE];

#[test]
fn a_second_processor_starts_when_told_and_the_first_is_told_of_the_time_it_takes() {
    let backend = backend().unwrap();
    let alone = Guest::new(&FIRST.concat()).unwrap();
    alone.write(START, SECOND);
    let partition = backend.create_partition().unwrap();
    partition.add_memory(plain(&alone.ram)).unwrap();
    let cpuid = CpuFeatures::default().apply(&backend.capabilities().cpuid).unwrap();
    let mut pair = partition.create_processors(2, &cpuid).unwrap();
    pair.set_state(&alone.vcpu.state().unwrap()).unwrap();
    let mut io = Stop(pair.kicker());
    assert_eq!(pair.run(&mut io).unwrap(), VcpuExit::Kicked);
    assert_eq!(alone.ram.read_obj::<u8>(MemoryRegionAddress(MARK)).unwrap(), 0x77);
    assert_ne!(alone.ram.read_obj::<u64>(MemoryRegionAddress(STEAL_TIME)).unwrap(), 0);
    assert_eq!(pair.state().unwrap().registers.rcx, 0, "state is the first one's");
}

#[test]
fn more_processors_than_there_are_ids_are_refused() {
    let partition = backend().unwrap().create_partition().unwrap();
    let error = partition.create_processors(256, &[]).map(drop).unwrap_err();
    assert!(matches!(error, BackendError::TooManyVcpus { id: 255, max: 255 }), "{error:?}");
    assert!(partition.create_processors(1, &[]).is_ok());
    assert!(partition.create_processors(1, &[]).is_err(), "once a partition");
}
