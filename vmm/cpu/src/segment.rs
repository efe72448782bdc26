//! Segments: descriptors, and what loading one asks for (SDM vol. 3A, §3.4 and chapter 5).

use crate::core::{Core, Seg};
use crate::fault::{Fault, R, vector};
use crate::insn::seg;
use crate::mem::{Access, Mmu, Plain};

/// Types of system descriptors (SDM vol. 3A, table 3-2).
pub(crate) mod kind {
    pub(crate) const TSS16: u8 = 1;
    pub(crate) const LDT: u8 = 2;
    pub(crate) const CALL16: u8 = 4;
    pub(crate) const TASK_GATE: u8 = 5;
    pub(crate) const INTERRUPT16: u8 = 6;
    pub(crate) const TRAP16: u8 = 7;
    pub(crate) const TSS: u8 = 9;
    pub(crate) const CALL: u8 = 12;
    pub(crate) const INTERRUPT: u8 = 14;
    pub(crate) const TRAP: u8 = 15;
    /// Makes an available TSS a busy one.
    pub(crate) const BUSY: u8 = 2;
}

/// The part of a selector that error codes show: table and index.
pub(crate) fn index(selector: u16) -> u32 {
    u32::from(selector & !3)
}

/// Requested privilege level.
pub(crate) fn rpl(selector: u16) -> u8 {
    (selector & 3) as u8
}

/// Does the selector choose no descriptor?
pub(crate) fn null(selector: u16) -> bool {
    selector & !3 == 0
}

/// Eight bytes of a descriptor table, and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) raw: u64,
    la: u64,
}

impl Descriptor {
    /// One that lies elsewhere: a gate of the IDT.
    pub(crate) fn loose(raw: u64) -> Self {
        Self { raw, la: 0 }
    }
    /// Access rights in the form of [`Seg::access`].
    pub(crate) fn access(self) -> u32 {
        (self.raw >> 40) as u32 & 0xF0FF
    }
    /// Type: bits 0–3 of the access rights.
    pub(crate) fn kind(self) -> u8 {
        (self.raw >> 40) as u8 & 15
    }
    /// Code or data, not a system descriptor.
    pub(crate) fn is_segment(self) -> bool {
        self.raw >> 44 & 1 != 0
    }
    /// Descriptor privilege level.
    pub(crate) fn dpl(self) -> u8 {
        (self.raw >> 45) as u8 & 3
    }
    pub(crate) fn present(self) -> bool {
        self.raw >> 47 & 1 != 0
    }
    pub(crate) fn code(self) -> bool {
        self.is_segment() && self.kind() & 8 != 0
    }
    pub(crate) fn conforming(self) -> bool {
        self.is_segment() && self.kind() & 12 == 12
    }
    pub(crate) fn writable(self) -> bool {
        self.is_segment() && self.kind() & 10 == 2
    }
    pub(crate) fn readable(self) -> bool {
        self.is_segment() && self.kind() & 10 != 8
    }
    /// L: code of 64-bit mode.
    pub(crate) fn long(self) -> bool {
        self.raw >> 53 & 1 != 0
    }
    /// D/B.
    pub(crate) fn big(self) -> bool {
        self.raw >> 54 & 1 != 0
    }
    pub(crate) fn base(self) -> u64 {
        self.raw >> 16 & 0xFF_FFFF | self.raw >> 32 & 0xFF00_0000
    }
    /// Last valid offset.
    pub(crate) fn limit(self) -> u32 {
        let limit = (self.raw & 0xFFFF | self.raw >> 32 & 0xF_0000) as u32;
        if self.raw >> 55 & 1 != 0 { limit << 12 | 0xFFF } else { limit }
    }
    /// What a segment register holds after it is loaded with this.
    pub(crate) fn segment(self, selector: u16) -> Seg {
        Seg { selector, base: self.base(), limit: self.limit(), access: self.access() }
    }
    /// Offset in a gate of 8 bytes (SDM vol. 3A, figure 6-2).
    pub(crate) fn gate_offset(self) -> u64 {
        self.raw & 0xFFFF | self.raw >> 32 & 0xFFFF_0000
    }
    /// Selector in a gate.
    pub(crate) fn gate_selector(self) -> u16 {
        (self.raw >> 16) as u16
    }
}

