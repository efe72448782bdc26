//! Key templates that every party agrees on.

use crate::attributes::ObjectAttributes;
use crate::buffers::{Digest, EccParameter};
use crate::constants::{HashAlg, ecc};
use crate::public::{EccParms, EccPoint, Public, PublicKind};
use crate::schemes::{AsymScheme, KdfScheme, Symmetric};

/// PolicyA with SHA-256: PolicySecret(TPM_RH_ENDORSEMENT) (TCG EK Credential Profile 2.5, B.6.2).
pub const EK_POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

const EK_ATTRIBUTES: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .with(ObjectAttributes::FIXED_PARENT)
    .with(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .with(ObjectAttributes::ADMIN_WITH_POLICY)
    .with(ObjectAttributes::RESTRICTED)
    .with(ObjectAttributes::DECRYPT);

const AK_ATTRIBUTES: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .with(ObjectAttributes::FIXED_PARENT)
    .with(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .with(ObjectAttributes::USER_WITH_AUTH)
    .with(ObjectAttributes::NO_DA)
    .with(ObjectAttributes::RESTRICTED)
    .with(ObjectAttributes::SIGN);

/// The default endorsement key template L-2, ECC NIST P-256 (TCG EK Credential Profile 2.5, B.3.4).
#[must_use]
pub fn ek_p256() -> Public {
    let zero = EccParameter::zeros(32).unwrap_or_default();
    Public {
        name_alg: Some(HashAlg::Sha256),
        attributes: EK_ATTRIBUTES,
        auth_policy: Digest::new(&EK_POLICY_A_SHA256).unwrap_or_default(),
        kind: PublicKind::Ecc {
            parms: EccParms {
                symmetric: Symmetric::AES_128_CFB,
                scheme: AsymScheme::Null,
                curve: ecc::NIST_P256,
                kdf: KdfScheme::Null,
            },
            unique: EccPoint { x: zero, y: zero },
        },
    }
}

/// bulla's attestation key: a restricted signing key, ECDSA with P-256 and SHA-256.
#[must_use]
pub fn ak_p256() -> Public {
    Public {
        name_alg: Some(HashAlg::Sha256),
        attributes: AK_ATTRIBUTES,
        auth_policy: Digest::EMPTY,
        kind: PublicKind::Ecc {
            parms: EccParms {
                symmetric: Symmetric::Null,
                scheme: AsymScheme::Ecdsa(HashAlg::Sha256),
                curve: ecc::NIST_P256,
                kdf: KdfScheme::Null,
            },
            unique: EccPoint::default(),
        },
    }
}
