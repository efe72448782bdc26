//! What all commands that create objects have in common: checks of the template, the making of the key, and the
//! creation data (Part 1, 25 and 27; Part 3, 12.1 and 24.1).

use alloc::boxed::Box;

use bulla_tpm_types::{
    AsymScheme, CreationData, Data, Digest, EccParms, Handle, HashAlg, KdfScheme, KeyedHashScheme, Locality, Marshal,
    Name, ObjectAttributes, PcrSelectionList, Public, PublicKeyRsa, PublicKind, Rc, RsaParms, Symmetric, TkCreation,
    alg, hash, rc, st,
};

use super::Tpm;
use super::crypto::hmac;
use super::drbg::Drbg;
use super::ecc::PrivateKey;
use super::object::{Material, Private};
use super::platform::Cancel;
use super::protect::MAX_DATA;
use super::rsa;
use super::secret::{INTEGRITY_HASH, Secret};

/// Checks a template, for an object whose caller gives its sensitive data or has the TPM make it.
///
/// # Errors
/// Codes are about the template; the caller adds the number of its parameter.
pub(super) fn check_template(public: &Public, parent: Option<&Public>, data_given: bool) -> Result<HashAlg, Rc> {
    let name_alg = public.name_alg.ok_or(rc::HASH)?;
    check_attributes(public, parent, data_given)?;
    check_public(public)?;
    parent.map_or(Ok(()), |parent| check_storage(public, parent))?;
    Ok(name_alg)
}

/// Checks that a storage key which stays with its parent protects its children as the parent does (Part 3, 12.1).
pub(super) fn check_storage(public: &Public, parent: &Public) -> Result<(), Rc> {
    let stays = is_parent(public) && public.attributes.contains(ObjectAttributes::FIXED_PARENT);
    let Some(own) = symmetric(public).filter(|_| stays) else {
        return Ok(());
    };
    if public.name_alg != parent.name_alg {
        return Err(rc::HASH);
    }
    if symmetric(parent) == Some(own) { Ok(()) } else { Err(rc::SYMMETRIC) }
}

/// The cipher of a key, or for its children; a KEYEDHASH has none.
pub(super) fn symmetric(public: &Public) -> Option<Symmetric> {
    match public.kind {
        PublicKind::Rsa { parms, .. } => Some(parms.symmetric),
        PublicKind::Ecc { parms, .. } => Some(parms.symmetric),
        PublicKind::SymCipher { sym, .. } => Some(sym),
        PublicKind::KeyedHash { .. } => None,
    }
}

/// Checks the attributes of a new object (Part 1, 25 and 27.6; Part 3, 12.1 "CreateChecks").
fn check_attributes(public: &Public, parent: Option<&Public>, data_given: bool) -> Result<(), Rc> {
    use ObjectAttributes as A;
    let a = public.attributes;
    // What the caller does not give, the TPM makes; a key pair it always makes, and a restricted symmetric key that
    // stays with its parent.
    let pair = matches!(public.kind, PublicKind::Rsa { .. } | PublicKind::Ecc { .. });
    let made = pair || (a.contains(A::RESTRICTED) && a.intersects(A::FIXED_TPM.with(A::FIXED_PARENT)));
    let data_object = matches!(public.kind, PublicKind::KeyedHash { .. }) && !a.intersects(A::SIGN.with(A::DECRYPT));
    let origin = a.contains(A::SENSITIVE_DATA_ORIGIN);
    // What is given for a primary object that the TPM makes is one more thing that it derives from.
    let given = if origin { data_given && parent.is_some() } else { !data_given };
    let wrong = given || (made && !origin) || (data_object && origin);
    if wrong || !fits_parent(public, parent) { Err(rc::ATTRIBUTES) } else { Ok(()) }
}

