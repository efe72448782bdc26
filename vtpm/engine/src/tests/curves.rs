//! Keys on every curve, and the commands that only they have.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::response::{self, CreatePrimary};
use bulla_tpm_types::{
    AlgId, AsymScheme, Digest, EccParameter, EccParms, EccPoint, Handle, HashAlg, KdfScheme, ObjectAttributes as A,
    PcrSelectionList, Public, PublicKind, Rc, Reader, Signature, SignatureValue, StartupType, Symmetric, alg, cc,
    command, ecc, hash, rc, rh, templates,
};
use p256::elliptic_curve::ops::Reduce;
use p256::elliptic_curve::point::{AffineCoordinates, DecompressPoint};
use p256::{AffinePoint, ProjectivePoint, Scalar};
use tpm2_protocol::frame;

use super::peer::same;
use super::{code, load, run, started, startup, unhex};
use crate::Tpm;
use crate::drbg::Drbg;
use crate::ecc::{CURVES, PrivateKey, full, is_on_curve};

const SIGN: u32 = 0x0004_0472;
const DECRYPT: u32 = 0x0002_0472;
const STORE: u32 = 0x0003_0472;

fn template(attributes: u32, curve: u16, scheme: AsymScheme) -> Public {
    let symmetric = if attributes == STORE { Symmetric::AES_128_CFB } else { Symmetric::Null };
    let parms = EccParms { symmetric, scheme, curve, kdf: KdfScheme::Null };
    let kind = PublicKind::Ecc { parms, unique: EccPoint::default() };
    Public { attributes: A::from_bits(attributes), auth_policy: Digest::EMPTY, kind, ..templates::ak_p256() }
}

fn point_of(key: &CreatePrimary) -> EccPoint {
    let PublicKind::Ecc { unique, .. } = key.public.kind else { panic!("{key:?}") };
    unique
}

/// The response's parameters.
fn answer<T>(tpm: &mut Tpm, command: &Command, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
    let bytes = run(tpm, &command.0);
    let response = response::parse(&bytes, false).unwrap_or_else(|e| panic!("{e}"));
    let mut r = Reader::new(response.params);
    let value = read(&mut r);
    assert!(r.is_empty(), "nothing is left over");
    value
}

/// A command that was built.
struct Command(Vec<u8>);

fn sign(key: Handle, digest: &[u8], scheme: AsymScheme) -> Command {
    let command = Builder::with_empty_auth(cc::SIGN, &[key], 1).params(|w| {
        w.tpm2b(digest);
        w.put(&scheme);
        w.u16(0x8024);
        w.put(&rh::NULL);
        w.u16(0);
    });
    Command(command.build())
}

fn verify(key: Handle, digest: &[u8], signature: &Signature) -> Vec<u8> {
    let command = Builder::new(cc::VERIFY_SIGNATURE, &[key]).params(|w| {
        w.tpm2b(digest);
        w.put(signature);
    });
    command.build()
}

/// Commit with these P1, s2 and y2.
fn commit(key: Handle, p1: &EccPoint, s2: &[u8], y2: &EccParameter) -> Command {
    let command = Builder::with_empty_auth(cc::COMMIT, &[key], 1).params(|w| {
        w.sized(|w| w.put(p1));
        w.tpm2b(s2);
        w.put(y2);
    });
    Command(command.build())
}

fn committed(tpm: &mut Tpm, command: &Command) -> ([EccPoint; 3], u16) {
    answer(tpm, command, |r| {
        let points = core::array::from_fn(|_| get_point(r));
        (points, r.u16("counter").expect("a counter"))
    })
}

fn get_point(r: &mut Reader<'_>) -> EccPoint {
    r.sized("point", Reader::get).expect("a point")
}

fn ephemeral(curve: u16) -> Command {
    Command(Builder::new(cc::EC_EPHEMERAL, &[]).params(|w| w.u16(curve)).build())
}

fn z_gen_2phase(key: Handle, fixed: &EccPoint, ephemeral: &EccPoint, scheme: AlgId, count: u16) -> Command {
    let command = Builder::with_empty_auth(cc::ZGEN_2PHASE, &[key], 1).params(|w| {
        w.sized(|w| w.put(fixed));
        w.sized(|w| w.put(ephemeral));
        w.put(&scheme);
        w.u16(count);
    });
    Command(command.build())
}

