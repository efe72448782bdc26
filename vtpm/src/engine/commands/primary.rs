//! CreatePrimary (Part 3, 24.1).

use bulla_tpm_types::{
    AsymScheme, CreationData, Data, EccParameter, EccParms, EccPoint, Handle, HashAlg, KdfScheme, Locality, Marshal,
    Name, ObjectAttributes, PcrSelectionList, Public, PublicKind, Rc, SensitiveCreate, Symmetric, TkCreation,
    Unmarshal, alg, ecc, hash, rc, st,
};
use p256::ecdsa::SigningKey;
use zeroize::Zeroizing;

use super::super::Tpm;
use super::super::crypto::hmac;
use super::super::dispatch::Call;
use super::super::drbg::Drbg;
use super::super::object::{Key, Kind, Object};
use super::super::pcr::Pcrs;
use super::super::secret::{AuthValue, INTEGRITY_HASH};
use super::super::selftest::TestSet;

/// What separates primary keys from everything else that derives from a seed.
///
/// The derivation is frozen: every endorsement key that anyone ever trusted depends on it.
const LABEL: &[u8] = b"bulla primary object 1";

/// TPM2_CreatePrimary.
pub(in super::super) fn create_primary(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (sensitive, template, outside_info, creation_pcr) = call.params(|p| {
        Ok((
            p.with(|r| r.sized("TPM2B_SENSITIVE_CREATE", SensitiveCreate::unmarshal))?,
            p.with(|r| r.sized("TPM2B_PUBLIC", Public::unmarshal))?,
            p.get::<Data>()?,
            p.get::<PcrSelectionList>()?,
        ))
    })?;
    tpm.objects.has_room()?;
    let (name_alg, parms) = check_template(&template).map_err(|e| e.parameter(2))?;
    // sensitiveDataOrigin is set, so the caller has no data to give.
    if !sensitive.data.is_empty() {
        return Err(rc::ATTRIBUTES.parameter(2));
    }
    if sensitive.user_auth.len() > name_alg.size() {
        return Err(rc::SIZE.parameter(1));
    }
    tpm.require(TestSet::BANKS | TestSet::hash(name_alg) | TestSet::DRBG | TestSet::ECDSA)?;

    let hierarchy = call.handle(1);
    let Some((key, ticket_key)) = tpm
        .hierarchies
        .get(hierarchy)
        .and_then(|h| Some((derive(&h.seed[..], &template, name_alg, parms, hierarchy)?, &h.proof)))
    else {
        // The handle was checked, and the generator answers keys: neither can happen in a healthy TPM.
        tpm.fail();
        return Err(rc::FAILURE);
    };

    let pcr_select = Pcrs::filter(&creation_pcr);
    let parent_name = Name::new(&hierarchy.to_vec()).unwrap_or_default();
    let creation_data = CreationData {
        pcr_select,
        pcr_digest: tpm.pcrs.digest(name_alg, &pcr_select),
        locality: Locality::of(call.locality).unwrap_or_default(),
        parent_name_alg: None,
        parent_name,
        parent_qualified_name: parent_name,
        outside_info,
    };
    let creation_hash = hash::digest(name_alg, &[&creation_data.to_vec()]).digest();
    // TPMT_TK_CREATION (Part 2, 10.7.3).
    let tag = st::CREATION.to_be_bytes();
    let ticket = hmac(INTEGRITY_HASH, &ticket_key[..], &[&tag, &key.name, &creation_hash]).digest();

    let (public, name) = (key.public, key.name);
    let handle = tpm.objects.insert(Object { kind: Kind::Key(key), auth: AuthValue::new(sensitive.user_auth) })?;
    call.answer_handle(handle);
    let out = call.out();
    out.sized(|w| w.put(&public));
    out.sized(|w| w.put(&creation_data));
    out.put(&creation_hash);
    out.put(&TkCreation { tag: st::CREATION, hierarchy, digest: ticket });
    out.put(&name);
    Ok(())
}

