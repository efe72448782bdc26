//! The program.
//!
//! Unsafe rule of this module: each area of [`bulla_boot_abi::map`] is taken once, by the function that fills it.

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;

use bulla_boot_abi::image::{self, BOOTLOADER_MAGIC, HEADER_LEN};
use bulla_boot_abi::progress::{Failure, Milestone};
use bulla_boot_abi::window::{self, Directory, Kind, MemoryRange};
use bulla_boot_abi::{chain, handoff, map};
use bulla_guest_rt::interface::Interface;
use bulla_guest_rt::machine::{TpmRegisters, copy_from_window, take_memory};
use bulla_guest_rt::measure::{Chain, MeasureError};
use bulla_guest_rt::{fail, gate, main, progress};
use bulla_stage1::check_memory_map;
use bulla_tpm_types::eventlog::ev;
use bulla_tpm_types::{DigestValues, Unmarshal};

type Measurer = Chain<'static, Interface<TpmRegisters>>;

main!(firmware);

fn firmware(_: u64) -> ! {
    progress(Milestone::FirmwareEntered);
    let mut measurer = or_fail(start_tpm());
    progress(Milestone::TpmReady);

    let mut header = vec![0; window::HEADER_LEN];
    or_fail(copy_from_window(0, &mut header).ok_or((Failure::WindowHeader, "boot window is too short")));
    let directory = or_fail(Directory::parse(&header).map_err(|e| (Failure::WindowHeader, e)));

    or_fail(log_firmware(&mut measurer, &directory));
    or_fail(measure_acpi(&mut measurer, &directory));
    let memory_map = or_fail(measure_memory_map(&mut measurer, &directory));
    for pcr in chain::SEPARATOR_PCRS {
        let separator = &chain::SEPARATOR;
        or_fail(measurer.measure(pcr, ev::SEPARATOR, separator, separator).map_err(told));
    }
    let entry = or_fail(load_bootloader(&mut measurer, &directory, &header, &memory_map));
    progress(Milestone::BootloaderMeasured);
    gate::enter_bootloader(entry)
}

/// A failure to tell the monitor, and why.
type Told<E> = (Failure, E);

fn or_fail<T, E: Display>(result: Result<T, Told<E>>) -> T {
    result.unwrap_or_else(|(failure, why)| fail(failure, &why))
}

fn told(error: MeasureError) -> Told<MeasureError> {
    (error.failure(), error)
}

fn start_tpm() -> Result<Measurer, Told<MeasureError>> {
    let tpm = Interface::open(TpmRegisters::locality0()).map_err(|e| told(e.into()))?;
    // SAFETY: the module's rule; the area is reserved in the memory map.
    let area = unsafe { take_memory(map::EVENT_LOG_BASE, u64::from(map::EVENT_LOG_SIZE)) };
    Chain::start(tpm, area).map_err(told)
}

/// Where an item lies, if it is there and not larger than `room`.
fn find(directory: &Directory, kind: Kind, room: usize) -> Result<(u64, usize), Told<&'static str>> {
    let extent = directory.get(kind).ok_or((Failure::WindowItemMissing, name(kind)))?;
    match usize::try_from(extent.len) {
        Ok(len) if len <= room => Ok((extent.offset, len)),
        _ => Err((Failure::WindowItemTooLarge, name(kind))),
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bootloader => "bootloader",
        Kind::Acpi => "ACPI tables",
        Kind::MemoryMap => "memory map",
        Kind::FirmwareDigests => "digests of the firmware",
        Kind::Kernel | Kind::Initrd | Kind::CommandLine => "item of the bootloader",
    }
}

/// Copies an item to the front of `place`.
fn fetch<'a>(directory: &Directory, kind: Kind, place: &'a mut [u8]) -> Result<&'a mut [u8], Told<&'static str>> {
    let (offset, len) = find(directory, kind, place.len())?;
    let place = place.get_mut(..len).ok_or((Failure::WindowItemTooLarge, name(kind)))?;
    copy_from_window(offset, place).ok_or((Failure::WindowHeader, name(kind)))?;
    Ok(place)
}

fn fetch_small(directory: &Directory, kind: Kind) -> Result<Vec<u8>, Told<&'static str>> {
    let mut page = vec![0; 4096];
    let len = fetch(directory, kind, &mut page)?.len();
    page.truncate(len);
    Ok(page)
}

type Refused = Told<Reason>;

