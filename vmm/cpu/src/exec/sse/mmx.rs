//! MMX, and what SSE added to the MMX registers (SDM vol. 1, chapter 9).

use super::{special, with_mxcsr};
use crate::core::{Core, cr};
use crate::exec::int;
use crate::fault::{R, vector};
use crate::insn::Insn;
use crate::simd::lanes::low;
use crate::simd::{Mxcsr, Unmasked, shuffle};
use crate::word::Word;

/// #UD, #NM or #MF where MMX instructions cannot run (SDM vol. 3A, table 12-1).
#[inline(always)]
fn ready(core: &mut Core) -> R {
    if core.cr0 & (cr::CR0_EM | cr::CR0_TS) == 0 && !core.fpu.pending() { Ok(()) } else { not_ready(core) }
}

#[cold]
fn not_ready(core: &mut Core) -> R {
    if core.cr0 & cr::CR0_EM != 0 {
        Err(core.ud())
    } else if core.cr0 & cr::CR0_TS != 0 {
        Err(core.raise(vector::NM))
    } else {
        crate::exec::x87::pending(core)
    }
}

/// Instructions between XMM and MMX registers need both.
#[inline(always)]
fn both_ready(core: &mut Core) -> R {
    super::ready(core)?;
    ready(core)
}

/// Where the second operand comes from.
pub(crate) trait Source {
    fn get(core: &mut Core, i: &Insn) -> R<u64>;
}

/// MMX register `src`.
pub(crate) struct Reg;
/// 8 bytes of memory.
pub(crate) struct M64;
/// 4 bytes of memory.
pub(crate) struct M32;

impl Source for Reg {
    #[inline(always)]
    fn get(core: &mut Core, i: &Insn) -> R<u64> {
        Ok(core.fpu.mmx_read(i.src))
    }
}

impl Source for M64 {
    #[inline(always)]
    fn get(core: &mut Core, i: &Insn) -> R<u64> {
        core.load(i)
    }
}

impl Source for M32 {
    #[inline(always)]
    fn get(core: &mut Core, i: &Insn) -> R<u64> {
        Ok(core.load::<u32>(i)?.into())
    }
}

/// `dst = f(dst, source)`
#[inline(always)]
pub(crate) fn binary<S: Source>(core: &mut Core, i: &Insn, f: impl FnOnce(u64, u64) -> u64) -> R {
    ready(core)?;
    let b = S::get(core, i)?;
    let a = core.fpu.mmx_read(i.dst);
    core.fpu.mmx_write(i.dst, f(a, b));
    Ok(())
}

/// `dst = f(dst, source, imm8)`
#[inline(always)]
pub(crate) fn immediate<S: Source>(core: &mut Core, i: &Insn, f: impl FnOnce(u64, u64, u8) -> u64) -> R {
    binary::<S>(core, i, |a, b| f(a, b, i.imm as u8))
}

/// A shift by an immediate.
#[inline(always)]
pub(crate) fn shift_immediate(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u64) -> u128) -> R {
    ready(core)?;
    let a = core.fpu.mmx_read(i.dst);
    core.fpu.mmx_write(i.dst, low(f(a.into(), i.imm & 0xff)));
    Ok(())
}

/// A register from an integer: MOVD, MOVQ, PINSRW
#[inline(always)]
pub(crate) fn insert<S: int::Source, T: Word>(core: &mut Core, i: &Insn, f: impl FnOnce(u64, T, u8) -> u64) -> R {
    ready(core)?;
    let b = S::get::<T>(core, i)?;
    let a = core.fpu.mmx_read(i.dst);
    core.fpu.mmx_write(i.dst, f(a, b, i.imm as u8));
    Ok(())
}

/// A general register from a register: MOVD, MOVQ, PEXTRW, PMOVMSKB
#[inline(always)]
pub(crate) fn extract<T: Word>(core: &mut Core, i: &Insn, f: impl FnOnce(u64, u8) -> T) -> R {
    ready(core)?;
    let value = f(core.fpu.mmx_read(i.src), i.imm as u8);
    core.regs[usize::from(i.dst & 15)] = value.wide();
    core.fpu.mmx_enter();
    Ok(())
}

/// Stores the low bits of a register: MOVD, MOVQ, MOVNTQ
#[inline(always)]
pub(crate) fn store<T: Word>(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    core.store(i, T::cut(core.fpu.mmx_read(i.src)))?;
    core.fpu.mmx_enter();
    Ok(())
}

/// EMMS
pub(crate) fn emms(core: &mut Core, _: &Insn) -> R {
    ready(core)?;
    core.fpu.emms();
    Ok(())
}

/// MASKMOVQ
pub(crate) fn maskmovq(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let (data, mask) = (core.fpu.mmx_read(i.src), core.fpu.mmx_read(i.third));
    special::masked_store(core, i, data.into(), shuffle::pmovmskb(mask.into()), 8)?;
    core.fpu.mmx_enter();
    Ok(())
}

/// MOVDQ2Q
pub(crate) fn movdq2q(core: &mut Core, i: &Insn) -> R {
    both_ready(core)?;
    core.fpu.mmx_write(i.dst, low(core.xmm[usize::from(i.src & 15)]));
    Ok(())
}

/// MOVQ2DQ
pub(crate) fn movq2dq(core: &mut Core, i: &Insn) -> R {
    both_ready(core)?;
    core.xmm[usize::from(i.dst & 15)] = core.fpu.mmx_read(i.src).into();
    core.fpu.mmx_enter();
    Ok(())
}

/// CVTPI2PS, and CVTPI2PD from a register
#[inline(always)]
pub(crate) fn to_float<S: Source>(
    core: &mut Core,
    i: &Insn,
    f: impl FnOnce(u128, u64, &mut Mxcsr) -> Result<u128, Unmasked>,
) -> R {
    both_ready(core)?;
    let b = S::get(core, i)?;
    let a = core.xmm[usize::from(i.dst & 15)];
    let result = with_mxcsr(core, |mxcsr| f(a, b, mxcsr))?;
    core.xmm[usize::from(i.dst & 15)] = result;
    core.fpu.mmx_enter();
    Ok(())
}

/// CVTPS2PI, CVTPD2PI and their CVTT forms
#[inline(always)]
pub(crate) fn from_float<S: super::Source>(
    core: &mut Core,
    i: &Insn,
    f: impl FnOnce(u128, &mut Mxcsr) -> Result<u64, Unmasked>,
) -> R {
    both_ready(core)?;
    let b = S::get(core, i)?;
    let result = with_mxcsr(core, |mxcsr| f(b, mxcsr))?;
    core.fpu.mmx_write(i.dst, result);
    Ok(())
}
