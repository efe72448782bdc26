//! Moves between registers and memory.

use iced_x86::{Code as Id, Instruction, Mnemonic as M};

use super::{choose, forms, is_mmx, mmx_forms};
use crate::decode::{Lowered, go};
use crate::exec::int::{Mem, Src};
use crate::exec::sse::{self, M64, Reg, mmx, special};
use crate::simd::lanes::{halves, high, low};
use crate::simd::{int, shuffle};

pub(super) fn lower(i: &Instruction) -> Option<Lowered> {
    whole(i).or_else(|| parts(i)).or_else(|| general(i))
}

/// A register from a register, or stored by `$store`.
macro_rules! to_place {
    ($i:expr, $register:expr, $store:expr) => {
        choose($i, ($register, $store))
    };
}

/// Whole registers.
fn whole(i: &Instruction) -> Option<Lowered> {
    let aligned = forms!(unary, M128, |b| b);
    let unaligned = forms!(unary, M128u, |b| b);
    match i.code() {
        Id::Movaps_xmm_xmmm128 => choose(i, aligned),
        Id::Movapd_xmm_xmmm128 | Id::Movdqa_xmm_xmmm128 => choose(i, aligned),
        Id::Movups_xmm_xmmm128 => choose(i, unaligned),
        Id::Movupd_xmm_xmmm128 | Id::Movdqu_xmm_xmmm128 => choose(i, unaligned),
        Id::Lddqu_xmm_m128 => choose(i, unaligned),
        Id::Movntdqa_xmm_m128 => choose(i, aligned),
        Id::Movaps_xmmm128_xmm => to_place!(i, aligned.0, sse::store_aligned),
        Id::Movapd_xmmm128_xmm | Id::Movdqa_xmmm128_xmm => to_place!(i, aligned.0, sse::store_aligned),
        Id::Movups_xmmm128_xmm => to_place!(i, aligned.0, sse::store),
        Id::Movupd_xmmm128_xmm | Id::Movdqu_xmmm128_xmm => to_place!(i, aligned.0, sse::store),
        Id::Movntps_m128_xmm => go(sse::store_aligned),
        Id::Movntpd_m128_xmm | Id::Movntdq_m128_xmm => go(sse::store_aligned),
        Id::Maskmovdqu_rDI_xmm_xmm => go(special::maskmovdqu),
        Id::Maskmovq_rDI_mm_mm => go(mmx::maskmovq),
        Id::Ldmxcsr_m32 => go(special::ldmxcsr),
        Id::Stmxcsr_m32 => go(special::stmxcsr),
        Id::Emms => go(mmx::emms),
        _ => None,
    }
}

/// Parts of registers.
fn parts(i: &Instruction) -> Option<Lowered> {
    match i.code() {
        Id::Movss_xmm_xmmm32 => choose(i, (sse::merge32, forms!(unary, M32, |b| b).1)),
        Id::Movss_xmmm32_xmm => {
            to_place!(i, sse::merge32, |core, i| sse::extract_to_memory(core, i, |b, _| b as u32))
        }
        Id::Movsd_xmm_xmmm64 => choose(i, (sse::merge64::<Reg>, forms!(unary, M64, |b| b).1)),
        Id::Movsd_xmmm64_xmm => {
            to_place!(i, sse::merge64::<Reg>, |core, i| sse::extract_to_memory(core, i, |b, _| low(b)))
        }
        Id::Movlps_xmm_m64 => go(sse::merge64::<M64>),
        Id::Movlpd_xmm_m64 => go(sse::merge64::<M64>),
        Id::Movlps_m64_xmm => go(|core, i| sse::extract_to_memory(core, i, |b, _| low(b))),
        Id::Movlpd_m64_xmm => go(|core, i| sse::extract_to_memory(core, i, |b, _| low(b))),
        Id::Movhps_m64_xmm => go(|core, i| sse::extract_to_memory(core, i, |b, _| high(b))),
        Id::Movhpd_m64_xmm => go(|core, i| sse::extract_to_memory(core, i, |b, _| high(b))),
        Id::Movhps_xmm_m64 => go(forms!(binary, M64, shuffle::punpcklqdq).1),
        Id::Movhpd_xmm_m64 => go(forms!(binary, M64, shuffle::punpcklqdq).1),
        Id::Movlhps_xmm_xmm => go(forms!(binary, M128, shuffle::punpcklqdq).0),
        Id::Movhlps_xmm_xmm => go(forms!(binary, M128, |a, b| halves(high(b), high(a))).0),
        Id::Movddup_xmm_xmmm64 => choose(i, forms!(unary, M64, shuffle::movddup)),
        Id::Movsldup_xmm_xmmm128 => choose(i, forms!(unary, M128, shuffle::movsldup)),
        Id::Movshdup_xmm_xmmm128 => choose(i, forms!(unary, M128, shuffle::movshdup)),
        Id::Movq_xmm_xmmm64 => choose(i, forms!(unary, M64, int::low_half)),
        Id::Movq_xmmm64_xmm => to_place!(i, forms!(unary, M64, int::low_half).0, |core, i| {
            sse::extract_to_memory(core, i, |b, _| low(b))
        }),
        Id::Movq_mm_mmm64 => choose(i, mmx_forms!(binary, M64, |_, b| b)),
        Id::Movq_mmm64_mm => to_place!(i, mmx_forms!(binary, M64, |_, b| b).0, mmx::store::<u64>),
        Id::Movntq_m64_mm => go(mmx::store::<u64>),
        Id::Movdq2q_mm_xmm => go(mmx::movdq2q),
        Id::Movq2dq_xmm_mm => go(mmx::movq2dq),
        _ => None,
    }
}

