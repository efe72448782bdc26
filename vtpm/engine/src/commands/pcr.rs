//! Integrity collection (Part 3, 22).

use bulla_tpm_types::{
    Digest, DigestValues, ErrorKind, HashAlg, IMPLEMENTATION_PCR, List, PcrSelectionList, Rc, rc, rh,
};

use super::MAX_BUFFER;
use crate::Tpm;
use crate::auth_policy::AuthPolicy;
use crate::dispatch::Call;
use crate::pcr::{self, Allocation, HashSequence};
use crate::secret::{AuthValue, MAX_DIGEST};
use crate::selftest::TestSet;

/// TPML_DIGEST: the most digests in a response to TPM2_PCR_Read (Part 2, 10.9.5).
const MAX_DIGESTS: usize = 8;

impl Tpm {
    /// The tests of the banks' hash algorithms, and of those that other things need.
    pub(crate) fn bank_tests(&self) -> TestSet {
        self.pcrs.allocation().banks().fold(TestSet::BANKS, |tests, alg| tests | TestSet::hash(alg))
    }

    /// Extends a PCR, after the checks that all commands which extend have in common. TPM_RH_NULL: nothing.
    pub(crate) fn checked_extend(
        &mut self,
        locality: u8,
        handle: bulla_tpm_types::Handle,
        digests: &DigestValues,
    ) -> Result<(), Rc> {
        if handle == rh::NULL {
            return Ok(());
        }
        if !pcr::may_extend(handle.0, locality) {
            return Err(rc::LOCALITY);
        }
        if pcr::is_saved(handle.0) {
            self.forget_shutdown();
        }
        self.pcrs.extend(handle.0, digests);
        Ok(())
    }
}

/// TPM2_PCR_Extend (22.2).
pub(crate) fn extend(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let digests = call.params(|p| p.get::<DigestValues>())?;
    tpm.checked_extend(call.locality, call.handle(1), &digests)
}

/// TPM2_PCR_Event (22.3).
pub(crate) fn event(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let data = call.params(|p| p.tpm2b(MAX_BUFFER, "eventData"))?;
    tpm.require(tpm.bank_tests())?;
    let mut hash = HashSequence::new(&tpm.pcrs);
    hash.update(data);
    let digests = hash.finish();
    tpm.checked_extend(call.locality, call.handle(1), &digests)?;
    call.out().put(&digests);
    Ok(())
}

/// TPM2_PCR_Read (22.4): as many PCR as fit a TPML_DIGEST, and the selection of those.
pub(crate) fn read(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let selection = call.params(|p| p.get::<PcrSelectionList>())?;
    let mut read = tpm.pcrs.filter(&selection);
    let mut values = List::<_, MAX_DIGESTS>::new();
    for s in read.iter_mut() {
        let wanted = *s;
        s.select = [0; bulla_tpm_types::PCR_SELECT_SIZE];
        for pcr in wanted.iter() {
            let Some(value) = tpm.pcrs.read(s.alg, pcr) else {
                continue;
            };
            if values.push(value.digest()) {
                s.insert(pcr);
            }
        }
    }
    let out = call.out();
    out.u32(tpm.pcrs.update_counter());
    out.put(&read);
    out.put(&values);
    Ok(())
}

/// TPM2_PCR_Reset (22.8).
pub(crate) fn reset(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let pcr = call.handle(1).0;
    if !pcr::may_reset(pcr, call.locality) {
        return Err(rc::LOCALITY);
    }
    if pcr::is_saved(pcr) {
        tpm.forget_shutdown();
    }
    tpm.pcrs.reset(pcr);
    Ok(())
}

/// TPM2_PCR_Allocate (22.5): the banks and PCR that there are from the next _TPM_Init on. Those of banks that the
/// request does not name stay.
pub(crate) fn allocate(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let request = call.params(|p| p.get::<PcrSelectionList>())?;
    let wanted = tpm.pcr_settings.allocation.with(&request);
    // The roots of trust need somewhere to measure into.
    if !wanted.has_roots() {
        return Err(rc::PCR);
    }
    let out = call.out();
    // There is room for every PCR of every bank.
    out.u8(1);
    out.u32(IMPLEMENTATION_PCR);
    out.u32(wanted.size());
    out.u32(Allocation::of(&HashAlg::ALL).size());
    tpm.forget_shutdown();
    tpm.pcr_settings.allocation = wanted;
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_PCR_SetAuthPolicy (22.6).
pub(crate) fn set_auth_policy(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (digest, alg, pcr) = call.params(|p| {
        Ok((
            p.get::<Digest>()?,
            p.with(HashAlg::unmarshal_or_null)?,
            p.with(|r| {
                let at = r.clone();
                let pcr = r.u32("TPMI_DH_PCR")?;
                if pcr < IMPLEMENTATION_PCR { Ok(pcr) } else { Err(at.error(ErrorKind::Value, "TPMI_DH_PCR")) }
            })?,
        ))
    })?;
    let policy = AuthPolicy::new(alg, &digest).ok_or(rc::SIZE.parameter(1))?;
    if !pcr::has_authorization(pcr) {
        return Err(rc::VALUE.parameter(3));
    }
    tpm.pcr_settings.policy = policy;
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_PCR_SetAuthValue (22.7).
pub(crate) fn set_auth_value(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let auth = call.params(|p| p.tpm2b(MAX_DIGEST, "auth"))?;
    if !pcr::has_authorization(call.handle(1).0) {
        return Err(rc::VALUE);
    }
    tpm.forget_shutdown();
    tpm.pcrs.auth = AuthValue::new(auth);
    Ok(())
}
