//! The sizes an operand can have.

/// An operand of 8, 16, 32 or 64 bits.
///
/// Registers are addressed by number: bit 5 ([`HIGH`]) set means the second byte of registers 0 to 3 (AH to BH), which
/// only 8-bit operands use.
pub trait Word: crate::mem::Plain + PartialEq {
    /// Width in bits.
    const BITS: u32;
    /// All bits of this width.
    const MASK: u64;
    /// Keeps the low bits.
    fn cut(value: u64) -> Self;
    /// Zero-extends.
    fn wide(self) -> u64;
    /// Sign-extends.
    fn sext(self) -> u64;
    /// Reads a general register.
    fn get(regs: &[u64; 32], number: u8) -> Self;
    /// Writes a general register: 32 bits clear the upper half, 16 and 8 bits keep it (SDM vol. 1, §3.4.1.1).
    fn set(regs: &mut [u64; 32], number: u8, value: Self);
}

/// Marks the number of AH, CH, DH or BH.
pub const HIGH: u8 = 0x20;

macro_rules! word {
    ($t:ty, $s:ty) => {
        const BITS: u32 = <$t>::BITS;
        const MASK: u64 = u64::MAX >> (64 - <$t>::BITS);
        #[inline(always)]
        fn cut(value: u64) -> Self {
            value as $t
        }
        #[inline(always)]
        fn wide(self) -> u64 {
            self.into()
        }
        #[inline(always)]
        fn sext(self) -> u64 {
            i64::from(self as $s) as u64
        }
    };
}

impl Word for u8 {
    word!(u8, i8);
    #[inline(always)]
    fn get(regs: &[u64; 32], number: u8) -> Self {
        if number & HIGH != 0 {
            (regs[usize::from(number & 3)] >> 8) as u8
        } else {
            regs[usize::from(number & 31)] as u8
        }
    }
    #[inline(always)]
    fn set(regs: &mut [u64; 32], number: u8, value: Self) {
        if number & HIGH != 0 {
            let r = &mut regs[usize::from(number & 3)];
            *r = *r & !0xFF00 | u64::from(value) << 8;
        } else {
            let r = &mut regs[usize::from(number & 31)];
            *r = *r & !0xFF | u64::from(value);
        }
    }
}

impl Word for u16 {
    word!(u16, i16);
    #[inline(always)]
    fn get(regs: &[u64; 32], number: u8) -> Self {
        regs[usize::from(number & 31)] as u16
    }
    #[inline(always)]
    fn set(regs: &mut [u64; 32], number: u8, value: Self) {
        let r = &mut regs[usize::from(number & 31)];
        *r = *r & !0xFFFF | u64::from(value);
    }
}

impl Word for u32 {
    word!(u32, i32);
    #[inline(always)]
    fn get(regs: &[u64; 32], number: u8) -> Self {
        regs[usize::from(number & 31)] as u32
    }
    #[inline(always)]
    fn set(regs: &mut [u64; 32], number: u8, value: Self) {
        regs[usize::from(number & 31)] = u64::from(value);
    }
}

impl Word for u64 {
    word!(u64, i64);
    #[inline(always)]
    fn get(regs: &[u64; 32], number: u8) -> Self {
        regs[usize::from(number & 31)]
    }
    #[inline(always)]
    fn set(regs: &mut [u64; 32], number: u8, value: Self) {
        regs[usize::from(number & 31)] = value;
    }
}
