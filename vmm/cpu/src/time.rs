//! The one clock of a guest: nanoseconds since it began. TSC, APIC timer and kvmclock all count it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds of virtual time that one instruction takes: a processor of 125 million instructions a second.
pub const NS_PER_INSTRUCTION: u64 = 8;

/// Where time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The host's clock.
    Host,
    /// Instructions executed, so that the same run sees the same time. `wall`: nanoseconds since 1970 when it begins.
    Instructions {
        /// Time of day at the beginning.
        wall: u64,
    },
}

/// The clock as a processor reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    clock: Clock,
    origin: Instant,
    wall: u64,
    /// Virtual time at which the processor's count of instructions was 0; a host clock's own offset.
    base: u64,
}

impl Time {
    pub(crate) fn new(clock: Clock) -> Self {
        let wall = match clock {
            Clock::Host => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
            }
            Clock::Instructions { wall } => wall,
        };
        Self { clock, origin: Instant::now(), wall, base: 0 }
    }

    /// Nanoseconds since the beginning, for a processor that has executed `retired` instructions.
    #[inline]
    pub(crate) fn now(&self, retired: u64) -> u64 {
        match self.clock {
            Clock::Host => self.base.wrapping_add(self.origin.elapsed().as_nanos() as u64),
            Clock::Instructions { .. } => self.base.wrapping_add(retired.wrapping_mul(NS_PER_INSTRUCTION)),
        }
    }

    /// Nanoseconds since 1970 at the beginning.
    pub(crate) fn wall(&self) -> u64 {
        self.wall
    }

    /// Makes virtual time `now` at `retired` instructions. The host's clock goes its own way.
    pub(crate) fn set(&mut self, now: u64, retired: u64) {
        if let Clock::Instructions { .. } = self.clock {
            self.base = now.wrapping_sub(retired.wrapping_mul(NS_PER_INSTRUCTION));
        }
    }

    /// How many instructions may pass until `deadline`; `most` if time is the host's.
    pub(crate) fn instructions_until(&self, deadline: u64, retired: u64, most: u64) -> u64 {
        match self.clock {
            Clock::Host => most,
            Clock::Instructions { .. } => {
                deadline.saturating_sub(self.now(retired)).div_ceil(NS_PER_INSTRUCTION).clamp(1, most)
            }
        }
    }

    /// Is time that of instructions?
    pub(crate) fn is_virtual(&self) -> bool {
        self.clock != Clock::Host
    }
}
