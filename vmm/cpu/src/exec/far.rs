//! Far jumps, calls and returns (SDM vol. 3A, §5.8; vol. 2, CALL, JMP, RET).

use crate::core::{Core, Seg};
use crate::fault::{R, vector};
use crate::insn::{Insn, reg, seg};
use crate::mem::Access;
use crate::segment::{Descriptor, Stack, index, kind, null, rpl};

/// How a far transfer came about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Jump,
    /// With return addresses of this many bytes.
    Call(u64),
}

impl Core {
    /// Reads `size` bytes `above` the top of the stack.
    #[inline(always)]
    pub(crate) fn peek_sized(&mut self, above: u64, size: u64) -> R<u64> {
        let offset = self.regs[reg::RSP].wrapping_add(above) & self.stack_mask;
        let la = self.linear_at(seg::SS, offset, size, Access::Read)?;
        match size {
            8 => self.load_at::<u64>(seg::SS, la),
            4 => self.load_at::<u32>(seg::SS, la).map(u64::from),
            _ => self.load_at::<u16>(seg::SS, la).map(u64::from),
        }
    }

    /// Sets as much of RSP as the current stack segment uses.
    pub(crate) fn set_sp(&mut self, sp: u64) {
        let mask = self.stack_mask;
        let rsp = &mut self.regs[reg::RSP];
        *rsp = if mask == 0xFFFF { *rsp & 0xFFFF_0000 | sp & mask } else { sp & mask };
    }

    /// #GP(0) unless `ip` is a place in the code segment.
    fn check_ip(&mut self, code: Descriptor, ip: u64) -> R {
        let fits = if self.long_mode() && code.long() { Self::canonical(ip) } else { ip <= u64::from(code.limit()) };
        if fits { Ok(()) } else { Err(self.gp(0)) }
    }

    /// A code segment that is none in this mode: #GP(selector); one that is not there: #NP(selector).
    fn check_code(&mut self, code: Descriptor, selector: u16, allowed: bool) -> R {
        let both = self.long_mode() && code.long() && code.big();
        if !code.code() || both || !allowed {
            return Err(self.gp(index(selector)));
        }
        if !code.present() {
            return Err(self.np(index(selector)));
        }
        Ok(())
    }

    /// Goes on in another code segment of the level `cpl`.
    fn enter_code(&mut self, code: Descriptor, selector: u16, cpl: u8, ip: u64) {
        self.seg[seg::CS] = code.segment(selector & !3 | u16::from(cpl));
        self.regs[reg::RIP] = ip;
        self.refresh();
    }

    fn far(&mut self, selector: u16, ip: u64, how: How) -> R {
        if !self.protected() {
            return self.far_real(selector, ip, how);
        }
        if null(selector) {
            return Err(self.gp(0));
        }
        let mut d = self.descriptor_or_gp(selector, 0)?;
        if !d.is_segment() {
            return self.far_system(d, selector, how);
        }
        let allowed =
            if d.conforming() { d.dpl() <= self.cpl } else { d.dpl() == self.cpl && rpl(selector) <= self.cpl };
        self.check_code(d, selector, allowed)?;
        self.set_type(&mut d, 1)?;
        let stack = self.push_return(how)?;
        self.check_ip(d, ip)?;
        self.regs[reg::RSP] = stack;
        self.enter_code(d, selector, self.cpl, ip);
        Ok(())
    }

    /// Writes the return address of a call; returns what RSP becomes.
    fn push_return(&mut self, how: How) -> R<u64> {
        let mut stack = Stack::current(self, 0);
        if let How::Call(size) = how {
            stack.push(self, size, u64::from(self.seg[seg::CS].selector))?;
            stack.push(self, size, self.regs[reg::RIP])?;
        }
        Ok(stack.sp)
    }

    fn far_real(&mut self, selector: u16, ip: u64, how: How) -> R {
        let stack = self.push_return(how)?;
        if ip > u64::from(self.seg[seg::CS].limit) {
            return Err(self.gp(0));
        }
        self.regs[reg::RSP] = stack;
        self.regs[reg::RIP] = ip;
        self.seg[seg::CS] = self.flat16(seg::CS, selector);
        Ok(())
    }

