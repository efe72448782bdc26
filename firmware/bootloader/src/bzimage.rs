//! The bzImage (Documentation/arch/x86/boot.rst): a setup header, the kernel's own decompressor, and a payload.

use crate::bytes::{array, range, u16_at, u32_at, u64_at};
use crate::error::PlanError;
use crate::payload::Payload;

/// Where the setup header begins in the file, and in `boot_params`.
pub const SETUP_HEADER: usize = 0x1f1;
/// Where the last field known to version 2.12 ends.
const SETUP_HEADER_END: usize = 0x268;
const MIN_VERSION: u16 = 0x20c;
const XLF_KERNEL_64: u16 = 1;
const LOADED_HIGH: u8 = 1;
const SECTOR: u64 = 512;
/// The 64-bit entry point lies here in the protected-mode part ("64-bit boot protocol").
const ENTRY_64: u64 = 0x200;

/// A parsed bzImage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BzImage<'a> {
    /// The setup header as it goes into `boot_params`.
    pub setup_header: &'a [u8],
    /// The protected-mode part of the file.
    pub protected: &'a [u8],
    /// The compressed kernel within it.
    pub payload: Payload<'a>,
    /// Physical address it wants to be at.
    pub address: u64,
    /// Bytes it needs from there on until it has read its memory map.
    pub init_size: u32,
    /// The last address that an initial RAM disk may occupy.
    pub initrd_addr_max: u32,
    /// Longest command line without its NUL.
    pub cmdline_size: u32,
}

/// Whether the file claims to be a bzImage.
pub fn is_bzimage(file: &[u8]) -> bool {
    array(file, 0x202) == Some(*b"HdrS") && u16_at(file, 0x1fe) == Some(0xaa55)
}

impl<'a> BzImage<'a> {
    /// Parses a bzImage with a 64-bit entry point.
    ///
    /// # Errors
    /// [`PlanError`] that names the field.
    pub fn parse(file: &'a [u8]) -> Result<Self, PlanError> {
        let len = file.len() as u64;
        let truncated = |what, offset: u64| PlanError::Truncated { what, offset, len };
        let no_header = truncated("setup header", SETUP_HEADER as u64);
        if range(file, 0, SETUP_HEADER_END as u64).is_none() {
            return Err(no_header);
        }
        let byte = |at: usize| file.get(at).copied().unwrap_or_default();
        let half = |at| u16_at(file, at).unwrap_or_default();
        let word = |at| u32_at(file, at).unwrap_or_default();
        if half(0x206) < MIN_VERSION {
            return Err(PlanError::Entry("its boot protocol is older than 2.12"));
        }
        if half(0x236) & XLF_KERNEL_64 == 0 {
            return Err(PlanError::Entry("it has no 64-bit entry point"));
        }
        if byte(0x211) & LOADED_HIGH == 0 {
            return Err(PlanError::Field { field: "loadflags", value: byte(0x211).into() });
        }
        // The header ends where the jump at 0x200 leads to ("header … can be calculated").
        let header_end = 0x202 + usize::from(byte(0x201));
        if !(SETUP_HEADER_END..=0x290).contains(&header_end) {
            return Err(PlanError::Field { field: "setup header jump", value: byte(0x201).into() });
        }
        let setup_header = file.get(SETUP_HEADER..header_end).ok_or(no_header)?;
        let sectors = if byte(SETUP_HEADER) == 0 { 4 } else { u64::from(byte(SETUP_HEADER)) };
        let start = (sectors + 1) * SECTOR;
        // syssize counts 16-byte paragraphs; what follows it (a signature) is not loaded.
        let size = u64::from(word(0x1f4)) * 16;
        let protected = range(file, start, size).ok_or(truncated("protected-mode kernel", start))?;
        let (offset, payload_len) = (u64::from(word(0x248)), u64::from(word(0x24c)));
        let payload = range(protected, offset, payload_len).ok_or(truncated("payload", start + offset))?;
        let address = u64_at(file, 0x258).unwrap_or_default();
        let init_size = word(0x260);
        if !address.is_multiple_of(4096) || address.checked_add(init_size.into()).is_none() {
            return Err(PlanError::Field { field: "pref_address", value: address });
        }
        if u64::from(init_size) < size {
            return Err(PlanError::Field { field: "init_size", value: init_size.into() });
        }
        if size <= ENTRY_64 {
            return Err(PlanError::Field { field: "syssize", value: size });
        }
        Ok(Self {
            setup_header,
            protected,
            payload: Payload::new(payload),
            address,
            init_size,
            initrd_addr_max: word(0x22c),
            cmdline_size: word(0x238),
        })
    }

    /// The kernel's own 64-bit entry point, which decompresses it.
    pub fn entry(&self) -> u64 {
        self.address.saturating_add(ENTRY_64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bzimage;
    use proptest::prelude::*;

    #[test]
    fn the_parts_are_where_the_header_says() {
        let file = bzimage(b"payload bytes");
        let image = BzImage::parse(&file).unwrap();
        assert_eq!(image.payload, Payload::new(b"payload bytes"));
        assert_eq!(image.entry(), 0x100_0200);
        assert_eq!(image.setup_header[0x202 - SETUP_HEADER..][..4], *b"HdrS");
        assert!(is_bzimage(&file));
    }

    #[test]
    fn kernels_that_cannot_be_entered_in_64_bit_mode_are_refused() {
        let mut file = bzimage(b"x");
        file[0x236] = 0;
        assert_eq!(BzImage::parse(&file), Err(PlanError::Entry("it has no 64-bit entry point")));
        file[0x206] = 0x0b;
        assert_eq!(BzImage::parse(&file), Err(PlanError::Entry("its boot protocol is older than 2.12")));
    }

    #[test]
    fn a_payload_outside_the_kernel_is_refused_with_its_place() {
        let mut file = bzimage(b"x");
        file[0x248..0x24c].copy_from_slice(&u32::MAX.to_le_bytes());
        let offset = 1024 + u64::from(u32::MAX);
        let len = file.len() as u64;
        assert_eq!(BzImage::parse(&file), Err(PlanError::Truncated { what: "payload", offset, len }));
    }

    #[test]
    fn every_cut_of_a_file_is_an_error() {
        let file = bzimage(b"0123456789abcdef");
        for len in 0..file.len() {
            assert!(BzImage::parse(&file[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn less_memory_than_the_image_itself_is_refused() {
        let mut file = bzimage(b"x");
        file[0x260..0x264].fill(0);
        assert_eq!(BzImage::parse(&file), Err(PlanError::Field { field: "init_size", value: 0 }));
    }

    proptest! {
        #[test]
        fn any_header_is_parsed_without_panic(header in proptest::collection::vec(any::<u8>(), 0x80), tail in 0usize..3000) {
            let mut file = bzimage(b"payload");
            file.resize(1024 + tail, 0);
            file[0x1f1..0x271].copy_from_slice(&header);
            file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
            file[0x211] |= 1;
            file[0x236] |= 1;
            if let Ok(image) = BzImage::parse(&file) {
                prop_assert!(image.protected.len() <= tail);
            }
        }
    }
}
