//! What a verdict says of honest evidence and of every way to tamper with it.

use std::collections::BTreeSet;

use crate::common::{Machine, NONCE, PCRS, SoftAk, boot, expected};
use bulla_attest::{
    Bank, Code, Difference, Evidence, Expected, ExpectedEvent, HostKey, Kind, Policy, Root, SignedEvidence, TakenAt,
    Verdict, appraise,
};
use bulla_tpm_types::eventlog::ev;
use bulla_tpm_types::{HashAlg, ObjectAttributes};

fn codes(verdict: &Verdict) -> BTreeSet<Code> {
    verdict.reasons.iter().map(|reason| reason.code).collect()
}

#[track_caller]
fn rejected_for(verdict: &Verdict, wanted: &[Code]) {
    assert!(!verdict.accepted, "{verdict}");
    assert_eq!(codes(verdict), wanted.iter().copied().collect(), "{verdict}");
}

#[track_caller]
fn only_difference(verdict: &Verdict) -> &Difference {
    assert_eq!(verdict.differences.len(), 1, "{verdict}");
    &verdict.differences[0]
}

/// Appraises evidence with the log of the good boot after `change`; the quote stays honest.
fn with_log(change: impl FnOnce(&mut Vec<ExpectedEvent>)) -> Verdict {
    let machine = Machine::new();
    let mut events = boot(b"a good kernel");
    change(&mut events);
    machine.appraise(&machine.with_log_of(events))
}

const KERNEL: usize = 13;

#[test]
fn honest_evidence_is_accepted() {
    let machine = Machine::new();
    let verdict = machine.appraise(&machine.evidence());
    assert!(verdict.accepted, "{verdict}");
    assert!(verdict.reasons.is_empty() && verdict.differences.is_empty());
    assert!(verdict.checks.len() >= 17 && verdict.checks.iter().all(|check| check.passed));
    assert!(verdict.to_string().starts_with("ACCEPTED  root of trust: vmm-hosted"));
    assert!(verdict.not_checked.iter().any(|note| note.contains("not which machine's")));
}

#[test]
fn p384_keys_and_other_banks_are_accepted() {
    let machine = Machine { ak: SoftAk::p384(), ..Machine::new() };
    let evidence =
        machine.evidence_over(&[(HashAlg::Sha384, &PCRS), (HashAlg::Sha1, &[0, 4]), (HashAlg::Sha256, &PCRS)]);
    let verdict = machine.appraise(&evidence);
    assert!(verdict.accepted, "{verdict}");
}

#[test]
fn a_wrong_nonce_is_named_in_envelope_and_quote() {
    let machine = Machine::new();
    let signed = machine.sign(&machine.evidence());
    let verdict = appraise(&signed, b"another nonce!!!", None, &Policy::default());
    rejected_for(&verdict, &[Code::NonceMismatch, Code::QuoteNonceMismatch]);

    // A replayed quote in a fresh envelope: only the nonce that the TPM signed tells.
    let old = machine.ak.quote(b"yesterday's nonce", &[(HashAlg::Sha256, &PCRS)], &machine.booted.pcrs);
    rejected_for(&machine.appraise(&Evidence { tpm: old, ..machine.evidence() }), &[Code::QuoteNonceMismatch]);
}

#[test]
fn a_quote_by_another_key_is_rejected() {
    let machine = Machine::new();
    let mut evidence = machine.evidence();
    evidence.tpm.signature = SoftAk::p256().sign(&evidence.tpm.quote);
    rejected_for(&machine.appraise(&evidence), &[Code::QuoteSignature]);
}

#[test]
fn a_key_that_could_sign_forgeries_is_rejected() {
    for attribute in [
        ObjectAttributes::RESTRICTED,
        ObjectAttributes::SIGN,
        ObjectAttributes::FIXED_TPM,
        ObjectAttributes::FIXED_PARENT,
        ObjectAttributes::SENSITIVE_DATA_ORIGIN,
    ] {
        let machine = Machine { ak: SoftAk::p256().without(attribute), ..Machine::new() };
        rejected_for(&machine.appraise(&machine.evidence()), &[Code::AkUnsuitable]);
    }
}

