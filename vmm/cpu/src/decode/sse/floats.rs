//! Floating point.

use iced_x86::{Code as Id, Instruction, Mnemonic as M};

use super::{choose, forms, mmx_forms};
use crate::decode::Lowered;
use crate::exec::int::{Mem, Src};
use crate::exec::sse::{self, M32, M64, M128, Reg, mmx, special};
use crate::simd::float::{Add, Div, Double, Max, Min, Mul, Single, Sub};
use crate::simd::lanes::{low, map, with_low32, with_low64};
use crate::simd::{compare, convert, float, int, shuffle};

pub(super) fn lower(i: &Instruction) -> Option<Lowered> {
    arithmetic(i).or_else(|| others(i)).or_else(|| conversions(i))
}

/// The four forms of each operation.
fn arithmetic(i: &Instruction) -> Option<Lowered> {
    macro_rules! table {
        ($($ps:ident $pd:ident $ss:ident $sd:ident $operation:ident;)*) => {
            match i.mnemonic() {
                $(
                    M::$ps => choose(i, forms!(float, M128, float::packed::<Single, $operation>)),
                    M::$pd => choose(i, forms!(float, M128, float::packed::<Double, $operation>)),
                    M::$ss => choose(i, forms!(float, M32, float::scalar::<Single, $operation>)),
                    M::$sd => choose(i, forms!(float, M64, float::scalar::<Double, $operation>)),
                )*
                _ => None,
            }
        };
    }
    table! {
        Addps Addpd Addss Addsd Add;
        Subps Subpd Subss Subsd Sub;
        Mulps Mulpd Mulss Mulsd Mul;
        Divps Divpd Divss Divsd Div;
        Minps Minpd Minss Minsd Min;
        Maxps Maxpd Maxss Maxsd Max;
    }
}

fn others(i: &Instruction) -> Option<Lowered> {
    match i.mnemonic() {
        M::Sqrtps => choose(i, forms!(float_unary, M128, float::sqrt_packed::<Single>)),
        M::Sqrtpd => choose(i, forms!(float_unary, M128, float::sqrt_packed::<Double>)),
        M::Sqrtss => choose(i, forms!(float, M32, float::sqrt_scalar::<Single>)),
        M::Sqrtsd => choose(i, forms!(float, M64, float::sqrt_scalar::<Double>)),
        M::Rcpps => choose(i, forms!(unary, M128, |b| map(b, float::reciprocal))),
        M::Rcpss => choose(i, forms!(binary, M32, |a, b| with_low32(a, float::reciprocal(b as u32)))),
        M::Rsqrtps => choose(i, forms!(unary, M128, |b| map(b, float::reciprocal_root))),
        M::Rsqrtss => choose(i, forms!(binary, M32, |a, b| with_low32(a, float::reciprocal_root(b as u32)))),
        M::Andps => choose(i, forms!(binary, M128, int::pand)),
        M::Andpd => choose(i, forms!(binary, M128, int::pand)),
        M::Andnps => choose(i, forms!(binary, M128, int::pandn)),
        M::Andnpd => choose(i, forms!(binary, M128, int::pandn)),
        M::Orps => choose(i, forms!(binary, M128, int::por)),
        M::Orpd => choose(i, forms!(binary, M128, int::por)),
        M::Xorps => choose(i, forms!(binary, M128, int::pxor)),
        M::Xorpd => choose(i, forms!(binary, M128, int::pxor)),
        M::Shufps => choose(i, forms!(immediate, M128, shuffle::shufps)),
        M::Shufpd => choose(i, forms!(immediate, M128, shuffle::shufpd)),
        M::Unpcklps => choose(i, forms!(binary, M128, shuffle::punpckldq)),
        M::Unpckhps => choose(i, forms!(binary, M128, shuffle::punpckhdq)),
        M::Unpcklpd => choose(i, forms!(binary, M128, shuffle::punpcklqdq)),
        M::Unpckhpd => choose(i, forms!(binary, M128, shuffle::punpckhqdq)),
        M::Cmpps => choose(i, forms!(float_immediate, M128, compare::packed::<Single>)),
        M::Cmppd => choose(i, forms!(float_immediate, M128, compare::packed::<Double>)),
        M::Cmpss => choose(i, forms!(float_immediate, M32, compare::scalar::<Single>)),
        // A string instruction has the same name.
        M::Cmpsd if i.code() == Id::Cmpsd_xmm_xmmm64_imm8 => {
            choose(i, forms!(float_immediate, M64, compare::scalar::<Double>))
        }
        M::Ucomiss => choose(i, flags::<Single, M32, false>()),
        M::Comiss => choose(i, flags::<Single, M32, true>()),
        M::Ucomisd => choose(i, flags::<Double, M64, false>()),
        M::Comisd => choose(i, flags::<Double, M64, true>()),
        M::Addsubps => choose(i, forms!(float, M128, float::addsub::<Single>)),
        M::Addsubpd => choose(i, forms!(float, M128, float::addsub::<Double>)),
        M::Haddps => choose(i, forms!(float, M128, float::horizontal::<Single, Add>)),
        M::Haddpd => choose(i, forms!(float, M128, float::horizontal::<Double, Add>)),
        M::Hsubps => choose(i, forms!(float, M128, float::horizontal::<Single, Sub>)),
        M::Hsubpd => choose(i, forms!(float, M128, float::horizontal::<Double, Sub>)),
        M::Roundps => choose(i, forms!(float_immediate, M128, |_, b, imm, m| float::round_packed::<Single>(b, imm, m))),
        M::Roundpd => choose(i, forms!(float_immediate, M128, |_, b, imm, m| float::round_packed::<Double>(b, imm, m))),
        M::Roundss => choose(i, forms!(float_immediate, M32, float::round_scalar::<Single>)),
        M::Roundsd => choose(i, forms!(float_immediate, M64, float::round_scalar::<Double>)),
        M::Dpps => choose(i, forms!(float_immediate, M128, float::dot_product::<Single>)),
        M::Dppd => choose(i, forms!(float_immediate, M128, float::dot_product::<Double>)),
        _ => None,
    }
}

