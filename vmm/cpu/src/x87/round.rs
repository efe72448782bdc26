//! Control and status words, and the rounding of exact results (SDM vol. 1, sections 4.8.4, 4.9 and 8.1).

use super::float::{BIAS, EXPONENT_ONES, F80, INTEGER, Kind, Operand, QUIET};

/// Bits of the status word (SDM vol. 1, figure 8-4); the first six are also those of the control word's masks.
pub mod status {
    /// Invalid operation.
    pub const IE: u16 = 1 << 0;
    /// A denormal operand.
    pub const DE: u16 = 1 << 1;
    /// Division of a finite number by zero.
    pub const ZE: u16 = 1 << 2;
    /// Overflow.
    pub const OE: u16 = 1 << 3;
    /// Underflow.
    pub const UE: u16 = 1 << 4;
    /// The result was rounded.
    pub const PE: u16 = 1 << 5;
    /// The invalid operation was an overflow (C1 set) or underflow of the register stack.
    pub const SF: u16 = 1 << 6;
    /// An unmasked exception is pending.
    pub const ES: u16 = 1 << 7;
    /// Condition codes.
    pub const C0: u16 = 1 << 8;
    /// Rounded up, or the direction of a stack fault.
    pub const C1: u16 = 1 << 9;
    /// Unordered, or reduction incomplete.
    pub const C2: u16 = 1 << 10;
    /// Equal.
    pub const C3: u16 = 1 << 14;
    /// The 8087's busy bit: a copy of ES.
    pub const B: u16 = 1 << 15;
    /// The six exceptions.
    pub const EXCEPTIONS: u16 = IE | DE | ZE | OE | UE | PE;
    /// The four condition codes.
    pub const CONDITIONS: u16 = C0 | C1 | C2 | C3;
}

use status::{DE, IE, OE, PE, UE, ZE};

/// What an unmasked overflow subtracts from the exponent and an unmasked underflow adds to it (SDM vol. 1, 8.5.4).
const WRAP: i32 = 24576;

/// One operation on its way: the control word it runs under and what it raised so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    control: u16,
    pub(super) raised: u16,
    /// C1: the last rounding was away from zero.
    pub(super) up: bool,
}

/// A significand after rounding.
#[derive(Clone, Copy)]
pub(super) struct Rounded {
    pub(super) kept: u128,
    pub(super) inexact: bool,
    pub(super) up: bool,
}

/// Shifts right; ones that fall out are gathered in bit 0.
pub(super) fn shift_right_sticky(value: u128, count: u32) -> u128 {
    match count {
        0 => value,
        1..=127 => value >> count | u128::from(value << (128 - count) != 0),
        _ => u128::from(value != 0),
    }
}

impl Context {
    pub(super) fn new(control: u16) -> Self {
        Self { control, raised: 0, up: false }
    }

    pub(super) fn unmasked(&self, exceptions: u16) -> bool {
        exceptions & !self.control != 0
    }

    /// An exception that is found before the computation is unmasked: there will be no result.
    pub(super) fn stopped(&self) -> bool {
        self.unmasked(self.raised & (IE | DE | ZE))
    }

    /// The masked response to an invalid operation.
    pub(super) fn invalid(&mut self) -> F80 {
        self.raised |= IE;
        F80::INDEFINITE
    }

    /// Raises the denormal-operand exception where there is cause; true when it ends the instruction.
    pub(super) fn denormal(&mut self, operands: &[Operand]) -> bool {
        if operands.iter().any(|operand| operand.denormal) {
            self.raised |= DE;
        }
        self.stopped()
    }

    /// The significand's width that the precision-control field asks for (SDM vol. 1, table 8-2; the reserved
    /// encoding 01 works as 11 does).
    pub(super) fn precision(&self) -> u32 {
        match self.control >> 8 & 3 {
            0 => 24,
            2 => 53,
            _ => 64,
        }
    }

    /// Rounds off the low `drop` bits (at most 127) as the rounding-control field says.
    pub(super) fn round(&self, negative: bool, value: u128, drop: u32) -> Rounded {
        if drop == 0 {
            return Rounded { kept: value, inexact: false, up: false };
        }
        let (kept, rest, half) = (value >> drop, value & ((1 << drop) - 1), 1u128 << (drop - 1));
        let up = rest != 0
            && match self.control >> 10 & 3 {
                0 => rest > half || rest == half && kept & 1 != 0,
                1 => negative,
                2 => !negative,
                _ => false,
            };
        Rounded { kept: kept + u128::from(up), inexact: rest != 0, up }
    }

