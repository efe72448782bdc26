//! The SHA extensions: rounds and message schedules of FIPS 180-4. Lane 3 holds the word that comes first for SHA-1;
//! SHA-256 splits its state into ABEF and CDGH (SDM vol. 2).

use super::lanes::{join, split};

/// FIPS 180-4 §4.1.1 and §4.2.1: the function and the constant of a quarter of SHA-1
#[inline(always)]
fn sha1_function(quarter: u8, b: u32, c: u32, d: u32) -> u32 {
    match quarter & 3 {
        0 => (b & c ^ !b & d).wrapping_add(0x5a82_7999),
        1 => (b ^ c ^ d).wrapping_add(0x6ed9_eba1),
        2 => (b & c ^ b & d ^ c & d).wrapping_add(0x8f1b_bcdc),
        _ => (b ^ c ^ d).wrapping_add(0xca62_c1d6),
    }
}

/// SHA1RNDS4: four rounds; the second operand holds the words, E added to the first
#[inline]
pub fn sha1rnds4(state: u128, words: u128, imm: u8) -> u128 {
    let [mut d, mut c, mut b, mut a] = split::<u32>(state);
    let mut e = 0_u32;
    for word in split::<u32>(words).into_iter().rev() {
        let next = sha1_function(imm, b, c, d).wrapping_add(a.rotate_left(5)).wrapping_add(e).wrapping_add(word);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    join::<u32>([d, c, b, a])
}

/// SHA1NEXTE
#[inline]
pub fn sha1nexte(state: u128, words: u128) -> u128 {
    let a = split::<u32>(state)[3];
    let [w3, w2, w1, w0] = split::<u32>(words);
    join::<u32>([w3, w2, w1, w0.wrapping_add(a.rotate_left(30))])
}

/// SHA1MSG1
#[inline]
pub fn sha1msg1(a: u128, b: u128) -> u128 {
    a ^ (a << 64 | b >> 64)
}

/// SHA1MSG2
#[inline]
pub fn sha1msg2(a: u128, b: u128) -> u128 {
    let a = split::<u32>(a);
    let [w15, w14, w13, _] = split::<u32>(b);
    let w16 = (a[3] ^ w13).rotate_left(1);
    let w17 = (a[2] ^ w14).rotate_left(1);
    let w18 = (a[1] ^ w15).rotate_left(1);
    let w19 = (a[0] ^ w16).rotate_left(1);
    join::<u32>([w19, w18, w17, w16])
}

/// SHA256RNDS2: two rounds; `cdgh` is the destination, `abef` the source, `words` XMM0 with the constants added
#[inline]
pub fn sha256rnds2(cdgh: u128, abef: u128, words: u128) -> u128 {
    let [mut h, mut g, mut d, mut c] = split::<u32>(cdgh);
    let [mut f, mut e, mut b, mut a] = split::<u32>(abef);
    for word in &split::<u32>(words)[..2] {
        let sum1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = e & f ^ !e & g;
        let t1 = h.wrapping_add(sum1).wrapping_add(choice).wrapping_add(*word);
        let sum0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = a & b ^ a & c ^ b & c;
        let t2 = sum0.wrapping_add(majority);
        (a, b, c, d, e, f, g, h) = (t1.wrapping_add(t2), a, b, c, d.wrapping_add(t1), e, f, g);
    }
    join::<u32>([f, e, b, a])
}

/// FIPS 180-4 §4.1.2, σ₀
#[inline(always)]
fn small_sigma0(w: u32) -> u32 {
    w.rotate_right(7) ^ w.rotate_right(18) ^ w >> 3
}

/// FIPS 180-4 §4.1.2, σ₁
#[inline(always)]
fn small_sigma1(w: u32) -> u32 {
    w.rotate_right(17) ^ w.rotate_right(19) ^ w >> 10
}

/// SHA256MSG1
#[inline]
pub fn sha256msg1(a: u128, b: u128) -> u128 {
    let [w0, w1, w2, w3] = split::<u32>(a);
    let w4 = b as u32;
    join::<u32>([
        w0.wrapping_add(small_sigma0(w1)),
        w1.wrapping_add(small_sigma0(w2)),
        w2.wrapping_add(small_sigma0(w3)),
        w3.wrapping_add(small_sigma0(w4)),
    ])
}

/// SHA256MSG2
#[inline]
pub fn sha256msg2(a: u128, b: u128) -> u128 {
    let a = split::<u32>(a);
    let [_, _, w14, w15] = split::<u32>(b);
    let w16 = a[0].wrapping_add(small_sigma1(w14));
    let w17 = a[1].wrapping_add(small_sigma1(w15));
    let w18 = a[2].wrapping_add(small_sigma1(w16));
    let w19 = a[3].wrapping_add(small_sigma1(w17));
    join::<u32>([w16, w17, w18, w19])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the one-block message "abc", as words.
    const BLOCK: [u32; 16] = [0x6162_6380, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24];

    /// SHA-1 of "abc": A9993E36 4706816A BA3E2571 7850C26C 9CD0D89D
    #[test]
    fn sha1_of_abc() {
        let [a, b, c, d, e] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0_u32];
        let four = |i: usize| join::<u32>([BLOCK[i + 3], BLOCK[i + 2], BLOCK[i + 1], BLOCK[i]]);
        let mut words: Vec<u128> = (0..16).step_by(4).map(four).collect();
        for i in 4..20 {
            let mixed = sha1msg1(words[i - 4], words[i - 3]) ^ words[i - 2];
            words.push(sha1msg2(mixed, words[i - 1]));
        }
        let start = join::<u32>([d, c, b, a]);
        let mut state = start;
        let mut with_e = zip_add(words[0], join::<u32>([0, 0, 0, e]));
        for i in 0..20 {
            let before = state;
            state = sha1rnds4(state, with_e, (i / 5) as u8);
            with_e = sha1nexte(before, words.get(i + 1).copied().unwrap_or(0));
        }
        let last_e = split::<u32>(with_e)[3].wrapping_add(e);
        assert_eq!(split::<u32>(zip_add(state, start)), [0x7850_c26c, 0xba3e_2571, 0x4706_816a, 0xa999_3e36]);
        assert_eq!(last_e, 0x9cd0_d89d);
    }

    /// SHA-256 message schedule of "abc" against the recurrence of §6.2.2, and a round pair against the plain round.
    #[test]
    fn sha256_schedule() {
        let mut plain = BLOCK.to_vec();
        for t in 16..64 {
            let next = small_sigma1(plain[t - 2])
                .wrapping_add(plain[t - 7])
                .wrapping_add(small_sigma0(plain[t - 15]))
                .wrapping_add(plain[t - 16]);
            plain.push(next);
        }
        let four = |w: &[u32]| join::<u32>([w[0], w[1], w[2], w[3]]);
        for t in (16..64).step_by(4) {
            let start = sha256msg1(four(&plain[t - 16..]), four(&plain[t - 12..]));
            let middle = zip_add(start, four(&plain[t - 7..]));
            assert_eq!(sha256msg2(middle, four(&plain[t - 4..])), four(&plain[t..]));
        }
    }

    fn zip_add(a: u128, b: u128) -> u128 {
        crate::simd::int::paddd(a, b)
    }
}