/// Checks what the public area of a primary key may be (Part 1, 25 and 27; Part 3, 12.1 "CreateChecks").
fn check_template(public: &Public) -> Result<(HashAlg, EccParms), Rc> {
    use ObjectAttributes as A;
    let name_alg = public.name_alg.ok_or(rc::HASH)?;
    let PublicKind::Ecc { parms, .. } = &public.kind else {
        return Err(rc::TYPE);
    };
    if parms.curve != ecc::NIST_P256 {
        return Err(rc::CURVE);
    }
    if !public.auth_policy.is_empty() && public.auth_policy.len() != name_alg.size() {
        return Err(rc::SIZE);
    }
    let a = public.attributes;
    let (sign, decrypt, restricted) = (a.contains(A::SIGN), a.contains(A::DECRYPT), a.contains(A::RESTRICTED));
    // A primary object's parent is the hierarchy, which is fixed to the TPM.
    let fixed = a.contains(A::FIXED_TPM) == a.contains(A::FIXED_PARENT);
    let duplicated = a.contains(A::ENCRYPTED_DUPLICATION) && a.contains(A::FIXED_TPM);
    let useless = !sign && !decrypt;
    let torn = restricted && sign && decrypt;
    let x509 = a.contains(A::X509_SIGN) && !sign;
    if !fixed || duplicated || useless || torn || x509 || !a.contains(A::SENSITIVE_DATA_ORIGIN) {
        return Err(rc::ATTRIBUTES);
    }

    // Restricted decryption keys are parents: they need a cipher for their children, the others have none.
    let is_parent = restricted && decrypt;
    match (is_parent, parms.symmetric) {
        (false, Symmetric::Null) | (true, Symmetric::Aes { mode: alg::CFB, .. }) => {}
        (true, Symmetric::Aes { .. }) => return Err(rc::MODE),
        _ => return Err(rc::SYMMETRIC),
    }
    let scheme_fits = match parms.scheme {
        AsymScheme::Null => !(restricted && sign),
        AsymScheme::Ecdsa(_) => sign && !decrypt,
        AsymScheme::Ecdh(_) => decrypt && !sign && !restricted,
        _ => false,
    };
    if !scheme_fits {
        return Err(rc::SCHEME);
    }
    if parms.kdf != KdfScheme::Null {
        return Err(rc::KDF);
    }
    Ok((name_alg, *parms))
}

/// Derives the key of a template from a hierarchy's primary seed (Part 1, 27.7.4 and Annex B.6).
///
/// An HMAC_DRBG is instantiated from the seed, a label and the template's Name; the private key is the first
/// 32-octet output that is in [1, n-1] (FIPS 186-5, A.2.2). `None` cannot happen short of a defect.
fn derive(seed: &[u8], template: &Public, name_alg: HashAlg, parms: EccParms, hierarchy: Handle) -> Option<Key> {
    /// Each candidate fails with a chance of 2^-32.
    const CANDIDATES: usize = 16;
    let mut drbg = Drbg::new(&[seed, LABEL, &template.name()]);
    let mut candidate = Zeroizing::new([0; 32]);
    let private = (0..CANDIDATES).find_map(|_| {
        drbg.generate(&mut *candidate);
        SigningKey::from_slice(&*candidate).ok()
    })?;

    let point = private.verifying_key().to_sec1_point(false);
    let unique = EccPoint { x: EccParameter::new(point.x()?)?, y: EccParameter::new(point.y()?)? };
    let public = Public { kind: PublicKind::Ecc { parms, unique }, ..*template };
    let name = public.name();
    // Part 1, 26.5: the Qualified Name of a primary object is over the hierarchy's handle.
    let qualified = hash::digest(name_alg, &[&hierarchy.to_vec(), &name]);
    let qualified_name = Name::new(&qualified.to_vec())?;
    Some(Key { public, name, qualified_name, hierarchy, private })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_tpm_types::templates;

    fn derived(template: &Public) -> Key {
        let PublicKind::Ecc { parms, .. } = template.kind else { unreachable!("the templates are of P-256 keys") };
        derive(&[0x5a; 64], template, HashAlg::Sha256, parms, bulla_tpm_types::rh::ENDORSEMENT).expect("a key")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Frozen: the values were computed by another implementation (of the DRBG and of P-256, in
    /// Python). A change here takes every existing endorsement key away from its owner.
    #[test]
    fn primary_keys_of_a_seed_are_for_ever() {
        let ek = derived(&templates::ek_p256());
        assert_eq!(hex(&ek.private.to_bytes()), "97d8d00187a5105c4a5cb08e114b19fae727994f193d818e6530a337bf54c7ce");
        assert_eq!(hex(&ek.name), "000b4c60286c67558406074420332cfe47cfedc0597eb1b9c4d885c32ab672739354");
        assert_eq!(hex(&ek.qualified_name), "000b7a282b35e6d94dc1a989d16ffd0b5398531cbc4ae8d0911d8ef7353a69150640");
        let ak = derived(&templates::ak_p256());
        assert_eq!(hex(&ak.private.to_bytes()), "eee5a23c04303651a15261fd77be92b22b6ae6fa5ad97c7035ae191058f27af8");
        assert_eq!(hex(&ak.name), "000b6ec2fc13ece358220bca895f56fd228df74ec8d10e5f9872ef98bd0688a03477");
    }

    #[test]
    fn another_unique_field_makes_another_key() {
        let mut other = templates::ak_p256();
        if let PublicKind::Ecc { unique, .. } = &mut other.kind {
            unique.x = EccParameter::new(&[1]).expect("fits");
        }
        assert_ne!(derived(&other).name, derived(&templates::ak_p256()).name);
    }
}
