//! The TPM 2.0 engine: commands in, responses out, and nothing else.
//!
//! A [`Tpm`] is a value without globals, so a process can hold many. It knows no files, sockets, threads or
//! wall clocks: randomness and time come from the [`Entropy`] and [`Clock`] given at manufacture. Behaviour
//! follows the TPM 2.0 Library Specification 1.59 and, for PCR, localities and H-CRTM, the PC Client Platform
//! TPM Profile (PTP) 1.05.
//!
//! How a command goes through: [`dispatch`] checks the header and the mode, then the handle area, then the
//! session area (`auth`), each with the response codes of Part 3, 5; the `table` names the handler in
//! `commands`, which unmarshals all parameters before it changes anything; `reply` encrypts, audits and
//! authenticates the response for the command's sessions.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod audit;
mod auth;
mod auth_policy;
mod cipher;
mod commands;
mod context;
mod create;
mod crypto;
mod der;
mod derive;
mod dispatch;
mod drbg;
mod ecc;
mod entity;
mod hierarchy;
mod lockout;
mod nv;
mod object;
mod parameter;
mod pcr;
mod platform;
mod presence;
mod profile;
mod protect;
mod reply;
mod rsa;
mod secret;
mod selftest;
mod sequence;
mod session;
mod sharing;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod x509;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bulla_tpm_types::{DigestValues, Ha, Rc, rc};

pub use dispatch::{MAX_COMMAND_SIZE, MAX_RESPONSE_SIZE};
pub use platform::{Cancel, Clock, Entropy, EntropyError, NoStorage, Storage, StorageError};
pub use profile::Profile;
pub use state::{MAX_STATE_SIZE, StateError};
pub use table::command_name;

use audit::CommandAudit;
use context::Epochs;
use drbg::Drbg;
use ecc::Commitments;
use hierarchy::Hierarchies;
use lockout::DictionaryAttack;
use nv::Nv;
use object::Objects;
use pcr::{HashSequence, PcrSettings, Pcrs, SavedPcrs};
use presence::Presence;
use profile::VendorString;
use selftest::SelfTests;
use session::Sessions;
use time::TpmTime;

/// A TPM.
pub struct Tpm {
    entropy: Box<dyn Entropy>,
    clock: Box<dyn Clock>,
    storage: Box<dyn Storage>,
    cancel: Option<Box<dyn Cancel>>,
    random: Drbg,
    mode: Mode,
    tests: SelfTests,
    // What survives a loss of power.
    hierarchies: Hierarchies,
    time: TpmTime,
    lockout: DictionaryAttack,
    nv: Nv,
    vendor: VendorString,
    audit: CommandAudit,
    presence: Presence,
    pcr_settings: PcrSettings,
    /// TPM_PT_ALGORITHM_SET.
    algorithm_set: u32,
    /// tpmEstablished: whether there was a _TPM_Hash_Start since it was last reset.
    established: bool,
    shutdown: Option<Shutdown>,
    epochs: Epochs,
    /// Whether something that survives a loss of power has changed since it was last stored.
    changed: bool,
    /// What was stored, for [`Tpm::store_changes`] to check.
    #[cfg(test)]
    stored: Vec<u8>,
    // What does not, but for the persistent objects.
    objects: Objects,
    sessions: Sessions,
    commitments: Commitments,
    /// Another one after each loss of power: tickets that end at a time of the TPM's do not outlive it.
    power_epoch: [u8; 16],
    pcrs: Pcrs,
    hash: Option<HashSequence>,
    /// Whether an H-CRTM sequence came between _TPM_Init and TPM2_Startup.
    hcrtm: bool,
    /// Whether TPM2_Startup came from locality 3.
    locality_three: bool,
    /// Whether TPM2_Startup was answered by a shutdown before it (TPM_PT_STARTUP_CLEAR's orderly bit).
    orderly: bool,
}

/// What the TPM may be asked (Part 1, 12: "TPM Operational States").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// No _TPM_Init yet.
    Off,
    /// After _TPM_Init: only TPM2_Startup.
    Initialized,
    /// After TPM2_Startup.
    Operational,
    /// A self test failed, or the source of entropy did: only TPM2_GetTestResult and TPM2_GetCapability.
    Failed,
}

