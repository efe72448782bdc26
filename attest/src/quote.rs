//! TPM quotes: the signed structure, the key that signs it, and the check of one against the other.

use bulla_tpm_types::{
    AsymScheme, Attest, Attested, HashAlg, Marshal, ObjectAttributes, Public, PublicKind, Signature, SignatureValue,
    Unmarshal, ecc,
};
use pem_rfc7468::LineEnding;
use ring::signature::{self as rs, RsaPublicKeyComponents, UnparsedPublicKey};

use crate::bank::{Bank, PcrValues};

/// Why a quote, its key or its signature is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// A TPM structure is malformed.
    #[error("{structure}: {source}")]
    Malformed {
        /// The structure.
        structure: &'static str,
        /// What is wrong, and where.
        source: bulla_tpm_types::Error,
    },
    /// The attestation is not of PCRs.
    #[error("TPMS_ATTEST is of type {0:#06x}, not a quote (0x8018)")]
    NotAQuote(u16),
    /// The quote selects a bank that bulla does not know.
    #[error("the quote selects PCRs of bank {0}, which is not supported")]
    Bank(String),
    /// A key or signature of a kind that cannot be checked.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The signature is not this key's over this message.
    #[error("the signature is not by this key over this quote")]
    BadSignature,
    /// A selected PCR has no value.
    #[error("no value is given for PCR {pcr} of bank {bank}, which the quote covers")]
    MissingPcr {
        /// Its bank.
        bank: Bank,
        /// Its number.
        pcr: u32,
    },
}

fn unmarshal<'a, T: Unmarshal<'a>>(bytes: &'a [u8], structure: &'static str) -> Result<T, QuoteError> {
    T::from_bytes(bytes).map_err(|source| QuoteError::Malformed { structure, source })
}

/// A quote: the fields of TPMS_ATTEST that say something about PCRs (Part 2, 10.12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// extraData: the nonce.
    pub nonce: Vec<u8>,
    /// The selected PCRs, in the order in which their values are digested.
    pub selection: Vec<(Bank, Vec<u32>)>,
    /// pcrDigest.
    pub pcr_digest: Vec<u8>,
    /// resetCount.
    pub reset_count: u32,
    /// restartCount.
    pub restart_count: u32,
}

impl Quote {
    /// Reads a TPMS_ATTEST; magic and type must be those of a quote.
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        let attest: Attest = unmarshal(bytes, "TPMS_ATTEST")?;
        let Attested::Quote { pcr_select, pcr_digest } = &attest.attested else {
            return Err(QuoteError::NotAQuote(attest.attested.tag()));
        };
        let mut selection = Vec::new();
        for select in pcr_select.iter() {
            let bank = Bank::from_id(select.alg.id().0).ok_or_else(|| QuoteError::Bank(select.alg.to_string()))?;
            selection.push((bank, select.iter().collect()));
        }
        Ok(Self {
            nonce: attest.extra_data.as_bytes().to_vec(),
            selection,
            pcr_digest: pcr_digest.as_bytes().to_vec(),
            reset_count: attest.clock_info.reset_count,
            restart_count: attest.clock_info.restart_count,
        })
    }

    /// Whether the quote covers this PCR.
    #[must_use]
    pub fn covers(&self, bank: Bank, pcr: u32) -> bool {
        self.selection.iter().any(|(b, pcrs)| *b == bank && pcrs.contains(&pcr))
    }

    /// The PCRs the quote covers, once each.
    pub fn covered(&self) -> impl Iterator<Item = (Bank, u32)> + '_ {
        Bank::ALL
            .into_iter()
            .flat_map(move |bank| (0..24).map(move |pcr| (bank, pcr)))
            .filter(|&(b, p)| self.covers(b, p))
    }

    /// The digest that the quote must hold for these PCR values: their concatenation in the order of the
    /// selection, hashed with the hash of the signing scheme (Part 3, 18.4).
    pub fn digest_of(&self, pcrs: &PcrValues, hash: HashAlg) -> Result<Vec<u8>, QuoteError> {
        let mut values: Vec<&[u8]> = Vec::new();
        for (bank, selected) in &self.selection {
            for &pcr in selected {
                let value = pcrs.get(bank).and_then(|values| values.get(&pcr));
                values.push(value.ok_or(QuoteError::MissingPcr { bank: *bank, pcr })?);
            }
        }
        Ok(bulla_tpm_types::hash::digest(hash, &values).as_bytes().to_vec())
    }
}

