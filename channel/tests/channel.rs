//! Two ends over one region, and a host in between that does as it likes.
#![cfg(not(loom))]

mod common;

use bulla_channel::record::{MAX_MESSAGE, RecordError};
use bulla_channel::ring::{HEADER_BYTES, Layout, RingError, SLOT_BYTES};
use bulla_channel::{Channel, Error, HeapRegion, Region, Role, State};
use common::{FakeTpm, ID, fixed_random, policy};
use proptest::prelude::*;

type End = Channel<HeapRegion, FakeTpm>;

const SLOTS: usize = 4;
const FIRST: usize = HEADER_BYTES / 8;
const STRIDE: usize = SLOT_BYTES / 8;

fn ends() -> (HeapRegion, End, End) {
    let region = HeapRegion::new(Layout::bytes_for(SLOTS) / 8);
    let (a, b) = (FakeTpm::new(1), FakeTpm::new(2));
    let (a_policy, b_policy) = (policy(&b), policy(&a));
    let initiator = Channel::connect(region.clone(), Role::Initiator, ID, a, a_policy, fixed_random(1)).unwrap();
    let responder = Channel::connect(region.clone(), Role::Responder, ID, b, b_policy, fixed_random(2)).unwrap();
    (region, initiator, responder)
}

fn open() -> (HeapRegion, End, End) {
    let (region, mut initiator, mut responder) = ends();
    while (initiator.state(), responder.state()) != (State::Open, State::Open) {
        initiator.poll().unwrap();
        responder.poll().unwrap();
    }
    (region, initiator, responder)
}

fn flip(region: &HeapRegion, word: usize, bit: u32) {
    region.store(word, region.load(word).unwrap() ^ 1 << bit).unwrap();
}

/// First word of the slot that the initiator's message number `n` after the handshake is in.
fn slot(n: usize) -> usize {
    FIRST + (n + 2) % SLOTS * STRIDE
}

#[test]
fn messages_pass_both_ways_and_the_region_never_holds_them() {
    let (region, mut initiator, mut responder) = open();
    let secret = b"the quick brown fox is a secret today";
    for _ in 0..20 {
        initiator.send(secret).unwrap();
        responder.send(secret).unwrap();
        let memory: Vec<u8> = (0..region.words()).flat_map(|word| region.load(word).unwrap().to_le_bytes()).collect();
        assert!(!memory.windows(8).any(|window| window == &secret[..8]));
        assert_eq!(**responder.recv().unwrap().unwrap(), secret[..]);
        assert_eq!(**initiator.recv().unwrap().unwrap(), secret[..]);
    }
    assert_eq!(initiator.transcript(), responder.transcript());
    assert!(initiator.transcript().is_some());
    assert_eq!(initiator.peer().unwrap().ak(), &FakeTpm::new(2).name());
    assert_eq!(responder.peer().unwrap().ak(), &FakeTpm::new(1).name());
}

#[test]
fn before_the_handshake_is_done_nothing_can_be_sent_or_received() {
    let (_, mut initiator, mut responder) = ends();
    assert!(matches!(initiator.send(b"early"), Err(Error::NotOpen { state: State::Start })));
    assert!(matches!(responder.recv(), Err(Error::NotOpen { state: State::Start })));
    assert_eq!(responder.poll().unwrap(), State::Start);
    assert_eq!(initiator.poll().unwrap(), State::AwaitingAnswer);
    assert_eq!(responder.poll().unwrap(), State::AwaitingProof);
    assert_eq!(initiator.poll().unwrap(), State::Open);
    assert_eq!(responder.poll().unwrap(), State::Open);
}

#[test]
fn waiting_ends_when_the_caller_says_so_and_may_be_resumed() {
    let (_, mut initiator, mut responder) = ends();
    let mut patience = 3;
    let waited = initiator.open(|| {
        patience -= 1;
        patience > 0
    });
    assert!(matches!(waited, Err(Error::GaveUp { state: State::AwaitingAnswer })));
    assert_eq!(patience, 0);
    initiator
        .open(|| {
            responder.poll().unwrap();
            true
        })
        .unwrap();
}

#[test]
fn a_full_ring_and_an_overlong_message_leave_the_channel_open() {
    let (_, mut initiator, mut responder) = open();
    let len = MAX_MESSAGE + 1;
    assert!(matches!(initiator.send(&vec![0; len]), Err(Error::Record(RecordError::TooLong { len: l })) if l == len));
    for _ in 0..SLOTS {
        initiator.send(&[1; MAX_MESSAGE]).unwrap();
    }
    assert!(matches!(initiator.send(b"one more"), Err(Error::Ring(RingError::Full))));
    for _ in 0..SLOTS {
        assert_eq!(**responder.recv().unwrap().unwrap(), [1; MAX_MESSAGE]);
    }
    initiator.send(b"one more").unwrap();
    assert_eq!(**responder.recv().unwrap().unwrap(), *b"one more");
}

