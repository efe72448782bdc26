//! Key templates that every party agrees on.

use crate::attributes::ObjectAttributes;
use crate::buffers::{Digest, EccParameter, PublicKeyRsa};
use crate::constants::{HashAlg, ecc};
use crate::public::{EccParms, EccPoint, Public, PublicKind, RsaParms};
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

const SRK_ATTRIBUTES: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .with(ObjectAttributes::FIXED_PARENT)
    .with(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .with(ObjectAttributes::USER_WITH_AUTH)
    .with(ObjectAttributes::NO_DA)
    .with(ObjectAttributes::RESTRICTED)
    .with(ObjectAttributes::DECRYPT);

fn rsa_2048(symmetric: Symmetric, scheme: AsymScheme, unique: usize) -> PublicKind {
    PublicKind::Rsa {
        parms: RsaParms { symmetric, scheme, key_bits: 2048, exponent: 0 },
        unique: PublicKeyRsa::zeros(unique).unwrap_or_default(),
    }
}

/// The default endorsement key template L-1, RSA 2048 (TCG EK Credential Profile 2.5, B.3.3).
#[must_use]
pub fn ek_rsa2048() -> Public {
    let kind = rsa_2048(Symmetric::AES_128_CFB, AsymScheme::Null, 256);
    Public { kind, ..ek_p256() }
}

/// The storage root key, RSA 2048 (TCG TPM v2.0 Provisioning Guidance 1.0, 7.5.1).
#[must_use]
pub fn srk_rsa2048() -> Public {
    Public {
        name_alg: Some(HashAlg::Sha256),
        attributes: SRK_ATTRIBUTES,
        auth_policy: Digest::EMPTY,
        kind: rsa_2048(Symmetric::AES_128_CFB, AsymScheme::Null, 256),
    }
}

/// An attestation key for who cannot do with curves: a restricted signing key, RSASSA with RSA 2048 and SHA-256.
#[must_use]
pub fn ak_rsa2048() -> Public {
    let kind = rsa_2048(Symmetric::Null, AsymScheme::Rsassa(HashAlg::Sha256), 0);
    Public { kind, ..ak_p256() }
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
