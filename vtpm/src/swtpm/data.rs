//! The data channel: commands in, responses out, for one client at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bulla_tpm_types::Rc;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use zeroize::{Zeroize as _, Zeroizing};

use super::listen::{Endpoint, wait, write_all};
use super::log::{COMMANDS, EVENTS};
use super::machine::{HEADER, PREFIX, announced_length};
use super::shared::{End, Shared};
use crate::engine::{MAX_COMMAND_SIZE, command_name};

/// How long the rest of a command may take that came in part. After that what is there is executed, and answers that
/// its size is wrong.
const REST: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// Room for the longest message, and one byte by which it shows that there is more.
const ROOM: usize = PREFIX + MAX_COMMAND_SIZE + 1;

/// How the channel treats its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// A connection ends with its first response.
    pub(super) disconnect: bool,
    /// The program ends with a connection.
    pub(super) terminate: bool,
}

/// Serves clients until the program is to end.
pub(super) fn serve(shared: &Arc<Shared>, endpoint: Option<Endpoint>, manners: Manners) -> io::Result<End> {
    let (listener, mut client) = match endpoint {
        Some(Endpoint::Listening(fd)) => (Some(fd), None),
        Some(Endpoint::Connected(fd)) => (None, Some(fd)),
        None => (None, None),
    };
    let mut manners_now = manners;
    let mut message = Message::new();
    loop {
        let waiting = if client.is_none() { listener.as_ref() } else { None };
        let [given, from_client, from_listener] = wait([Some(shared.data.bell()), client.as_ref(), waiting], None)?;
        if given && let Some(fd) = shared.data.collect() {
            // As in swtpm, the descriptor from the control channel takes the place of a client.
            client = Some(fd);
            manners_now.disconnect = false;
            continue;
        }
        if from_listener && let Some(listener) = &listener {
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(fd) => client = Some(fd),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        if !from_client {
            continue;
        }
        let Some(fd) = &client else { continue };
        let stays = match exchange(shared, fd, &mut message) {
            Ok(answered) => answered && !manners_now.disconnect,
            Err(error) => {
                shared.log.line(EVENTS, format_args!("data channel: {error}"));
                false
            }
        };
        message.forget();
        if !stays {
            client = None;
            shared.data.gone();
            if manners.terminate {
                return Ok(End::LastClient);
            }
        }
    }
}

/// One command and its response; `false` if the client has gone.
fn exchange(shared: &Shared, fd: &OwnedFd, message: &mut Message) -> io::Result<bool> {
    if !receive(shared, fd, message)? {
        return Ok(false);
    }
    let answer = shared.machine().message(message.received());
    let bytes = Zeroizing::new(answer.bytes);
    let (code, result) = answer.codes;
    let name = code.and_then(command_name).unwrap_or("a command that does not exist");
    let result = result.unwrap_or(Rc(0)).0;
    shared.log.line(COMMANDS, format_args!("{name} ({:#x}): {result:#x}", code.unwrap_or(0)));
    write_all(fd, &bytes)?;
    Ok(true)
}

/// What has come from the client. The room is used again for each message, and only what was used is overwritten: a command
/// is short, and to overwrite a byte costs more than to receive it.
struct Message {
    room: Zeroizing<Vec<u8>>,
    length: usize,
}

impl Message {
    fn new() -> Self {
        Self { room: Zeroizing::new(vec![0; ROOM]), length: 0 }
    }

    fn received(&self) -> &[u8] {
        self.room.get(..self.length).unwrap_or_default()
    }

    fn free(&mut self) -> &mut [u8] {
        self.room.get_mut(self.length..).unwrap_or_default()
    }

    fn forget(&mut self) {
        self.room.get_mut(..self.length).unwrap_or_default().zeroize();
        self.length = 0;
    }
}

/// Reads a message: what the client has written when its announced length is there, or what there is when the rest does not come.
/// A length beyond the longest command is not waited for: whatever has come is executed and refused for its size.
fn receive(shared: &Shared, fd: &OwnedFd, message: &mut Message) -> io::Result<bool> {
    loop {
        match rustix::io::read(fd, message.free()) {
            Ok(0) if message.length == 0 => return Ok(false),
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client left within a command")),
            Ok(count) => message.length += count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let missing = match announced_length(message.received()) {
            Some(length) => length <= PREFIX + MAX_COMMAND_SIZE && message.length < length,
            None => false,
        };
        // As swtpm does, a header is waited for without end: the client alone has to wait then.
        let headless = message.length < HEADER;
        if !missing && !headless {
            return Ok(true);
        }
        let limit = if headless { None } else { Some(&REST) };
        match wait([Some(shared.data.bell()), Some(fd)], limit)? {
            [_, true] => {}
            [true, false] => {
                return Err(io::Error::other("the control channel gave another client within a command"));
            }
            [false, false] => return Ok(true),
        }
    }
}
