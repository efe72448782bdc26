//! What TPM2_CertifyX509 knows of X.509 certificates (Part 3, 18.8; RFC 5280): the part that the caller gives, and the
//! part that the TPM adds.

use alloc::vec::Vec;

use bulla_tpm_types::{AsymScheme, HashAlg, ObjectAttributes as A, Public, PublicKind, Rc, ecc, rc};

use super::der::{self, Elements, bit_string, element, integer, tag};
use super::rsa;

/// TCG: 2.23.133.10.1.1.1, the attributes of the certified object.
const TPMA_OBJECT: &[u8] = &[0x67, 0x81, 0x05, 0x0a, 0x01, 0x01, 0x01];
/// RFC 5280, 4.2.1.3: id-ce-keyUsage.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// The extensions of a TBSCertificate (RFC 5280, 4.1).
const EXTENSIONS: u8 = tag::context(3);

/// RFC 8017, A.1: rsaEncryption.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// RFC 8017, A.2.1: id-mgf1.
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
/// RFC 8017, A.2.3: id-RSASSA-PSS.
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
/// RFC 5480, 2.1.1: id-ecPublicKey.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// The caller's part, `partialCertificate`.
pub(super) struct Partial<'a> {
    /// The signature's AlgorithmIdentifier, if the caller gives it.
    pub(super) algorithm: Option<&'a [u8]>,
    /// The issuer, the validity and the subject.
    pub(super) names: &'a [u8],
    /// The extensions.
    pub(super) extensions: &'a [u8],
}

impl<'a> Partial<'a> {
    /// Reads one: a SEQUENCE of three or four others and the extensions.
    ///
    /// # Errors
    /// TPM_RC_SIZE when it is no SEQUENCE of the size that is given, TPM_RC_VALUE for nothing, and for another in it.
    pub(super) fn new(octets: &'a [u8]) -> Result<Self, Rc> {
        let wrong = if octets.is_empty() { rc::VALUE } else { rc::SIZE };
        let inside = der::only(octets, tag::SEQUENCE).ok_or(wrong)?;
        Self::of(inside).ok_or(rc::VALUE)
    }

    fn of(inside: &'a [u8]) -> Option<Self> {
        let mut elements = Elements::new(inside);
        let mut sizes = Vec::new();
        let extensions = loop {
            let next = elements.next()?;
            match next.tag {
                tag::SEQUENCE if sizes.len() < 4 => sizes.push(next.octets.len()),
                EXTENSIONS if elements.rest().is_empty() => break next.octets,
                _ => return None,
            }
        };
        let sequences = inside.get(..inside.len().checked_sub(extensions.len())?)?;
        let (algorithm, names) = match *sizes {
            [_, _, _] => (None, sequences),
            [first, _, _, _] => sequences.split_at_checked(first).map(|(a, names)| (Some(a), names))?,
            _ => return None,
        };
        Some(Self { algorithm, names, extensions })
    }

    /// Checks that the extensions say nothing of an object that its attributes do not.
    ///
    /// # Errors
    /// TPM_RC_ATTRIBUTES, of the object, when they tell other attributes; TPM_RC_VALUE when they are not DER, or the
    /// key usage is missing or not the object's; TPM_RC_RESERVED_BITS for uses that there are none of.
    pub(super) fn check(&self, attributes: A) -> Result<(), Rc> {
        let found = self.extensions().ok_or(rc::VALUE)?;
        if found.attributes.is_some_and(|told| told != attributes.bits()) {
            return Err(rc::ATTRIBUTES);
        }
        let usage = found.key_usage.ok_or(rc::VALUE)?;
        if usage & !KeyUsage::ALL != 0 {
            return Err(rc::RESERVED_BITS);
        }
        let only_for = |uses: u32, needed: A| usage & uses == 0 || attributes.contains(needed);
        // Part 2, 8.11: what an object has to be for each use.
        let fits = only_for(KeyUsage::SIGNS, A::SIGN)
            && only_for(KeyUsage::DECRYPTS, A::DECRYPT)
            && only_for(KeyUsage::NON_REPUDIATION, A::FIXED_TPM)
            && only_for(KeyUsage::KEY_ENCIPHERMENT, A::RESTRICTED);
        if fits { Ok(()) } else { Err(rc::VALUE) }
    }

    /// The extensions that are checked. None is there twice: another reader might see the other (RFC 5280, 4.2).
    fn extensions(&self) -> Option<Found> {
        let mut all = Elements::new(der::only(der::only(self.extensions, EXTENSIONS)?, tag::SEQUENCE)?);
        let mut found = Found::default();
        while !all.rest().is_empty() {
            let mut extension = Elements::new(all.expect(tag::SEQUENCE)?);
            let id = extension.expect(tag::OID)?;
            let mut value = extension.next()?;
            if value.tag == tag::BOOLEAN {
                value = extension.next()?;
            }
            if value.tag != tag::OCTET_STRING || !extension.rest().is_empty() {
                return None;
            }
            let place = match id {
                TPMA_OBJECT => &mut found.attributes,
                KEY_USAGE => &mut found.key_usage,
                _ => continue,
            };
            let bits = der::bits(der::only(value.content, tag::BIT_STRING)?)?;
            if place.replace(bits).is_some() {
                return None;
            }
        }
        Some(found)
    }
}

/// What the extensions say.
#[derive(Default)]
struct Found {
    attributes: Option<u32>,
    key_usage: Option<u32>,
}

