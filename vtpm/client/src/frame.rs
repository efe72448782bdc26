//! Frames: the one place that turns requests and replies into bytes and back.
//!
//! Nothing here allocates in proportion to what the other side sends: a [`FrameBuffer`] holds one
//! frame of the largest size and wipes it, since commands carry authorisation values.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::Locality;

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u16 = 2;
/// Most bytes of payload in a frame, either way: a TPM command or response of the largest size
/// that a CRB data buffer on a PC holds, with room to spare.
pub const MAX_PAYLOAD: usize = 4096;

const LENGTH: usize = 4;
const REQUEST_HEAD: usize = 2;
const REPLY_HEAD: usize = 1;
const MAX_FRAME: usize = LENGTH + REQUEST_HEAD + MAX_PAYLOAD;

/// What a request asks for; the table is in the crate's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Execute a TPM command.
    Command = 1,
    /// `_TPM_Hash_Start`.
    HashStart = 2,
    /// `_TPM_Hash_Data`.
    HashData = 3,
    /// `_TPM_Hash_End`.
    HashEnd = 4,
    /// `_TPM_Init`.
    PowerOn = 5,
    /// Tell the protocol's version and limits.
    Info = 6,
    /// Tell whether a dynamic launch has happened.
    Established = 7,
    /// Forget that one has.
    ResetEstablished = 8,
}

impl Op {
    /// The operation with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Command,
            2 => Self::HashStart,
            3 => Self::HashData,
            4 => Self::HashEnd,
            5 => Self::PowerOn,
            6 => Self::Info,
            7 => Self::Established,
            8 => Self::ResetEstablished,
            _ => return None,
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a request was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done; the payload is the answer.
    Done = 0,
    /// No operation has this number.
    UnknownOp = 1,
    /// The locality does not exist, or the operation is not for it.
    Locality = 2,
    /// Not now: no power, or the wrong place in a hash sequence.
    OutOfPlace = 3,
    /// The payload is not of the length that the operation has.
    Payload = 4,
    /// PowerOn asked for a version of the protocol that this vTPM does not speak.
    Version = 5,
}

impl Status {
    /// The status with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Done,
            1 => Self::UnknownOp,
            2 => Self::Locality,
            3 => Self::OutOfPlace,
            4 => Self::Payload,
            5 => Self::Version,
            _ => return None,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::UnknownOp => "no such operation",
            Self::Locality => "not from this locality",
            Self::OutOfPlace => "out of place: no power yet, or not in a hash sequence",
            Self::Payload => "payload of the wrong length",
            Self::Version => "another version of the protocol",
        })
    }
}

/// A request as it was received: framed well, and nothing else is known of it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Alleged operation, see [`Op::from_number`].
    pub op: u8,
    /// Alleged locality, see [`Locality::try_from`].
    pub locality: u8,
    /// 0 to [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

/// A reply as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Alleged status, see [`Status::from_number`].
    pub status: u8,
    /// 0 to [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

/// Why no frame could be received or sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The socket failed (the host is at fault), or a time limit on it ran out.
    #[error("socket: {0}")]
    Io(#[source] io::Error),
    /// The stream ended inside a frame.
    #[error("the stream ended {got} bytes into a frame")]
    Truncated {
        /// Bytes of the frame that did arrive, its length field included.
        got: usize,
    },
    /// The length field is out of bounds.
    #[error("a frame of {length} bytes; {min} to {max} are in bounds")]
    Length {
        /// What the length field says.
        length: u32,
        /// Least length of a frame of this kind.
        min: usize,
        /// Greatest length of a frame of this kind.
        max: usize,
    },
    /// More bytes arrived than the frame has, though the other side should be waiting.
    #[error("{extra} bytes after the end of the frame")]
    Excess {
        /// How many bytes too many.
        extra: usize,
    },
    /// The caller's payload is larger than a frame can carry.
    #[error("a payload of {length} bytes; at most {MAX_PAYLOAD} fit a frame")]
    PayloadTooLong {
        /// Length of the payload in bytes.
        length: usize,
    },
}

/// Room for one frame; wiped when the next one comes and when dropped.
pub struct FrameBuffer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FrameBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes: they may hold authorisation values.
        f.debug_struct("FrameBuffer").finish_non_exhaustive()
    }
}

