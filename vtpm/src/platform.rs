//! The engine's platform on Linux: randomness from the kernel, time since start, and the way in for the server.

use std::time::Instant;

use bulla_tpm_types::Marshal as _;
use bulla_vtpm_client::Locality;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::engine::{Clock, Entropy, EntropyError, Profile, StateError, Tpm};
use crate::server::Engine;
use crate::state::{Opened, Origin};

/// For tests only: the vendor string of the TPMs that this process manufactures. tpm2-tools' own tests skip what fails
/// unless the vendor is that of a simulator.
pub const TEST_VENDOR: &str = "BULLA_VTPM_TEST_VENDOR";

/// Manufactures a TPM with fresh seeds on this platform. Works inside the sandbox.
#[must_use]
pub fn manufacture() -> Tpm {
    let vendor = std::env::var(TEST_VENDOR).ok();
    let profile = vendor.and_then(|vendor| Profile::default().vendor(&vendor)).unwrap_or_default();
    Tpm::manufacture_as(&profile, Box::new(Kernel), Box::new(SinceStart(Instant::now())))
}

/// The TPM whose permanent state this is, on this platform, powered off.
///
/// # Errors
/// When the bytes are not the permanent state of a TPM.
pub fn load(permanent: &[u8]) -> Result<Tpm, StateError> {
    Tpm::load(Box::new(Kernel), Box::new(SinceStart(Instant::now())), permanent)
}

/// The TPM of an open state, on this platform, powered off: loaded, or manufactured with fresh seeds if there is none.
/// Works inside the sandbox.
///
/// A state that is a copy or was rolled back makes a TPM that shows it (see `docs/vtpm-state.md`).
///
/// # Errors
/// When what is stored is not a state that this release knows.
pub fn start(opened: Opened) -> Result<Started, StateError> {
    let store = opened.store();
    let mut volatile = None;
    let mut tpm = match opened.state {
        None => manufacture(),
        Some(loaded) => {
            let mut tpm = load(&loaded.permanent)?;
            match loaded.origin {
                Origin::Here => volatile = loaded.volatile,
                // Copies of one state move on by different numbers, or nearly always.
                Origin::Copied => tpm.diverge(1 + random_u32() % COPY_RESETS),
                // Each reset has stored at least once: more than were lost cannot have been counted.
                Origin::RolledBack { lost } => tpm.diverge(u32::try_from(lost).unwrap_or(u32::MAX)),
            }
            tpm
        }
    };
    tpm.set_storage(Box::new(store));
    Ok(Started { tpm, volatile })
}

/// resetCount of a copied state moves on by at most this number.
const COPY_RESETS: u32 = 1 << 20;

fn random_u32() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the TPM is in failure mode, and what it counts does not matter.
    let _ = Kernel.fill(&mut bytes);
    u32::from_be_bytes(bytes)
}

/// A TPM with its store, and what it was doing when its machine was suspended.
#[derive(Debug)]
pub struct Started {
    /// The TPM, powered off.
    pub tpm: Tpm,
    /// For [`Tpm::restore_volatile`]; `None` unless its machine was suspended.
    pub volatile: Option<zeroize::Zeroizing<Vec<u8>>>,
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
