//! Object commands (Part 3, 12): Create, Load, LoadExternal, ReadPublic, Unseal and credentials.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bulla_tpm_types::{
    Data, Derive, Digest, Error, Handle, HashAlg, Label, Marshal, Name, ObjectAttributes as A, PcrSelectionList,
    Public, PublicKind, Rc, Reader, SensitiveCreate, Symmetric, Unmarshal, Writer, rc, rh,
};
use zeroize::Zeroizing;

use super::hierarchy;
use crate::Tpm;
use crate::create::{self, Parent};
use crate::derive;
use crate::dispatch::Call;
use crate::drbg::Drbg;
use crate::ecc;
use crate::object::{Key, Kind, Material, Object, Private, Protector, qualified_name};
use crate::protect::{Iv, Sensitive, put_sensitive, sensitive_type};
use crate::rsa;
use crate::secret::{AuthValue, MAX_DIGEST};
use crate::selftest::TestSet;
use crate::sharing::{self, Purpose};
use crate::table::is_hierarchy;

/// The largest TPM2B_PRIVATE that is accepted; those made here are smaller.
pub(super) const MAX_PRIVATE: usize = 1024;
/// The largest TPM2B_TEMPLATE that is accepted: more than any template has.
const MAX_TEMPLATE: usize = 1024;
/// The largest TPM2B_ENCRYPTED_SECRET.
pub(super) const MAX_SECRET: usize = 512;
/// The largest TPM2B_ID_OBJECT: an integrity value and an encrypted TPM2B_DIGEST.
const MAX_ID_OBJECT: usize = 2 + 64 + 2 + 64;

/// TPM2B_PUBLIC.
pub(super) fn public(r: &mut Reader<'_>) -> Result<Public, Error> {
    r.sized("TPM2B_PUBLIC", Public::unmarshal)
}

/// The TPM2B_PRIVATE of a child (Part 1, 22.4).
pub(super) fn protect_child(
    protector: &Protector<'_>,
    random: &mut Drbg,
    key: &Key,
    private: &Private,
    auth: &AuthValue,
) -> Result<Vec<u8>, Rc> {
    let mut plain = Writer::from_vec(Vec::with_capacity(MAX_PRIVATE));
    let auth = auth.padded(key.public.name_alg.map_or(0, HashAlg::size));
    put_sensitive(&mut plain, sensitive_type(&key.public.kind), &auth, private);
    let plain = Zeroizing::new(plain.into_vec());
    protector.wrap(&key.name, Some(random), &plain)
}

impl Tpm {
    /// Makes a child of a storage key; answers it and its TPM2B_PRIVATE. The parameters of the sensitive area and of
    /// the template are the first and the second.
    fn make_child(
        &mut self,
        parent: Handle,
        sensitive: &SensitiveCreate<'_>,
        template: &Public,
    ) -> Result<(Key, Vec<u8>), Rc> {
        let own = template.name_alg.map_or(TestSet::default(), TestSet::hash);
        self.require(TestSet::of(template) | TestSet::BANKS | own | TestSet::DRBG | TestSet::ECDSA | TestSet::AES)?;
        let parent = self.objects.key(parent).map_err(|_| rc::TYPE.handle(1))?;
        let protector = parent.parent().ok_or(rc::TYPE.handle(1))?;
        let name_alg = create::check_template(template, Some(&parent.public), !sensitive.data.is_empty())
            .map_err(|e| e.parameter(2))?;
        if sensitive.user_auth.len() > name_alg.size() {
            return Err(rc::SIZE.parameter(1));
        }
        let (public, private) =
            create::make(&mut self.random, self.cancel.as_deref(), template, name_alg, sensitive.data)
                .map_err(|e| e.parameter(1))?;
        let name = public.name();
        let key = Key {
            qualified_name: qualified_name(&public, &parent.qualified_name, &name),
            public,
            name,
            hierarchy: parent.hierarchy,
            private: None,
            external: false,
        };
        let auth = AuthValue::new(sensitive.user_auth);
        let wrapped = protect_child(&protector, &mut self.random, &key, &private, &auth)?;
        Ok((Key { private: Some(private), ..key }, wrapped))
    }

