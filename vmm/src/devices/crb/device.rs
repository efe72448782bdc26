//! The CRB device.

use std::fmt;

use zeroize::Zeroizing;

use super::regs::*;
use super::state::{CrbState, VERSION};
use crate::devices::{MmioDevice, RestoreError, SaveRestore};

/// The highest locality that software in the guest can get. Locality 4 belongs to the hardware that starts a dynamic
/// root of trust (PTP section 6.2): a guest that could have it could reset and forge PCRs 17–20.
pub const MAX_SOFTWARE_LOCALITY: u8 = 3;

/// Why a backend could not carry out a command (the TPM itself answered nothing).
pub type TpmBackendError = Box<dyn std::error::Error + Send + Sync>;

/// The TPM behind the interface.
pub trait TpmBackend: Send {
    /// Carries out `command`, whose length is what its header says, and returns the response.
    ///
    /// # Errors
    /// Only if there is no response; a TPM that refuses a command answers with a response code.
    fn execute(&mut self, locality: u8, command: &[u8]) -> Result<Vec<u8>, TpmBackendError>;
}

/// Bytes of a command or response header: tag, size, code (TPM 2.0 Part 1, section 16).
const HEADER_LEN: usize = 10;
/// TPM_RC_COMMAND_SIZE (Part 2, section 6.6.3).
const RC_COMMAND_SIZE: u32 = 0x142;
/// TPM_RC_CANCELED.
const RC_CANCELED: u32 = 0x909;
/// TPM_ST_NO_SESSIONS.
const ST_NO_SESSIONS: u16 = 0x8001;

const DEVICE: &str = "TPM CRB interface";
const LOCALITY_MASK: u8 = (1 << LOCALITIES) - 1;

/// The CRB interface of one TPM.
///
/// A command runs inside the write to CTRL_START, on the vCPU's thread, so the states Ready, Reception and Completion
/// (PTP section 6.5.3.7) look the same from outside and are one here: not idle. That is right while the commands are
/// short (tens of microseconds, an ECC signature about one millisecond). Commands of seconds (RSA key generation)
/// would want `start` to hand the command to a worker and CTRL_START and CTRL_CANCEL to reflect it: a fifth state,
/// and nothing else in this file changes.
pub struct Crb {
    // Configuration.
    base: u64,
    // Glue.
    backend: Box<dyn TpmBackend>,
    /// The log has been told of a failing backend; a guest that goes on trying must not fill it.
    failure_logged: bool,
    // Volatile state.
    active: Option<u8>,
    requested: u8,
    seized: u8,
    idle: bool,
    error: bool,
    cancel: bool,
    /// Commands carry authorisation values: wiped when the interface goes idle, and at the end.
    buffer: Zeroizing<[u8; DATA_BUFFER_LEN]>,
}

impl fmt::Debug for Crb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crb")
            .field("active", &self.active)
            .field("idle", &self.idle)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// The 32-bit big-endian number at `offset` of a command or response.
fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
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

impl Crb {
    /// The interface at guest-physical address `base` to `backend`.
    pub fn new(base: u64, backend: Box<dyn TpmBackend>) -> Self {
        Self {
            base,
            backend,
            failure_logged: false,
            active: None,
            requested: 0,
            seized: 0,
            idle: true,
            error: false,
            cancel: false,
            buffer: Zeroizing::new([0; DATA_BUFFER_LEN]),
        }
    }

    /// Where the data buffer of `locality` is.
    fn buffer_address(&self, locality: u8) -> u64 {
        self.base.wrapping_add(u64::from(locality) * LOCALITY_LEN).wrapping_add(DATA_BUFFER.into())
    }

