//! The program: exit codes, verdicts for people and for programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bulla_attest::quote::AttestationKey;
use bulla_attest::{Evidence, HostKey, Root};

use crate::common::{Machine, NONCE, expected};

struct Files {
    dir: tempfile::TempDir,
    machine: Machine,
}

impl Files {
    fn new(machine: Machine) -> Self {
        let files = Self { dir: tempfile::tempdir().expect("temporary directory"), machine };
        files.write_evidence(&files.machine.evidence());
        files.write("exp.cbor", &expected(b"a good kernel").to_bytes().expect("expected"));
        files.write("log.bin", &files.machine.evidence().event_log);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("written");
    }

    fn write_evidence(&self, evidence: &Evidence) {
        self.write("ev.cbor", &evidence.sign(&self.machine.host).expect("signed"));
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        run_in(self.dir.path(), args)
    }

    fn verify(&self, more: &[&str]) -> (i32, String, String) {
        let nonce = hex::encode(NONCE);
        self.run(&[&["verify", "--evidence", "ev.cbor", "--nonce", &nonce][..], more].concat())
    }
}

fn run_in(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output: Output =
        Command::new(env!("CARGO_BIN_EXE_bulla-attest")).args(args).current_dir(dir).output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

/// What is left to say goes nowhere; the exit code still is the verdict.
#[test]
fn a_reader_that_has_left_changes_no_verdict() {
    let files = Files::new(Machine::new());
    let nonce = hex::encode(NONCE);
    let verify = ["verify", "--evidence", "ev.cbor", "--nonce"];
    for (args, code) in [
        ([&verify[..], &[&nonce]].concat(), 0),
        ([&verify[..], &[&nonce, "--json"]].concat(), 0),
        ([&verify[..], &["0011223344556677"]].concat(), 1),
        (vec!["eventlog", "log.bin", "--replay"], 0),
        (vec!["eventlog", "log.bin", "--json"], 0),
        (vec!["eventlog", "ev.cbor", "--json"], 2),
        (vec!["export", "--tpm2-tools", "out", "--evidence", "ev.cbor"], 0),
    ] {
        let (_, out, err) = files.run(&args);
        assert!(!out.is_empty(), "{args:?}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_bulla-attest"))
            .args(&args)
            .current_dir(files.dir.path())
            .stdout(Stdio::from(writer))
            .output()
            .expect("started");
        let words = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), words), (Some(code), err), "{args:?}");
    }
}

#[test]
fn good_evidence_exits_0_and_says_what_was_not_checked() {
    let files = Files::new(Machine::new());
    let (code, out, err) = files.verify(&["--expected", "exp.cbor"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("ACCEPTED  root of trust: vmm-hosted"), "{out}");
    assert!(out.contains("Not checked:") && out.contains("not which machine's"), "{out}");
    assert!(!out.contains("FAIL") && !out.contains("Because:"));
}

#[test]
fn another_kernel_exits_1_and_names_pcr_and_event() {
    let files = Files::new(Machine::booting(b"another kernel"));
    let (code, out, _) = files.verify(&["--expected", "exp.cbor"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.starts_with("REJECTED"), "{out}");
    assert!(out.contains("PCR 4: kernel (EV_IPL \"bulla: kernel\")") && out.contains("[event-changed]"), "{out}");

    let (code, out, _) = files.verify(&["--expected", "exp.cbor", "--json"]);
    let verdict: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &verdict["accepted"]), (1, &false.into()));
    assert_eq!(verdict["differences"][0]["pcr"], 4);
}

#[test]
fn a_wrong_nonce_exits_1() {
    let files = Files::new(Machine::new());
    let (code, out, _) = files.run(&["verify", "--evidence", "ev.cbor", "--nonce", "0011223344556677"]);
    assert_eq!(code, 1);
    assert!(out.contains("[nonce-mismatch]") && out.contains("[quote-nonce-mismatch]"), "{out}");
}

#[test]
fn pins_and_policies_come_from_files() {
    let files = Files::new(Machine::new());
    let ak = AttestationKey::parse(&files.machine.evidence().tpm.ak_public).expect("AK");
    files.write("ak.pem", ak.to_pem().expect("PEM").as_bytes());
    files.write("host.pem", files.machine.host.public().to_pem().as_bytes());
    files.write("other.pem", HostKey::generate().expect("key").public().to_pem().as_bytes());
    let policy = format!(
        "require_endorsement = true\n[attestation_keys]\nnames = [\"{}\"]\n[host_keys]\npem = ['''\n{}''']\n",
        hex::encode(ak.name()),
        files.machine.host.public().to_pem()
    );
    files.write("policy.toml", policy.as_bytes());
    files.write("strict.toml", b"require_endorsement = true\nminimum_root = \"sev-snp\"");

    assert_eq!(files.verify(&["--ak", "ak.pem", "--host-key", "host.pem"]).0, 0);
    assert_eq!(files.verify(&["--policy", "policy.toml"]).0, 0);
    let (code, out, _) = files.verify(&["--ak", "other.pem", "--host-key", "other.pem"]);
    assert_eq!(code, 1);
    assert!(out.contains("[ak-not-pinned]") && out.contains("[host-key-not-pinned]"), "{out}");
    let (code, out, _) = files.verify(&["--policy", "strict.toml"]);
    assert_eq!(code, 1);
    assert!(out.contains("[not-endorsed]") && out.contains("[root-too-weak]"), "{out}");
}

