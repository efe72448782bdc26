//! Duplication (Part 3, 13; Part 1, 23.3): Duplicate, Rewrap and Import, and the policy for it (Part 3, 23.15).
//!
//! A duplicate has up to two wrappers. The inner one is encryption with a key that both sides know, over the sensitive
//! area and a digest of it; the outer one is a storage key's protection of its children, with a seed that is shared
//! with the new parent instead of the parent's own.

use alloc::vec::Vec;

use bulla_tpm_types::{
    Digest, Handle, HashAlg, Name, ObjectAttributes as A, Public, PublicKind, Rc, Reader, Symmetric, Writer, cc, hash,
    rc, rh,
};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::object::{MAX_PRIVATE, MAX_SECRET, credential_protector, is_bound, protect_child, public};
use super::policy::session;
use crate::Tpm;
use crate::create;
use crate::crypto::{AES_BLOCK, Direction, aes_cfb};
use crate::dispatch::Call;
use crate::object::{Key, Private};
use crate::protect::{Iv, Sensitive, put_sensitive, sensitive_type};
use crate::secret::AuthValue;
use crate::selftest::TestSet;
use crate::session::Fixed;
use crate::sharing::{self, Purpose};

/// TPM2B_DATA, which holds the inner wrapper's key.
const MAX_INNER_KEY: usize = 66;

/// Octets of an inner wrapper's key; `None` for TPM_ALG_NULL, which is no wrapper.
fn key_size(symmetric: Symmetric) -> Option<usize> {
    match symmetric {
        Symmetric::Aes { bits, .. } => Some(usize::from(bits / 8)),
        Symmetric::Null => None,
    }
}

impl Tpm {
    /// Sees that what these commands do with keys has been tested.
    fn require_for(&mut self, call: &Call<'_, '_>) -> Result<(), Rc> {
        let own = |handle: &Handle| self.objects.key(*handle).map_or(TestSet::default(), |k| TestSet::of(&k.public));
        let tests = call.handles.iter().map(own).fold(TestSet::default(), |all, own| all | own);
        self.require(tests | TestSet::BANKS | TestSet::DRBG | TestSet::ECDSA | TestSet::AES)
    }

