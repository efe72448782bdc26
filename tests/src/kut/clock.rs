//! Time for the devices: it runs from the start, and a thread ticks them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulla_vmm::devices::{Clock, Platform};

/// A clock that starts at 0 when it is made.
pub(crate) struct RunningClock {
    start: Instant,
    changed: Mutex<bool>,
    wake: Condvar,
}

fn nanoseconds(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

impl RunningClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), changed: Mutex::new(false), wake: Condvar::new() })
    }

    fn sleep_until(&self, deadline: Option<u64>) {
        let left = deadline.map_or(Duration::from_secs(1), |at| Duration::from_nanos(at.saturating_sub(self.now())));
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.wait_timeout_while(changed, left, |changed| !*changed);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Clock for RunningClock {
    fn now(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    fn wall(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
    }

    fn deadline_changed(&self) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }
}

/// Ticks the devices until it is dropped.
pub(crate) struct Ticker {
    stop: Arc<AtomicBool>,
    clock: Arc<RunningClock>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(platform: Arc<Platform>, clock: Arc<RunningClock>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (my_stop, my_clock) = (Arc::clone(&stop), Arc::clone(&clock));
        let thread = std::thread::spawn(move || {
            while !my_stop.load(Ordering::Acquire) {
                platform.tick(my_clock.now());
                my_clock.sleep_until(platform.next_deadline());
            }
        });
        Self { stop, clock, thread: Some(thread) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.clock.deadline_changed();
        if let Some(thread) = self.thread.take() {
            // If it panicked it has said so itself.
            let _ = thread.join();
        }
    }
}
