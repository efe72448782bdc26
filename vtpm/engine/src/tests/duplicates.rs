//! Duplication: Duplicate, Rewrap and Import, and the policies that allow it.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    AuthCommand, Digest, Handle, HashAlg, KeyedHashScheme, Marshal, Name, Nonce, ObjectAttributes as A, Public,
    PublicKind, Rc, Reader, SessionAttributes, Symmetric, Unmarshal, alg, cc, command, hash, rc, response, rh,
    templates,
};
use proptest::prelude::*;

use super::objects::{child, loaded, storage};
use super::sessions::start_plain;
use super::{code, load, load_ak, run, started};
use crate::Tpm;

/// policyDigest ≔ H(policyDigest ‖ parts), from zeros.
fn policy(parts: &[&[u8]]) -> Digest {
    let all: Vec<&[u8]> = [&[0; 32][..]].into_iter().chain(parts.iter().copied()).collect();
    hash::digest(HashAlg::Sha256, &all).digest()
}

/// The policy that allows Duplicate and nothing else.
fn may_duplicate() -> Digest {
    policy(&[&cc::POLICY_COMMAND_CODE.to_be_bytes(), &cc::DUPLICATE.to_be_bytes()])
}

fn policy_command_code(session: Handle, code: u32) -> Vec<u8> {
    Builder::new(cc::POLICY_COMMAND_CODE, &[session]).params(|w| w.u32(code)).build()
}

fn by_session(handle: Handle) -> [AuthCommand; 1] {
    let attributes = SessionAttributes::CONTINUE_SESSION;
    [AuthCommand { handle, nonce: Nonce::EMPTY, attributes, hmac: Default::default() }]
}

fn duplicate(object: Handle, parent: Handle, session: AuthCommand, key: &[u8], symmetric: Symmetric) -> Vec<u8> {
    Builder::with_sessions(cc::DUPLICATE, &[object, parent], &[session])
        .params(|w| {
            w.tpm2b(key);
            w.put(&symmetric);
        })
        .build()
}

/// A key that may be duplicated: a parent, for it has the seed that is duplicated with it.
fn template(kind: PublicKind, attributes: u32) -> Public {
    Public { kind, attributes: A::from_bits(attributes), auth_policy: may_duplicate(), ..templates::ak_p256() }
}

/// One of each kind: a signing pair, sealed data, a cipher's key, an HMAC key, a storage pair and a storage cipher.
fn kinds() -> Vec<(PublicKind, u32, &'static [u8])> {
    let keyed = |scheme| PublicKind::KeyedHash { scheme, unique: Default::default() };
    let cipher = |mode| PublicKind::SymCipher { sym: Symmetric::Aes { bits: 128, mode }, unique: Default::default() };
    vec![
        (templates::ak_p256().kind, 0x0004_0060, b""),
        (keyed(KeyedHashScheme::Null), 0x40, b"sealed"),
        (cipher(alg::CTR), 0x0006_0060, b""),
        (keyed(KeyedHashScheme::Hmac(HashAlg::Sha384)), 0x0004_0060, b""),
        (templates::ek_p256().kind, 0x0003_0060, b""),
        (cipher(alg::CFB), 0x0003_0060, b""),
    ]
}

/// A duplicate: the inner wrapper's key that the TPM made, the blob, and the seed.
type Duplicate = (Vec<u8>, Vec<u8>, Vec<u8>);

fn three(bytes: &[u8]) -> Duplicate {
    let params = response::parse(bytes, false).expect("a duplicate").params.to_vec();
    let mut r = Reader::new(&params);
    let mut next = || r.tpm2b(1024, "a part").expect("a part").to_vec();
    (next(), next(), next())
}

fn import(parent: Handle, key: &[u8], public: &[u8], blob: &[u8], seed: &[u8], symmetric: Symmetric) -> Vec<u8> {
    Builder::with_empty_auth(cc::IMPORT, &[parent], 1)
        .params(|w| {
            w.tpm2b(key);
            w.tpm2b(public);
            w.tpm2b(blob);
            w.tpm2b(seed);
            w.put(&symmetric);
        })
        .build()
}

