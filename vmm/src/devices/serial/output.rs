//! Buffered output of a serial port.
//!
//! The UART flushes after every byte. A system call a byte is what makes consoles slow, so here the guest's bytes are
//! collected and written out with the line, when the buffer is full, or when they have waited for
//! [`FLUSH_AFTER_NS`] (a prompt has no newline).

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;

use crate::devices::Clock;

/// Bytes that are collected at most before they are written.
pub const BUFFER_LEN: usize = 1024;
/// How long a byte waits at most, provided someone calls [`super::SerialPort::tick`].
pub const FLUSH_AFTER_NS: u64 = 10_000_000;

/// What is at the other end of a serial line.
pub trait Peer: Send {
    /// Takes what the guest has sent, and says what it answers. It is called while the guest waits, on a vCPU's thread or the
    /// timer's, so the answer comes at the same point of the guest's run each time.
    ///
    /// # Errors
    /// Whatever keeps it from taking the bytes; they are lost then.
    fn receive(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>>;
}

/// A writer is a peer that never answers.
impl<W: Write + Send> Peer for W {
    fn receive(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.write_all(bytes)?;
        self.flush()?;
        Ok(Vec::new())
    }
}

pub(super) struct Output {
    peer: Box<dyn Peer>,
    clock: Arc<dyn Clock>,
    pending: Vec<u8>,
    /// VM time by which `pending` is written; there is one while it is not empty.
    deadline: Option<u64>,
    /// Bytes that the peer refused.
    lost: u64,
    /// What the peer has answered and the guest has not been given.
    answer: Vec<u8>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("pending", &self.pending.len()).field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Output {
    pub(super) fn new(peer: Box<dyn Peer>, clock: Arc<dyn Clock>) -> Self {
        Self { peer, clock, pending: Vec::with_capacity(BUFFER_LEN), deadline: None, lost: 0, answer: Vec::new() }
    }

    pub(super) const fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// The peer's answers to what has been written out, once.
    pub(super) fn take_answer(&mut self) -> Vec<u8> {
        mem::take(&mut self.answer)
    }

    /// Writes out what waits. A peer that fails loses the bytes: the guest's UART has no way to be told.
    pub(super) fn drain(&mut self) {
        self.deadline = None;
        if !self.pending.is_empty() {
            match self.peer.receive(&self.pending) {
                Ok(answer) => self.answer.extend(answer),
                Err(_) => self.lost = self.lost.saturating_add(self.pending.len() as u64),
            }
            self.pending.clear();
        }
    }
}

impl Write for Output {
    /// Takes all of `buf`; never fails.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        for byte in buf {
            self.pending.push(*byte);
            if *byte == b'\n' || self.pending.len() >= BUFFER_LEN {
                self.drain();
            }
        }
        if !self.pending.is_empty() && self.deadline.is_none() {
            self.deadline = Some(self.clock.now().saturating_add(FLUSH_AFTER_NS));
            self.clock.deadline_changed();
        }
        Ok(buf.len())
    }

    /// Does nothing, on purpose: the UART calls it after every byte.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.drain();
    }
}
