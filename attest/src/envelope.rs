//! The envelope of evidence: COSE_Sign1 (RFC 9052, 4.2) with ES256 by the host key.

use ciborium::value::Value;
use coset::{AsCborValue, CoseSign1, HeaderBuilder, ProtectedHeader, iana};

use crate::cbor::{self, CborError};
use crate::evidence::{Evidence, MAX_EVIDENCE, NONCE_SIZES};
use crate::hostkey::{HostKey, HostKeyError, HostPublicKey};

/// CBOR tag of COSE_Sign1.
const TAG_COSE_SIGN1: u64 = 18;
/// Header parameter `typ` (RFC 9596).
const HEADER_TYP: i64 = 16;
/// Media type of a signed EAT (RFC 9782).
const EAT_CWT: &str = "application/eat+cwt";
/// Private-use header parameter: the host key as a COSE_Key.
const HEADER_HOST_KEY: i64 = -70001;

const WHAT: &str = "evidence envelope";

/// Why evidence cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The CBOR is not what docs/evidence.md describes.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The COSE structure is not what docs/evidence.md describes.
    #[error("evidence envelope: {0}")]
    Cose(String),
    /// The nonce has a size that no EAT and no quote can carry.
    #[error("a nonce has 8 to 64 bytes, not {0}")]
    NonceSize(usize),
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] HostKeyError),
}

/// Evidence as it was received: read, its signature not yet judged.
#[derive(Clone, Debug)]
pub struct SignedEvidence {
    evidence: Evidence,
    host_key: HostPublicKey,
    envelope: CoseSign1,
}

impl Evidence {
    /// Signs the evidence: the bytes of an evidence file.
    pub fn sign(&self, key: &HostKey) -> Result<Vec<u8>, EvidenceError> {
        if !NONCE_SIZES.contains(&self.nonce.len()) {
            return Err(EvidenceError::NonceSize(self.nonce.len()));
        }
        let public = key.public();
        let protected = HeaderBuilder::new()
            .algorithm(iana::Algorithm::ES256)
            .key_id(public.thumbprint().to_vec())
            .value(HEADER_TYP, Value::Text(EAT_CWT.to_owned()))
            .value(HEADER_HOST_KEY, public.to_cose_key())
            .build();
        // The header is signed as bytes, so its deterministic encoding has to be fixed before that.
        let header = cbor::encode(protected.to_cbor_value().map_err(cose)?);
        let protected = ProtectedHeader::from_cbor_bstr(Value::Bytes(header)).map_err(cose)?;
        let unsigned = CoseSign1 { protected, payload: Some(self.to_payload()), ..CoseSign1::default() };
        let signature = key.sign(&unsigned.tbs_data(&[]))?;
        let envelope = CoseSign1 { signature, ..unsigned };
        let value = envelope.to_cbor_value().map_err(cose)?;
        let bytes = cbor::encode(Value::Tag(TAG_COSE_SIGN1, Box::new(value)));
        // What we sign, every verifier must be able to read: sizes included.
        SignedEvidence::from_bytes(&bytes)?;
        Ok(bytes)
    }
}

impl SignedEvidence {
    /// Reads an evidence file. The structure is checked completely; the signature is not:
    /// see [`verify_envelope`](Self::verify_envelope).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let Value::Tag(TAG_COSE_SIGN1, value) = cbor::decode(bytes, MAX_EVIDENCE, WHAT)? else {
            return Err(EvidenceError::Cose("not a COSE_Sign1 with tag 18".to_owned()));
        };
        let envelope = CoseSign1::from_cbor_value(*value).map_err(cose)?;
        if !envelope.unprotected.is_empty() {
            return Err(EvidenceError::Cose("the unprotected header is not empty".to_owned()));
        }
        let host_key = host_key_of(&envelope.protected)?;
        let payload = envelope.payload.as_deref().ok_or_else(|| EvidenceError::Cose("no payload".to_owned()))?;
        let evidence = Evidence::from_payload(payload)?;
        Ok(Self { evidence, host_key, envelope })
    }

    /// The claims. Whether anyone vouches for them is for [`appraise`](crate::appraise()) to say.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The key that is said to have signed.
    #[must_use]
    pub fn host_key(&self) -> &HostPublicKey {
        &self.host_key
    }

    /// Whether the host key in the envelope did sign it.
    #[must_use]
    pub fn verify_envelope(&self) -> bool {
        self.envelope.verify_signature(
            &[],
            |signature, message| {
                if self.host_key.verify(message, signature) { Ok(()) } else { Err(()) }
            },
        ) == Ok(())
    }
}

/// Reads the protected header: exactly the four parameters that `sign` writes.
fn host_key_of(protected: &ProtectedHeader) -> Result<HostPublicKey, EvidenceError> {
    let bytes = protected.original_data.clone().unwrap_or_default();
    let mut header = cbor::Fields::new(cbor::decode(&bytes, 1024, "protected header")?, "protected header")?;
    let alg = header.take(iana::HeaderParameter::Alg as i64, "alg")?;
    if alg != cbor::int(iana::Algorithm::ES256 as i64) {
        return Err(header.invalid("alg", "ES256").into());
    }
    if header.text(HEADER_TYP, "typ")? != EAT_CWT {
        return Err(header.invalid("typ", EAT_CWT).into());
    }
    let kid = header.bytes(iana::HeaderParameter::Kid as i64, "kid")?;
    let key = HostPublicKey::from_cose_key(header.take(HEADER_HOST_KEY, "host key")?)?;
    if kid != key.thumbprint() {
        return Err(header.invalid("kid", "the thumbprint of the host key").into());
    }
    header.finish()?;
    Ok(key)
}

fn cose(e: coset::CoseError) -> EvidenceError {
    EvidenceError::Cose(e.to_string())
}
