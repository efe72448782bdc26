//! From the first instruction to the end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bulla_boot_abi::map::BOOT_WINDOW_BASE;
use bulla_boot_abi::progress::{Failure, Milestone, Progress};

use super::fixture::{Console, Log, POWER_OFF, build, go_on, print, progress, small, started, taken, watching};
use crate::backend::VcpuError;
use crate::machine::{IllegalTransition, MachineConfig, StartError, StopReason, VmState};
use crate::memory::RegionKind;

/// Longer than anything here takes, even on a busy host.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_console_is_written_and_power_off_ends_the_vm() {
    let console = Log::default();
    let config = MachineConfig { console: Box::new(Console(Arc::clone(&console))), ..small() };
    let code = [print("hello"), POWER_OFF.to_vec()].concat();
    let Some(machine) = started(&code, config, go_on()) else { return };
    let reason = machine.wait_for(LIMIT).unwrap();
    assert!(matches!(*reason, StopReason::PoweredOff), "{reason}");
    assert_eq!(machine.state(), VmState::Stopped);
    assert_eq!(taken(&console), b"hello");
}

#[test]
fn the_boot_window_is_there_up_to_the_hand_over_and_not_after_it() {
    // mov ecx, BOOT_WINDOW_BASE; mov eax, [rcx]; mov edx, 0xB10; out dx, eax
    let read = |code: &mut Vec<u8>| {
        code.push(0xB9);
        code.extend(u32::try_from(BOOT_WINDOW_BASE).unwrap().to_le_bytes());
        code.extend([0x8B, 0x01, 0xBA, 0x10, 0x0B, 0, 0, 0xEF]);
    };
    let mut code = Vec::new();
    read(&mut code);
    code.extend(progress(Milestone::Handover as u32));
    read(&mut code);
    code.extend(POWER_OFF);
    let (handler, told) = watching(|progress, at| {
        let there = at.memory.find(RegionKind::BootWindow).is_some();
        assert_eq!(there, progress != Progress::Unknown(u32::MAX));
        ControlFlow::Continue(())
    });
    let Some(machine) = started(&code, small(), handler) else { return };
    let reason = machine.wait_for(LIMIT).unwrap();
    assert!(matches!(*reason, StopReason::PoweredOff), "{reason}");
    let magic = Progress::from(u32::from_le_bytes(*b"BULL"));
    let handover = Progress::Reached(Milestone::Handover);
    assert_eq!(taken(&told), [magic, handover, Progress::Unknown(u32::MAX)]);
    assert_eq!(machine.memory().find(RegionKind::BootWindow), None);
}

#[test]
fn what_the_handler_writes_to_memory_the_guest_reads() {
    // mov ecx, 0x9000; mov eax, [rcx]; mov edx, 0xB10; out dx, eax
    let read = [0xB9, 0x00, 0x90, 0, 0, 0x8B, 0x01, 0xBA, 0x10, 0x0B, 0, 0, 0xEF];
    let code = [progress(0x7777), read.to_vec(), POWER_OFF.to_vec()].concat();
    let (handler, told) = watching(|_, at| {
        at.memory.write(0x9000, &0x8888u32.to_le_bytes()).unwrap();
        ControlFlow::Continue(())
    });
    let Some(machine) = started(&code, small(), handler) else { return };
    machine.wait_for(LIMIT).unwrap();
    assert_eq!(taken(&told), [Progress::Unknown(0x7777), Progress::Unknown(0x8888)]);
}

#[test]
fn a_failure_that_the_guest_reports_ends_the_vm_with_its_name() {
    let code = [progress(Failure::KernelFormat as u32), progress(1)].concat();
    let (handler, told) = watching(|_, _| ControlFlow::Continue(()));
    let Some(machine) = started(&code, small(), handler) else { return };
    let reason = machine.wait_for(LIMIT).unwrap();
    assert!(matches!(*reason, StopReason::Guest(Failure::KernelFormat)), "{reason}");
    assert_eq!(taken(&told), [Progress::Failed(Failure::KernelFormat)], "nothing runs after it");
}

