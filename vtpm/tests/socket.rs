//! `bulla-vtpm socket` as swtpm's clients use it: tpm2-tools, swtpm_ioctl, and this test's own hand on both channels.
//!
//! What needs a program that is not installed says that it was skipped.

#[path = "socket/hostile.rs"]
mod hostile;
#[path = "socket/lasting.rs"]
mod lasting;
#[path = "socket/program.rs"]
mod program;

use std::fs;
use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bulla_tpm_types::{StartupType, command, rh, templates};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use program::{PROGRAM, Tpm, exchange, folder, installed, response_code};

/// Requests of the control channel (swtpm's `tpm_ioctl.h`).
const GET_CAPABILITY: u32 = 1;
const INIT: u32 = 2;
const SHUTDOWN: u32 = 3;
const GET_ESTABLISHED: u32 = 4;
const SET_LOCALITY: u32 = 5;
const HASH_START: u32 = 6;
const HASH_DATA: u32 = 7;
const HASH_END: u32 = 8;
const CANCEL: u32 = 9;
const STORE_VOLATILE: u32 = 10;
const RESET_ESTABLISHED: u32 = 11;
const GET_BLOB: u32 = 12;
const SET_BLOB: u32 = 13;
const STOP: u32 = 14;
const GET_CONFIG: u32 = 15;
const SET_DATA_FD: u32 = 16;
const SET_BUFFER_SIZE: u32 = 17;
const GET_INFO: u32 = 18;
const LOCK_STORAGE: u32 = 19;

const SUCCESS: [u8; 4] = [0; 4];
const BAD_PARAMETER: [u8; 4] = [0, 0, 0, 3];
const BAD_ORDINAL: [u8; 4] = [0, 0, 0, 10];
const KEY_NOT_FOUND: [u8; 4] = [0, 0, 0, 13];
const BAD_LOCALITY: [u8; 4] = [0, 0, 0, 0x3d];

/// TPM2_GetRandom(8).
const GET_RANDOM: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8];

/// TPM2_PCR_Read of one PCR below 24 of the SHA-256 bank, and of the response the digest.
fn pcr(data: &mut UnixStream, number: usize) -> Vec<u8> {
    let mut read = vec![0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0];
    read[17 + number / 8] = 1 << (number % 8);
    let answer = exchange(data, &read);
    assert_eq!(response_code(&answer), 0);
    answer[answer.len() - 32..].to_vec()
}

fn startup(data: &mut UnixStream) -> u32 {
    response_code(&exchange(data, &command::startup(StartupType::Clear)))
}

/// TPM2_PCR_Extend of the SHA-256 bank.
fn extend_command(pcr: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, pcr];
    bytes.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 1, 0, 0x0b]);
    bytes.extend([7; 32]);
    bytes
}

fn extend(data: &mut UnixStream, pcr: u8) {
    assert_eq!(response_code(&exchange(data, &extend_command(pcr))), 0);
}

