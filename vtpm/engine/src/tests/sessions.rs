//! Sessions, from the side of a client that does as drivers/char/tpm/tpm2-sessions.c of Linux does: a session salted
//! to a key of the null hierarchy, which authenticates and encrypts. HMAC, SHA-256 and ECDH are ring's.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{
    AuthCommand, Context, EccParms, EccPoint, Handle, HashAlg, Marshal, Nonce, ObjectAttributes, Public, PublicKind,
    Rc, Reader, SensitiveCreate, SessionAttributes as A, Symmetric, Unmarshal, cc, command, hash, rc, rh, templates,
};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;

use super::{code, load, run, started};
use crate::Tpm;
use crate::crypto::{Direction, aes_cfb};

/// StartAuthSession of a kind (TPM_SE), with SHA-256, neither salted nor bound.
pub(super) fn start_plain(tpm: &mut Tpm, kind: u8) -> Handle {
    let cmd = Builder::new(cc::START_AUTH_SESSION, &[rh::NULL, rh::NULL]).params(|w| {
        w.tpm2b(&[7; 32]);
        w.tpm2b(&[]);
        w.u8(kind);
        w.u16(0x0010);
        w.u16(0x000b);
    });
    let bytes = run(tpm, &cmd.build());
    response::parse(&bytes, true).expect("a session").handle.expect("its handle")
}

/// The driver's template: the ECC storage key H of the TCG's provisioning guidance.
fn driver_template() -> Public {
    let kind = PublicKind::Ecc {
        parms: EccParms {
            symmetric: Symmetric::AES_128_CFB,
            scheme: Default::default(),
            curve: bulla_tpm_types::ecc::NIST_P256,
            kdf: Default::default(),
        },
        unique: EccPoint::default(),
    };
    Public { attributes: ObjectAttributes::from_bits(0x0003_0472), kind, ..templates::ak_p256() }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    ring::hmac::sign(&key, &parts.concat()).as_ref().to_vec()
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, &parts.concat()).as_ref().to_vec()
}

/// KDFa.
fn kdfa(key: &[u8], label: &[u8], u: &[u8], v: &[u8], octets: usize) -> Vec<u8> {
    let bits = (octets as u32 * 8).to_be_bytes();
    let block = |n: u32| mac(key, &[&n.to_be_bytes(), label, &[0], u, v, &bits]);
    (1..).flat_map(block).take(octets).collect()
}

/// A client's side of a session.
pub(super) struct Client {
    pub(super) handle: Handle,
    key: Vec<u8>,
    caller: [u8; 32],
    tpm: Nonce,
    /// How the session encrypts: AES-CFB with keys of so many octets, or XOR for 0.
    cipher: usize,
}