fn decrypt(key: Handle, c1: &EccPoint, c2: &[u8], c3: &[u8], scheme: KdfScheme) -> Command {
    let command = Builder::with_empty_auth(cc::ECC_DECRYPT, &[key], 1).params(|w| {
        w.sized(|w| w.put(c1));
        w.tpm2b(c2);
        w.tpm2b(c3);
        w.put(&scheme);
    });
    Command(command.build())
}

/// LoadExternal of a key pair that is known, in no hierarchy.
fn load_pair(tpm: &mut Tpm, attributes: u32, scheme: AsymScheme, key: &PrivateKey) -> Handle {
    let Public { mut kind, attributes, .. } = template(attributes & !0x32, key.curve(), scheme);
    if let PublicKind::Ecc { unique, .. } = &mut kind {
        *unique = key.point().expect("a point");
    }
    let public = Public { kind, attributes, ..template(SIGN, key.curve(), scheme) };
    let command = Builder::new(cc::LOAD_EXTERNAL, &[]).params(|w| {
        w.sized(|w| {
            w.put(&alg::ECC);
            w.tpm2b(&[]);
            w.tpm2b(&[]);
            w.tpm2b(&key.to_bytes());
        });
        w.sized(|w| w.put(&public));
        w.put(&rh::NULL);
    });
    response::parse(&run(tpm, &command.build()), true).expect("loaded").handle.expect("a handle")
}

fn known_key(curve: u16) -> PrivateKey {
    PrivateKey::generate(curve, &mut Drbg::new(&[b"known"])).expect("a key")
}

/// Valid commands, for the fuzzer: about a key that the first of them loads in the fourth slot, and one that decrypts,
/// in the fifth.
pub(super) fn valid_commands() -> Vec<Vec<u8>> {
    let [signer, decrypter] = [Handle(0x8000_0003), Handle(0x8000_0004)];
    let daa = |count| AsymScheme::Ecdaa { hash: HashAlg::Sha256, count };
    let point = known_key(ecc::NIST_P384).point().expect("a point");
    let (s2, p2) = hashed_point();
    let encrypt = Builder::new(cc::ECC_ENCRYPT, &[decrypter]).params(|w| {
        w.tpm2b(b"data");
        w.put(&KdfScheme::Kdf2(HashAlg::Sha384));
    });
    vec![
        command::create_primary(rh::OWNER, &template(SIGN, ecc::NIST_P256, daa(0))),
        command::create_primary(rh::OWNER, &template(DECRYPT, ecc::NIST_P384, AsymScheme::Null)),
        commit(signer, &p2, &s2, &p2.y).0,
        sign(signer, &[0x5a; 32], daa(0)).0,
        ephemeral(ecc::NIST_P384).0,
        z_gen_2phase(decrypter, &point, &point, alg::ECDH, 0).0,
        Builder::new(cc::ECC_PARAMETERS, &[]).params(|w| w.u16(ecc::NIST_P521)).build(),
        encrypt.build(),
        decrypt(decrypter, &point, b"data", &[0x5a; 48], KdfScheme::Kdf2(HashAlg::Sha384)).0,
    ]
}

#[test]
fn keys_on_every_curve_sign_digests_of_every_length() {
    for curve in CURVES {
        let mut tpm = started();
        let key = load(&mut tpm, rh::OWNER, &template(SIGN, curve, AsymScheme::Null));
        let (point, full_point) = (point_of(&key), full(curve, &point_of(&key)));
        assert!(is_on_curve(curve, &point) && full_point == Some(point), "full coordinates");
        for alg in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512] {
            let digest = hash::digest(alg, &[b"message"]);
            let other = hash::digest(alg, &[b"other"]);
            for scheme in [AsymScheme::Ecdsa(alg), AsymScheme::EcSchnorr(alg)] {
                let bytes = run(&mut tpm, &sign(key.handle, digest.as_bytes(), scheme).0);
                same::<frame::TpmSignResponse>(&bytes);
                let params = response::parse(&bytes, false).expect("signed").params;
                let signature = Reader::new(params).get::<Signature>().expect("a signature");
                assert_eq!(code(&mut tpm, &verify(key.handle, digest.as_bytes(), &signature)), rc::SUCCESS);
                let refused = code(&mut tpm, &verify(key.handle, other.as_bytes(), &signature));
                assert_eq!(refused, rc::SIGNATURE.parameter(2));
            }
        }
    }
}

