//! The machine's clock and the thread behind its devices' timers. VM time stands still while the VM does.
//!
//! A backend that makes time itself ([`VmTime`]) serves the devices, too: then there is no such thread.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::backend::VmTime;
use crate::devices::{Clock, Platform};

#[derive(Default)]
struct Time {
    /// VM time up to `running_since`.
    elapsed: Duration,
    running_since: Option<Instant>,
}

impl Time {
    fn now(&self) -> Duration {
        self.elapsed.saturating_add(self.running_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }
}

/// A clock that stands still until it is started.
#[derive(Default)]
pub(super) struct VmClock {
    time: Mutex<Time>,
    /// Whoever sleeps shall look at the deadlines again.
    changed: Mutex<bool>,
    wake: Condvar,
}

fn nanoseconds(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

impl VmClock {
    /// VM time goes on.
    pub(super) fn start(&self) {
        self.time().running_since.get_or_insert_with(Instant::now);
        self.deadline_changed();
    }

    /// VM time stands still.
    pub(super) fn stop(&self) {
        let mut time = self.time();
        time.elapsed = time.now();
        time.running_since = None;
    }

    /// Sleeps until VM time `deadline` (for ever without one, or while VM time stands still), or until
    /// [`Clock::deadline_changed`] is called (or has been since the last time).
    fn sleep_until(&self, deadline: Option<u64>) {
        let runs = self.time().running_since.is_some();
        let left = deadline.filter(|_| runs).map(|at| Duration::from_nanos(at.saturating_sub(self.now())));
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let still = |changed: &mut bool| !*changed;
        let mut changed = match left {
            None => self.wake.wait_while(changed, still).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.wake.wait_timeout_while(changed, left, still).unwrap_or_else(PoisonError::into_inner).0,
        };
        *changed = false;
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for VmClock {
    fn now(&self) -> u64 {
        nanoseconds(self.time().now())
    }

    fn wall(&self) -> u64 {
        // A host clock before 1970 reads as 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
    }

    fn deadline_changed(&self) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }
}

/// Where the machine's time comes from.
#[derive(Clone)]
pub(super) enum MachineClock {
    /// The host's clock.
    Host(Arc<VmClock>),
    /// The backend.
    Backend(Arc<dyn VmTime>),
}

impl MachineClock {
    /// That of a partition with such a time of its own.
    pub(super) fn of(time: Option<Arc<dyn VmTime>>) -> Self {
        time.map_or_else(|| Self::Host(Arc::default()), Self::Backend)
    }

    pub(super) fn start(&self) {
        match self {
            Self::Host(clock) => clock.start(),
            Self::Backend(time) => time.start(),
        }
    }

    pub(super) fn stop(&self) {
        match self {
            Self::Host(clock) => clock.stop(),
            Self::Backend(time) => time.stop(),
        }
    }
}

impl Clock for MachineClock {
    fn now(&self) -> u64 {
        match self {
            Self::Host(clock) => clock.now(),
            Self::Backend(time) => time.now(),
        }
    }

    fn wall(&self) -> u64 {
        match self {
            Self::Host(clock) => clock.wall(),
            Self::Backend(time) => time.wall(),
        }
    }

    fn deadline_changed(&self) {
        match self {
            Self::Host(clock) => clock.deadline_changed(),
            Self::Backend(time) => time.deadline_changed(),
        }
    }
}

/// Calls [`Platform::tick`] whenever a device's time has come. Dropping it ends the thread.
pub(super) struct TimerThread {
    clock: Arc<VmClock>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TimerThread {
    /// Starts the thread; `clock` must be the one that the devices of `platform` have.
    pub(super) fn start(platform: Arc<Platform>, clock: Arc<VmClock>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (my_stop, my_clock) = (Arc::clone(&stop), Arc::clone(&clock));
        let thread = std::thread::Builder::new().name("timers".to_owned()).spawn(move || {
            while !my_stop.load(Ordering::Acquire) {
                platform.tick(my_clock.now());
                my_clock.sleep_until(platform.next_deadline());
            }
        })?;
        Ok(Self { clock, stop, thread: Some(thread) })
    }
}

impl Drop for TimerThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.clock.deadline_changed();
        if let Some(thread) = self.thread.take() {
            // If it panicked it has said so itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vm_time_stands_still_until_it_is_started_and_after_it_is_stopped() {
        const NAP: Duration = Duration::from_millis(2);
        let clock = VmClock::default();
        std::thread::sleep(NAP);
        assert_eq!(clock.now(), 0);
        clock.start();
        clock.start();
        std::thread::sleep(NAP);
        clock.stop();
        let stopped_at = clock.now();
        assert!(stopped_at >= nanoseconds(NAP));
        std::thread::sleep(NAP);
        assert_eq!(clock.now(), stopped_at);
        clock.start();
        assert!(clock.now() >= stopped_at);
    }

    #[test]
    fn a_sleeper_wakes_when_told_and_at_its_deadline() {
        let clock = VmClock::default();
        clock.deadline_changed();
        clock.sleep_until(None);
        clock.deadline_changed();
        clock.sleep_until(Some(0));
        clock.start(); // tells, too
        clock.sleep_until(Some(u64::MAX));
        clock.sleep_until(Some(clock.now() + 1_000_000));
    }
}
