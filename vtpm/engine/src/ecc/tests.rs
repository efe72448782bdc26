//! Known answers, and the bounds of numbers and points.

use bulla_tpm_types::hash;
use proptest::prelude::*;
use ring::signature::{self as peer, UnparsedPublicKey};

use super::*;
use crate::tests::unhex;

fn number(hex: &str) -> EccParameter {
    EccParameter::new(&unhex(hex)).expect("fits")
}

fn at(x: &str, y: &str) -> EccPoint {
    EccPoint { x: number(x), y: number(y) }
}

/// The private key of RFC 6979, A.2.5 to A.2.7.
fn known_key(curve: u16) -> PrivateKey {
    let key = match curve {
        ecc::NIST_P256 => "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
        ecc::NIST_P384 => {
            "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5"
        }
        _ => {
            "00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc\
             1466f6d8fbec67db89ec0c08b0e996b83538"
        }
    };
    PrivateKey::from_bytes(curve, &unhex(key)).expect("a key")
}

fn signed(key: &PrivateKey, scheme: AsymScheme, digest: &[u8]) -> (EccParameter, EccParameter) {
    let (mut random, mut commitments) = (Drbg::new(&[b"random"]), Commitments::default());
    match sign(key, (&mut random, &mut commitments), scheme, &[], digest) {
        Ok(SignatureValue::Ecdsa { r, s } | SignatureValue::EcSchnorr { r, s }) => (r, s),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_known_answers_of_the_self_test() {
    assert!(self_test());
}

/// RFC 6979, A.2.5 to A.2.7: "test" with the hash algorithm of the curve's strength. Digests of other lengths, with the
/// nonce still of that algorithm, were computed by another implementation (in Python).
#[test]
fn ecdsa_known_answers() {
    for (curve, alg, message, r, s) in [
        (
            ecc::NIST_P256,
            HashAlg::Sha256,
            "test",
            "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
            "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
        ),
        (
            ecc::NIST_P256,
            HashAlg::Sha1,
            "sample",
            "3eb8ddc0ac1950f0b92a1456308bc78543a8a76fee7e30cb95dd85ec5c92a6a6",
            "d959bae95c09890e31b848da6acb2b43e78ca545858900b67743ef3650061ef6",
        ),
        (
            ecc::NIST_P256,
            HashAlg::Sha512,
            "sample",
            "962705d612647b04822c6060f31270f4b4cd703f6ba8fc1308c2a562ee600fc0",
            "af713dc0b1a1423422198a0edbce3b096f25c8e47d80988880ff472e579ab61f",
        ),
        (
            ecc::NIST_P384,
            HashAlg::Sha384,
            "test",
            "8203b63d3c853e8d77227fb377bcf7b7b772e97892a80f36ab775d509d7a5feb0542a7f0812998da8f1dd3ca3cf023db",
            "ddd0760448d42d8a43af45af836fce4de8be06b485e9b61b827c2f13173923e06a739f040649a667bf3b828246baa5a5",
        ),
        (
            ecc::NIST_P384,
            HashAlg::Sha1,
            "sample",
            "e52b615fc17f70d9e9a6f8d522bac798d1fa31ecdb8bf1db346f6d73e741d47e5411f55a7395c06c3679cb3699f10679",
            "64ef33241bd21876ce6b31424a16a32ccf9c62aaf48ec4e97569394180a677499e14ea191965a0278284a18e088a10c1",
        ),
        (
            ecc::NIST_P384,
            HashAlg::Sha256,
            "sample",
            "e454a531a5674fd24dbf9503f732782c50e93ef0fd188a6fe41af1f30c9451330ff226d61e89cb0b11e62fdc501e76a4",
            "6243d35650cba065f0a4001ad0ca4ef03160665e9237815c1bb2a576150446e5622228984b84f41827db839b6be132ad",
        ),
        (
            ecc::NIST_P384,
            HashAlg::Sha512,
            "sample",
            "1b583816897af65001e3cb3b39c34b6da1d1a20fda684068ca3dba4449464c79ca23154aaeff058356c82e3a3d42d417",
            "a3b9dc03e6df63cc551ebca6e8d63c27d7c411c8854e79947028e306e406a80727dd1e6f29be7ef0dcc1c1301e93fc06",
        ),
        (
            ecc::NIST_P521,
            HashAlg::Sha512,
            "test",
            "013e99020abf5cee7525d16b69b229652ab6bdf2affcaef38773b4b7d08725f10cdb93482fdcc54edcee91eca4166b2a\
             7c6265ef0ce2bd7051b7cef945babd47ee6d",
            "01fbd0013c674aa79cb39849527916ce301c66ea7ce8b80682786ad60f98f7e78a19ca69eff5c57400e3b3a0ad66ce09\
             78214d13baf4e9ac60752f7b155e2de4dce3",
        ),
        (
            ecc::NIST_P521,
            HashAlg::Sha1,
            "sample",
            "011b59c91b3a393302b60af1096dc77c149950bc2f4854083cbe1855861b802f0d94694c534d9a21dc10a617743d02b8\
             b661dc00d5ae6d9a891842573d401e281e19",
            "00b98085de56b53fe569861d38a13fd701b3665e1701dfa9b92065641a60ad7c3147e5314bc9e27d7d96d3f718225e4f\
             01e86c88bb1ae0d4fcc8c26f42c3ecea49ac",
        ),
        (
            ecc::NIST_P521,
            HashAlg::Sha256,
            "sample",
            "0171226ab9867d35ee381bea514362ac803a7adb7b99136d7f18fd9f80d40c020ddada10e76eac2df66a9012067d9e63\
             922955efaba8149bd5c6c06e4c335d70b81d",
            "00e8bf51e943e66ceed6ab5ed6ad913b2296960ac95f7190db960bb8c397b8be79a4df04a993a037736b1eeab1833497\
             790b2c3b8bb19434e1c20b32cc9077eb30f9",
        ),
    ] {
        let digest = hash::digest(alg, &[message.as_bytes()]);
        let key = known_key(curve);
        let signature = signed(&key, AsymScheme::Ecdsa(alg), digest.as_bytes());
        assert_eq!(signature, (number(r), number(s)), "{curve} {alg:?}");
        assert!(verify(curve, &key.point().expect("a point"), digest.as_bytes(), &signature.0, &signature.1));
    }
}

/// What primary keys come of, computed by another implementation (in Python): two keys of one generator.
#[test]
fn generation_is_frozen() {
    for (curve, first, second, x) in [
        (
            ecc::NIST_P256,
            "945418b8333283ae441104ff0af8ab77c755914dbcd4971f9db434098d72cc5f",
            "fd5edd1dad14189f7d90a4f9be1be0a0f1e7b5c24d8d06cd74ad2fc03cd81749",
            "ef58b5a33060cb6276108f812e14fa52719f17475c05eaad5f088e3d8c8731dc",
        ),
        (
            ecc::NIST_P384,
            "945418b8333283ae441104ff0af8ab77c755914dbcd4971f9db434098d72cc5fbcb6778fbaa207c9ede8824d282ef085",
            "631af5047a863460f0816ee8504e60c351961129ec0a2b0c2f0f0ea0ccb954b6de64cc2f6976163ac5e7c0cc97608f0c",
            "502eabf42530a219a35394c4121896c08ae7433945b7fe7e03a04054400be9d565f87146e1ef3035141dad1853999db1",
        ),
        (
            ecc::NIST_P521,
            "005418b8333283ae441104ff0af8ab77c755914dbcd4971f9db434098d72cc5fbcb6778fbaa207c9ede8824d282ef085\
             d263945bd4908919c9eeab1c06ab119d7cb8",
            "01a26aed532f9bcab3c3514433455cf0c5ca01d1b49a634402405c74baadfeee009e2ac571fea5515fdf4e04e336ec29\
             79e21b82aa5bf7c5ba97f5aaafc49e9e749c",
            "00a9ba8fa41dd30db90ad362ff52e41e94f6a1f42b6f7ac58369388b1df526ea41fa9eea0e95bf75dcf25dd626b3cebf\
             85f2425353e9e72aa5c6824ad7611d298932",
        ),
    ] {
        let mut random = Drbg::new(&[b"seed"]);
        let key = PrivateKey::generate(curve, &mut random).expect("a key");
        assert_eq!(key.to_bytes().to_vec(), unhex(first));
        let key = PrivateKey::generate(curve, &mut random).expect("a key");
        assert_eq!(key.to_bytes().to_vec(), unhex(second));
        assert_eq!(key.point().expect("a point").x, number(x));
    }
}

/// NIST CAVP, KAS ECC CDH Primitive: the first vector of each curve.
#[test]
fn ecdh_known_answers() {
    for (curve, x, y, key, z) in [
        (
            ecc::NIST_P256,
            "700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287",
            "db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac",
            "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534",
            "46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b",
        ),
        (
            ecc::NIST_P384,
            "a7c76b970c3b5fe8b05d2838ae04ab47697b9eaf52e764592efda27fe7513272734466b400091adbf2d68c58e0c50066",
            "ac68f19f2e1cb879aed43a9969b91a0839c4c38a49749b661efedf243451915ed0905a32b060992b468c64766fc8437a",
            "3cc3122a68f0d95027ad38c067916ba0eb8c38894d22e1b15618b6818a661774ad463b205da88cf699ab4d43c9cf98a1",
            "5f9d29dc5e31a163060356213669c8ce132e22f57c9a04f40ba7fcead493b457e5621e766c40a2e3d4d6a04b25e533f1",
        ),
        (
            ecc::NIST_P521,
            "00685a48e86c79f0f0875f7bc18d25eb5fc8c0b07e5da4f4370f3a9490340854334b1e1b87fa395464c60626124a4e70\
             d0f785601d37c09870ebf176666877a2046d",
            "01ba52c56fc8776d9e8f5db4f0cc27636d0b741bbe05400697942e80b739884a83bde99e0f6716939e632bc8986fa18d\
             ccd443a348b6c3e522497955a4f3c302f676",
            "017eecc07ab4b329068fba65e56a1f8890aa935e57134ae0ffcce802735151f4eac6564f6ee9974c5e6887a1fefee574\
             3ae2241bfeb95d5ce31ddcb6f9edb4d6fc47",
            "005fc70477c3e63bc3954bd0df3ea0d1f41ee21746ed95fc5e1fdf90930d5e136672d72cc770742d1711c3c3a4c334a0\
             ad9759436a4d3c5bf6e74b9578fac148c831",
        ),
    ] {
        let key = PrivateKey::from_bytes(curve, &unhex(key)).expect("a key");
        assert_eq!(key.multiply(&at(x, y)).expect("on the curve").x, number(z));
    }
}

/// Computed by another implementation (in Python), with the nonce 0x1234567890abcdef1234567890abcdef.
#[test]
fn ec_schnorr_known_answers() {
    for (curve, alg, r, s) in [
        (
            ecc::NIST_P256,
            HashAlg::Sha256,
            "2e52a382d30d96b454a0d454afb81a1d1fffb193c88a752754c30ead1455c09f",
            "67ee0261d0cb23fb09f7ab82a306505b3303bb6b1160b94d66a555e4c807e4ce",
        ),
        (
            ecc::NIST_P256,
            HashAlg::Sha512,
            "bc823ba7da74805b9d74d8519148c6a6f2f419fb85a7077170a5e6134b2bddf7",
            "3c3dc3c65fdc312b3a2719536faacfbd1ec61584ef4cce3a3ec542c7253fe3dd",
        ),
        (
            ecc::NIST_P384,
            HashAlg::Sha256,
            "00000000000000000000000000000000ebd92891cd0a2eb3aadc9b1d634e3b05b5272dad5a469671f4c9750982c4ad96",
            "bc2fbe990183aaec761683f34f67e14f7db1cfdd994b8e676b6788f8363dc348ea75233d9d398184603210f3039e7f70",
        ),
        (
            ecc::NIST_P384,
            HashAlg::Sha512,
            "e87eed0052710b60b6800fc86029accedd56fb7a6438c87627af342aac5ec1e5e2749451ebd7f7396a7c5c9294824941",
            "f546db86ef9f5ef85432028843a72b71198f3d71ec34ba1e844516ff06f1ea18b53c2d208f7bedd2a98f83d04db7a850",
        ),
        (
            ecc::NIST_P521,
            HashAlg::Sha256,
            "0000000000000000000000000000000000000000000000000000000000000000000097e6e8de02e23f1aae4996dcbcdb\
             5dd11e8eefffe1fe6b1c647f1fb000a75a6e",
            "007799086133fbf62e64e87444e89835fe3d3a04663022f51574ba9d69a762aee4cea8bfe8e2f5e8bc6c5fa928ee67fb\
             ad59d04b51528e65931cfa8c0f8861508e94",
        ),
        (
            ecc::NIST_P521,
            HashAlg::Sha512,
            "00002db086d03421c7804e73123c7003627eb7b5c0d9fee78910302ed78bdf6b903b8e77f948dfe568a61b00a5af4efd\
             ef268fc6c1b5ed3f223cf86e719976facdce",
            "00e66e3e12208b3b217b63eb6fb3d2f9035c4d3716f8b3385fd16b2378f3d227451eee3c14bda5a3414baabc03baafb1\
             a49bf50c2e5e7a7f55dc4c86e627a2921cc1",
        ),
    ] {
        let digest = hash::digest(alg, &[b"sample"]);
        let key = known_key(curve).point().expect("a point");
        let good = |digest: &[u8], r: &str, s: &str| verify_schnorr(curve, &key, alg, digest, &number(r), &number(s));
        assert!(good(digest.as_bytes(), r, s), "{curve} {alg:?}");
        assert!(!good(hash::digest(alg, &[b"other"]).as_bytes(), r, s));
        assert!(!good(digest.as_bytes(), s, s) && !good(digest.as_bytes(), r, r) && !good(digest.as_bytes(), "", s));
    }
}

#[test]
fn schnorr_signatures_are_fresh_and_verify() {
    for curve in CURVES {
        let key = known_key(curve);
        let digest = hash::digest(HashAlg::Sha384, &[b"sample"]);
        let scheme = AsymScheme::EcSchnorr(HashAlg::Sha384);
        let (r, s) = signed(&key, scheme, digest.as_bytes());
        assert!(verify_schnorr(curve, &key.point().expect("a point"), HashAlg::Sha384, digest.as_bytes(), &r, &s));
        let (mut random, mut commitments) = (Drbg::new(&[b"other"]), Commitments::default());
        let again = sign(&key, (&mut random, &mut commitments), scheme, &[], digest.as_bytes()).expect("signed");
        assert_ne!(again, SignatureValue::EcSchnorr { r, s });
    }
}

#[test]
fn ring_accepts_the_signatures() {
    let message = b"message";
    for (curve, alg, verifier) in [
        (ecc::NIST_P256, HashAlg::Sha256, &peer::ECDSA_P256_SHA256_FIXED),
        (ecc::NIST_P384, HashAlg::Sha384, &peer::ECDSA_P384_SHA384_FIXED),
    ] {
        let key = PrivateKey::generate(curve, &mut Drbg::new(&[b"seed"])).expect("a key");
        let point = key.point().expect("a point");
        let (r, s) = signed(&key, AsymScheme::Ecdsa(alg), hash::digest(alg, &[message]).as_bytes());
        let public = UnparsedPublicKey::new(verifier, [&[4], &point.x[..], &point.y[..]].concat());
        public.verify(message, &[&r[..], &s[..]].concat()).expect("ring accepts it");
        // ring's digests are of other lengths, too.
        let (verifier, alg): (&peer::EcdsaVerificationAlgorithm, _) = match curve {
            ecc::NIST_P256 => (&peer::ECDSA_P256_SHA384_ASN1, HashAlg::Sha384),
            _ => (&peer::ECDSA_P384_SHA256_ASN1, HashAlg::Sha256),
        };
        let (r, s) = signed(&key, AsymScheme::Ecdsa(alg), hash::digest(alg, &[message]).as_bytes());
        let public = UnparsedPublicKey::new(verifier, [&[4], &point.x[..], &point.y[..]].concat());
        public.verify(message, &der(&r, &s)).expect("ring accepts it");
    }
}

/// An ECDSA-Sig-Value (RFC 3279, 2.2.3).
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |n: &[u8]| {
        let n = &n[n.iter().take_while(|b| **b == 0).count()..];
        let zero: &[u8] = if n[0] & 0x80 != 0 { &[0] } else { &[] };
        [&[2, (n.len() + zero.len()) as u8], zero, n].concat()
    };
    let both = [integer(r), integer(s)].concat();
    [&[0x30, both.len() as u8], &both[..]].concat()
}

#[test]
fn private_keys_are_in_range() {
    for curve in CURVES {
        let n = parameters(curve).expect("a curve").n;
        let mut below = n.to_vec();
        *below.last_mut().expect("octets") -= 1;
        let largest = PrivateKey::from_bytes(curve, &below).expect("n - 1");
        assert_eq!(largest.to_bytes().to_vec(), below);
        assert!(PrivateKey::from_bytes(curve, &n).is_none());
        assert!(PrivateKey::from_bytes(curve, &vec![0xff; n.len()]).is_none());
        assert!(PrivateKey::from_bytes(curve, &vec![0; n.len()]).is_none());
        assert!(PrivateKey::from_bytes(curve, &[]).is_none());
        let base = PrivateKey::from_bytes(curve, &[1]).expect("short").point().expect("a point");
        let known = parameters(curve).map(|p| (p.x, p.y)).expect("a curve");
        assert_eq!((base.x, base.y), known);
        // -G has the same x.
        assert_eq!(largest.point().expect("a point").x, known.0);
        assert!(PrivateKey::from_bytes(curve, &[&[0; 40][..], &below].concat()).is_some(), "leading zeros");
    }
    assert!(PrivateKey::from_bytes(0x10, &[1]).is_none());
    assert!(PrivateKey::generate(0x10, &mut Drbg::new(&[])).is_none());
}

#[test]
fn points_are_on_the_curve() {
    for curve in CURVES {
        let Parameters { p, x, y, .. } = parameters(curve).expect("a curve");
        assert!(is_on_curve(curve, &EccPoint { x, y }));
        assert!(!is_on_curve(curve, &EccPoint { x: y, y: x }));
        assert!(!is_on_curve(curve, &EccPoint::default()), "infinity");
        assert!(!is_on_curve(curve, &EccPoint { x: p, y: p }), "coordinates are below p");
        assert!(!is_on_curve(0x10, &EccPoint { x, y }));
        CURVES.iter().filter(|c| **c != curve).for_each(|other| assert!(!is_on_curve(*other, &EccPoint { x, y })));
        let key = known_key(curve);
        assert!(key.multiply(&EccPoint { x: y, y: x }).is_none());
        assert!(!key.is_of(curve, &EccPoint { x, y }) && key.is_of(curve, &key.point().expect("a point")));
    }
}

#[test]
fn numbers_are_reduced() {
    for curve in CURVES {
        let p = parameters(curve).expect("a curve").p;
        let zero = EccParameter::zeros(p.len()).expect("fits");
        assert_eq!(coordinate(curve, &p), Some(zero));
        let one = coordinate(curve, &[&p[..], &[1]].concat()).expect("a number");
        assert_eq!(one, coordinate(curve, &[0, 1]).expect("a number"), "256 p + 1");
        assert_eq!(one.len(), p.len());
    }
}

proptest! {
    /// Octets from outside: a number or not, and never a panic.
    #[test]
    fn any_octets(which in 0usize..3, a in prop::collection::vec(any::<u8>(), 0..67), b in prop::collection::vec(any::<u8>(), 0..67)) {
        let curve = CURVES[which];
        let (Some(x), Some(y)) = (EccParameter::new(&a), EccParameter::new(&b)) else { return Ok(()) };
        let point = EccPoint { x, y };
        let key = known_key(curve);
        prop_assert_eq!(key.multiply(&point).is_some(), is_on_curve(curve, &point));
        let own = key.point().expect("a point");
        prop_assert!(!verify(curve, &own, &a, &x, &y));
        prop_assert!(!verify_schnorr(curve, &own, HashAlg::Sha256, &a, &x, &y));
        prop_assert!(!verify(curve, &point, &a, &x, &y));
        if let Some(key) = PrivateKey::from_bytes(curve, &a) {
            let first = a.iter().position(|b| *b != 0).unwrap_or(a.len());
            prop_assert!(key.to_bytes().ends_with(&a[first..]));
            prop_assert_eq!(PrivateKey::from_bytes(curve, &key.to_bytes()).and_then(|k| k.point()), key.point());
        }
    }

    /// ECDH agrees from both sides.
    #[test]
    fn both_sides_share(which in 0usize..3, a: [u8; 8], b: [u8; 8]) {
        let key = |seed: &[u8]| PrivateKey::generate(CURVES[which], &mut Drbg::new(&[seed])).expect("a key");
        let (a, b) = (key(&a), key(&b));
        prop_assert_eq!(
            a.multiply(&b.point().expect("a point")).expect("a point"),
            b.multiply(&a.point().expect("a point")).expect("a point")
        );
    }
}
