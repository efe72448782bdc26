//! Multiboot 1: an ELF image and what its entry finds (specification 0.6.96, §3).

use std::ops::Range;

use crate::Anything;

/// Magic number of the header (§3.1.2).
const HEADER_MAGIC: u32 = 0x1BAD_B002;
/// The header lies within the first so many bytes (§3.1).
const HEADER_WITHIN: usize = 8192;
/// EAX at the entry (§3.2).
pub(crate) const BOOT_MAGIC: u32 = 0x2BAD_B002;

/// Where the information structure and all it points to is put: conventional memory that no image of the suite uses.
pub(crate) const INFO: u32 = 0x8_0000;
const MEMORY_MAP: u32 = INFO + 0x100;
const MODULE_LIST: u32 = INFO + 0x200;
const COMMAND_LINE: u32 = INFO + 0x1000;
const MODULE: u32 = INFO + 0x3000;
/// Below 640 KiB.
const INFO_END: u32 = 0x9_F000;

/// Bytes and the guest-physical address at which they belong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A loadable image.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) entry: u32,
    pub(crate) chunks: Vec<Chunk>,
}

/// Little-endian number of `size` bytes at `at`.
fn number(file: &[u8], at: usize, size: usize) -> Anything<u64> {
    let bytes = at.checked_add(size).and_then(|end| file.get(at..end)).ok_or("the image is cut short")?;
    Ok(bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// The offsets at which ELF32 and ELF64 keep what we need (ELF specification, figures 1-3 and 2-1).
struct Layout {
    word: usize,
    entry: usize,
    table: usize,
    entry_size: usize,
    count: usize,
    /// Within a program header: offset, physical address, size in the file.
    segment: [usize; 3],
}

const ELF32: Layout = Layout { word: 4, entry: 24, table: 28, entry_size: 42, count: 44, segment: [4, 12, 16] };
const ELF64: Layout = Layout { word: 8, entry: 24, table: 32, entry_size: 54, count: 56, segment: [8, 24, 32] };

impl Image {
    /// Reads an ELF file with a Multiboot header that asks for nothing but to be loaded.
    pub(crate) fn parse(file: &[u8]) -> Anything<Self> {
        let layout = match file.get(..5) {
            Some(b"\x7fELF\x01") => &ELF32,
            Some(b"\x7fELF\x02") => &ELF64,
            _ => return Err("the image is not ELF".into()),
        };
        let word = |at: usize| number(file, at, layout.word);
        check_header(file)?;
        let table = usize::try_from(word(layout.table)?)?;
        let entry_size = usize::try_from(number(file, layout.entry_size, 2)?)?;
        let count = usize::try_from(number(file, layout.count, 2)?)?;
        let mut chunks = Vec::new();
        for n in 0..count {
            let header = n.checked_mul(entry_size).and_then(|o| o.checked_add(table)).ok_or("a bad header table")?;
            const PT_LOAD: u64 = 1;
            if number(file, header, 4)? != PT_LOAD {
                continue;
            }
            let field = |o: usize| word(header.checked_add(o).ok_or("a bad header table")?);
            let [offset, address, size] = layout.segment.map(field);
            let (offset, size) = (usize::try_from(offset?)?, usize::try_from(size?)?);
            let bytes = offset.checked_add(size).and_then(|end| file.get(offset..end));
            let bytes = bytes.ok_or("a segment lies outside of the image")?.to_vec();
            // What a segment has beyond its bytes in the file is zero, as all memory is that has never been written.
            chunks.push(Chunk { address: address?, bytes });
        }
        Ok(Self { entry: u32::try_from(word(layout.entry)?)?, chunks })
    }

    /// Whether it lies in conventional memory.
    pub(crate) fn is_low(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.address < INFO.into())
    }

    /// Whether nothing of it lies in `range`.
    pub(crate) fn keeps_clear_of(&self, range: &Range<u64>) -> bool {
        let end = |c: &Chunk| c.address.saturating_add(c.bytes.len() as u64);
        self.chunks.iter().all(|c| end(c) <= range.start || c.address >= range.end)
    }
}

/// Finds the header (§3.1: aligned to 4, checksum 0) and refuses what its flags ask for beyond page alignment and a
/// memory map, which every image gets.
fn check_header(file: &[u8]) -> Anything<()> {
    for at in (0..HEADER_WITHIN.min(file.len())).step_by(4) {
        let Ok(magic) = number(file, at, 4) else { break };
        if magic != u64::from(HEADER_MAGIC) {
            continue;
        }
        let (flags, checksum) = (number(file, at + 4, 4)?, number(file, at + 8, 4)?);
        if magic.wrapping_add(flags).wrapping_add(checksum) & 0xFFFF_FFFF != 0 {
            continue;
        }
        // Bits 0 to 15 are demands; 2 is a video mode.
        return if flags & 0xFFFC == 0 { Ok(()) } else { Err("the image demands what this loader has not".into()) };
    }
    Err("the image has no Multiboot header".into())
}

/// What the entry finds: RAM `ram` (sorted, the first from 0), a command line and one module.
pub(crate) fn information(ram: &[Range<u64>], command_line: &str, module: &[u8]) -> Anything<Vec<Chunk>> {
    let line = [command_line.as_bytes(), &[0]].concat();
    let module_end = MODULE.checked_add(u32::try_from(module.len())?).filter(|end| *end <= INFO_END);
    let module_end = module_end.ok_or("the module does not fit")?;
    if line.len() > (MODULE - COMMAND_LINE) as usize {
        return Err("the command line does not fit".into());
    }
    let upper = ram.first().map_or(0, |low| low.end.saturating_sub(1 << 20) >> 10);
    let mut map = Vec::new();
    for part in ram {
        // §3.3, mmap: size of what follows, base, length, type 1 (available).
        map.extend(20_u32.to_le_bytes());
        map.extend(part.start.to_le_bytes());
        map.extend(part.end.saturating_sub(part.start).to_le_bytes());
        map.extend(1_u32.to_le_bytes());
    }
    // Flags: memory, command line, modules, memory map.
    let mut info = vec![0_u32; 22];
    let fields = [
        (0, 1 | 1 << 2 | 1 << 3 | 1 << 6),
        (1, 640),
        (2, u32::try_from(upper)?),
        (4, COMMAND_LINE),
        (5, 1),
        (6, MODULE_LIST),
        (11, u32::try_from(map.len())?),
        (12, MEMORY_MAP),
    ];
    for (index, value) in fields {
        if let Some(field) = info.get_mut(index) {
            *field = value;
        }
    }
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let chunk = |address: u32, bytes: Vec<u8>| Chunk { address: address.into(), bytes };
    Ok(vec![
        chunk(INFO, words(&info)),
        chunk(MEMORY_MAP, map),
        chunk(MODULE_LIST, words(&[MODULE, module_end, 0, 0])),
        chunk(COMMAND_LINE, line),
        chunk(MODULE, module.to_vec()),
    ])
}

/// Everything that [`information`] may write to.
pub(crate) fn information_area() -> Range<u64> {
    INFO.into()..INFO_END.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf32(flags: u32, file_size: u32) -> Vec<u8> {
        let mut file = vec![0; 0x100];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x01\x01\x01");
        put(24, &0x10_0000_u32.to_le_bytes());
        put(28, &52_u32.to_le_bytes());
        put(42, &32_u16.to_le_bytes());
        put(44, &1_u16.to_le_bytes());
        for (n, word) in [1, 0xC0, 0x10_0000, 0x10_0000, file_size, 0x1000].into_iter().enumerate() {
            put(52 + 4 * n, &u32::to_le_bytes(word));
        }
        for (n, word) in [HEADER_MAGIC, flags, 0_u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(flags)].iter().enumerate()
        {
            put(0xC0 + 4 * n, &word.to_le_bytes());
        }
        file
    }

    #[test]
    fn a_segment_goes_to_its_physical_address() {
        let image = Image::parse(&elf32(3, 12)).unwrap();
        assert_eq!(image.entry, 0x10_0000);
        assert_eq!((image.chunks[0].address, image.chunks[0].bytes.len()), (0x10_0000, 12));
        assert!(image.keeps_clear_of(&(0..0x10_0000)) && !image.keeps_clear_of(&(0x10_000B..0x10_000C)));
    }

    #[test]
    fn what_cannot_be_loaded_is_refused() {
        assert!(Image::parse(b"MZ").is_err());
        assert!(Image::parse(&elf32(4, 12)).unwrap_err().to_string().contains("demands"));
        assert!(Image::parse(&elf32(0, 0xFFFF_FFF0)).unwrap_err().to_string().contains("outside"));
        let mut bad_sum = elf32(0, 12);
        bad_sum[0xC8] ^= 1;
        assert!(Image::parse(&bad_sum).unwrap_err().to_string().contains("no Multiboot header"));
        for cut in 5..0xCC {
            // Never a panic, whatever is missing.
            let _ = Image::parse(&elf32(0, 12)[..cut]);
        }
    }

    #[test]
    fn the_information_says_where_memory_module_and_command_line_are() {
        let chunks = information(&[0..128 << 20, 4 << 30..5 << 30], "a b", b"X=1\n").unwrap();
        let info = &chunks[0].bytes;
        assert_eq!(number(info, 8, 4).unwrap(), 127 << 10);
        assert_eq!(number(info, 44, 4).unwrap(), 48);
        assert_eq!((chunks[3].bytes.as_slice(), chunks[4].bytes.as_slice()), (&b"a b\0"[..], &b"X=1\n"[..]));
        assert!(information(&[], "", &vec![0; 1 << 20]).is_err());
        assert!(information(&[], &"x".repeat(1 << 14), b"").is_err());
    }
}
