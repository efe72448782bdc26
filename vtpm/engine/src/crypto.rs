//! HMAC by TPM algorithm, KDFa, KDFe and AES in CFB mode.

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit as CipherInit};
use aes::{Aes128, Aes192, Aes256};
use bulla_tpm_types::hash;
use bulla_tpm_types::{Ha, HashAlg};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::{Zeroize, Zeroizing};

/// HMAC over the concatenation of `parts`.
pub(super) fn hmac(alg: HashAlg, key: &[u8], parts: &[&[u8]]) -> Ha {
    fn run<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]], out: &mut Ha) {
        // HMAC takes keys of any length.
        if let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) {
            parts.iter().for_each(|p| mac.update(p));
            out.as_bytes_mut().copy_from_slice(&mac.finalize().into_bytes());
        }
    }
    let mut out = Ha::zero(alg);
    match alg {
        HashAlg::Sha1 => run::<Hmac<Sha1>>(key, parts, &mut out),
        HashAlg::Sha256 => run::<Hmac<Sha256>>(key, parts, &mut out),
        HashAlg::Sha384 => run::<Hmac<Sha384>>(key, parts, &mut out),
        HashAlg::Sha512 => run::<Hmac<Sha512>>(key, parts, &mut out),
    }
    out
}

/// KDFa: SP 800-108 in counter mode with HMAC (Part 1, 11.4.10.2).
///
/// `label` is without its terminating zero, which is added here unless the label ends in one already, as a caller's
/// label for a derived object may. Whole octets only.
pub(super) fn kdfa(
    alg: HashAlg,
    key: &[u8],
    label: &(impl AsRef<[u8]> + ?Sized),
    context_u: &[u8],
    context_v: &[u8],
    out: &mut [u8],
) {
    let label = label.as_ref();
    let end: &[u8] = if label.last() == Some(&0) { &[] } else { &[0] };
    let bits = (out.len() as u32).saturating_mul(8).to_be_bytes();
    let blocks = out.chunks_mut(alg.size());
    for (counter, block) in (1u32..).zip(blocks) {
        let mut mac = hmac(alg, key, &[&counter.to_be_bytes(), label, end, context_u, context_v, &bits]);
        block.copy_from_slice(&mac.as_bytes()[..block.len()]);
        mac.as_bytes_mut().zeroize();
    }
}

/// KDFe: the one-step key derivation of SP 800-56A (Part 1, 11.4.10.3).
///
/// `label` is without its terminating zero, which is added here. Whole octets only.
pub(super) fn kdfe(alg: HashAlg, z: &[u8], label: &str, party_u: &[u8], party_v: &[u8], out: &mut [u8]) {
    let blocks = out.chunks_mut(alg.size());
    for (counter, block) in (1u32..).zip(blocks) {
        let mut digest = hash::digest(alg, &[&counter.to_be_bytes(), z, label.as_bytes(), &[0], party_u, party_v]);
        block.copy_from_slice(&digest.as_bytes()[..block.len()]);
        digest.as_bytes_mut().zeroize();
    }
}

/// KDF2 of ISO/IEC 18033-2, 6.2.3: the hash of the shared secret and a counter (Part 1, C.8).
pub(super) fn kdf2(alg: HashAlg, secret: &[&[u8]; 2], out: &mut [u8]) {
    let blocks = out.chunks_mut(alg.size());
    for (counter, block) in (1u32..).zip(blocks) {
        let mut digest = hash::digest(alg, &[secret[0], secret[1], &counter.to_be_bytes()]);
        block.copy_from_slice(&digest.as_bytes()[..block.len()]);
        digest.as_bytes_mut().zeroize();
    }
}

/// Octets of a block of AES.
pub(super) const AES_BLOCK: usize = 16;

/// Which way a cipher goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Encrypt,
    Decrypt,
}

