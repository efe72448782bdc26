//! Attestation (Part 3, 18).

use bulla_tpm_types::{
    Attest, Attested, Data, Digest, Handle, HashAlg, Name, PcrSelectionList, Rc, Reader, Signature, hash, rc, rh, st,
};

use super::policy_auth::Ticket;
use super::primary::hierarchy_name;
use super::properties::FIRMWARE_VERSION;
use super::sign::{self, SigScheme};
use crate::Tpm;
use crate::crypto::kdfa;
use crate::dispatch::Call;
use crate::hierarchy::sees_plain_counters;
use crate::secret::INTEGRITY_HASH;
use crate::selftest::TestSet;

/// The TPM's own counters in an attestation.
fn obfuscate(attest: &mut Attest, offsets: &[u8]) {
    let mut r = Reader::new(offsets);
    let mut next = || r.u64("offset").unwrap_or_default();
    attest.firmware_version = attest.firmware_version.wrapping_add(next());
    let counters = next();
    let c = &mut attest.clock_info;
    c.reset_count = c.reset_count.wrapping_add((counters >> 32) as u32);
    c.restart_count = c.restart_count.wrapping_add(counters as u32);
}

/// Who signs an attestation, and how; nobody for TPM_RH_NULL.
pub(super) struct Signer {
    key: Option<Handle>,
    scheme: Option<SigScheme>,
}

impl Signer {
    /// The hash algorithm of the signature; `None` when nobody signs.
    pub(super) fn hash(&self) -> Option<HashAlg> {
        self.scheme.map(SigScheme::hash)
    }
}

impl Tpm {
    /// The signer that handle `handle` and parameter `scheme` of a command name (Part 3, 18.1).
    pub(super) fn signer(
        &self,
        call: &Call<'_, '_>,
        handle: usize,
        (wanted, scheme): (Option<SigScheme>, usize),
    ) -> Result<Signer, Rc> {
        let signer = call.handle(handle);
        if signer == rh::NULL {
            return Ok(Signer { key: None, scheme: None });
        }
        let key = self.objects.key(signer).map_err(|e| e.handle(handle))?;
        if !key.makes_signatures() {
            return Err(rc::KEY.handle(handle));
        }
        let chosen = sign::select(key, wanted).ok_or(rc::SCHEME.parameter(scheme))?;
        Ok(Signer { key: Some(signer), scheme: Some(chosen) })
    }

    /// Answers TPMS_ATTEST about `attested`, and the signature over it (Part 3, 18.1).
    pub(super) fn attest(
        &mut self,
        call: &mut Call<'_, '_>,
        signer: &Signer,
        extra_data: Data,
        attested: Attested,
    ) -> Result<(), Rc> {
        let key = signer.key.and_then(|handle| self.objects.key(handle).ok());
        // An anonymous signature does not tell the key, nor what else could: what the caller adds is signed, but not
        // part of the structure (Part 1, C.5).
        let anonymous = signer.scheme.is_some_and(SigScheme::is_anonymous);
        let mut attest = Attest {
            qualified_signer: match key {
                Some(_) if anonymous => Name::EMPTY,
                Some(key) => key.qualified_name,
                None => hierarchy_name(rh::NULL),
            },
            extra_data: if anonymous { Data::EMPTY } else { extra_data },
            clock_info: self.time.clock_info(),
            firmware_version: FIRMWARE_VERSION,
            attested,
        };
        if !key.is_some_and(|k| sees_plain_counters(k.hierarchy)) {
            // Part 1, 36.7: the counters of keys in other hierarchies are offset by amounts that only the owner's
            // proof tells, so that two keys cannot be told to be of one TPM.
            let mut offsets = [0; 16];
            let proof = &self.hierarchies.owner().proof;
            kdfa(INTEGRITY_HASH, &proof[..], "OBFUSCATE", &attest.qualified_signer, &[], &mut offsets);
            obfuscate(&mut attest, &offsets);
        }
        if let (true, Attested::Certify { qualified_name, .. }) = (anonymous, &mut attest.attested) {
            *qualified_name = Name::EMPTY;
        }
        let out = call.out();
        let start = out.len() + 2;
        out.sized(|w| w.put(&attest));
        let (Some(key), Some(scheme)) = (signer.key, signer.scheme) else {
            out.put(&Signature::Null);
            return Ok(());
        };
        let mut digest = hash::digest(scheme.hash(), &[out.as_bytes().get(start..).unwrap_or_default()]);
        if anonymous && !extra_data.is_empty() {
            digest = hash::digest(scheme.hash(), &[&extra_data, digest.as_bytes()]);
        }
        let signature = self.sign(key, scheme, digest.as_bytes())?;
        call.out().put(&signature);
        Ok(())
    }
}

