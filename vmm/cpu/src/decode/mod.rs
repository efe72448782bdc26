//! From bytes to the decoded form.
//!
//! `iced-x86` finds out what an instruction is: it knows every encoding, is fuzzed and compared with XED by its authors,
//! and being wrong there is what sinks young emulators. What an instruction *does* is looked up here, once, so that
//! the interpreter (and a translator later) never sees a byte of it again.

use iced_x86::{Code as Id, Decoder, DecoderError, DecoderOptions, Instruction, MemorySize, OpKind, Register};

use crate::core::Code;
use crate::cpuid::Features;
use crate::insn::{Addressing, Handler, Insn, LOCK, LONG, REP, REPNE, WIDE, reg, seg};
use crate::word::HIGH;

mod announced;
mod int;
mod sse;
mod system;
mod x87;

/// What an instruction turned out to be.
pub(crate) struct Lowered {
    /// Carries it out.
    pub(crate) run: Handler,
    /// It may jump, or change how what follows is decoded or allowed: a block ends behind it.
    pub(crate) ends: bool,
}

/// An instruction that the next one simply follows.
pub(crate) fn go(run: Handler) -> Option<Lowered> {
    Some(Lowered { run, ends: false })
}

/// An instruction that a block ends behind.
pub(crate) fn end(run: Handler) -> Option<Lowered> {
    Some(Lowered { run, ends: true })
}

/// What came out of decoding one instruction.
pub(crate) enum Decoded {
    /// An instruction; `ends`: the block ends behind it.
    Insn { insn: Insn, ends: bool },
    /// The bytes end before the instruction does.
    Short,
}

/// Decodes the instruction at the start of `bytes` (at most 15 of them count), which lies at `ip` in its code segment.
pub(crate) fn decode(bytes: &[u8], ip: u64, mode: Code, features: &Features) -> Decoded {
    let bytes = bytes.get(..15).unwrap_or(bytes);
    let bitness = match mode {
        Code::Bits16 => 16,
        Code::Bits32 => 32,
        Code::Bits64 => 64,
    };
    let mut decoder = Decoder::with_ip(bitness, bytes, ip, DecoderOptions::NONE);
    let i = decoder.decode();
    if i.is_invalid() {
        return if decoder.last_error() == DecoderError::NoMoreBytes {
            if bytes.len() < 15 {
                Decoded::Short
            } else {
                // Longer than 15 bytes (SDM vol. 2A, §2.3.11).
                Decoded::Insn { insn: Insn::new(Id::INVALID, 0, crate::exec::too_long), ends: true }
            }
        } else {
            undefined()
        };
    }
    if !announced::announced(i.code(), features) {
        return undefined();
    }
    let mut insn = Insn::new(i.code(), i.len() as u8, crate::exec::undefined);
    operands(&i, mode, &mut insn);
    let lowered = int::lower(&i, features, &mut insn)
        .or_else(|| system::lower(&i, mode, &mut insn))
        .or_else(|| x87::lower(&i, bytes, &mut insn))
        .or_else(|| sse::lower(&i));
    match lowered {
        Some(Lowered { run, ends }) => {
            insn.run = run;
            Decoded::Insn { insn, ends }
        }
        None => undefined(),
    }
}

fn undefined() -> Decoded {
    Decoded::Insn { insn: Insn::new(Id::INVALID, 0, crate::exec::undefined), ends: true }
}

/// Fills in the operands, which mean the same for every instruction.
fn operands(i: &Instruction, mode: Code, out: &mut Insn) {
    let regs = [&mut out.dst, &mut out.src, &mut out.third];
    for (k, slot) in (0..i.op_count()).zip(regs) {
        if i.op_kind(k) == OpKind::Register {
            *slot = number(i.op_register(k));
        }
    }
    let mut address = match mode {
        Code::Bits16 => 1,
        Code::Bits32 => 2,
        Code::Bits64 => 3,
    };
    for k in 0..i.op_count() {
        match i.op_kind(k) {
            OpKind::Memory => {
                address = memory(i, mode, out);
            }
            OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => address = 1,
            OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => address = 2,
            OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => address = 3,
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                out.imm = i.near_branch_target().wrapping_sub(i.next_ip());
                address = counter(i.code()).unwrap_or(address);
            }
            OpKind::Immediate8_2nd => out.imm |= u64::from(i.immediate8_2nd()) << 32,
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => out.imm = i.immediate(k),
            _ => {}
        }
    }
    if (0..i.op_count()).all(|k| i.op_kind(k) != OpKind::Memory) {
        out.seg = overridden(i, mode, false);
    }
    out.bits |= address
        | if i.has_rep_prefix() { REP } else { 0 }
        | if i.has_repne_prefix() { REPNE } else { 0 }
        | if i.has_lock_prefix() { LOCK } else { 0 }
        | if mode == Code::Bits64 { LONG } else { 0 }
        | if mode == Code::Bits32 { WIDE } else { 0 };
}

/// The address size, as log₂ of bytes, of the branches that count: it says whether CX, ECX or RCX does (SDM vol. 2, LOOP).
fn counter(code: Id) -> Option<u8> {
    Some(match code {
        Id::Jcxz_rel8_16 | Id::Jcxz_rel8_32 => 1,
        Id::Loop_rel8_16_CX | Id::Loop_rel8_32_CX => 1,
        Id::Loope_rel8_16_CX | Id::Loope_rel8_32_CX => 1,
        Id::Loopne_rel8_16_CX | Id::Loopne_rel8_32_CX => 1,
        Id::Jecxz_rel8_16 | Id::Jecxz_rel8_32 | Id::Jecxz_rel8_64 => 2,
        Id::Loop_rel8_16_ECX | Id::Loop_rel8_32_ECX | Id::Loop_rel8_64_ECX => 2,
        Id::Loope_rel8_16_ECX | Id::Loope_rel8_32_ECX | Id::Loope_rel8_64_ECX => 2,
        Id::Loopne_rel8_16_ECX | Id::Loopne_rel8_32_ECX | Id::Loopne_rel8_64_ECX => 2,
        Id::Jrcxz_rel8_64 | Id::Loop_rel8_64_RCX | Id::Loope_rel8_64_RCX | Id::Loopne_rel8_64_RCX => 3,
        _ => return None,
    })
}

