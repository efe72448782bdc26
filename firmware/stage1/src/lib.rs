//! The firmware's checks, apart from its program so that they run on any machine.
#![no_std]
#![forbid(unsafe_code)]

use bulla_boot_abi::map::{ACPI_BASE, CONVENTIONAL_END, HIGH_RAM_BASE, LOW_RAM_MAX, MIB, RAM_MIN};
use bulla_boot_abi::window::{MemoryKind, MemoryRange};

/// Why a well-formed memory map is not one of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// RAM that everything relies on is not there.
    #[error("memory map lacks RAM from {base:#x} to {end:#x}")]
    Missing {
        /// First byte.
        base: u64,
        /// First byte behind it.
        end: u64,
    },
    /// RAM where the log, the tables, devices or the firmware are.
    #[error("memory map has RAM from {base:#x} to {end:#x}, in a reserved area")]
    Reserved {
        /// First byte of the range.
        base: u64,
        /// First byte behind the range.
        end: u64,
    },
}

/// Checks that a kernel that takes `map` at its word has the RAM it needs and cannot take what is not RAM for it.
///
/// # Errors
/// [`MapError`] with the range.
pub fn check_memory_map(map: &[MemoryRange]) -> Result<(), MapError> {
    const _: () = assert!(CONVENTIONAL_END < ACPI_BASE && ACPI_BASE < MIB);
    let ram = || map.iter().filter(|r| r.kind == MemoryKind::Ram).map(|r| (r.base, r.base.saturating_add(r.len)));
    for (base, end) in [(0, CONVENTIONAL_END), (MIB, RAM_MIN)] {
        if !ram().any(|r| r.0 <= base && end <= r.1) {
            return Err(MapError::Missing { base, end });
        }
    }
    for (base, end) in ram() {
        let reserved = [(CONVENTIONAL_END, MIB), (LOW_RAM_MAX, HIGH_RAM_BASE)];
        if reserved.iter().any(|r| base < r.1 && r.0 < end) {
            return Err(MapError::Reserved { base, end });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate alloc;
    use bulla_boot_abi::window::standard_memory_map;

    #[test]
    fn the_standard_map_passes_at_every_size() {
        for ram in [RAM_MIN, RAM_MIN + 4096, 1 << 30, LOW_RAM_MAX, LOW_RAM_MAX + MIB, 64 << 30] {
            assert_eq!(check_memory_map(&standard_memory_map(ram)), Ok(()));
        }
    }

    #[test]
    fn ram_over_the_event_log_or_the_firmware_is_refused() {
        let mut map = standard_memory_map(RAM_MIN);
        map[1].kind = MemoryKind::Ram;
        let (base, end) = (map[1].base, map[1].base + map[1].len);
        assert_eq!(check_memory_map(&map), Err(MapError::Reserved { base, end }));
        let mut map = standard_memory_map(LOW_RAM_MAX);
        map[3].len += 1;
        let end = LOW_RAM_MAX + 1;
        assert_eq!(check_memory_map(&map), Err(MapError::Reserved { base: MIB, end }));
    }

    #[test]
    fn a_map_without_enough_ram_is_refused() {
        let map = standard_memory_map(RAM_MIN - 1);
        assert_eq!(check_memory_map(&map), Err(MapError::Missing { base: MIB, end: RAM_MIN }));
        assert_eq!(check_memory_map(&[]), Err(MapError::Missing { base: 0, end: CONVENTIONAL_END }));
    }

    #[test]
    fn a_range_that_ends_at_the_end_of_the_address_space_does_not_wrap() {
        let mut map = standard_memory_map(RAM_MIN);
        map[3].len = u64::MAX - MIB;
        assert_eq!(check_memory_map(&map), Err(MapError::Reserved { base: MIB, end: u64::MAX }));
    }
}
