//! PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM (SDM vol. 2 §4.1).

use super::lanes::split;

/// What the four instructions compute; each stores one view of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// IntRes2, one bit for each element of the second operand.
    bits: u16,
    /// Elements in a register: 8 or 16.
    count: u32,
    /// Byte or word mask, and which end the index comes from.
    imm: u8,
    /// ZF: the second operand ends within its register.
    pub second_ends: bool,
    /// SF: the first operand ends within its register.
    pub first_ends: bool,
}

impl Comparison {
    /// CF: anything found
    #[inline]
    pub fn found(self) -> bool {
        self.bits != 0
    }

    /// OF: found at element 0
    #[inline]
    pub fn at_start(self) -> bool {
        self.bits & 1 != 0
    }

    /// What PCMPxSTRI puts in ECX (§4.1.5): the first or, with imm8\[6\], the last; the element count if there is none.
    #[inline]
    pub fn index(self) -> u32 {
        match (self.bits, self.imm & 0x40) {
            (0, _) => self.count,
            (bits, 0) => bits.trailing_zeros(),
            (bits, _) => 15 - bits.leading_zeros(),
        }
    }

    /// What PCMPxSTRM puts in XMM0 (§4.1.6): bits or, with imm8\[6\], whole elements.
    pub fn mask(self) -> u128 {
        if self.imm & 0x40 == 0 {
            return self.bits.into();
        }
        let width = 128 / self.count;
        let element = u128::MAX >> (128 - width);
        (0..self.count).filter(|i| self.bits >> i & 1 == 1).fold(0, |mask, i| mask | element << (i * width))
    }
}

/// Elements as wide signed numbers, so that one comparison serves all four formats (imm8\[1:0\], §4.1.1).
fn elements(register: u128, imm: u8) -> [i32; 16] {
    let mut out = [0; 16];
    match imm & 3 {
        0 => out = split::<u8>(register).map(i32::from),
        2 => out = split::<i8>(register).map(i32::from),
        1 => out[..8].copy_from_slice(&split::<u16>(register).map(i32::from)),
        _ => out[..8].copy_from_slice(&split::<i16>(register).map(i32::from)),
    }
    out
}

/// PCMPESTRx, with lengths from EAX/RAX and EDX/RDX sign-extended to 64 bits; their magnitude counts
pub fn explicit(a: u128, b: u128, lengths: (i64, i64), imm: u8) -> Comparison {
    let count = if imm & 1 == 0 { 16 } else { 8 };
    let length = |length: i64| length.unsigned_abs().min(count) as usize;
    compare(&elements(a, imm), &elements(b, imm), (length(lengths.0), length(lengths.1)), imm)
}

/// PCMPISTRx: strings end at a zero element
pub fn implicit(a: u128, b: u128, imm: u8) -> Comparison {
    let count = if imm & 1 == 0 { 16 } else { 8 };
    let (a, b) = (elements(a, imm), elements(b, imm));
    let length = |string: &[i32; 16]| string[..count].iter().position(|&e| e == 0).unwrap_or(count);
    let lengths = (length(&a), length(&b));
    compare(&a, &b, lengths, imm)
}

fn compare(a: &[i32; 16], b: &[i32; 16], (a_len, b_len): (usize, usize), imm: u8) -> Comparison {
    let count: usize = if imm & 1 == 0 { 16 } else { 8 };
    let (set, string) = (&a[..a_len], &b[..b_len]);
    let each = |f: &dyn Fn(usize) -> bool| (0..count).fold(0_u16, |bits, i| bits | u16::from(f(i)) << i);
    // §4.1.3, with the overrides for elements past an end of §4.1.4 (table 4-7).
    let found = match imm >> 2 & 3 {
        // Equal any
        0 => each(&|i| string.get(i).is_some_and(|e| set.contains(e))),
        // Ranges
        1 => each(&|i| string.get(i).is_some_and(|e| set.chunks_exact(2).any(|r| r[0] <= *e && *e <= r[1]))),
        // Equal each
        2 => each(&|i| set.get(i) == string.get(i)),
        // Equal ordered: as much of the set as fits before the end of the register
        _ => each(&|i| set.iter().enumerate().take(count - i).all(|(j, e)| string.get(i + j) == Some(e))),
    };
    let all = u16::MAX >> (16 - count);
    let valid = if b_len == 16 { u16::MAX } else { (1 << b_len) - 1 };
    let bits = match imm >> 4 & 3 {
        1 => found ^ all,
        3 => found ^ valid,
        _ => found,
    };
    Comparison { bits, count: count as u32, imm, second_ends: b_len < count, first_ends: a_len < count }
}
