//! The integer instructions.

use iced_x86::{Code as Id, Instruction, Mnemonic as M, OpKind};

use super::{Lowered, end, go, size_of_operand};
use crate::cpuid::Features;
use crate::exec::int::{Cl, Dst, Imm, Mem, Src, Third, alu, bcd, bits, branch, data, muldiv, shift, string};
use crate::insn::{Insn, LOCK};

/// Chooses a type by its size in bytes; anything else is no instruction of ours.
macro_rules! sized {
    ($size:expr, $T:ident => $e:expr) => {
        match $size {
            1 => {
                type $T = u8;
                $e
            }
            2 => {
                type $T = u16;
                $e
            }
            4 => {
                type $T = u32;
                $e
            }
            8 => {
                type $T = u64;
                $e
            }
            _ => return None,
        }
    };
}

/// The same without 8 bits.
macro_rules! word_sized {
    ($size:expr, $T:ident => $e:expr) => {
        match $size {
            2 => {
                type $T = u16;
                $e
            }
            4 => {
                type $T = u32;
                $e
            }
            8 => {
                type $T = u64;
                $e
            }
            _ => return None,
        }
    };
}

/// Chooses by condition code.
macro_rules! by_condition {
    ($c:expr, $C:ident => $e:expr) => {
        by_condition!(@ $c, $C, $e, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $c:expr, $C:ident, $e:expr, $($n:literal)*) => {
        match $c {
            $($n => {
                const $C: u8 = $n;
                $e
            })*
            _ => return None,
        }
    };
}

/// Kinds of the first two operands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Reg,
    Mem,
    Imm,
    Other,
}

fn kind(i: &Instruction, k: u32) -> Kind {
    if k >= i.op_count() {
        return Kind::None;
    }
    match i.op_kind(k) {
        OpKind::Register => Kind::Reg,
        OpKind::Memory => Kind::Mem,
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Kind::Imm,
        _ => Kind::Other,
    }
}

/// Two operands, the first one written.
macro_rules! two {
    ($i:expr, $T:ident, $D:ident, $S:ident => $e:expr) => {
        match (kind($i, 0), kind($i, 1)) {
            (Kind::Reg, Kind::Reg) => {
                type $D = Dst;
                type $S = Src;
                sized!(size_of_operand($i, 0), $T => go($e))
            }
            (Kind::Reg, Kind::Mem) => {
                type $D = Dst;
                type $S = Mem;
                sized!(size_of_operand($i, 0), $T => go($e))
            }
            (Kind::Mem, Kind::Reg) => {
                type $D = Mem;
                type $S = Src;
                sized!(size_of_operand($i, 1), $T => go($e))
            }
            (Kind::Reg, Kind::Imm) => {
                type $D = Dst;
                type $S = Imm;
                sized!(size_of_operand($i, 0), $T => go($e))
            }
            (Kind::Mem, Kind::Imm) => {
                type $D = Mem;
                type $S = Imm;
                sized!(size_of_operand($i, 0), $T => go($e))
            }
            _ => None,
        }
    };
}

/// One operand, register or memory.
macro_rules! one {
    ($i:expr, $T:ident, $D:ident => $e:expr) => {
        match kind($i, 0) {
            Kind::Reg => {
                type $D = Dst;
                sized!(size_of_operand($i, 0), $T => go($e))
            }
            Kind::Mem => {
                type $D = Mem;
                sized!(size_of_operand($i, 0), $T => go($e))
            }
            _ => None,
        }
    };
}

/// A register destination, and operand `k` as a source.
macro_rules! from {
    ($i:expr, $k:expr, $T:ident, $S:ident, $reg:ident => $e:expr) => {
        match kind($i, $k) {
            Kind::Reg => {
                type $S = $reg;
                word_sized!(size_of_operand($i, 0), $T => go($e))
            }
            Kind::Mem => {
                type $S = Mem;
                word_sized!(size_of_operand($i, 0), $T => go($e))
            }
            _ => None,
        }
    };
}

/// Shifts and rotates: a register or memory by an immediate or CL.
macro_rules! shifts {
    ($i:expr, $O:ty) => {
        match (kind($i, 0), kind($i, 1)) {
            (Kind::Reg, Kind::Imm) => sized!(size_of_operand($i, 0), T => go(shift::shift::<T, $O, Dst, Imm>)),
            (Kind::Mem, Kind::Imm) => sized!(size_of_operand($i, 0), T => go(shift::shift::<T, $O, Mem, Imm>)),
            (Kind::Reg, Kind::Reg) => sized!(size_of_operand($i, 0), T => go(shift::shift::<T, $O, Dst, Cl>)),
            (Kind::Mem, Kind::Reg) => sized!(size_of_operand($i, 0), T => go(shift::shift::<T, $O, Mem, Cl>)),
            _ => None,
        }
    };
}

