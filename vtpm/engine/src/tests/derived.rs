//! Objects that are derived from a parent, a label and a context.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    Derive, Handle, HashAlg, KeyedHashScheme, Label, Marshal, ObjectAttributes as A, Public, PublicKind, Rc, Reader,
    SensitiveCreate, Symmetric, Unmarshal, alg, cc, command, rc, response, rh, templates,
};
use proptest::prelude::*;

use super::objects::{child, loaded, storage};
use super::{code, run, started};
use crate::Tpm;

/// A derivation parent, neither fixedTPM nor fixedParent, whose key the test knows.
fn parent(tpm: &mut Tpm) -> Handle {
    let root = storage(tpm, rh::OWNER).handle;
    let scheme = KeyedHashScheme::Xor { hash: HashAlg::Sha256, kdf: alg::KDF1_SP800_108 };
    let kind = PublicKind::KeyedHash { scheme, unique: Default::default() };
    let template = Public { attributes: A::from_bits(0x0003_0040), kind, ..templates::ak_p256() };
    let made = child(tpm, root, b"", &[0x5a; 32], &template);
    let handle = loaded(tpm, root, &made);
    assert_eq!(code(tpm, &command::flush_context(root)), rc::SUCCESS);
    handle
}

fn derive(label: &[u8], context: &[u8]) -> Derive {
    Derive { label: Label::new(label).expect("fits"), context: Label::new(context).expect("fits") }
}

/// A template, up to where the unique field begins: the empty unique field is cut off.
fn template(kind: PublicKind, attributes: u32, derive: &Derive) -> Vec<u8> {
    let public = Public { attributes: A::from_bits(attributes), kind, ..templates::ak_p256() };
    let mut bytes = public.to_vec();
    bytes.truncate(bytes.len() - if matches!(kind, PublicKind::Ecc { .. }) { 4 } else { 2 });
    bytes.extend(derive.to_vec());
    bytes
}

fn create_loaded(parent: Handle, data: &[u8], template: &[u8]) -> Vec<u8> {
    Builder::with_empty_auth(cc::CREATE_LOADED, &[parent], 1)
        .params(|w| {
            w.sized(|w| w.put(&SensitiveCreate { user_auth: b"pw", data }));
            w.tpm2b(template);
        })
        .build()
}

fn made(tpm: &mut Tpm, cmd: &[u8]) -> (Handle, Public) {
    let bytes = run(tpm, cmd);
    let answer = response::parse(&bytes, true).expect("derived");
    let mut r = Reader::new(answer.params);
    assert_eq!(r.tpm2b(1024, "private"), Ok(&[][..]), "a derived object has no private blob");
    let public = r.sized("public", Public::unmarshal).expect("a public area");
    (answer.handle.expect("a handle"), public)
}

const SIGNS: u32 = 0x0004_0050;

fn aes() -> PublicKind {
    PublicKind::SymCipher { sym: Symmetric::AES_128_CFB, unique: Default::default() }
}

