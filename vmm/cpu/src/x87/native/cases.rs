//! The instructions, as the host and as our unit have them.

use std::arch::asm;

use super::{Host, Image, Ours};
use crate::x87::{Binary, Compared, Constant, F80, Fpu, Operand, Pair, Source, Split, Unary};

fn word<const N: usize>(memory: &[u8; 16]) -> [u8; N] {
    memory[..N].try_into().unwrap()
}

fn m32(m: &[u8; 16]) -> Source {
    Source::Memory(Operand::f32(u32::from_le_bytes(word(m))))
}

fn m64(m: &[u8; 16]) -> Source {
    Source::Memory(Operand::f64(u64::from_le_bytes(word(m))))
}

fn i16m(m: &[u8; 16]) -> Source {
    Source::Memory(Operand::integer(i16::from_le_bytes(word(m)).into()))
}

fn i32m(m: &[u8; 16]) -> Source {
    Source::Memory(Operand::integer(i32::from_le_bytes(word(m)).into()))
}

fn push(unit: &mut Fpu, source: Source) {
    if let Source::Memory(operand) = source {
        unit.fld_operand(operand);
    }
}

fn put<const N: usize>(memory: &mut [u8; 16], bytes: Option<[u8; N]>) {
    if let Some(bytes) = bytes {
        memory[..N].copy_from_slice(&bytes);
    }
}

fn put_integer<const N: usize>(memory: &mut [u8; 16], value: Option<i64>) {
    put(memory, value.map(|value| value.to_le_bytes()[..N].try_into().unwrap()) as Option<[u8; N]>);
}

fn flags(to: &mut u64, Compared { zf, pf, cf }: Compared) {
    *to = *to & !0x8d5 | u64::from(zf) << 6 | u64::from(pf) << 2 | u64::from(cf);
}

const ST0: Source = Source::St(0);

/// One instruction: how it reads for the assembler, the host, and ours.
pub(super) struct Case {
    pub(super) text: &'static str,
    pub(super) host: Host,
    pub(super) ours: Ours,
}

macro_rules! cases {
    ($($text:literal => $ours:expr),+ $(,)?) => {
        vec![$(Case { text: $text, host: host!($text), ours: $ours }),+]
    };
}

