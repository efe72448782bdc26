//! The control channel: requests that a platform makes of its TPM, beside the commands.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, accept_with, recvmsg};
use zeroize::{Zeroize as _, Zeroizing};

use super::code::Code;
use super::info;
use super::listen::{Endpoint, wait, write_all};
use super::log::{COMMANDS, EVENTS};
use super::machine::{Blob, Refused};
use super::request::{self, Request};
use super::shared::{End, Shared};
use crate::engine::MAX_COMMAND_SIZE;

/// How long a request may pause within itself.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// How much is read at once.
const CHUNK: usize = 4096;

/// PTM_CAP_*: every request there is, and the command channel's prefix (bit 15).
const CAPABILITIES: u32 = 0x1_ffff;

/// PTM_STATE_FLAG_DECRYPTED.
const STATE_DECRYPTED: u32 = 1;
/// PTM_STATE_FLAG_ENCRYPTED.
const STATE_ENCRYPTED: u32 = 2;

/// What becomes of the conversation after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Goes,
    Ends,
}

/// Serves controlling processes, one at a time, until the program is to end.
pub(super) fn serve(shared: &Arc<Shared>, endpoint: Endpoint, terminate: bool) -> io::Result<End> {
    let (listener, mut client) = match endpoint {
        Endpoint::Listening(fd) => (Some(fd), None),
        Endpoint::Connected(fd) => (None, Some(fd)),
    };
    loop {
        let Some(fd) = &client else {
            let Some(listener) = &listener else { return Ok(End::Control) };
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(fd) => client = Some(fd),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
            continue;
        };
        match converse(shared, fd) {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => {}
            Err(error) => shared.log.line(EVENTS, format_args!("control channel: {error}")),
        }
        client = None;
        if terminate {
            return Ok(End::Control);
        }
    }
}

/// Answers one controlling process until it leaves.
fn converse(shared: &Shared, fd: &OwnedFd) -> io::Result<Option<End>> {
    let mut message = Zeroizing::new(Vec::new());
    loop {
        message.zeroize();
        let (complete, given) = receive(fd, &mut message)?;
        if message.is_empty() {
            return Ok(None);
        }
        // What cannot be framed ends the conversation if more of it may come.
        let framed = complete.is_ok();
        let (bytes, then) = reply(shared, &message, complete, given);
        write_all(fd, &bytes)?;
        if then == Then::Ends {
            return Ok(Some(End::Control));
        }
        if !framed && message.len() >= CHUNK {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more data than a request may have"));
        }
    }
}

/// What a message is answered, whose end was found or not, and a descriptor that came along.
pub(super) fn reply(
    shared: &Shared,
    message: &[u8],
    complete: Result<(), Code>,
    given: Option<OwnedFd>,
) -> (Zeroizing<Vec<u8>>, Then) {
    let request = complete.and_then(|()| Request::parse(message));
    request.and_then(|request| answer(shared, request, given)).unwrap_or_else(|code| {
        let number = message.first_chunk::<4>().map_or(0, |n| u32::from_be_bytes(*n));
        shared.log.line(EVENTS, format_args!("control channel: request {number:#x} refused: {code}"));
        (Zeroizing::new((code as u32).to_be_bytes().to_vec()), Then::Goes)
    })
}

/// Reads one request: all that its length calls for, and what came with it. Answers also a descriptor that came along.
fn receive(fd: &OwnedFd, message: &mut Vec<u8>) -> io::Result<(Result<(), Code>, Option<OwnedFd>)> {
    let mut chunk = Zeroizing::new([0_u8; CHUNK]);
    let mut given = None;
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let count = match recvmsg(fd, &mut [IoSliceMut::new(&mut *chunk)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => got.bytes,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                given = fds.last().or(given);
            }
        }
        if count == 0 {
            if !message.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client left within a request"));
            }
            return Ok((Ok(()), None));
        }
        message.extend_from_slice(chunk.get(..count).unwrap_or_default());
        match request::length(message) {
            Err(code) => return Ok((Err(code), given)),
            Ok(length) if message.len() >= length => return Ok((Ok(()), given)),
            Ok(_) => {}
        }
        let [more] = wait([Some(fd)], Some(&PAUSE))?;
        if !more {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the rest of a request did not come"));
        }
    }
}

