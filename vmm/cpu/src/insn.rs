//! The decoded form of an instruction: the contract between the decoder, the interpreter and a later translator.

use iced_x86::Code;

use crate::core::Core;
use crate::fault::R;

/// Carries out one instruction. RIP points behind it already. On `Err` nothing of the architectural state has changed
/// (string instructions with a repeat prefix have finished the iterations before).
pub type Handler = fn(&mut Core, &Insn) -> R;

/// Numbers in [`Core::regs`] behind the sixteen general registers.
pub mod reg {
    /// Accumulator.
    pub const RAX: usize = 0;
    /// Counter.
    pub const RCX: usize = 1;
    /// Data.
    pub const RDX: usize = 2;
    /// Base.
    pub const RBX: usize = 3;
    /// Stack pointer.
    pub const RSP: usize = 4;
    /// Frame pointer.
    pub const RBP: usize = 5;
    /// Source index.
    pub const RSI: usize = 6;
    /// Destination index.
    pub const RDI: usize = 7;
    /// R11, which SYSCALL saves the flags in.
    pub const R11: usize = 11;
    /// The instruction pointer: of the next instruction while a handler runs.
    pub const RIP: usize = 16;
    /// Always 0: stands for a base or index that is not there.
    pub const ZERO: usize = 17;
}

/// Segment registers, numbered as in encodings.
pub mod seg {
    /// Extra.
    pub const ES: usize = 0;
    /// Code.
    pub const CS: usize = 1;
    /// Stack.
    pub const SS: usize = 2;
    /// Data.
    pub const DS: usize = 3;
    /// FS.
    pub const FS: usize = 4;
    /// GS.
    pub const GS: usize = 5;
}

/// How the linear address of a memory operand comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Addressing {
    /// 64-bit mode, 64-bit address, no segment base: base + index·scale + displacement is the linear address.
    Flat,
    /// 64-bit mode with a segment base (FS, GS) or a 32-bit address size.
    Long,
    /// Outside 64-bit mode: base, limit and type of the segment count.
    Segmented,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// Carries it out.
    pub run: Handler,
    /// Immediate operand, sign-extended; for a near branch the distance from the next instruction; for `moffs` the
    /// whole address offset (then `disp` is 0).
    pub imm: u64,
    /// Displacement of the memory operand.
    pub disp: i32,
    /// Which instruction it is, in the decoder's numbering ([`Insn::code`]).
    op: u16,
    /// Length in bytes.
    pub len: u8,
    /// Register number of the first (destination) operand, or 0.
    pub dst: u8,
    /// Register number of the second operand, or 0.
    pub src: u8,
    /// Register number of the third operand, or 0.
    pub third: u8,
    /// Base register of the memory operand.
    pub base: u8,
    /// Index register.
    pub index: u8,
    /// Shift of the index.
    pub scale: u8,
    /// Segment register of the memory operand, overrides applied.
    pub seg: u8,
    /// How to form the linear address.
    pub addressing: Addressing,
    /// Bits 0–1: log₂ of the address size in bytes; other bits as below.
    pub bits: u8,
}

/// [`Insn::bits`]: REP or REPE.
pub const REP: u8 = 1 << 2;
/// [`Insn::bits`]: REPNE.
pub const REPNE: u8 = 1 << 3;
/// [`Insn::bits`]: LOCK (or XCHG with memory, which locks by itself).
pub const LOCK: u8 = 1 << 4;
/// [`Insn::bits`]: decoded for 64-bit mode.
pub const LONG: u8 = 1 << 5;
/// [`Insn::bits`]: 32-bit default operand size (protected or compatibility mode).
pub const WIDE: u8 = 1 << 6;

impl Insn {
    pub(crate) fn new(code: Code, len: u8, run: Handler) -> Self {
        Self {
            run,
            imm: 0,
            disp: 0,
            op: code as u16,
            len,
            dst: 0,
            src: 0,
            third: 0,
            base: reg::ZERO as u8,
            index: reg::ZERO as u8,
            scale: 0,
            seg: seg::DS as u8,
            addressing: Addressing::Flat,
            bits: 0,
        }
    }

    /// Which instruction it is.
    pub fn code(&self) -> Code {
        Code::try_from(usize::from(self.op)).unwrap_or(Code::INVALID)
    }

    /// Mask of the address size: 16, 32 or 64 ones.
    #[inline(always)]
    pub fn address_mask(&self) -> u64 {
        match self.bits & 3 {
            1 => 0xFFFF,
            2 => 0xFFFF_FFFF,
            _ => u64::MAX,
        }
    }

    /// Is bit `bit` of [`Insn::bits`] set?
    #[inline(always)]
    pub fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_instruction_is_half_a_cache_line() {
        assert_eq!(size_of::<super::Insn>(), 32);
    }
}
