//! How a kernel gets to its place.

use bulla_boot_abi::map::MIB;

use crate::bzimage::BzImage;
use crate::elf::Elf;
use crate::error::PlanError;
use crate::memory::below;
use crate::payload::Format;
use crate::plan::{Plan, Protocol};

/// Who unpacks a bzImage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpacking {
    /// The bootloader, at CPL 3.
    Here {
        /// Where the unpacked ELF goes.
        buffer: u64,
        /// Where the unpacker's heap goes, up to the buffer. It may lie where the kernel goes afterwards.
        heap: u64,
    },
    /// The kernel, at ring 0, because the format is not known here or because there is no room for another copy.
    Kernel,
}

/// Decides who unpacks. What the kernel is told does not depend on it.
pub fn unpacking(plan: &Plan<'_>, image: &BzImage<'_>) -> Unpacking {
    if image.payload.format() == Format::Other {
        return Unpacking::Kernel;
    }
    let (_, floor) = plan.kernel.extent();
    let buffer = below("unpacked kernel", plan.free_end, image.payload.unpacked_len().into(), floor);
    let heap = buffer.and_then(|at| below("unpacker's heap", at, image.payload.heap_needed(), MIB));
    match (buffer, heap) {
        (Ok(buffer), Ok(heap)) => Unpacking::Here { buffer, heap },
        _ => Unpacking::Kernel,
    }
}

/// Which protocol an ELF kernel is entered by; its entry point must lie in what is loaded.
///
/// # Errors
/// [`PlanError::Entry`].
pub fn check_entry(elf: &Elf<'_>) -> Result<Protocol, PlanError> {
    let (protocol, entry) = match elf.pvh_entry {
        Some(entry) => (Protocol::Pvh, entry.into()),
        None => (Protocol::Linux64, elf.entry),
    };
    if elf.has_code_at(entry) { Ok(protocol) } else { Err(PlanError::Entry("its entry point lies in no segment")) }
}

/// Checks that the ELF unpacked from a bzImage stays where the bzImage said it would, and gives its entry point.
///
/// # Errors
/// [`PlanError::NoRoom`] or [`PlanError::Entry`].
pub fn check_unpacked(elf: &Elf<'_>, image: &BzImage<'_>) -> Result<u64, PlanError> {
    let (start, end) = elf.extent();
    if start < image.address || end > image.address.saturating_add(image.init_size.into()) {
        return Err(PlanError::NoRoom { what: "unpacked kernel", at: start, len: end.saturating_sub(start) });
    }
    if !elf.has_code_at(elf.entry) {
        return Err(PlanError::Entry("its entry point lies in no segment"));
    }
    Ok(elf.entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;
    use crate::plan::plan;
    use crate::testing::{ElfImage, bzimage, lz4, note, zstd};
    use alloc::vec;
    use alloc::vec::Vec;
    use bulla_boot_abi::window::standard_memory_map;

    fn decide(file: &[u8], ram: u64) -> Unpacking {
        let map = standard_memory_map(ram);
        let plan = plan(file, None, b"", &map).unwrap();
        match &plan.kernel {
            Kernel::BzImage(image) => unpacking(&plan, image),
            Kernel::Elf(_) => panic!("not a bzImage"),
        }
    }

    #[test]
    fn the_buffer_lies_between_the_kernel_and_its_copy_and_the_heap_below_it() {
        let file = bzimage(&lz4(&vec![7; 3 << 20]));
        let Unpacking::Here { buffer, heap } = decide(&file, 64 * MIB) else { panic!() };
        assert!(heap >= MIB && heap + MIB <= buffer);
        assert!(buffer >= 0x180_0000 && buffer + (3 << 20) <= 64 * MIB - file.len() as u64);
    }

    #[test]
    fn without_room_or_for_an_unknown_format_the_kernel_unpacks_itself() {
        assert_eq!(decide(&bzimage(&zstd(&vec![7; 3 << 20])), 27 * MIB), Unpacking::Kernel);
        assert!(matches!(decide(&bzimage(&zstd(&vec![7; 3 << 20])), 64 * MIB), Unpacking::Here { .. }));
        assert_eq!(decide(&bzimage(b"\xfd7zXZ\0 and more"), 64 * MIB), Unpacking::Kernel);
    }

    fn inner(entry: u64, address: u64, memory: u64) -> Vec<u8> {
        ElfImage::new(entry).load(address, &[0x90; 16], memory).build()
    }

    #[test]
    fn an_unpacked_kernel_that_leaves_its_place_is_refused() {
        let file = bzimage(b"x");
        let image = BzImage::parse(&file).unwrap();
        let check = |elf: Vec<u8>| check_unpacked(&Elf::parse(&elf).unwrap(), &image);
        assert_eq!(check(inner(0x100_0008, 0x100_0000, 8 << 20)), Ok(0x100_0008));
        assert!(matches!(check(inner(0x100_0000, 0x100_0000, (8 << 20) + 1)), Err(PlanError::NoRoom { .. })));
        assert!(matches!(check(inner(0xff_f000, 0xff_f000, 4096)), Err(PlanError::NoRoom { .. })));
        assert!(matches!(check(inner(0x100_0010, 0x100_0000, 4096)), Err(PlanError::Entry(_))));
    }

    #[test]
    fn an_entry_point_outside_the_loaded_bytes_is_refused_for_both_protocols() {
        let bad = inner(0x20_0010, 0x20_0000, 4096);
        assert!(matches!(check_entry(&Elf::parse(&bad).unwrap()), Err(PlanError::Entry(_))));
        let pvh = ElfImage::new(0x20_0000).load(0x20_0000, &[0; 8], 8).note(&note(b"Xen\0", 18, &[0; 4])).build();
        assert!(matches!(check_entry(&Elf::parse(&pvh).unwrap()), Err(PlanError::Entry(_))));
    }
}
