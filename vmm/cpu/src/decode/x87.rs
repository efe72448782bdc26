//! D8 to DF, FWAIT, and the instructions that save and restore the state.

use iced_x86::{Code as Id, Instruction};

use super::{Lowered, go};
use crate::exec::x87::{self, Decimal, F32, F64, I16, I32, I64};
use crate::exec::xsave;
use crate::insn::Insn;
use crate::x87::Binary::{Add, Div, Mul, Sub};
use crate::x87::{Constant, F80, Pair, Source, Split, Unary};

const ST0: Source = Source::St(0);

/// ST(0) = ST(0) op memory, or the other way round.
macro_rules! with_memory {
    ($operation:ident, $format:ident) => {
        go(|core, i| x87::memory::<$format>(core, i, |fpu, right| fpu.binary($operation, 0, ST0, right, false)))
    };
    ($operation:ident, $format:ident, reversed) => {
        go(|core, i| x87::memory::<$format>(core, i, |fpu, left| fpu.binary($operation, 0, left, ST0, false)))
    };
}

/// ST(dst) = ST(dst) op ST(src), or the other way round.
macro_rules! with_register {
    ($operation:ident, $pop:literal) => {
        go(|core, i| {
            x87::register(core, i, |fpu, i| {
                fpu.binary($operation, i.dst, Source::St(i.dst), Source::St(i.src), $pop);
            })
        })
    };
    ($operation:ident, $pop:literal, reversed) => {
        go(|core, i| {
            x87::register(core, i, |fpu, i| {
                fpu.binary($operation, i.dst, Source::St(i.src), Source::St(i.dst), $pop);
            })
        })
    };
}

/// An instruction that has everything in the unit.
macro_rules! inside {
    (|$fpu:ident| $e:expr) => {
        go(|core, i| x87::register(core, i, |$fpu, _| $e))
    };
    (|$fpu:ident, $i:ident| $e:expr) => {
        go(|core, i| x87::register(core, i, |$fpu, $i| $e))
    };
}

/// A comparison with memory.
macro_rules! compare {
    ($format:ident, $pops:literal) => {
        go(|core, i| x87::memory::<$format>(core, i, |fpu, right| fpu.fcom(right, false, $pops)))
    };
}

/// A comparison with a register.
macro_rules! compare_register {
    ($quiet:literal, $pops:literal) => {
        inside!(|fpu, i| fpu.fcom(Source::St(i.src), $quiet, $pops))
    };
}

/// A store of an integer.
macro_rules! store_integer {
    ($type:ident, $truncate:literal, $pop:literal) => {
        go(|core, i| x87::store(core, i, |fpu| fpu.fist($type::BITS, $truncate, $pop).map(|value| value as $type)))
    };
}

/// What `i` does, if it belongs here. `bytes` start with the instruction.
pub(super) fn lower(i: &Instruction, bytes: &[u8], out: &mut Insn) -> Option<Lowered> {
    let lowered = arithmetic(i.code())
        .or_else(|| transfer(i.code()))
        .or_else(|| inner(i.code()))
        .or_else(|| control(i.code()))
        .or_else(|| states(i.code()));
    if lowered.is_some() {
        out.imm = opcode(bytes).into();
    }
    lowered
}

/// FOP: three bits of the first byte of the opcode, which no prefix resembles, and the second.
fn opcode(bytes: &[u8]) -> u16 {
    let mut rest = bytes.iter().skip_while(|&&byte| !(0xD8..=0xDF).contains(&byte));
    match (rest.next(), rest.next()) {
        (Some(&first), Some(&second)) => u16::from(first & 7) << 8 | u16::from(second),
        _ => 0,
    }
}

