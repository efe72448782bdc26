//! CertifyX509: what is certified, what is refused, and the DER of it. `vtpm/tests/x509.rs` asks openssl.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    AsymScheme, Handle, HashAlg, KeyedHashScheme, ObjectAttributes as A, Public, PublicKind, Rc, Reader, Signature,
    SignatureValue, cc, hash, rc, response, rh, templates,
};
use proptest::prelude::*;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::{code, load, load_ak, run, started, unhex};
use crate::Tpm;
use crate::der::{self, Elements, element, tag};

/// Issuer, validity and subject, of the least that they can be: three empty SEQUENCEs.
const NAMES: &[u8] = &[0x30, 0, 0x30, 0, 0x30, 0];
/// keyUsage: digitalSignature and keyCertSign.
const SIGNS: &str = "300e 0603551d0f 0101ff 0404 03020284";

fn extensions(extensions: &str) -> Vec<u8> {
    element(tag::context(3), &[&element(tag::SEQUENCE, &[&unhex(extensions)])])
}

fn partial(names: &[u8], extensions: &[u8]) -> Vec<u8> {
    element(tag::SEQUENCE, &[names, extensions])
}

fn certify(object: Handle, signer: Handle, reserved: &[u8], scheme: AsymScheme, partial: &[u8]) -> Vec<u8> {
    Builder::with_empty_auth(cc::CERTIFY_X509, &[object, signer], 2)
        .params(|w| {
            w.tpm2b(reserved);
            w.put(&scheme);
            w.tpm2b(partial);
        })
        .build()
}

/// A valid command, as [`super::fuzz`] changes them.
pub(super) fn valid_commands() -> Vec<Vec<u8>> {
    let key = Handle(0x8000_0000);
    let given = partial(NAMES, &extensions(SIGNS));
    vec![certify(key, key, b"", AsymScheme::Null, &given)]
}

/// addedToCertificate, tbsDigest and the signature.
fn made(tpm: &mut Tpm, command: &[u8]) -> (Vec<u8>, Vec<u8>, Signature) {
    let bytes = run(tpm, command);
    let mut r = Reader::new(response::parse(&bytes, false).expect("a certificate").params);
    let added = r.tpm2b(1024, "added").expect("added").to_vec();
    let digest = r.tpm2b(64, "digest").expect("a digest").to_vec();
    (added, digest, r.get().expect("a signature"))
}

#[test]
fn what_is_signed_is_the_whole_certificate() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER);
    let PublicKind::Ecc { unique, .. } = &key.public.kind else { panic!("a curve") };
    let point = [&[4], &unique.x[..], &unique.y[..]].concat();
    let own_algorithm = unhex("300a 06082a8648ce3d040302");
    let extensions = extensions(SIGNS);
    for given in [NAMES.to_vec(), [&own_algorithm, NAMES].concat()] {
        let command = certify(key.handle, key.handle, b"", AsymScheme::Null, &partial(&given, &extensions));
        let (added, digest, signature) = made(&mut tpm, &command);
        let mut added = Elements::new(der::only(&added, tag::SEQUENCE).expect("a SEQUENCE"));
        let (version, serial) = (added.next().expect("a version"), added.next().expect("a serial number"));
        assert_eq!(version.octets, [0xa0, 3, 2, 1, 2]);
        assert!(serial.tag == tag::INTEGER && serial.content.len() <= 20 && serial.content[0] < 0x80);
        // The TPM says the algorithm when the caller does not.
        if given.len() == NAMES.len() {
            assert_eq!(added.next().expect("an algorithm").octets, own_algorithm);
        }
        let public_key = added.next().expect("a key").octets;
        assert!(public_key.ends_with(&point) && added.rest().is_empty());
        let parts = [version.octets, serial.octets, &own_algorithm, NAMES, public_key, &extensions];
        let certificate = element(tag::SEQUENCE, &parts);
        assert_eq!(digest, hash::digest(HashAlg::Sha256, &[&certificate]).as_bytes());
        let Signature::Signed { value: SignatureValue::Ecdsa { r, s }, .. } = signature else { panic!("ECDSA") };
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
        verifier.verify(&certificate, &[&r[..], &s[..]].concat()).expect("ring agrees");
    }
}

