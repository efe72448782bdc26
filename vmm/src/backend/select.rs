//! Which backend a VM gets.

use std::fmt;

use super::kvm::KvmBackend;
use super::kvm::probe::{DeviceState, Kind, Probe};
use super::soft::{Pace, SoftBackend};
use super::{Backend, BackendError};

/// What the user wants guests to be executed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accel {
    /// KVM, of whatever kind.
    Kvm,
    /// The software processor.
    Soft,
    /// KVM where hardware virtualization is behind it, else the software processor.
    #[default]
    Auto,
}

/// What it came to, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// KVM; else the software processor.
    pub kvm: bool,
    /// The reason, as the rest of a sentence that begins with the choice.
    pub why: String,
}

impl Choice {
    /// Name of the backend: `kvm` or `soft`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.kvm { "kvm" } else { "soft" }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.kvm { "KVM" } else { "the software processor" };
        write!(f, "{what}: {}", self.why)
    }
}

/// What is wrong with the user's wishes, or with the host.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// KVM's guests see the host's time.
    #[error("a deterministic run needs the software processor, and KVM was asked for")]
    DeterministicKvm,
    /// KVM was asked for and is not to be had.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Decides what [`Accel::Auto`] means on the host that `probe` has looked at.
#[must_use]
pub fn automatic(probe: &Probe) -> Choice {
    if !matches!(probe.device, DeviceState::Usable { .. }) {
        return Choice { kvm: false, why: probe.device.to_string() };
    }
    if let Some(lacking) = probe.capabilities.iter().find(|c| c.needed && c.value <= 0) {
        return Choice { kvm: false, why: format!("this kernel's KVM lacks {}", lacking.name) };
    }
    match probe.kind {
        Kind::Vmx | Kind::Svm => Choice { kvm: true, why: format!("with {}", probe.kind) },
        Kind::DePrivileged | Kind::Unknown => Choice { kvm: false, why: format!("KVM here is {}", probe.kind) },
    }
}

/// Opens the backend that the user wants.
///
/// # Errors
/// [`SelectError`].
pub fn open(accel: Accel, deterministic: bool) -> Result<(Box<dyn Backend>, Choice), SelectError> {
    let choice = match (accel, deterministic) {
        (Accel::Kvm, true) => return Err(SelectError::DeterministicKvm),
        (Accel::Kvm, false) => Choice { kvm: true, why: "asked for".to_owned() },
        (Accel::Soft, _) => Choice { kvm: false, why: "asked for".to_owned() },
        (Accel::Auto, true) => Choice { kvm: false, why: "a deterministic run was asked for".to_owned() },
        (Accel::Auto, false) => automatic(&Probe::take()),
    };
    if choice.kvm {
        return Ok((Box::new(KvmBackend::open().map_err(BackendError::from)?), choice));
    }
    let pace = if deterministic { Pace::Deterministic } else { Pace::Host };
    Ok((Box::new(SoftBackend::new(pace)), choice))
}

#[cfg(test)]
mod tests {
    use super::super::kvm::probe::{CapabilityFact, Processor};
    use super::*;

    fn probe(device: DeviceState, kind: Kind) -> Probe {
        Probe {
            device,
            kind,
            processor: Processor::NoVirtualization,
            in_a_vm: true,
            modules: Vec::new(),
            capabilities: vec![CapabilityFact { name: "KVM_CAP_USER_MEMORY", needed: true, value: 1 }],
            max_vcpus: 1,
            max_memory_slots: 1,
        }
    }

    const USABLE: DeviceState = DeviceState::Usable { api_version: 12 };

    #[test]
    fn kvm_is_taken_only_with_hardware_virtualization_behind_it() {
        for (kind, kvm) in [(Kind::Vmx, true), (Kind::Svm, true), (Kind::DePrivileged, false), (Kind::Unknown, false)] {
            let choice = automatic(&probe(USABLE, kind));
            assert_eq!(choice.kvm, kvm, "{choice}");
            assert!(choice.why.contains(&kind.to_string()), "{choice}");
        }
    }

    #[test]
    fn a_kvm_that_cannot_be_used_is_not_taken_and_the_reason_is_told() {
        let absent = DeviceState::Absent { processor: Processor::Vmx };
        let choice = automatic(&probe(absent, Kind::Vmx));
        assert_eq!(choice.to_string(), "the software processor: there is no /dev/kvm");
        let mut old = probe(USABLE, Kind::Vmx);
        old.capabilities[0].value = 0;
        let choice = automatic(&old);
        assert!(!choice.kvm && choice.why.contains("KVM_CAP_USER_MEMORY"), "{choice}");
    }

    #[test]
    fn a_deterministic_run_is_never_on_kvm() {
        assert!(matches!(open(Accel::Kvm, true), Err(SelectError::DeterministicKvm)));
        let (backend, choice) = open(Accel::Auto, true).unwrap();
        assert_eq!((backend.name(), choice.name()), ("soft", "soft"));
        assert_eq!(open(Accel::Soft, false).unwrap().1.name(), "soft");
    }
}