#[test]
fn ecdaa_signs_once_for_each_commitment() {
    let mut tpm = started();
    let scheme = |count| AsymScheme::Ecdaa { hash: HashAlg::Sha256, count };
    let key = load(&mut tpm, rh::ENDORSEMENT, &template(SIGN, ecc::NIST_P256, scheme(0)));
    let plain = commit(key.handle, &EccPoint::default(), &[], &EccParameter::EMPTY);
    same::<frame::TpmCommitResponse>(&run(&mut tpm, &plain.0));
    let ([k, l, e], count) = committed(&mut tpm, &plain);
    assert_eq!((k, l, count), (EccPoint::default(), EccPoint::default(), 1));

    let digest = hash::digest(HashAlg::Sha256, &[b"message"]);
    let command = sign(key.handle, digest.as_bytes(), scheme(count));
    let signature = answer(&mut tpm, &command, |r| r.get::<Signature>().expect("a signature"));
    let Signature::Signed { hash: HashAlg::Sha256, value: SignatureValue::Ecdaa { r: nonce, s } } = signature else {
        panic!("{signature:?}")
    };
    // [s]G = E + [H(nonce ‖ digest)]Q: who knows E and Q can tell.
    let t = hash::digest(HashAlg::Sha256, &[&nonce, digest.as_bytes()]);
    let scalar = |b: &[u8]| Scalar::reduce(&p256::U256::from_be_slice(b));
    let affine = |p: &EccPoint| {
        let field = |c: &EccParameter| p256::FieldBytes::try_from(&c[..]).expect("32 octets");
        ProjectivePoint::from(AffinePoint::from_coordinates(&field(&p.x), &field(&p.y)).expect("on the curve"))
    };
    let left = ProjectivePoint::GENERATOR * scalar(&s);
    assert_eq!(left, affine(&e) + affine(&point_of(&key)) * scalar(t.as_bytes()));

    assert_eq!(code(&mut tpm, &command.0), rc::VALUE, "it was used");
    assert_eq!(code(&mut tpm, &sign(key.handle, digest.as_bytes(), scheme(2)).0), rc::VALUE, "it was not made");
    let null = sign(key.handle, digest.as_bytes(), AsymScheme::Null);
    assert_eq!(code(&mut tpm, &null.0), rc::SCHEME.parameter(2), "no count");
    // The TPM does not verify these.
    let refused = code(&mut tpm, &verify(key.handle, digest.as_bytes(), &signature));
    assert_eq!(refused, rc::SCHEME.parameter(2));

    // Another key cannot use the commitment; it stays open.
    let other = load(&mut tpm, rh::OWNER, &template(SIGN, ecc::NIST_P256, AsymScheme::Null));
    let elsewhere = sign(other.handle, digest.as_bytes(), scheme(0));
    let theirs = answer(&mut tpm, &elsewhere, |r| r.get::<Signature>().expect("a signature"));
    assert_ne!(theirs, signature, "its number is another one");
    // No commitment outlives a loss of power.
    let count = committed(&mut tpm, &plain).1;
    super::shutdown(&mut tpm, StartupType::State);
    tpm.init();
    startup(&mut tpm, StartupType::State).expect("resume");
    let key = load(&mut tpm, rh::ENDORSEMENT, &template(SIGN, ecc::NIST_P256, scheme(0)));
    assert_eq!(code(&mut tpm, &sign(key.handle, digest.as_bytes(), scheme(count)).0), rc::VALUE);
}

#[test]
fn anonymous_attestations_tell_no_names() {
    let mut tpm = started();
    let scheme = |count| AsymScheme::Ecdaa { hash: HashAlg::Sha256, count };
    let key = load(&mut tpm, rh::ENDORSEMENT, &template(0x0005_0472, ecc::NIST_P384, scheme(0)));
    let count = committed(&mut tpm, &commit(key.handle, &EccPoint::default(), &[], &EccParameter::EMPTY)).1;
    let quote = Builder::with_empty_auth(cc::QUOTE, &[key.handle], 1).params(|w| {
        w.tpm2b(b"nonce");
        w.put(&scheme(count));
        w.put(&PcrSelectionList::new());
    });
    let bytes = run(&mut tpm, &quote.build());
    same::<frame::TpmQuoteResponse>(&bytes);
    let quote = response::parse_quote(&bytes).expect("a quote");
    assert!(quote.attest.qualified_signer.is_empty() && quote.attest.extra_data.is_empty());
    assert!(matches!(quote.signature, Signature::Signed { value: SignatureValue::Ecdaa { .. }, .. }));
}