#[test]
fn another_kernel_is_rejected_with_pcr_and_event_named() {
    let machine = Machine::booting(b"a good kernek");
    let verdict = machine.appraise(&machine.evidence());
    rejected_for(&verdict, &[Code::PcrMismatch, Code::EventChanged]);
    let difference = only_difference(&verdict);
    assert_eq!((difference.pcr, difference.kind, difference.bank), (4, Kind::Changed, Bank::Sha256));
    assert_eq!((difference.event.as_str(), difference.described.as_str()), ("kernel", "EV_IPL \"bulla: kernel\""));
    assert_eq!(difference.expected, Some(hex::encode(Bank::Sha256.digest(&[b"a good kernel"]))));
    assert_eq!(difference.found, Some(hex::encode(Bank::Sha256.digest(&[b"a good kernek"]))));
    assert!(verdict.to_string().contains("PCR 4: kernel"));
}

#[test]
fn an_edited_digest_is_named() {
    let verdict = with_log(|events| events[KERNEL].digests = bulla_attest::digests_of(b"evil"));
    rejected_for(&verdict, &[Code::EventLogReplay, Code::EventChanged]);
    let difference = only_difference(&verdict);
    // The header is event 0 and StartupLocality event 1.
    assert_eq!((difference.pcr, difference.event_index), (4, Some(KERNEL + 2)));
}

#[test]
fn an_edited_digest_in_a_bank_that_was_not_quoted_is_named() {
    let verdict = with_log(|events| events[KERNEL].digests.get_mut(&Bank::Sha1).expect("sha1")[0] ^= 1);
    rejected_for(&verdict, &[Code::EventChanged]);
    assert_eq!(only_difference(&verdict).bank, Bank::Sha1);
}

#[test]
fn edited_data_is_named_though_no_digest_covers_it() {
    let verdict = with_log(|events| events[KERNEL].data = b"bulla: kernel 6.1".to_vec());
    rejected_for(&verdict, &[Code::EventDataDiffers]);
    assert_eq!(only_difference(&verdict).pcr, 4);

    let verdict = with_log(|events| events[KERNEL].event_type = ev::ACTION);
    rejected_for(&verdict, &[Code::EventDataDigest, Code::EventDataDiffers]);
}

#[test]
fn edited_data_of_a_self_describing_event_needs_no_expected_values() {
    let machine = Machine::new();
    let mut events = boot(b"a good kernel");
    events[4].data = vec![1; 4]; // a separator
    let signed = machine.sign(&machine.with_log_of(events));
    rejected_for(&appraise(&signed, &NONCE, None, &Policy::default()), &[Code::EventDataDigest]);
}

#[test]
fn a_removed_event_is_named() {
    let verdict = with_log(|events| drop(events.remove(KERNEL)));
    rejected_for(&verdict, &[Code::EventLogReplay, Code::EventMissing]);
    assert!(only_difference(&verdict).event.starts_with("kernel"));
    assert_eq!(only_difference(&verdict).event_index, None);
}

#[test]
fn removing_the_only_event_of_a_pcr_shows_even_without_expected_values() {
    let machine = Machine::new();
    let mut events = boot(b"a good kernel");
    events.retain(|event| event.pcr != 9);
    let signed = machine.sign(&machine.with_log_of(events));
    let verdict = appraise(&signed, &NONCE, None, &Policy::default());
    rejected_for(&verdict, &[Code::EventLogReplay]);
    assert!(verdict.reasons[0].text.ends_with("sha256: 9"), "{verdict}");
}

#[test]
fn an_added_event_is_named() {
    let verdict = with_log(|events| {
        events.insert(KERNEL, ExpectedEvent::measure(4, ev::IPL, "", b"rootkit", b"nothing to see"));
    });
    rejected_for(&verdict, &[Code::EventLogReplay, Code::EventUnexpected]);
    assert!(only_difference(&verdict).event.contains("nothing to see"));
}

#[test]
fn an_added_event_in_a_pcr_that_is_not_quoted_is_named() {
    let verdict = with_log(|events| events.push(ExpectedEvent::measure(14, ev::IPL, "", b"x", b"x")));
    rejected_for(&verdict, &[Code::EventUnexpected]);
    assert_eq!(only_difference(&verdict).pcr, 14);
}

#[test]
fn events_that_extend_nothing_are_compared_too() {
    let machine = Machine::new();
    let honest = machine.evidence().event_log;
    let judge = |event_log| machine.appraise(&Evidence { event_log, ..machine.evidence() });
    // Event 1, StartupLocality: after the header of 32 + 41 bytes.
    let (start, size) = (32 + 41, 3 * 4 + 2 + 20 + 2 + 32 + 2 + 48 + 4 + 17);
    let (locality, rest) = honest[start..].split_at(size);
    assert!(locality.ends_with(b"StartupLocality\0\x04"));

    let removed = judge([&honest[..start], rest].concat());
    rejected_for(&removed, &[Code::EventMissing]);
    assert!(only_difference(&removed).event.starts_with("startup locality"));

    let mut digest = honest.clone();
    digest[start + 20] = 1;
    rejected_for(&judge(digest), &[Code::EventMissing, Code::EventUnexpected]);

    let mut added = locality.to_vec();
    let at = added.len() - 17;
    added[at..].copy_from_slice(b"something else...");
    rejected_for(&judge([&honest[..], &added].concat()), &[Code::EventUnexpected]);
}

