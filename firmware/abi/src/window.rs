//! The boot window: how the monitor offers images to the firmware.
//!
//! The first page is a header, the items follow, each page-aligned:
//!
//! ```text
//! 0   8  magic "BULLABW1"
//! 8   4  number of entries, 1..=16
//! 12  4  zero
//! 16  8  bytes in the window, header included
//! 24  24·n  entries: u32 kind, u32 zero, u64 offset from the window's start, u64 length
//! ```
//!
//! The host can rewrite all of it at any time. A reader copies the header page once and parses the copy; item bytes
//! are copied once to private memory, and only the copy is hashed, parsed and run.

use alloc::vec::Vec;

use crate::bytes::Cursor;

/// First bytes of the window.
pub const MAGIC: [u8; 8] = *b"BULLABW1";
/// Bytes of the header page.
pub const HEADER_LEN: usize = 4096;
/// Most entries there can be.
pub const MAX_ENTRIES: usize = 16;

/// What an item of the window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Stage 2, a flat image ([`crate::image`]).
    Bootloader = 1,
    /// ACPI tables, for [`crate::map::ACPI_BASE`], RSDP first.
    Acpi = 2,
    /// Memory map: [`MemoryRange`]s.
    MemoryMap = 3,
    /// Kernel file, as given by the user.
    Kernel = 4,
    /// Initial RAM disk, as given by the user.
    Initrd = 5,
    /// Command line, UTF-8 without NUL.
    CommandLine = 6,
    /// TPML_DIGEST_VALUES of the firmware image as the vTPM reported them at the end of the H-CRTM sequence.
    /// It goes into the event log only; a false one makes the log fail to replay.
    FirmwareDigests = 7,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Bootloader,
        Self::Acpi,
        Self::MemoryMap,
        Self::Kernel,
        Self::Initrd,
        Self::CommandLine,
        Self::FirmwareDigests,
    ];

    fn from_u32(value: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u32 == value)
    }
}

/// A place inside the window: checked to lie inside it, behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the window's start.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The window's directory, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    items: [Option<Extent>; Kind::ALL.len()],
}

/// Why a window header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Fewer bytes than a header.
    #[error("boot window header is truncated")]
    Truncated,
    /// Wrong first bytes.
    #[error("boot window does not begin with its magic")]
    Magic,
    /// No entries, or more than [`MAX_ENTRIES`].
    #[error("boot window has {0} entries, 1 to {MAX_ENTRIES} are allowed")]
    Count(u32),
    /// Larger than the address space set aside, or smaller than its header.
    #[error("boot window says it has {0} bytes")]
    Size(u64),
    /// An entry of unknown kind.
    #[error("boot window entry {index} has unknown kind {kind}")]
    UnknownKind {
        /// Which entry.
        index: usize,
        /// Its kind.
        kind: u32,
    },
    /// Two entries of one kind.
    #[error("boot window has two entries of kind {0:?}")]
    Duplicate(Kind),
    /// An entry that leaves the window.
    #[error("boot window entry {kind:?} lies outside the window")]
    Outside {
        /// What it is.
        kind: Kind,
    },
}

impl Directory {
    /// Parses a private copy of the window's first page.
    ///
    /// # Errors
    /// A [`WindowError`] that names the first field that does not hold.
    pub fn parse(header: &[u8]) -> Result<Self, WindowError> {
        let mut c = Cursor::new(header);
        let magic: [u8; 8] = c.array().ok_or(WindowError::Truncated)?;
        let count = c.u32().ok_or(WindowError::Truncated)?;
        let _zero = c.u32().ok_or(WindowError::Truncated)?;
        let total = c.u64().ok_or(WindowError::Truncated)?;
        if magic != MAGIC {
            return Err(WindowError::Magic);
        }
        if count == 0 || count as usize > MAX_ENTRIES {
            return Err(WindowError::Count(count));
        }
        if !(HEADER_LEN as u64..=crate::map::BOOT_WINDOW_MAX).contains(&total) {
            return Err(WindowError::Size(total));
        }
        let mut items = [None; Kind::ALL.len()];
        for index in 0..count as usize {
            let kind = c.u32().ok_or(WindowError::Truncated)?;
            let _zero = c.u32().ok_or(WindowError::Truncated)?;
            let offset = c.u64().ok_or(WindowError::Truncated)?;
            let len = c.u64().ok_or(WindowError::Truncated)?;
            let kind = Kind::from_u32(kind).ok_or(WindowError::UnknownKind { index, kind })?;
            let fits = offset >= HEADER_LEN as u64 && offset.checked_add(len).is_some_and(|end| end <= total);
            if !fits {
                return Err(WindowError::Outside { kind });
            }
            let slot = items.get_mut(kind as usize - 1).ok_or(WindowError::Truncated)?;
            if slot.replace(Extent { offset, len }).is_some() {
                return Err(WindowError::Duplicate(kind));
            }
        }
        Ok(Self { items })
    }