/// Whether an object's hierarchy attributes go with its parent's; a primary object's parent is the hierarchy,
/// which is fixed to the TPM (Part 1, 25.2).
pub(super) fn fits_parent(public: &Public, parent: Option<&Public>) -> bool {
    use ObjectAttributes as A;
    let has = |bit| public.attributes.contains(bit);
    let fixed = match parent {
        Some(p) if !p.attributes.contains(A::FIXED_TPM) => {
            !has(A::FIXED_TPM) && has(A::ENCRYPTED_DUPLICATION) == p.attributes.contains(A::ENCRYPTED_DUPLICATION)
        }
        _ => has(A::FIXED_TPM) == has(A::FIXED_PARENT),
    };
    fixed && !(has(A::ENCRYPTED_DUPLICATION) && has(A::FIXED_TPM))
}

pub(super) fn is_parent(public: &Public) -> bool {
    use ObjectAttributes as A;
    public.attributes.contains(A::RESTRICTED.with(A::DECRYPT)) && !public.attributes.contains(A::SIGN)
}

/// Checks whether attributes, policy and schemes of a public area go together (Part 1, 25 and 27).
pub(super) fn check_public(public: &Public) -> Result<(), Rc> {
    use ObjectAttributes as A;
    let name_size = public.name_alg.map_or(0, HashAlg::size);
    if !public.auth_policy.is_empty() && public.auth_policy.len() != name_size {
        return Err(rc::SIZE);
    }
    let a = public.attributes;
    let (sign, decrypt, restricted) = (a.contains(A::SIGN), a.contains(A::DECRYPT), a.contains(A::RESTRICTED));
    let keyed_hash = matches!(public.kind, PublicKind::KeyedHash { .. });
    // Only a KEYEDHASH may do nothing: it is a data object, which is not restricted.
    let useless = !sign && !decrypt && (!keyed_hash || restricted);
    let torn = restricted && sign && decrypt;
    let x509 = a.contains(A::X509_SIGN) && !sign;
    if useless || torn || x509 {
        return Err(rc::ATTRIBUTES);
    }
    check_schemes(public)
}

/// Checks whether the schemes of a public area go with what its key does.
pub(super) fn check_schemes(public: &Public) -> Result<(), Rc> {
    use ObjectAttributes as A;
    let has = |bit| public.attributes.contains(bit);
    let (sign, decrypt, restricted) = (has(A::SIGN), has(A::DECRYPT), has(A::RESTRICTED));
    match &public.kind {
        PublicKind::Rsa { parms, .. } => check_rsa(parms, sign, decrypt, restricted),
        PublicKind::Ecc { parms, .. } => check_ecc(parms, sign, decrypt, restricted),
        PublicKind::KeyedHash { scheme, .. } => {
            let fits = match scheme {
                KeyedHashScheme::Null => sign == decrypt,
                KeyedHashScheme::Hmac(_) => sign && !decrypt,
                // A derivation parent derives by KDFa.
                KeyedHashScheme::Xor { kdf, .. } => decrypt && !sign && (!restricted || *kdf == alg::KDF1_SP800_108),
            };
            if fits { Ok(()) } else { Err(rc::SCHEME) }
        }
        PublicKind::SymCipher { sym, .. } => match sym {
            // What authenticates messages does not decrypt any.
            Symmetric::Aes { mode: alg::CMAC, .. } if decrypt => Err(rc::SCHEME),
            // A parent protects its children in CFB mode, whatever its own: clients leave it null, and libtpms takes any.
            Symmetric::Aes { .. } => Ok(()),
            Symmetric::Null => Err(rc::SYMMETRIC),
        },
    }
}

/// Restricted decryption keys are parents: they need a cipher for their children, the others have none.
fn check_pair_symmetric(is_parent: bool, symmetric: Symmetric) -> Result<(), Rc> {
    match (is_parent, symmetric) {
        (true, Symmetric::Aes { mode: alg::CMAC, .. }) => Err(rc::MODE),
        (false, Symmetric::Null) | (true, Symmetric::Aes { .. }) => Ok(()),
        _ => Err(rc::SYMMETRIC),
    }
}