fn arithmetic(code: Id) -> Option<Lowered> {
    match code {
        Id::Fadd_m32fp => with_memory!(Add, F32),
        Id::Fadd_m64fp => with_memory!(Add, F64),
        Id::Fiadd_m16int => with_memory!(Add, I16),
        Id::Fiadd_m32int => with_memory!(Add, I32),
        Id::Fmul_m32fp => with_memory!(Mul, F32),
        Id::Fmul_m64fp => with_memory!(Mul, F64),
        Id::Fimul_m16int => with_memory!(Mul, I16),
        Id::Fimul_m32int => with_memory!(Mul, I32),
        Id::Fsub_m32fp => with_memory!(Sub, F32),
        Id::Fsub_m64fp => with_memory!(Sub, F64),
        Id::Fisub_m16int => with_memory!(Sub, I16),
        Id::Fisub_m32int => with_memory!(Sub, I32),
        Id::Fsubr_m32fp => with_memory!(Sub, F32, reversed),
        Id::Fsubr_m64fp => with_memory!(Sub, F64, reversed),
        Id::Fisubr_m16int => with_memory!(Sub, I16, reversed),
        Id::Fisubr_m32int => with_memory!(Sub, I32, reversed),
        Id::Fdiv_m32fp => with_memory!(Div, F32),
        Id::Fdiv_m64fp => with_memory!(Div, F64),
        Id::Fidiv_m16int => with_memory!(Div, I16),
        Id::Fidiv_m32int => with_memory!(Div, I32),
        Id::Fdivr_m32fp => with_memory!(Div, F32, reversed),
        Id::Fdivr_m64fp => with_memory!(Div, F64, reversed),
        Id::Fidivr_m16int => with_memory!(Div, I16, reversed),
        Id::Fidivr_m32int => with_memory!(Div, I32, reversed),
        Id::Fadd_st0_sti | Id::Fadd_sti_st0 => with_register!(Add, false),
        Id::Fmul_st0_sti | Id::Fmul_sti_st0 => with_register!(Mul, false),
        Id::Fsub_st0_sti | Id::Fsub_sti_st0 => with_register!(Sub, false),
        Id::Fsubr_st0_sti | Id::Fsubr_sti_st0 => with_register!(Sub, false, reversed),
        Id::Fdiv_st0_sti | Id::Fdiv_sti_st0 => with_register!(Div, false),
        Id::Fdivr_st0_sti | Id::Fdivr_sti_st0 => with_register!(Div, false, reversed),
        Id::Faddp_sti_st0 => with_register!(Add, true),
        Id::Fmulp_sti_st0 => with_register!(Mul, true),
        Id::Fsubp_sti_st0 => with_register!(Sub, true),
        Id::Fsubrp_sti_st0 => with_register!(Sub, true, reversed),
        Id::Fdivp_sti_st0 => with_register!(Div, true),
        Id::Fdivrp_sti_st0 => with_register!(Div, true, reversed),
        Id::Fcom_m32fp => compare!(F32, 0),
        Id::Fcom_m64fp => compare!(F64, 0),
        Id::Ficom_m16int => compare!(I16, 0),
        Id::Ficom_m32int => compare!(I32, 0),
        Id::Fcomp_m32fp => compare!(F32, 1),
        Id::Fcomp_m64fp => compare!(F64, 1),
        Id::Ficomp_m16int => compare!(I16, 1),
        Id::Ficomp_m32int => compare!(I32, 1),
        Id::Fcom_st0_sti | Id::Fcom_st0_sti_DCD0 => compare_register!(false, 0),
        Id::Fcomp_st0_sti | Id::Fcomp_st0_sti_DCD8 | Id::Fcomp_st0_sti_DED0 => compare_register!(false, 1),
        Id::Fcompp => inside!(|fpu| fpu.fcom(Source::St(1), false, 2)),
        Id::Fucom_st0_sti => compare_register!(true, 0),
        Id::Fucomp_st0_sti => compare_register!(true, 1),
        Id::Fucompp => inside!(|fpu| fpu.fcom(Source::St(1), true, 2)),
        Id::Fcomi_st0_sti => go(x87::fcomi::<false, false>),
        Id::Fcomip_st0_sti => go(x87::fcomi::<false, true>),
        Id::Fucomi_st0_sti => go(x87::fcomi::<true, false>),
        Id::Fucomip_st0_sti => go(x87::fcomi::<true, true>),
        _ => None,
    }
}

