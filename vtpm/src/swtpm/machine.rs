//! The TPM as swtpm's clients see it: with power that comes and goes, a current locality and the bit of the
//! dynamic root of trust.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulla_tpm_types::{Rc, StartupType, cc, command, rc, response, st};
use bulla_vtpm_client::Locality;
use thiserror::Error;
use zeroize::Zeroizing;

use super::code::Code;
use super::options::{Localities, Options};
use crate::engine::{MAX_STATE_SIZE, StateError, Tpm};
use crate::platform;
use crate::state::blob::{self, BlobError};
use crate::state::{KeySource, OpenError, Store, StoreError};

/// The vendor command that sets the locality of the commands after it, when it is allowed.
const SET_LOCALITY: u32 = 0x2000_1000;
/// The TCG simulator's MS_SIM_TPM_SEND_COMMAND: the locality and the length, before a command.
const SEND_COMMAND: u32 = 8;
/// tag, size, code: what every command and response begins with.
pub(super) const HEADER: usize = 10;
/// SEND_COMMAND, the locality, the length.
pub(super) const PREFIX: usize = 9;

/// A TPM, and what is around it.
pub(super) struct Machine {
    tpm: Tpm,
    power: Arc<AtomicBool>,
    cancel: Arc<AtomicBool>,
    locality: Locality,
    localities: Localities,
    auto_shutdown: bool,
    /// Whether a D-RTM sequence has begun since the bit was last reset (`tpmEstablished` of TPM_ACCESS).
    established: bool,
    /// The command executed last, as far as it has a code.
    last: Option<u32>,
    /// Where the TPM goes on when it next gets power, if that is not to be a new start.
    suspended: Option<Zeroizing<Vec<u8>>>,
    /// Where the state is kept, if it is.
    store: Option<Store>,
    /// What encrypts states that leave, and opens those that come.
    keys: Keys,
    release_lock: bool,
}

/// The keys for states on their way.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// `--key`, which also protects the state's file.
    pub(super) file: Option<KeySource>,
    /// `--migration-key`.
    pub(super) migration: Option<KeySource>,
}

/// The states that swtpm's protocol tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blob {
    /// What survives a loss of power.
    Permanent = 1,
    /// What does not.
    Volatile = 2,
    /// What TPM 1.2 saves at TPM_SaveState. A TPM 2.0 has it in its permanent state, so this is empty.
    Save = 3,
}

impl Blob {
    /// The state with this number, PTM_BLOB_TYPE_*.
    pub(super) const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Permanent),
            2 => Some(Self::Volatile),
            3 => Some(Self::Save),
            _ => None,
        }
    }
}

/// Why a state was not taken.
#[derive(Debug, Error)]
pub(super) enum Refused {
    /// It is none of this TPM.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is of a kind that a TPM 2.0 does not have.
    #[error("a savestate blob that is not empty: that is TPM 1.2's")]
    Save,
    /// It is encrypted, and not so that it could be opened; or could not be encrypted.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its lock could not be given away.
    #[error("unlock the state: {0}")]
    Unlock(io::Error),
}

impl Refused {
    /// The code that says so.
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::State(_) | Self::Save => Code::BadParameter,
            Self::Blob(BlobError::NoKey) => Code::KeyNotFound,
            Self::Blob(_) => Code::DecryptError,
            Self::Store(_) | Self::Unlock(_) => Code::Fail,
        }
    }
}

/// A command's response and how it goes onto the wire.
#[derive(Debug)]
pub(super) struct Answer {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// The command's code and the response's, for the log.
    pub(super) codes: (Option<u32>, Option<Rc>),
}

impl Machine {
    /// A machine whose TPM is off, in memory only.
    pub(super) fn new(mut tpm: Tpm, options: &Options, keys: Keys) -> Self {
        let cancel = Arc::new(AtomicBool::new(false));
        tpm.set_cancel(Box::new(Arc::clone(&cancel)));
        Self {
            tpm,
            power: Arc::default(),
            cancel,
            locality: Locality::ZERO,
            localities: options.locality,
            auto_shutdown: options.flags.auto_shutdown,
            established: false,
            last: None,
            suspended: None,
            store: None,
            keys,
            release_lock: options.migration.release_lock,
        }
    }

