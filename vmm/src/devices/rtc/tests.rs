use std::sync::Arc;

use super::*;
use crate::devices::testing::{TestClock, TestLine};
use crate::devices::{BytePorts, NS_PER_S, RestoreError, SaveRestore};

struct Rig {
    rtc: Rtc,
    clock: Arc<TestClock>,
    irq: Arc<TestLine>,
}

/// 2026-11-22 16:00:00 UTC, a Sunday.
const NOW: u64 = 1_795_363_200;

fn rig() -> Rig {
    let (clock, irq) = (TestClock::new(), TestLine::new());
    clock.set_wall(NOW * NS_PER_S + 250_000_000);
    Rig { rtc: Rtc::new(clock.clone(), irq.clone()), clock, irq }
}

impl Rig {
    fn read(&mut self, register: u8) -> u8 {
        self.rtc.write_port(0, register);
        self.rtc.read_port(1)
    }

    fn write(&mut self, register: u8, value: u8) {
        // Linux sets the NMI bit or not; it must not matter.
        self.rtc.write_port(0, register | 0x80);
        self.rtc.write_port(1, value);
    }

    /// Year (of the century), month, day, hour, minute, second as the registers say.
    fn time(&mut self) -> [u8; 6] {
        [9, 8, 7, 4, 2, 0].map(|register| self.read(register))
    }
}

#[test]
fn linux_reads_the_time_of_day() {
    let mut rig = rig();
    // mc146818_get_time: no update in progress, 24 hours, BCD.
    assert_eq!(rig.read(0x0A), 0x26);
    assert_eq!(rig.read(0x0B), 0x02);
    assert_eq!(rig.read(0x0D), 0x80);
    assert_eq!(rig.time(), [0x26, 0x11, 0x22, 0x16, 0x00, 0x00]);
    assert_eq!((rig.read(0x32), rig.read(6)), (0x20, 1));
    rig.clock.advance(59 * NS_PER_S);
    assert_eq!(rig.read(0), 0x59);
    rig.clock.advance(8 * 3600 * NS_PER_S);
    assert_eq!(rig.time(), [0x26, 0x11, 0x23, 0x00, 0x00, 0x59]);
    assert_eq!(rig.rtc.read_port(0), 0xFF);
}

#[test]
fn binary_and_12_hour_modes() {
    let mut rig = rig();
    rig.write(0x0B, 0x06);
    assert_eq!(rig.time(), [26, 11, 22, 16, 0, 0]);
    rig.write(0x0B, 0x04);
    assert_eq!(rig.read(4), 0x84);
    rig.clock.advance(8 * 3600 * NS_PER_S);
    assert_eq!(rig.read(4), 12, "midnight");
    rig.clock.advance(12 * 3600 * NS_PER_S);
    rig.write(0x0B, 0x00);
    assert_eq!(rig.read(4), 0x92, "noon");
    rig.write(4, 0x81);
    rig.write(0x0B, 0x02);
    assert_eq!(rig.read(4), 0x13);
}

#[test]
fn the_guest_can_set_the_time() {
    let mut rig = rig();
    // mc146818_set_time: stop, write, go on.
    rig.write(0x0B, 0x82);
    for (register, value) in [(9, 0x00), (8, 0x02), (7, 0x28), (4, 0x23), (2, 0x59), (0, 0x58), (0x32, 0x20)] {
        rig.write(register, value);
    }
    rig.clock.advance(5 * NS_PER_S);
    assert_eq!(rig.read(0), 0x58, "stopped");
    rig.write(0x0B, 0x02);
    assert_eq!(rig.time(), [0x00, 0x02, 0x28, 0x23, 0x59, 0x58]);
    rig.clock.advance(2 * NS_PER_S);
    assert_eq!(rig.time(), [0x00, 0x02, 0x29, 0x00, 0x00, 0x00]);
    // Without stopping, one register at a time. A jump is not the passing of a second.
    rig.read(0x0C);
    rig.write(8, 0x12);
    assert_eq!(rig.read(0x0C), 0);
    assert_eq!(rig.time(), [0x00, 0x12, 0x29, 0x00, 0x00, 0x00]);
}

