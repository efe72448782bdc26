//! Dictionary attack protection (Part 1, 19.8).

use bulla_tpm_types::{Error, Rc, Reader, Writer, rc};

use super::session::DaScope;
use super::state::flag;

/// What wrong authorizations have done so far.
#[derive(Debug, Default)]
pub(super) struct DictionaryAttack {
    failed_tries: u32,
    /// When, on the TPM's Time, the latest failure or recovery was.
    since_ms: u64,
    /// When lockoutAuth was last given wrong: it cannot be tried again until its recovery.
    lockout_failed_ms: Option<u64>,
}

/// TPM_PT_MAX_AUTH_FAIL.
pub(super) const MAX_TRIES: u32 = 32;
/// TPM_PT_LOCKOUT_INTERVAL: seconds until one failure is forgotten.
pub(super) const RECOVERY_SECONDS: u32 = 7200;
/// TPM_PT_LOCKOUT_RECOVERY.
pub(super) const LOCKOUT_RECOVERY_SECONDS: u32 = 86400;

impl DictionaryAttack {
    /// TPM_PT_LOCKOUT_COUNTER.
    pub(super) fn failed_tries(&self) -> u32 {
        self.failed_tries
    }

    /// Whether DA-protected entities cannot be authorized now.
    pub(super) fn is_locked_out(&self) -> bool {
        self.failed_tries >= MAX_TRIES
    }

    /// Whether entities of this scope may be tried now; otherwise TPM_RC_LOCKOUT.
    pub(super) fn check(&self, scope: DaScope) -> Result<(), Rc> {
        let closed = match scope {
            DaScope::Exempt => false,
            DaScope::Objects => self.is_locked_out(),
            DaScope::Lockout => self.lockout_failed_ms.is_some(),
        };
        if closed { Err(rc::LOCKOUT) } else { Ok(()) }
    }

    /// An authorization of this scope was wrong. Answers the response code: TPM_RC_BAD_AUTH when it does not count.
    pub(super) fn fail(&mut self, scope: DaScope, now_ms: u64) -> Rc {
        match scope {
            DaScope::Exempt => return rc::BAD_AUTH,
            DaScope::Objects => self.count_failure(now_ms),
            DaScope::Lockout => self.lockout_failed_ms = Some(now_ms),
        }
        rc::AUTH_FAIL
    }

    /// Forgets the failures of DA-protected objects (TPM2_DictionaryAttackLockReset).
    pub(super) fn forget(&mut self) {
        self.failed_tries = 0;
    }

    fn count_failure(&mut self, now_ms: u64) {
        self.failed_tries = self.failed_tries.saturating_add(1).min(MAX_TRIES);
        self.since_ms = now_ms;
    }

    /// Writes what survives a loss of power, for [`DictionaryAttack::restore`]: Time starts anew then.
    pub(super) fn save(&self, w: &mut Writer) {
        w.u32(self.failed_tries);
        w.u8(u8::from(self.lockout_failed_ms.is_some()));
    }

    /// Reads what [`DictionaryAttack::save`] has written.
    pub(super) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        self.failed_tries = r.u32("failedTries")?;
        self.lockout_failed_ms = flag(r, "whether lockoutAuth failed")?.then_some(0);
        Ok(())
    }

    /// Writes the rest, for [`DictionaryAttack::restore_volatile`].
    pub(super) fn save_volatile(&self, w: &mut Writer) {
        w.u64(self.since_ms);
        w.u64(self.lockout_failed_ms.unwrap_or(0));
    }

    /// Reads what [`DictionaryAttack::save_volatile`] has written.
    pub(super) fn restore_volatile(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        self.since_ms = r.u64("time of the last failure")?;
        let at = r.u64("time of lockoutAuth's failure")?;
        self.lockout_failed_ms = self.lockout_failed_ms.map(|_| at);
        Ok(())
    }

    /// Forgets one failure for each interval that has passed while powered. Answers whether it did.
    pub(super) fn recover(&mut self, now_ms: u64) -> bool {
        let before = (self.failed_tries, self.lockout_failed_ms.is_some());
        let recovery = u64::from(LOCKOUT_RECOVERY_SECONDS) * 1000;
        self.lockout_failed_ms = self.lockout_failed_ms.map(|at| at.min(now_ms)).filter(|at| now_ms - at < recovery);
        let interval = u64::from(RECOVERY_SECONDS) * 1000;
        // Time starts from zero when power comes on.
        self.since_ms = self.since_ms.min(now_ms);
        let intervals = (now_ms - self.since_ms) / interval;
        self.failed_tries = self.failed_tries.saturating_sub(u32::try_from(intervals).unwrap_or(u32::MAX));
        self.since_ms += intervals * interval;
        before != (self.failed_tries, self.lockout_failed_ms.is_some())
    }
}
