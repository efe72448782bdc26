//! What a verifier reads: event logs, evidence, expected values, policies.

use bulla_attest::eventlog::{EventLogError, Log};
use bulla_attest::{Evidence, Expected, HostKey, Policy, SignedEvidence, appraise};
use bulla_tpm_types::eventlog::{EventLog, EventRef, LogBuilder, ev};
use bulla_tpm_types::hash;
use std::sync::OnceLock;

/// A TCG event log: the parser, the search for its end in a larger area, the writer that goes on with it, and the
/// replay. Answers whether it replays.
pub fn eventlog(bytes: &[u8]) -> bool {
    let events = parse(bytes);
    let replays = match Log::parse(bytes) {
        Ok(log) => {
            let seen = events.expect("both readers of a log agree that it is one");
            assert_eq!(seen.len(), log.events.len());
            go_on(bytes);
            replay(&log)
        }
        Err(EventLogError::Parse(_)) => {
            assert!(events.is_none());
            false
        }
        Err(other) => panic!("{other}"),
    };
    if let Ok((log, used)) = EventLog::in_area(bytes) {
        assert!(used <= bytes.len());
        let checked: Vec<_> = log.events().map(|event| event.expect("a log found in an area is checked")).collect();
        let alone = parse(&bytes[..used]).expect("what is a log in its area is one without it");
        assert_eq!(alone, checked);
    }
    replays
}

fn parse(bytes: &[u8]) -> Option<Vec<EventRef<'_>>> {
    EventLog::parse(bytes).ok()?.events().collect::<Result<_, _>>().ok()
}

fn replay(log: &Log) -> bool {
    for event in &log.events {
        let text = event.describe();
        assert!(text.chars().all(|c| c == '…' || c == ' ' || c.is_ascii_graphic()), "{text:?} is not for a terminal");
    }
    let Ok(replay) = log.replay() else { return false };
    assert!(matches!(replay.startup_locality, 0 | 3 | 4));
    for (bank, values) in &replay.pcrs {
        assert!(values.iter().all(|(pcr, value)| *pcr < 24 && value.len() == bank.size()));
    }
    true
}

/// An event appended to a log is the last event of that log, and all others are as they were.
fn go_on(bytes: &[u8]) {
    let mut area = bytes.to_vec();
    area.resize(bytes.len() + 256, 0);
    let Ok(mut builder) = LogBuilder::resume(&mut area, bytes.len()) else { return };
    if builder.append(7, ev::SEPARATOR, &hash::digest_banks(&[0; 4]), &[0; 4]).is_err() {
        // The log has an algorithm that we have no digest for.
        assert_eq!(builder.as_bytes(), bytes);
        return;
    }
    let after = parse(builder.as_bytes()).expect("still a log");
    let before = parse(bytes).expect("a log");
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.last().map(|event| (event.pcr, event.data)), Some((7, &[0; 4][..])));
}

/// An evidence file: what is read can be appraised, is accepted only with a good signature, and reads the same when
/// another host signs it. Answers whether it was accepted.
pub fn evidence(bytes: &[u8]) -> bool {
    static HOST: OnceLock<HostKey> = OnceLock::new();
    let Ok(signed) = SignedEvidence::from_bytes(bytes) else { return false };
    let evidence: &Evidence = signed.evidence();
    let verdict = appraise(&signed, &evidence.nonce, None, &Policy::default());
    assert_eq!(verdict.accepted, verdict.reasons.is_empty());
    assert!(!verdict.accepted || signed.verify_envelope());
    let host = HOST.get_or_init(|| HostKey::generate().expect("the platform has random bytes"));
    let again = evidence.sign(host).expect("what was read fits an envelope");
    assert_eq!(SignedEvidence::from_bytes(&again).expect("what was written").evidence(), evidence);
    verdict.accepted
}

/// Expected values: one encoding for each, and the log they stand for replays to the values they have. Answers
/// whether they were read.
pub fn expected(bytes: &[u8]) -> bool {
    let Ok(expected) = Expected::from_bytes(bytes) else { return false };
    assert_eq!(expected.to_bytes().expect("what was read can be written"), bytes);
    let log = expected.to_event_log().expect("an area of the right size");
    let replay = Log::parse(&log).and_then(|log| log.replay()).expect("a log of our own");
    assert_eq!(replay.startup_locality, expected.startup_locality);
    assert_eq!(replay.pcrs, expected.pcrs);
    true
}

/// A policy file: read, or refused with a message. Answers which.
pub fn policy(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Policy::from_toml(text) {
        Ok(policy) => {
            assert!(policy.ak_names.iter().all(|name| matches!(name.len(), 22 | 34 | 50 | 66)));
            let pcrs = policy.pcrs.iter().flat_map(|banks| banks.values().flatten());
            assert!(pcrs.clone().all(|pcr| *pcr < 24));
            assert_eq!(policy.pcrs.is_some(), pcrs.count() > 0);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