#[test]
fn another_certificate_has_another_serial_number() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER).handle;
    let mut serials: Vec<_> = [&[0x30, 0, 0x30, 0, 0x30, 0][..], &[0x30, 2, 5, 0, 0x30, 0, 0x30, 0]]
        .iter()
        .map(|names| made(&mut tpm, &certify(key, key, b"", AsymScheme::Null, &partial(names, &extensions(SIGNS)))).0)
        .map(|added| {
            let mut added = Elements::new(der::only(&added, tag::SEQUENCE).expect("a SEQUENCE"));
            (added.next(), added.next().map(|serial| serial.octets.to_vec())).1
        })
        .collect();
    serials.dedup();
    assert_eq!(serials.len(), 2);
}

/// A key usage of these bits, the first of them the highest.
fn usage(bits: u32) -> String {
    format!("300e 0603551d0f 0407 030500{bits:08x}")
}

#[test]
fn extensions_say_what_the_object_is() {
    let mut tpm = started();
    let signs = load_ak(&mut tpm, rh::OWNER);
    let mut storage = templates::ek_p256();
    (storage.attributes, storage.auth_policy) = (A::from_bits(0x0003_0472), Default::default());
    let storage = load(&mut tpm, rh::OWNER, &storage);
    let mut free = templates::ak_p256();
    free.attributes = A::from_bits(0x0002_0460);
    if let PublicKind::Ecc { parms, .. } = &mut free.kind {
        parms.scheme = AsymScheme::Null;
    }
    let decrypts = load(&mut tpm, rh::OWNER, &free);
    let mut asked = |object: Handle, given: &str| {
        let given = partial(NAMES, &extensions(given));
        code(&mut tpm, &certify(object, signs.handle, b"", AsymScheme::Null, &given))
    };
    let (signs, storage, decrypts) = (signs.handle, storage.handle, decrypts.handle);
    // digitalSignature, nonRepudiation, keyEncipherment, dataEncipherment, keyAgreement, keyCertSign, cRLSign,
    // encipherOnly, decipherOnly: which of the three objects may have it in its certificate.
    for (n, may) in [0b100, 0b110, 0b010, 0b011, 0b011, 0b100, 0b100, 0b011, 0b011].into_iter().enumerate() {
        for (i, object) in [decrypts, storage, signs].into_iter().enumerate() {
            let want = if may >> i & 1 == 1 { rc::SUCCESS } else { rc::VALUE.parameter(3) };
            assert_eq!(asked(object, &usage(1 << (31 - n))), want, "use {n} of {object:?}");
        }
    }
    assert_eq!(asked(signs, &usage(1 << 22)), rc::RESERVED_BITS.parameter(3));
    assert_eq!(asked(signs, &usage(0)), rc::SUCCESS);

    let attributes = |bits: u32| format!("3012 0607 6781050a010101 0407 030500{bits:08x}");
    let own = 0x0005_0472;
    assert_eq!(asked(signs, &(SIGNS.to_owned() + &attributes(own))), rc::SUCCESS);
    assert_eq!(asked(signs, &(attributes(own) + SIGNS)), rc::SUCCESS);
    assert_eq!(asked(signs, &(attributes(own ^ 0x40) + SIGNS)), rc::ATTRIBUTES.handle(1));
    // What else there is, the TPM does not look at.
    assert_eq!(asked(signs, &("300c 0603551d13 0101ff 0402 3000".to_owned() + SIGNS)), rc::SUCCESS);
    for wrong in [
        // No key usage; two of them; one that is another type, or none, or more than it is.
        "",
        &(SIGNS.to_owned() + SIGNS),
        "300b 0603551d0f 0404 02020284",
        "3009 0603551d0f 0402 0500",
        "300b 0603551d0f 0404 03020384",
        "300b 0603551d0f 0404 03020884",
        "300a 0603551d0f 0403 030101",
        "300c 0603551d0f 0405 0302028400",
        "300d 0603551d0f 0404 03020284 0500",
        "300f 0603551d0f 0408 0306000000000000",
        "3005 0603551d0f",
        "300b 0603551d0f 0504 03020284",
        "310b 0603551d0f 0404 03020284",
        "30810b 0603551d0f 0404 03020284",
        "300b 0603551d0f 0404 030202",
    ] {
        assert_eq!(asked(signs, wrong), rc::VALUE.parameter(3), "{wrong}");
    }
}