    /// Derives an object from a derivation parent. The label and the context are in the template, or in the
    /// sensitive data where the template has none.
    fn derive_child(&mut self, parent: Handle, sensitive: &SensitiveCreate<'_>, template: &[u8]) -> Result<Key, Rc> {
        let mut r = Reader::new(template);
        let (template, mut derive) = Public::unmarshal_derived(&mut r).map_err(|e| e.rc().parameter(2))?;
        if !r.is_empty() {
            return Err(rc::SIZE.parameter(2));
        }
        let name_alg = template.name_alg.ok_or(rc::HASH.parameter(2))?;
        if sensitive.user_auth.len() > name_alg.size() {
            return Err(rc::SIZE.parameter(1));
        }
        if matches!(template.kind, PublicKind::Rsa { .. }) {
            return Err(rc::TYPE.parameter(2));
        }
        self.require(TestSet::BANKS | TestSet::hash(name_alg) | TestSet::DRBG | TestSet::ECDSA | TestSet::AES)?;
        let parent = self.objects.key(parent).map_err(|_| rc::TYPE.handle(1))?;
        let from = parent.derivation().ok_or(rc::TYPE.handle(1))?;
        let fits = derive::fits_parent(&template, &parent.public);
        if !fits || !create::fits_parent(&template, Some(&parent.public)) {
            return Err(rc::ATTRIBUTES.parameter(2));
        }
        create::check_public(&template).map_err(|e| e.parameter(2))?;
        create::check_storage(&template, &parent.public).map_err(|e| e.parameter(2))?;
        if !sensitive.data.is_empty() {
            let given: Derive = Reader::new(sensitive.data).get().map_err(|e| e.rc().parameter(1))?;
            let or = |own: Label, given: Label| if own.is_empty() { given } else { own };
            derive = Derive { label: or(derive.label, given.label), context: or(derive.context, given.context) };
        }
        let (public, private) = derive::make(from, &derive, &template, name_alg).map_err(|e| e.parameter(2))?;
        let name = public.name();
        let qualified_name = qualified_name(&public, &parent.qualified_name, &name);
        let hierarchy = parent.hierarchy;
        Ok(Key { public, name, qualified_name, hierarchy, private: Some(private), external: false })
    }
}

/// TPM2_CreateLoaded (12.9).
pub(crate) fn create_loaded(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (sensitive, template) = call.params(|p| {
        Ok((
            p.with(|r| r.sized("TPM2B_SENSITIVE_CREATE", SensitiveCreate::unmarshal))?,
            p.tpm2b(MAX_TEMPLATE, "TPM2B_TEMPLATE")?,
        ))
    })?;
    let parent = call.handle(1);
    // What the template has in it depends on the parent.
    let derives = tpm.objects.get(parent).and_then(Object::key).is_some_and(|key| key.derivation().is_some());
    let read = || {
        let public = Public::from_bytes(template).map_err(|e| e.rc().parameter(2))?;
        let most = public.name_alg.map_or(MAX_DIGEST, HashAlg::size);
        let fits = AuthValue::new(sensitive.user_auth).as_bytes().len() <= most;
        if fits { Ok(public) } else { Err(rc::SIZE.parameter(1)) }
    };
    let (key, private) = if is_hierarchy(parent) {
        tpm.objects.has_room()?;
        (tpm.make_primary(parent, &sensitive, &read()?)?.1, Vec::new())
    } else if derives {
        tpm.objects.has_room()?;
        (tpm.derive_child(parent, &sensitive, template)?, Vec::new())
    } else {
        tpm.objects.key(parent).ok().and_then(Key::parent).ok_or(rc::TYPE.handle(1))?;
        tpm.objects.has_room()?;
        tpm.make_child(parent, &sensitive, &read()?)?
    };
    let (public, name) = (key.public, key.name);
    let object = Object { kind: Kind::Key(Box::new(key)), auth: AuthValue::new(sensitive.user_auth) };
    call.answer_handle(tpm.objects.insert(object)?);
    let out = call.out();
    out.tpm2b(&private);
    out.sized(|w| w.put(&public));
    out.put(&name);
    Ok(())
}

