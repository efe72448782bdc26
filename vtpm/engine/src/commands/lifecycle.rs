//! Startup and Shutdown (Part 3, 9).

use alloc::boxed::Box;

use bulla_tpm_types::{Error, ErrorKind, Rc, Reader, StartupType, rc};

use crate::dispatch::Call;
use crate::time::StartupKind;
use crate::{Mode, SavedState, Shutdown, Tpm};

fn startup_type(r: &mut Reader<'_>) -> Result<StartupType, Error> {
    let at = r.clone();
    match r.u16("TPM_SU")? {
        0 => Ok(StartupType::Clear),
        1 => Ok(StartupType::State),
        _ => Err(at.error(ErrorKind::Value, "TPM_SU")),
    }
}

/// TPM2_Startup (9.3).
pub(crate) fn startup(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let kind = call.params(|p| p.with(startup_type))?;
    if tpm.mode != Mode::Initialized {
        return Err(rc::INITIALIZE);
    }
    // PTP 1.05: Startup comes from locality 0 or 3.
    if !matches!(call.locality, 0 | 3) {
        return Err(rc::LOCALITY);
    }
    let locality_three = call.locality == 3;
    tpm.require(tpm.bank_tests() | tpm.nv.tests())?;

    let orderly = tpm.shutdown.is_some();
    let startup = match (kind, tpm.shutdown.take()) {
        (StartupType::State, Some(Shutdown::State(saved)))
            if saved.hcrtm == tpm.hcrtm && saved.locality_three != locality_three =>
        {
            tpm.shutdown = Some(Shutdown::State(saved));
            return Err(rc::LOCALITY);
        }
        (StartupType::State, Some(Shutdown::State(saved))) if saved.hcrtm == tpm.hcrtm => {
            tpm.pcrs.startup_state(&saved.pcrs);
            tpm.sessions = saved.sessions;
            tpm.audit.resume(saved.audit);
            StartupKind::Resume
        }
        // Nothing to resume, or another root of trust than the state was saved under.
        (StartupType::State, shutdown) => {
            tpm.shutdown = shutdown;
            return Err(rc::VALUE.parameter(1));
        }
        (StartupType::Clear, Some(Shutdown::State(saved))) => {
            tpm.pcrs.startup_restart(&saved.pcrs);
            tpm.sessions = saved.sessions;
            tpm.audit.resume(saved.audit);
            tpm.epochs.restart(&mut tpm.random);
            StartupKind::Restart
        }
        (StartupType::Clear, _) => StartupKind::Reset,
    };
    if startup != StartupKind::Resume {
        tpm.pcrs.startup_clear(tpm.hcrtm, call.locality);
    }
    if startup == StartupKind::Reset {
        tpm.audit.forget_digest();
        tpm.epochs.reset(&mut tpm.random);
    }
    tpm.nv.startup(startup, orderly);
    tpm.hierarchies.startup(startup, &mut tpm.random);
    tpm.lockout.startup(orderly);
    tpm.time.startup(startup, orderly);
    tpm.locality_three = locality_three;
    tpm.orderly = orderly;
    tpm.mode = Mode::Operational;
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_Shutdown (9.4).
pub(crate) fn shutdown(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let kind = call.params(|p| p.with(startup_type))?;
    // What is saved would not be that of the banks after the next _TPM_Init (9.4.1).
    if kind == StartupType::State && tpm.pcr_settings.allocation != *tpm.pcrs.allocation() {
        return Err(rc::TYPE.parameter(1));
    }
    tpm.nv.store();
    tpm.lockout.shutdown();
    tpm.shutdown = Some(match kind {
        StartupType::Clear => Shutdown::Clear,
        StartupType::State => Shutdown::State(Box::new(SavedState {
            pcrs: tpm.pcrs.save(),
            sessions: tpm.sessions.outside(),
            hcrtm: tpm.hcrtm,
            locality_three: tpm.locality_three,
            audit: tpm.audit.saved_digest(),
        })),
    });
    tpm.permanent_changed();
    Ok(())
}
