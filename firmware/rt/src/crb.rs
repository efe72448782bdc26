//! Driver of the TPM's Command Response Buffer (TCG PC Client Platform TPM Profile 1.05, §6.5.3), locality 0.

use alloc::vec::Vec;

use crate::interface::{BUFFER_LEN, InterfaceError, Registers, WIDE, collect, wait, widened};

const LOC_STATE: u16 = 0x00;
const LOC_STATE_ACTIVE: u32 = 0b1_1110; // locAssigned and activeLocality
const LOC_STATE_ACTIVE_0: u32 = 0b0_0010;
const LOC_CTRL: u16 = 0x08;
const LOC_CTRL_REQUEST_ACCESS: u32 = 1;
const CTRL_REQ: u16 = 0x40;
const CTRL_REQ_CMD_READY: u32 = 1;
const CTRL_START: u16 = 0x4c;
const DATA: u16 = 0x80;

/// A TPM behind a CRB.
#[derive(Debug)]
pub struct Crb<R> {
    registers: R,
    response: Vec<u8>,
}

impl<R: Registers> Crb<R> {
    /// Takes locality 0.
    ///
    /// # Errors
    /// [`InterfaceError::Timeout`].
    pub(crate) fn open(mut registers: R) -> Result<Self, InterfaceError> {
        registers.write32(LOC_CTRL, LOC_CTRL_REQUEST_ACCESS);
        wait(&mut registers, LOC_STATE, "locality 0", |state| state & LOC_STATE_ACTIVE == LOC_STATE_ACTIVE_0)?;
        Ok(Self { registers, response: Vec::with_capacity(BUFFER_LEN) })
    }

    /// Sends a command, at most [`BUFFER_LEN`] bytes, and gives the response.
    pub(crate) fn transmit(&mut self, command: &[u8]) -> Result<&[u8], InterfaceError> {
        let registers = &mut self.registers;
        // From Idle, and from Command Completion alike: the machine's TPM has CapCRBIdleBypass.
        registers.write32(CTRL_REQ, CTRL_REQ_CMD_READY);
        wait(registers, CTRL_REQ, "ready", |request| request & CTRL_REQ_CMD_READY == 0)?;
        for (index, chunk) in command.chunks(WIDE).enumerate() {
            registers.write_wide(DATA + (WIDE * index) as u16, widened(chunk));
        }
        registers.write32(CTRL_START, 1);
        wait(registers, CTRL_START, "completion", |start| start & 1 == 0)?;
        // TPM_CRB_CTRL_STS need not be read: where the TPM wrote no response, the buffer still has the command, whose
        // command code is not the response code of success.
        collect(&mut self.response, |have, _| Ok(registers.read_wide(DATA + have as u16)))?;
        Ok(&self.response)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::interface::tests::response;
    use crate::interface::{INTERFACE_ID, Interface};

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
            page[usize::from(INTERFACE_ID)] = 1;
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

    #[test]
    fn a_command_goes_out_and_its_response_comes_back_whole() {
        for len in [10, 11, 16, 17, BUFFER_LEN as u32] {
            let mut fake = Fake::new(&response(len));
            let mut crb = Interface::open(&mut fake).unwrap();
            assert_eq!(crb.transmit(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).unwrap(), response(len));
            assert_eq!(fake.command[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]);
        }
    }

    #[test]
    fn a_size_field_that_leaves_the_buffer_is_refused() {
        for len in [0, 9, BUFFER_LEN as u32 + 1, u32::MAX] {
            let mut fake = Fake::new(&response(len));
            let mut crb = Interface::open(&mut fake).unwrap();
            assert_eq!(crb.transmit(&[0; 10]), Err(InterfaceError::ResponseSize(len)));
        }
    }

    #[test]
    fn a_tpm_that_never_finishes_is_given_up() {
        let mut fake = Fake::new(&response(10));
        fake.stuck = true;
        let mut crb = Interface::open(&mut fake).unwrap();
        assert_eq!(crb.transmit(&[0; 10]), Err(InterfaceError::Timeout("completion")));
    }

    #[test]
    fn a_command_longer_than_the_buffer_is_refused() {
        let mut fake = Fake::new(&response(10));
        let mut crb = Interface::open(&mut fake).unwrap();
        let long = vec![0; BUFFER_LEN + 1];
        assert_eq!(crb.transmit(&long), Err(InterfaceError::CommandTooLong(BUFFER_LEN + 1)));
    }
}
