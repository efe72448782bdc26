//! The event log: what is written is read again, and no bytes are too strange.

use bulla_tpm_types::eventlog::{
    EventLog, LogBuilder, LogErrorKind, LogFull, NewLogError, ev, parse_startup_locality, startup_locality_event,
};
use bulla_tpm_types::hash::digest_banks;
use bulla_tpm_types::{DigestValues, HashAlg};
use proptest::prelude::*;

fn log(events: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    let mut area = vec![0; 64 * 1024];
    let mut b = LogBuilder::new(&mut area, &HashAlg::BANKS).expect("room");
    for (pcr, kind, data) in events {
        b.append(*pcr, *kind, &digest_banks(data), data).expect("room");
    }
    b.as_bytes().to_vec()
}

fn error(bytes: &[u8]) -> (LogErrorKind, usize, usize) {
    let e = match EventLog::parse(bytes) {
        Err(e) => e,
        Ok(log) => log.events().find_map(Result::err).expect("a malformed log"),
    };
    (e.kind, e.event, e.offset)
}

/// The first event's header and data as the profile prints them, byte for byte.
#[test]
fn the_header_is_the_profiles() {
    let bytes = log(&[]);
    let mut want = vec![0, 0, 0, 0, 3, 0, 0, 0];
    want.extend([0; 20]);
    want.extend([41, 0, 0, 0]);
    want.extend(b"Spec ID Event03\0");
    want.extend([0, 0, 0, 0, 0, 2, 2, 2, 3, 0, 0, 0]);
    want.extend([0x04, 0, 20, 0, 0x0b, 0, 32, 0, 0x0c, 0, 48, 0, 0]);
    assert_eq!(bytes, want);
}

#[test]
fn a_log_in_an_area_ends_where_the_unused_part_begins() {
    let used = log(&[(0, ev::POST_CODE, b"x".to_vec()), (4, ev::SEPARATOR, vec![0; 4])]);
    let mut area = Vec::new();
    for unused in [0xff, 0] {
        area.clone_from(&used);
        area.resize(used.len() + 100, unused);
        let (parsed, len) = EventLog::in_area(&area).expect("a log");
        assert_eq!((len, parsed.events().count()), (used.len(), 2));
    }
    let (parsed, len) = EventLog::in_area(&used).expect("a log that fills its area");
    assert_eq!((len, parsed.events().count()), (used.len(), 2));
    assert!(matches!(error(&area), (LogErrorKind::DigestCount { got: 0, want: 3 }, 3, _)));
}

#[test]
fn a_second_stage_goes_on_with_the_log_of_the_first() {
    let mut area = vec![0; 4096];
    let used = {
        let mut b = LogBuilder::new(&mut area, &HashAlg::BANKS).expect("room");
        b.append(0, ev::POST_CODE, &digest_banks(b"1"), b"1").expect("room");
        b.len()
    };
    let mut b = LogBuilder::resume(&mut area, used).expect("a log");
    b.append(4, ev::IPL, &digest_banks(b"2"), b"2").expect("room");
    let got: Vec<_> = EventLog::parse(b.as_bytes()).expect("log").events().map(|e| e.expect("event").pcr).collect();
    assert_eq!(got, [0, 4]);
    assert!(matches!(LogBuilder::resume(&mut area, used - 1), Err(NewLogError::Log(_))));
    assert_eq!(LogBuilder::resume(&mut area, 5000).map(|_| ()), Err(NewLogError::Length { used: 5000, area: 4096 }));
}

#[test]
fn a_full_area_takes_no_half_event() {
    let mut area = vec![0xff; 73 + 130];
    let mut b = LogBuilder::new(&mut area, &HashAlg::BANKS).expect("room");
    let before = b.as_bytes().to_vec();
    assert!(matches!(b.append(0, ev::IPL, &digest_banks(b""), &[1; 40]), Err(LogFull::Room { .. })));
    assert_eq!(b.as_bytes(), before);
    assert_eq!(b.append(0, ev::IPL, &DigestValues::new(), b""), Err(LogFull::MissingDigest(HashAlg::Sha1.id().0)));
}