fn private(bytes: &[u8]) -> Vec<u8> {
    let params = response::parse(bytes, false).expect("a private area").params.to_vec();
    Reader::new(&params).tpm2b(1024, "private").expect("private").to_vec()
}

/// A key of another TPM, of which only the public area is loaded here.
fn external(tpm: &mut Tpm, public: &Public) -> Handle {
    let load = Builder::new(cc::LOAD_EXTERNAL, &[]).params(|w| {
        w.tpm2b(&[]);
        w.sized(|w| w.put(public));
        w.put(&rh::OWNER);
    });
    response::parse(&run(tpm, &load.build()), true).expect("loaded").handle.expect("a handle")
}

fn name(tpm: &mut Tpm, handle: Handle) -> Name {
    response::parse_read_public(&run(tpm, &command::read_public(handle))).expect("an object").name
}

/// Every kind of object, with every combination of wrappers, goes to another TPM and is the same object there.
#[test]
fn objects_go_to_another_tpm() {
    let (mut here, mut there) = (started(), started());
    // The platforms of the tests are alike: the other TPM gets other seeds.
    for _ in 0..2 {
        let clear = Builder::with_empty_auth(cc::CLEAR, &[rh::LOCKOUT], 1).build();
        assert_eq!(code(&mut there, &clear), rc::SUCCESS);
    }
    let root = storage(&mut here, rh::OWNER).handle;
    let other = storage(&mut there, rh::OWNER);
    let target = external(&mut here, &other.public);
    let session = start_plain(&mut here, 1);
    let aes = Symmetric::Aes { bits: 256, mode: alg::CFB };
    for (kind, attributes, data) in kinds() {
        for (parent, key, symmetric) in [
            (target, &b""[..], Symmetric::Null),
            (target, &[7; 32], aes),
            (target, b"", Symmetric::AES_128_CFB),
            (rh::NULL, b"", Symmetric::Null),
            (rh::NULL, b"", aes),
        ] {
            let made = child(
                &mut here,
                root,
                b"pw",
                data,
                &template(kind, attributes & !0x20 | if data.is_empty() { 0x20 } else { 0 }),
            );
            let object = loaded(&mut here, root, &made);
            assert_eq!(code(&mut here, &policy_command_code(session, cc::DUPLICATE)), rc::SUCCESS);
            let [auth] = by_session(session);
            let (made_key, blob, seed) = three(&run(&mut here, &duplicate(object, parent, auth, key, symmetric)));
            assert_eq!(made_key.is_empty(), !key.is_empty() || symmetric == Symmetric::Null);
            assert_eq!(seed.is_empty(), parent == rh::NULL);
            let key = if key.is_empty() { &made_key } else { key };
            let private = private(&run(&mut there, &import(other.handle, key, &made.1, &blob, &seed, symmetric)));
            let arrived = loaded(&mut there, other.handle, &(private, made.1.clone()));
            assert_eq!(name(&mut here, object), name(&mut there, arrived));
            if !data.is_empty() {
                let password = [AuthCommand::password(b"pw").expect("fits")];
                let unseal = Builder::with_sessions(cc::UNSEAL, &[arrived], &password).build();
                assert_eq!(response::parse(&run(&mut there, &unseal), false).expect("unsealed").params[2..], *data);
            }
            assert_eq!(code(&mut here, &command::flush_context(object)), rc::SUCCESS);
            assert_eq!(code(&mut there, &command::flush_context(arrived)), rc::SUCCESS);
        }
    }
}

