//! Saved state of the I/O APIC.

use serde::{Deserialize, Serialize};

/// Version of [`IoapicState`].
pub(super) const VERSION: u32 = 1;

/// Volatile state of the I/O APIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoapicState {
    /// Format of this state.
    pub version: u32,
    /// ID register (4 bits).
    pub id: u8,
    /// IOREGSEL.
    pub select: u8,
    /// Redirection table, as the registers read.
    pub redirection: Vec<u64>,
    /// Level of each pin, one bit each.
    pub levels: u32,
}
