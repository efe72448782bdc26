//! Which link of the chain is measured into which PCR, by whom, under which event.
//!
//! Follows the TCG PC Client Platform Firmware Profile (PFP) and the UAPI Group's Linux TPM PCR Registry.
//! In log order:
//!
//! | PCR | event type | event data | digest over | measured by |
//! |---|---|---|---|---|
//! | 0 | EV_NO_ACTION | StartupLocality, 4 | (not extended) | firmware (log only) |
//! | 0 | EV_EFI_HCRTM_EVENT | `HCRTM` | the firmware image | vTPM, H-CRTM sequence |
//! | 0 | EV_S_CRTM_VERSION | [`CRTM_VERSION`] in UTF-16LE with NUL | the event data | firmware |
//! | 1 | EV_PLATFORM_CONFIG_FLAGS | [`ACPI_EVENT`] | all ACPI tables, one blob | firmware |
//! | 1 | EV_PLATFORM_CONFIG_FLAGS | [`MEMORY_MAP_EVENT`] | the memory map item of the boot window | firmware |
//! | 0–7 | EV_SEPARATOR | four zero bytes | the event data | firmware |
//! | 4 | EV_IPL | [`BOOTLOADER_EVENT`] | the bootloader image | firmware |
//! | 4 | EV_IPL | [`KERNEL_EVENT`] | the kernel file, as given | bootloader |
//! | 9 | EV_IPL | [`INITRD_EVENT`] | the initrd file, as given; no event without one | bootloader |
//! | 12 | EV_IPL | [`cmdline_event`]: the command line in UTF-16LE with NUL | the event data | bootloader |
//! | 5 | EV_IPL | [`BOOT_PARAMS_EVENT`] | `boot_params` or `hvm_start_info` as the kernel gets it | bootloader |
//!
//! Every event is extended into all active banks by one TPM2_PCR_Extend.

use alloc::vec::Vec;

/// Version string of the CRTM, measured as EV_S_CRTM_VERSION.
pub const CRTM_VERSION: &str = "bulla firmware 0.1";
/// Event data of the H-CRTM event (PFP §10.4.5.3 asks for exactly this text).
pub const HCRTM_EVENT: &[u8] = b"HCRTM";
/// Event data of the ACPI measurement.
pub const ACPI_EVENT: &[u8] = b"bulla: ACPI tables";
/// Event data of the memory map measurement.
pub const MEMORY_MAP_EVENT: &[u8] = b"bulla: memory map";
/// Event data of the bootloader measurement.
pub const BOOTLOADER_EVENT: &[u8] = b"bulla: bootloader";
/// Event data of the kernel measurement.
pub const KERNEL_EVENT: &[u8] = b"bulla: kernel";
/// Event data of the initrd measurement.
pub const INITRD_EVENT: &[u8] = b"bulla: initrd";
/// Event data of the boot parameter measurement.
pub const BOOT_PARAMS_EVENT: &[u8] = b"bulla: boot parameters";

/// Firmware code.
pub const PCR_FIRMWARE: u8 = 0;
/// Platform configuration.
pub const PCR_PLATFORM_CONFIG: u8 = 1;
/// Bootloader and kernel code.
pub const PCR_BOOT_CODE: u8 = 4;
/// What the bootloader tells the kernel.
pub const PCR_BOOT_CONFIG: u8 = 5;
/// Initial RAM disk.
pub const PCR_INITRD: u8 = 9;
/// Kernel command line.
pub const PCR_CMDLINE: u8 = 12;

/// PCRs that get a separator before the bootloader is measured.
pub const SEPARATOR_PCRS: core::ops::RangeInclusive<u8> = 0..=7;
/// Separator event data (PFP §10.4.1: no error).
pub const SEPARATOR: [u8; 4] = [0; 4];

/// The PCRs that a quote of a bulla VM covers unless asked otherwise: all that the chain extends or separates.
pub const QUOTE_PCRS: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12];

/// [`CRTM_VERSION`] as the event carries it: UTF-16LE, NUL-terminated (PFP §10.4.5.2).
pub fn crtm_version_event() -> Vec<u8> {
    utf16(CRTM_VERSION)
}

/// The command line as it is measured and logged: the form that systemd-stub uses for PCR 12, which is UTF-16LE,
/// NUL-terminated.
pub fn cmdline_event(cmdline: &str) -> Vec<u8> {
    utf16(cmdline)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}
