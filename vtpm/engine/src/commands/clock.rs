//! Clocks (Part 3, 29).

use bulla_tpm_types::{ErrorKind, Rc, rc};

use crate::Tpm;
use crate::dispatch::Call;
use crate::time::Adjustment;

/// TPM2_ReadClock (29.1).
pub(crate) fn read_clock(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    call.out().put(&tpm.time.info());
    Ok(())
}

/// TPM2_ClockSet (29.2).
pub(crate) fn clock_set(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let clock = call.params(|p| p.with(|r| r.u64("newTime")))?;
    if !tpm.time.set_clock(clock) {
        return Err(rc::VALUE.parameter(1));
    }
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_ClockRateAdjust (29.3).
pub(crate) fn clock_rate_adjust(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let by = call.params(|p| {
        p.with(|r| {
            let at = r.clone();
            let number = r.u8("TPM_CLOCK_ADJUST")?.cast_signed();
            Adjustment::from_number(number).ok_or_else(|| at.error(ErrorKind::Value, "TPM_CLOCK_ADJUST"))
        })
    })?;
    tpm.time.adjust(by);
    Ok(())
}