/// Both places an integer is extracted to, as a `$T`.
macro_rules! extract {
    ($i:expr, $f:expr) => {
        choose($i, (|core, i| sse::extract(core, i, $f), |core, i| sse::extract_to_memory(core, i, $f)))
    };
}

/// Both places an integer is inserted from.
macro_rules! insert {
    ($i:expr, $T:ident, $f:expr) => {
        choose($i, (|core, i| sse::insert::<Src, $T>(core, i, $f), |core, i| sse::insert::<Mem, $T>(core, i, $f)))
    };
}

/// The same for MMX registers.
macro_rules! mmx_insert {
    ($i:expr, $T:ident, $f:expr) => {
        choose($i, (|core, i| mmx::insert::<Src, $T>(core, i, $f), |core, i| mmx::insert::<Mem, $T>(core, i, $f)))
    };
}

/// To and from general registers.
fn general(i: &Instruction) -> Option<Lowered> {
    match i.code() {
        Id::Movd_xmm_rm32 => return insert!(i, u32, |_, b, _| b.into()),
        Id::Movq_xmm_rm64 => return insert!(i, u64, |_, b, _| b.into()),
        Id::Movd_rm32_xmm => return extract!(i, |b, _| b as u32),
        Id::Movq_rm64_xmm => return extract!(i, |b, _| low(b)),
        Id::Movd_mm_rm32 => return mmx_insert!(i, u32, |_, b, _| b.into()),
        Id::Movq_mm_rm64 => return mmx_insert!(i, u64, |_, b, _| b),
        Id::Movd_rm32_mm => {
            return to_place!(i, |core, i| mmx::extract(core, i, |b, _| b as u32), mmx::store::<u32>);
        }
        Id::Movq_rm64_mm => return to_place!(i, |core, i| mmx::extract(core, i, |b, _| b), mmx::store::<u64>),
        _ => {}
    }
    match i.mnemonic() {
        M::Pextrb => extract!(i, shuffle::pextrb),
        M::Pextrw if is_mmx(i) => go(|core, i| mmx::extract(core, i, |b, imm| shuffle::pextrw(b.into(), imm & 3))),
        M::Pextrw => extract!(i, shuffle::pextrw),
        M::Pextrd | M::Extractps => extract!(i, shuffle::pextrd),
        M::Pextrq => extract!(i, shuffle::pextrq),
        M::Pinsrb => insert!(i, u8, shuffle::pinsrb),
        M::Pinsrw if is_mmx(i) => {
            mmx_insert!(i, u16, |a, b, imm| low(shuffle::pinsrw(a.into(), b, imm & 3)))
        }
        M::Pinsrw => insert!(i, u16, shuffle::pinsrw),
        M::Pinsrd => insert!(i, u32, shuffle::pinsrd),
        M::Pinsrq => insert!(i, u64, shuffle::pinsrq),
        M::Insertps => choose(
            i,
            (
                |core, i| {
                    sse::immediate::<Reg>(core, i, |a, b, imm| shuffle::insertps(a, shuffle::pextrd(b, imm >> 6), imm))
                },
                |core, i| sse::immediate::<sse::M32>(core, i, |a, b, imm| shuffle::insertps(a, b as u32, imm)),
            ),
        ),
        M::Pmovmskb if is_mmx(i) => go(|core, i| mmx::extract(core, i, |b, _| shuffle::pmovmskb(b.into()))),
        M::Pmovmskb => go(|core, i| sse::extract(core, i, |b, _| shuffle::pmovmskb(b))),
        M::Movmskps => go(|core, i| sse::extract(core, i, |b, _| shuffle::movmskps(b))),
        M::Movmskpd => go(|core, i| sse::extract(core, i, |b, _| shuffle::movmskpd(b))),
        _ => None,
    }
}
