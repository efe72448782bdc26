//! Encryption with symmetric keys, and MACs with keys of both kinds.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    AlgId, AuthCommand, Handle, HashAlg, KeyedHashScheme, ObjectAttributes as A, Public, PublicKind, Reader, Symmetric,
    alg, cc, command, rc, response, rh, templates,
};

use super::objects::{child, loaded, storage};
use super::{code, run, started, unhex};
use crate::Tpm;
use crate::crypto::hmac;

const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3c";
const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51";
const IV: &str = "000102030405060708090a0b0c0d0e0f";

/// userWithAuth, sign and decrypt.
const BOTH: u32 = 0x0006_0040;
const SIGN: u32 = 0x0004_0040;
const DECRYPT: u32 = 0x0002_0040;

/// Loads a key from outside, without a Name, whose sensitive value the test knows.
fn external(tpm: &mut Tpm, kind: PublicKind, attributes: u32, value: &[u8]) -> Handle {
    let id = kind.id();
    let public = Public { name_alg: None, attributes: A::from_bits(attributes), auth_policy: Default::default(), kind };
    let load = Builder::new(cc::LOAD_EXTERNAL, &[]).params(|w| {
        w.sized(|w| {
            w.put(&id);
            w.tpm2b(&[]);
            w.tpm2b(&[]);
            w.tpm2b(value);
        });
        w.sized(|w| w.put(&public));
        w.put(&rh::NULL);
    });
    response::parse(&run(tpm, &load.build()), true).expect("loaded").handle.expect("a handle")
}

fn aes(tpm: &mut Tpm, mode: AlgId, attributes: u32) -> Handle {
    let kind = PublicKind::SymCipher { sym: Symmetric::Aes { bits: 128, mode }, unique: Default::default() };
    external(tpm, kind, attributes, &unhex(KEY))
}

fn encrypt_decrypt(key: Handle, decrypt: bool, mode: AlgId, iv: &[u8], data: &[u8]) -> [Vec<u8>; 2] {
    let old = Builder::with_empty_auth(cc::ENCRYPT_DECRYPT, &[key], 1).params(|w| {
        w.u8(u8::from(decrypt));
        w.put(&mode);
        w.tpm2b(iv);
        w.tpm2b(data);
    });
    let new = Builder::with_empty_auth(cc::ENCRYPT_DECRYPT_2, &[key], 1).params(|w| {
        w.tpm2b(data);
        w.u8(u8::from(decrypt));
        w.put(&mode);
        w.tpm2b(iv);
    });
    [old.build(), new.build()]
}

/// What both commands answer: the data and the IV.
fn crypted(tpm: &mut Tpm, commands: &[Vec<u8>; 2]) -> (Vec<u8>, Vec<u8>) {
    let [old, new] = commands.each_ref().map(|cmd| {
        let bytes = run(tpm, cmd);
        let params = response::parse(&bytes, false).expect("done").params.to_vec();
        let mut r = Reader::new(&params);
        let data = r.tpm2b(1024, "data").expect("data").to_vec();
        let iv = r.tpm2b(16, "iv").expect("an IV").to_vec();
        assert!(r.is_empty());
        (data, iv)
    });
    assert_eq!(old, new);
    old
}

