//! The FIFO device.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::regs::*;
use super::state::{TisPhase, TisState, VERSION};
use crate::devices::tpm::{
    HEADER_LEN, Localities, MAX_SOFTWARE_LOCALITY, Port, TpmBackend, be32, locate, may_reset_establishment,
};
use crate::devices::{IrqLine, MmioDevice, RestoreError, SaveRestore};

const DEVICE: &str = "TPM FIFO interface";
/// The locality of the hash interface.
const HASH_LOCALITY: u8 = 4;
/// Most bytes in a command and in a response.
pub(super) const BUFFER_LEN: usize = 4096;

/// The FIFO interface of one TPM.
///
/// A command runs inside the write of tpmGo, on the vCPU's thread; so the state of Execution is never seen, and
/// commandCancel always comes too late, as it may (PTP: the TPM may finish the command).
pub struct Tis {
    // Configuration.
    irq: u8,
    hash_interface: bool,
    // Glue.
    port: Port,
    line: Arc<dyn IrqLine>,
    // Volatile state.
    localities: Localities,
    phase: TisPhase,
    /// In Reception the command, in Completion the response. Both carry secrets: wiped.
    buffer: Zeroizing<Vec<u8>>,
    read: usize,
    int_enable: u32,
    int_vector: u8,
    int_status: u32,
}

