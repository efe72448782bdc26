//! Encryption to a key pair on a curve (Part 3, 14.8 and 14.9; Part 1, C.8).

use bulla_tpm_types::{Digest, EccPoint, HashAlg, KdfScheme, ObjectAttributes as A, PublicKind, Rc, hash, rc};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::MAX_BUFFER;
use super::ecdh::point;
use crate::Tpm;
use crate::crypto::kdf2;
use crate::dispatch::Call;
use crate::ecc::PrivateKey;
use crate::selftest::TestSet;

/// The scheme of the key, or the caller's if the key has none. This TPM has KDF2.
fn select(own: KdfScheme, wanted: KdfScheme) -> Option<HashAlg> {
    let scheme = if own == KdfScheme::Null { wanted } else { own };
    match scheme {
        KdfScheme::Kdf2(alg) if wanted == scheme || wanted == KdfScheme::Null => Some(alg),
        _ => None,
    }
}

/// XORs data with the mask of a shared point, in place.
fn mask(alg: HashAlg, z: &EccPoint, data: &mut [u8]) {
    let mut mask = Zeroizing::new(alloc::vec![0; data.len()]);
    kdf2(alg, &[&z.x, &z.y], &mut mask);
    data.iter_mut().zip(mask.iter()).for_each(|(octet, mask)| *octet ^= mask);
}

/// C3: what binds the data to the shared point.
fn check_value(alg: HashAlg, z: &EccPoint, plain: &[u8]) -> Digest {
    hash::digest(alg, &[&z.x, plain, &z.y]).digest()
}

/// TPM2_ECC_Encrypt (14.8).
pub(crate) fn ecc_encrypt(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (plain, wanted) = call.params(|p| Ok((p.tpm2b(MAX_BUFFER, "TPM2B_MAX_BUFFER")?, p.get::<KdfScheme>()?)))?;
    tpm.require(TestSet::BANKS | TestSet::DRBG | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    let PublicKind::Ecc { parms, unique } = &key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    let alg = select(parms.kdf, wanted).ok_or(rc::SCHEME.parameter(2))?;
    let private = PrivateKey::generate(parms.curve, &mut tpm.random).ok_or(rc::NO_RESULT)?;
    let c1 = private.point().ok_or(rc::NO_RESULT)?;
    let z = private.share(unique).ok_or(rc::KEY.handle(1))?;
    let mut c2 = plain.to_vec();
    mask(alg, &z, &mut c2);
    let out = call.out();
    out.sized(|w| w.put(&c1));
    out.tpm2b(&c2);
    out.put(&check_value(alg, &z, plain));
    Ok(())
}

/// TPM2_ECC_Decrypt (14.9).
pub(crate) fn ecc_decrypt(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (c1, c2, c3, wanted) = call.params(|p| {
        Ok((p.with(point)?, p.tpm2b(MAX_BUFFER, "TPM2B_MAX_BUFFER")?, p.get::<Digest>()?, p.get::<KdfScheme>()?))
    })?;
    tpm.require(TestSet::BANKS | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    let PublicKind::Ecc { parms, .. } = &key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    if key.has(A::RESTRICTED) || !key.has(A::DECRYPT) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    let alg = select(parms.kdf, wanted).ok_or(rc::SCHEME.parameter(4))?;
    let private = key.ecc().ok_or(rc::KEY.handle(1))?;
    let z = private.share(&c1).ok_or(rc::ECC_POINT.parameter(1))?;
    let mut plain = Zeroizing::new(c2.to_vec());
    mask(alg, &z, &mut plain);
    if !bool::from(check_value(alg, &z, &plain).ct_eq(&c3)) {
        return Err(rc::VALUE.parameter(3));
    }
    call.out().tpm2b(&plain);
    Ok(())
}
