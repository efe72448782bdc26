//! What a monitor gives up before its guest's first instruction.
//!
//! A monitor parses what its guest does. Should a guest ever run code of its own in here, this is what it finds:
//! the guest's own memory and vTPM, the descriptors that are open anyway (console, evidence, shared regions), the time,
//! randomness. No file to open, no socket to make, no program to start, no other process but the vTPM's to signal,
//! no memory that is both written and run, no second virtual machine.
//!
//! Two steps, since one of them reaches threads that exist and the other does not:
//! 1. [`give_up_files`], while the calling thread is the only one: those that it starts inherit.
//! 2. [`filter_calls`], for all threads, those that run and those to come.
//!
//! The second alone is the wall. The first stands behind it, in another part of the kernel, and is not on every host.

mod filter;

use std::fmt;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetError, RulesetStatus, Scope,
};
use seccompiler::{BackendError, apply_filter_all_threads};

/// Files, TCP ports and abstract sockets are all under Landlock from this version on (Linux 6.12).
const COMPLETE: ABI = ABI::V6;

/// How much of [`give_up_files`] this kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// Files, TCP and abstract sockets.
    Full,
    /// Files, but not all of the rest: an older kernel.
    Partial,
    /// Nothing: not in this kernel, not switched on, or refused.
    Absent,
}

impl Landlock {
    /// Stable, for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Absent => "absent",
        }
    }
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a monitor could not confine itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// No filter for this processor, or too long a one.
    #[error("cannot build the system call filter: {0}")]
    Build(#[from] BackendError),
    /// The kernel refused it.
    #[error("cannot install the system call filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Gives up opening files, TCP connections and ports, and abstract Unix sockets, for this thread and those that it
/// starts. What is open stays open. Never fails: see [`Landlock`].
///
/// Signals are not part of it, because the vTPM's process stands outside and is killed at the end; [`filter_calls`]
/// lets no other signal out.
pub fn give_up_files() -> Landlock {
    // At the first question for the time, `rustix` looks for the vDSO, which on some kernels is in a file.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let restricted = rules(CompatLevel::BestEffort, COMPLETE).and_then(RulesetCreated::restrict_self);
    match restricted.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => Landlock::Full,
        Ok(RulesetStatus::PartiallyEnforced) => Landlock::Partial,
        Ok(RulesetStatus::NotEnforced) | Err(_) => Landlock::Absent,
    }
}

/// What [`give_up_files`] would do here. Changes nothing.
#[must_use]
pub fn landlock_here() -> Landlock {
    if rules(CompatLevel::HardRequirement, COMPLETE).is_ok() {
        return Landlock::Full;
    }
    let some = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create);
    if some.is_ok() { Landlock::Partial } else { Landlock::Absent }
}

/// All that can be forbidden, with no exception.
fn rules(level: CompatLevel, abi: ABI) -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::AbstractUnixSocket)?
        .create()
}

/// Leaves all threads of this process the system calls that a running VM needs. Any other kills the process (SIGSYS),
/// except those by which libraries look for files: these are told that there is no such call (`ENOSYS`), so that a panic
/// ends with its own message.
///
/// `vtpm` is the id of the vTPM's process, the only one that can be killed afterwards.
///
/// # Errors
/// [`ConfineError`]; some of the filter may be in force then, and the process should end.
pub fn filter_calls(vtpm: u32) -> Result<(), ConfineError> {
    // Both are built before either holds; of two filters the stricter verdict counts.
    let (refused, allowed) = (filter::refused()?, filter::allowed(vtpm)?);
    apply_filter_all_threads(&refused)?;
    apply_filter_all_threads(&allowed)?;
    Ok(())
}
