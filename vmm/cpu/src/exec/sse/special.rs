//! Instructions of a shape of their own.

use super::{Source, ready, with_mxcsr};
use crate::core::Core;
use crate::exec::int;
use crate::fault::R;
use crate::flags::{Lazy, bits as fl};
use crate::insn::{Insn, reg};
use crate::mem::Access;
use crate::simd::compare::{self, CompareFlags};
use crate::simd::float::Real;
use crate::simd::strings::{self, Comparison};
use crate::simd::{Mxcsr, crc, int as packed};
use crate::word::Word;

fn flag(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

/// COMISx, UCOMISx: OF, SF and AF become 0
#[inline(always)]
pub(crate) fn compare<S: Source, F: Real, const SIGNALING: bool>(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let b = S::get(core, i)?;
    let a = core.xmm[usize::from(i.dst & 15)];
    let CompareFlags { zero, parity, carry } = with_mxcsr(core, |mxcsr| compare::flags::<F>(a, b, SIGNALING, mxcsr))?;
    core.lazy = Lazy::from_bits(flag(zero, fl::ZF) | flag(parity, fl::PF) | flag(carry, fl::CF));
    Ok(())
}

/// PTEST
#[inline(always)]
pub(crate) fn ptest<S: Source>(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let b = S::get(core, i)?;
    let (zero, carry) = packed::ptest(core.xmm[usize::from(i.dst & 15)], b);
    core.lazy = Lazy::from_bits(flag(zero, fl::ZF) | flag(carry, fl::CF));
    Ok(())
}

/// PCMPxSTRx: strings with explicit lengths of type `T` in RAX and RDX or, without a type, implicit ones.
#[inline(always)]
fn compare_strings<S: Source>(core: &mut Core, i: &Insn, lengths: Option<(i64, i64)>) -> R<Comparison> {
    ready(core)?;
    let b = S::get(core, i)?;
    let a = core.xmm[usize::from(i.dst & 15)];
    let comparison = match lengths {
        Some(lengths) => strings::explicit(a, b, lengths, i.imm as u8),
        None => strings::implicit(a, b, i.imm as u8),
    };
    core.lazy = Lazy::from_bits(
        flag(comparison.found(), fl::CF)
            | flag(comparison.second_ends, fl::ZF)
            | flag(comparison.first_ends, fl::SF)
            | flag(comparison.at_start(), fl::OF),
    );
    Ok(comparison)
}

fn lengths<T: Word>(core: &Core) -> Option<(i64, i64)> {
    let length = |number| T::cut(core.regs[number]).sext() as i64;
    Some((length(reg::RAX), length(reg::RDX)))
}

/// PCMPESTRI
pub(crate) fn pcmpestri<S: Source, T: Word>(core: &mut Core, i: &Insn) -> R {
    let comparison = compare_strings::<S>(core, i, lengths::<T>(core))?;
    core.regs[reg::RCX] = comparison.index().into();
    Ok(())
}

/// PCMPESTRM
pub(crate) fn pcmpestrm<S: Source, T: Word>(core: &mut Core, i: &Insn) -> R {
    core.xmm[0] = compare_strings::<S>(core, i, lengths::<T>(core))?.mask();
    Ok(())
}

/// PCMPISTRI
pub(crate) fn pcmpistri<S: Source>(core: &mut Core, i: &Insn) -> R {
    let comparison = compare_strings::<S>(core, i, None)?;
    core.regs[reg::RCX] = comparison.index().into();
    Ok(())
}

/// PCMPISTRM
pub(crate) fn pcmpistrm<S: Source>(core: &mut Core, i: &Insn) -> R {
    core.xmm[0] = compare_strings::<S>(core, i, None)?.mask();
    Ok(())
}

/// LDMXCSR: #GP(0) for a reserved bit
pub(crate) fn ldmxcsr(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let Some(mxcsr) = Mxcsr::new(core.load(i)?) else { return Err(core.gp(0)) };
    core.mxcsr = mxcsr.bits();
    Ok(())
}

/// STMXCSR
pub(crate) fn stmxcsr(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    core.store(i, core.mxcsr)
}

/// MASKMOVDQU
pub(crate) fn maskmovdqu(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let (data, mask) = (core.xmm[usize::from(i.src & 15)], core.xmm[usize::from(i.third & 15)]);
    masked_store(core, i, data, crate::simd::shuffle::pmovmskb(mask), 16)
}

/// Stores the chosen bytes at DS:rDI. All of them can be written, or none is; bytes beyond the first and the last
/// chosen one are not looked at (SDM vol. 2, MASKMOVDQU: whether they fault is for the implementation to say).
pub(super) fn masked_store(core: &mut Core, i: &Insn, data: u128, mask: u32, size: u64) -> R {
    let segment = usize::from(i.seg);
    let offset = core.regs[reg::RDI] & i.address_mask();
    let start = core.linear_at(segment, offset, size, Access::Write)?;
    let (first, last) = (mask.trailing_zeros(), mask.checked_ilog2());
    let Some(last) = last else { return Ok(()) };
    let mmu = core.mmu;
    core.probe(mmu, segment, start.wrapping_add(first.into()), (last - first + 1) as usize, Access::Write)?;
    for k in (first..=last).filter(|k| mask >> k & 1 == 1) {
        core.store_at(segment, start.wrapping_add(k.into()), (data >> (8 * k)) as u8)?;
    }
    Ok(())
}

/// CRC32 of a `T`: 32-bit and 64-bit destinations differ in nothing
#[inline(always)]
pub(crate) fn crc32<S: int::Source, T: Word>(core: &mut Core, i: &Insn) -> R {
    let data = S::get::<T>(core, i)?.wide();
    let old = core.regs[usize::from(i.dst & 15)] as u32;
    core.regs[usize::from(i.dst & 15)] = crc::crc32(old, data, T::BYTES).into();
    Ok(())
}
