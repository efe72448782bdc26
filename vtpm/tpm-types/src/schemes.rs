//! Symmetric definitions and schemes (Part 2, 11.1 and 11.2).

use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::{AlgId, HashAlg, alg};
use crate::error::{Error, ErrorKind};

/// TPMT_SYM_DEF_OBJECT: AES or none (Part 2, 11.1.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symmetric {
    /// TPM_ALG_NULL.
    #[default]
    Null,
    /// AES with a key of `bits` (128, 192 or 256) in `mode` (CFB for storage keys).
    Aes {
        /// Key size in bits.
        bits: u16,
        /// TPMI_ALG_SYM_MODE.
        mode: AlgId,
    },
}

impl Symmetric {
    /// AES-128 in CFB mode: what storage keys of the PC Client profile use.
    pub const AES_128_CFB: Self = Self::Aes { bits: 128, mode: alg::CFB };
}

impl Marshal for Symmetric {
    fn marshal(&self, w: &mut Writer) {
        match self {
            Self::Null => w.put(&alg::NULL),
            Self::Aes { bits, mode } => {
                w.put(&alg::AES);
                w.u16(*bits);
                w.put(mode);
            }
        }
    }
}

impl<'a> Unmarshal<'a> for Symmetric {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        match r.get::<AlgId>()? {
            alg::NULL => Ok(Self::Null),
            alg::AES => {
                let at = r.clone();
                let bits = r.u16("TPMI_AES_KEY_BITS")?;
                if !matches!(bits, 128 | 192 | 256) {
                    return Err(at.error(ErrorKind::Value, "TPMI_AES_KEY_BITS"));
                }
                let at = r.clone();
                let mode = r.get::<AlgId>()?;
                if !matches!(mode, alg::CMAC | alg::CTR | alg::OFB | alg::CBC | alg::CFB | alg::ECB | alg::NULL) {
                    return Err(at.error(ErrorKind::Mode, "TPMI_ALG_SYM_MODE"));
                }
                Ok(Self::Aes { bits, mode })
            }
            _ => Err(at.error(ErrorKind::Symmetric, "TPMI_ALG_SYM_OBJECT")),
        }
    }
}

/// TPMT_SYM_DEF: how a session encrypts parameters (Part 2, 11.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionSymmetric {
    /// TPM_ALG_NULL: not at all.
    #[default]
    Null,
    /// AES with a key of `bits` in `mode`, which has to be CFB for a session.
    Aes {
        /// Key size in bits.
        bits: u16,
        /// TPMI_ALG_SYM_MODE.
        mode: AlgId,
    },
    /// TPM_ALG_XOR with a mask from this hash algorithm.
    Xor(HashAlg),
}

impl Marshal for SessionSymmetric {
    fn marshal(&self, w: &mut Writer) {
        match *self {
            Self::Null => w.put(&Symmetric::Null),
            Self::Aes { bits, mode } => w.put(&Symmetric::Aes { bits, mode }),
            Self::Xor(hash) => {
                w.put(&alg::XOR);
                w.put(&hash);
            }
        }
    }
}

impl<'a> Unmarshal<'a> for SessionSymmetric {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        if r.rest().starts_with(&alg::XOR.0.to_be_bytes()) {
            r.get::<AlgId>()?;
            return r.get().map(Self::Xor);
        }
        r.get().map(|symmetric| match symmetric {
            Symmetric::Null => Self::Null,
            Symmetric::Aes { bits, mode } => Self::Aes { bits, mode },
        })
    }
}

/// TPMT_RSA_SCHEME, TPMT_ECC_SCHEME and TPMT_SIG_SCHEME: an asymmetric scheme and its details (Part 2, 11.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the algorithms of those names")]
pub enum AsymScheme {
    #[default]
    Null,
    Rsassa(HashAlg),
    Rsapss(HashAlg),
    Rsaes,
    Oaep(HashAlg),
    Ecdsa(HashAlg),
    Ecdaa {
        hash: HashAlg,
        count: u16,
    },
    EcSchnorr(HashAlg),
    Ecdh(HashAlg),
}

impl AsymScheme {
    /// The scheme's identifier.
    #[must_use]
    pub const fn id(&self) -> AlgId {
        match self {
            Self::Null => alg::NULL,
            Self::Rsassa(_) => alg::RSASSA,
            Self::Rsapss(_) => alg::RSAPSS,
            Self::Rsaes => alg::RSAES,
            Self::Oaep(_) => alg::OAEP,
            Self::Ecdsa(_) => alg::ECDSA,
            Self::Ecdaa { .. } => alg::ECDAA,
            Self::EcSchnorr(_) => alg::ECSCHNORR,
            Self::Ecdh(_) => alg::ECDH,
        }
    }

