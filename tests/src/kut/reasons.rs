//! Why tests do not pass, or leave parts out, where the test's own words do not say it.

/// (test or prefix ending in `*`, reason).
const REASONS: &[(&str, &str)] = &[
    ("vmx*", "VMX is not announced in CPUID: no guests within the guest"),
    ("ept*", "VMX is not announced in CPUID: no guests within the guest"),
    ("svm*", "SVM is not announced in CPUID: no guests within the guest"),
    ("hyperv_*", "a device and interfaces of another hypervisor, which bulla does not imitate"),
    ("intel_iommu", "the machine has no PCI bus and so no DMA remapping"),
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
