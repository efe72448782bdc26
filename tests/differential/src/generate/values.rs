//! Values worth computing with.

use crate::case::Registers;
use crate::layout;
use crate::rng::Rng;

const CORNERS: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    0xF,
    0x10,
    0x1F,
    0x20,
    0x3F,
    0x40,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    0xFFFF_FFFF_FFFF_FFFF,
];

const SINGLES: [u32; 16] = [
    0,
    0x8000_0000, // −0
    0x3F80_0000, // 1
    0xBF80_0000, // −1
    0x7F80_0000, // ∞
    0xFF80_0000, // −∞
    0x7FC0_0000, // quiet NaN
    0x7FA0_1234, // signalling NaN
    0xFFC0_0001,
    0x0000_0001, // smallest denormal
    0x007F_FFFF, // largest denormal
    0x0080_0000, // smallest normal
    0x7F7F_FFFF, // largest
    0x4F00_0000, // 2³¹
    0x3F00_0000, // ½
    0x4B00_0001,
];

const DOUBLES: [u64; 16] = [
    0,
    0x8000_0000_0000_0000,
    0x3FF0_0000_0000_0000,
    0xBFF0_0000_0000_0000,
    0x7FF0_0000_0000_0000,
    0xFFF0_0000_0000_0000,
    0x7FF8_0000_0000_0000,
    0x7FF4_0000_0000_1234,
    0xFFF8_0000_0000_0001,
    0x0000_0000_0000_0001,
    0x000F_FFFF_FFFF_FFFF,
    0x0010_0000_0000_0000,
    0x7FEF_FFFF_FFFF_FFFF,
    0x43E0_0000_0000_0000, // 2⁶³
    0x41E0_0000_0000_0000, // 2³¹
    0x3FE0_0000_0000_0000,
];

/// An integer.
pub fn integer(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0..3 => rng.u64(),
        3..5 => rng.pick(&CORNERS),
        5 => rng.pick(&CORNERS).wrapping_neg(),
        6 => 1 << rng.below(64),
        7 => rng.below(256),
        8 => rng.u64() >> rng.below(64),
        _ => pointer(rng),
    }
}

/// An address in or near the data.
pub fn pointer(rng: &mut Rng) -> u64 {
    const EDGES: [u64; 4] =
        [layout::DATA, layout::DATA + layout::PAGE, layout::READ_ONLY, layout::READ_ONLY + layout::PAGE];
    match rng.below(20) {
        0..8 => layout::DATA + 16 * rng.below(layout::DATA_SIZE / 16),
        8..13 => layout::DATA + rng.below(layout::DATA_SIZE),
        13..17 => rng.pick(&EDGES).wrapping_add(rng.below(40)).wrapping_sub(20),
        17 => layout::READ_ONLY + rng.below(layout::PAGE),
        18 => layout::TRAPS + rng.below(layout::TRAPS_SIZE),
        _ => layout::DATA.wrapping_add(rng.below(16 * layout::PAGE)).wrapping_sub(4 * layout::PAGE),
    }
}

fn single(rng: &mut Rng) -> u32 {
    match rng.below(4) {
        0 => rng.pick(&SINGLES),
        1 => rng.u32(),
        // Near 1, so that sums and products are not all huge.
        2 => rng.u32() & 0x807F_FFFF | (0x70 + rng.below(0x20) as u32) << 23,
        _ => (rng.below(2000) as f32 - 1000.0).to_bits(),
    }
}

fn double(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => rng.pick(&DOUBLES),
        1 => rng.u64(),
        2 => rng.u64() & 0x800F_FFFF_FFFF_FFFF | (0x3E0 + rng.below(0x40)) << 52,
        _ => (rng.below(2000) as f64 - 1000.0).to_bits(),
    }
}

/// 80 bits, in all their odd forms.
fn extended(rng: &mut Rng) -> u128 {
    let significand = match rng.below(4) {
        0 => 1 << 63,
        1 => rng.u64() | 1 << 63,
        2 => rng.u64() << rng.below(63) | 1 << 63,
        _ => integer(rng),
    };
    let exponent = match rng.below(8) {
        0 => 0,
        1 => 0x7FFF,
        2 => rng.below(0x8000),
        3 => 0x3FFF,
        _ => 0x3FFF - 70 + rng.below(140),
    };
    let significand = if exponent != 0 && rng.percent(90) { significand | 1 << 63 } else { significand };
    u128::from(significand) | u128::from(exponent | rng.below(2) << 15) << 64
}

