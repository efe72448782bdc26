//! The engine's platform on Linux: randomness from the kernel, time since start, and the way in for the server.

use std::time::Instant;

use bulla_tpm_types::Marshal as _;
use bulla_vtpm_client::Locality;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::engine::{Clock, Entropy, EntropyError, Tpm};
use crate::server::Engine;

/// Manufactures a TPM with fresh seeds on this platform. Works inside the sandbox.
#[must_use]
pub fn manufacture() -> Tpm {
    Tpm::manufacture(Box::new(Kernel), Box::new(SinceStart(Instant::now())))
}

/// getrandom(2), by the bare system call: the C library's own may keep state in memory of a kind that the
/// sandbox does not allow.
struct Kernel;

impl Entropy for Kernel {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), EntropyError> {
        let mut rest = buf;
        while !rest.is_empty() {
            match getrandom(&mut *rest, GetRandomFlags::empty()) {
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(_) => return Err(EntropyError),
            }
        }
        Ok(())
    }
}

/// The monotonic clock.
struct SinceStart(Instant);

impl Clock for SinceStart {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Engine for Tpm {
    fn power_on(&mut self) {
        self.init();
    }

    fn execute(&mut self, locality: Locality, command: &[u8]) -> Vec<u8> {
        Tpm::execute(self, locality.get(), command)
    }

    fn hash_start(&mut self) {
        Tpm::hash_start(self);
    }

    fn hash_data(&mut self, data: &[u8]) {
        Tpm::hash_data(self, data);
    }

    fn hash_end(&mut self) -> Vec<u8> {
        Tpm::hash_end(self).to_vec()
    }
}
