//! The evidence file: one encoding, read the same by an independent decoder, and nothing else accepted.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::common::{Machine, NONCE, PCRS, expected};
use bulla_attest::{Bank, Evidence, Expected, PROFILE, Policy, SignedEvidence, appraise};
use proptest::prelude::*;
use serde_cbor::Value;

struct Signed {
    machine: Machine,
    bytes: Vec<u8>,
}

static GOOD: LazyLock<Signed> = LazyLock::new(|| {
    let machine = Machine::new();
    let bytes = machine.evidence().sign(&machine.host).expect("signed");
    Signed { machine, bytes }
});

fn accepted(bytes: &[u8]) -> bool {
    SignedEvidence::from_bytes(bytes)
        .is_ok_and(|signed| appraise(&signed, &NONCE, Some(&expected(b"a good kernel")), &Policy::default()).accepted)
}

fn map(value: Value) -> BTreeMap<Value, Value> {
    match value {
        Value::Map(map) => map,
        other => panic!("not a map: {other:?}"),
    }
}

fn int(n: i128) -> Value {
    Value::Integer(n)
}

#[test]
fn an_independent_decoder_reads_what_docs_evidence_md_describes() {
    let evidence = GOOD.machine.evidence();
    let bytes = evidence.sign(&GOOD.machine.host).expect("signed");
    assert_eq!(bytes.first(), Some(&0xd2), "tag 18: COSE_Sign1");
    let Value::Array(sign1) = serde_cbor::from_slice(&bytes).expect("CBOR") else { panic!("not an array") };
    let [Value::Bytes(protected), unprotected, Value::Bytes(payload), Value::Bytes(signature)] = &sign1[..] else {
        panic!("not a COSE_Sign1: {sign1:?}")
    };
    assert_eq!(unprotected, &Value::Map(BTreeMap::new()));
    assert_eq!(signature.len(), 64);

    let protected = map(serde_cbor::from_slice(protected).expect("CBOR"));
    assert_eq!(protected[&int(1)], int(-7), "ES256");
    assert_eq!(protected[&int(4)], Value::Bytes(GOOD.machine.host.public().thumbprint().to_vec()));
    assert_eq!(protected[&int(16)], Value::Text("application/eat+cwt".to_owned()));
    let host_key = map(protected[&int(-70001)].clone());
    assert_eq!((&host_key[&int(1)], &host_key[&int(-1)]), (&int(2), &int(1)));

    let claims = map(serde_cbor::from_slice(payload).expect("CBOR"));
    assert_eq!(claims.len(), 7);
    assert_eq!(claims[&int(10)], Value::Bytes(NONCE.to_vec()));
    assert_eq!(claims[&int(265)], Value::Text(PROFILE.to_owned()));
    assert_eq!(claims[&int(-70001)], Value::Text("vmm-hosted".to_owned()));
    assert_eq!(claims[&int(-70004)], Value::Text("handover".to_owned()));
    assert_eq!(claims[&int(-70003)], Value::Bytes(evidence.event_log.clone()));
    let ueid = [&[1][..], &Bank::Sha256.digest(&[&evidence.tpm.ak_public])].concat();
    assert_eq!(claims[&int(256)], Value::Bytes(ueid));
    let tpm = map(claims[&int(-70002)].clone());
    assert_eq!(tpm[&int(1)], Value::Bytes(evidence.tpm.ak_public.clone()));
    assert_eq!(tpm[&int(2)], Value::Bytes(evidence.tpm.quote.clone()));
    let pcrs = map(map(tpm[&int(4)].clone())[&int(0x0b)].clone());
    assert_eq!(pcrs.len(), PCRS.len());
    assert_eq!(pcrs[&int(4)], Value::Bytes(GOOD.machine.booted.pcrs[&Bank::Sha256][&4].clone()));
}

#[test]
fn evidence_survives_signing() {
    let evidence = GOOD.machine.evidence();
    let signed = SignedEvidence::from_bytes(&GOOD.bytes).expect("readable");
    assert!(signed.verify_envelope());
    assert_eq!(signed.host_key(), &GOOD.machine.host.public());
    assert_eq!(signed.evidence().event_log, evidence.event_log);
    assert_eq!(signed.evidence().tpm.pcrs, evidence.tpm.pcrs);
    assert!(accepted(&GOOD.bytes));
}

#[test]
fn every_mutation_of_one_byte_is_rejected() {
    // Every byte with one bit flipped; which bit varies with the position.
    for at in 0..GOOD.bytes.len() {
        let mut bytes = GOOD.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(!accepted(&bytes), "byte {at}");
    }
}

