//! Random numbers (Part 3, 16).

use bulla_tpm_types::Rc;
use zeroize::Zeroizing;

use crate::Tpm;
use crate::dispatch::Call;
use crate::selftest::TestSet;

/// The most that TPM2_GetRandom answers: the largest digest.
const MAX_RANDOM: usize = 64;
/// The largest TPM2B_SENSITIVE_DATA.
const MAX_STIR: usize = 128;

/// TPM2_GetRandom (16.1).
pub(crate) fn get_random(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let wanted = call.params(|p| p.u16("bytesRequested"))?;
    tpm.require(TestSet::DRBG)?;
    let mut bytes = Zeroizing::new([0; MAX_RANDOM]);
    let bytes = &mut bytes[..usize::from(wanted).min(MAX_RANDOM)];
    tpm.random.generate(bytes);
    call.out().tpm2b(bytes);
    Ok(())
}

/// TPM2_StirRandom (16.2).
pub(crate) fn stir_random(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let data = call.params(|p| p.tpm2b(MAX_STIR, "inData"))?;
    tpm.require(TestSet::DRBG)?;
    tpm.random.stir(data);
    Ok(())
}
