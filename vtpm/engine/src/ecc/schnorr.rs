//! The schemes that are sums: EC Schnorr and ECDAA (Part 1, C.4).

use bulla_tpm_types::{EccParameter, EccPoint, HashAlg, hash};
use ecdsa::elliptic_curve::SecretKey;
use ecdsa::elliptic_curve::ff::{Field, PrimeField};
use ecdsa::elliptic_curve::point::ProjectivePoint;
use ecdsa::elliptic_curve::{FieldBytes, Group as _, NonZeroScalar, Scalar};
use zeroize::Zeroizing;

use super::group::{self, Group};
use crate::drbg::Drbg;

/// s = k + r * d modulo the order; `None` when r or s is zero.
fn sum<C: Group>(key: &SecretKey<C>, k: &SecretKey<C>, r: Scalar<C>) -> Option<EccParameter> {
    let s = *k.to_nonzero_scalar() + r * *key.to_nonzero_scalar();
    if r.is_zero().into() || s.is_zero().into() { None } else { EccParameter::new(&s.to_repr()) }
}

/// H(x ‖ digest), cut to the length of the order, for the point with that x.
fn challenge<C: Group>(alg: HashAlg, point: ProjectivePoint<C>, digest: &[u8]) -> Option<FieldBytes<C>> {
    let x = group::coordinates::<C>(point)?.x;
    let hash = hash::digest(alg, &[&x, digest]);
    let length = hash.as_bytes().len().min(FieldBytes::<C>::default().len());
    group::padded::<C>(hash.as_bytes().get(..length)?)
}

/// An EC Schnorr signature: r and s. The nonce is from the generator, the key and the digest, so that one of them
/// being new is enough.
pub(super) fn sign<C: Group>(
    key: &SecretKey<C>,
    random: &mut Drbg,
    alg: HashAlg,
    digest: &[u8],
) -> Option<(EccParameter, EccParameter)> {
    /// r is not below the order in one of 2^32 on P-256, and never on the others.
    const ATTEMPTS: usize = 16;
    let mut fresh = Zeroizing::new([0; 32]);
    random.generate(&mut *fresh);
    let mut nonces = Drbg::new(&[&Zeroizing::new(key.to_bytes())[..], &*fresh, &alg.id().0.to_be_bytes(), digest]);
    (0..ATTEMPTS).find_map(|_| {
        let k = group::generate::<C>(&mut nonces)?;
        let r = challenge::<C>(alg, ProjectivePoint::<C>::mul_by_generator(&k.to_nonzero_scalar()), digest)?;
        let s = sum(key, &k, Scalar::<C>::from_repr(r).into_option()?)?;
        Some((EccParameter::new(&r)?, s))
    })
}

/// Verifies an EC Schnorr signature.
pub(super) fn verify<C: Group>(key: &EccPoint, alg: HashAlg, digest: &[u8], r: &[u8], s: &[u8]) -> Option<()> {
    let number = |n: &[u8]| NonZeroScalar::<C>::from_repr(group::padded::<C>(n)?).into_option();
    let (r, s) = (number(r)?, number(s)?);
    let key = ProjectivePoint::<C>::from(group::point::<C>(key)?);
    let point = ProjectivePoint::<C>::mul_by_generator(&s) - key * *r;
    (challenge::<C>(alg, point, digest)? == r.to_repr()).then_some(())
}

/// The second half of an ECDAA signature, with the number of a commitment: the nonce, and s.
pub(super) fn sign_committed<C: Group>(
    key: &SecretKey<C>,
    committed: &SecretKey<C>,
    random: &mut Drbg,
    alg: HashAlg,
    digest: &[u8],
) -> Option<(EccParameter, EccParameter)> {
    let nonce = group::generate::<C>(random)?.to_bytes();
    let t = hash::digest(alg, &[&nonce, digest]);
    Some((EccParameter::new(&nonce)?, sum(key, committed, group::reduced(t.as_bytes()))?))
}
