//! Memory as instructions reach it: effective address → linear address → page → host memory or device.

use crate::core::Core;
use crate::fault::{IoRequest, R, vector};
use crate::insn::{Addressing, Insn, LOCK, seg};
use crate::mem::{Access, Mmu, PAGE, Plain, WritePermit};

/// The physical bytes of an access, which lie on one page or two.
pub(crate) struct Span {
    /// Physical address of the first byte.
    first: u64,
    /// Bytes on the first page.
    head: usize,
    /// Physical address of the first byte on the second page.
    second: u64,
}

impl Core {
    /// Offset of the memory operand in its segment.
    #[inline(always)]
    pub fn offset(&self, i: &Insn) -> u64 {
        let base = self.regs[usize::from(i.base & 31)];
        let index = self.regs[usize::from(i.index & 31)] << i.scale;
        base.wrapping_add(index).wrapping_add(i64::from(i.disp) as u64) & i.address_mask()
    }

    /// Linear address of the memory operand, for an access of `size` bytes. Canonicality is looked at by the access
    /// itself.
    #[inline(always)]
    pub fn linear(&mut self, i: &Insn, size: u64, access: Access) -> R<u64> {
        if i.addressing == Addressing::Flat {
            let base = self.regs[usize::from(i.base & 31)];
            let index = self.regs[usize::from(i.index & 31)] << (i.scale & 3);
            return Ok(base.wrapping_add(index).wrapping_add(i64::from(i.disp) as u64));
        }
        self.linear_slow(i, size, access)
    }

    #[inline(never)]
    fn linear_slow(&mut self, i: &Insn, size: u64, access: Access) -> R<u64> {
        let offset = self.offset(i);
        self.linear_at(usize::from(i.seg), offset, size, access)
    }

    /// Linear address of `offset` in segment `segment`, with the segment's checks (SDM vol. 3A, §5.3–5.5).
    pub fn linear_at(&mut self, segment: usize, offset: u64, size: u64, access: Access) -> R<u64> {
        let s = self.seg[segment & 7];
        if self.bits64() {
            let base = if segment == seg::FS || segment == seg::GS { s.base } else { 0 };
            return Ok(base.wrapping_add(offset));
        }
        let fault = |core: &mut Self| core.raise_with(if segment == seg::SS { vector::SS } else { vector::GP }, 0);
        if self.protected() {
            let code = s.kind() & 8 != 0;
            let allowed = match access {
                Access::Read | Access::Fetch => !code || s.kind() & 2 != 0,
                Access::Write => !code && s.kind() & 2 != 0,
            };
            if !s.usable() || !allowed {
                return Err(fault(self));
            }
        }
        let last = offset.wrapping_add(size - 1);
        let (low, high) = if s.kind() & 0xC == 4 {
            // Expand-down data: the valid offsets are above the limit.
            (u64::from(s.limit) + 1, if s.big() { 0xFFFF_FFFF } else { 0xFFFF })
        } else {
            (0, u64::from(s.limit))
        };
        if offset < low || last > high || last < offset {
            return Err(fault(self));
        }
        Ok(s.base.wrapping_add(offset) & 0xFFFF_FFFF)
    }

    /// Reads the memory operand.
    #[inline(always)]
    pub fn load<T: Plain>(&mut self, i: &Insn) -> R<T> {
        let la = self.linear(i, T::BYTES as u64, Access::Read)?;
        match self.tlb.load(self.mmu, la) {
            Some(value) => Ok(value),
            None => self.load_slow(self.mmu, usize::from(i.seg), la),
        }
    }

    /// Writes the memory operand.
    #[inline(always)]
    pub fn store<T: Plain>(&mut self, i: &Insn, value: T) -> R {
        let la = self.linear(i, T::BYTES as u64, Access::Write)?;
        if self.tlb.store(self.mmu, la, value) {
            return Ok(());
        }
        self.store_slow(self.mmu, usize::from(i.seg), la, value)
    }

    /// Replaces the memory operand by a function of it, and returns what the function says besides. Atomic under LOCK;
    /// the function may then be called more than once.
    #[inline(always)]
    pub fn rmw<T: Plain, U>(&mut self, i: &Insn, mut f: impl FnMut(T) -> (T, U)) -> R<U> {
        let la = self.linear(i, T::BYTES as u64, Access::Write)?;
        let mut extra = None;
        let lock = i.has(LOCK);
        let done = self.tlb.update(self.mmu, la, lock, |old: T| {
            let (new, u) = f(old);
            extra = Some(u);
            new
        });
        if done && let Some(u) = extra {
            return Ok(u);
        }
        self.rmw_slow(usize::from(i.seg), la, &mut f)
    }

