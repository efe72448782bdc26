//! Objects that a key has as children, and credentials.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::response::{self, CreatePrimary, ResponseError};
use bulla_tpm_types::{
    AuthCommand, Handle, HashAlg, KeyedHashScheme, Name, ObjectAttributes as A, Public, PublicKind, Rc, Reader,
    SensitiveCreate, Symmetric, Writer, alg, cc, rc, rh, templates,
};

use super::{code, load, load_ak, run, started};
use crate::Tpm;

/// A storage key without a policy.
pub(super) fn storage(tpm: &mut Tpm, hierarchy: Handle) -> CreatePrimary {
    load(tpm, hierarchy, &storage_template())
}

fn storage_template() -> Public {
    Public { attributes: A::from_bits(0x0003_0472), auth_policy: Default::default(), ..templates::ek_p256() }
}

pub(super) fn sealing_template() -> Public {
    let kind = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
    Public { attributes: A::from_bits(0x452), kind, ..templates::ak_p256() }
}

/// A child's private and public area, as Create answers them.
pub(super) fn child(tpm: &mut Tpm, parent: Handle, auth: &[u8], data: &[u8], template: &Public) -> (Vec<u8>, Vec<u8>) {
    let create = Builder::with_empty_auth(cc::CREATE, &[parent], 1).params(|w| {
        w.sized(|w| w.put(&SensitiveCreate { user_auth: auth, data }));
        w.sized(|w| w.put(template));
        w.tpm2b(&[]);
        w.u32(0);
    });
    let bytes = run(tpm, &create.build());
    let params = response::parse(&bytes, false).expect("a child").params.to_vec();
    let mut r = Reader::new(&params);
    let private = r.tpm2b(1024, "private").expect("private").to_vec();
    (private, r.tpm2b(1024, "public").expect("public").to_vec())
}

fn load_command(parent: Handle, private: &[u8], public: &[u8]) -> Vec<u8> {
    Builder::with_empty_auth(cc::LOAD, &[parent], 1)
        .params(|w| {
            w.tpm2b(private);
            w.tpm2b(public);
        })
        .build()
}

pub(super) fn loaded(tpm: &mut Tpm, parent: Handle, (private, public): &(Vec<u8>, Vec<u8>)) -> Handle {
    {
        let bytes = run(tpm, &load_command(parent, private, public));
        response::parse(&bytes, true).expect("loaded").handle.expect("a handle")
    }
}

fn unseal(item: Handle, password: &[u8]) -> Vec<u8> {
    Builder::with_sessions(cc::UNSEAL, &[item], &[AuthCommand::password(password).expect("fits")]).build()
}

#[test]
fn sealed_data_need_their_password() {
    let mut tpm = started();
    let parent = storage(&mut tpm, rh::OWNER).handle;
    let sealed = child(&mut tpm, parent, b"pw", b"data", &sealing_template());
    let item = loaded(&mut tpm, parent, &sealed);
    assert_eq!(code(&mut tpm, &unseal(item, b"")), rc::BAD_AUTH.session(1));
    let bytes = run(&mut tpm, &unseal(item, b"pw"));
    assert_eq!(response::parse(&bytes, false).expect("unsealed").params, b"\0\x04data");
    // Without userWithAuth a password is of no use; a key is not data.
    let template = Public { attributes: A::from_bits(0x412), ..sealing_template() };
    let sealed = child(&mut tpm, parent, b"pw", b"data", &template);
    let item = loaded(&mut tpm, parent, &sealed);
    assert_eq!(code(&mut tpm, &unseal(item, b"pw")), rc::AUTH_UNAVAILABLE);
    let ak = load_ak(&mut tpm, rh::OWNER).handle;
    assert_eq!(code(&mut tpm, &unseal(ak, b"")), rc::TYPE.handle(1));
}

#[test]
fn a_child_is_loaded_unchanged_and_under_its_parent_only() {
    let mut tpm = started();
    let parent = storage(&mut tpm, rh::OWNER).handle;
    let other = storage(&mut tpm, rh::ENDORSEMENT).handle;
    let (private, public) = child(&mut tpm, parent, b"", b"data", &sealing_template());
    assert_eq!(code(&mut tpm, &load_command(other, &private, &public)), rc::INTEGRITY.parameter(1));
    for at in 0..private.len() {
        let mut changed = private.clone();
        changed[at] ^= 0x80;
        // The first two octets are the size of the integrity value.
        let want = if at < 2 { rc::SIZE } else { rc::INTEGRITY };
        let got = code(&mut tpm, &load_command(parent, &changed, &public));
        assert!(got == want.parameter(1) || at == 1, "octet {at}: {got}");
        assert!(!got.is_success());
    }
    for at in 0..public.len() {
        let mut changed = public.clone();
        changed[at] ^= 0x80;
        assert!(!code(&mut tpm, &load_command(parent, &private, &changed)).is_success(), "octet {at}");
    }
    for length in 0..private.len() {
        assert!(!code(&mut tpm, &load_command(parent, &private[..length], &public)).is_success());
    }
    assert!(run(&mut tpm, &load_command(parent, &private, &public))[6..10] == [0; 4]);
}