/// What a session is salted with and bound to.
#[derive(Default)]
pub(super) struct Terms<'a> {
    pub(super) salt: Option<(Handle, &'a Public)>,
    pub(super) bind: Option<(Handle, &'a [u8])>,
    pub(super) cipher: usize,
    pub(super) kind: u8,
}

impl Client {
    pub(super) fn start(tpm: &mut Tpm, terms: &Terms<'_>) -> Self {
        let caller = [0x11; 32];
        let (mut salt, mut encrypted) = (vec![], vec![]);
        if let Some((_, public)) = terms.salt {
            let PublicKind::Ecc { unique, .. } = &public.kind else { panic!("an ECC key") };
            let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).expect("a key");
            let ours = private.compute_public_key().expect("a point").as_ref()[1..].to_vec();
            let theirs = [&[4][..], &unique.x, &unique.y].concat();
            let z = agree_ephemeral(private, &UnparsedPublicKey::new(&ECDH_P256, theirs), <[u8]>::to_vec).expect("Z");
            salt = sha256(&[&[0, 0, 0, 1], &z, b"SECRET\0", &ours[..32], &unique.x]);
            encrypted = [&[0, 32], &ours[..32], &[0, 32], &ours[32..]].concat();
        }
        let handles = [terms.salt.map_or(rh::NULL, |s| s.0), terms.bind.map_or(rh::NULL, |b| b.0)];
        let cmd = Builder::new(cc::START_AUTH_SESSION, &handles).params(|w| {
            w.tpm2b(&caller);
            w.tpm2b(&encrypted);
            w.u8(terms.kind);
            if terms.cipher == 0 {
                w.u16(0x000a);
            } else {
                w.put(&Symmetric::Aes { bits: terms.cipher as u16 * 8, mode: bulla_tpm_types::alg::CFB });
            }
            w.put(&HashAlg::Sha256);
        });
        // XOR has a hash algorithm of its own before the session's.
        let mut cmd = cmd.build();
        if terms.cipher == 0 {
            cmd.extend([0, 0x0b]);
            let size = (cmd.len() as u32).to_be_bytes();
            cmd[2..6].copy_from_slice(&size);
        }
        let bytes = run(tpm, &cmd);
        let answer = response::parse(&bytes, true).expect("a session");
        let nonce = Nonce::from_bytes(answer.params).expect("a nonce");
        let secret = [terms.bind.map_or(&[][..], |b| b.1), &salt].concat();
        let keyed = terms.bind.is_some() || terms.salt.is_some();
        let key = if keyed { kdfa(&secret, b"ATH", &nonce, &caller, 32) } else { vec![] };
        Self { handle: answer.handle.expect("a handle"), key, caller, tpm: nonce, cipher: terms.cipher }
    }

    fn crypt(&self, auth: &[u8], newer: &[u8], older: &[u8], params: &mut [u8], direction: Direction) {
        let size = usize::from(u16::from_be_bytes([params[0], params[1]]));
        let Some(data) = params.get_mut(2..2 + size) else { return };
        let key = [&self.key, auth].concat();
        if self.cipher == 0 {
            let mask = kdfa(&key, b"XOR", newer, older, size);
            data.iter_mut().zip(mask).for_each(|(d, m)| *d ^= m);
            return;
        }
        let derived = kdfa(&key, b"CFB", newer, older, self.cipher + 16);
        let iv = derived[self.cipher..].try_into().expect("16 octets");
        aes_cfb(&derived[..self.cipher], &iv, data, direction).expect("a key of AES");
    }

    /// Runs a command whose first handle this session authorizes with `auth`, which `keyed` says is part of the
    /// HMAC's key. Answers its parameters, decrypted, after having checked the response's HMAC.
    pub(super) fn run(
        &mut self,
        tpm: &mut Tpm,
        code: u32,
        handles: &[(Handle, &[u8])],
        (auth, keyed): (&[u8], bool),
        attributes: A,
        params: &[u8],
    ) -> Result<Vec<u8>, Rc> {
        let mut params = params.to_vec();
        self.caller.iter_mut().for_each(|b| *b = b.wrapping_add(1));
        if attributes.contains(A::DECRYPT) {
            self.crypt(auth, &self.caller, &self.tpm, &mut params, Direction::Encrypt);
        }
        let names: Vec<u8> = handles.iter().flat_map(|(_, name)| name.to_vec()).collect();
        let cp_hash = sha256(&[&code.to_be_bytes(), &names, &params]);
        let key = [&self.key[..], if keyed { auth } else { &[] }].concat();
        let hmac = mac(&key, &[&cp_hash, &self.caller, &self.tpm, &[attributes.bits()]]);
        let session = AuthCommand {
            handle: self.handle,
            nonce: Nonce::new(&self.caller).expect("fits"),
            attributes,
            hmac: Nonce::new(&hmac).expect("fits"),
        };
        let numbers: Vec<_> = handles.iter().map(|h| h.0).collect();
        let cmd = Builder::with_sessions(code, &numbers, &[session]).params(|w| w.bytes(&params)).build();
        let bytes = run(tpm, &cmd);
        let answer = match response::parse(&bytes, matches!(code, cc::LOAD)) {
            Ok(answer) => answer,
            Err(ResponseError::Tpm(code)) => return Err(code),
            Err(e) => panic!("{e}"),
        };
        let [session] = answer.sessions[..] else { panic!("one session") };
        self.tpm = session.nonce;
        let rp_hash = sha256(&[&[0; 4], &code.to_be_bytes(), answer.params]);
        let want = mac(&key, &[&rp_hash, &self.tpm, &self.caller, &[session.attributes.bits()]]);
        assert_eq!(session.hmac[..], want, "the response's HMAC");
        let mut params = answer.params.to_vec();
        if attributes.contains(A::ENCRYPT) {
            self.crypt(auth, &self.tpm, &self.caller, &mut params, Direction::Decrypt);
        }
        Ok(params)
    }
}