    /// The same with a state that lasts, and perhaps where its TPM was suspended.
    pub(super) fn with_store(mut self, store: Store, volatile: Option<Zeroizing<Vec<u8>>>) -> Self {
        self.store = Some(store);
        self.suspended = volatile;
        self
    }

    /// PTM_CONFIG_FLAG_FILE_KEY and PTM_CONFIG_FLAG_MIGRATION_KEY.
    pub(super) const fn config(&self) -> u32 {
        self.keys.file.is_some() as u32 | (self.keys.migration.is_some() as u32) << 1
    }

    /// The flag that makes a running command end with TPM_RC_CANCELED.
    pub(super) fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// Whether the TPM has power, for those who cannot wait for a command's end.
    pub(super) fn power_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.power)
    }

    /// Whether the TPM has power.
    pub(super) fn is_running(&self) -> bool {
        self.power.load(Ordering::Acquire)
    }

    /// Power comes on, or goes and comes on again: _TPM_Init, unless the TPM was suspended. Then it goes on from there, once.
    pub(super) fn power_on(&mut self) -> Result<(), Refused> {
        self.power_off();
        self.established = false;
        self.last = None;
        match self.suspended.take() {
            Some(volatile) => {
                self.tpm.restore_volatile(&volatile)?;
                self.forget_suspended()?;
            }
            None => self.tpm.init(),
        }
        self.power.store(true, Ordering::Release);
        Ok(())
    }

    /// Power goes, after a TPM2_Shutdown if the client has left that out and it is not forbidden. A TPM that was suspended goes
    /// as it is.
    pub(super) fn power_off(&mut self) {
        if !self.is_running() {
            return;
        }
        if self.auto_shutdown && self.last != Some(cc::SHUTDOWN) && self.suspended.is_none() {
            self.cancel.store(false, Ordering::Relaxed);
            let state = self.tpm.execute(0, &command::shutdown(StartupType::State));
            if response::parse_empty(&state).is_err() {
                // Before TPM2_Startup, or in failure mode, this one fails too, and nothing is lost by that.
                let _ = self.tpm.execute(0, &command::shutdown(StartupType::Clear));
            }
        }
        self.power.store(false, Ordering::Release);
    }

    /// Remembers where the TPM stands. That is good for the next power-on, if no command comes before it: the state
    /// would be one that the TPM has left.
    pub(super) fn suspend(&mut self) -> Result<(), Refused> {
        let volatile = self.tpm.volatile();
        if let Some(store) = &self.store {
            store.suspend(&self.tpm.permanent(), &volatile)?;
        }
        self.suspended = Some(volatile);
        Ok(())
    }

    /// What was suspended has gone on: it must not be gone on from again.
    fn forget_suspended(&mut self) -> Result<(), StoreError> {
        self.suspended = None;
        self.store.as_ref().map_or(Ok(()), |store| store.store(&self.tpm.permanent()))
    }

    /// The bytes of a state, and whether they are encrypted with the key of the state's file. `plain`: they had better not be.
    ///
    /// With a migration key they are encrypted with that in any case, which is not told: whoever takes the bytes to another
    /// process need not know.
    pub(super) fn state(&self, blob: Blob, plain: bool) -> Result<(Zeroizing<Vec<u8>>, bool), Refused> {
        let state = match blob {
            Blob::Permanent => self.tpm.permanent(),
            Blob::Volatile => self.tpm.volatile(),
            Blob::Save => {
                // The last of the three to be fetched when a machine leaves.
                if let Some(store) = self.store.as_ref().filter(|_| self.release_lock) {
                    store.unlock().map_err(Refused::Unlock)?;
                }
                return Ok((Zeroizing::default(), false));
            }
        };
        match (&self.keys.migration, &self.keys.file) {
            (Some(key), _) => Ok((blob::seal(key, blob as u8, &state)?, false)),
            (None, Some(key)) if !plain => Ok((blob::seal(key, blob as u8, &state)?, true)),
            _ => Ok((state, false)),
        }
    }

    /// Becomes the TPM whose state this is; a volatile state is for the next power-on. For a TPM that is off. An empty state changes
    /// nothing. `encrypted`: with the key of the state's file.
    pub(super) fn set_state(&mut self, blob: Blob, bytes: &[u8], encrypted: bool) -> Result<(), Refused> {
        if bytes.is_empty() {
            return Ok(());
        }
        let opened = if blob::is_sealed(bytes) {
            let key = if encrypted { &self.keys.file } else { &self.keys.migration };
            Some(blob::open(key.as_ref().ok_or(BlobError::NoKey)?, blob as u8, bytes)?)
        } else if encrypted {
            return Err(BlobError::NoKey.into());
        } else {
            None
        };
        let state = opened.as_ref().map_or(bytes, |opened| opened.as_slice());
        match blob {
            Blob::Permanent => {
                let mut tpm = platform::load(state)?;
                tpm.set_cancel(Box::new(Arc::clone(&self.cancel)));
                if let Some(store) = &self.store {
                    store.store(state)?;
                    tpm.set_storage(Box::new(store.clone()));
                }
                self.tpm = tpm;
                self.suspended = None;
            }
            Blob::Volatile => {
                if state.len() > MAX_STATE_SIZE {
                    return Err(StateError::TooLong(state.len()).into());
                }
                self.suspended = Some(Zeroizing::new(state.to_vec()));
            }
            Blob::Save => return Err(Refused::Save),
        }
        Ok(())
    }

    /// Takes the state's lock back; `false` if another process has stored in it since.
    pub(super) fn lock(&self) -> Result<bool, OpenError> {
        self.store.as_ref().map_or(Ok(true), Store::lock)
    }

    /// TPM2_Startup on the program's own account. Answers its response code.
    pub(super) fn startup(&mut self, kind: StartupType) -> Result<(), response::ResponseError> {
        self.last = Some(cc::STARTUP);
        response::parse_empty(&self.tpm.execute(0, &command::startup(kind)))
    }

    /// What the command channel brought: a command, or a command behind the simulator's prefix.
    pub(super) fn message(&mut self, message: &[u8]) -> Answer {
        let (command, prefixed) = match split_prefix(message) {
            Some((locality, command)) => match self.allowed(locality) {
                Some(locality) => {
                    self.locality = locality;
                    (command, true)
                }
                None => return Answer { bytes: framed(error(rc::LOCALITY)), codes: (None, Some(rc::LOCALITY)) },
            },
            None => (message, false),
        };
        let code = command_code(command);
        let bytes = self.command(command, code);
        let codes = (code, response_code(&bytes));
        Answer { bytes: if prefixed { framed(bytes) } else { bytes }, codes }
    }

    fn command(&mut self, command: &[u8], code: Option<u32>) -> Vec<u8> {
        if !self.is_running() {
            return error(rc::FAILURE);
        }
        let Some(code) = code else { return error(rc::INSUFFICIENT) };
        // Part 3, 5.2 has TPM_RC_BAD_TAG here, in a response with TPM 1.2's tag. OVMF, which asks a TPM on TIS for TPM 1.2's
        // ticks first, takes any TPM that answers so for a TPM 1.2. This is libtpms' answer.
        if !is_command(command) {
            return error(rc::VALUE);
        }
        self.last = Some(code);
        if self.suspended.is_some() && self.forget_suspended().is_err() {
            return error(rc::FAILURE);
        }
        if code == SET_LOCALITY {
            return error(self.set_locality_in_band(command).err().unwrap_or(rc::SUCCESS));
        }
        self.cancel.store(false, Ordering::Relaxed);
        self.tpm.execute(self.locality.get(), command)
    }

    fn set_locality_in_band(&mut self, command: &[u8]) -> Result<(), Rc> {
        let number = *command.get(HEADER).ok_or(rc::INSUFFICIENT)?;
        if !self.localities.in_band {
            return Err(rc::FAILURE);
        }
        self.locality = self.allowed(number).ok_or(rc::LOCALITY)?;
        Ok(())
    }

    fn allowed(&self, number: u8) -> Option<Locality> {
        Locality::try_from(number).ok().filter(|&l| l != Locality::FOUR || !self.localities.reject_four)
    }

    /// Sets the locality of the commands to come.
    pub(super) fn set_locality(&mut self, number: u8) -> Result<(), Code> {
        self.locality = self.allowed(number).ok_or(Code::BadLocality)?;
        Ok(())
    }

    /// The bit of the dynamic root of trust.
    pub(super) const fn established(&self) -> bool {
        self.established
    }

    /// Resets that bit, which localities 3 and 4 may (PTP 1.05, "TPM_ACCESS_x: tpmEstablishment").
    pub(super) const fn reset_established(&mut self, locality: u8) -> Result<(), Code> {
        if locality != 3 && locality != 4 {
            return Err(Code::BadLocality);
        }
        self.established = false;
        Ok(())
    }

    /// _TPM_Hash_Start.
    pub(super) fn hash_start(&mut self) {
        self.established = true;
        // A store that does not take this does not take what the TPM stores, either.
        let _ = self.forget_suspended();
        self.tpm.hash_start();
    }

    /// _TPM_Hash_Data.
    pub(super) fn hash_data(&mut self, data: &[u8]) {
        self.tpm.hash_data(data);
    }

    /// _TPM_Hash_End.
    pub(super) fn hash_end(&mut self) {
        self.tpm.hash_end();
    }
}

