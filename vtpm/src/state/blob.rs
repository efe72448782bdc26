//! A state on its way from one process to another, encrypted.
//!
//! ```text
//! magic "bullaBLB" · version u8 = 1 · which state u8 · kind of key u8 · Argon2id: KiB u32, passes u8 · salt 16 · nonce 24
//! tag 16 · the state, encrypted with XChaCha20-Poly1305; all before the tag is authenticated with it
//! ```

use std::path::Path;

use bulla_tpm_types::{Reader, Writer};
use chacha20poly1305::{AeadInOut, Key, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use thiserror::Error;
use zeroize::Zeroizing;

use super::key::{Kdf, KeyError, KeyKind, KeySource, StateKey, random};
use super::{OpenError, SecretBytes};

const MAGIC: &[u8; 8] = b"bullaBLB";
const VERSION: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;

/// Why a blob was not opened or sealed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Its header is none.
    #[error("not an encrypted TPM state: {0}")]
    Header(#[from] bulla_tpm_types::Error),
    /// A newer release has sealed it.
    #[error("an encrypted TPM state of version {0}, which a newer release has sealed")]
    Version(u8),
    /// It is the other state.
    #[error("an encrypted TPM state of another kind than the one it was given as")]
    Which,
    /// It was sealed with a key of another kind, or there is none here.
    #[error("the TPM state is encrypted, with a key or passphrase that is not here")]
    NoKey,
    /// Not with this key, or not what was sealed.
    #[error("the TPM state was not encrypted with this key, or is damaged")]
    NotAuthentic,
    /// The key could not be derived.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key could not be derived.
    #[error("{0}")]
    Derive(Box<OpenError>),
}

/// Whether these bytes are a sealed blob.
#[must_use]
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Encrypts a state, marked as `which`, under a key or passphrase.
///
/// # Errors
/// See [`BlobError`].
pub fn seal(source: &KeySource, which: u8, state: &[u8]) -> Result<SecretBytes, BlobError> {
    let key = derive(source, Kdf::new(source.kind())?)?;
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    let mut w = Writer::from_vec(Vec::with_capacity(128 + state.len()));
    w.bytes(MAGIC);
    w.u8(VERSION);
    w.u8(which);
    w.u8(key.kind as u8);
    w.u32(key.kdf.memory_kib);
    w.u8(key.kdf.passes);
    w.bytes(&key.kdf.salt);
    w.bytes(&nonce);
    let mut blob = Zeroizing::new(w.into_vec());
    let mut payload = Zeroizing::new(state.to_vec());
    let tag = cipher(&key)
        .encrypt_inout_detached(&XNonce::from(nonce), &blob, (&mut **payload).into())
        .map_err(|_| BlobError::NotAuthentic)?;
    blob.extend_from_slice(&tag);
    blob.extend_from_slice(&payload);
    Ok(blob)
}

/// Decrypts what [`seal`] has sealed as `which`.
///
/// # Errors
/// See [`BlobError`].
pub fn open(source: &KeySource, which: u8, blob: &[u8]) -> Result<SecretBytes, BlobError> {
    let mut r = Reader::new(blob);
    if r.take(MAGIC.len(), "magic")? != MAGIC {
        return Err(BlobError::NotAuthentic);
    }
    match r.u8("version")? {
        VERSION => {}
        version => return Err(BlobError::Version(version)),
    }
    if r.u8("which state")? != which {
        return Err(BlobError::Which);
    }
    if KeyKind::from_number(r.u8("kind of key")?) != Some(source.kind()) {
        return Err(BlobError::NoKey);
    }
    let (memory_kib, passes) = (r.u32("memory")?, r.u8("passes")?);
    let kdf = Kdf { salt: r.array("salt")?, memory_kib, passes };
    let nonce: [u8; NONCE] = r.array("nonce")?;
    let header = blob.get(..r.offset()).unwrap_or_default();
    let tag: [u8; TAG] = r.array("tag")?;
    let mut state = Zeroizing::new(blob.get(r.offset()..).unwrap_or_default().to_vec());
    let key = derive(source, kdf)?;
    cipher(&key)
        .decrypt_inout_detached(&XNonce::from(nonce), header, (&mut **state).into(), &Tag::from(tag))
        .map_err(|_| BlobError::NotAuthentic)?;
    Ok(state)
}

fn derive(source: &KeySource, kdf: Kdf) -> Result<StateKey, BlobError> {
    // Nobody else has the one, and the other is the host's, which a sandboxed process cannot ask any more.
    if matches!(source.kind(), KeyKind::Beside | KeyKind::HostTpm) {
        return Err(BlobError::NoKey);
    }
    StateKey::derive(source, kdf, Path::new(""), false).map_err(|error| BlobError::Derive(Box::new(error)))
}

fn cipher(key: &StateKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key.cipher))
}

#[cfg(test)]
mod tests {
    use super::super::KeyFormat;
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_its_key_only_and_only_whole() {
        let key = |byte| KeySource::from_bytes(&[byte; 32], KeyFormat::Binary).unwrap();
        let blob = seal(&key(1), 2, b"state").unwrap();
        assert!(is_sealed(&blob));
        assert_eq!(**open(&key(1), 2, &blob).unwrap(), *b"state");
        assert!(matches!(open(&key(2), 2, &blob), Err(BlobError::NotAuthentic)));
        assert!(matches!(open(&key(1), 1, &blob), Err(BlobError::Which)));
        let phrase = KeySource::passphrase_from_bytes(b"word").unwrap();
        assert!(matches!(open(&phrase, 2, &blob), Err(BlobError::NoKey)));
        assert!(matches!(seal(&KeySource::Beside, 2, b""), Err(BlobError::NoKey)));
        for at in 0..blob.len() {
            let mut other = blob.to_vec();
            other[at] ^= 1;
            assert!(open(&key(1), 2, &other).is_err(), "byte {at}");
            assert!(open(&key(1), 2, &blob[..at]).is_err(), "cut at {at}");
        }
        let blob = seal(&phrase, 1, b"state").unwrap();
        assert_eq!(**open(&phrase, 1, &blob).unwrap(), *b"state");
    }
}
