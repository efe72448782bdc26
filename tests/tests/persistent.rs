//! A VM's TPM that outlives the VM: `bulla run --tpm-state`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bulla_tests::{NONCE, TempDir, command, read, run, write};

const KEY: &[u8] = b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
/// Exit code of a VM whose TPM's state cannot be used.
const TPM_STATE: i32 = 5;

/// Whether this `bulla` has the software processor.
fn soft_or_skip(test: &str) -> bool {
    let help = run(command("bulla").args(["run", "--help"]));
    let there = String::from_utf8_lossy(&help.stdout).contains("soft");
    if !there {
        println!("skipped: {test} needs `bulla run --accel soft`, which this bulla does not have");
    }
    there
}

/// A folder for a TPM's state, and what goes with it.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn vm(&self) -> Command {
        let mut bulla = command("bulla");
        bulla.args(["run", "--kernel", "tenant", "--memory", "64M", "--accel", "soft", "--console", "none"]);
        bulla.arg("--tpm-state").arg(self.at("state"));
        bulla
    }

    /// Boots to the hand-over and gives the evidence.
    fn boot(&self, arguments: &[&str]) -> bulla_attest::Evidence {
        let evidence = self.at("evidence");
        let mut bulla = self.vm();
        bulla.args(["--nonce", NONCE, "--until", "handover"]).arg("--evidence").arg(&evidence);
        let output = run(bulla.args(arguments));
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        bulla_attest::SignedEvidence::from_bytes(&read(&evidence)).unwrap().evidence().clone()
    }

    /// Tries to boot, and gives what was said when the state could not be used.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = run(self.vm().args(["--until", "handover"]).args(arguments));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(TPM_STATE), "{said}");
        assert!(said.contains("bulla: the vTPM did not start: "), "{said}");
        said
    }
}

/// TPMS_CLOCK_INFO of a quote: clock, resetCount, and whether the clock is safe (TPM 2.0 Part 2, 10.12.8 and 10.11.1).
fn clock_info(evidence: &bulla_attest::Evidence) -> (u64, u32, bool) {
    let attest = &evidence.tpm.quote;
    // Magic, type, qualifiedSigner, extraData, then clock, resetCount, restartCount, safe.
    let mut at = 6;
    for _ in 0..2 {
        at += 2 + usize::from(u16::from_be_bytes([attest[at], attest[at + 1]]));
    }
    let clock = u64::from_be_bytes(attest[at..at + 8].try_into().unwrap());
    (clock, u32::from_be_bytes(attest[at + 8..at + 12].try_into().unwrap()), attest[at + 16] == 1)
}

#[test]
fn the_next_vm_has_the_same_tpm_and_counts_its_boots() {
    if !soft_or_skip("a TPM's state that lasts") {
        return;
    }
    let place = Place::new();
    let (first, second) = (place.boot(&[]), place.boot(&[]));
    assert_eq!(first.tpm.ak_public, second.tpm.ak_public);
    assert_eq!(first.tpm.pcrs, second.tpm.pcrs, "the same boot measures the same");
    let ((clock, boots, _), (later, more, _)) = (clock_info(&first), clock_info(&second));
    assert_eq!(more, boots + 1);
    assert!(
        later > clock,
        "the clock never shows a time again, though nobody sent TPM2_Shutdown: {later} after {clock}"
    );
    // Another folder is another TPM.
    assert_ne!(Place::new().boot(&[]).tpm.ak_public, first.tpm.ak_public);
}

/// A VM that runs until it is dropped.
struct Running(Child);