#[test]
fn reordered_events_are_named() {
    let verdict = with_log(|events| events.swap(KERNEL - 1, KERNEL));
    rejected_for(&verdict, &[Code::EventLogReplay, Code::EventsReordered]);
    assert!(verdict.differences.iter().all(|d| d.pcr == 4 && d.kind == Kind::Reordered));
    assert_eq!(verdict.differences.len(), 2, "bootloader and kernel");
}

#[test]
fn several_changes_at_once_are_told_apart() {
    let verdict = with_log(|events| {
        events[2].digests = bulla_attest::digests_of(b"other tables");
        events.remove(KERNEL + 1);
        events.push(ExpectedEvent::measure(5, ev::IPL, "", b"x", b"x"));
    });
    let kinds: Vec<_> = verdict.differences.iter().map(|d| (d.pcr, d.kind)).collect();
    assert_eq!(kinds, [(1, Kind::Changed), (5, Kind::Unexpected), (9, Kind::Missing)]);
}

#[test]
fn a_pcr_left_out_of_the_selection_is_named() {
    let machine = Machine::new();
    let without_cmdline: Vec<u32> = PCRS.into_iter().filter(|&pcr| pcr != 12).collect();
    let evidence = machine.evidence_over(&[(HashAlg::Sha256, &without_cmdline)]);
    let verdict = machine.appraise(&evidence);
    rejected_for(&verdict, &[Code::PcrSelection]);
    assert!(verdict.reasons[0].text.ends_with("sha256: 12"), "{verdict}");
    // The log says what was measured, so this shows without expected values too.
    let verdict = appraise(&machine.sign(&evidence), &NONCE, None, &Policy::default());
    rejected_for(&verdict, &[Code::PcrSelection]);
}

#[test]
fn a_quote_over_sha1_alone_or_nothing_is_rejected() {
    let machine = Machine::new();
    rejected_for(&machine.appraise(&machine.evidence_over(&[(HashAlg::Sha1, &PCRS)])), &[Code::PcrSelection]);
    let nothing = Evidence {
        event_log: Expected::from_events(0, Vec::new()).expect("no events").to_event_log().expect("log"),
        ..machine.evidence_over(&[])
    };
    let verdict = appraise(&machine.sign(&nothing), &NONCE, None, &Policy::default());
    rejected_for(&verdict, &[Code::PcrSelection]);
}

#[test]
fn a_tampered_pcr_value_is_rejected() {
    let machine = Machine::new();
    let mut evidence = machine.evidence();
    evidence.tpm.pcrs.get_mut(&Bank::Sha256).expect("bank").get_mut(&4).expect("PCR")[0] ^= 1;
    rejected_for(&machine.appraise(&evidence), &[Code::PcrDigest, Code::EventLogReplay, Code::PcrMismatch]);

    let mut evidence = machine.evidence();
    evidence.tpm.pcrs.get_mut(&Bank::Sha256).expect("bank").remove(&4);
    rejected_for(&machine.appraise(&evidence), &[Code::PcrDigest]);

    let mut evidence = machine.evidence();
    evidence.tpm.pcrs.get_mut(&Bank::Sha256).expect("bank").insert(10, vec![0; 32]);
    rejected_for(&machine.appraise(&evidence), &[Code::PcrDigest]);
}

#[test]
fn a_tampered_envelope_is_rejected() {
    let machine = Machine::new();
    let mut bytes = machine.evidence().sign(&machine.host).expect("signed");
    *bytes.last_mut().expect("signature") ^= 1;
    let signed = SignedEvidence::from_bytes(&bytes).expect("still readable");
    let verdict = appraise(&signed, &NONCE, Some(&expected(b"a good kernel")), &Policy::default());
    rejected_for(&verdict, &[Code::EnvelopeSignature]);
}