#[test]
fn children_have_children() {
    let mut tpm = started();
    let root = storage(&mut tpm, rh::OWNER).handle;
    let template = storage_template();
    let inner = child(&mut tpm, root, b"", b"", &template);
    let inner = loaded(&mut tpm, root, &inner);
    let sealed = child(&mut tpm, inner, b"", b"deep", &sealing_template());
    let item = loaded(&mut tpm, inner, &sealed);
    let bytes = run(&mut tpm, &unseal(item, b""));
    assert_eq!(response::parse(&bytes, false).expect("unsealed").params, b"\0\x04deep");
    // A signing key has none.
    let ak = load_ak(&mut tpm, rh::OWNER).handle;
    assert_eq!(code(&mut tpm, &load_command(ak, &sealed.0, &sealed.1)), rc::TYPE.handle(1));
}

/// MakeCredential's blob and secret for a key and a Name.
fn credential(tpm: &mut Tpm, key: Handle, name: &Name) -> (Vec<u8>, Vec<u8>) {
    let make = Builder::new(cc::MAKE_CREDENTIAL, &[key]).params(|w| {
        w.tpm2b(b"credential");
        w.put(name);
    });
    let bytes = run(tpm, &make.build());
    let params = response::parse(&bytes, false).expect("a credential").params.to_vec();
    let mut r = Reader::new(&params);
    let blob = r.tpm2b(132, "blob").expect("a blob").to_vec();
    (blob, r.tpm2b(512, "secret").expect("a secret").to_vec())
}

#[test]
fn a_credential_is_for_one_key_of_one_tpm() {
    let mut tpm = started();
    let ek = storage(&mut tpm, rh::ENDORSEMENT).handle;
    let ak = load_ak(&mut tpm, rh::OWNER);
    let other = load_ak(&mut tpm, rh::ENDORSEMENT);
    let (blob, secret) = credential(&mut tpm, ek, &ak.name);
    let activate = |key: Handle, blob: &[u8], secret: &[u8]| {
        let mut w = Writer::new();
        w.tpm2b(blob);
        w.tpm2b(secret);
        let params = w.into_vec();
        Builder::with_empty_auth(cc::ACTIVATE_CREDENTIAL, &[key, ek], 2).params(|w| w.bytes(&params)).build()
    };
    let bytes = run(&mut tpm, &activate(ak.handle, &blob, &secret));
    assert_eq!(response::parse(&bytes, false).expect("activated").params, b"\0\x0acredential");
    assert_eq!(code(&mut tpm, &activate(other.handle, &blob, &secret)), rc::INTEGRITY.parameter(1));
    let mut changed = blob.clone();
    *changed.last_mut().expect("octets") ^= 1;
    assert_eq!(code(&mut tpm, &activate(ak.handle, &changed, &secret)), rc::INTEGRITY.parameter(1));
    // A point that is not on the curve, whose multiple would tell of the private key.
    let mut off = secret.clone();
    *off.last_mut().expect("octets") ^= 1;
    assert_eq!(code(&mut tpm, &activate(ak.handle, &blob, &off)), rc::ECC_POINT.parameter(2));
    assert_eq!(code(&mut tpm, &activate(ak.handle, &blob, &secret[..9])), rc::INSUFFICIENT.parameter(2));
}

#[test]
fn persistent_objects_survive_the_power() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER);
    let handle = Handle(0x8100_0001);
    let evict = |object: Handle| {
        Builder::with_empty_auth(cc::EVICT_CONTROL, &[rh::OWNER, object], 1).params(|w| w.put(&handle)).build()
    };
    assert_eq!(code(&mut tpm, &evict(key.handle)), rc::SUCCESS);
    tpm.init();
    super::startup(&mut tpm, bulla_tpm_types::StartupType::Clear).expect("startup");
    let read = response::parse_read_public(&run(&mut tpm, &bulla_tpm_types::command::read_public(handle)));
    assert_eq!(read.expect("persistent").name, key.name);
    let quote = run(&mut tpm, &bulla_tpm_types::command::quote(handle, b"", &Default::default()));
    assert!(response::parse_quote(&quote).is_ok());
    assert_eq!(code(&mut tpm, &evict(handle)), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &evict(handle)), rc::HANDLE.handle(2));
    // Keys of the null hierarchy do not stay.
    let null = load_ak(&mut tpm, rh::NULL).handle;
    assert_eq!(code(&mut tpm, &evict(null)), rc::ATTRIBUTES.handle(2));
}

