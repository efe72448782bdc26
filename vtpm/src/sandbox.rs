//! The sandbox of the vTPM process: what it gives up before it reads its first byte.
//!
//! A vTPM holds keys and parses what a guest sends. Should a guest ever run code of its own in here, this
//! is what it finds: one socket to the monitor that the guest talks to anyway, a standard error to write
//! to, memory, randomness, the time; and, if the TPM has a state that lasts, the files of it that were opened before, to read
//! and write at places in them. No other file, no name to open one by, no other process, no network, no new program, no
//! memory that is both written and run.
//!
//! # Unsafe rules
//!
//! 1. [`enter`] closes file descriptors that it does not own. Its caller owns none but the standard
//!    three, the socket and those that it asks to keep, in this thread or any other.
//! 2. A system call that takes only integers cannot break memory safety by its arguments; what it does
//!    to the process is covered by rule 1.

#![expect(unsafe_code, reason = "file descriptors by number, as the process was given them")]

mod channels;
mod filter;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::FileType;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use thiserror::Error;

pub use channels::{Breach, enter_all};

/// Most address space in bytes: several times what the engine uses, so that a leak or an
/// absurd allocation ends this process and not the host's patience.
pub const ADDRESS_SPACE: u64 = 64 << 20;
/// Most bytes that last words may add to a log file behind standard error.
pub const LAST_WORDS: u64 = 64 << 10;

/// Most bytes that a file of the state may have.
pub const STATE_FILE: u64 = crate::state::FILE_SIZE;

/// Why the sandbox was not entered. The process must end: it is half confined.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The socket's descriptor is not one.
    #[error("file descriptor {fd} is not a connected Unix stream socket; `serve` is for a monitor to start")]
    NotTheSocket {
        /// The descriptor's number.
        fd: RawFd,
    },
    /// The process that should be the parent is not (any more).
    #[error("the parent of this process is not {expected}")]
    Orphan {
        /// The parent that was announced.
        expected: i32,
    },
    /// The system refused one of the steps.
    #[error("{step}: {source}")]
    Step {
        /// Which one.
        step: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The filter could not be built or installed.
    #[error("system call filter: {0}")]
    Filter(#[from] seccompiler::Error),
}

/// The socket to the monitor. Having one means: in the sandbox.
#[derive(Debug)]
pub struct Socket {
    fd: BorrowedFd<'static>,
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.fd, room)?)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.fd, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Confines this process for the rest of its life and returns its socket, `fd`. With `parent`, a process id,
/// the process is killed when the thread that started it ends. The descriptors in `kept` stay open; those in `written`, which
/// are regular files among them, can be read and written at offsets, and flushed.
///
/// In this order: checks that `fd` is a socket; asks for the parent's death signal; closes all other
/// descriptors but standard error and `kept`; gives up gaining privileges, being read or traced by processes of the same user,
/// core dumps, new descriptors and files that grow (those in `written`: beyond [`STATE_FILE`]); bounds the address space; filters its system calls.
///
/// # Errors
/// See [`SandboxError`]. There is no way back from the steps that were taken.
///
/// # Safety
/// No other thread runs, and nobody in this process owns a file descriptor other than the standard
/// three, `fd` and `kept` (rule 1).
pub unsafe fn enter(fd: RawFd, parent: Option<i32>, kept: &[RawFd], written: &[RawFd]) -> Result<Socket, SandboxError> {
    let socket = check_socket(fd)?;
    if let Some(expected) = parent {
        die_with(expected)?;
    }
    let mut stay = vec![socket.as_raw_fd(), rustix::stdio::raw_stderr()];
    stay.extend(kept);
    close_all_but(&stay).map_err(step("close file descriptors"))?;
    rustix::thread::set_no_new_privs(true).map_err(step("no_new_privs"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("dumpable"))?;
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Nofile, 0),
        (Resource::Fsize, growth_of_standard_error().max(if written.is_empty() { 0 } else { STATE_FILE })),
        (Resource::As, ADDRESS_SPACE),
    ] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).map_err(step("resource limits"))?;
    }
    let program = filter::program(fd, written).map_err(seccompiler::Error::from)?;
    seccompiler::apply_filter(&program)?;
    Ok(Socket { fd: socket })
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |source| SandboxError::Step { step, source: source.into() }
}

fn check_socket(fd: RawFd) -> Result<BorrowedFd<'static>, SandboxError> {
    let no = SandboxError::NotTheSocket { fd };
    if fd < 0 {
        return Err(no);
    }
    // SAFETY: rule 1: if `fd` is open nobody else owns it, so it stays open; if it is not, the calls
    // below say so and the borrow ends here.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let fits = rustix::net::sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && rustix::net::sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && rustix::net::getpeername(socket).is_ok();
    if fits { Ok(socket) } else { Err(no) }
}

fn die_with(expected: i32) -> Result<(), SandboxError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("death signal"))?;
    // It may have ended before the signal was asked for.
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    if parent.is_none_or(|parent| parent.get() != expected) {
        return Err(SandboxError::Orphan { expected });
    }
    Ok(())
}

fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|&fd| u32::try_from(fd).ok()).collect();
    kept.sort_unstable();
    let mut first = 0;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd.saturating_add(1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: rules 1 and 2.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The file-size limit: none may grow, but a log file behind standard error must take a panic's message,
/// or the limit's own signal would hide it.
fn growth_of_standard_error() -> u64 {
    match rustix::fs::fstat(rustix::stdio::stderr().as_fd()) {
        Ok(file) if FileType::from_raw_mode(file.st_mode) == FileType::RegularFile => {
            u64::try_from(file.st_size).unwrap_or(0).saturating_add(LAST_WORDS)
        }
        _ => 0,
    }
}
