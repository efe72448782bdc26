//! Task switches (SDM vol. 3A, chapter 7), which exist outside IA-32e mode only.

use crate::core::{Core, Seg, cr};
use crate::fault::{Event, R, vector};
use crate::flags::{Lazy, bits as fl};
use crate::insn::{reg, seg};
use crate::mem::{Access, Mmu};
use crate::segment::{Descriptor, Stack, index, kind, null, rpl};

/// DR6.BT: the T flag of the TSS was set.
const DR6_BT: u64 = 1 << 15;
/// DR7.L0–L3 and LE: local to a task.
const DR7_LOCAL: u64 = 0x155;
/// Segment registers in the order in which a TSS has them.
const SEGMENTS: [usize; 6] = [seg::ES, seg::CS, seg::SS, seg::DS, seg::FS, seg::GS];

/// Why the task changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Jump,
    /// CALL or an interrupt: the new task is nested.
    Nest,
    /// IRET with NT set.
    Return,
}

/// Where things are in a TSS (SDM vol. 3A, figures 7-2 and 7-11).
struct Layout {
    /// Bytes of a field.
    size: u64,
    /// Bytes at least.
    len: u64,
    cr3: Option<u64>,
    ip: u64,
    flags: u64,
    /// The eight general registers.
    regs: u64,
    /// The segment registers, and how many there are.
    segments: (u64, usize),
    ldt: u64,
    /// The T flag.
    trap: Option<u64>,
}

const WIDE: Layout = Layout {
    size: 4,
    len: 0x68,
    cr3: Some(0x1C),
    ip: 0x20,
    flags: 0x24,
    regs: 0x28,
    segments: (0x48, 6),
    ldt: 0x60,
    trap: Some(0x64),
};
const NARROW: Layout = Layout {
    size: 2,
    len: 0x2C,
    cr3: None,
    ip: 0x0E,
    flags: 0x10,
    regs: 0x12,
    segments: (0x22, 4),
    ldt: 0x2A,
    trap: None,
};

fn layout(kind: u8) -> Layout {
    if kind & 8 != 0 { WIDE } else { NARROW }
}

/// What a TSS says.
struct Image {
    cr3: Option<u64>,
    ip: u64,
    flags: u64,
    regs: [u64; 8],
    segments: [u16; 6],
    ldt: u16,
    trap: bool,
    /// Bytes of a word on its stack.
    size: u64,
}

impl Core {
    /// An interrupt or exception through a task gate.
    pub(crate) fn enter_task(&mut self, selector: u16, ext: u32, error: Option<u32>, image: u64) -> R {
        let d = self.new_task(selector, ext)?;
        let trap = self.switch(d, selector, Why::Nest, ext, image)?;
        if let Some(error) = error {
            let size = if self.tr.kind() & 8 != 0 { 4 } else { 2 };
            let mut stack = Stack::current(self, ext);
            stack.push(self, size, u64::from(error))?;
            self.regs[reg::RSP] = stack.sp;
        }
        self.first_trap(trap)
    }

    /// JMP or CALL to a task.
    pub(crate) fn far_task(&mut self, selector: u16, nested: bool) -> R {
        let d = self.new_task(selector, 0)?;
        let trap = self.switch(d, selector, if nested { Why::Nest } else { Why::Jump }, 0, self.rflags())?;
        self.first_trap(trap)
    }

    /// IRET with NT set.
    pub(crate) fn return_to_task(&mut self) -> R {
        let selector: u16 = self.load_table(self.tr.base, 0)?;
        let error = index(selector);
        let found = if selector & 4 == 0 && !null(selector) { self.descriptor(selector)? } else { None };
        let busy = |k: u8| k == kind::TSS | kind::BUSY || k == kind::TSS16 | kind::BUSY;
        let Some(d) = found.filter(|d| !d.is_segment() && busy(d.kind())) else { return Err(self.ts(error)) };
        if !d.present() {
            return Err(self.np(error));
        }
        let trap = self.switch(d, selector, Why::Return, 0, self.rflags() & !fl::NT)?;
        self.first_trap(trap)
    }