/// The seed goes to an RSA parent by OAEP, and from one to another with Rewrap.
#[test]
fn parents_may_be_rsa_keys() {
    let mut tpm = started();
    let root = storage(&mut tpm, rh::OWNER).handle;
    let sealed = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
    let made = child(&mut tpm, root, b"", b"data", &template(sealed, 0x40));
    let object = loaded(&mut tpm, root, &made);
    let (first, second) =
        (templates::srk_rsa2048(), Public { name_alg: Some(HashAlg::Sha384), ..templates::srk_rsa2048() });
    let first = load(&mut tpm, rh::OWNER, &first).handle;
    let second = load(&mut tpm, rh::ENDORSEMENT, &second).handle;
    let session = start_plain(&mut tpm, 1);
    assert_eq!(code(&mut tpm, &policy_command_code(session, cc::DUPLICATE)), rc::SUCCESS);
    let [auth] = by_session(session);
    let (_, blob, seed) = three(&run(&mut tpm, &duplicate(object, first, auth, &[], Symmetric::Null)));
    assert_eq!(seed.len(), 256);
    let own = name(&mut tpm, object);
    let rewrap = Builder::with_empty_auth(cc::REWRAP, &[first, second], 1).params(|w| {
        w.tpm2b(&blob);
        w.put(&own);
        w.tpm2b(&seed);
    });
    let bytes = run(&mut tpm, &rewrap.build());
    let mut r = Reader::new(response::parse(&bytes, false).expect("rewrapped").params);
    let (again, key) = (r.tpm2b(1024, "a blob").expect("a blob"), r.tpm2b(256, "a seed").expect("a seed"));
    for (parent, blob, seed) in [(first, &blob[..], &seed[..]), (second, again, key)] {
        let private = private(&run(&mut tpm, &import(parent, &[], &made.1, blob, seed, Symmetric::Null)));
        let arrived = loaded(&mut tpm, parent, &(private, made.1.clone()));
        assert_eq!(name(&mut tpm, arrived), own);
    }
    let other = import(second, &[], &made.1, &blob, &seed, Symmetric::Null);
    assert_ne!(code(&mut tpm, &other), rc::SUCCESS);
}

/// Part 1, 23.3.2.3: encryptedDuplication asks for both wrappers, on both sides.
#[test]
fn encrypted_duplication_has_two_wrappers() {
    let mut tpm = started();
    let root = storage(&mut tpm, rh::OWNER).handle;
    let sealed = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
    let made = child(&mut tpm, root, b"", b"data", &template(sealed, 0x840));
    let object = loaded(&mut tpm, root, &made);
    let session = start_plain(&mut tpm, 1);
    let aes = Symmetric::AES_128_CFB;
    for (parent, symmetric, want) in [
        (root, Symmetric::Null, rc::SYMMETRIC.parameter(2)),
        (rh::NULL, aes, rc::HIERARCHY.handle(2)),
        (object, aes, rc::TYPE.handle(2)),
        (root, aes, rc::SUCCESS),
    ] {
        let _ = run(&mut tpm, &Builder::new(cc::POLICY_RESTART, &[session]).build());
        assert_eq!(code(&mut tpm, &policy_command_code(session, cc::DUPLICATE)), rc::SUCCESS);
        let [auth] = by_session(session);
        let bytes = run(&mut tpm, &duplicate(object, parent, auth, &[], symmetric));
        assert_eq!(bytes[6..10], want.0.to_be_bytes());
        if want != rc::SUCCESS {
            continue;
        }
        let (key, blob, seed) = three(&bytes);
        let codes = [
            import(root, &key, &made.1, &blob, &seed, aes),
            import(root, &key, &made.1, &blob, &[], aes),
            import(root, &[], &made.1, &blob, &seed, Symmetric::Null),
            import(root, &key[1..], &made.1, &blob, &seed, aes),
            import(root, &key, &made.1, &blob, &seed, Symmetric::Null),
        ]
        .map(|cmd| code(&mut tpm, &cmd));
        let size = rc::SIZE.parameter(1);
        assert_eq!(codes, [rc::SUCCESS, rc::ATTRIBUTES.parameter(4), rc::ATTRIBUTES.parameter(1), size, size]);
    }
}