/// COMISx and UCOMISx.
fn flags<F: float::Real, N: sse::Source, const SIGNALING: bool>() -> super::Forms {
    (special::compare::<Reg, F, SIGNALING>, special::compare::<N, F, SIGNALING>)
}

/// A number to a general register of type `$T`.
macro_rules! to_general {
    ($i:expr, $F:ident, $N:ident, $T:ident, $truncate:literal) => {
        choose(
            $i,
            (
                |core, i| {
                    sse::float_to_general::<Reg, $T>(core, i, |b, width, mxcsr| {
                        convert::to_integer::<$F>(b, width, $truncate, mxcsr)
                    })
                },
                |core, i| {
                    sse::float_to_general::<$N, $T>(core, i, |b, width, mxcsr| {
                        convert::to_integer::<$F>(b, width, $truncate, mxcsr)
                    })
                },
            ),
        )
    };
}

/// An integer of type `$T` to a number.
macro_rules! from_general {
    ($i:expr, $F:ident, $T:ident) => {
        choose(
            $i,
            (
                |core, i| sse::general_to_float::<Src, $T>(core, i, convert::from_integer::<$F>),
                |core, i| sse::general_to_float::<Mem, $T>(core, i, convert::from_integer::<$F>),
            ),
        )
    };
}

/// Numbers to integers in an MMX register.
macro_rules! to_mmx {
    ($i:expr, $N:ident, $f:expr) => {
        choose($i, (|core, i| mmx::from_float::<Reg>(core, i, $f), |core, i| mmx::from_float::<$N>(core, i, $f)))
    };
}

