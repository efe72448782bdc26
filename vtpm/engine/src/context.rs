//! Contexts: objects and sessions that wait outside the TPM (Part 1, 30).

use alloc::boxed::Box;
use alloc::vec::Vec;

use bulla_tpm_types::{Error, ErrorKind, Handle, HashAlg, ObjectAttributes, Public, Rc, Reader, Writer, rc};
use zeroize::Zeroizing;

use super::Tpm;
use super::drbg::Drbg;
use super::object::{Key, Kind, Object, Protector};
use super::protect::{Iv, Sensitive, put_sensitive, sensitive_type};
use super::secret::AuthValue;
use super::sequence::Sequence;
use super::session::Session;

/// TPM_PT_MAX_OBJECT_CONTEXT: no object's TPM2B_CONTEXT_DATA is larger, not an RSA-4096 key's either.
pub(super) const MAX_OBJECT_CONTEXT: usize = 1280;
/// TPM_PT_MAX_SESSION_CONTEXT: no session's TPM2B_CONTEXT_DATA is larger.
pub(super) const MAX_SESSION_CONTEXT: usize = 768;

/// The smallest protected context: an integrity value, an IV, and the size of what is protected.
const MIN_CONTEXT: usize = 2 + 32 + 2 + 16 + 2;

/// savedHandle of an object (Part 2, 9.11.2, TPMI_DH_SAVED).
pub(super) const SAVED_OBJECT: Handle = Handle(0x8000_0000);
/// savedHandle of a sequence object.
pub(super) const SAVED_SEQUENCE: Handle = Handle(0x8000_0001);
/// savedHandle of an object with stClear set.
pub(super) const SAVED_ST_CLEAR: Handle = Handle(0x8000_0002);

const NONCE: usize = 32;

/// What makes contexts of the past useless (Part 1, 30.3.1): values that no context can be forged for.
#[derive(Default)]
pub(super) struct Epochs {
    /// Another one after each TPM Reset.
    reset: [u8; NONCE],
    /// Another one after each TPM Reset and TPM Restart.
    clear: [u8; NONCE],
    /// The number of the next saved object.
    next: u64,
}

impl Epochs {
    /// TPM Reset: no context survives.
    pub(super) fn reset(&mut self, random: &mut Drbg) {
        random.generate(&mut self.reset);
        self.restart(random);
    }

    /// TPM Restart: no context of an object with stClear survives.
    pub(super) fn restart(&mut self, random: &mut Drbg) {
        random.generate(&mut self.clear);
    }

