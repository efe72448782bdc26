//! The translation cache: linear page → host page, with what may be done there without asking.

use std::sync::Arc;

use super::PAGE;
use super::ram::{Map, Plain, read, swap_if, write};

/// Entries for each kind of access right.
const ENTRIES: usize = 512;
/// Generations of entries that fit the low bits of a tag.
const GENERATIONS: u64 = PAGE - 1;

/// Whose rights an access has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mmu {
    /// CPL 0–2, or an implicit access; SMAP applies.
    Supervisor = 0,
    /// CPL 0–2 with RFLAGS.AC: user pages allowed in spite of SMAP.
    SupervisorAc = 1,
    /// CPL 3.
    User = 2,
    /// CPL 3 with alignment checks on: nothing is remembered, so that every access is looked at.
    UserAligned = 3,
}

/// What is done with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Data read.
    Read,
    /// Data write.
    Write,
    /// Instruction fetch.
    Fetch,
}

/// Says whether a page may be written without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePermit {
    /// The page holds decoded code or the like: every write goes the slow way.
    Ask,
    /// Ordinary memory.
    Free,
}

/// Tags are the page's linear address with the generation in its low bits; 0 never matches.
#[derive(Clone, Copy, Default)]
struct Entry {
    read: u64,
    write: u64,
    fetch: u64,
    host: usize,
}

/// See the module.
pub struct Tlb {
    map: Arc<Map>,
    entries: Box<[[Entry; ENTRIES]; 4]>,
    generation: u64,
    /// Linear ranges of large pages seen since the last flush, as one covering range.
    large: (u64, u64),
}

impl Tlb {
    /// Empty, in front of `map`.
    pub fn new(map: Arc<Map>) -> Self {
        Self { map, entries: Box::new([[Entry::default(); ENTRIES]; 4]), generation: 1, large: (u64::MAX, 0) }
    }

    /// The memory behind.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Puts other memory behind; forgets everything.
    pub fn set_map(&mut self, map: Arc<Map>) {
        // Entries of every generation go, since they point into the old map (rule 2).
        self.entries.fill([Entry::default(); ENTRIES]);
        self.generation = 1;
        self.map = map;
    }

    /// Forgets every translation.
    pub fn flush(&mut self) {
        self.generation += 1;
        if self.generation >= GENERATIONS {
            self.entries.fill([Entry::default(); ENTRIES]);
            self.generation = 1;
        }
        self.large = (u64::MAX, 0);
    }

    /// Forgets what INVLPG must. True when that was everything.
    pub fn flush_page(&mut self, la: u64) -> bool {
        if (self.large.0..=self.large.1).contains(&la) {
            self.flush();
            return true;
        }
        for set in self.entries.iter_mut() {
            set[index(la)] = Entry::default();
        }
        false
    }

    /// From now on writes to the page at `gpa` ask again.
    pub fn forget_writes(&mut self, gpa: u64) {
        let Some((_, host)) = self.map.find(gpa & !(PAGE - 1)) else { return };
        for entry in self.entries.iter_mut().flatten() {
            if entry.host == host {
                entry.write = 0;
            }
        }
    }

    /// Remembers that `la`'s page is at `gpa`'s, for `access`. Nothing happens where there is no memory. `large`: the
    /// bytes of the page it is a piece of.
    pub fn fill(&mut self, mmu: Mmu, la: u64, gpa: u64, access: Access, permit: WritePermit, large: u64) {
        let Some((slot, host)) = self.map.find(gpa & !(PAGE - 1)) else { return };
        if mmu == Mmu::UserAligned && access != Access::Fetch {
            return;
        }
        if large > PAGE {
            let start = la & !(large - 1);
            self.large = (self.large.0.min(start), self.large.1.max(start | (large - 1)));
        }
        let tag = la & !(PAGE - 1) | self.generation;
        let entry = &mut self.entries[mmu as usize][index(la)];
        if entry.host != host || (entry.read | entry.write | entry.fetch) != tag {
            *entry = Entry { host, ..Entry::default() };
        }
        match access {
            Access::Read => entry.read = tag,
            Access::Fetch => entry.fetch = tag,
            Access::Write => {
                if permit == WritePermit::Free && !slot.read_only {
                    slot.mark_dirty(gpa);
                    entry.write = tag;
                }
            }
        }
    }

    #[inline(always)]
    fn tag<T: Plain>(&self, la: u64) -> u64 {
        // The page of the last byte: an access that crosses into the next page matches no entry of the first one's.
        la.wrapping_add(T::BYTES as u64 - 1) & !(PAGE - 1) | self.generation
    }

