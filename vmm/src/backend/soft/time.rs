//! Virtual time: that of the processor's instructions, as the devices see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bulla_cpu::Handle;

use crate::backend::VmTime;

/// What the calendar says at the first instruction: 2026-01-01 00:00 UTC.
pub(super) const EPOCH: u64 = 1_767_225_600 * 1_000_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct VirtualTime {
    handle: OnceLock<Arc<Handle>>,
    /// Devices have to be asked for their deadlines.
    changed: AtomicBool,
}

impl VirtualTime {
    /// Takes its time from the processor behind `handle`, once.
    pub(super) fn follow(&self, handle: Arc<Handle>) {
        let _ = self.handle.set(handle);
        self.deadline_changed();
    }

    /// Whether devices are to be asked for their deadlines; once.
    pub(super) fn take_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed) && self.changed.swap(false, Ordering::AcqRel)
    }
}

impl VmTime for VirtualTime {
    fn now(&self) -> u64 {
        self.handle.get().map_or(0, |handle| handle.now())
    }

    fn wall(&self) -> u64 {
        EPOCH.saturating_add(self.now())
    }

    /// It goes on when instructions do.
    fn start(&self) {}

    fn stop(&self) {}

    fn deadline_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_begins_at_a_fixed_day_and_a_change_is_told_once() {
        let time = VirtualTime::default();
        time.start();
        assert_eq!((time.now(), time.wall()), (0, EPOCH));
        assert!(!time.take_changed());
        time.deadline_changed();
        assert!(time.take_changed() && !time.take_changed());
    }
}
