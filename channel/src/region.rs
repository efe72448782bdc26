//! What a shared region is to this crate: an array of 64-bit words that somebody else may
//! change at any moment.
//!
//! There is deliberately no way to borrow bytes out of a region. Every access is one atomic load
//! or store of one word, so a change made by the other side in the middle of our work is a value
//! we did not expect, never undefined behaviour.
#![forbid(unsafe_code)]

use alloc::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// Shared memory as an array of little-endian 64-bit words.
///
/// Implementations translate between native values and little-endian memory. `None` means that
/// `index` is outside the region; the ring only ever asks for indices it derived from
/// [`Region::words`], so a `None` there is a bug or a region that shrank.
pub trait Region {
    /// Number of 64-bit words in the region; must not change.
    fn words(&self) -> usize;
    /// Loads a word; nothing is ordered by it.
    fn load(&self, index: usize) -> Option<u64>;
    /// Loads a word; what follows in program order is not done before it.
    fn load_acquire(&self, index: usize) -> Option<u64>;
    /// Stores a word; nothing is ordered by it.
    fn store(&self, index: usize, value: u64) -> Option<()>;
    /// Stores a word; what precedes in program order is visible to whoever acquires it.
    fn store_release(&self, index: usize, value: u64) -> Option<()>;
}

/// A region inside one process, for tests, benchmarks and threads. Clones share the memory.
#[derive(Clone, Debug)]
pub struct HeapRegion {
    words: Arc<[AtomicU64]>,
}

impl HeapRegion {
    /// A zeroed region of `words` 64-bit words.
    #[must_use]
    pub fn new(words: usize) -> Self {
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Region for HeapRegion {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn load(&self, index: usize) -> Option<u64> {
        Some(u64::from_le(self.words.get(index)?.load(Ordering::Relaxed)))
    }

    fn load_acquire(&self, index: usize) -> Option<u64> {
        Some(u64::from_le(self.words.get(index)?.load(Ordering::Acquire)))
    }

    fn store(&self, index: usize, value: u64) -> Option<()> {
        self.words.get(index)?.store(value.to_le(), Ordering::Relaxed);
        Some(())
    }

    fn store_release(&self, index: usize, value: u64) -> Option<()> {
        self.words.get(index)?.store(value.to_le(), Ordering::Release);
        Some(())
    }
}