/// Does what a request asks and answers the response's bytes.
fn answer(shared: &Shared, request: Request<'_>, given: Option<OwnedFd>) -> Result<(Zeroizing<Vec<u8>>, Then), Code> {
    shared.log.line(COMMANDS, format_args!("control channel: {}", request.name()));
    let mut then = Then::Goes;
    let mut out = Out::new();
    match request {
        // These three are answered while a command runs.
        Request::GetCapability => out.u32(CAPABILITIES),
        Request::GetConfig => out.u32(shared.config),
        Request::Cancel => {
            if !shared.power.load(Ordering::Acquire) {
                return Err(Code::BadOrdinal);
            }
            shared.cancel.store(true, Ordering::Relaxed);
        }
        // A volatile state is good for one power-on whether or not the flag says that it be deleted.
        Request::Init { flags: _ } => {
            shared.machine().power_on().map_err(|error| refused(shared, &error))?;
        }
        Request::Stop => shared.machine().power_off(),
        Request::Shutdown => {
            shared.machine().power_off();
            then = Then::Ends;
        }
        Request::SetLocality(number) => shared.machine().set_locality(number)?,
        Request::GetEstablished => out.u32(u32::from(shared.running()?.established()) << 24),
        Request::ResetEstablished(locality) => shared.running()?.reset_established(locality)?,
        Request::HashStart => shared.running()?.hash_start(),
        Request::HashData(data) => shared.running()?.hash_data(data),
        Request::HashEnd => shared.running()?.hash_end(),
        Request::StoreVolatile => shared.running()?.suspend().map_err(|error| refused(shared, &error))?,
        Request::GetBlob { flags, kind, offset } => {
            let machine = shared.running()?;
            let blob = Blob::from_number(kind).ok_or(Code::Fail)?;
            let plain = flags & STATE_DECRYPTED != 0;
            let (bytes, encrypted) = machine.state(blob, plain).map_err(|error| refused(shared, &error))?;
            let rest = usize::try_from(offset).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
            out.u32(if encrypted { STATE_ENCRYPTED } else { 0 });
            // How much there is, and how much of it follows.
            out.u32(rest.len() as u32);
            out.u32(rest.len() as u32);
            out.0.extend_from_slice(rest);
        }
        Request::SetBlob { flags, kind, blob } => {
            let mut machine = shared.machine();
            if machine.is_running() {
                return Err(Code::BadOrdinal);
            }
            let kind = Blob::from_number(kind).ok_or(Code::BadParameter)?;
            let encrypted = flags & STATE_ENCRYPTED != 0;
            machine.set_state(kind, blob, encrypted).map_err(|error| refused(shared, &error))?;
        }
        Request::SetDataFd => {
            let fd = given.ok_or(Code::BadParameter)?;
            shared.data.give(fd).map_err(|_| Code::Io)?;
        }
        Request::SetBufferSize(size) => {
            if size > 0 && shared.machine().is_running() {
                return Err(Code::BadOrdinal);
            }
            // In use, least, most: there is one size.
            for _ in 0..3 {
                out.u32(MAX_COMMAND_SIZE as u32);
            }
        }
        Request::GetInfo { flags, offset } => {
            let text = info::json(flags).ok_or(Code::Fail)?;
            let offset = usize::try_from(offset).map_err(|_| Code::BadParameter)?;
            let rest = text.as_bytes().get(offset..).filter(|rest| !rest.is_empty()).ok_or(Code::BadParameter)?;
            // As in C, the text ends with a zero.
            out.u32(text.len() as u32 + 1);
            out.u32(rest.len() as u32 + 1);
            out.0.extend_from_slice(rest);
            out.0.push(0);
        }
        Request::LockStorage { retries: _ } => match shared.machine().lock() {
            Ok(true) => {}
            Ok(false) => {
                shared
                    .log
                    .line(EVENTS, format_args!("another process has stored the TPM's state since it was unlocked"));
                return Err(Code::Fail);
            }
            Err(error) => {
                shared.log.line(EVENTS, format_args!("{error}"));
                return Err(Code::Fail);
            }
        },
    }
    Ok((out.0, then))
}

/// Logs why a state was refused.
fn refused(shared: &Shared, error: &Refused) -> Code {
    shared.log.line(EVENTS, format_args!("control channel: {error}"));
    error.code()
}

/// A response that begins with success.
struct Out(Zeroizing<Vec<u8>>);

impl Out {
    fn new() -> Self {
        Self(Zeroizing::new(vec![0; 4]))
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
}
