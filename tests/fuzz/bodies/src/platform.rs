//! What a TPM of the targets runs on: counted randomness, a clock that the input moves, and little patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use bulla_vtpm::engine::{Cancel, Clock, Entropy, EntropyError, StateError, Tpm};

/// How often a command may ask whether it is still wanted: once before it begins, and then for some candidates of an RSA
/// key. The search for one would take most of the time of an input, and shows nothing.
const PATIENCE: u32 = 3;

/// Randomness that counts up, a clock that the input moves, and patience for each command. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Platform {
    counter: Arc<AtomicU8>,
    now_ms: Arc<AtomicU64>,
    asked: Arc<AtomicU32>,
    patient: bool,
}

impl Platform {
    /// One on which RSA keys are made.
    pub(crate) fn patient() -> Self {
        Self { patient: true, ..Self::default() }
    }

    pub(crate) fn manufacture(&self) -> Tpm {
        self.attend(Tpm::manufacture(Box::new(self.clone()), Box::new(self.clone())))
    }

    pub(crate) fn load(&self, permanent: &[u8]) -> Result<Tpm, StateError> {
        Tpm::load(Box::new(self.clone()), Box::new(self.clone()), permanent).map(|tpm| self.attend(tpm))
    }

    fn attend(&self, mut tpm: Tpm) -> Tpm {
        tpm.set_cancel(Box::new(self.clone()));
        tpm
    }

    pub(crate) fn pass_seconds(&self, seconds: u16) {
        self.now_ms.fetch_add(u64::from(seconds) * 1000, Ordering::Relaxed);
    }

    /// Executes a command with new patience.
    pub(crate) fn execute(&self, tpm: &mut Tpm, locality: u8, command: &[u8]) -> Vec<u8> {
        self.asked.store(0, Ordering::Relaxed);
        tpm.execute(locality, command)
    }
}

impl Entropy for Platform {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), EntropyError> {
        buf.iter_mut().for_each(|byte| *byte = self.counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
        Ok(())
    }
}

impl Clock for Platform {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

impl Cancel for Platform {
    fn wanted(&self) -> bool {
        !self.patient && self.asked.fetch_add(1, Ordering::Relaxed) >= PATIENCE
    }
}
