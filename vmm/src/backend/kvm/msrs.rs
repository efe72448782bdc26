//! The model-specific registers that belong to a vCPU's state.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::backend::{Msr, VcpuError};

/// Candidates in ascending order; the host's list says which of them exist. Time (IA32_TSC and the deadline) is no
/// part of it: it goes on by itself.
const CANDIDATES: &[u32] = &[
    0x48,        // IA32_SPEC_CTRL
    0x174,       // IA32_SYSENTER_CS
    0x175,       // IA32_SYSENTER_ESP
    0x176,       // IA32_SYSENTER_EIP
    0x1A0,       // IA32_MISC_ENABLE
    0x277,       // IA32_PAT
    0x2FF,       // IA32_MTRR_DEF_TYPE
    0x4B56_4D00, // MSR_KVM_WALL_CLOCK_NEW
    0x4B56_4D01, // MSR_KVM_SYSTEM_TIME_NEW
    0xC000_0081, // IA32_STAR
    0xC000_0082, // IA32_LSTAR
    0xC000_0083, // IA32_CSTAR
    0xC000_0084, // IA32_FMASK
    0xC000_0102, // IA32_KERNEL_GS_BASE
    0xC000_0103, // IA32_TSC_AUX
];

/// Which of them this host has. An MTRR is not in the kernel's list, but always there.
pub(super) fn known_to(kvm: &Kvm) -> Result<Vec<u32>, kvm_ioctls::Error> {
    const MTRR_DEF_TYPE: u32 = 0x2FF;
    let list = kvm.get_msr_index_list()?;
    let has = |index: &u32| *index == MTRR_DEF_TYPE || list.as_slice().contains(index);
    Ok(CANDIDATES.iter().copied().filter(has).collect())
}

fn host(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> VcpuError {
    move |e| VcpuError::Host { what, source: e.into() }
}

fn list_of(entries: &[kvm_msr_entry]) -> Result<Msrs, VcpuError> {
    Msrs::from_entries(entries).map_err(|_| VcpuError::Host {
        what: "take a list of MSRs of this length",
        source: std::io::ErrorKind::ArgumentListTooLong.into(),
    })
}

/// Reads those of `indices` that this vCPU has (what it has depends on its CPUID, so one may be missing).
pub(super) fn get(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<Msr>, VcpuError> {
    let mut found = Vec::with_capacity(indices.len());
    let mut rest = indices;
    while !rest.is_empty() {
        let entries: Vec<_> = rest.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let mut list = list_of(&entries)?;
        // The kernel stops at the first one that is missing and tells how many came before it.
        let count = vcpu.get_msrs(&mut list).map_err(host("read MSRs"))?;
        found.extend(list.as_slice().iter().take(count).map(|e| Msr { index: e.index, value: e.data }));
        rest = rest.get(count + 1..).unwrap_or_default();
    }
    Ok(found)
}

/// Sets all of `msrs`.
pub(super) fn set(vcpu: &VcpuFd, msrs: &[Msr]) -> Result<(), VcpuError> {
    let entries: Vec<_> =
        msrs.iter().map(|m| kvm_msr_entry { index: m.index, data: m.value, ..Default::default() }).collect();
    let count = vcpu.set_msrs(&list_of(&entries)?).map_err(host("set MSRs"))?;
    match msrs.get(count) {
        Some(refused) => Err(VcpuError::MsrRefused { index: refused.index, value: refused.value }),
        None => Ok(()),
    }
}
