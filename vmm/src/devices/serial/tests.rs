use std::io::{self, Write};
use std::sync::atomic::Ordering;

use super::*;
use crate::devices::testing::{TestClock, TestLine, TestWriter};
use crate::devices::{BytePorts, RestoreError, SaveRestore};

const DATA: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCR: u16 = 7;

fn port() -> (SerialPort, TestWriter, std::sync::Arc<TestLine>, std::sync::Arc<TestClock>) {
    let (writer, line, clock) = (TestWriter::default(), TestLine::new(), TestClock::new());
    (SerialPort::new(Box::new(writer.clone()), line.clone(), clock.clone()), writer, line, clock)
}

fn print(port: &mut SerialPort, text: &str) {
    for byte in text.bytes() {
        assert_ne!(port.read_port(LSR) & 0x20, 0, "transmitter is always ready");
        port.write_port(DATA, byte);
    }
}

#[test]
fn output_is_written_line_by_line() {
    let (mut port, writer, _, _) = port();
    print(&mut port, "one\ntwo\nthr");
    assert_eq!(writer.writes(), ["one\n", "two\n"]);
    drop(port);
    assert_eq!(writer.writes(), ["one\n", "two\n", "thr"]);
}

#[test]
fn output_without_newline_is_written_when_its_time_has_come() {
    let (mut port, writer, _, clock) = port();
    clock.set(5);
    assert_eq!(port.next_deadline(), None);
    print(&mut port, "login: ");
    assert_eq!(clock.rearmed.load(Ordering::SeqCst), 1, "one wake-up for the whole prompt");
    assert_eq!(port.next_deadline(), Some(5 + FLUSH_AFTER_NS));
    port.tick(4 + FLUSH_AFTER_NS);
    assert!(writer.writes().is_empty());
    port.tick(5 + FLUSH_AFTER_NS);
    assert_eq!(writer.writes(), ["login: "]);
    assert_eq!(port.next_deadline(), None);
}

#[test]
fn a_line_longer_than_the_buffer_is_written_in_pieces() {
    let (mut port, writer, _, _) = port();
    print(&mut port, &"x".repeat(2 * BUFFER_LEN + 1));
    assert_eq!(writer.writes().iter().map(String::len).collect::<Vec<_>>(), [BUFFER_LEN, BUFFER_LEN]);
}

#[test]
fn a_broken_writer_loses_bytes_and_nothing_else() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let line = TestLine::new();
    let mut port = SerialPort::new(Box::new(Broken), line.clone(), TestClock::new());
    port.write_port(IER, 2);
    let before = line.edges();
    port.read_port(IIR);
    print(&mut port, "abc\n");
    assert_eq!(port.lost_bytes(), 4);
    assert!(line.edges() > before, "the transmitter still says that it is empty");
}

#[test]
fn registers_keep_what_the_16550_keeps() {
    let (mut port, ..) = port();
    port.write_port(SCR, 0xA5);
    assert_eq!(port.read_port(SCR), 0xA5);
    port.write_port(LCR, 0x83);
    port.write_port(DATA, 0x34);
    port.write_port(IER, 0x12);
    assert_eq!((port.read_port(DATA), port.read_port(IER)), (0x34, 0x12), "divisor latch");
    port.write_port(LCR, 0x03);
    assert_eq!(port.read_port(IER), 0, "IER is not the divisor");
    assert_eq!(port.read_port(IIR), 0xC1, "16550A with FIFOs, nothing pending");
    assert_eq!(port.read_port(MSR) & 0xB0, 0xB0);
    assert_eq!(port.read_port(8), 0);
    assert_eq!(port.read_port(0x100), 0xFF);
    // Loop-back, the way Linux finds out that there is a UART: MCR's outputs come back as MSR's inputs.
    port.write_port(MCR, 0x1A);
    assert_eq!(port.read_port(MSR) & 0xF0, 0x90);
}

#[test]
fn transmitter_interrupts_once_it_is_enabled() {
    let (mut port, _, line, _) = port();
    port.write_port(IER, 2);
    assert_eq!(line.edges(), 1);
    assert_eq!(port.read_port(IIR) & 0xF, 2);
    assert_eq!(port.read_port(IIR) & 0xF, 1, "reading IIR acknowledges");
    port.write_port(DATA, b'x');
    assert_eq!(line.edges(), 2);
}

