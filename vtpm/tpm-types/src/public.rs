//! The public area of an object (Part 2, 12.2).

use crate::attributes::ObjectAttributes;
use crate::buffers::{Digest, EccParameter, Label, PublicKeyRsa};
use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::{AlgId, HashAlg, alg, ecc};
use crate::error::{Error, ErrorKind};
use crate::schemes::{AsymScheme, KdfScheme, KeyedHashScheme, Symmetric};

/// TPMS_ECC_POINT (Part 2, 11.2.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EccPoint {
    /// X coordinate, big-endian.
    pub x: EccParameter,
    /// Y coordinate, big-endian.
    pub y: EccParameter,
}

impl Marshal for EccPoint {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.x);
        w.put(&self.y);
    }
}

impl<'a> Unmarshal<'a> for EccPoint {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { x: r.get()?, y: r.get()? })
    }
}

/// TPMS_DERIVE: what tells the objects of one derivation parent apart (Part 2, 11.1.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Derive {
    /// The label.
    pub label: Label,
    /// The context.
    pub context: Label,
}

impl Marshal for Derive {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.label);
        w.put(&self.context);
    }
}

impl<'a> Unmarshal<'a> for Derive {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { label: r.get()?, context: r.get()? })
    }
}

/// TPMS_ECC_PARMS (Part 2, 12.2.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EccParms {
    /// How the key's children are protected, for a restricted decryption key.
    pub symmetric: Symmetric,
    /// The only scheme the key may be used with, if not null.
    pub scheme: AsymScheme,
    /// TPM_ECC_CURVE.
    pub curve: u16,
    /// Key derivation of the scheme.
    pub kdf: KdfScheme,
}

impl Marshal for EccParms {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.symmetric);
        w.put(&self.scheme);
        w.u16(self.curve);
        w.put(&self.kdf);
    }
}

impl<'a> Unmarshal<'a> for EccParms {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let symmetric = r.get()?;
        let at = r.clone();
        let scheme = r.get()?;
        if matches!(scheme, AsymScheme::Rsassa(_) | AsymScheme::Rsapss(_) | AsymScheme::Rsaes | AsymScheme::Oaep(_)) {
            return Err(at.error(ErrorKind::Scheme, "TPMI_ALG_ECC_SCHEME"));
        }
        let at = r.clone();
        let curve = r.u16("TPMI_ECC_CURVE")?;
        if !matches!(curve, ecc::NIST_P256 | ecc::NIST_P384 | ecc::NIST_P521) {
            return Err(at.error(ErrorKind::Curve, "TPMI_ECC_CURVE"));
        }
        Ok(Self { symmetric, scheme, curve, kdf: r.get()? })
    }
}

/// TPMS_RSA_PARMS (Part 2, 12.2.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RsaParms {
    /// How the key's children are protected, for a restricted decryption key.
    pub symmetric: Symmetric,
    /// The only scheme the key may be used with, if not null.
    pub scheme: AsymScheme,
    /// Size of the modulus in bits.
    pub key_bits: u16,
    /// Public exponent; 0 is 65537.
    pub exponent: u32,
}

impl Marshal for RsaParms {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.symmetric);
        w.put(&self.scheme);
        w.u16(self.key_bits);
        w.u32(self.exponent);
    }
}

impl<'a> Unmarshal<'a> for RsaParms {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let symmetric = r.get()?;
        let at = r.clone();
        let known = [alg::NULL, alg::RSASSA, alg::RSAPSS, alg::RSAES, alg::OAEP];
        if !known.contains(&at.clone().get::<AlgId>()?) {
            // TPMI_ALG_RSA_SCHEME answers TPM_RC_VALUE where its ECC sister answers TPM_RC_SCHEME.
            return Err(at.error(ErrorKind::Value, "TPMI_ALG_RSA_SCHEME"));
        }
        let scheme = r.get()?;
        let at = r.clone();
        let key_bits = r.u16("TPMI_RSA_KEY_BITS")?;
        if !matches!(key_bits, 1024 | 2048 | 3072 | 4096) {
            return Err(at.error(ErrorKind::Value, "TPMI_RSA_KEY_BITS"));
        }
        Ok(Self { symmetric, scheme, key_bits, exponent: r.u32("exponent")? })
    }
}

