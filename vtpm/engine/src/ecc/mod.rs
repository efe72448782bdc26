//! Keys and points on elliptic curves (Part 1, Annex C).
//!
//! A curve is named by its TPM_ECC_CURVE; what does not know a curve answers `None` or false. Numbers and coordinates
//! are accepted with and without their leading zeros, and given in their full length.

mod commit;
mod group;
mod known;
mod schnorr;
mod share;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bulla_tpm_types::{AsymScheme, EccParameter, EccPoint, HashAlg, Rc, SignatureValue, ecc, rc};
use ecdsa::elliptic_curve::SecretKey;
use p256::NistP256;
use p384::NistP384;
use p521::NistP521;
use zeroize::Zeroizing;

pub(crate) use commit::Commitments;
pub(crate) use known::self_test;
pub(crate) use share::{Purpose, open, share};

use super::drbg::Drbg;

/// The curves that keys can be on, in ascending order.
pub(crate) const CURVES: [u16; 3] = [ecc::NIST_P256, ecc::NIST_P384, ecc::NIST_P521];

/// A private key. It is zeroized when it is dropped. Its public point is computed when it is asked for: a key that comes
/// back from a context is not in need of it.
#[derive(Clone)]
pub(crate) enum PrivateKey {
    /// On TPM_ECC_NIST_P256.
    P256(SecretKey<NistP256>),
    /// On TPM_ECC_NIST_P384.
    P384(SecretKey<NistP384>),
    /// On TPM_ECC_NIST_P521.
    P521(SecretKey<NistP521>),
}

/// Does the same with a key of any curve.
macro_rules! with_key {
    ($private:expr, $key:ident => $does:expr) => {
        match $private {
            PrivateKey::P256($key) => $does,
            PrivateKey::P384($key) => $does,
            PrivateKey::P521($key) => $does,
        }
    };
}

/// Does the same on the curve of this identifier; `None` when there is no such curve.
macro_rules! on_curve {
    ($id:expr, $curve:ident => $does:expr) => {
        match $id {
            ecc::NIST_P256 => {
                type $curve = NistP256;
                $does
            }
            ecc::NIST_P384 => {
                type $curve = NistP384;
                $does
            }
            ecc::NIST_P521 => {
                type $curve = NistP521;
                $does
            }
            _ => None,
        }
    };
}

impl PrivateKey {
    /// A private key from a generator, by the frozen rule of [`group::generate`].
    pub(crate) fn generate(curve: u16, random: &mut Drbg) -> Option<Self> {
        match curve {
            ecc::NIST_P256 => group::generate(random).map(Self::P256),
            ecc::NIST_P384 => group::generate(random).map(Self::P384),
            ecc::NIST_P521 => group::generate(random).map(Self::P521),
            _ => None,
        }
    }

    /// A private key in octets; `None` when it is not in [1, n-1].
    pub(crate) fn from_bytes(curve: u16, number: &[u8]) -> Option<Self> {
        match curve {
            ecc::NIST_P256 => group::private(number).map(Self::P256),
            ecc::NIST_P384 => group::private(number).map(Self::P384),
            ecc::NIST_P521 => group::private(number).map(Self::P521),
            _ => None,
        }
    }

    /// The key in octets, in its full length.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        with_key!(self, key => Zeroizing::new(Zeroizing::new(key.to_bytes()).to_vec()))
    }

    /// The public point.
    pub(crate) fn point(&self) -> Option<EccPoint> {
        with_key!(self, key => group::public(key))
    }

    /// Whether this is the key's public point.
    pub(crate) fn is_of(&self, curve: u16, point: &EccPoint) -> bool {
        self.curve() == curve && self.point().is_some_and(|own| full(curve, point) == Some(own))
    }

    /// The curve.
    pub(crate) fn curve(&self) -> u16 {
        match self {
            Self::P256(_) => ecc::NIST_P256,
            Self::P384(_) => ecc::NIST_P384,
            Self::P521(_) => ecc::NIST_P521,
        }
    }

    /// The product of the key and a point: Z of ECDH; `None` when the point is not on the key's curve.
    pub(crate) fn multiply(&self, point: &EccPoint) -> Option<EccPoint> {
        with_key!(self, key => group::multiply(key, point))
    }

    /// [`multiply`](Self::multiply) for a point that two parties share and nobody else may know.
    pub(crate) fn share(&self, point: &EccPoint) -> Option<SharedPoint> {
        self.multiply(point).map(|z| SharedPoint(Box::new(z)))
    }
}

/// Z of ECDH, on the heap so that moving it leaves no copy behind. Wiped when it is dropped.
pub(crate) struct SharedPoint(Box<EccPoint>);

