//! Clocks (Part 3, 29).

use bulla_tpm_types::Rc;

use crate::Tpm;
use crate::dispatch::Call;

/// TPM2_ReadClock (29.1).
pub(crate) fn read_clock(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    call.out().put(&tpm.time.info());
    Ok(())
}