macro_rules! double_shift {
    ($i:expr, $LEFT:literal) => {
        match (kind($i, 0), kind($i, 2)) {
            (Kind::Reg, Kind::Imm) => word_sized!(size_of_operand($i, 1), T => go(shift::double::<T, Dst, Imm, $LEFT>)),
            (Kind::Mem, Kind::Imm) => word_sized!(size_of_operand($i, 1), T => go(shift::double::<T, Mem, Imm, $LEFT>)),
            (Kind::Reg, Kind::Reg) => word_sized!(size_of_operand($i, 1), T => go(shift::double::<T, Dst, Cl, $LEFT>)),
            (Kind::Mem, Kind::Reg) => word_sized!(size_of_operand($i, 1), T => go(shift::double::<T, Mem, Cl, $LEFT>)),
            _ => None,
        }
    };
}

macro_rules! bit_test {
    ($i:expr, $HOW:expr) => {
        match (kind($i, 0), kind($i, 1)) {
            (Kind::Reg, Kind::Reg) => word_sized!(size_of_operand($i, 0), T => go(bits::bt::<T, Dst, Src, { $HOW }>)),
            (Kind::Reg, Kind::Imm) => word_sized!(size_of_operand($i, 0), T => go(bits::bt::<T, Dst, Imm, { $HOW }>)),
            (Kind::Mem, Kind::Imm) => word_sized!(size_of_operand($i, 0), T => go(bits::bt::<T, Mem, Imm, { $HOW }>)),
            (Kind::Mem, Kind::Reg) => word_sized!(size_of_operand($i, 1), T => go(bits::bt_string::<T, { $HOW }>)),
            _ => None,
        }
    };
}

/// The condition in the low four bits of Jcc, SETcc and CMOVcc.
fn condition(m: M) -> Option<u8> {
    Some(match m {
        M::Jo | M::Seto | M::Cmovo => 0,
        M::Jno | M::Setno | M::Cmovno => 1,
        M::Jb | M::Setb | M::Cmovb => 2,
        M::Jae | M::Setae | M::Cmovae => 3,
        M::Je | M::Sete | M::Cmove => 4,
        M::Jne | M::Setne | M::Cmovne => 5,
        M::Jbe | M::Setbe | M::Cmovbe => 6,
        M::Ja | M::Seta | M::Cmova => 7,
        M::Js | M::Sets | M::Cmovs => 8,
        M::Jns | M::Setns | M::Cmovns => 9,
        M::Jp | M::Setp | M::Cmovp => 10,
        M::Jnp | M::Setnp | M::Cmovnp => 11,
        M::Jl | M::Setl | M::Cmovl => 12,
        M::Jge | M::Setge | M::Cmovge => 13,
        M::Jle | M::Setle | M::Cmovle => 14,
        M::Jg | M::Setg | M::Cmovg => 15,
        _ => return None,
    })
}

/// Bytes of the instruction pointer that a near branch works with.
fn branch_size(i: &Instruction) -> u32 {
    match i.op0_kind() {
        OpKind::NearBranch16 => 2,
        OpKind::NearBranch32 => 4,
        OpKind::NearBranch64 => 8,
        _ => size_of_operand(i, 0),
    }
}

/// What `i` does, if it belongs here.
pub(super) fn lower(i: &Instruction, features: &Features, out: &mut Insn) -> Option<Lowered> {
    arithmetic(i)
        .or_else(|| moves(i, out))
        .or_else(|| stack(i))
        .or_else(|| branches(i))
        .or_else(|| bit_work(i, features))
        .or_else(|| strings(i))
        .or_else(|| old(i))
}

