//! Saved state of the interval timer.

use serde::{Deserialize, Serialize};

/// Version of [`PitState`].
pub(super) const VERSION: u32 = 1;

/// Volatile state of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterState {
    /// Mode, 0–5.
    pub mode: u8,
    /// Which bytes are read and written: 1 the low one, 2 the high one, 3 low then high.
    pub access: u8,
    /// Counts in BCD.
    pub bcd: bool,
    /// What it counts down from, 1–65536.
    pub reload: u32,
    /// A count has been loaded since the mode was set.
    pub loaded: bool,
    /// VM time at which counting began; nothing while it waits for its gate.
    pub started: Option<u64>,
    /// Ticks counted before a gate stopped it (modes 0 and 4).
    pub held: u64,
    /// Output edges that have been reported since counting began.
    pub reported: u64,
    /// GATE input.
    pub gate: bool,
    /// Latched count.
    pub latched: Option<u16>,
    /// Latched status.
    pub latched_status: Option<u8>,
    /// The next read is of the high byte.
    pub read_high: bool,
    /// The low byte of a count whose high byte is to come.
    pub written_low: Option<u8>,
}

/// Volatile state of the interval timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PitState {
    /// Format of this state.
    pub version: u32,
    /// The counters.
    pub counters: [CounterState; 3],
    /// What can be written of port 0x61.
    pub control_b: u8,
}
