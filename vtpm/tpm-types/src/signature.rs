//! Signatures (Part 2, 11.3).

use crate::buffers::{EccParameter, Ha, PublicKeyRsa};
use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::{AlgId, HashAlg, alg};
use crate::error::{Error, ErrorKind};

/// TPMU_SIGNATURE: the signature itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureValue {
    /// TPM_ALG_RSASSA.
    Rsassa(PublicKeyRsa),
    /// TPM_ALG_RSAPSS.
    Rsapss(PublicKeyRsa),
    /// TPM_ALG_ECDSA.
    Ecdsa {
        /// r, big-endian.
        r: EccParameter,
        /// s, big-endian.
        s: EccParameter,
    },
    /// TPM_ALG_ECDAA.
    Ecdaa {
        /// The nonce that was hashed with the digest.
        r: EccParameter,
        /// s, big-endian.
        s: EccParameter,
    },
    /// TPM_ALG_ECSCHNORR.
    EcSchnorr {
        /// r, big-endian.
        r: EccParameter,
        /// s, big-endian.
        s: EccParameter,
    },
}

/// TPMT_SIGNATURE (Part 2, 11.3.4): null, or a signature over a digest of `hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "stored in place so that it is Copy and needs no allocation")]
pub enum Signature {
    /// TPM_ALG_NULL.
    Null,
    /// A signature of one of the asymmetric schemes.
    Signed {
        /// The hash algorithm of the signed digest.
        hash: HashAlg,
        /// The signature.
        value: SignatureValue,
    },
    /// TPM_ALG_HMAC.
    Hmac(Ha),
}

impl Marshal for Signature {
    fn marshal(&self, w: &mut Writer) {
        match self {
            Self::Null => w.put(&alg::NULL),
            Self::Hmac(mac) => {
                w.put(&alg::HMAC);
                w.put(mac);
            }
            Self::Signed { hash, value } => {
                w.put(match value {
                    SignatureValue::Rsassa(_) => &alg::RSASSA,
                    SignatureValue::Rsapss(_) => &alg::RSAPSS,
                    SignatureValue::Ecdsa { .. } => &alg::ECDSA,
                    SignatureValue::Ecdaa { .. } => &alg::ECDAA,
                    SignatureValue::EcSchnorr { .. } => &alg::ECSCHNORR,
                });
                w.put(hash);
                match value {
                    SignatureValue::Rsassa(sig) | SignatureValue::Rsapss(sig) => w.put(sig),
                    SignatureValue::Ecdsa { r, s }
                    | SignatureValue::Ecdaa { r, s }
                    | SignatureValue::EcSchnorr { r, s } => {
                        w.put(r);
                        w.put(s);
                    }
                }
            }
        }
    }
}

impl<'a> Unmarshal<'a> for Signature {
    /// An unknown algorithm is TPM_RC_SCHEME.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        let id = r.get::<AlgId>()?;
        match id {
            alg::NULL => return Ok(Self::Null),
            alg::HMAC => return r.get().map(Self::Hmac),
            alg::RSASSA | alg::RSAPSS | alg::ECDSA | alg::ECDAA | alg::ECSCHNORR => {}
            _ => return Err(at.error(ErrorKind::Scheme, "TPMI_ALG_SIG_SCHEME")),
        }
        let hash = r.get()?;
        let value = match id {
            alg::RSASSA => SignatureValue::Rsassa(r.get()?),
            alg::RSAPSS => SignatureValue::Rsapss(r.get()?),
            alg::ECDAA => SignatureValue::Ecdaa { r: r.get()?, s: r.get()? },
            alg::ECSCHNORR => SignatureValue::EcSchnorr { r: r.get()?, s: r.get()? },
            _ => SignatureValue::Ecdsa { r: r.get()?, s: r.get()? },
        };
        Ok(Self::Signed { hash, value })
    }
}