fn arithmetic(i: &Instruction) -> Option<Lowered> {
    match i.mnemonic() {
        M::Add => two!(i, T, D, S => alu::two::<T, alu::Add, D, S>),
        M::Adc => two!(i, T, D, S => alu::two::<T, alu::Adc, D, S>),
        M::Sub => two!(i, T, D, S => alu::two::<T, alu::Sub, D, S>),
        M::Sbb => two!(i, T, D, S => alu::two::<T, alu::Sbb, D, S>),
        M::And => two!(i, T, D, S => alu::two::<T, alu::And, D, S>),
        M::Or => two!(i, T, D, S => alu::two::<T, alu::Or, D, S>),
        M::Xor => two!(i, T, D, S => alu::two::<T, alu::Xor, D, S>),
        M::Cmp => two!(i, T, D, S => alu::compare::<T, alu::Sub, D, S>),
        M::Test => two!(i, T, D, S => alu::compare::<T, alu::And, D, S>),
        M::Inc => one!(i, T, D => alu::inc::<T, D>),
        M::Dec => one!(i, T, D => alu::dec::<T, D>),
        M::Neg => one!(i, T, D => alu::neg::<T, D>),
        M::Not => one!(i, T, D => alu::not::<T, D>),
        M::Mul => one!(i, T, S => muldiv::mul::<T, S>),
        M::Div => one!(i, T, S => muldiv::div::<T, S>),
        M::Idiv => one!(i, T, S => muldiv::idiv::<T, S>),
        M::Imul => match i.op_count() {
            1 => one!(i, T, S => muldiv::imul::<T, S>),
            2 => from!(i, 1, T, S, Src => muldiv::imul_to::<T, Dst, S>),
            _ => from!(i, 1, T, S, Src => muldiv::imul_to::<T, S, Imm>),
        },
        M::Shl | M::Sal => shifts!(i, shift::Shl),
        M::Shr => shifts!(i, shift::Shr),
        M::Sar => shifts!(i, shift::Sar),
        M::Rol => shifts!(i, shift::Rol),
        M::Ror => shifts!(i, shift::Ror),
        M::Rcl => shifts!(i, shift::Rcl),
        M::Rcr => shifts!(i, shift::Rcr),
        M::Shld => double_shift!(i, true),
        M::Shrd => double_shift!(i, false),
        M::Xadd => match kind(i, 0) {
            Kind::Reg => sized!(size_of_operand(i, 0), T => go(alu::xadd::<T, Dst>)),
            _ => sized!(size_of_operand(i, 1), T => go(alu::xadd::<T, Mem>)),
        },
        M::Cmpxchg => match kind(i, 0) {
            Kind::Reg => sized!(size_of_operand(i, 0), T => go(alu::cmpxchg::<T, Dst>)),
            _ => sized!(size_of_operand(i, 1), T => go(alu::cmpxchg::<T, Mem>)),
        },
        _ => None,
    }
}