/// A TPM2_Shutdown that nothing has undone since.
enum Shutdown {
    /// TPM_SU_CLEAR.
    Clear,
    /// TPM_SU_STATE, with what Startup(STATE) restores.
    State(Box<SavedState>),
}

/// What TPM2_Shutdown(STATE) preserves (Part 1, 12.2.3).
struct SavedState {
    pcrs: SavedPcrs,
    sessions: Sessions,
    hcrtm: bool,
    locality_three: bool,
    /// commandAuditDigest.
    audit: Option<Ha>,
}

impl Tpm {
    /// Makes a new TPM with fresh primary seeds, powered off. No key is generated.
    ///
    /// If `entropy` fails, the TPM is born in failure mode.
    #[must_use]
    pub fn manufacture(entropy: Box<dyn Entropy>, clock: Box<dyn Clock>) -> Self {
        Self::manufacture_as(&Profile::default(), entropy, clock)
    }

    /// [`Tpm::manufacture`], with another profile than bulla's own.
    #[must_use]
    pub fn manufacture_as(profile: &Profile, entropy: Box<dyn Entropy>, clock: Box<dyn Clock>) -> Self {
        let mut tpm = Self::without_seeds(profile, entropy, clock);
        if tpm.mode != Mode::Failed {
            tpm.hierarchies = Hierarchies::generate(&mut tpm.random);
        }
        tpm
    }

    /// A TPM that was never given its seeds.
    fn without_seeds(profile: &Profile, mut entropy: Box<dyn Entropy>, clock: Box<dyn Clock>) -> Self {
        let pcr_settings = PcrSettings::new(&profile.banks);
        let pcrs = Pcrs::new(pcr_settings.allocation);
        let (random, healthy) = match Drbg::from_entropy(&mut *entropy) {
            Ok(drbg) => (drbg, true),
            Err(EntropyError) => (Drbg::new(&[]), false),
        };
        Self {
            entropy,
            clock,
            storage: Box::new(NoStorage),
            cancel: None,
            random,
            mode: if healthy { Mode::Off } else { Mode::Failed },
            tests: SelfTests::default(),
            hierarchies: Hierarchies::empty(),
            time: TpmTime::default(),
            lockout: DictionaryAttack::default(),
            nv: Nv::default(),
            vendor: profile.vendor,
            audit: CommandAudit::default(),
            presence: Presence::default(),
            pcr_settings,
            algorithm_set: 0,
            established: false,
            shutdown: Some(Shutdown::Clear),
            epochs: Epochs::default(),
            changed: true,
            #[cfg(test)]
            stored: Vec::new(),
            objects: Objects::default(),
            sessions: Sessions::default(),
            commitments: Commitments::default(),
            power_epoch: Default::default(),
            pcrs,
            hash: None,
            hcrtm: false,
            locality_three: false,
            orderly: true,
        }
    }

    /// _TPM_Init: power comes on, or goes and comes on again (Part 3, 9.2).
    ///
    /// Everything volatile is lost. A TPM in failure mode leaves it if its source of entropy works again.
    pub fn init(&mut self) {
        self.settle_time();
        self.objects.forget_transient();
        self.nv.lose_power();
        self.sessions = Sessions::default();
        self.pcrs = Pcrs::new(self.pcr_settings.allocation);
        self.hash = None;
        self.hcrtm = false;
        self.locality_three = false;
        self.time.power_on(self.clock.now_ms());
        self.tests = SelfTests::default();
        let born_healthy = self.hierarchies.are_generated();
        let reseeded = self.random.reseed(&mut *self.entropy);
        self.random.generate(&mut self.power_epoch);
        self.commitments = Commitments::new(&mut self.random);
        self.mode = match reseeded {
            Ok(()) if born_healthy => Mode::Initialized,
            _ => Mode::Failed,
        };
        // If it fails, so has the TPM, and it says so.
        let _ = self.store_changes();
    }

    /// Executes a command that came from `locality` (0 to 4, or 32 and above) and answers its response, which
    /// is always well formed and at most [`MAX_RESPONSE_SIZE`] bytes.
    pub fn execute(&mut self, locality: u8, command: &[u8]) -> Vec<u8> {
        self.settle_time();
        // A command ends a hash sequence that was begun: it could otherwise cross a startup.
        self.hash = None;
        dispatch::execute(self, locality, command)
    }

