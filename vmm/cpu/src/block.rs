//! Decoded code, cached by where it lies in physical memory.
//!
//! A block is a run of instructions that ends behind a jump, behind an instruction that changes how code is decoded or
//! allowed, or at the end of a page. Physical addresses are the key, so that a change of address space costs nothing
//! and two mappings of the same page share their blocks. Writes to pages with blocks take the slow way through memory
//! ([`CodePages`]) and drop exactly the blocks that they touch.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::core::Code;
use crate::insn::Insn;
use crate::mem::PAGE;

/// Most instructions in a block.
pub(crate) const MAX_INSNS: usize = 48;
/// Most decoded instructions kept: 32 bytes each, so 12 MiB. When there are more, all go.
const MAX_CACHED: usize = 384 * 1024;

/// Hashes addresses: they need mixing, not defence (the worst a guest can do is slow itself down).
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        let x = (self.0 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = x ^ x >> 29;
    }
}

type Table<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Which physical pages have decoded code, in units of 64 bytes.
#[derive(Default)]
pub(crate) struct CodePages {
    pages: Table<u64, u64>,
    /// Ranges written since the cache looked last: (first, last) address, on one page.
    written: Vec<(u64, u64)>,
    /// Pages that hold code since [`CodePages::take_fresh`] was called last, and did not before.
    fresh: Vec<u64>,
}

impl CodePages {
    /// Does the page of `gpa` hold code?
    #[inline]
    pub(crate) fn holds(&self, gpa: u64) -> bool {
        self.pages.contains_key(&(gpa / PAGE))
    }

    /// The page has begun to hold code.
    pub(crate) fn note_fresh(&mut self, gpa: u64) {
        self.fresh.push(gpa);
    }

    /// The pages that have begun to hold code since the last call: other processors may not write there unasked.
    pub(crate) fn take_fresh(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.fresh)
    }

    /// Code may have been written to.
    pub(crate) fn written(&mut self, gpa: u64, size: usize) {
        let last = gpa + size as u64 - 1;
        if let Some(units) = self.pages.get(&(gpa / PAGE))
            && units & mask(gpa, last) != 0
        {
            self.written.push((gpa, last));
        }
    }
}

/// Units of 64 bytes between two addresses on one page, as bits.
fn mask(first: u64, last: u64) -> u64 {
    let (a, b) = (first % PAGE / 64, last % PAGE / 64);
    u64::MAX << a & u64::MAX >> (63 - b)
}

/// A way from one block to the next that needs no lookup.
#[derive(Clone, Copy, Default)]
struct Link {
    /// Distance of the target from the start of this block.
    delta: u64,
    id: u32,
    /// Serial number that the target must still have; 0: no link.
    serial: u32,
}

/// Decoded code.
pub(crate) struct Block {
    /// Physical address of the first byte.
    pub(crate) gpa: u64,
    /// Physical page of the rest of the (only) instruction, if it crosses into another page.
    pub(crate) second: Option<u64>,
    /// Bytes.
    pub(crate) bytes: u16,
    mode: Code,
    /// Another for every block ever made; 0: this place is free.
    pub(crate) serial: u32,
    /// What to do.
    pub(crate) insns: Box<[Insn]>,
    links: [Link; 2],
}

/// See the module.
#[derive(Default)]
pub(crate) struct Cache {
    blocks: Vec<Block>,
    free: Vec<u32>,
    by_address: Table<(u64, u8), u32>,
    by_page: Table<u64, Vec<u32>>,
    insns: usize,
    serial: u32,
}

impl Cache {
    /// The block with this number.
    #[inline(always)]
    pub(crate) fn block(&self, id: u32) -> &Block {
        &self.blocks[id as usize]
    }

    /// Is the block with this number still the one with this serial number?
    #[inline(always)]
    pub(crate) fn is(&self, id: u32, serial: u32) -> bool {
        self.blocks.get(id as usize).is_some_and(|b| b.serial == serial)
    }

    /// The block that starts at `gpa`.
    pub(crate) fn find(&self, gpa: u64, mode: Code) -> Option<u32> {
        self.by_address.get(&(gpa, mode as u8)).copied()
    }

