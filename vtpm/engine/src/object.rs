//! Objects: keys, sealed data and sequences, in a fixed number of slots (Part 1, 30), and persistent ones.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use bulla_tpm_types::{Handle, Name, ObjectAttributes, Public, PublicKind, Rc, Symmetric, hash, ht, rc, rh};

use super::create;
use super::ecc::PrivateKey;
use super::rsa;
use super::secret::{AuthValue, Secret};
use super::sequence::Sequence;

/// TPM_PT_HR_TRANSIENT_MIN: how many objects fit.
pub(super) const SLOTS: usize = 8;
/// TPM_PT_HR_PERSISTENT_MIN: how many persistent objects fit.
pub(super) const PERSISTENT: usize = 16;

/// The part of a key's sensitive area that makes the key (Part 2, 12.3.2.3).
#[derive(Clone)]
pub(super) enum Material {
    /// TPM_ALG_ECC: the private key.
    Ecc(PrivateKey),
    /// TPM_ALG_RSA: the private key.
    Rsa(Box<rsa::PrivateKey>),
    /// TPM_ALG_KEYEDHASH and TPM_ALG_SYMCIPHER: an HMAC key, sealed data, or a cipher's key.
    Data(Secret),
}

/// The sensitive area of a key, without its authValue, which is the object's (Part 2, 12.3.2.4).
#[derive(Clone)]
pub(super) struct Private {
    /// seedValue: what a parent protects its children with; the obfuscation of a symmetric object.
    pub(super) seed: Secret,
    /// The key itself.
    pub(super) material: Material,
}

/// A loaded key or data object.
#[derive(Clone)]
pub(super) struct Key {
    /// Its public area.
    pub(super) public: Public,
    /// Its Name.
    pub(super) name: Name,
    /// Its Qualified Name.
    pub(super) qualified_name: Name,
    /// The hierarchy it is in.
    pub(super) hierarchy: Handle,
    /// Its sensitive area; `None` when only the public area is loaded.
    pub(super) private: Option<Private>,
    /// Whether TPM2_LoadExternal loaded it: such a key is no parent.
    pub(super) external: bool,
}

/// What a storage parent protects its children with (Part 1, 22).
pub(super) struct Protector<'a> {
    pub(super) name_alg: bulla_tpm_types::HashAlg,
    pub(super) key_bits: u16,
    pub(super) seed: &'a [u8],
}

impl Key {
    /// Whether every one of these attributes is set.
    pub(super) fn has(&self, attributes: ObjectAttributes) -> bool {
        self.public.attributes.contains(attributes)
    }

    /// Whether the key may sign.
    pub(super) fn signs(&self) -> bool {
        self.has(ObjectAttributes::SIGN)
    }

    /// Whether the key may make signatures of Part 3, 18 and 20: MACs by a block cipher are none.
    pub(super) fn makes_signatures(&self) -> bool {
        self.signs() && !matches!(self.public.kind, PublicKind::SymCipher { .. })
    }

    /// The private key, if this is a loaded pair on a curve.
    pub(super) fn ecc(&self) -> Option<&PrivateKey> {
        match self.private.as_ref()?.material {
            Material::Ecc(ref key) => Some(key),
            Material::Rsa(_) | Material::Data(_) => None,
        }
    }

    /// The private key, if this is a loaded RSA pair.
    pub(super) fn rsa(&self) -> Option<&rsa::PrivateKey> {
        match self.private.as_ref()?.material {
            Material::Rsa(ref key) => Some(key),
            Material::Ecc(_) | Material::Data(_) => None,
        }
    }

    /// The data, if this is a loaded KEYEDHASH or SYMCIPHER object.
    pub(super) fn data(&self) -> Option<&[u8]> {
        match self.private.as_ref()?.material {
            Material::Data(ref data) => Some(data),
            Material::Ecc(_) | Material::Rsa(_) => None,
        }
    }

    /// Whether the key can have children, and how they are protected: a restricted decryption key with a
    /// cipher, all of it loaded and not from outside (Part 1, 23.3).
    pub(super) fn parent(&self) -> Option<Protector<'_>> {
        use ObjectAttributes as A;
        let Some(Symmetric::Aes { bits: key_bits, .. }) = create::symmetric(&self.public) else {
            return None;
        };
        let stores = self.has(A::RESTRICTED.with(A::DECRYPT)) && !self.signs() && !self.external;
        let seed = &self.private.as_ref()?.seed;
        let name_alg = self.public.name_alg?;
        stores.then_some(Protector { name_alg, key_bits, seed })
    }

    /// Whether objects can be derived from the key, and from what: a restricted KEYEDHASH that decrypts, which is
    /// loaded and not from outside (Part 1, 28.2).
    pub(super) fn derivation(&self) -> Option<(bulla_tpm_types::HashAlg, &[u8])> {
        use ObjectAttributes as A;
        let PublicKind::KeyedHash { scheme: bulla_tpm_types::KeyedHashScheme::Xor { hash, .. }, .. } = self.public.kind
        else {
            return None;
        };
        let derives = self.has(A::RESTRICTED.with(A::DECRYPT)) && !self.signs() && !self.external;
        Some((hash, self.data().filter(|_| derives)?))
    }
}

/// The Qualified Name of an object: of its Name and its parent's Qualified Name (Part 1, 16); empty when the
/// object has no Name.
pub(super) fn qualified_name(public: &Public, parent: &[u8], name: &Name) -> Name {
    let Some(alg) = public.name_alg else {
        return Name::EMPTY;
    };
    let digest = hash::digest(alg, &[parent, name]);
    Name::new(&bulla_tpm_types::Marshal::to_vec(&digest)).unwrap_or_default()
}