fn check_rsa(parms: &RsaParms, sign: bool, decrypt: bool, restricted: bool) -> Result<(), Rc> {
    check_pair_symmetric(restricted && decrypt, parms.symmetric)?;
    let scheme_fits = match parms.scheme {
        AsymScheme::Null => !(restricted && sign),
        AsymScheme::Rsassa(_) | AsymScheme::Rsapss(_) => sign && !decrypt,
        AsymScheme::Rsaes | AsymScheme::Oaep(_) => decrypt && !sign && !restricted,
        _ => false,
    };
    if !scheme_fits {
        return Err(rc::SCHEME);
    }
    rsa::exponent(parms).map(drop).ok_or(rc::RANGE)
}

fn check_ecc(parms: &EccParms, sign: bool, decrypt: bool, restricted: bool) -> Result<(), Rc> {
    check_pair_symmetric(restricted && decrypt, parms.symmetric)?;
    let scheme_fits = match parms.scheme {
        AsymScheme::Null => !(restricted && sign),
        AsymScheme::Ecdsa(_) | AsymScheme::Ecdaa { .. } | AsymScheme::EcSchnorr(_) => sign && !decrypt,
        AsymScheme::Ecdh(_) => decrypt && !sign && !restricted,
        _ => false,
    };
    if !scheme_fits {
        return Err(rc::SCHEME);
    }
    if parms.kdf != KdfScheme::Null { Err(rc::KDF) } else { Ok(()) }
}

/// Makes the sensitive area of a template from a generator, and completes the public area with it (Part 1, 27.2
/// to 27.5). `data` is what the caller gives; empty for what the TPM makes.
///
/// For primary keys the order in which the generator is asked is frozen: the key, then the seed.
///
/// # Errors
/// TPM_RC_KEY_SIZE when the caller's data are no such key, TPM_RC_SIZE when they are too long; TPM_RC_CANCELED once `cancel` wants it.
pub(super) fn make(
    random: &mut Drbg,
    cancel: Option<&dyn Cancel>,
    template: &Public,
    name_alg: HashAlg,
    data: &[u8],
) -> Result<(Public, Private), Rc> {
    let bytes = |random: &mut Drbg, size: usize| {
        let mut secret = Secret::new(alloc::vec![0; size].into());
        random.generate(&mut secret);
        secret
    };
    let mut public = *template;
    if let PublicKind::Rsa { parms, unique } = &mut public.kind {
        let exponent = rsa::exponent(parms).ok_or(rc::FAILURE)?;
        let wanted = || !cancel.is_some_and(Cancel::wanted);
        let key = rsa::generate_while(random, parms.key_bits, exponent, &wanted)
            .ok_or_else(|| if wanted() { rc::FAILURE } else { rc::CANCELED })?;
        *unique = PublicKeyRsa::new(&key.modulus()).ok_or(rc::FAILURE)?;
        let seed = if is_parent(template) { bytes(random, name_alg.size()) } else { Secret::default() };
        return Ok((public, Private { seed, material: Material::Rsa(Box::new(key)) }));
    }
    if let PublicKind::Ecc { parms, unique } = &mut public.kind {
        let key = PrivateKey::generate(parms.curve, random).ok_or(rc::FAILURE)?;
        *unique = key.point().ok_or(rc::FAILURE)?;
        let seed = if is_parent(template) { bytes(random, name_alg.size()) } else { Secret::default() };
        return Ok((public, Private { seed, material: Material::Ecc(key) }));
    }
    let size = data_size(template, name_alg);
    let made = data.is_empty() || template.attributes.contains(ObjectAttributes::SENSITIVE_DATA_ORIGIN);
    if !made && matches!(template.kind, PublicKind::SymCipher { .. }) && data.len() != size {
        return Err(rc::KEY_SIZE);
    }
    if let (false, PublicKind::KeyedHash { scheme, .. }) = (made, &template.kind)
        && data.len() > most_data(*scheme)
    {
        return Err(rc::SIZE);
    }
    let data = if made { bytes(random, size) } else { Secret::new(data.into()) };
    let seed = bytes(random, name_alg.size());
    if let PublicKind::KeyedHash { unique, .. } | PublicKind::SymCipher { unique, .. } = &mut public.kind {
        *unique = symmetric_unique(template, name_alg, &seed, &data);
    }
    Ok((public, Private { seed, material: Material::Data(data) }))
}