impl fmt::Debug for Tis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tis")
            .field("active", &self.localities.active)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Tis {
    /// The interface to `backend`. `line` is wired to interrupt request `irq`; a guest that writes another number into
    /// INT_VECTOR gets no interrupts.
    pub fn new(backend: Box<dyn TpmBackend>, irq: u8, line: Arc<dyn IrqLine>) -> Self {
        Self {
            irq,
            hash_interface: false,
            port: Port::new(backend),
            line,
            localities: Localities::default(),
            phase: TisPhase::Idle,
            // All that it can take, so that no secret is left behind where it moved from.
            buffer: Zeroizing::new(Vec::with_capacity(BUFFER_LEN)),
            read: 0,
            int_enable: 0,
            int_vector: 0,
            int_status: 0,
        }
    }

    /// Opens locality 4's hash interface. On a PC it is reached by special cycles of a processor that starts a dynamic
    /// launch (GETSEC[SENTER], SKINIT). bulla's processors have no such instruction, so its machines leave it closed: whoever
    /// can write to it can forge PCRs 17–22. It is for owners who stand in for the processor.
    #[must_use]
    pub fn with_hash_interface(self) -> Self {
        Self { hash_interface: true, ..self }
    }

    /// How many bytes of the command are still to come, at the least.
    fn missing(&self) -> usize {
        match be32(&self.buffer, 2).map(usize::try_from) {
            None => HEADER_LEN.saturating_sub(self.buffer.len()),
            Some(Ok(size)) if (HEADER_LEN..=BUFFER_LEN).contains(&size) => size.saturating_sub(self.buffer.len()),
            // No such command can be: the answer tells, when it is asked for.
            Some(_) => 0,
        }
    }

    fn access(&mut self, locality: u8) -> u8 {
        let flag = |condition: bool, bit: u8| if condition { bit } else { 0 };
        let Localities { active, requested, seized } = self.localities;
        let own = 1 << locality;
        ACCESS_VALID
            | flag(active == Some(locality), ACCESS_ACTIVE)
            | flag(seized & own != 0, ACCESS_BEEN_SEIZED)
            | flag(requested & !own != 0, ACCESS_PENDING_REQUEST)
            | flag(requested & own != 0, ACCESS_REQUEST_USE)
            | flag(!self.port.established(), ACCESS_NOT_ESTABLISHED)
    }

    fn status(&self) -> u32 {
        let (flags, burst) = match self.phase {
            TisPhase::Idle => (0, 0),
            TisPhase::Ready => (STS_COMMAND_READY, BUFFER_LEN),
            TisPhase::Reception if self.missing() > 0 => (STS_EXPECT, BUFFER_LEN.saturating_sub(self.buffer.len())),
            TisPhase::Reception => (0, 0),
            TisPhase::Completion => match self.buffer.len().saturating_sub(self.read) {
                0 => (0, 0),
                left => (STS_DATA_AVAIL, left),
            },
        };
        let burst = u32::from(u16::try_from(burst).unwrap_or(u16::MAX)) << STS_BURST_SHIFT;
        STS_FAMILY_2 | STS_VALID | STS_SELF_TEST_DONE | flags | burst
    }

    /// The register that begins at `reg`; reading one has no side effects. Reserved registers, and reserved bytes beside the
    /// registers of one byte, read as all ones; so do STS and the FIFO for who does not have the TPM.
    fn read_register(&mut self, locality: u8, reg: u16) -> u32 {
        let byte = |byte: u8| u32::from(byte) | 0xFFFF_FF00;
        match reg {
            ACCESS => byte(self.access(locality)),
            INT_ENABLE => self.int_enable,
            INT_VECTOR => byte(self.int_vector),
            INT_STATUS => self.int_status,
            INTF_CAPABILITY => INTF_CAPABILITY_VALUE,
            STS if self.localities.active == Some(locality) => self.status(),
            INTERFACE_ID => INTERFACE_ID_VALUE,
            DID_VID => DID_VID_VALUE,
            RID => byte(RID_VALUE),
            _ => u32::MAX,
        }
    }

    fn read_byte(&mut self, locality: u8, offset: u16) -> u8 {
        if is_fifo(offset) && locality != HASH_LOCALITY {
            return self.pop(locality).unwrap_or(0xFF);
        }
        self.read_register(locality, offset & !3).to_le_bytes()[usize::from(offset & 3)]
    }

    /// The next byte of the response.
    fn pop(&mut self, locality: u8) -> Option<u8> {
        if self.localities.active != Some(locality) || self.phase != TisPhase::Completion {
            return None;
        }
        let byte = *self.buffer.get(self.read)?;
        self.read += 1;
        Some(byte)
    }

    /// The next byte of a command.
    fn push(&mut self, locality: u8, byte: u8) {
        if self.localities.active != Some(locality) {
            return;
        }
        match self.phase {
            TisPhase::Ready => self.phase = TisPhase::Reception,
            TisPhase::Reception if self.missing() > 0 => {}
            _ => return,
        }
        self.buffer.push(byte);
    }

    /// A write to the register that begins at `reg`. Bytes that were not written are zero in `value` and in `mask`;
    /// all registers that do something do it when a bit is *set*, so a byte-wise write sets off nothing twice.
    fn write_register(&mut self, locality: u8, reg: u16, value: u32, mask: u32) {
        if reg == ACCESS {
            self.write_access(locality, value as u8);
            return;
        }
        if self.localities.active != Some(locality) {
            return;
        }
        match reg {
            INT_ENABLE => {
                let writable = mask & (INT_GLOBAL | INT_TYPE_POLARITY | INT_ALL);
                self.int_enable = self.int_enable & !writable | value & writable;
                self.drive_line();
            }
            INT_VECTOR if mask & 0xFF != 0 => {
                self.int_vector = value as u8 & 0xF;
                self.drive_line();
            }
            INT_STATUS => {
                self.int_status &= !value;
                self.drive_line();
            }
            STS => self.write_status(locality, value),
            _ => {}
        }
    }

    /// TPM_ACCESS_x (PTP section 6.5.2.4 and the locality rules of section 6.2).
    fn write_access(&mut self, locality: u8, value: u8) {
        let mut changed = false;
        if value & ACCESS_ACTIVE != 0 {
            changed |= self.localities.relinquish(locality);
        }
        if value & ACCESS_BEEN_SEIZED != 0 {
            self.localities.seized &= !(1 << locality);
        }
        if value & ACCESS_SEIZE != 0 {
            changed |= self.localities.seize(locality);
        }
        if value & ACCESS_REQUEST_USE != 0 {
            changed |= self.localities.request(locality);
        }
        if changed {
            self.go_idle();
            if self.localities.active.is_some() {
                self.signal(INT_LOCALITY_CHANGE);
            }
        }
    }

    /// TPM_STS_x.
    fn write_status(&mut self, locality: u8, value: u32) {
        if value & STS_RESET_ESTABLISHMENT != 0 && may_reset_establishment(locality) {
            self.port.reset_established(locality);
        }
        // At most one of these three at a time has a meaning.
        match value & (STS_COMMAND_READY | STS_GO | STS_RESPONSE_RETRY) {
            STS_COMMAND_READY if self.phase != TisPhase::Ready => {
                self.go_idle();
                self.phase = TisPhase::Ready;
                self.signal(INT_COMMAND_READY);
            }
            STS_GO if self.phase == TisPhase::Reception && self.missing() == 0 => self.go(locality),
            STS_RESPONSE_RETRY if self.phase == TisPhase::Completion => self.read = 0,
            _ => {}
        }
    }

    /// Sends the command and puts the response in its place.
    fn go(&mut self, locality: u8) {
        let response = self.port.exchange(locality, &self.buffer, BUFFER_LEN, false);
        let response = response.unwrap_or_else(|none| none.as_response());
        self.go_idle();
        self.buffer.extend_from_slice(&response);
        self.phase = TisPhase::Completion;
        self.signal(INT_DATA_AVAIL | INT_STS_VALID);
    }

    /// To Idle: what was in the FIFO is gone.
    fn go_idle(&mut self) {
        use zeroize::Zeroize as _;
        self.buffer.zeroize();
        self.read = 0;
        self.phase = TisPhase::Idle;
    }

    fn signal(&mut self, events: u32) {
        if self.int_enable & INT_GLOBAL != 0 {
            self.int_status |= events & self.int_enable;
            self.drive_line();
        }
    }

    fn drive_line(&self) {
        let on = self.int_enable & INT_GLOBAL != 0 && self.int_vector == self.irq;
        self.line.set_level(on && self.int_status != 0);
    }

    /// A write of `data` to the hash interface, `offset` being in one of its registers (PTP section 6.5.2.9, "Hash
    /// interface"). What is written to HASH_START and HASH_END has no meaning.
    fn write_hash(&mut self, offset: u16, data: &[u8]) {
        if !self.hash_interface {
            return;
        }
        match offset & !3 {
            HASH_START => {
                // Whoever has the TPM loses it, and what it was about.
                self.go_idle();
                if self.port.hash_start() {
                    self.localities.take(HASH_LOCALITY);
                }
            }
            HASH_DATA if self.localities.active == Some(HASH_LOCALITY) => self.port.hash_data(data),
            HASH_END if self.localities.active == Some(HASH_LOCALITY) => {
                self.port.hash_end();
                self.localities.pass_on();
            }
            _ => {}
        }
    }
}

