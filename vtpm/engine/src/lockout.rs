//! Dictionary attack protection (Part 1, 19.8).

use bulla_tpm_types::{Error, Rc, Reader, Writer, rc};

use super::session::DaScope;
use super::state::flag;

/// What TPM2_DictionaryAttackParameters sets (Part 3, 25.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    /// TPM_PT_MAX_AUTH_FAIL: as many failures are lockout. With 0 there is always lockout.
    pub(super) max_tries: u32,
    /// TPM_PT_LOCKOUT_INTERVAL: powered seconds until one failure is forgotten. With 0 none is counted.
    pub(super) recovery_seconds: u32,
    /// TPM_PT_LOCKOUT_RECOVERY: powered seconds until lockoutAuth may be tried again. With 0 it is a reboot.
    pub(super) lockout_recovery_seconds: u32,
}

impl Default for Parameters {
    /// PTP 1.05, 4.4: no fewer than 32 tries, and one of them forgotten each two hours.
    fn default() -> Self {
        Self { max_tries: 32, recovery_seconds: 7200, lockout_recovery_seconds: 86400 }
    }
}

/// What wrong authorizations have done so far.
#[derive(Debug)]
pub(super) struct DictionaryAttack {
    parameters: Parameters,
    failed_tries: u32,
    /// lockOutAuthEnabled: whether lockoutAuth may be tried.
    lockout_enabled: bool,
    /// Whether a DA-protected authValue was used since the startup. If the power goes before TPM2_Shutdown, this may have
    /// been to hide a failure, and counts as one (Part 1, 19.8.6).
    used: bool,
    /// Powered milliseconds since the latest failure or recovery.
    since_failure_ms: u64,
    /// Powered milliseconds since lockoutAuth was given wrong.
    since_lockout_ms: u64,
}

impl Default for DictionaryAttack {
    fn default() -> Self {
        Self {
            parameters: Parameters::default(),
            failed_tries: 0,
            lockout_enabled: true,
            used: false,
            since_failure_ms: 0,
            since_lockout_ms: 0,
        }
    }
}

fn millis(seconds: u32) -> u64 {
    u64::from(seconds) * 1000
}

impl DictionaryAttack {
    /// What TPM2_DictionaryAttackParameters has set.
    pub(super) fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// TPM2_DictionaryAttackParameters. The failures stay counted.
    pub(super) fn set_parameters(&mut self, parameters: Parameters) {
        self.parameters = parameters;
    }

    /// TPM_PT_LOCKOUT_COUNTER.
    pub(super) fn failed_tries(&self) -> u32 {
        self.failed_tries
    }

    /// Whether DA-protected entities cannot be authorized now.
    pub(super) fn is_locked_out(&self) -> bool {
        self.failed_tries >= self.parameters.max_tries
    }

    /// Whether entities of this scope may be tried now; otherwise TPM_RC_LOCKOUT.
    pub(super) fn check(&self, scope: DaScope) -> Result<(), Rc> {
        let closed = match scope {
            DaScope::Exempt => false,
            DaScope::Objects => self.is_locked_out(),
            DaScope::Lockout => !self.lockout_enabled,
        };
        if closed { Err(rc::LOCKOUT) } else { Ok(()) }
    }

    /// A DA-protected authValue is about to be compared. Answers whether it is the first since the startup.
    pub(super) fn mark_used(&mut self) -> bool {
        !core::mem::replace(&mut self.used, true)
    }

    /// An authorization of this scope was wrong. Answers the response code: TPM_RC_BAD_AUTH when it does not count.
    pub(super) fn fail(&mut self, scope: DaScope) -> Rc {
        match scope {
            DaScope::Exempt => return rc::BAD_AUTH,
            DaScope::Objects => {
                self.since_failure_ms = 0;
                if self.parameters.recovery_seconds != 0 {
                    self.failed_tries = self.failed_tries.saturating_add(1);
                }
            }
            DaScope::Lockout => {
                self.since_lockout_ms = 0;
                self.lockout_enabled = false;
            }
        }
        rc::AUTH_FAIL
    }

    /// Forgets the failures of DA-protected objects (TPM2_DictionaryAttackLockReset).
    pub(super) fn forget(&mut self) {
        self.failed_tries = 0;
    }

    /// TPM2_Shutdown: from here on, a loss of power hides nothing.
    pub(super) fn shutdown(&mut self) {
        self.used = false;
    }

    /// TPM2_Startup. After a disorderly one nobody knows how long the power was on before.
    pub(super) fn startup(&mut self, orderly: bool) {
        if self.parameters.lockout_recovery_seconds == 0 {
            self.lockout_enabled = true;
        }
        if !orderly {
            self.since_failure_ms = 0;
            self.since_lockout_ms = 0;
            if self.used && self.parameters.recovery_seconds != 0 && !self.is_locked_out() {
                self.failed_tries = self.failed_tries.saturating_add(1);
            }
        }
        self.used = false;
    }

    /// Forgets one failure for each interval that has passed while powered, and lets lockoutAuth be tried again in its
    /// time. Answers whether anything has changed but the time.
    pub(super) fn recover(&mut self, passed_ms: u64) -> bool {
        let before = (self.failed_tries, self.lockout_enabled);
        self.since_failure_ms = self.since_failure_ms.saturating_add(passed_ms);
        self.since_lockout_ms = self.since_lockout_ms.saturating_add(passed_ms);
        match self.since_failure_ms.checked_div(millis(self.parameters.recovery_seconds)) {
            // Without an interval there is no protection.
            None => self.failed_tries = 0,
            Some(intervals) => {
                self.failed_tries = self.failed_tries.saturating_sub(u32::try_from(intervals).unwrap_or(u32::MAX));
                self.since_failure_ms %= millis(self.parameters.recovery_seconds);
            }
        }
        let recovery = millis(self.parameters.lockout_recovery_seconds);
        if recovery != 0 && self.since_lockout_ms >= recovery {
            self.lockout_enabled = true;
        }
        before != (self.failed_tries, self.lockout_enabled)
    }

    /// Writes the state for [`DictionaryAttack::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        let p = &self.parameters;
        for number in [p.max_tries, p.recovery_seconds, p.lockout_recovery_seconds, self.failed_tries] {
            w.u32(number);
        }
        w.u8(u8::from(self.lockout_enabled));
        w.u8(u8::from(self.used));
        w.u64(self.since_failure_ms);
        w.u64(self.since_lockout_ms);
    }

    /// Reads what [`DictionaryAttack::save`] has written.
    pub(super) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        *self = Self {
            parameters: Parameters {
                max_tries: r.u32("maxTries")?,
                recovery_seconds: r.u32("recoveryTime")?,
                lockout_recovery_seconds: r.u32("lockoutRecovery")?,
            },
            failed_tries: r.u32("failedTries")?,
            lockout_enabled: flag(r, "lockOutAuthEnabled")?,
            used: flag(r, "whether a protected authValue was used")?,
            since_failure_ms: r.u64("time since a failure")?,
            since_lockout_ms: r.u64("time since lockoutAuth's failure")?,
        };
        Ok(())
    }

    /// Writes what goes on with the time, for [`DictionaryAttack::restore_volatile`].
    pub(super) fn save_volatile(&self, w: &mut Writer) {
        w.u64(self.since_failure_ms);
        w.u64(self.since_lockout_ms);
    }

    /// Reads what [`DictionaryAttack::save_volatile`] has written.
    pub(super) fn restore_volatile(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        self.since_failure_ms = r.u64("time since a failure")?;
        self.since_lockout_ms = r.u64("time since lockoutAuth's failure")?;
        Ok(())
    }
}
