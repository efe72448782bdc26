//! Keys and points on P-256, and secrets that are shared by ECDH (Part 1, Annex C).

use bulla_tpm_types::{EccParameter, EccPoint, PublicKind, Rc, Unmarshal, rc};
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::sec1::{FromSec1Point, ToSec1Point};
use p256::{FieldBytes, PublicKey, Sec1Point};
use zeroize::Zeroizing;

use super::crypto::kdfe;
use super::drbg::Drbg;
use super::object::Key;
use super::secret::Secret;

/// Octets of a coordinate and of a private key.
pub(super) const FIELD: usize = 32;

/// What a shared secret is for: it separates the keys that come of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The salt of a session.
    Salt,
    /// The protection of a credential.
    Identity,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::Salt => "SECRET",
            Self::Identity => "IDENTITY",
        }
    }
}

/// A private key from a generator: its first output that is in [1, n-1] (FIPS 186-5, A.2.2). `None` cannot happen
/// short of a defect.
pub(super) fn generate(random: &mut Drbg) -> Option<SigningKey> {
    /// Each candidate fails with a chance of 2^-32.
    const CANDIDATES: usize = 16;
    let mut candidate = Zeroizing::new([0; FIELD]);
    (0..CANDIDATES).find_map(|_| {
        random.generate(&mut *candidate);
        SigningKey::from_slice(&*candidate).ok()
    })
}

/// The public point of a private key.
pub(super) fn point_of(key: &SigningKey) -> Option<EccPoint> {
    to_point(&key.verifying_key().to_sec1_point(false))
}

fn to_point(point: &Sec1Point) -> Option<EccPoint> {
    Some(EccPoint { x: EccParameter::new(point.x()?)?, y: EccParameter::new(point.y()?)? })
}

/// The public key of a point; `None` when it is not on the curve.
pub(super) fn public_key(point: &EccPoint) -> Option<PublicKey> {
    let (x, y) = (padded(&point.x)?, padded(&point.y)?);
    PublicKey::from_sec1_point(&Sec1Point::from_affine_coordinates(&x, &y, false)).into_option()
}

/// A coordinate in its full length.
fn padded(coordinate: &[u8]) -> Option<FieldBytes> {
    let mut field = FieldBytes::default();
    let start = FIELD.checked_sub(coordinate.len())?;
    field.get_mut(start..)?.copy_from_slice(coordinate);
    Some(field)
}

/// The product of a private key and a public point: Z of ECDH (SP 800-56A, 5.7.1.2).
pub(super) fn multiply(key: &SigningKey, point: &PublicKey) -> Option<EccPoint> {
    let product = point.to_projective() * **key.as_nonzero_scalar();
    to_point(&product.to_affine().to_sec1_point(false))
}

/// What a caller has shared with a decryption key: `secret` is a TPM2B_ENCRYPTED_SECRET's contents, the caller's
/// ephemeral point (Part 1, C.6.1). Answers as many octets as the key's Name has.
///
/// # Errors
/// TPM_RC_ECC_POINT for a point that is not on the curve, TPM_RC_KEY for a key that shares no secrets, and those
/// of unmarshalling.
pub(super) fn open(key: &Key, purpose: Purpose, secret: &[u8]) -> Result<Secret, Rc> {
    let PublicKind::Ecc { unique, .. } = &key.public.kind else {
        return Err(rc::KEY);
    };
    let (private, alg) = (key.ecc().ok_or(rc::KEY)?, key.public.name_alg.ok_or(rc::KEY)?);
    let ephemeral = EccPoint::from_bytes(secret).map_err(|e| e.rc())?;
    let z = public_key(&ephemeral).and_then(|point| multiply(private, &point)).ok_or(rc::ECC_POINT)?;
    Ok(derive(alg, &z, purpose, &ephemeral, unique))
}

/// The other side of [`open`]: a fresh secret for a public key, and what its owner needs to know of it.
pub(super) fn share(random: &mut Drbg, key: &Key, purpose: Purpose) -> Result<(Secret, EccPoint), Rc> {
    let PublicKind::Ecc { unique, .. } = &key.public.kind else {
        return Err(rc::KEY);
    };
    let alg = key.public.name_alg.ok_or(rc::KEY)?;
    let public = public_key(unique).ok_or(rc::ECC_POINT)?;
    let private = generate(random).ok_or(rc::FAILURE)?;
    let ephemeral = point_of(&private).ok_or(rc::FAILURE)?;
    let z = multiply(&private, &public).ok_or(rc::ECC_POINT)?;
    Ok((derive(alg, &z, purpose, &ephemeral, unique), ephemeral))
}

fn derive(
    alg: bulla_tpm_types::HashAlg,
    z: &EccPoint,
    purpose: Purpose,
    ephemeral: &EccPoint,
    fixed: &EccPoint,
) -> Secret {
    let mut secret = Secret::new(alloc::vec![0; alg.size()].into());
    // Coordinates in their full length, however the caller wrote them (Part 1, C.8).
    let full = |c: &EccParameter| padded(c).unwrap_or_default();
    kdfe(alg, &z.x, purpose.label(), &full(&ephemeral.x), &full(&fixed.x), &mut secret);
    secret
}

/// An ECDSA signature of its two numbers; `None` when one is not in [1, n-1].
pub(super) fn signature(r: &EccParameter, s: &EccParameter) -> Option<p256::ecdsa::Signature> {
    p256::ecdsa::Signature::from_scalars(padded(r)?, padded(s)?).ok()
}