#[test]
fn the_tools_work_over_tcp() {
    if !installed("tpm2_pcrread") {
        println!("skipped: needs tpm2-tools");
        return;
    }
    let tpm = Tpm::tcp(&["--flags", "not-need-init,startup-clear"]);
    let tool = |line: &str| {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(&tpm.dir)
            .env("TPM2TOOLS_TCTI", format!("swtpm:port={}", tpm.port))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let before = tool("tpm2_pcrread sha256:16");
    tool("tpm2_pcrextend 16:sha256=0000000000000000000000000000000000000000000000000000000000000001");
    assert_ne!(tool("tpm2_pcrread sha256:16"), before);
    assert_eq!(tool("tpm2_getrandom 20").len(), 20);
    tool("tpm2_createprimary -Q -G ecc -c primary");
    fs::write(tpm.dir.join("secret"), "of one machine").unwrap();
    tool("tpm2_create -Q -C primary -i secret -u public -r private");
    tool("tpm2_load -Q -C primary -u public -r private -c sealed");
    assert_eq!(tool("tpm2_unseal -c sealed"), b"of one machine");
}

#[test]
fn swtpm_ioctl_finds_all_requests_answered() {
    if !installed("swtpm_ioctl") {
        println!("skipped: needs swtpm_ioctl, of swtpm-tools");
        return;
    }
    let mut tpm = Tpm::tcp(&["--flags", "not-need-init,startup-clear"]);
    let ioctl = |line: &str| {
        let output = Command::new("swtpm_ioctl")
            .args(["--tcp", &format!("127.0.0.1:{}", tpm.port + 1)])
            .args(line.split(' '))
            .current_dir(&tpm.dir)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let done = |line: &str| {
        let (success, text) = ioctl(line);
        assert!(success, "{line}: {text}");
        text
    };
    assert_eq!(done("-c"), "ptm capability is 0x1ffff\n");
    assert!(done("--info 1").contains(r#""TPMSpecification":{"family":"2.0","level":0,"revision":159}"#));
    assert!(done("--info 2").contains(r#""manufacturer":"id:42554C41""#));
    assert_eq!(done("-g"), "ptm configuration flags: 0x0\n");
    assert_eq!(done("-e"), "tpmEstablished is 0\n");
    done("-h abc");
    assert_eq!(done("-e"), "tpmEstablished is 1\n");
    assert!(!ioctl("-r 0").0);
    done("-r 4");
    assert_eq!(done("-e"), "tpmEstablished is 0\n");
    done("-l 2");
    done("-C");
    for blob in ["permanent", "volatile", "savestate"] {
        done(&format!("--save {blob} {blob}"));
    }
    done("--stop");
    assert!(!ioctl("-e").0);
    done("--load permanent permanent");
    done("--load volatile volatile");
    done("-i");
    done("-v");
    done("-s");
    assert!(tpm.process.wait().unwrap().success());
}

#[test]
fn power_is_the_control_channels() {
    let tpm = Tpm::unix(&[]);
    let (mut control, mut data) = tpm.connect();
    assert_eq!(startup(&mut data), 0x101, "TPM_RC_FAILURE without power");
    for request in [GET_ESTABLISHED, HASH_START, HASH_END, CANCEL, STORE_VOLATILE] {
        assert_eq!(control.ask(request, &[], 4), BAD_ORDINAL);
    }
    assert_eq!(control.ask(GET_BLOB, &[0; 12], 4), BAD_ORDINAL);
    assert_eq!(control.ask(GET_CAPABILITY, &[], 8), [0, 0, 0, 0, 0, 1, 0xff, 0xff]);

    assert_eq!(control.ask(INIT, &[0; 4], 4), SUCCESS);
    assert_eq!(response_code(&exchange(&mut data, &GET_RANDOM)), 0x100, "TPM_RC_INITIALIZE before TPM2_Startup");
    assert_eq!(startup(&mut data), 0);
    assert_eq!(response_code(&exchange(&mut data, &GET_RANDOM)), 0);
    // The same command over again, then a reset: it begins anew.
    assert_eq!(control.ask(INIT, &[0; 4], 4), SUCCESS);
    assert_eq!(response_code(&exchange(&mut data, &GET_RANDOM)), 0x100);
    assert_eq!(control.ask(SET_BUFFER_SIZE, &[0, 0, 8, 0], 4), BAD_ORDINAL, "not while there is power");
    assert_eq!(control.ask(SET_BUFFER_SIZE, &[0; 4], 16)[..8], [0, 0, 0, 0, 0, 0, 16, 0]);
    assert_eq!(control.ask(STOP, &[], 4), SUCCESS);
    assert_eq!(startup(&mut data), 0x101);
}

#[test]
fn a_measurement_over_the_control_channel_is_hcrtm_before_startup_and_drtm_after() {
    let tpm = Tpm::unix(&["--flags", "not-need-init"]);
    let (mut control, mut data) = tpm.connect();
    let mut measure = |bytes: &[u8]| {
        assert_eq!(control.ask(HASH_START, &[], 4), SUCCESS);
        for part in bytes.chunks(1000) {
            let length = u32::try_from(part.len()).unwrap().to_be_bytes();
            assert_eq!(control.ask(HASH_DATA, &[&length, part].concat(), 4), SUCCESS);
        }
        assert_eq!(control.ask(HASH_END, &[], 4), SUCCESS);
    };
    measure(&[1; 5000]);
    assert_eq!(startup(&mut data), 0);
    assert_ne!(pcr(&mut data, 0), [0; 32]);
    assert_eq!(pcr(&mut data, 17), [0xff; 32]);
    measure(&[2; 10]);
    assert_ne!(pcr(&mut data, 17), [0xff; 32]);
    assert_eq!(pcr(&mut data, 18), [0; 32]);
    assert_eq!(control.ask(GET_ESTABLISHED, &[], 8)[4], 1);
    assert_eq!(control.ask(RESET_ESTABLISHED, &[2], 4), BAD_LOCALITY);
    assert_eq!(control.ask(RESET_ESTABLISHED, &[3, 0, 0, 0], 4), SUCCESS);
    assert_eq!(control.ask(GET_ESTABLISHED, &[], 8)[4], 0);
}

/// PCR 17 takes extends from localities 2 and up only, so it tells which locality is in force.
#[test]
fn the_locality_is_set_on_either_channel() {
    let extend_17 = |data: &mut UnixStream| response_code(&exchange(data, &extend_command(17)));
    const LOCALITY: u32 = 0x907;
    let in_band = |locality| [0x80, 1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, locality];

    let tpm = Tpm::unix(&["--flags", "startup-clear", "--locality", "reject-locality-4"]);
    let (mut control, mut data) = tpm.connect();
    assert_eq!(extend_17(&mut data), LOCALITY);
    assert_eq!(control.ask(SET_LOCALITY, &[3, 0, 0, 0], 4), SUCCESS);
    assert_eq!(extend_17(&mut data), 0);
    for wrong in [4, 5, 255] {
        assert_eq!(control.ask(SET_LOCALITY, &[wrong], 4), BAD_LOCALITY);
    }
    assert_eq!(response_code(&exchange(&mut data, &in_band(0))), 0x101, "not allowed");
    assert_eq!(extend_17(&mut data), 0, "and so still locality 3");

    let tpm = Tpm::unix(&["--flags", "startup-clear", "--locality", "allow-set-locality"]);
    let (_control, mut data) = tpm.connect();
    assert_eq!(response_code(&exchange(&mut data, &in_band(2))), 0);
    assert_eq!(extend_17(&mut data), 0);
    assert_eq!(response_code(&exchange(&mut data, &in_band(9))), LOCALITY);
    assert_eq!(response_code(&exchange(&mut data, &[0x80, 1, 0, 0, 0, 10, 0x20, 0, 0x10, 0])), 0x9a, "which one?");

    // The simulator's frame: the locality and the length before the command, the length before the response.
    let framed = |locality| [&[0, 0, 0, 8, locality, 0, 0, 0, 12][..], &GET_RANDOM].concat();
    let answer = exchange(&mut data, &framed(0));
    assert_eq!(
        (&answer[..4], &answer[4..6], &answer[answer.len() - 4..]),
        (&[0, 0, 0, 20][..], &[0x80, 1][..], &[0; 4][..])
    );
    assert_eq!(extend_17(&mut data), LOCALITY);
    assert_eq!(response_code(&exchange(&mut data, &framed(5))[4..]), LOCALITY);
}

#[test]
fn a_suspended_tpm_goes_on_in_another_process() {
    let first = Tpm::unix(&["--flags", "startup-clear"]);
    let (mut control, mut data) = first.connect();
    extend(&mut data, 16);
    let sixteen = pcr(&mut data, 16);
    let [permanent, volatile, save] = [1, 2, 3].map(|kind| control.blob(kind, 0).1);
    assert!(!permanent.is_empty() && !volatile.is_empty() && save.is_empty());
    drop(first);

    let second = Tpm::unix(&[]);
    let (mut control, mut data) = second.connect();
    assert_eq!(control.give(1, 2, &permanent), KEY_NOT_FOUND, "said to be encrypted, and there is no key");
    assert_eq!(control.give(1, 0, &permanent[..permanent.len() - 1]), BAD_PARAMETER);
    assert_eq!(control.give(9, 0, &permanent), BAD_PARAMETER);
    assert_eq!(control.give(3, 0, &save), SUCCESS);
    assert_eq!(control.give(3, 0, &permanent), BAD_PARAMETER);
    assert_eq!(control.give(1, 0, &permanent), SUCCESS);
    // A volatile state that is none shows when it is needed, and is not tried again.
    assert_eq!(control.give(2, 0, &volatile[..volatile.len() - 1]), SUCCESS);
    assert_eq!(control.ask(INIT, &[0, 0, 0, 1], 4), BAD_PARAMETER);
    assert_eq!(startup(&mut data), 0x101);
    assert_eq!(control.give(1, 0, &permanent), SUCCESS);
    assert_eq!(control.give(2, 0, &volatile), SUCCESS);
    assert_eq!(control.ask(INIT, &[0, 0, 0, 1], 4), SUCCESS);
    assert_eq!(pcr(&mut data, 16), sixteen, "it is started, and PCR 16 is what it was");
    assert_eq!(control.ask(SET_BLOB, &[0; 12], 4), BAD_ORDINAL, "not while there is power");
}

#[test]
fn a_stored_volatile_state_is_good_until_the_next_command() {
    let tpm = Tpm::unix(&["--flags", "startup-clear"]);
    let (mut control, mut data) = tpm.connect();
    extend(&mut data, 16);
    let sixteen = pcr(&mut data, 16);
    assert_eq!(control.ask(STORE_VOLATILE, &[], 4), SUCCESS);
    assert_eq!(control.ask(INIT, &[0; 4], 4), SUCCESS);
    assert_eq!(pcr(&mut data, 16), sixteen);
    assert_eq!(control.ask(STORE_VOLATILE, &[], 4), SUCCESS);
    assert_eq!(response_code(&exchange(&mut data, &GET_RANDOM)), 0);
    assert_eq!(control.ask(INIT, &[0; 4], 4), SUCCESS);
    assert_eq!(response_code(&exchange(&mut data, &GET_RANDOM)), 0x100);
}

/// The control channel is heard while a command runs, and ends the search for an RSA key.
#[test]
fn a_running_command_can_be_cancelled() {
    let tpm = Tpm::unix(&["--flags", "startup-clear"]);
    let (mut control, data) = tpm.connect();
    let ended = Arc::new(AtomicBool::new(false));
    let says_so = Arc::clone(&ended);
    let client = thread::spawn(move || {
        let mut data = data;
        let make = command::create_primary(rh::NULL, &templates::ek_h7_rsa4096());
        // One that ends before it is cancelled is possible, if hardly; each leaves an object.
        let cancelled = (0..6).any(|_| response_code(&exchange(&mut data, &make)) == 0x909);
        says_so.store(true, Ordering::Release);
        (cancelled, response_code(&exchange(&mut data, &GET_RANDOM)))
    });
    while !ended.load(Ordering::Acquire) {
        assert_eq!(control.ask(CANCEL, &[], 4), SUCCESS);
    }
    assert_eq!(client.join().unwrap(), (true, 0), "TPM_RC_CANCELED, and the next command is not");
}

#[test]
fn the_data_channel_can_be_given_over_the_control_channel() {
    let tpm = Tpm::control_only(&[]);
    let mut control = tpm.control();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let give = |fd: &UnixStream, control: &mut program::Control| {
        let fds = [fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut buffer = SendAncillaryBuffer::new(&mut space);
        assert!(buffer.push(SendAncillaryMessage::ScmRights(&fds)));
        let bytes = SET_DATA_FD.to_be_bytes();
        sendmsg(&control.0, &[IoSlice::new(&bytes)], &mut buffer, SendFlags::empty()).unwrap();
        control.read(4)
    };
    assert_eq!(control.ask(SET_DATA_FD, &[], 4), BAD_PARAMETER, "without a descriptor");
    assert_eq!(give(&theirs, &mut control), SUCCESS);
    assert_eq!(give(&theirs, &mut control), [0, 0, 0, 0x1f], "there is one");
    drop(theirs);
    assert_eq!(control.ask(INIT, &[0; 4], 4), SUCCESS);
    assert_eq!(startup(&mut ours), 0);
    assert_eq!(response_code(&exchange(&mut ours, &GET_RANDOM)), 0);
    // When it is closed another may be given.
    drop(ours);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    while give(&theirs, &mut control) != SUCCESS {
        thread::yield_now();
    }
    assert_eq!(response_code(&exchange(&mut ours, &GET_RANDOM)), 0);
}

#[test]
fn it_ends_as_it_was_told_to() {
    // By a signal: its names go with it.
    let mut tpm = Tpm::unix(&[]);
    let pid: i32 = fs::read_to_string(tpm.dir.join("ready")).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
    assert!(tpm.process.wait().unwrap().success());
    for name in ["ready", "data", "control"] {
        assert!(!tpm.dir.join(name).exists(), "{name}");
    }
    // By the control channel.
    let mut tpm = Tpm::unix(&[]);
    assert_eq!(tpm.control().ask(SHUTDOWN, &[], 4), SUCCESS);
    assert!(tpm.process.wait().unwrap().success());
    // By the client's leaving.
    let mut tpm = Tpm::unix(&["--terminate"]);
    drop(tpm.connect());
    assert!(tpm.process.wait().unwrap().success());
    // By the leaving of the process that controls it.
    let mut tpm = Tpm::start(&["--ctrl", "type=unixio,path=control,terminate"], &["control"]);
    drop(tpm.control());
    assert!(tpm.process.wait().unwrap().success());
}

#[test]
fn two_do_not_share_a_socket_and_a_dead_ones_name_is_free() {
    let tpm = Tpm::unix(&[]);
    let second = Command::new(PROGRAM)
        .args(["socket", "--tpm2", "--ctrl", "type=unixio,path=control"])
        .current_dir(&tpm.dir)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&second.stderr).contains("control: Address already in use"), "{second:?}");
    let dir = tpm.killed();
    assert!(dir.join("control").exists());
    let again = Tpm::start_in(dir, &["--ctrl", "type=unixio,path=control"], &["control"]);
    assert_eq!(again.control().ask(GET_CONFIG, &[], 8), [0; 8]);
    assert_eq!(again.control().ask(LOCK_STORAGE, &[0; 4], 4), SUCCESS);
    assert_eq!(again.control().ask(GET_INFO, &[0; 16], 4), SUCCESS);
}

#[test]
fn all_its_threads_are_confined_unless_that_is_not_wanted() {
    for (arguments, mode) in [(&[][..], "2"), (&["--seccomp", "action=none"], "0")] {
        let tpm = Tpm::unix(arguments);
        assert_eq!(tpm.control().ask(GET_CONFIG, &[], 8), [0; 8]);
        let tasks: Vec<_> = fs::read_dir(format!("/proc/{}/task", tpm.process.id())).unwrap().collect();
        assert!(tasks.len() >= 3, "one for each channel, and the main thread");
        for task in tasks {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            assert!(status.contains(&format!("\nSeccomp:\t{mode}\n")), "{status}");
            assert!(mode == "0" || status.contains("\nNoNewPrivs:\t1\n"), "{status}");
        }
    }
}

/// A connection that takes one command, as for swtpm's `-p`.
#[test]
fn disconnecting_servers_hang_up_after_each_response() {
    let tpm = Tpm::start(&["--server", "type=unixio,path=data,disconnect", "--flags", "startup-clear"], &["data"]);
    for _ in 0..2 {
        let mut data = tpm.data();
        assert_eq!(response_code(&exchange(&mut data, &GET_RANDOM)), 0);
        assert_eq!(data.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_command_line_that_is_wrong_says_where() {
    let dir = folder();
    for (arguments, words) in [
        (&["--server", "type=tcp,prot=1"][..], "there is no `prot`"),
        (&["--ctrl", "type=unixio"], "`path` or `fd` is missing"),
        (&["--ctrl", "type=unixio,path=x", "--flags", "startup-deactivated"], "TPM 1.2"),
        (&["--fd", "77"], "file descriptor 77"),
        (&[], "nobody could reach the TPM"),
    ] {
        let output = Command::new(PROGRAM)
            .args(["socket", "--tpm2"])
            .args(arguments)
            .current_dir(&dir)
            .env_remove("TPM_PORT")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{arguments:?}: {output:?}");
    }
}
