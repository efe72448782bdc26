//! Transient objects: keys and sequences in a fixed number of slots (Part 1, 30).

use std::boxed::Box;

use bulla_tpm_types::hash::Hasher;
use bulla_tpm_types::{Handle, HashAlg, Name, ObjectAttributes, Public, Rc, rc, rh};
use p256::ecdsa::SigningKey;

use super::pcr::HashSequence;
use super::secret::AuthValue;

/// TPM_PT_HR_TRANSIENT_MIN: how many objects fit.
pub(super) const SLOTS: usize = 8;

/// A loaded key.
pub(super) struct Key {
    /// Its public area.
    pub(super) public: Public,
    /// Its Name.
    pub(super) name: Name,
    /// Its Qualified Name.
    pub(super) qualified_name: Name,
    /// The hierarchy it is in.
    pub(super) hierarchy: Handle,
    /// Its private part, with the public key's point.
    pub(super) private: SigningKey,
}

impl Key {
    /// Whether the key may sign.
    pub(super) fn signs(&self) -> bool {
        self.public.attributes.contains(ObjectAttributes::SIGN)
    }
}

/// What a sequence object computes.
#[expect(clippy::large_enum_variant, reason = "a sequence lives in the box of its object")]
pub(super) enum SequenceKind {
    /// One digest: HashSequenceStart with an algorithm.
    Hash(Hasher),
    /// One digest for each bank: HashSequenceStart with TPM_ALG_NULL.
    Event(HashSequence),
}

/// A sequence object.
pub(super) struct Sequence {
    /// Its state.
    pub(super) kind: SequenceKind,
    /// Whether the data so far may get a ticket; `None` before the first data.
    pub(super) ticket_safe: Option<bool>,
}

impl Sequence {
    /// Begins a hash sequence, or an event sequence for `None`.
    pub(super) fn new(alg: Option<HashAlg>) -> Self {
        let kind =
            alg.map_or_else(|| SequenceKind::Event(HashSequence::default()), |a| SequenceKind::Hash(Hasher::new(a)));
        Self { kind, ticket_safe: None }
    }

    /// Adds data.
    pub(super) fn update(&mut self, data: &[u8]) {
        if self.ticket_safe.is_none() && !data.is_empty() {
            self.ticket_safe = Some(may_have_ticket(data));
        }
        match &mut self.kind {
            SequenceKind::Hash(h) => h.update(data),
            SequenceKind::Event(h) => h.update(data),
        }
    }
}

/// Whether data that starts so cannot be taken for a structure that a TPM generated: it does not start with
/// TPM_GENERATED_VALUE, and is long enough to tell (Part 3, 15.4).
pub(super) fn may_have_ticket(data: &[u8]) -> bool {
    data.len() >= 4 && !data.starts_with(b"\xffTCG")
}

/// What a slot holds.
pub(super) enum Kind {
    Key(Key),
    Sequence(Sequence),
}

/// An object in a slot.
pub(super) struct Object {
    /// What it is.
    pub(super) kind: Kind,
    /// Its authValue.
    pub(super) auth: AuthValue,
}

impl Object {
    /// Whether USER role actions may be approved with the authValue.
    pub(super) fn user_with_auth(&self) -> bool {
        match &self.kind {
            Kind::Key(key) => key.public.attributes.contains(ObjectAttributes::USER_WITH_AUTH),
            Kind::Sequence(_) => true,
        }
    }

    /// Whether wrong authorizations count towards lockout.
    pub(super) fn is_da_protected(&self) -> bool {
        match &self.kind {
            Kind::Key(key) => !key.public.attributes.contains(ObjectAttributes::NO_DA),
            Kind::Sequence(_) => false,
        }
    }
}

/// The slots. A slot's number is the transient handle's offset.
#[derive(Default)]
pub(super) struct Objects([Option<Box<Object>>; SLOTS]);

impl Objects {
    /// Whether a slot is free; otherwise TPM_RC_OBJECT_MEMORY.
    pub(super) fn has_room(&self) -> Result<(), Rc> {
        if self.0.iter().any(Option::is_none) { Ok(()) } else { Err(rc::OBJECT_MEMORY) }
    }

    /// How many slots are free.
    pub(super) fn free(&self) -> usize {
        self.0.iter().filter(|s| s.is_none()).count()
    }

    /// Puts an object in the first free slot.
    pub(super) fn insert(&mut self, object: Object) -> Result<Handle, Rc> {
        let (n, slot) = (0..).zip(self.0.iter_mut()).find(|(_, s)| s.is_none()).ok_or(rc::OBJECT_MEMORY)?;
        *slot = Some(Box::new(object));
        Ok(Handle(rh::TRANSIENT_FIRST.0 + n))
    }

    /// The object of a handle.
    pub(super) fn get(&self, handle: Handle) -> Option<&Object> {
        self.0.get(slot(handle)?)?.as_deref()
    }

    /// The object of a handle, to be changed.
    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Object> {
        self.0.get_mut(slot(handle)?)?.as_deref_mut()
    }

    /// Takes the object out of its slot.
    pub(super) fn remove(&mut self, handle: Handle) -> Option<Box<Object>> {
        self.0.get_mut(slot(handle)?)?.take()
    }

    /// The handles of loaded objects, in ascending order.
    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        (rh::TRANSIENT_FIRST.0..).zip(&self.0).filter(|(_, s)| s.is_some()).map(|(h, _)| Handle(h))
    }

    /// The loaded key of a handle: TPM_RC_KEY for a sequence, TPM_RC_HANDLE for an empty slot.
    pub(super) fn key(&self, handle: Handle) -> Result<&Key, Rc> {
        match self.get(handle).map(|o| &o.kind) {
            Some(Kind::Key(key)) => Ok(key),
            Some(Kind::Sequence(_)) => Err(rc::KEY),
            None => Err(rc::HANDLE),
        }
    }
}

fn slot(handle: Handle) -> Option<usize> {
    usize::try_from(handle.0.checked_sub(rh::TRANSIENT_FIRST.0)?).ok()
}
