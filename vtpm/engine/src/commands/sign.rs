//! Signing and verification (Part 3, 20), and the choice of the scheme for all that signs.

use bulla_tpm_types::{
    AsymScheme, Digest, Error, ErrorKind, Ha, HashAlg, KeyedHashScheme, ObjectAttributes as A, PublicKind, Rc, Reader,
    Signature, SignatureValue, rc, rh, st,
};
use subtle::ConstantTimeEq;

use super::policy_auth::Ticket;
use crate::Tpm;
use crate::crypto::hmac;
use crate::dispatch::Call;
use crate::ecc;
use crate::object::Key;
use crate::selftest::TestSet;

/// How a key signs: the schemes this TPM has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SigScheme {
    /// ECDSA over a digest of this algorithm.
    Ecdsa(HashAlg),
    /// An HMAC of this algorithm.
    Hmac(HashAlg),
}

impl SigScheme {
    /// The hash algorithm.
    pub(super) fn hash(self) -> HashAlg {
        match self {
            Self::Ecdsa(h) | Self::Hmac(h) => h,
        }
    }
}

/// TPMT_SIG_SCHEME+ (Part 2, 11.2.1.5); `None` is TPM_ALG_NULL.
pub(super) fn sig_scheme(r: &mut Reader<'_>) -> Result<Option<SigScheme>, Error> {
    let at = r.clone();
    if r.rest().starts_with(&bulla_tpm_types::alg::HMAC.0.to_be_bytes()) {
        return match r.get()? {
            KeyedHashScheme::Hmac(h) => Ok(Some(SigScheme::Hmac(h))),
            _ => Err(at.error(ErrorKind::Scheme, "TPMI_ALG_SIG_SCHEME")),
        };
    }
    match r.get()? {
        AsymScheme::Null => Ok(None),
        AsymScheme::Ecdsa(h) => Ok(Some(SigScheme::Ecdsa(h))),
        _ => Err(at.error(ErrorKind::Scheme, "TPMI_ALG_SIG_SCHEME")),
    }
}

/// The scheme to sign with: the key's own, or the caller's if the key has none; `None` when the two do not agree
/// or the key cannot sign so (Part 3, 18.1). A scheme of the wrong type for the key is never chosen.
pub(super) fn select(key: &Key, wanted: Option<SigScheme>) -> Option<SigScheme> {
    let own = match &key.public.kind {
        PublicKind::Ecc { parms, .. } => match parms.scheme {
            AsymScheme::Ecdsa(h) => Some(SigScheme::Ecdsa(h)),
            AsymScheme::Null => None,
            _ => return None,
        },
        PublicKind::KeyedHash { scheme, .. } => match scheme {
            KeyedHashScheme::Hmac(h) => Some(SigScheme::Hmac(*h)),
            KeyedHashScheme::Null => None,
            KeyedHashScheme::Xor { .. } => return None,
        },
        _ => return None,
    };
    let scheme = match (own, wanted) {
        (Some(own), Some(wanted)) if own != wanted => return None,
        (own, wanted) => own.or(wanted)?,
    };
    let of_type = matches!(
        (&key.public.kind, scheme),
        (PublicKind::Ecc { .. }, SigScheme::Ecdsa(_)) | (PublicKind::KeyedHash { .. }, SigScheme::Hmac(_))
    );
    of_type.then_some(scheme)
}

/// Signs a digest: ECDSA with the nonce of RFC 6979, or an HMAC over the digest. `None` for a key that cannot.
pub(super) fn sign(key: &Key, scheme: SigScheme, digest: &[u8]) -> Option<Signature> {
    match scheme {
        SigScheme::Ecdsa(hash) => {
            let (r, s) = key.ecc()?.sign(digest)?;
            Some(Signature::Signed { hash, value: SignatureValue::Ecdsa { r, s } })
        }
        SigScheme::Hmac(hash) => Some(Signature::Hmac(hmac(hash, key.data()?, &[digest]))),
    }
}

/// TPMT_SIGNATURE, of a scheme that this TPM has.
pub(super) fn signature(r: &mut Reader<'_>) -> Result<Signature, Error> {
    let at = r.clone();
    match r.get()? {
        signature @ (Signature::Signed { value: SignatureValue::Ecdsa { .. }, .. } | Signature::Hmac(_)) => {
            Ok(signature)
        }
        _ => Err(at.error(ErrorKind::Scheme, "TPMI_ALG_SIG_SCHEME")),
    }
}

