//! The real-time clock device.

use std::fmt;
use std::sync::Arc;

use super::calendar::{DateTime, from_unix, to_unix};
use super::state::{RtcState, VERSION};
use crate::devices::{BytePorts, Clock, IrqLine, NS_PER_S, RestoreError, SaveRestore};

/// Index and data port.
pub const RTC_PORTS: u16 = 0x70;
/// Ports of the device.
pub const RTC_LEN: u16 = 2;

const DEVICE: &str = "real-time clock";
const MEMORY_LEN: usize = 128;

/// Registers.
const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REG_A: u8 = 0x0A;
const REG_B: u8 = 0x0B;
const REG_C: u8 = 0x0C;
const REG_D: u8 = 0x0D;
const CENTURY: u8 = 0x32;

/// Register A after power-on: 32.768 kHz time base, 1024 Hz rate. Bit 7 (update in progress) is read-only.
const REG_A_DEFAULT: u8 = 0x26;
const REG_A_WRITABLE: u8 = 0x7F;
/// Register B: updates stop, alarm interrupt, update-ended interrupt, binary rather than BCD, 24 hours.
const B_SET: u8 = 1 << 7;
const B_ALARM: u8 = 1 << 5;
const B_UPDATE: u8 = 1 << 4;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;
/// Register C: some enabled flag is set. The other flags have the bits of their enables in register B.
const C_IRQ: u8 = 1 << 7;
/// Register D: the battery is good.
const D_VALID: u8 = 1 << 7;
/// An hour in 12-hour mode is in the afternoon.
const PM: u8 = 1 << 7;
/// An alarm field with both top bits set matches anything.
const ALARM_ANY: u8 = 0xC0;

/// How many missed seconds are looked at for an alarm after a pause.
const CATCH_UP_S: i64 = 60;

/// The real-time clock.
pub struct Rtc {
    // Glue.
    clock: Arc<dyn Clock>,
    irq: Arc<dyn IrqLine>,
    // Volatile state.
    index: u8,
    memory: [u8; MEMORY_LEN],
    offset: i64,
    noticed: i64,
}

impl fmt::Debug for Rtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rtc").field("index", &self.index).field("offset", &self.offset).finish_non_exhaustive()
    }
}

const fn is_time(register: u8) -> bool {
    matches!(register, SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | CENTURY)
}

impl Rtc {
    /// A clock that shows `clock`'s time of day.
    pub fn new(clock: Arc<dyn Clock>, irq: Arc<dyn IrqLine>) -> Self {
        let mut rtc = Self { clock, irq, index: 0, memory: [0; MEMORY_LEN], offset: 0, noticed: 0 };
        rtc.power_on();
        rtc
    }

    fn power_on(&mut self) {
        self.index = 0;
        self.memory = [0; MEMORY_LEN];
        self.set(REG_A, REG_A_DEFAULT);
        self.set(REG_B, B_24_HOURS);
        self.set(REG_D, D_VALID);
        self.offset = 0;
        self.noticed = self.seconds();
    }

    fn get(&self, register: u8) -> u8 {
        self.memory.get(usize::from(register)).copied().unwrap_or(0xFF)
    }

    fn set(&mut self, register: u8, value: u8) {
        if let Some(place) = self.memory.get_mut(usize::from(register)) {
            *place = value;
        }
    }

    /// The clock's time in seconds since 1970.
    fn seconds(&self) -> i64 {
        i64::try_from(self.clock.wall() / NS_PER_S).unwrap_or(i64::MAX / 2).saturating_add(self.offset)
    }

    /// A number 0–99 as the registers show it.
    fn encode(&self, number: u8) -> u8 {
        if self.get(REG_B) & B_BINARY != 0 { number } else { ((number / 10) << 4) | (number % 10) }
    }

