//! What the TPM asks of its platform.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

/// The source of entropy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source of entropy failed")]
pub struct EntropyError;

/// A source of full-entropy bytes.
pub trait Entropy: Send {
    /// Fills `buf` with bytes that nobody else can know.
    ///
    /// # Errors
    /// When the source cannot: the TPM then enters failure mode.
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), EntropyError>;
}

/// A clock that counts while the platform runs.
pub trait Clock: Send {
    /// Milliseconds since any fixed moment. A clock that goes backwards is taken to stand still.
    fn now_ms(&self) -> u64;
}

/// The platform's wish that the command under way be given up, as the cancel bit of a TPM's interface expresses it
/// (PTP 1.05: `commandCancel` of TPM_STS_x, TPM_CRB_CTRL_CANCEL_x).
///
/// The engine asks between the steps of what takes long, such as the search for a prime; a command that is given up
/// answers TPM_RC_CANCELED and has changed nothing. Who sets the wish takes it back before the next command.
pub trait Cancel: Send {
    /// Whether the command under way should end.
    fn wanted(&self) -> bool;
}

impl Cancel for Arc<AtomicBool> {
    fn wanted(&self) -> bool {
        self.load(Ordering::Relaxed)
    }
}

/// The storage failed: what was to be kept may not be there after a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the storage failed")]
pub struct StorageError;

/// Where a TPM keeps what survives a loss of power.
pub trait Storage: Send {
    /// Makes `permanent` what [`Tpm::load`](crate::Tpm::load) will be given after the next loss of power, whole or not at
    /// all: when this returns `Ok` it is durable, and at no moment is neither the old nor the new state there.
    ///
    /// The bytes hold every secret of the TPM. They are at most [`MAX_STATE_SIZE`](crate::MAX_STATE_SIZE).
    ///
    /// # Errors
    /// When it may not be durable: the TPM then enters failure mode, since nobody can be told that a command succeeded.
    fn store(&mut self, permanent: &[u8]) -> Result<(), StorageError>;
}

/// No storage: such a TPM's keys end with it.
#[derive(Clone, Copy, Debug)]
pub struct NoStorage;

impl Storage for NoStorage {
    fn store(&mut self, _: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
}
