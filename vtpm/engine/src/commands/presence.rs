//! Physical presence (Part 3, 26.2 and 23.15) and TPM2_SetAlgorithmSet (26.3).

use bulla_tpm_types::{Rc, cc};

use super::{command_codes, policy};
use crate::Tpm;
use crate::dispatch::Call;

/// TPM2_PP_Commands (26.2).
pub(crate) fn pp_commands(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (set, clear) = call.params(|p| Ok((p.with(command_codes)?, p.with(command_codes)?)))?;
    set.iter().for_each(|code| tpm.presence.insert(*code));
    clear.iter().for_each(|code| tpm.presence.remove(*code));
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_PolicyPhysicalPresence (23.15).
pub(crate) fn policy_physical_presence(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let session = policy::session(tpm, call, 1)?;
    session.extend_policy(cc::POLICY_PHYSICAL_PRESENCE, &[]);
    session.policy.presence = true;
    Ok(())
}

/// TPM2_SetAlgorithmSet (26.3). There is one set of algorithms, so the number is only kept and reported.
pub(crate) fn set_algorithm_set(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    tpm.algorithm_set = call.params(|p| p.u32("algorithmSet"))?;
    tpm.permanent_changed();
    Ok(())
}
