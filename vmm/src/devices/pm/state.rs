//! Saved state of the ACPI fixed hardware.

use serde::{Deserialize, Serialize};

/// Version of [`PmState`].
pub(super) const VERSION: u32 = 1;

/// Volatile state of the ACPI fixed hardware. The timer has none: it is the VM's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PmState {
    /// Format of this state.
    pub version: u32,
    /// PM1_STS.
    pub status: u16,
    /// PM1_EN.
    pub enable: u16,
    /// PM1_CNT.
    pub control: u16,
    /// VM time up to which carries of the timer have been noticed.
    pub carry_seen: u64,
}