/// Whether the byte at `offset` is one of those that lead to the FIFO.
fn is_fifo(offset: u16) -> bool {
    (DATA_FIFO..DATA_FIFO + 4).contains(&offset) || (XDATA_FIFO..XDATA_FIFO_END).contains(&offset)
}

impl MmioDevice for Tis {
    fn mmio_read(&mut self, offset: u64, data: &mut [u8]) {
        for (byte, offset) in data.iter_mut().zip(offset..=u64::MAX) {
            if let Some((locality, offset)) = locate(offset) {
                *byte = self.read_byte(locality, offset);
            }
        }
    }

    /// Registers are written one after the other, lowest first, each with those of its bytes that the access covers.
    fn mmio_write(&mut self, offset: u64, data: &[u8]) {
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let Some((locality, offset)) = locate(at) else { return };
            let len = rest.len().min(4 - usize::from(offset & 3));
            let (bytes, behind) = rest.split_at(len);
            if locality == HASH_LOCALITY && (HASH_END..HASH_START + 4).contains(&offset) {
                self.write_hash(offset, bytes);
            } else if is_fifo(offset) {
                bytes.iter().for_each(|byte| self.push(locality, *byte));
            } else {
                let (mut value, mut mask) = (0, 0);
                for (byte, shift) in bytes.iter().zip((u32::from(offset & 3) * 8..).step_by(8)) {
                    value |= u32::from(*byte) << shift;
                    mask |= 0xFF << shift;
                }
                self.write_register(locality, offset & !3, value, mask);
            }
            rest = behind;
            // No access comes near the end of the address space: locate() has seen it.
            at += len as u64;
        }
    }
}

impl SaveRestore for Tis {
    type State = TisState;

    fn save(&self) -> TisState {
        TisState {
            version: VERSION,
            active: self.localities.active,
            requested: self.localities.requested,
            seized: self.localities.seized,
            phase: self.phase,
            buffer: self.buffer.to_vec(),
            read: self.read,
            int_enable: self.int_enable,
            int_vector: self.int_vector,
            int_status: self.int_status,
        }
    }

    fn restore(&mut self, state: &TisState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        let invalid = |field| RestoreError::Invalid { device: DEVICE, field };
        let localities = Localities { active: state.active, requested: state.requested, seized: state.seized };
        let highest = if self.hash_interface { HASH_LOCALITY } else { MAX_SOFTWARE_LOCALITY };
        if let Some(field) = localities.impossible(highest) {
            return Err(invalid(field));
        }
        let in_use = matches!(state.phase, TisPhase::Reception | TisPhase::Completion);
        if state.buffer.len() > BUFFER_LEN || state.buffer.is_empty() == in_use {
            return Err(invalid("buffer"));
        }
        let most = if state.phase == TisPhase::Completion { state.buffer.len() } else { 0 };
        if state.read > most {
            return Err(invalid("read"));
        }
        if state.int_enable & !(INT_GLOBAL | INT_TYPE_POLARITY | INT_ALL) != 0 {
            return Err(invalid("int_enable"));
        }
        if state.int_vector > 0xF {
            return Err(invalid("int_vector"));
        }
        if state.int_status & !INT_ALL != 0 {
            return Err(invalid("int_status"));
        }
        self.go_idle();
        self.localities = localities;
        self.phase = state.phase;
        self.buffer.extend_from_slice(&state.buffer);
        self.read = state.read;
        self.int_enable = state.int_enable;
        self.int_vector = state.int_vector;
        self.int_status = state.int_status;
        self.port.forget();
        self.drive_line();
        Ok(())
    }

    fn reset(&mut self) {
        self.go_idle();
        self.localities = Localities::default();
        self.int_enable = 0;
        self.int_vector = 0;
        self.int_status = 0;
        self.port.forget();
        self.drive_line();
    }
}