/// The signature over a quote: TPMT_SIGNATURE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteSignature {
    /// The hash of the scheme, which is also that of pcrDigest.
    pub hash: HashAlg,
    value: SignatureValue,
}

impl QuoteSignature {
    /// Reads a TPMT_SIGNATURE by an asymmetric key.
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        match unmarshal(bytes, "TPMT_SIGNATURE")? {
            Signature::Signed { hash, value } => Ok(Self { hash, value }),
            Signature::Null | Signature::Hmac(_) => Err(QuoteError::Unsupported("a null or HMAC signature".to_owned())),
        }
    }
}

/// The public half of an attestation key: TPMT_PUBLIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    public: Public,
}

impl AttestationKey {
    /// Reads a TPMT_PUBLIC.
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        Ok(Self { public: unmarshal(bytes, "TPMT_PUBLIC")? })
    }

    /// The Name of the key (Part 1, 16): what policies pin.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        self.public.name().as_bytes().to_vec()
    }

    /// Why this key must not be believed as an attestation key, if so.
    ///
    /// Only a restricted signing key is unable to sign a TPMS_ATTEST that the TPM did not make itself, and only a
    /// key that is fixedTPM, fixedParent and made in the TPM has no copy elsewhere (Part 1, 25.1.5 and 31).
    #[must_use]
    pub fn weakness(&self) -> Option<&'static str> {
        let a = self.public.attributes;
        [
            (!a.contains(ObjectAttributes::RESTRICTED), "is not restricted: it would sign a forged quote"),
            (!a.contains(ObjectAttributes::SIGN), "is not a signing key"),
            (a.contains(ObjectAttributes::DECRYPT), "may also decrypt"),
            (!a.contains(ObjectAttributes::FIXED_TPM | ObjectAttributes::FIXED_PARENT), "may leave its TPM"),
            (!a.contains(ObjectAttributes::SENSITIVE_DATA_ORIGIN), "was not made by its TPM"),
        ]
        .into_iter()
        .find_map(|(weak, why)| weak.then_some(why))
    }

    /// Whether `signature` is this key's, with the scheme the key is fixed to, over `message`.
    pub fn verify(&self, message: &[u8], signature: &QuoteSignature) -> Result<(), QuoteError> {
        let unsupported = |what: String| Err(QuoteError::Unsupported(what));
        let hash = signature.hash;
        let verified = match (&self.public.kind, &signature.value) {
            (PublicKind::Ecc { parms, unique }, SignatureValue::Ecdsa { r, s }) => {
                self.scheme_is(parms.scheme, AsymScheme::Ecdsa(hash))?;
                let (algorithm, size) = match (parms.curve, hash) {
                    (ecc::NIST_P256, HashAlg::Sha256) => (&rs::ECDSA_P256_SHA256_FIXED, 32),
                    (ecc::NIST_P384, HashAlg::Sha384) => (&rs::ECDSA_P384_SHA384_FIXED, 48),
                    (curve, hash) => return unsupported(format!("ECDSA on curve {curve:#06x} with {hash}")),
                };
                let point = uncompressed(unique.x.as_bytes(), unique.y.as_bytes(), size)?;
                let raw = [padded(r.as_bytes(), size)?, padded(s.as_bytes(), size)?].concat();
                UnparsedPublicKey::new(algorithm, point).verify(message, &raw)
            }
            (PublicKind::Rsa { parms, unique }, SignatureValue::Rsassa(sig) | SignatureValue::Rsapss(sig)) => {
                let pss = matches!(signature.value, SignatureValue::Rsapss(_));
                let scheme = if pss { AsymScheme::Rsapss(hash) } else { AsymScheme::Rsassa(hash) };
                self.scheme_is(parms.scheme, scheme)?;
                let algorithm = match (pss, hash) {
                    (false, HashAlg::Sha256) => &rs::RSA_PKCS1_2048_8192_SHA256,
                    (false, HashAlg::Sha384) => &rs::RSA_PKCS1_2048_8192_SHA384,
                    (false, HashAlg::Sha512) => &rs::RSA_PKCS1_2048_8192_SHA512,
                    (true, HashAlg::Sha256) => &rs::RSA_PSS_2048_8192_SHA256,
                    (true, HashAlg::Sha384) => &rs::RSA_PSS_2048_8192_SHA384,
                    (true, HashAlg::Sha512) => &rs::RSA_PSS_2048_8192_SHA512,
                    (_, hash) => return unsupported(format!("RSA with {hash}")),
                };
                let exponent = exponent(parms.exponent);
                let key = RsaPublicKeyComponents { n: strip(unique.as_bytes()), e: strip(&exponent) };
                key.verify(algorithm, message, sig.as_bytes())
            }
            _ => return unsupported("this pair of key type and signature scheme".to_owned()),
        };
        verified.map_err(|_| QuoteError::BadSignature)
    }

    fn scheme_is(&self, fixed: AsymScheme, used: AsymScheme) -> Result<(), QuoteError> {
        if fixed == AsymScheme::Null || fixed == used { Ok(()) } else { Err(QuoteError::BadSignature) }
    }

    /// The key as a DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
    pub fn to_spki(&self) -> Result<Vec<u8>, QuoteError> {
        let unsupported = |what: String| Err(QuoteError::Unsupported(what));
        match &self.public.kind {
            PublicKind::Ecc { parms, unique } => {
                let (oid, size): (&[u8], _) = match parms.curve {
                    ecc::NIST_P256 => (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 32),
                    ecc::NIST_P384 => (&[0x2b, 0x81, 0x04, 0x00, 0x22], 48),
                    curve => return unsupported(format!("curve {curve:#06x}")),
                };
                let point = uncompressed(unique.x.as_bytes(), unique.y.as_bytes(), size)?;
                let ec_public_key = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
                let algorithm = der(0x30, &[&der(0x06, &[&ec_public_key]), &der(0x06, &[oid])]);
                Ok(der(0x30, &[&algorithm, &der(0x03, &[&[0], &point])]))
            }
            PublicKind::Rsa { parms, unique } => {
                let rsa_encryption = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
                let algorithm = der(0x30, &[&der(0x06, &[&rsa_encryption]), &der(0x05, &[])]);
                let numbers = [der_integer(unique.as_bytes()), der_integer(&exponent(parms.exponent))];
                let key = der(0x30, &[&numbers.concat()]);
                Ok(der(0x30, &[&algorithm, &der(0x03, &[&[0], &key])]))
            }
            PublicKind::KeyedHash { .. } | PublicKind::SymCipher { .. } => unsupported("a symmetric key".to_owned()),
        }
    }

    /// The key as PEM `PUBLIC KEY`.
    pub fn to_pem(&self) -> Result<String, QuoteError> {
        let der = self.to_spki()?;
        pem_rfc7468::encode_string("PUBLIC KEY", LineEnding::LF, &der)
            .map_err(|_| QuoteError::Unsupported("a key of this size".to_owned()))
    }

    /// The TPMT_PUBLIC.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.public.to_vec()
    }
}