#[test]
fn the_handler_can_end_the_vm() {
    let code = [progress(1), progress(2), POWER_OFF.to_vec()].concat();
    let (handler, told) = watching(|_, _| ControlFlow::Break(()));
    let Some(machine) = started(&code, small(), handler) else { return };
    let reason = machine.wait_for(LIMIT).unwrap();
    assert!(matches!(*reason, StopReason::Host), "{reason}");
    assert_eq!(taken(&told).len(), 1);
}

#[test]
fn each_way_to_end_has_its_reason() {
    let ends = |code: &[u8]| started(code, small(), go_on()).map(|machine| machine.wait_for(LIMIT).unwrap());
    // mov edx, 0xCF9; mov al, 6; out dx, al; jmp $
    let reset = [0xBA, 0xF9, 0x0C, 0, 0, 0xB0, 6, 0xEE, 0xEB, 0xFE];
    let Some(reason) = ends(&reset) else { return };
    assert!(matches!(*reason, StopReason::Reset), "{reason}");
    let reason = ends(&[0x0F, 0x0B]).unwrap(); // ud2
    assert!(matches!(*reason, StopReason::TripleFault), "{reason}");
    // mov eax, 0xE0000000; jmp rax
    let reason = ends(&[0xB8, 0, 0, 0, 0xE0, 0xFF, 0xE0]).unwrap();
    assert!(matches!(*reason, StopReason::Vcpu(VcpuError::CannotExecute { rip: 0xE000_0000, .. })), "{reason}");
}

/// `mov ecx, 0x9000; 1: inc qword [rcx]; jmp 1b`
const COUNT: &[u8] = &[0xB9, 0x00, 0x90, 0, 0, 0x48, 0xFF, 0x01, 0xEB, 0xFB];

#[test]
fn a_paused_vm_does_nothing_and_goes_on_afterwards() {
    let Some(machine) = started(COUNT, small(), go_on()) else { return };
    let count = || {
        let mut bytes = [0; 8];
        machine.memory().read(0x9000, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    };
    for _ in 0..5 {
        let before = count();
        while count() == before {
            std::thread::yield_now();
        }
        machine.pause().unwrap();
        assert_eq!(machine.state(), VmState::Paused);
        let paused = count();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(count(), paused);
        machine.resume().unwrap();
    }
    machine.pause().unwrap();
    machine.stop();
    let reason = machine.wait_for(LIMIT).unwrap();
    assert!(matches!(*reason, StopReason::Host), "a paused VM can be stopped: {reason}");
}

#[test]
fn a_halted_vm_ends_when_another_thread_says_so() {
    let Some(machine) = started(&[0xF4], small(), go_on()) else { return };
    assert!(machine.wait_for(Duration::from_millis(20)).is_none());
    let stopper = machine.stopper();
    std::thread::spawn(move || stopper.stop());
    assert!(matches!(*machine.wait_for(LIMIT).unwrap(), StopReason::Host));
}

#[test]
fn changes_of_state_that_make_no_sense_are_refused() {
    let Some(machine) = build(&[0xF4], small(), go_on()) else { return };
    let mut machine = machine.unwrap();
    let refused = |to| Err(IllegalTransition { from: VmState::Created, to });
    assert_eq!(machine.pause(), refused(VmState::Paused));
    assert_eq!(machine.resume(), refused(VmState::Running));
    machine.start().unwrap();
    assert!(matches!(machine.start(), Err(StartError::State(_))));
    assert_eq!(machine.resume(), Err(IllegalTransition { from: VmState::Running, to: VmState::Running }));
    machine.stop();
    machine.wait_for(LIMIT).unwrap();
    assert_eq!(machine.pause(), Err(IllegalTransition { from: VmState::Stopped, to: VmState::Paused }));
}

#[test]
fn a_vm_that_never_ran_can_be_stopped() {
    let Some(machine) = build(&[0xF4], small(), go_on()) else { return };
    let machine = machine.unwrap();
    machine.stop();
    assert!(matches!(*machine.wait_for(LIMIT).unwrap(), StopReason::Host));
}
