//! SSE to SSE4.2, AES, PCLMULQDQ and SHA on XMM registers: what is common to many instructions.
//!
//! What an instruction computes is a function of [`crate::simd`]; here are the ways its operands come and its result
//! goes, as generic functions that the decoder's tables instantiate, so that each handler is one small piece of code.

use crate::core::{Core, cr};
use crate::exec::int;
use crate::fault::{Fault, R, vector};
use crate::insn::Insn;
use crate::mem::{Access, Plain};
use crate::simd::lanes::{low, with_low32, with_low64};
use crate::simd::{Mxcsr, Unmasked};
use crate::word::Word;

pub(crate) mod mmx;
pub(crate) mod special;
#[cfg(test)]
mod tests;

/// #UD or #NM where SSE is switched off (SDM vol. 3A, table 2-2 and §14.1).
#[inline(always)]
pub(crate) fn ready(core: &mut Core) -> R {
    if core.sse_ready { Ok(()) } else { Err(unavailable(core)) }
}

#[cold]
fn unavailable(core: &mut Core) -> Fault {
    if core.cr0 & cr::CR0_EM != 0 || core.cr4 & cr::CR4_OSFXSR == 0 { core.ud() } else { core.raise(vector::NM) }
}

/// Computes with MXCSR. An unmasked exception leaves only its flags behind (SDM vol. 1, §11.5).
#[inline(always)]
pub(crate) fn with_mxcsr<T>(core: &mut Core, f: impl FnOnce(&mut Mxcsr) -> Result<T, Unmasked>) -> R<T> {
    let mut mxcsr = Mxcsr::from_valid(core.mxcsr);
    let result = f(&mut mxcsr);
    core.mxcsr = mxcsr.bits();
    match result {
        Ok(value) => Ok(value),
        Err(Unmasked) => Err(unmasked(core)),
    }
}

/// #XM, if the system knows about it.
#[cold]
fn unmasked(core: &mut Core) -> Fault {
    if core.cr4 & cr::CR4_OSXMMEXCPT == 0 { core.ud() } else { core.raise(vector::XM) }
}

/// Where the second operand comes from, in the low bits of the result.
pub(crate) trait Source {
    fn get(core: &mut Core, i: &Insn) -> R<u128>;
}

/// XMM register `src`.
pub(crate) struct Reg;
/// 16 bytes of memory that must be aligned.
pub(crate) struct M128;
/// Memory without alignment.
pub(crate) struct Mem<T>(std::marker::PhantomData<T>);
/// 16 bytes of memory without alignment.
pub(crate) type M128u = Mem<u128>;
/// 8 bytes of memory.
pub(crate) type M64 = Mem<u64>;
/// 4 bytes of memory.
pub(crate) type M32 = Mem<u32>;
/// 2 bytes of memory.
pub(crate) type M16 = Mem<u16>;

impl Source for Reg {
    #[inline(always)]
    fn get(core: &mut Core, i: &Insn) -> R<u128> {
        Ok(core.xmm[usize::from(i.src & 15)])
    }
}

impl Source for M128 {
    #[inline(always)]
    fn get(core: &mut Core, i: &Insn) -> R<u128> {
        let la = aligned(core, i, Access::Read)?;
        core.load_at(usize::from(i.seg), la)
    }
}

impl<T: Plain> Source for Mem<T> {
    #[inline(always)]
    fn get(core: &mut Core, i: &Insn) -> R<u128> {
        Ok(core.load::<T>(i)?.widen())
    }
}

/// The linear address of an operand of 16 bytes, which must be aligned: #GP(0).
#[inline(always)]
fn aligned(core: &mut Core, i: &Insn, access: Access) -> R<u64> {
    let la = core.linear(i, 16, access)?;
    if la & 15 == 0 { Ok(la) } else { Err(core.gp(0)) }
}

#[inline(always)]
fn dst<'a>(core: &'a mut Core, i: &Insn) -> &'a mut u128 {
    &mut core.xmm[usize::from(i.dst & 15)]
}

/// `dst = f(dst, source)`
#[inline(always)]
pub(crate) fn binary<S: Source>(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u128) -> u128) -> R {
    ready(core)?;
    let b = S::get(core, i)?;
    let a = dst(core, i);
    *a = f(*a, b);
    Ok(())
}

/// `dst = f(source)`
#[inline(always)]
pub(crate) fn unary<S: Source>(core: &mut Core, i: &Insn, f: impl FnOnce(u128) -> u128) -> R {
    binary::<S>(core, i, |_, b| f(b))
}

/// `dst = f(dst, source, imm8)`
#[inline(always)]
pub(crate) fn immediate<S: Source>(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u128, u8) -> u128) -> R {
    binary::<S>(core, i, |a, b| f(a, b, i.imm as u8))
}

/// `dst = f(source, imm8)`
#[inline(always)]
pub(crate) fn unary_immediate<S: Source>(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u8) -> u128) -> R {
    binary::<S>(core, i, |_, b| f(b, i.imm as u8))
}