    #[cold]
    #[inline(never)]
    fn rmw_slow<T: Plain, U>(&mut self, segment: usize, la: u64, f: &mut dyn FnMut(T) -> (T, U)) -> R<U> {
        // Ask for the write first: a page that cannot be written must fault as a write and before anything is read.
        let span = self.translate_span(self.mmu, segment, la, T::BYTES, Access::Write)?;
        let old = self.load_span(&span, T::BYTES)?;
        let (new, extra) = f(T::narrow(old));
        self.store_span(&span, T::BYTES, new.widen())?;
        Ok(extra)
    }

    /// Reads at a linear address with the current privileges; `segment` says which fault a bad address is.
    #[inline(always)]
    pub fn load_at<T: Plain>(&mut self, segment: usize, la: u64) -> R<T> {
        match self.tlb.load(self.mmu, la) {
            Some(value) => Ok(value),
            None => self.load_slow(self.mmu, segment, la),
        }
    }

    /// Writes at a linear address with the current privileges.
    #[inline(always)]
    pub fn store_at<T: Plain>(&mut self, segment: usize, la: u64, value: T) -> R {
        if self.tlb.store(self.mmu, la, value) {
            return Ok(());
        }
        self.store_slow(self.mmu, segment, la, value)
    }

    /// Reads a structure of the system (descriptor tables, TSS): supervisor rights, whatever the CPL.
    pub fn load_system<T: Plain>(&mut self, la: u64) -> R<T> {
        self.load_slow(Mmu::Supervisor, seg::DS, la)
    }

    /// Writes a structure of the system.
    pub fn store_system<T: Plain>(&mut self, la: u64, value: T) -> R {
        self.store_slow(Mmu::Supervisor, seg::DS, la, value)
    }