    /// The register that begins at `reg`. Reading has no side effects. Reserved registers read as all ones.
    fn read_register(&self, locality: u8, reg: u16) -> u32 {
        let flag = |condition: bool, bit: u32| if condition { bit } else { 0 };
        let address = self.buffer_address(locality);
        match reg {
            LOC_STATE => {
                let active = u32::from(self.active.unwrap_or(0)) << LOC_STATE_ACTIVE_SHIFT;
                let assigned = flag(self.active.is_some(), LOC_STATE_ASSIGNED);
                LOC_STATE_VALID | LOC_STATE_NOT_ESTABLISHED | assigned | active
            }
            LOC_STS => {
                flag(self.active == Some(locality), LOC_STS_GRANTED)
                    | flag(self.seized >> locality & 1 != 0, LOC_STS_SEIZED)
            }
            INTF_ID => INTF_ID_VALUE,
            INTF_ID_HIGH => INTF_ID_HIGH_VALUE,
            CTRL_STS => flag(self.error, STS_ERROR) | flag(self.idle, STS_IDLE),
            CTRL_CANCEL => flag(self.cancel, CANCEL),
            // Request bits and START clear as soon as they are served, which is at once. There are no interrupts.
            LOC_CTRL | CTRL_EXT | CTRL_EXT_HIGH | CTRL_REQ | CTRL_START | INT_ENABLE | INT_STS => 0,
            CMD_SIZE | RSP_SIZE => DATA_BUFFER_LEN as u32,
            CMD_LADDR | RSP_LADDR => address as u32,
            CMD_HADDR | RSP_HADDR => (address >> 32) as u32,
            _ => u32::MAX,
        }
    }

    /// One byte of the interface; the data buffer is seen only by the locality that has the TPM.
    fn read_byte(&self, locality: u8, offset: u16) -> u8 {
        match offset.checked_sub(DATA_BUFFER) {
            Some(index) if self.active == Some(locality) => {
                self.buffer.get(usize::from(index)).copied().unwrap_or(0xFF)
            }
            Some(_) => 0xFF,
            None => self.read_register(locality, offset & !3).to_le_bytes()[usize::from(offset & 3)],
        }
    }

    /// A write to the register that begins at `reg`. Bytes that were not written are zero in `value` and in `mask`;
    /// all registers that do something do it when a bit is *set*, so a byte-wise write sets off nothing twice.
    fn write_register(&mut self, locality: u8, reg: u16, value: u32, mask: u32) {
        if reg == LOC_CTRL {
            self.locality_control(locality, value);
            return;
        }
        if self.active != Some(locality) {
            return;
        }
        match reg {
            CTRL_REQ => match (value & REQ_CMD_READY != 0, value & REQ_GO_IDLE != 0) {
                (true, false) if self.idle => {
                    self.idle = false;
                    self.error = false;
                }
                (false, true) => self.go_idle(),
                // Ready already; or both bits, which the PTP forbids: nothing happens.
                _ => {}
            },
            CTRL_CANCEL if mask & CANCEL != 0 => self.cancel = value & CANCEL != 0,
            CTRL_START if value & START != 0 && !self.idle => self.start(locality),
            // EDK2 writes the buffer's address and size; they are what they are.
            _ => {}
        }
    }

    /// LOC_CTRL (PTP section 6.5.3.3 and the locality rules of section 6.2).
    fn locality_control(&mut self, locality: u8, value: u32) {
        let bit = 1_u8 << locality;
        if locality > MAX_SOFTWARE_LOCALITY {
            return;
        }
        if value & LOC_CTRL_REQUEST != 0 {
            self.seized &= !bit;
            match self.active {
                None => self.active = Some(locality),
                Some(active) if active != locality => self.requested |= bit,
                Some(_) => {}
            }
        }
        if value & LOC_CTRL_SEIZE != 0
            && let Some(active) = self.active.filter(|active| *active < locality)
        {
            self.seized |= 1 << active;
            self.requested &= !bit;
            self.go_idle();
            self.active = Some(locality);
        }
        if value & LOC_CTRL_RELINQUISH != 0 {
            self.requested &= !bit;
            if self.active == Some(locality) {
                self.go_idle();
                // The highest of those that wait gets it.
                self.active = (0..LOCALITIES).rev().find(|l| self.requested >> l & 1 != 0);
                if let Some(next) = self.active {
                    self.requested &= !(1 << next);
                }
            }
        }
    }

    /// To Idle: what was in the buffer is gone.
    fn go_idle(&mut self) {
        self.idle = true;
        self.cancel = false;
        self.buffer.fill(0);
    }