    /// The trap before the first instruction of a task whose TSS has the T flag.
    fn first_trap(&mut self, trap: bool) -> R {
        if !trap {
            return Ok(());
        }
        self.note_debug(DR6_BT);
        self.deliver_exception(vector::DB, None)
    }

    /// The descriptor of a task that is not running.
    fn new_task(&mut self, selector: u16, ext: u32) -> R<Descriptor> {
        let error = index(selector) | ext;
        if selector & 4 != 0 || null(selector) {
            return Err(self.gp(error));
        }
        let d = self.descriptor_or_gp(selector, ext)?;
        if d.is_segment() || !matches!(d.kind(), kind::TSS | kind::TSS16) {
            return Err(self.gp(error));
        }
        if !d.present() {
            return Err(self.np(error));
        }
        Ok(d)
    }

    fn read_field(&mut self, base: u64, at: u64, size: u64) -> R<u64> {
        if size == 4 {
            self.load_table::<u32>(base, at).map(u64::from)
        } else {
            self.load_table::<u16>(base, at).map(u64::from)
        }
    }

    fn write_field(&mut self, base: u64, at: u64, size: u64, value: u64) -> R {
        let la = self.system_address(base, at);
        if size == 4 { self.store_system(la, value as u32) } else { self.store_system(la, value as u16) }
    }

    /// SDM vol. 3A, §7.3. Faults before the new task's state is in place are the old task's; later ones are delivered
    /// here, in the new task. Returns whether the new task begins with a trap.
    fn switch(&mut self, mut new: Descriptor, selector: u16, why: Why, ext: u32, flags: u64) -> R<bool> {
        let (old, to) = (layout(self.tr.kind() as u8), layout(new.kind()));
        if u64::from(new.limit()) + 1 < to.len {
            return Err(self.ts(index(selector) | ext));
        }
        if u64::from(self.tr.limit) + 1 < old.len {
            return Err(self.ts(index(self.tr.selector) | ext));
        }
        let image = self.read_task(new.base(), &to)?;
        if why == Why::Nest {
            self.probe(Mmu::Supervisor, seg::DS, self.system_address(new.base(), 0), 2, Access::Write)?;
        }
        self.save_task(&old, flags)?;
        if why != Why::Nest
            && let Some(mut mine) = self.descriptor(self.tr.selector)?
        {
            let idle = mine.kind() & !kind::BUSY;
            self.change_type(&mut mine, idle)?;
        }
        self.set_type(&mut new, kind::BUSY)?;
        if why == Why::Nest {
            self.write_field(new.base(), 0, 2, u64::from(self.tr.selector))?;
        }
        // From here on it is the new task.
        self.tr = new.segment(selector);
        self.cr0 |= cr::CR0_TS;
        self.dr7 &= !DR7_LOCAL;
        if let Some(cr3) = image.cr3
            && self.cr0 & cr::CR0_PG != 0
        {
            self.cr3 = cr3;
        }
        let flags = image.flags | if why == Why::Nest { fl::NT } else { 0 };
        self.lazy = Lazy::from_bits(flags);
        self.flags = flags & fl::DEFINED & !fl::ARITH | fl::FIXED;
        for (r, value) in self.regs.iter_mut().zip(image.regs) {
            *r = value;
        }
        self.regs[reg::RIP] = image.ip;
        self.flush_tlb();
        self.recheck = true;
        match self.load_task_segments(&image, ext) {
            Ok(()) => Ok(image.trap),
            Err(fault) => match std::mem::replace(&mut self.event, Event::None) {
                Event::Exception { vector, error } => self.deliver_exception(vector, error).map(|()| false),
                event => {
                    self.event = event;
                    Err(fault)
                }
            },
        }
    }

