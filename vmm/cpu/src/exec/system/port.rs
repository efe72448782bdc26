//! I/O ports (SDM vol. 1, chapter 19).

use super::{set_counter, set_register};
use crate::core::{Core, cr};
use crate::fault::{Event, IoRequest, R};
use crate::flags::bits as fl;
use crate::insn::{Insn, REP, REPNE, reg, seg};
use crate::mem::Access;
use crate::word::Word;

/// Offset of the I/O map's own offset in a TSS of at least 32 bits.
const MAP_BASE: u64 = 0x66;

/// May these ports be used (SDM vol. 1, §19.5.2)?
fn allowed(core: &mut Core, port: u16, size: u8) -> R {
    if core.cr0 & cr::CR0_PE == 0 || core.cpl <= core.iopl() && core.flags & fl::VM == 0 {
        return Ok(());
    }
    let limit = u64::from(core.tr.limit);
    if core.tr.usable() && core.tr.kind() & 8 != 0 && limit > MAP_BASE {
        let base = core.tr.base;
        let map = u64::from(core.load_table::<u16>(base, MAP_BASE)?);
        let at = map + u64::from(port / 8);
        // Both bytes are read, so both must be there.
        if at < limit {
            let bits: u16 = core.load_table(base, at)?;
            if bits >> (port % 8) & ((1 << size) - 1) == 0 {
                return Ok(());
            }
        }
    }
    Err(core.gp(0))
}

/// Records which I/O breakpoints an access hits: R/W 10b while CR4.DE is set (SDM vol. 3B, §18.2.4).
fn note_breakpoints(core: &mut Core, port: u16, size: u8) {
    if core.dr7 & 0xFF == 0 || core.cr4 & cr::CR4_DE == 0 {
        return;
    }
    let (first, last) = (u64::from(port), u64::from(port) + u64::from(size) - 1);
    for (k, &start) in core.dr.iter().enumerate() {
        let (enabled, kind) = (core.dr7 >> (2 * k) & 3 != 0, core.dr7 >> (16 + 4 * k) & 3);
        let len = [1, 2, 8, 4][(core.dr7 >> (18 + 4 * k) & 3) as usize];
        let start = start & !(len - 1);
        if enabled && kind == 2 && first < start.saturating_add(len) && start <= last {
            core.hits |= 1 << k;
        }
    }
}

fn read(core: &mut Core, i: &Insn, port: u16) -> R {
    let size = i.third;
    allowed(core, port, size)?;
    let value = core.device(IoRequest::PioRead { port, size })?;
    note_breakpoints(core, port, size);
    if size == 1 {
        u8::set(&mut core.regs, 0, value as u8);
    } else {
        set_register(core, 0, size, value);
    }
    Ok(())
}

fn write(core: &mut Core, i: &Insn, port: u16) -> R {
    let size = i.third;
    allowed(core, port, size)?;
    let value = core.regs[reg::RAX] as u32 & mask(size);
    core.device(IoRequest::PioWrite { port, size, value })?;
    note_breakpoints(core, port, size);
    Ok(())
}

fn mask(size: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
}

/// IN, port in the immediate.
pub(crate) fn in_imm(core: &mut Core, i: &Insn) -> R {
    read(core, i, i.imm as u16 & 0xFF)
}

/// IN, port in DX.
pub(crate) fn in_dx(core: &mut Core, i: &Insn) -> R {
    read(core, i, core.regs[reg::RDX] as u16)
}

/// OUT, port in the immediate.
pub(crate) fn out_imm(core: &mut Core, i: &Insn) -> R {
    write(core, i, i.imm as u16 & 0xFF)
}

/// OUT, port in DX.
pub(crate) fn out_dx(core: &mut Core, i: &Insn) -> R {
    write(core, i, core.regs[reg::RDX] as u16)
}

/// Are there no iterations left?
fn exhausted(core: &Core, i: &Insn) -> bool {
    i.has(REP | REPNE) && core.regs[reg::RCX] & i.address_mask() == 0
}

/// One iteration is done: moves the index, counts, and comes back for more.
fn step(core: &mut Core, i: &Insn, index: usize) -> R {
    let size = u64::from(i.third);
    let delta = if core.flags & fl::DF != 0 { size.wrapping_neg() } else { size };
    set_counter(core, i, index, core.regs[index].wrapping_add(delta));
    if !i.has(REP | REPNE) {
        return Ok(());
    }
    set_counter(core, i, reg::RCX, core.regs[reg::RCX].wrapping_sub(1));
    if exhausted(core, i) { Ok(()) } else { Err(core.stop(Event::Again)) }
}

/// INS.
pub(crate) fn ins(core: &mut Core, i: &Insn) -> R {
    if exhausted(core, i) {
        return Ok(());
    }
    let (port, size) = (core.regs[reg::RDX] as u16, i.third);
    allowed(core, port, size)?;
    let offset = core.regs[reg::RDI] & i.address_mask();
    let la = core.linear_at(seg::ES, offset, u64::from(size), Access::Write)?;
    // The device is asked only when the answer has a place to go to.
    core.probe(core.mmu, seg::ES, la, usize::from(size), Access::Write)?;
    let value = core.device(IoRequest::PioRead { port, size })?;
    match size {
        1 => core.store_at(seg::ES, la, value as u8),
        2 => core.store_at(seg::ES, la, value as u16),
        _ => core.store_at(seg::ES, la, value as u32),
    }?;
    note_breakpoints(core, port, size);
    step(core, i, reg::RDI)
}

/// OUTS.
pub(crate) fn outs(core: &mut Core, i: &Insn) -> R {
    if exhausted(core, i) {
        return Ok(());
    }
    let (port, size) = (core.regs[reg::RDX] as u16, i.third);
    allowed(core, port, size)?;
    let (which, offset) = (usize::from(i.seg), core.regs[reg::RSI] & i.address_mask());
    let la = core.linear_at(which, offset, u64::from(size), Access::Read)?;
    let value = match size {
        1 => u32::from(core.load_at::<u8>(which, la)?),
        2 => u32::from(core.load_at::<u16>(which, la)?),
        _ => core.load_at::<u32>(which, la)?,
    };
    core.device(IoRequest::PioWrite { port, size, value })?;
    note_breakpoints(core, port, size);
    step(core, i, reg::RSI)
}
