//! The answering side of the protocol between a monitor and its vTPM process.
//!
//! The protocol itself, its frames and its numbers are in [`bulla_vtpm_client`]. This module knows neither
//! sockets nor the TPM: it serves any stream from any [`Engine`].

use std::io::{self, ErrorKind, Read, Write};

use bulla_vtpm_client::frame::{FrameBuffer, FrameError, Request};
use bulla_vtpm_client::{Exit, Locality, MAX_PAYLOAD, Op, PROTOCOL_VERSION, Status};
use thiserror::Error;
use zeroize::Zeroizing;

/// What is served: a TPM as its platform sees it.
///
/// The server keeps the signals in order, so an engine is never given a hash signal out of
/// sequence, a command inside one, or anything before power.
pub trait Engine {
    /// `_TPM_Init`: power comes on, or goes and comes on again.
    fn power_on(&mut self);
    /// Executes a command, at most [`MAX_PAYLOAD`] bytes of anything, and returns the response, at most
    /// [`MAX_PAYLOAD`] bytes.
    fn execute(&mut self, locality: Locality, command: &[u8]) -> Vec<u8>;
    /// `_TPM_Hash_Start`.
    fn hash_start(&mut self);
    /// `_TPM_Hash_Data`.
    fn hash_data(&mut self, data: &[u8]);
    /// `_TPM_Hash_End`; returns the marshalled TPML_DIGEST_VALUES that was extended.
    fn hash_end(&mut self) -> Vec<u8>;
}

/// Why the conversation broke off. The monitor's leaving is no error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The monitor sent what is not a frame.
    #[error("not a frame: {0}")]
    Frame(#[source] FrameError),
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[source] io::Error),
    /// The engine's response does not fit a frame.
    #[error("the engine answered with {length} bytes; at most {MAX_PAYLOAD} fit")]
    Response {
        /// Length of the response in bytes.
        length: usize,
    },
}

impl ServeError {
    /// How the process has to end.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Frame(_) => Exit::Frame,
            Self::Socket(_) => Exit::Socket,
            Self::Response { .. } => Exit::Engine,
        }
    }
}

/// Answers requests from `stream` until the monitor leaves.
///
/// # Errors
/// See [`ServeError`].
pub fn serve(engine: &mut impl Engine, stream: &mut (impl Read + Write)) -> Result<(), ServeError> {
    let mut requests = FrameBuffer::new();
    let mut replies = FrameBuffer::new();
    let mut platform = Platform::default();
    loop {
        let request = match requests.receive_request(stream) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => return left_or(error),
        };
        // Responses carry secrets as commands do: unsealed data, for one.
        let (status, payload) = match answer(engine, &mut platform, request) {
            Ok(payload) => (Status::Done, Zeroizing::new(payload)),
            Err(status) => (status, Zeroizing::default()),
        };
        if let Err(error) = replies.send_reply(stream, status, &payload) {
            return left_or(error);
        }
    }
}

/// A monitor that is killed leaves its last reply unread, which shows as a reset.
fn left_or(error: FrameError) -> Result<(), ServeError> {
    match error {
        FrameError::Io(error) => match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(()),
            _ => Err(ServeError::Socket(error)),
        },
        FrameError::PayloadTooLong { length } => Err(ServeError::Response { length }),
        error => Err(ServeError::Frame(error)),
    }
}

/// What a platform knows of its TPM.
#[derive(Debug, Default)]
struct Platform {
    power: Power,
    /// A command came since power-on: a hash sequence from now on is a dynamic launch.
    commanded: bool,
    /// A dynamic launch has happened.
    established: bool,
}

/// Where the TPM stands, as far as its platform's signals go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Power {
    #[default]
    Off,
    On,
    Hashing,
}

impl Power {
    /// The table of legal changes; `None`: `op` is out of place.
    const fn after(self, op: Op) -> Option<Self> {
        match (self, op) {
            (same, Op::Info | Op::Established) => Some(same),
            (_, Op::PowerOn) => Some(Self::On),
            (Self::On, Op::Command | Op::ResetEstablished) => Some(Self::On),
            (Self::On, Op::HashStart) | (Self::Hashing, Op::HashData) => Some(Self::Hashing),
            (Self::Hashing, Op::HashEnd) => Some(Self::On),
            _ => None,
        }
    }
}

fn answer(engine: &mut impl Engine, platform: &mut Platform, request: Request<'_>) -> Result<Vec<u8>, Status> {
    let op = Op::from_number(request.op).ok_or(Status::UnknownOp)?;
    let locality = Locality::try_from(request.locality).map_err(|_| Status::Locality)?;
    let from_its_locality = match op {
        Op::Command => true,
        Op::HashStart | Op::HashData | Op::HashEnd => locality == Locality::FOUR,
        Op::PowerOn | Op::Info | Op::Established => locality == Locality::ZERO,
        Op::ResetEstablished => locality.get() >= 3,
    };
    if !from_its_locality {
        return Err(Status::Locality);
    }
    let payload = request.payload;
    let of_its_length = match op {
        Op::Command | Op::HashData => true,
        Op::PowerOn => payload.len() == size_of_val(&PROTOCOL_VERSION),
        Op::HashStart | Op::HashEnd | Op::Info | Op::Established | Op::ResetEstablished => payload.is_empty(),
    };
    if !of_its_length {
        return Err(Status::Payload);
    }
    let next = platform.power.after(op).ok_or(Status::OutOfPlace)?;
    if op == Op::PowerOn && payload != PROTOCOL_VERSION.to_be_bytes() {
        return Err(Status::Version);
    }
    platform.power = next;

    let mut payload_out = Vec::new();
    match op {
        Op::Command => {
            platform.commanded = true;
            payload_out = engine.execute(locality, payload);
        }
        Op::HashStart => {
            platform.established |= platform.commanded;
            engine.hash_start();
        }
        Op::HashData => engine.hash_data(payload),
        Op::HashEnd => payload_out = engine.hash_end(),
        Op::PowerOn => {
            platform.commanded = false;
            engine.power_on();
        }
        Op::Established => payload_out.push(platform.established.into()),
        Op::ResetEstablished => platform.established = false,
        Op::Info => {
            let max = u16::try_from(MAX_PAYLOAD).unwrap_or(u16::MAX);
            payload_out.extend(PROTOCOL_VERSION.to_be_bytes());
            payload_out.extend(max.to_be_bytes());
        }
    }
    Ok(payload_out)
}
