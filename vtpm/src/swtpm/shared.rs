//! What the threads of the program share.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::code::Code;
use super::log::Log;
use super::machine::Machine;

/// Why the program ends.
#[derive(Debug)]
pub(super) enum End {
    /// A signal asked for it.
    Signal,
    /// The control channel asked for it, or its client left and was to be the last.
    Control,
    /// The data channel's client left and was to be the last.
    LastClient,
    /// A channel failed.
    Failed(&'static str, io::Error),
    /// A thread died of a bug.
    Bug,
}

/// What the threads of the program share.
pub(super) struct Shared {
    machine: Mutex<Machine>,
    /// Makes a running command end with TPM_RC_CANCELED.
    pub(super) cancel: Arc<AtomicBool>,
    /// Whether the TPM has power.
    pub(super) power: Arc<AtomicBool>,
    /// What the control channel tells of keys.
    pub(super) config: u32,
    /// The descriptor that the control channel gave to the data channel.
    pub(super) data: Handover,
    /// The log.
    pub(super) log: Log,
}

impl Shared {
    /// Takes the machine, and the log.
    pub(super) fn new(machine: Machine, log: Log) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            cancel: machine.cancel_flag(),
            power: machine.power_flag(),
            config: machine.config(),
            machine: Mutex::new(machine),
            data: Handover::new()?,
            log,
        }))
    }

    /// The machine, after the command under way. One in which a thread died is still good for being switched off.
    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The machine, if its TPM has power.
    pub(super) fn running(&self) -> Result<MutexGuard<'_, Machine>, Code> {
        Some(self.machine()).filter(|machine| machine.is_running()).ok_or(Code::BadOrdinal)
    }
}

/// A place for one descriptor on its way from the control channel to the data channel.
#[derive(Debug)]
pub(super) struct Handover {
    bell: OwnedFd,
    waiting: Mutex<Option<OwnedFd>>,
    /// Given, and its client has not gone yet.
    used: AtomicBool,
}

impl Handover {
    fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { bell, waiting: Mutex::new(None), used: AtomicBool::new(false) })
    }

    /// Readable when a descriptor waits.
    pub(super) const fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Gives a descriptor; hands it back if one is in use.
    pub(super) fn give(&self, fd: OwnedFd) -> Result<(), OwnedFd> {
        if self.used.swap(true, Ordering::AcqRel) {
            return Err(fd);
        }
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(fd);
        // Room for one more than is ever there: this cannot fail.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// The descriptor that waits.
    pub(super) fn collect(&self) -> Option<OwnedFd> {
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A client of the data channel is gone: if it was the given one, another may be given.
    pub(super) fn gone(&self) {
        if self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.used.store(false, Ordering::Release);
        }
    }
}

/// Tells the program's main thread of this thread's end, also of one that nobody planned.
pub(super) struct Watch(pub(super) Sender<End>);

impl Watch {
    /// The planned end.
    pub(super) fn end(&self, end: End) {
        drop(self.0.send(end));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.send(End::Bug));
        }
    }
}
