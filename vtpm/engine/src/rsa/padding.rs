//! Paddings (RFC 8017, 7 to 9; Part 1, B.4 to B.7). `size` is that of the modulus in octets, which have no bits to
//! spare: the highest octet of what is padded may be anything below the modulus'.

use alloc::vec::Vec;

use bulla_tpm_types::{HashAlg, hash};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater};
use zeroize::{Zeroize, Zeroizing};

use crate::drbg::Drbg;
use crate::secret::Secret;

/// The DER of a DigestInfo before its digest (RFC 8017, 9.2, note 1).
fn digest_info(alg: HashAlg) -> &'static [u8] {
    match alg {
        HashAlg::Sha1 => &[0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14],
        HashAlg::Sha256 => &[
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04,
            0x20,
        ],
        HashAlg::Sha384 => &[
            0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04,
            0x30,
        ],
        HashAlg::Sha512 => &[
            0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04,
            0x40,
        ],
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017, 9.2); `None` when the digest is not the algorithm's or the key is too small.
pub(super) fn pkcs1(alg: HashAlg, digest: &[u8], size: usize) -> Option<Vec<u8>> {
    /// 00 01, at least eight FF, 00.
    const OVERHEAD: usize = 11;
    let info = digest_info(alg);
    let filler = size.checked_sub(OVERHEAD + info.len() + digest.len())? + 8;
    if digest.len() != alg.size() {
        return None;
    }
    Some([&[0, 1][..], &alloc::vec![0xff; filler], &[0], info, digest].concat())
}

/// Octets of a salt: as many as a digest, or what fits if that is less (Part 1, B.7; FIPS 186-5, 5.4).
pub(crate) fn salt_size(alg: HashAlg, size: usize) -> Option<usize> {
    size.checked_sub(alg.size() + 2).map(|room| room.min(alg.size()))
}

/// H of EMSA-PSS (RFC 8017, 9.1.1, step 6).
fn pss_hash(alg: HashAlg, digest: &[u8], salt: &[u8]) -> bulla_tpm_types::Ha {
    hash::digest(alg, &[&[0; 8], digest, salt])
}

/// EMSA-PSS encoding (RFC 8017, 9.1.1).
pub(super) fn pss(random: &mut Drbg, alg: HashAlg, digest: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut salt = alloc::vec![0; salt_size(alg, size)?];
    random.generate(&mut salt);
    let h = pss_hash(alg, digest, &salt);
    let zeros = size.checked_sub(alg.size() + 2 + salt.len())?;
    let mut encoded = [&alloc::vec![0; zeros][..], &[1], &salt].concat();
    mask(alg, h.as_bytes(), &mut encoded);
    *encoded.first_mut()? &= 0x7f;
    encoded.extend_from_slice(h.as_bytes());
    encoded.push(0xbc);
    Some(encoded)
}

/// EMSA-PSS verification (RFC 8017, 9.1.2), whatever the salt's length: the padding says it (Part 1, B.7).
pub(super) fn is_pss(alg: HashAlg, digest: &[u8], encoded: &[u8]) -> bool {
    let parts = || {
        let (last, rest) = encoded.split_last()?;
        let (db, h) = rest.split_at_checked(rest.len().checked_sub(alg.size())?)?;
        (*last == 0xbc && *db.first()? < 0x80).then(|| (db.to_vec(), h))
    };
    let Some((mut db, h)) = parts() else {
        return false;
    };
    mask(alg, h, &mut db);
    if let Some(first) = db.first_mut() {
        *first &= 0x7f;
    }
    let zeros = db.iter().take_while(|b| **b == 0).count();
    let Some((1, salt)) = db.get(zeros..).and_then(|rest| rest.split_first()) else {
        return false;
    };
    pss_hash(alg, digest, salt).as_bytes() == h
}

/// XORs MGF1 of a seed (RFC 8017, B.2.1).
fn mask(alg: HashAlg, seed: &[u8], data: &mut [u8]) {
    for (counter, block) in (0u32..).zip(data.chunks_mut(alg.size())) {
        let mut mask = hash::digest(alg, &[seed, &counter.to_be_bytes()]);
        block.iter_mut().zip(mask.as_bytes()).for_each(|(b, m)| *b ^= m);
        mask.as_bytes_mut().zeroize();
    }
}