/// TPM2_Create (12.1).
pub(crate) fn create(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (sensitive, template, outside_info, creation_pcr) = call.params(|p| {
        Ok((
            p.with(|r| r.sized("TPM2B_SENSITIVE_CREATE", SensitiveCreate::unmarshal))?,
            p.with(public)?,
            p.get::<Data>()?,
            p.get::<PcrSelectionList>()?,
        ))
    })?;
    let (child, private) = tpm.make_child(call.handle(1), &sensitive, &template)?;
    let (public, name) = (child.public, child.name);
    let name_alg = public.name_alg.ok_or(rc::HASH.parameter(2))?;
    let parent = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    let parent = Parent {
        name_alg: parent.public.name_alg,
        name: parent.name,
        qualified_name: parent.qualified_name,
        hierarchy: parent.hierarchy,
    };
    let creation = tpm.creation((name_alg, &name), &parent, call.locality, outside_info, &creation_pcr);
    let out = call.out();
    out.tpm2b(&private);
    out.sized(|w| w.put(&public));
    out.sized(|w| w.put(&creation.data));
    out.put(&creation.hash);
    out.put(&creation.ticket);
    Ok(())
}

/// Whether a public and a sensitive area belong together.
pub(super) fn is_bound(public: &Public, private: &Private) -> bool {
    match (&public.kind, &private.material, public.name_alg) {
        // The modulus was divided by the prime.
        (PublicKind::Rsa { .. }, Material::Rsa(_), _) => true,
        (PublicKind::Ecc { parms, unique }, Material::Ecc(key), _) => key.is_of(parms.curve, unique),
        (
            PublicKind::KeyedHash { unique, .. } | PublicKind::SymCipher { unique, .. },
            Material::Data(data),
            Some(alg),
        ) => create::symmetric_unique(public, alg, &private.seed, data) == *unique,
        // Without a Name nothing has been said about the object that it could differ from.
        (_, _, alg) => alg.is_none(),
    }
}

/// TPM2_Load (12.2).
pub(crate) fn load(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (blob, public) = call.params(|p| Ok((p.tpm2b(MAX_PRIVATE, "TPM2B_PRIVATE")?, p.with(public)?)))?;
    tpm.objects.has_room()?;
    if blob.is_empty() {
        return Err(rc::SIZE.parameter(1));
    }
    let name_alg = public.name_alg.ok_or(rc::HASH.parameter(2))?;
    tpm.require(TestSet::of(&public) | TestSet::hash(name_alg) | TestSet::DRBG | TestSet::ECDSA | TestSet::AES)?;
    let parent = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    let protector = parent.parent().ok_or(rc::TYPE.handle(1))?;
    let name = public.name();
    let plain = protector.unwrap(&name, Iv::Fresh, blob).map_err(|e| e.parameter(1))?;
    if !create::fits_parent(&public, Some(&parent.public)) {
        return Err(rc::ATTRIBUTES.parameter(2));
    }
    create::check_public(&public).map_err(|e| e.parameter(2))?;
    create::check_storage(&public, &parent.public).map_err(|e| e.parameter(2))?;
    let sensitive =
        Reader::new(&plain).sized("TPM2B_SENSITIVE", Sensitive::unmarshal).map_err(|e| e.rc().parameter(1))?;
    let private = sensitive.private(&public.kind, public.name_alg).map_err(|e| e.parameter(1))?;
    if !is_bound(&public, &private) {
        return Err(rc::BINDING.parameter(2));
    }
    let key = Key {
        qualified_name: qualified_name(&public, &parent.qualified_name, &name),
        public,
        name,
        hierarchy: parent.hierarchy,
        private: Some(private),
        external: false,
    };
    let handle = tpm.objects.insert(Object { kind: Kind::Key(Box::new(key)), auth: sensitive.auth })?;
    call.answer_handle(handle);
    call.out().put(&name);
    Ok(())
}

