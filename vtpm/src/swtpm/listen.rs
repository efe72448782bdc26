//! Sockets: made, bound, and taken over.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use thiserror::Error;

use super::inherited::Inherited;
use super::options::Source;

/// How many clients may wait for the one before them to leave.
const BACKLOG: i32 = 16;

/// A channel's end before anybody is connected, or after.
#[derive(Debug)]
pub(super) enum Endpoint {
    /// Connections are accepted here, one at a time.
    Listening(OwnedFd),
    /// This is the connection.
    Connected(OwnedFd),
}

/// Why a socket could not be had.
#[derive(Debug, Error)]
#[error("{place}: {source}")]
pub struct ListenError {
    place: String,
    source: io::Error,
}

/// The name of a Unix socket, which goes when the program ends.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Opens, or takes over, what `source` describes.
pub(super) fn open(source: &Source, inherited: &mut Inherited) -> Result<(Endpoint, Option<SocketFile>), ListenError> {
    let at = |place: &dyn std::fmt::Display| {
        let place = place.to_string();
        move |source: io::Error| ListenError { place, source }
    };
    match source {
        Source::Tcp { address, port } => {
            let place = SocketAddr::new(*address, *port);
            Ok((Endpoint::Listening(tcp(place).map_err(at(&place))?), None))
        }
        Source::Unix { path, mode } => {
            let socket = unix(path, *mode).map_err(at(&path.display()))?;
            Ok((Endpoint::Listening(socket), Some(SocketFile(path.clone()))))
        }
        Source::Listening(fd) => {
            Ok((Endpoint::Listening(inherited_socket(*fd, inherited).map_err(at(&format_args!("fd {fd}")))?), None))
        }
        Source::Connected(fd) => {
            Ok((Endpoint::Connected(inherited_socket(*fd, inherited).map_err(at(&format_args!("fd {fd}")))?), None))
        }
    }
}

fn tcp(place: SocketAddr) -> io::Result<OwnedFd> {
    let family = if place.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A TPM that is started again finds its port in TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &place)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn unix(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    // A socket of that name which nobody listens on is left from a process that was killed.
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        match rustix::net::connect(&probe, &rustix::net::SocketAddrUnix::new(path)?) {
            Err(Errno::CONNREFUSED) => fs::remove_file(path)?,
            _ => return Err(Errno::ADDRINUSE.into()),
        }
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Nobody but us until its mode is set.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(&socket, &rustix::net::SocketAddrUnix::new(path)?);
    rustix::process::umask(before);
    bound?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn inherited_socket(fd: i32, inherited: &mut Inherited) -> io::Result<OwnedFd> {
    let socket = inherited.take(fd)?;
    sockopt::socket_type(&socket)?;
    Ok(socket)
}

/// Waits until one of the descriptors has something, or for `timeout`. Answers which have.
pub(super) fn wait<const N: usize>(fds: [Option<&OwnedFd>; N], timeout: Option<&Timespec>) -> io::Result<[bool; N]> {
    let mut ready = [false; N];
    let (places, mut polled): (Vec<usize>, Vec<PollFd<'_>>) =
        fds.iter().enumerate().filter_map(|(place, fd)| fd.map(|fd| (place, PollFd::new(fd, PollFlags::IN)))).unzip();
    loop {
        match poll(&mut polled, timeout) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (place, fd) in places.into_iter().zip(&polled) {
        if let Some(slot) = ready.get_mut(place) {
            *slot = !fd.revents().is_empty();
        }
    }
    Ok(ready)
}

/// Writes all of it, to a peer that may have gone.
pub(super) fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(fd, bytes, rustix::net::SendFlags::NOSIGNAL) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Not a socket but a character device or a pipe.
            Err(Errno::NOTSOCK) => match rustix::io::write(fd, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
