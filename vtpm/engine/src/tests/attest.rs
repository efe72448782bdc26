//! Quote, verified by a library that shares nothing with the engine.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    AsymScheme, Attested, HashAlg, ObjectAttributes as A, PcrSelection, PcrSelectionList, Public, PublicKind,
    Signature, SignatureValue, StartupType, cc, command, hash, rc, response, rh, templates,
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::{code, load, load_ak, pcr, run, shutdown, started, startup};
use crate::Tpm;

fn selection() -> PcrSelectionList {
    PcrSelectionList::from_slice(&[
        PcrSelection::new(HashAlg::Sha256, &[0, 4, 17]),
        PcrSelection::new(HashAlg::Sha1, &[2]),
    ])
    .expect("two")
}

/// Whether `ring` accepts the signature.
fn verifies(public: &Public, message: &[u8], signature: &Signature) -> bool {
    let PublicKind::Ecc { unique, .. } = &public.kind else { return false };
    let Signature::Signed { hash: HashAlg::Sha256, value: SignatureValue::Ecdsa { r, s } } = signature else {
        return false;
    };
    let point = [&[4], &unique.x[..], &unique.y[..]].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &[&r[..], &s[..]].concat()).is_ok()
}

#[test]
fn a_quote_is_signed_over_nonce_and_pcr() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &command::pcr_extend(4, &hash::digest_banks(b"kernel"))), rc::SUCCESS);
    let key = load_ak(&mut tpm, rh::ENDORSEMENT);
    let bytes = run(&mut tpm, &command::quote(key.handle, b"nonce", &selection()));
    let quote = response::parse_quote(&bytes).expect("a quote");
    assert!(verifies(&key.public, quote.attest_bytes, &quote.signature));
    let mut changed = quote.attest_bytes.to_vec();
    *changed.last_mut().expect("bytes") ^= 1;
    assert!(!verifies(&key.public, &changed, &quote.signature));

    assert_eq!(&quote.attest.extra_data[..], b"nonce");
    let read = response::parse_read_public(&run(&mut tpm, &command::read_public(key.handle))).expect("loaded");
    assert_eq!(quote.attest.qualified_signer, read.qualified_name);
    let values: Vec<_> = [(HashAlg::Sha256, 0), (HashAlg::Sha256, 4), (HashAlg::Sha256, 17), (HashAlg::Sha1, 2)]
        .into_iter()
        .flat_map(|(alg, n)| pcr(&mut tpm, alg, n))
        .collect();
    let pcr_digest = hash::digest(HashAlg::Sha256, &[&values]).digest();
    assert_eq!(quote.attest.attested, Attested::Quote { pcr_select: selection(), pcr_digest });
}

#[test]
fn counters_are_plain_for_the_endorsement_hierarchy_and_hidden_for_the_others() {
    let mut tpm = started();
    shutdown(&mut tpm, StartupType::State);
    tpm.init();
    startup(&mut tpm, StartupType::State).expect("resume");
    let quoted = |tpm: &mut Tpm, hierarchy| {
        let key = load_ak(tpm, hierarchy).handle;
        let attest = response::parse_quote(&run(tpm, &command::quote(key, b"", &selection()))).expect("quote").attest;
        assert_eq!(code(tpm, &command::flush_context(key)), rc::SUCCESS);
        (attest.clock_info.reset_count, attest.clock_info.restart_count, attest.firmware_version)
    };
    let plain = quoted(&mut tpm, rh::ENDORSEMENT);
    assert_eq!((plain.0, plain.1), (1, 1));
    assert_eq!(quoted(&mut tpm, rh::PLATFORM), plain);
    let hidden = quoted(&mut tpm, rh::OWNER);
    assert!(hidden.0 != plain.0 && hidden.1 != plain.1 && hidden.2 != plain.2);
    assert_eq!(quoted(&mut tpm, rh::OWNER), hidden, "the same key hides them the same way");
    assert_ne!(quoted(&mut tpm, rh::NULL), plain);
    // Differences stay visible: one more reset counts one up.
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("reset");
    assert_eq!(quoted(&mut tpm, rh::OWNER).0, hidden.0.wrapping_add(1));
}

#[test]
fn the_scheme_is_the_keys_or_the_callers() {
    let mut tpm = started();
    let with_scheme = |key, scheme: &AsymScheme| {
        Builder::with_empty_auth(cc::QUOTE, &[key], 1)
            .params(|w| {
                w.tpm2b(b"");
                w.put(scheme);
                w.put(&selection());
            })
            .build()
    };
    let ak = load_ak(&mut tpm, rh::OWNER).handle;
    assert_eq!(code(&mut tpm, &with_scheme(ak, &AsymScheme::Ecdsa(HashAlg::Sha256))), rc::SUCCESS);
    for wrong in
        [AsymScheme::Ecdsa(HashAlg::Sha384), AsymScheme::Rsassa(HashAlg::Sha256), AsymScheme::Ecdh(HashAlg::Sha1)]
    {
        assert_eq!(code(&mut tpm, &with_scheme(ak, &wrong)), rc::SCHEME.parameter(2));
    }
    let mut free = templates::ak_p256();
    free.attributes = free.attributes.without(A::RESTRICTED);
    if let PublicKind::Ecc { parms, .. } = &mut free.kind {
        parms.scheme = AsymScheme::Null;
    }
    let free = load(&mut tpm, rh::OWNER, &free).handle;
    assert_eq!(code(&mut tpm, &with_scheme(free, &AsymScheme::Null)), rc::SCHEME.parameter(2));
    for alg in HashAlg::ALL {
        let bytes = run(&mut tpm, &with_scheme(free, &AsymScheme::Ecdsa(alg)));
        let quote = response::parse_quote(&bytes).expect("a quote");
        assert!(matches!(quote.signature, Signature::Signed { hash, .. } if hash == alg));
        assert!(matches!(quote.attest.attested, Attested::Quote { pcr_digest, .. } if pcr_digest.len() == alg.size()));
    }
}

#[test]
fn unallocated_banks_are_quoted_as_empty() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER).handle;
    let asked = PcrSelectionList::from_slice(&[PcrSelection::new(HashAlg::Sha512, &[1, 2])]).expect("one");
    let bytes = run(&mut tpm, &command::quote(key, b"", &asked));
    let Attested::Quote { pcr_select, pcr_digest } = response::parse_quote(&bytes).expect("a quote").attest.attested
    else {
        panic!("not a quote");
    };
    assert!(pcr_select.len() == 1 && pcr_select[0].is_empty());
    assert_eq!(pcr_digest, hash::digest(HashAlg::Sha256, &[]).digest());
}

#[test]
fn a_storage_key_neither_quotes_nor_takes_a_password() {
    let mut tpm = started();
    let ek = load(&mut tpm, rh::ENDORSEMENT, &templates::ek_p256()).handle;
    assert_eq!(code(&mut tpm, &command::quote(ek, b"", &selection())), rc::AUTH_UNAVAILABLE);
    let mut storage = templates::ek_p256();
    storage.attributes = storage.attributes | A::USER_WITH_AUTH;
    let storage = load(&mut tpm, rh::OWNER, &storage).handle;
    assert_eq!(code(&mut tpm, &command::quote(storage, b"", &selection())), rc::KEY.handle(1));
}

#[test]
fn qualifying_data_is_at_most_a_hash_with_its_name() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER).handle;
    assert_eq!(code(&mut tpm, &command::quote(key, &[7; 66], &selection())), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::quote(key, &[7; 67], &selection())), rc::SIZE.parameter(1));
}
