//! What the arithmetic and the paddings do, with second opinions.

use bulla_tpm_types::{AsymScheme, HashAlg, RsaParms, SignatureValue, hash};
use ring::signature::{self as peer, VerificationAlgorithm};

use super::key::{PrivateKey, exponent, number};
use super::{decrypt, encrypt, generate, sign, verify};
use crate::drbg::Drbg;
use crypto_bigint::ConcatenatingMul;

fn key(bits: u16) -> (Drbg, PrivateKey) {
    let mut random = Drbg::new(&[b"rsa tests", &bits.to_be_bytes()]);
    let key = generate(&mut random, bits, 65537).expect("a key");
    (random, key)
}

fn parms(bits: u16) -> RsaParms {
    RsaParms { key_bits: bits, exponent: 0, symmetric: Default::default(), scheme: AsymScheme::Null }
}

const HASHES: [HashAlg; 4] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

/// The public key as ring wants it: n, then e.
fn is_accepted_by_ring(key: &PrivateKey, alg: HashAlg, message: &[u8], signature: &SignatureValue) -> bool {
    let (verifier, value) = match (signature, alg) {
        (SignatureValue::Rsassa(v), HashAlg::Sha256) => (&peer::RSA_PKCS1_2048_8192_SHA256, v),
        (SignatureValue::Rsassa(v), HashAlg::Sha384) => (&peer::RSA_PKCS1_2048_8192_SHA384, v),
        (SignatureValue::Rsassa(v), HashAlg::Sha512) => (&peer::RSA_PKCS1_2048_8192_SHA512, v),
        (SignatureValue::Rsapss(v), HashAlg::Sha256) => (&peer::RSA_PSS_2048_8192_SHA256, v),
        (SignatureValue::Rsapss(v), HashAlg::Sha384) => (&peer::RSA_PSS_2048_8192_SHA384, v),
        (SignatureValue::Rsapss(v), HashAlg::Sha512) => (&peer::RSA_PSS_2048_8192_SHA512, v),
        _ => panic!("not one of ring's"),
    };
    let public = peer::RsaPublicKeyComponents { n: &key.modulus()[..], e: &[1, 0, 1] };
    let _: &dyn VerificationAlgorithm = verifier;
    public.verify(verifier, message, value).is_ok()
}

#[test]
fn signatures_are_accepted_by_another_implementation_and_refused_when_touched() {
    let (mut random, key) = key(2048);
    for alg in HASHES {
        let digest = hash::digest(alg, &[b"message"]);
        for scheme in [AsymScheme::Rsassa(alg), AsymScheme::Rsapss(alg)] {
            let signature = sign(&mut random, &key, scheme, digest.as_bytes()).expect("a signature");
            assert!(verify(key.public(), alg, digest.as_bytes(), &signature), "{scheme:?}");
            assert!(!verify(key.public(), alg, hash::digest(alg, &[b"other"]).as_bytes(), &signature));
            // ring knows no SHA-1 here.
            if alg != HashAlg::Sha1 {
                assert!(is_accepted_by_ring(&key, alg, b"message", &signature), "{scheme:?}");
                assert!(!is_accepted_by_ring(&key, alg, b"other", &signature));
            }
            let (SignatureValue::Rsassa(value) | SignatureValue::Rsapss(value)) = signature else { panic!() };
            for at in [0, 1, 128, 255] {
                let mut touched = value.to_vec();
                touched[at] ^= 1;
                let touched = bulla_tpm_types::PublicKeyRsa::new(&touched).expect("fits");
                for signature in [SignatureValue::Rsassa(touched), SignatureValue::Rsapss(touched)] {
                    assert!(!verify(key.public(), alg, digest.as_bytes(), &signature), "{at}");
                }
            }
        }
    }
}

#[test]
fn the_smallest_key_signs_with_the_longest_digest() {
    let (mut random, key) = key(1024);
    let digest = [7; 64];
    for scheme in [AsymScheme::Rsassa(HashAlg::Sha512), AsymScheme::Rsapss(HashAlg::Sha512)] {
        let signature = sign(&mut random, &key, scheme, &digest).expect("a signature");
        assert!(verify(key.public(), HashAlg::Sha512, &digest, &signature));
    }
}

