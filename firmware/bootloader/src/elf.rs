//! ELF executables (System V gABI, chapter 5), and the note by which Xen's PVH kernels name their entry point.

use alloc::vec::Vec;

use crate::bytes::{array, range, u16_at, u32_at, u64_at};
pub use crate::error::PlanError;

const HEADER_LEN: u64 = 64;
const PROGRAM_HEADER_LEN: u64 = 56;
/// Kernels have a handful; the bound keeps a hostile file from costing memory.
const MAX_PROGRAM_HEADERS: u16 = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `XEN_ELFNOTE_PHYS32_ENTRY` (Xen public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;

/// A segment to be loaded: file bytes, then zeros, at a physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Number of its program header.
    pub index: usize,
    /// Physical address.
    pub address: u64,
    /// What the file has for it.
    pub data: &'a [u8],
    /// Bytes of memory, at least as many as there are data.
    pub memory: u64,
}

impl Segment<'_> {
    /// First address behind it; checked not to wrap.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.memory)
    }
}

/// A parsed executable: its segments lie in the file, do not wrap and do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf<'a> {
    /// Entry point as in the header, not checked.
    pub entry: u64,
    /// Entry point of the PVH note, not checked.
    pub pvh_entry: Option<u32>,
    /// Segments by ascending address, at least one.
    pub segments: Vec<Segment<'a>>,
}

/// Whether the file claims to be an ELF.
pub fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF")
}

impl<'a> Elf<'a> {
    /// Parses an executable for x86-64.
    ///
    /// # Errors
    /// [`PlanError`] that names the field or the program header.
    pub fn parse(file: &'a [u8]) -> Result<Self, PlanError> {
        let len = file.len() as u64;
        let truncated = PlanError::Truncated { what: "ELF header", offset: 0, len };
        let ident: [u8; 7] = array(file, 0).ok_or(truncated)?;
        if ident != *b"\x7fELF\x02\x01\x01" {
            return Err(PlanError::Format("not a 64-bit little-endian ELF"));
        }
        if range(file, 0, HEADER_LEN).is_none() {
            return Err(truncated);
        }
        let half = |at| u16_at(file, at).unwrap_or_default();
        let field = |field, value: u16| PlanError::Field { field, value: value.into() };
        match (half(16), half(18)) {
            (2, 62) => {}
            (2, machine) => return Err(field("e_machine", machine)),
            (kind, _) => return Err(field("e_type", kind)),
        }
        if u64::from(half(54)) != PROGRAM_HEADER_LEN {
            return Err(field("e_phentsize", half(54)));
        }
        let count = half(56);
        if count == 0 || count > MAX_PROGRAM_HEADERS {
            return Err(field("e_phnum", count));
        }
        let entry = u64_at(file, 24).unwrap_or_default();
        let table = u64_at(file, 32).unwrap_or_default();
        let headers = range(file, table, u64::from(count) * PROGRAM_HEADER_LEN);
        let headers = headers.ok_or(PlanError::Truncated { what: "program header table", offset: table, len })?;

        let mut elf = Self { entry, pvh_entry: None, segments: Vec::new() };
        for (index, header) in headers.chunks_exact(PROGRAM_HEADER_LEN as usize).enumerate() {
            let long = |at| u64_at(header, at).unwrap_or_default();
            let (offset, address, in_file, memory) = (long(8), long(24), long(32), long(40));
            let what = match u32_at(header, 0) {
                Some(PT_LOAD) => "segment",
                Some(PT_NOTE) => "note",
                _ => continue,
            };
            let data = range(file, offset, in_file).ok_or(PlanError::Truncated { what, offset, len })?;
            if what == "note" {
                elf.pvh_entry = elf.pvh_entry.or_else(|| find_pvh_note(data));
                continue;
            }
            if in_file > memory {
                return Err(PlanError::Field { field: "p_filesz", value: in_file });
            }
            if address.checked_add(memory).is_none() {
                return Err(PlanError::Field { field: "p_memsz", value: memory });
            }
            if memory != 0 {
                elf.segments.push(Segment { index, address, data, memory });
            }
        }
        elf.segments.sort_by_key(|s| s.address);
        if elf.segments.is_empty() {
            return Err(PlanError::Entry("no loadable segment"));
        }
        for pair in elf.segments.windows(2) {
            if let [a, b] = pair
                && a.end() > b.address
            {
                return Err(PlanError::Overlap { first: a.index, second: b.index });
            }
        }
        Ok(elf)
    }

