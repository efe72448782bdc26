//! Derived objects (Part 1, 28): the same object from a derivation parent, a label and a context, each time.
//!
//! All of this is frozen: whoever has a derived key has it only as long as it derives in the same way.

use bulla_tpm_types::{Derive, HashAlg, ObjectAttributes, Public, PublicKind, Rc, rc};
use subtle::{Choice, ConditionallySelectable};
use zeroize::Zeroizing;

use super::create::{data_size, is_parent, symmetric_unique};
use super::crypto::kdfa;
use super::ecc::{self, PrivateKey};
use super::object::{Material, Private};
use super::secret::Secret;

/// Octets that a derivation has at most: the length that its KDFa is told, whatever is used of it. It is the
/// reference implementation's, so that its parents derive the same objects here.
const LENGTH: usize = 1024;
/// Octets by which the number that a private key is made of is longer than the order (FIPS 186-5, A.2.1).
const EXTRA: usize = 8;

/// The output of a parent's KDFa, taken from its beginning on.
struct Stream {
    octets: Zeroizing<[u8; LENGTH]>,
    used: usize,
}

impl Stream {
    fn take(&mut self, size: usize) -> Result<Secret, Rc> {
        let end = self.used.saturating_add(size);
        let taken = self.octets.get(self.used..end).ok_or(rc::NO_RESULT)?;
        self.used = end;
        Ok(Secret::new(taken.into()))
    }
}

/// Whether an object's attributes let it be derived from this parent (Part 1, 28.4; Part 3, 12.9): the TPM is not the
/// data's origin, and the object stays with its parent.
pub(super) fn fits_parent(public: &Public, parent: &Public) -> bool {
    use ObjectAttributes as A;
    let has = |bit| public.attributes.contains(bit);
    !has(A::SENSITIVE_DATA_ORIGIN)
        && has(A::FIXED_PARENT)
        && has(A::FIXED_TPM) == parent.attributes.contains(A::FIXED_TPM)
}

/// Makes the object of a template from a parent's hash algorithm and key.
///
/// # Errors
/// TPM_RC_TYPE for RSA, whose keys nobody derives.
pub(super) fn make(
    (alg, key): (HashAlg, &[u8]),
    derive: &Derive,
    template: &Public,
    name_alg: HashAlg,
) -> Result<(Public, Private), Rc> {
    let mut stream = Stream { octets: Zeroizing::new([0; LENGTH]), used: 0 };
    kdfa(alg, key, derive.label.as_bytes(), &derive.context, &[], &mut stream.octets[..]);
    let mut public = *template;
    let (material, seed) = match &mut public.kind {
        PublicKind::Rsa { .. } => return Err(rc::TYPE),
        PublicKind::Ecc { parms, unique } => {
            let order = ecc::parameters(parms.curve).ok_or(rc::CURVE)?.n;
            let number = scalar(&stream.take(order.len() + EXTRA)?, &order);
            let key = PrivateKey::from_bytes(parms.curve, &number).ok_or(rc::FAILURE)?;
            *unique = key.point().ok_or(rc::FAILURE)?;
            let seed = if is_parent(template) { stream.take(name_alg.size())? } else { Secret::default() };
            (Material::Ecc(key), seed)
        }
        PublicKind::KeyedHash { unique, .. } | PublicKind::SymCipher { unique, .. } => {
            let data = stream.take(data_size(template, name_alg))?;
            let seed = stream.take(name_alg.size())?;
            *unique = symmetric_unique(template, name_alg, &seed, &data);
            (Material::Data(data), seed)
        }
    };
    Ok((public, Private { seed, material }))
}

