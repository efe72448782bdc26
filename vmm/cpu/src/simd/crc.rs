//! CRC32 (SDM vol. 2): the CRC-32C of RFC 3720, bit-reflected, without initial and final inversion.

/// What a byte followed by `i` zero bytes does to the remainder, at `[i][byte]`.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut i = 0;
    while i < 8 {
        let mut byte = 0;
        while byte < 256 {
            let mut sum: u32 = if i == 0 { byte as u32 } else { tables[i - 1][byte] };
            let mut bit = 0;
            while bit < 8 {
                sum = sum >> 1 ^ if sum & 1 == 0 { 0 } else { 0x82f6_3b78 };
                bit += 1;
            }
            tables[i][byte] = sum;
            byte += 1;
        }
        i += 1;
    }
    tables
}

/// The remainder after the low `bytes` (at most 8) of `data`.
#[inline]
pub fn crc32(remainder: u32, data: u64, bytes: usize) -> u32 {
    let bytes = bytes.min(8);
    let mixed = (data ^ u64::from(remainder)).to_le_bytes();
    let rest = remainder.checked_shr(8 * bytes as u32).unwrap_or(0);
    (0..bytes).fold(rest, |sum, i| sum ^ TABLES[bytes - 1 - i][usize::from(mixed[i])])
}

#[cfg(test)]
mod tests {
    use super::crc32;

    fn crc32c(bytes: impl IntoIterator<Item = u8>) -> u32 {
        !bytes.into_iter().fold(!0, |sum, byte| crc32(sum, byte.into(), 1))
    }

    /// RFC 3720 §B.4
    #[test]
    fn known_answers() {
        assert_eq!(crc32c([0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c([0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(0..32), 0x46dd_794e);
        assert_eq!(crc32c((0..32).rev()), 0x113f_db5c);
    }

    #[test]
    fn wide_steps_are_byte_steps() {
        let data = 0x0123_4567_89ab_cdef_u64;
        for bytes in [2, 4, 8] {
            let narrow = data.to_le_bytes()[..bytes].iter().fold(0xdead_beef, |sum, &b| crc32(sum, b.into(), 1));
            assert_eq!(crc32(0xdead_beef, data, bytes), narrow);
        }
    }
}