    /// Numbers a saved object.
    pub(super) fn next_object(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Writes them for [`Epochs::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.bytes(&self.reset);
        w.bytes(&self.clear);
        w.u64(self.next);
    }

    /// Reads what [`Epochs::save`] has written.
    pub(super) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        *self = Self { reset: r.array("epoch")?, clear: r.array("epoch")?, next: r.u64("number of saved objects")? };
        Ok(())
    }

    /// Writes which boot this is, for [`Epochs::is_same_boot`].
    pub(super) fn save_boot(&self, w: &mut Writer) {
        w.bytes(&self.reset);
        w.bytes(&self.clear);
    }

    /// Whether [`Epochs::save_boot`] wrote this in the same boot of the same TPM.
    pub(super) fn is_same_boot(&self, r: &mut Reader<'_>) -> Result<bool, Error> {
        Ok(r.array("epoch")? == self.reset && r.array("epoch")? == self.clear)
    }

    /// What a context is bound to: its number, what it is, and when.
    fn binding(&self, sequence: u64, saved: Handle) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(b"context");
        w.u64(sequence);
        w.put(&saved);
        w.bytes(&self.reset);
        if saved == SAVED_ST_CLEAR {
            w.bytes(&self.clear);
        }
        w.into_vec()
    }
}

impl Tpm {
    /// Protects a context with the proof of its hierarchy.
    pub(super) fn wrap_context(
        &mut self,
        sequence: u64,
        saved: Handle,
        hierarchy: Handle,
        write: impl FnOnce(&mut Writer),
    ) -> Result<Vec<u8>, Rc> {
        let mut plain = Writer::from_vec(Vec::with_capacity(MAX_OBJECT_CONTEXT));
        plain.sized(write);
        let plain = Zeroizing::new(plain.into_vec());
        let proof = &self.hierarchies.get(hierarchy).ok_or(rc::HIERARCHY)?.proof;
        let binding = self.epochs.binding(sequence, saved);
        let protector = Protector { name_alg: HashAlg::Sha256, key_bits: 256, seed: &proof[..] };
        let protected = protector.wrap(&binding, Some(&mut self.random), &plain)?;
        let mut w = Writer::new();
        w.tpm2b(&protected);
        Ok(w.into_vec())
    }

    /// The other side of [`Tpm::wrap_context`]. Zeros after the context are no matter: some clients pad it to the
    /// size of the largest.
    pub(super) fn unwrap_context(
        &self,
        sequence: u64,
        saved: Handle,
        hierarchy: Handle,
        blob: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Rc> {
        let mut r = Reader::new(blob);
        let protected = r.tpm2b(blob.len(), "context").map_err(|e| e.rc())?;
        if protected.len() < MIN_CONTEXT || r.rest().iter().any(|b| *b != 0) {
            return Err(rc::SIZE);
        }
        let proof = &self.hierarchies.get(hierarchy).ok_or(rc::HIERARCHY)?.proof;
        let binding = self.epochs.binding(sequence, saved);
        let protector = Protector { name_alg: HashAlg::Sha256, key_bits: 256, seed: &proof[..] };
        protector.unwrap(&binding, Iv::Fresh, protected)
    }
}

/// savedHandle of an object.
pub(super) fn saved_handle(object: &Object) -> Handle {
    match &object.kind {
        Kind::Sequence(_) => SAVED_SEQUENCE,
        Kind::Key(key) if key.has(ObjectAttributes::ST_CLEAR) => SAVED_ST_CLEAR,
        Kind::Key(_) => SAVED_OBJECT,
    }
}

/// Writes an object for [`read_object`].
pub(super) fn write_object(w: &mut Writer, object: &Object) {
    match &object.kind {
        Kind::Sequence(sequence) => {
            w.u8(0);
            w.tpm2b(object.auth.as_bytes());
            sequence.save(w);
        }
        Kind::Key(key) => {
            w.u8(if key.external { 2 } else { 1 });
            w.put(&key.public);
            w.put(&key.qualified_name);
            match &key.private {
                Some(private) => put_sensitive(w, sensitive_type(&key.public.kind), object.auth.as_bytes(), private),
                None => w.u16(0),
            }
        }
    }
}

/// Reads what [`write_object`] has written. Only this TPM's own contexts come this far.
pub(super) fn read_object(context: &[u8], hierarchy: Handle) -> Result<Object, Error> {
    read_sized_object(&mut Reader::new(context), hierarchy)
}

/// Reads what [`write_object`] has written, with its size before it.
pub(super) fn read_sized_object(r: &mut Reader<'_>, hierarchy: Handle) -> Result<Object, Error> {
    r.sized("context", |r| {
        let kind = r.u8("context")?;
        if kind == 0 {
            let auth = AuthValue::new(r.tpm2b(64, "context")?);
            return Ok(Object { kind: Kind::Sequence(Sequence::restore(r)?), auth });
        }
        let public: Public = r.get()?;
        let name = public.name();
        let qualified_name = r.get()?;
        let (mut auth, mut private) = (AuthValue::default(), None);
        // A sensitive area is never empty. What comes after an object in a list may be another.
        if r.rest().starts_with(&[0, 0]) {
            r.u16("context")?;
        } else {
            let at = r.clone();
            let sensitive = r.sized("context", Sensitive::unmarshal)?;
            let of_kind = sensitive.private(&public.kind, None).map_err(|_| at.error(ErrorKind::Value, "context"))?;
            (auth, private) = (sensitive.auth, Some(of_kind));
        }
        let key = Key { public, name, qualified_name, hierarchy, private, external: kind == 2 };
        Ok(Object { kind: Kind::Key(Box::new(key)), auth })
    })
}

/// Reads a session that [`Session::save`] has written into a context.
pub(super) fn read_session(context: &[u8]) -> Result<Session, Error> {
    Reader::new(context).sized("context", Session::restore)
}