/// What the driver does at its start and at each use: the null key is created once, saved, and loaded for each
/// session.
#[test]
fn the_linux_driver_opens_a_session_to_the_null_hierarchy() {
    let mut tpm = started();
    let made = load(&mut tpm, rh::NULL, &driver_template());
    let PublicKind::Ecc { unique, .. } = &made.public.kind else { panic!("an ECC key") };
    assert_eq!((unique.x.len(), unique.y.len(), made.creation_hash.len(), made.name.len()), (32, 32, 32, 34));
    let saved = run(&mut tpm, &Builder::new(cc::CONTEXT_SAVE, &[made.handle]).build());
    let context = response::parse(&saved, false).expect("a context").params.to_vec();
    // Its buffer for the context is a page.
    assert!(context.len() <= 4096);
    assert_eq!(code(&mut tpm, &command::flush_context(made.handle)), rc::SUCCESS);

    for _ in 0..2 {
        let reload = Builder::new(cc::CONTEXT_LOAD, &[]).params(|w| w.bytes(&context)).build();
        let key = response::parse_handle(&run(&mut tpm, &reload)).expect("loaded");
        let terms = Terms { salt: Some((key, &made.public)), cipher: 16, ..Terms::default() };
        let mut session = Client::start(&mut tpm, &terms);
        assert_eq!(code(&mut tpm, &command::flush_context(key)), rc::SUCCESS);

        let pcr = Handle(10);
        let digests = hash::digest_banks(b"x").to_vec();
        let name = pcr.to_vec();
        let extended =
            session.run(&mut tpm, cc::PCR_EXTEND, &[(pcr, &name)], (&[], true), A::CONTINUE_SESSION, &digests);
        assert_eq!(extended, Ok(vec![]));
        // GetRandom encrypts its answer; without continueSession the session ends.
        let random = session.run(&mut tpm, cc::GET_RANDOM, &[], (&[], false), A::ENCRYPT, &[0, 16]).expect("octets");
        assert_eq!(random.len(), 18);
        assert_ne!(random[2..], [0; 16]);
        assert_eq!(code(&mut tpm, &command::flush_context(session.handle)), rc::HANDLE.parameter(1));
    }
    // After a reset of the TPM the context is void, by which the driver knows of the reset.
    tpm.init();
    super::startup(&mut tpm, bulla_tpm_types::StartupType::Clear).expect("startup");
    let reload = Builder::new(cc::CONTEXT_LOAD, &[]).params(|w| w.bytes(&context)).build();
    assert_eq!(code(&mut tpm, &reload), rc::INTEGRITY.parameter(1));
}

/// Parameters of Create or CreatePrimary for sealed data with this authValue.
fn sealing(auth: &[u8], data: &[u8], template: &Public) -> Vec<u8> {
    let mut w = bulla_tpm_types::Writer::new();
    w.sized(|w| w.put(&SensitiveCreate { user_auth: auth, data }));
    w.sized(|w| w.put(template));
    w.tpm2b(&[]);
    w.u32(0);
    w.into_vec()
}

fn sealed_template() -> Public {
    let kind = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
    Public { attributes: ObjectAttributes::from_bits(0x452), kind, ..templates::ak_p256() }
}

/// A storage key, and data sealed under it with the authValue "hush"; the handles and Names of both.
fn sealed(tpm: &mut Tpm, session: &mut Client, parent: &response::CreatePrimary) -> (Handle, Vec<u8>) {
    let on_parent = [(parent.handle, &parent.name[..])];
    let both = A::CONTINUE_SESSION | A::DECRYPT | A::ENCRYPT;
    let params = sealing(b"hush", b"the secret", &sealed_template());
    let created = session.run(tpm, cc::CREATE, &on_parent, (&[], true), both, &params).expect("created");
    let mut r = Reader::new(&created);
    let private = r.tpm2b(1024, "private").expect("private").to_vec();
    let public = r.tpm2b(1024, "public").expect("public").to_vec();
    let mut w = bulla_tpm_types::Writer::new();
    w.tpm2b(&private);
    w.tpm2b(&public);
    let before: Vec<_> = tpm.objects.handles().collect();
    let loaded = session.run(tpm, cc::LOAD, &on_parent, (&[], true), both, &w.into_vec()).expect("loaded");
    let handle = tpm.objects.handles().find(|h| !before.contains(h)).expect("a new object");
    (handle, loaded[2..].to_vec())
}

#[test]
fn secrets_cross_the_wire_encrypted_with_every_cipher() {
    for cipher in [16, 24, 32, 0] {
        let mut tpm = started();
        let parent = load(&mut tpm, rh::OWNER, &driver_template());
        let terms = Terms { salt: Some((parent.handle, &parent.public)), cipher, ..Terms::default() };
        let mut session = Client::start(&mut tpm, &terms);
        let (item, name) = sealed(&mut tpm, &mut session, &parent);
        let data = session.run(&mut tpm, cc::UNSEAL, &[(item, &name)], (b"hush", true), A::ENCRYPT, &[]);
        assert_eq!(data.expect("unsealed"), b"\0\x0athe secret", "cipher {cipher}");
    }
}