#[test]
fn every_truncation_and_any_trailing_byte_is_unreadable() {
    for len in 0..GOOD.bytes.len() {
        assert!(SignedEvidence::from_bytes(&GOOD.bytes[..len]).is_err(), "{len} bytes");
    }
    let longer = [&GOOD.bytes[..], &[0]].concat();
    assert!(SignedEvidence::from_bytes(&longer).expect_err("trailing").to_string().contains("after its end"));
}

#[test]
fn oversized_evidence_and_odd_nonces_are_never_written() {
    let machine = &GOOD.machine;
    let sign = |evidence: &Evidence| evidence.sign(&machine.host).map(|_| ()).expect_err("refused").to_string();
    let huge = Evidence { event_log: vec![0; 1024 * 1024], ..machine.evidence() };
    assert!(sign(&huge).contains("more than the limit"));
    for size in [0, 7, 65] {
        let odd = Evidence { nonce: vec![1; size], ..machine.evidence() };
        assert!(sign(&odd).contains("8 to 64 bytes"));
    }
}

#[test]
fn expected_values_survive_encoding_and_must_agree_with_themselves() {
    let good = Expected {
        machine: BTreeMap::from([("memory".to_owned(), "256 MiB".to_owned())]),
        ..expected(b"a good kernel")
    };
    let bytes = good.to_bytes().expect("encoded");
    assert_eq!(Expected::from_bytes(&bytes).expect("decoded"), good);
    assert_eq!(bytes, good.to_bytes().expect("encoded"), "one encoding");
    let top = map(serde_cbor::from_slice(&bytes).expect("CBOR"));
    assert_eq!(top[&int(4)], int(4));

    let mut inconsistent = good.clone();
    inconsistent.pcrs.get_mut(&Bank::Sha384).expect("bank").insert(3, vec![7; 48]);
    assert!(inconsistent.to_bytes().expect_err("refused").to_string().contains("replay"));
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        // Whatever is still readable is no longer the same.
        assert!(Expected::from_bytes(&bytes).map_or(true, |changed| changed != good), "byte {at}");
    }
}

#[test]
fn impossible_events_are_refused() {
    use bulla_attest::ExpectedEvent;
    let refused = |locality, event: ExpectedEvent| Expected::from_events(locality, vec![event]).is_err();
    let event = ExpectedEvent::measure(4, 13, "kernel", b"k", b"d");
    assert!(!refused(0, event.clone()));
    assert!(refused(1, event.clone()));
    assert!(refused(0, ExpectedEvent { pcr: 24, ..event.clone() }));
    assert!(refused(0, ExpectedEvent { event_type: 3, ..event.clone() }));
    let mut short = event;
    short.digests.remove(&Bank::Sha1);
    assert!(refused(0, short));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(SignedEvidence::from_bytes(&bytes).is_err());
        let _ = Expected::from_bytes(&bytes);
    }

    #[test]
    fn any_byte_replaced_is_rejected_or_no_change(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = GOOD.bytes.clone();
        let place = at.get_mut(&mut bytes);
        let same = *place == byte;
        *place = byte;
        prop_assert_eq!(accepted(&bytes), same);
    }

    #[test]
    fn any_payload_under_an_honest_signature_is_judged(
        log in prop::collection::vec(any::<u8>(), 0..256),
        quote in prop::collection::vec(any::<u8>(), 0..128),
        ak in prop::collection::vec(any::<u8>(), 0..128),
    ) {
        let mut evidence = GOOD.machine.evidence();
        evidence.event_log = log;
        evidence.tpm.quote = quote;
        evidence.tpm.ak_public = ak;
        prop_assert!(!GOOD.machine.appraise(&evidence).accepted);
    }
}

#[test]
fn claims_without_an_envelope_read_as_they_were_written_and_nothing_else_does() {
    let evidence = GOOD.machine.evidence();
    let claims = evidence.to_unsigned();
    assert_eq!(claims[..3], [0xd9, 0x02, 0x59], "tag 601: an unprotected CWT claims set (RFC 9781)");
    assert_eq!(Evidence::from_unsigned(&claims).expect("read"), evidence);
    for bad in [&claims[3..], &claims[..claims.len() - 1], &[&claims[..], &[0]].concat(), &GOOD.bytes[..], &[]] {
        assert!(Evidence::from_unsigned(bad).is_err());
    }
    assert!(SignedEvidence::from_bytes(&claims).is_err(), "nobody signed it");
}
