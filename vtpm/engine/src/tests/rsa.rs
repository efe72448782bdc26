//! RSA keys through commands: as parents, endorsement and attestation keys, for encryption and from outside.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::response::{self, CreatePrimary, ResponseError};
use bulla_tpm_types::{
    AsymScheme, Handle, HashAlg, ObjectAttributes as A, Public, PublicKeyRsa, PublicKind, Reader, RsaParms, Signature,
    Symmetric, cc, rc, rh, templates,
};
use proptest::prelude::*;
use ring::signature as peer;

use super::objects::{child, loaded, sealing_template};
use super::{code, load, run, started};
use crate::Tpm;

/// A key of `bits` that may do what `attributes` say, besides what every key here may.
fn template(bits: u16, attributes: A, scheme: AsymScheme) -> Public {
    let parms = RsaParms { symmetric: Symmetric::Null, scheme, key_bits: bits, exponent: 0 };
    let kind = PublicKind::Rsa { parms, unique: PublicKeyRsa::EMPTY };
    Public { attributes: A::from_bits(0x472).with(attributes), kind, ..templates::ak_rsa2048() }
}

fn modulus(public: &Public) -> &[u8] {
    let PublicKind::Rsa { unique, .. } = &public.kind else { panic!("an RSA key") };
    unique
}

fn crypt(command: u32, key: Handle, data: &[u8], scheme: AsymScheme, label: &[u8]) -> Vec<u8> {
    let builder = match command {
        cc::RSA_DECRYPT => Builder::with_empty_auth(command, &[key], 1),
        _ => Builder::new(command, &[key]),
    };
    let params = builder.params(|w| {
        w.tpm2b(data);
        w.put(&scheme);
        w.tpm2b(label);
    });
    params.build()
}

fn answer(tpm: &mut Tpm, command: &[u8]) -> Result<Vec<u8>, ResponseError> {
    let bytes = run(tpm, command);
    let params = response::parse(&bytes, false)?.params;
    Ok(Reader::new(params).tpm2b(512, "data").expect("a TPM2B").to_vec())
}

#[test]
fn a_primary_key_comes_of_its_seed_again() {
    let mut tpm = started();
    let first = load(&mut tpm, rh::ENDORSEMENT, &templates::ek_rsa2048());
    let again = load(&mut tpm, rh::ENDORSEMENT, &templates::ek_rsa2048());
    assert_eq!(first.name, again.name);
    assert_eq!(modulus(&first.public).len(), 256);
    let other = load(&mut tpm, rh::OWNER, &templates::srk_rsa2048());
    assert_ne!(modulus(&first.public), modulus(&other.public));
}

#[test]
fn a_storage_key_has_children_of_every_kind() {
    let mut tpm = started();
    let parent = load(&mut tpm, rh::OWNER, &templates::srk_rsa2048()).handle;
    let sealed = child(&mut tpm, parent, b"", b"data", &sealing_template());
    loaded(&mut tpm, parent, &sealed);
    let storage = Public {
        kind: match templates::srk_rsa2048().kind {
            PublicKind::Rsa { parms, .. } => {
                PublicKind::Rsa { parms: RsaParms { key_bits: 1024, ..parms }, unique: PublicKeyRsa::EMPTY }
            }
            other => other,
        },
        ..templates::srk_rsa2048()
    };
    let inner = child(&mut tpm, parent, b"", b"", &storage);
    let inner = loaded(&mut tpm, parent, &inner);
    let sealed = child(&mut tpm, inner, b"", b"data", &sealing_template());
    loaded(&mut tpm, inner, &sealed);
    assert_eq!(code(&mut tpm, &load_command(parent, &sealed)), rc::INTEGRITY.parameter(1));
}

fn load_command(parent: Handle, (private, public): &(Vec<u8>, Vec<u8>)) -> Vec<u8> {
    let params = Builder::with_empty_auth(cc::LOAD, &[parent], 1).params(|w| {
        w.tpm2b(private);
        w.tpm2b(public);
    });
    params.build()
}

fn sign(key: Handle, digest: &[u8], scheme: AsymScheme) -> Vec<u8> {
    let params = Builder::with_empty_auth(cc::SIGN, &[key], 1).params(|w| {
        w.tpm2b(digest);
        w.put(&scheme);
        // No ticket.
        w.u16(bulla_tpm_types::st::HASHCHECK);
        w.put(&rh::NULL);
        w.tpm2b(&[]);
    });
    params.build()
}

