//! AES-NI: the rounds of FIPS 197.
//!
//! The host's own instructions do the work where it has them. Elsewhere the S-box is computed (inversion in GF(2⁸) as
//! x²⁵⁴, all sixteen bytes at once) rather than looked up: the guest's keys must not select cache lines that a
//! neighbour on the host can watch. That costs a few hundred simple vector operations a round.

use super::host;
use super::lanes::{join, split};

type State = [u8; 16];

/// Products in GF(2⁸) modulo x⁸ + x⁴ + x³ + x + 1, in constant time.
#[inline(always)]
fn multiply(mut a: State, mut b: State) -> State {
    let mut product = [0; 16];
    for _ in 0..8 {
        for i in 0..16 {
            product[i] ^= a[i] & (b[i] & 1).wrapping_neg();
            a[i] = double(a[i]);
            b[i] >>= 1;
        }
    }
    product
}

/// FIPS 197 §4.2.1, xtime()
#[inline(always)]
fn double(a: u8) -> u8 {
    a << 1 ^ (0x1b & (a >> 7).wrapping_neg())
}

/// The inverses, and 0 for 0.
#[inline(always)]
fn invert(a: State) -> State {
    let square = |a| multiply(a, a);
    let a2 = square(a);
    let a3 = multiply(a2, a);
    let a12 = square(square(a3));
    let a15 = multiply(a12, a3);
    let a240 = square(square(square(square(a15))));
    multiply(multiply(a240, a12), a2)
}

/// FIPS 197 §5.1.1
fn sub_bytes(a: State) -> State {
    invert(a).map(|b| b ^ b.rotate_left(1) ^ b.rotate_left(2) ^ b.rotate_left(3) ^ b.rotate_left(4) ^ 0x63)
}

/// FIPS 197 §5.3.2
fn inv_sub_bytes(a: State) -> State {
    invert(a.map(|b| b.rotate_left(1) ^ b.rotate_left(3) ^ b.rotate_left(6) ^ 0x05))
}

/// FIPS 197 §5.1.2: row `r` moves by `r` columns
fn shift_rows(a: State) -> State {
    std::array::from_fn(|i| a[(i + 4 * (i % 4)) % 16])
}

/// FIPS 197 §5.3.1
fn inv_shift_rows(a: State) -> State {
    std::array::from_fn(|i| a[(i + 12 * (i % 4)) % 16])
}

/// FIPS 197 §5.1.3
fn mix_columns(a: State) -> State {
    std::array::from_fn(|i| {
        let at = |row: usize| a[i / 4 * 4 + (i + row) % 4];
        double(at(0)) ^ double(at(1)) ^ at(1) ^ at(2) ^ at(3)
    })
}

/// FIPS 197 §5.3.3: multiplication by the inverse polynomial is a correction followed by the forward one
fn inv_mix_columns(a: State) -> State {
    mix_columns(std::array::from_fn(|i| a[i] ^ double(double(a[i] ^ a[i ^ 2]))))
}

#[inline(always)]
fn keyed(state: State, key: u128) -> u128 {
    u128::from_le_bytes(state) ^ key
}

/// AESENC
#[inline]
pub fn aesenc(state: u128, key: u128) -> u128 {
    host::aesenc(state, key).unwrap_or_else(|| soft::aesenc(state, key))
}

/// AESENCLAST
#[inline]
pub fn aesenclast(state: u128, key: u128) -> u128 {
    host::aesenclast(state, key).unwrap_or_else(|| soft::aesenclast(state, key))
}

/// AESDEC
#[inline]
pub fn aesdec(state: u128, key: u128) -> u128 {
    host::aesdec(state, key).unwrap_or_else(|| soft::aesdec(state, key))
}

/// AESDECLAST
#[inline]
pub fn aesdeclast(state: u128, key: u128) -> u128 {
    host::aesdeclast(state, key).unwrap_or_else(|| soft::aesdeclast(state, key))
}

/// AESIMC
#[inline]
pub fn aesimc(key: u128) -> u128 {
    u128::from_le_bytes(inv_mix_columns(key.to_le_bytes()))
}

/// AESKEYGENASSIST: words 1 and 3 substituted, and again rotated with the round constant
#[inline]
pub fn aeskeygenassist(key: u128, imm: u8) -> u128 {
    let words = split::<u32>(key);
    let words = split::<u32>(substituted(join::<u32>([words[1], words[1], words[3], words[3]])));
    let rotated = |word: u32| word.rotate_right(8) ^ u32::from(imm);
    join::<u32>([words[0], rotated(words[1]), words[2], rotated(words[3])])
}

/// SubBytes of all bytes; the host has it as a last round without ShiftRows and key.
fn substituted(state: u128) -> u128 {
    let unshifted = u128::from_le_bytes(inv_shift_rows(state.to_le_bytes()));
    aesenclast(unshifted, 0)
}

/// The portable rounds.
pub(super) mod soft {
    use super::*;

    pub(in super::super) fn aesenc(state: u128, key: u128) -> u128 {
        keyed(mix_columns(sub_bytes(shift_rows(state.to_le_bytes()))), key)
    }

    pub(in super::super) fn aesenclast(state: u128, key: u128) -> u128 {
        keyed(sub_bytes(shift_rows(state.to_le_bytes())), key)
    }

    pub(in super::super) fn aesdec(state: u128, key: u128) -> u128 {
        keyed(inv_mix_columns(inv_sub_bytes(inv_shift_rows(state.to_le_bytes()))), key)
    }

    pub(in super::super) fn aesdeclast(state: u128, key: u128) -> u128 {
        keyed(inv_sub_bytes(inv_shift_rows(state.to_le_bytes())), key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197 appendix B, with the schedule made as software makes it from AESKEYGENASSIST.
    #[test]
    fn fips_197_appendix_b() {
        let key = u128::from_be_bytes(0x2b7e1516_28aed2a6_abf71588_09cf4f3c_u128.to_le_bytes());
        let plain = u128::from_be_bytes(0x3243f6a8_885a308d_313198a2_e0370734_u128.to_le_bytes());
        let cipher = u128::from_be_bytes(0x3925841d_02dc09fb_dc118597_196a0b32_u128.to_le_bytes());
        let mut keys = vec![key];
        for constant in [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36] {
            let last = keys[keys.len() - 1];
            let assist = split::<u32>(aeskeygenassist(last, constant))[3];
            let spread = last ^ last << 32 ^ last << 64 ^ last << 96;
            keys.push(spread ^ join::<u32>([assist; 4]));
        }
        type Round = fn(u128, u128) -> u128;
        let ways: [[Round; 4]; 2] = [
            [aesenc, aesenclast, aesdec, aesdeclast],
            [soft::aesenc, soft::aesenclast, soft::aesdec, soft::aesdeclast],
        ];
        for [enc, enclast, dec, declast] in ways {
            let middle = keys[1..10].iter().fold(plain ^ keys[0], |state, &key| enc(state, key));
            assert_eq!(enclast(middle, keys[10]), cipher);
            let middle = keys[1..10].iter().rev().fold(cipher ^ keys[10], |state, &key| dec(state, aesimc(key)));
            assert_eq!(declast(middle, keys[0]), plain);
        }
    }
}