/// Part 1, 19.6.9 to 19.6.11: bound to what it authorizes, a session leaves the authValue out of the HMAC's key, but
/// not out of the cipher's.
#[test]
fn a_bound_session_has_the_auth_value_in_its_key_once() {
    let mut tpm = started();
    let parent = load(&mut tpm, rh::OWNER, &driver_template());
    let mut salted =
        Client::start(&mut tpm, &Terms { salt: Some((parent.handle, &parent.public)), cipher: 16, ..Terms::default() });
    let (item, name) = sealed(&mut tpm, &mut salted, &parent);
    let on_item = [(item, &name[..])];
    let bound = Terms { bind: Some((item, b"hush")), cipher: 16, ..Terms::default() };
    let keep = A::CONTINUE_SESSION | A::ENCRYPT;
    let mut session = Client::start(&mut tpm, &bound);
    assert!(session.run(&mut tpm, cc::UNSEAL, &on_item, (b"hush", false), keep, &[]).is_ok());
    let on_parent = [(parent.handle, &parent.name[..])];
    assert!(session.run(&mut tpm, cc::READ_PUBLIC, &on_parent, (&[], false), keep, &[]).is_ok());
    let wrong = session.run(&mut tpm, cc::UNSEAL, &on_item, (b"hush", true), keep, &[]);
    assert_eq!(wrong, Err(rc::BAD_AUTH.session(1)));
    // The nonces did not move, so the session goes on.
    assert!(session.run(&mut tpm, cc::UNSEAL, &on_item, (b"hush", false), keep, &[]).is_ok());
    // A session that was bound with a wrong value has another key.
    let mut wrong = Client::start(&mut tpm, &Terms { bind: Some((item, b"hush")), ..Terms::default() });
    wrong.key[0] ^= 1;
    assert_eq!(wrong.run(&mut tpm, cc::UNSEAL, &on_item, (b"hush", false), keep, &[]), Err(rc::BAD_AUTH.session(1)));
}

#[test]
fn audit_sessions_are_exclusive_until_another_command_comes() {
    let mut tpm = started();
    let mut session = Client::start(&mut tpm, &Terms::default());
    let audit = A::CONTINUE_SESSION | A::AUDIT;
    let ask = |session: &mut Client, tpm: &mut Tpm, attributes| {
        session.run(tpm, cc::GET_RANDOM, &[], (&[], false), attributes, &[0, 1]).map(drop)
    };
    assert_eq!(ask(&mut session, &mut tpm, audit), Ok(()));
    assert_eq!(tpm.sessions.exclusive_audit, Some(session.handle));
    assert_eq!(ask(&mut session, &mut tpm, audit | A::AUDIT_EXCLUSIVE), Ok(()));
    let digest = tpm.sessions.get(session.handle).and_then(|s| s.audit).expect("an audit digest");
    assert_eq!(code(&mut tpm, &command::get_random(1)), rc::SUCCESS);
    assert_eq!(ask(&mut session, &mut tpm, audit | A::AUDIT_EXCLUSIVE), Err(rc::EXCLUSIVE));
    assert_eq!(ask(&mut session, &mut tpm, audit | A::AUDIT_RESET), Ok(()));
    assert_eq!(tpm.sessions.exclusive_audit, Some(session.handle));
    assert_ne!(tpm.sessions.get(session.handle).and_then(|s| s.audit).expect("an audit digest"), digest);
}

