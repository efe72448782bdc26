//! The evidence of one VM: what it measured, and its vTPM's signature over that.
//!
//! The layout is written down, with CDDL, in `docs/evidence.md`.

use std::collections::BTreeMap;
use std::str::FromStr;

use ciborium::value::Value;
use serde::{Deserialize, Serialize};

use crate::bank::{Bank, PCR_COUNT, PcrValues};
use crate::cbor::{self, CborError, Fields, as_u32, bytes, int, text};
use crate::root::Root;

/// Largest evidence accepted, in bytes, with its envelope.
pub const MAX_EVIDENCE: usize = 1024 * 1024;

/// The profile of this layout (RFC 9711, 4.3.2).
pub const PROFILE: &str = "tag:bulla.invalid,2026:evidence:1";

/// Sizes of an eat_nonce (RFC 9711, 4.1); 64 also fits TPM2_Quote's qualifying data.
pub const NONCE_SIZES: std::ops::RangeInclusive<usize> = 8..=64;

/// Largest TPM structure accepted: no TPMT_PUBLIC, TPMS_ATTEST or TPMT_SIGNATURE of a supported kind exceeds it.
const MAX_TPM_STRUCTURE: usize = 2048;

/// Claim keys: registered ones (RFC 9711, 10.2), then private-use ones (RFC 8392, 9.1).
pub(crate) mod claim {
    pub(crate) const NONCE: i64 = 10;
    pub(crate) const UEID: i64 = 256;
    pub(crate) const PROFILE: i64 = 265;
    pub(crate) const ROOT: i64 = -70001;
    pub(crate) const TPM: i64 = -70002;
    pub(crate) const EVENT_LOG: i64 = -70003;
    pub(crate) const TAKEN_AT: i64 = -70004;
}

/// At which moment the quote was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TakenAt {
    /// By the monitor, through the vTPM, when the firmware handed over to the kernel.
    Handover,
    /// By the guest itself, at a time of its choosing.
    Guest,
}

impl TakenAt {
    /// The name in evidence and verdicts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handover => "handover",
            Self::Guest => "guest",
        }
    }
}

impl FromStr for TakenAt {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Handover, Self::Guest].into_iter().find(|t| t.name() == name).ok_or(())
    }
}

/// What came out of the vTPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmEvidence {
    /// The attestation key: TPMT_PUBLIC.
    pub ak_public: Vec<u8>,
    /// The quote: TPMS_ATTEST.
    pub quote: Vec<u8>,
    /// The AK's signature over the quote: TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// The values of the quoted PCRs.
    pub pcrs: PcrValues,
}

/// The claims of one VM, before signing or after the envelope is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The nonce of the verifier, 8 to 64 bytes.
    pub nonce: Vec<u8>,
    /// What the measurements rest on, as the monitor claims.
    pub root: Root,
    /// When the quote was made.
    pub taken_at: TakenAt,
    /// Quote and PCR values.
    pub tpm: TpmEvidence,
    /// The TCG event log, crypto-agile, as the firmware wrote it.
    pub event_log: Vec<u8>,
}

const WHAT: &str = "evidence";
/// CBOR tag of an Unprotected CWT Claims Set (RFC 9781, 2).
const TAG_UCCS: u64 = 601;

impl Evidence {
    /// The claims without a signature: what an agent in a guest hands to its monitor, which signs them when it finds them true.
    #[must_use]
    pub fn to_unsigned(&self) -> Vec<u8> {
        cbor::encode(Value::Tag(TAG_UCCS, Box::new(self.to_claims())))
    }

    /// Reads what [`to_unsigned`](Self::to_unsigned) writes. Nobody vouches for a word of it.
    ///
    /// # Errors
    /// [`CborError`], as strict as for signed evidence.
    pub fn from_unsigned(bytes: &[u8]) -> Result<Self, CborError> {
        let value = cbor::decode(bytes, MAX_EVIDENCE, WHAT)?;
        let Value::Tag(TAG_UCCS, claims) = value else {
            return Err(CborError::Invalid { what: WHAT, field: "it", expected: "claims with tag 601" });
        };
        Self::from_claims(*claims)
    }

    /// The deterministic CBOR payload.
    pub(crate) fn to_payload(&self) -> Vec<u8> {
        cbor::encode(self.to_claims())
    }

    fn to_claims(&self) -> Value {
        let tpm = Value::Map(vec![
            (int(1), bytes(&self.tpm.ak_public)),
            (int(2), bytes(&self.tpm.quote)),
            (int(3), bytes(&self.tpm.signature)),
            (int(4), pcrs_to_cbor(&self.tpm.pcrs)),
        ]);
        Value::Map(vec![
            (int(claim::NONCE), bytes(&self.nonce)),
            (int(claim::UEID), bytes(&ueid(&self.tpm.ak_public))),
            (int(claim::PROFILE), text(PROFILE)),
            (int(claim::ROOT), text(self.root.name())),
            (int(claim::TPM), tpm),
            (int(claim::EVENT_LOG), bytes(&self.event_log)),
            (int(claim::TAKEN_AT), text(self.taken_at.name())),
        ])
    }