/// TPMA_X509_KEY_USAGE (Part 2, 8.11): the bits of RFC 5280, 4.2.1.3, the first of them the highest.
struct KeyUsage;

impl KeyUsage {
    const NON_REPUDIATION: u32 = 1 << 30;
    const KEY_ENCIPHERMENT: u32 = 1 << 29;
    /// digitalSignature, keyCertSign, cRLSign.
    const SIGNS: u32 = 1 << 31 | 1 << 26 | 1 << 25;
    /// keyEncipherment, dataEncipherment, keyAgreement, encipherOnly, decipherOnly.
    const DECRYPTS: u32 = 1 << 29 | 1 << 28 | 1 << 27 | 1 << 24 | 1 << 23;
    const ALL: u32 = Self::NON_REPUDIATION | Self::SIGNS | Self::DECRYPTS;
}

/// An AlgorithmIdentifier with NULL as its parameters.
fn with_null(oid: &[u8]) -> Vec<u8> {
    element(tag::SEQUENCE, &[&element(tag::OID, &[oid]), &[tag::NULL, 0]])
}

/// The AlgorithmIdentifier of a signature by a key, `None` for schemes that have none.
pub(super) fn algorithm(signer: &Public, scheme: AsymScheme) -> Option<Vec<u8>> {
    match (scheme, &signer.kind) {
        // RFC 5758, 3.2: without parameters.
        (AsymScheme::Ecdsa(hash), _) => {
            let oid: &[u8] = match hash {
                HashAlg::Sha1 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1],
                HashAlg::Sha256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
                HashAlg::Sha384 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
                HashAlg::Sha512 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
            };
            Some(element(tag::SEQUENCE, &[&element(tag::OID, &[oid])]))
        }
        // RFC 8017, A.2.4.
        (AsymScheme::Rsassa(hash), _) => {
            let last = match hash {
                HashAlg::Sha1 => 5,
                HashAlg::Sha256 => 11,
                HashAlg::Sha384 => 12,
                HashAlg::Sha512 => 13,
            };
            Some(with_null(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last]))
        }
        (AsymScheme::Rsapss(hash), PublicKind::Rsa { parms, .. }) => {
            let salt = rsa::salt_size(hash, usize::from(parms.key_bits / 8))?;
            let parameters = element(tag::SEQUENCE, &[&pss_parameters(hash, salt)]);
            Some(element(tag::SEQUENCE, &[&element(tag::OID, &[RSASSA_PSS]), &parameters]))
        }
        _ => None,
    }
}

/// What is in RSASSA-PSS-params (RFC 8017, A.2.3). SHA-1, MGF1 with it, and 20 are the defaults, which DER leaves out.
fn pss_parameters(hash: HashAlg, salt: usize) -> Vec<u8> {
    let oid: &[u8] = match hash {
        HashAlg::Sha1 => &[],
        HashAlg::Sha256 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1],
        HashAlg::Sha384 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2],
        HashAlg::Sha512 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3],
    };
    let mut out = Vec::new();
    if !oid.is_empty() {
        let hash = with_null(oid);
        let mask = element(tag::SEQUENCE, &[&element(tag::OID, &[MGF1]), &hash]);
        out.extend(element(tag::context(0), &[&hash]));
        out.extend(element(tag::context(1), &[&mask]));
    }
    if salt != HashAlg::Sha1.size() {
        out.extend(element(tag::context(2), &[&integer(&salt.to_be_bytes())]));
    }
    out
}

/// SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) of a key pair, `None` for other objects.
pub(super) fn public_key(public: &Public) -> Option<Vec<u8>> {
    let (algorithm, key) = match &public.kind {
        // RFC 3279, 2.3.1.
        PublicKind::Rsa { parms, unique } => {
            let exponent = rsa::exponent(parms)?.to_be_bytes();
            let key = element(tag::SEQUENCE, &[&integer(unique), &integer(&exponent)]);
            (with_null(RSA_ENCRYPTION), key)
        }
        // RFC 5480, 2: the curve by its name, the point uncompressed.
        PublicKind::Ecc { parms, unique } => {
            let curve: &[u8] = match parms.curve {
                ecc::NIST_P256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
                ecc::NIST_P384 => &[0x2b, 0x81, 4, 0, 0x22],
                ecc::NIST_P521 => &[0x2b, 0x81, 4, 0, 0x23],
                _ => return None,
            };
            let names = [&element(tag::OID, &[EC_PUBLIC_KEY])[..], &element(tag::OID, &[curve])];
            (element(tag::SEQUENCE, &names), [&[4], &unique.x[..], &unique.y[..]].concat())
        }
        PublicKind::KeyedHash { .. } | PublicKind::SymCipher { .. } => return None,
    };
    Some(element(tag::SEQUENCE, &[&algorithm, &bit_string(&key)]))
}

/// The version of a certificate: 2, which is the third (RFC 5280, 4.1.2.1).
pub(super) fn version() -> Vec<u8> {
    element(tag::context(0), &[&integer(&[2])])
}

/// Octets of a serial number: the most that there may be (RFC 5280, 4.1.2.2).
const SERIAL: usize = 20;

/// A serial number from a digest of the certificate: positive, and of at most 20 octets.
pub(super) fn serial(digest: &[u8]) -> Vec<u8> {
    let mut number = digest.get(..SERIAL).unwrap_or(digest).to_vec();
    if let Some(first) = number.first_mut() {
        *first &= 0x7f;
    }
    integer(&number)
}
