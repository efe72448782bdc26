//! States of the unit and operands, among them every corner.

use crate::x87::{F80, Fpu};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn significand(&mut self) -> u64 {
        let integer = 1 << 63;
        match self.below(10) {
            0 => integer,
            1 => integer | 1,
            2 => u64::MAX,
            3 => integer | 1 << self.below(63),
            4 => integer | u64::MAX << self.below(63),
            5 => integer | self.next() << self.below(64),
            6 => [0, 1, 1 << 62, 3 << 62, integer - 1, 3 << 62 | 1][self.below(6) as usize],
            _ => integer | self.next(),
        }
    }

    fn value(&mut self, near: u16) -> F80 {
        let exponent = match self.below(12) {
            0 => 0,
            1 => 0x7fff,
            2 => self.below(3) as u16,
            3 => 0x7ffe - self.below(3) as u16,
            4 => self.next() as u16 & 0x7fff,
            5 | 6 => 0x3fff + self.below(70) as u16,
            7 => 0x3fff - self.below(70) as u16,
            // About the ends of single and double precision.
            8 => [0x3f80, 0x407e, 0x3c00, 0x43fe, 0x3f6a, 0x3bcd][self.below(6) as usize] + self.below(5) as u16 - 2,
            _ => (near + self.below(4) as u16).wrapping_sub(2) & 0x7fff,
        };
        let significand = if exponent == 0 && self.below(2) == 0 {
            if self.below(2) == 0 { 0 } else { self.next() >> self.below(64) }
        } else if exponent == 0x7fff && self.below(2) == 0 {
            1 << 63
        } else {
            self.significand()
        };
        F80 { significand, sign_exponent: exponent | (self.next() as u16 & 0x8000) }
    }

    /// A unit in any state without a pending exception.
    pub(crate) fn unit(&mut self) -> Fpu {
        let mut unit = Fpu::initial();
        let masks = match self.below(4) {
            0 => self.next() as u16 & 0x3f,
            1 => 0x3f & !(1 << self.below(6)),
            _ => 0x3f,
        };
        let control = masks | (self.next() as u16 & 0xf00);
        unit.set_control(if self.below(3) == 0 { control | 0x300 } else { control });
        let exceptions = if self.below(2) == 0 { self.next() as u16 & masks } else { 0 };
        unit.set_status(self.next() as u16 & 0x7f40 | exceptions);
        unit.set_abridged_tags(match self.below(4) {
            0 => self.next() as u8,
            1 => !(1 << (unit.top().wrapping_sub(1) & 7)),
            2 => 0x7f_u8.rotate_left(u32::from(unit.top())),
            _ => (1 << (self.below(9) as u16) >> 1) as u8 ^ 0x7f_u8.rotate_left(u32::from(unit.top())),
        });
        let near = if self.below(3) == 0 { self.next() as u16 & 0x7fff } else { 0x3fff };
        for i in 0..8 {
            let value = self.value(near);
            unit.set_raw(i, value);
        }
        if self.below(8) == 0 {
            unit.set_raw(1, unit.raw(0));
        }
        unit
    }

    pub(crate) fn memory(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        match self.below(8) {
            0 => {
                // Corners of double precision.
                let exponent = [0, 0x7ff, 1, 0x7fe, 0x3ff][self.below(5) as usize];
                let fraction = [0, 1, 1 << 51, (1 << 52) - 1, 1 << 51 | 1][self.below(5) as usize];
                let bits = self.next() & 1 << 63 | exponent << 52 | fraction;
                bytes[..8].copy_from_slice(&bits.to_le_bytes());
            }
            1 => {
                let exponent = [0, 0xff, 1, 0xfe, 0x7f][self.below(5) as usize];
                let fraction = [0, 1, 1 << 22, (1 << 23) - 1, 1 << 22 | 1][self.below(5) as usize];
                let bits = self.next() as u32 & 1 << 31 | exponent << 23 | fraction;
                bytes[..4].copy_from_slice(&bits.to_le_bytes());
            }
            2 => bytes[..10].copy_from_slice(&self.value(0x3fff).to_bytes()),
            3 => {
                // Small integers.
                let small = (self.next() as i64 >> self.below(64)).to_le_bytes();
                bytes[..8].copy_from_slice(&small);
            }
            4 => bytes[..8].fill(0),
            _ => {}
        }
        bytes
    }
}
