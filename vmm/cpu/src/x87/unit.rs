//! The state of the floating-point unit and what every instruction shares: the stack, its faults, pending exceptions,
//! the image in memory, and the MMX registers (SDM vol. 1, sections 8.1, 8.5 and 9.6).

use super::float::{EXPONENT_ONES, F80, Kind, Operand};
use super::round::{Context, status};

/// The x87 floating-point unit.
///
/// The methods named after instructions do what the instruction does once its memory operand, if any, has been read,
/// and after the caller has asked [`Fpu::pending`]. Those that store return the value to be stored, or `None` when an
/// unmasked exception forbids it; a caller works on a clone and keeps it once the store went through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fpu {
    /// R0 to R7 (physical: ST(0) is R\[TOP\]).
    pub(super) registers: [F80; 8],
    /// Bit n is set when Rn is not empty: the abridged tag word of FXSAVE.
    pub(super) full: u8,
    pub(super) control: u16,
    /// Without ES and B, which follow from the rest.
    pub(super) status: u16,
    /// Opcode of the last non-control instruction: the low three bits of its first byte and its second byte.
    pub opcode: u16,
    /// Where that instruction is (FIP).
    pub ip: u64,
    /// Where its memory operand is (FDP).
    pub dp: u64,
}

/// How FNSTENV and FNSAVE lay out the environment (SDM vol. 1, figures 8-9 to 8-12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// 16-bit operand size, real-address or virtual-8086 mode: 14 bytes.
    Real16,
    /// 16-bit operand size, protected mode: 14 bytes.
    Protected16,
    /// 32-bit operand size, real-address or virtual-8086 mode: 28 bytes.
    Real32,
    /// 32-bit operand size, protected and 64-bit mode: 28 bytes.
    Protected32,
}

impl Layout {
    /// Bytes of the environment.
    pub fn size(self) -> usize {
        match self {
            Self::Real16 | Self::Protected16 => 14,
            Self::Real32 | Self::Protected32 => 28,
        }
    }
}

/// Where an operand is.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// ST(n).
    St(u8),
    /// In memory, already read.
    Memory(Operand),
}

impl Default for Fpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Fpu {
    /// After power-on (SDM vol. 3A, table 10-1): every register holds +0.0.
    pub fn new() -> Self {
        Self { control: 0x0040, full: 0xff, ..Self::initial() }
    }

    /// The initial configuration of XSAVE's x87 state (SDM vol. 1, section 13.6).
    pub fn initial() -> Self {
        Self { registers: [F80::ZERO; 8], full: 0, control: 0x037f, status: 0, opcode: 0, ip: 0, dp: 0 }
    }

    /// FNINIT. The registers keep their contents, which count as empty.
    pub fn fninit(&mut self) {
        *self = Self { registers: self.registers, ..Self::initial() };
    }

    /// FNCLEX.
    pub fn fnclex(&mut self) {
        self.status &= !(status::EXCEPTIONS | status::SF);
    }

    /// The control word.
    pub fn control(&self) -> u16 {
        self.control
    }

    /// FLDCW. Bit 6 is always set and the other reserved bits never.
    pub fn set_control(&mut self, control: u16) {
        self.control = control & 0x1f3f | 0x40;
    }

    /// The status word.
    pub fn status(&self) -> u16 {
        self.status | if self.pending() { status::ES | status::B } else { 0 }
    }

    /// Sets the status word; ES and B follow from exceptions and masks.
    pub fn set_status(&mut self, status: u16) {
        self.status = status & !(status::ES | status::B);
    }

    /// An unmasked exception waits for the next waiting instruction (#MF, or FERR# when CR0.NE is clear).
    pub fn pending(&self) -> bool {
        self.status & status::EXCEPTIONS & !self.control != 0
    }

    /// The number of the register that is ST(0).
    pub fn top(&self) -> u8 {
        (self.status >> 11 & 7) as u8
    }

    pub(super) fn set_top(&mut self, top: u8) {
        self.status = self.status & !(7 << 11) | u16::from(top & 7) << 11;
    }

    /// Bit n is set when Rn is not empty.
    pub fn abridged_tags(&self) -> u8 {
        self.full
    }

    /// Sets the tags in the form of FXRSTOR.
    pub fn set_abridged_tags(&mut self, full: u8) {
        self.full = full;
    }

    /// The tag word: valid, zero, special or empty, two bits a register (SDM vol. 1, figure 8-7).
    pub fn tags(&self) -> u16 {
        (0u8..8).zip(self.registers).fold(0, |tags, (n, register)| {
            let tag = match Operand::f80(register) {
                _ if self.full >> n & 1 == 0 => 3,
                Operand { kind: Kind::Zero, .. } => 1,
                Operand { kind: Kind::Finite, denormal: false, .. } => 0,
                _ => 2,
            };
            tags | tag << (2 * n)
        })
    }

    /// Sets the tags in the form of FLDENV, of which only "empty" counts.
    pub fn set_tags(&mut self, tags: u16) {
        self.full = (0..8).fold(0, |full, n| full | u8::from(tags >> (2 * n) & 3 != 3) << n);
    }

    /// What is in ST(`i`), empty or not.
    pub fn raw(&self, i: u8) -> F80 {
        self.registers[usize::from(self.top().wrapping_add(i) & 7)]
    }

    /// Changes the contents of ST(`i`) and not its tag.
    pub fn set_raw(&mut self, i: u8, value: F80) {
        self.registers[usize::from(self.top().wrapping_add(i) & 7)] = value;
    }

    pub(super) fn is_empty(&self, i: u8) -> bool {
        self.full >> (self.top().wrapping_add(i) & 7) & 1 == 0
    }

