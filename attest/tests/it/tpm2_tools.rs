//! The exported files in the hands of stock tpm2-tools: they accept the quote, refuse it when changed, and replay
//! the log to the quoted PCRs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use bulla_attest::{Bank, Evidence, Expected, export};
use bulla_tpm_types::HashAlg;
use bulla_tpm_types::eventlog::ev;

use crate::common::{Machine, NONCE, PCRS, SoftAk, boot};

fn available(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {tool} is not installed");
    }
    found
}

fn checkquote(dir: &Path, hash: &str, nonce: &str) -> bool {
    let args = ["-u", "ak.pem", "-m", "quote.msg", "-s", "quote.sig", "-f", "quote.pcrs", "-g", hash, "-q", nonce];
    let output = Command::new("tpm2_checkquote").args(args).current_dir(dir).output().expect("started");
    if !output.status.success() {
        eprintln!("tpm2_checkquote: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

fn exported(evidence: &Evidence) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let files = export::tpm2_tools(evidence, &dir.path().join("made")).expect("exported");
    assert_eq!(files.len(), 7);
    dir
}

#[test]
fn tpm2_checkquote_accepts_the_export_and_nothing_else() {
    if !available("tpm2_checkquote") {
        return;
    }
    let nonce = hex::encode(NONCE);
    let p256 = Machine::new();
    let p384 = Machine { ak: SoftAk::p384(), ..Machine::new() };
    let banks: &[(HashAlg, &[u32])] = &[(HashAlg::Sha1, &[0, 23]), (HashAlg::Sha256, &PCRS), (HashAlg::Sha384, &PCRS)];
    for (evidence, hash) in
        [(p256.evidence(), "sha256"), (p256.evidence_over(banks), "sha256"), (p384.evidence(), "sha384")]
    {
        let dir = exported(&evidence);
        let dir = dir.path().join("made");
        assert!(checkquote(&dir, hash, &nonce), "{hash}");
        assert!(!checkquote(&dir, hash, "00112233445566778899aabbccddeeff"), "another nonce");
        let mut pcrs = std::fs::read(dir.join("quote.pcrs")).expect("readable");
        let count = 4 + 16 * 8;
        pcrs[count + 4 + 4 + 2 + 5] ^= 1; // inside the first digest
        std::fs::write(dir.join("quote.pcrs"), pcrs).expect("written");
        assert!(!checkquote(&dir, hash, &nonce), "a changed PCR value");
    }
}

/// The `pcrs:` section that tpm2_eventlog prints at the end.
fn eventlog(log: &Path) -> BTreeMap<(Bank, u32), String> {
    let output = Command::new("tpm2_eventlog").arg(log).output().expect("started");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (_, section) = text.split_once("\npcrs:\n").expect("a pcrs section");
    let mut values = BTreeMap::new();
    let mut bank = Bank::Sha1;
    for line in section.lines() {
        let (key, value) = line.trim().split_once(':').expect("key: value");
        match value.trim().strip_prefix("0x") {
            Some(digest) => drop(values.insert((bank, key.trim().parse().expect("index")), digest.to_owned())),
            None => bank = key.parse().expect("bank"),
        }
    }
    values
}

#[test]
fn tpm2_eventlog_replays_the_log_to_the_quoted_pcrs() {
    if !available("tpm2_eventlog") {
        return;
    }
    // A machine without an H-CRTM: PCR 0 starts at 0 and every version of the tool gets every PCR right.
    let mut events = boot(b"k");
    events[0].event_type = ev::S_CRTM_VERSION;
    let plain = Machine { booted: Expected::from_events(0, events).expect("events"), ..Machine::new() };
    // With one, PCR 0 starts at 4. The tool knows that only since 5.6: before, PCR 0 is left out here.
    let hcrtm = Machine::new();
    for (machine, all) in [(plain, true), (hcrtm, false)] {
        let dir = exported(&machine.evidence());
        let replayed = eventlog(&dir.path().join("made/eventlog.bin"));
        let mut compared = 0;
        for (bank, values) in &machine.booted.pcrs {
            for (pcr, value) in values.iter().filter(|(pcr, _)| all || **pcr != 0) {
                assert_eq!(replayed.get(&(*bank, *pcr)), Some(&hex::encode(value)), "{bank} PCR {pcr}");
                compared += 1;
            }
        }
        assert_eq!(compared, 3 * if all { PCRS.len() } else { PCRS.len() - 1 });
    }
}
