//! Hierarchy commands (Part 3, 24) and dictionary attack functions (25).

use bulla_tpm_types::{Rc, rc, rh};

use crate::Tpm;
use crate::dispatch::Call;
use crate::secret::{AuthValue, INTEGRITY_HASH, MAX_DIGEST};
use crate::selftest::TestSet;

/// TPM2_HierarchyChangeAuth (24.8).
pub(crate) fn hierarchy_change_auth(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let auth = call.params(|p| p.tpm2b(MAX_DIGEST, "newAuth"))?;
    // No longer than the digests that protect the hierarchy's own objects.
    if auth.len() > INTEGRITY_HASH.size() {
        return Err(rc::SIZE.parameter(1));
    }
    let changed = tpm.hierarchies.set_auth(call.handle(1), AuthValue::new(auth));
    tpm.permanent_changed();
    if changed { Ok(()) } else { Err(rc::VALUE.handle(1)) }
}

/// TPM2_Clear (24.6): the owner's hierarchy starts anew, and what the endorsement hierarchy has made is void.
pub(crate) fn clear(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.require(TestSet::DRBG)?;
    tpm.forget_shutdown();
    tpm.permanent_changed();
    tpm.hierarchies.clear(&mut tpm.random);
    tpm.nv.clear_owner();
    tpm.objects.clear(|hierarchy| matches!(hierarchy, rh::OWNER | rh::ENDORSEMENT));
    tpm.lockout = Default::default();
    tpm.time.clear();
    Ok(())
}

/// TPM2_DictionaryAttackLockReset (25.2).
pub(crate) fn lock_reset(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.lockout.forget();
    tpm.permanent_changed();
    Ok(())
}
