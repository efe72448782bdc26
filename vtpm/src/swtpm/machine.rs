//! The TPM as swtpm's clients see it: with power that comes and goes, a current locality and the bit of the
//! dynamic root of trust.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulla_tpm_types::{Rc, StartupType, cc, command, rc, response, st};
use bulla_vtpm_client::Locality;

use super::code::Code;
use super::options::Localities;
use crate::engine::Tpm;

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
    /// A machine whose TPM is off.
    pub(super) fn new(mut tpm: Tpm, localities: Localities, auto_shutdown: bool) -> Self {
        let cancel = Arc::new(AtomicBool::new(false));
        tpm.set_cancel(Box::new(Arc::clone(&cancel)));
        Self {
            tpm,
            power: Arc::default(),
            cancel,
            locality: Locality::ZERO,
            localities,
            auto_shutdown,
            established: false,
            last: None,
        }
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

    /// _TPM_Init: power comes on, or goes and comes on again.
    pub(super) fn power_on(&mut self) {
        self.power_off();
        self.tpm.init();
        self.established = false;
        self.last = None;
        self.power.store(true, Ordering::Release);
    }

    /// Power goes, after a TPM2_Shutdown if the client has left that out and it is not forbidden.
    pub(super) fn power_off(&mut self) {
        if !self.is_running() {
            return;
        }
        if self.auto_shutdown && self.last != Some(cc::SHUTDOWN) {
            self.cancel.store(false, Ordering::Relaxed);
            let state = self.tpm.execute(0, &command::shutdown(StartupType::State));
            if response::parse_empty(&state).is_err() {
                // Before TPM2_Startup, or in failure mode, this one fails too, and nothing is lost by that.
                let _ = self.tpm.execute(0, &command::shutdown(StartupType::Clear));
            }
        }
        self.power.store(false, Ordering::Release);
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
        self.last = Some(code);
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