#[test]
fn what_is_encrypted_is_decrypted_and_nothing_else() {
    for bits in [1024, 2048] {
        let (mut random, key) = key(bits);
        let size = usize::from(bits / 8);
        for scheme in [AsymScheme::Rsaes, AsymScheme::Oaep(HashAlg::Sha1), AsymScheme::Oaep(HashAlg::Sha256)] {
            let most = match scheme {
                AsymScheme::Oaep(alg) => size - 2 * alg.size() - 2,
                _ => size - 11,
            };
            for len in [0, 1, 16, most] {
                let message: Vec<u8> = (0..len).map(|i| i as u8).collect();
                let encrypted = encrypt(&mut random, key.public(), scheme, b"label\0", &message).expect("encrypted");
                let back = decrypt(&mut random, &key, scheme, b"label\0", &encrypted).expect("decrypted");
                assert_eq!(back[..], message[..]);
                let mut touched = encrypted.clone();
                touched[size / 2] ^= 4;
                // One of 2^16 wrong paddings of RSAES is right.
                if scheme != AsymScheme::Rsaes {
                    assert!(decrypt(&mut random, &key, scheme, b"label\0", &touched).is_err());
                    assert!(decrypt(&mut random, &key, scheme, b"other\0", &encrypted).is_err());
                }
                assert!(decrypt(&mut random, &key, scheme, b"label\0", &encrypted[1..]).is_err());
            }
            assert!(encrypt(&mut random, key.public(), scheme, b"", &vec![1; most + 1]).is_err());
        }
        let mut message = vec![0x11; size];
        let encrypted = encrypt(&mut random, key.public(), AsymScheme::Null, b"", &message).expect("encrypted");
        assert_eq!(decrypt(&mut random, &key, AsymScheme::Null, b"", &encrypted).expect("decrypted")[..], message[..]);
        message.fill(0xff);
        assert!(encrypt(&mut random, key.public(), AsymScheme::Null, b"", &message).is_err());
    }
}

#[test]
fn a_key_is_its_modulus_and_one_prime() {
    let (_, key) = key(1024);
    let (n, p) = (key.modulus(), key.prime());
    let parms = parms(1024);
    assert!(PrivateKey::from_prime(&parms, &n, &p).is_some());
    let mut other = p.clone();
    other[10] ^= 2;
    assert!(PrivateKey::from_prime(&parms, &n, &other).is_none());
    assert!(PrivateKey::from_prime(&parms, &n, &p[1..]).is_none());
    assert!(PrivateKey::from_prime(&parms, &n, &[]).is_none());
    assert!(PrivateKey::from_prime(&parms, &n, &[0; 64]).is_none());
    assert!(PrivateKey::from_prime(&parms, &n[1..], &p).is_none());
    assert!(PrivateKey::from_prime(&self::parms(2048), &n, &p).is_none());
    // It divides, but is no prime.
    let composite = number(&[0xff; 64], 64).expect("fits");
    let square = super::key::octets(&composite.concatenating_mul(&composite), 128);
    assert!(PrivateKey::from_prime(&parms, &square, &[0xff; 64]).is_none());
}

#[test]
fn exponents_are_primes_above_65536() {
    let of = |e| exponent(&RsaParms { exponent: e, ..parms(2048) });
    assert_eq!(of(0), Some(65537));
    for good in [65537, 65539, 4_294_967_291] {
        assert_eq!(of(good), Some(good));
    }
    for bad in [1, 2, 3, 17, 65535, 65536, 65538, 65541, 4_294_967_295] {
        assert_eq!(of(bad), None, "{bad}");
    }
}

#[test]
fn another_exponent_makes_a_key_that_works() {
    let mut random = Drbg::new(&[b"exponent"]);
    let key = generate(&mut random, 1024, 4_294_967_291).expect("a key");
    let signature = sign(&mut random, &key, AsymScheme::Rsassa(HashAlg::Sha256), &[1; 32]).expect("a signature");
    assert!(verify(key.public(), HashAlg::Sha256, &[1; 32], &signature));
}