fn conversions(i: &Instruction) -> Option<Lowered> {
    match i.code() {
        Id::Cvtss2sd_xmm_xmmm32 => choose(i, forms!(float, M32, convert::scalar::<Single, Double>)),
        Id::Cvtsd2ss_xmm_xmmm64 => choose(i, forms!(float, M64, convert::scalar::<Double, Single>)),
        Id::Cvtps2pd_xmm_xmmm64 => choose(i, forms!(float_unary, M64, |b, m| convert::cvtps2pd(low(b), m))),
        Id::Cvtpd2ps_xmm_xmmm128 => choose(i, forms!(float_unary, M128, convert::cvtpd2ps)),
        Id::Cvtdq2ps_xmm_xmmm128 => choose(i, forms!(float_unary, M128, convert::cvtdq2ps)),
        Id::Cvtdq2pd_xmm_xmmm64 => choose(i, forms!(unary, M64, |b| convert::cvtdq2pd(low(b)))),
        Id::Cvtps2dq_xmm_xmmm128 => choose(i, forms!(float_unary, M128, |b, m| convert::cvtps2dq(b, false, m))),
        Id::Cvttps2dq_xmm_xmmm128 => choose(i, forms!(float_unary, M128, |b, m| convert::cvtps2dq(b, true, m))),
        Id::Cvtpd2dq_xmm_xmmm128 => {
            choose(i, forms!(float_unary, M128, |b, m| Ok(convert::cvtpd2dq(b, false, m)?.into())))
        }
        Id::Cvttpd2dq_xmm_xmmm128 => {
            choose(i, forms!(float_unary, M128, |b, m| Ok(convert::cvtpd2dq(b, true, m)?.into())))
        }
        Id::Cvtss2si_r32_xmmm32 => to_general!(i, Single, M32, u32, false),
        Id::Cvtss2si_r64_xmmm32 => to_general!(i, Single, M32, u64, false),
        Id::Cvttss2si_r32_xmmm32 => to_general!(i, Single, M32, u32, true),
        Id::Cvttss2si_r64_xmmm32 => to_general!(i, Single, M32, u64, true),
        Id::Cvtsd2si_r32_xmmm64 => to_general!(i, Double, M64, u32, false),
        Id::Cvtsd2si_r64_xmmm64 => to_general!(i, Double, M64, u64, false),
        Id::Cvttsd2si_r32_xmmm64 => to_general!(i, Double, M64, u32, true),
        Id::Cvttsd2si_r64_xmmm64 => to_general!(i, Double, M64, u64, true),
        Id::Cvtsi2ss_xmm_rm32 => from_general!(i, Single, u32),
        Id::Cvtsi2ss_xmm_rm64 => from_general!(i, Single, u64),
        Id::Cvtsi2sd_xmm_rm32 => from_general!(i, Double, u32),
        Id::Cvtsi2sd_xmm_rm64 => from_general!(i, Double, u64),
        Id::Cvtps2pi_mm_xmmm64 => to_mmx!(i, M64, |b, m| convert::cvtps2pi(low(b), false, m)),
        Id::Cvttps2pi_mm_xmmm64 => to_mmx!(i, M64, |b, m| convert::cvtps2pi(low(b), true, m)),
        Id::Cvtpd2pi_mm_xmmm128 => to_mmx!(i, M128, |b, m| convert::cvtpd2dq(b, false, m)),
        Id::Cvttpd2pi_mm_xmmm128 => to_mmx!(i, M128, |b, m| convert::cvtpd2dq(b, true, m)),
        Id::Cvtpi2ps_xmm_mmm64 => {
            choose(i, mmx_forms!(to_float, M64, |a, b, m| Ok(with_low64(a, convert::cvtpi2ps(b, m)?))))
        }
        // From memory, it has nothing to do with MMX state (SDM vol. 2, CVTPI2PD).
        Id::Cvtpi2pd_xmm_mmm64 => choose(
            i,
            (
                mmx_forms!(to_float, M64, |_, b, _| Ok(convert::cvtdq2pd(b))).0,
                forms!(unary, M64, |b| convert::cvtdq2pd(low(b))).1,
            ),
        ),
        _ => None,
    }
}