/// The same each time, and another for another label, context, type or parent.
#[test]
fn what_is_derived_depends_on_label_and_context() {
    let mut tpm = started();
    let parent = parent(&mut tpm);
    let mut names = Vec::new();
    for (label, context) in [(&b"a"[..], &b"b"[..]), (b"a", b""), (b"", b"b"), (b"", b""), (b"ab", b"")] {
        let in_template = derive(label, context);
        let in_data = derive(label, context).to_vec();
        let nothing = derive(b"", b"");
        for kind in [templates::ak_p256().kind, aes()] {
            let attributes = if kind == aes() { 0x0006_0050 } else { SIGNS };
            let (handle, first) =
                made(&mut tpm, &create_loaded(parent, &[], &template(kind, attributes, &in_template)));
            let (again, second) =
                made(&mut tpm, &create_loaded(parent, &in_data, &template(kind, attributes, &nothing)));
            assert_eq!(first, second, "the label is in the template or in the data");
            // The template's own comes first.
            let other = derive(b"other", b"other").to_vec();
            if !label.is_empty() && !context.is_empty() {
                let both = create_loaded(parent, &other, &template(kind, attributes, &in_template));
                let (third, public) = made(&mut tpm, &both);
                assert_eq!(first, public);
                assert_eq!(code(&mut tpm, &command::flush_context(third)), rc::SUCCESS);
            }
            names.push(first.name());
            for handle in [handle, again] {
                assert_eq!(code(&mut tpm, &command::flush_context(handle)), rc::SUCCESS);
            }
        }
    }
    let count = names.len();
    names.sort_by_key(|n| n.to_vec());
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn what_cannot_be_derived_is_refused() {
    let mut tpm = started();
    let parent = parent(&mut tpm);
    let ask = |tpm: &mut Tpm, data: &[u8], template: &[u8]| -> Rc {
        let bytes = run(tpm, &create_loaded(parent, data, template));
        Rc(u32::from_be_bytes(bytes[6..10].try_into().expect("a code")))
    };
    let named = derive(b"a", b"b");
    let ecc = templates::ak_p256().kind;
    let attributes = rc::ATTRIBUTES.parameter(2);
    assert_eq!(ask(&mut tpm, &[], &template(ecc, SIGNS | 0x20, &named)), attributes, "sensitiveDataOrigin");
    assert_eq!(ask(&mut tpm, &[], &template(ecc, SIGNS & !0x10, &named)), attributes, "not fixedParent");
    assert_eq!(ask(&mut tpm, &[], &template(ecc, SIGNS | 2, &named)), attributes, "fixedTPM under what is not");
    let PublicKind::Rsa { parms, .. } = templates::ak_rsa2048().kind else { panic!("RSA") };
    let rsa = PublicKind::Rsa { parms, unique: Default::default() };
    assert_eq!(ask(&mut tpm, &[], &template(rsa, SIGNS, &named)), rc::TYPE.parameter(2));
    let mut long = template(ecc, SIGNS, &named);
    long.push(0);
    assert_eq!(ask(&mut tpm, &[], &long), rc::SIZE.parameter(2));
    long.truncate(long.len() - 2);
    assert_eq!(ask(&mut tpm, &[], &long), rc::INSUFFICIENT.parameter(2));
    assert_eq!(ask(&mut tpm, b"\0\x02a", &template(ecc, SIGNS, &named)), rc::INSUFFICIENT.parameter(1));
    assert_eq!(ask(&mut tpm, &[0, 33, 0], &template(ecc, SIGNS, &named)), rc::SIZE.parameter(1));
    // A derivation parent stores nothing, and derives by KDFa only.
    let create = Builder::with_empty_auth(cc::CREATE, &[parent], 1).params(|w| {
        w.sized(|w| w.put(&SensitiveCreate { user_auth: b"", data: b"x" }));
        w.sized(|w| w.put(&super::objects::sealing_template()));
        w.tpm2b(&[]);
        w.u32(0);
    });
    assert_eq!(code(&mut tpm, &create.build()), rc::TYPE.handle(1));
    let scheme = KeyedHashScheme::Xor { hash: HashAlg::Sha256, kdf: alg::KDF2 };
    let kdf2 = PublicKind::KeyedHash { scheme, unique: Default::default() };
    assert_eq!(ask(&mut tpm, &[], &template(kdf2, 0x0003_0050, &named)), rc::SCHEME.parameter(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Templates and data of any form are answered, one way or another.
    #[test]
    fn any_template(bytes in prop::collection::vec(any::<u8>(), 0..80), data in prop::collection::vec(any::<u8>(), 0..40),
                    at: prop::sample::Index, keep: prop::sample::Index) {
        let mut tpm = started();
        let parent = parent(&mut tpm);
        let good = template(templates::ak_p256().kind, SIGNS, &derive(b"a", b"b"));
        let cut = keep.index(good.len() + 1);
        let mut mixed = good[..cut].to_vec();
        mixed.extend(&bytes[..at.index(bytes.len() + 1)]);
        for template in [&bytes, &mixed] {
            let answer = run(&mut tpm, &create_loaded(parent, &data, template));
            prop_assert!(answer.len() >= 10);
        }
        prop_assert_eq!(code(&mut tpm, &command::get_random(8)), rc::SUCCESS);
    }
}