#[test]
fn signatures_are_accepted_here_and_elsewhere() {
    let mut tpm = started();
    let key = load(&mut tpm, rh::OWNER, &template(2048, A::SIGN, AsymScheme::Null));
    let digest = bulla_tpm_types::hash::digest(HashAlg::Sha256, &[b"message"]);
    let ring = peer::RsaPublicKeyComponents { n: modulus(&key.public), e: &[1, 0, 1] };
    for (scheme, verifier) in [
        (AsymScheme::Rsassa(HashAlg::Sha256), &peer::RSA_PKCS1_2048_8192_SHA256),
        (AsymScheme::Rsapss(HashAlg::Sha256), &peer::RSA_PSS_2048_8192_SHA256),
    ] {
        let bytes = run(&mut tpm, &sign(key.handle, digest.as_bytes(), scheme));
        let params = response::parse(&bytes, false).expect("signed").params;
        let signature: Signature = Reader::new(params).get().expect("a signature");
        let Signature::Signed { value, .. } = signature else { panic!("{signature:?}") };
        let (bulla_tpm_types::SignatureValue::Rsassa(value) | bulla_tpm_types::SignatureValue::Rsapss(value)) = value
        else {
            panic!("{value:?}")
        };
        ring.verify(verifier, b"message", &value).expect("ring agrees");
        let verify = |digest: &[u8]| {
            let builder = Builder::new(cc::VERIFY_SIGNATURE, &[key.handle]).params(|w| {
                w.tpm2b(digest);
                w.put(&signature);
            });
            builder.build()
        };
        assert_eq!(code(&mut tpm, &verify(digest.as_bytes())), bulla_tpm_types::Rc(0));
        assert_eq!(code(&mut tpm, &verify(&[0; 32])), rc::SIGNATURE.parameter(2));
    }
}

/// CVE-2025-2884: what is signed with has to fit the key and the digest.
#[test]
fn a_scheme_that_does_not_fit_is_refused() {
    let mut tpm = started();
    let key = load(&mut tpm, rh::OWNER, &template(1024, A::SIGN, AsymScheme::Null)).handle;
    let fixed = load(&mut tpm, rh::OWNER, &template(1024, A::SIGN, AsymScheme::Rsapss(HashAlg::Sha256))).handle;
    let mut try_it = |key, digest: &[u8], scheme| code(&mut tpm, &sign(key, digest, scheme));
    let sha256 = HashAlg::Sha256;
    assert_eq!(try_it(key, &[0; 32], AsymScheme::Ecdsa(sha256)), rc::SCHEME.parameter(2));
    assert_eq!(try_it(key, &[0; 32], AsymScheme::Null), rc::SCHEME.parameter(2));
    assert_eq!(try_it(key, &[0; 20], AsymScheme::Rsassa(sha256)), rc::SIZE.parameter(1));
    assert_eq!(try_it(fixed, &[0; 32], AsymScheme::Rsassa(sha256)), rc::SCHEME.parameter(2));
    assert_eq!(try_it(fixed, &[0; 64], AsymScheme::Rsapss(HashAlg::Sha512)), rc::SCHEME.parameter(2));
    assert_eq!(try_it(fixed, &[0; 32], AsymScheme::Null), bulla_tpm_types::Rc(0));
}