/// CVE-2025-2884: a key is not used with a scheme of another type, and not with another hash than its own.
#[test]
fn a_key_signs_only_as_it_may() {
    let mut tpm = started();
    let parent = storage(&mut tpm, rh::OWNER).handle;
    let kind = PublicKind::KeyedHash { scheme: KeyedHashScheme::Hmac(HashAlg::Sha256), unique: Default::default() };
    let template = Public { attributes: A::from_bits(0x0004_0472), kind, ..templates::ak_p256() };
    let hmac = child(&mut tpm, parent, b"", b"", &template);
    let hmac = loaded(&mut tpm, parent, &hmac);
    let template = Public { attributes: A::from_bits(0x0004_0472), ..templates::ak_p256() };
    let ecdsa = child(&mut tpm, parent, b"", b"", &template);
    let ecdsa = loaded(&mut tpm, parent, &ecdsa);
    let mut sign = |key: Handle, digest: usize, scheme: &str| -> Result<(), Rc> {
        let cmd = Builder::with_empty_auth(cc::SIGN, &[key], 1).params(|w| {
            w.tpm2b(&vec![0x5a; digest]);
            w.bytes(&super::unhex(scheme));
            w.bytes(&super::unhex("8024 40000007 0000"));
        });
        match response::parse(&run(&mut tpm, &cmd.build()), false) {
            Ok(_) => Ok(()),
            Err(ResponseError::Tpm(code)) => Err(code),
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(sign(hmac, 32, "0005 000b"), Ok(()));
    assert_eq!(sign(hmac, 32, "0010"), Ok(()));
    assert_eq!(sign(ecdsa, 32, "0018 000b"), Ok(()));
    for (key, scheme) in [(hmac, "0018 000b"), (hmac, "0005 000c"), (ecdsa, "0005 000b"), (ecdsa, "0018 0004")] {
        assert_eq!(sign(key, 32, scheme), Err(rc::SCHEME.parameter(2)), "{scheme}");
    }
    assert_eq!(sign(hmac, 31, "0010"), Err(rc::SIZE.parameter(1)));
    assert_eq!(sign(ecdsa, 20, "0010"), Err(rc::SIZE.parameter(1)));
    assert_eq!(sign(parent, 32, "0018 000b"), Err(rc::KEY.handle(1)));
}

/// Part 3, 12.1: a storage key that cannot leave its parent protects its children as the parent does; others as they
/// like.
#[test]
fn a_storage_key_that_stays_has_its_parents_algorithms() {
    let mut tpm = started();
    let parent = storage(&mut tpm, rh::OWNER).handle;
    let aes_256 = |template: &mut Public| {
        if let PublicKind::Ecc { parms, .. } = &mut template.kind {
            parms.symmetric = Symmetric::Aes { bits: 256, mode: alg::CFB };
        }
    };
    for (attributes, hash, cipher) in [(0x0003_0472, rc::HASH, rc::SYMMETRIC), (0x0003_0460, rc::SUCCESS, rc::SUCCESS)]
    {
        let same = Public { attributes: A::from_bits(attributes), ..storage_template() };
        let another_hash = Public { name_alg: Some(HashAlg::Sha384), ..same };
        let mut another_cipher = same;
        aes_256(&mut another_cipher);
        for (template, want) in [(same, rc::SUCCESS), (another_hash, hash), (another_cipher, cipher)] {
            let create = Builder::with_empty_auth(cc::CREATE, &[parent], 1).params(|w| {
                w.sized(|w| w.put(&SensitiveCreate { user_auth: b"", data: b"" }));
                w.sized(|w| w.put(&template));
                w.tpm2b(&[]);
                w.u32(0);
            });
            let want = if want == rc::SUCCESS { want } else { want.parameter(2) };
            assert_eq!(code(&mut tpm, &create.build()), want);
        }
    }
}

/// How long an authValue is, its private area does not tell.
#[test]
fn private_areas_have_one_length() {
    let mut tpm = started();
    let parent = storage(&mut tpm, rh::OWNER).handle;
    let sizes =
        [&b""[..], b"pw", &[7; 32]].map(|auth| child(&mut tpm, parent, auth, b"data", &sealing_template()).0.len());
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
}

/// A key of an HMAC is no longer than a block of its hash algorithm; data have 128 octets.
#[test]
fn a_mac_key_is_no_longer_than_a_block() {
    let mut tpm = started();
    let parent = storage(&mut tpm, rh::OWNER).handle;
    let hmac = |hash| PublicKind::KeyedHash { scheme: KeyedHashScheme::Hmac(hash), unique: Default::default() };
    for (kind, attributes, size, want) in [
        (hmac(HashAlg::Sha256), 0x0004_0452, 64, rc::SUCCESS),
        (hmac(HashAlg::Sha256), 0x0004_0452, 65, rc::SIZE.parameter(1)),
        (hmac(HashAlg::Sha384), 0x0004_0452, 128, rc::SUCCESS),
        (sealing_template().kind, 0x0000_0452, 128, rc::SUCCESS),
    ] {
        let template = Public { attributes: A::from_bits(attributes), kind, ..sealing_template() };
        let create = Builder::with_empty_auth(cc::CREATE, &[parent], 1).params(|w| {
            w.sized(|w| w.put(&SensitiveCreate { user_auth: b"", data: &[7; 128][..size] }));
            w.sized(|w| w.put(&template));
            w.tpm2b(&[]);
            w.u32(0);
        });
        assert_eq!(code(&mut tpm, &create.build()), want);
    }
}
