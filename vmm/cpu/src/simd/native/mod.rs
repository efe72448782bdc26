//! Every function of this module tree against the host processor's own instruction, on corner cases and random input.
//!
//! Rules for the unsafe code here:
//! 1. Assembly touches only the registers and the one stack word it names, and leaves MXCSR as it was.
//! 2. All exceptions are masked in the MXCSR values tried: no instruction traps.
//! 3. An instruction is executed only after the extension it belongs to was detected.

#![allow(unsafe_code, reason = "tests call the host's own instructions")]

mod floats;
mod integers;

use super::Mxcsr;

/// SplitMix64: the same input on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Random bits, or lanes that are often equal, extreme or small.
    fn register(&mut self) -> u128 {
        let any = u128::from(self.next()) << 64 | u128::from(self.next());
        match self.next() % 4 {
            0 => any,
            1 => {
                let corners = [0, 1, 2, 0x7f, 0x80, 0x81, 0xff, 0xfe];
                u128::from_le_bytes(std::array::from_fn(|_| corners[self.next() as usize % 8]))
            }
            2 => u128::from_le_bytes(any.to_le_bytes().map(|b| b % 3)),
            _ => {
                let corners = [0, 1, 0x7fff, 0x8000, 0xffff, 0x8001, 3, 0x00ff_u16];
                (0..8).fold(0, |sum, i| sum | u128::from(corners[self.next() as usize % 8]) << (16 * i))
            }
        }
    }

    /// A register of floating-point lanes of one format, few of them ordinary.
    fn floats(&mut self, double: bool) -> u128 {
        if double {
            u128::from(self.double()) << 64 | u128::from(self.double())
        } else {
            (0..4).fold(0, |sum, i| sum | u128::from(self.single()) << (32 * i))
        }
    }

    fn double(&mut self) -> u64 {
        let any = self.next();
        let sign = any & 1 << 63;
        let fraction = any & ((1 << 52) - 1);
        match self.next() % 16 {
            0 => sign,
            1 => sign | 0x3ff << 52,
            2 => sign | 0x7ff << 52,
            3 => sign | 0x7ff << 52 | fraction,
            4 => sign | fraction >> (any >> 52 & 31),
            5 => sign | 0x7fe << 52 | fraction,
            6 => sign | 1 << 52 | fraction & 3,
            7 => f64::from(any as i32).to_bits(),
            8 => (any as i64 as f64).to_bits(),
            9 => (f64::from(any as i16) / 4.0).to_bits(),
            // Where conversions to single precision overflow, underflow and round.
            10 => sign | (0x47e + (any >> 52 & 1)) << 52 | fraction | 0xf_ffff_e000_0000,
            11 => sign | (0x366 + (any >> 52) % 28) << 52 | fraction & (any << 20),
            12 => sign | (0x1fe + (any >> 53 & 3)) << 52 | fraction,
            13 => sign | (0x3fe + (any >> 53 & 3)) << 52 | fraction & 0xf_ff00_0000_0000,
            14 => sign | (0x5fe + (any >> 53 & 3)) << 52 | fraction,
            _ => any,
        }
    }

    fn single(&mut self) -> u32 {
        let any = self.next() as u32;
        let sign = any & 1 << 31;
        let fraction = any & ((1 << 23) - 1);
        match self.next() % 14 {
            0 => sign,
            1 => sign | 0x7f << 23,
            2 => sign | 0xff << 23,
            3 => sign | 0xff << 23 | fraction,
            4 => sign | fraction >> (any >> 23 & 15),
            5 => sign | 0xfe << 23 | fraction,
            6 => sign | 1 << 23 | fraction & 3,
            7 => (any as i32 as f32).to_bits(),
            8 => (f32::from(any as i16) / 4.0).to_bits(),
            9 => sign | (0x3e + (any >> 24 & 3)) << 23 | fraction,
            10 => sign | (0x7e + (any >> 24 & 3)) << 23 | fraction & 0x7f_f000,
            11 => sign | (0xbe + (any >> 24 & 3)) << 23 | fraction,
            12 => sign | (0x9c + (any >> 24 & 3)) << 23 | fraction,
            _ => any,
        }
    }

    /// An MXCSR with all exceptions masked, the rest random; often the plain one.
    fn mxcsr(&mut self) -> Mxcsr {
        let any = self.next() as u32;
        let bits = match self.next() % 3 {
            0 => 0x1f80 | any & 0x20,
            _ => 0x1f80 | any & 0xe07f,
        };
        Mxcsr::new(bits).unwrap()
    }
}