/// SP 800-38A, F: the second block's IV, given back, continues the first block.
#[test]
fn each_mode_encrypts_in_pieces_as_in_one() {
    let mut tpm = started();
    for (mode, iv, want) in [
        (alg::ECB, "", "3ad77bb40d7a3660a89ecaf32466ef97 f5d3d58503b9699de785895a96fdbaaf"),
        (alg::CBC, IV, "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2"),
        (alg::CFB, IV, "3b3fd92eb72dad20333449f8e83cfb4a c8a64537a0b3a93fcde3cdad9f1ce58b"),
        (alg::OFB, IV, "3b3fd92eb72dad20333449f8e83cfb4a 7789508d16918f03f53c52dac54ed825"),
        (
            alg::CTR,
            "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            "874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff",
        ),
    ] {
        for own in [mode, alg::NULL] {
            let key = aes(&mut tpm, own, BOTH);
            let (plain, want) = (unhex(PLAIN), unhex(want));
            for (from, to, decrypt) in [(&plain, &want, false), (&want, &plain, true)] {
                let (first, next) = crypted(&mut tpm, &encrypt_decrypt(key, decrypt, mode, &unhex(iv), &from[..16]));
                let (second, _) = crypted(&mut tpm, &encrypt_decrypt(key, decrypt, mode, &next, &from[16..]));
                assert_eq!([first, second].concat(), *to, "{mode:?} {decrypt}");
            }
            // Nothing is encrypted to nothing, and the IV stays.
            let (nothing, same) = crypted(&mut tpm, &encrypt_decrypt(key, false, mode, &unhex(iv), &[]));
            assert_eq!((nothing, same), (vec![], unhex(iv)));
            assert_eq!(code(&mut tpm, &command::flush_context(key)), rc::SUCCESS);
        }
    }
}

#[test]
fn a_key_encrypts_only_as_it_may() {
    let mut tpm = started();
    let iv = unhex(IV);
    let mut codes = |own, attributes, decrypt, mode, iv: &[u8], data: &[u8]| {
        let key = aes(&mut tpm, own, attributes);
        let codes = encrypt_decrypt(key, decrypt, mode, iv, data).map(|cmd| code(&mut tpm, &cmd));
        assert_eq!(code(&mut tpm, &command::flush_context(key)), rc::SUCCESS);
        codes
    };
    let attributes = [rc::ATTRIBUTES.handle(1); 2];
    assert_eq!(codes(alg::CFB, SIGN, true, alg::NULL, &iv, b"x"), attributes);
    assert_eq!(codes(alg::CFB, DECRYPT, false, alg::NULL, &iv, b"x"), attributes);
    assert_eq!(codes(alg::CFB, DECRYPT, true, alg::NULL, &iv, b"x"), [rc::SUCCESS; 2]);
    assert_eq!(codes(alg::CMAC, SIGN, false, alg::NULL, &iv, b"x"), [rc::MODE.handle(1); 2]);
    let mode = [rc::MODE.parameter(2), rc::MODE.parameter(3)];
    assert_eq!(codes(alg::CFB, BOTH, false, alg::CTR, &iv, b"x"), mode);
    assert_eq!(codes(alg::NULL, BOTH, false, alg::NULL, &iv, b"x"), mode);
    assert_eq!(codes(alg::NULL, BOTH, false, alg::CMAC, &iv, b"x"), mode);
    let size = [rc::SIZE.parameter(3), rc::SIZE.parameter(4)];
    assert_eq!(codes(alg::ECB, BOTH, false, alg::NULL, &iv, &[0; 16]), size);
    assert_eq!(codes(alg::CBC, BOTH, false, alg::NULL, &[], &[0; 16]), size);
    assert_eq!(codes(alg::CTR, BOTH, false, alg::NULL, &iv[1..], b"x"), size);
    for mode in [alg::CBC, alg::ECB] {
        let iv = if mode == alg::ECB { &[] } else { &iv[..] };
        assert_eq!(codes(mode, BOTH, false, alg::NULL, iv, &[0; 17]), [rc::SIZE.parameter(4), rc::SIZE.parameter(1)]);
    }
    // A storage key's cipher is for its children; a key of another type has none.
    let parent = storage(&mut tpm, rh::OWNER).handle;
    let template = Public {
        attributes: A::from_bits(0x0003_0472),
        kind: PublicKind::SymCipher { sym: Symmetric::AES_128_CFB, unique: Default::default() },
        ..templates::ak_p256()
    };
    let restricted = child(&mut tpm, parent, b"", b"", &template);
    let restricted = loaded(&mut tpm, parent, &restricted);
    for (key, want) in [(restricted, rc::ATTRIBUTES), (parent, rc::KEY)] {
        for cmd in encrypt_decrypt(key, true, alg::CFB, &iv, b"x") {
            assert_eq!(code(&mut tpm, &cmd), want.handle(1));
        }
    }
}