/// TPM2_LoadExternal (12.3).
pub(crate) fn load_external(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (sensitive, public, hierarchy) = call.params(|p| {
        let sensitive = p.with(|r| {
            // TPM2B_SENSITIVE may be empty.
            if r.rest().starts_with(&[0, 0]) {
                return r.u16("TPM2B_SENSITIVE").map(|_| None);
            }
            r.sized("TPM2B_SENSITIVE", Sensitive::unmarshal).map(Some)
        })?;
        Ok((sensitive, p.with(public)?, p.with(hierarchy)?))
    })?;
    if !tpm.hierarchies.is_enabled(hierarchy) {
        return Err(rc::HIERARCHY.parameter(3));
    }
    tpm.objects.has_room()?;
    tpm.require(TestSet::of(&public) | public.name_alg.map_or(TestSet::default(), TestSet::hash) | TestSet::ECDSA)?;
    if sensitive.is_some() {
        // A sensitive area that was outside can be in no hierarchy that vouches for it.
        if hierarchy != rh::NULL {
            return Err(rc::HIERARCHY.parameter(3));
        }
        if public.attributes.intersects(A::FIXED_TPM.with(A::FIXED_PARENT).with(A::RESTRICTED)) {
            return Err(rc::ATTRIBUTES.parameter(2));
        }
    }
    match &public.kind {
        // A pair is checked below: its point is its private key's.
        PublicKind::Ecc { .. } if sensitive.is_some() => {}
        PublicKind::Ecc { parms, unique } if ecc::full(parms.curve, unique) != Some(*unique) => {
            return Err(rc::KEY.parameter(2));
        }
        PublicKind::Ecc { parms, unique } if !ecc::is_on_curve(parms.curve, unique) => {
            return Err(rc::ECC_POINT.parameter(2));
        }
        _ => {}
    }
    // Of what only verifies or encrypts, or has no Name, nothing has to be true but that it can be used.
    let check =
        if sensitive.is_none() || public.name_alg.is_none() { create::check_schemes } else { create::check_public };
    check(&public).map_err(|e| e.parameter(2))?;
    if let PublicKind::Rsa { parms, unique } = &public.kind {
        rsa::PublicKey::new(parms, unique).ok_or(rc::KEY.parameter(2))?;
    }
    let (auth, private) = match sensitive {
        Some(s) => {
            let private = s.private(&public.kind, public.name_alg).map_err(|e| e.parameter(1))?;
            (s.auth, Some(private))
        }
        None => (AuthValue::default(), None),
    };
    let unique = match &public.kind {
        PublicKind::KeyedHash { unique, .. } | PublicKind::SymCipher { unique, .. } => unique.len(),
        _ => public.name_alg.map_or(0, HashAlg::size),
    };
    if public.name_alg.is_some_and(|alg| alg.size() != unique) {
        return Err(rc::KEY.parameter(2));
    }
    if private.as_ref().is_some_and(|p| !is_bound(&public, p)) {
        return Err(rc::BINDING.parameter(2));
    }
    let name = public.name();
    // It is of no parent, so its Qualified Name is its Name.
    let key = Key { public, name, qualified_name: name, hierarchy, private, external: true };
    let handle = tpm.objects.insert(Object { kind: Kind::Key(Box::new(key)), auth })?;
    call.answer_handle(handle);
    call.out().put(&name);
    Ok(())
}

/// TPM2_ReadPublic (12.4).
pub(crate) fn read_public(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let object = tpm.objects.get(call.handle(1)).ok_or(rc::HANDLE.handle(1))?;
    let key = object.key().ok_or(rc::SEQUENCE)?;
    let out = call.out();
    out.sized(|w| w.put(&key.public));
    out.put(&key.name);
    out.put(&key.qualified_name);
    Ok(())
}

/// TPM2_Unseal (12.7).
pub(crate) fn unseal(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    if !matches!(key.public.kind, PublicKind::KeyedHash { .. }) {
        return Err(rc::TYPE.handle(1));
    }
    if key.public.attributes.intersects(A::SIGN.with(A::DECRYPT).with(A::RESTRICTED)) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    let data = key.data().ok_or(rc::TYPE.handle(1))?;
    call.out().tpm2b(data);
    Ok(())
}

