//! Attestation (Part 3, 18).

use bulla_tpm_types::{
    AsymScheme, Attest, Attested, Data, EccParameter, Error, ErrorKind, HashAlg, PcrSelectionList, PublicKind, Rc,
    Reader, Signature, SignatureValue, Writer, hash, rc,
};
use p256::ecdsa::signature::hazmat::PrehashSigner;

use super::super::Tpm;
use super::super::crypto::kdfa;
use super::super::dispatch::Call;
use super::super::hierarchy::sees_plain_counters;
use super::super::object::Key;
use super::super::pcr::Pcrs;
use super::super::secret::INTEGRITY_HASH;
use super::super::selftest::TestSet;
use super::properties::FIRMWARE_VERSION;

/// TPMT_SIG_SCHEME+ as far as this TPM signs: ECDSA (Part 2, 11.2.1.4).
fn sig_scheme(r: &mut Reader<'_>) -> Result<AsymScheme, Error> {
    let at = r.clone();
    match r.get()? {
        scheme @ (AsymScheme::Null | AsymScheme::Ecdsa(_)) => Ok(scheme),
        _ => Err(at.error(ErrorKind::Scheme, "TPMI_ALG_SIG_SCHEME")),
    }
}

/// The hash of the scheme to sign with: the key's own, or the caller's if the key has none; `None` when the
/// two do not agree (Part 3, 18.1).
fn select_scheme(key: &Key, wanted: AsymScheme) -> Option<HashAlg> {
    let PublicKind::Ecc { parms, .. } = &key.public.kind else {
        return None;
    };
    match (parms.scheme, wanted) {
        (AsymScheme::Ecdsa(hash), AsymScheme::Null) | (AsymScheme::Null, AsymScheme::Ecdsa(hash)) => Some(hash),
        (AsymScheme::Ecdsa(own), AsymScheme::Ecdsa(hash)) if own == hash => Some(hash),
        _ => None,
    }
}

impl Tpm {
    /// TPMS_ATTEST about `attested`, by `key` (Part 3, 18.1).
    fn attest(&self, key: &Key, extra_data: Data, attested: Attested) -> Attest {
        let mut attest = Attest {
            qualified_signer: key.qualified_name,
            extra_data,
            clock_info: self.time.clock_info(),
            firmware_version: FIRMWARE_VERSION,
            attested,
        };
        if !sees_plain_counters(key.hierarchy) {
            // Part 1, 36.7: the counters of keys in other hierarchies are offset by amounts that only the owner's
            // proof tells, so that two keys cannot be told to be of one TPM.
            let mut offsets = [0; 16];
            let proof = &self.hierarchies.owner().proof;
            kdfa(INTEGRITY_HASH, &proof[..], "OBFUSCATE", &key.qualified_name, &[], &mut offsets);
            let mut r = Reader::new(&offsets);
            let mut next = || r.u64("offset").unwrap_or_default();
            attest.firmware_version = attest.firmware_version.wrapping_add(next());
            let counters = next();
            let c = &mut attest.clock_info;
            c.reset_count = c.reset_count.wrapping_add((counters >> 32) as u32);
            c.restart_count = c.restart_count.wrapping_add(counters as u32);
        }
        attest
    }
}

/// TPM2_Quote (18.4).
pub(in super::super) fn quote(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (extra_data, scheme, selection) =
        call.params(|p| Ok((p.get::<Data>()?, p.with(sig_scheme)?, p.get::<PcrSelectionList>()?)))?;
    tpm.require(TestSet::BANKS | TestSet::DRBG | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    if !key.signs() {
        return Err(rc::KEY.handle(1));
    }
    let hash_alg = select_scheme(key, scheme).ok_or(rc::SCHEME.parameter(2))?;

    let pcr_select = Pcrs::filter(&selection);
    let pcr_digest = tpm.pcrs.digest(hash_alg, &pcr_select);
    let attest = tpm.attest(key, extra_data, Attested::Quote { pcr_select, pcr_digest });
    let out = call.out();
    let start = out.len() + 2;
    out.sized(|w| w.put(&attest));
    let signature = sign(key, hash_alg, out.as_bytes().get(start..).unwrap_or_default());
    match signature {
        Some(signature) => put_signature(out, &signature),
        None => {
            // A key of this TPM that cannot sign is a defect, not the caller's doing.
            tpm.fail();
            return Err(rc::FAILURE);
        }
    }
    Ok(())
}

fn put_signature(out: &mut Writer, signature: &Signature) {
    out.put(signature);
}

/// ECDSA over the digest of `message`, with the nonce of RFC 6979.
fn sign(key: &Key, hash_alg: HashAlg, message: &[u8]) -> Option<Signature> {
    let digest = hash::digest(hash_alg, &[message]);
    let signature: p256::ecdsa::Signature = key.private.sign_prehash(digest.as_bytes()).ok()?;
    let (r, s) = signature.split_bytes();
    let value = SignatureValue::Ecdsa { r: EccParameter::new(&r)?, s: EccParameter::new(&s)? };
    Some(Signature::Signed { hash: hash_alg, value })
}