#[test]
fn a_weaker_root_is_rejected_and_a_stronger_one_must_be_proven() {
    let machine = Machine::new();
    let claiming = |root| machine.appraise(&Evidence { root, ..machine.evidence() });
    rejected_for(&claiming(Root::Simulated), &[Code::RootTooWeak]);
    rejected_for(&claiming(Root::SevSnp), &[Code::RootUnproven]);

    let signed = machine.sign(&Evidence { root: Root::Simulated, ..machine.evidence() });
    let policy = Policy { minimum_root: Some(Root::Simulated), ..Policy::default() };
    assert!(appraise(&signed, &NONCE, None, &policy).accepted);
    let policy = Policy { minimum_root: Some(Root::SevSnp), ..Policy::default() };
    let verdict = appraise(&machine.sign(&machine.evidence()), &NONCE, None, &policy);
    rejected_for(&verdict, &[Code::RootTooWeak]);
}

#[test]
fn pins_are_enforced() {
    let machine = Machine::new();
    let evidence = Evidence { taken_at: TakenAt::Guest, ..machine.evidence() };
    let signed = machine.sign(&evidence);
    let judge = |policy: &Policy| appraise(&signed, &NONCE, None, policy);
    let other = HostKey::generate().expect("key").public();

    let mut policy = Policy { require_endorsement: true, ..Policy::default() };
    rejected_for(&judge(&policy), &[Code::NotEndorsed]);
    policy.pin_host_key_pem(&machine.host.public().to_pem()).expect("PEM");
    assert!(judge(&policy).accepted);
    let ak = bulla_attest::quote::AttestationKey::parse(&evidence.tpm.ak_public).expect("AK");
    policy.pin_ak_pem(&ak.to_pem().expect("PEM")).expect("PEM");
    let verdict = judge(&policy);
    assert!(verdict.accepted && !verdict.not_checked.iter().any(|note| note.contains("pinned")), "{verdict}");
    let by_name = Policy { ak_names: [ak.name()].into(), ..Policy::default() };
    assert!(judge(&by_name).accepted);

    let mut policy = Policy::default();
    policy.pin_host_key_pem(&other.to_pem()).expect("PEM");
    policy.pin_ak_pem(&other.to_pem()).expect("PEM");
    rejected_for(&judge(&policy), &[Code::HostKeyNotPinned, Code::AkNotPinned]);
}

#[test]
fn policies_bound_counters_and_select_pcrs() {
    let machine = Machine::new();
    let signed = machine.sign(&machine.evidence());
    let judge = |toml: &str| appraise(&signed, &NONCE, None, &Policy::from_toml(toml).expect("policy"));
    assert!(judge("maximum_reset_count = 1\nmaximum_restart_count = 0").accepted);
    rejected_for(&judge("maximum_reset_count = 0"), &[Code::ResetCount]);
    assert!(judge("[pcrs]\nsha256 = [0, 4]").accepted);
    rejected_for(&judge("[pcrs]\nsha256 = [0, 11]\nsha384 = [4]"), &[Code::PcrSelection]);
}

#[test]
fn malformed_tpm_structures_and_logs_are_rejections_not_errors() {
    let machine = Machine::new();
    let good = machine.evidence();
    let judge = |change: fn(&mut Evidence)| {
        let mut evidence = good.clone();
        change(&mut evidence);
        codes(&machine.appraise(&evidence))
    };
    assert!(judge(|e| e.tpm.quote[0] = 0).contains(&Code::QuoteMalformed), "magic");
    assert!(judge(|e| e.tpm.quote[5] = 0x17).contains(&Code::QuoteMalformed), "type");
    assert!(judge(|e| e.tpm.quote.push(0)).contains(&Code::QuoteMalformed), "trailing byte");
    assert!(judge(|e| e.tpm.signature.truncate(9)).contains(&Code::QuoteMalformed));
    assert!(judge(|e| e.tpm.ak_public.clear()).contains(&Code::AkUnsuitable));
    assert!(judge(|e| e.event_log.truncate(100)).contains(&Code::EventLogMalformed));
    assert!(judge(|e| e.event_log.push(0)).contains(&Code::EventLogMalformed));
}

#[test]
fn verdicts_are_machine_readable() {
    let machine = Machine::booting(b"evil");
    let verdict = serde_json::to_value(machine.appraise(&machine.evidence())).expect("JSON");
    assert_eq!(verdict["accepted"], false);
    assert_eq!(verdict["root"], "vmm-hosted");
    assert_eq!(verdict["taken_at"], "handover");
    assert_eq!(verdict["reasons"][0]["code"], "pcr-mismatch");
    assert_eq!(verdict["differences"][0]["kind"], "changed");
    assert_eq!(verdict["differences"][0]["pcr"], 4);
    assert_eq!(verdict["differences"][0]["bank"], "sha256");
    assert!(verdict["checks"].as_array().expect("checks").iter().any(|c| c["name"] == "quote signature"));
}
