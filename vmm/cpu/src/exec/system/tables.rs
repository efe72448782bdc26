//! Descriptor-table registers, the task register, and what UMIP keeps from programs.

use super::segments::{operand_dst, protected_only};
use super::{load_part, privileged, result16};
use crate::core::{Core, Seg, Table, cr};
use crate::fault::R;
use crate::insn::Insn;
use crate::mem::Access;
use crate::segment::{Descriptor, index, kind, null};

/// CR4.UMIP: not for programs (SDM vol. 3A, §2.5).
fn umip(core: &mut Core) -> R {
    if core.cr4 & cr::CR4_UMIP != 0 && core.cpl != 0 { Err(core.gp(0)) } else { Ok(()) }
}

fn store_table(core: &mut Core, i: &Insn, table: Table) -> R {
    umip(core)?;
    let long = core.bits64();
    let size = if long { 10 } else { 6 };
    let at = core.linear(i, size, Access::Write)?;
    let next = if long { at.wrapping_add(2) } else { at.wrapping_add(2) & 0xFFFF_FFFF };
    let which = usize::from(i.seg);
    core.probe(core.mmu, which, at, size as usize, Access::Write)?;
    core.store_at(which, at, table.limit)?;
    if long { core.store_at(which, next, table.base) } else { core.store_at(which, next, table.base as u32) }
}

/// SGDT.
pub(crate) fn sgdt(core: &mut Core, i: &Insn) -> R {
    store_table(core, i, core.gdtr)
}

/// SIDT.
pub(crate) fn sidt(core: &mut Core, i: &Insn) -> R {
    store_table(core, i, core.idtr)
}

/// The operand of LGDT and LIDT. Operands of 16 bits (`i.third` 2) have addresses of 24.
fn table_operand(core: &mut Core, i: &Insn) -> R<Table> {
    privileged(core)?;
    let long = core.bits64();
    let size = if long { 10 } else { 6 };
    let limit = load_part::<u16>(core, i, size, 0)?;
    let base = if long {
        load_part::<u64>(core, i, size, 2)?
    } else {
        let base = u64::from(load_part::<u32>(core, i, size, 2)?);
        if i.third == 2 { base & 0xFF_FFFF } else { base }
    };
    if long && !Core::canonical(base) {
        return Err(core.gp(0));
    }
    Ok(Table { base, limit })
}

/// LGDT.
pub(crate) fn lgdt(core: &mut Core, i: &Insn) -> R {
    core.gdtr = table_operand(core, i)?;
    Ok(())
}

/// LIDT.
pub(crate) fn lidt(core: &mut Core, i: &Insn) -> R {
    core.idtr = table_operand(core, i)?;
    Ok(())
}

/// SLDT.
pub(crate) fn sldt<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    umip(core)?;
    result16::<MEMORY>(core, i, u64::from(core.ldtr.selector))
}

/// STR.
pub(crate) fn str<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    umip(core)?;
    result16::<MEMORY>(core, i, u64::from(core.tr.selector))
}

/// SMSW.
pub(crate) fn smsw<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    umip(core)?;
    result16::<MEMORY>(core, i, core.cr0)
}

/// The descriptor of an LDT or TSS, and its base, of which IA-32e mode has 64 bits in 16 bytes.
fn system_segment(core: &mut Core, selector: u16, fits: fn(u8) -> bool) -> R<(Descriptor, u64)> {
    let error = index(selector);
    if selector & 4 != 0 {
        return Err(core.gp(error));
    }
    let d = core.descriptor_or_gp(selector, 0)?;
    if d.is_segment() || !fits(d.kind()) {
        return Err(core.gp(error));
    }
    let mut base = d.base();
    let mut sound = true;
    if core.long_mode() {
        // The type field of the second half must be 0 (SDM vol. 3A, §3.5.2).
        match core.descriptor_high(selector)? {
            Some(high) => {
                base |= high << 32;
                sound = high >> 40 & 0x1F == 0 && Core::canonical(base);
            }
            None => sound = false,
        }
    }
    if !sound {
        return Err(core.gp(error));
    }
    if !d.present() {
        return Err(core.np(error));
    }
    Ok((d, base))
}

/// LLDT.
pub(crate) fn lldt<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    privileged(core)?;
    let selector = operand_dst::<MEMORY>(core, i)?;
    core.ldtr = core.local_table(selector)?;
    Ok(())
}

impl Core {
    /// What LDTR holds after LLDT.
    pub(crate) fn local_table(&mut self, selector: u16) -> R<Seg> {
        if null(selector) {
            return Ok(Seg::unusable(selector, 0));
        }
        let (d, base) = system_segment(self, selector, |k| k == kind::LDT)?;
        Ok(Seg { base, ..d.segment(selector) })
    }
}

/// LTR.
pub(crate) fn ltr<const MEMORY: bool>(core: &mut Core, i: &Insn) -> R {
    protected_only(core)?;
    privileged(core)?;
    let selector = operand_dst::<MEMORY>(core, i)?;
    if null(selector) {
        return Err(core.gp(0));
    }
    let (mut d, base) = system_segment(core, selector, |k| k == kind::TSS || k == kind::TSS16)?;
    if core.long_mode() && d.kind() != kind::TSS {
        return Err(core.gp(index(selector)));
    }
    core.set_type(&mut d, kind::BUSY)?;
    core.tr = Seg { base, ..d.segment(selector) };
    Ok(())
}