/// Whether a message of this length can be encrypted by OAEP.
fn oaep_fits(alg: HashAlg, message: usize, size: usize) -> bool {
    size.checked_sub(2 * alg.size() + 2).is_some_and(|room| message <= room)
}

/// EME-OAEP encoding (RFC 8017, 7.1.1, step 2); `None` when the message is too long.
pub(super) fn oaep(random: &mut Drbg, alg: HashAlg, label: &[u8], message: &[u8], size: usize) -> Option<Secret> {
    if !oaep_fits(alg, message.len(), size) {
        return None;
    }
    let mut encoded = Zeroizing::new(alloc::vec![0; size].into_boxed_slice());
    let (seed, db) = encoded.get_mut(1..)?.split_at_mut_checked(alg.size())?;
    random.generate(seed);
    let at = db.len().checked_sub(message.len())?;
    db.get_mut(..alg.size())?.copy_from_slice(hash::digest(alg, &[label]).as_bytes());
    *db.get_mut(at.checked_sub(1)?)? = 1;
    db.get_mut(at..)?.copy_from_slice(message);
    mask(alg, seed, db);
    mask(alg, db, seed);
    Some(encoded)
}

/// EME-OAEP decoding (RFC 8017, 7.1.2, step 3): every octet is looked at, whatever the others are.
pub(super) fn oaep_message(alg: HashAlg, label: &[u8], mut encoded: Secret) -> Option<Secret> {
    let (first, rest) = encoded.split_first_mut()?;
    let (seed, db) = rest.split_at_mut_checked(alg.size())?;
    mask(alg, db, seed);
    mask(alg, seed, db);
    let (label_hash, padded) = db.split_at_checked(alg.size())?;
    let mut right = first.ct_eq(&0) & label_hash.ct_eq(hash::digest(alg, &[label]).as_bytes());
    // Zeros, a one, and the message.
    let mut begun = Choice::from(0);
    let mut start = 0u32;
    for (i, octet) in (1u32..).zip(padded) {
        let is_one = octet.ct_eq(&1);
        right &= begun | is_one | octet.ct_eq(&0);
        start.conditional_assign(&i, is_one & !begun);
        begun |= is_one;
    }
    tail(padded, start, right & begun)
}

/// EME-PKCS1-v1_5 encoding (RFC 8017, 7.2.1, step 2); `None` when the message is too long.
pub(super) fn rsaes(random: &mut Drbg, message: &[u8], size: usize) -> Option<Secret> {
    let filler = size.checked_sub(3 + message.len()).filter(|f| *f >= MIN_FILLER)?;
    let mut encoded = Zeroizing::new(alloc::vec![0; size].into_boxed_slice());
    *encoded.get_mut(1)? = 2;
    for octet in encoded.get_mut(2..2 + filler)? {
        while *octet == 0 {
            random.generate(core::slice::from_mut(octet));
        }
    }
    encoded.get_mut(3 + filler..)?.copy_from_slice(message);
    Some(encoded)
}

/// Octets that are not zero before the message of EME-PKCS1-v1_5, at least.
const MIN_FILLER: usize = 8;

/// EME-PKCS1-v1_5 decoding (RFC 8017, 7.2.2, step 3): every octet is looked at, whatever the others are.
pub(super) fn rsaes_message(encoded: &Secret) -> Option<Secret> {
    let (head, padded) = encoded.split_at_checked(2)?;
    let mut right = head.ct_eq(&[0, 2]);
    // No zeros, a zero, and the message.
    let mut begun = Choice::from(0);
    let mut start = 0u32;
    for (i, octet) in (1u32..).zip(padded) {
        let is_zero = octet.ct_eq(&0);
        start.conditional_assign(&i, is_zero & !begun);
        begun |= is_zero;
    }
    right &= start.ct_gt(&(MIN_FILLER as u32));
    tail(padded, start, right & begun)
}

/// What begins at `start`, if the padding is right: the caller learns both.
fn tail(padded: &[u8], start: u32, right: Choice) -> Option<Secret> {
    let message = padded.get(start as usize..)?;
    bool::from(right).then(|| Secret::new(message.into()))
}
