//! Saved state of the FIFO interface.

use serde::{Deserialize, Serialize};

/// Version of [`TisState`].
pub(super) const VERSION: u32 = 1;

/// Where a command stands (PTP 1.05, section 6.5.2, the state diagram). Execution takes no time that a guest could see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TisPhase {
    /// Nothing is under way.
    Idle,
    /// Ready for the first byte of a command.
    Ready,
    /// A command comes in.
    Reception,
    /// A response goes out.
    Completion,
}

/// Volatile state of the FIFO interface. It may hold a command or response, so treat it like guest memory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TisState {
    /// Format of this state.
    pub version: u32,
    /// The locality that has the TPM.
    pub active: Option<u8>,
    /// Localities that wait for it, one bit each.
    pub requested: u8,
    /// Localities it was taken away from, one bit each.
    pub seized: u8,
    /// Where the command stands.
    pub phase: TisPhase,
    /// The command as far as it has come, or the response.
    pub buffer: Vec<u8>,
    /// How much of the response has been read.
    pub read: usize,
    /// TPM_INT_ENABLE.
    pub int_enable: u32,
    /// TPM_INT_VECTOR.
    pub int_vector: u8,
    /// TPM_INT_STATUS.
    pub int_status: u32,
}

impl std::fmt::Debug for TisState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TisState").field("active", &self.active).field("phase", &self.phase).finish_non_exhaustive()
    }
}
