//! Packed integers, AES, PCLMULQDQ, SHA, strings and CRC32.

use iced_x86::{Instruction, Mnemonic as M, OpKind};

use super::{choose, forms, is_mmx, mmx_forms};
use crate::decode::{Lowered, go, size_of_operand};
use crate::exec::int::{Mem, Src};
use crate::exec::sse::{self, M128, M128u, Reg, special};
use crate::simd::{aes, int, mmx, sha, shuffle};

/// One match from a table of lines; every line names the feature of the MMX forms, that of the XMM forms, how the
/// MMX form is made from the function, and the functions.
macro_rules! table {
    ($i:expr; $($adapt:path, $M:ident: $($mnemonic:ident $f:path),*;)*) => {
        match $i.mnemonic() {
            $($(M::$mnemonic => {
                if is_mmx($i) {
                    choose($i, mmx_forms!(binary, $M, |a, b| $adapt(a, b, $f)))
                } else {
                    choose($i, forms!(binary, M128, $f))
                }
            })*)*
            _ => None,
        }
    };
}

pub(super) fn lower(i: &Instruction) -> Option<Lowered> {
    let by_lanes = table! { i;
        mmx::lanes, M64: Paddb int::paddb, Paddw int::paddw, Paddd int::paddd, Paddsb int::paddsb,
            Paddsw int::paddsw, Paddusb int::paddusb, Paddusw int::paddusw, Psubb int::psubb, Psubw int::psubw,
            Psubd int::psubd, Psubsb int::psubsb, Psubsw int::psubsw, Psubusb int::psubusb, Psubusw int::psubusw,
            Pcmpeqb int::pcmpeqb, Pcmpeqw int::pcmpeqw, Pcmpeqd int::pcmpeqd, Pcmpgtb int::pcmpgtb,
            Pcmpgtw int::pcmpgtw, Pcmpgtd int::pcmpgtd, Pmullw int::pmullw, Pmulhw int::pmulhw,
            Pmaddwd int::pmaddwd, Pand int::pand, Pandn int::pandn, Por int::por, Pxor int::pxor;
        mmx::lanes, M64: Pavgb int::pavgb, Pavgw int::pavgw, Pminsw int::pminsw, Pminub int::pminub,
            Pmaxsw int::pmaxsw, Pmaxub int::pmaxub, Pmulhuw int::pmulhuw, Psadbw int::psadbw;
        mmx::lanes, M64: Paddq int::paddq, Psubq int::psubq, Pmuludq int::pmuludq;
        mmx::lanes, M64: Pmulhrsw int::pmulhrsw, Pmaddubsw int::pmaddubsw, Psignb int::psignb,
            Psignw int::psignw, Psignd int::psignd;
        mmx::lanes, M64: Pminsb int::pminsb, Pminsd int::pminsd, Pminuw int::pminuw,
            Pminud int::pminud, Pmaxsb int::pmaxsb, Pmaxsd int::pmaxsd, Pmaxuw int::pmaxuw, Pmaxud int::pmaxud,
            Pcmpeqq int::pcmpeqq, Pmulld int::pmulld, Pmuldq int::pmuldq, Packusdw shuffle::packusdw;
        mmx::lanes, M64: Pcmpgtq int::pcmpgtq;
        mmx::lanes, M64: Punpcklqdq shuffle::punpcklqdq, Punpckhqdq shuffle::punpckhqdq;
        mmx::lanes, M32: Punpcklbw shuffle::punpcklbw, Punpcklwd shuffle::punpcklwd,
            Punpckldq shuffle::punpckldq;
        mmx::joined, M64: Packsswb shuffle::packsswb, Packuswb shuffle::packuswb,
            Packssdw shuffle::packssdw;
        mmx::joined, M64: Phaddw int::phaddw, Phaddsw int::phaddsw, Phaddd int::phaddd,
            Phsubw int::phsubw, Phsubsw int::phsubsw, Phsubd int::phsubd;
        mmx::lanes, M64: Aesenc aes::aesenc, Aesenclast aes::aesenclast, Aesdec aes::aesdec,
            Aesdeclast aes::aesdeclast;
        mmx::lanes, M64: Sha1nexte sha::sha1nexte, Sha1msg1 sha::sha1msg1, Sha1msg2 sha::sha1msg2,
            Sha256msg1 sha::sha256msg1, Sha256msg2 sha::sha256msg2;
    };
    by_lanes.or_else(|| shifts(i)).or_else(|| others(i))
}

