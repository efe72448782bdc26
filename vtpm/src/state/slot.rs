//! One slot of a state file: a header that anybody can read, and a state that only the key opens.
//!
//! The form is in `docs/vtpm-state.md`. Nothing here knows files.

use bulla_tpm_types::{Error as FormError, ErrorKind, Reader, Writer};
use chacha20poly1305::{AeadInOut, Key, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::key::{Kdf, KeyKind, StateKey};

/// Bytes of a slot in the file.
pub(super) const SLOT: usize = 512 << 10;
/// Bytes of a slot's header.
pub(super) const HEADER: usize = 160;
/// Bytes of the authentication tag, which comes after the header.
pub(super) const TAG: usize = 16;
/// Bytes of a nonce.
pub(super) const NONCE: usize = 24;
/// Most bytes of what is encrypted.
const MAX_PAYLOAD: usize = SLOT - HEADER - TAG;

const MAGIC: &[u8; 8] = b"bullaNVR";
const FORMAT: u16 = 1;

/// Which state of which vTPM: what an anchor remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The vTPM: another one after each manufacture, noticed copy and accepted rollback.
    pub instance: [u8; 16],
    /// How many states it has stored, this one counted.
    pub generation: u64,
    /// The authentication tag of this state, which no other state has.
    pub tag: [u8; TAG],
}

/// What is the same for all states that one process stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The file's inode.
    pub(super) inode: u64,
    /// When the file was made, in seconds and nanoseconds; zeros where the file system does not know.
    pub(super) born: (u64, u32),
}

/// The part of a slot that anybody can read. All of it is authenticated with the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Which slot of the file: 0 or 1.
    pub(super) slot: u8,
    /// Which vTPM this is.
    pub(super) instance: [u8; 16],
    /// Which of its states.
    pub(super) generation: u64,
    /// The tag of the state before.
    pub(super) previous: [u8; TAG],
    /// Where the file was when this was written, for telling a copy.
    pub(super) place: Place,
    /// What the key comes from.
    pub(super) kind: KeyKind,
    /// How it is derived.
    pub(super) kdf: Kdf,
    /// Tells a wrong key from a damaged state.
    pub(super) check: [u8; 16],
    /// Random, not counted: a vTPM that was set back stores other states under the same key and generation.
    pub(super) nonce: [u8; NONCE],
    /// Bytes that are encrypted.
    pub(super) length: usize,
    /// In which start of the vTPM, as a [`Counter`](super::Counter) counts them; 0 without one.
    pub(super) epoch: u64,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER] {
        let mut w = Writer::from_vec(Vec::with_capacity(HEADER));
        w.bytes(MAGIC);
        w.u16(FORMAT);
        w.u8(self.slot);
        w.u8(self.kind as u8);
        w.bytes(&self.instance);
        w.u64(self.generation);
        w.bytes(&self.previous);
        w.u64(self.place.inode);
        w.u64(self.place.born.0);
        w.u32(self.place.born.1);
        w.bytes(&self.kdf.salt);
        w.u32(self.kdf.memory_kib);
        w.u8(self.kdf.passes);
        w.bytes(&self.check);
        w.bytes(&self.nonce);
        w.u32(u32::try_from(self.length).unwrap_or(u32::MAX));
        w.u64(self.epoch);
        let mut bytes = [0; HEADER];
        bytes.iter_mut().zip(w.as_bytes()).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Reads a header. It has the form; whether it is authentic shows when the state is opened.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, FormError> {
        let mut r = Reader::new(bytes);
        let at = r.clone();
        if r.take(MAGIC.len(), "magic")? != MAGIC {
            return Err(at.error(ErrorKind::Value, "magic"));
        }
        let at = r.clone();
        if r.u16("format")? != FORMAT {
            return Err(at.error(ErrorKind::Value, "format"));
        }
        let slot = r.u8("number of the slot")?;
        let at = r.clone();
        let kind = KeyKind::from_number(r.u8("kind of key")?).ok_or(at.error(ErrorKind::Value, "kind of key"))?;
        let header = Self {
            slot,
            kind,
            instance: r.array("instance")?,
            generation: r.u64("generation")?,
            previous: r.array("previous tag")?,
            place: Place { inode: r.u64("inode")?, born: (r.u64("time of making")?, r.u32("time of making")?) },
            kdf: Kdf { salt: r.array("salt")?, memory_kib: r.u32("KDF memory")?, passes: r.u8("KDF passes")? },
            check: r.array("key check")?,
            nonce: r.array("nonce")?,
            length: usize::try_from(r.u32("length")?).unwrap_or(usize::MAX),
            epoch: r.u64("epoch")?,
        };
        if header.length > MAX_PAYLOAD {
            return Err(r.error(ErrorKind::Size, "length"));
        }
        Ok(header)
    }

    fn cipher(key: &StateKey) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*key.cipher))
    }
}

/// What a slot protects.
#[derive(Debug, Default)]
pub(super) struct Payload {
    /// What survives a loss of power.
    pub(super) permanent: Zeroizing<Vec<u8>>,
    /// What a suspended machine takes along; empty unless it is suspended.
    pub(super) volatile: Zeroizing<Vec<u8>>,
}

/// Bytes of a payload before they are encrypted: each state after its length.
pub(super) const fn payload_len(permanent: &[u8], volatile: &[u8]) -> usize {
    4 + permanent.len() + 4 + volatile.len()
}

/// The bytes of a slot, and the tag in them; `None` when the states are too large for one.
pub(super) fn seal(
    header: &Header,
    key: &StateKey,
    permanent: &[u8],
    volatile: &[u8],
) -> Option<(Zeroizing<Vec<u8>>, [u8; TAG])> {
    let length = payload_len(permanent, volatile);
    if length > MAX_PAYLOAD {
        return None;
    }
    let associated = header.to_bytes();
    let mut slot = Zeroizing::new(Vec::with_capacity(HEADER + TAG + length));
    slot.extend_from_slice(&associated);
    slot.extend_from_slice(&[0; TAG]);
    for state in [permanent, volatile] {
        slot.extend_from_slice(&u32::try_from(state.len()).ok()?.to_be_bytes());
        slot.extend_from_slice(state);
    }
    let (head, payload) = slot.split_at_mut_checked(HEADER + TAG)?;
    let nonce = XNonce::from(header.nonce);
    let tag = Header::cipher(key).encrypt_inout_detached(&nonce, &associated, payload.into()).ok()?;
    let tag: [u8; TAG] = tag.into();
    head.get_mut(HEADER..)?.copy_from_slice(&tag);
    Some((slot, tag))
}

/// Opens what [`seal`] has made: the bytes after the header, exactly. `None` when they are not authentic.
pub(super) fn open(header: &Header, key: &StateKey, mut body: Zeroizing<Vec<u8>>) -> Option<(Payload, [u8; TAG])> {
    let (tag, payload) = body.split_at_mut_checked(TAG)?;
    let tag = <[u8; TAG]>::try_from(&*tag).ok()?;
    let nonce = XNonce::from(header.nonce);
    let opened =
        Header::cipher(key).decrypt_inout_detached(&nonce, &header.to_bytes(), (&mut *payload).into(), &Tag::from(tag));
    opened.ok()?;
    let mut r = Reader::new(payload);
    let mut state = || {
        let length = usize::try_from(r.u32("length").ok()?).ok()?;
        Some(Zeroizing::new(r.take(length, "state").ok()?.to_vec()))
    };
    Some((Payload { permanent: state()?, volatile: state()? }, tag))
}