    /// The hash algorithm of the scheme, if it has one.
    #[must_use]
    pub const fn hash(&self) -> Option<HashAlg> {
        match self {
            Self::Null | Self::Rsaes => None,
            Self::Rsassa(h) | Self::Rsapss(h) | Self::Oaep(h) | Self::Ecdsa(h) | Self::EcSchnorr(h) | Self::Ecdh(h) => {
                Some(*h)
            }
            Self::Ecdaa { hash, .. } => Some(*hash),
        }
    }

    /// Whether the scheme signs.
    #[must_use]
    pub const fn is_signing(&self) -> bool {
        matches!(self, Self::Rsassa(_) | Self::Rsapss(_) | Self::Ecdsa(_) | Self::Ecdaa { .. } | Self::EcSchnorr(_))
    }
}

impl Marshal for AsymScheme {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.id());
        if let Some(hash) = self.hash() {
            w.put(&hash);
        }
        if let Self::Ecdaa { count, .. } = self {
            w.u16(*count);
        }
    }
}

impl<'a> Unmarshal<'a> for AsymScheme {
    /// An unknown scheme is TPM_RC_SCHEME.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        Ok(match r.get::<AlgId>()? {
            alg::NULL => Self::Null,
            alg::RSASSA => Self::Rsassa(r.get()?),
            alg::RSAPSS => Self::Rsapss(r.get()?),
            alg::RSAES => Self::Rsaes,
            alg::OAEP => Self::Oaep(r.get()?),
            alg::ECDSA => Self::Ecdsa(r.get()?),
            alg::ECDAA => Self::Ecdaa { hash: r.get()?, count: r.u16("TPMS_SCHEME_ECDAA")? },
            alg::ECSCHNORR => Self::EcSchnorr(r.get()?),
            alg::ECDH => Self::Ecdh(r.get()?),
            _ => return Err(at.error(ErrorKind::Scheme, "TPMI_ALG_ASYM_SCHEME")),
        })
    }
}

/// TPMT_KDF_SCHEME (Part 2, 11.2.3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the algorithms of those names")]
pub enum KdfScheme {
    #[default]
    Null,
    Mgf1(HashAlg),
    Kdf1Sp800_56a(HashAlg),
    Kdf2(HashAlg),
    Kdf1Sp800_108(HashAlg),
}

impl Marshal for KdfScheme {
    fn marshal(&self, w: &mut Writer) {
        let (id, hash) = match self {
            Self::Null => return w.put(&alg::NULL),
            Self::Mgf1(h) => (alg::MGF1, h),
            Self::Kdf1Sp800_56a(h) => (alg::KDF1_SP800_56A, h),
            Self::Kdf2(h) => (alg::KDF2, h),
            Self::Kdf1Sp800_108(h) => (alg::KDF1_SP800_108, h),
        };
        w.put(&id);
        w.put(hash);
    }
}

impl<'a> Unmarshal<'a> for KdfScheme {
    /// An unknown function is TPM_RC_KDF.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        Ok(match r.get::<AlgId>()? {
            alg::NULL => Self::Null,
            alg::MGF1 => Self::Mgf1(r.get()?),
            alg::KDF1_SP800_56A => Self::Kdf1Sp800_56a(r.get()?),
            alg::KDF2 => Self::Kdf2(r.get()?),
            alg::KDF1_SP800_108 => Self::Kdf1Sp800_108(r.get()?),
            _ => return Err(at.error(ErrorKind::Kdf, "TPMI_ALG_KDF")),
        })
    }
}

/// TPMT_KEYEDHASH_SCHEME (Part 2, 11.1.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the algorithms of those names")]
pub enum KeyedHashScheme {
    #[default]
    Null,
    Hmac(HashAlg),
    Xor {
        hash: HashAlg,
        kdf: AlgId,
    },
}

impl Marshal for KeyedHashScheme {
    fn marshal(&self, w: &mut Writer) {
        match self {
            Self::Null => w.put(&alg::NULL),
            Self::Hmac(hash) => {
                w.put(&alg::HMAC);
                w.put(hash);
            }
            Self::Xor { hash, kdf } => {
                w.put(&alg::XOR);
                w.put(hash);
                w.put(kdf);
            }
        }
    }
}

impl<'a> Unmarshal<'a> for KeyedHashScheme {
    /// An unknown scheme is TPM_RC_VALUE, as TPMI_ALG_KEYEDHASH_SCHEME has it.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        Ok(match r.get::<AlgId>()? {
            alg::NULL => Self::Null,
            alg::HMAC => Self::Hmac(r.get()?),
            alg::XOR => {
                let hash = r.get()?;
                let at = r.clone();
                let kdf = r.get::<AlgId>()?;
                match kdf {
                    alg::MGF1 | alg::KDF1_SP800_56A | alg::KDF2 | alg::KDF1_SP800_108 | alg::NULL => {}
                    _ => return Err(at.error(ErrorKind::Kdf, "TPMI_ALG_KDF")),
                }
                Self::Xor { hash, kdf }
            }
            _ => return Err(at.error(ErrorKind::Value, "TPMI_ALG_KEYEDHASH_SCHEME")),
        })
    }
}