/// The upper halves of MMX registers, interleaved, come from the function for the lower halves of XMM registers.
macro_rules! upper {
    ($i:expr, $xmm:path, $mm:path) => {
        if is_mmx($i) {
            choose($i, mmx_forms!(binary, M64, |a, b| mmx::upper(a, b, $mm)))
        } else {
            choose($i, forms!(binary, M128, $xmm))
        }
    };
}

/// PABSx, which have one operand.
macro_rules! absolute {
    ($i:expr, $function:path) => {
        if is_mmx($i) {
            choose($i, mmx_forms!(binary, M64, |_, b| $function(b.into()) as u64))
        } else {
            choose($i, forms!(unary, M128, $function))
        }
    };
}

/// Shifts by a register, memory or an immediate, in both register files.
macro_rules! shift {
    ($i:expr, $function:path) => {
        match (is_mmx($i), $i.op1_kind() == OpKind::Immediate8) {
            (true, true) => go(|core, i| sse::mmx::shift_immediate(core, i, $function)),
            (true, false) => choose($i, mmx_forms!(binary, M64, |a, b| $function(a.into(), b) as u64)),
            (false, true) => go(|core, i| sse::shift_immediate(core, i, |a, n| $function(a, n.into()))),
            (false, false) => choose($i, forms!(shift, M128, $function)),
        }
    };
}

fn shifts(i: &Instruction) -> Option<Lowered> {
    match i.mnemonic() {
        M::Psllw => shift!(i, int::psllw),
        M::Pslld => shift!(i, int::pslld),
        M::Psllq => shift!(i, int::psllq),
        M::Psrlw => shift!(i, int::psrlw),
        M::Psrld => shift!(i, int::psrld),
        M::Psrlq => shift!(i, int::psrlq),
        M::Psraw => shift!(i, int::psraw),
        M::Psrad => shift!(i, int::psrad),
        M::Pslldq => go(|core, i| sse::shift_immediate(core, i, int::pslldq)),
        M::Psrldq => go(|core, i| sse::shift_immediate(core, i, int::psrldq)),
        _ => None,
    }
}

/// String comparisons, whose memory operand needs no alignment.
macro_rules! strings {
    ($i:expr, $function:ident $(, $T:ident)?) => {
        choose($i, (special::$function::<Reg $(, $T)?>, special::$function::<M128u $(, $T)?>))
    };
}