    /// Keeps a block. Returns its number, and the pages that now hold code and did not before.
    pub(crate) fn insert(
        &mut self,
        code: &mut CodePages,
        gpa: u64,
        second: Option<u64>,
        bytes: u16,
        mode: Code,
        insns: Box<[Insn]>,
    ) -> (u32, [Option<u64>; 2]) {
        if self.insns + insns.len() > MAX_CACHED {
            self.clear(code);
        }
        self.remove_at(code, gpa, mode);
        self.insns += insns.len();
        self.serial = self.serial.wrapping_add(1).max(1);
        let block = Block { gpa, second, bytes, mode, serial: self.serial, insns, links: [Link::default(); 2] };
        let mut fresh = [None; 2];
        let last = gpa + u64::from(bytes).max(1) - 1;
        let first_part = (gpa, last.min(gpa | (PAGE - 1)));
        let second_part = second.map(|page| (page, page + (last - (gpa | (PAGE - 1))).saturating_sub(1)));
        for (slot, part) in fresh.iter_mut().zip([Some(first_part), second_part]) {
            let Some((from, to)) = part else { continue };
            let units = code.pages.entry(from / PAGE).or_insert_with(|| {
                *slot = Some(from & !(PAGE - 1));
                0
            });
            *units |= mask(from, to);
        }
        let id = match self.free.pop() {
            Some(id) => {
                self.blocks[id as usize] = block;
                id
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() as u32 - 1
            }
        };
        self.by_address.insert((gpa, mode as u8), id);
        self.by_page.entry(gpa / PAGE).or_default().push(id);
        if let Some(page) = second {
            self.by_page.entry(page / PAGE).or_default().push(id);
        }
        (id, fresh)
    }

    fn remove_at(&mut self, code: &mut CodePages, gpa: u64, mode: Code) {
        if let Some(&id) = self.by_address.get(&(gpa, mode as u8)) {
            self.remove(code, id);
        }
    }

    fn remove(&mut self, code: &mut CodePages, id: u32) {
        let block = &mut self.blocks[id as usize];
        if block.serial == 0 {
            return;
        }
        block.serial = 0;
        self.insns -= block.insns.len();
        block.insns = Box::default();
        let (gpa, second, mode) = (block.gpa, block.second, block.mode);
        self.by_address.remove(&(gpa, mode as u8));
        for page in [Some(gpa / PAGE), second.map(|s| s / PAGE)].into_iter().flatten() {
            if let Some(ids) = self.by_page.get_mut(&page) {
                ids.retain(|&other| other != id);
                if ids.is_empty() {
                    self.by_page.remove(&page);
                    // The page's writes go the fast way again.
                    code.pages.remove(&page);
                }
            }
        }
        self.free.push(id);
    }

    /// Drops the blocks whose code was written to.
    pub(crate) fn drop_written(&mut self, code: &mut CodePages) {
        while let Some((first, last)) = code.written.pop() {
            let Some(ids) = self.by_page.get(&(first / PAGE)) else { continue };
            let hit: Vec<u32> =
                ids.iter().copied().filter(|&id| self.blocks[id as usize].touches(first, last)).collect();
            for id in hit {
                self.remove(code, id);
            }
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, code: &mut CodePages) {
        // Serial numbers go on, so that no old link or lookup matches a new block.
        self.free.clear();
        self.blocks.clear();
        self.by_address.clear();
        self.by_page.clear();
        self.insns = 0;
        code.pages.clear();
        code.written.clear();
    }

    /// Where a direct jump from `id` over `delta` bytes leads, if it was followed before.
    #[inline(always)]
    pub(crate) fn follow(&self, id: u32, delta: u64) -> Option<u32> {
        let links = &self.blocks[id as usize].links;
        links.iter().find(|l| l.delta == delta && l.serial != 0 && self.is(l.id, l.serial)).map(|l| l.id)
    }

    /// Remembers that a jump within the page from `from` over `delta` bytes leads to `to`.
    pub(crate) fn link(&mut self, from: u32, delta: u64, to: u32) {
        let serial = self.blocks[to as usize].serial;
        let links = &mut self.blocks[from as usize].links;
        links.swap(0, 1);
        links[0] = Link { delta, id: to, serial };
    }

    /// Decoded instructions in the cache.
    pub(crate) fn len(&self) -> usize {
        self.insns
    }
}

impl Block {
    fn touches(&self, first: u64, last: u64) -> bool {
        let end = self.gpa + u64::from(self.bytes).max(1) - 1;
        let here = |a: u64, b: u64| first <= b && a <= last;
        let head_end = end.min(self.gpa | (PAGE - 1));
        here(self.gpa, head_end)
            || self.second.is_some_and(|page| here(page, page + (end - head_end).saturating_sub(1)))
    }
}