    pub(super) fn note(&mut self, rounded: Rounded) {
        self.up = rounded.up;
        if rounded.inexact {
            self.raised |= PE;
        }
    }

    /// The register for `significand · 2^(exponent - 127)`, rounded to `bits` bits. The significand is normalized
    /// (bit 127), or zero for an exact zero; its lowest bit may stand for all below.
    pub(super) fn finish(&mut self, negative: bool, exponent: i32, significand: u128, bits: u32) -> F80 {
        let mut biased = exponent.saturating_add(BIAS);
        let drop = 128 - bits;
        let mut rounded = self.round(negative, significand, drop);
        let carried = rounded.kept >> bits != 0;
        // Tininess is detected after rounding to an unbounded exponent (SDM vol. 1, section 4.9.1.5).
        let tiny = biased < 0 || biased == 0 && !carried;
        if tiny && self.unmasked(UE) {
            self.raised |= UE;
            biased += WRAP;
            if biased <= 0 {
                // Only FSCALE comes so low.
                self.raised |= PE;
                return F80::zero(negative);
            }
        } else if biased <= 0 {
            let shift = u32::try_from(1 - biased).unwrap_or(u32::MAX);
            rounded = self.round(negative, shift_right_sticky(significand, shift), drop);
            self.note(rounded);
            if tiny && rounded.inexact {
                self.raised |= UE;
            }
            let kept = (rounded.kept << (64 - bits)) as u64;
            return F80::new(negative, u16::from(kept & INTEGER != 0), kept);
        }
        let mut kept = rounded.kept;
        if carried {
            kept >>= 1;
            biased += 1;
        }
        if biased >= i32::from(EXPONENT_ONES) {
            self.raised |= OE;
            if !self.unmasked(OE) {
                return self.overflow(negative, bits);
            }
            biased -= WRAP;
            if biased >= i32::from(EXPONENT_ONES) {
                // Only FSCALE goes so high.
                self.raised |= PE;
                self.up = true;
                return F80::infinity(negative);
            }
        }
        self.note(rounded);
        F80::new(negative, biased as u16, (kept << (64 - bits)) as u64)
    }

    /// The masked response to an overflow: infinity, or the largest number where rounding goes the other way
    /// (SDM vol. 1, table 4-10).
    fn overflow(&mut self, negative: bool, bits: u32) -> F80 {
        self.raised |= PE;
        self.up = self.overflows_to_infinity(negative);
        if self.up { F80::infinity(negative) } else { F80::new(negative, EXPONENT_ONES - 1, u64::MAX << (64 - bits)) }
    }

    /// The rounding-control field asks for rounding toward minus infinity.
    pub(super) fn rounds_down(&self) -> bool {
        self.control >> 10 & 3 == 1
    }

    pub(super) fn overflows_to_infinity(&self, negative: bool) -> bool {
        match self.control >> 10 & 3 {
            0 => true,
            1 => negative,
            2 => !negative,
            _ => false,
        }
    }

    /// The result of an instruction one of whose operands is a NaN or an unsupported encoding
    /// (SDM vol. 1, table 4-7), `None` when none is.
    pub(super) fn nan(&mut self, a: Operand, b: Operand) -> Option<F80> {
        if a.kind == Kind::Unsupported || b.kind == Kind::Unsupported {
            return Some(self.invalid());
        }
        if a.kind == Kind::Signaling || b.kind == Kind::Signaling {
            self.raised |= IE;
        }
        let chosen = match (a.is_nan(), b.is_nan()) {
            (false, false) => return None,
            (true, false) => a,
            (false, true) => b,
            // A quiet NaN before a signaling one, then the larger significand, then the positive sign.
            (true, true) => match (a.kind, b.kind) {
                (Kind::Quiet, Kind::Signaling) => a,
                (Kind::Signaling, Kind::Quiet) => b,
                _ if a.significand > b.significand => a,
                _ if a.significand < b.significand => b,
                _ if a.negative => b,
                _ => a,
            },
        };
        Some(F80::new(chosen.negative, EXPONENT_ONES, chosen.significand | QUIET))
    }
}
