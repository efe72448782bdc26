//! Time, Clock and the reset counters (Part 1, 36).

use bulla_tpm_types::{ClockInfo, Error, ErrorKind, Reader, TimeInfo, Writer};

use super::state::flag;

/// Milliseconds between updates of Clock in NV: TPM_PT_CLOCK_UPDATE. A power of two.
pub(super) const CLOCK_UPDATE_MS: u64 = 1 << 12;

/// The latest Clock that can be set (Part 3, 29.2).
const MAX_NEW_CLOCK: u64 = 0xffff_0000_0000_0000;

/// What [`TpmTime::advance`] has added.
pub(super) struct Passed {
    /// Milliseconds of the TPM's Time.
    pub(super) ms: u64,
    /// Whether Clock has to be stored.
    pub(super) clock_is_due: bool,
}

/// TPM_CLOCK_ADJUST (Part 2, 6.7): how many steps of which size, faster when positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adjustment(i64);

impl Adjustment {
    /// From -3 (coarse, slower) to 3 (coarse, faster); `None` for any other number.
    pub(super) fn from_number(number: i8) -> Option<Self> {
        let step = match number.unsigned_abs() {
            0 => 0,
            1 => Rate::NOMINAL / 30_000,
            2 => Rate::NOMINAL / 1000,
            3 => Rate::NOMINAL / 100,
            _ => return None,
        };
        Some(Self(step * i64::from(number.signum())))
    }
}

/// How fast Time and Clock go, compared with the platform's clock.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Parts of [`Rate::NOMINAL`].
    parts: i64,
    /// What was left over when parts became milliseconds.
    rest: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { parts: Self::NOMINAL, rest: 0 }
    }
}

impl Rate {
    const NOMINAL: i64 = 30_000;
    /// Part 3, 29.3: no further from nominal than 15 percent.
    const LIMIT: i64 = Self::NOMINAL * 15 / 100;

    fn adjust(&mut self, by: Adjustment) {
        self.parts = (self.parts + by.0).clamp(Self::NOMINAL - Self::LIMIT, Self::NOMINAL + Self::LIMIT);
    }

    fn scale(&mut self, ms: u64) -> u64 {
        let parts = ms.saturating_mul(self.parts.unsigned_abs()).saturating_add(self.rest);
        let nominal = Self::NOMINAL.unsigned_abs();
        self.rest = parts % nominal;
        parts / nominal
    }
}

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
    /// The state is an older one or a copy: another TPM may have reported a larger Clock.
    diverged: bool,
    /// What TPM2_ClockRateAdjust has set since power came on.
    rate: Rate,
}

impl TpmTime {
    /// Power comes on: Time starts from zero, Clock goes on.
    pub(super) fn power_on(&mut self, now: u64) {
        self.info.time = 0;
        self.last = Some(now);
        self.rate = Rate::default();
    }

    /// Adds what has passed on the platform's clock. Clock has to be stored each time that [`CLOCK_UPDATE_MS`] are full,
    /// so that no Clock that was ever reported is larger than the one stored with its low bits set (Part 1, 36.3).
    pub(super) fn advance(&mut self, now: u64) -> Passed {
        let Some(last) = self.last else {
            return Passed { ms: 0, clock_is_due: false };
        };
        let before = self.info.clock_info.clock;
        let passed = self.rate.scale(now.saturating_sub(last));
        self.last = Some(now.max(last));
        self.info.time = self.info.time.saturating_add(passed);
        self.info.clock_info.clock = self.info.clock_info.clock.saturating_add(passed);
        if self.safe_from.is_some_and(|at| self.info.clock_info.clock >= at) {
            self.safe_from = None;
        }
        let clock_is_due = before / CLOCK_UPDATE_MS != self.info.clock_info.clock / CLOCK_UPDATE_MS;
        Passed { ms: passed, clock_is_due }
    }

    /// TPM2_ClockSet: false for a Clock that is not later than now, or so late that it could run over.
    pub(super) fn set_clock(&mut self, clock: u64) -> bool {
        let allowed = clock <= MAX_NEW_CLOCK && clock >= self.info.clock_info.clock;
        if allowed {
            self.info.clock_info.clock = clock;
            if self.safe_from.is_some_and(|at| clock >= at) {
                self.safe_from = None;
            }
        }
        allowed
    }

    /// TPM2_ClockRateAdjust, as far as the bounds allow.
    pub(super) fn adjust(&mut self, by: Adjustment) {
        self.rate.adjust(by);
    }

    /// Writes what survives a loss of power, for [`TpmTime::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        let c = &self.info.clock_info;
        w.u64(c.clock);
        w.u32(c.reset_count);
        w.u32(c.restart_count);
        w.u8(u8::from(self.diverged));
        put_option(w, self.safe_from);
    }

    /// Reads what [`TpmTime::save`] has written.
    pub(super) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        let c = &mut self.info.clock_info;
        c.clock = r.u64("Clock")?;
        c.reset_count = r.u32("resetCount")?;
        c.restart_count = r.u32("restartCount")?;
        self.diverged = flag(r, "diverged")?;
        self.safe_from = get_option(r)?;
        Ok(())
    }

    /// Writes the rest, for [`TpmTime::restore_volatile`].
    pub(super) fn save_volatile(&self, w: &mut Writer) {
        w.u64(self.info.time);
        w.u64(self.info.clock_info.clock);
        put_option(w, self.safe_from);
        w.u64(self.rate.parts.unsigned_abs());
        w.u64(self.rate.rest);
    }

    /// Goes on at `now` from where [`TpmTime::save_volatile`] was asked.
    pub(super) fn restore_volatile(&mut self, r: &mut Reader<'_>, now: u64) -> Result<(), Error> {
        self.info.time = r.u64("Time")?;
        self.info.clock_info.clock = r.u64("Clock")?;
        self.safe_from = get_option(r)?;
        let at = r.clone();
        let parts = i64::try_from(r.u64("rate of Clock")?).ok();
        let parts = parts.filter(|p| (p - Rate::NOMINAL).abs() <= Rate::LIMIT);
        let parts = parts.ok_or_else(|| at.error(ErrorKind::Value, "rate of Clock"))?;
        self.rate = Rate { parts, rest: r.u64("rest of Clock")? % Rate::NOMINAL.unsigned_abs() };
        self.last = Some(now);
        Ok(())
    }

    /// Another TPM may have gone on from the same state: see [`Tpm::diverge`](super::Tpm::diverge).
    pub(super) fn diverge(&mut self, resets: u32) {
        let c = &mut self.info.clock_info;
        c.reset_count = c.reset_count.saturating_add(resets);
        self.diverged = true;
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
        self.diverged = false;
    }

    /// TPMS_TIME_INFO.
    pub(super) fn info(&self) -> TimeInfo {
        TimeInfo { clock_info: self.clock_info(), ..self.info }
    }

    /// TPMS_CLOCK_INFO.
    pub(super) fn clock_info(&self) -> ClockInfo {
        ClockInfo { safe: self.safe_from.is_none() && !self.diverged, ..self.info.clock_info }
    }

    /// Milliseconds since power came on.
    pub(super) fn time_ms(&self) -> u64 {
        self.info.time
    }
}

fn put_option(w: &mut Writer, value: Option<u64>) {
    w.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        w.u64(value);
    }
}

fn get_option(r: &mut Reader<'_>) -> Result<Option<u64>, Error> {
    if flag(r, "whether Clock is safe")? { r.u64("when Clock is safe").map(Some) } else { Ok(None) }
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