impl Seg {
    /// After a null selector was loaded; the DPL of a null SS is the CPL.
    pub(crate) fn unusable(selector: u16, dpl: u8) -> Self {
        Self { selector, base: 0, limit: 0, access: Self::UNUSABLE | u32::from(dpl) << 5 }
    }

    /// Do `size` bytes at `offset` lie within the limit (SDM vol. 3A, §5.3)?
    pub(crate) fn holds(&self, offset: u64, size: u64) -> bool {
        let last = offset.wrapping_add(size.wrapping_sub(1));
        let (low, high) = if self.kind() & 0xC == 4 {
            (u64::from(self.limit) + 1, if self.big() { 0xFFFF_FFFF } else { 0xFFFF })
        } else {
            (0, u64::from(self.limit))
        };
        (low..=high).contains(&offset) && last <= high && last >= offset
    }
}

impl Core {
    /// Linear address of a place in a system table: wraps at 4 GiB outside IA-32e mode.
    #[inline(always)]
    pub(crate) fn system_address(&self, base: u64, offset: u64) -> u64 {
        let la = base.wrapping_add(offset);
        if self.long_mode() { la } else { la & 0xFFFF_FFFF }
    }

    /// Reads a descriptor table or TSS.
    #[inline(always)]
    pub(crate) fn load_table<T: Plain>(&mut self, base: u64, offset: u64) -> R<T> {
        let la = self.system_address(base, offset);
        match self.tlb.load(Mmu::Supervisor, la) {
            Some(value) => Ok(value),
            None => self.load_system(la),
        }
    }

    /// #NP(error).
    #[cold]
    pub(crate) fn np(&mut self, error: u32) -> Fault {
        self.raise_with(vector::NP, error)
    }

    /// #TS(error).
    #[cold]
    pub(crate) fn ts(&mut self, error: u32) -> Fault {
        self.raise_with(vector::TS, error)
    }

    /// #SS(error).
    #[cold]
    pub(crate) fn ss(&mut self, error: u32) -> Fault {
        self.raise_with(vector::SS, error)
    }

    /// The descriptor that a selector chooses; `None` outside the table.
    pub(crate) fn descriptor(&mut self, selector: u16) -> R<Option<Descriptor>> {
        let offset = u64::from(selector & !7);
        let (base, limit) = if selector & 4 == 0 {
            (self.gdtr.base, u64::from(self.gdtr.limit))
        } else if self.ldtr.usable() {
            (self.ldtr.base, u64::from(self.ldtr.limit))
        } else {
            return Ok(None);
        };
        if offset + 7 > limit {
            return Ok(None);
        }
        let raw = self.load_table(base, offset)?;
        Ok(Some(Descriptor { raw, la: self.system_address(base, offset) }))
    }

    /// The second half of a system descriptor, which IA-32e mode has; `None` outside the table.
    pub(crate) fn descriptor_high(&mut self, selector: u16) -> R<Option<u64>> {
        Ok(self.descriptor((selector & !3).wrapping_add(8))?.filter(|_| selector < 0xFFF8).map(|d| d.raw))
    }

    /// The descriptor of a selector that must lie inside its table: else #GP(selector).
    pub(crate) fn descriptor_or_gp(&mut self, selector: u16, ext: u32) -> R<Descriptor> {
        match self.descriptor(selector)? {
            Some(d) => Ok(d),
            None => Err(self.gp(index(selector) | ext)),
        }
    }