/// RSA exponent: 0 stands for 2^16 + 1 (Part 2, 12.2.3.5).
fn exponent(e: u32) -> [u8; 4] {
    if e == 0 { 65537 } else { e }.to_be_bytes()
}

fn strip(mut number: &[u8]) -> &[u8] {
    while let Some((0, rest)) = number.split_first() {
        number = rest;
    }
    number
}

/// A big-endian number in exactly `size` bytes: TPMs may strip or add leading zeros (Part 1, C.8).
fn padded(number: &[u8], size: usize) -> Result<Vec<u8>, QuoteError> {
    let number = strip(number);
    let zeros = size.checked_sub(number.len()).ok_or(QuoteError::BadSignature)?;
    Ok([&vec![0; zeros], number].concat())
}

fn uncompressed(x: &[u8], y: &[u8], size: usize) -> Result<Vec<u8>, QuoteError> {
    let bad = |_| QuoteError::Unsupported("a point with coordinates too large for its curve".to_owned());
    Ok([&[4][..], &padded(x, size).map_err(bad)?, &padded(y, size).map_err(bad)?].concat())
}

/// One DER element; contents stay far below 64 KiB here.
fn der(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let len = contents.len().to_be_bytes();
    let len = strip(&len);
    let mut out = vec![tag];
    match (contents.len(), len) {
        (0, _) => out.push(0),
        (..128, short) => out.extend_from_slice(short),
        (_, long) => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
    out.extend(contents);
    out
}

fn der_integer(number: &[u8]) -> Vec<u8> {
    let number = strip(number);
    // A set top bit would make it negative.
    let sign: &[u8] = if number.first().is_none_or(|b| b & 0x80 != 0) { &[0] } else { &[] };
    der(0x02, &[sign, number])
}
