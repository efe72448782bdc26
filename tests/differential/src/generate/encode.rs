//! Random encodings: prefixes, an opcode of one of the maps, and whatever bytes follow (SDM vol. 2, §2.1, §2.3).

use crate::rng::Rng;

/// Bytes that may be an instruction, with more behind it; and where displacement or immediate begin.
pub(super) fn random(rng: &mut Rng) -> (Vec<u8>, usize) {
    let mut bytes = Vec::with_capacity(32);
    let prefix = |bytes: &mut Vec<u8>, rng: &mut Rng, percent, byte| {
        if rng.percent(percent) {
            bytes.push(byte);
        }
    };
    let map = rng.below(100);
    // Mandatory prefixes of the SSE maps are as likely as not.
    let mandatory = map >= 45;
    prefix(&mut bytes, rng, 4, 0xF0);
    prefix(&mut bytes, rng, 5, 0x67);
    if rng.percent(6) {
        bytes.push(rng.pick(&[0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x64, 0x65]));
    }
    prefix(&mut bytes, rng, if mandatory { 35 } else { 15 }, 0x66);
    prefix(&mut bytes, rng, if mandatory { 15 } else { 6 }, 0xF2);
    prefix(&mut bytes, rng, if mandatory { 15 } else { 8 }, 0xF3);
    if rng.percent(1) {
        let many = rng.below(14);
        let byte = rng.pick(&[0x66, 0x67, 0x2E, 0xF2, 0xF3]);
        bytes.extend((0..many).map(|_| byte));
    }
    if rng.percent(50) {
        bytes.push(0x40 | rng.u8() & 0xF);
        prefix(&mut bytes, rng, 1, 0x66);
    }
    match map {
        0..40 => bytes.push(rng.u8()),
        40..46 => bytes.push(0xD8 | rng.u8() & 7),
        46..80 => bytes.extend([0x0F, rng.u8()]),
        // Most of 0F 38 and 0F 3A is empty.
        80..90 => {
            let opcode = if rng.percent(70) { rng.pick(&OPCODES_0F38) } else { rng.u8() };
            bytes.extend([0x0F, 0x38, opcode]);
        }
        90..96 => {
            let opcode = if rng.percent(70) { rng.pick(&OPCODES_0F3A) } else { rng.u8() };
            bytes.extend([0x0F, 0x3A, opcode]);
        }
        _ => vex(rng, &mut bytes),
    }
    // ModRM, SIB, displacement, immediate: whichever there are.
    let modrm = if rng.percent(45) { rng.u8() | 0xC0 } else { rng.u8() };
    bytes.push(modrm);
    let constants = bytes.len();
    let tail = rng.u64();
    bytes.extend(tail.to_le_bytes());
    let tail = if rng.percent(50) { rng.below(256) } else { rng.u64() };
    bytes.extend(tail.to_le_bytes());
    (bytes, constants)
}

/// A VEX prefix and its opcode, most often of a BMI instruction (SDM vol. 2, §2.3.5).
fn vex(rng: &mut Rng, bytes: &mut Vec<u8>) {
    match rng.below(10) {
        0 => bytes.extend([0xC5, rng.u8(), rng.u8()]),
        1 => bytes.extend([0xC4, rng.u8(), rng.u8(), rng.u8()]),
        2 => bytes.extend([0x62, rng.u8(), rng.u8(), rng.u8(), rng.u8()]),
        3 => bytes.extend([0xC4, rng.u8() & 0xE0 | 3, rng.u8() & 0xFB | 0x3, 0xF0]),
        n => {
            // L is 0; W, vvvv and the prefix at random.
            let opcode = 0xF2 + rng.below(6) as u8;
            let map = if n == 9 { rng.u8() } else { rng.u8() & 0xE0 | 2 };
            bytes.extend([0xC4, map, rng.u8() & 0xFB, opcode]);
        }
    }
}

const OPCODES_0F38: [u8; 62] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x10, 0x14, 0x15, 0x17, 0x1C, 0x1D, 0x1E,
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x28, 0x29, 0x2A, 0x2B, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0x38, 0x39,
    0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x40, 0x41, 0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF,
    0xF0, 0xF1, 0xF6, 0xF0, 0xF1,
];

const OPCODES_0F3A: [u8; 25] = [
    0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x14, 0x15, 0x16, 0x17, 0x20, 0x21, 0x22, 0x40, 0x41, 0x42, 0x44,
    0x60, 0x61, 0x62, 0x63, 0xCC, 0xDF,
];