/// What only a policy that names the command allows, and what nothing allows.
#[test]
fn a_duplicate_needs_its_policy() {
    let mut tpm = started();
    let root = storage(&mut tpm, rh::OWNER).handle;
    let sealed = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
    let made = child(&mut tpm, root, b"", b"data", &template(sealed, 0x40));
    let object = loaded(&mut tpm, root, &made);
    let ask = |tpm: &mut Tpm, object, auth| code(tpm, &duplicate(object, rh::NULL, auth, &[], Symmetric::Null));
    let password = AuthCommand::password(b"").expect("fits");
    assert_eq!(ask(&mut tpm, object, password), rc::AUTH_TYPE.session(1));
    let session = start_plain(&mut tpm, 1);
    let [by_policy] = by_session(session);
    assert_eq!(ask(&mut tpm, object, by_policy), rc::POLICY_FAIL.session(1), "without a command");
    assert_eq!(code(&mut tpm, &policy_command_code(session, cc::REWRAP)), rc::SUCCESS);
    assert_eq!(ask(&mut tpm, object, by_policy), rc::POLICY_FAIL.session(1), "another command");
    let _ = run(&mut tpm, &Builder::new(cc::POLICY_RESTART, &[session]).build());
    assert_eq!(code(&mut tpm, &policy_command_code(session, cc::DUPLICATE)), rc::SUCCESS);
    let fixed = child(&mut tpm, root, b"", b"data", &template(sealed, 0x52));
    let fixed = loaded(&mut tpm, root, &fixed);
    assert_eq!(ask(&mut tpm, fixed, by_policy), rc::ATTRIBUTES.handle(1));
    assert_eq!(ask(&mut tpm, object, by_policy), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &policy_command_code(session, cc::DUPLICATE)), rc::SUCCESS);
    let short = duplicate(object, rh::NULL, by_policy, &[1; 15], Symmetric::AES_128_CFB);
    assert_eq!(code(&mut tpm, &short), rc::SIZE.parameter(1));
    let needless = duplicate(object, rh::NULL, by_policy, &[1; 16], Symmetric::Null);
    assert_eq!(code(&mut tpm, &needless), rc::SIZE.parameter(1));
}

/// Part 3, 23.15: an object, or any, to one parent.
#[test]
fn duplication_select_names_the_parent_and_maybe_the_object() {
    let mut tpm = started();
    let root = storage(&mut tpm, rh::OWNER);
    let other = storage(&mut tpm, rh::ENDORSEMENT);
    let sealed = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
    let select = |session, object: &Name, parent: &Name, include: u8| {
        Builder::new(cc::POLICY_DUPLICATION_SELECT, &[session])
            .params(|w| {
                w.put(object);
                w.put(parent);
                w.u8(include);
            })
            .build()
    };
    // Without the object in it, the policy can be the object's own.
    let code_octets = cc::POLICY_DUPLICATION_SELECT.to_be_bytes();
    let own = policy(&[&code_octets, &other.name, &[0]]);
    let made = child(&mut tpm, root.handle, b"", b"data", &Public { auth_policy: own, ..template(sealed, 0x40) });
    let object = loaded(&mut tpm, root.handle, &made);
    let object_name = name(&mut tpm, object);
    let session = start_plain(&mut tpm, 1);
    let digest = |tpm: &mut Tpm| {
        let bytes = run(tpm, &Builder::new(cc::POLICY_GET_DIGEST, &[session]).build());
        Digest::from_bytes(response::parse(&bytes, false).expect("a digest").params).expect("a digest")
    };
    let restart = Builder::new(cc::POLICY_RESTART, &[session]).build();
    let [auth] = by_session(session);
    for (parent, to, include, want) in [
        (&other, other.handle, 0, rc::SUCCESS),
        (&other, root.handle, 0, rc::POLICY_FAIL.session(1)),
        (&root, root.handle, 0, rc::POLICY_FAIL.session(1)),
        (&other, other.handle, 1, rc::POLICY_FAIL.session(1)),
    ] {
        assert_eq!(code(&mut tpm, &restart), rc::SUCCESS);
        assert_eq!(code(&mut tpm, &select(session, &object_name, &parent.name, include)), rc::SUCCESS);
        let named: &[u8] = if include == 1 { &object_name } else { &[] };
        assert_eq!(digest(&mut tpm), policy(&[&code_octets, named, &parent.name, &[include]]));
        assert_eq!(code(&mut tpm, &duplicate(object, to, auth, &[], Symmetric::Null)), want);
    }
    assert_eq!(code(&mut tpm, &restart), rc::SUCCESS);
    let again = select(session, &object_name, &other.name, 1);
    assert_eq!(code(&mut tpm, &again), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &again), rc::CPHASH);
    assert_eq!(code(&mut tpm, &policy_command_code(session, cc::REWRAP)), rc::VALUE.parameter(1));
    assert_eq!(code(&mut tpm, &restart), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &policy_command_code(session, cc::DUPLICATE)), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &again), rc::COMMAND_CODE);
    assert_eq!(code(&mut tpm, &select(session, &object_name, &other.name, 2)), rc::VALUE.parameter(3));
}