fn moves(i: &Instruction, out: &mut Insn) -> Option<Lowered> {
    if let Some(c) = condition(i.mnemonic()) {
        return match kind(i, 0) {
            Kind::Reg if i.op_count() == 2 => {
                by_condition!(c, C => from!(i, 1, T, S, Src => data::cmov::<T, S, C>))
            }
            Kind::Reg => by_condition!(c, C => go(data::setcc::<Dst, C>)),
            Kind::Mem => by_condition!(c, C => go(data::setcc::<Mem, C>)),
            _ => by_condition!(c, C => word_sized!(branch_size(i), T => end(branch::jcc::<T, C>))),
        };
    }
    match i.mnemonic() {
        M::Mov => {
            let (a, b) = (kind(i, 0), kind(i, 1));
            if (a == Kind::Mem || b == Kind::Mem) && b != Kind::Imm && out.imm != 0 {
                return match a {
                    Kind::Reg => sized!(size_of_operand(i, 0), T => go(data::mov_absolute::<T, true>)),
                    _ => sized!(size_of_operand(i, 1), T => go(data::mov_absolute::<T, false>)),
                };
            }
            match i.code() {
                Id::Mov_rm16_Sreg
                | Id::Mov_r32m16_Sreg
                | Id::Mov_r64m16_Sreg
                | Id::Mov_Sreg_rm16
                | Id::Mov_Sreg_r32m16
                | Id::Mov_Sreg_r64m16
                | Id::Mov_r32_cr
                | Id::Mov_r64_cr
                | Id::Mov_r32_dr
                | Id::Mov_r64_dr
                | Id::Mov_cr_r32
                | Id::Mov_cr_r64
                | Id::Mov_dr_r32
                | Id::Mov_dr_r64 => None,
                _ => two!(i, T, D, S => data::mov::<T, D, S>),
            }
        }
        M::Movnti => sized!(size_of_operand(i, 1), T => go(data::mov::<T, Mem, Src>)),
        M::Movzx => match (size_of_operand(i, 1), kind(i, 1)) {
            (1, Kind::Reg) => word_sized!(size_of_operand(i, 0), T => go(data::movzx::<T, u8, Src>)),
            (1, _) => word_sized!(size_of_operand(i, 0), T => go(data::movzx::<T, u8, Mem>)),
            (_, Kind::Reg) => word_sized!(size_of_operand(i, 0), T => go(data::movzx::<T, u16, Src>)),
            _ => word_sized!(size_of_operand(i, 0), T => go(data::movzx::<T, u16, Mem>)),
        },
        M::Movsx | M::Movsxd => match (size_of_operand(i, 1), kind(i, 1)) {
            (1, Kind::Reg) => word_sized!(size_of_operand(i, 0), T => go(data::movsx::<T, u8, Src>)),
            (1, _) => word_sized!(size_of_operand(i, 0), T => go(data::movsx::<T, u8, Mem>)),
            (2, Kind::Reg) => word_sized!(size_of_operand(i, 0), T => go(data::movsx::<T, u16, Src>)),
            (2, _) => word_sized!(size_of_operand(i, 0), T => go(data::movsx::<T, u16, Mem>)),
            (_, Kind::Reg) => word_sized!(size_of_operand(i, 0), T => go(data::movsx::<T, u32, Src>)),
            _ => word_sized!(size_of_operand(i, 0), T => go(data::movsx::<T, u32, Mem>)),
        },
        M::Lea => word_sized!(size_of_operand(i, 0), T => go(data::lea::<T>)),
        M::Xchg => {
            if kind(i, 0) == Kind::Mem {
                out.bits |= LOCK;
                sized!(size_of_operand(i, 1), T => go(data::xchg::<T, Mem>))
            } else {
                sized!(size_of_operand(i, 0), T => go(data::xchg::<T, Dst>))
            }
        }
        M::Bswap => word_sized!(size_of_operand(i, 0), T => go(data::bswap::<T>)),
        M::Cbw => go(data::extend::<u8, u16>),
        M::Cwde => go(data::extend::<u16, u32>),
        M::Cdqe => go(data::extend::<u32, u64>),
        M::Cwd => go(data::sign_to_dx::<u16>),
        M::Cdq => go(data::sign_to_dx::<u32>),
        M::Cqo => go(data::sign_to_dx::<u64>),
        M::Xlatb => {
            out.bits = out.bits & !3 | xlat_address(i);
            go(data::xlat)
        }
        M::Lahf => go(data::lahf),
        M::Sahf => go(data::sahf),
        M::Clc => go(data::carry::<0>),
        M::Stc => go(data::carry::<1>),
        M::Cmc => go(data::carry::<2>),
        M::Cld => go(data::direction::<false>),
        M::Std => go(data::direction::<true>),
        M::Nop | M::Pause => go(data::nop),
        _ => None,
    }
}

fn xlat_address(i: &Instruction) -> u8 {
    match i.memory_base() {
        iced_x86::Register::BX => 1,
        iced_x86::Register::EBX => 2,
        _ => 3,
    }
}

