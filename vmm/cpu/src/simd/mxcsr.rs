//! MXCSR, the control and status register of SSE floating point (SDM vol. 1 §10.2.3).

/// Invalid operation (IE).
pub(super) const INVALID: u32 = 1 << 0;
/// Denormal operand (DE).
pub(super) const DENORMAL: u32 = 1 << 1;
/// Division by zero (ZE).
pub(super) const ZERO_DIVIDE: u32 = 1 << 2;
/// Overflow (OE).
pub(super) const OVERFLOW: u32 = 1 << 3;
/// Underflow (UE).
pub(super) const UNDERFLOW: u32 = 1 << 4;
/// Precision, the result is inexact (PE).
pub(super) const PRECISION: u32 = 1 << 5;

/// The exceptions found before anything is computed (SDM vol. 1 §11.5.2).
const BEFORE: u32 = INVALID | DENORMAL | ZERO_DIVIDE;
/// From a flag to its mask.
const MASK_SHIFT: u32 = 7;
const FLAGS: u32 = 0x3f;
const DAZ: u32 = 1 << 6;
const FTZ: u32 = 1 << 15;
const ROUNDING: u32 = 3 << 13;

/// An unmasked exception was found: #XM is to be raised and no destination written. The flags are already set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmasked;

/// The rounding modes (SDM vol. 1 §4.8.4), in the order of their encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// Toward −∞.
    Down,
    /// Toward +∞.
    Up,
    /// Toward zero.
    Zero,
}

impl Rounding {
    /// The mode that two bits stand for.
    #[inline]
    pub fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Nearest,
            1 => Self::Down,
            2 => Self::Up,
            _ => Self::Zero,
        }
    }
}

/// The register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mxcsr(u32);

impl Default for Mxcsr {
    fn default() -> Self {
        Self::RESET
    }
}

impl Mxcsr {
    /// After reset and INIT: all exceptions masked.
    pub const RESET: Self = Self(0x1f80);

    /// The bits that may be set (MXCSR_MASK of FXSAVE).
    pub const MASK: u32 = 0xffff;

    /// The register with these bits, unless a reserved one is among them (#GP).
    #[inline]
    pub fn new(bits: u32) -> Option<Self> {
        (bits & !Self::MASK == 0).then_some(Self(bits))
    }

    /// The register with these bits, which were checked when they came to be there.
    #[inline]
    pub fn from_valid(bits: u32) -> Self {
        Self(bits & Self::MASK)
    }

    /// As STMXCSR stores it.
    #[inline]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// RC
    #[inline]
    pub fn rounding(self) -> Rounding {
        Rounding::from_bits((self.0 & ROUNDING) >> 13)
    }

    /// DAZ: denormal operands count as zeros.
    #[inline]
    pub fn denormals_are_zeros(self) -> bool {
        self.0 & DAZ != 0
    }

    /// FTZ, which is without effect while underflow is unmasked.
    #[inline]
    pub(super) fn flushes_to_zero(self) -> bool {
        self.0 & FTZ != 0
    }

    /// Whether an unmasked exception is among `flags`.
    #[inline]
    pub(super) fn unmasks(self, flags: u32) -> bool {
        flags & !(self.0 >> MASK_SHIFT) & FLAGS != 0
    }

    /// Rounds to nearest with every exception masked: what the host's arithmetic does, too.
    #[inline]
    pub(super) fn is_plain(self) -> bool {
        self.0 & (ROUNDING | FLAGS << MASK_SHIFT) == FLAGS << MASK_SHIFT
    }

    /// One more inexact result would not show.
    #[inline]
    pub(super) fn is_inexact(self) -> bool {
        self.0 & PRECISION != 0
    }

    /// Sets the flags of what an instruction found, in the order of SDM vol. 1 §11.5.3: when an unmasked exception
    /// is found before the computation, none that it would have caused is reported.
    #[inline]
    pub(super) fn settle(&mut self, flags: u32) -> Result<(), Unmasked> {
        if self.unmasks(flags) {
            self.0 |= if self.unmasks(flags & BEFORE) { flags & BEFORE } else { flags };
            return Err(Unmasked);
        }
        self.0 |= flags;
        Ok(())
    }
}
