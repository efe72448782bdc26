//! Messages between the agent and its monitor, framed for a serial line.
//!
//! ```text
//! 0  4  magic B7 "bla"; the high bit keeps it out of texts
//! 4  1  version, 1
//! 5  1  kind of message
//! 6  4  length of the payload, little-endian
//! 10 …  payload
//!    1  0A
//! ```
//!
//! The last byte shows that none was lost on the way, and has line-buffered ends pass the frame on at once. There is no
//! checksum: a TPM has signed what matters, and a frame in which a byte changed says nothing that a liar could not say.
//!
//! Each end holds the other for a liar: a length is checked against what its kind may have before a byte of the payload is
//! kept, and whatever does not begin with the magic is skipped.

use std::fmt;

const MAGIC: [u8; 4] = [0xB7, b'b', b'l', b'a'];
const VERSION: u8 = 1;
const HEADER: usize = 10;
const END: u8 = b'\n';

/// Lengths of a nonce. The longest is shorter than the 48 bytes that bulla's channel has quoted by the same key, so that no
/// host gets an identity in the channel by asking for evidence.
pub const NONCE_SIZES: std::ops::RangeInclusive<usize> = 8..=32;
/// Longest evidence: an event log of 64 KiB, and room for a quote with its key and PCR values.
pub const EVIDENCE_MAX: usize = 96 * 1024;
/// Longest reason, in bytes.
pub const REASON_MAX: usize = 512;

/// What is said on the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Agent: I am here, what is the nonce?
    Hello,
    /// Monitor: quote over this nonce, of [`NONCE_SIZES`].
    Challenge(Vec<u8>),
    /// Agent: the claims, as [`crate::claims`] writes them.
    Evidence(Vec<u8>),
    /// Agent: there is no evidence, for this reason.
    Failed(Reason),
    /// Monitor: the evidence has arrived.
    Done,
    /// Monitor: no nonce, or not this evidence, for this reason.
    Declined(Reason),
}

/// A sentence from the other side, fit for a terminal: no control characters, at most [`REASON_MAX`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Keeps what is fit of `text`; what is not becomes `?`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut kept = String::new();
        for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
            if kept.len() + c.len_utf8() > REASON_MAX {
                break;
            }
            kept.push(c);
        }
        Self(kept)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        // Sent by an agent it would be fit already.
        (!text.chars().any(char::is_control)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a frame was refused. The rest of it is then looked through for another frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A version that this end does not speak.
    #[error("frame of version {0}, this end speaks version {VERSION}")]
    Version(u8),
    /// A kind that there is not.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// A length that no payload of this kind has.
    #[error("{kind} frame with {length} bytes of payload")]
    Length {
        /// Name of the kind.
        kind: &'static str,
        /// What the header says.
        length: u32,
    },
    /// The byte after the payload is not the end: bytes were lost.
    #[error("{0} frame without its end: bytes were lost on the line")]
    End(&'static str),
    /// A payload that no message of this kind has.
    #[error("{0} frame with a malformed payload")]
    Payload(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hello = 1,
    Challenge = 2,
    Evidence = 3,
    Failed = 4,
    Done = 5,
    Declined = 6,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Hello, Self::Challenge, Self::Evidence, Self::Failed, Self::Done, Self::Declined];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Challenge => "challenge",
            Self::Evidence => "evidence",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Declined => "declined",
        }
    }

    fn may_have(self, length: usize) -> bool {
        match self {
            Self::Hello | Self::Done => length == 0,
            Self::Challenge => NONCE_SIZES.contains(&length),
            Self::Evidence => (1..=EVIDENCE_MAX).contains(&length),
            Self::Failed | Self::Declined => length <= REASON_MAX,
        }
    }
}

impl Message {
    fn kind(&self) -> Kind {
        match self {
            Self::Hello => Kind::Hello,
            Self::Challenge(_) => Kind::Challenge,
            Self::Evidence(_) => Kind::Evidence,
            Self::Failed(_) => Kind::Failed,
            Self::Done => Kind::Done,
            Self::Declined(_) => Kind::Declined,
        }
    }