/// A point of which the first coordinate is a hash: s2 and y2.
fn hashed_point() -> (Vec<u8>, EccPoint) {
    (0u8..)
        .find_map(|n| {
            let s2 = vec![n; 5];
            let x = hash::digest(HashAlg::Sha256, &[&s2]);
            let field = p256::FieldBytes::try_from(x.as_bytes()).expect("32 octets");
            let point = AffinePoint::decompress(&field, 0.into()).into_option()?;
            Some((s2, EccPoint { x: EccParameter::new(&point.x())?, y: EccParameter::new(&point.y())? }))
        })
        .expect("one of a few")
}

#[test]
fn commit_multiplies_the_points_it_is_given() {
    let mut tpm = started();
    let private = known_key(ecc::NIST_P256);
    let scheme = AsymScheme::Ecdaa { hash: HashAlg::Sha256, count: 0 };
    let key = load_pair(&mut tpm, SIGN, scheme, &private);
    let (s2, p2) = hashed_point();
    // P1 is P2, so E = [r]P1 and L = [r]P2 are the same; K = [d]P2.
    let ([k, l, e], _) = committed(&mut tpm, &commit(key, &p2, &s2, &p2.y));
    assert_eq!(Some(k), private.multiply(&p2));
    assert!(l == e && is_on_curve(ecc::NIST_P256, &l) && l != k);
    let ([k, l, e], _) = committed(&mut tpm, &commit(key, &EccPoint::default(), &s2, &p2.y));
    assert!(k != EccPoint::default() && l != EccPoint::default() && e == EccPoint::default());
    let ([k, l, e], _) = committed(&mut tpm, &commit(key, &p2, &[], &EccParameter::EMPTY));
    assert!(k == EccPoint::default() && l == EccPoint::default() && e != EccPoint::default());

    let off = EccPoint { x: p2.y, y: p2.x };
    for (command, want) in [
        (commit(key, &off, &[], &EccParameter::EMPTY), rc::ECC_POINT.parameter(1)),
        (commit(key, &p2, &s2, &off.y), rc::ECC_POINT.parameter(2)),
        (commit(key, &p2, &[], &p2.y), rc::SIZE.parameter(3)),
        (commit(key, &p2, &s2, &EccParameter::EMPTY), rc::SIZE.parameter(3)),
    ] {
        assert_eq!(code(&mut tpm, &command.0), want);
    }
    let plain = load(&mut tpm, rh::OWNER, &template(SIGN, ecc::NIST_P256, AsymScheme::Null)).handle;
    assert_eq!(code(&mut tpm, &commit(plain, &p2, &s2, &p2.y).0), rc::SCHEME.handle(1));
}

#[test]
fn two_phases_share_two_points() {
    for curve in CURVES {
        let mut tpm = started();
        let a = load(&mut tpm, rh::OWNER, &template(DECRYPT, curve, AsymScheme::Ecdh(HashAlg::Sha256)));
        let bytes = run(&mut tpm, &ephemeral(curve).0);
        same::<frame::TpmEcEphemeralResponse>(&bytes);
        let mut r = Reader::new(response::parse(&bytes, false).expect("a point").params);
        let (ephemeral_a, count) = (get_point(&mut r), r.u16("counter").expect("a counter"));
        let mut random = Drbg::new(&[b"the other side"]);
        let [fixed, other] = [(); 2].map(|()| PrivateKey::generate(curve, &mut random).expect("a key"));
        let (fixed_b, ephemeral_b) = (fixed.point().expect("a point"), other.point().expect("a point"));
        let off = EccPoint { x: fixed_b.y, y: fixed_b.x };
        for (command, want) in [
            (z_gen_2phase(a.handle, &off, &ephemeral_b, alg::ECDH, count), rc::ECC_POINT.parameter(1)),
            (z_gen_2phase(a.handle, &fixed_b, &off, alg::ECDH, count), rc::ECC_POINT.parameter(2)),
            (z_gen_2phase(a.handle, &fixed_b, &ephemeral_b, alg::NULL, count), rc::SCHEME.parameter(3)),
            (z_gen_2phase(a.handle, &fixed_b, &ephemeral_b, AlgId(0x1d), count), rc::SCHEME.parameter(3)),
            (z_gen_2phase(a.handle, &fixed_b, &ephemeral_b, alg::ECDH, count + 1), rc::VALUE.parameter(4)),
        ] {
            assert_eq!(code(&mut tpm, &command.0), want);
        }
        let command = z_gen_2phase(a.handle, &fixed_b, &ephemeral_b, alg::ECDH, count);
        let (z1, z2) = answer(&mut tpm, &command, |r| (get_point(r), get_point(r)));
        assert_eq!((Some(z1), Some(z2)), (fixed.multiply(&point_of(&a)), other.multiply(&ephemeral_a)));
        assert_eq!(code(&mut tpm, &command.0), rc::VALUE.parameter(4), "it was used");
    }
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &ephemeral(0x10).0), rc::CURVE.parameter(1));
}