#[test]
fn data_are_encrypted_and_decrypted() {
    let mut tpm = started();
    let key = load(&mut tpm, rh::OWNER, &template(1024, A::DECRYPT, AsymScheme::Null)).handle;
    for (scheme, label) in [
        (AsymScheme::Rsaes, &b""[..]),
        (AsymScheme::Oaep(HashAlg::Sha1), b""),
        (AsymScheme::Oaep(HashAlg::Sha256), b"label\0"),
    ] {
        let encrypted = answer(&mut tpm, &crypt(cc::RSA_ENCRYPT, key, b"data", scheme, label)).expect("encrypted");
        let decrypted = answer(&mut tpm, &crypt(cc::RSA_DECRYPT, key, &encrypted, scheme, label));
        assert_eq!(decrypted.expect("decrypted"), b"data");
        let short = crypt(cc::RSA_DECRYPT, key, &encrypted[1..], scheme, label);
        assert_eq!(code(&mut tpm, &short), rc::SIZE.parameter(1));
        let long = crypt(cc::RSA_ENCRYPT, key, &[1; 128], scheme, label);
        assert_eq!(code(&mut tpm, &long), rc::VALUE.parameter(1));
        let unterminated = crypt(cc::RSA_ENCRYPT, key, b"data", scheme, b"x");
        assert_eq!(code(&mut tpm, &unterminated), rc::VALUE.parameter(3));
    }
    let mut number = vec![0; 128];
    number[127] = 2;
    let raw = answer(&mut tpm, &crypt(cc::RSA_ENCRYPT, key, &[2], AsymScheme::Null, b"")).expect("encrypted");
    assert_eq!(answer(&mut tpm, &crypt(cc::RSA_DECRYPT, key, &raw, AsymScheme::Null, b"")).expect("back"), number);
    let more = crypt(cc::RSA_DECRYPT, key, &[0xff; 128], AsymScheme::Null, b"");
    assert_eq!(code(&mut tpm, &more), rc::VALUE.parameter(1));
    let padding = crypt(cc::RSA_DECRYPT, key, &raw, AsymScheme::Oaep(HashAlg::Sha256), b"");
    assert_eq!(code(&mut tpm, &padding), rc::VALUE.parameter(1));
    let scheme = crypt(cc::RSA_DECRYPT, key, &raw, AsymScheme::Rsassa(HashAlg::Sha256), b"");
    assert_eq!(code(&mut tpm, &scheme), rc::VALUE.parameter(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever fits comes back; without padding as a number of the modulus' length. What does not fit is refused, for what
    /// it is.
    #[test]
    fn what_is_encrypted_is_decrypted_to_the_same(
        scheme in prop::sample::select(vec![
            AsymScheme::Null, AsymScheme::Rsaes, AsymScheme::Oaep(HashAlg::Sha1), AsymScheme::Oaep(HashAlg::Sha256),
        ]),
        data in prop::collection::vec(any::<u8>(), 0..=128),
        mut label in prop::collection::vec(1..=255u8, 0..60),
    ) {
        let mut tpm = started();
        let key = load(&mut tpm, rh::OWNER, &template(1024, A::DECRYPT, AsymScheme::Null)).handle;
        if !label.is_empty() {
            label.push(0);
        }
        let most = match scheme {
            // A number below the modulus, whose first bit is set.
            AsymScheme::Null => 127,
            // RFC 8017, 7.2.1 and 7.1.1.
            AsymScheme::Rsaes => 128 - 11,
            AsymScheme::Oaep(alg) => 128 - 2 * alg.size() - 2,
            _ => 0,
        };
        let encrypted = answer(&mut tpm, &crypt(cc::RSA_ENCRYPT, key, &data, scheme, &label));
        if data.len() > most {
            let below = scheme == AsymScheme::Null && encrypted.is_ok();
            prop_assert!(below || encrypted == Err(ResponseError::Tpm(rc::VALUE.parameter(1))), "{encrypted:?}");
            return Ok(());
        }
        let encrypted = encrypted.expect("it fits");
        prop_assert_eq!(encrypted.len(), 128);
        let decrypted = answer(&mut tpm, &crypt(cc::RSA_DECRYPT, key, &encrypted, scheme, &label)).expect("decrypted");
        let padded = [vec![0; 128 - data.len()], data.clone()].concat();
        prop_assert_eq!(decrypted, if scheme == AsymScheme::Null { padded } else { data });
    }
}

#[test]
fn only_free_decryption_keys_decrypt() {
    let mut tpm = started();
    let signs = load(&mut tpm, rh::OWNER, &template(1024, A::SIGN, AsymScheme::Null)).handle;
    let stores = load(&mut tpm, rh::OWNER, &templates::srk_rsa2048()).handle;
    let curve = load(&mut tpm, rh::OWNER, &templates::ak_p256()).handle;
    let fixed = load(&mut tpm, rh::OWNER, &template(1024, A::DECRYPT, AsymScheme::Rsaes)).handle;
    let mut try_it = |command, key, scheme| code(&mut tpm, &crypt(command, key, &[0; 128], scheme, b""));
    assert_eq!(try_it(cc::RSA_DECRYPT, signs, AsymScheme::Null), rc::ATTRIBUTES.handle(1));
    assert_eq!(try_it(cc::RSA_ENCRYPT, signs, AsymScheme::Null), rc::ATTRIBUTES.handle(1));
    assert_eq!(try_it(cc::RSA_DECRYPT, stores, AsymScheme::Null), rc::ATTRIBUTES.handle(1));
    assert_eq!(try_it(cc::RSA_DECRYPT, curve, AsymScheme::Null), rc::KEY.handle(1));
    assert_eq!(try_it(cc::RSA_ENCRYPT, curve, AsymScheme::Null), rc::KEY.handle(1));
    assert_eq!(try_it(cc::RSA_DECRYPT, fixed, AsymScheme::Oaep(HashAlg::Sha1)), rc::SCHEME.parameter(2));
    assert_eq!(try_it(cc::RSA_DECRYPT, fixed, AsymScheme::Null), rc::VALUE.parameter(1));
}

#[test]
fn templates_that_make_no_key_are_refused() {
    let mut tpm = started();
    let mut refused = |change: &dyn Fn(&mut Public, &mut RsaParms), scheme, attributes| {
        let mut public = template(2048, attributes, scheme);
        let PublicKind::Rsa { mut parms, unique } = public.kind else { panic!("an RSA key") };
        change(&mut public, &mut parms);
        public.kind = PublicKind::Rsa { parms, unique };
        code(&mut tpm, &bulla_tpm_types::command::create_primary(rh::OWNER, &public))
    };
    let none = |_: &mut Public, _: &mut RsaParms| {};
    let null = AsymScheme::Null;
    assert_eq!(refused(&|_, p| p.exponent = 3, null, A::SIGN), rc::RANGE.parameter(2));
    assert_eq!(refused(&|_, p| p.exponent = 65538, null, A::SIGN), rc::RANGE.parameter(2));
    assert_eq!(refused(&|_, p| p.key_bits = 2000, null, A::SIGN), rc::VALUE.parameter(2));
    assert_eq!(refused(&|_, p| p.symmetric = Symmetric::AES_128_CFB, null, A::SIGN), rc::SYMMETRIC.parameter(2));
    let parent = A::DECRYPT.with(A::RESTRICTED);
    assert_eq!(refused(&none, null, parent), rc::SYMMETRIC.parameter(2));
    assert_eq!(refused(&none, null, A::SIGN.with(A::RESTRICTED)), rc::SCHEME.parameter(2));
    assert_eq!(refused(&none, AsymScheme::Oaep(HashAlg::Sha1), A::SIGN), rc::SCHEME.parameter(2));
    assert_eq!(refused(&none, AsymScheme::Rsassa(HashAlg::Sha1), A::DECRYPT), rc::SCHEME.parameter(2));
    assert_eq!(refused(&none, AsymScheme::Rsapss(HashAlg::Sha1), A::SIGN.with(A::DECRYPT)), rc::SCHEME.parameter(2));
}

#[test]
fn credentials_and_salts_reach_the_owner_of_an_rsa_key() {
    let mut tpm = started();
    // An endorsement key that a password opens.
    let ek = Public { attributes: templates::srk_rsa2048().attributes, ..templates::srk_rsa2048() };
    let ek = load(&mut tpm, rh::ENDORSEMENT, &ek);
    let ak = load(&mut tpm, rh::ENDORSEMENT, &templates::ak_rsa2048());
    let make = Builder::new(cc::MAKE_CREDENTIAL, &[ek.handle]).params(|w| {
        w.tpm2b(b"credential");
        w.put(&ak.name);
    });
    let bytes = run(&mut tpm, &make.build());
    let params = response::parse(&bytes, false).expect("made").params.to_vec();
    let mut r = Reader::new(&params);
    let (blob, secret) = (r.tpm2b(200, "blob").expect("blob"), r.tpm2b(512, "secret").expect("secret"));
    let activate = |secret: &[u8]| {
        let builder = Builder::with_empty_auth(cc::ACTIVATE_CREDENTIAL, &[ak.handle, ek.handle], 2).params(|w| {
            w.tpm2b(blob);
            w.tpm2b(secret);
        });
        builder.build()
    };
    assert_eq!(answer(&mut tpm, &activate(secret)).expect("activated"), b"credential");
    let mut touched = secret.to_vec();
    touched[100] ^= 1;
    assert_eq!(code(&mut tpm, &activate(&touched)), rc::VALUE.parameter(2));
    assert_eq!(code(&mut tpm, &activate(&secret[1..])), rc::SIZE.parameter(2));

    let start = |salt: &[u8]| {
        let builder = Builder::new(cc::START_AUTH_SESSION, &[ek.handle, rh::NULL]).params(|w| {
            w.tpm2b(&[7; 16]);
            w.tpm2b(salt);
            w.u8(0);
            w.put(&bulla_tpm_types::alg::NULL);
            w.put(&HashAlg::Sha256);
        });
        builder.build()
    };
    // A credential's label is not a salt's.
    assert_eq!(code(&mut tpm, &start(secret)), rc::VALUE.parameter(2));
    let PublicKind::Rsa { parms, unique } = &ek.public.kind else { panic!("an RSA key") };
    let public = crate::rsa::PublicKey::new(parms, unique).expect("a key");
    let mut random = crate::drbg::Drbg::new(&[b"salt"]);
    let oaep = AsymScheme::Oaep(HashAlg::Sha256);
    for (salt, good) in [(&[5u8; 32][..], true), (&[5; 20], true), (&[5; 33], false), (&[], false)] {
        let encrypted = crate::rsa::encrypt(&mut random, &public, oaep, b"SECRET\0", salt).expect("fits");
        let bytes = run(&mut tpm, &start(&encrypted));
        assert_eq!(response::parse(&bytes, true).is_ok(), good, "{}", salt.len());
    }
}

/// LoadExternal of a key, with its first prime if that is given.
fn external(public: &Public, prime: Option<&[u8]>) -> Vec<u8> {
    let builder = Builder::new(cc::LOAD_EXTERNAL, &[]).params(|w| {
        match prime {
            Some(prime) => w.sized(|w| {
                w.put(&bulla_tpm_types::alg::RSA);
                w.tpm2b(&[]);
                w.tpm2b(&[]);
                w.tpm2b(prime);
            }),
            None => w.u16(0),
        }
        w.sized(|w| w.put(public));
        w.put(&rh::NULL);
    });
    builder.build()
}

#[test]
fn keys_from_outside_are_looked_at() {
    let mut tpm = started();
    let mut random = crate::drbg::Drbg::new(&[b"outside"]);
    let key = crate::rsa::generate(&mut random, 1024, 65537).expect("a key");
    let outside = |modulus: &[u8]| {
        let public = template(1024, A::SIGN, AsymScheme::Rsassa(HashAlg::Sha256));
        let PublicKind::Rsa { parms, .. } = public.kind else { panic!("an RSA key") };
        let unique = PublicKeyRsa::new(modulus).expect("fits");
        Public { attributes: A::SIGN.with(A::USER_WITH_AUTH), kind: PublicKind::Rsa { parms, unique }, ..public }
    };
    let (n, p) = (key.modulus(), key.prime());
    let good = outside(&n);
    let bytes = run(&mut tpm, &external(&good, Some(&p)));
    let handle = response::parse(&bytes, true).expect("loaded").handle.expect("a handle");
    assert_eq!(code(&mut tpm, &sign(handle, &[1; 32], AsymScheme::Null)), bulla_tpm_types::Rc(0));
    assert!(response::parse(&run(&mut tpm, &external(&good, None)), true).is_ok());

    let mut wrong = p.to_vec();
    wrong[9] ^= 1;
    assert_eq!(code(&mut tpm, &external(&good, Some(&wrong))), rc::BINDING.parameter(1));
    assert_eq!(code(&mut tpm, &external(&good, Some(&p[1..]))), rc::KEY_SIZE.parameter(1));
    assert_eq!(code(&mut tpm, &external(&good, Some(&[0; 64]))), rc::KEY_SIZE.parameter(1));
    assert_eq!(code(&mut tpm, &external(&outside(&n[1..]), None)), rc::KEY.parameter(2));
    let mut low = n.to_vec();
    low[0] &= 0x7f;
    assert_eq!(code(&mut tpm, &external(&outside(&low), None)), rc::KEY.parameter(2));
    low.fill(0xfe);
    assert_eq!(code(&mut tpm, &external(&outside(&low), None)), rc::KEY.parameter(2));
}

#[test]
fn the_largest_key_goes_through_a_context() {
    let mut tpm = started();
    let signs = |key: &CreatePrimary| sign(key.handle, &[1; 32], AsymScheme::Rsassa(HashAlg::Sha256));
    let key = load(&mut tpm, rh::OWNER, &template(4096, A::SIGN, AsymScheme::Null));
    let before = run(&mut tpm, &signs(&key));
    let bytes = run(&mut tpm, &Builder::new(cc::CONTEXT_SAVE, &[key.handle]).build());
    let context = response::parse(&bytes, false).expect("saved").params.to_vec();
    assert!(context.len() - 18 <= crate::context::MAX_OBJECT_CONTEXT, "{}", context.len());
    response::parse_empty(&run(&mut tpm, &bulla_tpm_types::command::flush_context(key.handle))).expect("flushed");
    let load = Builder::new(cc::CONTEXT_LOAD, &[]).params(|w| w.bytes(&context)).build();
    let bytes = run(&mut tpm, &load);
    assert_eq!(response::parse(&bytes, true).expect("loaded").handle, Some(key.handle));
    assert_eq!(run(&mut tpm, &signs(&key)), before);
}
