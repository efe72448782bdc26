//! The CRB device.

use std::fmt;

use zeroize::Zeroizing;

use super::regs::*;
use super::state::{CrbState, VERSION};
use crate::devices::tpm::{Localities, MAX_SOFTWARE_LOCALITY, Port, TpmBackend, locate, may_reset_establishment};
use crate::devices::{MmioDevice, RestoreError, SaveRestore};

const DEVICE: &str = "TPM CRB interface";

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
    port: Port,
    // Volatile state.
    localities: Localities,
    idle: bool,
    error: bool,
    cancel: bool,
    /// Commands carry authorisation values: wiped when the interface goes idle, and at the end.
    buffer: Zeroizing<[u8; DATA_BUFFER_LEN]>,
}

impl fmt::Debug for Crb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crb")
            .field("active", &self.localities.active)
            .field("idle", &self.idle)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl Crb {
    /// The interface at guest-physical address `base` to `backend`.
    pub fn new(base: u64, backend: Box<dyn TpmBackend>) -> Self {
        Self {
            base,
            port: Port::new(backend),
            localities: Localities::default(),
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
    fn read_register(&mut self, locality: u8, reg: u16) -> u32 {
        let flag = |condition: bool, bit: u32| if condition { bit } else { 0 };
        let address = self.buffer_address(locality);
        match reg {
            LOC_STATE => {
                let active = u32::from(self.localities.active.unwrap_or(0)) << LOC_STATE_ACTIVE_SHIFT;
                let assigned = flag(self.localities.active.is_some(), LOC_STATE_ASSIGNED);
                let untouched = flag(!self.port.established(), LOC_STATE_NOT_ESTABLISHED);
                LOC_STATE_VALID | untouched | assigned | active
            }
            LOC_STS => {
                flag(self.localities.active == Some(locality), LOC_STS_GRANTED)
                    | flag(self.localities.seized >> locality & 1 != 0, LOC_STS_SEIZED)
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
    fn read_byte(&mut self, locality: u8, offset: u16) -> u8 {
        match offset.checked_sub(DATA_BUFFER) {
            Some(index) if self.localities.active == Some(locality) => {
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
        if self.localities.active != Some(locality) {
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
        let mut changed = false;
        if value & LOC_CTRL_RESET_ESTABLISHMENT != 0
            && self.localities.active == Some(locality)
            && may_reset_establishment(locality)
        {
            self.port.reset_established(locality);
        }
        if value & LOC_CTRL_REQUEST != 0 {
            self.localities.seized &= !(1 << locality);
            changed |= self.localities.request(locality);
        }
        if value & LOC_CTRL_SEIZE != 0 {
            changed |= self.localities.seize(locality);
        }
        if value & LOC_CTRL_RELINQUISH != 0 {
            changed |= self.localities.relinquish(locality);
        }
        if changed {
            self.go_idle();
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
        let response = self.port.exchange(locality, &*self.buffer, DATA_BUFFER_LEN, self.cancel);
        self.buffer.fill(0);
        self.error = response.is_err();
        for (place, byte) in self.buffer.iter_mut().zip(response.iter().flat_map(|bytes| bytes.iter())) {
            *place = *byte;
        }
    }
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
                if self.localities.active == Some(locality)
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
            active: self.localities.active,
            requested: self.localities.requested,
            seized: self.localities.seized,
            idle: self.idle,
            error: self.error,
            cancel: self.cancel,
            buffer: self.buffer.to_vec(),
        }
    }

    fn restore(&mut self, state: &CrbState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        let invalid = |field| RestoreError::Invalid { device: DEVICE, field };
        let localities = Localities { active: state.active, requested: state.requested, seized: state.seized };
        if let Some(field) = localities.impossible(MAX_SOFTWARE_LOCALITY) {
            return Err(invalid(field));
        }
        let buffer = state.buffer.as_slice().try_into().map_err(|_| invalid("buffer"))?;
        *self.buffer = buffer;
        self.localities = localities;
        self.idle = state.idle;
        self.error = state.error;
        self.cancel = state.cancel;
        self.port.forget();
        Ok(())
    }

    fn reset(&mut self) {
        self.localities = Localities::default();
        self.port.forget();
        self.error = false;
        self.go_idle();
    }
}
