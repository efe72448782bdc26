//! ECDH and the parameters of curves (Part 3, 14.4 to 14.6), and TestParms (30.3).

use bulla_tpm_types::{
    AlgId, AsymScheme, EccParameter, EccParms, EccPoint, Error, ErrorKind, KdfScheme, KeyedHashScheme,
    ObjectAttributes as A, PublicKind, Rc, Reader, RsaParms, Symmetric, Unmarshal, alg, rc,
};

use crate::Tpm;
use crate::dispatch::Call;
use crate::ecc::{self, PrivateKey};
use crate::selftest::TestSet;

/// TPM2B_ECC_POINT (Part 2, 11.2.5.3).
pub(super) fn point(r: &mut Reader<'_>) -> Result<EccPoint, Error> {
    let at = r.clone();
    let size = usize::from(r.u16("TPM2B_ECC_POINT")?);
    let before = r.remaining();
    // A size that is not the point's is one mistake, wherever the point ends.
    let point = if size == 0 { None } else { Some(EccPoint::unmarshal(r)?) };
    point.filter(|_| before - r.remaining() == size).ok_or(at.error(ErrorKind::Size, "TPM2B_ECC_POINT"))
}

/// TPMI_ECC_CURVE (Part 2, 11.2.5.5).
pub(super) fn curve(r: &mut Reader<'_>) -> Result<u16, Error> {
    let at = r.clone();
    let curve = r.u16("TPMI_ECC_CURVE")?;
    if ecc::CURVES.contains(&curve) { Ok(curve) } else { Err(at.error(ErrorKind::Curve, "TPMI_ECC_CURVE")) }
}

/// TPM2_ECDH_KeyGen (14.4).
pub(crate) fn key_gen(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.require(TestSet::DRBG | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    let PublicKind::Ecc { parms, unique } = &key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    let private = PrivateKey::generate(parms.curve, &mut tpm.random).ok_or(rc::NO_RESULT)?;
    let z = private.share(unique).ok_or(rc::KEY.handle(1))?;
    let point = private.point().ok_or(rc::NO_RESULT)?;
    let out = call.out();
    out.sized(|w| w.put(&*z));
    out.sized(|w| w.put(&point));
    Ok(())
}

/// TPM2_ECDH_ZGen (14.5).
pub(crate) fn z_gen(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let point = call.params(|p| p.with(point))?;
    tpm.require(TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    let PublicKind::Ecc { parms, .. } = &key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    // Unrestricted decryption keys only, of no other scheme.
    if key.has(A::RESTRICTED) || !key.has(A::DECRYPT) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    if !matches!(parms.scheme, AsymScheme::Ecdh(_) | AsymScheme::Null) {
        return Err(rc::SCHEME.handle(1));
    }
    if !ecc::is_on_curve(parms.curve, &point) {
        return Err(rc::ECC_POINT.parameter(1));
    }
    let private = key.ecc().ok_or(rc::KEY.handle(1))?;
    let z = private.share(&point).ok_or(rc::ECC_POINT.parameter(1))?;
    call.out().sized(|w| w.put(&*z));
    Ok(())
}

/// TPM2_ECC_Parameters (14.6).
pub(crate) fn ecc_parameters(_tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let curve = call.params(|p| p.with(curve))?;
    let parameters = ecc::parameters(curve).ok_or(rc::VALUE.parameter(1))?;
    // TPMS_ALGORITHM_DETAIL_ECC (Part 2, 11.2.5.6).
    let out = call.out();
    out.u16(curve);
    out.u16(parameters.bits);
    out.put(&KdfScheme::Kdf1Sp800_56a(parameters.alg));
    out.put(&AsymScheme::Null);
    for number in [parameters.p, parameters.a, parameters.b, parameters.x, parameters.y, parameters.n] {
        out.put(&number);
    }
    out.put(&EccParameter::new(&[1]).unwrap_or_default());
    Ok(())
}

/// TPMT_PUBLIC_PARMS, as far as this TPM has the algorithms.
fn parms(r: &mut Reader<'_>) -> Result<(), Error> {
    let at = r.clone();
    match r.get::<AlgId>()? {
        alg::KEYEDHASH => r.get::<KeyedHashScheme>().map(drop),
        alg::RSA => r.get::<RsaParms>().map(drop),
        alg::ECC => r.get::<EccParms>().map(drop),
        alg::SYMCIPHER => {
            let at = r.clone();
            match r.get::<Symmetric>()? {
                Symmetric::Aes { .. } => Ok(()),
                Symmetric::Null => Err(at.error(ErrorKind::Symmetric, "TPMI_ALG_SYM_OBJECT")),
            }
        }
        _ => Err(at.error(ErrorKind::Type, "TPMI_ALG_PUBLIC")),
    }
}

/// TPM2_TestParms (30.3).
pub(crate) fn test_parms(_tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.params(|p| p.with(parms))
}
