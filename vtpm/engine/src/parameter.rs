//! Encryption of the first parameter of a command or response (Part 1, 21).

use bulla_tpm_types::{HashAlg, Nonce, Rc, SessionSymmetric, rc};
use zeroize::Zeroizing;

use super::crypto::{AES_BLOCK, Direction, aes_cfb, kdfa};
use super::session::Session;

/// The largest AES key.
const MAX_KEY: usize = 32;

/// Encrypts or decrypts in place the contents of the TPM2B that `params` starts with; its size stays readable.
///
/// `auth` is the authValue of what the session authorizes, even if the session is bound to it (21.2). `newer` is
/// the nonce of whoever sends, `older` the other side's.
///
/// # Errors
/// TPM_RC_INSUFFICIENT when the parameters end before the TPM2B's size does, TPM_RC_SIZE when they end before its
/// contents do.
pub(super) fn crypt(
    session: &Session,
    auth: &[u8],
    newer: &Nonce,
    older: &Nonce,
    params: &mut [u8],
    direction: Direction,
) -> Result<(), Rc> {
    let (size, rest) = params.split_first_chunk_mut::<2>().ok_or(rc::INSUFFICIENT)?;
    let size = usize::from(u16::from_be_bytes(*size));
    let data = rest.get_mut(..size).ok_or(rc::SIZE)?;
    let key = Zeroizing::new([&session.key[..], auth].concat());
    match session.symmetric {
        SessionSymmetric::Null => Err(rc::SYMMETRIC),
        SessionSymmetric::Xor(alg) => {
            xor(alg, &key, newer, older, data);
            Ok(())
        }
        SessionSymmetric::Aes { bits, .. } => {
            let mut derived = Zeroizing::new([0; MAX_KEY + AES_BLOCK]);
            let bytes = usize::from(bits / 8);
            let material = derived.get_mut(..bytes + AES_BLOCK).ok_or(rc::SYMMETRIC)?;
            kdfa(session.hash, &key, "CFB", newer, older, material);
            let (key, iv) = material.split_last_chunk::<AES_BLOCK>().ok_or(rc::SYMMETRIC)?;
            aes_cfb(key, iv, data, direction).ok_or(rc::SYMMETRIC)
        }
    }
}

/// XOR obfuscation (Part 1, 11.4.6.3): the same in both directions.
fn xor(alg: HashAlg, key: &[u8], newer: &Nonce, older: &Nonce, data: &mut [u8]) {
    let mut mask = Zeroizing::new(alloc::vec![0; data.len()]);
    kdfa(alg, key, "XOR", newer, older, &mut mask);
    data.iter_mut().zip(mask.iter()).for_each(|(d, m)| *d ^= m);
}