    pub(super) fn operand(&self, source: Source) -> Option<Operand> {
        match source {
            Source::St(i) if self.is_empty(i) => None,
            Source::St(i) => Some(Operand::f80(self.raw(i))),
            Source::Memory(operand) => Some(operand),
        }
    }

    pub(super) fn write(&mut self, i: u8, value: F80) {
        self.set_raw(i, value);
        self.full |= 1 << (self.top().wrapping_add(i) & 7);
    }

    pub(super) fn pop(&mut self) {
        self.full &= !(1 << self.top());
        self.set_top(self.top().wrapping_add(1));
    }

    pub(super) fn push(&mut self, value: F80) {
        self.set_top(self.top().wrapping_sub(1));
        self.write(0, value);
    }

    /// A new operation: C1 is clear unless it says otherwise.
    pub(super) fn begin(&mut self) -> Context {
        self.status &= !status::C1;
        Context::new(self.control)
    }

    /// Notes what an operation raised; false when an unmasked exception takes its result away.
    pub(super) fn settle(&mut self, cx: Context) -> bool {
        self.status |= cx.raised;
        self.condition(status::C1, cx.up);
        !cx.stopped()
    }

    pub(super) fn condition(&mut self, bit: u16, set: bool) {
        self.status = if set { self.status | bit } else { self.status & !bit };
    }

    /// A stack fault; true when it is masked, so that the result is an indefinite value.
    pub(super) fn stack_fault(&mut self, overflow: bool) -> bool {
        self.status |= status::IE | status::SF;
        self.condition(status::C1, overflow);
        self.control & status::IE != 0
    }

    /// The bytes that FNSTENV stores, [`Layout::size`] of them. CS and DS of the pointers are not kept: the processor
    /// announces that they are deprecated (CPUID.7.0:EBX bit 13).
    pub fn environment(&self, layout: Layout) -> [u8; 28] {
        let (control, status, tags, opcode) =
            (self.control, self.status(), self.tags(), u32::from(self.opcode & 0x7ff));
        let (ip, dp) = (self.ip as u32, self.dp as u32);
        let words: [u32; 7] = match layout {
            Layout::Real16 | Layout::Protected16 => {
                let real = layout == Layout::Real16;
                let high = |pointer: u32| if real { (pointer >> 16 & 15) << 12 } else { 0 };
                let words = [
                    control,
                    status,
                    tags,
                    ip as u16,
                    (high(ip) | if real { opcode } else { 0 }) as u16,
                    dp as u16,
                    high(dp) as u16,
                ];
                let mut bytes = [0; 28];
                for (to, word) in bytes.chunks_exact_mut(2).zip(words) {
                    to.copy_from_slice(&word.to_le_bytes());
                }
                return bytes;
            }
            Layout::Real32 => [
                0xffff_0000 | u32::from(control),
                0xffff_0000 | u32::from(status),
                0xffff_0000 | u32::from(tags),
                0xffff_0000 | ip & 0xffff,
                ip >> 16 << 12 | opcode,
                0xffff_0000 | dp & 0xffff,
                dp >> 16 << 12,
            ],
            Layout::Protected32 => [
                0xffff_0000 | u32::from(control),
                0xffff_0000 | u32::from(status),
                0xffff_0000 | u32::from(tags),
                ip,
                opcode << 16,
                dp,
                0xffff_0000,
            ],
        };
        let mut bytes = [0; 28];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// FLDENV from [`Layout::size`] bytes; the rest is not looked at.
    pub fn set_environment(&mut self, layout: Layout, bytes: &[u8; 28]) {
        let step = layout.size() / 7;
        let mut words = [0u32; 7];
        for (word, from) in words.iter_mut().zip(bytes.chunks_exact(step)) {
            *word = from.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        let [control, state, tags, ip, ip_high, dp, dp_high] = words;
        self.set_control(control as u16);
        self.set_status(state as u16);
        self.set_tags(tags as u16);
        match layout {
            Layout::Protected32 => {
                (self.ip, self.dp) = (ip.into(), dp.into());
                self.opcode = (ip_high >> 16) as u16 & 0x7ff;
            }
            Layout::Protected16 => (self.ip, self.dp) = (ip.into(), dp.into()),
            Layout::Real16 | Layout::Real32 => {
                let pointer = |low: u32, high: u32| u64::from(low & 0xffff | (high >> 12 & 0xffff) << 16);
                (self.ip, self.dp) = (pointer(ip, ip_high), pointer(dp, dp_high));
                self.opcode = ip_high as u16 & 0x7ff;
            }
        }
    }

    /// What FNSTENV does after the store: all exceptions are masked.
    pub fn mask_all(&mut self) {
        self.control |= status::EXCEPTIONS;
    }

    /// MM`i`. An instruction that reads MMX registers calls [`Fpu::mmx_enter`], too, once nothing can fail any more.
    pub fn mmx_read(&self, i: u8) -> u64 {
        self.registers[usize::from(i & 7)].significand
    }

    /// Writes MM`i` and enters MMX mode.
    pub fn mmx_write(&mut self, i: u8, value: u64) {
        self.mmx_enter();
        self.registers[usize::from(i & 7)] = F80 { significand: value, sign_exponent: 0x8000 | EXPONENT_ONES };
    }

    /// What every MMX instruction but EMMS does: TOP becomes 0, all tags valid (SDM vol. 1, section 9.5.1).
    pub fn mmx_enter(&mut self) {
        self.set_top(0);
        self.full = 0xff;
    }

    /// EMMS.
    pub fn emms(&mut self) {
        self.set_top(0);
        self.full = 0;
    }
}
