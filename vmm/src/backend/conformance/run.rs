//! Starting, stopping, and the state in between.

use std::thread;
use std::time::Duration;

use super::backend;
use super::guest::{CODE, Guest, STOP_CODE};
use crate::backend::{BackendError, CpuFeatures, Feature, FpuState, VcpuExit};

#[test]
fn the_backend_shows_what_the_machine_promises() {
    let Some(backend) = backend() else { return };
    let shown = CpuFeatures::default().apply(&backend.capabilities().cpuid).unwrap();
    for name in ["x2apic", "cx16"] {
        assert!(Feature::by_name(name).unwrap().shown_by(&shown), "{name}");
    }
    assert!(shown.iter().any(|leaf| leaf.function == 0x4000_0000), "hypervisor leaf");
    assert!(!Feature::by_name("svm").unwrap().shown_by(&shown));
}

#[test]
fn a_fault_without_a_handler_is_a_shutdown() {
    let Some(mut guest) = Guest::new(&[0x0F, 0x0B]) else { return }; // ud2
    assert_eq!(guest.run().unwrap(), VcpuExit::Shutdown);
}

/// Runs `guest`, which never ends of itself, and stops it from another thread, ten times.
fn stop_from_outside(guest: &mut Guest) {
    for _ in 0..10 {
        let kicker = guest.vcpu.kicker();
        let kicking = thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            kicker.kick();
        });
        assert_eq!(guest.run().unwrap(), VcpuExit::Kicked);
        kicking.join().unwrap();
    }
}

#[test]
fn a_busy_guest_is_stopped_from_another_thread() {
    for make in [Guest::new, Guest::at_cpl3] {
        let Some(mut guest) = make(&[0xEB, 0xFE]) else { return }; // jmp $
        stop_from_outside(&mut guest);
        assert_eq!(guest.vcpu.state().unwrap().registers.rip, CODE);
    }
}

#[test]
fn a_halted_guest_is_stopped_from_another_thread() {
    let Some(mut guest) = Guest::new(&[0xF4, 0xEB, 0xFD]) else { return }; // 1: hlt; jmp 1b
    stop_from_outside(&mut guest);
}

#[test]
fn a_kick_before_the_run_stops_the_run_before_its_first_instruction() {
    let Some(mut guest) = Guest::new(&STOP_CODE) else { return };
    guest.vcpu.kicker().kick();
    guest.vcpu.kicker().kick();
    assert_eq!(guest.run().unwrap(), VcpuExit::Kicked);
    assert_eq!(guest.vcpu.state().unwrap().registers.rip, CODE);
    // Kicks do not add up: this one is the guest's own.
    assert_eq!(guest.run().unwrap(), VcpuExit::Kicked);
    assert_eq!(guest.vcpu.state().unwrap().registers.rip, CODE + STOP_CODE.len() as u64);
}

#[test]
fn a_kick_after_the_vcpu_is_gone_does_nothing() {
    let Some(guest) = Guest::new(&[]) else { return };
    let kicker = guest.vcpu.kicker();
    drop(guest);
    kicker.kick();
}

#[test]
fn state_that_is_set_is_the_state_that_is_read() {
    let Some(mut guest) = Guest::new(&STOP_CODE) else { return };
    let mut wanted = guest.vcpu.state().unwrap();
    wanted.registers.rax = 0x0123_4567_89AB_CDEF;
    wanted.registers.r15 = u64::MAX;
    wanted.segments.fs.base = 0x7000;
    wanted.cr2 = 0x1234;
    wanted.db = [0x10, 0x20, 0x30, 0x40];
    wanted.fpu = FpuState { mxcsr: 0x1FA0, fcw: 0x27F, ..FpuState::default() };
    wanted.fpu.xmm[15] = [0xA5; 16];
    for msr in wanted.msrs.iter_mut().filter(|m| m.index == 0xC000_0102) {
        msr.value = 0xFFFF_8000_0000_0000; // IA32_KERNEL_GS_BASE
    }
    assert!(wanted.msrs.iter().any(|m| m.value == 0xFFFF_8000_0000_0000));
    guest.vcpu.set_state(&wanted).unwrap();
    assert_eq!(guest.vcpu.state().unwrap(), wanted);
    // It is also the state that the guest runs with, and that another vCPU takes over.
    guest.run_to_stop();
    let after = guest.vcpu.state().unwrap();
    assert_eq!(after.registers.r15, u64::MAX);
    assert_eq!(after.registers.rip, CODE + STOP_CODE.len() as u64);
    let mut other = Guest::new(&[]).unwrap();
    other.vcpu.set_state(&after).unwrap();
    assert_eq!(other.vcpu.state().unwrap(), after);
}

#[test]
fn an_msr_the_host_refuses_is_named() {
    let Some(mut guest) = Guest::new(&[]) else { return };
    let mut state = guest.vcpu.state().unwrap();
    state.msrs.push(crate::backend::Msr { index: 0x1234_5678, value: 1 });
    let error = guest.vcpu.set_state(&state).unwrap_err();
    assert!(error.to_string().contains("0x12345678"), "{error}");
}

#[test]
fn a_vcpu_too_many_is_refused() {
    let Some(backend) = backend() else { return };
    let partition = backend.create_partition().unwrap();
    let error = partition.create_vcpu(u32::MAX, &[]).map(drop).unwrap_err();
    assert!(matches!(error, BackendError::TooManyVcpus { id: u32::MAX, .. }), "{error:?}");
}
