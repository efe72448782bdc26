use std::sync::{Arc, Mutex};

use super::*;
use crate::devices::clock::{ns_to_ticks, ticks_to_ns};
use crate::devices::testing::{TestClock, TestLine};
use crate::devices::{BytePorts, RestoreError, SaveRestore, Shared, lock};

struct Rig {
    pit: Shared<Pit>,
    counters: PitPorts,
    control_b: PitPorts,
    clock: Arc<TestClock>,
    irq: Arc<TestLine>,
}

fn rig() -> Rig {
    let (clock, irq) = (TestClock::new(), TestLine::new());
    clock.set(1_000_000);
    let pit = Arc::new(Mutex::new(Pit::new(clock.clone(), irq.clone())));
    Rig { counters: PitPorts::Counters(pit.clone()), control_b: PitPorts::ControlB(pit.clone()), pit, clock, irq }
}

impl Rig {
    fn program(&mut self, control: u8, count: u16) {
        self.counters.write_port(3, control);
        let port = u16::from(control >> 6);
        let [low, high] = count.to_le_bytes();
        if control & 0x10 != 0 {
            self.counters.write_port(port, low);
        }
        if control & 0x20 != 0 {
            self.counters.write_port(port, high);
        }
    }

    /// Sets the clock to `ticks` after `start`.
    fn at(&self, start: u64, ticks: u64) {
        self.clock.set(start + ticks_to_ns(ticks, PIT_HZ));
    }

    fn read16(&mut self, port: u16) -> u16 {
        u16::from_le_bytes([self.counters.read_port(port), self.counters.read_port(port)])
    }

    fn deadline(&self) -> Option<u64> {
        lock(&self.pit).next_deadline()
    }

    /// Runs the timer as its host thread would, up to VM time `until`.
    fn run(&self, until: u64) {
        while let Some(deadline) = self.deadline().filter(|d| *d <= until) {
            self.clock.set(deadline);
            lock(&self.pit).tick(deadline);
        }
        self.clock.set(until);
    }
}

const START: u64 = 1_000_000;

#[test]
fn rate_generator_interrupts_at_its_rate() {
    let mut rig = rig();
    assert_eq!(rig.deadline(), None);
    // Linux at HZ=250 in mode 2.
    rig.program(0x34, 4773);
    rig.run(START + 1_000_000_000);
    assert_eq!(rig.irq.edges(), 249);
    rig.run(START + 10_000_000_000);
    assert_eq!(rig.irq.edges(), (10 * PIT_HZ / 4773) as usize);
    // Missed ones are one.
    let before = rig.irq.edges();
    rig.clock.set(START + 20_000_000_000);
    lock(&rig.pit).tick(START + 20_000_000_000);
    assert_eq!(rig.irq.edges(), before + 1);
    assert!(rig.deadline().unwrap() > START + 20_000_000_000);
}

#[test]
fn one_shots_interrupt_once() {
    // Interrupt on terminal count, and Linux's one-shot clock event (mode 4).
    for control in [0x30, 0x38] {
        let mut rig = rig();
        rig.program(control, 1000);
        assert_eq!(rig.deadline(), Some(START + ticks_to_ns(1000, PIT_HZ)));
        rig.run(START + 1_000_000_000);
        assert_eq!(rig.irq.edges(), 1);
        assert_eq!(rig.deadline(), None);
        // Reprogrammed by count alone.
        rig.counters.write_port(0, 10);
        rig.counters.write_port(0, 0);
        rig.run(START + 2_000_000_000);
        assert_eq!(rig.irq.edges(), 2);
    }
}

#[test]
fn setting_a_mode_stops_the_interrupt() {
    let mut rig = rig();
    rig.program(0x34, 4773);
    rig.counters.write_port(3, 0x30);
    assert_eq!(rig.deadline(), None);
    rig.run(START + 1_000_000_000);
    assert_eq!(rig.irq.edges(), 0);
}

