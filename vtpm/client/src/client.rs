//! The asking side.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::Locality;
use crate::error::{BadReply, Error};
use crate::frame::{FrameBuffer, FrameError, MAX_PAYLOAD, Op, PROTOCOL_VERSION, Status};

/// How long a call waits for its answer unless told otherwise: within the 120 s after which
/// Linux gives a TPM command up (`TPM2_DURATION_LONG_LONG` and `TPM2_DURATION_DEFAULT` in its driver).
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(100);

/// What a vTPM says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Version of the protocol.
    pub protocol: u16,
    /// Most bytes in a command, in a response and in one piece of a hash sequence.
    pub max_payload: u16,
}

/// A monitor's connection to its vTPM.
///
/// After an error that leaves request and answer out of step (a time limit, a broken frame) every
/// later call returns [`Error::GivenUp`]: a late answer is never taken for the answer to another command.
#[derive(Debug)]
pub struct VtpmClient {
    stream: UnixStream,
    buffer: FrameBuffer,
    limit: Duration,
    in_step: bool,
}

impl VtpmClient {
    /// Talks to the vTPM at the other end of `stream`, with [`DEFAULT_LIMIT`].
    ///
    /// # Errors
    /// The system refuses time limits on the socket.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        let mut client = Self { stream, buffer: FrameBuffer::new(), limit: DEFAULT_LIMIT, in_step: true };
        client.set_limit(DEFAULT_LIMIT)?;
        Ok(client)
    }

    /// Sets how long a call may wait. A call returns after `limit` if the vTPM is silent, and after twice
    /// `limit` at most if it sends its answer in drops.
    ///
    /// # Errors
    /// `limit` is zero, or the system refuses it.
    pub fn set_limit(&mut self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        self.stream.set_write_timeout(Some(limit))?;
        self.limit = limit;
        Ok(())
    }

    /// Gives the vTPM power, or takes it away and gives it again: the `_TPM_Init` signal. What the TPM
    /// keeps only while it has power is gone after it.
    ///
    /// # Errors
    /// See [`Error`]; [`Status::Version`] if the vTPM speaks another version of the protocol.
    pub fn power_on(&mut self) -> Result<(), Error> {
        let version = PROTOCOL_VERSION.to_be_bytes();
        self.call_for_nothing(Op::PowerOn, Locality::ZERO, &version)
    }

    /// Has the TPM execute a command and returns its response, whose response code may well be an error:
    /// that is the guest's to read.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::TooLong`] for a command of more than [`MAX_PAYLOAD`] bytes.
    pub fn command(&mut self, locality: Locality, command: &[u8]) -> Result<Vec<u8>, Error> {
        self.call(Op::Command, locality, command)
    }

    /// Has the TPM hash `data` itself: `_TPM_Hash_Start`, `_TPM_Hash_Data` as often as it takes,
    /// `_TPM_Hash_End`. Returns the digest of `data` in each bank, a marshalled TPML_DIGEST_VALUES.
    ///
    /// Between [`power_on`](Self::power_on) and TPM2_Startup this is the H-CRTM, which goes to PCR 0 and is where the
    /// static root of measurement starts; later it is a D-RTM, which resets PCR 17 to 22 and goes to PCR 17.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn hash_sequence(&mut self, data: &[u8]) -> Result<Vec<u8>, Error> {
        self.hash_start()?;
        for piece in data.chunks(MAX_PAYLOAD) {
            self.hash_data(piece)?;
        }
        self.hash_end()
    }

    /// The signal `_TPM_Hash_Start`; see [`hash_sequence`](Self::hash_sequence), which is all three.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn hash_start(&mut self) -> Result<(), Error> {
        self.call_for_nothing(Op::HashStart, Locality::FOUR, &[])
    }

    /// The signal `_TPM_Hash_Data`.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::TooLong`] for more than [`MAX_PAYLOAD`] bytes.
    pub fn hash_data(&mut self, data: &[u8]) -> Result<(), Error> {
        self.call_for_nothing(Op::HashData, Locality::FOUR, data)
    }

    /// The signal `_TPM_Hash_End`; returns what was extended, a marshalled TPML_DIGEST_VALUES.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn hash_end(&mut self) -> Result<Vec<u8>, Error> {
        self.call(Op::HashEnd, Locality::FOUR, &[])
    }

    /// Whether a dynamic launch has happened since this was last reset.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn established(&mut self) -> Result<bool, Error> {
        let answer = self.call(Op::Established, Locality::ZERO, &[])?;
        match answer[..] {
            [flag @ (0 | 1)] => Ok(flag == 1),
            _ => Err(self.payload_breach(Op::Established, answer.len())),
        }
    }

    /// Resets what [`established`](Self::established) tells, on behalf of `locality`, which is 3 or 4.
    ///
    /// # Errors
    /// See [`Error`]; [`Status::Locality`] from another locality.
    pub fn reset_established(&mut self, locality: Locality) -> Result<(), Error> {
        self.call_for_nothing(Op::ResetEstablished, locality, &[])
    }

    /// Asks the vTPM for its protocol and limits; it answers this without power too.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn info(&mut self) -> Result<Info, Error> {
        let answer = self.call(Op::Info, Locality::ZERO, &[])?;
        match answer[..] {
            [v1, v0, m1, m0] => {
                Ok(Info { protocol: u16::from_be_bytes([v1, v0]), max_payload: u16::from_be_bytes([m1, m0]) })
            }
            _ => Err(self.payload_breach(Op::Info, answer.len())),
        }
    }

    fn call_for_nothing(&mut self, op: Op, from: Locality, payload: &[u8]) -> Result<(), Error> {
        let answer = self.call(op, from, payload)?;
        if answer.is_empty() { Ok(()) } else { Err(self.payload_breach(op, answer.len())) }
    }

    fn payload_breach(&mut self, op: Op, length: usize) -> Error {
        self.in_step = false;
        let source = BadReply::Payload(length);
        Error::Protocol { op, source }
    }

    fn call(&mut self, op: Op, locality: Locality, payload: &[u8]) -> Result<Vec<u8>, Error> {
        if payload.len() > MAX_PAYLOAD {
            let length = payload.len();
            return Err(Error::TooLong { op, length });
        }
        if !self.in_step {
            return Err(Error::GivenUp { op });
        }
        // Out of step until the whole answer is here, whichever way this ends.
        self.in_step = false;
        let limit = self.limit;
        let failed = |error| blame(op, limit, error);
        let mut stream = Limited { stream: &self.stream, start: Instant::now(), limit };
        self.buffer.send_request(&mut stream, op, locality, payload).map_err(failed)?;
        let reply = self.buffer.receive_reply(&mut stream).map_err(failed)?.ok_or(Error::Ended { op })?;
        let breach = |source| Error::Protocol { op, source };
        let status = Status::from_number(reply.status).ok_or(breach(BadReply::Status(reply.status)))?;
        if status != Status::Done {
            if !reply.payload.is_empty() {
                return Err(breach(BadReply::Payload(reply.payload.len())));
            }
            self.in_step = true;
            return Err(Error::Refused { op, status });
        }
        self.in_step = true;
        Ok(reply.payload.to_vec())
    }
}

fn blame(op: Op, limit: Duration, error: FrameError) -> Error {
    match error {
        FrameError::Io(source) => match source.kind() {
            // A socket's own time limit shows as EAGAIN.
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::TimedOut { op, limit },
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Ended { op },
            _ => Error::Socket { op, source },
        },
        FrameError::PayloadTooLong { length } => Error::TooLong { op, length },
        source => Error::Protocol { op, source: BadReply::Frame(source) },
    }
}

/// The socket, whose own time limit starts anew with each byte, under one limit for all of a call.
struct Limited<'a> {
    stream: &'a UnixStream,
    start: Instant,
    limit: Duration,
}

impl Limited<'_> {
    fn check(&self) -> io::Result<()> {
        if self.start.elapsed() > self.limit {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Read for Limited<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.stream.read(room)
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
