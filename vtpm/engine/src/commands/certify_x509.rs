//! TPM2_CertifyX509 (Part 3, 18.8): an attestation that has the form of a certificate.

use bulla_tpm_types::{Data, Rc, hash, rc, rh};

use super::sign::{self, SigScheme};
use super::{MAX_BUFFER, attest};
use crate::Tpm;
use crate::der::{element, tag};
use crate::dispatch::Call;
use crate::selftest::TestSet;
use crate::x509::{self, Partial};

/// TPM2_CertifyX509 (18.8).
pub(crate) fn certify_x509(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (reserved, wanted, partial) =
        call.params(|p| Ok((p.get::<Data>()?, p.with(sign::sig_scheme)?, p.tpm2b(MAX_BUFFER, "partialCertificate")?)))?;
    let (object, signer) = (call.handle(1), call.handle(2));
    attest::require_tests(tpm)?;
    if !reserved.is_empty() {
        return Err(rc::SIZE.parameter(1));
    }
    if signer == rh::NULL {
        return Err(rc::KEY.handle(2));
    }
    let key = tpm.objects.key(signer).map_err(|e| e.handle(2))?;
    if !key.signs() {
        return Err(rc::KEY.handle(2));
    }
    let scheme = sign::select(key, wanted).ok_or(rc::SCHEME.parameter(2))?;
    tpm.require(TestSet::of(&key.public) | TestSet::hash(scheme.hash()))?;
    let key = tpm.objects.key(signer)?;
    let object = tpm.objects.key(object).map_err(|e| e.handle(1))?;
    let public_key = x509::public_key(&object.public).ok_or(rc::ASYMMETRIC.handle(1))?;
    let partial = Partial::new(partial).map_err(|e| e.parameter(3))?;
    let made = match (partial.algorithm, scheme) {
        (Some(_), _) => None,
        (None, SigScheme::Asymmetric(scheme, _)) => {
            Some(x509::algorithm(&key.public, scheme).ok_or(rc::SCHEME.handle(2))?)
        }
        (None, SigScheme::Hmac(_)) => return Err(rc::SCHEME.handle(2)),
    };
    partial.check(object.public.attributes).map_err(|e| match e {
        rc::ATTRIBUTES => e.handle(1),
        _ => e.parameter(3),
    })?;

    // The serial number is a digest of the rest of the certificate, and of who and what is certified.
    let algorithm = partial.algorithm.or(made.as_deref()).unwrap_or_default();
    let rest = [algorithm, partial.names, &public_key, partial.extensions].concat();
    let name_alg = key.public.name_alg.unwrap_or(scheme.hash());
    let version = x509::version();
    let serial = x509::serial(hash::digest(name_alg, &[&rest, &key.name, &object.name]).as_bytes());
    let certificate = element(tag::SEQUENCE, &[&version, &serial, &rest]);
    let digest = hash::digest(scheme.hash(), &[&certificate]);
    let added = element(tag::SEQUENCE, &[&version, &serial, made.as_deref().unwrap_or_default(), &public_key]);

    let signature = tpm.sign(signer, scheme, digest.as_bytes())?;
    let out = call.out();
    out.tpm2b(&added);
    out.put(&digest.digest());
    out.put(&signature);
    Ok(())
}
