//! RFLAGS, the arithmetic ones kept lazily.
//!
//! Most results' flags are overwritten unread. So an arithmetic instruction only stores its result and its vector of
//! carries ([`Lazy`]), and whoever asks for a flag computes it from those two words.

use crate::word::Word;

/// Bits of RFLAGS (SDM vol. 1, §3.4.3).
#[expect(missing_docs, reason = "the names are the architecture's")]
pub mod bits {
    pub const CF: u64 = 1 << 0;
    /// Always set.
    pub const FIXED: u64 = 1 << 1;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
    /// The six that arithmetic sets.
    pub const ARITH: u64 = CF | PF | AF | ZF | SF | OF;
    /// Every bit that means something.
    pub const DEFINED: u64 = ARITH | TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | VIP | ID;
}

/// The arithmetic flags in the form in which they are cheapest to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lazy {
    /// The result, sign-extended. ZF: it is 0. SF: bit 63, flipped by bit 0 of `aux`. PF: parity of the low byte,
    /// flipped by the parity of bits 8–15 of `aux`.
    pub result: u64,
    /// Bit 63: CF. Bit 62: CF ⊕ OF. Bit 3: AF. Bits 0 and 8–15: see `result`.
    pub aux: u64,
}

impl Lazy {
    /// A logical result: CF, OF, AF clear.
    #[inline(always)]
    pub fn logic<T: Word>(r: T) -> Self {
        Self { result: r.sext(), aux: 0 }
    }

    /// `carries`: the carry (or borrow) out of every bit position.
    #[inline(always)]
    pub fn carries<T: Word>(r: T, carries: u64) -> Self {
        Self { result: r.sext(), aux: carries << (64 - T::BITS) & 0xC000_0000_0000_0000 | carries & 8 }
    }

    /// A result with CF and OF given, AF clear.
    #[inline(always)]
    pub fn with<T: Word>(r: T, cf: bool, of: bool) -> Self {
        Self { result: r.sext(), aux: u64::from(cf) << 63 | u64::from(cf ^ of) << 62 }
    }

    /// From the bits of RFLAGS.
    pub fn from_bits(flags: u64) -> Self {
        let has = |bit: u64| flags & bit != 0;
        let result = u64::from(!has(bits::ZF));
        // The low byte of `result` is 0 (even parity, PF = 1) or 1 (odd).
        let natural_parity = has(bits::ZF);
        let aux = u64::from(has(bits::CF)) << 63
            | u64::from(has(bits::CF) ^ has(bits::OF)) << 62
            | u64::from(has(bits::AF)) << 3
            | u64::from(has(bits::SF))
            | u64::from(has(bits::PF) != natural_parity) << 8;
        Self { result, aux }
    }

    /// As bits of RFLAGS.
    pub fn bits(&self) -> u64 {
        let on = |set: bool, bit: u64| if set { bit } else { 0 };
        on(self.cf(), bits::CF)
            | on(self.pf(), bits::PF)
            | on(self.af(), bits::AF)
            | on(self.zf(), bits::ZF)
            | on(self.sf(), bits::SF)
            | on(self.of(), bits::OF)
    }

    /// Carry.
    #[inline(always)]
    pub fn cf(&self) -> bool {
        (self.aux as i64) < 0
    }

    /// Parity of the low byte is even.
    #[inline(always)]
    pub fn pf(&self) -> bool {
        ((self.result ^ self.aux >> 8) as u8).count_ones() & 1 == 0
    }

    /// Carry out of bit 3.
    #[inline(always)]
    pub fn af(&self) -> bool {
        self.aux & 8 != 0
    }

    /// Zero.
    #[inline(always)]
    pub fn zf(&self) -> bool {
        self.result == 0
    }

    /// Sign.
    #[inline(always)]
    pub fn sf(&self) -> bool {
        ((self.result >> 63) ^ self.aux) & 1 != 0
    }

    /// Overflow.
    #[inline(always)]
    pub fn of(&self) -> bool {
        ((self.aux ^ self.aux << 1) as i64) < 0
    }

    /// The same with another carry.
    #[inline(always)]
    #[must_use]
    pub fn with_cf(self, cf: bool) -> Self {
        let flip = u64::from(self.cf() != cf);
        Self { aux: self.aux ^ (flip << 63 | flip << 62), ..self }
    }

    /// Condition `C` as Jcc encodes it in its low four bits (SDM vol. 1, appendix B).
    #[inline(always)]
    pub fn condition<const C: u8>(&self) -> bool {
        let holds = match C >> 1 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        holds != (C & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_survives_the_lazy_form() {
        for n in 0..64u64 {
            let mut flags = 0;
            for (k, bit) in [bits::CF, bits::PF, bits::AF, bits::ZF, bits::SF, bits::OF].into_iter().enumerate() {
                if n >> k & 1 == 1 {
                    flags |= bit;
                }
            }
            assert_eq!(Lazy::from_bits(flags).bits(), flags, "{flags:#x}");
            assert_eq!(Lazy::from_bits(flags).with_cf(true).bits(), flags | bits::CF);
            assert_eq!(Lazy::from_bits(flags).with_cf(false).bits(), flags & !bits::CF);
        }
    }
}
