//! What can go wrong for a monitor that talks to its vTPM, split by who is at fault.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::frame::{FrameError, MAX_PAYLOAD, Op, Status};

/// Who has to change for an [`Error`](enum@Error) to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The monitor, which asked for what cannot be asked.
    Caller,
    /// The vTPM process, which broke the protocol, hung or died.
    Vtpm,
    /// The operating system under both.
    Host,
}

/// Why the vTPM gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's bytes do not fit a frame; nothing was sent.
    #[error("{op}: {length} bytes are more than the {MAX_PAYLOAD} a vTPM takes at once")]
    TooLong {
        /// What was asked.
        op: Op,
        /// Length of the bytes.
        length: usize,
    },
    /// The vTPM refused, and stands where it stood.
    #[error("the vTPM refused {op}: {status}")]
    Refused {
        /// What was asked.
        op: Op,
        /// The vTPM's reason.
        status: Status,
    },
    /// The vTPM's answer is not what the protocol knows.
    #[error("the vTPM broke the protocol in its answer to {op}: {source}")]
    Protocol {
        /// What was asked.
        op: Op,
        /// What is wrong with the answer.
        source: BadReply,
    },
    /// The vTPM process closed the socket: it has ended or is about to.
    #[error("the vTPM process ended before it answered {op}")]
    Ended {
        /// What was asked.
        op: Op,
    },
    /// No whole answer within the limit.
    #[error("the vTPM did not answer {op} within {} s", limit.as_secs_f32())]
    TimedOut {
        /// What was asked.
        op: Op,
        /// The limit that ran out.
        limit: Duration,
    },
    /// The socket failed.
    #[error("the socket to the vTPM failed during {op}: {source}")]
    Socket {
        /// What was asked.
        op: Op,
        /// The system's reason.
        source: io::Error,
    },
    /// An earlier call failed in a way that left request and answer out of step.
    #[error("{op}: the vTPM was given up after an earlier failure")]
    GivenUp {
        /// What was asked.
        op: Op,
    },
}

/// What is wrong with a reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BadReply {
    /// It is not one frame.
    #[error(transparent)]
    Frame(FrameError),
    /// Its status has no meaning.
    #[error("status {0} is unknown")]
    Status(u8),
    /// Its payload is not of the length that the operation has.
    #[error("a payload of {0} bytes is not what was asked for")]
    Payload(usize),
}

impl Error {
    /// Who is at fault.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::TooLong { .. } | Self::Refused { .. } | Self::GivenUp { .. } => Fault::Caller,
            Self::Protocol { .. } | Self::Ended { .. } | Self::TimedOut { .. } => Fault::Vtpm,
            Self::Socket { .. } => Fault::Host,
        }
    }
}

/// Why no vTPM process could be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No socket could be made or set up.
    #[error("no socket for a vTPM: {0}")]
    Socket(#[source] io::Error),
    /// The program did not start.
    #[error("could not start the vTPM program {}: {source}", binary.display())]
    Start {
        /// The program.
        binary: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
