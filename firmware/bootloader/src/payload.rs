//! The compressed kernel inside a bzImage.
//!
//! gzip (RFC 1952), LZ4 in the legacy frame format that the kernel's build uses, and Zstandard (RFC 8878) are unpacked
//! here, because the kernel's own decompressor would run at ring 0. Other formats are left to the kernel. Except for
//! gzip, the build appends the unpacked length, as 32 bits.

use bulla_boot_abi::map::MIB;

use crate::bytes::{array, range, u16_at, u32_at};
use crate::error::PlanError;

const LZ4_LEGACY_MAGIC: u32 = 0x184c_2102;
const ZSTD_MAGIC: u32 = 0xfd2f_b528;
/// The window that the kernel's build asks for (`zstd -22 --ultra`).
const ZSTD_WINDOW_MAX: u64 = 128 * MIB;
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// gzip.
    Gzip,
    /// LZ4, legacy frames.
    Lz4,
    /// Zstandard.
    Zstd,
    /// One that only the kernel itself unpacks.
    Other,
}

/// A compressed kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    format: Format,
}

impl<'a> Payload<'a> {
    /// Looks at the first bytes of a payload.
    pub fn new(bytes: &'a [u8]) -> Self {
        let format = match u32_at(bytes, 0) {
            Some(LZ4_LEGACY_MAGIC) => Format::Lz4,
            Some(ZSTD_MAGIC) => Format::Zstd,
            _ if bytes.starts_with(&GZIP_MAGIC) => Format::Gzip,
            _ => Format::Other,
        };
        Self { bytes, format }
    }

    /// How it is compressed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How long it claims to be unpacked: the last four bytes of every format known here.
    pub fn unpacked_len(&self) -> u32 {
        self.bytes.last_chunk().map_or(0, |b| u32::from_le_bytes(*b))
    }

    /// Bytes of heap that unpacking takes at most, when freed blocks are not used again.
    pub fn heap_needed(&self) -> u64 {
        match self.format {
            // The build allows windows of 128 MiB, so the decoder keeps all content, in a buffer that doubles. All sizes
            // together are less than twice the last one.
            Format::Zstd => (u64::from(self.unpacked_len()) + MIB).next_power_of_two() * 2 + 16 * MIB,
            _ => MIB,
        }
    }

    /// Unpacks into `out`, which is [`Self::unpacked_len`] long and filled exactly.
    ///
    /// # Errors
    /// [`PlanError::Payload`], or [`PlanError::Entry`] for [`Format::Other`].
    pub fn unpack(&self, out: &mut [u8]) -> Result<(), PlanError> {
        let wanted = out.len();
        let packed = self.bytes.get(..self.bytes.len().saturating_sub(4)).unwrap_or_default();
        let len = match self.format {
            Format::Gzip => gunzip(self.bytes, out),
            Format::Lz4 => unlz4(packed, out),
            Format::Zstd => unzstd(packed, out),
            Format::Other => return Err(PlanError::Entry("its payload has a format that only it can unpack")),
        }?;
        if len != wanted {
            return Err(PlanError::Payload("it is shorter than it says"));
        }
        Ok(())
    }
}

/// Length of a gzip member's header (RFC 1952 §2.3).
fn gzip_header(bytes: &[u8]) -> Option<usize> {
    const FHCRC: u8 = 2;
    const FEXTRA: u8 = 4;
    const FNAME: u8 = 8;
    const FCOMMENT: u8 = 16;
    let [flags] = array(bytes, 3)?;
    let mut at = 10usize;
    if flags & FEXTRA != 0 {
        at = at.checked_add(2 + usize::from(u16_at(bytes, at)?))?;
    }
    for text in [FNAME, FCOMMENT] {
        if flags & text != 0 {
            at += bytes.get(at..)?.iter().position(|b| *b == 0)? + 1;
        }
    }
    if flags & FHCRC != 0 {
        at += 2;
    }
    Some(at)
}

fn gunzip(bytes: &[u8], out: &mut [u8]) -> Result<usize, PlanError> {
    let deflated = gzip_header(bytes).and_then(|at| bytes.get(at..)).ok_or(PlanError::Payload("gzip header"))?;
    miniz_oxide::inflate::decompress_slice_iter_to_slice(out, core::iter::once(deflated), false, true)
        .map_err(|_| PlanError::Payload("damaged deflate stream"))
}