#[test]
fn input_interrupts_and_all_of_it_arrives_in_order() {
    let (mut port, _, line, _) = port();
    port.write_port(IER, 1);
    let text: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
    assert_eq!(port.input(&text), 1000);
    assert_eq!(line.edges(), 1);
    let mut got = Vec::new();
    while port.read_port(LSR) & 1 != 0 {
        got.push(port.read_port(DATA));
    }
    assert_eq!(got, text);
    assert!(line.edges() > 1, "the refilled FIFO interrupts again");
}

#[test]
fn input_for_a_guest_that_does_not_read_is_bounded() {
    let (mut port, ..) = port();
    let mut taken = 0;
    for _ in 0..100 {
        taken += port.input(&[0; 4096]);
    }
    assert!((INPUT_BACKLOG_MAX..=INPUT_BACKLOG_MAX + 64).contains(&taken), "{taken}");
}

#[test]
fn a_restored_port_goes_on_where_the_saved_one_was() {
    let (mut port, ..) = port();
    port.write_port(LCR, 0x1B);
    port.write_port(IER, 1);
    port.input(&[7; 100]);
    assert_eq!(port.read_port(DATA), 7);
    let state = port.save();
    let json = serde_json::to_string(&state).unwrap();
    let (mut other, _, line, _) = self::port();
    other.restore(&serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(other.save(), state);
    assert_eq!(line.edges(), 1, "the pending interrupt is raised anew");
    for _ in 0..99 {
        assert_eq!(other.read_port(LSR) & 1, 1);
        assert_eq!(other.read_port(DATA), 7);
    }
    assert_eq!(other.read_port(LSR) & 1, 0);
    other.reset();
    assert_eq!(other.save(), self::port().0.save());
}

#[test]
fn output_survives_a_restore() {
    let (mut port, writer, ..) = port();
    print(&mut port, "ab");
    let state = port.save();
    port.restore(&state).unwrap();
    print(&mut port, "c\n");
    assert_eq!(writer.writes().concat(), "abc\n");
}

#[test]
fn impossible_saved_states_are_refused() {
    let (mut port, ..) = port();
    let good = port.save();
    let newer = SerialState { version: 2, ..good.clone() };
    assert!(matches!(port.restore(&newer), Err(RestoreError::Version { found: 2, supported: 1, .. })));
    let full = SerialState { receive_fifo: vec![0; 65], ..good.clone() };
    assert!(matches!(port.restore(&full), Err(RestoreError::Invalid { field: "receive_fifo", .. })));
    let backlog = SerialState { backlog: vec![0; INPUT_BACKLOG_MAX + 1], ..good.clone() };
    assert!(matches!(port.restore(&backlog), Err(RestoreError::Invalid { field: "backlog", .. })));
    assert_eq!(port.save(), good);
}

/// Answers each line with what came, twice.
struct Echo;

impl Peer for Echo {
    fn receive(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        Ok([bytes, bytes].concat())
    }
}

fn read_all(port: &mut SerialPort) -> String {
    let mut got = String::new();
    while port.read_port(LSR) & 1 != 0 {
        got.push(char::from(port.read_port(DATA)));
    }
    got
}

#[test]
fn a_peer_answers_in_the_write_that_ends_the_line_and_the_port_interrupts() {
    let line = TestLine::new();
    let mut port = SerialPort::new(Box::new(Echo), line.clone(), TestClock::new());
    port.write_port(IER, 1);
    print(&mut port, "ab");
    assert_eq!((port.read_port(LSR) & 1, line.edges()), (0, 0));
    print(&mut port, "\n");
    assert_eq!(line.edges(), 1);
    assert_eq!(read_all(&mut port), "ab\nab\n");
}

#[test]
fn a_peer_answers_what_waited_its_time() {
    let clock = TestClock::new();
    let mut port = SerialPort::new(Box::new(Echo), TestLine::new(), clock.clone());
    print(&mut port, "no newline");
    port.tick(FLUSH_AFTER_NS);
    assert_eq!(read_all(&mut port), "no newlineno newline");
}

#[test]
fn a_peer_that_answers_a_guest_that_does_not_read_fills_no_more_than_the_backlog() {
    let mut port = SerialPort::new(Box::new(Echo), TestLine::new(), TestClock::new());
    for _ in 0..INPUT_BACKLOG_MAX {
        print(&mut port, "x\n");
    }
    assert!(port.save().backlog.len() <= INPUT_BACKLOG_MAX);
}

#[test]
fn an_answer_is_part_of_the_saved_state() {
    let mut port = SerialPort::new(Box::new(Echo), TestLine::new(), TestClock::new());
    print(&mut port, "answer me\n");
    let state = port.save();
    let (mut other, ..) = self::port();
    other.restore(&state).unwrap();
    assert_eq!(read_all(&mut other), "answer me\nanswer me\n");
}