/// TPMU_PUBLIC_PARMS and TPMU_PUBLIC_ID: what the object type says about the object (Part 2, 12.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "stored in place so that it is Copy and needs no allocation")]
pub enum PublicKind {
    /// TPM_ALG_RSA.
    Rsa {
        /// Parameters.
        parms: RsaParms,
        /// The modulus.
        unique: PublicKeyRsa,
    },
    /// TPM_ALG_ECC.
    Ecc {
        /// Parameters.
        parms: EccParms,
        /// The public point.
        unique: EccPoint,
    },
    /// TPM_ALG_KEYEDHASH: an HMAC or XOR key, or a sealed data blob.
    KeyedHash {
        /// Scheme.
        scheme: KeyedHashScheme,
        /// Digest over the sensitive data and the obfuscation value.
        unique: Digest,
    },
    /// TPM_ALG_SYMCIPHER.
    SymCipher {
        /// The cipher.
        sym: Symmetric,
        /// Digest over the key and the obfuscation value.
        unique: Digest,
    },
}

impl PublicKind {
    /// TPMI_ALG_PUBLIC.
    #[must_use]
    pub const fn id(&self) -> AlgId {
        match self {
            Self::Rsa { .. } => alg::RSA,
            Self::Ecc { .. } => alg::ECC,
            Self::KeyedHash { .. } => alg::KEYEDHASH,
            Self::SymCipher { .. } => alg::SYMCIPHER,
        }
    }
}

/// TPMT_PUBLIC: the public area of an object, or a template for one (Part 2, 12.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public {
    /// The algorithm of the object's Name; `None` is TPM_ALG_NULL.
    pub name_alg: Option<HashAlg>,
    /// TPMA_OBJECT.
    pub attributes: ObjectAttributes,
    /// The policy for using the object.
    pub auth_policy: Digest,
    /// Type, parameters and unique identifier.
    pub kind: PublicKind,
}

impl Marshal for Public {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.kind.id());
        w.put(&HashAlg::id_or_null(self.name_alg));
        w.put(&self.attributes);
        w.put(&self.auth_policy);
        match &self.kind {
            PublicKind::Rsa { parms, unique } => {
                w.put(parms);
                w.put(unique);
            }
            PublicKind::Ecc { parms, unique } => {
                w.put(parms);
                w.put(unique);
            }
            PublicKind::KeyedHash { scheme, unique } => {
                w.put(scheme);
                w.put(unique);
            }
            PublicKind::SymCipher { sym, unique } => {
                w.put(sym);
                w.put(unique);
            }
        }
    }
}

impl<'a> Unmarshal<'a> for Public {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let mut public = Self::without_unique(r)?;
        match &mut public.kind {
            PublicKind::Rsa { unique, .. } => *unique = r.get()?,
            PublicKind::Ecc { unique, .. } => *unique = r.get()?,
            PublicKind::KeyedHash { unique, .. } | PublicKind::SymCipher { unique, .. } => *unique = r.get()?,
        }
        Ok(public)
    }
}

impl Public {
    /// Reads the template of a derived object, in which a TPMS_DERIVE has the place of the unique field
    /// (Part 2, 12.2.6).
    pub fn unmarshal_derived(r: &mut Reader<'_>) -> Result<(Self, Derive), Error> {
        Ok((Self::without_unique(r)?, r.get()?))
    }

    /// Reads everything before the unique field, which is left empty.
    fn without_unique(r: &mut Reader<'_>) -> Result<Self, Error> {
        let at = r.clone();
        let kind = r.get::<AlgId>()?;
        if !matches!(kind, alg::RSA | alg::ECC | alg::KEYEDHASH | alg::SYMCIPHER) {
            return Err(at.error(ErrorKind::Type, "TPMI_ALG_PUBLIC"));
        }
        let name_alg = HashAlg::unmarshal_or_null(r)?;
        let attributes = r.get()?;
        let auth_policy = r.get()?;
        let kind = match kind {
            alg::RSA => PublicKind::Rsa { parms: r.get()?, unique: PublicKeyRsa::EMPTY },
            alg::ECC => PublicKind::Ecc { parms: r.get()?, unique: EccPoint::default() },
            alg::KEYEDHASH => PublicKind::KeyedHash { scheme: r.get()?, unique: Digest::EMPTY },
            _ => {
                let at = r.clone();
                let sym = r.get()?;
                if sym == Symmetric::Null {
                    return Err(at.error(ErrorKind::Symmetric, "TPMI_ALG_SYM_OBJECT"));
                }
                PublicKind::SymCipher { sym, unique: Digest::EMPTY }
            }
        };
        Ok(Self { name_alg, attributes, auth_policy, kind })
    }
}

#[cfg(feature = "hash")]
impl Public {
    /// The object's Name: nameAlg ‖ H(public area) (Part 1, 16); empty when nameAlg is TPM_ALG_NULL.
    #[must_use]
    pub fn name(&self) -> crate::Name {
        let Some(alg) = self.name_alg else {
            return crate::Name::EMPTY;
        };
        let digest = crate::hash::digest(alg, &[&self.to_vec()]);
        crate::Name::new(&digest.to_vec()).unwrap_or_default()
    }
}
