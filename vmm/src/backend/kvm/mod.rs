//! The KVM backend: split irqchip (local APIC in the kernel, everything else in user space), one memory slot a
//! region, exits answered in the vCPU's own thread.

use std::sync::Arc;

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Cap, Kvm};

use super::{Backend, BackendError, Capabilities, Partition};

mod cpuid;
mod fpu;
mod irq;
mod kick;
mod msrs;
mod partition;
pub mod probe;
mod regs;
mod vcpu;

#[cfg(test)]
mod tests;

use partition::KvmPartition;
use probe::{DeviceState, Probe};

/// Three pages for a task state segment that Intel processors without "unrestricted guest" need, and before it the
/// page of an identity map. KVM's default lies inside our firmware region, so they go into the hole between the
/// local APIC's message range and the firmware, where the guest has nothing.
pub(crate) const TSS_BASE: u64 = 0xFEFF_D000;
/// See [`TSS_BASE`].
pub(crate) const IDENTITY_MAP_BASE: u64 = TSS_BASE - 0x1000;

/// KVM capabilities that bulla cannot do without.
const NEEDED: &[(Cap, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
];

/// Why KVM cannot be used here, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The device cannot be used.
    #[error("{device}. {}", .device.advice())]
    Device {
        /// In which way.
        device: DeviceState,
    },
    /// The kernel's KVM is too old or too small.
    #[error("this kernel's KVM lacks {name}. A kernel from 4.10 on has it")]
    Missing {
        /// Name of the capability.
        name: &'static str,
    },
    /// KVM refused an ioctl at start-up.
    #[error("KVM refused to {what}: {source}")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// Its reason.
        source: std::io::Error,
    },
}

impl From<KvmError> for BackendError {
    fn from(error: KvmError) -> Self {
        Self::Unavailable { backend: "kvm", source: Box::new(error) }
    }
}

/// Virtual machines on Linux's KVM.
#[derive(Debug)]
pub struct KvmBackend {
    kvm: Arc<Kvm>,
    capabilities: Capabilities,
}

impl KvmBackend {
    /// Opens `/dev/kvm` and checks that it can do what bulla needs.
    ///
    /// # Errors
    /// [`KvmError`] says what is wrong and what to do.
    pub fn open() -> Result<Self, KvmError> {
        let probe = Probe::take();
        if !matches!(probe.device, DeviceState::Usable { .. }) {
            return Err(KvmError::Device { device: probe.device });
        }
        let kvm = Kvm::new().map_err(|e| KvmError::Device { device: probe::open_failure(&e.into()) })?;
        for (cap, name) in NEEDED {
            if !kvm.check_extension(*cap) {
                return Err(KvmError::Missing { name });
            }
        }
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|e| KvmError::Refused { what: "list the CPU's features", source: e.into() })?;
        let tsc_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        let capabilities = Capabilities {
            max_vcpus: kvm.get_max_vcpus(),
            max_memory_slots: kvm.get_nr_memslots(),
            cpuid: cpuid::machine_table(supported.as_slice(), tsc_deadline),
        };
        Ok(Self { kvm: Arc::new(kvm), capabilities })
    }
}

impl Backend for KvmBackend {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn create_partition(&self) -> Result<Arc<dyn Partition>, BackendError> {
        Ok(Arc::new(KvmPartition::create(&self.kvm, &self.capabilities)?))
    }
}

/// Turns an error of `kvm-ioctls` into one that says what was asked for.
fn host(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> BackendError {
    move |e| BackendError::Host { what, source: e.into() }
}
