//! AES in the modes that keys can have (SP 800-38A), and CMAC (SP 800-38B).

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use bulla_tpm_types::{AlgId, Digest, Error, ErrorKind, Reader, Writer, alg};
use zeroize::Zeroizing;

use super::crypto::{AES_BLOCK, Direction, aes_cfb};
use super::secret::Secret;

type Block = [u8; AES_BLOCK];

/// AES with a key of any of its sizes, block by block.
enum Aes {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl Aes {
    /// `None` for a key of another size.
    fn new(key: &[u8]) -> Option<Self> {
        match key.len() {
            16 => Aes128::new_from_slice(key).ok().map(Self::Aes128),
            24 => Aes192::new_from_slice(key).ok().map(Self::Aes192),
            32 => Aes256::new_from_slice(key).ok().map(Self::Aes256),
            _ => None,
        }
    }

    fn encrypt(&self, block: &mut Block) {
        let mut array = Array::from(*block);
        match self {
            Self::Aes128(c) => c.encrypt_block(&mut array),
            Self::Aes192(c) => c.encrypt_block(&mut array),
            Self::Aes256(c) => c.encrypt_block(&mut array),
        }
        *block = array.into();
    }

    fn decrypt(&self, block: &mut Block) {
        let mut array = Array::from(*block);
        match self {
            Self::Aes128(c) => c.decrypt_block(&mut array),
            Self::Aes192(c) => c.decrypt_block(&mut array),
            Self::Aes256(c) => c.decrypt_block(&mut array),
        }
        *block = array.into();
    }
}

fn xor(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to ^= from);
}

/// Whether a mode is one that encrypts; the others are TPM_ALG_NULL and CMAC.
pub(super) const fn encrypts(mode: AlgId) -> bool {
    matches!(mode, alg::CTR | alg::OFB | alg::CBC | alg::CFB | alg::ECB)
}

/// Whether a mode takes whole blocks only.
pub(super) const fn takes_blocks(mode: AlgId) -> bool {
    matches!(mode, alg::CBC | alg::ECB)
}

/// Encrypts or decrypts `data` in place.
///
/// `iv` becomes the chaining value for what follows (Part 3, 15.2: ivOut), so that data in pieces of whole blocks
/// are encrypted as the whole is: the last block of ciphertext for CBC and CFB, the last output of the cipher for
/// OFB, the next counter for CTR. A last piece in CFB that is no whole block is filled up with zeros, never with
/// what the cipher has put out and nobody has used. ECB has no such value and leaves `iv` alone.
///
/// `None` for a key of the wrong size, a mode that does not encrypt, or a part of a block where whole ones are needed.
#[must_use]
pub(super) fn crypt(key: &[u8], mode: AlgId, iv: &mut Block, data: &mut [u8], direction: Direction) -> Option<()> {
    if takes_blocks(mode) && !data.len().is_multiple_of(AES_BLOCK) {
        return None;
    }
    if mode == alg::CFB {
        return crypt_cfb(key, iv, data, direction);
    }
    let aes = Aes::new(key)?;
    let (blocks, rest) = data.as_chunks_mut::<AES_BLOCK>();
    match (mode, direction) {
        (alg::ECB, Direction::Encrypt) => blocks.iter_mut().for_each(|b| aes.encrypt(b)),
        (alg::ECB, Direction::Decrypt) => blocks.iter_mut().for_each(|b| aes.decrypt(b)),
        (alg::CBC, Direction::Encrypt) => {
            for block in blocks {
                xor(block, iv);
                aes.encrypt(block);
                *iv = *block;
            }
        }
        (alg::CBC, Direction::Decrypt) => {
            for block in blocks {
                let before = *block;
                aes.decrypt(block);
                xor(block, iv);
                *iv = before;
            }
        }
        (alg::OFB, _) => {
            for chunk in blocks.iter_mut().map(|b| &mut b[..]).chain([rest]).filter(|c| !c.is_empty()) {
                aes.encrypt(iv);
                xor(chunk, iv);
            }
        }
        (alg::CTR, _) => {
            for chunk in blocks.iter_mut().map(|b| &mut b[..]).chain([rest]).filter(|c| !c.is_empty()) {
                let mut mask = Zeroizing::new(*iv);
                aes.encrypt(&mut mask);
                xor(chunk, &mask[..]);
                // The whole block is the counter.
                *iv = u128::from_be_bytes(*iv).wrapping_add(1).to_be_bytes();
            }
        }
        _ => return None,
    }
    Some(())
}

