//! Reading and replaying logs: where PCR 0 starts, what extends nothing, and what cannot be true.

use bulla_attest::eventlog::{EventLogError, Log, describe, initial_value};
use bulla_attest::{Bank, Expected, ExpectedEvent, digests_of};
use bulla_tpm_types::eventlog::{LogBuilder, ev, startup_locality_event};
use bulla_tpm_types::{HashAlg, hash};
use proptest::prelude::*;

use crate::common::expected;

fn log_of(write: impl FnOnce(&mut LogBuilder<'_>)) -> Vec<u8> {
    let mut area = vec![0; 8192];
    let mut log = LogBuilder::new(&mut area, &HashAlg::BANKS).expect("room");
    write(&mut log);
    log.as_bytes().to_vec()
}

fn extend(log: &mut LogBuilder<'_>, pcr: u32, event_type: u32, content: &[u8]) {
    log.append(pcr, event_type, &hash::digest_banks(content), b"data").expect("room");
}

#[test]
fn every_startup_locality_is_replayed_as_a_tpm_does() {
    for locality in [0, 3, 4] {
        let expected = Expected::from_events(
            locality,
            vec![
                ExpectedEvent::measure(0, ev::POST_CODE, "a", b"one", b""),
                ExpectedEvent::measure(7, 4, "b", b"two", b""),
            ],
        )
        .expect("possible");
        let replay = Log::parse(&expected.to_event_log().expect("log")).expect("log").replay().expect("replay");
        assert_eq!((replay.startup_locality, &replay.pcrs), (locality, &expected.pcrs));
        // By hand: new = H(old ‖ H(event)).
        let mut old = [0; 32];
        old[31] = locality;
        let by_hand = Bank::Sha256.digest(&[&old, &Bank::Sha256.digest(&[b"one"])]);
        assert_eq!(replay.value(Bank::Sha256, 0), by_hand);
        assert_eq!(replay.value(Bank::Sha256, 9), [0; 32], "no event extends it");
    }
}

#[test]
fn an_hcrtm_event_without_startup_locality_means_locality_4() {
    let log = log_of(|log| extend(log, 0, ev::EFI_HCRTM_EVENT, b"firmware"));
    assert_eq!(Log::parse(&log).expect("log").startup_locality(), Ok(4));
    // Only as the first event of PCR 0: later it is no longer before TPM2_Startup.
    let log = log_of(|log| {
        extend(log, 0, ev::POST_CODE, b"x");
        extend(log, 0, ev::EFI_HCRTM_EVENT, b"firmware");
    });
    assert_eq!(Log::parse(&log).expect("log").startup_locality(), Ok(0));
}

#[test]
fn impossible_startup_localities_are_refused() {
    let refused = |log: Vec<u8>, why: &str| {
        let e = Log::parse(&log).expect("well-formed").replay().expect_err("must be refused");
        assert!(matches!(e, EventLogError::StartupLocality { .. }) && e.to_string().contains(why), "{e}");
    };
    let locality = |log: &mut LogBuilder<'_>, n| log.append_no_action(0, &startup_locality_event(n)).expect("room");
    refused(log_of(|log| locality(log, 1)), "none of 0, 3 and 4");
    refused(
        log_of(|log| {
            locality(log, 3);
            locality(log, 3);
        }),
        "twice",
    );
    refused(
        log_of(|log| {
            extend(log, 0, ev::POST_CODE, b"x");
            locality(log, 3);
        }),
        "after an event",
    );
}

#[test]
fn events_without_action_extend_nothing_and_need_no_real_pcr() {
    let log = log_of(|log| {
        log.append_no_action(u32::MAX, b"SP800-155 Event\0").expect("room");
        extend(log, 2, ev::POST_CODE, b"x");
    });
    let replay = Log::parse(&log).expect("log").replay().expect("replay");
    assert_eq!(replay.pcrs[&Bank::Sha1].keys().collect::<Vec<_>>(), [&2]);
    let log = log_of(|log| extend(log, 24, ev::POST_CODE, b"x"));
    assert_eq!(Log::parse(&log).expect("log").replay(), Err(EventLogError::NoSuchPcr { index: 1, pcr: 24 }));
}

#[test]
fn legacy_logs_have_one_bank() {
    let mut log = Vec::new();
    log.extend(4u32.to_le_bytes());
    log.extend(ev::IPL.to_le_bytes());
    log.extend(&digests_of(b"boot sector")[&Bank::Sha1]);
    log.extend(3u32.to_le_bytes());
    log.extend(b"mbr");
    let log = Log::parse(&log).expect("log");
    assert!(log.legacy && log.banks == [Bank::Sha1]);
    let replay = log.replay().expect("replay");
    let by_hand = Bank::Sha1.digest(&[&[0; 20], &Bank::Sha1.digest(&[b"boot sector"])]);
    assert_eq!(replay.pcrs[&Bank::Sha1][&4], by_hand);
}

#[test]
fn pcrs_of_the_dynamic_root_of_trust_start_with_ones() {
    assert_eq!(initial_value(Bank::Sha1, 16, 3), [0; 20]);
    assert_eq!(initial_value(Bank::Sha1, 17, 3), [0xff; 20]);
    assert_eq!(initial_value(Bank::Sha256, 23, 0), [0; 32]);
    assert_eq!(initial_value(Bank::Sha256, 0, 3)[31], 3);
}

#[test]
fn descriptions_never_send_control_characters_to_a_terminal() {
    assert_eq!(describe(ev::IPL, b"bulla: kernel\0"), "EV_IPL \"bulla: kernel\"");
    assert_eq!(describe(ev::S_CRTM_VERSION, b"v\x00\x31\0\0\0"), "EV_S_CRTM_VERSION \"v1\"");
    assert_eq!(describe(ev::IPL, b"\x1b[2Jevil"), "EV_IPL");
    assert_eq!(describe(ev::NO_ACTION, &startup_locality_event(3)), "EV_NO_ACTION StartupLocality 3");
    assert_eq!(describe(0x1234, b""), "event type 0x00001234");
    assert!(describe(ev::IPL, &[b'a'; 500]).chars().count() < 100);
}

proptest! {
    #[test]
    fn any_bytes_are_a_log_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Log::parse(&bytes).map(|log| log.replay());
    }

    #[test]
    fn any_damage_to_a_good_log_is_survived(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = expected(b"k").to_event_log().expect("log");
        *at.get_mut(&mut bytes) = byte;
        if let Ok(log) = Log::parse(&bytes) {
            for event in &log.events {
                prop_assert!(event.describe().chars().all(|c| !c.is_control()));
            }
            let _ = log.replay();
        }
    }
}

#[test]
fn a_log_that_is_computed_replays_to_the_values_computed_with_it_whatever_its_first_event_is() {
    for first in [ev::EFI_HCRTM_EVENT, ev::S_CRTM_VERSION] {
        for locality in [0, 3, 4] {
            let event = ExpectedEvent::measure(0, first, "firmware", b"x", b"y");
            let expected = Expected::from_events(locality, vec![event]).expect("expected values");
            let log = expected.to_event_log().expect("log");
            let replay = Log::parse(&log).and_then(|log| log.replay()).expect("replay");
            assert_eq!((replay.startup_locality, replay.pcrs), (locality, expected.pcrs));
        }
    }
}