/// The hash algorithm of a signature.
pub(super) fn hash_of(signature: &Signature) -> Option<HashAlg> {
    match signature {
        Signature::Null => None,
        Signature::Signed { hash, .. } => Some(*hash),
        Signature::Hmac(mac) => Some(mac.alg()),
    }
}

/// Verifies a signature over a digest.
///
/// # Errors
/// TPM_RC_SIGNATURE when it is wrong, TPM_RC_SCHEME when the key cannot have made it, TPM_RC_HANDLE when only the
/// sensitive area could tell and it is not loaded.
pub(super) fn verify(key: &Key, digest: &Ha, signature: &Signature) -> Result<(), Rc> {
    let wanted = match signature {
        Signature::Null => return Err(rc::SCHEME),
        Signature::Hmac(mac) => SigScheme::Hmac(mac.alg()),
        Signature::Signed { hash, .. } => SigScheme::Ecdsa(*hash),
    };
    select(key, Some(wanted)).ok_or(rc::SCHEME)?;
    let good = match (signature, &key.public.kind) {
        (Signature::Signed { value: SignatureValue::Ecdsa { r, s }, .. }, PublicKind::Ecc { parms, unique }) => {
            ecc::verify(parms.curve, unique, digest.as_bytes(), r, s)
        }
        (Signature::Hmac(mac), PublicKind::KeyedHash { .. }) => {
            let own = hmac(mac.alg(), key.data().ok_or(rc::HANDLE)?, &[digest.as_bytes()]);
            own.as_bytes().ct_eq(mac.as_bytes()).into()
        }
        _ => return Err(rc::SCHEME),
    };
    if good { Ok(()) } else { Err(rc::SIGNATURE) }
}

/// TPM2_VerifySignature (20.1).
pub(crate) fn verify_signature(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (digest, signature) = call.params(|p| Ok((p.get::<Digest>()?, p.with(signature)?)))?;
    let alg = hash_of(&signature).ok_or(rc::SCHEME.parameter(2))?;
    tpm.require(TestSet::hash(alg) | TestSet::BANKS | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    if !key.signs() {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    // No signature is over a digest of another length.
    let digest = Ha::new(alg, &digest).ok_or(rc::SIGNATURE.parameter(2))?;
    verify(key, &digest, &signature).map_err(|e| if e == rc::HANDLE { e.handle(1) } else { e.parameter(2) })?;
    // TPMT_TK_VERIFIED (Part 2, 10.7.4): of nothing for a key in no hierarchy, or without a Name.
    let ticket = if key.hierarchy == rh::NULL || key.name.is_empty() {
        Ticket::null(st::VERIFIED)
    } else {
        tpm.ticket(st::VERIFIED, key.hierarchy, &[digest.as_bytes(), &key.name])
    };
    ticket.put(call.out());
    Ok(())
}

/// TPM2_Sign (20.2).
pub(crate) fn sign_digest(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (digest, wanted, validation) =
        call.params(|p| Ok((p.get::<Digest>()?, p.with(sig_scheme)?, p.with(|r| Ticket::read(r, &[st::HASHCHECK]))?)))?;
    tpm.require(TestSet::BANKS | TestSet::DRBG | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    if !key.signs() {
        return Err(rc::KEY.handle(1));
    }
    if key.has(A::X509_SIGN) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    let scheme = select(key, wanted).ok_or(rc::SCHEME.parameter(2))?;
    // A restricted key signs only what this TPM has hashed and found not to look like its own structures.
    if key.has(A::RESTRICTED) && !tpm.ticket_is_valid(&validation, &[&digest]) {
        return Err(rc::TICKET.parameter(3));
    }
    if digest.len() != scheme.hash().size() {
        return Err(rc::SIZE.parameter(1));
    }
    let signature = sign(key, scheme, &digest);
    match signature {
        Some(signature) => call.out().put(&signature),
        None => {
            tpm.fail();
            return Err(rc::FAILURE);
        }
    }
    Ok(())
}