fn stack(i: &Instruction) -> Option<Lowered> {
    match i.code() {
        Id::Push_r16 => go(data::push::<u16, Dst>),
        Id::Push_r32 => go(data::push::<u32, Dst>),
        Id::Push_r64 => go(data::push::<u64, Dst>),
        Id::Push_rm16 if kind(i, 0) == Kind::Reg => go(data::push::<u16, Dst>),
        Id::Push_rm32 if kind(i, 0) == Kind::Reg => go(data::push::<u32, Dst>),
        Id::Push_rm64 if kind(i, 0) == Kind::Reg => go(data::push::<u64, Dst>),
        Id::Push_rm16 => go(data::push::<u16, Mem>),
        Id::Push_rm32 => go(data::push::<u32, Mem>),
        Id::Push_rm64 => go(data::push::<u64, Mem>),
        Id::Push_imm16 | Id::Pushw_imm8 => go(data::push::<u16, Imm>),
        Id::Pushd_imm32 | Id::Pushd_imm8 => go(data::push::<u32, Imm>),
        Id::Pushq_imm32 | Id::Pushq_imm8 => go(data::push::<u64, Imm>),
        Id::Pop_r16 => go(data::pop::<u16>),
        Id::Pop_r32 => go(data::pop::<u32>),
        Id::Pop_r64 => go(data::pop::<u64>),
        Id::Pop_rm16 if kind(i, 0) == Kind::Reg => go(data::pop::<u16>),
        Id::Pop_rm32 if kind(i, 0) == Kind::Reg => go(data::pop::<u32>),
        Id::Pop_rm64 if kind(i, 0) == Kind::Reg => go(data::pop::<u64>),
        Id::Pop_rm16 => go(data::pop_mem::<u16>),
        Id::Pop_rm32 => go(data::pop_mem::<u32>),
        Id::Pop_rm64 => go(data::pop_mem::<u64>),
        Id::Pushaw => go(data::pusha::<u16>),
        Id::Pushad => go(data::pusha::<u32>),
        Id::Popaw => go(data::popa::<u16>),
        Id::Popad => go(data::popa::<u32>),
        Id::Enterw_imm16_imm8 => go(data::enter::<u16>),
        Id::Enterd_imm16_imm8 => go(data::enter::<u32>),
        Id::Enterq_imm16_imm8 => go(data::enter::<u64>),
        Id::Leavew => go(data::leave::<u16>),
        Id::Leaved => go(data::leave::<u32>),
        Id::Leaveq => go(data::leave::<u64>),
        _ => None,
    }
}

fn branches(i: &Instruction) -> Option<Lowered> {
    match i.code() {
        Id::Jmp_rel8_16 | Id::Jmp_rel16 => end(branch::jmp::<u16>),
        Id::Jmp_rel8_32 | Id::Jmp_rel32_32 => end(branch::jmp::<u32>),
        Id::Jmp_rel8_64 | Id::Jmp_rel32_64 => end(branch::jmp::<u64>),
        Id::Jmp_rm16 | Id::Jmp_rm32 | Id::Jmp_rm64 => match kind(i, 0) {
            Kind::Reg => word_sized!(size_of_operand(i, 0), T => end(branch::jmp_to::<T, Dst>)),
            _ => word_sized!(size_of_operand(i, 0), T => end(branch::jmp_to::<T, Mem>)),
        },
        Id::Call_rel16 => end(branch::call::<u16>),
        Id::Call_rel32_32 => end(branch::call::<u32>),
        Id::Call_rel32_64 => end(branch::call::<u64>),
        Id::Call_rm16 | Id::Call_rm32 | Id::Call_rm64 => match kind(i, 0) {
            Kind::Reg => word_sized!(size_of_operand(i, 0), T => end(branch::call_indirect::<T, Dst>)),
            _ => word_sized!(size_of_operand(i, 0), T => end(branch::call_indirect::<T, Mem>)),
        },
        Id::Retnw | Id::Retnw_imm16 => end(branch::ret::<u16>),
        Id::Retnd | Id::Retnd_imm16 => end(branch::ret::<u32>),
        Id::Retnq | Id::Retnq_imm16 => end(branch::ret::<u64>),
        _ => match i.mnemonic() {
            M::Jcxz | M::Jecxz | M::Jrcxz => word_sized!(branch_size(i), T => end(branch::jcxz::<T>)),
            M::Loop => word_sized!(branch_size(i), T => end(branch::looping::<T, 2>)),
            M::Loope => word_sized!(branch_size(i), T => end(branch::looping::<T, 1>)),
            M::Loopne => word_sized!(branch_size(i), T => end(branch::looping::<T, 0>)),
            _ => None,
        },
    }
}