    /// Reads, if the translation is known.
    #[inline(always)]
    pub fn load<T: Plain>(&self, mmu: Mmu, la: u64) -> Option<T> {
        let entry = &self.entries[mmu as usize][index(la)];
        if entry.read != self.tag::<T>(la) {
            return None;
        }
        // SAFETY: the tag says that the entry is of this map and the value is inside the page (rules 1 and 2).
        Some(unsafe { read(entry.host + (la % PAGE) as usize) })
    }

    /// Writes, if the translation is known and the page may be written. False: nothing was done.
    #[inline(always)]
    pub fn store<T: Plain>(&self, mmu: Mmu, la: u64, value: T) -> bool {
        let entry = &self.entries[mmu as usize][index(la)];
        if entry.write != self.tag::<T>(la) {
            return false;
        }
        // SAFETY: the tag says that the entry is of this map and the value is inside the page (rules 1 and 2).
        unsafe { write(entry.host + (la % PAGE) as usize, value) };
        true
    }

    /// Replaces a value by a function of it, if the translation is known and the page may be written. With `lock` the
    /// step is atomic for everyone who looks at an aligned value.
    #[inline(always)]
    pub fn update<T: Plain>(&self, mmu: Mmu, la: u64, lock: bool, mut f: impl FnMut(T) -> T) -> bool {
        let entry = &self.entries[mmu as usize][index(la)];
        if entry.write != self.tag::<T>(la) {
            return false;
        }
        let host = entry.host + (la % PAGE) as usize;
        loop {
            // SAFETY: the tag says that the entry is of this map and the value is inside the page (rules 1 and 2).
            let old: T = unsafe { read(host) };
            let new = f(old);
            if !lock {
                // SAFETY: as above.
                unsafe { write(host, new) };
                return true;
            }
            // SAFETY: as above.
            if unsafe { swap_if(host, old, new) } {
                return true;
            }
        }
    }

    /// Copies `bytes` bytes that stay on one page each, if both translations are known and the target may be written.
    /// False: nothing was done. Bytes are copied upwards, in pieces of at most 8.
    pub fn copy(&self, mmu: Mmu, from: u64, to: u64, bytes: usize) -> bool {
        let (source, target) = (&self.entries[mmu as usize][index(from)], &self.entries[mmu as usize][index(to)]);
        let inside = |la: u64| la % PAGE + bytes as u64 <= PAGE;
        if bytes == 0
            || source.read != self.tag::<u8>(from)
            || target.write != self.tag::<u8>(to)
            || !inside(from)
            || !inside(to)
        {
            return false;
        }
        let (source, target) = (source.host + (from % PAGE) as usize, target.host + (to % PAGE) as usize);
        // Two linear pages may be one physical page: pieces must not run ahead of what is copied onto itself.
        if target.wrapping_sub(source) < bytes {
            return false;
        }
        let mut k = 0;
        while k + 8 <= bytes {
            // SAFETY: the tags say that the entries are of this map; the pieces are inside the pages (rules 1 and 2).
            let piece: u64 = unsafe { read(source + k) };
            // SAFETY: as above.
            unsafe { write(target + k, piece) };
            k += 8;
        }
        while k < bytes {
            // SAFETY: as above.
            let piece: u8 = unsafe { read(source + k) };
            // SAFETY: as above.
            unsafe { write(target + k, piece) };
            k += 1;
        }
        true
    }

    /// Writes `count` times the same value, if the translation is known, all is on one page and it may be written.
    pub fn fill_memory<T: Plain>(&self, mmu: Mmu, to: u64, value: T, count: usize) -> bool {
        let target = &self.entries[mmu as usize][index(to)];
        if target.write != self.tag::<u8>(to) || to % PAGE + (count * T::BYTES) as u64 > PAGE {
            return false;
        }
        let host = target.host + (to % PAGE) as usize;
        for k in 0..count {
            // SAFETY: the tag says that the entry is of this map; all is inside the page (rules 1 and 2).
            unsafe { write(host + k * T::BYTES, value) };
        }
        true
    }

    /// Is the page to fetch instructions from known?
    #[inline(always)]
    pub fn fetchable(&self, mmu: Mmu, la: u64) -> bool {
        self.entries[mmu as usize][index(la)].fetch == self.tag::<u8>(la)
    }
}

#[inline(always)]
fn index(la: u64) -> usize {
    (la / PAGE) as usize % ENTRIES
}
