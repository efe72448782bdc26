//! Where guest memory lies: arithmetic on the map of [`bulla_boot_abi::map`], no memory yet.

use bulla_boot_abi::map;

/// All memory is made of pages of this size.
pub const PAGE: u64 = 4096;
/// The most RAM a VM can have; every x86-64 processor can address it.
pub const RAM_MAX: u64 = 1 << 38;

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// RAM below the 32-bit hole.
    LowRam,
    /// RAM from 4 GiB on.
    HighRam,
    /// Firmware, bootloader and their private memory.
    Firmware,
    /// Shared with another VM.
    Channel,
    /// Shared with the host's programs.
    Mailbox,
    /// Images for the firmware; goes away at the hand-over.
    BootWindow,
}

/// A region before it has memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionPlan {
    /// What it is.
    pub kind: RegionKind,
    /// First guest-physical address.
    pub base: u64,
    /// Bytes, a multiple of [`PAGE`].
    pub len: u64,
}

/// How much of each kind of memory a VM has, in bytes. The mailbox has its size; 0 means none for the optional ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemorySizes {
    /// RAM, all of it.
    pub ram: u64,
    /// Channel window, 0 for none.
    pub channel: u64,
    /// Whether there is a mailbox.
    pub mailbox: bool,
    /// Boot window, 0 for none.
    pub boot_window: u64,
}

/// A size that is not possible: whoever configured the VM is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// RAM out of range.
    #[error("{ram} bytes of RAM: a VM has {} MiB to {} GiB", map::RAM_MIN >> 20, RAM_MAX >> 30)]
    RamSize {
        /// The size asked for.
        ram: u64,
    },
    /// Not a whole number of pages.
    #[error("{what} of {len} bytes is not a multiple of {PAGE}")]
    NotPages {
        /// Which memory.
        what: &'static str,
        /// The size asked for.
        len: u64,
    },
    /// A window larger than its place.
    #[error("{what} of {len} bytes is larger than the {max} set aside for it")]
    TooLarge {
        /// Which memory.
        what: &'static str,
        /// The size asked for.
        len: u64,
        /// The most there can be.
        max: u64,
    },
}

/// Plans the regions, in ascending order of address.
///
/// # Errors
/// [`LayoutError`] names the size that is not possible.
pub fn plan(sizes: &MemorySizes) -> Result<Vec<RegionPlan>, LayoutError> {
    let MemorySizes { ram, channel, mailbox, boot_window } = *sizes;
    if !(map::RAM_MIN..=RAM_MAX).contains(&ram) {
        return Err(LayoutError::RamSize { ram });
    }
    check("RAM", ram, RAM_MAX)?;
    check("channel window", channel, map::CHANNEL_MAX)?;
    check("boot window", boot_window, map::BOOT_WINDOW_MAX)?;
    let low = ram.min(map::LOW_RAM_MAX);
    let region = |kind, base, len| RegionPlan { kind, base, len };
    let all = [
        region(RegionKind::LowRam, 0, low),
        region(RegionKind::Channel, map::CHANNEL_BASE, channel),
        region(RegionKind::Mailbox, map::MAILBOX_BASE, if mailbox { map::MAILBOX_SIZE } else { 0 }),
        region(RegionKind::BootWindow, map::BOOT_WINDOW_BASE, boot_window),
        region(RegionKind::Firmware, map::FIRMWARE_BASE, map::FIRMWARE_REGION_SIZE),
        region(RegionKind::HighRam, map::HIGH_RAM_BASE, ram - low),
    ];
    Ok(all.into_iter().filter(|r| r.len != 0).collect())
}

fn check(what: &'static str, len: u64, max: u64) -> Result<(), LayoutError> {
    if !len.is_multiple_of(PAGE) {
        return Err(LayoutError::NotPages { what, len });
    }
    if len > max {
        return Err(LayoutError::TooLarge { what, len, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use map::{CHANNEL_MAX, LOW_RAM_MAX, RAM_MIN};

    const FULL: MemorySizes =
        MemorySizes { ram: 8 << 30, channel: CHANNEL_MAX, mailbox: true, boot_window: map::BOOT_WINDOW_MAX };

    fn with_ram(ram: u64) -> MemorySizes {
        MemorySizes { ram, ..MemorySizes::default() }
    }

    #[test]
    fn the_fullest_machine_has_no_overlaps_among_memory_and_devices() {
        let mut ranges: Vec<(u64, u64)> = plan(&FULL).unwrap().iter().map(|r| (r.base, r.len)).collect();
        assert_eq!(ranges.len(), 6);
        ranges.extend([
            (map::IOAPIC_BASE, PAGE),
            (map::TPM_BASE, map::TPM_SIZE),
            // Local APIC and all addresses of messages.
            (map::LAPIC_BASE, 0x10_0000),
        ]);
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn ram_around_3_gib_is_split_at_the_hole() {
        let ram = |bytes| -> Vec<(u64, u64)> {
            plan(&with_ram(bytes))
                .unwrap()
                .iter()
                .filter(|r| matches!(r.kind, RegionKind::LowRam | RegionKind::HighRam))
                .map(|r| (r.base, r.len))
                .collect()
        };
        assert_eq!(ram(LOW_RAM_MAX - PAGE), [(0, LOW_RAM_MAX - PAGE)]);
        assert_eq!(ram(LOW_RAM_MAX), [(0, LOW_RAM_MAX)]);
        assert_eq!(ram(LOW_RAM_MAX + PAGE), [(0, LOW_RAM_MAX), (1 << 32, PAGE)]);
        assert_eq!(ram(RAM_MAX).iter().map(|r| r.1).sum::<u64>(), RAM_MAX);
    }

    #[test]
    fn impossible_sizes_are_refused_by_name() {
        for ram in [0, RAM_MIN - PAGE, RAM_MAX + PAGE, u64::MAX] {
            assert_eq!(plan(&with_ram(ram)), Err(LayoutError::RamSize { ram }));
        }
        let odd = RAM_MIN + 1;
        assert_eq!(plan(&with_ram(odd)), Err(LayoutError::NotPages { what: "RAM", len: odd }));
        let channel = CHANNEL_MAX + PAGE;
        let error = LayoutError::TooLarge { what: "channel window", len: channel, max: CHANNEL_MAX };
        assert_eq!(plan(&MemorySizes { channel, ..FULL }), Err(error));
        let boot_window = 100;
        let error = LayoutError::NotPages { what: "boot window", len: boot_window };
        assert_eq!(plan(&MemorySizes { boot_window, ..FULL }), Err(error));
    }

    #[test]
    fn the_memory_map_told_to_the_guest_names_only_ram_that_is_there() {
        use bulla_boot_abi::window::{MemoryKind, standard_memory_map};
        for ram in [RAM_MIN, 1 << 30, LOW_RAM_MAX, LOW_RAM_MAX + PAGE, RAM_MAX] {
            let regions = plan(&with_ram(ram)).unwrap();
            for told in standard_memory_map(ram).iter().filter(|r| r.kind != MemoryKind::Reserved) {
                let there = regions.iter().any(|r| r.base <= told.base && told.base + told.len <= r.base + r.len);
                assert!(there, "{told:x?} with {ram:#x}");
            }
        }
    }
}
