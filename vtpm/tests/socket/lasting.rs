//! The state that lasts, and the keys around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::program::{PROGRAM, Tpm, exchange, folder, response_code};
use super::{
    BAD_ORDINAL, GET_CONFIG, GET_RANDOM, INIT, KEY_NOT_FOUND, LOCK_STORAGE, SHUTDOWN, STORE_VOLATILE, SUCCESS, extend,
    pcr,
};

const STATE: [&str; 2] = ["--tpmstate", "dir=state"];
const DECRYPT_ERROR: [u8; 4] = [0, 0, 0, 0x21];

fn once(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(["socket", "--tpm2"]).args(arguments).current_dir(dir).output().unwrap()
}

/// resetCount and restartCount, as TPM2_ReadClock answers them after Time and Clock.
fn starts(tpm: &Tpm) -> [u32; 2] {
    let answer = exchange(&mut tpm.data(), &[0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x81]);
    assert_eq!(response_code(&answer), 0);
    [26, 30].map(|at| u32::from_be_bytes(answer[at..at + 4].try_into().unwrap()))
}

fn end(mut tpm: Tpm) -> PathBuf {
    assert_eq!(tpm.control().ask(SHUTDOWN, &[], 4), SUCCESS);
    assert!(tpm.process.wait().unwrap().success());
    tpm.keep_folder()
}

fn in_state(dir: PathBuf, more: &[&str]) -> Tpm {
    let channels = ["--server", "type=unixio,path=data", "--ctrl", "type=unixio,path=control"];
    Tpm::start_in(dir, &[&channels[..], &STATE, more].concat(), &["data", "control"])
}

#[test]
fn a_state_lasts_and_has_one_owner() {
    let dir = folder();
    let tpm = in_state(dir.clone(), &["--flags", "startup-clear"]);
    assert_eq!(starts(&tpm), [1, 0]);
    let second = once(&dir, &["--ctrl", "type=unixio,path=other", STATE[0], STATE[1]]);
    assert_eq!(second.status.code(), Some(8), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by process"), "{second:?}");
    let dir = end(tpm);
    let states = once(&dir, &[STATE[0], STATE[1], "--print-states"]);
    let text = String::from_utf8(states.stdout).unwrap();
    assert!(text.contains(r#""name":"permall""#) && !text.contains("volatile"), "{text}");
    let tpm = in_state(dir, &["--flags", "startup-clear"]);
    assert_eq!(starts(&tpm), [1, 1], "the program itself executed TPM2_Shutdown(STATE)");
    let tpm = in_state(tpm.killed(), &["--flags", "startup-clear,disable-auto-shutdown"]);
    assert_eq!(starts(&tpm), [2, 0]);
    let tpm = in_state(end(tpm), &["--flags", "startup-clear"]);
    assert_eq!(starts(&tpm), [3, 0], "and now it did not");
}

#[test]
fn a_stored_volatile_state_is_gone_on_from_once() {
    let tpm = in_state(folder(), &["--flags", "startup-clear"]);
    let mut data = tpm.data();
    extend(&mut data, 16);
    let sixteen = pcr(&mut data, 16);
    assert_eq!(tpm.control().ask(STORE_VOLATILE, &[], 4), SUCCESS);
    // The host fails.
    let dir = tpm.killed();
    let tpm = in_state(dir, &["--flags", "not-need-init"]);
    assert_eq!(pcr(&mut tpm.data(), 16), sixteen);
    let tpm = in_state(tpm.killed(), &["--flags", "not-need-init"]);
    assert_eq!(response_code(&exchange(&mut tpm.data(), &GET_RANDOM)), 0x100, "TPM_RC_INITIALIZE");
}

#[test]
fn keys_protect_the_state_and_what_leaves() {
    let dir = folder();
    fs::write(dir.join("key"), "0x000102030405060708090a0b0c0d0e0f\n").unwrap();
    fs::write(dir.join("other"), "ff0102030405060708090a0b0c0d0e0f").unwrap();
    fs::write(dir.join("phrase"), "correct horse\n").unwrap();
    let tpm = in_state(dir, &["--flags", "startup-clear", "--key", "file=key,mode=aes-cbc"]);
    let mut control = tpm.control();
    assert_eq!(control.ask(GET_CONFIG, &[], 8)[7], 1);
    let (flags, sealed) = control.blob(1, 0);
    assert_eq!((flags, &sealed[..8]), (2, &b"bullaBLB"[..]));
    let (flags, plain) = control.blob(1, 1);
    assert_eq!((flags, &plain[..8]), (0, &b"bullaTPM"[..]));
    drop(control);
    let dir = end(tpm);
    for key in [&["--key", "file=other"][..], &["--key", "pwdfile=phrase"], &[]] {
        let output = once(&dir, &[&["--ctrl", "type=unixio,path=x"], &STATE[..], key].concat());
        assert_eq!(output.status.code(), Some(7), "{key:?} {output:?}");
    }

    // With a migration key everything that leaves is encrypted with it, and only that opens it again.
    let tpm = in_state(dir, &["--flags", "startup-clear", "--key", "file=key", "--migration-key", "pwdfile=phrase"]);
    let mut control = tpm.control();
    assert_eq!(control.ask(GET_CONFIG, &[], 8)[7], 3);
    let (flags, migrating) = control.blob(1, 1);
    assert_eq!((flags, &migrating[..8]), (0, &b"bullaBLB"[..]));
    drop(control);
    let dir = end(tpm);
    let tpm =
        Tpm::start_in(dir, &["--ctrl", "type=unixio,path=control", "--migration-key", "pwdfile=phrase"], &["control"]);
    let mut control = tpm.control();
    assert_eq!(control.give(1, 0, &sealed), KEY_NOT_FOUND, "a passphrase is no key");
    assert_eq!(control.give(1, 2, &sealed), KEY_NOT_FOUND);
    assert_eq!(control.give(2, 0, &migrating), DECRYPT_ERROR, "it is the permanent state");
    assert_eq!(control.give(1, 0, &migrating[..migrating.len() - 1]), DECRYPT_ERROR);
    assert_eq!(control.give(1, 0, &migrating), SUCCESS);
    assert_eq!(control.ask(INIT, &[0; 4], 4), SUCCESS);
}

/// Migration with shared storage: the lock goes with the last blob, and comes back unless another process stored.
#[test]
fn the_lock_is_released_with_the_last_blob() {
    let tpm = in_state(folder(), &["--flags", "startup-clear", "--migration", "release-lock-outgoing"]);
    let mut control = tpm.control();
    let states = || once(&tpm.dir, &[STATE[0], STATE[1], "--print-states"]).status.code();
    for (kind, code) in [(1, 8), (2, 8), (3, 0)] {
        control.blob(kind, 0);
        assert_eq!(states(), Some(code), "{kind}");
    }
    assert_eq!(control.ask(LOCK_STORAGE, &[0; 4], 4), SUCCESS);
    assert_eq!(states(), Some(8));
    assert_eq!(control.give(1, 0, &[]), BAD_ORDINAL, "there is power");
}

#[test]
fn capabilities_are_printed_as_swtpm_prints_them() {
    let output = once(&folder(), &["--print-capabilities"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [r#""type":"swtpm""#, r#""version":"0.7.1""#, r#""tpm-2.0""#, r#""cmdarg-key-fd""#] {
        assert!(text.contains(word), "{text}");
    }
}
