//! Tools that are not ours, on our evidence: tpm2_checkquote accepts the quote, and tpm2_eventlog replays event logs to the PCR
//! values that were quoted or computed.
//!
//! tpm2_eventlog before 5.6 (Debian 12 has 5.4) extends PCR 0 with EV_NO_ACTION events, and does not know that an H-CRTM event
//! starts PCR 0 at the value 4 (TPM 2.0 Library part 1, H-CRTM event sequence), so it is asked for all PCRs but that one.
//! `./x peers` fetches a newer one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulla_attest::{Bank, SignedEvidence};
use bulla_tests::{NONCE, TempDir, command, kvm_or_skip, read, run_expecting, tool_or_skip, write};

/// Values in hexadecimal by bank and PCR.
type Pcrs = BTreeMap<String, BTreeMap<u32, String>>;

/// A tpm2_eventlog.
struct Replayer {
    program: PathBuf,
    version: String,
    knows_hcrtm: bool,
}

impl Replayer {
    fn new(program: PathBuf) -> Option<Self> {
        let output = Command::new(&program).arg("--version").output().ok().filter(|o| o.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split("version=\"").nth(1).and_then(|t| t.split('"').next()).unwrap().to_owned();
        let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
        let knows_hcrtm = (numbers.next(), numbers.next()) >= (Some(5), Some(6));
        Some(Self { program, version, knows_hcrtm })
    }

    /// The one that `./x peers` fetched and this machine's, as far as they are there.
    fn all_or_skip(test: &str) -> Vec<Self> {
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers/tpm2_eventlog");
        let found: Vec<Self> = [fetched, "tpm2_eventlog".into()].into_iter().filter_map(Self::new).collect();
        if found.is_empty() {
            println!("skipped: {test} needs tpm2_eventlog");
        } else if !found.iter().any(|r| r.knows_hcrtm) {
            println!("skipped: PCR 0 in {test} needs tpm2_eventlog 5.6 or later, ./x peers fetches one");
        }
        found
    }

    /// Demands that `log` is replayed to these values, no more and no fewer, in each bank that is named.
    fn demand(&self, log: &Path, mut wanted: Pcrs) {
        let mut replayed = self.replay(log);
        replayed.retain(|bank, _| wanted.contains_key(bank));
        if !self.knows_hcrtm {
            for values in replayed.values_mut().chain(wanted.values_mut()) {
                assert!(values.remove(&0).is_some());
            }
        }
        assert_eq!(replayed, wanted, "tpm2_eventlog {}", self.version);
        let all = if self.knows_hcrtm { "all PCRs" } else { "all PCRs but 0" };
        println!("tpm2_eventlog {} agrees on {all} of {:?}", self.version, wanted.keys());
    }

    fn replay(&self, log: &Path) -> Pcrs {
        let text = run_expecting(Command::new(&self.program).arg(log), 0);
        let (_, lines) = text.split_once("\npcrs:\n").unwrap();
        let mut pcrs = Pcrs::new();
        let mut bank = "";
        for (key, value) in lines.lines().filter_map(|line| line.split_once(':')) {
            match value.trim().strip_prefix("0x") {
                Some(value) => {
                    let pcr = key.trim().parse().unwrap();
                    let _ = pcrs.entry(bank.to_owned()).or_default().insert(pcr, value.to_lowercase());
                }
                None => bank = key.trim(),
            }
        }
        pcrs
    }
}

fn bulla(verb: &str, initrd: &Path) -> Command {
    let mut bulla = command("bulla");
    bulla.args([verb, "--kernel", "tenant", "--cmdline", "some words", "--memory", "256M", "--initrd"]).arg(initrd);
    bulla
}

#[test]
fn stock_tools_accept_the_exported_quote_and_replay_the_log_to_it() {
    let test = "the quote of a tenant";
    if !kvm_or_skip(test) || !tool_or_skip("tpm2_checkquote", test) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let initrd = write(&dir, "initrd", b"any bytes");
    let (evidence, out) = (dir.path().join("ev.cbor"), dir.path().join("export"));
    let mut run = bulla("run", &initrd);
    run.arg("--evidence").arg(&evidence).args(["--nonce", NONCE, "--until", "handover", "--console", "none"]);
    let _ = run_expecting(&mut run, 0);
    let mut export = command("bulla-attest");
    export.arg("export").arg("--evidence").arg(&evidence).arg("--tpm2-tools").arg(&out);
    let _ = run_expecting(&mut export, 0);

    let at = |name: &str| out.join(name);
    let check = |nonce: &str, code| {
        let mut check = Command::new("tpm2_checkquote");
        check.arg("-u").arg(at("ak.pem")).arg("-m").arg(at("quote.msg")).arg("-s").arg(at("quote.sig"));
        run_expecting(check.arg("-f").arg(at("quote.pcrs")).args(["-g", "sha256", "-q", nonce]), code)
    };
    let _ = check(NONCE, 0);
    let _ = check(&NONCE.replace('0', "1"), 1);

    let evidence = SignedEvidence::from_bytes(&read(&evidence)).unwrap();
    let quoted = &evidence.evidence().tpm.pcrs[&Bank::Sha256];
    assert_eq!(quoted.len(), bulla_boot_abi::chain::QUOTE_PCRS.len());
    let quoted = quoted.iter().map(|(pcr, value)| (*pcr, hex::encode(value))).collect();
    for replayer in Replayer::all_or_skip(test) {
        replayer.demand(&at("eventlog.bin"), BTreeMap::from([("sha256".to_owned(), BTreeMap::clone(&quoted))]));
    }
}

#[test]
fn a_stock_tool_replays_the_computed_log_as_we_do_in_every_bank() {
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    let initrd = write(&dir, "initrd", b"any bytes");
    let _ = run_expecting(bulla("measure", &initrd).arg("--event-log").arg(&log), 0);
    let ours = run_expecting(command("bulla-attest").arg("eventlog").arg(&log).args(["--replay", "--json"]), 0);
    let ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
    let ours: Pcrs = serde_json::from_value(ours["pcrs"].clone()).unwrap();
    assert_eq!(ours.keys().collect::<Vec<_>>(), ["sha1", "sha256", "sha384"]);
    for replayer in Replayer::all_or_skip("the computed log") {
        replayer.demand(&log, ours.clone());
    }
}
