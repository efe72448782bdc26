//! What is in the certificates: RFC 5280 for their form, the TCG EK Credential Profile 2.5 for an endorsement key's.

use bulla_tpm_types::{Public, PublicKind, ecc};
use sha2::{Digest as _, Sha256};

use super::der::{self, Der};

/// ecdsa-with-SHA384 (RFC 5758, 3.2).
pub(super) const ECDSA_WITH_SHA384: [u32; 7] = [1, 2, 840, 10045, 4, 3, 3];
const EC_PUBLIC_KEY: [u32; 6] = [1, 2, 840, 10045, 2, 1];
const RSA_ENCRYPTION: [u32; 7] = [1, 2, 840, 113_549, 1, 1, 1];
/// The named curves (RFC 5480, 2.1.1.1).
const SECP256R1: [u32; 7] = [1, 2, 840, 10045, 3, 1, 7];
pub(super) const SECP384R1: [u32; 5] = [1, 3, 132, 0, 34];
const SECP521R1: [u32; 5] = [1, 3, 132, 0, 35];
const COMMON_NAME: [u32; 4] = [2, 5, 4, 3];

/// Extensions (RFC 5280, 4.2.1).
mod extension {
    pub(super) const SUBJECT_DIRECTORY_ATTRIBUTES: [u32; 4] = [2, 5, 29, 9];
    pub(super) const SUBJECT_KEY_IDENTIFIER: [u32; 4] = [2, 5, 29, 14];
    pub(super) const KEY_USAGE: [u32; 4] = [2, 5, 29, 15];
    pub(super) const SUBJECT_ALT_NAME: [u32; 4] = [2, 5, 29, 17];
    pub(super) const BASIC_CONSTRAINTS: [u32; 4] = [2, 5, 29, 19];
    pub(super) const AUTHORITY_KEY_IDENTIFIER: [u32; 4] = [2, 5, 29, 35];
    pub(super) const EXT_KEY_USAGE: [u32; 4] = [2, 5, 29, 37];
}

/// Object identifiers of the TCG's (TCG EK Credential Profile 2.5, 4; TCG Platform Certificate Profile 1.1, 4).
mod tcg {
    pub(super) const TPM_MANUFACTURER: [u32; 5] = [2, 23, 133, 2, 1];
    pub(super) const TPM_MODEL: [u32; 5] = [2, 23, 133, 2, 2];
    pub(super) const TPM_VERSION: [u32; 5] = [2, 23, 133, 2, 3];
    pub(super) const TPM_SPECIFICATION: [u32; 5] = [2, 23, 133, 2, 16];
    pub(super) const PLATFORM_MANUFACTURER: [u32; 6] = [2, 23, 133, 5, 1, 1];
    pub(super) const PLATFORM_MODEL: [u32; 6] = [2, 23, 133, 5, 1, 4];
    pub(super) const PLATFORM_VERSION: [u32; 6] = [2, 23, 133, 5, 1, 5];
    pub(super) const EK_CERTIFICATE: [u32; 5] = [2, 23, 133, 8, 1];
    pub(super) const PLATFORM_CERTIFICATE: [u32; 5] = [2, 23, 133, 8, 2];
}

/// Bits of KeyUsage (RFC 5280, 4.2.1.3), the first one highest.
mod usage {
    pub(super) const KEY_ENCIPHERMENT: u8 = 0x80 >> 2;
    pub(super) const KEY_AGREEMENT: u8 = 0x80 >> 4;
    pub(super) const KEY_CERT_SIGN: u8 = 0x80 >> 5;
    pub(super) const CRL_SIGN: u8 = 0x80 >> 6;
}

/// Whom a certificate is for.
pub(super) struct Subject<'a> {
    /// The subject: a Name.
    pub(super) name: &'a [u8],
    /// SubjectPublicKeyInfo.
    pub(super) public: &'a [u8],
    pub(super) key_id: &'a [u8; 20],
}

/// A public key as certificates have it.
pub(super) struct PublicKey {
    /// SubjectPublicKeyInfo.
    pub(super) info: Der,
    pub(super) key_id: [u8; 20],
    /// What it is used for: encrypting secrets, or agreeing on them.
    usage: u8,
}

