//! The client against vTPMs that answer well, badly, late and not at all.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bulla_vtpm_client::frame::{FrameBuffer, FrameError};
use bulla_vtpm_client::{BadReply, Error, Fault, Info, Locality, Op, SpawnError, Status, VtpmClient, VtpmProcess};

/// A request as a peer saw it.
type Seen = (u8, u8, Vec<u8>);

/// A client whose peer answers its requests with these bytes, one entry each, then hangs up.
fn scripted(answers: Vec<Vec<u8>>) -> (VtpmClient, JoinHandle<Vec<Seen>>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || {
        let mut seen = Vec::new();
        let mut buffer = FrameBuffer::new();
        for answer in answers {
            let request = buffer.receive_request(&mut theirs).unwrap().unwrap();
            seen.push((request.op, request.locality, request.payload.to_vec()));
            theirs.write_all(&answer).unwrap();
        }
        seen
    });
    (VtpmClient::new(ours).unwrap(), peer)
}

fn reply(status: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (1 + payload.len() as u32).to_be_bytes().to_vec();
    frame.push(status);
    frame.extend(payload);
    frame
}

#[test]
fn each_call_asks_what_the_protocol_says() {
    let done = || reply(0, b"");
    let (mut client, peer) = scripted(vec![
        done(),
        reply(0, b"response"),
        reply(0, &[0, 2, 16, 0]),
        done(),
        done(),
        done(),
        reply(0, b"digests"),
    ]);
    client.power_on().unwrap();
    let two = Locality::try_from(2).unwrap();
    assert_eq!(client.command(two, b"command").unwrap(), b"response");
    let info = client.info().unwrap();
    assert_eq!(info, Info { protocol: 2, max_payload: 4096 });
    let firmware: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
    assert_eq!(client.hash_sequence(&firmware).unwrap(), b"digests");

    let expected: Vec<Seen> = vec![
        (5, 0, vec![0, 2]),
        (1, 2, b"command".to_vec()),
        (6, 0, vec![]),
        (2, 4, vec![]),
        (3, 4, firmware[..4096].to_vec()),
        (3, 4, firmware[4096..].to_vec()),
        (4, 4, vec![]),
    ];
    assert_eq!(peer.join().unwrap(), expected);
}

#[test]
fn a_refusal_leaves_the_conversation_in_step() {
    let (mut client, peer) = scripted(vec![reply(3, b""), reply(0, b"answer")]);
    let error = client.command(Locality::ZERO, b"x").unwrap_err();
    assert!(matches!(error, Error::Refused { op: Op::Command, status: Status::OutOfPlace }));
    assert_eq!(error.fault(), Fault::Caller);
    assert_eq!(client.command(Locality::ZERO, b"x").unwrap(), b"answer");
    peer.join().unwrap();
}

#[test]
fn a_command_too_long_is_refused_before_it_is_sent() {
    let (mut client, peer) = scripted(vec![reply(0, b"")]);
    let error = client.command(Locality::ZERO, &[0; 4097]).unwrap_err();
    assert!(matches!(error, Error::TooLong { length: 4097, .. }));
    client.command(Locality::ZERO, &[0; 4096]).unwrap();
    assert_eq!(peer.join().unwrap().len(), 1);
}

#[test]
fn broken_answers_end_the_conversation() {
    let bad_answers: [Vec<u8>; 6] = [
        reply(77, b""),
        reply(3, b"a refusal with a payload"),
        vec![0, 0, 0, 0],
        vec![0xFF; 8],
        [reply(0, b""), reply(0, b"")].concat(),
        reply(0, b"")[..3].to_vec(),
    ];
    for bad in bad_answers {
        let (mut client, peer) = scripted(vec![bad.clone()]);
        let error = client.command(Locality::ZERO, b"x").unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{bad:?}: {error}");
        assert_eq!(error.fault(), Fault::Vtpm);
        let error = client.command(Locality::ZERO, b"x").unwrap_err();
        assert!(matches!(error, Error::GivenUp { .. }), "{bad:?}: {error}");
        peer.join().unwrap();
    }
}

#[test]
fn an_answer_of_the_wrong_size_is_a_breach() {
    let (mut client, peer) = scripted(vec![reply(0, b"?")]);
    assert!(matches!(
        client.power_on().unwrap_err(),
        Error::Protocol { op: Op::PowerOn, source: BadReply::Payload(1) }
    ));
    peer.join().unwrap();

    let (mut client, peer) = scripted(vec![reply(0, b"12345")]);
    assert!(matches!(client.info().unwrap_err(), Error::Protocol { op: Op::Info, source: BadReply::Payload(5) }));
    assert!(matches!(client.info(), Err(Error::GivenUp { .. })));
    peer.join().unwrap();
}

