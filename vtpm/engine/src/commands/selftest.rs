//! Testing (Part 3, 10).

use bulla_tpm_types::{AlgId, List, Rc, rc};

use super::capability::is_implemented;
use crate::dispatch::Call;
use crate::selftest::{TestSet, test_of};
use crate::{Mode, Tpm};

/// The most algorithms of a TPML_ALG.
const MAX_ALGS: usize = 64;

/// TPM2_SelfTest (10.2). The tests are over when it answers.
pub(crate) fn self_test(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let full = call.params(|p| p.yes_no("fullTest"))?;
    if full {
        tpm.tests = Default::default();
    }
    tpm.require(TestSet::ALL)
}

/// TPM2_IncrementalSelfTest (10.3): answers what is still to be tested.
pub(crate) fn incremental_self_test(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let algs = call.params(|p| p.with(|r| r.get::<List<AlgId, MAX_ALGS>>()))?;
    if !algs.iter().all(|alg| is_implemented(*alg)) {
        return Err(rc::VALUE.parameter(1));
    }
    let wanted = algs.iter().fold(TestSet::default(), |set, alg| set | test_of(*alg));
    tpm.require(wanted)?;
    let out = call.out();
    out.u32(tpm.tests.untested().count() as u32);
    tpm.tests.untested().for_each(|alg| out.put(&alg));
    Ok(())
}

/// TPM2_GetTestResult (10.4). What is untested by then is tested, so the result is never TPM_RC_NEEDS_TEST, which the
/// reference implementation does not answer either.
pub(crate) fn get_test_result(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let passed = tpm.mode != Mode::Failed && tpm.require(TestSet::ALL).is_ok();
    let result = if passed { rc::SUCCESS } else { rc::FAILURE };
    call.out().tpm2b(&[]);
    call.out().u32(result.0);
    Ok(())
}
