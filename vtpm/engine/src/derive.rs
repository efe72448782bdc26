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