fn rewrap(old: Handle, new: Handle, blob: &[u8], name: &Name, seed: &[u8]) -> Vec<u8> {
    Builder::with_empty_auth(cc::REWRAP, &[old, new], 1)
        .params(|w| {
            w.tpm2b(blob);
            w.put(name);
            w.tpm2b(seed);
        })
        .build()
}

#[test]
fn a_duplicate_is_rewrapped_by_who_can_open_it() {
    let mut tpm = started();
    let root = storage(&mut tpm, rh::OWNER).handle;
    let other = storage(&mut tpm, rh::ENDORSEMENT).handle;
    let sealed = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
    let made = child(&mut tpm, root, b"", b"data", &template(sealed, 0x40));
    let object = loaded(&mut tpm, root, &made);
    let object_name = name(&mut tpm, object);
    let session = start_plain(&mut tpm, 1);
    assert_eq!(code(&mut tpm, &policy_command_code(session, cc::DUPLICATE)), rc::SUCCESS);
    let [auth] = by_session(session);
    let (_, plain, _) = three(&run(&mut tpm, &duplicate(object, rh::NULL, auth, &[], Symmetric::Null)));
    let parts = |bytes: &[u8]| {
        let params = response::parse(bytes, false).expect("rewrapped").params.to_vec();
        let mut r = Reader::new(&params);
        let blob = r.tpm2b(1024, "blob").expect("a blob").to_vec();
        (blob, r.tpm2b(512, "seed").expect("a seed").to_vec())
    };
    let (blob, seed) = parts(&run(&mut tpm, &rewrap(rh::NULL, root, &plain, &object_name, &[])));
    let (blob, seed) = parts(&run(&mut tpm, &rewrap(root, other, &blob, &object_name, &seed)));
    assert_eq!(code(&mut tpm, &import(other, &[], &made.1, &blob, &seed, Symmetric::Null)), rc::SUCCESS);
    let wrong = code(&mut tpm, &import(root, &[], &made.1, &blob, &seed, Symmetric::Null));
    assert_eq!(wrong, rc::INTEGRITY.parameter(3));
    assert_eq!(parts(&run(&mut tpm, &rewrap(other, rh::NULL, &blob, &object_name, &seed))), (plain.clone(), vec![]));

    let ak = load_ak(&mut tpm, rh::OWNER).handle;
    for (cmd, want) in [
        (rewrap(rh::NULL, root, &plain, &object_name, &seed), rc::HANDLE.handle(1)),
        (rewrap(root, rh::NULL, &plain, &object_name, &[]), rc::HANDLE.handle(1)),
        (rewrap(ak, rh::NULL, &blob, &object_name, &seed), rc::TYPE.handle(1)),
        (rewrap(other, ak, &blob, &object_name, &seed), rc::TYPE.handle(2)),
        (rewrap(root, rh::NULL, &blob, &object_name, &seed), rc::INTEGRITY.parameter(1)),
        (rewrap(other, rh::NULL, &blob, &Name::EMPTY, &seed), rc::INTEGRITY.parameter(1)),
        (rewrap(other, rh::NULL, &blob, &object_name, &seed[..9]), rc::VALUE.parameter(3)),
        (rewrap(rh::NULL, root, &[5; 1024], &object_name, &[]), rc::VALUE.parameter(1)),
    ] {
        assert_eq!(code(&mut tpm, &cmd), want);
    }
}

