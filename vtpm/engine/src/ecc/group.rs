//! The arithmetic that is the same on every curve.

use bulla_tpm_types::{EccParameter, EccPoint, HashAlg};
use ecdsa::elliptic_curve::ff::PrimeField;
use ecdsa::elliptic_curve::point::{AffineCoordinates, AffinePoint, ProjectivePoint};
use ecdsa::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use ecdsa::elliptic_curve::{Curve, CurveArithmetic, FieldBytes, Group as _, Scalar, SecretKey};
use ecdsa::hazmat::{sign_prehashed_rfc6979, verify_prehashed};
use ecdsa::{DigestAlgorithm, EcdsaCurve, Signature};
use p256::NistP256;
use p384::NistP384;
use p521::NistP521;
use primeorder::PrimeCurveParams;
use zeroize::Zeroizing;

use super::Parameters;
use crate::drbg::Drbg;

/// A curve that keys can be on.
pub(super) trait Group:
    EcdsaCurve
    + DigestAlgorithm
    + CurveArithmetic<AffinePoint: FromSec1Point<Self> + ToSec1Point<Self>>
    + Curve<FieldBytesSize: ModulusSize>
    + PrimeCurveParams
{
    /// The hash algorithm of the curve's strength.
    const HASH: HashAlg;
    /// The bits of the first octet that a number below the order can have.
    const FIRST_OCTET: u8 = 0xff;
}

impl Group for NistP256 {
    const HASH: HashAlg = HashAlg::Sha256;
}

impl Group for NistP384 {
    const HASH: HashAlg = HashAlg::Sha384;
}

impl Group for NistP521 {
    const HASH: HashAlg = HashAlg::Sha512;
    const FIRST_OCTET: u8 = 0x01;
}

/// A number as long as the curve's: leading zeros are there or not.
pub(super) fn padded<C: Group>(number: &[u8]) -> Option<FieldBytes<C>> {
    let mut field = FieldBytes::<C>::default();
    // A number of the right length or less, as every private key of this TPM's is, is not looked into.
    let (above, number) = number.split_at_checked(number.len().saturating_sub(field.len()))?;
    let start = field.len().checked_sub(number.len())?;
    field.get_mut(start..)?.copy_from_slice(number);
    above.iter().all(|b| *b == 0).then_some(field)
}

/// A private key from a generator: its first output that is in [1, n-1] (FIPS 186-5, A.2.2). An output has as many
/// octets as the order; the bits above the order's highest, which only P-521 has (seven), are cleared before it is
/// looked at. This is frozen, as primary keys come of it. `None` cannot happen short of a defect.
pub(super) fn generate<C: Group>(random: &mut Drbg) -> Option<SecretKey<C>> {
    /// Each candidate fails with a chance of at most 2^-32.
    const CANDIDATES: usize = 16;
    let mut candidate = Zeroizing::new(FieldBytes::<C>::default());
    (0..CANDIDATES).find_map(|_| {
        random.generate(&mut candidate);
        if let Some(first) = candidate.first_mut() {
            *first &= C::FIRST_OCTET;
        }
        SecretKey::from_bytes(&candidate).ok()
    })
}

/// A private key in octets; `None` when it is not in [1, n-1].
pub(super) fn private<C: Group>(number: &[u8]) -> Option<SecretKey<C>> {
    SecretKey::from_bytes(&*Zeroizing::new(padded::<C>(number)?)).ok()
}

/// A point of its coordinates; `None` when it is not on the curve.
pub(super) fn point<C: Group>(point: &EccPoint) -> Option<AffinePoint<C>> {
    AffinePoint::<C>::from_coordinates(&padded::<C>(&point.x)?, &padded::<C>(&point.y)?).into_option()
}

/// The coordinates of a point, in their full length; `None` at infinity.
pub(super) fn coordinates<C: Group>(point: ProjectivePoint<C>) -> Option<EccPoint> {
    if point.is_identity().into() {
        return None;
    }
    let affine: AffinePoint<C> = point.into();
    Some(EccPoint { x: EccParameter::new(&affine.x())?, y: EccParameter::new(&affine.y())? })
}

/// The public point of a private key.
pub(super) fn public<C: Group>(key: &SecretKey<C>) -> Option<EccPoint> {
    coordinates::<C>(ProjectivePoint::<C>::mul_by_generator(&key.to_nonzero_scalar()))
}

/// The product of a private key and a point: Z of ECDH (SP 800-56A, 5.7.1.2). The cofactors are 1.
pub(super) fn multiply<C: Group>(key: &SecretKey<C>, by: &EccPoint) -> Option<EccPoint> {
    coordinates::<C>(ProjectivePoint::<C>::from(point::<C>(by)?) * *key.to_nonzero_scalar())
}

/// Signs a digest with ECDSA (FIPS 186-5, 6.4.1), with the nonce of RFC 6979 and the hash algorithm that has the
/// curve's strength. Answers r and s.
pub(super) fn sign<C: Group>(key: &SecretKey<C>, digest: &[u8]) -> Option<(EccParameter, EccParameter)> {
    let number = Zeroizing::new(key.to_nonzero_scalar());
    let (signature, _) = sign_prehashed_rfc6979::<C, C::Digest>(&number, digest, &[]);
    let (r, s) = signature.split_bytes();
    Some((EccParameter::new(&r)?, EccParameter::new(&s)?))
}

/// Verifies an ECDSA signature of a digest (FIPS 186-5, 6.4.2).
pub(super) fn verify<C: Group>(key: &EccPoint, digest: &[u8], r: &[u8], s: &[u8]) -> Option<()> {
    let signature = Signature::<C>::from_scalars(padded::<C>(r)?, padded::<C>(s)?).ok()?;
    verify_prehashed::<C>(&point::<C>(key)?.into(), digest, &signature).ok()
}

/// A number modulo the modulus of a field.
pub(super) fn reduced<F: PrimeField>(number: &[u8]) -> F {
    number.iter().fold(F::ZERO, |sum, octet| sum * F::from(256) + F::from(u64::from(*octet)))
}

/// A number modulo the prime of the curve.
pub(super) fn coordinate<C: Group>(number: &[u8]) -> Option<EccParameter> {
    EccParameter::new(&reduced::<C::FieldElement>(number).to_repr())
}

/// The domain parameters of the curve.
pub(super) fn parameters<C: Group>() -> Option<Parameters> {
    /// An odd modulus: one more than the largest element.
    fn modulus<F: PrimeField<Repr: AsMut<[u8]>>>() -> Option<EccParameter> {
        let mut largest = (-F::ONE).to_repr();
        *largest.as_mut().last_mut()? |= 1;
        EccParameter::new(largest.as_ref())
    }
    let number = |element: C::FieldElement| EccParameter::new(&element.to_repr());
    Some(Parameters {
        bits: u16::try_from(C::FieldElement::NUM_BITS).ok()?,
        alg: C::HASH,
        p: modulus::<C::FieldElement>()?,
        a: number(C::EQUATION_A)?,
        b: number(C::EQUATION_B)?,
        x: number(C::GENERATOR.0)?,
        y: number(C::GENERATOR.1)?,
        n: modulus::<Scalar<C>>()?,
    })
}