#[test]
fn counters_count_down_as_their_modes_do() {
    let mut rig = rig();
    // Counter 0 in every software-triggered mode.
    for (control, ticks, expected) in [
        (0x30, 0, 1000),
        (0x30, 1, 999),
        (0x30, 1000, 0),
        (0x30, 1001, 0xFFFF),
        (0x34, 999, 1),
        (0x34, 1000, 1000),
        (0x36, 1, 998),
        (0x36, 500, 1000),
        (0x36, 501, 998),
        (0x38, 1001, 0xFFFF),
    ] {
        rig.clock.set(START);
        rig.program(control, 1000);
        rig.at(START, ticks);
        assert_eq!(rig.read16(0), expected, "control {control:#x}, {ticks} ticks");
    }
    // The largest count is 65536, written as 0.
    rig.clock.set(START);
    rig.program(0x34, 0);
    assert_eq!(rig.read16(0), 0);
    rig.at(START, 1);
    assert_eq!(rig.read16(0), 0xFFFF);
}

#[test]
fn bcd_counts_in_decimal() {
    let mut rig = rig();
    rig.program(0x31, 0x1000);
    rig.at(START, 1);
    assert_eq!(rig.read16(0), 0x0999);
    rig.at(START, 1001);
    assert_eq!(rig.read16(0), 0x9999);
    rig.clock.set(START);
    rig.program(0x35, 0);
    rig.at(START, 1);
    assert_eq!(rig.read16(0), 0x9999);
    // Digits that are none.
    rig.program(0x35, 0xFFFF);
    rig.read16(0);
}

#[test]
fn byte_access_modes() {
    let mut rig = rig();
    rig.program(0x14, 0x80);
    assert_eq!((rig.counters.read_port(0), rig.counters.read_port(0)), (0x80, 0x80));
    rig.program(0x24, 0x8000);
    assert_eq!((rig.counters.read_port(0), rig.counters.read_port(0)), (0x80, 0x80));
    assert_eq!(rig.counters.read_port(3), 0xFF);
}

#[test]
fn latches_hold_until_read() {
    let mut rig = rig();
    rig.program(0x34, 1000);
    rig.at(START, 10);
    rig.counters.write_port(3, 0x00);
    rig.at(START, 20);
    rig.counters.write_port(3, 0x00);
    assert_eq!(rig.read16(0), 990, "the first latch holds");
    assert_eq!(rig.read16(0), 980);
    // Read-back of count and status of counters 0 and 2.
    rig.program(0xB6, 500);
    rig.counters.write_port(3, 0xCA);
    rig.at(START, 30);
    assert_eq!(rig.counters.read_port(0), 0xB4, "output high, loaded, both bytes, mode 2");
    assert_eq!(rig.read16(0), 980);
    assert_eq!(rig.read16(0), 970);
    assert_eq!(rig.counters.read_port(2), 0xB6);
    // Status only, of a counter without a count.
    rig.counters.write_port(3, 0x70);
    rig.counters.write_port(3, 0xE4);
    assert_eq!(rig.counters.read_port(1), 0x70);
}

#[test]
fn linux_calibrates_its_tsc_with_counter_2() {
    // pit_calibrate_tsc: gate on, speaker off, mode 0, wait for the output.
    let mut rig = rig();
    let b = rig.control_b.read_port(0) & !0x02 | 0x01;
    rig.control_b.write_port(0, b);
    let latch = (PIT_HZ / 20) as u16;
    rig.program(0xB0, latch);
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0);
    rig.at(START, u64::from(latch) - 1);
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0);
    rig.at(START, u64::from(latch));
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0x20);
    // quick_pit_calibrate: mode 0 from 0xFFFF, the high byte goes down one by one.
    rig.clock.set(START);
    rig.program(0xB0, 0xFFFF);
    for expected in (0xF0..=0xFF_u16).rev() {
        rig.at(START, (0xFFFF - expected * 256 - 128).into());
        assert_eq!(rig.read16(2) >> 8, expected);
    }
}

