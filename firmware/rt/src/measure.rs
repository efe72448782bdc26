//! Hash, extend, log: one link of the measured chain at a time.

use alloc::vec::Vec;

use bulla_boot_abi::progress::Failure;
use bulla_tpm_types::eventlog::{EventLog, LogBuilder, LogError, LogFull, NewLogError, ev, startup_locality_event};
use bulla_tpm_types::hash::Hasher;
use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{DigestValues, HashAlg, StartupType, command};

use crate::crb::{Crb, CrbError, Registers};

/// Something that carries a command to the TPM and its response back.
pub trait Transport {
    /// Sends a command and gives the response.
    ///
    /// # Errors
    /// The TPM could not be talked to.
    fn transmit(&mut self, command: &[u8]) -> Result<&[u8], CrbError>;
}

impl<R: Registers> Transport for Crb<R> {
    fn transmit(&mut self, command: &[u8]) -> Result<&[u8], CrbError> {
        Self::transmit(self, command)
    }
}

/// Why something was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// The TPM could not be talked to.
    #[error(transparent)]
    Interface(#[from] CrbError),
    /// The TPM refused.
    #[error("{command}: {error}")]
    Refused {
        /// Which command.
        command: &'static str,
        /// What it answered.
        error: ResponseError,
    },
    /// The TPM has no active bank that this program can compute.
    #[error("the TPM has no active PCR bank of a known algorithm")]
    NoBank,
    /// The event log area is full.
    #[error(transparent)]
    Log(#[from] LogFull),
    /// The event log handed over is not one.
    #[error(transparent)]
    NewLog(#[from] NewLogError),
}

impl MeasureError {
    /// The failure to tell the monitor.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Interface(CrbError::Missing(_)) => Failure::TpmMissing,
            Self::Interface(_) | Self::Refused { .. } | Self::NoBank => Failure::TpmFailed,
            Self::Log(LogFull::MissingDigest(_)) => Failure::WindowItemMissing,
            Self::Log(_) => Failure::EventLogFull,
            Self::NewLog(_) => Failure::Handoff,
        }
    }
}

impl From<LogError> for MeasureError {
    fn from(error: LogError) -> Self {
        Self::NewLog(error.into())
    }
}

/// The digests of `data` in each of `banks`, in one pass over memory.
pub fn digests(banks: &[HashAlg], data: &[u8]) -> DigestValues {
    // Small enough to stay in the first-level cache until the last hasher has seen it.
    const CHUNK: usize = 16 << 10;
    let mut hashers: Vec<Hasher> = banks.iter().copied().map(Hasher::new).collect();
    for chunk in data.chunks(CHUNK) {
        hashers.iter_mut().for_each(|h| h.update(chunk));
    }
    let mut values = DigestValues::new();
    for hasher in hashers {
        let pushed = values.push(hasher.finish());
        debug_assert!(pushed, "there are as many places as algorithms");
    }
    values
}

/// A TPM and the event log that tells what was extended into it.
#[derive(Debug)]
pub struct Chain<'l, T> {
    tpm: T,
    banks: Vec<HashAlg>,
    log: LogBuilder<'l>,
}

impl<'l, T: Transport> Chain<'l, T> {
    /// Starts the TPM, asks for its active banks, and begins a log that says so and tells that an H-CRTM ran.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn start(mut tpm: T, log_area: &'l mut [u8]) -> Result<Self, MeasureError> {
        let refused = |command| move |error| MeasureError::Refused { command, error };
        let answer = tpm.transmit(&command::startup(StartupType::Clear))?;
        response::parse_empty(answer).map_err(refused("TPM2_Startup"))?;
        let answer = tpm.transmit(&command::get_capability_pcrs())?;
        let allocation = response::parse_capability_pcrs(answer).map_err(refused("TPM2_GetCapability"))?;
        let banks: Vec<HashAlg> = allocation.iter().filter(|s| !s.is_empty()).map(|s| s.alg).collect();
        if banks.is_empty() {
            return Err(MeasureError::NoBank);
        }
        let mut log = LogBuilder::new(log_area, &banks)?;
        // PFP §10.4.5.3: locality 4 tells that PCR 0 began with an H-CRTM sequence.
        log.append_no_action(0, &startup_locality_event(4))?;
        Ok(Self { tpm, banks, log })
    }

    /// Goes on with a TPM that was started and the first `used` bytes of a log.
    ///
    /// # Errors
    /// [`MeasureError::NewLog`].
    pub fn resume(tpm: T, log_area: &'l mut [u8], used: usize) -> Result<Self, MeasureError> {
        let written = log_area.get(..used).unwrap_or_default();
        let log = EventLog::parse(written)?;
        let spec_id = log.spec_id().ok_or(NewLogError::Legacy)?;
        let banks = spec_id.algs.iter().filter_map(|a| HashAlg::from_id(a.id)).collect();
        Ok(Self { tpm, banks, log: LogBuilder::resume(log_area, used)? })
    }

    /// The TPM's active banks.
    pub fn banks(&self) -> &[HashAlg] {
        &self.banks
    }

    /// Bytes of the log so far.
    pub fn log_len(&self) -> usize {
        self.log.len()
    }

    /// Logs what the TPM itself has extended into PCR 0.
    ///
    /// # Errors
    /// [`MeasureError::Log`], also if `digests` lacks a bank.
    pub fn log_hcrtm(&mut self, digests: &DigestValues, event: &[u8]) -> Result<(), MeasureError> {
        Ok(self.log.append(0, ev::EFI_HCRTM_EVENT, digests, event)?)
    }

    /// Measures `data` into a PCR and logs it as an event.
    ///
    /// # Errors
    /// [`MeasureError`]; the caller must not go on.
    pub fn measure(&mut self, pcr: u8, event_type: u32, data: &[u8], event: &[u8]) -> Result<(), MeasureError> {
        let digests = digests(&self.banks, data);
        self.extend(pcr, event_type, &digests, event)
    }

    /// Extends digests into a PCR and logs them as an event.
    ///
    /// # Errors
    /// [`MeasureError`]; the caller must not go on.
    pub fn extend(
        &mut self,
        pcr: u8,
        event_type: u32,
        digests: &DigestValues,
        event: &[u8],
    ) -> Result<(), MeasureError> {
        let answer = self.tpm.transmit(&command::pcr_extend(u32::from(pcr), digests))?;
        response::parse_empty(answer).map_err(|error| MeasureError::Refused { command: "TPM2_PCR_Extend", error })?;
        Ok(self.log.append(u32::from(pcr), event_type, digests, event)?)
    }
}
