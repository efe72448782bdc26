//! The monitor's confinement: from inside, where `examples/breakout.rs` tries to get out and dies, and around a VM that runs.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bulla_boot_abi::mailbox::{Reply, Request};
use bulla_vmm::confine::{Landlock, landlock_here};
use bulla_vmm::tenant::Mailbox;

const PATIENCE: Duration = Duration::from_secs(20);

fn prisoner() -> PathBuf {
    // target/debug/deps/confine-… → target/debug/examples/breakout
    let this = std::env::current_exe().unwrap();
    let path = this.ancestors().nth(2).unwrap().join("examples/breakout");
    assert!(
        path.exists(),
        "{} is missing: cargo builds examples along with all tests of a package, not with a single one; \
         run `cargo build -p bulla-vmm --example breakout`",
        path.display()
    );
    path
}

/// Lets the prisoner do what `wish` says.
fn escape(wish: &str) -> Output {
    let mut command = Command::new(prisoner());
    let mut child = command
        .arg(wish)
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Held open until the end: the prisoner's own child waits for its closing.
    let pipe = child.stdin.take();
    let mut output = Output { status: child.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
    drop(pipe);
    child.stdout.take().unwrap().read_to_end(&mut output.stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut output.stderr).unwrap();
    output
}

#[test]
fn whoever_tries_to_get_out_is_killed() {
    let list = String::from_utf8(escape("list").stdout).unwrap();
    assert!(list.lines().count() > 50, "{list}");
    for wish in list.lines() {
        let output = escape(wish);
        assert_eq!(output.stdout, b"confined\n", "{wish}: {output:?}");
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{wish}: {output:?}");
    }
}

#[test]
fn looking_for_files_is_answered_as_if_there_were_no_such_call() {
    let output = escape("refused");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"confined\n");
}

#[test]
fn what_an_honest_monitor_does_is_allowed() {
    let output = escape("behave");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("as asked"), "a panic has its message: {words}");
}

#[test]
fn landlock_alone_keeps_files_and_ports_shut_on_later_threads_too() {
    let here = landlock_here();
    let output = String::from_utf8(escape("files").stdout).unwrap();
    let (eacces, refused) = (libc::EACCES, libc::ECONNREFUSED);
    let each = match here {
        Landlock::Full => format!("[Some({eacces}), Some({eacces}), Some({eacces})]"),
        Landlock::Partial => format!("[Some({eacces}), Some({eacces}), "),
        Landlock::Absent => {
            println!("skipped: this kernel has no Landlock");
            format!("[None, None, Some({refused})]")
        }
    };
    assert!(output.starts_with(&format!("{here} {each}")), "{output}");
    assert_eq!(output.matches(&each).count(), 2, "{output}");
}

/// Whether VMs can run here. If not, says that `test` was skipped.
fn kvm(test: &str) -> bool {
    let there = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if !there {
        println!("skipped: {test} needs /dev/kvm");
    }
    there
}

/// `bulla run` with the bundled tenant.
struct Monitor {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Monitor {
    fn start(more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bulla"))
            .args(["run", "--kernel", "tenant", "--memory", "32M", "--console", "none", "--json"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads events up to the one that contains `text`, and returns it.
    fn until(&mut self, text: &str) -> String {
        let found = self.lines.by_ref().map_while(Result::ok).find(|line| line.contains(text));
        found.unwrap_or_else(|| {
            let status = self.child.wait();
            let mut words = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
            panic!("no {text}; {status:?}: {words}")
        })
    }

    /// `field` in the status of each thread.
    fn of_threads(&self, field: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
        status
            .map(|text| text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(":\t")).unwrap().to_owned())
            .collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_confined_tenant_boots_quotes_and_powers_off_with_all_threads_filtered() {
    if !kvm("a confined tenant") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let evidence = folder.path().join("evidence.cbor");
    let mut mailbox = Mailbox::create().unwrap();
    let shared = mailbox.region().path();
    let mut monitor = Monitor::start(&[
        "--mailbox",
        shared.to_str().unwrap(),
        "--evidence",
        evidence.to_str().unwrap(),
        "--nonce",
        "0011223344556677",
    ]);
    let confined: serde_json::Value = serde_json::from_str(&monitor.until("confined")).unwrap();
    assert_eq!(confined["confined"]["seccomp"], true);
    assert_eq!(confined["confined"]["landlock"], landlock_here().name());
    monitor.until("tenant-ready");
    assert!(fs::metadata(&evidence).unwrap().len() > 1000, "written by the confined monitor");

    for (field, value) in [("Seccomp", "2"), ("NoNewPrivs", "1")] {
        let threads = monitor.of_threads(field);
        // Main thread, Ctrl-C, timers, vCPU; the kernel may add one of its own for KVM.
        assert!(threads.len() >= 4 && threads.iter().all(|thread| thread == value), "{field}: {threads:?}");
    }

    let asked = mailbox.ask(&Request::Quote { nonce: vec![7; 16] }, PATIENCE, || true).unwrap();
    assert!(matches!(asked, Reply::Quote { .. }), "{asked:?}");
    mailbox.post(&Request::PowerOff).unwrap();
    monitor.until("powered off");
    assert_eq!(monitor.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_confined_monitor_ends_well_when_interrupted() {
    if !kvm("an interrupted monitor") {
        return;
    }
    let mut monitor = Monitor::start(&[]);
    monitor.until("tenant-ready");
    let pid = rustix::process::Pid::from_raw(monitor.child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(monitor.child.wait().unwrap().code(), Some(1));
    let mut words = String::new();
    monitor.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!(words, "bulla: interrupted\n");
}

#[test]
fn running_without_is_only_by_a_flag_and_says_so() {
    if !kvm("an unconfined monitor") {
        return;
    }
    let mut monitor = Monitor::start(&["--no-confine"]);
    assert_eq!(monitor.until("confined"), r#"{"confined":false}"#);
    monitor.until("tenant-ready");
    assert!(monitor.of_threads("Seccomp").iter().all(|mode| mode == "0"));
    monitor.child.kill().unwrap();
    let mut words = String::new();
    monitor.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(words.contains("--no-confine: a guest that takes over this monitor can do all that you can"), "{words}");
}
