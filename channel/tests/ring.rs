//! The ring over memory that changes under it.
#![cfg(not(loom))]

use bulla_channel::ring::{
    Consumer, Direction, Fetched, HEADER_BYTES, Kind, Layout, MAX_PAYLOAD, Producer, RingError, SLOT_BYTES,
    SLOT_HEADER_BYTES,
};
use bulla_channel::{HeapRegion, Region};
use proptest::prelude::*;

const SLOTS: usize = 4;
const FIRST: usize = HEADER_BYTES / 8;
const STRIDE: usize = SLOT_BYTES / 8;

fn ring() -> (HeapRegion, Producer, Consumer) {
    let region = HeapRegion::new(Layout::bytes_for(SLOTS) / 8);
    let layout = Layout::for_words(region.words()).unwrap();
    let direction = Direction::InitiatorToResponder;
    (region, Producer::new(layout, direction), Consumer::new(layout, direction))
}

fn pop(consumer: &mut Consumer, region: &HeapRegion) -> Result<Option<Vec<u8>>, RingError> {
    let mut slot = Fetched::default();
    Ok(consumer.pop(region, &mut slot)?.then(|| slot.payload().to_vec()))
}

fn flip(region: &HeapRegion, word: usize, bit: u32) {
    region.store(word, region.load(word).unwrap() ^ 1 << bit).unwrap();
}

#[test]
fn messages_come_out_in_order_over_many_laps() {
    let (region, mut producer, mut consumer) = ring();
    for round in 0..10_u8 {
        for n in 0..3 {
            producer.push(&region, Kind::Data, &[round, n]).unwrap();
        }
        for n in 0..3 {
            assert_eq!(pop(&mut consumer, &region), Ok(Some(vec![round, n])));
        }
        assert_eq!(pop(&mut consumer, &region), Ok(None));
    }
}

#[test]
fn a_full_ring_says_so_and_goes_on_when_there_is_room() {
    let (region, mut producer, mut consumer) = ring();
    for _ in 0..SLOTS {
        producer.push(&region, Kind::Data, b"x").unwrap();
    }
    assert_eq!(producer.push(&region, Kind::Data, b"y"), Err(RingError::Full));
    assert_eq!(pop(&mut consumer, &region), Ok(Some(b"x".to_vec())));
    assert_eq!(producer.push(&region, Kind::Data, b"y"), Ok(()));
    assert_eq!(producer.push(&region, Kind::Data, b"z"), Err(RingError::Full));
}

#[test]
fn the_two_directions_share_nothing() {
    let (region, mut producer, _) = ring();
    let layout = Layout::for_words(region.words()).unwrap();
    let mut other = Consumer::new(layout, Direction::ResponderToInitiator);
    for _ in 0..SLOTS {
        producer.push(&region, Kind::Data, &[0xff; MAX_PAYLOAD]).unwrap();
    }
    assert_eq!(pop(&mut other, &region), Ok(None));
}

#[test]
fn overlong_payloads_are_refused() {
    let (region, mut producer, mut consumer) = ring();
    let len = MAX_PAYLOAD + 1;
    assert_eq!(producer.push(&region, Kind::Data, &vec![0; len]), Err(RingError::TooLong { len }));
    assert_eq!(pop(&mut consumer, &region), Ok(None));
}

#[test]
fn every_flipped_bit_of_a_slot_header_is_an_error_an_empty_poll_or_another_kind_or_length() {
    for bit in 0..SLOT_HEADER_BYTES * 8 {
        let (region, mut producer, mut consumer) = ring();
        producer.push(&region, Kind::Data, b"payload").unwrap();
        flip(&region, FIRST + bit / 64, bit as u32 % 64);
        let mut slot = Fetched::default();
        match consumer.pop(&region, &mut slot) {
            // The state word now says "not published".
            Ok(false) => assert_eq!(bit, 0),
            // Kind and length are the record layer's associated data: sealed payloads notice.
            Ok(true) => assert!(slot.kind() != Kind::Data || slot.payload().len() != 7, "bit {bit}"),
            Err(_) => {}
        }
    }
}

#[test]
fn a_slot_replayed_in_the_next_lap_is_refused() {
    let (region, mut producer, mut consumer) = ring();
    producer.push(&region, Kind::Data, b"once").unwrap();
    let old: Vec<u64> = (0..8).map(|word| region.load(FIRST + word).unwrap()).collect();
    for n in 0..SLOTS {
        if n > 0 {
            producer.push(&region, Kind::Data, b"next").unwrap();
        }
        assert!(pop(&mut consumer, &region).unwrap().is_some());
    }
    for (word, value) in old.iter().enumerate() {
        region.store(FIRST + word, *value).unwrap();
    }
    let state = RingError::State { position: 4, found: 1 };
    assert_eq!(pop(&mut consumer, &region), Err(state));
    // The host repairs the state word: the number inside still gives the replay away.
    region.store(FIRST, 3).unwrap();
    assert_eq!(pop(&mut consumer, &region), Err(RingError::Position { position: 4, found: 0 }));
}

