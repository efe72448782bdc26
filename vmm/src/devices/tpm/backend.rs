//! The TPM behind an interface.

use std::fmt;

use zeroize::Zeroizing;

/// Why a backend could not carry out a command (the TPM itself answered nothing).
pub type TpmBackendError = Box<dyn std::error::Error + Send + Sync>;

/// The TPM behind the interface: the signals that a TPM gets from its platform.
///
/// All but commands have a meaning by default that fits a TPM that has none of the rest: no dynamic launch has
/// happened, and none can be begun.
pub trait TpmBackend: Send {
    /// Carries out `command`, whose length is what its header says, and returns the response.
    ///
    /// # Errors
    /// Only if there is no response; a TPM that refuses a command answers with a response code.
    fn execute(&mut self, locality: u8, command: &[u8]) -> Result<Vec<u8>, TpmBackendError>;

    /// Whether a dynamic launch has happened since the mark was last reset (TPM_ACCESS_x.tpmEstablishment).
    ///
    /// # Errors
    /// Only if there is no answer.
    fn established(&mut self) -> Result<bool, TpmBackendError> {
        Ok(false)
    }

    /// Resets that mark, on behalf of `locality`.
    ///
    /// # Errors
    /// Only if there is no answer.
    fn reset_established(&mut self, locality: u8) -> Result<(), TpmBackendError> {
        let _ = locality;
        Ok(())
    }

    /// `_TPM_Hash_Start`: a dynamic launch begins.
    ///
    /// # Errors
    /// The TPM cannot do that.
    fn hash_start(&mut self) -> Result<(), TpmBackendError> {
        Err("this TPM has no hash interface".into())
    }

    /// `_TPM_Hash_Data`.
    ///
    /// # Errors
    /// The TPM cannot do that.
    fn hash_data(&mut self, data: &[u8]) -> Result<(), TpmBackendError> {
        let _ = data;
        Err("this TPM has no hash interface".into())
    }

    /// `_TPM_Hash_End`.
    ///
    /// # Errors
    /// The TPM cannot do that.
    fn hash_end(&mut self) -> Result<(), TpmBackendError> {
        Err("this TPM has no hash interface".into())
    }
}

/// Bytes of a command or response header: tag, size, code (TPM 2.0 Part 1, section 16).
pub(in crate::devices) const HEADER_LEN: usize = 10;
/// TPM_RC_COMMAND_SIZE (Part 2, section 6.6.3).
const RC_COMMAND_SIZE: u32 = 0x142;
/// TPM_RC_CANCELED.
const RC_CANCELED: u32 = 0x909;
/// TPM_RC_FAILURE.
const RC_FAILURE: u32 = 0x101;
/// TPM_ST_NO_SESSIONS.
const ST_NO_SESSIONS: u16 = 0x8001;

/// The 32-bit big-endian number at `offset` of a command or response.
pub(in crate::devices) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Length field of a command or response header, if it is at least a header long.
fn header_size(bytes: &[u8]) -> Option<usize> {
    be32(bytes, 2).and_then(|size| usize::try_from(size).ok()).filter(|size| *size >= HEADER_LEN)
}

/// A response that is nothing but a code.
fn bare_response(code: u32) -> Vec<u8> {
    let mut response = Vec::with_capacity(HEADER_LEN);
    response.extend(ST_NO_SESSIONS.to_be_bytes());
    response.extend((HEADER_LEN as u32).to_be_bytes());
    response.extend(code.to_be_bytes());
    response
}

/// A backend with what an interface has to know of it: it checks what goes out and what comes back, and keeps the log
/// from being filled by a guest that goes on trying.
pub(in crate::devices) struct Port {
    backend: Box<dyn TpmBackend>,
    failure_logged: bool,
    /// What the TPM last said of a dynamic launch. Only what goes through this port changes it while the guest runs.
    established: Option<bool>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").finish_non_exhaustive()
    }
}

/// No response came, or none that can be handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::devices) struct NoResponse;

impl NoResponse {
    /// What an interface without a place for errors answers instead.
    pub(in crate::devices) fn as_response(self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(bare_response(RC_FAILURE))
    }
}

impl Port {
    pub(in crate::devices) fn new(backend: Box<dyn TpmBackend>) -> Self {
        Self { backend, failure_logged: false, established: None }
    }

    /// Carries out the command at the beginning of `buffer`; the response has `most` bytes at most.
    pub(in crate::devices) fn exchange(
        &mut self,
        locality: u8,
        buffer: &[u8],
        most: usize,
        cancelled: bool,
    ) -> Result<Zeroizing<Vec<u8>>, NoResponse> {
        let command = header_size(buffer).and_then(|size| buffer.get(..size));
        let response = match command {
            _ if cancelled => Ok(bare_response(RC_CANCELED)),
            None => Ok(bare_response(RC_COMMAND_SIZE)),
            Some(command) => self.backend.execute(locality, command),
        };
        let reason = match response.map(Zeroizing::new) {
            Err(error) => error.to_string(),
            Ok(bytes) if header_size(&bytes) != Some(bytes.len()) => "response with a bad header".to_owned(),
            Ok(bytes) if bytes.len() > most => "response larger than the buffer".to_owned(),
            Ok(bytes) => return Ok(bytes),
        };
        self.log(&reason);
        Err(NoResponse)
    }

    /// Whether a dynamic launch has happened. A TPM that does not answer has had none that could be told of.
    pub(in crate::devices) fn established(&mut self) -> bool {
        if let Some(known) = self.established {
            return known;
        }
        let answer = self.backend.established();
        let known = self.done(answer).unwrap_or(false);
        *self.established.insert(known)
    }

    pub(in crate::devices) fn reset_established(&mut self, locality: u8) {
        self.established = None;
        let answer = self.backend.reset_established(locality);
        let _ = self.done(answer);
    }

    /// Whether the TPM took the signal.
    pub(in crate::devices) fn hash_start(&mut self) -> bool {
        self.established = None;
        let answer = self.backend.hash_start();
        self.done(answer).is_some()
    }

    pub(in crate::devices) fn hash_data(&mut self, data: &[u8]) {
        let answer = self.backend.hash_data(data);
        let _ = self.done(answer);
    }

    pub(in crate::devices) fn hash_end(&mut self) {
        self.established = None;
        let answer = self.backend.hash_end();
        let _ = self.done(answer);
    }

    /// The machine was reset: what was known of the TPM may be old.
    pub(in crate::devices) fn forget(&mut self) {
        self.established = None;
    }

    fn done<T>(&mut self, answer: Result<T, TpmBackendError>) -> Option<T> {
        answer.map_err(|error| self.log(&error.to_string())).ok()
    }

    fn log(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.failure_logged, true) {
            tracing::error!(reason, "the TPM gave no answer");
        }
    }
}