/// The instructions whose results the architecture determines to the last bit.
pub(super) fn exact() -> Vec<Case> {
    use Binary::{Add, Div, Mul, Sub};
    cases! {
        "fadd st, st(1)" => |f, _, _| f.binary(Add, 0, ST0, Source::St(1), false),
        "fadd st(2), st" => |f, _, _| f.binary(Add, 2, Source::St(2), ST0, false),
        "faddp st(1), st" => |f, _, _| f.binary(Add, 1, Source::St(1), ST0, true),
        "fadd dword ptr [rdi]" => |f, m, _| f.binary(Add, 0, ST0, m32(m), false),
        "fadd qword ptr [rdi]" => |f, m, _| f.binary(Add, 0, ST0, m64(m), false),
        "fiadd word ptr [rdi]" => |f, m, _| f.binary(Add, 0, ST0, i16m(m), false),
        "fiadd dword ptr [rdi]" => |f, m, _| f.binary(Add, 0, ST0, i32m(m), false),
        "fsub st, st(1)" => |f, _, _| f.binary(Sub, 0, ST0, Source::St(1), false),
        "fsub st, st(0)" => |f, _, _| f.binary(Sub, 0, ST0, ST0, false),
        "fsubr st, st(1)" => |f, _, _| f.binary(Sub, 0, Source::St(1), ST0, false),
        "fsub qword ptr [rdi]" => |f, m, _| f.binary(Sub, 0, ST0, m64(m), false),
        "fsubr dword ptr [rdi]" => |f, m, _| f.binary(Sub, 0, m32(m), ST0, false),
        "fisubr dword ptr [rdi]" => |f, m, _| f.binary(Sub, 0, i32m(m), ST0, false),
        "fmul st, st(1)" => |f, _, _| f.binary(Mul, 0, ST0, Source::St(1), false),
        "fmulp st(3), st" => |f, _, _| f.binary(Mul, 3, Source::St(3), ST0, true),
        "fmul dword ptr [rdi]" => |f, m, _| f.binary(Mul, 0, ST0, m32(m), false),
        "fmul qword ptr [rdi]" => |f, m, _| f.binary(Mul, 0, ST0, m64(m), false),
        "fimul word ptr [rdi]" => |f, m, _| f.binary(Mul, 0, ST0, i16m(m), false),
        "fdiv st, st(1)" => |f, _, _| f.binary(Div, 0, ST0, Source::St(1), false),
        "fdivr st, st(1)" => |f, _, _| f.binary(Div, 0, Source::St(1), ST0, false),
        "fdiv dword ptr [rdi]" => |f, m, _| f.binary(Div, 0, ST0, m32(m), false),
        "fdivr qword ptr [rdi]" => |f, m, _| f.binary(Div, 0, m64(m), ST0, false),
        "fidiv word ptr [rdi]" => |f, m, _| f.binary(Div, 0, ST0, i16m(m), false),
        "fidivr dword ptr [rdi]" => |f, m, _| f.binary(Div, 0, i32m(m), ST0, false),
        "fsqrt" => |f, _, _| f.unary(Unary::Sqrt),
        "fabs" => |f, _, _| f.unary(Unary::Abs),
        "fchs" => |f, _, _| f.unary(Unary::Chs),
        "frndint" => |f, _, _| f.unary(Unary::RoundToInteger),
        "fscale" => |f, _, _| f.pair(Pair::Scale),
        "fprem" => |f, _, _| f.pair(Pair::Remainder),
        "fprem1" => |f, _, _| f.pair(Pair::RemainderNearest),
        "fxtract" => |f, _, _| f.split(Split::Extract),
        "fxam" => |f, _, _| f.fxam(),
        "ftst" => |f, _, _| f.ftst(),
        "fcom st(1)" => |f, _, _| f.fcom(Source::St(1), false, 0),
        "fcomp st(2)" => |f, _, _| f.fcom(Source::St(2), false, 1),
        "fcompp" => |f, _, _| f.fcom(Source::St(1), false, 2),
        "fucom st(1)" => |f, _, _| f.fcom(Source::St(1), true, 0),
        "fucomp st(1)" => |f, _, _| f.fcom(Source::St(1), true, 1),
        "fucompp" => |f, _, _| f.fcom(Source::St(1), true, 2),
        "fcom dword ptr [rdi]" => |f, m, _| f.fcom(m32(m), false, 0),
        "fcomp qword ptr [rdi]" => |f, m, _| f.fcom(m64(m), false, 1),
        "ficom word ptr [rdi]" => |f, m, _| f.fcom(i16m(m), false, 0),
        "ficomp dword ptr [rdi]" => |f, m, _| f.fcom(i32m(m), false, 1),
        "fcomi st, st(1)" => |f, _, to| flags(to, f.fcomi(1, false, false)),
        "fcompi st, st(1)" => |f, _, to| flags(to, f.fcomi(1, false, true)),
        "fucomi st, st(1)" => |f, _, to| flags(to, f.fcomi(1, true, false)),
        "fucompi st, st(2)" => |f, _, to| flags(to, f.fcomi(2, true, true)),
        "fcmovb st, st(1)" => |f, _, to| f.fcmov(1, *to & 1 != 0),
        "fcmovnbe st, st(1)" => |f, _, to| f.fcmov(1, *to & 0x41 == 0),
        "fcmove st, st(3)" => |f, _, to| f.fcmov(3, *to & 0x40 != 0),
        "fcmovnu st, st(1)" => |f, _, to| f.fcmov(1, *to & 4 == 0),
        "fld st(0)" => |f, _, _| f.fld_st(0),
        "fld st(5)" => |f, _, _| f.fld_st(5),
        "fld dword ptr [rdi]" => |f, m, _| push(f, m32(m)),
        "fld qword ptr [rdi]" => |f, m, _| push(f, m64(m)),
        "fld tbyte ptr [rdi]" => |f, m, _| f.fld(F80::from_bytes(word(m))),
        "fild word ptr [rdi]" => |f, m, _| push(f, i16m(m)),
        "fild dword ptr [rdi]" => |f, m, _| push(f, i32m(m)),
        "fild qword ptr [rdi]" => |f, m, _| f.fld_operand(Operand::integer(i64::from_le_bytes(word(m)))),
        "fld1" => |f, _, _| f.fld_constant(Constant::One),
        "fldz" => |f, _, _| f.fld_constant(Constant::Zero),
        "fldpi" => |f, _, _| f.fld_constant(Constant::Pi),
        "fldl2e" => |f, _, _| f.fld_constant(Constant::Log2OfE),
        "fldl2t" => |f, _, _| f.fld_constant(Constant::Log2Of10),
        "fldlg2" => |f, _, _| f.fld_constant(Constant::Log10Of2),
        "fldln2" => |f, _, _| f.fld_constant(Constant::LnOf2),
        "fst dword ptr [rdi]" => |f, m, _| put(m, f.fst_f32(false).map(u32::to_le_bytes)),
        "fstp dword ptr [rdi]" => |f, m, _| put(m, f.fst_f32(true).map(u32::to_le_bytes)),
        "fst qword ptr [rdi]" => |f, m, _| put(m, f.fst_f64(false).map(u64::to_le_bytes)),
        "fstp qword ptr [rdi]" => |f, m, _| put(m, f.fst_f64(true).map(u64::to_le_bytes)),
        "fstp tbyte ptr [rdi]" => |f, m, _| put(m, f.fstp_f80().map(F80::to_bytes)),
        "fist word ptr [rdi]" => |f, m, _| put_integer::<2>(m, f.fist(16, false, false)),
        "fistp word ptr [rdi]" => |f, m, _| put_integer::<2>(m, f.fist(16, false, true)),
        "fist dword ptr [rdi]" => |f, m, _| put_integer::<4>(m, f.fist(32, false, false)),
        "fistp qword ptr [rdi]" => |f, m, _| put_integer::<8>(m, f.fist(64, false, true)),
        "fisttp word ptr [rdi]" => |f, m, _| put_integer::<2>(m, f.fist(16, true, true)),
        "fisttp dword ptr [rdi]" => |f, m, _| put_integer::<4>(m, f.fist(32, true, true)),
        "fisttp qword ptr [rdi]" => |f, m, _| put_integer::<8>(m, f.fist(64, true, true)),
        "fbstp tbyte ptr [rdi]" => |f, m, _| put(m, f.fbstp()),
        "fst st(3)" => |f, _, _| f.fst_st(3, false),
        "fstp st(1)" => |f, _, _| f.fst_st(1, true),
        "fstp st(0)" => |f, _, _| f.fst_st(0, true),
        "fxch st(1)" => |f, _, _| f.fxch(1),
        "fxch st(0)" => |f, _, _| f.fxch(0),
        "ffree st(1)" => |f, _, _| f.ffree(1, false),
        ".byte 0xdf, 0xc1" => |f, _, _| f.ffree(1, true),
        "fincstp" => |f, _, _| f.fincstp(),
        "fdecstp" => |f, _, _| f.fdecstp(),
        "fnop" => |_, _, _| {},
        "fnclex" => |f, _, _| f.fnclex(),
        "fninit" => |f, _, _| f.fninit(),
        "fldcw word ptr [rdi]" => |f, m, _| f.set_control(u16::from_le_bytes(word(m))),
        "fnstcw word ptr [rdi]" => |f, m, _| put(m, Some(f.control().to_le_bytes())),
        "fnstsw word ptr [rdi]" => |f, m, _| put(m, Some(f.status().to_le_bytes())),
        "emms" => |f, _, _| f.emms(),
        "paddd mm3, mm5" => |f, _, _| {
            let (a, b) = (f.mmx_read(3), f.mmx_read(5));
            let low = (a as u32).wrapping_add(b as u32);
            let high = ((a >> 32) as u32).wrapping_add((b >> 32) as u32);
            f.mmx_write(3, u64::from(high) << 32 | u64::from(low));
        },
        "movq qword ptr [rdi], mm6" => |f, m, _| {
            put(m, Some(f.mmx_read(6).to_le_bytes()));
            f.mmx_enter();
        },
    }
}

/// The instructions whose last bits are the implementation's.
pub(super) fn transcendental() -> Vec<Case> {
    cases! {
        "f2xm1" => |f, _, _| f.unary(Unary::Exp2Minus1),
        "fyl2x" => |f, _, _| f.pair(Pair::Log2),
        "fyl2xp1" => |f, _, _| f.pair(Pair::Log2Plus1),
        "fpatan" => |f, _, _| f.pair(Pair::Arctangent),
        "fsin" => |f, _, _| f.fsin(false),
        "fcos" => |f, _, _| f.fsin(true),
        "fsincos" => |f, _, _| f.split(Split::SineCosine),
        "fptan" => |f, _, _| f.split(Split::Tangent),
    }
}
