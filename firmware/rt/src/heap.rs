//! The allocator: blocks in power-of-two sizes with a free list each, cut from the front of a bounded region.
//!
//! Nothing is merged, so a program's memory is bounded by the most blocks of each size it ever had at once; that suits
//! programs that either end soon or do the same thing for ever. The block cut last can grow and be given back in place,
//! which is what a growing `Vec` of megabytes needs.
//!
//! Unsafe rules of this module:
//! 1. One vCPU, no interrupts: no two calls at once (see `machine`).
//! 2. A block on a free list belongs to the allocator; its first word is the address of the next one.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

const MIN_SHIFT: u32 = 4;
/// The largest class has blocks of 1 MiB.
const CLASSES: usize = 17;

struct State {
    free: [usize; CLASSES],
    next: usize,
    end: usize,
    started: bool,
}

struct Heap(UnsafeCell<State>);

// SAFETY: rule 1.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(State { free: [0; CLASSES], next: 0, end: 0, started: false }));

unsafe extern "C" {
    static guest_heap_start: u8;
    static guest_heap_end: u8;
}

impl State {
    /// The size class of a layout, if it has one; larger blocks are cut to size and never reused, except the last.
    fn class(layout: &Layout) -> Option<usize> {
        let size = layout.size().max(layout.align()).max(1 << MIN_SHIFT);
        let class = (size.checked_next_power_of_two()?.trailing_zeros() - MIN_SHIFT) as usize;
        (class < CLASSES).then_some(class)
    }

    fn cut(&mut self, size: usize, align: usize) -> usize {
        if !self.started {
            self.started = true;
            self.next = &raw const guest_heap_start as usize;
            self.end = &raw const guest_heap_end as usize;
        }
        let start = self.next.checked_next_multiple_of(align);
        match start.and_then(|s| Some((s, s.checked_add(size)?))) {
            Some((start, end)) if end <= self.end => {
                self.next = end;
                start
            }
            _ => 0,
        }
    }
}

// SAFETY: a block is cut from the region once, lies inside it, has the size and alignment of its class, and is given
// out again only after it came back (rule 2).
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: rule 1.
        let state = unsafe { &mut *self.0.get() };
        let Some(class) = State::class(&layout) else {
            return state.cut(layout.size(), layout.align()) as *mut u8;
        };
        let Some(free) = state.free.get_mut(class) else { return ptr::null_mut() };
        if *free == 0 {
            let size = 1usize << (class as u32 + MIN_SHIFT);
            return state.cut(size, size.min(4096).max(layout.align())) as *mut u8;
        }
        let block = *free;
        // SAFETY: rule 2.
        *free = unsafe { *(block as *const usize) };
        block as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: rule 1.
        let state = unsafe { &mut *self.0.get() };
        let Some(class) = State::class(&layout) else {
            if block as usize + layout.size() == state.next {
                state.next = block as usize;
            }
            return;
        };
        if let Some(free) = state.free.get_mut(class) {
            // SAFETY: the block comes back to us: rule 2.
            unsafe { *block.cast::<usize>() = *free };
            *free = block as usize;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: rule 1.
        let state = unsafe { &mut *self.0.get() };
        let new_layout = Layout::from_size_align(new_size, layout.align()).ok();
        match State::class(&layout) {
            Some(class) if new_layout.as_ref().and_then(State::class) == Some(class) => return block,
            None if block as usize + layout.size() == state.next && new_size > layout.size() => {
                let extra = new_size - layout.size();
                if state.next.checked_add(extra).is_some_and(|end| end <= state.end) {
                    state.next += extra;
                    return block;
                }
            }
            _ => {}
        }
        let Some(new_layout) = new_layout else { return ptr::null_mut() };
        // SAFETY: `alloc` and `dealloc` are called as `GlobalAlloc` says: with the layouts that belong to the blocks.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both blocks hold the smaller of the sizes and are different blocks.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size().min(new_size)) };
            // SAFETY: the caller's block and layout.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

/// Runs `work` with another region as the heap, and then goes on in the one before.
///
/// # Safety
/// Nothing that `work` allocates may be used after it: its result and what it changes must not own or borrow heap.
pub unsafe fn with_heap<T>(memory: &'static mut [u8], work: impl FnOnce() -> T) -> T {
    let next = memory.as_mut_ptr() as usize;
    let other = State { free: [0; CLASSES], next, end: next + memory.len(), started: true };
    // SAFETY: rule 1. Blocks of the region before that come back meanwhile are lost to it, not misused.
    let before = unsafe { core::mem::replace(&mut *HEAP.0.get(), other) };
    let result = work();
    // SAFETY: rule 1; the caller vouches that the other region's blocks are gone.
    unsafe { *HEAP.0.get() = before };
    result
}
