//! The schemes: padding and operation together.

use alloc::vec::Vec;

use bulla_tpm_types::{AsymScheme, HashAlg, PublicKeyRsa, Rc, SignatureValue, rc};

use super::key::{PrivateKey, PublicKey};
use super::padding;
use crate::drbg::Drbg;
use crate::secret::Secret;

/// Signs a digest with RSASSA-PKCS1-v1_5 or RSASSA-PSS.
///
/// # Errors
/// TPM_RC_SCHEME for another scheme, or one whose digests the key is too small for; TPM_RC_NO_RESULT when the key
/// is none.
pub(crate) fn sign(
    random: &mut Drbg,
    key: &PrivateKey,
    scheme: AsymScheme,
    digest: &[u8],
) -> Result<SignatureValue, Rc> {
    let size = key.public().size();
    let (encoded, wrap): (_, fn(PublicKeyRsa) -> SignatureValue) = match scheme {
        AsymScheme::Rsassa(alg) => (padding::pkcs1(alg, digest, size), SignatureValue::Rsassa),
        AsymScheme::Rsapss(alg) => (padding::pss(random, alg, digest, size), SignatureValue::Rsapss),
        _ => return Err(rc::SCHEME),
    };
    let signature = key.apply(random, &encoded.ok_or(rc::SCHEME)?).ok_or(rc::NO_RESULT)?;
    PublicKeyRsa::new(&signature).map(wrap).ok_or(rc::NO_RESULT)
}

/// Whether a signature is one over this digest; its scheme is its own.
pub(crate) fn verify(key: &PublicKey, alg: HashAlg, digest: &[u8], signature: &SignatureValue) -> bool {
    match signature {
        // Encoding again leaves a signer no freedom that a decoder would have to find (Bleichenbacher, 2006).
        SignatureValue::Rsassa(value) => {
            let want = padding::pkcs1(alg, digest, key.size());
            want.is_some() && whole(key, value).and_then(|v| key.apply(v)) == want
        }
        SignatureValue::Rsapss(value) => {
            let encoded = whole(key, value).and_then(|v| key.apply(v));
            encoded.is_some_and(|encoded| padding::is_pss(alg, digest, &encoded))
        }
        _ => false,
    }
}

/// Octets that are as many as the modulus has.
fn whole<'a>(key: &PublicKey, octets: &'a [u8]) -> Option<&'a [u8]> {
    (octets.len() == key.size()).then_some(octets)
}

/// Encrypts with OAEP, RSAES-PKCS1-v1_5 or no padding (Part 3, 14.2). `label` has its terminating zero.
///
/// # Errors
/// TPM_RC_VALUE for what is too long, or not below the modulus; TPM_RC_SCHEME for another scheme.
pub(crate) fn encrypt(
    random: &mut Drbg,
    key: &PublicKey,
    scheme: AsymScheme,
    label: &[u8],
    message: &[u8],
) -> Result<Vec<u8>, Rc> {
    let size = key.size();
    let padded = match scheme {
        AsymScheme::Oaep(alg) => padding::oaep(random, alg, label, message, size),
        AsymScheme::Rsaes => padding::rsaes(random, message, size),
        AsymScheme::Null => Some(Secret::new(message.into())),
        _ => return Err(rc::SCHEME),
    };
    padded.and_then(|p| key.apply(&p)).ok_or(rc::VALUE)
}

/// Decrypts what [`encrypt`] has encrypted (Part 3, 14.3).
///
/// # Errors
/// TPM_RC_SIZE when it is not as long as the modulus; TPM_RC_VALUE when it is not below the modulus or the padding
/// is wrong, whatever is wrong with it; TPM_RC_SCHEME for another scheme.
pub(crate) fn decrypt(
    random: &mut Drbg,
    key: &PrivateKey,
    scheme: AsymScheme,
    label: &[u8],
    encrypted: &[u8],
) -> Result<Secret, Rc> {
    let encrypted = whole(key.public(), encrypted).ok_or(rc::SIZE)?;
    let padded = key.apply(random, encrypted).ok_or(rc::VALUE)?;
    let message = match scheme {
        AsymScheme::Oaep(alg) => padding::oaep_message(alg, label, padded),
        AsymScheme::Rsaes => padding::rsaes_message(&padded),
        AsymScheme::Null => Some(padded),
        _ => return Err(rc::SCHEME),
    };
    message.ok_or(rc::VALUE)
}
