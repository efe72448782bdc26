//! The expected measurements of a VM, computed offline from the inputs it would be started with.
//!
//! This is the second author of the event log: the chain in the guest writes the first one. Both obey
//! [`bulla_boot_abi::chain`]; the end-to-end tests compare them event by event.

use std::collections::BTreeMap;

use bulla_attest::{Expected, ExpectedError, ExpectedEvent, Root};
use bulla_boot_abi::{chain, window};
use bulla_bootloader::plan::{PlanError, plan};
use bulla_tpm_types::eventlog::ev;

use crate::acpi;
use crate::devices::tpm::TpmInterface;
use crate::machine::{ConfigError, Images, MachineConfig};

/// What a VM is started with, as far as it is measured.
#[derive(Clone, Copy, Debug)]
pub struct BootInputs<'a> {
    /// Stage 1, a flat image.
    pub firmware: &'a [u8],
    /// Stage 2, a flat image.
    pub bootloader: &'a [u8],
    /// Kernel file.
    pub kernel: &'a [u8],
    /// Initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// Command line.
    pub cmdline: &'a str,
    /// RAM in bytes.
    pub memory: u64,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// How the guest talks to its TPM.
    pub tpm_interface: TpmInterface,
}

impl<'a> BootInputs<'a> {
    /// The part of it that a machine is built from.
    #[must_use]
    pub fn images(&self) -> Images<'a> {
        Images {
            firmware: self.firmware,
            bootloader: self.bootloader,
            kernel: self.kernel,
            initrd: self.initrd,
            cmdline: self.cmdline,
        }
    }
}

/// Why no expected values can be given: such a VM would not start either.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The bootloader would refuse the images.
    #[error("the bootloader would refuse this: {0}")]
    Plan(#[from] PlanError),
    /// The monitor would refuse the machine or its images.
    #[error("no such machine can be: {0}")]
    Machine(#[from] ConfigError),
    /// The VM's shape is not possible.
    #[error("cannot describe such a machine: {0}")]
    Acpi(#[from] acpi::AcpiError),
    /// The events cannot be put into a log.
    #[error(transparent)]
    Expected(#[from] ExpectedError),
}

/// The events of the chain, in log order.
///
/// # Errors
/// [`MeasureError`] when the chain would stop before the kernel.
pub fn events(inputs: &BootInputs<'_>) -> Result<Vec<ExpectedEvent>, MeasureError> {
    MachineConfig { memory: inputs.memory, vcpus: inputs.vcpus, ..MachineConfig::default() }.validate()?;
    inputs.images().validate()?;
    let map = window::standard_memory_map(inputs.memory);
    let tables = acpi::build(&acpi::AcpiConfig { vcpus: inputs.vcpus, tpm: inputs.tpm_interface })?;
    let initrd_len = inputs.initrd.map(|i| i.len() as u64);
    let plan = plan(inputs.kernel, initrd_len, inputs.cmdline.as_bytes(), &map)?;

    let crtm_version = chain::crtm_version_event();
    let cmdline = chain::cmdline_event(inputs.cmdline);
    let config = ev::PLATFORM_CONFIG_FLAGS;

    let mut events = vec![
        event("firmware", chain::PCR_FIRMWARE, ev::EFI_HCRTM_EVENT, inputs.firmware, chain::HCRTM_EVENT),
        event("firmware version", chain::PCR_FIRMWARE, ev::S_CRTM_VERSION, &crtm_version, &crtm_version),
        event("ACPI tables", chain::PCR_PLATFORM_CONFIG, config, &tables.bytes, chain::ACPI_EVENT),
        event(
            "memory map",
            chain::PCR_PLATFORM_CONFIG,
            config,
            &window::encode_memory_map(&map),
            chain::MEMORY_MAP_EVENT,
        ),
    ];
    events.extend(
        chain::SEPARATOR_PCRS.map(|pcr| event("separator", pcr, ev::SEPARATOR, &chain::SEPARATOR, &chain::SEPARATOR)),
    );
    events.push(event("bootloader", chain::PCR_BOOT_CODE, ev::IPL, inputs.bootloader, chain::BOOTLOADER_EVENT));
    events.push(event("kernel", chain::PCR_BOOT_CODE, ev::IPL, inputs.kernel, chain::KERNEL_EVENT));
    if let Some(initrd) = inputs.initrd {
        events.push(event("initrd", chain::PCR_INITRD, ev::IPL, initrd, chain::INITRD_EVENT));
    }
    events.push(event("command line", chain::PCR_CMDLINE, ev::IPL, &cmdline, &cmdline));
    events.push(event("boot parameters", chain::PCR_BOOT_CONFIG, ev::IPL, &plan.boot_params, chain::BOOT_PARAMS_EVENT));
    Ok(events)
}

fn event(name: &str, pcr: u8, event_type: u32, measured: &[u8], data: &[u8]) -> ExpectedEvent {
    ExpectedEvent::measure(u32::from(pcr), event_type, name, measured, data)
}

/// The expected PCRs and event log of a VM that starts with `inputs`.
///
/// # Errors
/// [`MeasureError`].
pub fn expected(inputs: &BootInputs<'_>) -> Result<Expected, MeasureError> {
    let mut expected = Expected::from_events(H_CRTM_LOCALITY, events(inputs)?)?;
    expected.root = Root::VmmHosted;
    expected.machine = BTreeMap::from([
        ("memory".to_owned(), inputs.memory.to_string()),
        ("vcpus".to_owned(), inputs.vcpus.to_string()),
        ("firmware".to_owned(), chain::CRTM_VERSION.to_owned()),
    ]);
    Ok(expected)
}

/// An H-CRTM sequence runs at locality 4, so PCR 0 starts as 0…04 (PFP §10.4.5.3).
const H_CRTM_LOCALITY: u8 = 4;
