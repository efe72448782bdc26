//! Delivery of exceptions and interrupts (SDM vol. 3A, chapter 6).

use crate::core::{Core, Seg, Shadow, cr};
use crate::fault::{Event, R, vector};
use crate::flags::{Lazy, bits as fl};
use crate::insn::{reg, seg};
use crate::irq::Interrupt;
use crate::segment::{Descriptor, Stack, index, kind, null};

/// DR7.GD: accesses to debug registers are faults.
const DR7_GD: u64 = 1 << 13;

/// DR6.BS: single step.
pub(crate) const DR6_BS: u64 = 1 << 14;
/// DR6.B0 to B3: which breakpoints.
const DR6_HITS: u64 = 0xF;

/// What makes a handler run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// INT n, INT3, INTO: the gate's DPL counts.
    Instruction,
    /// Everything else: error codes have EXT set.
    Event,
}

impl Cause {
    fn ext(self) -> u32 {
        u32::from(self == Self::Event)
    }
}

/// How exceptions add up to a double fault (SDM vol. 3A, table 6-4).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
}

impl Class {
    fn of(v: u8) -> Self {
        match v {
            vector::DE | vector::TS | vector::NP | vector::SS | vector::GP => Self::Contributory,
            vector::PF => Self::PageFault,
            _ => Self::Benign,
        }
    }

    /// Does `second`, raised while this one was delivered, make a double fault (SDM vol. 3A, table 6-5)?
    fn doubles(self, second: Self) -> bool {
        match self {
            Self::Benign => false,
            Self::Contributory => second == Self::Contributory,
            Self::PageFault => second != Self::Benign,
        }
    }
}

/// Does the pushed image have RF set (SDM vol. 3B, §18.3.1.1)? Faults set it, debug exceptions leave it.
fn sets_rf(v: u8) -> bool {
    !matches!(v, vector::DB | vector::NMI | vector::BP | vector::OF | vector::DF)
}

impl Core {
    /// Delivers an exception whose instruction RIP points to (faults), or that follows the one before (traps).
    ///
    /// # Errors
    /// Triple fault.
    pub(crate) fn deliver_exception(&mut self, vector: u8, error: Option<u32>) -> R {
        let rf = if sets_rf(vector) { fl::RF } else { 0 };
        self.note_exception(vector);
        match self.enter_handler(vector, Cause::Event, error, self.rflags() | rf) {
            Ok(()) => Ok(()),
            Err(_) => self.escalate(Class::of(vector), vector == vector::DF),
        }
    }

    /// Delivers an interrupt.
    ///
    /// # Errors
    /// Triple fault.
    pub(crate) fn deliver_interrupt(&mut self, source: Interrupt) -> R {
        let number = match source {
            Interrupt::Nmi => {
                self.nmi_blocked = true;
                vector::NMI
            }
            Interrupt::External(number) => number,
        };
        match self.enter_handler(number, Cause::Event, None, self.rflags()) {
            Ok(()) => Ok(()),
            Err(_) => self.escalate(Class::Benign, false),
        }
    }

    /// INT n, INT3, INTO.
    pub(crate) fn software_interrupt(&mut self, vector: u8) -> R {
        self.enter_handler(vector, Cause::Instruction, None, self.rflags())
    }

    /// INT1. A watchpoint that waits behind MOV SS is told with it.
    pub(crate) fn debug_interrupt(&mut self) -> R {
        self.enter_handler(vector::DB, Cause::Event, None, self.rflags())?;
        let hits = std::mem::take(&mut self.pending_db);
        if hits != 0 {
            self.note_debug(hits);
        }
        Ok(())
    }

    /// The delivery of an exception of class `first` has itself raised one, which is in `event`.
    fn escalate(&mut self, mut first: Class, mut double: bool) -> R {
        loop {
            let Event::Exception { vector, error } = std::mem::replace(&mut self.event, Event::None) else {
                return Err(self.stop(Event::Shutdown));
            };
            if double {
                return Err(self.stop(Event::Shutdown));
            }
            let second = Class::of(vector);
            self.note_exception(vector);
            double = first.doubles(second);
            let (vector, error) = if double { (vector::DF, Some(0)) } else { (vector, error) };
            let rf = if sets_rf(vector) { fl::RF } else { 0 };
            if self.enter_handler(vector, Cause::Event, error, self.rflags() | rf).is_ok() {
                return Ok(());
            }
            first = second;
        }
    }

    /// A breakpoint, watchpoint or single step of these bits: B0 to B3 are those of now, the other bits of DR6 only ever
    /// gather (SDM vol. 3B, §18.2.3).
    pub(crate) fn note_debug(&mut self, bits: u64) {
        self.dr6 = self.dr6 & !DR6_HITS | bits;
    }

    /// What an exception changes even if a double fault comes of it.
    fn note_exception(&mut self, v: u8) {
        match v {
            vector::PF => self.cr2 = self.pending_cr2,
            vector::DB => self.dr7 &= !DR7_GD,
            _ => {}
        }
    }