#[test]
fn ecdh_on_every_curve() {
    for curve in CURVES {
        let mut tpm = started();
        let key = load(&mut tpm, rh::OWNER, &template(DECRYPT, curve, AsymScheme::Null)).handle;
        let made = Command(Builder::new(cc::ECDH_KEY_GEN, &[key]).build());
        let (z, point) = answer(&mut tpm, &made, |r| (get_point(r), get_point(r)));
        let z_gen = |point: &EccPoint| {
            Command(Builder::with_empty_auth(cc::ECDH_ZGEN, &[key], 1).params(|w| w.sized(|w| w.put(point))).build())
        };
        assert_eq!(answer(&mut tpm, &z_gen(&point), get_point), z);
        let off = EccPoint { x: point.y, y: point.x };
        assert_eq!(code(&mut tpm, &z_gen(&off).0), rc::ECC_POINT.parameter(1));
        assert_eq!(code(&mut tpm, &z_gen(&EccPoint::default()).0), rc::ECC_POINT.parameter(1));
    }
}

/// A credential, on every curve: what protects it is shared by ECDH.
#[test]
fn credentials_on_every_curve() {
    for curve in CURVES {
        let mut tpm = started();
        let storage = load(&mut tpm, rh::ENDORSEMENT, &template(STORE, curve, AsymScheme::Null));
        let make = Builder::new(cc::MAKE_CREDENTIAL, &[storage.handle]).params(|w| {
            w.tpm2b(b"credential");
            w.put(&storage.name);
        });
        let blobs = response::parse(&run(&mut tpm, &make.build()), false).expect("made").params.to_vec();
        let activate = Builder::with_empty_auth(cc::ACTIVATE_CREDENTIAL, &[storage.handle; 2], 2);
        let activate = Command(activate.params(|w| w.bytes(&blobs)).build());
        let got = answer(&mut tpm, &activate, |r| r.get::<Digest>().expect("a credential"));
        assert_eq!(&got[..], b"credential");
    }
}

#[test]
fn encryption_on_every_curve() {
    let scheme = KdfScheme::Kdf2(HashAlg::Sha256);
    for curve in CURVES {
        let mut tpm = started();
        let key = load(&mut tpm, rh::OWNER, &template(DECRYPT, curve, AsymScheme::Null)).handle;
        let encrypt = |plain: &[u8], scheme: KdfScheme| {
            let command = Builder::new(cc::ECC_ENCRYPT, &[key]).params(|w| {
                w.tpm2b(plain);
                w.put(&scheme);
            });
            Command(command.build())
        };
        for plain in [&b""[..], b"x", &[7; 1024]] {
            let command = encrypt(plain, scheme);
            same::<frame::TpmEccEncryptResponse>(&run(&mut tpm, &command.0));
            let (c1, c2, c3) = answer(&mut tpm, &command, |r| {
                (get_point(r), r.tpm2b(1024, "C2").expect("C2").to_vec(), r.get::<Digest>().expect("C3"))
            });
            assert!(plain.is_empty() || c2 != plain);
            let got = answer(&mut tpm, &decrypt(key, &c1, &c2, &c3, scheme), |r| {
                r.tpm2b(1024, "plain").expect("plain").to_vec()
            });
            assert_eq!(got, plain);
            let mut wrong = c3.to_vec();
            wrong[0] ^= 1;
            let refused = [
                (decrypt(key, &c1, &c2, &wrong, scheme), rc::VALUE.parameter(3)),
                (decrypt(key, &c1, &c2, &c3[1..], scheme), rc::VALUE.parameter(3)),
                (decrypt(key, &EccPoint { x: c1.y, y: c1.x }, &c2, &c3, scheme), rc::ECC_POINT.parameter(1)),
                (decrypt(key, &c1, &c2, &c3, KdfScheme::Null), rc::SCHEME.parameter(4)),
                (decrypt(key, &c1, &c2, &c3, KdfScheme::Mgf1(HashAlg::Sha256)), rc::SCHEME.parameter(4)),
                (encrypt(plain, KdfScheme::Null), rc::SCHEME.parameter(2)),
            ];
            refused.iter().for_each(|(command, want)| assert_eq!(code(&mut tpm, &command.0), *want));
        }
        let signer = load(&mut tpm, rh::OWNER, &template(SIGN, curve, AsymScheme::Null)).handle;
        let command = decrypt(signer, &EccPoint::default(), &[], &[], scheme);
        assert_eq!(code(&mut tpm, &command.0), rc::ATTRIBUTES.handle(1));
    }
}

