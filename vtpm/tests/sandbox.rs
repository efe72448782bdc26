//! The sandbox, from inside: `examples/escape.rs` tries to get out and dies.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

fn prisoner() -> PathBuf {
    // target/debug/deps/sandbox-… → target/debug/examples/escape
    let this = std::env::current_exe().unwrap();
    let path = this.ancestors().nth(2).unwrap().join("examples/escape");
    assert!(
        path.exists(),
        "{} is missing: cargo builds examples along with all tests of a package, not with a single one; \
         run `cargo build -p bulla-vtpm --example escape`",
        path.display()
    );
    path
}

/// Lets the prisoner do what `wish` says; returns what it wrote to its socket and how it ended.
fn escape(wish: &str, say: &[u8]) -> (Vec<u8>, Output) {
    escape_with(wish, &[], say)
}

/// The same, with files that it has open.
fn escape_with(wish: &str, files: &[&Path], say: &[u8]) -> (Vec<u8>, Output) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(prisoner())
        .arg(wish)
        .args(files)
        // As a monitor does it. RUST_BACKTRACE would make an abort look at files, and so a breach.
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ours.write_all(say).unwrap();
    let mut heard = Vec::new();
    // The end comes as a reset if the prisoner died without reading.
    let _ = ours.read_to_end(&mut heard);
    (heard, child.wait_with_output().unwrap())
}

fn killed_by_the_sandbox(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGSYS)
}

#[test]
fn what_an_honest_engine_does_is_allowed() {
    let (heard, output) = escape("behave", b"hello");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(heard, b"!hellohello");
    assert_eq!(output.stderr, b"last words\n");
}

#[test]
fn whoever_tries_to_get_out_is_killed() {
    let list = Command::new(prisoner()).arg("list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.lines().count() > 30, "{list}");
    for wish in list.lines() {
        let (heard, output) = escape(wish, b"");
        // The byte shows that it came into the sandbox alive.
        assert_eq!(heard, b"!", "{wish}: {output:?}");
        assert!(killed_by_the_sandbox(output.status), "{wish}: {output:?}");
    }
}

#[test]
fn the_files_of_a_state_can_be_read_written_and_flushed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (lock, state) = (dir.path().join("lock"), dir.path().join("state"));
    for file in [&lock, &state] {
        std::fs::write(file, [0; 200]).unwrap();
    }
    let files = [lock.as_path(), state.as_path()];
    let (heard, output) = escape_with("store", &files, b"");
    assert_eq!(heard, b"!", "{output:?}");
    assert_eq!(output.status.signal(), Some(libc::SIGXFSZ), "{output:?}");
    assert_eq!(&std::fs::read(&state).unwrap()[98..107], b"\0\0state\0\0");

    let list = Command::new(prisoner()).arg("list files").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert_eq!(list.lines().count(), 8, "{list}");
    let before = std::fs::read(&state).unwrap();
    for wish in list.lines() {
        let (heard, output) = escape_with(wish, &files, b"");
        assert_eq!(heard, b"!", "{wish}: {output:?}");
        assert!(killed_by_the_sandbox(output.status), "{wish}: {output:?}");
    }
    // All else is out of reach as ever, and files that are open change nothing about an engine without them.
    let (_, output) = escape_with("openat", &files, b"");
    assert!(killed_by_the_sandbox(output.status), "{output:?}");
    assert_eq!(std::fs::read(&state).unwrap(), before);
}

#[test]
fn a_process_that_hoards_memory_ends() {
    let (heard, output) = escape("hoard", b"");
    assert_eq!(heard, b"!");
    // An abort, which must not look like an attempt to get out.
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("memory allocation of"), "{words}");
}

#[test]
fn what_is_not_the_monitors_socket_is_refused() {
    let mut command = Command::new(prisoner());
    let output = command.arg("behave").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("file descriptor 0 is not a connected"), "{words}");
}
