//! FXSAVE, XSAVE and their kin, XGETBV, XSETBV (SDM vol. 1, sections 10.5 and 13.4 to 13.10).
//!
//! The states are x87 and SSE: both lie in the legacy region, so the compacted form is 576 bytes as well.

use crate::core::{Core, cr};
use crate::fault::{R, vector};
use crate::insn::{Insn, reg};
use crate::mem::Access;
use crate::x87::{F80, Fpu};

/// Bits of XCR0 and of the masks.
const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
/// The states that this processor has.
const STATES: u64 = X87 | SSE;
/// Bit 63 of XCOMP_BV: the image is compacted.
const COMPACTED: u64 = 1 << 63;
/// What can be set in MXCSR.
const MXCSR_MASK: u32 = 0xFFFF;
/// MXCSR after reset.
const MXCSR_INITIAL: u32 = 0x1F80;
/// Bytes of the legacy region, and with the header.
const LEGACY: u64 = 512;
const WHOLE: u64 = 576;
/// Offsets in the image.
const MXCSR_AT: u64 = 24;
const ST_AT: u64 = 32;
const XMM_AT: u64 = 160;
const XSTATE_BV_AT: u64 = 512;
const XCOMP_BV_AT: u64 = 520;

/// An image in memory whose place was found good.
#[derive(Clone, Copy)]
struct Area {
    segment: usize,
    la: u64,
}

impl Area {
    /// The memory operand, `size` bytes with `align`ment; every page of it can be reached.
    fn new(core: &mut Core, i: &Insn, size: u64, align: u64, access: Access) -> R<Self> {
        let segment = usize::from(i.seg);
        let la = core.linear(i, size, access)?;
        if la % align != 0 {
            return Err(core.gp(0));
        }
        core.probe(core.mmu, segment, la, size as usize, access)?;
        Ok(Self { segment, la })
    }

    fn store(self, core: &mut Core, at: u64, value: u64) -> R {
        let la = core.wrapped(self.la, at);
        core.store_at(self.segment, la, value)
    }

    fn store_row(self, core: &mut Core, at: u64, value: u128) -> R {
        let la = core.wrapped(self.la, at);
        core.store_at(self.segment, la, value)
    }

    fn load(self, core: &mut Core, at: u64) -> R<u64> {
        let la = core.wrapped(self.la, at);
        core.load_at(self.segment, la)
    }

    fn load_row(self, core: &mut Core, at: u64) -> R<u128> {
        let la = core.wrapped(self.la, at);
        core.load_at(self.segment, la)
    }

    /// The x87 part; `wide`: with 64-bit pointers.
    fn store_x87(self, core: &mut Core, wide: bool) -> R {
        let fpu = &core.fpu;
        let pointer = |value: u64| if wide { value } else { value & 0xFFFF_FFFF };
        let (ip, dp) = (pointer(fpu.ip), pointer(fpu.dp));
        let words = u64::from(fpu.control())
            | u64::from(fpu.status()) << 16
            | u64::from(fpu.abridged_tags()) << 32
            | u64::from(fpu.opcode) << 48;
        self.store(core, 0, words)?;
        self.store(core, 8, ip)?;
        self.store(core, 16, dp)?;
        for n in 0..8 {
            let value = core.fpu.raw(n).to_bits();
            self.store_row(core, ST_AT + 16 * u64::from(n), value)?;
        }
        Ok(())
    }

    fn store_mxcsr(self, core: &mut Core) -> R {
        let value = u64::from(core.mxcsr) | u64::from(MXCSR_MASK) << 32;
        self.store(core, MXCSR_AT, value)
    }

    fn store_xmm(self, core: &mut Core) -> R {
        for n in 0..xmm_count(core) {
            let value = core.xmm[n];
            self.store_row(core, XMM_AT + 16 * n as u64, value)?;
        }
        Ok(())
    }

