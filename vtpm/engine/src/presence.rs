//! Physical presence: a signal of the platform's that somebody is at the machine (Part 1, 19.9).

use alloc::collections::BTreeSet;

use bulla_tpm_types::{Error, Reader, Writer, cc};

use super::audit::{restore_codes, save_codes};
use super::table;

/// The commands that may be made to need it when the platform hierarchy authorizes them: those that Part 3 marks
/// "+PP".
const OPTIONAL: [u32; 19] = [
    cc::NV_UNDEFINE_SPACE_SPECIAL,
    cc::EVICT_CONTROL,
    cc::HIERARCHY_CONTROL,
    cc::NV_UNDEFINE_SPACE,
    cc::CHANGE_EPS,
    cc::CHANGE_PPS,
    cc::CLEAR,
    cc::CLEAR_CONTROL,
    cc::CLOCK_SET,
    cc::HIERARCHY_CHANGE_AUTH,
    cc::NV_DEFINE_SPACE,
    cc::PCR_ALLOCATE,
    cc::PCR_SET_AUTH_POLICY,
    cc::SET_PRIMARY_POLICY,
    cc::CLOCK_RATE_ADJUST,
    cc::CREATE_PRIMARY,
    cc::NV_GLOBAL_WRITE_LOCK,
    cc::SET_COMMAND_CODE_AUDIT_STATUS,
    cc::CREATE_LOADED,
];

/// Which commands need it, and whether it is there.
#[derive(Default)]
pub(super) struct Presence {
    /// Those that need it, but TPM2_PP_Commands, which always does.
    required: BTreeSet<u32>,
    /// The platform's signal.
    pub(super) asserted: bool,
}

impl Presence {
    /// Whether the platform hierarchy's authorization of this command needs it.
    pub(super) fn is_required(&self, code: u32) -> bool {
        code == cc::PP_COMMANDS || self.required.contains(&code)
    }

    /// The commands that need it, in ascending order.
    pub(super) fn commands(&self) -> impl Iterator<Item = u32> + '_ {
        table::COMMANDS.iter().map(|c| c.code).filter(|c| self.is_required(*c))
    }

    /// A command needs it from now on. Commands that do not exist or cannot need it are ignored (Part 3, 26.2).
    pub(super) fn insert(&mut self, code: u32) {
        if OPTIONAL.contains(&code) && table::find(code).is_some() {
            self.required.insert(code);
        }
    }

    /// A command no longer needs it.
    pub(super) fn remove(&mut self, code: u32) {
        self.required.remove(&code);
    }

    /// Writes which commands need it, for [`Presence::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        save_codes(w, &self.required);
    }

    /// Reads what [`Presence::save`] has written. The signal is the platform's to give again.
    pub(super) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        self.required = restore_codes(r)?;
        Ok(())
    }
}