/// Blocks of at most 8 MiB of content, each a 32-bit length and that many bytes.
fn unlz4(packed: &[u8], out: &mut [u8]) -> Result<usize, PlanError> {
    let mut done = 0;
    let mut at = 4u64;
    while at < packed.len() as u64 {
        let len = usize::try_from(at).ok().and_then(|at| u32_at(packed, at));
        let len = len.ok_or(PlanError::Payload("LZ4 block header"))?;
        at += 4;
        // Frames may be concatenated.
        if len == LZ4_LEGACY_MAGIC {
            continue;
        }
        let block = range(packed, at, len.into()).ok_or(PlanError::Payload("LZ4 block leaves the payload"))?;
        let room = out.get_mut(done..).unwrap_or_default();
        done += lz4_flex::block::decompress_into(block, room).map_err(|_| PlanError::Payload("damaged LZ4 block"))?;
        at += u64::from(len);
    }
    Ok(done)
}

fn unzstd(packed: &[u8], out: &mut [u8]) -> Result<usize, PlanError> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_MAX);
    decoder.decode_all(packed, out).map_err(|_| PlanError::Payload("damaged Zstandard frame"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gzip, lz4, zstd};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn unpack(bytes: &[u8]) -> Result<Vec<u8>, PlanError> {
        let payload = Payload::new(bytes);
        let mut out = vec![0xee; payload.unpacked_len().min(1 << 24) as usize];
        payload.unpack(&mut out).map(|()| out)
    }

    fn content() -> Vec<u8> {
        (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    #[test]
    fn each_format_is_recognised_and_unpacked() {
        for (packed, format) in
            [(gzip(&content()), Format::Gzip), (lz4(&content()), Format::Lz4), (zstd(&content()), Format::Zstd)]
        {
            assert_eq!(Payload::new(&packed).format(), format);
            assert!(unpack(&packed).unwrap() == content(), "{format:?}");
        }
    }

    #[test]
    fn a_payload_cut_short_is_an_error_in_each_format() {
        for packed in [gzip(&content()), lz4(&content()), zstd(&content())] {
            let len = content().len() as u32;
            let mut cut = packed[..packed.len() / 2].to_vec();
            cut.extend(len.to_le_bytes());
            assert!(matches!(unpack(&cut), Err(PlanError::Payload(_))));
        }
    }

    #[test]
    fn a_length_that_is_not_the_content_is_an_error_in_each_format() {
        for packed in [gzip(&content()), lz4(&content()), zstd(&content())] {
            for wrong in [content().len() as u32 - 1, content().len() as u32 + 1, 0] {
                let mut lying = packed[..packed.len() - 4].to_vec();
                lying.extend(wrong.to_le_bytes());
                assert!(matches!(unpack(&lying), Err(PlanError::Payload(_))), "{wrong}");
            }
        }
    }

    #[test]
    fn a_format_that_is_not_known_is_left_to_the_kernel() {
        assert_eq!(Payload::new(b"\xfd7zXZ\0 and so on").format(), Format::Other);
        assert!(matches!(unpack(b"\xfd7zXZ\0\x10\0\0\0"), Err(PlanError::Entry(_))));
    }

    #[test]
    fn optional_gzip_header_fields_are_skipped() {
        let plain = gzip(b"content");
        let mut long = plain[..10].to_vec();
        long[3] = 2 | 4 | 8 | 16;
        long.extend([3, 0, 1, 2, 3]);
        long.extend(b"name\0comment\0\x12\x34");
        long.extend(&plain[10..]);
        assert_eq!(unpack(&long).unwrap(), b"content");
    }

    #[test]
    fn a_zstandard_window_beyond_the_content_is_taken_as_the_kernels_build_asks_for_it() {
        // Descriptor: no content size, no checksum; window of 2^27 bytes; one raw last block of 5 bytes.
        let mut frame = ZSTD_MAGIC.to_le_bytes().to_vec();
        frame.extend([0, 17 << 3, 5 << 3 | 1, 0, 0]);
        frame.extend(b"vmlin");
        frame.extend(5u32.to_le_bytes());
        assert_eq!(unpack(&frame).unwrap(), b"vmlin");
        frame[5] = 18 << 3;
        assert!(matches!(unpack(&frame), Err(PlanError::Payload(_))));
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(at in 0usize..3000, bit in 0u8..8, which in 0usize..3) {
            let content: Vec<u8> = content().into_iter().step_by(13).collect();
            let mut packed = [gzip(&content), lz4(&content), zstd(&content)][which].clone();
            let at = at % packed.len();
            packed[at] ^= 1 << bit;
            let _ = unpack(&packed);
        }

        #[test]
        fn any_bytes_behind_a_magic_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), which in 0usize..3) {
            let mut packed = [&GZIP_MAGIC[..], &LZ4_LEGACY_MAGIC.to_le_bytes(), &ZSTD_MAGIC.to_le_bytes()][which].to_vec();
            packed.extend(bytes);
            let _ = unpack(&packed);
        }
    }
}
