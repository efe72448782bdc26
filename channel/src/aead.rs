//! ChaCha20-Poly1305 (RFC 8439) with the nonce construction of the Noise specification, revision 34, section 12.3:
//! 32 zero bits followed by a little-endian 64-bit counter.
#![forbid(unsafe_code)]

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, Key, KeyInit, Nonce, Tag};

/// Bytes of an authentication tag.
pub(crate) const TAG_BYTES: usize = 16;

/// A key that erases itself when dropped (feature `zeroize` of the cipher).
pub(crate) struct Aead(ChaCha20Poly1305);

impl Aead {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(<&Key>::from(key)))
    }

    /// Encrypts `text` in place; `None` only if it is longer than the cipher can take (256 GiB).
    pub(crate) fn seal(&self, n: u64, ad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        let tag = self.0.encrypt_inout_detached(&nonce(n), ad, text.into()).ok()?;
        Some(tag.into())
    }

    /// Decrypts `text` in place; `None` if the tag (compared in constant time) is not the right one.
    pub(crate) fn open(&self, n: u64, ad: &[u8], text: &mut [u8], tag: &[u8; TAG_BYTES]) -> Option<()> {
        self.0.decrypt_inout_detached(&nonce(n), ad, text.into(), &Tag::from(*tag)).ok()
    }
}

fn nonce(n: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = n.to_le_bytes();
    Nonce::from([0, 0, 0, 0, a, b, c, d, e, f, g, h])
}