/// A private key from a longer number: x mod (n-1) + 1 (FIPS 186-5, A.2.1). No branch and no index depends on x.
fn scalar(x: &[u8], order: &[u8]) -> Secret {
    // An order is odd: one less only clears the last bit.
    let last = order.len().saturating_sub(1);
    let modulus = || order.iter().enumerate().rev().map(|(at, o)| if at == last { o & 0xfe } else { *o }).chain([0]);
    // The remainder, and an octet for twice as much.
    let mut r = Secret::new(alloc::vec![0; order.len() + 1].into());
    let mut less = r.clone();
    for bit in x.iter().flat_map(|octet| (0..8).rev().map(move |n| octet >> n & 1)) {
        let mut carry = bit;
        for octet in r.iter_mut().rev() {
            let high = *octet >> 7;
            *octet = *octet << 1 | carry;
            carry = high;
        }
        let mut borrow = 0;
        for ((less, r), m) in less.iter_mut().zip(r.iter()).rev().zip(modulus()) {
            let [high, low] = (0x100 + u16::from(*r) - u16::from(m) - borrow).to_be_bytes();
            *less = low;
            borrow = u16::from(1 - high);
        }
        let negative = Choice::from(borrow.to_be_bytes()[1]);
        for (r, less) in r.iter_mut().zip(less.iter()) {
            *r = u8::conditional_select(less, r, negative);
        }
    }
    let mut carry = 1;
    for octet in r.iter_mut().rev() {
        let [high, low] = (u16::from(*octet) + carry).to_be_bytes();
        *octet = low;
        carry = u16::from(high);
    }
    Secret::new(r.get(1..).unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::unhex;
    use bulla_tpm_types::{KeyedHashScheme, Label, Symmetric, alg, ecc as curves, templates};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The key and the seed that 32 octets 5a derive.
    fn derived(kind: PublicKind, attributes: u32, label: &[u8], context: &[u8]) -> (Public, String, String) {
        let attributes = ObjectAttributes::from_bits(attributes);
        let template = Public { kind, attributes, ..templates::ak_p256() };
        let derive = Derive { label: Label::new(label).expect("fits"), context: Label::new(context).expect("fits") };
        let (public, private) = make((HashAlg::Sha256, &[0x5a; 32]), &derive, &template, HashAlg::Sha256).expect("one");
        let key = match &private.material {
            Material::Ecc(key) => hex(&key.to_bytes()),
            Material::Data(data) => hex(data),
            Material::Rsa(_) => unreachable!("RSA is not derived"),
        };
        (public, key, hex(&private.seed))
    }

    fn pair(curve: u16) -> PublicKind {
        let PublicKind::Ecc { parms, unique } = templates::ak_p256().kind else { unreachable!("a pair") };
        PublicKind::Ecc { parms: bulla_tpm_types::EccParms { curve, ..parms }, unique }
    }

    /// Frozen: the values were computed by another implementation (of KDFa and of FIPS 186-5, A.2.1, in Python). A
    /// change here takes every derived key away from its owner.
    #[test]
    fn derived_pairs_are_for_ever() {
        for (label, context, curve, want) in [
            (
                &b"label"[..],
                &b"context"[..],
                curves::NIST_P256,
                "58c48777bfc768d2331c2f71dbe3afc04335284ec3af5c1b7d656594adc7418b",
            ),
            (
                b"label",
                b"context",
                curves::NIST_P384,
                "b0df60e9f0a941ad0f34a9413e8ef8cd1b3d47e4212baf6a7a8b6b6e2f56d76f3d26ea76e0f451a8aa9f24f624f8922c",
            ),
            (
                b"label",
                b"context",
                curves::NIST_P521,
                "00df60e9f0a941ad0f34a9413e8ef8ccfcf227638f13df5a9b25c8a755afeae75e10\
                 3022e367ed8319aeb6204cb3f9ce0d8f6542004c0808c5506f7e3632aa9eb746",
            ),
            (b"", b"", curves::NIST_P256, "f96c0d66bd7d953c04f8727e4c6823c882192e537fc0b80868a241c687cd08fe"),
            // A label that ends in a zero has its terminator already.
            (b"ends\0", b"x", curves::NIST_P256, "a4ce14f5f9c2607ba0aa20003ed605dc5fb13d1afa5ddde0c153b1081f22f165"),
        ] {
            let (public, key, seed) = derived(pair(curve), 0x0004_0050, label, context);
            assert_eq!((key.as_str(), seed.as_str()), (want, ""));
            let PublicKind::Ecc { unique, .. } = public.kind else { panic!("a pair") };
            assert!(PrivateKey::from_bytes(curve, &unhex(want)).is_some_and(|key| key.is_of(curve, &unique)));
        }
    }

    /// Frozen, and computed elsewhere, too: a cipher's key, an HMAC key, and a derivation parent below the first.
    #[test]
    fn derived_data_are_for_ever() {
        let sym = Symmetric::Aes { bits: 128, mode: alg::CFB };
        let keyed = |scheme| PublicKind::KeyedHash { scheme, unique: Default::default() };
        let xor = KeyedHashScheme::Xor { hash: HashAlg::Sha256, kdf: alg::KDF1_SP800_108 };
        for (kind, attributes, key, seed, unique) in [
            (
                PublicKind::SymCipher { sym, unique: Default::default() },
                0x0006_0050,
                "88fcb24ca7e5268eb0df60e9f0a941ad",
                "0f34a9413e8ef8ccfcf227638f13df5a99a0a2890963acfa1b4d1490aeff88f9",
                "f08cae18e182bd3fad3c2e6b30583c9271b247896e6c562f04db4309bcd5603f",
            ),
            (
                keyed(xor),
                0x0003_0050,
                "88fcb24ca7e5268eb0df60e9f0a941ad0f34a9413e8ef8ccfcf227638f13df5a",
                "99a0a2890963acfa1b4d1490aeff88f9c70a74d86f767b67880f23ba3df5a6a3",
                "0449785030bc3dbbdf20ce95f845e02dbd44e0f313c020c4ec1f75394ce9ccd3",
            ),
        ] {
            let (public, own_key, own_seed) = derived(kind, attributes, b"label", b"context");
            assert_eq!((own_key.as_str(), own_seed.as_str()), (key, seed));
            let (PublicKind::SymCipher { unique: own, .. } | PublicKind::KeyedHash { unique: own, .. }) = public.kind
            else {
                panic!("symmetric")
            };
            assert_eq!(hex(&own), unique);
        }
        let kind = keyed(KeyedHashScheme::Hmac(HashAlg::Sha384));
        let (_, key, seed) = derived(kind, 0x0004_0050, b"label", b"context");
        let octets = "88fcb24ca7e5268eb0df60e9f0a941ad0f34a9413e8ef8ccfcf227638f13df5a99a0a2890963acfa1b4d1490aeff88f9";
        assert_eq!(key, octets);
        assert_eq!(seed, "c70a74d86f767b67880f23ba3df5a6a3d40c106cf3843a575205efa2ad1bd57e");
    }

    /// The ends of the range; computed in Python.
    #[test]
    fn numbers_become_private_keys() {
        let n = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
        let of = |x: &str| hex(&scalar(&unhex(x), &unhex(n)));
        let long = |x: &str| format!("{}{x}", "0".repeat(80 - x.len()));
        let one = format!("{}1", "0".repeat(63));
        assert_eq!(of(&long("")), one);
        assert_eq!(of(&long(&n.replace("2551", "254f"))), n.replace("2551", "2550"));
        assert_eq!(of(&long(&n.replace("2551", "2550"))), one);
        assert_eq!(of(&long(n)), format!("{}2", "0".repeat(63)));
        let most = "fffffffe00000001431905529c0166cd22159165b6faae71f756a572fc632550";
        assert_eq!(of(&"f".repeat(80)), most);
    }
}