impl PublicKey {
    /// That of a TPM's key; `None` for a kind that no endorsement key is of.
    pub(super) fn of(public: &Public) -> Option<Self> {
        match &public.kind {
            PublicKind::Rsa { parms, unique } => {
                let exponent = if parms.exponent == 0 { 65_537 } else { parms.exponent };
                let bits = der::sequence(&[der::integer(unique), der::integer(&exponent.to_be_bytes())]);
                let algorithm = der::sequence(&[der::oid(&RSA_ENCRYPTION), der::null()]);
                let info = der::sequence(&[algorithm, der::bits(&bits)]);
                Some(Self { info, key_id: key_id(&bits), usage: usage::KEY_ENCIPHERMENT })
            }
            PublicKind::Ecc { parms, unique } => {
                let (curve, size) = match parms.curve {
                    ecc::NIST_P256 => (&SECP256R1[..], 32),
                    ecc::NIST_P384 => (&SECP384R1[..], 48),
                    ecc::NIST_P521 => (&SECP521R1[..], 66),
                    _ => return None,
                };
                let mut point = vec![4]; // not compressed (SEC 1, 2.3.3)
                for coordinate in [&unique.x, &unique.y] {
                    point.extend(std::iter::repeat_n(0, usize::checked_sub(size, coordinate.len())?));
                    point.extend_from_slice(coordinate);
                }
                let info = ec_public_key(curve, &point);
                Some(Self { info, key_id: key_id(&point), usage: usage::KEY_AGREEMENT })
            }
            PublicKind::KeyedHash { .. } | PublicKind::SymCipher { .. } => None,
        }
    }
}

/// A key's identifier: the first 160 bits of the SHA-256 of its bits (RFC 7093, 2, method 1).
pub(super) fn key_id(bits: &[u8]) -> [u8; 20] {
    let mut id = [0; 20];
    id.iter_mut().zip(Sha256::digest(bits)).for_each(|(octet, from)| *octet = from);
    id
}

/// SubjectPublicKeyInfo of a point (RFC 5480, 2).
pub(super) fn ec_public_key(curve: &[u32], point: &[u8]) -> Der {
    let algorithm = der::sequence(&[der::oid(&EC_PUBLIC_KEY), der::oid(curve)]);
    der::sequence(&[algorithm, der::bits(point)])
}

fn attribute(kind: &[u32], value: &str) -> Der {
    der::set(vec![der::sequence(&[der::oid(kind), der::utf8(value)])])
}

/// The most characters of a common name (RFC 5280, appendix A.1: ub-common-name).
const COMMON_NAME_SIZE: usize = 64;

/// A Name with nothing but a common name, or several that together are one that is too long.
pub(super) fn common_name(text: &str) -> Der {
    let characters: Vec<char> = text.chars().collect();
    let parts = characters.chunks(COMMON_NAME_SIZE).map(|part| attribute(&COMMON_NAME, &String::from_iter(part)));
    der::sequence(&parts.collect::<Vec<_>>())
}

/// The Name of who has none.
pub(super) fn no_name() -> Der {
    der::sequence(&[])
}

/// What a TPM says of itself, as its certificates say it.
#[derive(Debug)]
pub(super) struct TpmIdentity {
    /// TPM_PT_MANUFACTURER as `id:` and eight hexadecimal digits.
    pub(super) manufacturer: String,
    /// TPM_PT_VENDOR_STRING_1 to _4.
    pub(super) model: String,
    /// TPM_PT_FIRMWARE_VERSION_1 as `id:` and eight hexadecimal digits.
    pub(super) version: String,
    /// TPM_PT_FAMILY_INDICATOR.
    pub(super) family: String,
    /// TPM_PT_LEVEL.
    pub(super) level: u32,
    /// TPM_PT_REVISION.
    pub(super) revision: u32,
}

/// What a certificate says of the key's use and its holder: one extension.
pub(super) struct KeyUse {
    id: &'static [u32],
    critical: bool,
    value: Der,
}

