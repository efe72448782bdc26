//! From what KVM can show to what bulla's machine shows, and back into KVM's form.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use crate::backend::{BackendError, CpuidLeaf};

/// Leaves that describe hardware this machine does not have: power management, performance monitoring, cache
/// allocation, enclaves, trace.
const HIDDEN_LEAVES: &[u32] = &[0x5, 0x6, 0xA, 0xF, 0x10, 0x12, 0x14, 0x17, 0x1C, 0x23, 0x8000_001B, 0x8000_0022];

const ONE_THREAD_A_PACKAGE: u32 = 1 << 16;

/// Makes the machine's table out of `KVM_GET_SUPPORTED_CPUID`: hypervisor leaves stay; x2APIC and the TSC-deadline
/// timer, which the kernel's local APIC has whatever the processor says, are shown; the topology is that of one
/// processor a package.
pub(super) fn machine_table(supported: &[kvm_cpuid_entry2], tsc_deadline: bool) -> Vec<CpuidLeaf> {
    supported
        .iter()
        .filter(|e| !HIDDEN_LEAVES.contains(&e.function))
        .map(|e| {
            let mut leaf = CpuidLeaf {
                function: e.function,
                index: e.index,
                indexed: e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0,
                output: [e.eax, e.ebx, e.ecx, e.edx],
            };
            adjust(&mut leaf, tsc_deadline);
            leaf
        })
        .collect()
}

fn adjust(leaf: &mut CpuidLeaf, tsc_deadline: bool) {
    const X2APIC: u32 = 1 << 21;
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR: u32 = 1 << 31;
    const HTT: u32 = 1 << 28;
    let [eax, ebx, ecx, edx] = &mut leaf.output;
    match leaf.function {
        // Version and feature information: EBX has CLFLUSH line size (bits 15–8), logical processors (23–16) and
        // the APIC ID (31–24, filled in for each vCPU).
        0x1 => {
            *ebx = (*ebx & 0xFF00) | ONE_THREAD_A_PACKAGE;
            *ecx |= X2APIC | HYPERVISOR;
            if tsc_deadline {
                *ecx |= TSC_DEADLINE;
            }
            *edx &= !HTT;
        }
        // Deterministic cache parameters: no core or thread shares a cache (bits 25–14 and 31–26).
        0x4 | 0x8000_001D => *eax &= 0x3FFF,
        // Extended topology: one thread, one core; EDX has the x2APIC ID, filled in for each vCPU.
        0xB | 0x1F => {
            *eax = 0;
            // Level type in ECX 15–8: 1 is thread, 2 is core, 0 ends the list.
            let level_type = match leaf.index {
                0 => 1,
                1 => 2,
                _ => 0,
            };
            *ebx = u32::from(level_type != 0);
            *ecx = leaf.index | (level_type << 8);
        }
        // AMD: no core topology extensions (bit 22), no legacy multi-core flag (bit 1).
        0x8000_0001 => *ecx &= !((1 << 22) | (1 << 1)),
        // AMD: one core (bits 7–0), APIC ID size 0 (15–12).
        0x8000_0008 => *ecx = 0,
        0x8000_001E => [*eax, *ebx, *ecx] = [0; 3],
        _ => {}
    }
}

/// KVM's form of a table, for the vCPU with this APIC ID.
pub(super) fn for_vcpu(table: &[CpuidLeaf], id: u32) -> Result<CpuId, BackendError> {
    let entries: Vec<kvm_cpuid_entry2> = table
        .iter()
        .map(|leaf| {
            let [eax, mut ebx, ecx, mut edx] = leaf.output;
            match leaf.function {
                0x1 => ebx = (ebx & 0x00FF_FFFF) | (id << 24),
                0xB | 0x1F => edx = id,
                _ => {}
            }
            let flags = if leaf.indexed { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 };
            kvm_cpuid_entry2 { function: leaf.function, index: leaf.index, flags, eax, ebx, ecx, edx, padding: [0; 3] }
        })
        .collect();
    CpuId::from_entries(&entries).map_err(|_| BackendError::Host {
        what: "take a CPUID table of this length",
        source: std::io::ErrorKind::ArgumentListTooLong.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32, flags: u32) -> kvm_cpuid_entry2 {
        let all = u32::MAX;
        kvm_cpuid_entry2 { function, index, flags, eax: all, ebx: all, ecx: all, edx: all, padding: [0; 3] }
    }

    #[test]
    fn hardware_that_is_not_there_is_hidden_and_the_hypervisor_leaf_stays() {
        let table = machine_table(&[entry(0xA, 0, 0), entry(0x12, 0, 1), entry(0x4000_0000, 0, 0)], true);
        assert_eq!(table.iter().map(|l| l.function).collect::<Vec<_>>(), [0x4000_0000]);
    }

    #[test]
    fn the_deadline_timer_is_shown_only_where_the_kernel_has_it() {
        let mut none = entry(1, 0, 0);
        none.ecx = 0;
        let ecx = |deadline| machine_table(&[none], deadline).first().map(|l| l.output[2]);
        assert_eq!(ecx(false), Some((1 << 21) | (1 << 31)));
        assert_eq!(ecx(true), Some((1 << 21) | (1 << 31) | (1 << 24)));
    }

    #[test]
    fn apic_id_is_that_of_the_vcpu_in_every_leaf_that_tells_it() {
        let table = machine_table(&[entry(1, 0, 0), entry(0xB, 0, 1), entry(0xB, 1, 1)], true);
        let cpuid = for_vcpu(&table, 3).unwrap();
        let entries = cpuid.as_slice();
        assert_eq!(entries[0].ebx >> 24, 3);
        assert_eq!((entries[1].edx, entries[1].ecx, entries[1].ebx), (3, 0x100, 1));
        assert_eq!((entries[2].edx, entries[2].ecx, entries[2].ebx), (3, 0x201, 1));
    }
}
