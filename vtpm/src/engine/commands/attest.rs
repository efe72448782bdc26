//! Attestation (Part 3, 18).

use bulla_tpm_types::{Attest, Attested, Data, PcrSelectionList, Rc, Reader, hash, rc};

use super::super::Tpm;
use super::super::crypto::kdfa;
use super::super::dispatch::Call;
use super::super::hierarchy::sees_plain_counters;
use super::super::object::Key;
use super::super::pcr::Pcrs;
use super::super::secret::INTEGRITY_HASH;
use super::super::selftest::TestSet;
use super::properties::FIRMWARE_VERSION;
use super::sign;

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
        call.params(|p| Ok((p.get::<Data>()?, p.with(sign::sig_scheme)?, p.get::<PcrSelectionList>()?)))?;
    tpm.require(TestSet::BANKS | TestSet::DRBG | TestSet::ECDSA)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    if !key.signs() {
        return Err(rc::KEY.handle(1));
    }
    let scheme = sign::select(key, scheme).ok_or(rc::SCHEME.parameter(2))?;
    let hash_alg = scheme.hash();

    let pcr_select = Pcrs::filter(&selection);
    let pcr_digest = tpm.pcrs.digest(hash_alg, &pcr_select);
    let attest = tpm.attest(key, extra_data, Attested::Quote { pcr_select, pcr_digest });
    let out = call.out();
    let start = out.len() + 2;
    out.sized(|w| w.put(&attest));
    let digest = hash::digest(hash_alg, &[out.as_bytes().get(start..).unwrap_or_default()]);
    let signature = sign::sign(key, scheme, digest.as_bytes());
    match signature {
        Some(signature) => out.put(&signature),
        None => {
            // A key of this TPM that cannot sign is a defect, not the caller's doing.
            tpm.fail();
            return Err(rc::FAILURE);
        }
    }
    Ok(())
}
