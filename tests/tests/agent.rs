//! Evidence from inside the guest: the agent as first program of a stock Debian kernel, from the nonce on the second serial port to
//! the verifier's verdict.

use std::path::{Path, PathBuf};
use std::process::Command;

use bulla_tests::{NONCE, TempDir, command, read, run, run_expecting, stock_kernel_or_skip, write};

/// Whether this `bulla` has the software processor, on which a stock kernel gets to user space anywhere.
fn soft_or_skip(test: &str) -> bool {
    let there = run_expecting(command("bulla").args(["run", "--help"]), 0).contains("soft");
    if !there {
        println!("skipped: {test} needs `bulla run --accel soft`, which this bulla does not have");
    }
    there
}

fn initramfs(dir: &TempDir, name: &str, arguments: &[&str]) -> PathBuf {
    let path = dir.path().join(name);
    let _ = run_expecting(command("bulla-attest").arg("initramfs").args(arguments).arg("-o").arg(&path), 0);
    path
}

fn boot(verb: &str, kernel: &Path, initrd: &Path, cmdline: &str) -> Command {
    let mut bulla = command("bulla");
    bulla.arg(verb).arg("--kernel").arg(kernel).arg("--initrd").arg(initrd);
    bulla.args(["--cmdline", cmdline, "--memory", "512M"]);
    bulla
}

fn verify(evidence: &Path, expected: &Path, nonce: &str, code: i32) -> serde_json::Value {
    let mut verify = command("bulla-attest");
    verify.arg("verify").arg("--evidence").arg(evidence).arg("--expected").arg(expected);
    serde_json::from_str(&run_expecting(verify.args(["--nonce", nonce, "--json"]), code)).unwrap()
}

fn names(verdict: &serde_json::Value, pcr: u64, event: &str) -> bool {
    verdict["differences"].as_array().unwrap().iter().any(|d| d["pcr"] == pcr && d["event"] == event)
}

fn signed(path: &Path) -> bulla_attest::Evidence {
    bulla_attest::SignedEvidence::from_bytes(&read(path)).unwrap().evidence().clone()
}

/// Boots `kernel` with the agent as its first program and says what the guest printed. Both evidences are accepted, the log is the
/// one that was computed, and another command line or initramfs is told by PCR and event.
fn attested_from_inside(kernel: &Path, cmdline: &str) -> String {
    attested_through("crb", kernel, cmdline)
}

/// The same with a TPM behind `interface`.
fn attested_through(interface: &str, kernel: &Path, cmdline: &str) -> String {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let initrd = initramfs(&dir, "agent.img", &[]);

    let (handover, guest, console) = (at("handover.cbor"), at("guest.cbor"), at("console"));
    let boot = |verb, kernel: &Path, initrd: &Path, cmdline: &str| {
        let mut bulla = boot(verb, kernel, initrd, cmdline);
        bulla.args(["--tpm-interface", interface]);
        bulla
    };
    let mut bulla = boot("run", kernel, &initrd, cmdline);
    bulla.args(["--accel", "soft", "--nonce", NONCE, "--timeout", "1500"]);
    bulla.arg("--evidence").arg(&handover).arg("--agent-evidence").arg(&guest).arg("--console").arg(&console);
    let output = run(&mut bulla);
    let shown = String::from_utf8_lossy(&read(&console)).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}\n{shown}");
    assert!(shown.contains("bulla-agent: the host has the evidence"), "{shown}");
    assert!(shown.contains("reboot: Power down"), "{shown}");

    let expected = at("exp.cbor");
    let _ = run_expecting(boot("measure", kernel, &initrd, cmdline).arg("--out").arg(&expected), 0);
    for (evidence, taken_at) in [(&handover, "handover"), (&guest, "guest")] {
        let verdict = verify(evidence, &expected, NONCE, 0);
        assert_eq!((&verdict["accepted"], &verdict["taken_at"]), (&true.into(), &taken_at.into()), "{verdict}");
        let _ = verify(evidence, &expected, &NONCE.replace('0', "1"), 1);
    }

    // Linux shows the log as the firmware wrote it, has extended none of the quoted PCRs, and finds the key that the monitor found.
    let computed = bulla_attest::Expected::from_bytes(&read(&expected)).unwrap().to_event_log().unwrap();
    let (guest_says, monitor_says) = (signed(&guest), signed(&handover));
    assert_eq!(hex::encode(&guest_says.event_log), hex::encode(computed));
    assert_eq!(guest_says.tpm.pcrs, monitor_says.tpm.pcrs);
    assert_eq!(guest_says.tpm.ak_public, monitor_says.tpm.ak_public);

    let other = at("other.cbor");
    let other_cmdline = format!("{cmdline} quiet");
    let _ = run_expecting(boot("measure", kernel, &initrd, &other_cmdline).arg("--out").arg(&other), 0);
    assert!(names(&verify(&guest, &other, NONCE, 1), 12, "command line"));
    let file = format!("etc/motd={}", write(&dir, "motd", b"hello\n").display());
    let other_initrd = initramfs(&dir, "other.img", &["--file", &file]);
    let _ = run_expecting(boot("measure", kernel, &other_initrd, cmdline).arg("--out").arg(&other), 0);
    assert!(names(&verify(&guest, &other, NONCE, 1), 9, "initrd"));
    shown
}

