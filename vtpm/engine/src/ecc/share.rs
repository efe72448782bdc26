//! Secrets that are shared by ECDH (Part 1, C.6.1).

use bulla_tpm_types::{EccPoint, HashAlg, PublicKind, Rc, Unmarshal, rc};

use super::PrivateKey;
use crate::crypto::kdfe;
use crate::drbg::Drbg;
use crate::object::Key;
use crate::secret::Secret;

/// What a shared secret is for: it separates the keys that come of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The salt of a session.
    Salt,
    /// The protection of a credential.
    Identity,
    /// The outer wrapper of a duplicate.
    Duplicate,
}

impl Purpose {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Salt => "SECRET",
            Self::Identity => "IDENTITY",
            Self::Duplicate => "DUPLICATE",
        }
    }
}

/// What a caller has shared with a decryption key: `secret` is a TPM2B_ENCRYPTED_SECRET's contents, the caller's
/// ephemeral point. Answers as many octets as the key's Name has.
///
/// # Errors
/// TPM_RC_ECC_POINT for a point that is not on the curve, TPM_RC_KEY for a key that shares no secrets, and those
/// of unmarshalling.
pub(crate) fn open(key: &Key, purpose: Purpose, secret: &[u8]) -> Result<Secret, Rc> {
    let PublicKind::Ecc { parms, unique } = &key.public.kind else {
        return Err(rc::KEY);
    };
    let (private, alg) = (key.ecc().ok_or(rc::KEY)?, key.public.name_alg.ok_or(rc::KEY)?);
    let ephemeral = EccPoint::from_bytes(secret).map_err(|e| e.rc())?;
    let z = private.share(&ephemeral).ok_or(rc::ECC_POINT)?;
    derive(alg, parms.curve, &z, purpose, &ephemeral, unique)
}

/// The other side of [`open`]: a fresh secret for a public key, and what its owner needs to know of it.
pub(crate) fn share(random: &mut Drbg, key: &Key, purpose: Purpose) -> Result<(Secret, EccPoint), Rc> {
    let PublicKind::Ecc { parms, unique } = &key.public.kind else {
        return Err(rc::KEY);
    };
    let alg = key.public.name_alg.ok_or(rc::KEY)?;
    let private = PrivateKey::generate(parms.curve, random).ok_or(rc::FAILURE)?;
    let ephemeral = private.point().ok_or(rc::FAILURE)?;
    let z = private.share(unique).ok_or(rc::ECC_POINT)?;
    Ok((derive(alg, parms.curve, &z, purpose, &ephemeral, unique)?, ephemeral))
}

fn derive(
    alg: HashAlg,
    curve: u16,
    z: &EccPoint,
    purpose: Purpose,
    ephemeral: &EccPoint,
    fixed: &EccPoint,
) -> Result<Secret, Rc> {
    let mut secret = Secret::new(alloc::vec![0; alg.size()].into());
    // Coordinates in their full length, however the caller wrote them (Part 1, C.8).
    let full = |point| super::full(curve, point).ok_or(rc::ECC_POINT);
    kdfe(alg, &z.x, purpose.label(), &full(ephemeral)?.x, &full(fixed)?.x, &mut secret);
    Ok(secret)
}
