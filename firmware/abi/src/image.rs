//! Headers of the two stages. Both are flat images: byte 0 of the file goes to the stage's base address and the
//! memory after the file, up to the stage's size, is zero.
//!
//! ```text
//! 0   8  magic: "BULLAFW1" (firmware) or "BULLABL1" (bootloader)
//! 8   8  entry point, guest-physical
//! 16  8  CR3: page tables inside the image (firmware only, else 0)
//! 24  8  bytes of memory used, from the base: image, bss, heap and stacks
//! ```
//!
//! The monitor starts the firmware in 64-bit mode at CPL 0: RIP = entry, CR3 as given, CR0 = PG|WP|NE|ET|MP|PE,
//! CR4 = PAE|OSFXSR|OSXMMEXCPT, EFER = LME|LMA|NXE|SCE, CS flat 64-bit (selector 8), data segments flat
//! (selector 0x10), empty GDT and IDT (limit 0), RFLAGS = 2, every general register 0. The firmware loads its own tables
//! first. The bootloader is entered by the firmware at CPL 3 with nothing in registers: see [`crate::handoff`].

use crate::bytes::Cursor;

/// Magic of the firmware image.
pub const FIRMWARE_MAGIC: [u8; 8] = *b"BULLAFW1";
/// Magic of the bootloader image.
pub const BOOTLOADER_MAGIC: [u8; 8] = *b"BULLABL1";
/// Bytes of header.
pub const HEADER_LEN: usize = 32;

/// A checked image header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where to start, guest-physical, inside the image.
    pub entry: u64,
    /// Page tables, page-aligned, inside the image; 0 for the bootloader.
    pub cr3: u64,
    /// Memory used from the base on, at least the image's length.
    pub memory: u64,
}

/// Why an image header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Shorter than its header.
    #[error("image of {len} bytes is shorter than its {HEADER_LEN}-byte header")]
    Truncated {
        /// Length of the file.
        len: usize,
    },
    /// Another kind of file.
    #[error("image does not begin with the expected magic")]
    Magic,
    /// Larger than its place.
    #[error("image needs {needed} bytes, its place has {room}")]
    TooLarge {
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        room: u64,
    },
    /// A pointer in the header that leads outside the image.
    #[error("{field} {value:#x} lies outside the image")]
    Outside {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

impl Header {
    /// Checks the header of `image`, which is to be placed at `base` with `room` bytes there.
    ///
    /// # Errors
    /// Every field that does not fit is an [`ImageError`] that names it.
    pub fn parse(image: &[u8], magic: [u8; 8], base: u64, room: u64) -> Result<Self, ImageError> {
        let len = image.len();
        let truncated = ImageError::Truncated { len };
        let mut c = Cursor::new(image);
        let found: [u8; 8] = c.array().ok_or(truncated)?;
        let entry = c.u64().ok_or(truncated)?;
        let cr3 = c.u64().ok_or(truncated)?;
        let memory = c.u64().ok_or(truncated)?;
        if found != magic {
            return Err(ImageError::Magic);
        }
        let len = len as u64;
        let needed = memory.max(len);
        if needed > room {
            return Err(ImageError::TooLarge { needed, room });
        }
        if memory < len {
            return Err(ImageError::Outside { field: "memory size", value: memory });
        }
        let inside = |value: u64| value.checked_sub(base).is_some_and(|offset| offset < len);
        if !inside(entry) {
            return Err(ImageError::Outside { field: "entry point", value: entry });
        }
        let wants_tables = magic == FIRMWARE_MAGIC;
        if wants_tables && (!inside(cr3) || cr3 % 4096 != 0) || !wants_tables && cr3 != 0 {
            return Err(ImageError::Outside { field: "page table address", value: cr3 });
        }
        Ok(Self { entry, cr3, memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const BASE: u64 = crate::map::FIRMWARE_BASE;

    fn image(entry: u64, cr3: u64, memory: u64) -> Vec<u8> {
        let mut v = Vec::from(FIRMWARE_MAGIC);
        for field in [entry, cr3, memory] {
            v.extend(field.to_le_bytes());
        }
        v.resize(8192, 0);
        v
    }

    fn parse(image: &[u8]) -> Result<Header, ImageError> {
        Header::parse(image, FIRMWARE_MAGIC, BASE, 1 << 20)
    }

    #[test]
    fn a_good_header_is_taken() {
        let h = parse(&image(BASE + 32, BASE + 4096, 9000)).unwrap();
        assert_eq!(h, Header { entry: BASE + 32, cr3: BASE + 4096, memory: 9000 });
    }

    #[test]
    fn each_bad_field_is_named() {
        let outside = |field, value| Err(ImageError::Outside { field, value });
        assert_eq!(parse(&image(BASE - 1, BASE + 4096, 9000)), outside("entry point", BASE - 1));
        assert_eq!(parse(&image(BASE, BASE + 4097, 9000)), outside("page table address", BASE + 4097));
        assert_eq!(parse(&image(BASE, BASE, 100)), outside("memory size", 100));
        assert_eq!(parse(&image(BASE, BASE, u64::MAX)), Err(ImageError::TooLarge { needed: u64::MAX, room: 1 << 20 }));
        assert_eq!(parse(&[0; 31]), Err(ImageError::Truncated { len: 31 }));
        assert_eq!(parse(&[0; 64]), Err(ImageError::Magic));
    }
}
