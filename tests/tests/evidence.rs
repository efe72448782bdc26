//! Evidence of a VM, from `bulla run` through `bulla measure` to `bulla-attest verify`: accepted as it is, rejected by name
//! for everything that was changed on the way.

use std::path::{Path, PathBuf};
use std::process::Command;

use bulla_tests::{NONCE, TempDir, command, kvm_or_skip, read, run_expecting, stock_kernel_or_skip, write};

/// What one VM was started with, its evidence, and the expected values.
struct Booted {
    dir: TempDir,
    kernel: PathBuf,
    initrd: PathBuf,
    cmdline: String,
    evidence: PathBuf,
    expected: PathBuf,
}

fn boot_arguments(command: &mut Command, kernel: &Path, initrd: &Path, cmdline: &str) {
    command.arg("--kernel").arg(kernel).arg("--initrd").arg(initrd).args(["--cmdline", cmdline, "--memory", "256M"]);
}

fn measure(kernel: &Path, initrd: &Path, cmdline: &str, out: &Path) {
    let mut measure = command("bulla");
    measure.arg("measure");
    boot_arguments(&mut measure, kernel, initrd, cmdline);
    let _ = run_expecting(measure.arg("--out").arg(out), 0);
}

/// Runs `kernel` until the firmware hands over to it.
fn boot(kernel: PathBuf, cmdline: &str) -> Booted {
    let dir = TempDir::new().unwrap();
    let initrd = write(&dir, "initrd", b"any bytes can be an initrd, the kernel is not asked here");
    let (evidence, expected) = (dir.path().join("ev.cbor"), dir.path().join("exp.cbor"));
    let mut run = command("bulla");
    run.arg("run");
    boot_arguments(&mut run, &kernel, &initrd, cmdline);
    run.arg("--evidence").arg(&evidence).args(["--nonce", NONCE, "--until", "handover", "--console", "none"]);
    let _ = run_expecting(&mut run, 0);
    measure(&kernel, &initrd, cmdline, &expected);
    Booted { dir, kernel, initrd, cmdline: cmdline.to_owned(), evidence, expected }
}

fn boot_tenant() -> Booted {
    let dir = TempDir::new().unwrap();
    let kernel = dir.keep().join("tenant");
    std::fs::write(&kernel, bulla_firmware::TENANT).unwrap();
    boot(kernel, "some words")
}

/// `bulla-attest verify --json`, and the verdict.
fn verify(evidence: &Path, expected: &Path, nonce: &str, code: i32) -> serde_json::Value {
    let mut verify = command("bulla-attest");
    verify
        .arg("verify")
        .arg("--evidence")
        .arg(evidence)
        .arg("--expected")
        .arg(expected)
        .args(["--nonce", nonce, "--json"]);
    serde_json::from_str(&run_expecting(&mut verify, code)).unwrap()
}

/// Whether the verdict names this PCR and event among the differences.
fn names(verdict: &serde_json::Value, pcr: u64, event: &str) -> bool {
    let differences = verdict["differences"].as_array().unwrap();
    differences.iter().any(|d| d["pcr"] == pcr && d["event"] == event)
}

fn changed(path: &Path, at: usize) -> Vec<u8> {
    let mut bytes = read(path);
    bytes[at] ^= 1;
    bytes
}

/// The must-show list, for any kernel: accepted as it is; rejected with PCR and event named for one changed byte of
/// kernel, initrd or command line; rejected for a wrong nonce.
fn accepted_only_as_it_was_booted(booted: &Booted) {
    let Booted { dir, kernel, initrd, cmdline, evidence, expected } = booted;
    assert_eq!(verify(evidence, expected, NONCE, 0)["accepted"], true);

    let other = dir.path().join("other.cbor");
    let middle = read(kernel).len() / 2;
    let other_kernel = write(dir, "other-kernel", &changed(kernel, middle));
    measure(&other_kernel, initrd, cmdline, &other);
    assert!(names(&verify(evidence, &other, NONCE, 1), 4, "kernel"));

    let other_initrd = write(dir, "other-initrd", &changed(initrd, 0));
    measure(kernel, &other_initrd, cmdline, &other);
    assert!(names(&verify(evidence, &other, NONCE, 1), 9, "initrd"));

    let other_cmdline = cmdline.replacen('s', "t", 1);
    assert_ne!(&other_cmdline, cmdline);
    measure(kernel, initrd, &other_cmdline, &other);
    assert!(names(&verify(evidence, &other, NONCE, 1), 12, "command line"));

    let verdict = verify(evidence, expected, &NONCE.replace('0', "1"), 1);
    assert!(verdict["reasons"].to_string().contains("nonce"), "{verdict}");
}

#[test]
fn a_tenant_is_accepted_only_as_it_was_booted() {
    if kvm_or_skip("evidence of a tenant") {
        accepted_only_as_it_was_booted(&boot_tenant());
    }
}

#[test]
fn a_stock_debian_kernel_is_accepted_only_as_it_was_booted() {
    if !kvm_or_skip("evidence of a stock kernel") {
        return;
    }
    if let Some(kernel) = stock_kernel_or_skip("evidence of a stock kernel") {
        accepted_only_as_it_was_booted(&boot(kernel, "console=ttyS0"));
    }
}

#[test]
fn a_tenant_whose_kernel_was_changed_before_the_boot_is_rejected_by_name() {
    if !kvm_or_skip("evidence of a changed kernel") {
        return;
    }
    let good = boot_tenant();
    let last = read(&good.kernel).len() - 1;
    let bad = boot(write(&good.dir, "bad-kernel", &changed(&good.kernel, last)), &good.cmdline);
    assert!(names(&verify(&bad.evidence, &good.expected, NONCE, 1), 4, "kernel"));
}

#[test]
fn the_log_that_measure_computes_is_the_log_that_the_firmware_writes() {
    if !kvm_or_skip("comparison of logs") {
        return;
    }
    let booted = boot_tenant();
    let evidence = bulla_attest::SignedEvidence::from_bytes(&read(&booted.evidence)).unwrap();
    let computed = bulla_attest::Expected::from_bytes(&read(&booted.expected)).unwrap().to_event_log().unwrap();
    assert_eq!(hex::encode(&evidence.evidence().event_log), hex::encode(computed));
}
