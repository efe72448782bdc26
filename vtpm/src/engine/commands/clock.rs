//! Clocks (Part 3, 29).

use bulla_tpm_types::Rc;

use super::super::Tpm;
use super::super::dispatch::Call;

/// TPM2_ReadClock (29.1).
pub(in super::super) fn read_clock(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    call.out().put(&tpm.time.info());
    Ok(())
}