/// A register of SSE.
pub fn vector(rng: &mut Rng) -> u128 {
    match rng.below(6) {
        0 => (0..4).fold(0, |v, _| v << 32 | u128::from(single(rng))),
        1 => u128::from(double(rng)) << 64 | u128::from(double(rng)),
        2 => u128::from(integer(rng)) << 64 | u128::from(integer(rng)),
        3 => {
            (0..8).fold(0, |v, _| v << 16 | u128::from(rng.pick(&[0u16, 1, 0x7F, 0x80, 0x7FFF, 0x8000, 0xFFFF, 0xFF])))
        }
        4 => (0..16).fold(0, |v, _| v << 8 | u128::from(b' ' + rng.u8() % 8)),
        _ => u128::from(rng.u64()) << 64 | u128::from(rng.u64()),
    }
}

/// Sixteen bytes of memory.
pub fn memory(rng: &mut Rng) -> u128 {
    let pair = |a: u64, b: u64| u128::from(a) << 64 | u128::from(b);
    match rng.below(10) {
        0..4 => vector(rng),
        4 => extended(rng) | u128::from(rng.u64() >> 16) << 80,
        5 => pair(layout::TRAPS + rng.below(layout::TRAPS_SIZE), pointer(rng)),
        6 => pair(pointer(rng), layout::TRAPS + rng.below(layout::TRAPS_SIZE)),
        // Packed decimals.
        7 => (0..16).fold(0, |v, _| v << 8 | u128::from(rng.below(10) << 4 | rng.below(10))),
        _ => pair(integer(rng), integer(rng)),
    }
}

/// A whole state: everything but RIP and what the instruction's operands need.
pub fn registers(rng: &mut Rng) -> Registers {
    let mut state = Registers::default();
    for gpr in &mut state.gpr {
        *gpr = integer(rng);
    }
    state.gpr[4] = layout::DATA + layout::PAGE + 8 * rng.below(256);
    // CF, PF, AF, ZF, SF, OF; DF and AC now and then; IF is set and IOPL 0, as in any program.
    state.rflags = 0x202 | rng.u64() & 0x8D5 | if rng.percent(15) { 0x400 } else { 0 };
    if rng.percent(4) {
        state.rflags |= 0x4_0000;
    }
    state.fs_base = if rng.percent(50) { rng.below(64) } else { pointer(rng) };
    state.gs_base = if rng.percent(50) { rng.below(64) } else { pointer(rng) };
    floating_point(rng, &mut state);
    state
}

fn floating_point(rng: &mut Rng, state: &mut Registers) {
    let fx = &mut state.fx;
    // FCW: precision and rounding at random, exceptions masked mostly (SDM vol. 1, §8.1.5).
    let masks = if rng.percent(85) { 0x3F } else { rng.below(64) };
    let precision = if rng.percent(70) { 3 } else { rng.pick(&[0, 2, 3]) };
    let rounding = if rng.percent(50) { 0 } else { rng.below(4) };
    let fcw = 0x40 | masks | precision << 8 | rounding << 10;
    // FSW: TOP, condition codes, flags that are no pending exception, except now and then.
    let mut flags = if rng.percent(60) { 0 } else { rng.below(0x80) };
    let pending = rng.percent(2);
    if !pending {
        flags &= masks;
    }
    let error = u64::from(flags & 0x3F & !masks != 0);
    let codes = rng.u64() & 0x4700;
    let fsw = flags | error << 7 | codes | rng.below(8) << 11 | error << 15;
    let tags = match rng.below(4) {
        0 => 0xFF,
        1 => 0,
        _ => rng.below(256),
    };
    fx[..2].copy_from_slice(&(fcw as u16).to_le_bytes());
    fx[2..4].copy_from_slice(&(fsw as u16).to_le_bytes());
    fx[4] = tags as u8;
    for n in 0..8 {
        let value = if rng.percent(10) { 0xFFFF << 64 | u128::from(rng.u64()) } else { extended(rng) };
        fx[32 + 16 * n..42 + 16 * n].copy_from_slice(&value.to_le_bytes()[..10]);
    }
    // MXCSR: rounding, DAZ, FTZ at random, masks mostly on (SDM vol. 1, §10.2.3).
    let mut mxcsr = if rng.percent(70) { 0x1F80 } else { rng.u64() & 0x7FC0 | 0x1F80 };
    if rng.percent(30) {
        mxcsr |= rng.below(64);
    }
    if rng.percent(10) {
        mxcsr &= !(rng.below(64) << 7);
    }
    fx[24..28].copy_from_slice(&(mxcsr as u32).to_le_bytes());
    for n in 0..16 {
        let value = vector(rng);
        fx[160 + 16 * n..176 + 16 * n].copy_from_slice(&value.to_le_bytes());
    }
}
