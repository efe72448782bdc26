//! A region at a raw address: guest memory seen by the guest, or a mapping seen by a Linux process.
//!
//! This is the only module of the crate that contains `unsafe`. Its rules:
//!
//! 1. No Rust reference to shared memory outlives one access, and none is ever made to anything
//!    but an `AtomicU64`, whose contents may legally change under us.
//! 2. An address is computed only after `index < words` has been checked, and `words * 8` bytes
//!    from `base` are mapped, readable and writable for as long as the value lives (promised by the
//!    caller of [`RawRegion::new`]).
//! 3. `base` is aligned to 8 bytes (checked at construction, so every word is aligned).
//! 4. Everything this process does to the memory is done by atomic accesses (promised by the caller
//!    of [`RawRegion::new`]); what another machine, process or hypervisor does to it cannot break
//!    more than the values.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::region::Region;

/// A shared region at a fixed address. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct RawRegion {
    base: NonNull<u64>,
    words: usize,
}

// SAFETY: rule 4: every access is atomic, so it does not matter which thread makes it.
unsafe impl Send for RawRegion {}

impl RawRegion {
    /// A region of `bytes` bytes (rounded down to whole words) at `base`; `None` if `base` is null
    /// or not aligned to 8 bytes, or if the region would wrap around the address space.
    ///
    /// # Safety
    /// `bytes` bytes at `base` are mapped readable and writable until the last use of the returned value
    /// (rule 2), and no other code of this program accesses them except atomically (rule 4).
    #[must_use]
    pub unsafe fn new(base: *mut u8, bytes: usize) -> Option<Self> {
        let base = NonNull::new(base)?.cast::<u64>();
        (base.is_aligned() && base.addr().get().checked_add(bytes).is_some()).then_some(Self { base, words: bytes / 8 })
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.words {
            return None;
        }
        // SAFETY: rule 2: `index` is inside the region, whose extent was promised to be mapped.
        let word = unsafe { self.base.add(index) };
        // SAFETY: rules 1, 3 and 4: aligned, mapped, and only ever accessed atomically; the reference is
        // used for one access by the methods below and does not leave this module.
        Some(unsafe { AtomicU64::from_ptr(word.as_ptr()) })
    }
}

impl Region for RawRegion {
    fn words(&self) -> usize {
        self.words
    }

    fn load(&self, index: usize) -> Option<u64> {
        Some(u64::from_le(self.word(index)?.load(Ordering::Relaxed)))
    }

    fn load_acquire(&self, index: usize) -> Option<u64> {
        Some(u64::from_le(self.word(index)?.load(Ordering::Acquire)))
    }

    fn store(&self, index: usize, value: u64) -> Option<()> {
        self.word(index)?.store(value.to_le(), Ordering::Relaxed);
        Some(())
    }

    fn store_release(&self, index: usize, value: u64) -> Option<()> {
        self.word(index)?.store(value.to_le(), Ordering::Release);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn null_and_misaligned_bases_are_refused_and_indices_are_bounded() {
        let mut memory = vec![0_u64; 4];
        let base = memory.as_mut_ptr().cast::<u8>();
        // SAFETY: null is refused before anything is accessed.
        assert!(unsafe { RawRegion::new(core::ptr::null_mut(), 32) }.is_none());
        // SAFETY: a misaligned base is refused before anything is accessed.
        assert!(unsafe { RawRegion::new(base.wrapping_add(1), 24) }.is_none());
        // SAFETY: `memory` is 32 bytes, lives to the end of the test and is not touched otherwise.
        let region = unsafe { RawRegion::new(base, 31) }.unwrap();
        assert_eq!(region.words(), 3);
        assert_eq!(region.store(2, 0x0102), Some(()));
        assert_eq!(region.store_release(1, 7), Some(()));
        assert_eq!(region.load_acquire(2), Some(0x0102));
        assert_eq!(region.load(1), Some(7));
        assert_eq!(region.load(3), None);
        assert_eq!(region.store(usize::MAX, 1), None);
    }
}
