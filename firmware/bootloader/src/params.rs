//! What a kernel is told: `boot_params` (Documentation/arch/x86/zero-page.rst) or PVH's `hvm_start_info`
//! (Xen public/arch-x86/hvm/start_info.h).

use alloc::vec;
use alloc::vec::Vec;

use bulla_boot_abi::map;
use bulla_boot_abi::window::MemoryRange;

use crate::bzimage::SETUP_HEADER;

/// What goes into either structure, besides the command line at [`map::CMDLINE`].
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Address and length of the initial RAM disk.
    pub initrd: Option<(u64, u64)>,
    /// The memory map.
    pub memory_map: &'a [MemoryRange],
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = at.checked_add(bytes.len()).and_then(|end| page.get_mut(at..end)) {
        place.copy_from_slice(bytes);
    }
}

/// Fills in the zero page. `setup_header` is a bzImage's; a kernel without one gets a header that says what was done.
pub fn boot_params(setup_header: Option<&[u8]>, facts: &Facts<'_>) -> Vec<u8> {
    const LEN: usize = 4096;
    const ACPI_RSDP_ADDR: usize = 0x70;
    const E820_ENTRIES: usize = 0x1e8;
    const VID_MODE: usize = 0x1fa;
    const TYPE_OF_LOADER: usize = 0x210;
    const RAMDISK_IMAGE: usize = 0x218;
    const RAMDISK_SIZE: usize = 0x21c;
    const CMD_LINE_PTR: usize = 0x228;
    const CMDLINE_SIZE: usize = 0x238;
    const E820_TABLE: usize = 0x2d0;
    const E820_ENTRY: usize = 20;

    let mut page = vec![0; LEN];
    match setup_header {
        Some(header) => put(&mut page, SETUP_HEADER, header),
        None => {
            put(&mut page, 0x1fe, &0xaa55_u16.to_le_bytes());
            put(&mut page, 0x202, b"HdrS");
            put(&mut page, 0x206, &0x20c_u16.to_le_bytes());
            // loadflags: LOADED_HIGH.
            put(&mut page, 0x211, &[1]);
            put(&mut page, CMDLINE_SIZE, &(map::CMDLINE_MAX as u32).to_le_bytes());
        }
    }
    put(&mut page, ACPI_RSDP_ADDR, &map::ACPI_BASE.to_le_bytes());
    // "normal" video mode.
    put(&mut page, VID_MODE, &0xffff_u16.to_le_bytes());
    // A loader without an assigned number.
    put(&mut page, TYPE_OF_LOADER, &[0xff]);
    let (initrd_at, initrd_len) = facts.initrd.unwrap_or_default();
    // Both lie below 4 GiB: the plan places the disk in low RAM.
    put(&mut page, RAMDISK_IMAGE, &(initrd_at as u32).to_le_bytes());
    put(&mut page, RAMDISK_SIZE, &(initrd_len as u32).to_le_bytes());
    put(&mut page, CMD_LINE_PTR, &(map::CMDLINE as u32).to_le_bytes());
    // The memory map's kinds are numbered as E820's are.
    put(&mut page, E820_ENTRIES, &[facts.memory_map.len() as u8]);
    for (index, range) in facts.memory_map.iter().enumerate() {
        let at = E820_TABLE + index * E820_ENTRY;
        put(&mut page, at, &range.base.to_le_bytes());
        put(&mut page, at + 8, &range.len.to_le_bytes());
        put(&mut page, at + 16, &(range.kind as u32).to_le_bytes());
    }
    page
}

