//! Driver of the TPM's Command Response Buffer (TCG PC Client Platform TPM Profile 1.05, §6.5.3), locality 0.
//!
//! Every register access is an exit to the monitor, so no register is read that the protocol does not ask for, and the
//! data buffer is accessed 16 bytes at a time: KVM splits such an access in two without running the guest in between.
//! The response is copied out once; what a hostile host changes afterwards is not seen.

use alloc::vec::Vec;

/// Bytes of the data buffer moved by one instruction.
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

const LOC_STATE: u16 = 0x00;
const LOC_STATE_ACTIVE: u32 = 0b1_1110; // locAssigned and activeLocality
const LOC_STATE_ACTIVE_0: u32 = 0b0_0010;
const LOC_CTRL: u16 = 0x08;
const LOC_CTRL_REQUEST_ACCESS: u32 = 1;
const INTF_ID: u16 = 0x30;
const INTF_ID_TYPE: u32 = 0xf;
const INTF_ID_TYPE_CRB: u32 = 1;
const CTRL_REQ: u16 = 0x40;
const CTRL_REQ_CMD_READY: u32 = 1;
const CTRL_START: u16 = 0x4c;
const DATA: u16 = 0x80;
/// Bytes of the data buffer: the rest of the locality's page.
pub const BUFFER_LEN: usize = 0x1000 - DATA as usize;

const RESPONSE_HEADER_LEN: usize = 10;

/// Most reads of a register that is waited for. Each takes a microsecond at least, so this is seconds.
const POLLS: u32 = 2_000_000;

/// Why the TPM cannot be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrbError {
    /// No CRB interface at the address.
    #[error("no CRB interface: interface identifier {0:#x}")]
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

/// A TPM behind a CRB.
#[derive(Debug)]
pub struct Crb<R> {
    registers: R,
    response: Vec<u8>,
}

impl<R: Registers> Crb<R> {
    /// Finds the interface and takes locality 0.
    ///
    /// # Errors
    /// [`CrbError::Missing`] or [`CrbError::Timeout`].
    pub fn open(mut registers: R) -> Result<Self, CrbError> {
        let id = registers.read32(INTF_ID);
        if id & INTF_ID_TYPE != INTF_ID_TYPE_CRB {
            return Err(CrbError::Missing(id));
        }
        registers.write32(LOC_CTRL, LOC_CTRL_REQUEST_ACCESS);
        let mut crb = Self { registers, response: Vec::with_capacity(BUFFER_LEN) };
        crb.wait(LOC_STATE, LOC_STATE_ACTIVE, LOC_STATE_ACTIVE_0, "locality 0")?;
        Ok(crb)
    }

