//! `bulla-vtpm setup` as its users see it. tpm2-tools and OpenSSL, which nobody here wrote, judge the keys and certificates;
//! tests that need them are skipped where they are not installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use bulla_tpm_types::{Handle, PublicKind, StartupType, command, response, rh, templates};
use bulla_vtpm_client::{Locality, StatePlace, VtpmProcess};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-vtpm");
/// How often to look whether it is there.
const LOOK: Duration = Duration::from_millis(10);

/// Whether the judges are here; says so if not.
fn judges(test: &str) -> bool {
    let missing =
        ["tpm2_createek", "openssl"].into_iter().find(|tool| Command::new(tool).arg("--version").output().is_err());
    if let Some(tool) = missing {
        println!("skipped: {test} needs {tool}");
    }
    missing.is_none()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs setup in a folder, with no home of anybody's.
fn setup(dir: &Path, words: &str) -> Output {
    let words = words.split_whitespace();
    let mut command = Command::new(PROGRAM);
    command.arg("setup").args(words).current_dir(dir).env_remove("XDG_DATA_HOME").env("HOME", dir).output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// A setup that must end with this code and say this.
#[track_caller]
fn refuses(output: &Output, code: i32, word: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(text(&output.stderr).contains(word), "{output:?}");
}

/// `bulla-vtpm socket` on the state in a folder; killed and reaped when dropped.
struct Running {
    process: Child,
    dir: PathBuf,
}

impl Running {
    fn start(dir: &Path, more: &[&str]) -> Self {
        for name in ["data", "data.ctrl", "ready"] {
            let _ = fs::remove_file(dir.join(name));
        }
        let mut process = Command::new(PROGRAM)
            .args(["socket", "--tpm2", "--tpmstate", "dir=tpm", "--flags", "startup-clear", "--pid", "file=ready"])
            .args(["--server", "type=unixio,path=data", "--ctrl", "type=unixio,path=data.ctrl"])
            .args(more)
            .current_dir(dir)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while !dir.join("ready").exists() {
            assert!(process.try_wait().unwrap().is_none(), "it ended");
            thread::sleep(LOOK);
        }
        Self { process, dir: dir.to_owned() }
    }

    /// Runs one of tpm2-tools, or openssl, in the folder.
    #[track_caller]
    fn tool(&self, line: &str) -> Vec<u8> {
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(&self.dir)
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.dir.join("data").display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        output.stdout
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The key that the certificate in an NV Index is for is the one that the tools make of the profile's template, and the
/// persistent one, and the certificate is valid.
#[track_caller]
fn judge(tpm: &Running, algorithm: &str, key: &Value) {
    let index = key["certificate"]["nv_index"].as_str().unwrap();
    let handle = key["handle"].as_str().unwrap();
    tpm.tool(&format!("tpm2_nvread -Q -C o {index} -o read.der"));
    let file = tpm.dir.join(key["certificate"]["file"].as_str().unwrap());
    assert_eq!(fs::read(tpm.dir.join("read.der")).unwrap(), fs::read(file).unwrap(), "{key}");

    tpm.tool("openssl x509 -inform der -in read.der -out read.pem");
    let verdict = tpm.tool("openssl verify -x509_strict -CAfile ca/root-cert.pem read.pem");
    assert_eq!(text(&verdict), "read.pem: OK\n");
    let certified = text(&tpm.tool("openssl x509 -in read.pem -noout -pubkey"));
    tpm.tool(&format!("tpm2_createek -Q -G {algorithm} -c made.ctx -f pem -u made.pem"));
    tpm.tool("tpm2_flushcontext -t");
    tpm.tool(&format!("tpm2_readpublic -Q -c {handle} -f pem -o kept.pem"));
    for name in ["made.pem", "kept.pem"] {
        assert_eq!(fs::read_to_string(tpm.dir.join(name)).unwrap(), certified, "{key}");
    }
}

#[test]
fn tools_and_openssl_accept_every_key_and_certificate() {
    if !judges("tools_and_openssl_accept_every_key_and_certificate") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let made = setup(
        dir,
        "--tpmstate tpm --ca-dir ca --create-platform-cert --create-spk --lock-nvram --write-ek-cert-files certificates \
         --rsa-keysize 2048,3072 --curve p256,p384,p521 --pcr-banks sha256,sha384 --json",
    );
    let made: Value = serde_json::from_str(&succeeds(&made)).unwrap();
    assert_eq!(made["pcr_banks"], serde_json::json!(["sha256", "sha384"]));

    let tpm = Running::start(dir, &[]);
    let keys = made["endorsement_keys"].as_array().unwrap();
    assert_eq!(keys.len(), 5);
    for key in keys {
        let algorithm = match key["name"].as_str().unwrap() {
            "rsa2048" => "rsa",
            "secp256r1" => "ecc",
            "secp384r1" => "ecc384",
            "secp521r1" => "ecc521",
            "rsa3072" => "rsa3072",
            other => panic!("{other}"),
        };
        judge(&tpm, algorithm, key);
    }

    // The tool that looks for certificates finds them where the profile says.
    tpm.tool("tpm2_getekcertificate -o rsa.crt -o ecc.crt");
    for (found, name) in [("rsa.crt", "ek-rsa2048.crt"), ("ecc.crt", "ek-secp256r1.crt")] {
        let written = fs::read(dir.join("certificates").join(name)).unwrap();
        assert_eq!(fs::read(dir.join(found)).unwrap(), written);
    }

    // The platform's certificate is of the first key.
    tpm.tool("tpm2_nvread -Q -C o 0x01c08000 -o platform.der");
    tpm.tool("openssl x509 -inform der -in platform.der -out platform.pem");
    tpm.tool("openssl verify -x509_strict -CAfile ca/root-cert.pem platform.pem");
    let platform = text(&tpm.tool("openssl x509 -in platform.pem -noout -text"));
    assert!(platform.contains("2.23.133.8.2") && platform.contains("2.23.133.5.1.1=bulla/"), "{platform}");

    // ppwrite, writedefine, writelocked, ppread, ownerread, authread, no_da, written, platformcreate.
    let indices = text(&tpm.tool("tpm2_nvreadpublic"));
    assert_eq!(indices.matches("0x62072801").count(), 6, "{indices}");
    let handles = text(&tpm.tool("tpm2_getcap handles-persistent"));
    let expected = ["0x81000001", "0x81010001", "0x81010002", "0x81010016", "0x81010018", "0x8101001C"];
    assert_eq!(handles, expected.map(|handle| format!("- {handle}\n")).concat());
    let banks = text(&tpm.tool("tpm2_getcap pcrs"));
    assert!(banks.contains("sha1: [ ]") && banks.contains("sha256: [ 0, 1"), "{banks}");
}

#[test]
fn a_certificate_says_what_the_profile_wants() {
    if !judges("a_certificate_says_what_the_profile_wants") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let of = |words: &str, file: &str| {
        let all = format!("--overwrite --tpmstate tpm --ca-dir ca --write-ek-cert-files certificates {words}");
        succeeds(&setup(dir, &all));
        let der = dir.join("certificates").join(file);
        let openssl =
            Command::new("openssl").args(["x509", "-inform", "der", "-noout", "-text", "-in"]).arg(der).output();
        text(&openssl.unwrap().stdout)
    };
    let nameless = of("--ecc --curve p256", "ek-secp256r1.crt");
    for line in [
        "        Version: 3 (0x2)\n",
        "        Subject: \n",
        "Not After : Dec 31 23:59:59 9999 GMT",
        "X509v3 Key Usage: critical\n                Key Agreement\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "X509v3 Extended Key Usage: \n                2.23.133.8.1\n",
        "X509v3 Subject Alternative Name: critical\n                DirName:/2.23.133.2.1=id:42554C41/2.23.133.2.2=bulla vTPM/2.23.133.2.3=id:",
        "X509v3 Subject Directory Attributes",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Key Identifier",
        "Signature Algorithm: ecdsa-with-SHA384",
    ] {
        assert!(nameless.contains(line), "{line:?} is not in\n{nameless}");
    }
    let long = "guest-of-a-long-name:01234567-89ab-cdef-0123-456789abcdef-and-more";
    let parts = format!("Subject: CN = {}, CN = {}\n", &long[..64], &long[64..]);
    assert!(of(&format!("--ecc --curve p256 --vmid {long}"), "ek-secp256r1.crt").contains(&parts));
    let named = of("--vmid guest:7", "ek-rsa2048.crt");
    for line in [
        "        Subject: CN = guest:7\n",
        "X509v3 Key Usage: critical\n                Key Encipherment\n",
        "X509v3 Subject Alternative Name: \n",
        "rsaEncryption",
    ] {
        assert!(named.contains(line), "{line:?} is not in\n{named}");
    }
}

#[test]
fn a_state_is_not_replaced_unless_that_is_wanted() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let file = dir.join("tpm/bulla-vtpm.state");
    // Nothing that needs long: one key, and no certificate.
    let plain = "--tpmstate dir=tpm --ecc --curve p256";
    assert!(succeeds(&setup(dir, plain)).contains("no certificate"));
    let first = fs::read(&file).unwrap();
    refuses(&setup(dir, plain), 7, "--overwrite");
    assert_eq!(succeeds(&setup(dir, &format!("{plain} --not-overwrite"))), "");
    assert_eq!(fs::read(&file).unwrap(), first);

    let tpm = Running::start(dir, &[]);
    for how in ["", "--not-overwrite", "--overwrite"] {
        refuses(&setup(dir, &format!("{plain} {how}")), 8, "in use by process");
    }
    drop(tpm);
    succeeds(&setup(dir, &format!("{plain} --overwrite")));
    assert_ne!(fs::read(&file).unwrap(), first);
    drop(Running::start(dir, &[]));
}

#[test]
fn a_key_protects_the_state_from_the_start() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    fs::write(dir.join("key"), "0x000102030405060708090a0b0c0d0e0f\n").unwrap();
    fs::write(dir.join("phrase"), "correct horse\n").unwrap();
    let plain = "--tpmstate dir://tpm --ecc --curve p256";
    succeeds(&setup(dir, &format!("{plain} --keyfile key --cipher aes-128-cbc")));
    assert!(!dir.join("tpm/bulla-vtpm.key").exists());
    drop(Running::start(dir, &["--key", "file=key"]));
    // Another key does not tell whether there is a state to be left as it is.
    refuses(&setup(dir, &format!("{plain} --pwdfile phrase --not-overwrite")), 7, "passphrase");
    succeeds(&setup(dir, &format!("{plain} --key pwdfile=phrase --overwrite")));
    drop(Running::start(dir, &["--key", "pwdfile=phrase"]));
    refuses(&setup(dir, &format!("{plain} --overwrite --keyfile nowhere")), 7, "nowhere");
}

#[test]
fn an_authority_is_made_once_and_never_guessed() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let plain = "--tpmstate tpm --ecc --curve p256 --create-ek-cert --overwrite";
    let said = succeeds(&setup(dir, plain));
    let ca = dir.join(".local/share/bulla/vtpm-ca");
    assert!(said.contains(ca.join("root-cert.pem").to_str().unwrap()), "{said}");
    let mode = |name: &str| fs::metadata(ca.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("root-key.pem"), mode("root-cert.pem")), (0o600, 0o644));
    let key = fs::read(ca.join("root-key.pem")).unwrap();
    let certificate = fs::read(ca.join("root-cert.pem")).unwrap();
    assert!(key.starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
    succeeds(&setup(dir, plain));
    assert_eq!(fs::read(ca.join("root-key.pem")).unwrap(), key);
    assert_eq!(fs::read(ca.join("root-cert.pem")).unwrap(), certificate);

    // Another authority's certificate, none at all, and a key that is none. What was there stays.
    let state = fs::read(dir.join("tpm/bulla-vtpm.state")).unwrap();
    succeeds(&setup(dir, "--tpmstate other --ecc --curve p256 --ca-dir ca2"));
    fs::copy(dir.join("ca2/root-cert.pem"), ca.join("root-cert.pem")).unwrap();
    refuses(&setup(dir, plain), 5, "not the certificate of the key");
    fs::write(ca.join("root-key.pem"), "").unwrap();
    refuses(&setup(dir, plain), 5, "not a P-384 key");
    fs::write(ca.join("root-key.pem"), &key).unwrap();
    assert_eq!(fs::read(dir.join("tpm/bulla-vtpm.state")).unwrap(), state);
    fs::remove_file(ca.join("root-cert.pem")).unwrap();
    succeeds(&setup(dir, plain));

    // A setup that fails leaves nothing.
    fs::write(dir.join("a-file"), "").unwrap();
    refuses(&setup(dir, "--tpmstate third --ca-dir a-file"), 5, "a-file");
    assert!(!dir.join("third").exists());
}

#[test]
fn two_first_setups_at_once_have_one_authority() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let words = format!("--tpmstate {name} --ca-dir ca --ecc --curve p256 --write-ek-cert-files {name}");
            scope.spawn(move || succeeds(&setup(dir, &words)));
        }
    });
    assert!(dir.join("ca/root-cert.pem").exists());
    if judges("two_first_setups_at_once_have_one_authority, the certificates") {
        for name in ["a", "b", "c"] {
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-CAfile", "ca/root-cert.pem"]).arg(format!("{name}/ek-secp256r1.crt"));
            assert!(openssl.current_dir(dir).status().unwrap().success());
        }
    }
}