/// What protects a credential for the owner of this key: a restricted decryption key pair (Part 1, 24).
pub(super) fn credential_protector<'a>(key: &Key, seed: &'a [u8]) -> Option<Protector<'a>> {
    let symmetric = match &key.public.kind {
        PublicKind::Rsa { parms, .. } => parms.symmetric,
        PublicKind::Ecc { parms, .. } => parms.symmetric,
        PublicKind::KeyedHash { .. } | PublicKind::SymCipher { .. } => return None,
    };
    let Symmetric::Aes { bits: key_bits, .. } = symmetric else {
        return None;
    };
    let decrypts = key.has(A::RESTRICTED.with(A::DECRYPT));
    Some(Protector { name_alg: key.public.name_alg.filter(|_| decrypts)?, key_bits, seed })
}

/// TPM2_ActivateCredential (12.5).
pub(crate) fn activate_credential(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (blob, secret) = call
        .params(|p| Ok((p.tpm2b(MAX_ID_OBJECT, "TPM2B_ID_OBJECT")?, p.tpm2b(MAX_SECRET, "TPM2B_ENCRYPTED_SECRET")?)))?;
    tpm.require(TestSet::BANKS | TestSet::ECDSA | TestSet::AES)?;
    let key = tpm.objects.key(call.handle(2)).map_err(|_| rc::TYPE.handle(2))?;
    credential_protector(key, &[]).ok_or(rc::TYPE.handle(2))?;
    let seed = sharing::open(&mut tpm.random, key, Purpose::Identity, secret).map_err(|e| e.parameter(2))?;
    let name = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?.name;
    let protector = credential_protector(key, &seed).ok_or(rc::TYPE.handle(2))?;
    let plain = protector.unwrap(&name, Iv::Zero, blob).map_err(|e| e.parameter(1))?;
    let credential = Digest::from_bytes(&plain).map_err(|e| e.rc().parameter(1))?;
    call.out().put(&credential);
    Ok(())
}

/// TPM2_MakeCredential (12.6).
pub(crate) fn make_credential(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (credential, name) = call.params(|p| Ok((p.get::<Digest>()?, p.get::<Name>()?)))?;
    tpm.require(TestSet::BANKS | TestSet::DRBG | TestSet::ECDSA | TestSet::AES)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    let alg = credential_protector(key, &[]).ok_or(rc::TYPE.handle(1))?.name_alg;
    if credential.len() > alg.size() {
        return Err(rc::SIZE.parameter(1));
    }
    let (seed, shared) = sharing::share(&mut tpm.random, key, Purpose::Identity)?;
    let protector = credential_protector(key, &seed).ok_or(rc::TYPE.handle(1))?;
    let blob = protector.wrap(&name, None, &Zeroizing::new(Marshal::to_vec(&credential)))?;
    let out = call.out();
    out.tpm2b(&blob);
    out.tpm2b(&shared);
    Ok(())
}

/// TPM2_ObjectChangeAuth (12.8): a TPM2B_PRIVATE with another authValue; the loaded object keeps its own.
pub(crate) fn object_change_auth(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let auth = call.params(|p| p.tpm2b(MAX_DIGEST, "newAuth"))?;
    tpm.require(TestSet::BANKS | TestSet::DRBG | TestSet::AES)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    if AuthValue::new(auth).as_bytes().len() > key.public.name_alg.map_or(MAX_DIGEST, HashAlg::size) {
        return Err(rc::SIZE.parameter(1));
    }
    let parent = tpm.objects.key(call.handle(2)).map_err(|_| rc::TYPE.handle(2))?;
    let is_child = qualified_name(&key.public, &parent.qualified_name, &key.name) == key.qualified_name;
    let protector = parent.parent().filter(|_| is_child && !key.external).ok_or(rc::TYPE.handle(2))?;
    let private = key.private.as_ref().ok_or(rc::AUTH_UNAVAILABLE)?;
    let wrapped = protect_child(&protector, &mut tpm.random, key, private, &AuthValue::new(auth))?;
    call.out().tpm2b(&wrapped);
    Ok(())
}