    /// First and last address of what it occupies.
    pub fn extent(&self) -> (u64, u64) {
        let start = self.segments.first().map_or(0, |s| s.address);
        (start, self.segments.last().map_or(start, Segment::end))
    }

    /// Whether an address lies in the part of a segment that comes from the file.
    pub fn has_code_at(&self, address: u64) -> bool {
        self.segments.iter().any(|s| address.checked_sub(s.address).is_some_and(|at| at < s.data.len() as u64))
    }
}

/// Looks through notes: name size, descriptor size, type; name and descriptor padded to 4 bytes.
fn find_pvh_note(mut notes: &[u8]) -> Option<u32> {
    loop {
        let [name_len, desc_len, kind] = [u32_at(notes, 0)?, u32_at(notes, 4)?, u32_at(notes, 8)?];
        let name_end = 12u64.checked_add(u64::from(name_len).next_multiple_of(4))?;
        let name = range(notes, 12, name_len.into())?;
        let desc = range(notes, name_end, desc_len.into())?;
        if kind == PHYS32_ENTRY && name == b"Xen\0" {
            // Four bytes, or eight of which the upper four are zero.
            return match desc.len() {
                4 => u32_at(desc, 0),
                8 => u64_at(desc, 0).and_then(|e| u32::try_from(e).ok()),
                _ => None,
            };
        }
        let next = name_end.checked_add(u64::from(desc_len).next_multiple_of(4))?;
        notes = notes.get(usize::try_from(next).ok()?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ElfImage, note};
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn segments_come_out_sorted_with_their_bytes() {
        let file = ElfImage::new(0x20_0010).load(0x40_0000, b"second", 100).load(0x20_0000, &[7; 32], 32).build();
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.extent(), (0x20_0000, 0x40_0064));
        assert_eq!(elf.segments[1].data, b"second");
        assert_eq!(elf.segments[1].index, 0);
        assert!(elf.has_code_at(0x20_001f) && !elf.has_code_at(0x20_0020) && !elf.has_code_at(0x40_0006));
        assert_eq!(elf.pvh_entry, None);
    }

    #[test]
    fn the_pvh_note_is_found_behind_others() {
        let notes = [note(b"GNU\0", 3, &[1; 20]), note(b"Xen\0", 18, &0x100_0000_u32.to_le_bytes())].concat();
        let file = ElfImage::new(0).load(0x100_0000, &[0; 8], 8).note(&notes).build();
        assert_eq!(Elf::parse(&file).unwrap().pvh_entry, Some(0x100_0000));
    }

    #[test]
    fn overlapping_segments_are_named() {
        let file = ElfImage::new(0).load(0x1000, &[], 0x1001).load(0x2000, &[], 1).build();
        assert_eq!(Elf::parse(&file), Err(PlanError::Overlap { first: 0, second: 1 }));
    }

    #[test]
    fn a_segment_that_wraps_around_is_refused() {
        let file = ElfImage::new(0).load(u64::MAX - 10, &[], 11).build();
        assert_eq!(Elf::parse(&file), Err(PlanError::Field { field: "p_memsz", value: 11 }));
    }

    #[test]
    fn more_bytes_in_the_file_than_in_memory_are_refused() {
        let file = ElfImage::new(0).load(0x1000, &[0; 9], 8).build();
        assert_eq!(Elf::parse(&file), Err(PlanError::Field { field: "p_filesz", value: 9 }));
    }

    #[test]
    fn every_cut_of_a_file_is_an_error() {
        let file = ElfImage::new(0x1000).load(0x1000, &[1; 50], 50).build();
        for len in 0..file.len() {
            assert!(Elf::parse(&file[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn other_machines_and_relocatable_files_are_refused() {
        let mut file = ElfImage::new(0).load(0x1000, &[0], 1).build();
        file[18] = 183;
        assert_eq!(Elf::parse(&file), Err(PlanError::Field { field: "e_machine", value: 183 }));
        file[16] = 3;
        assert_eq!(Elf::parse(&file), Err(PlanError::Field { field: "e_type", value: 3 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), phnum in 0u16..5) {
            let _ = Elf::parse(&bytes);
            let mut file = vec![0; 64];
            file.extend(bytes.iter());
            file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
            file[16..20].copy_from_slice(&[2, 0, 62, 0]);
            file[32] = 64;
            file[54] = 56;
            file[56..58].copy_from_slice(&phnum.to_le_bytes());
            let _ = Elf::parse(&file);
            let _ = find_pvh_note(&bytes);
        }
    }
}