fn others(i: &Instruction) -> Option<Lowered> {
    match i.mnemonic() {
        M::Punpckhbw => upper!(i, shuffle::punpckhbw, shuffle::punpcklbw),
        M::Punpckhwd => upper!(i, shuffle::punpckhwd, shuffle::punpcklwd),
        M::Punpckhdq => upper!(i, shuffle::punpckhdq, shuffle::punpckldq),
        M::Pabsb => absolute!(i, int::pabsb),
        M::Pabsw => absolute!(i, int::pabsw),
        M::Pabsd => absolute!(i, int::pabsd),
        M::Pshufb if is_mmx(i) => choose(i, mmx_forms!(binary, M64, mmx::pshufb)),
        M::Pshufb => choose(i, forms!(binary, M128, shuffle::pshufb)),
        M::Palignr if is_mmx(i) => choose(i, mmx_forms!(immediate, M64, mmx::palignr)),
        M::Palignr => choose(i, forms!(immediate, M128, shuffle::palignr)),
        M::Pshufw => choose(i, mmx_forms!(immediate, M64, |_, b, imm| shuffle::pshufw(b, imm))),
        M::Pshufd => choose(i, forms!(unary_immediate, M128, shuffle::pshufd)),
        M::Pshuflw => choose(i, forms!(unary_immediate, M128, shuffle::pshuflw)),
        M::Pshufhw => choose(i, forms!(unary_immediate, M128, shuffle::pshufhw)),
        M::Pblendvb => choose(i, forms!(with_xmm0, M128, shuffle::pblendvb)),
        M::Blendvps => choose(i, forms!(with_xmm0, M128, shuffle::blendvps)),
        M::Blendvpd => choose(i, forms!(with_xmm0, M128, shuffle::blendvpd)),
        M::Pblendw => choose(i, forms!(immediate, M128, shuffle::pblendw)),
        M::Blendps => choose(i, forms!(immediate, M128, shuffle::blendps)),
        M::Blendpd => choose(i, forms!(immediate, M128, shuffle::blendpd)),
        M::Mpsadbw => choose(i, forms!(immediate, M128, int::mpsadbw)),
        M::Phminposuw => choose(i, forms!(unary, M128, int::phminposuw)),
        M::Ptest => choose(i, (special::ptest::<Reg>, special::ptest::<M128>)),
        M::Pmovsxbw => choose(i, forms!(unary, M64, shuffle::pmovsxbw)),
        M::Pmovsxbd => choose(i, forms!(unary, M32, shuffle::pmovsxbd)),
        M::Pmovsxbq => choose(i, forms!(unary, M16, shuffle::pmovsxbq)),
        M::Pmovsxwd => choose(i, forms!(unary, M64, shuffle::pmovsxwd)),
        M::Pmovsxwq => choose(i, forms!(unary, M32, shuffle::pmovsxwq)),
        M::Pmovsxdq => choose(i, forms!(unary, M64, shuffle::pmovsxdq)),
        M::Pmovzxbw => choose(i, forms!(unary, M64, shuffle::pmovzxbw)),
        M::Pmovzxbd => choose(i, forms!(unary, M32, shuffle::pmovzxbd)),
        M::Pmovzxbq => choose(i, forms!(unary, M16, shuffle::pmovzxbq)),
        M::Pmovzxwd => choose(i, forms!(unary, M64, shuffle::pmovzxwd)),
        M::Pmovzxwq => choose(i, forms!(unary, M32, shuffle::pmovzxwq)),
        M::Pmovzxdq => choose(i, forms!(unary, M64, shuffle::pmovzxdq)),
        M::Aesimc => choose(i, forms!(unary, M128, aes::aesimc)),
        M::Aeskeygenassist => choose(i, forms!(unary_immediate, M128, aes::aeskeygenassist)),
        M::Pclmulqdq => choose(i, forms!(immediate, M128, int::pclmulqdq)),
        M::Sha1rnds4 => choose(i, forms!(immediate, M128, sha::sha1rnds4)),
        M::Sha256rnds2 => choose(i, forms!(with_xmm0, M128, sha::sha256rnds2)),
        M::Pcmpestri => strings!(i, pcmpestri, u32),
        M::Pcmpestri64 => strings!(i, pcmpestri, u64),
        M::Pcmpestrm => strings!(i, pcmpestrm, u32),
        M::Pcmpestrm64 => strings!(i, pcmpestrm, u64),
        M::Pcmpistri => strings!(i, pcmpistri),
        M::Pcmpistrm => strings!(i, pcmpistrm),
        M::Crc32 => match (i.op1_kind(), size_of_operand(i, 1)) {
            (OpKind::Register, 1) => go(special::crc32::<Src, u8>),
            (OpKind::Register, 2) => go(special::crc32::<Src, u16>),
            (OpKind::Register, 4) => go(special::crc32::<Src, u32>),
            (OpKind::Register, 8) => go(special::crc32::<Src, u64>),
            (OpKind::Memory, 1) => go(special::crc32::<Mem, u8>),
            (OpKind::Memory, 2) => go(special::crc32::<Mem, u16>),
            (OpKind::Memory, 4) => go(special::crc32::<Mem, u32>),
            (OpKind::Memory, 8) => go(special::crc32::<Mem, u64>),
            _ => None,
        },
        _ => None,
    }
}
