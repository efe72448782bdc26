//! Algorithm and curve identifiers (Part 2, 6.3 and 6.4; TCG Algorithm Registry).

use core::fmt;

use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::error::{Error, ErrorKind};

/// TPM_ALG_ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlgId(pub u16);

impl Marshal for AlgId {
    fn marshal(&self, w: &mut Writer) {
        w.u16(self.0);
    }
}

impl<'a> Unmarshal<'a> for AlgId {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        r.u16("TPM_ALG_ID").map(Self)
    }
}

/// TPM_ALG_* values.
#[expect(missing_docs, reason = "each constant is the TPM_ALG_ID of that name")]
pub mod alg {
    use super::AlgId;

    pub const ERROR: AlgId = AlgId(0x0000);
    pub const RSA: AlgId = AlgId(0x0001);
    pub const SHA1: AlgId = AlgId(0x0004);
    pub const HMAC: AlgId = AlgId(0x0005);
    pub const AES: AlgId = AlgId(0x0006);
    pub const MGF1: AlgId = AlgId(0x0007);
    pub const KEYEDHASH: AlgId = AlgId(0x0008);
    pub const XOR: AlgId = AlgId(0x000a);
    pub const SHA256: AlgId = AlgId(0x000b);
    pub const SHA384: AlgId = AlgId(0x000c);
    pub const SHA512: AlgId = AlgId(0x000d);
    pub const NULL: AlgId = AlgId(0x0010);
    pub const SM3_256: AlgId = AlgId(0x0012);
    pub const RSASSA: AlgId = AlgId(0x0014);
    pub const RSAES: AlgId = AlgId(0x0015);
    pub const RSAPSS: AlgId = AlgId(0x0016);
    pub const OAEP: AlgId = AlgId(0x0017);
    pub const ECDSA: AlgId = AlgId(0x0018);
    pub const ECDH: AlgId = AlgId(0x0019);
    pub const ECDAA: AlgId = AlgId(0x001a);
    pub const ECSCHNORR: AlgId = AlgId(0x001c);
    pub const KDF1_SP800_56A: AlgId = AlgId(0x0020);
    pub const KDF2: AlgId = AlgId(0x0021);
    pub const KDF1_SP800_108: AlgId = AlgId(0x0022);
    pub const ECC: AlgId = AlgId(0x0023);
    pub const SYMCIPHER: AlgId = AlgId(0x0025);
    pub const CMAC: AlgId = AlgId(0x003f);
    pub const CTR: AlgId = AlgId(0x0040);
    pub const OFB: AlgId = AlgId(0x0041);
    pub const CBC: AlgId = AlgId(0x0042);
    pub const CFB: AlgId = AlgId(0x0043);
    pub const ECB: AlgId = AlgId(0x0044);
}

/// TPM_ECC_CURVE values.
#[expect(missing_docs, reason = "each constant is the TPM_ECC_CURVE of that name")]
pub mod ecc {
    pub const NIST_P256: u16 = 0x0003;
    pub const NIST_P384: u16 = 0x0004;
    pub const NIST_P521: u16 = 0x0005;
}

/// TPMI_ALG_HASH: the hash algorithms this crate can size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants are the algorithms of those names")]
pub enum HashAlg {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl HashAlg {
    /// The hash algorithms, in the order of their identifiers.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The PCR banks of bulla's vTPM, in the order of their identifiers.
    pub const BANKS: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha384];

    /// The digest's size in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm's identifier.
    #[must_use]
    pub const fn id(self) -> AlgId {
        match self {
            Self::Sha1 => alg::SHA1,
            Self::Sha256 => alg::SHA256,
            Self::Sha384 => alg::SHA384,
            Self::Sha512 => alg::SHA512,
        }
    }

    /// The algorithm with this identifier, if it is one of those known here.
    #[must_use]
    pub fn from_id(id: AlgId) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.id() == id)
    }

    /// Reads a TPMI_ALG_HASH+, in which TPM_ALG_NULL stands for `None`.
    pub fn unmarshal_or_null(r: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        if r.rest().starts_with(&alg::NULL.0.to_be_bytes()) {
            return r.get::<AlgId>().map(|_| None);
        }
        r.get().map(Some)
    }

    /// The identifier of an optional algorithm: TPM_ALG_NULL for `None`.
    #[must_use]
    pub fn id_or_null(alg: Option<Self>) -> AlgId {
        alg.map_or(alg::NULL, Self::id)
    }
}

impl fmt::Display for HashAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

impl Marshal for HashAlg {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.id());
    }
}

impl<'a> Unmarshal<'a> for HashAlg {
    /// An unknown algorithm is TPM_RC_HASH.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        Self::from_id(r.get()?).ok_or_else(|| at.error(ErrorKind::Hash, "TPMI_ALG_HASH"))
    }
}
