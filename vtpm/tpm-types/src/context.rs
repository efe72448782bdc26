//! Saved contexts (Part 2, chapter 14).

use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::Handle;
use crate::error::Error;

/// The largest TPM2B_CONTEXT_DATA that is accepted.
const MAX_CONTEXT: usize = 4096;

/// TPMS_CONTEXT: an object or a session that waits outside the TPM (Part 2, 14.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// The number of this save.
    pub sequence: u64,
    /// The session's handle, or for an object the kind of object.
    pub saved_handle: Handle,
    /// The hierarchy of the object.
    pub hierarchy: Handle,
    /// What only the TPM can read.
    pub blob: &'a [u8],
}

impl Marshal for Context<'_> {
    fn marshal(&self, w: &mut Writer) {
        w.u64(self.sequence);
        w.put(&self.saved_handle);
        w.put(&self.hierarchy);
        w.tpm2b(self.blob);
    }
}

impl<'a> Unmarshal<'a> for Context<'a> {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self {
            sequence: r.u64("sequence")?,
            saved_handle: r.get()?,
            hierarchy: r.get()?,
            blob: r.tpm2b(MAX_CONTEXT, "TPM2B_CONTEXT_DATA")?,
        })
    }
}