impl KeyUse {
    pub(super) fn extension(&self) -> Der {
        let mut parts = vec![der::oid(self.id)];
        if self.critical {
            parts.push(der::yes());
        }
        parts.push(der::octets(&self.value));
        der::sequence(&parts)
    }

    fn new(id: &'static [u32], critical: bool, value: Der) -> Self {
        Self { id, critical, value }
    }

    /// subjectAltName of a directory name. It is critical where the subject is empty (RFC 5280, 4.2.1.6).
    fn holder(attributes: &[(&[u32], &str)], critical: bool) -> Self {
        let name: Vec<Der> = attributes.iter().map(|(kind, value)| attribute(kind, value)).collect();
        let name = der::explicit(4, &der::sequence(&name));
        Self::new(&extension::SUBJECT_ALT_NAME, critical, der::sequence(&[name]))
    }

    fn usage(bits: u8) -> Self {
        Self::new(&extension::KEY_USAGE, true, der::named_bits(bits))
    }

    fn extended_usage(purpose: &[u32]) -> Self {
        Self::new(&extension::EXT_KEY_USAGE, false, der::sequence(&[der::oid(purpose)]))
    }

    fn no_authority() -> Self {
        Self::new(&extension::BASIC_CONSTRAINTS, true, der::sequence(&[]))
    }
}

/// The extension that names the issuer's key.
pub(super) fn authority_key_identifier(key_id: &[u8; 20]) -> Der {
    let value = der::sequence(&[der::implicit(0, key_id)]);
    KeyUse::new(&extension::AUTHORITY_KEY_IDENTIFIER, false, value).extension()
}

/// The extension that names the subject's key.
pub(super) fn subject_key_identifier(key_id: &[u8; 20]) -> Der {
    KeyUse::new(&extension::SUBJECT_KEY_IDENTIFIER, false, der::octets(key_id)).extension()
}

/// What an authority's own certificate says: it issues, but its subjects do not.
pub(super) fn for_authority() -> Vec<KeyUse> {
    let constraints = der::sequence(&[der::yes(), der::integer(&[0])]);
    vec![
        KeyUse::usage(usage::KEY_CERT_SIGN | usage::CRL_SIGN),
        KeyUse::new(&extension::BASIC_CONSTRAINTS, true, constraints),
    ]
}

/// What an endorsement key's certificate says (TCG EK Credential Profile 2.5, 3.2).
pub(super) fn for_endorsement_key(key: &PublicKey, tpm: &TpmIdentity, named: bool) -> Vec<KeyUse> {
    let specification = der::sequence(&[
        der::utf8(&tpm.family),
        der::integer(&tpm.level.to_be_bytes()),
        der::integer(&tpm.revision.to_be_bytes()),
    ]);
    let attributes =
        der::sequence(&[der::sequence(&[der::oid(&tcg::TPM_SPECIFICATION), der::set(vec![specification])])]);
    let holder: [(&[u32], &str); 3] =
        [(&tcg::TPM_MANUFACTURER, &tpm.manufacturer), (&tcg::TPM_MODEL, &tpm.model), (&tcg::TPM_VERSION, &tpm.version)];
    vec![
        KeyUse::usage(key.usage),
        KeyUse::no_authority(),
        KeyUse::extended_usage(&tcg::EK_CERTIFICATE),
        KeyUse::holder(&holder, !named),
        KeyUse::new(&extension::SUBJECT_DIRECTORY_ATTRIBUTES, false, attributes),
    ]
}

/// What a platform certificate says that is a certificate of the endorsement key, as swtpm's is: the profile's attributes,
/// but not its attribute certificate.
pub(super) fn for_platform(key: &PublicKey, named: bool) -> Vec<KeyUse> {
    let holder: [(&[u32], &str); 3] = [
        (&tcg::PLATFORM_MANUFACTURER, "bulla"),
        (&tcg::PLATFORM_MODEL, "bulla VM"),
        (&tcg::PLATFORM_VERSION, env!("CARGO_PKG_VERSION")),
    ];
    vec![
        KeyUse::usage(key.usage),
        KeyUse::no_authority(),
        KeyUse::extended_usage(&tcg::PLATFORM_CERTIFICATE),
        KeyUse::holder(&holder, !named),
    ]
}
