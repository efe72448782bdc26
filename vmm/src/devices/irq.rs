//! Interrupt lines: what a device moves.
//!
//! A device holds an [`IrqLine`] and moves its level; the interrupt controllers turn edges and levels into messages
//! and give them to the backend's [`crate::backend::IrqSink`]. Calls go one way only (device → controller → sink), so
//! the order of locks is the same everywhere.

use std::sync::Arc;

/// An interrupt input that a device can move. One device a line.
pub trait IrqLine: Send + Sync {
    /// Sets the level; setting the level that the line already has does nothing.
    fn set_level(&self, high: bool);

    /// Low, high, low: one edge whatever the level was.
    fn pulse(&self) {
        self.set_level(false);
        self.set_level(true);
        self.set_level(false);
    }
}

impl<L: IrqLine + ?Sized> IrqLine for Arc<L> {
    fn set_level(&self, high: bool) {
        (**self).set_level(high);
    }
}

/// A line that leads nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoIrq;

impl IrqLine for NoIrq {
    fn set_level(&self, _high: bool) {}
}
