//! A state whose key a TPM of the host's has sealed, and whose starts it counts. The host's TPM is another `bulla-vtpm
//! socket`, and swtpm where that is installed. `cargo nextest run -p bulla-vtpm --features host-tpm --test host_tpm`,
//! which needs libtss2-dev; `./x test` runs it where that is installed.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use bulla_tpm_types::StartupType;
use bulla_vtpm::state::{
    self, AnchorPlace, HostError, HostTpm, KeyError, KeySource, OpenAnchor, OpenError, Options, Origin,
};
use bulla_vtpm_client::{Exit, Locality, VtpmClient};
use tempfile::TempDir;
use tss_esapi::Context;
use tss_esapi::handles::{PcrHandle, PersistentTpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Digest, DigestValues, RsaExponent, SymmetricDefinitionObject};
use tss_esapi::tcti_ldr::TctiNameConf;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-vtpm");
const INDEX: &str = "host-tpm:0x01800100";

/// A host's TPM, killed when dropped.
struct Host {
    process: Child,
    tcti: String,
    _state: TempDir,
}

impl Host {
    fn start(program: &str) -> Self {
        // tpm2-tss takes the port after the commands' for the control channel.
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|l| l.local_addr()).map(|a| a.port());
        let port = (0..100)
            .find_map(|_| free(0).ok().filter(|port| port.checked_add(1).is_some_and(|next| free(next).is_ok())))
            .expect("two free ports");
        let state = folder();
        let process = Command::new(program)
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", state.path().display())])
            .args(["--server", &format!("type=tcp,port={port}"), "--ctrl", &format!("type=tcp,port={}", port + 1)])
            .stdout(Stdio::null())
            .spawn()
            .expect("the host's TPM starts");
        let mut host = Self { process, tcti: format!("swtpm:host=127.0.0.1,port={port}"), _state: state };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port + 1)).is_err() {
            assert!(host.process.try_wait().expect("a child").is_none(), "{program} ended");
            assert!(begun.elapsed() < Duration::from_secs(20), "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        host
    }

    fn ours() -> Self {
        Self::start(PROGRAM)
    }

    /// Ours, and swtpm if it is installed.
    fn each() -> Vec<Self> {
        let mut hosts = vec![Self::ours()];
        match Command::new("swtpm").arg("--version").stdout(Stdio::null()).status() {
            Ok(_) => hosts.push(Self::start("swtpm")),
            Err(_) => eprintln!("swtpm is not installed: only bulla-vtpm is the host's TPM"),
        }
        hosts
    }

    fn key_option(&self, pcrs: &str) -> String {
        format!("host-tpm{pcrs},tcti={}", self.tcti)
    }

    fn anchor_option(&self) -> String {
        format!("{INDEX},tcti={}", self.tcti)
    }

    /// With a key that this TPM seals.
    fn options(&self, pcrs: &str) -> Options {
        let host = HostTpm::parse(&self.key_option(pcrs)).expect("a host's TPM").expect("options");
        Options { key: KeySource::HostTpm(host), ..Options::default() }
    }

    /// With a key that this TPM seals, and its counter.
    fn counting(&self) -> Options {
        let anchor = AnchorPlace::parse(&self.anchor_option()).expect("an index").open().expect("the host's TPM");
        let OpenAnchor::Counter(counter) = anchor else { panic!("{anchor:?}") };
        Options { counter: Some(counter), ..self.options("") }
    }

    fn client(&self) -> Context {
        Context::new(TctiNameConf::from_str(&self.tcti).expect("a TCTI")).expect("a context")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Stores one state in a new one, or another in one that is there.
fn store(dir: &Path, options: Options, bytes: &[u8]) {
    state::open(dir, options).expect("a state").store().store(bytes).expect("stored");
}

fn stored(dir: &Path, options: Options) -> Option<Vec<u8>> {
    state::open(dir, options).expect("a state").state.map(|state| state.permanent.to_vec())
}

#[test]
fn only_the_tpm_that_sealed_the_key_opens_the_state() {
    for host in Host::each() {
        let dir = folder();
        assert_eq!(stored(dir.path(), host.options("")), None);
        store(dir.path(), host.options(""), b"state");
        assert_eq!(stored(dir.path(), host.options("")), Some(b"state".to_vec()));

        let other = Host::ours();
        let error = state::open(dir.path(), other.options("")).expect_err("another TPM");
        assert!(matches!(error, OpenError::Key(KeyError::Host(HostError::Other { .. }))), "{error}");
        assert_eq!(error.exit(), Exit::State);
        let kind = state::open(dir.path(), Options::default()).expect_err("no key is beside it");
        assert!(matches!(kind, OpenError::KeyKind { .. }), "{kind}");

        let file = dir.path().join("bulla-vtpm.host-key");
        let sealed = fs::read(&file).expect("the sealed key");
        let mut changed = sealed.clone();
        *changed.last_mut().expect("not empty") ^= 1;
        fs::write(&file, changed).expect("written");
        let error = state::open(dir.path(), host.options("")).expect_err("a private part of nobody's");
        assert!(matches!(error, OpenError::Key(KeyError::Host(HostError::Tpm { .. }))), "{error}");
        fs::remove_file(&file).expect("removed");
        let error = state::open(dir.path(), host.options("")).expect_err("no key");
        assert!(matches!(error, OpenError::Key(KeyError::Gone(_))), "{error}");
        assert!(!file.exists(), "no other key is made in its place");
        fs::write(&file, sealed).expect("written");
        assert_eq!(stored(dir.path(), host.options("")), Some(b"state".to_vec()));
    }
}

/// A host whose storage root key is made persistent after a key was sealed under the template's still opens it, and the
/// other way round a key is sealed under the persistent one.
#[test]
fn the_storage_root_key_may_be_persistent() {
    let host = Host::ours();
    let (before, after) = (folder(), folder());
    store(before.path(), host.options(""), b"before");
    {
        let mut client = host.client();
        client.set_sessions((Some(AuthSession::Password), None, None));
        let template = tss_esapi::utils::create_restricted_decryption_rsa_public(
            SymmetricDefinitionObject::AES_128_CFB,
            RsaKeyBits::Rsa2048,
            RsaExponent::default(),
        );
        let template = template.expect("a template");
        let key = client.create_primary(Hierarchy::Owner, template, None, None, None, None).expect("CreatePrimary");
        let at = Persistent::Persistent(PersistentTpmHandle::new(0x8100_0001).expect("a handle"));
        client.evict_control(Provision::Owner, key.key_handle.into(), at).expect("EvictControl");
    }
    store(after.path(), host.options(""), b"after");
    assert_eq!(stored(before.path(), host.options("")), Some(b"before".to_vec()));
    assert_eq!(stored(after.path(), host.options("")), Some(b"after".to_vec()));
    let name =
        |dir: &TempDir| fs::read(dir.path().join("bulla-vtpm.host-key")).expect("the sealed key")[15..49].to_vec();
    assert_ne!(name(&before), name(&after), "their parents are two keys");
}

#[test]
fn a_key_that_is_sealed_to_pcr_opens_while_they_are_what_they_were() {
    for host in Host::each() {
        let dir = folder();
        store(dir.path(), host.options(",pcrs=7+16"), b"state");
        // Which they are is in the file.
        assert_eq!(stored(dir.path(), host.options("")), Some(b"state".to_vec()));
        let error = state::open(dir.path(), host.options(",pcrs=7")).expect_err("other PCR are wanted");
        assert!(matches!(error, OpenError::Key(KeyError::Host(HostError::Choice { .. }))), "{error}");

        let mut measured = DigestValues::new();
        measured.set(HashingAlgorithm::Sha256, Digest::try_from(vec![7; 32]).expect("a digest"));
        let mut client = host.client();
        client.set_sessions((Some(AuthSession::Password), None, None));
        client.pcr_extend(PcrHandle::Pcr16, measured).expect("PCR_Extend");
        drop(client);
        let error = state::open(dir.path(), host.options("")).expect_err("other PCR");
        assert!(matches!(error, OpenError::Key(KeyError::Host(HostError::Pcrs { .. }))), "{error}");
        assert!(error.to_string().contains("7+16"), "{error}");
    }
}

#[test]
fn the_host_s_counter_tells_a_state_of_an_earlier_start() {
    for host in Host::each() {
        let dir = folder();
        let file = dir.path().join(state::STATE_FILE);
        store(dir.path(), host.counting(), b"one");
        let first = fs::read(&file).expect("the file");
        store(dir.path(), host.counting(), b"two");
        let second = fs::read(&file).expect("the file");
        fs::write(&file, &first).expect("set back");
        let error = state::open(dir.path(), host.counting()).expect_err("set back");
        assert!(matches!(error, OpenError::Counted { .. }), "{error}");
        assert_eq!(error.exit(), Exit::RolledBack);

        let accepted = state::open(dir.path(), Options { accept_rollback: true, ..host.counting() }).expect("accepted");
        let origin = accepted.state.as_ref().map(|state| state.origin);
        assert!(matches!(origin, Some(Origin::RolledBack { .. })), "{origin:?}");
        accepted.store().store(b"three").expect("stored");
        drop(accepted);
        assert_eq!(stored(dir.path(), host.counting()), Some(b"three".to_vec()));
        fs::write(&file, &second).expect("set back");
        assert!(matches!(state::open(dir.path(), host.counting()), Err(OpenError::Counted { .. })));
    }
}

/// Whoever removes the index and makes it again cannot make it count from the beginning.
#[test]
fn an_index_that_was_made_anew_is_no_way_back() {
    for host in Host::each() {
        let dir = folder();
        store(dir.path(), host.counting(), b"one");
        let first = fs::read(dir.path().join(state::STATE_FILE)).expect("the file");
        store(dir.path(), host.counting(), b"two");
        {
            let mut client = host.client();
            let index = tss_esapi::handles::NvIndexTpmHandle::new(0x0180_0100).expect("an index");
            let index = client.tr_from_tpm_public(index.into()).expect("it is there");
            client.set_sessions((Some(AuthSession::Password), None, None));
            client.nv_undefine_space(Provision::Owner, index.into()).expect("NV_UndefineSpace");
        }
        let error = state::open(dir.path(), host.counting()).expect_err("the counter is gone");
        assert!(matches!(error, OpenError::Counted { counted: 0, .. }), "{error}");
        // Somebody counts with it, elsewhere.
        let elsewhere = folder();
        store(elsewhere.path(), host.counting(), b"x");
        fs::write(dir.path().join(state::STATE_FILE), first).expect("set back");
        assert!(matches!(state::open(dir.path(), host.counting()), Err(OpenError::Counted { .. })));
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().expect("it runs")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// In the sandbox there is no way to the host's TPM, and no need for one.
#[test]
fn a_sandboxed_vtpm_goes_on_from_a_state_that_the_host_s_tpm_keeps() {
    let host = Host::ours();
    let dir = folder();
    let place = dir.path().join("tpm");
    let (key, anchor) = (host.key_option(""), host.anchor_option());
    let state = ["--state", place.to_str().expect("a path"), "--state-key", &key, "--state-anchor", &anchor];
    let serve = || {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let child = Command::new(PROGRAM)
            .arg("serve")
            .args(state)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        (VtpmClient::new(ours).expect("a client"), child)
    };
    for _ in 0..2 {
        let (mut client, child) = serve();
        client.power_on().expect("power");
        for command in [
            bulla_tpm_types::command::startup(StartupType::Clear),
            bulla_tpm_types::command::shutdown(StartupType::Clear),
        ] {
            let answer = client.command(Locality::ZERO, &command).expect("an answer");
            bulla_tpm_types::response::parse_empty(&answer).expect("success");
        }
        drop(client);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(Exit::from(output.status), Exit::MonitorLeft, "{}", words(&output));
    }
    let copy = fs::read(place.join(state::STATE_FILE)).expect("the file");
    drop(serve().0.power_on());
    fs::write(place.join(state::STATE_FILE), copy).expect("set back");
    let (client, child) = serve();
    drop(client);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(Exit::from(output.status), Exit::RolledBack, "{}", words(&output));
}

#[test]
fn setup_makes_what_socket_opens() {
    let (host, other, dir) = (Host::ours(), Host::ours(), folder());
    let place = dir.path().to_str().expect("a path");
    let made = run(&["setup", "--tpmstate", place, "--ecc", "--curve", "p256", "--key", &host.key_option("")]);
    assert!(made.status.success(), "{}", words(&made));
    let states = |key: &str| run(&["socket", "--print-states", "--tpmstate", &format!("dir={place}"), "--key", key]);
    let listed = states(&host.key_option(""));
    assert!(String::from_utf8_lossy(&listed.stdout).contains("permall"), "{}", words(&listed));
    let refused = states(&other.key_option(""));
    assert_eq!(Exit::from(refused.status), Exit::State);
    assert!(words(&refused).contains("sealed by another TPM"), "{}", words(&refused));
}