/// Keys of every mode can be created; what a caller gives has to be as long as the key.
#[test]
fn symmetric_keys_are_made_or_given() {
    let mut tpm = started();
    let parent = storage(&mut tpm, rh::OWNER).handle;
    for mode in [alg::CTR, alg::OFB, alg::CBC, alg::CFB, alg::ECB, alg::NULL, alg::CMAC] {
        for (bits, given) in [(128, true), (192, false), (256, true)] {
            let unencrypting = if mode == alg::CMAC { A::SIGN } else { A::SIGN.with(A::DECRYPT) };
            let origin = if given { A::NONE } else { A::SENSITIVE_DATA_ORIGIN };
            let template = Public {
                attributes: unencrypting.with(A::USER_WITH_AUTH).with(origin),
                kind: PublicKind::SymCipher { sym: Symmetric::Aes { bits, mode }, unique: Default::default() },
                ..templates::ak_p256()
            };
            let data = vec![7; if given { usize::from(bits / 8) } else { 0 }];
            let made = child(&mut tpm, parent, b"", &data, &template);
            let key = loaded(&mut tpm, parent, &made);
            let iv = unhex(if mode == alg::ECB { "" } else { IV });
            let wanted = if mode == alg::NULL { alg::CFB } else { alg::NULL };
            for cmd in encrypt_decrypt(key, false, wanted, &iv, &[1; 32]) {
                let want = if mode == alg::CMAC { rc::MODE.handle(1) } else { rc::SUCCESS };
                assert_eq!(code(&mut tpm, &cmd), want);
            }
            assert_eq!(code(&mut tpm, &command::flush_context(key)), rc::SUCCESS);
        }
    }
}

fn mac(key: Handle, scheme: AlgId, data: &[u8]) -> Vec<u8> {
    Builder::with_empty_auth(cc::HMAC, &[key], 1)
        .params(|w| {
            w.tpm2b(data);
            w.put(&scheme);
        })
        .build()
}

fn mac_start(key: Handle, scheme: AlgId) -> Vec<u8> {
    Builder::with_empty_auth(cc::HMAC_START, &[key], 1)
        .params(|w| {
            w.tpm2b(b"pw");
            w.put(&scheme);
        })
        .build()
}

/// SP 800-38B, D.1, example 3: 40 octets; in one command, and in a sequence that is saved in between.
#[test]
fn cmac_at_once_and_as_a_saved_sequence() {
    let want = unhex("dfa66747de9ae63030ca32611497c827");
    let data = unhex("6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51 30c81c46a35ce411");
    for (own, asked) in [(alg::CMAC, alg::NULL), (alg::CMAC, alg::CMAC), (alg::NULL, alg::CMAC)] {
        let mut tpm = started();
        let key = aes(&mut tpm, own, SIGN);
        let bytes = run(&mut tpm, &mac(key, asked, &data));
        assert_eq!(response::parse(&bytes, false).expect("a MAC").params[2..], want);
        let sequence = response::parse(&run(&mut tpm, &mac_start(key, asked)), true).expect("a sequence").handle;
        let sequence = sequence.expect("a handle");
        let password = [AuthCommand::password(b"pw").expect("fits")];
        let update = |part: &[u8]| {
            Builder::with_sessions(cc::SEQUENCE_UPDATE, &[sequence], &password).params(|w| w.tpm2b(part)).build()
        };
        assert_eq!(code(&mut tpm, &update(&data[..16])), rc::SUCCESS);
        let saved = run(&mut tpm, &Builder::new(cc::CONTEXT_SAVE, &[sequence]).build());
        let saved = response::parse(&saved, false).expect("saved").params.to_vec();
        assert_eq!(code(&mut tpm, &command::flush_context(sequence)), rc::SUCCESS);
        let load = Builder::new(cc::CONTEXT_LOAD, &[]).params(|w| w.bytes(&saved)).build();
        assert_eq!(response::parse(&run(&mut tpm, &load), true).expect("loaded").handle, Some(sequence));
        assert_eq!(code(&mut tpm, &update(&data[16..33])), rc::SUCCESS);
        let complete = Builder::with_sessions(cc::SEQUENCE_COMPLETE, &[sequence], &password).params(|w| {
            w.tpm2b(&data[33..]);
            w.put(&rh::OWNER);
        });
        let bytes = run(&mut tpm, &complete.build());
        let params = response::parse(&bytes, false).expect("a MAC").params.to_vec();
        assert_eq!(params[2..18], want);
        // A MAC gets no ticket.
        assert_eq!(params[18..], unhex("8024 40000007 0000"));
    }
}