impl core::ops::Deref for SharedPoint {
    type Target = EccPoint;

    fn deref(&self) -> &EccPoint {
        &self.0
    }
}

impl Drop for SharedPoint {
    fn drop(&mut self) {
        *self.0 = EccPoint::default();
        // A point has no pointers to look behind, so this write is all; it must not be left out as one that nobody reads.
        zeroize::optimization_barrier(&*self.0);
    }
}

/// Signs a digest, with what a scheme may need: a generator, the commitments of the TPM and the key's Name.
///
/// # Errors
/// TPM_RC_VALUE when no commitment has the scheme's count, TPM_RC_FAILURE for a scheme that does not sign.
pub(crate) fn sign(
    key: &PrivateKey,
    (random, commitments): (&mut Drbg, &mut Commitments),
    scheme: AsymScheme,
    name: &[u8],
    digest: &[u8],
) -> Result<SignatureValue, Rc> {
    match scheme {
        AsymScheme::Ecdsa(_) => {
            let (r, s) = with_key!(key, key => group::sign(key, digest)).ok_or(rc::FAILURE)?;
            Ok(SignatureValue::Ecdsa { r, s })
        }
        AsymScheme::EcSchnorr(alg) => {
            let (r, s) = with_key!(key, key => schnorr::sign(key, random, alg, digest)).ok_or(rc::FAILURE)?;
            Ok(SignatureValue::EcSchnorr { r, s })
        }
        AsymScheme::Ecdaa { hash, count } => {
            let committed = commitments.open(count, key.curve(), name).ok_or(rc::VALUE)?;
            let signed = match (key, &committed) {
                (PrivateKey::P256(key), PrivateKey::P256(k)) => schnorr::sign_committed(key, k, random, hash, digest),
                (PrivateKey::P384(key), PrivateKey::P384(k)) => schnorr::sign_committed(key, k, random, hash, digest),
                (PrivateKey::P521(key), PrivateKey::P521(k)) => schnorr::sign_committed(key, k, random, hash, digest),
                _ => None,
            };
            let (r, s) = signed.ok_or(rc::FAILURE)?;
            commitments.end(count);
            Ok(SignatureValue::Ecdaa { r, s })
        }
        _ => Err(rc::FAILURE),
    }
}

/// Whether a point is on a curve.
pub(crate) fn is_on_curve(curve: u16, point: &EccPoint) -> bool {
    on_curve!(curve, C => group::point::<C>(point).map(drop)).is_some()
}

/// A point with its coordinates in their full length; `None` when they are longer than the curve's.
pub(crate) fn full(curve: u16, point: &EccPoint) -> Option<EccPoint> {
    let full = |c: &EccParameter| on_curve!(curve, C => EccParameter::new(&group::padded::<C>(c)?));
    Some(EccPoint { x: full(&point.x)?, y: full(&point.y)? })
}

/// Whether r and s are an ECDSA signature of a digest by the owner of a public point.
pub(crate) fn verify(curve: u16, key: &EccPoint, digest: &[u8], r: &EccParameter, s: &EccParameter) -> bool {
    on_curve!(curve, C => group::verify::<C>(key, digest, r, s)).is_some()
}

/// Whether r and s are an EC Schnorr signature of a digest by the owner of a public point.
pub(crate) fn verify_schnorr(
    curve: u16,
    key: &EccPoint,
    alg: HashAlg,
    digest: &[u8],
    r: &EccParameter,
    s: &EccParameter,
) -> bool {
    on_curve!(curve, C => schnorr::verify::<C>(key, alg, digest, r, s)).is_some()
}

/// A number modulo the prime of a curve.
pub(crate) fn coordinate(curve: u16, number: &[u8]) -> Option<EccParameter> {
    on_curve!(curve, C => group::coordinate::<C>(number))
}

/// The domain parameters of a curve (SP 800-186, 3.2.1); the cofactor is 1.
pub(crate) struct Parameters {
    /// Bits of p.
    pub(crate) bits: u16,
    /// The hash algorithm of its strength.
    pub(crate) alg: HashAlg,
    /// The prime.
    pub(crate) p: EccParameter,
    /// A coefficient of the equation.
    pub(crate) a: EccParameter,
    /// A coefficient of the equation.
    pub(crate) b: EccParameter,
    /// The base point's first coordinate.
    pub(crate) x: EccParameter,
    /// The base point's second coordinate.
    pub(crate) y: EccParameter,
    /// The order.
    pub(crate) n: EccParameter,
}

/// The domain parameters of a curve.
pub(crate) fn parameters(curve: u16) -> Option<Parameters> {
    on_curve!(curve, C => group::parameters::<C>())
}