#[test]
fn a_goodbye_comes_after_the_last_message() {
    let (_, mut initiator, mut responder) = open();
    initiator.send(b"last").unwrap();
    initiator.close();
    assert!(matches!(initiator.send(b"later"), Err(Error::Closed)));
    assert_eq!(**responder.recv().unwrap().unwrap(), *b"last");
    assert!(matches!(responder.recv(), Err(Error::ClosedByPeer)));
    assert!(matches!(responder.recv(), Err(Error::Closed)));
    assert!(matches!(responder.poll(), Err(Error::Closed)));
}

#[test]
fn a_bit_flipped_in_any_byte_of_a_slot_in_use_is_detected() {
    let message = b"attack at dawn";
    let in_use = 32 + message.len() + 16;
    for byte in 0..in_use {
        let (region, mut initiator, mut responder) = open();
        initiator.send(message).unwrap();
        flip(&region, slot(0) + byte / 8, (byte % 8 * 8 + byte % 7) as u32);
        match responder.recv() {
            // Only the state word can make the message look not yet sent; then it is not delivered.
            Ok(None) => assert_eq!(byte, 0),
            Ok(Some(message)) => panic!("byte {byte} was changed and {message:?} delivered"),
            Err(error) => {
                assert!(error.is_final(), "byte {byte}: {error}");
                assert_eq!(responder.state(), State::Closed);
            }
        }
    }
}

#[test]
fn a_bit_flipped_in_any_byte_of_a_handshake_slot_is_detected() {
    // Message 1 is 32 bytes of payload; 2 and 3 hold an identity, whose sealed bytes are all alike.
    let ring_b = FIRST + SLOTS * STRIDE;
    for (first, bytes, polls) in [(FIRST, 64, 0), (ring_b, 200, 1), (FIRST + STRIDE, 200, 2)] {
        for byte in 0..bytes {
            let (region, mut initiator, mut responder) = ends();
            initiator.poll().unwrap();
            let mut results = Vec::new();
            for step in 0..4 {
                if step == polls {
                    flip(&region, first + byte / 8, (byte % 8 * 8 + byte % 7) as u32);
                }
                let (even, odd) = (&mut responder, &mut initiator);
                results.push(if step % 2 == 0 { even.poll() } else { odd.poll() });
            }
            let failed = results.iter().any(Result::is_err);
            let open = (initiator.state(), responder.state()) == (State::Open, State::Open);
            assert!(!open && (failed || byte < 8), "slot word {first}, byte {byte}: {results:?}");
        }
    }
}

#[test]
fn a_replayed_slot_is_detected_even_with_its_numbers_repaired() {
    let (region, mut initiator, mut responder) = open();
    initiator.send(b"pay 100").unwrap();
    let old: Vec<u64> = (0..STRIDE).map(|word| region.load(slot(0) + word).unwrap()).collect();
    assert!(responder.recv().unwrap().is_some());
    let next = slot(1);
    for (word, value) in old.iter().enumerate() {
        region.store(next + word, *value).unwrap();
    }
    // Position 3 is still in the first lap, so its published state is the old slot's; its number is not.
    region.store(next + 1, 3).unwrap();
    assert!(matches!(responder.recv(), Err(Error::Record(RecordError::Forged { number: 1 }))));
}

#[test]
fn swapped_slots_are_detected_even_with_their_numbers_repaired() {
    let (region, mut initiator, mut responder) = open();
    initiator.send(b"first one").unwrap();
    initiator.send(b"second one").unwrap();
    for word in 2..STRIDE {
        let (a, b) = (region.load(slot(0) + word).unwrap(), region.load(slot(1) + word).unwrap());
        region.store(slot(0) + word, b).unwrap();
        region.store(slot(1) + word, a).unwrap();
    }
    assert!(matches!(responder.recv(), Err(Error::Record(RecordError::Forged { number: 0 }))));
}

#[test]
fn a_message_reflected_to_its_sender_is_detected() {
    let (region, mut initiator, _) = open();
    initiator.send(b"echo").unwrap();
    // The initiator's first record is at position 2 of its ring, the responder's at position 1 of the other.
    let to = FIRST + (SLOTS + 1) * STRIDE;
    for word in 0..STRIDE {
        region.store(to + word, region.load(slot(0) + word).unwrap()).unwrap();
    }
    region.store(to + 1, 1).unwrap();
    assert!(matches!(initiator.recv(), Err(Error::Record(RecordError::Forged { number: 0 }))));
}

#[test]
fn a_truncated_message_is_detected() {
    let (region, mut initiator, mut responder) = open();
    initiator.send(b"do not shorten me").unwrap();
    let shape = region.load(slot(0) + 2).unwrap();
    region.store(slot(0) + 2, shape - 1).unwrap();
    assert!(matches!(responder.recv(), Err(Error::Record(RecordError::Forged { number: 0 }))));
}

