//! Host memory as the guest's physical memory.

use std::cell::UnsafeCell;
use std::ptr::with_exposed_provenance_mut;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::PAGE;

/// A piece of host memory that stays where it is.
///
/// # Safety
/// `base()` must point to `len()` bytes that are mapped readable and writable for as long as the value lives, and that
/// nobody holds a Rust reference into.
pub unsafe trait HostMemory: Send + Sync {
    /// First byte, aligned to a page.
    fn base(&self) -> *mut u8;
    /// Bytes, a multiple of the page size.
    fn len(&self) -> usize;
    /// Is there nothing?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Memory of this process's own, filled with zeros.
pub struct OwnedMemory(Box<[OwnedPage]>);

#[repr(C, align(4096))]
struct OwnedPage(UnsafeCell<[u8; PAGE as usize]>);

// SAFETY: the cells are only reached through `HostMemory::base`, under rule 3 of the module above.
unsafe impl Sync for OwnedMemory {}

impl OwnedMemory {
    /// `pages` pages of zeros.
    pub fn new(pages: usize) -> Self {
        Self((0..pages).map(|_| OwnedPage(UnsafeCell::new([0; PAGE as usize]))).collect())
    }
}

// SAFETY: a boxed slice stays where it is and is as long as it says; references to its bytes are never made.
unsafe impl HostMemory for OwnedMemory {
    fn base(&self) -> *mut u8 {
        self.0.first().map_or(std::ptr::null_mut(), |page| page.0.get().cast())
    }
    fn len(&self) -> usize {
        self.0.len() * PAGE as usize
    }
}

/// A value that any bytes are one of. Sealed: rule 3 counts on the sizes.
pub trait Plain: Copy + sealed::Sealed + 'static {
    /// Bytes.
    const BYTES: usize = size_of::<Self>();
    /// The low bytes of a wide value.
    fn narrow(value: u128) -> Self;
    /// Zero-extended.
    fn widen(self) -> u128;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl sealed::Sealed for $t {}
        impl Plain for $t {
            #[inline(always)]
            fn narrow(value: u128) -> Self { value as $t }
            #[inline(always)]
            fn widen(self) -> u128 { self.into() }
        }
    )*};
}
plain!(u8, u16, u32, u64, u128);

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T: Plain>(T);

/// Reads at a host address.
///
/// # Safety
/// `T::BYTES` bytes at `host` are inside memory that rule 1 keeps alive.
#[inline(always)]
pub(super) unsafe fn read<T: Plain>(host: usize) -> T {
    // SAFETY: as the caller promises; `Unaligned` has alignment 1.
    unsafe { with_exposed_provenance_mut::<Unaligned<T>>(host).read_volatile().0 }
}

/// Writes at a host address.
///
/// # Safety
/// As for [`read`].
#[inline(always)]
pub(super) unsafe fn write<T: Plain>(host: usize, value: T) {
    // SAFETY: as the caller promises; `Unaligned` has alignment 1.
    unsafe { with_exposed_provenance_mut::<Unaligned<T>>(host).write_volatile(Unaligned(value)) }
}