    /// _TPM_Hash_Start, which only locality 4 can signal (Part 3, 22.9).
    ///
    /// Before TPM2_Startup it begins an H-CRTM measurement for PCR 0; after it a D-RTM, which resets the PCR of
    /// the dynamic root of trust (17 to 22).
    pub fn hash_start(&mut self) {
        self.settle_time();
        if !matches!(self.mode, Mode::Initialized | Mode::Operational) || self.require(self.bank_tests()).is_err() {
            self.hash = None;
            return;
        }
        if !self.established {
            self.established = true;
            self.permanent_changed();
        }
        if self.mode == Mode::Operational {
            self.forget_shutdown();
            self.pcrs.drtm_reset();
        }
        if self.store_changes().is_err() {
            return;
        }
        self.hash = Some(HashSequence::new(&self.pcrs));
    }

    /// _TPM_Hash_Data (Part 3, 22.10); without a _TPM_Hash_Start nothing happens.
    pub fn hash_data(&mut self, data: &[u8]) {
        if let Some(hash) = &mut self.hash {
            hash.update(data);
        }
    }

    /// _TPM_Hash_End: extends PCR 0 or 17 in each bank and answers the digests of the data (Part 3, 22.11).
    ///
    /// Without a _TPM_Hash_Start the list is empty.
    pub fn hash_end(&mut self) -> DigestValues {
        let Some(hash) = self.hash.take() else {
            return DigestValues::new();
        };
        let digests = hash.finish();
        if self.mode == Mode::Initialized {
            self.hcrtm = true;
            self.pcrs.hcrtm(&digests);
        } else {
            self.pcrs.extend(pcr::DRTM_PCR, &digests);
        }
        digests
    }

    /// tpmEstablished: whether there was a _TPM_Hash_Start since [`Tpm::reset_established`] (PTP 1.05, 5.5.2.1).
    #[must_use]
    pub fn established(&self) -> bool {
        self.established
    }

    /// Resets [`Tpm::established`], which only localities 3 and 4 may. Answers whether it did.
    pub fn reset_established(&mut self, locality: u8) -> bool {
        let allowed = matches!(locality, 3 | 4);
        if allowed && self.established {
            self.established = false;
            self.permanent_changed();
            // If it fails, so has the TPM, and it says so.
            let _ = self.store_changes();
        }
        allowed
    }

    /// The platform's physical presence signal. It is not there unless this is called (Part 1, 19.9).
    pub fn set_physical_presence(&mut self, asserted: bool) {
        self.presence.asserted = asserted;
    }

    /// Whom to ask, during a long command, whether it is still wanted; nobody unless this is called.
    pub fn set_cancel(&mut self, cancel: Box<dyn Cancel>) {
        self.cancel = Some(cancel);
    }

    /// For the steps of what takes long: `TPM_RC_CANCELED` once the platform no longer wants the command.
    fn still_wanted(&self) -> Result<(), Rc> {
        match &self.cancel {
            Some(cancel) if cancel.wanted() => Err(rc::CANCELED),
            _ => Ok(()),
        }
    }

    /// Brings Clock, Time and the recovery of failed authorizations up to now.
    fn settle_time(&mut self) {
        let now = self.clock.now_ms();
        let passed = self.time.advance(now);
        if self.lockout.recover(passed.ms) || passed.clock_is_due {
            self.permanent_changed();
        }
    }

    /// Something changed that TPM2_Shutdown had saved: the shutdown no longer counts (Part 3, 9.4).
    fn forget_shutdown(&mut self) {
        if self.shutdown.take().is_some() {
            self.permanent_changed();
        }
    }

    /// Something that survives a loss of power has changed: it is stored before the command's response leaves.
    fn permanent_changed(&mut self) {
        self.changed = true;
    }

    /// Enters failure mode (Part 1, 12.4).
    fn fail(&mut self) {
        self.mode = Mode::Failed;
    }
}

impl core::fmt::Debug for Tpm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tpm").field("mode", &self.mode).finish_non_exhaustive()
    }
}