/// What another implementation (in Python) has encrypted to the keys of RFC 6979, A.2.5 and A.2.7.
#[test]
fn decryption_known_answers() {
    for (curve, key, x, y, c2, c3) in ENCRYPTED {
        let mut tpm = started();
        let private = PrivateKey::from_bytes(curve, &unhex(key)).expect("a key");
        let key = load_pair(&mut tpm, DECRYPT, AsymScheme::Null, &private);
        let number = |hex| EccParameter::new(&unhex(hex)).expect("fits");
        let c1 = EccPoint { x: number(x), y: number(y) };
        let command = decrypt(key, &c1, &unhex(c2), &unhex(c3), KdfScheme::Kdf2(HashAlg::Sha256));
        let plain = answer(&mut tpm, &command, |r| r.tpm2b(1024, "plain").expect("plain").to_vec());
        assert_eq!(plain, b"attack at dawn, and bring a mask that is longer than one block of the hash");
    }
}

/// SP 800-186, 3.2.1.3 to 3.2.1.5.
#[test]
fn parameters_of_every_curve() {
    let mut tpm = started();
    for (curve, bits, alg, numbers) in PARAMETERS {
        let command = Command(Builder::new(cc::ECC_PARAMETERS, &[]).params(|w| w.u16(curve)).build());
        same::<frame::TpmEccParametersResponse>(&run(&mut tpm, &command.0));
        answer(&mut tpm, &command, |r| {
            assert_eq!((r.u16("curve"), r.u16("size")), (Ok(curve), Ok(bits)));
            assert_eq!(r.get(), Ok(KdfScheme::Kdf1Sp800_56a(alg)));
            assert_eq!(r.get(), Ok(AsymScheme::Null));
            numbers.iter().for_each(|n| assert_eq!(r.get::<EccParameter>().expect("a number").to_vec(), unhex(n)));
            assert_eq!(r.get::<EccParameter>().expect("h").to_vec(), [1]);
        });
    }
    let unknown = Builder::new(cc::ECC_PARAMETERS, &[]).params(|w| w.u16(1)).build();
    assert_eq!(code(&mut tpm, &unknown), rc::CURVE.parameter(1));
}