/// The locality and the command behind the simulator's prefix, if there is one: what does not begin with a command's tag.
fn split_prefix(message: &[u8]) -> Option<(u8, &[u8])> {
    if is_command(message) {
        return None;
    }
    let (prefix, command) = message.split_at_checked(PREFIX)?;
    let (word, rest) = prefix.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*word) == SEND_COMMAND).then_some((*rest.first()?, command))
}

fn is_command(message: &[u8]) -> bool {
    matches!(message.first_chunk::<2>().map(|tag| u16::from_be_bytes(*tag)), Some(st::NO_SESSIONS | st::SESSIONS))
}

/// How many bytes the message has that begins with `start`, as far as it says so itself: at least as many as it needs to
/// say it. A message with neither a command's tag nor the prefix says nothing.
pub(super) fn announced_length(start: &[u8]) -> Option<usize> {
    let skipped = if is_command(start) { 0 } else { split_prefix(start).map(|_| PREFIX)? };
    let Some(size) = start.get(skipped + 2..).and_then(|rest| rest.first_chunk::<4>()) else {
        return Some(skipped + HEADER);
    };
    usize::try_from(u32::from_be_bytes(*size)).ok()?.checked_add(skipped)
}

fn command_code(command: &[u8]) -> Option<u32> {
    command.get(6..)?.first_chunk::<4>().map(|code| u32::from_be_bytes(*code))
}

fn response_code(response: &[u8]) -> Option<Rc> {
    command_code(response).map(Rc)
}

/// A response without parameters.
fn error(code: Rc) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend(st::NO_SESSIONS.to_be_bytes());
    bytes.extend([0, 0, 0, 10]);
    bytes.extend(code.0.to_be_bytes());
    bytes
}

/// The simulator's frame around a response: its length before it, and four zeros after.
fn framed(response: Vec<u8>) -> Vec<u8> {
    let mut bytes = u32::try_from(response.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    bytes.extend(response);
    bytes.extend([0; 4]);
    bytes
}