/// Replaces `old` by `new` if it is still there; atomic when the address is aligned to its size (at most 8 bytes).
///
/// # Safety
/// As for [`read`].
pub(super) unsafe fn swap_if<T: Plain>(host: usize, old: T, new: T) -> bool {
    macro_rules! atomic {
        ($a:ty, $t:ty) => {{
            // SAFETY: as the caller promises; aligned as just checked; atomics may alias volatile accesses.
            let cell = unsafe { <$a>::from_ptr(with_exposed_provenance_mut::<$t>(host)) };
            cell.compare_exchange(old.widen() as $t, new.widen() as $t, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        }};
    }
    if host.is_multiple_of(T::BYTES) {
        match T::BYTES {
            1 => return atomic!(AtomicU8, u8),
            2 => return atomic!(AtomicU16, u16),
            4 => return atomic!(AtomicU32, u32),
            8 => return atomic!(AtomicU64, u64),
            _ => {}
        }
    }
    // SAFETY: as the caller promises.
    let now: T = unsafe { read(host) };
    if now.widen() != old.widen() {
        return false;
    }
    // SAFETY: as the caller promises.
    unsafe { write(host, new) };
    true
}

/// A guest-physical range with memory behind it.
#[derive(Clone)]
pub struct Slot {
    /// Guest-physical address, a multiple of the page size.
    pub gpa: u64,
    /// The memory.
    pub memory: Arc<dyn HostMemory>,
    /// Guest writes go to [`crate::Bus::mmio_write`] instead.
    pub read_only: bool,
    /// Others than this guest's processors write here: code from it is decoded anew each time.
    pub shared: bool,
    /// One bit a page, set when the guest writes to it.
    pub dirty: Option<Arc<[AtomicU64]>>,
}

impl Slot {
    /// Memory at `gpa`.
    pub fn new(gpa: u64, memory: Arc<dyn HostMemory>) -> Self {
        Self { gpa, memory, read_only: false, shared: false, dirty: None }
    }

    fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    pub(super) fn mark_dirty(&self, gpa: u64) {
        if let Some(bits) = &self.dirty {
            let page = (gpa - self.gpa) / PAGE;
            if let Some(word) = bits.get((page / 64) as usize) {
                word.fetch_or(1 << (page % 64), Ordering::Relaxed);
            }
        }
    }
}

/// Why a slot was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest-physical range {gpa:#x} + {len:#x} is empty, not aligned to pages, too high or taken")]
pub struct BadSlot {
    /// First address.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
}

/// The guest's memory at one moment. Never changes; a change makes another map.
#[derive(Clone, Default)]
pub struct Map {
    slots: Vec<Slot>,
    /// Where each slot lies in the guest and in the host: asked for with every page, so not each time through `memory`.
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    gpa: u64,
    len: u64,
    host: usize,
}

impl Map {
    fn new(slots: Vec<Slot>) -> Self {
        let place = |s: &Slot| Place { gpa: s.gpa, len: s.len(), host: s.memory.base().expose_provenance() };
        let places = slots.iter().map(place).collect();
        Self { slots, places }
    }

    /// The slots, in ascending order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slot with the page at `gpa`, and the host address of `gpa` itself.
    #[inline]
    pub(super) fn find(&self, gpa: u64) -> Option<(&Slot, usize)> {
        self.places.iter().zip(&self.slots).find_map(|(place, slot)| {
            let offset = gpa.wrapping_sub(place.gpa);
            (offset < place.len).then(|| (slot, place.host + offset as usize))
        })
    }

    /// Is there memory at `gpa` that the guest may write?
    pub fn is_ram(&self, gpa: u64) -> bool {
        self.find(gpa).is_some_and(|(slot, _)| !slot.read_only)
    }

    /// May others than this guest's processors write at `gpa`?
    pub(crate) fn is_shared(&self, gpa: u64) -> bool {
        self.find(gpa).is_some_and(|(slot, _)| slot.shared)
    }

    /// Reads; `None` where there is no memory or the value crosses a page.
    pub fn read<T: Plain>(&self, gpa: u64) -> Option<T> {
        if gpa % PAGE + T::BYTES as u64 > PAGE {
            return None;
        }
        let (_, host) = self.find(gpa)?;
        // SAFETY: inside one page of a slot of this map (rule 1).
        Some(unsafe { read(host) })
    }

    /// Writes; `None` where there is no writable memory or the value crosses a page.
    pub fn write<T: Plain>(&self, gpa: u64, value: T) -> Option<()> {
        if gpa % PAGE + T::BYTES as u64 > PAGE {
            return None;
        }
        let (slot, host) = self.find(gpa)?;
        if slot.read_only {
            return None;
        }
        slot.mark_dirty(gpa);
        // SAFETY: inside one page of a slot of this map (rule 1).
        unsafe { write(host, value) };
        Some(())
    }

    /// Replaces `old` by `new` if it is there: how page walks set accessed and dirty bits.
    pub fn swap_if<T: Plain>(&self, gpa: u64, old: T, new: T) -> Option<bool> {
        if gpa % PAGE + T::BYTES as u64 > PAGE {
            return None;
        }
        let (slot, host) = self.find(gpa)?;
        if slot.read_only {
            return None;
        }
        slot.mark_dirty(gpa);
        // SAFETY: inside one page of a slot of this map (rule 1).
        Some(unsafe { swap_if(host, old, new) })
    }
}

/// The memory that the processors of one guest share. It can change while they run.
#[derive(Default)]
pub struct AddressSpace {
    map: RwLock<(u64, Arc<Map>)>,
}

/// Keeps the map from changing.
pub struct Entered<'a>(RwLockReadGuard<'a, (u64, Arc<Map>)>);

impl Entered<'_> {
    /// Another number for every change.
    pub fn version(&self) -> u64 {
        self.0.0
    }
    /// The map.
    pub fn map(&self) -> &Arc<Map> {
        &self.0.1
    }
}

impl AddressSpace {
    /// Holds off changes until the value is dropped.
    pub fn enter(&self) -> Entered<'_> {
        Entered(self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a slot.
    ///
    /// # Errors
    /// [`BadSlot`] when the range is no whole pages, ends beyond 2⁵² or touches another slot.
    pub fn add(&self, slot: Slot) -> Result<(), BadSlot> {
        let (gpa, len) = (slot.gpa, slot.len());
        let bad = BadSlot { gpa, len };
        let end = gpa.checked_add(len).ok_or(bad)?;
        if len == 0 || gpa % PAGE != 0 || len % PAGE != 0 || end > 1 << 52 {
            return Err(bad);
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut slots = map.1.slots.clone();
        if slots.iter().any(|s| s.gpa < end && gpa < s.gpa + s.len()) {
            return Err(bad);
        }
        let at = slots.partition_point(|s| s.gpa < gpa);
        slots.insert(at, slot);
        *map = (map.0 + 1, Arc::new(Map::new(slots)));
        Ok(())
    }

    /// Removes the slot at `gpa`; when this returns no processor of the guest reaches its memory any more. `false`: there
    /// is none.
    pub fn remove(&self, gpa: u64) -> bool {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut slots = map.1.slots.clone();
        let before = slots.len();
        slots.retain(|s| s.gpa != gpa);
        let removed = slots.len() < before;
        *map = (map.0 + 1, Arc::new(Map::new(slots)));
        removed
    }

    /// The dirty bits of the slot at `gpa` since the last call, cleared. `None`: no such slot, or it keeps none.
    pub fn take_dirty(&self, gpa: u64) -> Option<Vec<u64>> {
        // Processors stand still while the lock is held, and forget which pages they may write without asking.
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let bits = map.1.slots.iter().find(|s| s.gpa == gpa)?.dirty.clone()?;
        map.0 += 1;
        Some(bits.iter().map(|word| word.swap(0, Ordering::Relaxed)).collect())
    }
}
