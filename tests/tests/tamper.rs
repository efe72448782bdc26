//! A host that rewrites the boot window while the chain runs: what is measured is what runs, or the measurement shows it.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;

use bulla_attest::{Expected, HostKey, Policy, SignedEvidence, Verdict, appraise};
use bulla_boot_abi::map::{BOOT_WINDOW_BASE, EVENT_LOG_BASE, EVENT_LOG_SIZE};
use bulla_boot_abi::progress::{Milestone, Progress};
use bulla_boot_abi::window::{Directory, HEADER_LEN, Kind};
use bulla_tests::kvm_or_skip;
use bulla_vmm::backend::kvm::KvmBackend;
use bulla_vmm::devices::tpm::TpmInterface;
use bulla_vmm::evidence;
use bulla_vmm::machine::{Machine, MachineConfig};
use bulla_vmm::measure::{BootInputs, expected};
use bulla_vmm::memory::GuestMemory;
use bulla_vtpm_client::VtpmProcess;

const NONCE: [u8; 16] = [7; 16];
const MEMORY: u64 = 32 << 20;
/// Large enough that the bootloader's copy of it is a matter of many pages.
static INITRD: [u8; 100_000] = [0x11; 100_000];

fn inputs() -> BootInputs<'static> {
    BootInputs {
        firmware: bulla_firmware::FIRMWARE,
        bootloader: bulla_firmware::BOOTLOADER,
        kernel: bulla_firmware::TENANT,
        initrd: Some(&INITRD),
        cmdline: "honest words",
        memory: MEMORY,
        vcpus: 1,
        tpm_interface: TpmInterface::Crb,
    }
}

/// What came of a boot during which the host overwrote `kinds` in the window when the guest said `when`.
struct Outcome {
    /// The tenant came up.
    ran: bool,
    /// The verdict over evidence taken at the hand-over, if it came to that.
    verdict: Option<Verdict>,
}

/// Overwrites the whole item with ones.
fn overwrite(memory: &GuestMemory, kinds: &[Kind]) {
    let mut header = [0; HEADER_LEN];
    memory.read(BOOT_WINDOW_BASE, &mut header).unwrap();
    let directory = Directory::parse(&header).unwrap();
    for kind in kinds {
        let extent = directory.get(*kind).unwrap();
        memory.write(BOOT_WINDOW_BASE + extent.offset, &vec![0xff; extent.len as usize]).unwrap();
    }
}

fn judge(expected: &Expected, evidence: &bulla_attest::Evidence) -> Verdict {
    let signed = evidence.sign(&HostKey::generate().unwrap()).unwrap();
    appraise(&SignedEvidence::from_bytes(&signed).unwrap(), &NONCE, Some(expected), &Policy::default())
}

fn boot(when: Milestone, kinds: &'static [Kind]) -> Outcome {
    boot_with(&inputs(), when, kinds)
}

/// Boots `inputs` and judges by the values of the honest ones.
fn boot_with(inputs: &BootInputs<'_>, when: Milestone, kinds: &'static [Kind]) -> Outcome {
    let values = expected(&self::inputs()).unwrap();
    let (tell, told) = mpsc::channel();
    let handler = Box::new(move |progress, at: &mut bulla_vmm::machine::AtProgress<'_>| {
        if progress == Progress::Reached(when) {
            overwrite(at.memory, kinds);
        }
        if progress == Progress::Reached(Milestone::Handover) {
            let mut log = vec![0; EVENT_LOG_SIZE as usize];
            at.memory.read(EVENT_LOG_BASE, &mut log).unwrap();
            tell.send(Ok(judge(&values, &evidence::take(at.vtpm, &NONCE, &log).unwrap()))).unwrap();
        }
        if progress == Progress::Reached(Milestone::TenantReady) {
            tell.send(Err(())).unwrap();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let vtpm = VtpmProcess::spawn(&bulla_tests::program("bulla-vtpm")).unwrap();
    let config = MachineConfig { memory: MEMORY, ..MachineConfig::default() };
    let mut machine = Machine::build(config, &inputs.images(), &KvmBackend::open().unwrap(), vtpm, handler).unwrap();
    machine.start().unwrap();
    let _ = machine.wait_for(Duration::from_secs(20));
    drop(machine);
    let mut outcome = Outcome { ran: false, verdict: None };
    for message in told {
        match message {
            Ok(verdict) => outcome.verdict = Some(verdict),
            Err(()) => outcome.ran = true,
        }
    }
    outcome
}

const EVERYTHING: &[Kind] = &[Kind::Kernel, Kind::Initrd, Kind::CommandLine];

#[test]
fn images_changed_after_they_were_copied_change_nothing() {
    if !kvm_or_skip("tampering after the copy") {
        return;
    }
    for when in [Milestone::ImagesCopied, Milestone::ImagesMeasured] {
        let outcome = boot(when, EVERYTHING);
        let verdict = outcome.verdict.unwrap_or_else(|| panic!("no hand-over after tampering at {when:?}"));
        assert!(verdict.accepted, "{when:?}: {verdict}");
        assert!(outcome.ran, "{when:?}: what was measured did not run");
    }
}

#[test]
fn a_bootloader_changed_after_it_was_copied_changes_nothing() {
    if !kvm_or_skip("tampering with the bootloader") {
        return;
    }
    for when in [Milestone::BootloaderCopied, Milestone::BootloaderMeasured] {
        let outcome = boot(when, &[Kind::Bootloader]);
        assert!(outcome.verdict.is_some_and(|v| v.accepted) && outcome.ran, "{when:?}");
    }
}

#[test]
fn an_initrd_changed_before_it_was_copied_is_named_by_the_verdict() {
    if !kvm_or_skip("tampering before the copy") {
        return;
    }
    let verdict = boot(Milestone::BootloaderMeasured, &[Kind::Initrd]).verdict.unwrap();
    assert!(!verdict.accepted);
    assert!(verdict.differences.iter().any(|d| d.pcr == 9 && d.event == "initrd"), "{verdict}");
}

#[test]
fn a_kernel_changed_before_it_was_copied_does_not_run_unnoticed() {
    if !kvm_or_skip("tampering with the kernel") {
        return;
    }
    // A kernel of ones is no kernel: it must neither run nor be vouched for.
    let outcome = boot(Milestone::BootloaderMeasured, &[Kind::Kernel]);
    assert!(!outcome.ran);
    assert!(outcome.verdict.is_none_or(|v| !v.accepted));
}

fn with_another_last_byte(image: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    *image.last_mut().unwrap() ^= 1;
    image
}

#[test]
fn another_firmware_and_another_bootloader_are_named_by_the_verdict() {
    if !kvm_or_skip("another firmware") {
        return;
    }
    let (firmware, bootloader) =
        (with_another_last_byte(inputs().firmware), with_another_last_byte(inputs().bootloader));
    for (changed, pcr, event) in [
        (BootInputs { firmware: &firmware, ..inputs() }, 0, "firmware"),
        (BootInputs { bootloader: &bootloader, ..inputs() }, 4, "bootloader"),
    ] {
        // Nothing is overwritten: these milestones are behind the last one of interest.
        let verdict = boot_with(&changed, Milestone::TenantReplied, &[]).verdict.unwrap();
        assert!(!verdict.accepted);
        let named: Vec<_> = verdict.differences.iter().map(|d| (d.pcr, d.event.as_str())).collect();
        assert_eq!(named, [(pcr, event)], "{verdict}");
    }
}
