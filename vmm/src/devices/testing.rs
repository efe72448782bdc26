//! What the tests of several devices share.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Clock, IrqLine, lock};
use crate::backend::{BackendError, IrqSink, Msi};

/// A clock that moves when told.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    now: AtomicU64,
    wall: AtomicU64,
    pub(crate) rearmed: AtomicUsize,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn set(&self, now: u64) {
        self.now.store(now, Ordering::SeqCst);
    }

    pub(crate) fn set_wall(&self, wall: u64) {
        self.wall.store(wall, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, ns: u64) {
        self.now.fetch_add(ns, Ordering::SeqCst);
        self.wall.fetch_add(ns, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }
    fn wall(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }
    fn deadline_changed(&self) {
        self.rearmed.fetch_add(1, Ordering::SeqCst);
    }
}

/// A line that counts its rising edges.
#[derive(Debug, Default)]
pub(crate) struct TestLine {
    level: AtomicBool,
    edges: AtomicUsize,
}

impl TestLine {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn edges(&self) -> usize {
        self.edges.load(Ordering::SeqCst)
    }

    pub(crate) fn is_high(&self) -> bool {
        self.level.load(Ordering::SeqCst)
    }
}

impl IrqLine for TestLine {
    fn set_level(&self, high: bool) {
        if !self.level.swap(high, Ordering::SeqCst) && high {
            self.edges.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Keeps what the interrupt controllers say.
#[derive(Debug, Default)]
pub(crate) struct TestSink {
    pub(crate) messages: Mutex<Vec<Msi>>,
    pub(crate) routes: Mutex<Vec<(u8, Option<Msi>)>>,
}

impl TestSink {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The vectors delivered since the last call.
    pub(crate) fn take_vectors(&self) -> Vec<u8> {
        lock(&self.messages).drain(..).map(|m| m.data as u8).collect()
    }
}

impl IrqSink for TestSink {
    fn signal_msi(&self, msi: Msi) -> Result<(), BackendError> {
        lock(&self.messages).push(msi);
        Ok(())
    }
    fn route_pin(&self, pin: u8, msi: Option<Msi>) -> Result<(), BackendError> {
        lock(&self.routes).push((pin, msi));
        Ok(())
    }
}

/// A writer whose bytes and write calls can be looked at from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestWriter(Arc<Mutex<Vec<Vec<u8>>>>);

impl TestWriter {
    /// One element a write call.
    pub(crate) fn writes(&self) -> Vec<String> {
        lock(&self.0).iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect()
    }
}

impl io::Write for TestWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        lock(&self.0).push(buf.to_vec());
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