#[test]
fn a_handshake_message_in_an_open_channel_closes_it() {
    let (region, mut initiator, mut responder) = open();
    initiator.send(b"data").unwrap();
    let len = region.load(slot(0) + 2).unwrap() & 0xffff_ffff;
    region.store(slot(0) + 2, len | 1 << 32).unwrap();
    assert!(matches!(responder.recv(), Err(Error::Unexpected { .. })));
    assert_eq!(responder.state(), State::Closed);
}

#[test]
fn after_one_forgery_nothing_is_believed_any_more() {
    let (region, mut initiator, mut responder) = open();
    initiator.send(b"bad").unwrap();
    initiator.send(b"good").unwrap();
    flip(&region, slot(0) + 4, 3);
    assert!(matches!(responder.recv(), Err(Error::Record(RecordError::Forged { .. }))));
    assert!(matches!(responder.recv(), Err(Error::Closed)));
    assert!(matches!(responder.send(b"reply"), Err(Error::Closed)));
    assert!(responder.peer().is_none());
}

#[test]
fn a_region_too_small_and_random_bytes_that_fail_are_refused() {
    let connect = |words, random: fn(&mut [u8]) -> Result<(), bulla_channel::BoxError>| {
        let peer = policy(&FakeTpm::new(2));
        Channel::connect(HeapRegion::new(words), Role::Initiator, ID, FakeTpm::new(1), peer, random).err()
    };
    assert!(matches!(connect(600, |_| Ok(())), Some(Error::Ring(RingError::RegionTooSmall { words: 600 }))));
    assert!(matches!(connect(4096, |_| Err("no".into())), Some(Error::Entropy(_))));
}

/// What the host does to the region, and when.
#[derive(Clone, Debug)]
enum Attack {
    Flip(usize, u32),
    Set(usize, u64),
    Copy(usize, usize),
    Swap(usize, usize),
}

fn attack(region: &HeapRegion, attack: &Attack) {
    let words = region.words();
    // Most of the region is never used: aim at slots' heads, mostly.
    let word = |at: usize| (FIRST + at / 64 % (2 * SLOTS) * STRIDE + at % 64) % words;
    let slot = |at: usize| FIRST + at % (2 * SLOTS) * STRIDE;
    let read = |at: usize| region.load(at).unwrap();
    match attack {
        Attack::Flip(at, bit) => flip(region, word(*at), bit % 64),
        Attack::Set(at, value) => region.store(word(*at), *value).unwrap(),
        Attack::Copy(from, to) => {
            for n in 0..STRIDE {
                region.store(slot(*to) + n, read(slot(*from) + n)).unwrap();
            }
        }
        Attack::Swap(a, b) => {
            for n in 0..STRIDE {
                let (x, y) = (read(slot(*a) + n), read(slot(*b) + n));
                region.store(slot(*a) + n, y).unwrap();
                region.store(slot(*b) + n, x).unwrap();
            }
        }
    }
}

fn attacks() -> impl Strategy<Value = Vec<(usize, Attack)>> {
    let one = prop_oneof![
        (0_usize..512, any::<u32>()).prop_map(|(at, bit)| Attack::Flip(at, bit)),
        (0_usize..512, prop_oneof![0_u64..12, any::<u64>()]).prop_map(|(at, value)| Attack::Set(at, value)),
        (0_usize..8, 0_usize..8).prop_map(|(from, to)| Attack::Copy(from, to)),
        (0_usize..8, 0_usize..8).prop_map(|(a, b)| Attack::Swap(a, b)),
    ];
    proptest::collection::vec((0_usize..40, one), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the host does: each end gets a prefix of what the other sent, unchanged, or an error, after which
    /// it gets nothing.
    #[test]
    fn a_hostile_host_can_stop_the_conversation_and_nothing_else(attacks in attacks()) {
        let (region, initiator, responder) = ends();
        let mut ends = [initiator, responder];
        let mut sent = [0_u32, 0];
        let mut received = [0_u32, 0];
        for step in 0..40 {
            for (_, one) in attacks.iter().filter(|(at, _)| *at == step) {
                attack(&region, one);
            }
            for me in 0..2 {
                let end = &mut ends[me];
                let was = end.state();
                let polled = end.poll();
                prop_assert_eq!(polled.is_err(), end.state() == State::Closed);
                prop_assert!(was != State::Closed || matches!(polled, Err(Error::Closed)));
                if end.send(format!("message {} of {me}", sent[me]).as_bytes()).is_ok() {
                    sent[me] += 1;
                }
                if let Ok(Some(message)) = end.recv() {
                    let other = 1 - me;
                    prop_assert!(received[me] < sent[other]);
                    let expected = format!("message {} of {other}", received[me]);
                    prop_assert_eq!(message.as_slice(), expected.as_bytes());
                    received[me] += 1;
                }
            }
        }
        if attacks.is_empty() {
            prop_assert!(received[0] > 30 && received[1] > 30);
        }
    }
}
