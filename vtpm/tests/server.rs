//! The server, over a real socket, with an engine that writes down what it is told.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use bulla_vtpm::server::{Engine, ServeError, serve};
use bulla_vtpm_client::frame::FrameError;
use bulla_vtpm_client::{Error, Exit, Info, Locality, Op, Status, VtpmClient};
use proptest::prelude::*;

/// Answers a command with its locality and itself; keeps a diary.
#[derive(Debug, Default)]
struct Diary {
    entries: Vec<String>,
    /// If set, how long the response to any command is.
    response: Option<usize>,
}

impl Engine for Diary {
    fn power_on(&mut self) {
        self.entries.push("power".into());
    }

    fn execute(&mut self, locality: Locality, command: &[u8]) -> Vec<u8> {
        self.entries.push(format!("command {}", command.len()));
        match self.response {
            Some(length) => vec![0; length],
            None => [&[locality.get()], command].concat(),
        }
    }

    fn hash_start(&mut self) {
        self.entries.push("start".into());
    }

    fn hash_data(&mut self, data: &[u8]) {
        self.entries.push(format!("data {}", data.len()));
    }

    fn hash_end(&mut self) -> Vec<u8> {
        self.entries.push("end".into());
        b"digests".to_vec()
    }
}

type Served = JoinHandle<(Result<(), ServeError>, Vec<String>)>;

fn start_with(mut diary: Diary) -> (UnixStream, Served) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || (serve(&mut diary, &mut theirs), diary.entries));
    (ours, server)
}

fn start() -> (VtpmClient, Served) {
    let (stream, server) = start_with(Diary::default());
    (VtpmClient::new(stream).unwrap(), server)
}

/// Sends these bytes, hangs up, and returns what came back and how the server ended.
fn raw(bytes: &[u8]) -> (Vec<u8>, Result<(), ServeError>, Vec<String>) {
    let (mut stream, server) = start_with(Diary::default());
    // The server may end before it has read all of them.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    let (end, entries) = server.join().unwrap();
    (answers, end, entries)
}

/// One request, and the status of the answer to it.
fn ask(stream: &mut UnixStream, op: u8, locality: u8, payload: &[u8]) -> Status {
    let mut frame = (2 + payload.len() as u32).to_be_bytes().to_vec();
    frame.extend([op, locality]);
    frame.extend(payload);
    stream.write_all(&frame).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    let status = Status::from_number(body[0]).unwrap();
    assert!(status == Status::Done || body.len() == 1, "{body:?}");
    status
}

#[test]
fn a_whole_conversation() {
    let (mut client, server) = start();
    let info = client.info().unwrap();
    assert_eq!(info, Info { protocol: 2, max_payload: 4096 });
    client.power_on().unwrap();
    assert_eq!(client.hash_sequence(&[7; 9000]).unwrap(), b"digests");
    let three = Locality::try_from(3).unwrap();
    assert_eq!(client.command(three, b"hello").unwrap(), b"\x03hello");
    assert_eq!(client.hash_sequence(&[]).unwrap(), b"digests");
    client.power_on().unwrap();
    drop(client);
    let (end, entries) = server.join().unwrap();
    end.unwrap();
    let expected =
        ["power", "start", "data 4096", "data 4096", "data 808", "end", "command 5", "start", "end", "power"];
    assert_eq!(entries, expected);
}

#[test]
fn without_power_nothing_reaches_the_engine() {
    let (mut client, server) = start();
    let error = client.command(Locality::ZERO, b"x").unwrap_err();
    assert!(matches!(error, Error::Refused { op: Op::Command, status: Status::OutOfPlace }));
    assert!(client.hash_sequence(b"x").is_err());
    drop(client);
    assert!(server.join().unwrap().1.is_empty());
}

#[test]
fn what_is_out_of_place_is_refused_and_changes_nothing() {
    const VERSION: &[u8] = &[0, 2];
    let (mut stream, server) = start_with(Diary::default());
    let stream = &mut stream;
    let cases: [(u8, u8, &[u8], Status); 29] = [
        (5, 0, VERSION, Status::Done),
        (0, 0, b"", Status::UnknownOp),
        (9, 0, b"", Status::UnknownOp),
        (7, 1, b"", Status::Locality),
        (7, 0, b"x", Status::Payload),
        (8, 2, b"", Status::Locality),
        (8, 3, b"x", Status::Payload),
        (8, 4, b"", Status::Done),
        (1, 5, b"x", Status::Locality),
        (1, 255, b"x", Status::Locality),
        (1, 4, b"x", Status::Done),
        (2, 0, b"", Status::Locality),
        (2, 3, b"", Status::Locality),
        (5, 1, VERSION, Status::Locality),
        (6, 4, b"", Status::Locality),
        (5, 0, b"", Status::Payload),
        (5, 0, &[0, 2, 0], Status::Payload),
        (5, 0, &[0, 1], Status::Version),
        (2, 4, b"x", Status::Payload),
        (6, 0, b"x", Status::Payload),
        (3, 4, b"x", Status::OutOfPlace),
        (4, 4, b"", Status::OutOfPlace),
        (2, 4, b"", Status::Done),
        (2, 4, b"", Status::OutOfPlace),
        (7, 0, b"", Status::Done),
        (8, 3, b"", Status::OutOfPlace),
        (1, 0, b"x", Status::OutOfPlace),
        (4, 4, b"x", Status::Payload),
        (4, 4, b"", Status::Done),
    ];
    for (op, locality, payload, expected) in cases {
        let status = ask(stream, op, locality, payload);
        assert_eq!(status, expected, "op {op} locality {locality} {payload:?}");
    }
    stream.shutdown(Shutdown::Both).unwrap();
    let (end, entries) = server.join().unwrap();
    end.unwrap();
    assert_eq!(entries, ["power", "command 1", "start", "end"]);
}