    fn load_x87(self, core: &mut Core, wide: bool) -> R<Fpu> {
        let mut fpu = Fpu::initial();
        let words = self.load(core, 0)?;
        fpu.set_control(words as u16);
        fpu.set_status((words >> 16) as u16);
        fpu.set_abridged_tags((words >> 32) as u8);
        fpu.opcode = (words >> 48) as u16 & 0x7FF;
        let pointer = |value: u64| if wide { value } else { value & 0xFFFF_FFFF };
        fpu.ip = pointer(self.load(core, 8)?);
        fpu.dp = pointer(self.load(core, 16)?);
        for n in 0..8 {
            let value = self.load_row(core, ST_AT + 16 * u64::from(n))?;
            fpu.set_raw(n, F80::from_bits(value));
        }
        Ok(fpu)
    }

    /// MXCSR, whose reserved bits must be clear.
    fn load_mxcsr(self, core: &mut Core) -> R<u32> {
        let value = self.load(core, MXCSR_AT)? as u32;
        if value & !MXCSR_MASK != 0 {
            return Err(core.gp(0));
        }
        Ok(value)
    }

    /// The XMM registers of the current mode; the others as they are.
    fn load_xmm(self, core: &mut Core) -> R<[u128; 16]> {
        let mut xmm = core.xmm;
        for (to, at) in xmm.iter_mut().take(xmm_count(core)).zip((XMM_AT..).step_by(16)) {
            *to = self.load_row(core, at)?;
        }
        Ok(xmm)
    }
}

/// XMM8 to XMM15 are there in 64-bit mode only.
fn xmm_count(core: &Core) -> usize {
    if core.bits64() { 16 } else { 8 }
}

/// FXSAVE and FXRSTOR: #NM under EM and TS both.
fn fx_available(core: &mut Core) -> R {
    if core.cr0 & (cr::CR0_EM | cr::CR0_TS) != 0 {
        return Err(core.raise(vector::NM));
    }
    Ok(())
}

/// FXSAVE; `WIDE`: FXSAVE64.
pub(crate) fn fxsave<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    fx_available(core)?;
    let area = Area::new(core, i, LEGACY, 16, Access::Write)?;
    area.store_x87(core, WIDE)?;
    area.store_mxcsr(core)?;
    area.store_xmm(core)
}

/// FXRSTOR; `WIDE`: FXRSTOR64.
pub(crate) fn fxrstor<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    fx_available(core)?;
    let area = Area::new(core, i, LEGACY, 16, Access::Read)?;
    let fpu = area.load_x87(core, WIDE)?;
    let mxcsr = area.load_mxcsr(core)?;
    let xmm = area.load_xmm(core)?;
    (core.fpu, core.mxcsr, core.xmm) = (fpu, mxcsr, xmm);
    Ok(())
}

/// What XSAVE and its kin ask first: #UD without CR4.OSXSAVE, #NM under TS.
fn x_available(core: &mut Core) -> R {
    if core.cr4 & cr::CR4_OSXSAVE == 0 {
        return Err(core.ud());
    }
    if core.cr0 & cr::CR0_TS != 0 {
        return Err(core.raise(vector::NM));
    }
    Ok(())
}

fn edx_eax(core: &Core) -> u64 {
    core.regs[reg::RDX] << 32 | core.regs[reg::RAX] & 0xFFFF_FFFF
}

/// The states that are not in their initial configuration (SDM vol. 1, section 13.6). MXCSR counts for the compacted
/// form only: in the others it goes its own way.
fn in_use(core: &Core, how: Saving) -> u64 {
    let mxcsr = how == Saving::Compacted && core.mxcsr != MXCSR_INITIAL;
    let sse = mxcsr || core.xmm.iter().take(xmm_count(core)).any(|&xmm| xmm != 0);
    (if core.fpu == Fpu::initial() { 0 } else { X87 }) | (if sse { SSE } else { 0 })
}

/// The instructions that write the image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saving {
    Plain,
    /// Without the states that are in their initial configuration.
    Optimized,
    /// Likewise, in the compacted form.
    Compacted,
}