fn transfer(code: Id) -> Option<Lowered> {
    match code {
        Id::Fld_m32fp => go(x87::push::<F32>),
        Id::Fld_m64fp => go(x87::push::<F64>),
        Id::Fild_m16int => go(x87::push::<I16>),
        Id::Fild_m32int => go(x87::push::<I32>),
        Id::Fild_m64int => go(x87::push::<I64>),
        Id::Fbld_m80bcd => go(x87::push::<Decimal>),
        Id::Fld_m80fp => go(x87::push_f80),
        Id::Fld_sti => inside!(|fpu, i| fpu.fld_st(i.dst)),
        Id::Fst_m32fp => go(|core, i| x87::store(core, i, |fpu| fpu.fst_f32(false))),
        Id::Fstp_m32fp => go(|core, i| x87::store(core, i, |fpu| fpu.fst_f32(true))),
        Id::Fst_m64fp => go(|core, i| x87::store(core, i, |fpu| fpu.fst_f64(false))),
        Id::Fstp_m64fp => go(|core, i| x87::store(core, i, |fpu| fpu.fst_f64(true))),
        Id::Fstp_m80fp => go(|core, i| x87::store_ten(core, i, |fpu| fpu.fstp_f80().map(F80::to_bytes))),
        Id::Fbstp_m80bcd => go(|core, i| x87::store_ten(core, i, |fpu| fpu.fbstp())),
        Id::Fist_m16int => store_integer!(u16, false, false),
        Id::Fist_m32int => store_integer!(u32, false, false),
        Id::Fistp_m16int => store_integer!(u16, false, true),
        Id::Fistp_m32int => store_integer!(u32, false, true),
        Id::Fistp_m64int => store_integer!(u64, false, true),
        Id::Fisttp_m16int => store_integer!(u16, true, true),
        Id::Fisttp_m32int => store_integer!(u32, true, true),
        Id::Fisttp_m64int => store_integer!(u64, true, true),
        Id::Fst_sti => inside!(|fpu, i| fpu.fst_st(i.dst, false)),
        Id::Fstp_sti | Id::Fstp_sti_DFD0 | Id::Fstp_sti_DFD8 => inside!(|fpu, i| fpu.fst_st(i.dst, true)),
        Id::Fstpnce_sti => inside!(|fpu, i| fpu.fstpnce(i.dst)),
        Id::Fxch_st0_sti | Id::Fxch_st0_sti_DDC8 | Id::Fxch_st0_sti_DFC8 => inside!(|fpu, i| fpu.fxch(i.src)),
        Id::Fcmovb_st0_sti => go(x87::fcmov::<2>),
        Id::Fcmovnb_st0_sti => go(x87::fcmov::<3>),
        Id::Fcmove_st0_sti => go(x87::fcmov::<4>),
        Id::Fcmovne_st0_sti => go(x87::fcmov::<5>),
        Id::Fcmovbe_st0_sti => go(x87::fcmov::<6>),
        Id::Fcmovnbe_st0_sti => go(x87::fcmov::<7>),
        Id::Fcmovu_st0_sti => go(x87::fcmov::<10>),
        Id::Fcmovnu_st0_sti => go(x87::fcmov::<11>),
        _ => None,
    }
}