/// The process of `bulla run --tpm-state` has the certificate, and the key that it is for.
#[test]
fn a_monitor_s_tpm_goes_on_from_what_was_made() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    succeeds(&setup(
        dir,
        "--tpmstate tpm --ca-dir ca --ecc --curve p256 --lock-nvram --write-ek-cert-files certificates",
    ));
    let place = StatePlace { dir: dir.join("tpm"), ..StatePlace::default() };
    let mut process = VtpmProcess::spawn_with(Path::new(PROGRAM), Some(&place)).unwrap();
    let tpm = process.client();
    tpm.power_on().unwrap();
    let mut ask = |command: &[u8]| tpm.command(Locality::ZERO, command).unwrap();
    response::parse_empty(&ask(&command::startup(StartupType::Clear))).unwrap();

    let certificate = fs::read(dir.join("certificates/ek-secp256r1.crt")).unwrap();
    let size = u16::try_from(certificate.len()).unwrap();
    let answer = ask(&command::nv_read(rh::OWNER, Handle(0x01c0_000a), size, 0));
    assert_eq!(response::parse_nv_read(&answer).unwrap(), certificate);

    let made = response::parse_create_primary(&ask(&command::create_primary(rh::ENDORSEMENT, &templates::ek_p256())));
    let kept = response::parse_read_public(&ask(&command::read_public(Handle(0x8101_0002)))).unwrap();
    assert_eq!(made.unwrap().public, kept.public);
    let PublicKind::Ecc { unique, .. } = kept.public.kind else { panic!("{kept:?}") };
    let point = [&unique.x[..], &unique.y[..]].concat();
    assert!(certificate.windows(64).any(|window| window == point));
}

#[test]
fn what_was_made_goes_to_the_log_if_there_is_one() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    fs::write(dir.join("log"), "before\n").unwrap();
    assert_eq!(succeeds(&setup(dir, "--tpmstate tpm --ecc --curve p256 --logfile log")), "");
    let log = fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.starts_with("before\nTPM state         tpm\n") && log.contains("0x81010002 secp256r1 (L-2)"), "{log}");
    let capabilities = succeeds(&setup(dir, "--print-capabilities"));
    assert!(capabilities.contains(r#""type":"swtpm_setup""#), "{capabilities}");
    refuses(&setup(dir, ""), 2, "--tpmstate");
}