    /// Through a call gate, a task gate or a TSS.
    fn far_system(&mut self, d: Descriptor, selector: u16, how: How) -> R {
        let long = self.long_mode();
        let known = match d.kind() {
            kind::CALL => true,
            kind::CALL16 | kind::TASK_GATE => !long,
            k => !long && (k == kind::TSS || k == kind::TSS16),
        };
        if !known || d.dpl() < self.cpl || rpl(selector) > d.dpl() {
            return Err(self.gp(index(selector)));
        }
        if !d.present() {
            return Err(self.np(index(selector)));
        }
        match d.kind() {
            kind::CALL | kind::CALL16 => self.call_gate(d, selector, how),
            kind::TASK_GATE => self.far_task(d.gate_selector(), how != How::Jump),
            _ => self.far_task(selector, how != How::Jump),
        }
    }

    fn call_gate(&mut self, gate: Descriptor, gate_selector: u16, how: How) -> R {
        let long = self.long_mode();
        let mut ip = gate.gate_offset();
        let size = match gate.kind() {
            kind::CALL16 => {
                ip &= 0xFFFF;
                2
            }
            _ if long => {
                let high = self.descriptor_high(gate_selector)?;
                // The type of the second half must be 0 (SDM vol. 3A, §5.8.3.1).
                let Some(high) = high.filter(|high| high >> 40 & 0x1F == 0) else {
                    return Err(self.gp(index(gate_selector)));
                };
                ip |= high << 32;
                8
            }
            _ => 4,
        };
        let selector = gate.gate_selector();
        if null(selector) {
            return Err(self.gp(0));
        }
        let mut code = self.descriptor_or_gp(selector, 0)?;
        let level =
            if how == How::Jump && !code.conforming() { code.dpl() == self.cpl } else { code.dpl() <= self.cpl };
        let right_mode = !long || code.long();
        self.check_code(code, selector, level && right_mode)?;
        self.set_type(&mut code, 1)?;
        let inner = how != How::Jump && !code.conforming() && code.dpl() < self.cpl;
        if inner {
            return self.call_inner(gate, code, ip, size);
        }
        let stack = self.push_return(if how == How::Jump { how } else { How::Call(size) })?;
        self.check_ip(code, ip)?;
        self.regs[reg::RSP] = stack;
        self.enter_code(code, selector, self.cpl, ip);
        Ok(())
    }

    /// A call to an inner level switches stacks (SDM vol. 3A, §5.8.5).
    fn call_inner(&mut self, gate: Descriptor, code: Descriptor, ip: u64, size: u64) -> R {
        let cpl = code.dpl();
        let (old_ss, old_sp) = (u64::from(self.seg[seg::SS].selector), self.regs[reg::RSP]);
        let (mut stack, ss, parameters) = if size == 8 {
            let sp = self.tss_pointer(4 + 8 * u64::from(cpl), 0)?;
            (Stack::long(sp, cpl, 0), Seg::unusable(u16::from(cpl), cpl), 0)
        } else {
            let (selector, sp) = self.tss_stack(cpl, 0)?;
            if null(selector) {
                return Err(self.ts(0));
            }
            let ss = self.stack_segment(selector, cpl, vector::TS, 0)?;
            (Stack::new(ss, sp, cpl, index(selector)), ss, gate.raw >> 32 & 31)
        };
        stack.push(self, size, old_ss)?;
        stack.push(self, size, old_sp)?;
        for k in (0..parameters).rev() {
            let parameter = self.peek_sized(k * size, size)?;
            stack.push(self, size, parameter)?;
        }
        stack.push(self, size, u64::from(self.seg[seg::CS].selector))?;
        stack.push(self, size, self.regs[reg::RIP])?;
        self.check_ip(code, ip)?;
        self.seg[seg::SS] = ss;
        self.regs[reg::RSP] = stack.sp;
        self.enter_code(code, gate.gate_selector(), cpl, ip);
        Ok(())
    }

    /// The code segment that a return goes to.
    pub(crate) fn return_code(&mut self, selector: u16) -> R<Descriptor> {
        if null(selector) {
            return Err(self.gp(0));
        }
        let code = self.descriptor_or_gp(selector, 0)?;
        let level = rpl(selector);
        let fits = if code.conforming() { code.dpl() <= level } else { code.dpl() == level };
        self.check_code(code, selector, fits && level >= self.cpl)?;
        Ok(code)
    }

