//! Kernels made to order.

use alloc::vec;
use alloc::vec::Vec;

/// Builds an ELF executable.
#[derive(Clone)]
pub(crate) struct ElfImage {
    entry: u64,
    parts: Vec<(u32, u64, Vec<u8>, u64)>,
}

impl ElfImage {
    pub(crate) fn new(entry: u64) -> Self {
        Self { entry, parts: vec![] }
    }

    pub(crate) fn load(mut self, address: u64, data: &[u8], memory: u64) -> Self {
        self.parts.push((1, address, data.to_vec(), memory));
        self
    }

    pub(crate) fn note(mut self, notes: &[u8]) -> Self {
        self.parts.push((4, 0, notes.to_vec(), 0));
        self
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        file.extend(self.entry.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend([0; 12]);
        for half in [64, 56, self.parts.len() as u16, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let mut offset = 64 + 56 * self.parts.len() as u64;
        for (kind, address, data, memory) in &self.parts {
            file.extend(kind.to_le_bytes());
            file.extend(7u32.to_le_bytes());
            for long in [offset, *address, *address, data.len() as u64, *memory, 8] {
                file.extend(long.to_le_bytes());
            }
            offset += data.len() as u64;
        }
        self.parts.iter().for_each(|(_, _, data, _)| file.extend(data));
        file
    }
}

/// One ELF note.
pub(crate) fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [name.len() as u32, desc.len() as u32, kind] {
        out.extend(word.to_le_bytes());
    }
    for part in [name, desc] {
        out.extend(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// A bzImage for 16 MiB, init_size 8 MiB, with one sector of setup code and 0x210 bytes of decompressor.
pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
    const PAYLOAD_OFFSET: usize = 0x210;
    let mut file = vec![0; 1024 + PAYLOAD_OFFSET];
    file.extend(payload);
    file.resize(1024 + (PAYLOAD_OFFSET + payload.len()).next_multiple_of(16), 0);
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &((PAYLOAD_OFFSET + payload.len()).div_ceil(16) as u32).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x236, &[1]);
    put(0x238, &2047u32.to_le_bytes());
    put(0x248, &(PAYLOAD_OFFSET as u32).to_le_bytes());
    put(0x24c, &(payload.len() as u32).to_le_bytes());
    put(0x258, &0x100_0000_u64.to_le_bytes());
    put(0x260, &(8u32 << 20).to_le_bytes());
    file
}

/// gzip, with a zero CRC.
pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    out.extend(miniz_oxide::deflate::compress_to_vec(content, 1));
    out.extend([0; 4]);
    out.extend((content.len() as u32).to_le_bytes());
    out
}

/// LZ4 legacy frames in two blocks, and the length.
pub(crate) fn lz4(content: &[u8]) -> Vec<u8> {
    let mut out = 0x184c_2102_u32.to_le_bytes().to_vec();
    for block in content.chunks(content.len().div_ceil(2).max(1)) {
        let packed = lz4_flex::block::compress(block);
        out.extend((packed.len() as u32).to_le_bytes());
        out.extend(packed);
    }
    out.extend((content.len() as u32).to_le_bytes());
    out
}

/// A Zstandard frame, and the length.
pub(crate) fn zstd(content: &[u8]) -> Vec<u8> {
    let mut out = ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest);
    out.extend((content.len() as u32).to_le_bytes());
    out
}