    /// Reads the payload: every claim present, none unknown, sizes and names in range.
    pub(crate) fn from_payload(payload: &[u8]) -> Result<Self, CborError> {
        Self::from_claims(cbor::decode(payload, MAX_EVIDENCE, WHAT)?)
    }

    fn from_claims(claims: Value) -> Result<Self, CborError> {
        let mut claims = Fields::new(claims, WHAT)?;
        if claims.text(claim::PROFILE, "eat_profile")? != PROFILE {
            return Err(claims.invalid("eat_profile", PROFILE));
        }
        let nonce = claims.bytes(claim::NONCE, "eat_nonce")?;
        if !NONCE_SIZES.contains(&nonce.len()) {
            return Err(claims.invalid("eat_nonce", "8 to 64 bytes"));
        }
        let named_ueid = claims.bytes(claim::UEID, "ueid")?;
        let root = claims.text(claim::ROOT, "root of trust")?;
        let root = root.parse().map_err(|_| claims.invalid("root of trust", "the name of a root"))?;
        let taken_at = claims.text(claim::TAKEN_AT, "taken-at")?;
        let taken_at = taken_at.parse().map_err(|()| claims.invalid("taken-at", "handover or guest"))?;
        let event_log = claims.bytes(claim::EVENT_LOG, "event log")?;
        let tpm = TpmEvidence::from_cbor(claims.take(claim::TPM, "tpm")?)?;
        if named_ueid != ueid(&tpm.ak_public) {
            return Err(claims.invalid("ueid", "the one derived from the AK"));
        }
        claims.finish()?;
        Ok(Self { nonce, root, taken_at, tpm, event_log })
    }
}

impl TpmEvidence {
    fn from_cbor(value: Value) -> Result<Self, CborError> {
        let mut tpm = Fields::new(value, "tpm")?;
        let mut structure = |key, field| {
            let bytes = tpm.bytes(key, field)?;
            if bytes.len() > MAX_TPM_STRUCTURE { Err(tpm.invalid(field, "at most 2048 bytes")) } else { Ok(bytes) }
        };
        let ak_public = structure(1, "ak-public")?;
        let quote = structure(2, "quote")?;
        let signature = structure(3, "signature")?;
        let pcrs = pcrs_from_cbor(tpm.map(4, "pcrs")?, "tpm")?;
        tpm.finish()?;
        Ok(Self { ak_public, quote, signature, pcrs })
    }
}

/// The UEID (RFC 9711, 4.2.1): type RAND, and a digest of the AK, which derives from the vTPM's random seed.
fn ueid(ak_public: &[u8]) -> Vec<u8> {
    [&[0x01][..], &Bank::Sha256.digest(&[ak_public])].concat()
}

/// `{bank algorithm → {index → digest}}`.
pub(crate) fn pcrs_to_cbor(pcrs: &PcrValues) -> Value {
    let bank = |(bank, values): (&Bank, &BTreeMap<u32, Vec<u8>>)| {
        let values = values.iter().map(|(&index, digest)| (int(index), bytes(digest))).collect();
        (int(bank.id()), Value::Map(values))
    };
    Value::Map(pcrs.iter().map(bank).collect())
}

pub(crate) fn pcrs_from_cbor(entries: Vec<(Value, Value)>, what: &'static str) -> Result<PcrValues, CborError> {
    let invalid = |field, expected| CborError::Invalid { what, field, expected };
    let mut pcrs = PcrValues::new();
    for (alg, values) in entries {
        let bank = bank_from_cbor(&alg).ok_or_else(|| invalid("bank", "SHA-1, SHA-256 or SHA-384"))?;
        let values = values.into_map().map_err(|_| invalid("pcrs", "a map for each bank"))?;
        let out = pcrs.entry(bank).or_default();
        for (index, digest) in values {
            let index = as_u32(&index).filter(|&i| i < PCR_COUNT).ok_or_else(|| invalid("PCR index", "0 to 23"))?;
            let digest = digest.into_bytes().ok().filter(|d| d.len() == bank.size());
            out.insert(index, digest.ok_or_else(|| invalid("PCR value", "a digest of its bank's size"))?);
        }
    }
    Ok(pcrs)
}

pub(crate) fn bank_from_cbor(alg: &Value) -> Option<Bank> {
    Bank::from_id(u16::try_from(as_u32(alg)?).ok()?)
}