/// Why the firmware gives up, for the console.
enum Reason {
    Item(&'static str),
    Measure(MeasureError),
    Other(&'static dyn Display),
    Map(window::MemoryMapError),
    Check(bulla_stage1::MapError),
    Image(image::ImageError),
}

impl Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Item(item) => item.fmt(f),
            Self::Measure(e) => e.fmt(f),
            Self::Other(e) => e.fmt(f),
            Self::Map(e) => e.fmt(f),
            Self::Check(e) => e.fmt(f),
            Self::Image(e) => e.fmt(f),
        }
    }
}

fn item(told: Told<&'static str>) -> Refused {
    (told.0, Reason::Item(told.1))
}

fn measure(error: MeasureError) -> Refused {
    (error.failure(), Reason::Measure(error))
}

/// The firmware's own measurement, made by the TPM before this program ran, and its version.
fn log_firmware(measurer: &mut Measurer, directory: &Directory) -> Result<(), Refused> {
    let bytes = fetch_small(directory, Kind::FirmwareDigests).map_err(item)?;
    let malformed = (Failure::WindowItemMissing, Reason::Other(&"digests of the firmware are malformed"));
    let digests = DigestValues::from_bytes(&bytes).map_err(|_| malformed)?;
    measurer.log_hcrtm(&digests, chain::HCRTM_EVENT).map_err(measure)?;
    let version = chain::crtm_version_event();
    measurer.measure(chain::PCR_FIRMWARE, ev::S_CRTM_VERSION, &version, &version).map_err(measure)
}

fn measure_acpi(measurer: &mut Measurer, directory: &Directory) -> Result<(), Refused> {
    // SAFETY: the module's rule; the area is reserved in the memory map.
    let area = unsafe { take_memory(map::ACPI_BASE, map::ACPI_SIZE) };
    let tables = fetch(directory, Kind::Acpi, area).map_err(item)?;
    let event = chain::ACPI_EVENT;
    measurer.measure(chain::PCR_PLATFORM_CONFIG, ev::PLATFORM_CONFIG_FLAGS, tables, event).map_err(measure)
}

fn measure_memory_map(measurer: &mut Measurer, directory: &Directory) -> Result<Vec<MemoryRange>, Refused> {
    let bytes = fetch_small(directory, Kind::MemoryMap).map_err(item)?;
    let ranges = window::decode_memory_map(&bytes).map_err(|e| (Failure::MemoryMap, Reason::Map(e)))?;
    check_memory_map(&ranges).map_err(|e| (Failure::MemoryMap, Reason::Check(e)))?;
    let event = chain::MEMORY_MAP_EVENT;
    measurer.measure(chain::PCR_PLATFORM_CONFIG, ev::PLATFORM_CONFIG_FLAGS, &bytes, event).map_err(measure)?;
    Ok(ranges)
}

/// Copies the bootloader to its place, measures it there, and writes the hand-off page. Gives its entry point.
fn load_bootloader(
    measurer: &mut Measurer,
    directory: &Directory,
    header: &[u8],
    memory_map: &[MemoryRange],
) -> Result<u64, Refused> {
    let room = map::HANDOFF_BASE - map::BOOTLOADER_BASE;
    // SAFETY: the module's rule.
    let place = unsafe { take_memory(map::BOOTLOADER_BASE, room) };
    let image = fetch(directory, Kind::Bootloader, place).map_err(item)?;
    progress(Milestone::BootloaderCopied);
    let bad = |e| (Failure::BootloaderImage, Reason::Image(e));
    let entry = image::Header::parse(image, BOOTLOADER_MAGIC, map::BOOTLOADER_BASE, room).map_err(bad)?.entry;
    if entry < map::BOOTLOADER_BASE + HEADER_LEN as u64 {
        return Err(bad(image::ImageError::Outside { field: "entry point", value: entry }));
    }
    measurer.measure(chain::PCR_BOOT_CODE, ev::IPL, image, chain::BOOTLOADER_EVENT).map_err(measure)?;

    // SAFETY: the module's rule; the page lies behind the bootloader's room.
    let page = unsafe { take_memory(map::HANDOFF_BASE, 4096) };
    let handoff = handoff::encode(measurer.log_len() as u64, header, memory_map);
    let too_long = (Failure::Handoff, Reason::Other(&"hand-off page is too small"));
    page.get_mut(..handoff.len()).ok_or(too_long)?.copy_from_slice(&handoff);
    Ok(entry)
}
