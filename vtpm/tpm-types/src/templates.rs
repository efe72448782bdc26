//! Key templates that every party agrees on.

use crate::attributes::ObjectAttributes;
use crate::buffers::{Digest, EccParameter, PublicKeyRsa};
use crate::constants::{HashAlg, alg, ecc};
use crate::public::{EccParms, EccPoint, Public, PublicKind, RsaParms};
use crate::schemes::{AsymScheme, KdfScheme, Symmetric};

/// PolicyA with SHA-256: PolicySecret(TPM_RH_ENDORSEMENT) (TCG EK Credential Profile 2.5, B.6.2).
pub const EK_POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// PolicyB with SHA-256: PolicyA, or a policy in the NV Index 0x01c07f01 (TCG EK Credential Profile 2.5, B.6).
pub const EK_POLICY_B_SHA256: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3, 0xa3, 0x85, 0xd4,
    0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];

/// PolicyB with SHA-384; the NV Index is 0x01c07f02.
pub const EK_POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, 0x07, 0x41, 0x48,
    0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47, 0xba, 0x09, 0x69, 0x96,
    0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

/// PolicyB with SHA-512; the NV Index is 0x01c07f03.
pub const EK_POLICY_B_SHA512: [u8; 64] = [
    0xb8, 0x22, 0x1c, 0xa6, 0x9e, 0x85, 0x50, 0xa4, 0x91, 0x4d, 0xe3, 0xfa, 0xa6, 0xa1, 0x8c, 0x07, 0x2c, 0xc0, 0x12,
    0x08, 0x07, 0x3a, 0x92, 0x8d, 0x5d, 0x66, 0xd5, 0x9e, 0xf7, 0x9e, 0x49, 0xa4, 0x29, 0xc4, 0x1a, 0x6b, 0x26, 0x95,
    0x71, 0xd5, 0x7e, 0xdb, 0x25, 0xfb, 0xdb, 0x18, 0x38, 0x42, 0x56, 0x08, 0xb4, 0x13, 0xcd, 0x61, 0x6a, 0x5f, 0x6d,
    0xb5, 0xb6, 0x07, 0x1a, 0xf9, 0x9b, 0xea,
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

/// A template of the high range: PolicyB instead of PolicyA, use with the authValue, an empty unique field
/// (TCG EK Credential Profile 2.5, B.4).
fn ek_high(name_alg: HashAlg, policy: &[u8], kind: PublicKind) -> Public {
    Public {
        name_alg: Some(name_alg),
        attributes: EK_ATTRIBUTES.with(ObjectAttributes::USER_WITH_AUTH),
        auth_policy: Digest::new(policy).unwrap_or_default(),
        kind,
    }
}

const AES_256_CFB: Symmetric = Symmetric::Aes { bits: 256, mode: alg::CFB };

fn rsa_high(symmetric: Symmetric, key_bits: u16) -> PublicKind {
    PublicKind::Rsa {
        parms: RsaParms { symmetric, scheme: AsymScheme::Null, key_bits, exponent: 0 },
        unique: PublicKeyRsa::EMPTY,
    }
}

fn ecc_high(symmetric: Symmetric, curve: u16) -> PublicKind {
    PublicKind::Ecc {
        parms: EccParms { symmetric, scheme: AsymScheme::Null, curve, kdf: KdfScheme::Null },
        unique: EccPoint::default(),
    }
}

/// The endorsement key template H-1, RSA 2048 (TCG EK Credential Profile 2.5, B.4).
#[must_use]
pub fn ek_h1_rsa2048() -> Public {
    ek_high(HashAlg::Sha256, &EK_POLICY_B_SHA256, rsa_high(Symmetric::AES_128_CFB, 2048))
}

/// The endorsement key template H-2, ECC NIST P-256 (TCG EK Credential Profile 2.5, B.4).
#[must_use]
pub fn ek_h2_p256() -> Public {
    ek_high(HashAlg::Sha256, &EK_POLICY_B_SHA256, ecc_high(Symmetric::AES_128_CFB, ecc::NIST_P256))
}

/// The endorsement key template H-3, ECC NIST P-384 (TCG EK Credential Profile 2.5, B.4).
#[must_use]
pub fn ek_h3_p384() -> Public {
    ek_high(HashAlg::Sha384, &EK_POLICY_B_SHA384, ecc_high(AES_256_CFB, ecc::NIST_P384))
}

/// The endorsement key template H-4, ECC NIST P-521 (TCG EK Credential Profile 2.5, B.4).
#[must_use]
pub fn ek_h4_p521() -> Public {
    ek_high(HashAlg::Sha512, &EK_POLICY_B_SHA512, ecc_high(AES_256_CFB, ecc::NIST_P521))
}

/// The endorsement key template H-6, RSA 3072 (TCG EK Credential Profile 2.5, B.4).
#[must_use]
pub fn ek_h6_rsa3072() -> Public {
    ek_high(HashAlg::Sha384, &EK_POLICY_B_SHA384, rsa_high(AES_256_CFB, 3072))
}

/// The endorsement key template H-7, RSA 4096 (TCG EK Credential Profile 2.5, B.4).
#[must_use]
pub fn ek_h7_rsa4096() -> Public {
    ek_high(HashAlg::Sha384, &EK_POLICY_B_SHA384, rsa_high(AES_256_CFB, 4096))
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

/// The storage root key, ECC NIST P-256 (TCG TPM v2.0 Provisioning Guidance 1.0, 7.5.1).
#[must_use]
pub fn srk_p256() -> Public {
    Public { attributes: SRK_ATTRIBUTES, auth_policy: Digest::EMPTY, ..ek_p256() }
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