#[test]
fn a_key_authenticates_only_as_it_may() {
    let mut tpm = started();
    let sha = alg::SHA256;
    let hmac_key = |scheme| PublicKind::KeyedHash { scheme, unique: Default::default() };
    let (own, free) = (hmac_key(KeyedHashScheme::Hmac(HashAlg::Sha256)), hmac_key(KeyedHashScheme::Null));
    let cipher = |mode| PublicKind::SymCipher { sym: Symmetric::Aes { bits: 128, mode }, unique: Default::default() };
    for (kind, attributes, scheme, want) in [
        (own, SIGN, alg::NULL, rc::SUCCESS),
        (own, SIGN, sha, rc::SUCCESS),
        (own, SIGN, alg::SHA1, rc::VALUE.parameter(2)),
        (own, SIGN, alg::CMAC, rc::VALUE.parameter(2)),
        (own, SIGN, alg::SM3_256, rc::SYMMETRIC.parameter(2)),
        (free, BOTH, sha, rc::SUCCESS),
        (free, BOTH, alg::NULL, rc::VALUE.parameter(2)),
        (free, BOTH, alg::CMAC, rc::SCHEME.parameter(2)),
        (free, 0x40, sha, rc::KEY.handle(1)),
        (cipher(alg::CFB), BOTH, alg::NULL, rc::SCHEME.parameter(2)),
        (cipher(alg::CFB), BOTH, alg::CMAC, rc::VALUE.parameter(2)),
        (cipher(alg::NULL), BOTH, sha, rc::SCHEME.parameter(2)),
        (cipher(alg::NULL), DECRYPT, alg::CMAC, rc::KEY.handle(1)),
        (cipher(alg::CMAC), SIGN, sha, rc::VALUE.parameter(2)),
    ] {
        let key = external(&mut tpm, kind, attributes, &[5; 16]);
        let bytes = run(&mut tpm, &mac(key, scheme, b"data"));
        let answer = u32::from_be_bytes(bytes[6..10].try_into().expect("a code"));
        assert_eq!(answer, want.0, "{kind:?} {scheme:?}");
        if want == rc::SUCCESS {
            assert_eq!(bytes[16..48], *hmac(HashAlg::Sha256, &[5; 16], &[b"data"]).as_bytes());
        }
        let start = run(&mut tpm, &mac_start(key, scheme));
        assert_eq!(start[6..10], want.0.to_be_bytes(), "{kind:?} {scheme:?}");
        if let Ok(sequence) = response::parse_handle(&start) {
            assert_eq!(code(&mut tpm, &command::flush_context(sequence)), rc::SUCCESS);
        }
        assert_eq!(code(&mut tpm, &command::flush_context(key)), rc::SUCCESS);
    }
    let ecc = storage(&mut tpm, rh::OWNER).handle;
    assert_eq!(code(&mut tpm, &mac(ecc, sha, b"data")), rc::TYPE.handle(1));
}