/// The segment of the memory operand. In 64-bit mode overrides other than FS and GS are ignored (SDM vol. 1, §3.3.7.1):
/// then only a stack-like base makes it SS, and faults of non-canonical addresses #SS.
fn overridden(i: &Instruction, mode: Code, stack: bool) -> u8 {
    let chosen = segment(i.memory_segment());
    match mode {
        Code::Bits64 if chosen < seg::FS as u8 => (if stack { seg::SS } else { seg::DS }) as u8,
        _ => chosen,
    }
}

/// The memory operand; returns log₂ of the address size in bytes.
fn memory(i: &Instruction, mode: Code, out: &mut Insn) -> u8 {
    let (base, index) = (i.memory_base(), i.memory_index());
    let stack = matches!(base.full_register(), Register::RSP | Register::RBP);
    out.seg = overridden(i, mode, stack);
    let displacement = i.memory_displacement64();
    let size = if matches!(base, Register::RIP) || wide(base) || wide(index) {
        3
    } else if matches!(base, Register::EIP) || middle(base) || middle(index) {
        2
    } else if base != Register::None || index != Register::None {
        1
    } else {
        match i.memory_displ_size() {
            2 => 1,
            4 => 2,
            _ => 3,
        }
    };
    match base {
        Register::RIP | Register::EIP => {
            out.base = reg::RIP as u8;
            out.disp = displacement.wrapping_sub(i.next_ip()) as i32;
        }
        // `moffs64`: the only 64-bit displacement there is.
        Register::None if i64::from(displacement as i32) as u64 != displacement && size == 3 => out.imm = displacement,
        _ => {
            out.disp = displacement as i32;
            if base != Register::None {
                out.base = number(base);
            }
        }
    }
    if index != Register::None {
        out.index = number(index);
        out.scale = i.memory_index_scale().trailing_zeros() as u8;
    }
    out.addressing = match mode {
        Code::Bits64 if size == 3 && out.seg < seg::FS as u8 => Addressing::Flat,
        Code::Bits64 => Addressing::Long,
        _ => Addressing::Segmented,
    };
    size
}

fn wide(r: Register) -> bool {
    (Register::RAX as u32..=Register::R15 as u32).contains(&(r as u32))
}

fn middle(r: Register) -> bool {
    (Register::EAX as u32..=Register::R15D as u32).contains(&(r as u32))
}

/// The number of a segment register; DS for none.
pub(crate) fn segment(r: Register) -> u8 {
    match r {
        Register::ES => seg::ES as u8,
        Register::CS => seg::CS as u8,
        Register::SS => seg::SS as u8,
        Register::FS => seg::FS as u8,
        Register::GS => seg::GS as u8,
        _ => seg::DS as u8,
    }
}

/// The number of a register in its file.
pub(crate) fn number(r: Register) -> u8 {
    let n = r as u32;
    let within =
        |first: Register, last: Register| (first as u32..=last as u32).contains(&n).then(|| (n - first as u32) as u8);
    if let Some(k) = within(Register::AL, Register::R15L) {
        return match k {
            0..4 => k,
            4..8 => (k - 4) | HIGH,
            _ => k - 4,
        };
    }
    let files = [
        (Register::AX, Register::R15W),
        (Register::EAX, Register::R15D),
        (Register::RAX, Register::R15),
        (Register::XMM0, Register::XMM15),
        (Register::MM0, Register::MM7),
        (Register::ST0, Register::ST7),
        (Register::ES, Register::GS),
        (Register::CR0, Register::CR15),
        (Register::DR0, Register::DR15),
    ];
    files.into_iter().find_map(|(first, last)| within(first, last)).unwrap_or(0)
}

/// Bytes of a register or memory operand `k`, 0 for none.
pub(crate) fn size_of_operand(i: &Instruction, k: u32) -> u32 {
    match i.op_kind(k) {
        OpKind::Register => {
            let r = i.op_register(k) as u32;
            let within = |first: Register, last: Register| (first as u32..=last as u32).contains(&r);
            if within(Register::AL, Register::R15L) {
                1
            } else if within(Register::AX, Register::R15W) || within(Register::ES, Register::GS) {
                2
            } else if within(Register::EAX, Register::R15D) {
                4
            } else if within(Register::XMM0, Register::XMM15) {
                16
            } else {
                8
            }
        }
        OpKind::Memory
        | OpKind::MemorySegSI
        | OpKind::MemorySegESI
        | OpKind::MemorySegRSI
        | OpKind::MemorySegDI
        | OpKind::MemorySegEDI
        | OpKind::MemorySegRDI
        | OpKind::MemoryESDI
        | OpKind::MemoryESEDI
        | OpKind::MemoryESRDI => match i.memory_size() {
            MemorySize::UInt8 | MemorySize::Int8 => 1,
            MemorySize::UInt16 | MemorySize::Int16 | MemorySize::WordOffset => 2,
            MemorySize::UInt32 | MemorySize::Int32 | MemorySize::DwordOffset => 4,
            MemorySize::UInt64 | MemorySize::Int64 | MemorySize::QwordOffset => 8,
            MemorySize::UInt128 => 16,
            _ => 0,
        },
        _ => 0,
    }
}