/// What a slot holds.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a sequence lives in the box of its object")]
pub(super) enum Kind {
    Key(Box<Key>),
    Sequence(Sequence),
}

/// An object in a slot.
#[derive(Clone)]
pub(super) struct Object {
    /// What it is.
    pub(super) kind: Kind,
    /// Its authValue.
    pub(super) auth: AuthValue,
}

impl Object {
    /// The key, if it is one.
    pub(super) fn key(&self) -> Option<&Key> {
        match &self.kind {
            Kind::Key(key) => Some(key),
            Kind::Sequence(_) => None,
        }
    }

    /// The object's Name; a sequence has none.
    pub(super) fn name(&self) -> Name {
        self.key().map_or(Name::EMPTY, |k| k.name)
    }

    /// Whether it is a key of one of some hierarchies.
    fn is_of(&self, hierarchies: impl Fn(Handle) -> bool) -> bool {
        self.key().is_some_and(|k| hierarchies(k.hierarchy))
    }

    /// Whether wrong authorizations count towards lockout.
    pub(super) fn is_da_protected(&self) -> bool {
        self.key().is_some_and(|k| !k.has(ObjectAttributes::NO_DA))
    }
}

/// The slots, and the persistent objects. A slot's number is the transient handle's offset.
#[derive(Default)]
pub(super) struct Objects {
    slots: [Option<Box<Object>>; SLOTS],
    persistent: BTreeMap<Handle, Box<Object>>,
}

impl Objects {
    /// Power was lost: transient objects are gone.
    pub(super) fn forget_transient(&mut self) {
        self.slots = Default::default();
    }

    /// Removes the keys of some hierarchies, persistent ones, too.
    pub(super) fn clear(&mut self, gone: impl Fn(Handle) -> bool) {
        self.flush(&gone);
        self.persistent.retain(|_, o| !o.is_of(&gone));
    }

    /// Flushes the transient keys of some hierarchies.
    pub(super) fn flush(&mut self, gone: impl Fn(Handle) -> bool) {
        for slot in &mut self.slots {
            if slot.as_deref().is_some_and(|o| o.is_of(&gone)) {
                *slot = None;
            }
        }
    }

    /// Whether a slot is free; otherwise TPM_RC_OBJECT_MEMORY.
    pub(super) fn has_room(&self) -> Result<(), Rc> {
        if self.slots.iter().any(Option::is_none) { Ok(()) } else { Err(rc::OBJECT_MEMORY) }
    }

    /// How many slots are free.
    pub(super) fn free(&self) -> usize {
        self.slots.iter().filter(|s| s.is_none()).count()
    }

    /// Puts an object in the first free slot.
    pub(super) fn insert(&mut self, object: Object) -> Result<Handle, Rc> {
        let (n, slot) = (0..).zip(self.slots.iter_mut()).find(|(_, s)| s.is_none()).ok_or(rc::OBJECT_MEMORY)?;
        *slot = Some(Box::new(object));
        Ok(Handle(rh::TRANSIENT_FIRST.0 + n))
    }

    /// Puts an object in the slot of a handle; false when it is not free or there is none.
    pub(super) fn put(&mut self, handle: Handle, object: Object) -> bool {
        match slot(handle).and_then(|n| self.slots.get_mut(n)) {
            Some(place @ None) => {
                *place = Some(Box::new(object));
                true
            }
            _ => false,
        }
    }

    /// The object of a handle.
    pub(super) fn get(&self, handle: Handle) -> Option<&Object> {
        match handle.handle_type() {
            ht::PERSISTENT => self.persistent.get(&handle).map(|o| &**o),
            _ => self.slots.get(slot(handle)?)?.as_deref(),
        }
    }

    /// The object of a transient handle, to be changed.
    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Object> {
        self.slots.get_mut(slot(handle)?)?.as_deref_mut()
    }

    /// Takes the object of a transient handle out of its slot.
    pub(super) fn remove(&mut self, handle: Handle) -> Option<Box<Object>> {
        self.slots.get_mut(slot(handle)?)?.take()
    }

    /// The handles of loaded objects, in ascending order.
    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        (rh::TRANSIENT_FIRST.0..).zip(&self.slots).filter(|(_, s)| s.is_some()).map(|(h, _)| Handle(h))
    }

    /// The handles of persistent objects, in ascending order.
    pub(super) fn persistent(&self) -> impl Iterator<Item = Handle> + '_ {
        self.persistent.keys().copied()
    }

    /// Makes a copy of an object persistent: TPM_RC_NV_DEFINED when the handle is taken, TPM_RC_NV_SPACE when
    /// there is no room.
    pub(super) fn persist(&mut self, handle: Handle, object: Object) -> Result<(), Rc> {
        if self.persistent.contains_key(&handle) {
            return Err(rc::NV_DEFINED);
        }
        if self.persistent.len() >= PERSISTENT {
            return Err(rc::NV_SPACE);
        }
        self.persistent.insert(handle, Box::new(object));
        Ok(())
    }

    /// Removes a persistent object; false when there is none.
    pub(super) fn evict(&mut self, handle: Handle) -> bool {
        self.persistent.remove(&handle).is_some()
    }

    /// The key of a handle: TPM_RC_KEY for a sequence, TPM_RC_HANDLE for an empty slot.
    pub(super) fn key(&self, handle: Handle) -> Result<&Key, Rc> {
        self.get(handle).ok_or(rc::HANDLE)?.key().ok_or(rc::KEY)
    }
}

fn slot(handle: Handle) -> Option<usize> {
    usize::try_from(handle.0.checked_sub(rh::TRANSIENT_FIRST.0)?).ok()
}
