//! The TPM's interface: whichever of the two the machine has.
//!
//! Every register access is an exit to the monitor, so no register is read that the protocol does not ask for, and
//! commands and responses move 16 bytes at a time: KVM splits such an access in two without running the guest in between.
//! The response is copied out once; what a hostile host changes afterwards is not seen.

use alloc::vec::Vec;

use crate::crb::Crb;
use crate::fifo::Fifo;

/// Bytes of a command or response moved by one instruction.
pub const WIDE: usize = 16;

/// Access to the registers of one locality, by offset from its start. Wide accesses touch the data buffer only.
pub trait Registers {
    /// Reads 32 bits.
    fn read32(&mut self, offset: u16) -> u32;
    /// Writes 32 bits.
    fn write32(&mut self, offset: u16, value: u32);
    /// Reads 16 bytes.
    fn read_wide(&mut self, offset: u16) -> [u8; WIDE];
    /// Writes 16 bytes.
    fn write_wide(&mut self, offset: u16, value: [u8; WIDE]);
}

/// TPM_INTERFACE_ID_x and TPM_CRB_INTF_ID_x are the same register.
pub(crate) const INTERFACE_ID: u16 = 0x30;
const INTERFACE_TYPE: u32 = 0xf;
const INTERFACE_TYPE_FIFO: u32 = 0;
const INTERFACE_TYPE_CRB: u32 = 1;

/// Most bytes of a command or response, whichever the interface: what a CRB's page has room for.
pub const BUFFER_LEN: usize = 0x1000 - 0x80;
pub(crate) const RESPONSE_HEADER_LEN: usize = 10;

/// Most reads of a register that is waited for. Each takes a microsecond at least, so this is seconds.
const POLLS: u32 = 2_000_000;

/// Why the TPM cannot be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// No interface at the address.
    #[error("no TPM interface: interface identifier {0:#x}")]
    Missing(u32),
    /// A register did not change in time.
    #[error("TPM did not answer: waiting for {0}")]
    Timeout(&'static str),
    /// The command does not fit the buffer.
    #[error("TPM command of {0} bytes does not fit the buffer of {BUFFER_LEN}")]
    CommandTooLong(usize),
    /// The response's size field makes no sense.
    #[error("TPM response says it has {0} bytes")]
    ResponseSize(u32),
}

/// A TPM behind the interface that it has.
#[derive(Debug)]
pub enum Interface<R> {
    /// A Command Response Buffer.
    Crb(Crb<R>),
    /// A FIFO.
    Fifo(Fifo<R>),
}

impl<R: Registers> Interface<R> {
    /// Finds the interface and takes locality 0.
    ///
    /// # Errors
    /// [`InterfaceError::Missing`] or [`InterfaceError::Timeout`].
    pub fn open(mut registers: R) -> Result<Self, InterfaceError> {
        let id = registers.read32(INTERFACE_ID);
        match id & INTERFACE_TYPE {
            INTERFACE_TYPE_CRB => Crb::open(registers).map(Self::Crb),
            INTERFACE_TYPE_FIFO => Fifo::open(registers).map(Self::Fifo),
            _ => Err(InterfaceError::Missing(id)),
        }
    }

    /// Sends a command and gives the response.
    ///
    /// # Errors
    /// An [`InterfaceError`]; a response that carries an error code is not one.
    pub fn transmit(&mut self, command: &[u8]) -> Result<&[u8], InterfaceError> {
        if command.len() > BUFFER_LEN {
            return Err(InterfaceError::CommandTooLong(command.len()));
        }
        match self {
            Self::Crb(crb) => crb.transmit(command),
            Self::Fifo(fifo) => fifo.transmit(command),
        }
    }
}

/// Reads `register` until its bits under `mask` satisfy `done`, and gives what it read.
pub(crate) fn wait<R: Registers>(
    registers: &mut R,
    register: u16,
    what: &'static str,
    done: impl Fn(u32) -> bool,
) -> Result<u32, InterfaceError> {
    for _ in 0..POLLS {
        let value = registers.read32(register);
        if done(value) {
            return Ok(value);
        }
        core::hint::spin_loop();
    }
    Err(InterfaceError::Timeout(what))
}

/// Collects a response from what `next` gives, told how much there is already and how much is wanted.
pub(crate) fn collect(
    response: &mut Vec<u8>,
    mut next: impl FnMut(usize, usize) -> Result<[u8; WIDE], InterfaceError>,
) -> Result<(), InterfaceError> {
    response.clear();
    let mut wanted = RESPONSE_HEADER_LEN;
    while response.len() < wanted {
        let word = next(response.len(), wanted)?;
        let first = response.is_empty();
        response.extend(word);
        if let ([_, _, a, b, c, d, ..], true) = (word, first) {
            let size = u32::from_be_bytes([a, b, c, d]);
            wanted = usize::try_from(size)
                .ok()
                .filter(|n| (RESPONSE_HEADER_LEN..=BUFFER_LEN).contains(n))
                .ok_or(InterfaceError::ResponseSize(size))?;
        }
    }
    response.truncate(wanted);
    Ok(())
}

/// `chunk` with zeros behind it.
pub(crate) fn widened(chunk: &[u8]) -> [u8; WIDE] {
    let mut word = [0; WIDE];
    word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
    word
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::vec;

    /// A response of `len` bytes, or of what fits if no response can have as many.
    pub(crate) fn response(len: u32) -> Vec<u8> {
        let mut r = vec![0x80, 1];
        r.extend(len.to_be_bytes());
        r.resize(len.clamp(10, BUFFER_LEN as u32) as usize, 7);
        r
    }

    struct Nothing(u32);

    impl Registers for Nothing {
        fn read32(&mut self, _: u16) -> u32 {
            self.0
        }
        fn write32(&mut self, _: u16, _: u32) {}
        fn read_wide(&mut self, _: u16) -> [u8; WIDE] {
            [0xFF; WIDE]
        }
        fn write_wide(&mut self, _: u16, _: [u8; WIDE]) {}
    }

    #[test]
    fn unmapped_registers_are_no_tpm() {
        assert_eq!(Interface::open(Nothing(u32::MAX)).err(), Some(InterfaceError::Missing(u32::MAX)));
        // Memory full of zeros looks like a FIFO, and gives no locality.
        assert_eq!(Interface::open(Nothing(0)).err(), Some(InterfaceError::Timeout("locality 0")));
    }
}
