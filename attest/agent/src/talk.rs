//! The agent's side of the conversation.
//!
//! ```text
//! agent                         monitor
//! hello (each second)     ─▶
//!                         ◀─    challenge(nonce)
//! evidence(claims)        ─▶
//!                         ◀─    done
//! ```
//!
//! Either may say instead that it will not: `failed`, `declined`. A monitor that does not answer, or answers without end, is given up on.

use std::fmt;
use std::io;

use crate::frame::{FrameError, Message, Reason, Receiver};

/// The line to the monitor.
pub trait Line {
    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// Whatever the line's failure is.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Waits for bytes for some time, a second or so; 0 is none.
    ///
    /// # Errors
    /// Whatever the line's failure is.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// How often each wait is repeated before the monitor is given up on.
const PATIENCE: usize = 30;
/// Bytes that the monitor may send in all. What it has to say are some dozens.
const HEARD_MAX: usize = 64 * 1024;

/// Why no evidence was handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TalkError<E: fmt::Display> {
    /// The line does not work.
    #[error("the line to the host: {0}")]
    Line(#[from] io::Error),
    /// Nobody answered.
    #[error("the host did not {0}")]
    Silent(&'static str),
    /// The host talks, but says nothing.
    #[error("the host sent {HEARD_MAX} bytes and not what it was asked for")]
    Flood,
    /// The host sent a frame that is none.
    #[error("the host sent a {0}")]
    Frame(#[from] FrameError),
    /// The host sent a message that only an agent sends.
    #[error("the host sent a message of the agent's: {0}")]
    Unexpected(&'static str),
    /// The host does not want evidence, or not this.
    #[error("the host declined: {0}")]
    Declined(Reason),
    /// The evidence could not be made.
    #[error("{0}")]
    Evidence(E),
    /// It is longer than a frame can be.
    #[error("the evidence does not fit a frame: {0}")]
    TooLarge(FrameError),
}

/// Asks for a nonce, has `evidence` made over it, hands it out and waits until it has arrived.
///
/// # Errors
/// [`TalkError`]; the host has been told of those that it did not cause.
pub fn hand_out<E: fmt::Display>(
    line: &mut impl Line,
    evidence: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<(), TalkError<E>> {
    let mut talk = Talk { line, receiver: Receiver::new(), heard: 0, waiting: Vec::new() };
    let nonce = talk.nonce()?;
    let claims = match evidence(&nonce) {
        Ok(claims) => claims,
        Err(error) => {
            talk.say(&Message::Failed(Reason::new(&error.to_string())))?;
            return Err(TalkError::Evidence(error));
        }
    };
    match Message::Evidence(claims).to_frame() {
        Ok(frame) => talk.line.send(&frame)?,
        Err(error) => {
            talk.say(&Message::Failed(Reason::new(&error.to_string())))?;
            return Err(TalkError::TooLarge(error));
        }
    }
    talk.done()
}

struct Talk<'a, L> {
    line: &'a mut L,
    receiver: Receiver,
    heard: usize,
    /// Received and not yet looked at.
    waiting: Vec<u8>,
}

impl<L: Line> Talk<'_, L> {
    fn say<E: fmt::Display>(&mut self, message: &Message) -> Result<(), TalkError<E>> {
        let frame = message.to_frame().map_err(TalkError::TooLarge)?;
        Ok(self.line.send(&frame)?)
    }

    fn nonce<E: fmt::Display>(&mut self) -> Result<Vec<u8>, TalkError<E>> {
        for _ in 0..PATIENCE {
            self.say(&Message::Hello)?;
            match self.hear()? {
                Some(Message::Challenge(nonce)) => return Ok(nonce),
                Some(other) => return Err(TalkError::Unexpected(other.name())),
                None => {}
            }
        }
        Err(TalkError::Silent("answer with a nonce"))
    }

    fn done<E: fmt::Display>(&mut self) -> Result<(), TalkError<E>> {
        let mut patience = PATIENCE;
        loop {
            match self.hear()? {
                Some(Message::Done) => return Ok(()),
                // The answer to a second hello; one quote is what it gets.
                Some(Message::Challenge(_)) => {}
                Some(other) => return Err(TalkError::Unexpected(other.name())),
                None => patience -= 1,
            }
            if patience == 0 {
                return Err(TalkError::Silent("say that the evidence has arrived"));
            }
        }
    }

    /// The next message; `None` if there was none for as long as the line waits.
    fn hear<E: fmt::Display>(&mut self) -> Result<Option<Message>, TalkError<E>> {
        loop {
            let mut bytes = &self.waiting[..];
            let message = self.receiver.take(&mut bytes);
            self.waiting = bytes.to_vec();
            match message.transpose()? {
                Some(Message::Declined(reason)) => return Err(TalkError::Declined(reason)),
                Some(message) => return Ok(Some(message)),
                None => {}
            }
            let mut buffer = [0; 256];
            let got = self.line.receive(&mut buffer)?;
            if got == 0 {
                return Ok(None);
            }
            self.heard += got;
            if self.heard > HEARD_MAX {
                return Err(TalkError::Flood);
            }
            self.waiting = buffer.get(..got).unwrap_or_default().to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// What each wait brings, then silence.
    #[derive(Default)]
    struct Script {
        brings: VecDeque<Vec<u8>>,
        for_ever: Option<Vec<u8>>,
        sent: Vec<u8>,
    }

    impl Script {
        fn of(messages: &[Message]) -> Self {
            Self { brings: messages.iter().map(|m| m.to_frame().unwrap()).collect(), ..Self::default() }
        }

        fn sent(&self) -> Vec<Message> {
            let (mut receiver, mut bytes) = (Receiver::new(), &self.sent[..]);
            std::iter::from_fn(|| receiver.take(&mut bytes)).map(Result::unwrap).collect()
        }
    }

    impl Line for Script {
        fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.sent.extend(bytes);
            Ok(())
        }

        fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self.brings.pop_front().or_else(|| self.for_ever.clone()).unwrap_or_default();
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    fn twice(nonce: &[u8]) -> Result<Vec<u8>, &'static str> {
        Ok([nonce, nonce].concat())
    }

    const NONCE: [u8; 8] = [5; 8];

    fn challenge() -> Message {
        Message::Challenge(NONCE.to_vec())
    }

    #[test]
    fn the_nonce_is_asked_for_until_it_comes_and_the_evidence_handed_out_once() {
        let mut line = Script::of(&[challenge(), challenge(), Message::Done]);
        line.brings.push_front(Vec::new());
        line.brings.push_front(b"some noise".to_vec());
        hand_out(&mut line, twice).unwrap();
        assert_eq!(line.sent(), [Message::Hello, Message::Hello, Message::Evidence([NONCE, NONCE].concat())]);
    }

    #[test]
    fn a_silent_host_is_given_up_on() {
        let mut line = Script::default();
        assert!(matches!(hand_out(&mut line, twice), Err(TalkError::Silent(_))));
        assert_eq!(line.sent().len(), PATIENCE);
        let mut line = Script::of(&[challenge()]);
        assert!(matches!(hand_out(&mut line, twice), Err(TalkError::Silent(_))));
    }

    #[test]
    fn a_host_that_talks_without_end_is_given_up_on() {
        for noise in [b"\xB7bla\x01".to_vec(), challenge().to_frame().unwrap(), b"x".to_vec()] {
            let mut line = Script::of(&[challenge()]);
            line.for_ever = Some(noise);
            assert!(hand_out(&mut line, twice).is_err());
        }
    }

    #[test]
    fn a_host_that_says_what_only_an_agent_says_is_refused() {
        for message in [Message::Hello, Message::Done, Message::Failed(Reason::new("x"))] {
            assert!(matches!(hand_out(&mut Script::of(&[message]), twice), Err(TalkError::Unexpected(_))));
        }
        let mut line = Script::default();
        line.brings.push_back(b"\xB7bla\x01\x02\xFF\xFF\xFF\xFF".to_vec());
        assert!(matches!(hand_out(&mut line, twice), Err(TalkError::Frame(FrameError::Length { .. }))));
        let mut line = Script::of(&[Message::Declined(Reason::new("not now"))]);
        assert_eq!(hand_out(&mut line, twice).unwrap_err().to_string(), "the host declined: not now");
    }

    #[test]
    fn the_host_is_told_why_there_is_no_evidence() {
        let mut line = Script::of(&[challenge()]);
        let failed = hand_out(&mut line, |_| Err("no TPM"));
        assert!(matches!(failed, Err(TalkError::Evidence("no TPM"))));
        assert_eq!(line.sent(), [Message::Hello, Message::Failed(Reason::new("no TPM"))]);
        let mut line = Script::of(&[challenge()]);
        let long = hand_out(&mut line, |_| Ok::<_, &str>(vec![0; crate::frame::EVIDENCE_MAX + 1]));
        assert!(matches!(long, Err(TalkError::TooLarge(_))));
        assert!(matches!(line.sent()[..], [Message::Hello, Message::Failed(_)]));
    }
}
