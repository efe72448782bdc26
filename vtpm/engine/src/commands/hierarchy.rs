//! Hierarchy commands (Part 3, 24).

use bulla_tpm_types::{Digest, Error, ErrorKind, Handle, HashAlg, Rc, Reader, rc, rh};

use crate::Tpm;
use crate::auth_policy::AuthPolicy;
use crate::dispatch::Call;
use crate::secret::{AuthValue, INTEGRITY_HASH, MAX_DIGEST};
use crate::selftest::TestSet;

impl Tpm {
    /// What TPM2_Clear does, all of it (24.6): the owner's hierarchy starts anew, and what the endorsement hierarchy
    /// has made is void.
    fn clear_owner(&mut self) {
        self.forget_shutdown();
        self.hierarchies.clear(&mut self.random);
        self.objects.clear(|hierarchy| matches!(hierarchy, rh::OWNER | rh::ENDORSEMENT));
        self.nv.clear_owner();
        self.lockout = Default::default();
        self.time.clear();
        self.audit.clear();
        self.pcrs.clear_auth();
        self.permanent_changed();
    }
}

/// TPMI_RH_ENABLES (Part 2, 9.15).
fn enables(r: &mut Reader<'_>) -> Result<Handle, Error> {
    let at = r.clone();
    let handle = r.get()?;
    let known = matches!(handle, rh::OWNER | rh::ENDORSEMENT | rh::PLATFORM | rh::PLATFORM_NV);
    if known { Ok(handle) } else { Err(at.error(ErrorKind::Value, "TPMI_RH_ENABLES")) }
}

/// TPM2_HierarchyControl (24.2). A hierarchy may disable itself; everything else takes the platform. One that is
/// disabled authorizes nothing, so it cannot enable itself.
pub(crate) fn hierarchy_control(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (hierarchy, enable) = call.params(|p| Ok((p.with(enables)?, p.yes_no("state")?)))?;
    let by = call.handle(1);
    if by != rh::PLATFORM && by != hierarchy {
        return Err(rc::AUTH_TYPE);
    }
    if tpm.hierarchies.set_enabled(hierarchy, enable) {
        tpm.forget_shutdown();
        if !enable {
            tpm.objects.flush(|h| h == hierarchy);
        }
        tpm.permanent_changed();
    }
    Ok(())
}

/// TPM2_SetPrimaryPolicy (24.3).
pub(crate) fn set_primary_policy(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (digest, alg) = call.params(|p| Ok((p.get::<Digest>()?, p.with(HashAlg::unmarshal_or_null)?)))?;
    let policy = AuthPolicy::new(alg, &digest).ok_or(rc::SIZE.parameter(1))?;
    let handle = call.handle(1);
    if !tpm.hierarchies.set_policy(handle, policy) {
        return Err(rc::VALUE.handle(1));
    }
    if handle == rh::PLATFORM {
        // It is among what TPM2_Shutdown(STATE) has saved.
        tpm.forget_shutdown();
    }
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_ChangePPS (24.4): with the hierarchy's objects go the policies of PCR, which it has set.
pub(crate) fn change_pps(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.require(TestSet::DRBG)?;
    tpm.forget_shutdown();
    tpm.hierarchies.change_platform(&mut tpm.random);
    tpm.objects.clear(|hierarchy| hierarchy == rh::PLATFORM);
    tpm.pcr_settings.policy = AuthPolicy::default();
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_ChangeEPS (24.5).
pub(crate) fn change_eps(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.require(TestSet::DRBG)?;
    tpm.forget_shutdown();
    tpm.hierarchies.change_endorsement(&mut tpm.random);
    tpm.objects.clear(|hierarchy| hierarchy == rh::ENDORSEMENT);
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_Clear (24.6).
pub(crate) fn clear(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    if tpm.hierarchies.disable_clear {
        return Err(rc::DISABLED);
    }
    tpm.require(TestSet::DRBG)?;
    tpm.clear_owner();
    Ok(())
}

/// TPM2_ClearControl (24.7): lockoutAuth may forbid TPM2_Clear, and only the platform may allow it again.
pub(crate) fn clear_control(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let disable = call.params(|p| p.yes_no("disable"))?;
    if call.handle(1) == rh::LOCKOUT && !disable {
        return Err(rc::AUTH_FAIL);
    }
    tpm.hierarchies.disable_clear = disable;
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_HierarchyChangeAuth (24.8).
pub(crate) fn hierarchy_change_auth(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let auth = call.params(|p| p.tpm2b(MAX_DIGEST, "newAuth"))?;
    // No longer than the digests that protect the hierarchy's own objects.
    if auth.len() > INTEGRITY_HASH.size() {
        return Err(rc::SIZE.parameter(1));
    }
    let handle = call.handle(1);
    if !tpm.hierarchies.set_auth(handle, AuthValue::new(auth)) {
        return Err(rc::VALUE.handle(1));
    }
    if handle == rh::PLATFORM {
        // It is among what TPM2_Shutdown(STATE) has saved.
        tpm.forget_shutdown();
    }
    tpm.permanent_changed();
    Ok(())
}
