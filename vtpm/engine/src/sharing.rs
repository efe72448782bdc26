//! Secrets shared with the owner of a decryption key (Part 1, B.10 and C.6): salts, and the seeds that protect
//! credentials and duplicates.

use alloc::vec::Vec;

use bulla_tpm_types::{AsymScheme, Marshal, PublicKind, Rc, rc};

use super::drbg::Drbg;
use super::ecc;
use super::object::Key;
use super::rsa;
use super::secret::Secret;

pub(super) use ecc::Purpose;

/// What a caller has shared with a loaded key: `secret` is a TPM2B_ENCRYPTED_SECRET's contents.
///
/// # Errors
/// TPM_RC_KEY for a key that shares no secrets; otherwise about `secret`.
pub(super) fn open(random: &mut Drbg, key: &Key, purpose: Purpose, secret: &[u8]) -> Result<Secret, Rc> {
    if !matches!(key.public.kind, PublicKind::Rsa { .. }) {
        return ecc::open(key, purpose, secret);
    }
    let (private, alg) = (key.rsa().ok_or(rc::KEY)?, key.public.name_alg.ok_or(rc::KEY)?);
    let opened = rsa::decrypt(random, private, AsymScheme::Oaep(alg), &label(purpose), secret)?;
    // As many octets as the key's Name has, or fewer; none would be no secret.
    if (1..=alg.size()).contains(&opened.len()) { Ok(opened) } else { Err(rc::VALUE) }
}

/// The other side of [`open`]: a fresh secret for a public key, and what its owner needs to know of it.
pub(super) fn share(random: &mut Drbg, key: &Key, purpose: Purpose) -> Result<(Secret, Vec<u8>), Rc> {
    let PublicKind::Rsa { parms, unique } = &key.public.kind else {
        let (secret, ephemeral) = ecc::share(random, key, purpose)?;
        return Ok((secret, ephemeral.to_vec()));
    };
    let alg = key.public.name_alg.ok_or(rc::KEY)?;
    let public = rsa::PublicKey::new(parms, unique).ok_or(rc::KEY)?;
    let mut secret = Secret::new(alloc::vec![0; alg.size()].into());
    random.generate(&mut secret);
    let shared = rsa::encrypt(random, &public, AsymScheme::Oaep(alg), &label(purpose), &secret)?;
    Ok((secret, shared))
}

/// The label of OAEP, which ends in a zero (Part 1, B.10.4).
fn label(purpose: Purpose) -> Vec<u8> {
    [purpose.label().as_bytes(), &[0]].concat()
}
