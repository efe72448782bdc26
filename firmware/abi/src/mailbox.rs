//! The mailbox: how a host asks things of the bundled tenant.
//!
//! Two boxes of [`BOX_LEN`] bytes at [`crate::map::MAILBOX_BASE`]: host → tenant first, tenant → host second. Each:
//!
//! ```text
//! 0   4  sequence number of the message in the box; 0: none yet. Written last, with release order.
//! 4   4  length of the message
//! 8   8  zero
//! 16  …  message
//! ```
//!
//! A request with sequence number n is answered by a reply with sequence number n; the host sends n + 1 only after
//! it. Each side copies a message out once before it looks at it. The mailbox is in host memory in the clear: nothing
//! that must be kept from the host goes through it except what a demo is asked to say.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bytes::Cursor;

/// Bytes of one box.
pub const BOX_LEN: usize = crate::map::MAILBOX_SIZE as usize / 2;
/// Bytes before the message.
pub const BOX_HEADER: usize = 16;
/// Longest message.
pub const MESSAGE_MAX: usize = BOX_LEN - BOX_HEADER;
/// Longest nonce of a [`Request::Quote`]. Shorter than the 48 bytes that the channel puts into its quotes, so that
/// nobody can get a channel quote by asking for evidence.
pub const NONCE_MAX: usize = 32;

/// Which end of the channel the tenant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Speaks first.
    Initiator = 1,
    /// Answers.
    Responder = 2,
}

/// What the tenant times in a [`Request::Bench`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BenchKind {
    /// 8-bit reads of the PM timer's port region (a port exit).
    Port = 1,
    /// 32-bit reads of a TPM register (an MMIO exit).
    Mmio = 2,
}

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Quote [`crate::chain::QUOTE_PCRS`] of the SHA-256 bank over `nonce`.
    Quote {
        /// Qualifying data, at most [`NONCE_MAX`] bytes.
        nonce: Vec<u8>,
    },
    /// Run the channel's handshake with the VM at the other end of the channel window.
    ChannelOpen {
        /// Which end to be.
        role: Role,
    },
    /// Send one message through the open channel.
    Send {
        /// The message.
        message: Vec<u8>,
    },
    /// Take the next message from the open channel; waits for it.
    Recv,
    /// Do `count` exits of a kind.
    Bench {
        /// Which.
        kind: BenchKind,
        /// How many.
        count: u32,
    },
    /// Power off.
    PowerOff,
}