    /// Where the item of this kind lies, if there is one.
    pub fn get(&self, kind: Kind) -> Option<Extent> {
        self.items.get(kind as usize - 1).copied().flatten()
    }
}

/// Lays out a window: the header page, and where each item must be copied to.
///
/// Returns the header page, the extents in the order of `items`, and the window's size in bytes, a multiple of 4 KiB.
/// `None` if there are too many items or they do not fit [`crate::map::BOOT_WINDOW_MAX`].
pub fn layout(items: &[(Kind, u64)]) -> Option<(Vec<u8>, Vec<Extent>, u64)> {
    if items.is_empty() || items.len() > MAX_ENTRIES {
        return None;
    }
    let mut end = HEADER_LEN as u64;
    let mut extents = Vec::with_capacity(items.len());
    for (_, len) in items {
        extents.push(Extent { offset: end, len: *len });
        end = end.checked_add(*len)?.checked_next_multiple_of(4096)?;
    }
    if end > crate::map::BOOT_WINDOW_MAX {
        return None;
    }
    let mut header = Vec::from(MAGIC);
    header.extend((items.len() as u32).to_le_bytes());
    header.extend(0u32.to_le_bytes());
    header.extend(end.to_le_bytes());
    for ((kind, _), extent) in items.iter().zip(&extents) {
        header.extend((*kind as u32).to_le_bytes());
        header.extend(0u32.to_le_bytes());
        header.extend(extent.offset.to_le_bytes());
        header.extend(extent.len.to_le_bytes());
    }
    header.resize(HEADER_LEN, 0);
    Some((header, extents, end))
}

/// What a range of guest-physical memory is; numbers are those of E820 and of PVH's memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// Usable RAM.
    Ram = 1,
    /// Not usable.
    Reserved = 2,
    /// ACPI tables, usable once they have been read.
    Acpi = 3,
}

/// One range of the memory map: 24 bytes, u64 base, u64 length, u32 kind, u32 zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte.
    pub base: u64,
    /// Length in bytes, not 0.
    pub len: u64,
    /// What it is.
    pub kind: MemoryKind,
}

/// Most ranges a memory map can have.
pub const MAX_RANGES: usize = 32;
const RANGE_LEN: usize = 24;

/// Why a memory map was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryMapError {
    /// Not a whole number of entries, none, or more than [`MAX_RANGES`].
    #[error("memory map of {0} bytes is not 1 to {MAX_RANGES} entries of {RANGE_LEN} bytes")]
    Length(usize),
    /// A kind that has no meaning here.
    #[error("memory map entry {index} has unknown kind {kind}")]
    Kind {
        /// Which entry.
        index: usize,
        /// Its kind.
        kind: u32,
    },
    /// Empty, wrapping, or not above the entry before it.
    #[error("memory map entry {index} is empty, wraps around, or overlaps the one before it")]
    Order {
        /// Which entry.
        index: usize,
    },
}

/// Encodes a memory map as the boot window carries it.
pub fn encode_memory_map(ranges: &[MemoryRange]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ranges.len() * RANGE_LEN);
    for range in ranges {
        out.extend(range.base.to_le_bytes());
        out.extend(range.len.to_le_bytes());
        out.extend((range.kind as u32).to_le_bytes());
        out.extend(0u32.to_le_bytes());
    }
    out
}

/// Decodes and checks a memory map: sorted, no overlaps, nothing wraps.
///
/// # Errors
/// A [`MemoryMapError`] that names the entry.
pub fn decode_memory_map(bytes: &[u8]) -> Result<Vec<MemoryRange>, MemoryMapError> {
    let count = bytes.len() / RANGE_LEN;
    if !bytes.len().is_multiple_of(RANGE_LEN) || count == 0 || count > MAX_RANGES {
        return Err(MemoryMapError::Length(bytes.len()));
    }
    let length_error = MemoryMapError::Length(bytes.len());
    let mut c = Cursor::new(bytes);
    let mut ranges: Vec<MemoryRange> = Vec::with_capacity(count);
    let mut floor = 0u64;
    for index in 0..count {
        let base = c.u64().ok_or(length_error)?;
        let len = c.u64().ok_or(length_error)?;
        let kind = c.u32().ok_or(length_error)?;
        let _zero = c.u32().ok_or(length_error)?;
        let kind = match kind {
            1 => MemoryKind::Ram,
            2 => MemoryKind::Reserved,
            3 => MemoryKind::Acpi,
            _ => return Err(MemoryMapError::Kind { index, kind }),
        };
        let end = base.checked_add(len).filter(|_| len != 0 && base >= floor);
        floor = end.ok_or(MemoryMapError::Order { index })?;
        ranges.push(MemoryRange { base, len, kind });
    }
    Ok(ranges)
}

