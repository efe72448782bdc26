//! Time, Clock and the reset counters (Part 1, 36).

use bulla_tpm_types::{ClockInfo, TimeInfo};

/// Milliseconds between updates of Clock in NV: TPM_PT_CLOCK_UPDATE. A power of two.
pub(super) const CLOCK_UPDATE_MS: u64 = 1 << 12;

/// How a TPM2_Startup is classified (Part 1, 12.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartupKind {
    /// TPM Reset.
    Reset,
    /// TPM Restart: Startup(CLEAR) after Shutdown(STATE).
    Restart,
    /// TPM Resume: Startup(STATE) after Shutdown(STATE).
    Resume,
}

/// Everything the TPM knows of time.
#[derive(Debug, Default)]
pub(super) struct TpmTime {
    info: TimeInfo,
    /// The platform's clock at the last look; `None` while the power is off.
    last: Option<u64>,
    /// `safe` becomes true when Clock reaches this.
    safe_from: Option<u64>,
}

impl TpmTime {
    /// Power comes on: Time starts from zero, Clock goes on.
    pub(super) fn power_on(&mut self, now: u64) {
        self.info.time = 0;
        self.last = Some(now);
    }

    /// Adds what has passed on the platform's clock.
    pub(super) fn advance(&mut self, now: u64) {
        let Some(last) = self.last else {
            return;
        };
        let passed = now.saturating_sub(last);
        self.last = Some(now.max(last));
        self.info.time = self.info.time.saturating_add(passed);
        self.info.clock_info.clock = self.info.clock_info.clock.saturating_add(passed);
        if self.safe_from.is_some_and(|at| self.info.clock_info.clock >= at) {
            self.safe_from = None;
        }
    }

    /// Counts a startup. After a disorderly one, Clock may have been reported larger than it is until its next
    /// update in NV is over, so `safe` is false until then.
    pub(super) fn startup(&mut self, kind: StartupKind, orderly: bool) {
        let c = &mut self.info.clock_info;
        match kind {
            StartupKind::Reset => {
                c.reset_count = c.reset_count.wrapping_add(1);
                c.restart_count = 0;
            }
            StartupKind::Restart | StartupKind::Resume => c.restart_count = c.restart_count.wrapping_add(1),
        }
        if !orderly {
            c.clock |= CLOCK_UPDATE_MS - 1;
            self.safe_from = Some(c.clock.saturating_add(1));
        }
    }

    /// TPM2_Clear: Clock and the counters start from zero (Part 3, 24.6).
    pub(super) fn clear(&mut self) {
        self.info.clock_info = ClockInfo::default();
        self.safe_from = None;
    }

    /// TPMS_TIME_INFO.
    pub(super) fn info(&self) -> TimeInfo {
        TimeInfo { clock_info: self.clock_info(), ..self.info }
    }

    /// TPMS_CLOCK_INFO.
    pub(super) fn clock_info(&self) -> ClockInfo {
        ClockInfo { safe: self.safe_from.is_none(), ..self.info.clock_info }
    }

    /// Milliseconds since power came on.
    pub(super) fn time_ms(&self) -> u64 {
        self.info.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_safe_follow_the_startups() {
        let mut t = TpmTime::default();
        t.power_on(1_000_000);
        t.startup(StartupKind::Reset, true);
        t.advance(1_000_100);
        let want = ClockInfo { clock: 100, reset_count: 1, restart_count: 0, safe: true };
        assert_eq!((t.clock_info(), t.time_ms()), (want, 100));
        t.startup(StartupKind::Restart, true);
        t.startup(StartupKind::Resume, true);
        assert_eq!(t.clock_info().restart_count, 2);
        t.power_on(1_000_100);
        t.startup(StartupKind::Reset, false);
        let want = ClockInfo { clock: 4095, reset_count: 2, restart_count: 0, safe: false };
        assert_eq!((t.clock_info(), t.time_ms()), (want, 0));
        t.advance(1_000_101);
        assert!(t.clock_info().safe);
    }

    #[test]
    fn a_clock_that_goes_backwards_stands_still() {
        let mut t = TpmTime::default();
        t.power_on(500);
        t.advance(400);
        assert_eq!(t.time_ms(), 0);
        t.advance(450);
        assert_eq!(t.time_ms(), 0);
        t.advance(510);
        assert_eq!(t.time_ms(), 10);
    }
}