fn crypt_cfb(key: &[u8], iv: &mut Block, data: &mut [u8], direction: Direction) -> Option<()> {
    let ciphertext = |data: &[u8]| {
        let last = data.chunks(AES_BLOCK).next_back()?;
        let mut block = [0; AES_BLOCK];
        block.iter_mut().zip(last).for_each(|(to, from)| *to = *from);
        Some(block)
    };
    let before = ciphertext(data);
    aes_cfb(key, iv, data, direction)?;
    let chained = if direction == Direction::Encrypt { ciphertext(data) } else { before };
    *iv = chained.unwrap_or(*iv);
    Some(())
}

/// An unfinished CMAC with AES, whose state can be saved.
#[derive(Clone)]
pub(super) struct Cmac {
    key: Secret,
    /// The chaining value, into which the latest `filled` octets have been added but not yet encrypted.
    state: Zeroizing<Block>,
    filled: u8,
}

impl Cmac {
    /// Begins a CMAC; `None` for a key of the wrong size.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        Aes::new(key)?;
        Some(Self { key: Secret::new(key.into()), state: Zeroizing::default(), filled: 0 })
    }

    /// Adds data.
    pub(super) fn update(&mut self, data: &[u8]) {
        let Some(aes) = Aes::new(&self.key) else {
            return;
        };
        for octet in data {
            // The last block is not encrypted before it is known to be the last.
            if usize::from(self.filled) == AES_BLOCK {
                aes.encrypt(&mut self.state);
                self.filled = 0;
            }
            if let Some(place) = self.state.get_mut(usize::from(self.filled)) {
                *place ^= octet;
                self.filled += 1;
            }
        }
    }

    /// The MAC.
    pub(super) fn finish(mut self) -> Digest {
        let Some(aes) = Aes::new(&self.key) else {
            return Digest::EMPTY;
        };
        let mut subkey = Zeroizing::new(Block::default());
        aes.encrypt(&mut subkey);
        *subkey = doubled(&subkey);
        if let Some(place) = self.state.get_mut(usize::from(self.filled)) {
            // Not a whole block: padded with a one and zeros, under the second subkey.
            *place ^= 0x80;
            *subkey = doubled(&subkey);
        }
        xor(&mut self.state[..], &subkey[..]);
        aes.encrypt(&mut self.state);
        Digest::new(&self.state[..]).unwrap_or_default()
    }

    /// Writes the state for [`Cmac::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.tpm2b(&self.key);
        w.bytes(&self.state[..]);
        w.u8(self.filled);
    }

    /// Reads what [`Cmac::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        let at = r.clone();
        let bad = || at.error(ErrorKind::Value, "CMAC");
        let mut mac = Self::new(r.tpm2b(32, "CMAC key")?).ok_or_else(bad)?;
        mac.state.copy_from_slice(r.take(AES_BLOCK, "CMAC")?);
        mac.filled = r.u8("CMAC")?;
        if usize::from(mac.filled) <= AES_BLOCK { Ok(mac) } else { Err(bad()) }
    }
}

