//! Saved state of the CRB interface.

use serde::{Deserialize, Serialize};

/// Version of [`CrbState`].
pub(super) const VERSION: u32 = 1;

/// Volatile state of the CRB interface. It may hold a command or response, so treat it like guest memory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrbState {
    /// Format of this state.
    pub version: u32,
    /// The locality that has the TPM.
    pub active: Option<u8>,
    /// Localities that wait for it, one bit each.
    pub requested: u8,
    /// Localities it was taken away from, one bit each.
    pub seized: u8,
    /// Idle, as opposed to Ready, Reception or Completion.
    pub idle: bool,
    /// The last command was not carried out.
    pub error: bool,
    /// CTRL_CANCEL is set.
    pub cancel: bool,
    /// The data buffer.
    pub buffer: Vec<u8>,
}

impl std::fmt::Debug for CrbState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrbState")
            .field("active", &self.active)
            .field("idle", &self.idle)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
