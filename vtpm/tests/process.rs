//! The program `bulla-vtpm` as a process: what it holds, how it ends, what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use bulla_vtpm_client::{Error, Exit, VtpmClient, VtpmProcess};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-vtpm");

/// A vTPM that has answered once, so is in its sandbox.
fn running() -> VtpmProcess {
    let mut process = VtpmProcess::spawn(Path::new(PROGRAM)).unwrap();
    process.client().power_on().unwrap();
    process
}

/// A vTPM with these arguments and the other end of its socket.
fn serving(arguments: &[&str]) -> (UnixStream, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (ours, child)
}

/// The page names each command, says how many there are, and does not say of any that it is not there.
#[test]
fn the_readme_has_every_command() {
    let output = Command::new(PROGRAM).args(["info", "--json"]).output().unwrap();
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (there, not_there) = readme.split_once("### Not there").unwrap();
    let (_, there) = there.split_once("## Commands").unwrap();
    let (not_there, _) = not_there.split_once("\n### ").unwrap();
    let names = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let commands = info["commands"].as_array().unwrap();
    for command in commands {
        let name = command["name"].as_str().unwrap();
        let name = name.strip_prefix("TPM2_").unwrap_or(name);
        assert!(names(there).contains(name) && !names(not_there).contains(name), "{name}");
    }
    assert!(there.trim_start().starts_with(&format!("{} commands", commands.len())), "{}", commands.len());
}

fn exit_of(output: &Output) -> Exit {
    Exit::from(output.status)
}

fn words_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The fields of /proc/PID/status.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(field).collect()
}

#[test]
fn it_runs_confined() {
    let process = running();
    let status = status(process.pid());
    assert_eq!(status["Seccomp"], "2");
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Threads"], "1");

    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    for limit in ["Max core file size", "Max open files"] {
        let line = limits.lines().find(|l| l.starts_with(limit)).unwrap();
        let values: Vec<_> = line[limit.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, ["0", "0"], "{line}");
    }
    let address_space = limits.lines().find(|l| l.starts_with("Max address space")).unwrap();
    assert!(address_space.contains(" 67108864 "), "{address_space}");
}

#[test]
fn it_holds_its_socket_and_standard_error_and_nothing_that_its_monitor_leaked() {
    // An inheritable descriptor: the monitor's own mistake, or its parent's.
    let leaked = rustix::io::dup(fs::File::open("/etc/passwd").unwrap()).unwrap();
    let process = running();
    drop(leaked);
    let folder = format!("/proc/{}/fd", process.pid());
    match fs::read_dir(&folder) {
        Ok(entries) => {
            let held: BTreeMap<String, String> = entries
                .map(|entry| {
                    let entry = entry.unwrap();
                    let target = fs::read_link(entry.path()).unwrap();
                    (entry.file_name().into_string().unwrap(), target.display().to_string())
                })
                .collect();
            let numbers: Vec<_> = held.keys().collect();
            assert_eq!(numbers, ["0", "2"], "{held:?}");
            assert!(held["0"].starts_with("socket:"), "{held:?}");
        }
        // To its own user, who is not root, the process is closed: that is PR_SET_DUMPABLE at work.
        Err(error) => {
            assert!(!rustix::process::geteuid().is_root(), "{error}");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
    }
}

#[test]
fn its_environment_is_empty_and_its_memory_closed_to_its_own_user() {
    let process = running();
    match fs::read(format!("/proc/{}/environ", process.pid())) {
        Ok(environment) => {
            assert!(rustix::process::geteuid().is_root(), "dumpable: its user can read it");
            assert!(environment.is_empty());
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
    // The kernel gives such a process's entries to root.
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/environ", process.pid())).unwrap());
    assert_eq!(owner, 0);
}

/// What a process has to itself. The program's text, shared by all vTPMs of a host, is some megabytes more.
#[test]
fn its_own_memory_stays_under_a_megabyte() {
    let mut process = running();
    process.client().hash_sequence(&[0x5A; 1 << 16]).unwrap();
    let status = status(process.pid());
    let own: u32 = status["RssAnon"].split(' ').next().unwrap().parse().unwrap();
    assert!(own < 1024, "RssAnon {own} kB");
}

#[test]
fn it_ends_well_when_its_monitor_leaves() {
    let (stream, child) = serving(&["serve"]);
    let mut client = VtpmClient::new(stream).unwrap();
    client.info().unwrap();
    drop(client);
    let output = child.wait_with_output().unwrap();
    assert_eq!((exit_of(&output), words_of(&output).as_str()), (Exit::MonitorLeft, ""));
}

#[test]
fn what_is_no_frame_ends_it_with_its_own_exit_code_and_words() {
    let (mut stream, child) = serving(&["serve"]);
    stream.write_all(&[0xFF; 4]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(exit_of(&output), Exit::Frame);
    assert!(words_of(&output).contains("a frame of 4294967295 bytes"), "{output:?}");

    let (mut stream, child) = serving(&["serve"]);
    stream.write_all(&[0, 0]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(exit_of(&output), Exit::Frame);
}

#[test]
fn it_refuses_to_serve_what_is_not_a_socket() {
    for arguments in [&["serve"][..], &["serve", "--fd", "1"], &["serve", "--fd", "77"]] {
        let output = Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(exit_of(&output), Exit::Sandbox, "{arguments:?}");
        assert!(words_of(&output).contains("is not a connected Unix stream socket"), "{output:?}");
    }
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    for arguments in [&[][..], &["serve", "--fd", "-1"], &["serve", "--fd", "x"], &["serve", "--parent", "0"]] {
        let output = Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(exit_of(&output), Exit::Usage, "{arguments:?}");
    }
}

#[test]
fn it_does_not_serve_for_a_parent_that_is_gone() {
    let (stream, child) = serving(&["serve", "--parent", "1"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(exit_of(&output), Exit::Sandbox, "{output:?}");
    assert!(words_of(&output).contains("the parent of this process is not 1"), "{output:?}");
    drop(stream);
}

#[test]
fn it_dies_with_its_monitor_even_while_someone_holds_the_socket() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // A monitor that starts a vTPM on its own standard input, then stops.
    let mut monitor = Command::new("/bin/sh")
        .args(["-c", r#"exec 3<&0; "$0" serve --parent $$ <&3 & kill -STOP $$"#, PROGRAM])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let mut client = VtpmClient::new(ours).unwrap();
    client.info().unwrap();
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let error = client.info().unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
}

#[test]
fn help_teaches_and_lists_the_exit_codes() {
    let output = Command::new(PROGRAM).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["TPM 2.0 for one virtual machine", "bulla-vtpm info", "Exit codes:", "could not be entered"] {
        assert!(text.contains(part), "{part:?} is missing from:\n{text}");
    }
}

/// As `head` does.
#[test]
fn a_reader_that_has_left_is_no_error() {
    for arguments in [&["info"][..], &["info", "--json"], &["socket", "--print-capabilities"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(PROGRAM).args(arguments).stdout(Stdio::from(writer)).output().unwrap();
        assert_eq!((output.status.code(), words_of(&output).as_str()), (Some(0), ""), "{arguments:?}");
    }
}
