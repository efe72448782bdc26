//! Signing and verification (Part 3, 20), and the choice of the scheme for all that signs.

use bulla_tpm_types::{
    AsymScheme, Digest, Error, ErrorKind, Ha, Handle, HashAlg, KeyedHashScheme, ObjectAttributes as A, PublicKind, Rc,
    Reader, Signature, SignatureValue, rc, rh, st,
};
use subtle::ConstantTimeEq;

use super::policy_auth::Ticket;
use crate::Tpm;
use crate::crypto::hmac;
use crate::dispatch::Call;
use crate::ecc;
use crate::object::Key;
use crate::rsa;
use crate::selftest::TestSet;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SigScheme {
    /// A scheme of a key pair, over a digest of this algorithm.
    Asymmetric(AsymScheme, HashAlg),
    /// An HMAC of this algorithm.
    Hmac(HashAlg),
}

impl SigScheme {
    /// A scheme of a key pair, if it is one that signs.
    fn asymmetric(scheme: AsymScheme) -> Option<Self> {
        scheme.hash().filter(|_| scheme.is_signing()).map(|hash| Self::Asymmetric(scheme, hash))
    }

    /// The hash algorithm.
    pub(super) fn hash(self) -> HashAlg {
        match self {
            Self::Asymmetric(_, h) | Self::Hmac(h) => h,
        }
    }

    /// Whether the scheme keeps secret which key has signed, and needs the count of a commitment.
    pub(super) fn is_anonymous(self) -> bool {
        matches!(self, Self::Asymmetric(AsymScheme::Ecdaa { .. }, _))
    }

    /// Whether two schemes are the same, whatever the count of their commitment.
    fn agrees(self, other: Self) -> bool {
        (self.is_anonymous() && other.is_anonymous() && self.hash() == other.hash()) || self == other
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
        scheme => match SigScheme::asymmetric(scheme) {
            Some(scheme) => Ok(Some(scheme)),
            None => Err(at.error(ErrorKind::Scheme, "TPMI_ALG_SIG_SCHEME")),
        },
    }
}

/// The scheme to sign with: the key's own, or the caller's if the key has none; `None` when the two do not agree
/// or the key cannot sign so (Part 3, 18.1). A scheme of the wrong type for the key is never chosen.
pub(super) fn select(key: &Key, wanted: Option<SigScheme>) -> Option<SigScheme> {
    let of_pair = |scheme| match scheme {
        AsymScheme::Null => Some(None),
        scheme => SigScheme::asymmetric(scheme).map(Some),
    };
    let own = match &key.public.kind {
        PublicKind::Ecc { parms, .. } => of_pair(parms.scheme)?,
        PublicKind::Rsa { parms, .. } => of_pair(parms.scheme)?,
        PublicKind::KeyedHash { scheme, .. } => match scheme {
            KeyedHashScheme::Hmac(h) => Some(SigScheme::Hmac(*h)),
            KeyedHashScheme::Null => None,
            KeyedHashScheme::Xor { .. } => return None,
        },
        PublicKind::SymCipher { .. } => return None,
    };
    let scheme = match (own, wanted) {
        // The count has to come from the caller.
        (Some(own), None) if own.is_anonymous() => return None,
        (Some(own), Some(wanted)) if !own.agrees(wanted) => return None,
        (own, wanted) => wanted.or(own)?,
    };
    let of_type = match (&key.public.kind, scheme) {
        (PublicKind::Ecc { .. }, SigScheme::Asymmetric(scheme, _)) => {
            matches!(scheme, AsymScheme::Ecdsa(_) | AsymScheme::Ecdaa { .. } | AsymScheme::EcSchnorr(_))
        }
        (PublicKind::Rsa { .. }, SigScheme::Asymmetric(scheme, _)) => {
            matches!(scheme, AsymScheme::Rsassa(_) | AsymScheme::Rsapss(_))
        }
        (PublicKind::KeyedHash { .. }, SigScheme::Hmac(_)) => true,
        _ => false,
    };
    of_type.then_some(scheme)
}

impl Tpm {
    /// Signs a digest with a loaded key, by a scheme that [`select`] chose for it.
    ///
    /// # Errors
    /// TPM_RC_VALUE when no commitment has the scheme's count; TPM_RC_NO_RESULT for an RSA key that is none. A key that cannot sign is a defect: TPM_RC_FAILURE, and
    /// the TPM is in failure mode.
    pub(super) fn sign(&mut self, handle: Handle, scheme: SigScheme, digest: &[u8]) -> Result<Signature, Rc> {
        let key = self.objects.key(handle)?;
        let signed = match scheme {
            SigScheme::Hmac(hash) => {
                key.data().map(|secret| Signature::Hmac(hmac(hash, secret, &[digest]))).ok_or(rc::FAILURE)
            }
            SigScheme::Asymmetric(scheme, hash) => match (key.ecc(), key.rsa()) {
                (Some(private), _) => {
                    ecc::sign(private, (&mut self.random, &mut self.commitments), scheme, &key.name, digest)
                        .map(|value| Signature::Signed { hash, value })
                }
                (_, Some(private)) => {
                    rsa::sign(&mut self.random, private, scheme, digest).map(|value| Signature::Signed { hash, value })
                }
                (None, None) => Err(rc::FAILURE),
            },
        };
        signed.inspect_err(|e| {
            if *e == rc::FAILURE {
                self.fail();
            }
        })
    }
}

/// TPMT_SIGNATURE, of a scheme that this TPM has.
pub(super) fn signature(r: &mut Reader<'_>) -> Result<Signature, Error> {
    let at = r.clone();
    match r.get()? {
        Signature::Null => Err(at.error(ErrorKind::Scheme, "TPMI_ALG_SIG_SCHEME")),
        signature => Ok(signature),
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
        Signature::Signed { hash, value } => {
            let scheme = match value {
                SignatureValue::Rsassa(_) => AsymScheme::Rsassa(*hash),
                SignatureValue::Rsapss(_) => AsymScheme::Rsapss(*hash),
                SignatureValue::Ecdsa { .. } => AsymScheme::Ecdsa(*hash),
                SignatureValue::EcSchnorr { .. } => AsymScheme::EcSchnorr(*hash),
                // Who may verify it has more than the TPM's public key.
                SignatureValue::Ecdaa { .. } => return Err(rc::SCHEME),
            };
            SigScheme::Asymmetric(scheme, *hash)
        }
    };
    select(key, Some(wanted)).ok_or(rc::SCHEME)?;
    let good = match (signature, &key.public.kind) {
        (Signature::Signed { value: SignatureValue::Ecdsa { r, s }, .. }, PublicKind::Ecc { parms, unique }) => {
            ecc::verify(parms.curve, unique, digest.as_bytes(), r, s)
        }
        (Signature::Signed { hash, value: SignatureValue::EcSchnorr { r, s } }, PublicKind::Ecc { parms, unique }) => {
            ecc::verify_schnorr(parms.curve, unique, *hash, digest.as_bytes(), r, s)
        }
        (Signature::Signed { hash, value }, PublicKind::Rsa { parms, unique }) => {
            let public = rsa::PublicKey::new(parms, unique).ok_or(rc::SIGNATURE)?;
            rsa::verify(&public, *hash, digest.as_bytes(), value)
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
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::ATTRIBUTES.handle(1))?;
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
    if !key.makes_signatures() {
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
    let signature = tpm.sign(call.handle(1), scheme, &digest)?;
    call.out().put(&signature);
    Ok(())
}