/// Instructions on the stack alone.
fn inner(code: Id) -> Option<Lowered> {
    match code {
        Id::Fld1 => inside!(|fpu| fpu.fld_constant(Constant::One)),
        Id::Fldl2t => inside!(|fpu| fpu.fld_constant(Constant::Log2Of10)),
        Id::Fldl2e => inside!(|fpu| fpu.fld_constant(Constant::Log2OfE)),
        Id::Fldpi => inside!(|fpu| fpu.fld_constant(Constant::Pi)),
        Id::Fldlg2 => inside!(|fpu| fpu.fld_constant(Constant::Log10Of2)),
        Id::Fldln2 => inside!(|fpu| fpu.fld_constant(Constant::LnOf2)),
        Id::Fldz => inside!(|fpu| fpu.fld_constant(Constant::Zero)),
        Id::Fchs => inside!(|fpu| fpu.unary(Unary::Chs)),
        Id::Fabs => inside!(|fpu| fpu.unary(Unary::Abs)),
        Id::Fsqrt => inside!(|fpu| fpu.unary(Unary::Sqrt)),
        Id::Frndint => inside!(|fpu| fpu.unary(Unary::RoundToInteger)),
        Id::F2xm1 => inside!(|fpu| fpu.unary(Unary::Exp2Minus1)),
        Id::Fscale => inside!(|fpu| fpu.pair(Pair::Scale)),
        Id::Fprem => inside!(|fpu| fpu.pair(Pair::Remainder)),
        Id::Fprem1 => inside!(|fpu| fpu.pair(Pair::RemainderNearest)),
        Id::Fyl2x => inside!(|fpu| fpu.pair(Pair::Log2)),
        Id::Fyl2xp1 => inside!(|fpu| fpu.pair(Pair::Log2Plus1)),
        Id::Fpatan => inside!(|fpu| fpu.pair(Pair::Arctangent)),
        Id::Fptan => inside!(|fpu| fpu.split(Split::Tangent)),
        Id::Fsincos => inside!(|fpu| fpu.split(Split::SineCosine)),
        Id::Fxtract => inside!(|fpu| fpu.split(Split::Extract)),
        Id::Fsin => inside!(|fpu| fpu.fsin(false)),
        Id::Fcos => inside!(|fpu| fpu.fsin(true)),
        Id::Ftst => inside!(|fpu| fpu.ftst()),
        Id::Fxam => inside!(|fpu| fpu.fxam()),
        Id::Fincstp => inside!(|fpu| fpu.fincstp()),
        Id::Fdecstp => inside!(|fpu| fpu.fdecstp()),
        Id::Ffree_sti => inside!(|fpu, i| fpu.ffree(i.dst, false)),
        Id::Ffreep_sti => inside!(|fpu, i| fpu.ffree(i.dst, true)),
        Id::Fnop => inside!(|_fpu| ()),
        _ => None,
    }
}

fn control(code: Id) -> Option<Lowered> {
    match code {
        Id::Wait => go(x87::wait),
        Id::Fnclex => go(|core, _| x87::control(core, |fpu| fpu.fnclex())),
        Id::Fninit => go(|core, _| x87::control(core, |fpu| fpu.fninit())),
        // Of the 8087 and the 80287; nothing since the 80387.
        Id::Fneni | Id::Fndisi | Id::Fnsetpm => go(|core, _| x87::control(core, |_| ())),
        Id::Fldcw_m2byte => go(x87::load_control),
        Id::Fnstcw_m2byte => go(|core, i| x87::store_word(core, i, |fpu| fpu.control())),
        Id::Fnstsw_m2byte => go(|core, i| x87::store_word(core, i, |fpu| fpu.status())),
        Id::Fnstsw_AX => go(x87::status_to_ax),
        Id::Fnstenv_m14byte => go(x87::store_environment::<false>),
        Id::Fnstenv_m28byte => go(x87::store_environment::<true>),
        Id::Fldenv_m14byte => go(x87::load_environment::<false>),
        Id::Fldenv_m28byte => go(x87::load_environment::<true>),
        Id::Fnsave_m94byte => go(x87::save::<false>),
        Id::Fnsave_m108byte => go(x87::save::<true>),
        Id::Frstor_m94byte => go(x87::restore::<false>),
        Id::Frstor_m108byte => go(x87::restore::<true>),
        _ => None,
    }
}

fn states(code: Id) -> Option<Lowered> {
    match code {
        Id::Fxsave_m512byte => go(xsave::fxsave::<false>),
        Id::Fxsave64_m512byte => go(xsave::fxsave::<true>),
        Id::Fxrstor_m512byte => go(xsave::fxrstor::<false>),
        Id::Fxrstor64_m512byte => go(xsave::fxrstor::<true>),
        Id::Xsave_mem => go(xsave::xsave::<false>),
        Id::Xsave64_mem => go(xsave::xsave::<true>),
        Id::Xrstor_mem => go(xsave::xrstor::<false>),
        Id::Xrstor64_mem => go(xsave::xrstor::<true>),
        Id::Xsaveopt_mem => go(xsave::xsaveopt::<false>),
        Id::Xsaveopt64_mem => go(xsave::xsaveopt::<true>),
        Id::Xsavec_mem => go(xsave::xsavec::<false>),
        Id::Xsavec64_mem => go(xsave::xsavec::<true>),
        Id::Xgetbv => go(xsave::xgetbv),
        Id::Xsetbv => go(xsave::xsetbv),
        _ => None,
    }
}