/// The two handles, the three parameters, and the response code.
type Case<'a> = (Handle, Handle, &'a [u8], AsymScheme, &'a [u8], Rc);

#[test]
fn each_wrong_parameter_has_its_code() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER).handle;
    let mut storage = templates::ek_p256();
    (storage.attributes, storage.auth_policy) = (A::from_bits(0x0003_0472), Default::default());
    let storage = load(&mut tpm, rh::OWNER, &storage).handle;
    let scheme = KeyedHashScheme::Hmac(HashAlg::Sha256);
    let kind = PublicKind::KeyedHash { scheme, unique: Default::default() };
    let hmac =
        load(&mut tpm, rh::OWNER, &Public { attributes: A::from_bits(0x0004_0472), kind, ..templates::ak_p256() });
    let (null, extensions) = (AsymScheme::Null, extensions(SIGNS));
    let good = partial(NAMES, &extensions);
    let mut long = good.clone();
    long.push(0);
    let five = partial(&[NAMES, &[0x30, 0, 0x30, 0]].concat(), &extensions);
    let cases: &[Case<'_>] = &[
        (key, key, b"", AsymScheme::Ecdsa(HashAlg::Sha256), &good, rc::SUCCESS),
        (key, key, b"x", null, &good, rc::SIZE.parameter(1)),
        (key, key, b"", AsymScheme::Ecdsa(HashAlg::Sha384), &good, rc::SCHEME.parameter(2)),
        (key, key, b"", AsymScheme::Rsassa(HashAlg::Sha256), &good, rc::SCHEME.parameter(2)),
        (key, storage, b"", null, &good, rc::KEY.handle(2)),
        (key, rh::NULL, b"", null, &good, rc::KEY.handle(2)),
        (key, hmac.handle, b"", null, &good, rc::SCHEME.handle(2)),
        (hmac.handle, key, b"", null, &good, rc::ASYMMETRIC.handle(1)),
        (rh::NULL, key, b"", null, &good, rc::VALUE.handle(1)),
        (key, key, b"", null, b"", rc::VALUE.parameter(3)),
        (key, key, b"", null, &long, rc::SIZE.parameter(3)),
        (key, key, b"", null, &good[..good.len() - 1], rc::SIZE.parameter(3)),
        (key, key, b"", null, &[0; 1025], rc::SIZE.parameter(3)),
        (key, key, b"", null, &partial(NAMES, &[]), rc::VALUE.parameter(3)),
        (key, key, b"", null, &partial(&NAMES[2..], &extensions), rc::VALUE.parameter(3)),
        (key, key, b"", null, &five, rc::VALUE.parameter(3)),
        (key, key, b"", null, &partial(&extensions, NAMES), rc::VALUE.parameter(3)),
        (key, key, b"", null, &partial(NAMES, &[&extensions[..], &extensions].concat()), rc::VALUE.parameter(3)),
        // issuerUniqueID.
        (key, key, b"", null, &partial(&[NAMES, &[0xa1, 0]].concat(), &extensions), rc::VALUE.parameter(3)),
    ];
    for (n, (object, signer, reserved, scheme, partial, want)) in cases.iter().enumerate() {
        assert_eq!(code(&mut tpm, &certify(*object, *signer, reserved, *scheme, partial)), *want, "case {n}");
    }
}