    /// Would an access of `size` bytes go through? Faults as it would, changes nothing but accessed and dirty bits.
    pub fn probe(&mut self, mmu: Mmu, segment: usize, la: u64, size: usize, access: Access) -> R {
        let mut at = la;
        let end = la.wrapping_add(size as u64 - 1);
        loop {
            self.translate_span(mmu, segment, at, 1, access)?;
            if at & !(PAGE - 1) == end & !(PAGE - 1) {
                return Ok(());
            }
            at = (at & !(PAGE - 1)).wrapping_add(PAGE);
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn load_slow<T: Plain>(&mut self, mmu: Mmu, segment: usize, la: u64) -> R<T> {
        let span = self.translate_span(mmu, segment, la, T::BYTES, Access::Read)?;
        Ok(T::narrow(self.load_span(&span, T::BYTES)?))
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn store_slow<T: Plain>(&mut self, mmu: Mmu, segment: usize, la: u64, value: T) -> R {
        let span = self.translate_span(mmu, segment, la, T::BYTES, Access::Write)?;
        self.store_span(&span, T::BYTES, value.widen())
    }

    /// Translates every page of an access before anything is done.
    pub(crate) fn translate_span(&mut self, mmu: Mmu, segment: usize, la: u64, size: usize, access: Access) -> R<Span> {
        let last = la.wrapping_add(size as u64 - 1);
        if self.bits64() && !(Self::canonical(la) && Self::canonical(last)) {
            let v = if segment == seg::SS { vector::SS } else { vector::GP };
            return Err(self.raise_with(v, 0));
        }
        if mmu == Mmu::UserAligned && size <= 8 && !la.is_multiple_of(size as u64) && access != Access::Fetch {
            return Err(self.raise_with(vector::AC, 0));
        }
        let head = ((PAGE - la % PAGE) as usize).min(size);
        let first = self.translate(mmu, la, access)?;
        let second = if head < size {
            let next = (la & !(PAGE - 1)).wrapping_add(PAGE);
            let next = if self.long_mode() { next } else { next & 0xFFFF_FFFF };
            self.translate(mmu, next, access)?
        } else {
            0
        };
        if self.dr7 & 0xFF != 0 {
            self.note_breakpoints(la, size, access);
        }
        Ok(Span { first, head, second })
    }

    fn load_span(&mut self, span: &Span, size: usize) -> R<u128> {
        let low = self.load_physical(span.first, span.head)?;
        if span.head == size {
            return Ok(low);
        }
        let high = self.load_physical(span.second, size - span.head)?;
        Ok(low | high << (8 * span.head))
    }

    fn store_span(&mut self, span: &Span, size: usize, value: u128) -> R {
        if span.head == size {
            return self.store_physical(span.first, size, value);
        }
        // A device on one of the two pages is asked before the memory on the other one changes.
        if self.tlb.map().is_ram(span.first) {
            self.store_physical(span.second, size - span.head, value >> (8 * span.head))?;
            self.store_physical(span.first, span.head, value)
        } else {
            self.store_physical(span.first, span.head, value)?;
            self.store_physical(span.second, size - span.head, value >> (8 * span.head))
        }
    }

    /// Reads bytes of one physical page.
    fn load_physical(&mut self, gpa: u64, size: usize) -> R<u128> {
        let map = self.tlb.map();
        let whole = match size {
            1 => map.read::<u8>(gpa).map(u128::from),
            2 => map.read::<u16>(gpa).map(u128::from),
            4 => map.read::<u32>(gpa).map(u128::from),
            8 => map.read::<u64>(gpa).map(u128::from),
            16 => map.read::<u128>(gpa),
            _ => {
                let mut value = 0;
                for k in 0..size {
                    match map.read::<u8>(gpa + k as u64) {
                        Some(byte) => value |= u128::from(byte) << (8 * k),
                        None => return self.load_device(gpa, size),
                    }
                }
                Some(value)
            }
        };
        match whole {
            Some(value) => Ok(value),
            None => self.load_device(gpa, size),
        }
    }

    fn load_device(&mut self, gpa: u64, size: usize) -> R<u128> {
        let mut value = 0;
        for (at, n) in parts(size) {
            let part = match self.apic_read(gpa + at, n) {
                Some(answer) => answer,
                None => self.device(IoRequest::MmioRead { gpa: gpa + at, size: n as u8 })?,
            };
            value |= u128::from(part) << (8 * at);
        }
        Ok(value)
    }

    fn store_physical(&mut self, gpa: u64, size: usize, value: u128) -> R {
        if !self.tlb.map().is_ram(gpa) {
            for (at, n) in parts(size) {
                let part = (value >> (8 * at)) as u64 & (u64::MAX >> (64 - 8 * n as u32));
                if !self.apic_write(gpa + at, n, part) {
                    self.device(IoRequest::MmioWrite { gpa: gpa + at, size: n as u8, value: part })?;
                }
            }
            return Ok(());
        }
        if self.code.holds(gpa) {
            self.code.written(gpa, size);
            self.leave_block = true;
        }
        let map = self.tlb.map();
        match size {
            1 => map.write(gpa, value as u8),
            2 => map.write(gpa, value as u16),
            4 => map.write(gpa, value as u32),
            8 => map.write(gpa, value as u64),
            16 => map.write(gpa, value),
            _ => (0..size).try_for_each(|k| map.write(gpa + k as u64, (value >> (8 * k)) as u8)),
        };
        Ok(())
    }

    /// Physical address behind a linear one, filling the translation cache. Faults with #PF.
    pub(crate) fn translate(&mut self, mmu: Mmu, la: u64, access: Access) -> R<u64> {
        let page = self.walk(mmu, la, access)?;
        let gpa = page.gpa | la & (PAGE - 1);
        // Pages with data breakpoints on them stay out of the cache, so that every access is looked at.
        if !self.watched(la) {
            let permit = if self.code.holds(gpa) { WritePermit::Ask } else { WritePermit::Free };
            self.tlb.fill(mmu, la, gpa, access, permit, page.size);
        }
        Ok(gpa)
    }

    /// Does a data breakpoint lie on the page of `la`?
    fn watched(&self, la: u64) -> bool {
        if self.dr7 & 0xFF == 0 {
            return false;
        }
        (0..4).any(|k| {
            self.dr7 >> (2 * k) & 3 != 0
                && self.dr7 >> (16 + 4 * k) & 3 != 0
                && self.dr[k].wrapping_add(7) / PAGE >= la / PAGE
                && self.dr[k] / PAGE <= la / PAGE
        })
    }

    /// Records which data breakpoints an access hits (SDM vol. 3B, §18.2.4).
    fn note_breakpoints(&mut self, la: u64, size: usize, access: Access) {
        for k in 0..4 {
            let (enabled, kind, len) =
                (self.dr7 >> (2 * k) & 3, self.dr7 >> (16 + 4 * k) & 3, self.dr7 >> (18 + 4 * k) & 3);
            let wanted = match access {
                Access::Read => kind == 3,
                Access::Write => kind == 1 || kind == 3,
                Access::Fetch => false,
            };
            let len = [1, 2, 8, 4][len as usize];
            let start = self.dr[k] & !(len - 1);
            if enabled != 0 && wanted && la < start.wrapping_add(len) && start < la.wrapping_add(size as u64) {
                self.hits |= 1 << k;
            }
        }
    }
}

/// Cuts an access into parts of at most 8 bytes: (offset, bytes).
fn parts(size: usize) -> impl Iterator<Item = (u64, usize)> {
    (0..size.div_ceil(8)).map(move |k| ((8 * k) as u64, (size - 8 * k).min(8)))
}
