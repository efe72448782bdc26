//! From images to a machine that is about to run its first instruction.

use std::borrow::Cow;

use bulla_boot_abi::image::{BOOTLOADER_MAGIC, FIRMWARE_MAGIC, Header};
use bulla_boot_abi::map;
use bulla_boot_abi::window::{Kind, encode_memory_map, layout, standard_memory_map};
use bulla_vtpm_client::VtpmClient;

use super::config::{ConfigError, Images};
use crate::acpi;
use crate::backend::CpuState;
use crate::memory::{GuestMemory, MemoryError};

/// Checks the firmware's header.
pub(super) fn firmware_header(images: &Images<'_>) -> Result<Header, ConfigError> {
    let firmware = Header::parse(images.firmware, FIRMWARE_MAGIC, map::FIRMWARE_BASE, map::FIRMWARE_SIZE);
    let header = firmware.map_err(|source| ConfigError::Image { image: "firmware", source })?;
    let room = map::HANDOFF_BASE - map::BOOTLOADER_BASE;
    Header::parse(images.bootloader, BOOTLOADER_MAGIC, map::BOOTLOADER_BASE, room)
        .map_err(|source| ConfigError::Image { image: "bootloader", source })?;
    Ok(header)
}

/// Has the vTPM measure the firmware before anything of it runs: the H-CRTM sequence (TPM 2.0 Part 1, "Dynamic
/// Root of Trust for Measurement" and PFP §2.2). Returns the digests as the vTPM reports them.
pub(super) fn measure_firmware(vtpm: &mut VtpmClient, firmware: &[u8]) -> Result<Vec<u8>, bulla_vtpm_client::Error> {
    vtpm.power_on()?;
    vtpm.hash_sequence(firmware)
}

/// The small items, which are made here and not given by the user.
pub(super) struct Facts {
    acpi: Vec<u8>,
    memory_map: Vec<u8>,
}

impl Facts {
    pub(super) fn of(memory: u64, acpi: &acpi::AcpiConfig) -> Result<Self, ConfigError> {
        Ok(Self { acpi: acpi::build(acpi)?.bytes, memory_map: encode_memory_map(&standard_memory_map(memory)) })
    }
}

/// A boot window: what goes where, borrowed as it is.
pub(super) struct Window<'a> {
    len: u64,
    pieces: Vec<(u64, Cow<'a, [u8]>)>,
}

impl<'a> Window<'a> {
    /// Lays the items out.
    pub(super) fn plan(images: &Images<'a>, facts: &'a Facts, firmware_digests: &'a [u8]) -> Result<Self, ConfigError> {
        let mut items: Vec<(Kind, &'a [u8])> = vec![
            (Kind::FirmwareDigests, firmware_digests),
            (Kind::Bootloader, images.bootloader),
            (Kind::Acpi, &facts.acpi),
            (Kind::MemoryMap, &facts.memory_map),
            (Kind::CommandLine, images.cmdline.as_bytes()),
            (Kind::Kernel, images.kernel),
        ];
        if let Some(initrd) = images.initrd {
            items.push((Kind::Initrd, initrd));
        }
        let lengths: Vec<(Kind, u64)> = items.iter().map(|(kind, bytes)| (*kind, bytes.len() as u64)).collect();
        let (header, extents, len) = layout(&lengths).ok_or(ConfigError::ImagesTooLarge)?;
        let mut pieces = vec![(0, Cow::from(header))];
        pieces.extend(items.iter().zip(extents).map(|((_, bytes), extent)| (extent.offset, Cow::from(*bytes))));
        Ok(Self { len, pieces })
    }

    /// Its size in bytes, whole pages.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Copies everything to its place.
    pub(super) fn fill(&self, memory: &GuestMemory) -> Result<(), MemoryError> {
        self.pieces.iter().try_for_each(|(offset, bytes)| memory.write(map::BOOT_WINDOW_BASE + offset, bytes))
    }
}

/// The state in which the firmware starts: that of [`bulla_boot_abi::image`]. What a PC's firmware would have done to
/// MSRs before is done here: memory is write-back (else kernels refuse to use the PAT), string moves are fast.
pub(super) fn initial_state(reset: &CpuState, firmware: &Header) -> CpuState {
    const IA32_MISC_ENABLE: u32 = 0x1A0;
    const FAST_STRINGS: u64 = 1;
    const IA32_MTRR_DEF_TYPE: u32 = 0x2FF;
    const MTRR_ENABLE: u64 = 1 << 11;
    const WRITE_BACK: u64 = 6;
    let mut state = CpuState::long_mode(reset, firmware.entry, firmware.cr3);
    for msr in &mut state.msrs {
        match msr.index {
            IA32_MISC_ENABLE => msr.value |= FAST_STRINGS,
            IA32_MTRR_DEF_TYPE => msr.value = MTRR_ENABLE | WRITE_BACK,
            _ => {}
        }
    }
    state
}