fn save(core: &mut Core, i: &Insn, wide: bool, how: Saving) -> R {
    x_available(core)?;
    let area = Area::new(core, i, WHOLE, 64, Access::Write)?;
    let asked = edx_eax(core) & core.xcr0;
    let used = in_use(core, how) & asked;
    let written = if how == Saving::Plain { asked } else { used };
    let before = if how == Saving::Compacted { 0 } else { area.load(core, XSTATE_BV_AT)? & !asked };
    if written & X87 != 0 {
        area.store_x87(core, wide)?;
    }
    // But for the compacted form it is saved whenever SSE is asked for.
    if (if how == Saving::Compacted { written } else { asked }) & SSE != 0 {
        area.store_mxcsr(core)?;
    }
    if written & SSE != 0 {
        area.store_xmm(core)?;
    }
    area.store(core, XSTATE_BV_AT, before | used)?;
    if how == Saving::Compacted {
        area.store(core, XCOMP_BV_AT, COMPACTED | asked)?;
    }
    Ok(())
}

/// XSAVE, XSAVE64.
pub(crate) fn xsave<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    save(core, i, WIDE, Saving::Plain)
}

/// XSAVEOPT, XSAVEOPT64.
pub(crate) fn xsaveopt<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    save(core, i, WIDE, Saving::Optimized)
}

/// XSAVEC, XSAVEC64.
pub(crate) fn xsavec<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    save(core, i, WIDE, Saving::Compacted)
}

/// XRSTOR, XRSTOR64 (SDM vol. 1, section 13.8).
pub(crate) fn xrstor<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    x_available(core)?;
    let area = Area::new(core, i, WHOLE, 64, Access::Read)?;
    let present = area.load(core, XSTATE_BV_AT)?;
    let components = area.load(core, XCOMP_BV_AT)?;
    let compacted = components & COMPACTED != 0;
    // Reserved: bytes 23:16 of the header in the standard form, all behind XCOMP_BV in the compacted one.
    let reserved = if compacted { XCOMP_BV_AT + 8..WHOLE } else { XCOMP_BV_AT + 8..XCOMP_BV_AT + 16 };
    let mut clear = true;
    for at in reserved.step_by(8) {
        clear &= area.load(core, at)? == 0;
    }
    let allowed = if compacted { components & !COMPACTED } else { core.xcr0 };
    let known = if compacted { core.features.xsavec && allowed & !core.xcr0 == 0 } else { components == 0 };
    if !clear || !known || present & !allowed != 0 {
        return Err(core.gp(0));
    }
    let asked = edx_eax(core) & core.xcr0;
    let (mut fpu, mut mxcsr, mut xmm) = (core.fpu.clone(), core.mxcsr, core.xmm);
    if asked & X87 != 0 {
        fpu = if present & X87 != 0 { area.load_x87(core, WIDE)? } else { Fpu::initial() };
    }
    if asked & SSE != 0 {
        // In the standard form MXCSR comes from the image even if the registers do not.
        mxcsr = if compacted && present & SSE == 0 { MXCSR_INITIAL } else { area.load_mxcsr(core)? };
        if present & SSE != 0 {
            xmm = area.load_xmm(core)?;
        } else {
            let count = xmm_count(core);
            xmm.iter_mut().take(count).for_each(|xmm| *xmm = 0);
        }
    }
    (core.fpu, core.mxcsr, core.xmm) = (fpu, mxcsr, xmm);
    Ok(())
}

/// XGETBV
pub(crate) fn xgetbv(core: &mut Core, _: &Insn) -> R {
    if core.cr4 & cr::CR4_OSXSAVE == 0 {
        return Err(core.ud());
    }
    if core.regs[reg::RCX] as u32 != 0 {
        return Err(core.gp(0));
    }
    core.regs[reg::RAX] = core.xcr0 & 0xFFFF_FFFF;
    core.regs[reg::RDX] = core.xcr0 >> 32;
    Ok(())
}

/// XSETBV
pub(crate) fn xsetbv(core: &mut Core, _: &Insn) -> R {
    if core.cr4 & cr::CR4_OSXSAVE == 0 {
        return Err(core.ud());
    }
    let value = edx_eax(core);
    if core.cpl() != 0 || core.regs[reg::RCX] as u32 != 0 || value & X87 == 0 || value & !STATES != 0 {
        return Err(core.gp(0));
    }
    core.xcr0 = value;
    Ok(())
}