    /// Sends the command in the buffer and puts the response there.
    fn start(&mut self, locality: u8) {
        let command = header_size(&*self.buffer).and_then(|size| self.buffer.get(..size));
        let response = match command {
            _ if self.cancel => Ok(bare_response(RC_CANCELED)),
            None => Ok(bare_response(RC_COMMAND_SIZE)),
            Some(command) => self.backend.execute(locality, command),
        };
        let response = response.map(Zeroizing::new);
        self.buffer.fill(0);
        let failure = match &response {
            Err(error) => Some(error.to_string()),
            Ok(bytes) if header_size(bytes) != Some(bytes.len()) => Some("response with a bad header".to_owned()),
            Ok(bytes) => match self.buffer.get_mut(..bytes.len()) {
                Some(place) => {
                    place.copy_from_slice(bytes);
                    None
                }
                None => Some("response larger than the buffer".to_owned()),
            },
        };
        self.error = failure.is_some();
        if let Some(reason) = failure
            && !std::mem::replace(&mut self.failure_logged, true)
        {
            tracing::error!(locality, reason, "TPM command failed");
        }
    }
}

/// Locality and offset within it, of an offset from the base.
fn locate(offset: u64) -> Option<(u8, u16)> {
    let locality = u8::try_from(offset / LOCALITY_LEN).ok().filter(|l| *l < LOCALITIES)?;
    Some((locality, (offset % LOCALITY_LEN) as u16))
}

impl MmioDevice for Crb {
    fn mmio_read(&mut self, offset: u64, data: &mut [u8]) {
        for (byte, offset) in data.iter_mut().zip(offset..=u64::MAX) {
            if let Some((locality, offset)) = locate(offset) {
                *byte = self.read_byte(locality, offset);
            }
        }
    }

    /// Registers are written one after the other, lowest first, each with those of its bytes that the access covers.
    fn mmio_write(&mut self, offset: u64, data: &[u8]) {
        let mut bytes = data.iter().zip(offset..=u64::MAX).peekable();
        while let Some((byte, at)) = bytes.next() {
            let Some((locality, offset)) = locate(at) else { return };
            if let Some(index) = offset.checked_sub(DATA_BUFFER) {
                if self.active == Some(locality)
                    && !self.idle
                    && let Some(place) = self.buffer.get_mut(usize::from(index))
                {
                    *place = *byte;
                }
                continue;
            }
            let shift = u32::from(offset & 3) * 8;
            let (mut value, mut mask) = (u32::from(*byte) << shift, 0xFF << shift);
            while let Some((byte, at)) = bytes.next_if(|(_, at)| at & 3 != 0) {
                let shift = (at & 3) as u32 * 8;
                value |= u32::from(*byte) << shift;
                mask |= 0xFF << shift;
            }
            self.write_register(locality, offset & !3, value, mask);
        }
    }
}

impl SaveRestore for Crb {
    type State = CrbState;

    fn save(&self) -> CrbState {
        CrbState {
            version: VERSION,
            active: self.active,
            requested: self.requested,
            seized: self.seized,
            idle: self.idle,
            error: self.error,
            cancel: self.cancel,
            buffer: self.buffer.to_vec(),
        }
    }

    fn restore(&mut self, state: &CrbState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        let invalid = |field| RestoreError::Invalid { device: DEVICE, field };
        if state.active.is_some_and(|l| l > MAX_SOFTWARE_LOCALITY) {
            return Err(invalid("active"));
        }
        if state.requested & !LOCALITY_MASK != 0 || state.requested >> (MAX_SOFTWARE_LOCALITY + 1) != 0 {
            return Err(invalid("requested"));
        }
        if state.seized & !LOCALITY_MASK != 0 {
            return Err(invalid("seized"));
        }
        let buffer = state.buffer.as_slice().try_into().map_err(|_| invalid("buffer"))?;
        *self.buffer = buffer;
        self.active = state.active;
        self.requested = state.requested;
        self.seized = state.seized;
        self.idle = state.idle;
        self.error = state.error;
        self.cancel = state.cancel;
        Ok(())
    }

    fn reset(&mut self) {
        self.active = None;
        self.requested = 0;
        self.seized = 0;
        self.error = false;
        self.go_idle();
    }
}
