//! The life of a VM as a table.

/// What a VM is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// Built; the firmware is measured, no instruction has run.
    Created,
    /// The vCPU runs (or waits for an interrupt).
    Running,
    /// Stopped between two instructions; VM time stands still.
    Paused,
    /// Over, for good.
    Stopped,
}

/// A change of state that is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a VM that is {from:?} cannot become {to:?}")]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: VmState,
    /// The state asked for.
    pub to: VmState,
}

/// Every legal change of state.
const LEGAL: [(VmState, VmState); 6] = [
    (VmState::Created, VmState::Running),
    (VmState::Created, VmState::Stopped),
    (VmState::Running, VmState::Paused),
    (VmState::Running, VmState::Stopped),
    (VmState::Paused, VmState::Running),
    (VmState::Paused, VmState::Stopped),
];

impl VmState {
    /// Checks a change of state against the table.
    ///
    /// # Errors
    /// [`IllegalTransition`].
    pub fn check(self, to: Self) -> Result<(), IllegalTransition> {
        if LEGAL.contains(&(self, to)) { Ok(()) } else { Err(IllegalTransition { from: self, to }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use VmState::*;

    #[test]
    fn nothing_leads_out_of_stopped_or_back_to_created() {
        for state in [Created, Running, Paused, Stopped] {
            assert_eq!(Stopped.check(state), Err(IllegalTransition { from: Stopped, to: state }));
            assert!(state.check(Created).is_err());
            assert!(state.check(state).is_err());
        }
    }

    #[test]
    fn a_vm_is_paused_only_while_it_runs() {
        assert!(Created.check(Paused).is_err());
        assert!(Running.check(Paused).is_ok());
        assert!(Paused.check(Running).is_ok());
    }
}