/// The tests of what attestations need.
const TESTS: [TestSet; 3] = [TestSet::BANKS, TestSet::DRBG, TestSet::ECDSA];

pub(super) fn require_tests(tpm: &mut Tpm) -> Result<(), Rc> {
    tpm.require(TESTS.into_iter().fold(TestSet::default(), |all, t| all | t))
}

/// TPM2_Certify (18.2).
pub(crate) fn certify(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (extra_data, scheme) = call.params(|p| Ok((p.get::<Data>()?, p.with(sign::sig_scheme)?)))?;
    require_tests(tpm)?;
    let signer = tpm.signer(call, 2, (scheme, 2))?;
    let object = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    let attested = Attested::Certify { name: object.name, qualified_name: object.qualified_name };
    tpm.attest(call, &signer, extra_data, attested)
}

/// TPM2_CertifyCreation (18.3).
pub(crate) fn certify_creation(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (extra_data, creation_hash, scheme, ticket) = call.params(|p| {
        Ok((
            p.get::<Data>()?,
            p.get::<Digest>()?,
            p.with(sign::sig_scheme)?,
            p.with(|r| Ticket::read(r, &[st::CREATION]))?,
        ))
    })?;
    require_tests(tpm)?;
    let signer = tpm.signer(call, 1, (scheme, 3))?;
    let name = tpm.objects.key(call.handle(2)).map_err(|e| e.handle(2))?.name;
    if !tpm.ticket_is_valid(&ticket, &[&name, &creation_hash]) {
        return Err(rc::TICKET.parameter(4));
    }
    tpm.attest(call, &signer, extra_data, Attested::Creation { object_name: name, creation_hash })
}

/// TPM2_GetTime (18.7): what it attests is in plain, since the endorsement hierarchy has authorized it.
pub(crate) fn get_time(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (extra_data, scheme) = call.params(|p| Ok((p.get::<Data>()?, p.with(sign::sig_scheme)?)))?;
    require_tests(tpm)?;
    let signer = tpm.signer(call, 2, (scheme, 2))?;
    let attested = Attested::Time { time: tpm.time.info(), firmware_version: FIRMWARE_VERSION };
    tpm.attest(call, &signer, extra_data, attested)
}

impl Tpm {
    /// Attests what the endorsement hierarchy has authorized, signed by the second handle's key: GetTime and the audit
    /// digests.
    pub(super) fn attest_privately(
        &mut self,
        call: &mut Call<'_, '_>,
        extra_data: Data,
        scheme: Option<SigScheme>,
        attested: Attested,
    ) -> Result<(), Rc> {
        require_tests(self)?;
        let signer = self.signer(call, 2, (scheme, 2))?;
        self.attest(call, &signer, extra_data, attested)
    }
}

/// TPM2_Quote (18.4).
pub(crate) fn quote(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (extra_data, scheme, selection) =
        call.params(|p| Ok((p.get::<Data>()?, p.with(sign::sig_scheme)?, p.get::<PcrSelectionList>()?)))?;
    require_tests(tpm)?;
    let signer = tpm.signer(call, 1, (scheme, 2))?;
    // The digest of the PCR is of the algorithm of the signature, so somebody has to sign.
    let hash_alg = signer.scheme.ok_or(rc::SCHEME.parameter(2))?.hash();
    let pcr_select = tpm.pcrs.filter(&selection);
    let pcr_digest = tpm.pcrs.digest(hash_alg, &pcr_select);
    tpm.attest(call, &signer, extra_data, Attested::Quote { pcr_select, pcr_digest })
}
