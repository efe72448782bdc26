//! Why tests do not pass, or leave parts out, where the test's own words do not say it.

/// (test or prefix ending in `*`, reason).
const REASONS: &[(&str, &str)] = &[
    ("vmx*", "VMX is not announced in CPUID: no guests within the guest"),
    ("ept*", "VMX is not announced in CPUID: no guests within the guest"),
    ("svm*", "SVM is not announced in CPUID: no guests within the guest"),
    ("hyperv_*", "interfaces and a test device of another hypervisor, which bulla does not imitate"),
    ("intel_iommu", "the machine has no DMA remapping (nor a PCI bus)"),
    ("vmware_backdoors", "the back door of another hypervisor, which bulla does not imitate"),
    (
        "asyncpf",
        "asynchronous page faults are not announced: the host never makes a guest wait for a page that it could know of",
    ),
    ("pmu*", "no performance counters are announced in CPUID"),
    ("pku", "protection keys are not announced in CPUID"),
    ("pks", "protection keys are not announced in CPUID"),
    ("cet", "control-flow enforcement is not announced in CPUID"),
    ("tsx-ctrl", "transactional memory is not announced in CPUID"),
    ("tsc_adjust", "IA32_TSC_ADJUST is not announced in CPUID"),
    ("s3", "the machine's ACPI tables offer no S3 (suspend to RAM), which the test does not ask about"),
    ("syscall", "one part wants SYSCALL outside 64-bit mode, which is #UD on an Intel processor, as ours is"),
    ("memory", "CLWB and PCOMMIT are not announced in CPUID"),
    (
        "xapic",
        "the APIC ID is read-only, as processors that know x2APIC may have it (SDM vol. 3A, §11.4.6); the last part gives two \
         processors one ID and waits a second for each of 256 messages. What comes before passes",
    ),
    ("la57", "the suite leaves out what KVM gets wrong; PEBS, processor trace and forced emulation are not there"),
    ("access_fep", "wants KVM's forced emulation: there is no other execution than the emulator here"),
    ("emulator", "the skipped part wants KVM's forced emulation: there is no other execution than the emulator here"),
];

/// The reason for a test, if somebody has found it.
pub(crate) fn of(test: &str) -> Option<&'static str> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => test.starts_with(prefix),
        None => test == pattern,
    };
    REASONS.iter().find(|(pattern, _)| fits(pattern)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pattern_stands_for_all_names_that_begin_so() {
        assert_eq!(super::of("vmx_apicv_test"), super::of("vmx"));
        assert!(super::of("vmx").is_some() && super::of("intel_iommu2").is_none());
    }
}
