//! Saved state of the real-time clock.

use serde::{Deserialize, Serialize};

/// Version of [`RtcState`].
pub(super) const VERSION: u32 = 1;

/// Volatile state of the real-time clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtcState {
    /// Format of this state.
    pub version: u32,
    /// What port 0x70 selects.
    pub index: u8,
    /// All registers and the memory. Those of the time hold it while register B's SET bit is set.
    pub memory: Vec<u8>,
    /// Seconds that the clock is ahead of the host's time of day.
    pub offset: i64,
    /// The second (since 1970, of this clock) up to which alarms and updates have been noticed.
    pub noticed: i64,
}