    fn read_task(&mut self, base: u64, to: &Layout) -> R<Image> {
        let mut image = Image {
            cr3: None,
            ip: self.read_field(base, to.ip, to.size)?,
            flags: self.read_field(base, to.flags, to.size)?,
            regs: [0; 8],
            segments: [0; 6],
            ldt: self.read_field(base, to.ldt, 2)? as u16,
            trap: false,
            size: to.size,
        };
        for (at, value) in (to.regs..).step_by(to.size as usize).zip(&mut image.regs) {
            *value = self.read_field(base, at, to.size)?;
        }
        let (first, count) = to.segments;
        for (at, value) in (first..).step_by(to.size as usize).zip(image.segments.iter_mut().take(count)) {
            *value = self.read_field(base, at, 2)? as u16;
        }
        if let Some(at) = to.cr3 {
            image.cr3 = Some(self.read_field(base, at, 4)?);
        }
        if let Some(at) = to.trap {
            image.trap = self.read_field(base, at, 2)? & 1 != 0;
        }
        Ok(image)
    }

    fn save_task(&mut self, old: &Layout, flags: u64) -> R {
        let base = self.tr.base;
        let from = self.system_address(base, old.ip);
        let len = old.segments.0 + old.segments.1 as u64 * old.size - old.ip;
        self.probe(Mmu::Supervisor, seg::DS, from, len as usize, Access::Write)?;
        self.write_field(base, old.ip, old.size, self.regs[reg::RIP])?;
        self.write_field(base, old.flags, old.size, flags)?;
        for k in 0..8 {
            self.write_field(base, old.regs + k * old.size, old.size, self.regs[k as usize])?;
        }
        for (which, k) in SEGMENTS.into_iter().take(old.segments.1).zip(0..) {
            let selector = u64::from(self.seg[which].selector);
            self.write_field(base, old.segments.0 + k * old.size, 2, selector)?;
        }
        Ok(())
    }

    /// Loads LDTR and the segment registers as the new TSS has them.
    fn load_task_segments(&mut self, image: &Image, ext: u32) -> R {
        let v86 = image.flags & fl::VM != 0 && image.size == 4;
        let cs = image.segments[1];
        for (which, selector) in SEGMENTS.into_iter().zip(image.segments) {
            self.seg[which] = if v86 { Seg::real(selector, 0xF3) } else { Seg::unusable(selector, 0) };
        }
        if !v86 {
            self.flags &= !fl::VM;
            // The level is that of CS from now on.
            self.seg[seg::SS] = Seg::unusable(image.segments[2], rpl(cs));
        }
        self.ldtr = Seg::unusable(image.ldt, 0);
        self.refresh();
        if self.cr0 & cr::CR0_PG != 0 && self.cr4 & cr::CR4_PAE != 0 {
            self.load_pdptes_again()?;
        }
        if !null(image.ldt) {
            let error = index(image.ldt) | ext;
            let found = if image.ldt & 4 == 0 { self.descriptor(image.ldt)? } else { None };
            match found.filter(|d| !d.is_segment() && d.kind() == kind::LDT && d.present()) {
                Some(d) => self.ldtr = d.segment(image.ldt),
                None => return Err(self.ts(error)),
            }
        }
        if v86 {
            return Ok(());
        }
        let error = index(cs) | ext;
        let found = if null(cs) { None } else { self.descriptor(cs)? };
        let fits = |d: &Descriptor| d.code() && if d.conforming() { d.dpl() <= rpl(cs) } else { d.dpl() == rpl(cs) };
        let Some(mut code) = found.filter(fits) else { return Err(self.ts(error)) };
        if !code.present() {
            return Err(self.np(error));
        }
        self.set_type(&mut code, 1)?;
        self.seg[seg::CS] = code.segment(cs);
        let ss = image.segments[2];
        if null(ss) {
            return Err(self.ts(ext));
        }
        self.seg[seg::SS] = self.stack_segment(ss, rpl(cs), vector::TS, ext)?;
        self.refresh();
        for which in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let selector = self.seg[which].selector;
            match self.new_data(selector) {
                Ok(new) => self.seg[which] = new,
                // What is #GP for MOV is #TS here.
                Err(fault) => {
                    return Err(match self.event {
                        Event::Exception { vector: vector::GP, error: Some(error) } => self.ts(error | ext),
                        Event::Exception { vector: vector::NP, error: Some(error) } => self.np(error | ext),
                        _ => fault,
                    });
                }
            }
        }
        if self.regs[reg::RIP] > u64::from(self.seg[seg::CS].limit) {
            return Err(self.gp(ext));
        }
        Ok(())
    }
}