#[test]
fn any_register_value_gives_a_time() {
    for value in 0..=255 {
        for mode in [0x00, 0x02, 0x04, 0x06] {
            let mut rig = rig();
            rig.write(0x0B, 0x80 | mode);
            for register in (0..0x0A).chain([0x32]) {
                rig.write(register, value);
            }
            rig.write(0x0B, mode | 0x30);
            rig.clock.advance(NS_PER_S);
            rig.rtc.tick();
            let time = rig.time();
            let decode = |v: u8| if mode & 4 != 0 { v } else { (v >> 4) * 10 + (v & 15) };
            assert!((1..=12).contains(&decode(time[1])) && (1..=31).contains(&decode(time[2])), "{value} {time:?}");
            let state = rig.rtc.save();
            rig.rtc.restore(&state).unwrap();
        }
    }
}

#[test]
fn the_update_interrupt_comes_every_second_until_disabled() {
    let mut rig = rig();
    assert_eq!(rig.rtc.next_deadline(), None);
    rig.write(0x0B, 0x12);
    assert_eq!(rig.rtc.next_deadline(), Some(750_000_000));
    rig.clock.advance(749_999_999);
    rig.rtc.tick();
    assert_eq!(rig.irq.edges(), 0);
    rig.clock.advance(1);
    rig.rtc.tick();
    assert_eq!(rig.irq.edges(), 1);
    assert_eq!(rig.rtc.next_deadline(), None, "nobody waits before the flag is read");
    assert_eq!(rig.read(0x0C) & 0x90, 0x90);
    assert!(!rig.irq.is_high());
    assert_eq!(rig.read(0x0C), 0);
    assert_eq!(rig.rtc.next_deadline(), Some(1_750_000_000));
    // Many missed seconds are one interrupt.
    rig.clock.advance(100 * NS_PER_S);
    rig.rtc.tick();
    assert_eq!(rig.irq.edges(), 2);
    rig.write(0x0B, 0x02);
    assert!(!rig.irq.is_high());
    rig.clock.advance(NS_PER_S);
    rig.rtc.tick();
    assert_eq!(rig.irq.edges(), 2);
    assert_eq!(rig.read(0x0C) & 0x90, 0x10, "the flag is there for those who poll");
}

#[test]
fn the_alarm_goes_off_at_its_time() {
    let mut rig = rig();
    rig.write(1, 0x05);
    rig.write(3, 0xFF);
    rig.write(5, 0xC0);
    rig.write(0x0B, 0x22);
    for second in 1..=5 {
        assert_eq!(rig.irq.edges(), 0, "second {second}");
        rig.clock.advance(NS_PER_S);
        rig.rtc.tick();
    }
    assert_eq!(rig.irq.edges(), 1);
    assert_eq!(rig.read(0x0C), 0xB0);
    // Missed by a little: it goes off late rather than never.
    rig.clock.advance(70 * NS_PER_S);
    rig.rtc.tick();
    assert_eq!(rig.irq.edges(), 2);
}

#[test]
fn memory_is_kept() {
    let mut rig = rig();
    for register in (0x0E..0x80).filter(|r| *r != 0x32) {
        rig.write(register, register ^ 0x5A);
    }
    rig.rtc.reset();
    for register in (0x0E..0x80).filter(|r| *r != 0x32) {
        assert_eq!(rig.read(register), register ^ 0x5A);
    }
    rig.write(0x0A, 0xFF);
    assert_eq!(rig.read(0x0A), 0x7F);
    rig.write(0x0D, 0);
    assert_eq!(rig.read(0x0D), 0x80);
}

#[test]
fn a_restored_clock_goes_on_where_the_saved_one_was() {
    let mut rig = rig();
    rig.write(4, 0x03);
    rig.write(0x0B, 0x12);
    rig.clock.advance(NS_PER_S);
    rig.rtc.tick();
    let json = serde_json::to_string(&rig.rtc.save()).unwrap();
    let mut other = self::rig();
    other.clock.advance(NS_PER_S);
    other.rtc.restore(&serde_json::from_str(&json).unwrap()).unwrap();
    assert!(other.irq.is_high());
    assert_eq!(other.rtc.save(), rig.rtc.save());
    assert_eq!(other.time(), rig.time());
}

#[test]
fn impossible_saved_states_are_refused() {
    let mut rig = rig();
    let good = rig.rtc.save();
    for bad in [
        RtcState { index: 128, ..good.clone() },
        RtcState { memory: vec![0; 64], ..good.clone() },
        RtcState { offset: i64::MIN, ..good.clone() },
    ] {
        assert!(matches!(rig.rtc.restore(&bad), Err(RestoreError::Invalid { .. })), "{bad:?}");
    }
    assert_eq!(rig.rtc.save(), good);
}