/// `hvm_start_info`, version 1, with its module list and memory map right behind it, for [`map::PVH_INFO`].
pub fn start_info(facts: &Facts<'_>) -> Vec<u8> {
    const MAGIC: u32 = 0x336e_c578;
    const VERSION: u32 = 1;
    const MODULES: u64 = 56;
    const MEMORY_MAP: u64 = MODULES + 32;

    let mut info = Vec::new();
    let modules = u32::from(facts.initrd.is_some());
    for word in [MAGIC, VERSION, 0, modules] {
        info.extend(word.to_le_bytes());
    }
    let modules_at = if modules == 0 { 0 } else { map::PVH_INFO + MODULES };
    for address in [modules_at, map::CMDLINE, map::ACPI_BASE, map::PVH_INFO + MEMORY_MAP] {
        info.extend(address.to_le_bytes());
    }
    for word in [facts.memory_map.len() as u32, 0] {
        info.extend(word.to_le_bytes());
    }
    let (initrd_at, initrd_len) = facts.initrd.unwrap_or_default();
    for field in [initrd_at, initrd_len, 0, 0] {
        info.extend(field.to_le_bytes());
    }
    for range in facts.memory_map {
        info.extend(range.base.to_le_bytes());
        info.extend(range.len.to_le_bytes());
        for word in [range.kind as u32, 0] {
            info.extend(word.to_le_bytes());
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{u16_at, u32_at, u64_at};
    use bulla_boot_abi::window::{MAX_RANGES, MemoryKind, standard_memory_map};

    #[test]
    fn the_zero_page_says_where_everything_is() {
        let memory_map = &standard_memory_map(5 << 30)[..];
        let facts = Facts { initrd: Some((0x700_0000, 12345)), memory_map };
        let header = [0x5a; 0x7b];
        let page = boot_params(Some(&header), &facts);
        assert_eq!(page.len(), 4096);
        assert_eq!(page[0x1f1], 0x5a);
        assert_eq!(page[0x210], 0xff);
        assert_eq!(u32_at(&page, 0x218), Some(0x700_0000));
        assert_eq!(u32_at(&page, 0x21c), Some(12345));
        assert_eq!(u32_at(&page, 0x228), Some(map::CMDLINE as u32));
        assert_eq!(u64_at(&page, 0x70), Some(map::ACPI_BASE));
        assert_eq!(usize::from(page[0x1e8]), memory_map.len());
        let last = 0x2d0 + 20 * (memory_map.len() - 1);
        assert_eq!(u64_at(&page, last), Some(1 << 32));
        assert_eq!(u64_at(&page, last + 8), Some(2 << 30));
        assert_eq!(u32_at(&page, last + 16), Some(1));
        assert_eq!(u16_at(&page, last + 20), Some(0));
    }

    #[test]
    fn a_kernel_without_a_header_gets_one_that_linux_accepts() {
        let page = boot_params(None, &Facts { initrd: None, memory_map: &standard_memory_map(1 << 28) });
        assert_eq!(u16_at(&page, 0x1fe), Some(0xaa55));
        assert_eq!(page[0x202..0x206], *b"HdrS");
        assert_eq!(u32_at(&page, 0x21c), Some(0));
    }

    #[test]
    fn the_start_info_points_at_its_own_parts() {
        let memory_map = &standard_memory_map(1 << 28)[..];
        let info = start_info(&Facts { initrd: Some((0x123_4000, 99)), memory_map });
        let at = |address: u64| usize::try_from(address - map::PVH_INFO).unwrap();
        assert_eq!(u32_at(&info, 12), Some(1));
        let module = at(u64_at(&info, 16).unwrap());
        assert_eq!((u64_at(&info, module), u64_at(&info, module + 8)), (Some(0x123_4000), Some(99)));
        assert_eq!(u64_at(&info, 24), Some(map::CMDLINE));
        assert_eq!(u64_at(&info, 32), Some(map::ACPI_BASE));
        let table = at(u64_at(&info, 40).unwrap());
        assert_eq!(u32_at(&info, 48), Some(memory_map.len() as u32));
        assert_eq!(u64_at(&info, table + 24), Some(memory_map[1].base));
        assert_eq!(info.len(), table + 24 * memory_map.len());
        let bare = start_info(&Facts { initrd: None, memory_map });
        assert_eq!((u32_at(&bare, 12), u64_at(&bare, 16)), (Some(0), Some(0)));
    }

    #[test]
    fn the_largest_memory_map_fits_both() {
        let range = |i| MemoryRange { base: i << 12, len: 4096, kind: MemoryKind::Ram };
        let memory_map = &(0..MAX_RANGES as u64).map(range).collect::<Vec<_>>()[..];
        let facts = Facts { initrd: None, memory_map };
        assert!(map::PVH_INFO + start_info(&facts).len() as u64 <= map::ZERO_PAGE);
        let last = 0x2d0 + 20 * (MAX_RANGES - 1);
        assert_eq!(u64_at(&boot_params(None, &facts), last), Some(31 << 12));
    }
}
