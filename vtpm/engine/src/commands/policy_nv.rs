//! Enhanced authorization (Part 3, 23) by what NV Indexes hold.

use bulla_tpm_types::{Digest, Ha, Rc, Reader, cc, hash, rc};

use super::policy::{compare, comparison, session};
use crate::Tpm;
use crate::dispatch::Call;

/// TPM2_PolicyNV (23.9).
pub(crate) fn policy_nv(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (operand, offset, operation) =
        call.params(|p| Ok((p.get::<Digest>()?, p.u16("offset")?, p.with(comparison)?)))?;
    let trial = session(tpm, call, 3)?.is_trial();
    let index = tpm.nv_index(call.handle(2))?;
    if !trial {
        index.check_read(call.handle(1))?;
        let data = index.data().get(usize::from(offset)..).ok_or(rc::VALUE.parameter(2))?;
        let data = data.get(..operand.len()).ok_or(rc::SIZE.parameter(1))?;
        if compare(operation, data, &operand) != Some(true) {
            return Err(rc::POLICY);
        }
    }
    let name = index.name();
    let session = session(tpm, call, 3)?;
    let args = hash::digest(session.hash, &[&operand, &offset.to_be_bytes(), &operation.to_be_bytes()]);
    session.extend_policy(cc::POLICY_NV, &[args.as_bytes(), &name]);
    Ok(())
}

/// TPM2_PolicyAuthorizeNV (23.22): a policy that an index holds takes the place of the one so far.
pub(crate) fn policy_authorize_nv(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let current = session(tpm, call, 3)?;
    let (trial, digest) = (current.is_trial(), current.policy.digest);
    let index = tpm.nv_index(call.handle(2))?;
    if !trial {
        index.check_read(call.handle(1))?;
        // The index holds a TPMT_HA; what follows it does not matter.
        let approved = Reader::new(index.data()).get::<Ha>().map_err(|e| e.rc())?;
        if approved.alg() != digest.alg() {
            return Err(rc::HASH);
        }
        if approved != digest {
            return Err(rc::VALUE);
        }
    }
    let name = index.name();
    let session = session(tpm, call, 3)?;
    session.policy.digest = Ha::zero(session.hash);
    session.extend_policy(cc::POLICY_AUTHORIZE_NV, &[&name]);
    Ok(())
}