    /// What it is, for errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// The frame.
    ///
    /// # Errors
    /// [`FrameError::Length`] for a nonce or evidence that no reader would take.
    pub fn to_frame(&self) -> Result<Vec<u8>, FrameError> {
        let payload = match self {
            Self::Hello | Self::Done => &[][..],
            Self::Challenge(bytes) | Self::Evidence(bytes) => bytes,
            Self::Failed(reason) | Self::Declined(reason) => reason.0.as_bytes(),
        };
        let kind = self.kind();
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if !kind.may_have(payload.len()) {
            return Err(FrameError::Length { kind: kind.name(), length });
        }
        let mut frame = Vec::with_capacity(HEADER + payload.len() + 1);
        frame.extend(MAGIC);
        frame.extend([VERSION, kind as u8]);
        frame.extend(length.to_le_bytes());
        frame.extend(payload);
        frame.push(END);
        Ok(frame)
    }

    fn read(kind: Kind, payload: Vec<u8>) -> Result<Self, FrameError> {
        let malformed = FrameError::Payload(kind.name());
        Ok(match kind {
            Kind::Hello => Self::Hello,
            Kind::Challenge => Self::Challenge(payload),
            Kind::Evidence => Self::Evidence(payload),
            Kind::Failed => Self::Failed(Reason::read(&payload).ok_or(malformed)?),
            Kind::Done => Self::Done,
            Kind::Declined => Self::Declined(Reason::read(&payload).ok_or(malformed)?),
        })
    }
}

/// Where a [`Receiver`] is in a frame.
#[derive(Debug)]
enum State {
    /// So many bytes of the header are there; fewer than four are all the magic's.
    Header([u8; HEADER], usize),
    Payload {
        kind: Kind,
        length: usize,
        payload: Vec<u8>,
    },
}