/// `dst = f(dst, source, XMM0)`
#[inline(always)]
pub(crate) fn with_xmm0<S: Source>(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u128, u128) -> u128) -> R {
    let xmm0 = core.xmm[0];
    binary::<S>(core, i, |a, b| f(a, b, xmm0))
}

/// A shift of all lanes by the low 64 bits of the source.
#[inline(always)]
pub(crate) fn shift<S: Source>(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u64) -> u128) -> R {
    binary::<S>(core, i, |a, b| f(a, low(b)))
}

/// A shift by an immediate.
#[inline(always)]
pub(crate) fn shift_immediate(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u8) -> u128) -> R {
    ready(core)?;
    let a = dst(core, i);
    *a = f(*a, i.imm as u8);
    Ok(())
}

/// `dst = f(dst, source)` in floating point
#[inline(always)]
pub(crate) fn float<S: Source>(
    core: &mut Core,
    i: &Insn,
    f: impl FnOnce(u128, u128, &mut Mxcsr) -> Result<u128, Unmasked>,
) -> R {
    ready(core)?;
    let b = S::get(core, i)?;
    let a = *dst(core, i);
    let result = with_mxcsr(core, |mxcsr| f(a, b, mxcsr))?;
    *dst(core, i) = result;
    Ok(())
}

/// `dst = f(source)` in floating point
#[inline(always)]
pub(crate) fn float_unary<S: Source>(
    core: &mut Core,
    i: &Insn,
    f: impl FnOnce(u128, &mut Mxcsr) -> Result<u128, Unmasked>,
) -> R {
    float::<S>(core, i, |_, b, mxcsr| f(b, mxcsr))
}

/// `dst = f(dst, source, imm8)` in floating point
#[inline(always)]
pub(crate) fn float_immediate<S: Source>(
    core: &mut Core,
    i: &Insn,
    f: impl FnOnce(u128, u128, u8, &mut Mxcsr) -> Result<u128, Unmasked>,
) -> R {
    float::<S>(core, i, |a, b, mxcsr| f(a, b, i.imm as u8, mxcsr))
}

/// A number of the source as an integer in a general register of type `T`.
#[inline(always)]
pub(crate) fn float_to_general<S: Source, T: Word>(
    core: &mut Core,
    i: &Insn,
    f: impl FnOnce(u128, u32, &mut Mxcsr) -> Result<i64, Unmasked>,
) -> R {
    ready(core)?;
    let b = S::get(core, i)?;
    let value = with_mxcsr(core, |mxcsr| f(b, T::BITS, mxcsr))?;
    T::set(&mut core.regs, i.dst, T::cut(value as u64));
    Ok(())
}

/// A signed integer as a number in the low lane of `dst`.
#[inline(always)]
pub(crate) fn general_to_float<S: int::Source, T: Word>(
    core: &mut Core,
    i: &Insn,
    f: impl FnOnce(u128, i64, &mut Mxcsr) -> Result<u128, Unmasked>,
) -> R {
    ready(core)?;
    let b = S::get::<T>(core, i)?.sext() as i64;
    let a = *dst(core, i);
    let result = with_mxcsr(core, |mxcsr| f(a, b, mxcsr))?;
    *dst(core, i) = result;
    Ok(())
}

/// `dst = f(dst, integer, imm8)`: insertions, and MOVD, MOVQ from general registers
#[inline(always)]
pub(crate) fn insert<S: int::Source, T: Word>(core: &mut Core, i: &Insn, f: impl FnOnce(u128, T, u8) -> u128) -> R {
    ready(core)?;
    let b = S::get::<T>(core, i)?;
    let a = dst(core, i);
    *a = f(*a, b, i.imm as u8);
    Ok(())
}

/// A general register, zero-extended, from a register: extractions, sign masks, MOVD, MOVQ.
#[inline(always)]
pub(crate) fn extract<T: Word>(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u8) -> T) -> R {
    ready(core)?;
    let value = f(core.xmm[usize::from(i.src & 15)], i.imm as u8);
    core.regs[usize::from(i.dst & 15)] = value.wide();
    Ok(())
}

/// The same into memory.
#[inline(always)]
pub(crate) fn extract_to_memory<T: Word>(core: &mut Core, i: &Insn, f: impl FnOnce(u128, u8) -> T) -> R {
    ready(core)?;
    let value = f(core.xmm[usize::from(i.src & 15)], i.imm as u8);
    core.store(i, value)
}

/// Stores a register in 16 aligned bytes.
pub(crate) fn store_aligned(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let la = aligned(core, i, Access::Write)?;
    core.store_at(usize::from(i.seg), la, core.xmm[usize::from(i.src & 15)])
}

/// Stores a register.
pub(crate) fn store(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    core.store(i, core.xmm[usize::from(i.src & 15)])
}

/// MOVSS between registers: the rest of the destination stays
pub(crate) fn merge32(core: &mut Core, i: &Insn) -> R {
    binary::<Reg>(core, i, |a, b| with_low32(a, b as u32))
}

/// MOVSD between registers, MOVLPx from memory
#[inline(always)]
pub(crate) fn merge64<S: Source>(core: &mut Core, i: &Insn) -> R {
    binary::<S>(core, i, |a, b| with_low64(a, low(b)))
}