impl FrameBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Zeroizing::new(vec![0; MAX_FRAME]) }
    }

    /// Waits for one request. `None`: the stream ended between frames.
    ///
    /// # Errors
    /// See [`FrameError`]; after an error the stream is out of step and of no more use.
    pub fn receive_request(&mut self, from: &mut impl Read) -> Result<Option<Request<'_>>, FrameError> {
        let body = self.receive(from, REQUEST_HEAD)?;
        Ok(body.and_then(|body| match body {
            [op, locality, payload @ ..] => Some(Request { op: *op, locality: *locality, payload }),
            _ => None, // shorter than its own minimum: `receive` does not let it through
        }))
    }

    /// Waits for one reply. `None`: the stream ended between frames.
    ///
    /// # Errors
    /// See [`FrameError`]; after an error the stream is out of step and of no more use.
    pub fn receive_reply(&mut self, from: &mut impl Read) -> Result<Option<Reply<'_>>, FrameError> {
        let body = self.receive(from, REPLY_HEAD)?;
        Ok(body.and_then(|body| match body {
            [status, payload @ ..] => Some(Reply { status: *status, payload }),
            _ => None, // as above
        }))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`FrameError::PayloadTooLong`], with nothing sent; [`FrameError::Io`].
    pub fn send_request(
        &mut self,
        to: &mut impl Write,
        op: Op,
        locality: Locality,
        payload: &[u8],
    ) -> Result<(), FrameError> {
        self.send(to, &[op as u8, locality.get()], payload)
    }

    /// Sends a reply.
    ///
    /// # Errors
    /// [`FrameError::PayloadTooLong`], with nothing sent; [`FrameError::Io`].
    pub fn send_reply(&mut self, to: &mut impl Write, status: Status, payload: &[u8]) -> Result<(), FrameError> {
        self.send(to, &[status as u8], payload)
    }

    /// Reads until one whole frame is there and returns what follows its length field: `head` bytes
    /// at the least, [`MAX_PAYLOAD`] more at most.
    ///
    /// The sides take turns, so a read may ask for as much as fits: what comes after the frame
    /// is a breach of the protocol, never the next frame.
    fn receive(&mut self, from: &mut impl Read, head: usize) -> Result<Option<&[u8]>, FrameError> {
        self.bytes.as_mut_slice().zeroize();
        let (min, max) = (head, head + MAX_PAYLOAD);
        let mut got = 0;
        loop {
            let end = match self.bytes.first_chunk::<LENGTH>() {
                Some(field) if got >= LENGTH => {
                    let length = u32::from_be_bytes(*field);
                    match usize::try_from(length) {
                        Ok(body) if (min..=max).contains(&body) => Some(LENGTH + body),
                        _ => return Err(FrameError::Length { length, min, max }),
                    }
                }
                _ => None,
            };
            if let Some(end) = end
                && got >= end
            {
                if got > end {
                    return Err(FrameError::Excess { extra: got - end });
                }
                return Ok(self.bytes.get(LENGTH..end));
            }
            // Never empty: a frame in bounds fits the buffer, and it is not whole yet.
            let room = self.bytes.get_mut(got..).unwrap_or_default();
            match from.read(room) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(FrameError::Truncated { got }),
                Ok(count) => got += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(FrameError::Io(error)),
            }
        }
    }

    fn send(&mut self, to: &mut impl Write, head: &[u8], payload: &[u8]) -> Result<(), FrameError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(FrameError::PayloadTooLong { length: payload.len() });
        }
        let length = u32::try_from(head.len() + payload.len()).unwrap_or(u32::MAX);
        self.bytes.as_mut_slice().zeroize();
        // One write, so that the other side wakes once.
        let mut rest = self.bytes.as_mut_slice();
        let room = rest.len();
        for part in [&length.to_be_bytes()[..], head, payload] {
            rest.write_all(part).map_err(FrameError::Io)?;
        }
        let used = room - rest.len();
        let frame = self.bytes.get(..used).unwrap_or_default();
        to.write_all(frame).and_then(|()| to.flush()).map_err(FrameError::Io)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A stream that hands bytes out in pieces of given sizes.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let Some(mut piece) = self.0.pop_front() else {
                return Ok(0);
            };
            let count = piece.len().min(room.len());
            room[..count].copy_from_slice(&piece[..count]);
            if count < piece.len() {
                self.0.push_front(piece.split_off(count));
            }
            Ok(count)
        }
    }

    fn request(bytes: &[u8]) -> Result<Option<(u8, u8, Vec<u8>)>, FrameError> {
        FrameBuffer::new()
            .receive_request(&mut &bytes[..])
            .map(|frame| frame.map(|r| (r.op, r.locality, r.payload.to_vec())))
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut sent = Vec::new();
        FrameBuffer::new().send_request(&mut sent, Op::HashData, Locality::FOUR, b"abc").unwrap();
        assert_eq!(sent, [0, 0, 0, 5, 3, 4, b'a', b'b', b'c']);
        sent.clear();
        FrameBuffer::new().send_reply(&mut sent, Status::OutOfPlace, b"").unwrap();
        assert_eq!(sent, [0, 0, 0, 1, 3]);
    }

    #[test]
    fn the_end_between_frames_is_no_error_and_inside_one_is() {
        assert!(matches!(request(&[]), Ok(None)));
        let whole = [0, 0, 0, 3, 1, 0, 9];
        assert_eq!(request(&whole).unwrap(), Some((1, 0, vec![9])));
        for cut in 1..whole.len() {
            match request(&whole[..cut]) {
                Err(FrameError::Truncated { got }) => assert_eq!(got, cut),
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_the_body_is_read() {
        for length in [0_u32, 1, 2 + 4096 + 1, 0x7FFF_FFFF, u32::MAX] {
            match request(&length.to_be_bytes()) {
                Err(FrameError::Length { length: seen, .. }) => assert_eq!(seen, length),
                other => panic!("{length}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_largest_frame_passes_and_one_byte_more_does_not() {
        let payload = vec![0x5A; MAX_PAYLOAD];
        let mut sent = Vec::new();
        let mut buffer = FrameBuffer::new();
        buffer.send_request(&mut sent, Op::Command, Locality::ZERO, &payload).unwrap();
        assert_eq!(request(&sent).unwrap(), Some((1, 0, payload)));
        sent.clear();
        assert!(matches!(
            buffer.send_request(&mut sent, Op::Command, Locality::ZERO, &[0; MAX_PAYLOAD + 1]),
            Err(FrameError::PayloadTooLong { length: 4097 })
        ));
        assert!(sent.is_empty());
    }

    #[test]
    fn a_second_frame_behind_the_first_is_a_breach() {
        let two = [0, 0, 0, 2, 6, 0, 0, 0, 0, 2, 6, 0];
        assert!(matches!(request(&two), Err(FrameError::Excess { extra: 6 })));
    }

    #[test]
    fn numbers_and_names_agree() {
        for number in 0..=255 {
            if let Some(op) = Op::from_number(number) {
                assert_eq!(op as u8, number);
            }
            if let Some(status) = Status::from_number(number) {
                assert_eq!(status as u8, number);
            }
        }
        assert_eq!((0..=255).filter_map(Op::from_number).count(), 8);
        assert_eq!((0..=255).filter_map(Status::from_number).count(), 6);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_end_in_a_frame_or_an_error(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            length in prop::option::of(0_u32..200),
        ) {
            let mut pieces: VecDeque<_> = pieces.into();
            if let Some(length) = length {
                pieces.push_front(length.to_be_bytes().to_vec());
            }
            let all: Vec<u8> = pieces.iter().flatten().copied().collect();
            let mut buffer = FrameBuffer::new();
            if let Ok(Some(frame)) = buffer.receive_request(&mut Pieces(pieces)) {
                let mut again = (2 + frame.payload.len() as u32).to_be_bytes().to_vec();
                again.extend([frame.op, frame.locality]);
                again.extend(frame.payload);
                prop_assert_eq!(&all[..again.len()], &again[..]);
            }
            let _ = FrameBuffer::new().receive_reply(&mut &all[..]);
        }

        #[test]
        fn what_is_sent_arrives_however_it_is_cut(
            payload in prop::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD),
            number in 1_u8..=8,
            locality in 0_u8..=4,
            piece in 1_usize..5000,
        ) {
            let mut sent = Vec::new();
            let op = Op::from_number(number).unwrap();
            let locality = Locality::try_from(locality).unwrap();
            let mut buffer = FrameBuffer::new();
            buffer.send_request(&mut sent, op, locality, &payload).unwrap();
            let mut pieces = Pieces(sent.chunks(piece).map(<[u8]>::to_vec).collect());
            let frame = buffer.receive_request(&mut pieces).unwrap().unwrap();
            prop_assert_eq!(frame, Request { op: number, locality: locality.get(), payload: &payload });
        }
    }
}
