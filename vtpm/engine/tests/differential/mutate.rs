//! Making a command wrong in one place.

use super::command::{Cmd, Session};
use super::generate::Generator;
use super::valid;

/// Handles of every type, there or not. Where the two TPMs have room for different numbers there is none.
const HANDLES: &[u32] = &[
    0,
    16,
    23,
    24,
    0x0100_0000,
    0x0100_0003,
    0x01ff_ffff,
    0x0200_0000,
    0x0200_0001,
    0x0300_0000,
    0x0300_0001,
    0x0300_0002,
    0x4000_0000,
    0x4000_0001,
    0x4000_0006,
    0x4000_0007,
    0x4000_0009,
    0x4000_000b,
    0x4000_000c,
    0x4000_000d,
    0x4000_0010,
    0x8000_0000,
    0x8000_0001,
    0x8000_0002,
    0x80ff_ffff,
    0x8100_0000,
    0x8100_0001,
    0x8180_0000,
    0x9000_0000,
    0xffff_ffff,
];
const LOCKOUT: u32 = 0x4000_000a;

/// Values that mean something somewhere: sizes, algorithms, command codes, tags.
const WORDS: &[u16] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x10, 0x11, 0x12, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19,
    0x1a, 0x1b, 0x1c, 0x20, 0x21, 0x22, 0x23, 0x25, 0x26, 0x27, 0x3f, 0x40, 0x41, 0x42, 0x43, 0x44, 0x80, 0x81, 0xc0,
    0x100, 0x120, 0x144, 0x17b, 0x200, 0x400, 0x401, 0x7fff, 0x8000, 0x8001, 0x8021, 0x8022, 0x8024, 0xffff,
];

/// Changes something.
pub(crate) fn mutate(g: &mut Generator, cmd: &mut Cmd) {
    // A wrong authorization of the lockout hierarchy would lock it for a time.
    let lockout = cmd.handles.contains(&LOCKOUT);
    let what = g.rng.below(100);
    match what {
        0..16 if !cmd.handles.is_empty() => {
            let at = g.rng.below(cmd.handles.len());
            cmd.handles[at] = g.rng.pick(HANDLES);
            cmd.wrong.push("handle");
        }
        16..28 if !cmd.params[0].is_empty() => {
            let short = cmd.params[0].len().min(cmd.params[1].len());
            let by = 1 + g.rng.below(short.max(1));
            cmd.params.iter_mut().for_each(|p| p.truncate(p.len().saturating_sub(by)));
            cmd.wrong.push("truncated");
        }
        28..34 => {
            let n = 1 + g.rng.below(4);
            let more = g.rng.bytes(n);
            cmd.params.iter_mut().for_each(|p| p.extend(&more));
            cmd.wrong.push("trailing");
        }
        34..37 => {
            cmd.tag = Some(g.rng.pick(&[0x8001, 0x8002, 0x8003, 0x00c1, 0, 0xc4]));
            cmd.wrong.push("tag");
        }
        37..40 => {
            cmd.size_off = g.rng.pick(&[-1, 1, -10, 256, i32::MAX]);
            cmd.wrong.push("size");
        }
        40..43 if !cmd.sessions.is_empty() => {
            cmd.auth_size_off = g.rng.pick(&[-1, 1, -9, 9, 4096, -4]);
            cmd.wrong.push("size of the session area");
        }
        43..47 if !cmd.sessions.is_empty() && !lockout => {
            let at = g.rng.below(cmd.sessions.len());
            cmd.sessions[at].attributes ^= 1 << g.rng.below(8);
            cmd.wrong.push("attribute of a session");
        }
        47..50 if !cmd.sessions.is_empty() && !lockout => {
            let at = g.rng.below(cmd.sessions.len());
            cmd.sessions[at].handle = g.rng.pick(HANDLES);
            cmd.wrong.push("handle of a session");
        }
        50..52 if !cmd.sessions.is_empty() && !lockout => {
            let at = g.rng.below(cmd.sessions.len());
            cmd.sessions[at].nonce = g.rng.bytes(5);
            cmd.wrong.push("nonce");
        }
        52..56 if !cmd.sessions.is_empty() && !lockout => {
            let at = g.rng.below(cmd.sessions.len());
            let n = g.rng.pick(&[1, 2, 20, 32, 64, 65]);
            cmd.sessions[at].hmac = g.rng.bytes(n);
            cmd.wrong.push("authorization");
        }
        56..59 => {
            cmd.sessions.pop();
            cmd.wrong.push("a session missing");
        }
        59..62 => {
            cmd.sessions.push(Session::password(b""));
            cmd.wrong.push("a session too many");
        }
        62..64 => {
            cmd.code = g.rng.pick(valid::ALL);
            cmd.note = super::command::Note::Nothing;
            cmd.wrong.push("code");
        }
        64..82 if cmd.params[0].len() >= 2 => {
            let at = g.rng.below(shorter(cmd).max(2) - 1);
            let word = g.rng.pick(WORDS);
            set(cmd, at, &word.to_be_bytes());
            cmd.wrong.push("a word of the parameters");
        }
        82..90 if !cmd.params[0].is_empty() => {
            let at = g.rng.below(shorter(cmd).max(1));
            let was = cmd.params[0][at];
            set(cmd, at, &[was ^ (1 << g.rng.below(8))]);
            cmd.wrong.push("a bit of the parameters");
        }
        90..95 if !cmd.params[0].is_empty() => {
            let at = g.rng.below(shorter(cmd).max(1));
            let was = cmd.params[0][at];
            let to = if g.rng.chance(50) { was.wrapping_add(1) } else { was.wrapping_sub(1) };
            set(cmd, at, &[to]);
            cmd.wrong.push("a size or so off by one");
        }
        _ if !cmd.params[0].is_empty() => {
            let at = g.rng.below(shorter(cmd).max(1));
            set(cmd, at, &[g.rng.byte()]);
            cmd.wrong.push("a byte of the parameters");
        }
        _ => {}
    }
}

/// How many octets the parameters of both have.
fn shorter(cmd: &Cmd) -> usize {
    cmd.params[0].len().min(cmd.params[1].len())
}

/// Sets octets of the parameters for swtpm, and changes the same bits of ours.
fn set(cmd: &mut Cmd, at: usize, to: &[u8]) {
    for (n, to) in to.iter().enumerate() {
        let flipped = cmd.params[0].get(at + n).map_or(0, |was| was ^ to);
        for params in &mut cmd.params {
            params.get_mut(at + n).into_iter().for_each(|octet| *octet ^= flipped);
        }
    }
}