/// The most octets of a KEYEDHASH object's data: a key is no longer than a block of its hash algorithm (Part 2, 12.3.2.3).
pub(super) fn most_data(scheme: KeyedHashScheme) -> usize {
    match scheme {
        KeyedHashScheme::Null => MAX_DATA,
        KeyedHashScheme::Hmac(hash) | KeyedHashScheme::Xor { hash, .. } => match hash {
            HashAlg::Sha1 | HashAlg::Sha256 => 64,
            HashAlg::Sha384 | HashAlg::Sha512 => 128,
        },
    }
}

/// Octets of the data that the TPM makes for a symmetric object.
pub(super) fn data_size(template: &Public, name_alg: HashAlg) -> usize {
    match &template.kind {
        PublicKind::SymCipher { sym: Symmetric::Aes { bits, .. }, .. } => usize::from(bits / 8),
        PublicKind::KeyedHash { scheme: KeyedHashScheme::Hmac(h) | KeyedHashScheme::Xor { hash: h, .. }, .. } => {
            h.size()
        }
        _ => name_alg.size(),
    }
}

/// What stands for a symmetric object in public: a digest of its obfuscation and its data (Part 1, 27.5.3.2).
///
/// For parents, storage or derivation, it is an HMAC with the obfuscation as the key.
pub(super) fn symmetric_unique(public: &Public, name_alg: HashAlg, seed: &[u8], data: &[u8]) -> Digest {
    if is_parent(public) {
        return hmac(name_alg, seed, &[data]).digest();
    }
    hash::digest(name_alg, &[seed, data]).digest()
}

/// What an object is created under: a hierarchy or a key.
pub(super) struct Parent {
    pub(super) name_alg: Option<HashAlg>,
    pub(super) name: Name,
    pub(super) qualified_name: Name,
    pub(super) hierarchy: Handle,
}

/// The proof of how an object was made.
pub(super) struct Creation {
    pub(super) data: CreationData,
    pub(super) hash: Digest,
    pub(super) ticket: TkCreation,
}

impl Tpm {
    /// Creation data, their digest and the ticket (Part 3, 12.1; Part 2, 10.7.3).
    pub(super) fn creation(
        &self,
        (name_alg, name): (HashAlg, &Name),
        parent: &Parent,
        locality: u8,
        outside_info: Data,
        pcrs: &PcrSelectionList,
    ) -> Creation {
        let pcr_select = self.pcrs.filter(pcrs);
        let data = CreationData {
            pcr_select,
            pcr_digest: self.pcrs.digest(name_alg, &pcr_select),
            locality: Locality::of(locality).unwrap_or_default(),
            parent_name_alg: parent.name_alg,
            parent_name: parent.name,
            parent_qualified_name: parent.qualified_name,
            outside_info,
        };
        let hash = hash::digest(name_alg, &[&data.to_vec()]).digest();
        let proof: &[u8] = self.hierarchies.get(parent.hierarchy).map_or(&[], |h| &h.proof[..]);
        let tag = st::CREATION.to_be_bytes();
        let digest = hmac(INTEGRITY_HASH, proof, &[&tag, name, &hash]).digest();
        Creation { data, hash, ticket: TkCreation { tag: st::CREATION, hierarchy: parent.hierarchy, digest } }
    }
}