#[test]
fn templates_are_checked() {
    let mut tpm = started();
    let sha256 = HashAlg::Sha256;
    let daa = AsymScheme::Ecdaa { hash: sha256, count: 3 };
    let with_kdf = |kdf| {
        let mut public = template(DECRYPT, ecc::NIST_P521, AsymScheme::Null);
        if let PublicKind::Ecc { parms, .. } = &mut public.kind {
            parms.kdf = kdf;
        }
        public
    };
    let refused: &[(Public, Rc)] = &[
        (template(DECRYPT, ecc::NIST_P384, daa), rc::SCHEME),
        (template(DECRYPT, ecc::NIST_P384, AsymScheme::EcSchnorr(sha256)), rc::SCHEME),
        (template(SIGN, ecc::NIST_P384, AsymScheme::Ecdh(sha256)), rc::SCHEME),
        (template(SIGN | DECRYPT, ecc::NIST_P521, AsymScheme::Ecdsa(sha256)), rc::SCHEME),
        (template(STORE, ecc::NIST_P521, AsymScheme::Ecdh(sha256)), rc::SCHEME),
        (template(SIGN, 0x10, AsymScheme::Null), rc::CURVE),
        (template(SIGN, 0x20, AsymScheme::Null), rc::CURVE),
        (with_kdf(KdfScheme::Kdf1Sp800_56a(sha256)), rc::KDF),
        (with_kdf(KdfScheme::Kdf2(sha256)), rc::KDF),
    ];
    for (public, want) in refused {
        assert_eq!(code(&mut tpm, &command::create_primary(rh::OWNER, public)), want.parameter(2), "{public:?}");
    }
    for public in [
        template(SIGN, ecc::NIST_P384, daa),
        template(SIGN, ecc::NIST_P521, AsymScheme::EcSchnorr(sha256)),
        template(DECRYPT, ecc::NIST_P521, AsymScheme::Ecdh(sha256)),
        template(SIGN | DECRYPT, ecc::NIST_P521, AsymScheme::Null),
    ] {
        let key = load(&mut tpm, rh::OWNER, &public);
        assert_eq!(code(&mut tpm, &command::flush_context(key.handle)), rc::SUCCESS);
    }
}

/// Curve, private key, C1, C2 and C3.
type Encrypted = (u16, &'static str, &'static str, &'static str, &'static str, &'static str);

const ENCRYPTED: [Encrypted; 2] = [
    (
        ecc::NIST_P256,
        "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
        "bdbeae1cdd57e6907a4f1ce48943670f7408498876eef0233708a45c0ee74275",
        "de01736e37525122fc810bd69be690eee6429ec06e2b5c5b50e4692ff82f4bd1",
        "eed1419476a6ac70a18f575b06766a9673d85b13b701b3697b86658e648967ee6eb248cb7f5e3aef1a22d7faac59\
         0fb8a8fd29924c166b8805496949b2a868aaccb6e9a1fbaa26d30bba",
        "00dd9f37c15d65bc63a2c24c2213254baa945453a9e7b875ce963cada76b6622",
    ),
    (
        ecc::NIST_P521,
        "00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d1\
         6fcc1466f6d8fbec67db89ec0c08b0e996b83538",
        "0120b2afe2587d0b654bff226f660e3e1fe18090c7573523be1533152c5a27ea0d0ede9e91aad1c8e45a9c30365d\
         6c7c1fc44aa2df9157a90cbe0de73e7b039a787c",
        "0130a8406e5df5a12e3928a127382faa6bf7b0bfa07d63676fab54610ac54868aa1781c3bb4da6f7206fe11f7bd4\
         0c29f2d8b1f44def9e32f9810dbf1b07f10c8014",
        "0d28ed882582ef11d79976e90197aeb9b052aa32f2cdb1e8f07b021222c27a876f8cf86e718a30efe95a179bced3\
         620faf9431b34388e179316af90c4acc8694709f6a899e45f6e17aa3",
        "7d4b59cd91e23b3f6a335d65fe19a15013810a73491bd33860f043c26f161dea",
    ),
];

/// Curve, size, hash algorithm, and p, a, b, x, y and n.
const PARAMETERS: [(u16, u16, HashAlg, [&str; 6]); 3] = [
    (
        ecc::NIST_P256,
        256,
        HashAlg::Sha256,
        [
            "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
            "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
            "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
            "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
            "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        ],
    ),
    (
        ecc::NIST_P384,
        384,
        HashAlg::Sha384,
        [
            "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffff\
             ffff",
            "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffff\
             fffc",
            "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec\
             2aef",
            "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e387276\
             0ab7",
            "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea\
             0e5f",
            "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc5\
             2973",
        ],
    ),
    (
        ecc::NIST_P521,
        521,
        HashAlg::Sha512,
        [
            "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
             ffffffffffffffffffffffffffffffffffffffff",
            "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
             fffffffffffffffffffffffffffffffffffffffc",
            "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd\
             3bb1bf073573df883d2c34f1ef451fd46b503f00",
            "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127\
             a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66",
            "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b901\
             3fad0761353c7086a272c24088be94769fd16650",
            "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148\
             f709a5d03bb5c9b8899c47aebb6fb71e91386409",
        ],
    ),
];
