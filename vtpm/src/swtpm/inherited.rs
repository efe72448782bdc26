//! Descriptors that the process was started with and is told of by number.
//!
//! # Unsafe rules
//!
//! 1. [`Inherited::adopt`] takes ownership of descriptors by number. Its caller has opened none yet, in this thread or any
//!    other, so those that are open were left to this process by whoever started it and belong to nobody here.
//! 2. It takes no number twice and none of the standard three, which Rust's library uses.

#![expect(unsafe_code, reason = "file descriptors by number, as the process was given them")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// The descriptors that the command line names, each until it is taken.
#[derive(Debug, Default)]
pub struct Inherited {
    fds: BTreeMap<RawFd, OwnedFd>,
}

impl Inherited {
    /// Takes possession of the descriptors with these numbers, so far as they are above 2.
    ///
    /// # Errors
    /// If one of them is not open.
    ///
    /// # Safety
    /// Nothing in this process has opened a file descriptor yet (rule 1).
    pub unsafe fn adopt(numbers: impl IntoIterator<Item = RawFd>) -> io::Result<Self> {
        let mut fds = BTreeMap::new();
        for number in numbers {
            if number <= 2 || fds.contains_key(&number) {
                continue;
            }
            // SAFETY: rule 1; if it is not open the next call says so, and the borrow ends there.
            let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_getfd(borrowed).map_err(|error| {
                io::Error::new(io::Error::from(error).kind(), format!("file descriptor {number}: {error}"))
            })?;
            // SAFETY: rules 1 and 2: it is open, nobody else in this process owns it, and it is not in the map yet.
            fds.insert(number, unsafe { OwnedFd::from_raw_fd(number) });
        }
        Ok(Self { fds })
    }

    /// Hands out the descriptor with this number: one that was adopted, once; or a copy of standard output or standard error.
    pub(super) fn take(&mut self, number: RawFd) -> io::Result<OwnedFd> {
        match number {
            1 => io::stdout().as_fd().try_clone_to_owned(),
            2 => io::stderr().as_fd().try_clone_to_owned(),
            _ => self.fds.remove(&number).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("file descriptor {number} is wanted twice, or not open"),
                )
            }),
        }
    }
}
