//! One counter of the 8254.

use super::PIT_HZ;
use super::state::CounterState;
use crate::devices::clock::{ns_to_ticks, ticks_to_ns};

/// A counter's largest period.
const FULL: u32 = 0x1_0000;

/// One counter. All times are VM time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    pub(super) state: CounterState,
}

impl Counter {
    pub(super) const fn new(gate: bool) -> Self {
        Self {
            state: CounterState {
                mode: 0,
                access: 3,
                bcd: false,
                reload: FULL,
                loaded: false,
                started: None,
                held: 0,
                reported: 0,
                gate,
                latched: None,
                latched_status: None,
                read_high: false,
                written_low: None,
            },
        }
    }

    /// A state that the counter can be in.
    pub(super) fn is_possible(state: &CounterState) -> bool {
        state.mode <= 5 && (1..=3).contains(&state.access) && (1..=FULL).contains(&state.reload)
    }

    /// Modes whose counting waits for a rising gate rather than beginning when the count is loaded.
    const fn is_hardware_triggered(&self) -> bool {
        matches!(self.state.mode, 1 | 5)
    }

    const fn is_periodic(&self) -> bool {
        matches!(self.state.mode, 2 | 3)
    }

    /// Ticks counted.
    fn elapsed(&self, now: u64) -> u64 {
        let s = &self.state;
        s.held.saturating_add(s.started.map_or(0, |started| ns_to_ticks(now.saturating_sub(started), PIT_HZ)))
    }

    /// The counting element.
    fn value(&self, now: u64) -> u16 {
        let s = &self.state;
        let (reload, elapsed) = (u64::from(s.reload), self.elapsed(now));
        let modulus = if s.bcd { 10_000 } else { u64::from(FULL) };
        let value = match s.mode {
            2 => reload - elapsed % reload,
            // Counts down by two, through the period twice.
            3 => reload - (elapsed % reload * 2) % reload,
            // Goes on counting after the end.
            _ => (reload + modulus - elapsed % modulus) % modulus,
        } % modulus;
        let digit = |weight| value / weight % 10;
        if s.bcd { (digit(1000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)) as u16 } else { value as u16 }
    }

    /// OUT.
    pub(super) fn output(&self, now: u64) -> bool {
        let s = &self.state;
        let (reload, elapsed) = (u64::from(s.reload), self.elapsed(now));
        if !s.loaded {
            return s.mode != 0;
        }
        match s.mode {
            0 => elapsed >= reload,
            // Low from the trigger to the end of the count.
            1 => s.started.is_none() || elapsed >= reload,
            2 => !s.gate || elapsed % reload != reload - 1,
            3 => !s.gate || elapsed % reload < reload.div_ceil(2),
            _ => elapsed != reload,
        }
    }

    /// Rising edges of OUT since counting began, the one at the end of the count or of each period.
    fn edges(&self, now: u64) -> u64 {
        let s = &self.state;
        if !s.loaded || s.started.is_none() {
            return s.reported;
        }
        let periods = self.elapsed(now) / u64::from(s.reload);
        if self.is_periodic() { periods } else { periods.min(1) }
    }

    /// Whether OUT has risen since the last call.
    pub(super) fn take_edge(&mut self, now: u64) -> bool {
        let edges = self.edges(now);
        let risen = edges > self.state.reported;
        self.state.reported = self.state.reported.max(edges);
        risen
    }

    /// When OUT rises next.
    pub(super) fn next_edge(&self) -> Option<u64> {
        let s = &self.state;
        let started = s.started.filter(|_| s.loaded)?;
        if !self.is_periodic() && s.reported > 0 {
            return None;
        }
        let ticks = s.reported.saturating_add(1).saturating_mul(s.reload.into()).saturating_sub(s.held);
        Some(started.saturating_add(ticks_to_ns(ticks, PIT_HZ)))
    }

    /// Control word for this counter.
    pub(super) fn set_mode(&mut self, control: u8) {
        let gate = self.state.gate;
        let mode = control >> 1 & 7;
        *self = Self::new(gate);
        self.state.access = control >> 4 & 3;
        // Modes 6 and 7 are 2 and 3.
        self.state.mode = if mode > 5 { mode - 4 } else { mode };
        self.state.bcd = control & 1 != 0;
    }

    /// Counter latch command; the first of two holds.
    pub(super) fn latch(&mut self, now: u64) {
        if self.state.latched.is_none() {
            self.state.latched = Some(self.value(now));
            self.state.read_high = false;
        }
    }

    /// Status part of the read-back command; the first of two holds.
    pub(super) fn latch_status(&mut self, now: u64) {
        let s = &self.state;
        let flag = |condition, bit: u8| if condition { 1 << bit } else { 0_u8 };
        let status = flag(self.output(now), 7) | flag(!s.loaded, 6) | s.access << 4 | s.mode << 1 | flag(s.bcd, 0);
        self.state.latched_status.get_or_insert(status);
    }

    pub(super) fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.state.latched_status.take() {
            return status;
        }
        let value = self.state.latched.unwrap_or_else(|| self.value(now));
        let [low, high] = value.to_le_bytes();
        let s = &mut self.state;
        match s.access {
            1 => {
                s.latched = None;
                low
            }
            2 => {
                s.latched = None;
                high
            }
            _ => {
                s.read_high = !s.read_high;
                if s.read_high {
                    low
                } else {
                    s.latched = None;
                    high
                }
            }
        }
    }

    pub(super) fn write(&mut self, value: u8, now: u64) {
        match (self.state.access, self.state.written_low.take()) {
            (1, _) => self.load(u16::from_le_bytes([value, 0]), now),
            (2, _) => self.load(u16::from_le_bytes([0, value]), now),
            (_, Some(low)) => self.load(u16::from_le_bytes([low, value]), now),
            (_, None) => {
                self.state.written_low = Some(value);
                if self.state.mode == 0 {
                    // The first byte of two stops the count and takes OUT low.
                    self.state.loaded = false;
                    self.state.started = None;
                }
            }
        }
    }

    /// Loads a count. In modes 2 and 3 the hardware finishes its period first; here the new period begins at once,
    /// which software cannot rely on not happening as it does not know where in the period it is.
    fn load(&mut self, count: u16, now: u64) {
        let number = if self.state.bcd {
            let digit = |shift: u32| u32::from(count >> shift & 0xF);
            digit(12) * 1000 + digit(8) * 100 + digit(4) * 10 + digit(0)
        } else {
            count.into()
        };
        let full = if self.state.bcd { 10_000 } else { FULL };
        self.state.reload = if number == 0 { full } else { number.min(full) };
        self.state.loaded = true;
        if !self.is_hardware_triggered() {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: u64) {
        self.state.held = 0;
        self.state.reported = 0;
        // In software-triggered modes a low gate holds the count at its beginning.
        self.state.started = (self.state.gate || self.is_hardware_triggered()).then_some(now);
    }

    pub(super) fn set_gate(&mut self, gate: bool, now: u64) {
        if gate == self.state.gate {
            return;
        }
        if gate {
            self.state.gate = true;
            if !self.state.loaded {
                return;
            }
            match self.state.mode {
                // Go on where the gate stopped it.
                0 | 4 => self.state.started = Some(now),
                _ => self.begin(now),
            }
        } else {
            let elapsed = self.elapsed(now);
            self.state.gate = false;
            if !self.is_hardware_triggered() {
                self.state.held = if self.is_periodic() { 0 } else { elapsed };
                self.state.started = None;
            }
        }
    }
}