const CASES: usize = 3000;

/// Instructions on XMM1, XMM2 and XMM0; RAX and RCX are free to use. What is left in XMM1.
macro_rules! xmm {
    ($($instruction:tt)+) => {
        |a: u128, b: u128, xmm0: u128| -> u128 {
            let (a, b, xmm0) = (a.to_le_bytes(), b.to_le_bytes(), xmm0.to_le_bytes());
            let mut out = [0_u8; 16];
            // SAFETY: rules 1 to 3; the pointers are to live arrays of 16 bytes.
            unsafe {
                std::arch::asm!(
                    "movups xmm0, [{xmm0}]",
                    "movups xmm1, [{a}]",
                    "movups xmm2, [{b}]",
                    $($instruction)+,
                    "movups [{out}], xmm1",
                    a = in(reg) &a, b = in(reg) &b, xmm0 = in(reg) &xmm0, out = in(reg) &mut out,
                    out("rax") _, out("rcx") _, out("xmm0") _, out("xmm1") _, out("xmm2") _,
                    options(nostack),
                );
            }
            u128::from_le_bytes(out)
        }
    };
}

/// Instructions on MM1 and MM2; RAX is free to use. What is left in MM1.
macro_rules! mm {
    ($($instruction:tt)+) => {
        |a: u64, b: u64| -> u64 {
            let out: u64;
            // SAFETY: rules 1 to 3; EMMS gives the x87 registers back.
            unsafe {
                std::arch::asm!(
                    "movq mm1, {a}",
                    "movq mm2, {b}",
                    $($instruction)+,
                    "movq {out}, mm1",
                    "emms",
                    a = in(reg) a, b = in(reg) b, out = out(reg) out,
                    out("rax") _, out("mm1") _, out("mm2") _,
                    options(nomem, nostack),
                );
            }
            out
        }
    };
}

/// Instructions on XMM1, XMM2 and RAX (cleared before) under an MXCSR; what is left in XMM1, RAX and MXCSR.
macro_rules! fp {
    ($($line:expr),+) => {
        |a: u128, b: u128, mxcsr: Mxcsr| -> (u128, u64, u32) {
            let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
            let mut out = [0_u8; 16];
            let mut csr = [mxcsr.bits(), 0];
            let integer: u64;
            // SAFETY: rules 1 to 3; the pointers are to live arrays; the stack is used as it should be.
            unsafe {
                std::arch::asm!(
                    "movups xmm1, [{a}]",
                    "movups xmm2, [{b}]",
                    "stmxcsr [{csr} + 4]",
                    "ldmxcsr [{csr}]",
                    "xor eax, eax",
                    $($line,)+
                    "stmxcsr [{csr}]",
                    "ldmxcsr [{csr} + 4]",
                    "movups [{out}], xmm1",
                    a = in(reg) &a, b = in(reg) &b, out = in(reg) &mut out, csr = in(reg) &mut csr,
                    out("rax") integer, out("xmm1") _, out("xmm2") _,
                );
            }
            (u128::from_le_bytes(out), integer, csr[0])
        }
    };
}

/// Whether the host has an extension; says so when it has not.
fn reported(feature: &str, detected: bool) -> bool {
    if !detected {
        println!("skipped: this host has no {feature}");
    }
    detected
}

use {fp, mm, xmm};