    fn wait(&mut self, register: u16, mask: u32, value: u32, what: &'static str) -> Result<(), CrbError> {
        for _ in 0..POLLS {
            if self.registers.read32(register) & mask == value {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        Err(CrbError::Timeout(what))
    }

    /// Sends a command and gives the response.
    ///
    /// # Errors
    /// A [`CrbError`]; a response that carries an error code is not one.
    pub fn transmit(&mut self, command: &[u8]) -> Result<&[u8], CrbError> {
        if command.len() > BUFFER_LEN {
            return Err(CrbError::CommandTooLong(command.len()));
        }
        // From Idle, and from Command Completion alike: the machine's TPM has CapCRBIdleBypass.
        self.registers.write32(CTRL_REQ, CTRL_REQ_CMD_READY);
        self.wait(CTRL_REQ, CTRL_REQ_CMD_READY, 0, "ready")?;
        for (index, chunk) in command.chunks(WIDE).enumerate() {
            let mut word = [0; WIDE];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.registers.write_wide(DATA + (WIDE * index) as u16, word);
        }
        self.registers.write32(CTRL_START, 1);
        self.wait(CTRL_START, 1, 0, "completion")?;
        // TPM_CRB_CTRL_STS need not be read: where the TPM wrote no response, the buffer still has the command, whose
        // command code is not the response code of success.
        self.read_response()?;
        Ok(&self.response)
    }

    fn read_response(&mut self) -> Result<(), CrbError> {
        self.response.clear();
        let mut wanted = RESPONSE_HEADER_LEN;
        while self.response.len() < wanted {
            let word = self.registers.read_wide(DATA + self.response.len() as u16);
            let first = self.response.is_empty();
            self.response.extend(word);
            if let ([_, _, a, b, c, d, ..], true) = (word, first) {
                let size = u32::from_be_bytes([a, b, c, d]);
                wanted = usize::try_from(size)
                    .ok()
                    .filter(|n| (RESPONSE_HEADER_LEN..=BUFFER_LEN).contains(n))
                    .ok_or(CrbError::ResponseSize(size))?;
            }
        }
        self.response.truncate(wanted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// A register page whose TPM answers every command with `answer`.
    struct Fake {
        page: Vec<u8>,
        answer: Vec<u8>,
        command: Vec<u8>,
        stuck: bool,
    }

    impl Fake {
        fn new(answer: &[u8]) -> Self {
            let mut page = vec![0; 4096];
            page[usize::from(INTF_ID)] = 1;
            Self { page, answer: answer.to_vec(), command: vec![], stuck: false }
        }
    }

    impl Registers for &mut Fake {
        fn read32(&mut self, offset: u16) -> u32 {
            let at = usize::from(offset);
            u32::from_le_bytes(self.page[at..at + 4].try_into().unwrap())
        }
        fn write32(&mut self, offset: u16, value: u32) {
            match offset {
                LOC_CTRL => self.page[0] = 0x82,
                CTRL_REQ => {}
                CTRL_START if self.stuck => self.page[usize::from(CTRL_START)] = 1,
                CTRL_START => {
                    self.command = self.page[usize::from(DATA)..].to_vec();
                    let answer = self.answer.clone();
                    self.page[usize::from(DATA)..usize::from(DATA) + answer.len()].copy_from_slice(&answer);
                }
                _ => panic!("write of {value:#x} to {offset:#x}"),
            }
        }
        fn read_wide(&mut self, offset: u16) -> [u8; WIDE] {
            let at = usize::from(offset);
            self.page[at..at + WIDE].try_into().unwrap()
        }
        fn write_wide(&mut self, offset: u16, value: [u8; WIDE]) {
            let at = usize::from(offset);
            self.page[at..at + WIDE].copy_from_slice(&value);
        }
    }

    fn response(len: u32) -> Vec<u8> {
        let mut r = vec![0x80, 1];
        r.extend(len.to_be_bytes());
        r.resize(len.clamp(10, BUFFER_LEN as u32) as usize, 7);
        r
    }

    #[test]
    fn a_command_goes_out_and_its_response_comes_back_whole() {
        for len in [10, 11, 16, 17, BUFFER_LEN as u32] {
            let mut fake = Fake::new(&response(len));
            let mut crb = Crb::open(&mut fake).unwrap();
            assert_eq!(crb.transmit(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).unwrap(), response(len));
            assert_eq!(fake.command[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]);
        }
    }

    #[test]
    fn a_size_field_that_leaves_the_buffer_is_refused() {
        for len in [0, 9, BUFFER_LEN as u32 + 1, u32::MAX] {
            let mut fake = Fake::new(&response(len));
            let mut crb = Crb::open(&mut fake).unwrap();
            assert_eq!(crb.transmit(&[0; 10]), Err(CrbError::ResponseSize(len)));
        }
    }

    #[test]
    fn unmapped_registers_are_no_tpm() {
        let mut fake = Fake::new(&[]);
        fake.page.fill(0xff);
        assert_eq!(Crb::open(&mut fake).err(), Some(CrbError::Missing(u32::MAX)));
    }

    #[test]
    fn a_tpm_that_never_finishes_is_given_up() {
        let mut fake = Fake::new(&response(10));
        fake.stuck = true;
        let mut crb = Crb::open(&mut fake).unwrap();
        assert_eq!(crb.transmit(&[0; 10]), Err(CrbError::Timeout("completion")));
    }

    #[test]
    fn a_command_longer_than_the_buffer_is_refused() {
        let mut fake = Fake::new(&response(10));
        let mut crb = Crb::open(&mut fake).unwrap();
        let long = vec![0; BUFFER_LEN + 1];
        assert_eq!(crb.transmit(&long), Err(CrbError::CommandTooLong(BUFFER_LEN + 1)));
    }
}
