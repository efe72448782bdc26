//! What the TPM asks of its platform.

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
