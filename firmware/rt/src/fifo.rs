//! Driver of the TPM's FIFO (TCG PC Client Platform TPM Profile 1.05, §6.5.2), locality 0.

use alloc::vec::Vec;

use crate::interface::{BUFFER_LEN, InterfaceError, Registers, WIDE, collect, wait, widened};

const ACCESS: u16 = 0x00;
const ACCESS_REQUEST_USE: u32 = 1 << 1;
const ACCESS_ACTIVE: u32 = 1 << 5;
const ACCESS_VALID: u32 = 1 << 7;
const STS: u16 = 0x18;
const STS_EXPECT: u32 = 1 << 3;
const STS_DATA_AVAIL: u32 = 1 << 4;
const STS_GO: u32 = 1 << 5;
const STS_COMMAND_READY: u32 = 1 << 6;
const STS_VALID: u32 = 1 << 7;
/// The FIFO for accesses of more than four bytes.
const XDATA_FIFO: u16 = 0x80;

/// Bytes that can be moved before STS is to be read again.
fn burst(status: u32) -> usize {
    (status >> 8 & 0xffff) as usize
}

/// A TPM behind a FIFO.
#[derive(Debug)]
pub struct Fifo<R> {
    registers: R,
    response: Vec<u8>,
}

impl<R: Registers> Fifo<R> {
    /// Takes locality 0.
    ///
    /// # Errors
    /// [`InterfaceError::Timeout`].
    pub(crate) fn open(mut registers: R) -> Result<Self, InterfaceError> {
        const HAVE: u32 = ACCESS_ACTIVE | ACCESS_VALID;
        registers.write32(ACCESS, ACCESS_REQUEST_USE);
        wait(&mut registers, ACCESS, "locality 0", |access| access & HAVE == HAVE)?;
        Ok(Self { registers, response: Vec::with_capacity(BUFFER_LEN) })
    }

    /// Sends a command, at most [`BUFFER_LEN`] bytes, and gives the response.
    pub(crate) fn transmit(&mut self, command: &[u8]) -> Result<&[u8], InterfaceError> {
        let registers = &mut self.registers;
        registers.write32(STS, STS_COMMAND_READY);
        let mut room = burst(wait(registers, STS, "ready", |status| status & STS_COMMAND_READY != 0)?);
        for chunk in command.chunks(WIDE) {
            if room < chunk.len() {
                room = burst(wait(registers, STS, "room for a command", |status| burst(status) >= chunk.len())?);
            }
            room -= chunk.len();
            // What the last one has too much the TPM does not take: it expects no more.
            registers.write_wide(XDATA_FIFO, widened(chunk));
        }
        wait(registers, STS, "a whole command", |status| status & (STS_VALID | STS_EXPECT) == STS_VALID)?;
        registers.write32(STS, STS_GO);
        let ready = STS_VALID | STS_DATA_AVAIL;
        let mut there = burst(wait(registers, STS, "completion", |status| status & ready == ready)?);
        collect(&mut self.response, |have, wanted| {
            let least = WIDE.min(wanted - have);
            if there < least {
                there = burst(wait(registers, STS, "the rest of a response", |status| burst(status) >= least)?);
            }
            there = there.saturating_sub(WIDE);
            Ok(registers.read_wide(XDATA_FIFO))
        })?;
        Ok(&self.response)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::interface::Interface;
    use crate::interface::tests::response;

    /// A FIFO that moves `burst` bytes at a time and answers every command with `answer`.
    struct Fake {
        burst: usize,
        answer: Vec<u8>,
        command: Vec<u8>,
        active: bool,
        ready: bool,
        left: Option<Vec<u8>>,
        stuck: bool,
    }

    impl Fake {
        fn new(answer: &[u8], burst: usize) -> Self {
            let answer = answer.to_vec();
            Self { burst, answer, command: vec![], active: false, ready: false, left: None, stuck: false }
        }
    }

    impl Registers for &mut Fake {
        fn read32(&mut self, offset: u16) -> u32 {
            match offset {
                ACCESS if self.active => ACCESS_VALID | ACCESS_ACTIVE,
                ACCESS => ACCESS_VALID,
                STS => {
                    let ready = if self.ready { STS_COMMAND_READY } else { 0 };
                    let left = self.left.as_ref().map_or(0, Vec::len);
                    let (flags, burst) = match &self.left {
                        Some(_) => (STS_DATA_AVAIL, self.burst.min(left)),
                        None => (ready, self.burst),
                    };
                    STS_VALID | flags | (burst as u32) << 8
                }
                0x30 => 0,
                _ => panic!("read of {offset:#x}"),
            }
        }
        fn write32(&mut self, offset: u16, value: u32) {
            match (offset, value) {
                (ACCESS, ACCESS_REQUEST_USE) => self.active = true,
                (STS, STS_COMMAND_READY) => (self.ready, self.left) = (true, None),
                (STS, STS_GO) if self.stuck => {}
                (STS, STS_GO) => self.left = Some(self.answer.clone()),
                _ => panic!("write of {value:#x} to {offset:#x}"),
            }
        }
        fn read_wide(&mut self, offset: u16) -> [u8; WIDE] {
            assert_eq!(offset, XDATA_FIFO);
            let left = self.left.as_mut().unwrap();
            let now: Vec<u8> = left.drain(..left.len().min(WIDE)).collect();
            widened(&now)
        }
        fn write_wide(&mut self, offset: u16, value: [u8; WIDE]) {
            assert_eq!(offset, XDATA_FIFO);
            self.ready = false;
            self.command.extend(value);
        }
    }

    #[test]
    fn a_command_goes_out_and_its_response_comes_back_whole() {
        for burst in [16, 64, 4096] {
            for len in [10, 11, 16, 17, BUFFER_LEN as u32] {
                let mut fake = Fake::new(&response(len), burst);
                let mut tpm = Interface::open(&mut fake).unwrap();
                let command: Vec<u8> = (0..50).collect();
                assert_eq!(tpm.transmit(&command).unwrap(), response(len));
                assert_eq!(fake.command[..50], command);
                assert_eq!(fake.command.len(), 64);
            }
        }
    }

    #[test]
    fn a_size_field_that_leaves_the_buffer_is_refused() {
        for len in [0, 9, BUFFER_LEN as u32 + 1, u32::MAX] {
            let mut fake = Fake::new(&response(len), 64);
            let mut tpm = Interface::open(&mut fake).unwrap();
            assert_eq!(tpm.transmit(&[0; 10]), Err(InterfaceError::ResponseSize(len)));
        }
    }

    #[test]
    fn a_tpm_that_never_finishes_is_given_up() {
        let mut fake = Fake::new(&response(10), 64);
        fake.stuck = true;
        let mut tpm = Interface::open(&mut fake).unwrap();
        assert_eq!(tpm.transmit(&[0; 10]), Err(InterfaceError::Timeout("completion")));
    }
}