/// Puts frames together from the bytes that come in. Keeps one frame at most.
#[derive(Debug)]
pub struct Receiver(State);

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    const START: State = State::Header([0; HEADER], 0);

    /// A receiver between two frames.
    #[must_use]
    pub fn new() -> Self {
        Self(Self::START)
    }

    /// Takes bytes off the front of `bytes` up to the end of a frame, or all of them. Call it until it returns `None`.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Option<Result<Message, FrameError>> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            if let Some(result) = self.byte(byte).transpose() {
                self.0 = Self::START;
                return Some(result);
            }
        }
        None
    }

    fn byte(&mut self, byte: u8) -> Result<Option<Message>, FrameError> {
        match &mut self.0 {
            State::Header(header, filled) => {
                if let Some(place) = header.get_mut(*filled) {
                    *place = byte;
                    *filled += 1;
                }
                if MAGIC.get(*filled - 1).is_some_and(|expected| *expected != byte) {
                    // Only its first byte can begin the magic, no other of its bytes is equal to that.
                    *filled = usize::from(byte == MAGIC[0]);
                    header[0] = byte;
                } else if *filled == HEADER {
                    self.0 = Self::payload_of(*header)?;
                }
                Ok(None)
            }
            State::Payload { length, payload, .. } if payload.len() < *length => {
                payload.push(byte);
                Ok(None)
            }
            State::Payload { kind, .. } if byte != END => Err(FrameError::End(kind.name())),
            State::Payload { kind, payload, .. } => Message::read(*kind, std::mem::take(payload)).map(Some),
        }
    }

    fn payload_of(header: [u8; HEADER]) -> Result<State, FrameError> {
        let [_, _, _, _, version, kind, a, b, c, d] = header;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = Kind::of(kind).ok_or(FrameError::Kind(kind))?;
        let said = u32::from_le_bytes([a, b, c, d]);
        let length = usize::try_from(said).ok().filter(|length| kind.may_have(*length));
        let length = length.ok_or(FrameError::Length { kind: kind.name(), length: said })?;
        // Grows with what arrives: a header alone makes nobody allocate.
        Ok(State::Payload { kind, length, payload: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(mut bytes: &[u8]) -> Vec<Result<Message, FrameError>> {
        let mut receiver = Receiver::new();
        std::iter::from_fn(|| receiver.take(&mut bytes)).collect()
    }

    fn messages() -> Vec<Message> {
        vec![
            Message::Hello,
            Message::Challenge(vec![0xB7; 32]),
            Message::Evidence(vec![b'\n'; EVIDENCE_MAX]),
            Message::Failed(Reason::new("no TPM")),
            Message::Done,
            Message::Declined(Reason::new("")),
        ]
    }

    #[test]
    fn every_message_arrives_in_whatever_pieces() {
        let messages = messages();
        let line: Vec<u8> = messages.iter().flat_map(|m| m.to_frame().unwrap()).collect();
        for piece in [1, 3, 10, 4096, line.len()] {
            let mut receiver = Receiver::new();
            let mut got = Vec::new();
            for mut piece in line.chunks(piece) {
                got.extend(std::iter::from_fn(|| receiver.take(&mut piece)));
            }
            assert_eq!(got, messages.iter().cloned().map(Ok).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_stands_around_a_frame_is_skipped() {
        let mut line = b"\r\nlogin: \xB7b\xB7\xB7bl\xB7".to_vec();
        line.extend(Message::Done.to_frame().unwrap());
        line.extend(b"\xB7");
        line.extend(Message::Hello.to_frame().unwrap());
        assert_eq!(all(&line), [Ok(Message::Done), Ok(Message::Hello)]);
    }

    #[test]
    fn what_no_frame_may_have_is_an_error_that_names_it() {
        let good = Message::Challenge(vec![1; 8]).to_frame().unwrap();
        let with = |at: usize, byte| {
            let mut frame = good.clone();
            frame[at] = byte;
            all(&frame).remove(0)
        };
        assert_eq!(with(4, 2), Err(FrameError::Version(2)));
        assert_eq!(with(5, 0), Err(FrameError::Kind(0)));
        assert_eq!(with(6, 7), Err(FrameError::Length { kind: "challenge", length: 7 }));
        assert_eq!(with(6, 33), Err(FrameError::Length { kind: "challenge", length: 33 }));
        assert_eq!(with(9, 0xFF), Err(FrameError::Length { kind: "challenge", length: 0xFF00_0008 }));
        assert_eq!(with(good.len() - 1, b'x'), Err(FrameError::End("challenge")));
        let mut longer = good.clone();
        longer[6] = 9;
        assert_eq!(all(&longer), [], "its end is the ninth byte: waits for another");
    }

    #[test]
    fn reasons_are_fit_for_a_terminal() {
        assert_eq!(Reason::new("a\x1b[31mb\n").to_string(), "a?[31mb?");
        assert_eq!(Reason::new(&"é".repeat(REASON_MAX)).to_string().len(), REASON_MAX);
        for bad in [&b"\x1b[2J"[..], b"\xff"] {
            let mut frame = Message::Failed(Reason::new("12345678")).to_frame().unwrap();
            frame[6] = bad.len() as u8;
            frame.splice(HEADER.., bad.iter().copied().chain([END]));
            assert_eq!(all(&frame), [Err(FrameError::Payload("failed"))]);
        }
    }

    #[test]
    fn what_no_reader_takes_is_not_sent() {
        for bad in
            [Message::Challenge(vec![0; 48]), Message::Evidence(vec![]), Message::Evidence(vec![0; EVIDENCE_MAX + 1])]
        {
            assert!(matches!(bad.to_frame(), Err(FrameError::Length { .. })));
        }
    }

    proptest! {
        #[test]
        fn of_any_bytes_only_what_stands_there_is_read_and_pieces_do_not_matter(
            parts in proptest::collection::vec(prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..20),
                Just(MAGIC.to_vec()),
                Just([&MAGIC[..], &[VERSION]].concat()),
                Just(Message::Hello.to_frame().unwrap()),
                Just(Message::Challenge(vec![0xB7; 8]).to_frame().unwrap()),
            ], 0..20),
            size in 1..50_usize,
        ) {
            let line = parts.concat();
            let read = all(&line);
            for message in read.iter().flatten() {
                let frame = message.to_frame().unwrap();
                prop_assert!(line.windows(frame.len()).any(|w| w == frame));
            }
            let mut receiver = Receiver::new();
            let mut again = Vec::new();
            for mut piece in line.chunks(size) {
                again.extend(std::iter::from_fn(|| receiver.take(&mut piece)));
            }
            prop_assert_eq!(again, read);
        }

        #[test]
        fn what_is_read_is_what_was_written(nonce in proptest::collection::vec(any::<u8>(), 8..33), text in ".{0,100}") {
            for message in [Message::Challenge(nonce), Message::Failed(Reason::new(&text))] {
                prop_assert_eq!(all(&message.to_frame().unwrap()), [Ok(message)]);
            }
        }
    }
}