#[test]
fn unreadable_input_exits_2_and_names_the_file() {
    let files = Files::new(Machine::new());
    files.write("bad.toml", b"minimum_rot = 1");
    files.write("bad.cbor", b"\xd2\x80");
    let unusable = |args: &[&str], named: &str| {
        let (code, out, err) = files.run(args);
        assert_eq!(code, 2, "{args:?}: {out}{err}");
        assert!(err.contains(named), "{args:?}: {err}");
    };
    let nonce = hex::encode(NONCE);
    unusable(&["verify", "--evidence", "none.cbor", "--nonce", &nonce], "none.cbor");
    unusable(&["verify", "--evidence", "bad.cbor", "--nonce", &nonce], "bad.cbor");
    unusable(&["verify", "--evidence", "ev.cbor", "--nonce", "xyz"], "--nonce");
    unusable(&["verify", "--evidence", "ev.cbor", "--nonce", "00"], "8 to 64 bytes");
    unusable(&["verify", "--evidence", "ev.cbor", "--nonce", &nonce, "--policy", "bad.toml"], "minimum_rot");
    unusable(&["verify", "--evidence", "ev.cbor", "--nonce", &nonce, "--expected", "ev.cbor"], "expected values");
    unusable(&["verify", "--evidence", "ev.cbor"], "--nonce");
    unusable(&["eventlog", "ev.cbor"], "ev.cbor");
    unusable(&["export", "--evidence", "bad.cbor", "--tpm2-tools", "x"], "bad.cbor");
    unusable(&["frobnicate"], "frobnicate");

    let (_, out, _) = files.run(&["verify", "--evidence", "bad.cbor", "--nonce", &nonce, "--json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&out).expect("JSON")["error"].is_string());
}

#[test]
fn simulated_roots_need_a_policy_that_says_so() {
    let files = Files::new(Machine::new());
    files.write_evidence(&Evidence { root: Root::Simulated, ..files.machine.evidence() });
    assert_eq!(files.verify(&[]).0, 1);
    files.write("policy.toml", b"minimum_root = \"simulated\"");
    let (code, out, _) = files.verify(&["--policy", "policy.toml"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("ACCEPTED  root of trust: simulated"), "{out}");
}

#[test]
fn eventlog_shows_events_and_replays_them() {
    let files = Files::new(Machine::new());
    let (code, out, _) = files.run(&["eventlog", "log.bin"]);
    assert_eq!(code, 0);
    assert!(out.contains("PCR 4   EV_IPL \"bulla: kernel\"") && !out.contains("Replayed"), "{out}");
    let (_, out, _) = files.run(&["eventlog", "log.bin", "--replay"]);
    let pcr4 = hex::encode(&files.machine.booted.pcrs[&bulla_attest::Bank::Sha256][&4]);
    assert!(out.contains(&pcr4), "{out}");
    let (_, out, _) = files.run(&["eventlog", "log.bin", "--replay", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["pcrs"]["sha256"]["4"], pcr4.as_str());
    assert_eq!(json["startup_locality"], 4);
    assert_eq!(json["events"][1]["type_name"], "EV_EFI_HCRTM_EVENT");
}

#[test]
fn help_teaches() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (args, teaches) in [
        (&["--help"][..], "bulla measure"),
        (&["verify", "--help"], "minimum_root"),
        (&["eventlog", "--help"], "proves nothing"),
        (&["export", "--help"], "tpm2_checkquote"),
    ] {
        let (code, out, _) = run_in(dir.path(), args);
        assert_eq!(code, 0);
        assert!(out.contains(teaches) && out.contains("Exit code"), "{out}");
    }
}

#[cfg(feature = "initramfs")]
#[test]
fn an_initramfs_is_the_same_bytes_each_time_and_a_bad_one_is_not_written() {
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::write(dir.path().join("conf"), b"a = 1\n").expect("written");
    let build = |args: &[&str]| run_in(dir.path(), &[&["initramfs", "--file", "etc/conf=conf"], args].concat());
    assert_eq!(build(&["-o", "one"]).0, 0);
    assert_eq!(build(&["--output", "two"]).0, 0);
    assert_eq!(build(&["--plain", "-o", "plain"]).0, 0);
    let read = |name: &str| fs::read(dir.path().join(name)).expect("read");
    assert_eq!(read("one"), read("two"));
    assert!(read("one").starts_with(&[0x1f, 0x8b]) && read("plain").starts_with(b"070701"));
    for bad in [&["--file", "init=conf"][..], &["--file", "../x=conf"], &["--file", "x=missing"], &["--file", "x"]] {
        let (code, _, stderr) = build(&[bad, &["-o", "bad"]].concat());
        assert_eq!(code, 2, "{stderr}");
        assert!(!dir.path().join("bad").exists());
    }
}