#[test]
fn what_a_session_may_not_be() {
    let mut tpm = started();
    let keep = A::CONTINUE_SESSION;
    let mut session = Client::start(&mut tpm, &Terms::default());
    let mut random = |session: &mut Client, attributes, params: &[u8]| {
        session.run(&mut tpm, cc::GET_RANDOM, &[], (&[], false), attributes, params)
    };
    // It must be for something; GetRandom has no parameter that could be decrypted; two bits need a third.
    assert_eq!(random(&mut session, keep, &[0, 1]), Err(rc::ATTRIBUTES.session(1)));
    assert_eq!(random(&mut session, keep | A::DECRYPT, &[0, 1]), Err(rc::ATTRIBUTES.session(1)));
    assert_eq!(random(&mut session, keep | A::AUDIT_RESET, &[0, 1]), Err(rc::ATTRIBUTES.session(1)));
    // The parameter that is to be decrypted is longer than the command (CVE-2023-1017, CVE-2023-1018).
    let handle = session.handle;
    let cases: [(&[u8], Rc); 5] = [
        (&[], rc::INSUFFICIENT),
        (&[0], rc::INSUFFICIENT),
        (&[0, 1], rc::SIZE),
        (&[0xff, 0xff], rc::SIZE),
        (&[0, 3, 1, 2], rc::SIZE),
    ];
    for (params, want) in cases {
        let sent = AuthCommand {
            handle,
            nonce: Nonce::new(&[1; 32]).expect("fits"),
            attributes: A::DECRYPT | keep,
            hmac: Default::default(),
        };
        let cmd = Builder::with_sessions(cc::STIR_RANDOM, &[], &[sent]).params(|w| w.bytes(params)).build();
        assert_eq!(code(&mut tpm, &cmd), want.session(1), "{params:?}");
    }
    // A trial session authorizes nothing, and a plain one does not encrypt.
    let trial = Client { handle: start_plain(&mut tpm, 3), ..session };
    let mut refused = |mut client: Client, attributes| {
        client.run(&mut tpm, cc::GET_RANDOM, &[], (&[], false), attributes, &[0, 1]).expect_err("refused")
    };
    assert_eq!(refused(trial, A::AUDIT), rc::ATTRIBUTES.session(1));
    let plain =
        Client { handle: start_plain(&mut tpm, 0), key: vec![], caller: [0; 32], tpm: Nonce::EMPTY, cipher: 16 };
    let mut refused = |mut client: Client, attributes| {
        client.run(&mut tpm, cc::GET_RANDOM, &[], (&[], false), attributes, &[0, 1]).expect_err("refused")
    };
    assert_eq!(refused(plain, A::ENCRYPT), rc::SYMMETRIC.session(1));
}

#[test]
fn start_auth_session_checks_its_parameters() {
    let mut tpm = started();
    let ak = super::load_ak(&mut tpm, rh::OWNER);
    let parent = load(&mut tpm, rh::OWNER, &driver_template());
    let mut is = |handles: [Handle; 2], params: &str, want: Rc| {
        let cmd = Builder::new(cc::START_AUTH_SESSION, &handles).params(|w| w.bytes(&super::unhex(params)));
        assert_eq!(code(&mut tpm, &cmd.build()), want, "{params}");
    };
    let none = [rh::NULL, rh::NULL];
    let nonce = "0010 000102030405060708090a0b0c0d0e0f";
    is(none, "000f 000102030405060708090a0b0c0d0e 0000 00 0010 000b", rc::SIZE.parameter(1));
    is(none, &format!("0021 {} 0000 00 0010 000b", "00".repeat(33)), rc::SIZE.parameter(1));
    is(none, &format!("{nonce} 0001 00 00 0010 000b"), rc::VALUE.parameter(2));
    is(none, &format!("{nonce} 0000 02 0010 000b"), rc::VALUE.parameter(3));
    is(none, &format!("{nonce} 0000 00 0006 0081 0043 000b"), rc::VALUE.parameter(4));
    is(none, &format!("{nonce} 0000 00 0006 0080 0044 000b"), rc::MODE.parameter(4));
    is(none, &format!("{nonce} 0000 00 0007 000b"), rc::SYMMETRIC.parameter(4));
    is(none, &format!("{nonce} 0000 00 0010 0010"), rc::HASH.parameter(5));
    is(none, &format!("{nonce} 0000 00 0010 000b 00"), rc::SIZE);
    is([ak.handle, rh::NULL], &format!("{nonce} 0000 00 0010 000b"), rc::ATTRIBUTES.handle(1));
    is([parent.handle, rh::NULL], &format!("{nonce} 0000 00 0010 000b"), rc::VALUE.parameter(2));
    is([parent.handle, rh::NULL], &format!("{nonce} 0006 0001 01 0001 02 00 0010 000b"), rc::VALUE.parameter(2));
    is([rh::OWNER, rh::NULL], &format!("{nonce} 0000 00 0010 000b"), rc::VALUE.handle(1));
    is([rh::NULL, rh::PW], &format!("{nonce} 0000 00 0010 000b"), rc::VALUE.handle(2));
    for _ in 0..8 {
        is(none, &format!("{nonce} 0000 00 0010 000b"), rc::SUCCESS);
    }
    is(none, &format!("{nonce} 0000 00 0010 000b"), rc::SESSION_MEMORY);
}

/// The context of a session or object.
pub(super) fn save(tpm: &mut Tpm, handle: Handle) -> Vec<u8> {
    let bytes = run(tpm, &Builder::new(cc::CONTEXT_SAVE, &[handle]).build());
    let params = response::parse(&bytes, false).expect("a context").params.to_vec();
    Context::from_bytes(&params).expect("a TPMS_CONTEXT");
    params
}