#[test]
fn a_key_for_certificates_signs_nothing_else() {
    let mut tpm = started();
    let mut template = templates::ak_p256();
    template.attributes = A::from_bits(0x000c_0472);
    let key = load(&mut tpm, rh::OWNER, &template).handle;
    let sign = Builder::with_empty_auth(cc::SIGN, &[key], 1).params(|w| {
        w.tpm2b(&[0; 32]);
        w.put(&AsymScheme::Null);
        w.bytes(&unhex("8024 40000007 0000"));
    });
    assert_eq!(code(&mut tpm, &sign.build()), rc::ATTRIBUTES.handle(1));
    let given = partial(NAMES, &extensions(SIGNS));
    assert_eq!(code(&mut tpm, &certify(key, key, b"", AsymScheme::Null, &given)), rc::SUCCESS);
}

#[test]
fn numbers_are_as_short_as_they_can_be() {
    for (number, want) in [
        (&[][..], "020100"),
        (&[0], "020100"),
        (&[0, 0, 1], "020101"),
        (&[0x80], "02020080"),
        (&[0, 0x7f, 0], "02027f00"),
    ] {
        assert_eq!(der::integer(number), unhex(want));
    }
    for (size, head) in [(0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100")] {
        assert!(element(tag::OCTET_STRING, &[&vec![7; size]]).starts_with(&unhex(head)));
    }
}

#[test]
fn lengths_that_are_not_der_are_refused() {
    // What would be in them is there.
    let content = "00".repeat(256);
    for octets in ["308100", "30817f", "30820001", "308200ff", "3083000001", "3080", "1f00"] {
        assert_eq!(Elements::new(&unhex(&(octets.to_owned() + &content))).next(), None, "{octets}");
    }
    for octets in
        ["", "30", "3080", "30800000", "30810100", "3081", "30820000", "30820001ff", "308300000100", "3001", "1f0100"]
    {
        assert_eq!(Elements::new(&unhex(octets)).next(), None, "{octets}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is written is read again, whatever follows it.
    #[test]
    fn elements_are_read_as_written(parts in prop::collection::vec((0u8..0x1f, prop::collection::vec(any::<u8>(), 0..300)), 0..5)) {
        let all: Vec<u8> = parts.iter().flat_map(|(tag, content)| element(*tag, &[content])).collect();
        let mut elements = Elements::new(&all);
        for (tag, content) in &parts {
            let read = elements.next().expect("an element");
            prop_assert_eq!((read.tag, read.content), (*tag, &content[..]));
            prop_assert_eq!(read.octets, element(*tag, &[content]));
        }
        prop_assert!(elements.rest().is_empty() && elements.next().is_none());
    }

    /// Any octets: an element is what it would be written as, and is where it was read.
    #[test]
    fn only_der_is_read(octets in prop::collection::vec(any::<u8>(), 0..400), first in 0usize..5) {
        let starts = [&[][..], &[0x30], &[0x30, 0x81], &[0x30, 0x82, 0], &[0x30, 0x82, 1]];
        let octets = [starts[first], &octets].concat();
        let mut elements = Elements::new(&octets);
        if let Some(read) = elements.next() {
            prop_assert_eq!(read.octets, element(read.tag, &[read.content]));
            prop_assert_eq!([read.octets, elements.rest()].concat(), octets);
        }
    }

    /// A partial certificate that is changed somewhere is answered, and if it is certified, it is DER still.
    #[test]
    fn any_partial_certificate(at: prop::sample::Index, to: u8, keep: prop::sample::Index) {
        let given = partial(NAMES, &extensions(&(SIGNS.to_owned() + "3012 0607 6781050a010101 0407 03050000050472")));
        let mut given = given[..=keep.index(given.len() + 20).min(given.len() - 1)].to_vec();
        let at = at.index(given.len());
        given[at] = to;
        let mut tpm = started();
        let key = load_ak(&mut tpm, rh::OWNER).handle;
        let answer = code(&mut tpm, &certify(key, key, b"", AsymScheme::Null, &given));
        let (value, size) = (rc::VALUE.parameter(3), rc::SIZE.parameter(3));
        let others = [rc::ATTRIBUTES.handle(1), rc::RESERVED_BITS.parameter(3), rc::SUCCESS];
        prop_assert!(answer == value || answer == size || others.contains(&answer), "{answer:?}");
        if answer == rc::SUCCESS {
            prop_assert!(der::only(&given, tag::SEQUENCE).is_some());
        }
    }
}