    /// Enters a handler; `image` is what is pushed of RFLAGS. When it fails, nothing has changed but accessed bits and
    /// memory below the stack pointer.
    fn enter_handler(&mut self, vector: u8, cause: Cause, error: Option<u32>, image: u64) -> R {
        if self.long_mode() {
            self.enter_long(vector, cause, error, image)?;
        } else if self.cr0 & cr::CR0_PE != 0 {
            self.enter_protected(vector, cause, error, image)?;
        } else {
            self.enter_real(vector, image)?;
        }
        self.faulted = true;
        // A single-step trap that waited behind MOV SS is lost; hits of watchpoints go on waiting.
        self.pending_db &= !DR6_BS;
        self.halted = false;
        self.shadow = Shadow::None;
        self.recheck = true;
        Ok(())
    }

    /// Through the interrupt vector table (SDM vol. 3A, §21.1.4).
    fn enter_real(&mut self, vector: u8, image: u64) -> R {
        let at = u64::from(vector) * 4;
        if at + 3 > u64::from(self.idtr.limit) {
            return Err(self.gp(0));
        }
        let entry: u32 = self.load_table(self.idtr.base, at)?;
        let (ip, cs) = (u64::from(entry & 0xFFFF), (entry >> 16) as u16);
        let mut stack = Stack::current(self, 0);
        stack.push(self, 2, image)?;
        stack.push(self, 2, u64::from(self.seg[seg::CS].selector))?;
        stack.push(self, 2, self.regs[reg::RIP])?;
        self.regs[reg::RSP] = stack.sp;
        self.regs[reg::RIP] = ip;
        self.seg[seg::CS] = self.flat16(seg::CS, cs);
        self.handler_flags(fl::IF | fl::TF | fl::AC | fl::RF);
        Ok(())
    }

    /// Through a 32-bit IDT (SDM vol. 3A, §6.12).
    fn enter_protected(&mut self, vector: u8, cause: Cause, error: Option<u32>, image: u64) -> R {
        let ext = cause.ext();
        let at = u64::from(vector) * 8;
        let gate_error = (u32::from(vector) * 8) | 2 | ext;
        if at + 7 > u64::from(self.idtr.limit) {
            return Err(self.gp(gate_error));
        }
        let raw: u64 = self.load_table(self.idtr.base, at)?;
        let gate = Descriptor::loose(raw);
        let is_gate =
            matches!(gate.kind(), kind::TASK_GATE | kind::INTERRUPT16 | kind::TRAP16 | kind::INTERRUPT | kind::TRAP);
        if gate.is_segment() || !is_gate || cause == Cause::Instruction && gate.dpl() < self.cpl {
            return Err(self.gp(gate_error));
        }
        if !gate.present() {
            return Err(self.np(gate_error));
        }
        if gate.kind() == kind::TASK_GATE {
            return self.enter_task(gate.gate_selector(), ext, error, image);
        }
        let wide = gate.kind() & 8 != 0;
        let size = if wide { 4 } else { 2 };
        let ip = gate.gate_offset() & if wide { 0xFFFF_FFFF } else { 0xFFFF };
        let (mut code, cpl) = self.handler_code(gate.gate_selector(), ext)?;
        let from_v86 = self.flags & fl::VM != 0;
        if from_v86 && cpl != 0 {
            return Err(self.gp(index(gate.gate_selector()) | ext));
        }
        let old = [seg::GS, seg::FS, seg::DS, seg::ES].map(|s| u64::from(self.seg[s].selector));
        let (old_ss, old_sp) = (u64::from(self.seg[seg::SS].selector), self.regs[reg::RSP]);
        let (mut stack, new_ss) = if cpl < self.cpl {
            let (selector, sp) = self.tss_stack(cpl, ext)?;
            if null(selector) {
                return Err(self.ts(ext));
            }
            let ss = self.stack_segment(selector, cpl, vector::TS, ext)?;
            (Stack::new(ss, sp, cpl, index(selector) | ext), Some(ss))
        } else {
            (Stack::current(self, ext), None)
        };
        self.set_type(&mut code, 1)?;
        if from_v86 {
            for selector in old {
                stack.push(self, size, selector)?;
            }
        }
        if new_ss.is_some() {
            stack.push(self, size, old_ss)?;
            stack.push(self, size, old_sp)?;
        }
        stack.push(self, size, image)?;
        stack.push(self, size, u64::from(self.seg[seg::CS].selector))?;
        stack.push(self, size, self.regs[reg::RIP])?;
        if let Some(error) = error {
            stack.push(self, size, u64::from(error))?;
        }
        if ip > u64::from(code.limit()) {
            return Err(self.gp(ext));
        }
        if from_v86 {
            for s in [seg::GS, seg::FS, seg::DS, seg::ES] {
                self.seg[s] = Seg::unusable(0, 0);
            }
        }
        if let Some(ss) = new_ss {
            self.seg[seg::SS] = ss;
        }
        self.regs[reg::RSP] = stack.sp;
        self.regs[reg::RIP] = ip;
        self.seg[seg::CS] = code.segment(gate.gate_selector() & !3 | u16::from(cpl));
        let masks = gate.kind() & 1 == 0;
        self.handler_flags(fl::TF | fl::NT | fl::RF | fl::VM | if masks { fl::IF } else { 0 });
        Ok(())
    }

