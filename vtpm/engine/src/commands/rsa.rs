//! RSA_Encrypt and RSA_Decrypt (Part 3, 14.2 and 14.3).

use bulla_tpm_types::{AlgId, AsymScheme, Error, ErrorKind, ObjectAttributes as A, PublicKind, Rc, Reader, alg, rc};

use crate::Tpm;
use crate::dispatch::Call;
use crate::object::Key;
use crate::rsa;

/// The largest TPM2B_PUBLIC_KEY_RSA.
const MAX_KEY: usize = 512;
/// The largest TPM2B_DATA, which a label is.
const MAX_LABEL: usize = 66;

/// TPMT_RSA_DECRYPT+ (Part 2, 11.2.4.4).
fn scheme(r: &mut Reader<'_>) -> Result<AsymScheme, Error> {
    match r.clone().get::<AlgId>()? {
        alg::NULL | alg::RSAES | alg::OAEP => r.get(),
        _ => Err(r.error(ErrorKind::Value, "TPMI_ALG_RSA_DECRYPT")),
    }
}

/// The data, the scheme and the label, which ends in a zero if there is one.
fn params<'a>(call: &Call<'a, '_>) -> Result<(&'a [u8], AsymScheme, &'a [u8]), Rc> {
    let (data, scheme, label) = call
        .params(|p| Ok((p.tpm2b(MAX_KEY, "TPM2B_PUBLIC_KEY_RSA")?, p.with(scheme)?, p.tpm2b(MAX_LABEL, "label")?)))?;
    let terminated = label.last().is_none_or(|last| *last == 0);
    if terminated { Ok((data, scheme, label)) } else { Err(rc::VALUE.parameter(3)) }
}

/// The scheme to use: the key's own, or the caller's if the key has none.
fn select(key: &Key, wanted: AsymScheme) -> Result<AsymScheme, Rc> {
    let PublicKind::Rsa { parms, .. } = &key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    match (parms.scheme, wanted) {
        (AsymScheme::Null, wanted) => Ok(wanted),
        (own, wanted) if wanted == AsymScheme::Null || wanted == own => Ok(own),
        _ => Err(rc::SCHEME.parameter(2)),
    }
}

/// TPM2_RSA_Encrypt (14.2).
pub(crate) fn rsa_encrypt(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (message, wanted, label) = params(call)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::KEY.handle(1))?;
    let PublicKind::Rsa { parms, unique } = &key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    if !key.has(A::DECRYPT) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    let scheme = select(key, wanted)?;
    let public = rsa::PublicKey::new(parms, unique).ok_or(rc::KEY.handle(1))?;
    let encrypted = rsa::encrypt(&mut tpm.random, &public, scheme, label, message).map_err(|e| e.parameter(1))?;
    call.out().tpm2b(&encrypted);
    Ok(())
}

/// TPM2_RSA_Decrypt (14.3).
pub(crate) fn rsa_decrypt(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (encrypted, wanted, label) = params(call)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::KEY.handle(1))?;
    if !matches!(key.public.kind, PublicKind::Rsa { .. }) {
        return Err(rc::KEY.handle(1));
    }
    if key.has(A::RESTRICTED) || !key.has(A::DECRYPT) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    let scheme = select(key, wanted)?;
    let private = key.rsa().ok_or(rc::KEY.handle(1))?;
    let message = rsa::decrypt(&mut tpm.random, private, scheme, label, encrypted).map_err(|e| e.parameter(1))?;
    call.out().tpm2b(&message);
    Ok(())
}
