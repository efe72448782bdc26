//! Programmable interval timer: Intel 8254 at ports 0x40–0x43, and the system control port B (0x61) that its third
//! channel is wired to.
//!
//! Source: Intel 8254 data sheet (231164). Counting is not simulated tick by tick: a counter's value, output and next
//! interrupt follow from when it was loaded.

mod counter;
mod device;
mod state;
#[cfg(test)]
mod tests;

pub use device::{PIT_LEN, PIT_PORTS, Pit, PitPorts, SYSTEM_CONTROL_B};
pub use state::{CounterState, PitState};

/// Frequency of the counters' input: 105/88 MHz.
pub const PIT_HZ: u64 = 1_193_182;