    /// Puts the outer wrapper for a new parent around `inner`; answers that and what the parent opens it with.
    fn wrap_outer(&mut self, parent: Handle, name: &Name, inner: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Rc> {
        if parent == rh::NULL {
            return Ok((inner.to_vec(), Vec::new()));
        }
        let key = self.objects.key(parent)?;
        let (seed, shared) = sharing::share(&mut self.random, key, Purpose::Duplicate)?;
        let protector = credential_protector(key, &seed).ok_or(rc::TYPE)?;
        Ok((protector.wrap(name, None, inner)?, shared))
    }

    /// Whether a key, or TPM_RH_NULL, can be the new parent of a duplicate: TPM_RC_TYPE for others. Its public area
    /// is enough.
    fn check_new_parent(&self, parent: Handle) -> Result<(), Rc> {
        let fits =
            parent == rh::NULL || self.objects.key(parent).is_ok_and(|key| credential_protector(key, &[]).is_some());
        if fits { Ok(()) } else { Err(rc::TYPE.handle(2)) }
    }
}

/// Takes the outer wrapper off; the wrapper's errors are of a parameter of this number.
fn unwrap_outer(key: &Key, name: &Name, seed: &[u8], blob: &[u8], number: usize) -> Result<Zeroizing<Vec<u8>>, Rc> {
    let protector = credential_protector(key, seed).ok_or(rc::TYPE.handle(1))?;
    protector.unwrap(name, Iv::Zero, blob).map_err(|e| e.parameter(number))
}

/// Puts the inner wrapper around a TPM2B_SENSITIVE: encryption of its digest and of itself, with an IV of zeros, for
/// the key is used once.
fn wrap_inner(alg: HashAlg, key: &[u8], name: &Name, sensitive: &[u8]) -> Result<Vec<u8>, Rc> {
    let mut w = Writer::from_vec(Vec::with_capacity(MAX_PRIVATE));
    w.put(&hash::digest(alg, &[sensitive, name]).digest());
    w.bytes(sensitive);
    let mut data = w.into_vec();
    if aes_cfb(key, &[0; AES_BLOCK], &mut data, Direction::Encrypt).is_none() {
        data.zeroize();
        return Err(rc::FAILURE);
    }
    Ok(data)
}

/// Takes the inner wrapper off.
///
/// # Errors
/// TPM_RC_INTEGRITY when this is not what was wrapped with that key under that Name; TPM_RC_SIZE or
/// TPM_RC_INSUFFICIENT when it does not have the form.
fn unwrap_inner(alg: HashAlg, key: &[u8], name: &Name, data: &[u8]) -> Result<Zeroizing<Vec<u8>>, Rc> {
    let mut data = Zeroizing::new(data.to_vec());
    aes_cfb(key, &[0; AES_BLOCK], &mut data, Direction::Decrypt).ok_or(rc::SIZE)?;
    let mut r = Reader::new(&data);
    let integrity = r.get::<Digest>().map_err(|e| e.rc())?;
    let sensitive = r.rest();
    let want = hash::digest(alg, &[sensitive, name]);
    if !bool::from(want.as_bytes().ct_eq(&integrity)) {
        return Err(rc::INTEGRITY);
    }
    Ok(Zeroizing::new(sensitive.to_vec()))
}

/// TPM2_Duplicate (13.1).
pub(crate) fn duplicate(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (inner_key, symmetric) =
        call.params(|p| Ok((p.tpm2b(MAX_INNER_KEY, "encryptionKeyIn")?, p.get::<Symmetric>()?)))?;
    tpm.require_for(call)?;
    let object = tpm.objects.get(call.handle(1)).ok_or(rc::HANDLE.handle(1))?;
    let key = object.key().ok_or(rc::TYPE.handle(1))?;
    if key.has(A::FIXED_PARENT) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    let alg = key.public.name_alg.ok_or(rc::TYPE.handle(1))?;
    let new_parent = call.handle(2);
    tpm.check_new_parent(new_parent)?;
    if key.has(A::ENCRYPTED_DUPLICATION) {
        if symmetric == Symmetric::Null {
            return Err(rc::SYMMETRIC.parameter(2));
        }
        if new_parent == rh::NULL {
            return Err(rc::HIERARCHY.handle(2));
        }
    }
    let size = key_size(symmetric).unwrap_or(0);
    if !inner_key.is_empty() && inner_key.len() != size {
        return Err(rc::SIZE.parameter(1));
    }

    let name = key.name;
    let private = key.private.as_ref().ok_or(rc::AUTH_UNAVAILABLE)?;
    let mut plain = Writer::from_vec(Vec::with_capacity(MAX_PRIVATE));
    put_sensitive(&mut plain, sensitive_type(&key.public.kind), &object.auth.padded(alg.size()), private);
    let plain = Zeroizing::new(plain.into_vec());
    // A key of the TPM's own, when the caller leaves it to the TPM; only such a one is answered.
    let mut made = Zeroizing::new(alloc::vec![0; if inner_key.is_empty() { size } else { 0 }]);
    tpm.random.generate(&mut made);
    let inner = if size == 0 {
        plain
    } else {
        let key = if made.is_empty() { inner_key } else { &made };
        Zeroizing::new(wrap_inner(alg, key, &name, &plain)?)
    };
    let (blob, seed) = tpm.wrap_outer(new_parent, &name, &inner)?;
    let out = call.out();
    out.tpm2b(&made);
    out.tpm2b(&blob);
    out.tpm2b(&seed);
    Ok(())
}

/// TPM2_Rewrap (13.2): another outer wrapper, by who can open the first.
pub(crate) fn rewrap(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (blob, name, seed) = call.params(|p| {
        Ok((p.tpm2b(MAX_PRIVATE, "TPM2B_PRIVATE")?, p.get::<Name>()?, p.tpm2b(MAX_SECRET, "TPM2B_ENCRYPTED_SECRET")?))
    })?;
    tpm.require_for(call)?;
    let (old_parent, new_parent) = (call.handle(1), call.handle(2));
    if seed.is_empty() != (old_parent == rh::NULL) {
        return Err(rc::HANDLE.handle(1));
    }
    let inner = if old_parent == rh::NULL {
        Zeroizing::new(blob.to_vec())
    } else {
        let key = tpm.objects.key(old_parent).map_err(|_| rc::TYPE.handle(1))?;
        credential_protector(key, &[]).ok_or(rc::TYPE.handle(1))?;
        // Whatever is wrong with the seed is its value (Part 3, 13.2).
        let opened = sharing::open(&mut tpm.random, key, Purpose::Duplicate, seed);
        unwrap_outer(key, &name, &opened.map_err(|_| rc::VALUE.parameter(3))?, blob, 1)?
    };
    tpm.check_new_parent(new_parent)?;
    let (blob, seed) = tpm.wrap_outer(new_parent, &name, &inner)?;
    if blob.len() > MAX_PRIVATE {
        return Err(rc::VALUE.parameter(1));
    }
    let out = call.out();
    out.tpm2b(&blob);
    out.tpm2b(&seed);
    Ok(())
}

/// TPM2_Import (13.3).
pub(crate) fn import(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (inner_key, public, blob, seed, symmetric) = call.params(|p| {
        Ok((
            p.tpm2b(MAX_INNER_KEY, "encryptionKey")?,
            p.with(public)?,
            p.tpm2b(MAX_PRIVATE, "TPM2B_PRIVATE")?,
            p.tpm2b(MAX_SECRET, "TPM2B_ENCRYPTED_SECRET")?,
            p.get::<Symmetric>()?,
        ))
    })?;
    tpm.require_for(call)?;
    if public.attributes.intersects(A::FIXED_TPM.with(A::FIXED_PARENT)) {
        return Err(rc::ATTRIBUTES.parameter(2));
    }
    let parent = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    let protector = parent.parent().ok_or(rc::TYPE.handle(1))?;
    if inner_key.len() != key_size(symmetric).unwrap_or(0) {
        return Err(rc::SIZE.parameter(1));
    }
    // encryptedDuplication asks for both wrappers.
    let encrypted = public.attributes.contains(A::ENCRYPTED_DUPLICATION);
    if encrypted && symmetric == Symmetric::Null {
        return Err(rc::ATTRIBUTES.parameter(1));
    }
    if encrypted && seed.is_empty() {
        return Err(rc::ATTRIBUTES.parameter(4));
    }
    // What is symmetric shares no secrets.
    if !seed.is_empty() && matches!(parent.public.kind, PublicKind::SymCipher { .. }) {
        return Err(rc::TYPE.handle(1));
    }
    let alg = public.name_alg.ok_or(rc::HASH.parameter(2))?;
    let name = public.name();
    let outer = match seed {
        [] => Zeroizing::new(blob.to_vec()),
        seed => {
            let opened = sharing::open(&mut tpm.random, parent, Purpose::Duplicate, seed);
            unwrap_outer(parent, &name, &opened.map_err(|e| e.parameter(4))?, blob, 3)?
        }
    };
    let plain = match inner_key {
        [] => outer,
        key => unwrap_inner(alg, key, &name, &outer).map_err(|e| e.parameter(3))?,
    };
    let (auth, private) = sensitive(&public, &plain)?;
    let key =
        Key { public, name, qualified_name: Name::EMPTY, hierarchy: parent.hierarchy, private: None, external: false };
    let wrapped = protect_child(&protector, &mut tpm.random, &key, &private, &auth)?;
    call.out().tpm2b(&wrapped);
    Ok(())
}

/// The sensitive area of an imported object, which is checked as if it were loaded.
fn sensitive(public: &Public, plain: &[u8]) -> Result<(AuthValue, Private), Rc> {
    let mut r = Reader::new(plain);
    // Nothing tells how long a blob without wrappers is but its own size.
    let size = r.u16("TPM2B_SENSITIVE").map_err(|e| e.rc().parameter(3))?;
    if usize::from(size) != r.remaining() {
        return Err(rc::SIZE.parameter(3));
    }
    let sensitive = Sensitive::unmarshal(&mut r).map_err(|e| e.rc().parameter(3))?;
    if !r.is_empty() {
        return Err(rc::SIZE.parameter(3));
    }
    create::check_public(public).map_err(|e| e.parameter(2))?;
    let private = sensitive.private(&public.kind, public.name_alg).map_err(|e| e.parameter(3))?;
    if is_bound(public, &private) { Ok((sensitive.auth, private)) } else { Err(rc::BINDING.parameter(2)) }
}

/// TPM2_PolicyDuplicationSelect (23.15): where the object may be duplicated to, and which one if that is said.
pub(crate) fn policy_duplication_select(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (object, parent, include) =
        call.params(|p| Ok((p.get::<Name>()?, p.get::<Name>()?, p.yes_no("includeObject")?)))?;
    let session = session(tpm, call, 1)?;
    if session.policy.fixed != Fixed::Nothing {
        return Err(rc::CPHASH);
    }
    if session.policy.command.is_some() {
        return Err(rc::COMMAND_CODE);
    }
    session.policy.fixed = Fixed::NameHash(hash::digest(session.hash, &[&object, &parent]).digest());
    session.policy.command = Some(cc::DUPLICATE);
    let named: &[u8] = if include { &object } else { &[] };
    session.extend_policy(cc::POLICY_DUPLICATION_SELECT, &[named, &parent, &[u8::from(include)]]);
    Ok(())
}