#[test]
fn each_malformed_field_has_its_error_and_place() {
    let good = log(&[(1, ev::IPL, b"data".to_vec())]);
    let (header, count) = (73, 73 + 8);
    let patched = |at: usize, b: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + b.len()].copy_from_slice(b);
        bytes
    };
    assert_eq!(error(&good[..header + 3]), (LogErrorKind::Truncated("the PCR index"), 1, header));
    assert_eq!(error(&good[..good.len() - 1]).0, LogErrorKind::Truncated("the event data"));
    assert_eq!(error(&patched(count, &[2])), (LogErrorKind::DigestCount { got: 2, want: 3 }, 1, count));
    assert_eq!(error(&patched(count, &[0xff; 4])).0, LogErrorKind::DigestCount { got: u32::MAX, want: 3 });
    assert_eq!(error(&patched(count + 4, &[0x0d])), (LogErrorKind::DigestAlg(0x0d), 1, count + 4));
    assert_eq!(error(&patched(count + 4 + 22, &[0x04])).0, LogErrorKind::DigestTwice(4));
    assert_eq!(error(&patched(56, &[0])), (LogErrorKind::AlgCount(0), 0, 56));
    assert_eq!(error(&patched(56, &[9])).0, LogErrorKind::AlgCount(9));
    assert_eq!(error(&patched(62, &[21])).0, LogErrorKind::AlgSize { alg: 4, size: 21 });
    assert_eq!(error(&patched(64, &[4, 0, 20, 0])).0, LogErrorKind::AlgTwice(4));
    assert_eq!(error(&patched(56, &[2, 0, 0, 0, 4, 0, 20, 0, 11, 0, 32, 0, 0])).0, LogErrorKind::HeaderTail(4));
}

/// A legacy log has no header to name its algorithms: SHA-1 it is.
#[test]
fn a_legacy_log_has_sha1_digests() {
    let mut bytes = vec![2, 0, 0, 0, 13, 0, 0, 0];
    bytes.extend([7; 20]);
    bytes.extend([3, 0, 0, 0]);
    bytes.extend(b"abc");
    let log = EventLog::parse(&bytes).expect("a log");
    assert!(log.spec_id().is_none() && log.has_bank(HashAlg::Sha1) && !log.has_bank(HashAlg::Sha256));
    let events: Vec<_> = log.events().collect::<Result<_, _>>().expect("events");
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].pcr, events[0].event_type, events[0].data), (2, ev::IPL, &b"abc"[..]));
    assert_eq!(events[0].digests.get(HashAlg::Sha1), Some(&[7; 20][..]));
}

#[test]
fn the_startup_locality_event_is_the_profiles() {
    let data = startup_locality_event(4);
    assert_eq!(&data, b"StartupLocality\0\x04");
    assert_eq!(parse_startup_locality(&data), Some(4));
    assert_eq!(parse_startup_locality(&data[..16]), None);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        events in prop::collection::vec((0u32..24, 1u32.., prop::collection::vec(any::<u8>(), 0..64)), 0..20)
    ) {
        let bytes = log(&events);
        let parsed = EventLog::parse(&bytes).expect("a log");
        let mut n = 0;
        for (event, (pcr, kind, data)) in parsed.events().zip(&events) {
            let event = event.expect("an event");
            prop_assert_eq!((event.pcr, event.event_type, event.data), (*pcr, *kind, &data[..]));
            prop_assert_eq!(event.digests.known(), digest_banks(data));
            n += 1;
        }
        prop_assert_eq!(n, events.len());
    }

    #[test]
    fn any_bytes_end_in_events_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(log) = EventLog::parse(&bytes) {
            prop_assert!(log.events().count() <= bytes.len());
        }
        let _ = EventLog::in_area(&bytes);
    }

    #[test]
    fn a_changed_log_ends_in_events_or_an_error(at in 0usize..400, to: u8, cut in 0usize..400) {
        let mut bytes = log(&[(0, 1, vec![1; 30]), (1, 2, vec![2; 30])]);
        if let Some(b) = bytes.get_mut(at) { *b = to; }
        bytes.truncate(bytes.len().max(cut) - cut.min(bytes.len()));
        if let Ok(log) = EventLog::parse(&bytes) {
            prop_assert!(log.events().count() <= bytes.len());
        }
        let _ = EventLog::in_area(&bytes);
    }
}