    /// Sets type bits of a descriptor in memory: accessed (bit 0 of a segment's type), busy (bit 1 of a TSS's).
    pub(crate) fn set_type(&mut self, d: &mut Descriptor, bits: u8) -> R {
        if d.kind() & bits == bits {
            return Ok(());
        }
        self.change_type(d, d.kind() | bits)
    }

    /// Writes the type of a descriptor in memory.
    pub(crate) fn change_type(&mut self, d: &mut Descriptor, kind: u8) -> R {
        let at = self.system_address(d.la, 5);
        d.raw = d.raw & !(15 << 40) | u64::from(kind & 15) << 40;
        let gpa = self.translate(Mmu::Supervisor, at, Access::Write)?;
        // A table in ROM stays as it is.
        if self.tlb.map().is_ram(gpa) {
            self.store_system(at, (d.raw >> 40) as u8)?;
        }
        Ok(())
    }

    /// What a register holds in real or virtual-8086 mode. Real mode keeps limit and rights (SDM vol. 3A, §21.1.1 says
    /// 64 KiB; every processor and "unreal mode" say otherwise).
    pub(crate) fn flat16(&self, which: usize, selector: u16) -> Seg {
        if self.flags & crate::flags::bits::VM != 0 {
            return Seg::real(selector, 0xF3);
        }
        let old = self.seg[which & 7];
        if old.usable() { Seg { selector, base: u64::from(selector) << 4, ..old } } else { Seg::real(selector, 0x93) }
    }

    /// Loads ES, SS, DS, FS or GS as MOV and POP do.
    pub(crate) fn load_segment(&mut self, which: usize, selector: u16) -> R {
        let new = if !self.protected() {
            self.flat16(which, selector)
        } else if which == seg::SS {
            self.new_stack(selector)?
        } else {
            self.new_data(selector)?
        };
        self.seg[which & 7] = new;
        if which == seg::SS {
            self.refresh();
        }
        Ok(())
    }

    /// A data segment for the current privilege level (SDM vol. 2B, MOV).
    pub(crate) fn new_data(&mut self, selector: u16) -> R<Seg> {
        if null(selector) {
            return Ok(Seg::unusable(selector, 0));
        }
        let mut d = self.descriptor_or_gp(selector, 0)?;
        let private = !d.conforming() && (rpl(selector) > d.dpl() || self.cpl > d.dpl());
        if !d.readable() || private {
            return Err(self.gp(index(selector)));
        }
        if !d.present() {
            return Err(self.np(index(selector)));
        }
        self.set_type(&mut d, 1)?;
        Ok(d.segment(selector))
    }

    /// A stack segment for the current privilege level (SDM vol. 2B, MOV).
    fn new_stack(&mut self, selector: u16) -> R<Seg> {
        if null(selector) {
            return if self.bits64() && self.cpl < 3 && rpl(selector) == self.cpl {
                Ok(Seg::unusable(selector, self.cpl))
            } else {
                Err(self.gp(0))
            };
        }
        self.stack_segment(selector, self.cpl, vector::GP, 0)
    }

    /// A stack segment for level `cpl`. `bad` is the exception for one that is not fit.
    pub(crate) fn stack_segment(&mut self, selector: u16, cpl: u8, bad: u8, ext: u32) -> R<Seg> {
        let error = index(selector) | ext;
        let Some(mut d) = self.descriptor(selector)? else { return Err(self.raise_with(bad, error)) };
        if rpl(selector) != cpl || d.dpl() != cpl || !d.writable() {
            return Err(self.raise_with(bad, error));
        }
        if !d.present() {
            return Err(self.ss(error));
        }
        self.set_type(&mut d, 1)?;
        Ok(d.segment(selector))
    }

