//! Keys of two parts (Part 3, 14.7 and 19): TPM2_Commit, TPM2_EC_Ephemeral, and TPM2_ZGen_2Phase, which uses them up.

use bulla_tpm_types::{
    AlgId, AsymScheme, EccParameter, EccPoint, Error, ErrorKind, ObjectAttributes as A, PublicKind, Rc, Reader, alg,
    hash, rc,
};

use super::ecdh::{curve, point};
use crate::Tpm;
use crate::dispatch::Call;
use crate::ecc;
use crate::protect::MAX_DATA;
use crate::selftest::TestSet;

/// TPM2_Commit (19.2).
pub(crate) fn commit(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (p1, s2, y2) =
        call.params(|p| Ok((p.with(point)?, p.tpm2b(MAX_DATA, "TPM2B_SENSITIVE_DATA")?, p.get::<EccParameter>()?)))?;
    tpm.require(TestSet::BANKS | TestSet::DRBG | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    let PublicKind::Ecc { parms, .. } = &key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    if !matches!(parms.scheme, AsymScheme::Ecdaa { .. }) {
        return Err(rc::SCHEME.handle(1));
    }
    if s2.is_empty() != y2.is_empty() {
        return Err(rc::SIZE.parameter(3));
    }
    let p2 = if s2.is_empty() {
        None
    } else {
        let alg = key.public.name_alg.ok_or(rc::HASH.handle(1))?;
        let x = ecc::coordinate(parms.curve, hash::digest(alg, &[s2]).as_bytes()).ok_or(rc::KEY.handle(1))?;
        let p2 = EccPoint { x, y: y2 };
        Some(p2).filter(|p| ecc::is_on_curve(parms.curve, p)).ok_or(rc::ECC_POINT.parameter(2)).map(Some)?
    };
    let p1 = Some(p1).filter(|p| *p != EccPoint::default());
    if p1.is_some_and(|p| !ecc::is_on_curve(parms.curve, &p)) {
        return Err(rc::ECC_POINT.parameter(1));
    }
    let private = key.ecc().ok_or(rc::KEY.handle(1))?;
    let number = tpm.commitments.next(parms.curve, &key.name).ok_or(rc::NO_RESULT)?;
    let (mut k, mut l, mut e) = Default::default();
    if let Some(p2) = p2 {
        k = private.multiply(&p2).ok_or(rc::NO_RESULT)?;
        l = number.multiply(&p2).ok_or(rc::NO_RESULT)?;
    }
    if let Some(p1) = p1 {
        e = number.multiply(&p1).ok_or(rc::NO_RESULT)?;
    } else if p2.is_none() {
        e = number.point().ok_or(rc::NO_RESULT)?;
    }
    let count = tpm.commitments.commit();
    let out = call.out();
    for point in [k, l, e] {
        out.sized(|w| w.put(&point));
    }
    out.u16(count);
    Ok(())
}

/// TPM2_EC_Ephemeral (19.3).
pub(crate) fn ec_ephemeral(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let curve = call.params(|p| p.with(curve))?;
    tpm.require(TestSet::DRBG | TestSet::ECDSA)?;
    let point = tpm.commitments.next(curve, &[]).and_then(|number| number.point()).ok_or(rc::NO_RESULT)?;
    let count = tpm.commitments.commit();
    let out = call.out();
    out.sized(|w| w.put(&point));
    out.u16(count);
    Ok(())
}

/// TPMI_ECC_KEY_EXCHANGE+ (Part 2, 11.2.5.4), of which this TPM has ECDH; `None` is TPM_ALG_NULL.
fn key_exchange(r: &mut Reader<'_>) -> Result<Option<AlgId>, Error> {
    let at = r.clone();
    match r.get::<AlgId>()? {
        alg::NULL => Ok(None),
        alg::ECDH => Ok(Some(alg::ECDH)),
        _ => Err(at.error(ErrorKind::Scheme, "TPMI_ECC_KEY_EXCHANGE")),
    }
}

/// TPM2_ZGen_2Phase (14.7): the full unified model of SP 800-56A, 6.1.1.2.
pub(crate) fn z_gen_2phase(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (fixed, ephemeral, scheme, count) =
        call.params(|p| Ok((p.with(point)?, p.with(point)?, p.with(key_exchange)?, p.u16("counter")?)))?;
    tpm.require(TestSet::DRBG | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    let PublicKind::Ecc { parms, .. } = &key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    if key.has(A::RESTRICTED) || !key.has(A::DECRYPT) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    // The key's scheme, if it has one; a scheme there has to be.
    if scheme.is_none() || !matches!(parms.scheme, AsymScheme::Ecdh(_) | AsymScheme::Null) {
        return Err(rc::SCHEME.parameter(3));
    }
    for (point, number) in [(&fixed, 1), (&ephemeral, 2)] {
        if !ecc::is_on_curve(parms.curve, point) {
            return Err(rc::ECC_POINT.parameter(number));
        }
    }
    let private = key.ecc().ok_or(rc::KEY.handle(1))?;
    let number = tpm.commitments.open(count, parms.curve, &[]).ok_or(rc::VALUE.parameter(4))?;
    let z1 = private.share(&fixed).ok_or(rc::NO_RESULT)?;
    let z2 = number.share(&ephemeral).ok_or(rc::NO_RESULT)?;
    tpm.commitments.end(count);
    let out = call.out();
    out.sized(|w| w.put(&*z1));
    out.sized(|w| w.put(&*z2));
    Ok(())
}
