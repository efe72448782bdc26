//! HMAC by TPM algorithm, and KDFa.

use bulla_tpm_types::{Ha, HashAlg};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

/// HMAC over the concatenation of `parts`.
pub(super) fn hmac(alg: HashAlg, key: &[u8], parts: &[&[u8]]) -> Ha {
    fn run<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]], out: &mut Ha) {
        // HMAC takes keys of any length.
        if let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) {
            parts.iter().for_each(|p| mac.update(p));
            out.as_bytes_mut().copy_from_slice(&mac.finalize().into_bytes());
        }
    }
    let mut out = Ha::zero(alg);
    match alg {
        HashAlg::Sha1 => run::<Hmac<Sha1>>(key, parts, &mut out),
        HashAlg::Sha256 => run::<Hmac<Sha256>>(key, parts, &mut out),
        HashAlg::Sha384 => run::<Hmac<Sha384>>(key, parts, &mut out),
        HashAlg::Sha512 => run::<Hmac<Sha512>>(key, parts, &mut out),
    }
    out
}

/// KDFa: SP 800-108 in counter mode with HMAC (Part 1, 11.4.10.2).
///
/// `label` is without its terminating zero, which is added here. Whole octets only.
pub(super) fn kdfa(alg: HashAlg, key: &[u8], label: &str, context_u: &[u8], context_v: &[u8], out: &mut [u8]) {
    let bits = (out.len() as u32).saturating_mul(8).to_be_bytes();
    let blocks = out.chunks_mut(alg.size());
    for (counter, block) in (1u32..).zip(blocks) {
        let mac = hmac(alg, key, &[&counter.to_be_bytes(), label.as_bytes(), &[0], context_u, context_v, &bits]);
        block.copy_from_slice(&mac.as_bytes()[..block.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::unhex;

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_known_answers() {
        let mac = |alg| hmac(alg, b"Jefe", &[b"what do ya want ", b"for nothing?"]).as_bytes().to_vec();
        let sha256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(mac(HashAlg::Sha256), unhex(sha256));
        // RFC 2202, test case 2.
        assert_eq!(mac(HashAlg::Sha1), unhex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"));
    }

    /// Two blocks, the second cut; computed with another HMAC (Python's).
    #[test]
    fn kdfa_known_answer() {
        let mut out = [0; 48];
        kdfa(HashAlg::Sha256, b"key", "LABEL", b"u", b"vv", &mut out);
        let want = "ecde2b92a59ecca7129b6e97d4b4d43a3a2f85a9f6564d803ac60ad78c6c1b01\
                    801331536290cc193c368dd449340974";
        assert_eq!(out.to_vec(), unhex(want));
    }
}