/// AES in CFB mode with a feedback of whole blocks (Part 1, 11.4.6.2; SP 800-38A, 6.3), in place.
///
/// The key's length selects AES-128, -192 or -256. Another length leaves the data as they are and is `None`.
#[must_use]
pub(super) fn aes_cfb(key: &[u8], iv: &[u8; AES_BLOCK], data: &mut [u8], direction: Direction) -> Option<()> {
    fn run<C: BlockCipherEncrypt + CipherInit>(
        key: &[u8],
        iv: &[u8; AES_BLOCK],
        data: &mut [u8],
        direction: Direction,
    ) -> Option<()> {
        let cipher = <C as CipherInit>::new_from_slice(key).ok()?;
        let mut feedback = Zeroizing::new(*iv);
        for chunk in data.chunks_mut(AES_BLOCK) {
            let mut mask = Array::try_from(&feedback[..]).ok()?;
            cipher.encrypt_block(&mut mask);
            for ((octet, mask), feedback) in chunk.iter_mut().zip(mask).zip(feedback.iter_mut()) {
                let before = *octet;
                *octet ^= mask;
                *feedback = if direction == Direction::Encrypt { *octet } else { before };
            }
        }
        Some(())
    }
    match key.len() {
        16 => run::<Aes128>(key, iv, data, direction),
        24 => run::<Aes192>(key, iv, data, direction),
        32 => run::<Aes256>(key, iv, data, direction),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::unhex;

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_known_answers() {
        let mac = |alg| hmac(alg, b"Jefe", &[b"what do ya want ", b"for nothing?"]).as_bytes().to_vec();
        let sha256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(mac(HashAlg::Sha256), unhex(sha256));
        // RFC 2202, test case 2.
        assert_eq!(mac(HashAlg::Sha1), unhex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"));
    }

    /// SP 800-38A, F.3.13 and F.3.17: CFB128 with AES-128 and AES-256; the third block is cut short.
    #[test]
    fn cfb_known_answers() {
        let plain = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51 30c81c46a35ce411";
        let iv: [u8; 16] = core::array::from_fn(|i| i as u8);
        for (key, cipher) in [
            (
                "2b7e151628aed2a6abf7158809cf4f3c",
                "3b3fd92eb72dad20333449f8e83cfb4a c8a64537a0b3a93fcde3cdad9f1ce58b 26751f67a3cbb140",
            ),
            (
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "dc7e84bfda79164b7ecd8486985d3860 39ffed143b28b1c832113c6331e5407b df10132415e54b92",
            ),
        ] {
            let mut data = unhex(plain);
            aes_cfb(&unhex(key), &iv, &mut data, Direction::Encrypt).expect("a key");
            assert_eq!(data, unhex(cipher));
            aes_cfb(&unhex(key), &iv, &mut data, Direction::Decrypt).expect("a key");
            assert_eq!(data, unhex(plain));
        }
        assert_eq!(aes_cfb(&[0; 17], &iv, &mut [0; 3], Direction::Encrypt), None);
    }

    /// Two blocks, the second cut; computed with another hash (Python's).
    #[test]
    fn kdfe_known_answer() {
        let mut out = [0; 48];
        kdfe(HashAlg::Sha256, b"zzz", "SECRET", b"u", b"vv", &mut out);
        assert_eq!(out.to_vec(), unhex(KDFE));
    }

    /// Two blocks, the second cut; computed with another HMAC (Python's).
    #[test]
    fn kdfa_known_answer() {
        let mut out = [0; 48];
        kdfa(HashAlg::Sha256, b"key", "LABEL", b"u", b"vv", &mut out);
        let want = "ecde2b92a59ecca7129b6e97d4b4d43a3a2f85a9f6564d803ac60ad78c6c1b01\
                    801331536290cc193c368dd449340974";
        assert_eq!(out.to_vec(), unhex(want));
    }

    const KDFE: &str = "03e5b65313d5d7ec309c1ed8397668bbf1fd915d65783694ba467da9953b4684\
                        13f5f396db490cdd615a06a9a50a6277";
}