#[test]
fn a_stock_kernels_agent_hands_out_evidence_that_verifies_and_powers_off() {
    let test = "evidence from inside a stock kernel";
    if soft_or_skip(test)
        && let Some(kernel) = stock_kernel_or_skip(test)
    {
        attested_from_inside(&kernel, "console=ttyS0 cryptomgr.notests");
    }
}

#[test]
fn a_stock_kernel_finds_the_tpm_behind_a_fifo_too() {
    let test = "a stock kernel and the FIFO interface";
    if soft_or_skip(test)
        && let Some(kernel) = stock_kernel_or_skip(test)
    {
        let shown = attested_through("tis", &kernel, "console=ttyS0 cryptomgr.notests");
        assert!(shown.contains("tpm_tis MSFT0101:00: 2.0 TPM"), "{shown}");
    }
}

/// With the kernel's self-tests of its cryptography, which are known answers for a processor too.
#[test]
#[ignore = "slow: minutes a kernel"]
fn every_stock_kernel_is_attested_from_inside_and_passes_its_own_tests() {
    let test = "evidence from inside every stock kernel";
    if !soft_or_skip(test) {
        return;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/kernels");
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut kernels: Vec<PathBuf> = entries.filter(|path| name(path).starts_with("vmlinuz-")).collect();
    kernels.sort();
    if kernels.is_empty() {
        println!("skipped: {test} needs stock kernels, ./x kernels --all fetches them");
    }
    for kernel in kernels {
        let started = std::time::Instant::now();
        let shown = attested_from_inside(&kernel, "console=ttyS0");
        // Linux, crypto/testmgr.c: "alg: skcipher: …-aesni encryption test failed".
        let failed: Vec<_> = shown.lines().filter(|line| line.contains("alg: ") && line.contains("fail")).collect();
        assert!(failed.is_empty(), "{}: {failed:?}", name(&kernel));
        println!("{}: attested after {:.1} s", name(&kernel), started.elapsed().as_secs_f32());
    }
}

#[test]
fn a_guest_without_an_agent_is_told_from_one_with() {
    if !soft_or_skip("a guest without an agent") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let evidence = dir.path().join("guest.cbor");
    let mut bulla = command("bulla");
    bulla.args(["run", "--kernel", "tenant", "--memory", "64M", "--nonce", NONCE, "--until", "handover"]);
    let output = run(bulla.args(["--accel", "soft", "--console", "none"]).arg("--agent-evidence").arg(&evidence));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no evidence from inside the guest: no agent"), "{stderr}");
    assert_eq!(read(&evidence), b"");
}

#[test]
fn a_nonce_without_evidence_to_take_and_the_reverse_are_usage_errors() {
    for arguments in
        [&["--nonce", NONCE][..], &["--agent-evidence", "x"], &["--agent-evidence", "x", "--host-key", "y"]]
    {
        let output = run(command("bulla").args(["run", "--kernel", "tenant"]).args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