/// What the tenant answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// The parts of a quote, each in TPM wire format, and the event log.
    Quote {
        /// TPMT_PUBLIC of the AK.
        ak_public: Vec<u8>,
        /// TPMS_ATTEST.
        attest: Vec<u8>,
        /// TPMT_SIGNATURE.
        signature: Vec<u8>,
        /// TCG event log.
        event_log: Vec<u8>,
    },
    /// The channel is open.
    Opened {
        /// Name of the peer's AK (algorithm and digest).
        peer_ak_name: Vec<u8>,
    },
    /// A message that came through the channel.
    Message {
        /// Its bytes.
        message: Vec<u8>,
    },
    /// It could not be done.
    Failed {
        /// Why, for a person.
        reason: String,
    },
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Ends early, or has bytes left over.
    #[error("mailbox message has a wrong length")]
    Length,
    /// Unknown kind of message.
    #[error("mailbox message has unknown kind {0}")]
    Kind(u8),
    /// A field with a value that has no meaning.
    #[error("mailbox message has a bad {0}")]
    Field(&'static str),
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // A field longer than a box cannot be sent anyway; `encode` callers check the whole against `MESSAGE_MAX`.
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn get(c: &mut Cursor<'_>) -> Result<Vec<u8>, MessageError> {
    let len = c.u32().ok_or(MessageError::Length)?;
    Ok(c.take(len as usize).ok_or(MessageError::Length)?.to_vec())
}

fn finish<T>(c: &Cursor<'_>, value: T) -> Result<T, MessageError> {
    if c.is_empty() { Ok(value) } else { Err(MessageError::Length) }
}

impl Request {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Quote { nonce } => {
                out.push(1);
                put(&mut out, nonce);
            }
            Self::ChannelOpen { role } => out.extend([2, *role as u8]),
            Self::Send { message } => {
                out.push(3);
                put(&mut out, message);
            }
            Self::Recv => out.push(4),
            Self::Bench { kind, count } => {
                out.extend([5, *kind as u8]);
                out.extend(count.to_le_bytes());
            }
            Self::PowerOff => out.push(6),
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError`] for anything that [`Self::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut c = Cursor::new(bytes);
        let request = match c.u8().ok_or(MessageError::Length)? {
            1 => {
                let nonce = get(&mut c)?;
                if nonce.len() > NONCE_MAX {
                    return Err(MessageError::Field("nonce"));
                }
                Self::Quote { nonce }
            }
            2 => match c.u8().ok_or(MessageError::Length)? {
                1 => Self::ChannelOpen { role: Role::Initiator },
                2 => Self::ChannelOpen { role: Role::Responder },
                _ => return Err(MessageError::Field("role")),
            },
            3 => Self::Send { message: get(&mut c)? },
            4 => Self::Recv,
            5 => {
                let kind = match c.u8().ok_or(MessageError::Length)? {
                    1 => BenchKind::Port,
                    2 => BenchKind::Mmio,
                    _ => return Err(MessageError::Field("bench kind")),
                };
                Self::Bench { kind, count: c.u32().ok_or(MessageError::Length)? }
            }
            6 => Self::PowerOff,
            other => return Err(MessageError::Kind(other)),
        };
        finish(&c, request)
    }
}

impl Reply {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Done => out.push(1),
            Self::Quote { ak_public, attest, signature, event_log } => {
                out.push(2);
                for part in [ak_public, attest, signature, event_log] {
                    put(&mut out, part);
                }
            }
            Self::Opened { peer_ak_name } => {
                out.push(3);
                put(&mut out, peer_ak_name);
            }
            Self::Message { message } => {
                out.push(4);
                put(&mut out, message);
            }
            Self::Failed { reason } => {
                out.push(5);
                put(&mut out, reason.as_bytes());
            }
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError`] for anything that [`Self::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut c = Cursor::new(bytes);
        let reply = match c.u8().ok_or(MessageError::Length)? {
            1 => Self::Done,
            2 => Self::Quote {
                ak_public: get(&mut c)?,
                attest: get(&mut c)?,
                signature: get(&mut c)?,
                event_log: get(&mut c)?,
            },
            3 => Self::Opened { peer_ak_name: get(&mut c)? },
            4 => Self::Message { message: get(&mut c)? },
            5 => {
                let reason = String::from_utf8(get(&mut c)?).map_err(|_| MessageError::Field("reason"))?;
                Self::Failed { reason }
            }
            other => return Err(MessageError::Kind(other)),
        };
        finish(&c, reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn every_request_and_reply_round_trips() {
        for request in [
            Request::Quote { nonce: vec![7; 32] },
            Request::ChannelOpen { role: Role::Responder },
            Request::Send { message: vec![] },
            Request::Recv,
            Request::Bench { kind: BenchKind::Mmio, count: 9 },
            Request::PowerOff,
        ] {
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        for reply in [
            Reply::Done,
            Reply::Quote { ak_public: vec![1], attest: vec![2, 2], signature: vec![], event_log: vec![3] },
            Reply::Opened { peer_ak_name: vec![0, 11] },
            Reply::Message { message: vec![5; 100] },
            Reply::Failed { reason: "no".into() },
        ] {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn a_nonce_that_could_be_a_channel_binding_is_refused() {
        let request = Request::Quote { nonce: vec![0; 48] };
        assert_eq!(Request::decode(&request.encode()), Err(MessageError::Field("nonce")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.encode(), bytes.clone());
            }
            if let Ok(reply) = Reply::decode(&bytes) {
                prop_assert_eq!(reply.encode(), bytes);
            }
        }
    }
}
