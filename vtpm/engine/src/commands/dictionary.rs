//! Dictionary attack functions (Part 3, 25).

use bulla_tpm_types::Rc;

use crate::Tpm;
use crate::dispatch::Call;
use crate::lockout::Parameters;

/// TPM2_DictionaryAttackLockReset (25.2).
pub(crate) fn lock_reset(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.lockout.forget();
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_DictionaryAttackParameters (25.3). The failures so far stay counted, so that the TPM may be in lockout at once.
pub(crate) fn parameters(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let parameters = call.params(|p| {
        Ok(Parameters {
            max_tries: p.u32("newMaxTries")?,
            recovery_seconds: p.u32("newRecoveryTime")?,
            lockout_recovery_seconds: p.u32("lockoutRecovery")?,
        })
    })?;
    tpm.lockout.set_parameters(parameters);
    tpm.permanent_changed();
    Ok(())
}