/// A sensitive area that anybody may have written: what is wrong with it is found before it is wrapped.
#[test]
fn an_imported_object_is_checked() {
    let mut tpm = started();
    let root = storage(&mut tpm, rh::OWNER).handle;
    let sensitive = |kind: u16, auth: &[u8], seed: &[u8], data: &[u8]| {
        let mut w = bulla_tpm_types::Writer::new();
        w.sized(|w| {
            w.u16(kind);
            w.tpm2b(auth);
            w.tpm2b(seed);
            w.tpm2b(data);
        });
        w.into_vec()
    };
    let unique = hash::digest(HashAlg::Sha256, &[&[1; 32], b"data"]).digest();
    let public = |attributes: u32, unique| {
        let kind = PublicKind::KeyedHash { scheme: Default::default(), unique };
        template(kind, attributes).to_vec()
    };
    let good = sensitive(8, b"pw", &[1; 32], b"data");
    let mut ask =
        |public: &[u8], blob: &[u8]| -> Rc { code(&mut tpm, &import(root, &[], public, blob, &[], Symmetric::Null)) };
    assert_eq!(ask(&public(0x40, unique), &good), rc::SUCCESS);
    assert_eq!(ask(&public(0x50, unique), &good), rc::ATTRIBUTES.parameter(2));
    assert_eq!(ask(&public(0x42, unique), &good), rc::ATTRIBUTES.parameter(2));
    assert_eq!(ask(&public(0x1_0040, unique), &good), rc::ATTRIBUTES.parameter(2));
    assert_eq!(ask(&public(0x40, Digest::EMPTY), &good), rc::BINDING.parameter(2));
    assert_eq!(ask(&public(0x40, unique), &sensitive(0x25, b"", &[1; 32], b"data")), rc::TYPE.parameter(3));
    assert_eq!(ask(&public(0x40, unique), &sensitive(8, &[1; 33], &[1; 32], b"data")), rc::SIZE.parameter(3));
    assert_eq!(ask(&public(0x40, unique), &sensitive(8, b"", &[1; 31], b"data")), rc::KEY_SIZE.parameter(3));
    assert_eq!(ask(&public(0x40, unique), &good[..good.len() - 1]), rc::SIZE.parameter(3));
    let ak = load_ak(&mut tpm, rh::OWNER).handle;
    let blob = import(ak, &[], &public(0x40, unique), &good, &[], Symmetric::Null);
    assert_eq!(code(&mut tpm, &blob), rc::TYPE.handle(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whoever changes an octet of a duplicate in both wrappers is found out, and nothing worse happens.
    #[test]
    fn changed_duplicates_are_refused(at: prop::sample::Index, bit in 0u8..8, cut in 0usize..4, part in 0usize..3) {
        let mut tpm = started();
        let root = storage(&mut tpm, rh::OWNER).handle;
        let sealed = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
        let made = child(&mut tpm, root, b"", b"data", &template(sealed, 0x840));
        let object = loaded(&mut tpm, root, &made);
        let session = start_plain(&mut tpm, 1);
        prop_assert_eq!(code(&mut tpm, &policy_command_code(session, cc::DUPLICATE)), rc::SUCCESS);
        let [auth] = by_session(session);
        let bytes = run(&mut tpm, &duplicate(object, root, auth, &[], Symmetric::AES_128_CFB));
        let (mut key, mut blob, mut seed) = three(&bytes);
        let changed = [&mut key, &mut blob, &mut seed].into_iter().nth(part).expect("one of three");
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        changed.truncate(changed.len() - cut);
        let answer = code(&mut tpm, &import(root, &key, &made.1, &blob, &seed, Symmetric::AES_128_CFB));
        prop_assert!(!answer.is_success());
    }
}
