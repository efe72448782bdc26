//! The APIC timer (SDM vol. 3A, §11.5.4).
//!
//! Time is a number of ticks that only grows; one tick of it is one of the undivided timer clock and one of the TSC (the
//! CPUID table says so in leaf 0x15), so the machine has one clock only. What the guest adds to its TSC is
//! [`Timer::tsc_offset`].

use super::regs::{DIVIDE_WRITABLE, LVT_TIMER_DEADLINE, LVT_TIMER_MODE, LVT_TIMER_PERIODIC};

/// How the timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    OneShot,
    Periodic,
    Deadline,
    /// 11b: it does not count.
    Reserved,
}

impl Mode {
    pub(super) const fn of(lvt: u32) -> Self {
        match lvt & LVT_TIMER_MODE {
            0 => Self::OneShot,
            LVT_TIMER_PERIODIC => Self::Periodic,
            LVT_TIMER_DEADLINE => Self::Deadline,
            _ => Self::Reserved,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Timer {
    pub(super) initial: u32,
    pub(super) divide: u32,
    /// When a count ends.
    pub(super) expires: Option<u64>,
    /// IA32_TSC_DEADLINE: in the guest's TSC; 0 is none.
    pub(super) deadline: u64,
    pub(super) tsc_offset: u64,
}

impl Timer {
    /// Ticks a count: 2, 4, 8 … 128, 1 (SDM vol. 3A, figure 11-10).
    fn divisor(&self) -> u64 {
        let bits = (self.divide & 3) | ((self.divide >> 1) & 4);
        1 << ((bits + 1) & 7)
    }

    /// Ticks from a count's beginning to its end.
    fn period(&self) -> u64 {
        u64::from(self.initial) * self.divisor()
    }

    /// Write of the initial count: begins anew, or stops at 0.
    pub(super) fn start(&mut self, initial: u32, now: u64) {
        self.initial = initial;
        self.expires = (initial != 0).then(|| now.saturating_add(self.period()));
    }

    /// What the current count register shows.
    pub(super) fn current(&self, now: u64) -> u32 {
        let left = self.expires.map_or(0, |at| at.saturating_sub(now)).div_ceil(self.divisor());
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// The count goes on from where it is, at another pace.
    pub(super) fn set_divide(&mut self, divide: u32, now: u64) {
        let left = u64::from(self.current(now));
        self.divide = divide & DIVIDE_WRITABLE;
        if self.expires.is_some() {
            self.expires = Some(now.saturating_add(left * self.divisor()));
        }
    }

    /// A change into or out of TSC-deadline mode disarms the timer (SDM vol. 3A, §11.5.4.1).
    pub(super) fn change_mode(&mut self, from: Mode, to: Mode) {
        let counts = |mode| matches!(mode, Mode::OneShot | Mode::Periodic);
        if from != to && !(counts(from) && counts(to)) {
            self.expires = None;
            self.deadline = 0;
            self.initial = 0;
        }
    }

    /// When it is due, if it is armed.
    pub(super) fn due(&self, mode: Mode) -> Option<u64> {
        match mode {
            Mode::Deadline if self.deadline != 0 => {
                // The distance is signed: a deadline that has passed when the offset is taken off is due at 0.
                let at = i128::from(self.deadline) - i128::from(self.tsc_offset.cast_signed());
                Some(u64::try_from(at.max(0)).unwrap_or(u64::MAX))
            }
            Mode::OneShot | Mode::Periodic => self.expires,
            Mode::Deadline | Mode::Reserved => None,
        }
    }

    /// Whether it has expired since the last call. Missed periods count once.
    pub(super) fn expire(&mut self, mode: Mode, now: u64) -> bool {
        let Some(due) = self.due(mode).filter(|due| *due <= now) else { return false };
        self.deadline = 0;
        self.expires = match (mode, self.period()) {
            (Mode::Periodic, period @ 1..) => {
                let missed = (now - due) / period;
                Some(due.saturating_add((missed + 1).saturating_mul(period)))
            }
            _ => None,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divisor_is_that_of_the_table() {
        let table = [(0b0000, 2), (0b0001, 4), (0b0010, 8), (0b0011, 16), (0b1000, 32), (0b1001, 64), (0b1010, 128)];
        for (divide, divisor) in table.into_iter().chain([(0b1011, 1)]) {
            assert_eq!(Timer { divide, ..Timer::default() }.divisor(), divisor, "{divide:#b}");
        }
    }

    #[test]
    fn a_one_shot_ends_once_and_a_period_begins_again_without_drift() {
        let mut timer = Timer { divide: 0b0000, ..Timer::default() };
        timer.start(50, 1000);
        assert_eq!(timer.current(1000), 50);
        assert_eq!(timer.current(1001), 50);
        assert_eq!(timer.current(1002), 49);
        assert!(!timer.expire(Mode::OneShot, 1099));
        assert!(timer.expire(Mode::OneShot, 1100));
        assert!(!timer.expire(Mode::OneShot, u64::MAX));
        timer.start(50, 2000);
        // 2100, 2200 and 2300 have passed; that is one interrupt.
        assert!(timer.expire(Mode::Periodic, 2350));
        assert!(!timer.expire(Mode::Periodic, 2399));
        assert_eq!(timer.due(Mode::Periodic), Some(2400));
    }

    #[test]
    fn a_new_divisor_changes_the_pace_from_here_on() {
        let mut timer = Timer { divide: 0b1011, ..Timer::default() };
        timer.start(100, 0);
        timer.set_divide(0b0000, 60);
        assert_eq!((timer.current(60), timer.due(Mode::OneShot)), (40, Some(140)));
    }

    #[test]
    fn a_deadline_is_in_the_guests_time() {
        let ahead = Timer { deadline: 500, tsc_offset: 100, ..Timer::default() };
        assert_eq!(ahead.due(Mode::Deadline), Some(400));
        let behind = Timer { deadline: 500, tsc_offset: 100_u64.wrapping_neg(), ..Timer::default() };
        assert_eq!(behind.due(Mode::Deadline), Some(600));
        let mut passed = Timer { deadline: 50, tsc_offset: 100, ..Timer::default() };
        assert_eq!(passed.due(Mode::Deadline), Some(0));
        assert!(passed.expire(Mode::Deadline, 0));
        assert_eq!(passed.deadline, 0);
        let endless = Timer { deadline: u64::MAX, tsc_offset: 0, ..Timer::default() };
        assert_eq!(endless.due(Mode::Deadline), Some(u64::MAX));
    }
}