    /// The stack segment that a return to level `cpl` goes to.
    pub(crate) fn return_stack(&mut self, selector: u16, cpl: u8, code: Descriptor) -> R<Seg> {
        if null(selector) {
            let allowed = self.long_mode() && code.long() && cpl < 3 && rpl(selector) == cpl;
            return if allowed { Ok(Seg::unusable(selector, cpl)) } else { Err(self.gp(0)) };
        }
        self.stack_segment(selector, cpl, vector::GP, 0)
    }

    /// Goes where a return leads. `outer`: the stack that comes with it; `sp`: what the stack pointer becomes.
    pub(crate) fn go_back(&mut self, mut code: Descriptor, selector: u16, ip: u64, outer: Option<Seg>, sp: u64) -> R {
        self.check_ip(code, ip)?;
        self.set_type(&mut code, 1)?;
        let before = self.cpl;
        let Some(ss) = outer else {
            self.set_sp(sp);
            self.enter_code(code, selector, before, ip);
            return Ok(());
        };
        self.seg[seg::SS] = ss;
        self.enter_code(code, selector, rpl(selector), ip);
        self.set_sp(sp);
        if self.cpl > before {
            self.drop_inner_segments();
        }
        Ok(())
    }

    /// Reads a far pointer in memory: the offset, then the selector.
    pub(crate) fn far_pointer(&mut self, i: &Insn, size: u64) -> R<(u16, u64)> {
        let at = self.linear(i, size + 2, Access::Read)?;
        let which = usize::from(i.seg);
        let ip = match size {
            8 => self.load_at::<u64>(which, at)?,
            4 => u64::from(self.load_at::<u32>(which, at)?),
            _ => u64::from(self.load_at::<u16>(which, at)?),
        };
        let next = if self.bits64() { at.wrapping_add(size) } else { at.wrapping_add(size) & 0xFFFF_FFFF };
        Ok((self.load_at::<u16>(which, next)?, ip))
    }
}

/// JMP ptr16:16/32. The immediate is the offset, with the selector above it.
pub(crate) fn jump_direct(core: &mut Core, i: &Insn) -> R {
    core.far((i.imm >> 32) as u16, i.imm & 0xFFFF_FFFF, How::Jump)
}

/// CALL ptr16:16/32.
pub(crate) fn call_direct(core: &mut Core, i: &Insn) -> R {
    core.far((i.imm >> 32) as u16, i.imm & 0xFFFF_FFFF, How::Call(u64::from(i.third)))
}

/// JMP m16:16/32/64.
pub(crate) fn jump_indirect(core: &mut Core, i: &Insn) -> R {
    let (selector, ip) = core.far_pointer(i, u64::from(i.third))?;
    core.far(selector, ip, How::Jump)
}

/// CALL m16:16/32/64.
pub(crate) fn call_indirect(core: &mut Core, i: &Insn) -> R {
    let size = u64::from(i.third);
    let (selector, ip) = core.far_pointer(i, size)?;
    core.far(selector, ip, How::Call(size))
}

/// RETF, RETF imm16.
pub(crate) fn ret(core: &mut Core, i: &Insn) -> R {
    let (size, drop) = (u64::from(i.third), i.imm & 0xFFFF);
    let ip = core.peek_sized(0, size)?;
    let selector = core.peek_sized(size, size)? as u16;
    let above = core.regs[reg::RSP].wrapping_add(2 * size + drop);
    if !core.protected() {
        if ip > u64::from(core.seg[seg::CS].limit) {
            return Err(core.gp(0));
        }
        core.regs[reg::RIP] = ip;
        core.seg[seg::CS] = core.flat16(seg::CS, selector);
        core.set_sp(above);
        return Ok(());
    }
    let code = core.return_code(selector)?;
    if rpl(selector) == core.cpl {
        return core.go_back(code, selector, ip, None, above);
    }
    let sp = core.peek_sized(2 * size + drop, size)?;
    let ss = core.peek_sized(3 * size + drop, size)? as u16;
    let ss = core.return_stack(ss, rpl(selector), code)?;
    core.go_back(code, selector, ip, Some(ss), sp.wrapping_add(drop))
}
