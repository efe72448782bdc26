//! The same run from the same inputs.

use std::sync::Arc;

use vm_memory::{Bytes, MemoryRegionAddress};

use super::guest::{CODE, plain, region};
use crate::backend::soft::{Pace, SoftBackend};
use crate::backend::{Backend, CpuFeatures, CpuState, GuestIo, Kick, VcpuExit, VmTime};

/// Stops the guest at any port write; notes when devices were ticked, and wants to be again a microsecond later.
struct Ticked {
    stop: Arc<dyn Kick>,
    ticks: Vec<u64>,
}

impl GuestIo for Ticked {
    fn pio_read(&mut self, _port: u16, _data: &mut [u8]) {}
    fn pio_write(&mut self, _port: u16, _data: &[u8]) {
        self.stop.kick();
    }
    fn mmio_read(&mut self, _gpa: u64, _data: &mut [u8]) {}
    fn mmio_write(&mut self, _gpa: u64, _data: &[u8]) {}
    fn end_of_interrupt(&mut self, _vector: u8) {}
    fn tick(&mut self, now: u64) -> Option<u64> {
        self.ticks.push(now);
        Some(now + 1000)
    }
}

/// Runs `code` in real mode at [`CODE`] to its port write.
fn run(code: &[u8]) -> (CpuState, Vec<u64>, Arc<dyn VmTime>) {
    let backend = SoftBackend::new(Pace::Deterministic);
    let partition = backend.create_partition().unwrap();
    let ram = region(0, 0x2_0000);
    ram.write_slice(code, MemoryRegionAddress(CODE)).unwrap();
    partition.add_memory(plain(&ram)).unwrap();
    let cpuid = CpuFeatures::default().apply(&backend.capabilities().cpuid).unwrap();
    let mut vcpu = partition.create_vcpu(0, &cpuid).unwrap();
    let mut state = vcpu.state().unwrap();
    state.segments.cs = crate::backend::Segment { base: 0, limit: 0xFFFF, selector: 0, access: 0x9B };
    state.registers.rip = CODE;
    vcpu.set_state(&state).unwrap();
    let mut io = Ticked { stop: vcpu.kicker(), ticks: Vec::new() };
    assert_eq!(vcpu.run(&mut io).unwrap(), VcpuExit::Kicked);
    (vcpu.state().unwrap(), io.ticks, partition.time().unwrap())
}

#[test]
fn time_and_random_numbers_are_the_same_in_every_run() {
    let mut code = vec![0xB9, 0x00, 0x40]; // mov cx, 0x4000
    code.extend([0xE2, 0xFE]); // 1: loop 1b
    code.extend([0x0F, 0x31]); // rdtsc
    code.extend([0x66, 0x89, 0xC6]); // mov esi, eax
    code.extend([0x66, 0x0F, 0xC7, 0xF3]); // rdrand ebx
    code.extend([0xBA, 0x00, 0x05, 0xEE]); // mov dx, 0x500; out dx, al
    let (one, ticks, time) = run(&code);
    let (two, again, _) = run(&code);
    assert_eq!(one, two);
    assert_eq!(ticks, again);
    assert_eq!(one.registers.rip, CODE + code.len() as u64);
    assert!(one.registers.rsi >= 0x4000 && one.registers.rbx != 0, "{:x?}", one.registers);
    // Devices were served while the guest was busy, on time to within a block of instructions.
    assert!(ticks.len() > 10 && ticks.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{ticks:?}");
    assert!(time.now() >= one.registers.rsi, "a device sees no earlier time than the guest did");
    assert_eq!(time.wall(), 1_767_225_600_000_000_000 + time.now());
}

#[test]
fn other_paces_make_no_time_of_their_own() {
    assert!(SoftBackend::new(Pace::Host).create_partition().unwrap().time().is_none());
}
