//! The ACPI fixed hardware device.

use std::fmt;
use std::sync::Arc;

use super::state::{PmState, VERSION};
use crate::devices::clock::{ns_to_ticks, ticks_to_ns};
use crate::devices::power::{PowerEvent, PowerHandler};
use crate::devices::{Clock, IrqLine, PioDevice, RestoreError, SaveRestore};

/// Frequency of the PM timer (ACPI 6.5, section 4.8.3.3).
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// Ports of the block: event (4 bytes), control (2, padded to 4), timer (4).
pub const PM_LEN: u16 = 12;

const DEVICE: &str = "ACPI fixed hardware";

/// Offsets in the block.
const STATUS: u16 = 0;
const ENABLE: u16 = 2;
const CONTROL: u16 = 4;
// The timer is at 8, read-only.

/// Bits of PM1_STS and PM1_EN: timer carry, power button.
const TIMER_CARRY: u16 = 1 << 0;
const POWER_BUTTON: u16 = 1 << 8;
/// The other events of PM1_EN (global lock, sleep button, RTC) can be enabled and never happen.
const ENABLE_DEFINED: u16 = TIMER_CARRY | 1 << 5 | POWER_BUTTON | 1 << 9 | 1 << 10;

/// Bits of PM1_CNT.
const SCI_EN: u16 = 1 << 0;
const SLP_TYP_SHIFT: u16 = 10;
const SLP_TYP_MASK: u16 = 7;
const SLP_EN: u16 = 1 << 13;
/// BM_RLD and SLP_TYP keep their value. SLP_EN and GBL_RLS are write-only.
const CONTROL_KEPT: u16 = 1 << 1 | SLP_TYP_MASK << SLP_TYP_SHIFT;

/// The timer's carry is a change of its highest bit.
const CARRY_TICKS: u64 = 1 << 31;

/// PM1a event block, PM1a control block and 32-bit PM timer, in ACPI mode from power-on.
pub struct Pm {
    // Configuration.
    s5_sleep_type: u8,
    // Glue.
    clock: Arc<dyn Clock>,
    sci: Arc<dyn IrqLine>,
    handler: PowerHandler,
    // Volatile state.
    status: u16,
    enable: u16,
    control: u16,
    carry_seen: u64,
}

impl fmt::Debug for Pm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pm")
            .field("status", &self.status)
            .field("enable", &self.enable)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

impl Pm {
    /// A block whose S5 has SLP_TYP `s5_sleep_type`, with the interrupt `sci` (level, as all of ACPI).
    pub fn new(s5_sleep_type: u8, clock: Arc<dyn Clock>, sci: Arc<dyn IrqLine>, handler: PowerHandler) -> Self {
        let carry_seen = clock.now();
        Self { s5_sleep_type, clock, sci, handler, status: 0, enable: 0, control: SCI_EN, carry_seen }
    }

    /// Presses the power button: a guest that listens shuts down.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
        self.update();
    }

    /// VM time at which [`Pm::tick`] wants to be called: the next carry of the timer, if the guest wants to know.
    pub fn next_deadline(&self) -> Option<u64> {
        let wanted = self.enable & TIMER_CARRY != 0 && self.status & TIMER_CARRY == 0;
        let next = (ns_to_ticks(self.carry_seen, PM_TIMER_HZ) / CARRY_TICKS + 1).checked_mul(CARRY_TICKS)?;
        wanted.then(|| ticks_to_ns(next, PM_TIMER_HZ))
    }

    /// Notices carries of the timer up to VM time `now`.
    pub fn tick(&mut self, now: u64) {
        let halves = |ns| ns_to_ticks(ns, PM_TIMER_HZ) / CARRY_TICKS;
        if halves(now) > halves(self.carry_seen) {
            self.status |= TIMER_CARRY;
            self.update();
        }
        self.carry_seen = self.carry_seen.max(now);
    }

    fn update(&mut self) {
        self.sci.set_level(self.status & self.enable != 0);
    }

    fn timer(&self) -> u32 {
        ns_to_ticks(self.clock.now(), PM_TIMER_HZ) as u32
    }

    fn write_control(&mut self, value: u16) {
        self.control = value & CONTROL_KEPT | SCI_EN;
    }

    fn sleep(&mut self) {
        let sleep_type = self.control >> SLP_TYP_SHIFT & SLP_TYP_MASK;
        if sleep_type == u16::from(self.s5_sleep_type) {
            (self.handler)(PowerEvent::PowerOff);
        }
    }
}

/// `value` with byte `index` replaced.
const fn with_byte(value: u16, index: u16, byte: u8) -> u16 {
    if index & 1 == 0 { value & 0xFF00 | byte as u16 } else { value & 0x00FF | (byte as u16) << 8 }
}

impl PioDevice for Pm {
    /// Reads from one picture of all registers, so that the timer's bytes belong together.
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        self.tick(self.clock.now());
        let [s0, s1] = self.status.to_le_bytes();
        let [e0, e1] = self.enable.to_le_bytes();
        let [c0, c1] = self.control.to_le_bytes();
        let [t0, t1, t2, t3] = self.timer().to_le_bytes();
        let picture: [u8; PM_LEN as usize] = [s0, s1, e0, e1, c0, c1, 0, 0, t0, t1, t2, t3];
        for (byte, value) in data.iter_mut().zip(picture.iter().skip(offset.into())) {
            *byte = *value;
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        for (byte, port) in data.iter().zip(offset..=u16::MAX) {
            self.write_byte(port, *byte);
        }
    }
}

impl Pm {
    fn write_byte(&mut self, offset: u16, value: u8) {
        match offset & !1 {
            // Writing 1 clears.
            STATUS => {
                self.tick(self.clock.now());
                self.status &= !with_byte(0, offset, value);
                self.update();
                self.clock.deadline_changed();
            }
            ENABLE => {
                self.tick(self.clock.now());
                self.enable = with_byte(self.enable, offset, value) & ENABLE_DEFINED;
                self.update();
                self.clock.deadline_changed();
            }
            CONTROL => {
                self.write_control(with_byte(self.control, offset, value));
                // SLP_TYP and SLP_EN are in the same byte, so a byte-wise write has both.
                if offset & 1 != 0 && with_byte(0, offset, value) & SLP_EN != 0 {
                    self.sleep();
                }
            }
            _ => {}
        }
    }
}

impl SaveRestore for Pm {
    type State = PmState;

    fn save(&self) -> PmState {
        PmState {
            version: VERSION,
            status: self.status,
            enable: self.enable,
            control: self.control,
            carry_seen: self.carry_seen,
        }
    }

    fn restore(&mut self, state: &PmState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        let invalid = |field| RestoreError::Invalid { device: DEVICE, field };
        if state.status & !(TIMER_CARRY | POWER_BUTTON) != 0 {
            return Err(invalid("status"));
        }
        if state.enable & !ENABLE_DEFINED != 0 {
            return Err(invalid("enable"));
        }
        if state.control & !(CONTROL_KEPT | SCI_EN) != 0 || state.control & SCI_EN == 0 {
            return Err(invalid("control"));
        }
        self.status = state.status;
        self.enable = state.enable;
        self.control = state.control;
        self.carry_seen = state.carry_seen;
        self.update();
        self.clock.deadline_changed();
        Ok(())
    }

    fn reset(&mut self) {
        self.status = 0;
        self.enable = 0;
        self.control = SCI_EN;
        self.carry_seen = self.clock.now();
        self.update();
    }
}