#[test]
fn a_dynamic_launch_leaves_a_mark_and_the_measurement_of_the_firmware_none() {
    let (mut client, server) = start();
    let locality = |number| Locality::try_from(number).unwrap();
    assert!(!client.established().unwrap());
    client.power_on().unwrap();
    let _ = client.hash_sequence(b"firmware").unwrap();
    assert!(!client.established().unwrap());
    let _ = client.command(Locality::ZERO, b"startup").unwrap();
    client.hash_start().unwrap();
    assert!(client.established().unwrap());
    client.hash_data(b"launched").unwrap();
    assert_eq!(client.hash_end().unwrap(), b"digests");
    client.power_on().unwrap();
    assert!(client.established().unwrap(), "it lasts over a reset");
    let error = client.reset_established(locality(2)).unwrap_err();
    assert!(matches!(error, Error::Refused { status: Status::Locality, .. }));
    client.reset_established(locality(3)).unwrap();
    assert!(!client.established().unwrap());
    drop(client);
    server.join().unwrap().0.unwrap();
}

#[test]
fn power_ends_a_hash_sequence() {
    let (mut stream, server) = start_with(Diary::default());
    for (op, locality, payload, expected) in [
        (5, 0, &[0, 2][..], Status::Done),
        (2, 4, b"", Status::Done),
        (6, 0, b"", Status::Done),
        (5, 0, &[0, 2], Status::Done),
        (3, 4, b"x", Status::OutOfPlace),
        (1, 0, b"x", Status::Done),
    ] {
        assert_eq!(ask(&mut stream, op, locality, payload), expected, "op {op}");
    }
    drop(stream);
    let entries = server.join().unwrap().1;
    assert_eq!(entries, ["power", "start", "power", "command 1"]);
}

#[test]
fn what_is_no_frame_ends_the_conversation() {
    let (answers, end, _) = raw(&[0, 0, 0, 1, 6]);
    assert!(answers.is_empty());
    let error = end.unwrap_err();
    assert!(matches!(error, ServeError::Frame(FrameError::Length { length: 1, .. })));
    assert_eq!(error.exit(), Exit::Frame);

    let (_, end, _) = raw(&[0, 0, 0, 9, 6, 0]);
    assert!(matches!(end, Err(ServeError::Frame(FrameError::Truncated { got: 6 }))));
}

#[test]
fn a_response_that_does_not_fit_is_the_engines_fault() {
    for (response, fits) in [(4096, true), (4097, false)] {
        let (stream, server) = start_with(Diary { response: Some(response), ..Diary::default() });
        let mut client = VtpmClient::new(stream).unwrap();
        client.power_on().unwrap();
        let answer = client.command(Locality::ZERO, b"x");
        drop(client);
        let end = server.join().unwrap().0;
        if fits {
            assert_eq!(answer.unwrap().len(), response);
            end.unwrap();
        } else {
            assert!(matches!(answer, Err(Error::Ended { .. })));
            let error = end.unwrap_err();
            assert!(matches!(error, ServeError::Response { length: 4097 }));
            assert_eq!(error.exit(), Exit::Engine);
        }
    }
}

#[test]
fn a_monitor_that_leaves_without_reading_its_answer_is_no_error() {
    let (mut stream, server) = start_with(Diary::default());
    stream.write_all(&[0, 0, 0, 2, 6, 0]).unwrap();
    drop(stream);
    server.join().unwrap().0.unwrap();
}

/// An in-memory stream: reads from one buffer, writes to another.
struct Tape<'a> {
    input: &'a [u8],
    output: Vec<u8>,
}

impl Read for Tape<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        // One frame's worth at most, as a monitor that waits for answers would send.
        let frame = match self.input {
            [a, b, c, d, ..] => (u32::from_be_bytes([*a, *b, *c, *d]) as usize).saturating_add(4),
            short => short.len(),
        };
        let count = room.len().min(frame).min(self.input.len());
        let (piece, rest) = self.input.split_at(count);
        room[..count].copy_from_slice(piece);
        self.input = rest;
        Ok(count)
    }
}

impl Write for Tape<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

proptest! {
    // Integration tests have no lib.rs beside which proptest could keep failures.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered_in_frames_or_end_the_conversation(
        frames in prop::collection::vec(
            (0_u8..11, 0_u8..7, prop::collection::vec(any::<u8>(), 0..20)), 0..30),
        tail in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        // Powered, then mostly well-framed requests of any content, then anything.
        let mut input = vec![0, 0, 0, 4, 5, 0, 0, 2];
        let count = frames.len() + 1;
        for (op, locality, payload) in frames {
            input.extend((2 + payload.len() as u32).to_be_bytes());
            input.extend([op, locality]);
            input.extend(payload);
        }
        input.extend(tail);
        let mut tape = Tape { input: &input, output: Vec::new() };
        let mut diary = Diary::default();
        let _ = serve(&mut diary, &mut tape);

        let mut output = &tape.output[..];
        let mut answers = 0;
        while let Some((length, rest)) = output.split_first_chunk() {
            let (body, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            prop_assert!(Status::from_number(body[0]).is_some());
            output = rest;
            answers += 1;
        }
        prop_assert!(output.is_empty());
        prop_assert!(answers >= count, "{answers} answers to {count} requests");

        // Whatever was sent, the engine saw signals in order.
        let mut hashing = false;
        for entry in &diary.entries {
            let was = hashing;
            hashing = match entry.split(' ').next() {
                Some("start") => { prop_assert!(!was); true }
                Some("data") => { prop_assert!(was); true }
                Some("end") => { prop_assert!(was); false }
                Some("command") => { prop_assert!(!was); false }
                _ => false,
            };
        }
    }
}
