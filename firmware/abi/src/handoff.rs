//! What the firmware hands to the bootloader: one page at [`crate::map::HANDOFF_BASE`], in private memory.
//!
//! ```text
//! 0    8     magic "BULLAHO1"
//! 8    8     bytes of the event log already written
//! 16   8     number of bytes of memory map that follow the directory
//! 24   4096- the boot window's header page as the firmware copied it, first 512 bytes
//! 536  …     memory map ([`crate::window::encode_memory_map`])
//! ```
//!
//! The bootloader gets the firmware's *copy* of the directory, so that both stages saw the same one.

use alloc::vec::Vec;

use crate::bytes::Cursor;
use crate::window::{Directory, MemoryRange, decode_memory_map, encode_memory_map};

const MAGIC: [u8; 8] = *b"BULLAHO1";
const DIRECTORY_LEN: usize = 512;

/// The facts handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// Bytes of the event log already written at [`crate::map::EVENT_LOG_BASE`].
    pub log_len: u64,
    /// The boot window's directory.
    pub directory: Directory,
    /// The memory map, as measured.
    pub memory_map: Vec<MemoryRange>,
}

/// Writes the page. `header` is the private copy of the window's header page.
pub fn encode(log_len: u64, header: &[u8], memory_map: &[MemoryRange]) -> Vec<u8> {
    let map = encode_memory_map(memory_map);
    let mut out = Vec::from(MAGIC);
    out.extend(log_len.to_le_bytes());
    out.extend((map.len() as u64).to_le_bytes());
    out.extend(header.iter().copied().chain(core::iter::repeat(0)).take(DIRECTORY_LEN));
    out.extend(map);
    out
}

impl Handoff {
    /// Reads the page; `None` if it is not one (only a bug of ours can make it so).
    pub fn parse(page: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(page);
        if c.array()? != MAGIC {
            return None;
        }
        let log_len = c.u64()?;
        let map_len = c.u64()?;
        let directory = Directory::parse(c.take(DIRECTORY_LEN)?).ok()?;
        let memory_map = decode_memory_map(c.take(usize::try_from(map_len).ok()?)?).ok()?;
        Some(Self { log_len, directory, memory_map })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Kind, layout, standard_memory_map};

    #[test]
    fn what_is_handed_over_arrives() {
        let (header, ..) = layout(&[(Kind::Kernel, 77)]).unwrap();
        let map = standard_memory_map(1 << 30);
        let page = encode(1234, &header, &map);
        assert!(page.len() <= 4096);
        let got = Handoff::parse(&page).unwrap();
        assert_eq!(got.log_len, 1234);
        assert_eq!(got.memory_map, map);
        assert_eq!(got.directory, Directory::parse(&header).unwrap());
    }

    #[test]
    fn a_cut_page_is_refused() {
        let (header, ..) = layout(&[(Kind::Kernel, 77)]).unwrap();
        let page = encode(1, &header, &standard_memory_map(1 << 30));
        for len in 0..page.len() {
            assert_eq!(Handoff::parse(&page[..len]), None);
        }
    }
}
