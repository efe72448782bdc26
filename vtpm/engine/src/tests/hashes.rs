//! Hash, hash sequences, event sequences, random numbers.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{AuthCommand, Handle, HashAlg, cc, command, hash, rc, response, rh, st};

use super::{code, code_at, load_ak, pcr, run, started};

fn start(tpm: &mut crate::Tpm, alg: Option<HashAlg>) -> Handle {
    response::parse_handle(&run(tpm, &command::hash_sequence_start(alg))).expect("a sequence")
}

#[test]
fn a_hash_has_a_ticket_unless_it_could_be_the_tpms_own_structure() {
    let mut tpm = started();
    let mut ask = |data: &[u8], hierarchy| {
        response::parse_hash(&run(&mut tpm, &command::hash(data, HashAlg::Sha512, hierarchy))).expect("a digest")
    };
    let (digest, ticket) = ask(b"data", rh::OWNER);
    assert_eq!(digest, hash::digest(HashAlg::Sha512, &[b"data"]).digest());
    assert_eq!((ticket.tag, ticket.hierarchy, ticket.digest.len()), (st::HASHCHECK, rh::OWNER, 32));
    assert_ne!(ask(b"data", rh::PLATFORM).1.digest, ticket.digest);
    for (data, hierarchy) in [(&b"\xffTCG..."[..], rh::OWNER), (b"abc", rh::OWNER), (b"data", rh::NULL)] {
        let (_, ticket) = ask(data, hierarchy);
        assert_eq!((ticket.hierarchy, ticket.digest.is_empty()), (rh::NULL, true), "{data:?}");
    }
}

#[test]
fn a_sequence_hashes_its_parts_and_is_gone() {
    let mut tpm = started();
    let sequence = start(&mut tpm, Some(HashAlg::Sha384));
    assert_eq!(code(&mut tpm, &command::sequence_update(sequence, b"one ")), rc::SUCCESS);
    let done = run(&mut tpm, &command::sequence_complete(sequence, b"two", rh::OWNER));
    let (digest, ticket) = response::parse_hash(&done).expect("a digest");
    assert_eq!(digest, hash::digest(HashAlg::Sha384, &[b"one two"]).digest());
    assert_eq!(ticket.hierarchy, rh::OWNER);
    assert_eq!(code(&mut tpm, &command::sequence_update(sequence, b"")), rc::REFERENCE_H0);
}

/// The first block decides about the ticket, however small the parts are.
#[test]
fn a_sequence_cannot_be_tricked_into_a_ticket() {
    let mut tpm = started();
    for parts in [&[&b"\xffTCG"[..], b"rest"][..], &[b"\xff", b"TCG"], &[b"", b"\xffTCG"]] {
        let sequence = start(&mut tpm, Some(HashAlg::Sha256));
        for part in parts {
            assert_eq!(code(&mut tpm, &command::sequence_update(sequence, part)), rc::SUCCESS);
        }
        let done = run(&mut tpm, &command::sequence_complete(sequence, b"", rh::OWNER));
        assert_eq!(response::parse_hash(&done).expect("a digest").1.hierarchy, rh::NULL);
    }
}

#[test]
fn an_event_sequence_extends_a_pcr_or_only_answers() {
    let mut tpm = started();
    let sequence = start(&mut tpm, None);
    assert_eq!(code(&mut tpm, &command::sequence_update(sequence, b"ev")), rc::SUCCESS);
    let refused = command::event_sequence_complete(Handle(17), sequence, b"ent");
    assert_eq!(code_at(&mut tpm, 0, &refused), rc::LOCALITY);
    let done = run(&mut tpm, &command::event_sequence_complete(Handle(9), sequence, b"ent"));
    assert_eq!(response::parse_digest_values(&done), Ok(hash::digest_banks(b"event")));
    let digest = hash::digest(HashAlg::Sha1, &[b"event"]);
    let want = hash::digest(HashAlg::Sha1, &[&[0; 20], digest.as_bytes()]);
    assert_eq!(pcr(&mut tpm, HashAlg::Sha1, 9), want.as_bytes());
    let sequence = start(&mut tpm, None);
    let done = run(&mut tpm, &command::event_sequence_complete(rh::NULL, sequence, b"x"));
    assert_eq!(response::parse_digest_values(&done), Ok(hash::digest_banks(b"x")));
}

#[test]
fn sequences_of_the_wrong_kind_and_other_objects_are_refused() {
    let mut tpm = started();
    let event = start(&mut tpm, None);
    let single = start(&mut tpm, Some(HashAlg::Sha1));
    let key = load_ak(&mut tpm, rh::OWNER).handle;
    assert_eq!(code(&mut tpm, &command::sequence_complete(event, b"", rh::NULL)), rc::MODE.handle(1));
    assert_eq!(code(&mut tpm, &command::event_sequence_complete(Handle(0), single, b"")), rc::MODE.handle(2));
    assert_eq!(code(&mut tpm, &command::sequence_update(key, b"")), rc::MODE.handle(1));
    assert_eq!(code(&mut tpm, &command::read_public(single)), rc::SEQUENCE);
    assert_eq!(code(&mut tpm, &command::quote(single, b"", &Default::default())), rc::KEY.handle(1));
    assert_eq!(code(&mut tpm, &command::flush_context(event)), rc::SUCCESS);
}

#[test]
fn a_sequence_is_used_with_its_auth() {
    let mut tpm = started();
    let cmd = Builder::new(cc::HASH_SEQUENCE_START, &[])
        .params(|w| {
            w.tpm2b(b"secret\0\0");
            w.put(&HashAlg::Sha256);
        })
        .build();
    let sequence = response::parse_handle(&run(&mut tpm, &cmd)).expect("a sequence");
    assert_eq!(code(&mut tpm, &command::sequence_update(sequence, b"x")), rc::BAD_AUTH.session(1));
    let session = AuthCommand::password(b"secret").expect("fits");
    let cmd = Builder::with_sessions(cc::SEQUENCE_UPDATE, &[sequence], &[session]).params(|w| w.tpm2b(b"x")).build();
    assert_eq!(code(&mut tpm, &cmd), rc::SUCCESS);
}

#[test]
fn random_bytes_differ_and_are_at_most_a_digest() {
    let mut tpm = started();
    let mut ask = |n| response::parse_get_random(&run(&mut tpm, &command::get_random(n))).expect("bytes");
    assert_eq!((ask(0).len(), ask(20).len(), ask(64).len(), ask(65).len(), ask(0xffff).len()), (0, 20, 64, 64, 64));
    assert_ne!(ask(32), ask(32));
}

#[test]
fn stirring_changes_the_random_bytes() {
    let (mut a, mut b) = (started(), started());
    let ask = |tpm: &mut crate::Tpm| response::parse_get_random(&run(tpm, &command::get_random(32)));
    assert_eq!(ask(&mut a), ask(&mut b), "the test's entropy is repeatable");
    assert_eq!(code(&mut b, &command::stir_random(b"spoon")), rc::SUCCESS);
    assert_ne!(ask(&mut a), ask(&mut b));
    assert_eq!(code(&mut a, &command::stir_random(&[0; 128])), rc::SUCCESS);
    assert_eq!(code(&mut a, &command::stir_random(&[0; 129])), rc::SIZE.parameter(1));
}
