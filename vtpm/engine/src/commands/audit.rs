//! Command audit (Part 3, 21) and the attestation of audit digests (18.5 and 18.6).

use bulla_tpm_types::{Attested, Data, HashAlg, Rc, rc, rh};

use super::{command_codes, sign};
use crate::Tpm;
use crate::dispatch::Call;
use crate::selftest::TestSet;

/// TPM2_SetCommandCodeAuditStatus (21.2).
pub(crate) fn set_command_code_audit_status(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (alg, set, clear) =
        call.params(|p| Ok((p.with(HashAlg::unmarshal_or_null)?, p.with(command_codes)?, p.with(command_codes)?)))?;
    match alg.filter(|alg| *alg != tpm.audit.alg()) {
        // Not both at once.
        Some(_) if !set.is_empty() || !clear.is_empty() => return Err(rc::VALUE.parameter(1)),
        Some(alg) => {
            tpm.require(TestSet::hash(alg))?;
            tpm.forget_shutdown();
            tpm.audit.set_alg(alg);
        }
        None => {
            set.iter().for_each(|code| tpm.audit.insert(*code));
            clear.iter().for_each(|code| tpm.audit.remove(*code));
        }
    }
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_GetCommandAuditDigest (18.6): whoever gets it signed begins another one.
pub(crate) fn get_command_audit_digest(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (extra_data, scheme) = call.params(|p| Ok((p.get::<Data>()?, p.with(sign::sig_scheme)?)))?;
    let attested = Attested::CommandAudit {
        audit_counter: tpm.audit.counter(),
        digest_alg: tpm.audit.alg().id(),
        audit_digest: tpm.audit.digest(),
        command_digest: tpm.audit.command_digest(),
    };
    tpm.attest_privately(call, extra_data, scheme, attested)?;
    if call.handle(2) != rh::NULL {
        tpm.forget_shutdown();
        tpm.audit.forget_digest();
        tpm.permanent_changed();
    }
    Ok(())
}

/// TPM2_GetSessionAuditDigest (18.5).
pub(crate) fn get_session_audit_digest(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (extra_data, scheme) = call.params(|p| Ok((p.get::<Data>()?, p.with(sign::sig_scheme)?)))?;
    tpm.signer(call, 2, (scheme, 2))?;
    let handle = call.handle(3);
    let session = tpm.sessions.get(handle).ok_or(rc::HANDLE.handle(3))?;
    let digest = session.audit.ok_or(rc::TYPE.handle(3))?;
    let exclusive = tpm.sessions.exclusive_audit == Some(handle);
    let attested = Attested::SessionAudit { exclusive, session_digest: digest.digest() };
    tpm.attest_privately(call, extra_data, scheme, attested)
}