/// The product with x in GF(2^128) (SP 800-38B, 6.1), without a branch on the subkey.
fn doubled(block: &Block) -> Block {
    let value = u128::from_be_bytes(*block);
    ((value << 1) ^ ((value >> 127) * 0x87)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::unhex;

    const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3c";
    const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
                         30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710";
    const IV: &str = "000102030405060708090a0b0c0d0e0f";

    /// SP 800-38A, F.1.1, F.2.1, F.3.13, F.4.1, F.5.1: AES-128 in each mode; the IV for the fifth block, which
    /// the examples' block tables give or which follows from the last ciphertext.
    const EXAMPLES: [(AlgId, &str, &str, &str); 5] = [
        (
            alg::ECB,
            IV,
            "3ad77bb40d7a3660a89ecaf32466ef97 f5d3d58503b9699de785895a96fdbaaf
             43b1cd7f598ece23881b00e3ed030688 7b0c785e27e8ad3f8223207104725dd4",
            IV,
        ),
        (
            alg::CBC,
            IV,
            "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
             73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7",
            "3ff1caa1681fac09120eca307586e1a7",
        ),
        (
            alg::CFB,
            IV,
            "3b3fd92eb72dad20333449f8e83cfb4a c8a64537a0b3a93fcde3cdad9f1ce58b
             26751f67a3cbb140b1808cf187a4f4df c04b05357c5d1c0eeac4c66f9ff7f2e6",
            "c04b05357c5d1c0eeac4c66f9ff7f2e6",
        ),
        (
            alg::OFB,
            IV,
            "3b3fd92eb72dad20333449f8e83cfb4a 7789508d16918f03f53c52dac54ed825
             9740051e9c5fecf64344f7a82260edcc 304c6528f659c77866a510d9c1d6ae5e",
            "c6d3416d29165c6fcb8e51a227ba994e",
        ),
        (
            alg::CTR,
            "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            "874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff
             5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee",
            "f0f1f2f3f4f5f6f7f8f9fafbfcfdff03",
        ),
    ];

    fn block(hex: &str) -> Block {
        unhex(hex).try_into().expect("a block")
    }

    #[test]
    fn the_examples_of_sp_800_38a_whole_and_in_pieces() {
        for (mode, iv, cipher, next) in EXAMPLES {
            for (from, to, direction) in [(PLAIN, cipher, Direction::Encrypt), (cipher, PLAIN, Direction::Decrypt)] {
                for pieces in [64, 48, 32, 16] {
                    let (mut data, mut chain) = (unhex(from), block(iv));
                    for piece in data.chunks_mut(pieces) {
                        crypt(&unhex(KEY), mode, &mut chain, piece, direction).expect("whole blocks");
                    }
                    assert_eq!(data, unhex(to), "{mode:?} {direction:?} in pieces of {pieces}");
                    assert_eq!(chain, block(next), "{mode:?} {direction:?} in pieces of {pieces}");
                }
            }
        }
    }

    /// A part of a block at the end: stream modes take it, and the chaining value tells nothing of the cipher's
    /// unused output.
    #[test]
    fn parts_of_blocks() {
        for (mode, iv, cipher, _) in EXAMPLES {
            let (mut data, mut chain) = (unhex(PLAIN)[..21].to_vec(), block(iv));
            let done = crypt(&unhex(KEY), mode, &mut chain, &mut data, Direction::Encrypt);
            if takes_blocks(mode) {
                assert_eq!(done, None);
                continue;
            }
            assert_eq!((done, &data[..]), (Some(()), &unhex(cipher)[..21]));
            if mode == alg::CFB {
                assert_eq!(chain, block("c8a64537a0 0000000000000000000000"));
                let mut chain = block(iv);
                crypt(&unhex(KEY), mode, &mut chain, &mut data, Direction::Decrypt).expect("a stream");
                assert_eq!((&data[..], chain), (&unhex(PLAIN)[..21], block("c8a64537a0 0000000000000000000000")));
            }
        }
        let mut chain = block("ffffffffffffffffffffffffffffffff");
        crypt(&unhex(KEY), alg::CTR, &mut chain, &mut [0; 17], Direction::Encrypt).expect("a stream");
        assert_eq!(chain, block("00000000000000000000000000000001"), "the whole block counts");
        for mode in [alg::NULL, alg::CMAC] {
            assert_eq!(crypt(&unhex(KEY), mode, &mut chain, &mut [0; 16], Direction::Encrypt), None);
        }
        assert_eq!(crypt(&[0; 15], alg::CBC, &mut chain, &mut [0; 16], Direction::Encrypt), None);
    }

    /// SP 800-38B, D.1 and D.3 (as in RFC 4493): AES-128 and AES-256, of 0, 16, 40 and 64 octets, saved between any
    /// two octets.
    #[test]
    fn cmac_known_answers() {
        let long = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
        for (key, len, want) in [
            (KEY, 0, "bb1d6929e95937287fa37d129b756746"),
            (KEY, 16, "070a16b46b4d4144f79bdd9dd04a287c"),
            (KEY, 40, "dfa66747de9ae63030ca32611497c827"),
            (KEY, 64, "51f0bebf7e3b9d92fc49741779363cfe"),
            (long, 0, "028962f61b7bf89efc6b551f4667d983"),
            (long, 40, "aaf3d8f1de5640c232f5b169b9c911e6"),
            (long, 64, "e1992190549f6ed5696a2c056c315410"),
        ] {
            let data = &unhex(PLAIN)[..len];
            for cut in 0..=len {
                let mut mac = Cmac::new(&unhex(key)).expect("a key");
                mac.update(&data[..cut]);
                let mut w = Writer::new();
                mac.save(&mut w);
                let mut mac = Cmac::restore(&mut Reader::new(w.as_bytes())).expect("what was saved");
                mac.update(&data[cut..]);
                assert_eq!(mac.finish().to_vec(), unhex(want), "{len} octets, saved after {cut}");
            }
        }
        assert!(Cmac::new(&[0; 17]).is_none());
        assert!(Cmac::restore(&mut Reader::new(&[0; 40])).is_err());
    }
}