/// The memory map of a bulla VM with `ram` bytes of RAM; the same for the machine and for `bulla measure`.
/// `ram` must be at least [`crate::map::RAM_MIN`].
pub fn standard_memory_map(ram: u64) -> Vec<MemoryRange> {
    use crate::map::{
        ACPI_BASE, ACPI_SIZE, CONVENTIONAL_END, EVENT_LOG_BASE, FIRMWARE_BASE, FIRMWARE_REGION_SIZE, HIGH_RAM_BASE,
        LOW_RAM_MAX, MIB, TPM_BASE, TPM_SIZE,
    };
    let range = |base, end: u64, kind| MemoryRange { base, len: end.saturating_sub(base), kind };
    let low_end = ram.min(LOW_RAM_MAX);
    let mut map = alloc::vec![
        range(0, CONVENTIONAL_END, MemoryKind::Ram),
        range(CONVENTIONAL_END, ACPI_BASE, MemoryKind::Reserved),
        range(ACPI_BASE, ACPI_BASE + ACPI_SIZE, MemoryKind::Acpi),
        range(MIB, low_end, MemoryKind::Ram),
        range(TPM_BASE, TPM_BASE + TPM_SIZE, MemoryKind::Reserved),
        range(FIRMWARE_BASE, FIRMWARE_BASE + FIRMWARE_REGION_SIZE, MemoryKind::Reserved),
    ];
    const _: () = assert!(EVENT_LOG_BASE >= CONVENTIONAL_END && EVENT_LOG_BASE < ACPI_BASE);
    if ram > LOW_RAM_MAX {
        map.push(range(HIGH_RAM_BASE, HIGH_RAM_BASE + (ram - LOW_RAM_MAX), MemoryKind::Ram));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_laid_out_is_found_again() {
        let (header, extents, total) = layout(&[(Kind::Bootloader, 5000), (Kind::Kernel, 1), (Kind::Acpi, 0)]).unwrap();
        let dir = Directory::parse(&header).unwrap();
        assert_eq!(dir.get(Kind::Bootloader), Some(Extent { offset: 4096, len: 5000 }));
        assert_eq!(dir.get(Kind::Kernel), Some(extents[1]));
        assert_eq!(dir.get(Kind::Initrd), None);
        assert_eq!(total, 4096 + 8192 + 4096);
    }

    #[test]
    fn an_item_that_leaves_the_window_is_named() {
        let (mut header, ..) = layout(&[(Kind::Kernel, 1)]).unwrap();
        header[24 + 16..24 + 24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Directory::parse(&header), Err(WindowError::Outside { kind: Kind::Kernel }));
    }

    #[test]
    fn the_same_kind_twice_is_refused() {
        let (header, ..) = layout(&[(Kind::Kernel, 1), (Kind::Kernel, 2)]).unwrap();
        assert_eq!(Directory::parse(&header), Err(WindowError::Duplicate(Kind::Kernel)));
    }

    #[test]
    fn the_standard_map_is_well_formed_at_every_edge() {
        use crate::map::{LOW_RAM_MAX, MIB, RAM_MIN};
        for ram in [RAM_MIN, 512 * MIB, LOW_RAM_MAX, LOW_RAM_MAX + 4096, 16 << 30] {
            let map = standard_memory_map(ram);
            assert_eq!(decode_memory_map(&encode_memory_map(&map)), Ok(map));
        }
    }

    #[test]
    fn overlapping_and_empty_ranges_are_refused_by_index() {
        let r = |base, len| MemoryRange { base, len, kind: MemoryKind::Ram };
        let check = |ranges: &[MemoryRange]| decode_memory_map(&encode_memory_map(ranges));
        assert_eq!(check(&[r(0, 10), r(9, 1)]), Err(MemoryMapError::Order { index: 1 }));
        assert_eq!(check(&[r(0, 0)]), Err(MemoryMapError::Order { index: 0 }));
        assert_eq!(check(&[r(u64::MAX, 2)]), Err(MemoryMapError::Order { index: 0 }));
        assert_eq!(check(&[]), Err(MemoryMapError::Length(0)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode_memory_map(&bytes);
            let _ = Directory::parse(&bytes);
            if let Some(head) = bytes.get_mut(..8) {
                head.copy_from_slice(&MAGIC);
            }
            let _ = Directory::parse(&bytes);
        }
    }
}