#[test]
fn the_gate_stops_and_starts_counter_2() {
    let mut rig = rig();
    // Mode 0 with the gate low: waits.
    rig.program(0xB0, 1000);
    rig.at(START, 500);
    assert_eq!(rig.read16(2), 1000);
    rig.control_b.write_port(0, 1);
    rig.at(START, 600);
    assert_eq!(rig.read16(2), 900);
    rig.control_b.write_port(0, 0);
    rig.at(START, 5000);
    assert_eq!(rig.read16(2), 900);
    // Mode 1: a rising gate begins a pulse, another begins anew.
    rig.program(0xB2, 1000);
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0x20);
    let begin = rig.clock_now();
    rig.control_b.write_port(0, 1);
    rig.at(begin, 900);
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0);
    rig.control_b.write_port(0, 0);
    rig.control_b.write_port(0, 1);
    rig.at(begin, 1800);
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0);
    rig.at(begin, 1901);
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0x20);
    // Mode 3: a low gate takes the output high.
    rig.program(0xB6, 1000);
    let begin = rig.clock_now();
    rig.at(begin, 501);
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0);
    rig.control_b.write_port(0, 0);
    assert_eq!(rig.control_b.read_port(0) & 0x20, 0x20);
}

impl Rig {
    fn clock_now(&self) -> u64 {
        use crate::devices::Clock;
        self.clock.now()
    }
}

#[test]
fn control_port_b_keeps_four_bits_and_shows_refresh() {
    let mut rig = rig();
    rig.control_b.write_port(0, 0xFE);
    assert_eq!(rig.control_b.read_port(0) & 0xCF, 0x0E);
    let mut seen = [false; 2];
    for n in 0..100 {
        rig.clock.set(START + n * 5_000);
        seen[usize::from(rig.control_b.read_port(0) >> 4 & 1)] = true;
    }
    assert_eq!(seen, [true; 2]);
    assert!(ns_to_ticks(15_100, 66_288) == 1);
}

#[test]
fn a_restored_timer_goes_on_where_the_saved_one_was() {
    let mut rig = rig();
    rig.program(0x34, 4773);
    rig.run(START + 100_000_000);
    rig.counters.write_port(3, 0x00);
    rig.counters.read_port(0);
    rig.counters.write_port(2, 0x12);
    let json = serde_json::to_string(&lock(&rig.pit).save()).unwrap();
    let mut other = self::rig();
    other.clock.set(START + 100_000_000);
    lock(&other.pit).restore(&serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(other.counters.read_port(0), rig.counters.read_port(0));
    assert_eq!(other.deadline(), rig.deadline());
    rig.run(START + 200_000_000);
    other.run(START + 200_000_000);
    assert!(other.irq.edges() >= 24);
    assert_eq!(lock(&other.pit).save(), lock(&rig.pit).save());
}

#[test]
fn impossible_saved_states_are_refused() {
    let rig = rig();
    let good = lock(&rig.pit).save();
    let [counter, ..] = good.counters;
    for bad in [
        CounterState { mode: 6, ..counter },
        CounterState { access: 0, ..counter },
        CounterState { reload: 0, ..counter },
        CounterState { reload: 0x1_0001, ..counter },
    ] {
        let state = PitState { counters: [counter, bad, counter], ..good };
        assert!(matches!(lock(&rig.pit).restore(&state), Err(RestoreError::Invalid { field: "counter", .. })));
    }
    assert!(lock(&rig.pit).restore(&PitState { control_b: 0x10, ..good }).is_err());
    // Possible but odd numbers are harmless.
    let odd = CounterState { reported: u64::MAX, started: Some(u64::MAX), held: u64::MAX, loaded: true, ..counter };
    lock(&rig.pit).restore(&PitState { counters: [odd; 3], ..good }).unwrap();
    rig.deadline();
    lock(&rig.pit).tick(0);
}
