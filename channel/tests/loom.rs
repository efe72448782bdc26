//! Every interleaving (within loom's bounds) of a producer and a consumer, under the weak memory model.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p bulla-channel --test loom --release
//! ```
#![cfg(loom)]

use std::sync::Arc;

use bulla_channel::Region;
use bulla_channel::ring::{Consumer, Direction, Fetched, HEADER_BYTES, Kind, Layout, Producer, RingError, SLOT_BYTES};
use loom::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 2;
/// Words of a slot that the test's short messages touch; loom need not know of the others.
const USED: usize = 5;

#[derive(Clone)]
struct Sparse(Arc<Vec<AtomicU64>>);

impl Sparse {
    fn new() -> Self {
        Self(Arc::new((0..SLOTS * USED).map(|_| AtomicU64::new(0)).collect()))
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let index = index.checked_sub(HEADER_BYTES / 8)?;
        let (slot, word) = (index / (SLOT_BYTES / 8), index % (SLOT_BYTES / 8));
        (word < USED).then(|| self.0.get(slot * USED + word))?
    }
}

impl Region for Sparse {
    fn words(&self) -> usize {
        Layout::bytes_for(SLOTS) / 8
    }
    fn load(&self, index: usize) -> Option<u64> {
        Some(self.word(index)?.load(Ordering::Relaxed))
    }
    fn load_acquire(&self, index: usize) -> Option<u64> {
        Some(self.word(index)?.load(Ordering::Acquire))
    }
    fn store(&self, index: usize, value: u64) -> Option<()> {
        self.word(index)?.store(value, Ordering::Relaxed);
        Some(())
    }
    fn store_release(&self, index: usize, value: u64) -> Option<()> {
        self.word(index)?.store(value, Ordering::Release);
        Some(())
    }
}

/// `messages` beyond the number of slots make the producer reuse a slot, so that acknowledgement is tested too.
fn transfer(messages: u64) {
    loom::model(move || {
        let region = Sparse::new();
        let layout = Layout::for_words(region.words()).unwrap();
        let theirs = region.clone();
        let producer = loom::thread::spawn(move || {
            let mut producer = Producer::new(layout, Direction::InitiatorToResponder);
            for n in 0..messages {
                while producer.push(&theirs, Kind::Data, &(n + 100).to_le_bytes()) == Err(RingError::Full) {
                    loom::thread::yield_now();
                }
            }
        });
        let mut consumer = Consumer::new(layout, Direction::InitiatorToResponder);
        let mut slot = Fetched::default();
        for n in 0..messages {
            while !consumer.pop(&region, &mut slot).unwrap() {
                loom::thread::yield_now();
            }
            assert_eq!(slot.payload(), (n + 100).to_le_bytes());
        }
        producer.join().unwrap();
    });
}

#[test]
fn a_message_is_seen_whole_or_not_at_all() {
    transfer(1);
}

#[test]
fn a_slot_is_reused_only_after_it_was_read() {
    transfer(3);
}