fn bit_work(i: &Instruction, features: &Features) -> Option<Lowered> {
    match i.mnemonic() {
        M::Bt => bit_test!(i, bits::KEEP),
        M::Bts => bit_test!(i, bits::SET),
        M::Btr => bit_test!(i, bits::RESET),
        M::Btc => bit_test!(i, bits::FLIP),
        M::Bsf => from!(i, 1, T, S, Src => bits::scan::<T, S, true>),
        M::Bsr => from!(i, 1, T, S, Src => bits::scan::<T, S, false>),
        M::Tzcnt if !features.bmi1 => from!(i, 1, T, S, Src => bits::scan::<T, S, true>),
        M::Lzcnt if !features.lzcnt => from!(i, 1, T, S, Src => bits::scan::<T, S, false>),
        M::Andn | M::Blsr | M::Blsmsk | M::Blsi | M::Bextr if !features.bmi1 => None,
        M::Tzcnt => from!(i, 1, T, S, Src => bits::count_zeros::<T, S, true>),
        M::Lzcnt => from!(i, 1, T, S, Src => bits::count_zeros::<T, S, false>),
        M::Popcnt => from!(i, 1, T, S, Src => bits::popcnt::<T, S>),
        M::Andn => from!(i, 2, T, S, Third => bits::andn::<T, S>),
        M::Blsr => from!(i, 1, T, S, Src => bits::lowest::<T, S, 0>),
        M::Blsmsk => from!(i, 1, T, S, Src => bits::lowest::<T, S, 1>),
        M::Blsi => from!(i, 1, T, S, Src => bits::lowest::<T, S, 2>),
        M::Bextr => from!(i, 1, T, S, Src => bits::bextr::<T, S>),
        M::Bzhi => from!(i, 1, T, S, Src => bits::bzhi::<T, S>),
        M::Pdep => from!(i, 2, T, S, Third => bits::pdep::<T, S>),
        M::Pext => from!(i, 2, T, S, Third => bits::pext::<T, S>),
        M::Mulx => from!(i, 2, T, S, Third => muldiv::mulx::<T, S>),
        M::Rorx => from!(i, 1, T, S, Src => shift::flagless::<T, S, Imm, 0>),
        M::Sarx => from!(i, 1, T, S, Src => shift::flagless::<T, S, Third, 1>),
        M::Shlx => from!(i, 1, T, S, Src => shift::flagless::<T, S, Third, 2>),
        M::Shrx => from!(i, 1, T, S, Src => shift::flagless::<T, S, Third, 3>),
        M::Adcx => from!(i, 1, T, S, Src => alu::adx::<T, S, false>),
        M::Adox => from!(i, 1, T, S, Src => alu::adx::<T, S, true>),
        M::Movbe => match kind(i, 0) {
            Kind::Reg => word_sized!(size_of_operand(i, 0), T => go(data::movbe::<T, Dst, Mem>)),
            _ => word_sized!(size_of_operand(i, 1), T => go(data::movbe::<T, Mem, Src>)),
        },
        M::Cmpxchg8b => go(bits::cmpxchg8b),
        M::Cmpxchg16b => go(bits::cmpxchg16b),
        _ => None,
    }
}

fn strings(i: &Instruction) -> Option<Lowered> {
    // A block ends behind a string instruction, so that a long one is looked up again cheaply when it goes on.
    match i.code() {
        Id::Movsb_m8_m8 => end(string::movs::<u8>),
        Id::Movsw_m16_m16 => end(string::movs::<u16>),
        Id::Movsd_m32_m32 => end(string::movs::<u32>),
        Id::Movsq_m64_m64 => end(string::movs::<u64>),
        Id::Stosb_m8_AL => end(string::stos::<u8>),
        Id::Stosw_m16_AX => end(string::stos::<u16>),
        Id::Stosd_m32_EAX => end(string::stos::<u32>),
        Id::Stosq_m64_RAX => end(string::stos::<u64>),
        Id::Lodsb_AL_m8 => end(string::lods::<u8>),
        Id::Lodsw_AX_m16 => end(string::lods::<u16>),
        Id::Lodsd_EAX_m32 => end(string::lods::<u32>),
        Id::Lodsq_RAX_m64 => end(string::lods::<u64>),
        Id::Scasb_AL_m8 => end(string::scas::<u8>),
        Id::Scasw_AX_m16 => end(string::scas::<u16>),
        Id::Scasd_EAX_m32 => end(string::scas::<u32>),
        Id::Scasq_RAX_m64 => end(string::scas::<u64>),
        Id::Cmpsb_m8_m8 => end(string::cmps::<u8>),
        Id::Cmpsw_m16_m16 => end(string::cmps::<u16>),
        Id::Cmpsd_m32_m32 => end(string::cmps::<u32>),
        Id::Cmpsq_m64_m64 => end(string::cmps::<u64>),
        _ => None,
    }
}

fn old(i: &Instruction) -> Option<Lowered> {
    match i.mnemonic() {
        M::Daa => go(bcd::decimal::<false>),
        M::Das => go(bcd::decimal::<true>),
        M::Aaa => go(bcd::ascii::<false>),
        M::Aas => go(bcd::ascii::<true>),
        M::Aam => go(bcd::aam),
        M::Aad => go(bcd::aad),
        M::Salc => go(bcd::salc),
        _ => None,
    }
}
