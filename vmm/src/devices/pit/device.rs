//! The interval timer device.

use std::fmt;
use std::sync::Arc;

use super::counter::Counter;
use super::state::{PitState, VERSION};
use crate::devices::clock::ns_to_ticks;
use crate::devices::{BytePorts, Clock, IrqLine, RestoreError, SaveRestore, Shared, lock};

/// First of the timer's ports.
pub const PIT_PORTS: u16 = 0x40;
/// Number of the timer's ports.
pub const PIT_LEN: u16 = 4;
/// System control port B.
pub const SYSTEM_CONTROL_B: u16 = 0x61;

const DEVICE: &str = "interval timer";

/// Offset of the control word register.
const CONTROL: u16 = 3;

/// Port 0x61: gate of counter 2, speaker enable, and two error enables that keep their value.
const B_GATE: u8 = 1 << 0;
const B_WRITABLE: u8 = 0x0F;
/// Port 0x61: toggles with each memory refresh; output of counter 2.
const B_REFRESH: u8 = 1 << 4;
const B_OUT: u8 = 1 << 5;
/// A refresh request every 15 µs.
const REFRESH_HZ: u64 = 66_288;

/// The timer. Counter 0 is the interrupt, counter 1 was for memory refresh, counter 2 has its gate and output at
/// port 0x61.
///
/// Interrupts that were missed while nobody called [`Pit::tick`] are one interrupt.
pub struct Pit {
    // Glue.
    clock: Arc<dyn Clock>,
    irq: Arc<dyn IrqLine>,
    // Volatile state.
    counters: [Counter; 3],
    control_b: u8,
}

impl fmt::Debug for Pit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pit").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Pit {
    /// A timer that interrupts over `irq`. No counter runs before it is programmed.
    pub fn new(clock: Arc<dyn Clock>, irq: Arc<dyn IrqLine>) -> Self {
        Self { clock, irq, counters: Self::power_on(), control_b: 0 }
    }

    const fn power_on() -> [Counter; 3] {
        [Counter::new(true), Counter::new(true), Counter::new(false)]
    }

    /// VM time at which [`Pit::tick`] wants to be called: counter 0's next interrupt.
    pub fn next_deadline(&self) -> Option<u64> {
        let [counter, ..] = &self.counters;
        counter.next_edge()
    }

    /// Interrupts, if counter 0 has come to its end since the last call.
    pub fn tick(&mut self, now: u64) {
        let [counter, ..] = &mut self.counters;
        if counter.take_edge(now) {
            self.irq.pulse();
        }
    }

    fn control(&mut self, value: u8, now: u64) {
        match value >> 6 {
            3 => {
                // Read-back: bits 1–3 choose counters; bits 5 and 4, active low, count and status.
                for (n, counter) in self.counters.iter_mut().enumerate() {
                    if value >> (n + 1) & 1 != 0 {
                        if value & 1 << 5 == 0 {
                            counter.latch(now);
                        }
                        if value & 1 << 4 == 0 {
                            counter.latch_status(now);
                        }
                    }
                }
            }
            n => {
                if let Some(counter) = self.counters.get_mut(usize::from(n)) {
                    if value >> 4 & 3 == 0 { counter.latch(now) } else { counter.set_mode(value) }
                }
            }
        }
    }

    fn read(&mut self, offset: u16) -> u8 {
        let now = self.clock.now();
        // The control word register is write-only.
        self.counters.get_mut(usize::from(offset)).map_or(0xFF, |counter| counter.read(now))
    }

    fn write(&mut self, offset: u16, value: u8) {
        let now = self.clock.now();
        self.tick(now);
        match self.counters.get_mut(usize::from(offset)) {
            Some(counter) => counter.write(value, now),
            None if offset == CONTROL => self.control(value, now),
            None => {}
        }
        if offset == 0 || offset == CONTROL {
            self.clock.deadline_changed();
        }
    }

    fn read_control_b(&self) -> u8 {
        let now = self.clock.now();
        let [_, _, counter] = &self.counters;
        let refresh = if ns_to_ticks(now, REFRESH_HZ) & 1 != 0 { B_REFRESH } else { 0 };
        self.control_b | refresh | if counter.output(now) { B_OUT } else { 0 }
    }

    fn write_control_b(&mut self, value: u8) {
        self.control_b = value & B_WRITABLE;
        let [_, _, counter] = &mut self.counters;
        counter.set_gate(value & B_GATE != 0, self.clock.now());
    }
}

/// One range of ports of the shared timer.
#[derive(Clone, Debug)]
pub enum PitPorts {
    /// [`PIT_PORTS`].
    Counters(Shared<Pit>),
    /// [`SYSTEM_CONTROL_B`].
    ControlB(Shared<Pit>),
}

impl BytePorts for PitPorts {
    fn read_port(&mut self, offset: u16) -> u8 {
        match self {
            Self::Counters(pit) => lock(pit).read(offset),
            Self::ControlB(pit) => lock(pit).read_control_b(),
        }
    }

    fn write_port(&mut self, offset: u16, value: u8) {
        match self {
            Self::Counters(pit) => lock(pit).write(offset, value),
            Self::ControlB(pit) => lock(pit).write_control_b(value),
        }
    }
}

impl SaveRestore for Pit {
    type State = PitState;

    fn save(&self) -> PitState {
        PitState { version: VERSION, counters: self.counters.map(|c| c.state), control_b: self.control_b }
    }

    fn restore(&mut self, state: &PitState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        let invalid = |field| RestoreError::Invalid { device: DEVICE, field };
        if !state.counters.iter().all(Counter::is_possible) {
            return Err(invalid("counter"));
        }
        if state.control_b & !B_WRITABLE != 0 {
            return Err(invalid("control port B"));
        }
        self.counters = state.counters.map(|state| Counter { state });
        self.control_b = state.control_b;
        self.clock.deadline_changed();
        Ok(())
    }

    fn reset(&mut self) {
        self.counters = Self::power_on();
        self.control_b = 0;
        self.clock.deadline_changed();
    }
}