    /// What a register's number means. BCD digits above 9 count on.
    fn decode(&self, value: u8) -> u8 {
        if self.get(REG_B) & B_BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xF) }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.get(REG_B) & B_24_HOURS != 0 {
            return self.encode(hour);
        }
        let half = if hour >= 12 { PM } else { 0 };
        self.encode(if hour.is_multiple_of(12) { 12 } else { hour % 12 }) | half
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.get(REG_B) & B_24_HOURS != 0 {
            return self.decode(value);
        }
        self.decode(value & !PM) % 12 + if value & PM != 0 { 12 } else { 0 }
    }

    /// The time as register values.
    fn time_registers(&self, seconds: i64) -> [(u8, u8); 8] {
        let t = from_unix(seconds);
        // 0–99 each.
        let (century, year) = (t.year.div_euclid(100).rem_euclid(100) as u8, t.year.rem_euclid(100) as u8);
        [
            (SECONDS, self.encode(t.second)),
            (MINUTES, self.encode(t.minute)),
            (HOURS, self.encode_hour(t.hour)),
            (WEEKDAY, self.encode(t.weekday)),
            (DAY, self.encode(t.day)),
            (MONTH, self.encode(t.month)),
            (YEAR, self.encode(year)),
            (CENTURY, self.encode(century)),
        ]
    }

    /// Puts the running time into the registers.
    fn freeze(&mut self) {
        for (register, value) in self.time_registers(self.seconds()) {
            self.set(register, value);
        }
    }

    /// Lets the time run on from what the registers say.
    fn thaw(&mut self) {
        let number = |register| self.decode(self.get(register));
        let time = DateTime {
            year: i64::from(number(CENTURY)) * 100 + i64::from(number(YEAR)),
            month: number(MONTH),
            day: number(DAY),
            weekday: 1,
            hour: self.decode_hour(self.get(HOURS)),
            minute: number(MINUTES),
            second: number(SECONDS),
        };
        self.offset = 0;
        self.offset = to_unix(&time).saturating_sub(self.seconds());
        self.noticed = self.seconds();
    }

    fn is_set_mode(&self) -> bool {
        self.get(REG_B) & B_SET != 0
    }

    fn alarm_matches(&self, seconds: i64) -> bool {
        let t = from_unix(seconds);
        let field = |register, now: u8| {
            let value = self.get(register);
            value & ALARM_ANY == ALARM_ANY || value == now
        };
        field(SECONDS_ALARM, self.encode(t.second))
            && field(MINUTES_ALARM, self.encode(t.minute))
            && field(HOURS_ALARM, self.encode_hour(t.hour))
    }

    /// VM time at which [`Rtc::tick`] wants to be called: the next second, if the guest wants to hear of it.
    pub fn next_deadline(&self) -> Option<u64> {
        let awaited = self.get(REG_B) & (B_ALARM | B_UPDATE) & !self.get(REG_C);
        let wait = NS_PER_S - self.clock.wall() % NS_PER_S;
        (awaited != 0 && !self.is_set_mode()).then(|| self.clock.now().saturating_add(wait))
    }

    /// Notices the seconds that have passed.
    pub fn tick(&mut self) {
        let now = self.seconds();
        let passed = now.saturating_sub(self.noticed);
        self.noticed = now;
        if passed <= 0 || self.is_set_mode() {
            return;
        }
        let first = now.saturating_sub(passed.min(CATCH_UP_S) - 1);
        let mut flags = self.get(REG_C) | B_UPDATE;
        if (first..=now).any(|second| self.alarm_matches(second)) {
            flags |= B_ALARM;
        }
        self.set_flags(flags);
    }

    fn set_flags(&mut self, flags: u8) {
        let raised = flags & self.get(REG_B) & (B_ALARM | B_UPDATE) != 0;
        self.set(REG_C, flags & !C_IRQ | if raised { C_IRQ } else { 0 });
        self.irq.set_level(raised);
    }

    fn read_register(&mut self, register: u8) -> u8 {
        if is_time(register) && !self.is_set_mode() {
            let now = self.time_registers(self.seconds());
            return now.iter().find(|(r, _)| *r == register).map_or(0xFF, |(_, value)| *value);
        }
        if register == REG_C {
            self.tick();
            let flags = self.get(REG_C);
            self.set_flags(0);
            self.clock.deadline_changed();
            return flags;
        }
        self.get(register)
    }

    fn write_register(&mut self, register: u8, value: u8) {
        match register {
            REG_A => self.set(REG_A, value & REG_A_WRITABLE),
            REG_B => {
                self.tick();
                let was_set = self.is_set_mode();
                if value & B_SET != 0 && !was_set {
                    self.freeze();
                }
                self.set(REG_B, value);
                if value & B_SET == 0 && was_set {
                    self.thaw();
                }
                self.set_flags(self.get(REG_C));
                self.clock.deadline_changed();
            }
            REG_C | REG_D => {}
            time if is_time(time) && !self.is_set_mode() => {
                self.freeze();
                self.set(time, value);
                self.thaw();
            }
            other => self.set(other, value),
        }
    }
}

impl BytePorts for Rtc {
    fn read_port(&mut self, offset: u16) -> u8 {
        // The index port is write-only.
        if offset == 1 { self.read_register(self.index) } else { 0xFF }
    }

    fn write_port(&mut self, offset: u16, value: u8) {
        match offset {
            // Bit 7 masks NMIs on a PC; there are none.
            0 => self.index = value & 0x7F,
            1 => self.write_register(self.index, value),
            _ => {}
        }
    }
}

impl SaveRestore for Rtc {
    type State = RtcState;

    fn save(&self) -> RtcState {
        RtcState {
            version: VERSION,
            index: self.index,
            memory: self.memory.to_vec(),
            offset: self.offset,
            noticed: self.noticed,
        }
    }

    fn restore(&mut self, state: &RtcState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        let invalid = |field| RestoreError::Invalid { device: DEVICE, field };
        if usize::from(state.index) >= MEMORY_LEN {
            return Err(invalid("index"));
        }
        // Years 0 to 16 599 can be set.
        if state.offset.unsigned_abs() > 1 << 40 {
            return Err(invalid("offset"));
        }
        self.memory = state.memory.as_slice().try_into().map_err(|_| invalid("memory"))?;
        self.index = state.index;
        self.offset = state.offset;
        self.noticed = state.noticed;
        self.set_flags(self.get(REG_C));
        self.clock.deadline_changed();
        Ok(())
    }

    /// The battery keeps time and memory; the processor's reset clears the interrupt enables and flags.
    fn reset(&mut self) {
        self.set(REG_B, self.get(REG_B) & !(B_ALARM | B_UPDATE | 1 << 6 | 1 << 3));
        self.set_flags(0);
    }
}