#[test]
fn swapped_and_reordered_slots_are_refused() {
    let (region, mut producer, mut consumer) = ring();
    producer.push(&region, Kind::Data, b"first").unwrap();
    producer.push(&region, Kind::Data, b"second").unwrap();
    for word in FIRST..FIRST + STRIDE {
        let (a, b) = (region.load(word).unwrap(), region.load(word + STRIDE).unwrap());
        region.store(word, b).unwrap();
        region.store(word + STRIDE, a).unwrap();
    }
    assert_eq!(pop(&mut consumer, &region), Err(RingError::Position { position: 0, found: 1 }));
}

#[test]
fn a_producer_lied_to_about_room_refuses_or_waits() {
    for (lap, lie) in [(0, 1), (0, u64::MAX), (1, 0), (1, 5), (1, u64::MAX)] {
        let (region, mut producer, mut consumer) = ring();
        for _ in 0..lap * SLOTS {
            producer.push(&region, Kind::Data, b"x").unwrap();
            pop(&mut consumer, &region).unwrap();
        }
        region.store(FIRST, lie).unwrap();
        assert_eq!(
            producer.push(&region, Kind::Data, b"y"),
            Err(RingError::State { position: (lap * SLOTS) as u64, found: lie })
        );
    }
}

#[test]
fn regions_are_sized_in_powers_of_two_within_bounds() {
    let slots = |bytes: usize| Layout::for_words(bytes / 8).map(Layout::slots);
    assert!(matches!(slots(Layout::bytes_for(2) - 8), Err(RingError::RegionTooSmall { .. })));
    assert!(matches!(slots(0), Err(RingError::RegionTooSmall { .. })));
    assert_eq!(slots(Layout::bytes_for(2)), Ok(2));
    assert_eq!(slots(Layout::bytes_for(4) - 8), Ok(2));
    assert_eq!(slots(64 << 20), Ok(1024));
    assert_eq!(Layout::for_words(usize::MAX).map(Layout::slots), Ok(1024));
}

#[test]
fn a_region_of_another_version_is_refused() {
    let (region, ..) = ring();
    let layout = Layout::for_words(region.words()).unwrap();
    assert_eq!(layout.check_header(&region), Ok(false));
    layout.write_header(&region).unwrap();
    assert_eq!(layout.check_header(&region), Ok(true));
    flip(&region, 1, 0);
    assert!(matches!(layout.check_header(&region), Err(RingError::Header { .. })));
}

/// A region that is shorter than it said.
struct Shrunk(HeapRegion);

impl Region for Shrunk {
    fn words(&self) -> usize {
        Layout::bytes_for(SLOTS) / 8
    }
    fn load(&self, index: usize) -> Option<u64> {
        self.0.load(index)
    }
    fn load_acquire(&self, index: usize) -> Option<u64> {
        self.0.load_acquire(index)
    }
    fn store(&self, index: usize, value: u64) -> Option<()> {
        self.0.store(index, value)
    }
    fn store_release(&self, index: usize, value: u64) -> Option<()> {
        self.0.store_release(index, value)
    }
}

#[test]
fn a_region_that_shrinks_is_an_error() {
    let region = Shrunk(HeapRegion::new(FIRST + 6));
    let layout = Layout::for_words(region.words()).unwrap();
    let mut producer = Producer::new(layout, Direction::InitiatorToResponder);
    assert_eq!(producer.push(&region, Kind::Data, &[0; 64]), Err(RingError::OutOfRegion { index: FIRST + 6 }));
}

proptest! {
    #[test]
    fn any_contents_of_the_region_give_a_message_an_error_or_nothing(
        words in proptest::collection::vec(prop_oneof![0_u64..8, any::<u64>()], STRIDE), pops in 1_usize..4)
    {
        let (region, _, mut consumer) = ring();
        for (word, value) in words.iter().enumerate() {
            region.store(FIRST + word, *value).unwrap();
        }
        for _ in 0..pops {
            if let Ok(Some(payload)) = pop(&mut consumer, &region) {
                prop_assert!(payload.len() <= MAX_PAYLOAD);
            }
        }
        prop_assert!(consumer.position() <= 1);
    }

    #[test]
    fn any_payload_round_trips(payload in proptest::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD)) {
        let (region, mut producer, mut consumer) = ring();
        producer.push(&region, Kind::Data, &payload).unwrap();
        prop_assert_eq!(pop(&mut consumer, &region).unwrap().unwrap(), payload);
    }
}