#[test]
fn a_vtpm_that_hangs_up_has_ended() {
    let (mut client, peer) = scripted(vec![]);
    peer.join().unwrap();
    let error = client.command(Locality::ZERO, b"x").unwrap_err();
    assert!(matches!(error, Error::Ended { op: Op::Command }));
}

#[test]
fn a_vtpm_that_hangs_up_inside_an_answer_broke_the_protocol() {
    let (mut client, peer) = scripted(vec![vec![0, 0, 0, 9, 0]]);
    let error = client.command(Locality::ZERO, b"x").unwrap_err();
    assert!(matches!(error, Error::Protocol { source: BadReply::Frame(FrameError::Truncated { got: 5 }), .. }));
    peer.join().unwrap();
}

#[test]
fn a_silent_vtpm_is_given_up_and_its_late_answer_is_nobodys() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut client = VtpmClient::new(ours).unwrap();
    client.set_limit(Duration::from_millis(20)).unwrap();
    let error = client.command(Locality::ZERO, b"first").unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    theirs.write_all(&reply(0, b"to the first")).unwrap();
    let error = client.command(Locality::ZERO, b"second").unwrap_err();
    assert!(matches!(error, Error::GivenUp { .. }), "{error}");
}

#[test]
fn a_vtpm_that_answers_in_drops_does_not_hold_the_monitor_up() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || {
        let mut drops = reply(0, &[7; 4096]).into_iter();
        // Each drop comes well within the limit; all of them would take 80 times the limit.
        while drops.next().is_some_and(|b| theirs.write_all(&[b]).is_ok()) {
            thread::sleep(Duration::from_millis(4));
        }
        drops.len()
    });
    let mut client = VtpmClient::new(ours).unwrap();
    client.set_limit(Duration::from_millis(200)).unwrap();
    let error = client.command(Locality::ZERO, b"x").unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    drop(client);
    assert!(peer.join().unwrap() > 0);
}

#[test]
fn a_vtpm_that_reads_nothing_does_not_hold_the_monitor_up() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut filler = ours.try_clone().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.write(&[0; 65536]).is_ok() {}
    let mut client = VtpmClient::new(ours).unwrap();
    client.set_limit(Duration::from_millis(20)).unwrap();
    let error = client.command(Locality::ZERO, b"x").unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    drop(theirs);
}

#[test]
fn a_program_that_is_missing_is_named() {
    let error = VtpmProcess::spawn(Path::new("/nowhere/bulla-vtpm")).unwrap_err();
    assert!(matches!(error, SpawnError::Start { .. }));
    assert!(error.to_string().contains("/nowhere/bulla-vtpm"));
}

#[test]
fn a_program_that_is_no_vtpm_ends_the_first_call_and_tells_how_it_ended() {
    let mut process = VtpmProcess::spawn(Path::new("/bin/false")).unwrap();
    let error = process.client().power_on().unwrap_err();
    assert!(matches!(error, Error::Ended { op: Op::PowerOn }), "{error}");
    assert_eq!(process.ended().unwrap().and_then(|e| e.code()), Some(1));
}

#[test]
fn a_dropped_process_is_killed_and_reaped() {
    // A program that neither reads its socket nor ends by itself: it stops.
    let script = tempfile::tempdir().unwrap();
    let program = script.path().join("deaf");
    std::fs::write(&program, "#!/bin/sh\nkill -STOP $$\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();

    let process = VtpmProcess::spawn(&program).unwrap();
    let entry = format!("/proc/{}", process.pid());
    assert!(Path::new(&entry).exists());
    drop(process);
    assert!(!Path::new(&entry).exists());
}

#[test]
fn the_process_gets_its_socket_and_nothing_of_its_monitors() {
    // A program that answers PowerOn with what it was given.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tell");
    let told = folder.path().join("told");
    let script = format!(
        "#!/bin/sh\n{{ echo \"$@\"; /usr/bin/env; }} > {}\n\
         printf '\\0\\0\\0\\1\\0' >&0\n",
        told.display()
    );
    std::fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();

    let mut process = VtpmProcess::spawn(&program).unwrap();
    process.client().power_on().unwrap();
    let mut text = String::new();
    std::fs::File::open(&told).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.starts_with("serve --fd 0"), "{text}");
    // A shell sets PWD and the like itself; the test runner's own variables must not come through.
    assert!(!text.contains("CARGO"), "{text}");
    assert!(!text.contains("PATH="), "{text}");
}
