//! Finding places in low RAM, from the top down.

use bulla_boot_abi::map::MIB;
use bulla_boot_abi::window::{MemoryKind, MemoryRange};

use crate::error::PlanError;

/// Page size, the granularity of everything placed.
pub const PAGE: u64 = 4096;

/// The stretch of RAM that contains 1 MiB, from there on: first address, and first behind it.
///
/// # Errors
/// [`PlanError::NoMemory`].
pub fn low_ram(map: &[MemoryRange]) -> Result<(u64, u64), PlanError> {
    map.iter()
        .filter(|r| r.kind == MemoryKind::Ram)
        .map(|r| (r.base, r.base.saturating_add(r.len)))
        .find(|(base, end)| (*base..*end).contains(&MIB))
        .map(|(_, end)| (MIB, end))
        .ok_or(PlanError::NoMemory)
}

/// The highest page-aligned place for `len` bytes below `end` and not below `floor`.
///
/// # Errors
/// [`PlanError::NoRoom`], naming `what`.
pub fn below(what: &'static str, end: u64, len: u64, floor: u64) -> Result<u64, PlanError> {
    let at = end.checked_sub(len).map(|at| at & !(PAGE - 1));
    at.filter(|at| *at >= floor).ok_or(PlanError::NoRoom { what, at: end, len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_boot_abi::window::standard_memory_map;

    #[test]
    fn low_ram_begins_at_one_mebibyte() {
        assert_eq!(low_ram(&standard_memory_map(64 * MIB)), Ok((MIB, 64 * MIB)));
        assert_eq!(low_ram(&standard_memory_map(8 << 30)), Ok((MIB, 0xC000_0000)));
        assert_eq!(low_ram(&[]), Err(PlanError::NoMemory));
    }

    #[test]
    fn places_are_aligned_and_above_the_floor() {
        assert_eq!(below("x", 0x10_0000, 1, 0), Ok(0xf_f000));
        assert_eq!(below("x", 0x10_0000, 0x1000, 0xf_f000), Ok(0xf_f000));
        let no = |end, len| Err(PlanError::NoRoom { what: "x", at: end, len });
        assert_eq!(below("x", 0x10_0000, 0x1001, 0xf_f000), no(0x10_0000, 0x1001));
        assert_eq!(below("x", 0x1000, 0x1001, 0), no(0x1000, 0x1001));
    }
}