impl Running {
    fn start(place: &Place) -> Self {
        let file = place.at("state").join("bulla-vtpm.state");
        let mut bulla = place.vm();
        bulla.stdout(Stdio::null()).stderr(Stdio::inherit());
        let vm = Self(bulla.spawn().unwrap());
        let start = Instant::now();
        // Its vTPM has the state when it has written to it.
        while !fs::read(&file).is_ok_and(|bytes| bytes.iter().any(|b| *b != 0)) {
            assert!(start.elapsed() < Duration::from_secs(60), "the vTPM stores nothing");
            thread::sleep(Duration::from_millis(10));
        }
        vm
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_vms_cannot_have_one_tpm_and_a_killed_one_leaves_it_whole() {
    if !soft_or_skip("two VMs on one TPM's state") {
        return;
    }
    let place = Place::new();
    let running = Running::start(&place);
    let said = place.refused(&[]);
    assert!(said.contains("is in use by process ") && said.contains("another process has its TPM's state"), "{said}");
    // SIGKILL, at any moment; its vTPM dies with it and gives the state free.
    drop(running);
    let start = Instant::now();
    loop {
        let output = run(place.vm().args(["--until", "handover"]));
        match output.status.code() {
            Some(0) => break,
            Some(TPM_STATE) if start.elapsed() < Duration::from_secs(60) => thread::sleep(Duration::from_millis(10)),
            code => panic!("{code:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

#[test]
fn the_key_of_the_state_is_asked_for_and_checked() {
    if !soft_or_skip("the key of a TPM's state") {
        return;
    }
    let place = Place::new();
    let key = write(&place.dir, "key", KEY);
    let key = key.to_str().unwrap();
    let first = place.boot(&["--tpm-state-key", key]);
    assert_eq!(place.boot(&["--tpm-state-key", key]).tpm.ak_public, first.tpm.ak_public);
    let state = read(&place.at("state").join("bulla-vtpm.state"));
    assert!(!place.at("state").join("bulla-vtpm.key").exists(), "the key is not beside the state");

    let other = write(&place.dir, "other", &KEY.iter().rev().filter(|b| **b != b'\n').copied().collect::<Vec<_>>());
    let said = place.refused(&["--tpm-state-key", other.to_str().unwrap()]);
    assert!(said.contains("is not the one that the TPM state was stored with"), "{said}");
    let said = place.refused(&[]);
    assert!(said.contains("the TPM state is protected by "), "{said}");
    let said = place.refused(&["--tpm-state-key", "/nowhere/key"]);
    assert!(said.contains("/nowhere/key"), "{said}");
    let short = write(&place.dir, "short", b"0011");
    let _ = place.refused(&["--tpm-state-key", short.to_str().unwrap()]);
    assert_eq!(read(&place.at("state").join("bulla-vtpm.state")), state, "who is refused changes nothing");
}

#[test]
fn a_damaged_state_is_refused_and_left_alone() {
    if !soft_or_skip("a damaged TPM state") {
        return;
    }
    let place = Place::new();
    let _ = place.boot(&[]);
    let path = place.at("state").join("bulla-vtpm.state");
    // A bit in the contents of each of the two slots.
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let slot = file.metadata().unwrap().len() / 2;
    for at in [300, slot + 300] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
    let damaged = read(&path);
    let said = place.refused(&[]);
    assert!(said.contains("is damaged: slot A: "), "{said}");
    assert_eq!(read(&path), damaged);
}

fn copy(from: &Path, to: &Path) {
    // Over it, not beside it: a new file would be noticed as one.
    let file = File::options().write(true).open(to).unwrap();
    file.write_all_at(&read(from), 0).unwrap();
}

#[test]
fn a_state_that_is_set_back_is_refused_until_that_is_accepted_and_then_shown() {
    if !soft_or_skip("a TPM state that is set back") {
        return;
    }
    let place = Place::new();
    let anchor = place.at("anchor");
    let anchored = ["--tpm-state-anchor", anchor.to_str().unwrap()];
    let (state, backup) = (place.at("state").join("bulla-vtpm.state"), place.at("backup"));
    let first = place.boot(&anchored);
    fs::copy(&state, &backup).unwrap();
    let (_, last, _) = clock_info(&place.boot(&anchored));
    copy(&backup, &state);
    let said = place.refused(&anchored);
    assert!(said.contains("the TPM state was rolled back"), "{said}");

    let accepted = place.boot(&[anchored[0], anchored[1], "--tpm-accept-rollback"]);
    assert_eq!(accepted.tpm.ak_public, first.tpm.ak_public);
    let (_, resets, safe) = clock_info(&accepted);
    assert!(resets > last && !safe, "a boot that no earlier one is mistaken for: {resets} after {last}");
    let _ = place.boot(&anchored);
}

#[test]
fn a_state_needs_a_folder_before_it_has_a_key() {
    for arguments in
        [&["--tpm-state-key", "x"][..], &["--tpm-state-anchor", "x"], &["--tpm-state", "x", "--tpm-accept-rollback"]]
    {
        let output = run(command("bulla").args(["run", "--kernel", "tenant"]).args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
