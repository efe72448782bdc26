//! `--accel` and `--deterministic`: which backend executes the guest.

use bulla_vmm::backend::Backend;
use bulla_vmm::backend::select::{self, Accel, Choice, SelectError};

use super::{Exit, Failure, require_kvm};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wanted {
    /// KVM where hardware virtualization is behind it, else `soft`.
    Auto,
    /// KVM of whatever kind, or exit code 3.
    Kvm,
    /// The software processor: needs nothing of the host.
    Soft,
}

/// The arguments, for every command that runs VMs.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct AccelArguments {
    /// What executes the guest.
    #[arg(long, value_enum, value_name = "WHICH", default_value = "auto")]
    accel: Wanted,
}

impl AccelArguments {
    /// Opens the backend, or says why there is none.
    pub(crate) fn open(self, deterministic: bool) -> Result<(Box<dyn Backend>, Choice), Failure> {
        let accel = match self.accel {
            Wanted::Auto => Accel::Auto,
            Wanted::Kvm => Accel::Kvm,
            Wanted::Soft => Accel::Soft,
        };
        if accel == Accel::Kvm && !deterministic {
            require_kvm()?;
        }
        select::open(accel, deterministic).map_err(|error| match error {
            SelectError::DeterministicKvm => Failure::because(Exit::BadInput, "--deterministic", &error),
            SelectError::Backend(_) => Failure::because(Exit::NoBackend, "cannot use KVM", &error),
        })
    }

    /// Whether the user left the choice to us, and so is to be told.
    pub(crate) fn is_open(self) -> bool {
        self.accel == Wanted::Auto
    }
}