    /// After a return to an outer level: data segments that this level may not use become null.
    pub(crate) fn drop_inner_segments(&mut self) {
        for which in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let s = &mut self.seg[which];
            let conforming = s.kind() & 12 == 12;
            if s.usable() && !conforming && s.dpl() < self.cpl {
                // The bases of FS and GS go on counting in 64-bit mode, and stay.
                *s = Seg { base: s.base, ..Seg::unusable(0, 0) };
            }
        }
    }

    /// Stack pointer and selector for level `cpl` from the TSS (SDM vol. 3A, §5.8.5). Outside IA-32e mode.
    pub(crate) fn tss_stack(&mut self, cpl: u8, ext: u32) -> R<(u16, u64)> {
        let wide = self.tr.kind() & 8 != 0;
        let offset = if wide { 4 + 8 * u64::from(cpl) } else { 2 + 4 * u64::from(cpl) };
        let last = offset + if wide { 5 } else { 3 };
        if !self.tr.usable() || last > u64::from(self.tr.limit) {
            return Err(self.ts(index(self.tr.selector) | ext));
        }
        let base = self.tr.base;
        if wide {
            let sp: u32 = self.load_table(base, offset)?;
            Ok((self.load_table(base, offset + 4)?, u64::from(sp)))
        } else {
            let sp: u16 = self.load_table(base, offset)?;
            Ok((self.load_table(base, offset + 2)?, u64::from(sp)))
        }
    }

    /// A stack pointer from the 64-bit TSS, at `offset`.
    pub(crate) fn tss_pointer(&mut self, offset: u64, ext: u32) -> R<u64> {
        if offset + 7 > u64::from(self.tr.limit) {
            return Err(self.ts(index(self.tr.selector) | ext));
        }
        self.load_table(self.tr.base, offset)
    }
}

/// A stack that is being pushed on before the registers say so.
pub(crate) struct Stack {
    seg: Seg,
    /// Stack pointer, all bits.
    pub(crate) sp: u64,
    mask: u64,
    mmu: Mmu,
    /// Error code of #SS when there is no room.
    error: u32,
}

impl Stack {
    /// On `seg`, outside 64-bit mode, for level `cpl`.
    pub(crate) fn new(seg: Seg, sp: u64, cpl: u8, error: u32) -> Self {
        let mask = if seg.big() { 0xFFFF_FFFF } else { 0xFFFF };
        Self { seg, sp, mask, mmu: if cpl == 3 { Mmu::User } else { Mmu::Supervisor }, error }
    }

    /// In 64-bit mode.
    pub(crate) fn long(sp: u64, cpl: u8, error: u32) -> Self {
        Self { mask: u64::MAX, ..Self::new(Seg::default(), sp, cpl, error) }
    }

    /// The one in use.
    pub(crate) fn current(core: &Core, error: u32) -> Self {
        let sp = core.regs[crate::insn::reg::RSP];
        Self { seg: core.seg[seg::SS], sp, mask: core.stack_mask, mmu: core.mmu, error }
    }

    /// Pushes the low `size` (2, 4, 8) bytes of `value`.
    pub(crate) fn push(&mut self, core: &mut Core, size: u64, value: u64) -> R {
        let offset = self.sp.wrapping_sub(size) & self.mask;
        let la = if self.mask == u64::MAX {
            if !Core::canonical(offset) || !Core::canonical(offset.wrapping_add(size - 1)) {
                return Err(core.ss(self.error));
            }
            offset
        } else {
            if !self.seg.usable() || !self.seg.holds(offset, size) {
                return Err(core.ss(self.error));
            }
            self.seg.base.wrapping_add(offset) & 0xFFFF_FFFF
        };
        match size {
            8 => self.store(core, la, value),
            4 => self.store(core, la, value as u32),
            _ => self.store(core, la, value as u16),
        }?;
        self.sp = self.sp & !self.mask | offset;
        Ok(())
    }

    #[inline(always)]
    fn store<T: Plain>(&self, core: &mut Core, la: u64, value: T) -> R {
        if core.tlb.store(self.mmu, la, value) {
            return Ok(());
        }
        core.store_slow(self.mmu, seg::SS, la, value)
    }
}