    /// Through a 64-bit IDT (SDM vol. 3A, §6.14).
    fn enter_long(&mut self, vector: u8, cause: Cause, error: Option<u32>, image: u64) -> R {
        let ext = cause.ext();
        let at = u64::from(vector) * 16;
        let gate_error = (u32::from(vector) * 8) | 2 | ext;
        if at + 15 > u64::from(self.idtr.limit) {
            return Err(self.gp(gate_error));
        }
        let low: u64 = self.load_table(self.idtr.base, at)?;
        let high: u64 = self.load_table(self.idtr.base, at + 8)?;
        let gate = Descriptor::loose(low);
        let is_gate = matches!(gate.kind(), kind::INTERRUPT | kind::TRAP);
        if gate.is_segment() || !is_gate || cause == Cause::Instruction && gate.dpl() < self.cpl {
            return Err(self.gp(gate_error));
        }
        if !gate.present() {
            return Err(self.np(gate_error));
        }
        let rip = gate.gate_offset() | high << 32;
        let (mut code, cpl) = self.handler_code(gate.gate_selector(), ext)?;
        let ist = low >> 32 & 7;
        let sp = if ist != 0 {
            self.tss_pointer(28 + 8 * ist, ext)?
        } else if cpl < self.cpl {
            self.tss_pointer(4 + 8 * u64::from(cpl), ext)?
        } else {
            self.regs[reg::RSP]
        };
        self.set_type(&mut code, 1)?;
        let mut stack = Stack::long(sp & !15, cpl, ext);
        let (ss, cs) = (self.seg[seg::SS].selector, self.seg[seg::CS].selector);
        stack.push(self, 8, u64::from(ss))?;
        stack.push(self, 8, self.regs[reg::RSP])?;
        stack.push(self, 8, image)?;
        stack.push(self, 8, u64::from(cs))?;
        stack.push(self, 8, self.regs[reg::RIP])?;
        if let Some(error) = error {
            stack.push(self, 8, u64::from(error))?;
        }
        if !Self::canonical(rip) {
            return Err(self.gp(ext));
        }
        if cpl < self.cpl {
            self.seg[seg::SS] = Seg::unusable(u16::from(cpl), cpl);
        }
        self.regs[reg::RSP] = stack.sp;
        self.regs[reg::RIP] = rip;
        self.seg[seg::CS] = code.segment(gate.gate_selector() & !3 | u16::from(cpl));
        let masks = gate.kind() & 1 == 0;
        self.handler_flags(fl::TF | fl::NT | fl::RF | if masks { fl::IF } else { 0 });
        Ok(())
    }

    /// The code segment that a gate names, and the level that its handler runs at.
    fn handler_code(&mut self, selector: u16, ext: u32) -> R<(Descriptor, u8)> {
        if null(selector) {
            return Err(self.gp(ext));
        }
        let code = self.descriptor_or_gp(selector, ext)?;
        let right_mode = !self.long_mode() || code.long() && !code.big();
        if !code.code() || code.dpl() > self.cpl || !right_mode {
            return Err(self.gp(index(selector) | ext));
        }
        if !code.present() {
            return Err(self.np(index(selector) | ext));
        }
        Ok((code, if code.conforming() { self.cpl } else { code.dpl() }))
    }

    /// Clears flags for a handler; CS and SS are its own already.
    fn handler_flags(&mut self, clear: u64) {
        self.flags &= !clear;
        self.refresh();
    }

    /// Changes the flags in `mask` to those of `value`.
    pub(crate) fn change_flags(&mut self, value: u64, mask: u64) {
        let new = self.rflags() & !mask | value & mask;
        self.lazy = Lazy::from_bits(new);
        let before = self.flags;
        self.flags = new & fl::DEFINED & !fl::ARITH | fl::FIXED;
        if (before ^ self.flags) & (fl::AC | fl::VM) != 0 {
            self.refresh();
        }
        // An interrupt may have become possible, or every instruction is to be looked at.
        let opened = self.flags & !before & fl::IF != 0;
        if self.flags & (fl::TF | fl::RF) != 0 || opened && (self.shadow != Shadow::None || self.interrupt_waits()) {
            self.recheck = true;
        }
    }

    /// DR6 bits of the instruction breakpoints at RIP, if any (SDM vol. 3B, §18.2.4).
    pub(crate) fn code_breakpoint(&self) -> Option<u64> {
        if self.dr7 & 0xFF == 0 {
            return None;
        }
        let rip = self.regs[reg::RIP];
        let la = if self.bits64() { rip } else { self.seg[seg::CS].base.wrapping_add(rip) & 0xFFFF_FFFF };
        let hits = (0..4).filter(|&k| {
            let (enabled, what, len) =
                (self.dr7 >> (2 * k) & 3, self.dr7 >> (16 + 4 * k) & 3, self.dr7 >> (18 + 4 * k) & 3);
            enabled != 0 && what == 0 && len == 0 && self.dr[k] == la
        });
        Some(hits.fold(0, |bits, k| bits | 1 << k)).filter(|&bits| bits != 0)
    }
}
