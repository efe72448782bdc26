//! Integrity collection (Part 3, 22).

use bulla_tpm_types::{DigestValues, List, PcrSelectionList, Rc, rc, rh};

use super::MAX_BUFFER;
use crate::Tpm;
use crate::dispatch::Call;
use crate::pcr::{self, HashSequence, Pcrs};
use crate::selftest::TestSet;

/// TPML_DIGEST: the most digests in a response to TPM2_PCR_Read (Part 2, 10.9.5).
const MAX_DIGESTS: usize = 8;

impl Tpm {
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
    tpm.require(TestSet::BANKS)?;
    let mut hash = HashSequence::default();
    hash.update(data);
    let digests = hash.finish();
    tpm.checked_extend(call.locality, call.handle(1), &digests)?;
    call.out().put(&digests);
    Ok(())
}

/// TPM2_PCR_Read (22.4): as many PCR as fit a TPML_DIGEST, and the selection of those.
pub(crate) fn read(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let selection = call.params(|p| p.get::<PcrSelectionList>())?;
    let mut read = Pcrs::filter(&selection);
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
