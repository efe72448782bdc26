//! Integer instructions, AES, SHA, CRC32 and the string comparisons against the host's.

use super::super::int::portable;
use super::super::lanes::low;
use super::super::{aes, crc, int, mmx, sha, shuffle, strings};
use super::{CASES, Random, mm, reported, xmm};
use std::arch::asm;

fn check(name: &str, ours: impl Fn(u128, u128, u128) -> u128, native: impl Fn(u128, u128, u128) -> u128) {
    let mut random = Random(7);
    for _ in 0..CASES {
        let (a, b, c) = (random.register(), random.register(), random.register());
        let (ours, native) = (ours(a, b, c), native(a, b, c));
        assert_eq!(ours, native, "{name} {a:#034x} {b:#034x} {c:#034x}: {ours:#034x}, natively {native:#034x}");
    }
}

fn check_mm(name: &str, ours: impl Fn(u64, u64) -> u64, native: impl Fn(u64, u64) -> u64) {
    let mut random = Random(8);
    for _ in 0..CASES {
        let (a, b) = (low(random.register()), low(random.register()));
        assert_eq!(ours(a, b), native(a, b), "{name} {a:#018x} {b:#018x}");
    }
}

/// Functions of two registers that are called as their instructions are.
macro_rules! two_operands {
    ($feature:tt, $module:ident: $($name:ident)*) => {
        if reported($feature, is_x86_feature_detected!($feature)) {
            $(check(
                stringify!($name),
                |a, b, _| $module::$name(a, b),
                xmm!(concat!(stringify!($name), " xmm1, xmm2")),
            );)*
        }
    };
}

/// Functions of the second operand alone.
macro_rules! one_operand {
    ($feature:tt, $module:ident: $($name:ident)*) => {
        if reported($feature, is_x86_feature_detected!($feature)) {
            $(check(
                stringify!($name),
                |_, b, _| $module::$name(b),
                xmm!(concat!(stringify!($name), " xmm1, xmm2")),
            );)*
        }
    };
}

/// Any function, the native side being written out.
macro_rules! written_out {
    ($feature:tt: $($native:literal = $ours:expr;)*) => {
        if reported($feature, is_x86_feature_detected!($feature)) {
            $(check($native, $ours, xmm!($native));)*
        }
    };
}

/// Functions with an immediate, for some immediates.
macro_rules! immediates {
    ($feature:tt, $imms:tt: $($name:ident = $ours:expr;)*) => {
        if reported($feature, is_x86_feature_detected!($feature)) {
            $(immediates!(@each $name, $ours, $imms);)*
        }
    };
    (@each $name:ident, $ours:expr, [$($imm:literal)*]) => {$(
        check(
            concat!(stringify!($name), " ", $imm),
            |a, b, _| $ours(a, b, $imm),
            xmm!(concat!(stringify!($name), " xmm1, xmm2, ", $imm)),
        );
    )*};
}

/// Lane-by-lane functions on MMX registers.
macro_rules! mmx_lanes {
    ($adapt:path, $feature:tt, $module:ident: $($name:ident as $native:ident),*) => {
        if reported($feature, is_x86_feature_detected!($feature)) {
            $(check_mm(
                stringify!($name),
                |a, b| $adapt(a, b, $module::$name),
                mm!(concat!(stringify!($native), " mm1, mm2")),
            );)*
        }
    };
}

#[test]
fn arithmetic() {
    two_operands!("sse2", int: paddb paddw paddd paddq paddsb paddsw paddusb paddusw psubb psubw psubd psubq
        psubsb psubsw psubusb psubusw pavgb pavgw pminsw pminub pmaxsw pmaxub pcmpeqb pcmpeqw pcmpeqd pcmpgtb pcmpgtw
        pcmpgtd pmullw pmulhw pmulhuw pmuludq pmaddwd psadbw pand pandn por pxor);
    two_operands!("sse2", portable: paddb paddw paddsb paddsw paddusb paddusw psubb psubw psubsb psubsw psubusb psubusw
        pavgb pavgw pminsw pminub pmaxsw pmaxub pcmpeqb pcmpeqw pcmpgtb pcmpgtw pmullw pmulhw pmulhuw pmaddwd psadbw);
    two_operands!("ssse3", portable: pmulhrsw pmaddubsw psignb psignw);
    two_operands!("sse4.1", portable: pminsb pminuw pmaxsb pmaxuw);
    two_operands!("ssse3", int: pmulhrsw pmaddubsw psignb psignw psignd phaddw phaddsw phaddd phsubw phsubsw phsubd);
    two_operands!("sse4.1", int: pminsb pminsd pminuw pminud pmaxsb pmaxsd pmaxuw pmaxud pcmpeqq pmulld pmuldq);
    two_operands!("sse4.2", int: pcmpgtq);
    one_operand!("ssse3", int: pabsb pabsw pabsd);
    one_operand!("sse4.1", int: phminposuw);
    immediates!("sse4.1", [0 1 2 3 4 5 6 7 0xfa]: mpsadbw = int::mpsadbw;);
}

#[test]
fn shifts() {
    /// Counts near every width, often with bits set above 32.
    fn count(b: u128) -> u64 {
        let small = low(b) & 0xff;
        if b >> 127 == 0 { small % 70 } else { small << 30 }
    }
    macro_rules! counts {
        ($($name:ident)*) => {$(
            let native = xmm!(concat!(stringify!($name), " xmm1, xmm2"));
            check(
                stringify!($name),
                |a, b, _| int::$name(a, count(b)),
                |a, b, c| native(a, count(b).into(), c),
            );
        )*};
    }
    counts!(psllw pslld psllq psrlw psrld psrlq psraw psrad);
    written_out! { "sse2":
        "pslldq xmm1, 0" = |a, _, _| int::pslldq(a, 0);
        "pslldq xmm1, 5" = |a, _, _| int::pslldq(a, 5);
        "pslldq xmm1, 15" = |a, _, _| int::pslldq(a, 15);
        "pslldq xmm1, 16" = |a, _, _| int::pslldq(a, 16);
        "psrldq xmm1, 7" = |a, _, _| int::psrldq(a, 7);
        "psrldq xmm1, 255" = |a, _, _| int::psrldq(a, 255);
    }
}

#[test]
fn moves_of_lanes() {
    two_operands!("sse2", shuffle: punpcklbw punpckhbw punpcklwd punpckhwd punpckldq punpckhdq punpcklqdq punpckhqdq
        packsswb packuswb packssdw);
    two_operands!("ssse3", shuffle: pshufb);
    {
        use super::super::shuffle::portable;
        two_operands!("sse2", portable: punpcklbw punpckhbw punpcklwd punpckhwd packsswb packuswb packssdw);
        two_operands!("ssse3", portable: pshufb);
        two_operands!("sse4.1", portable: packusdw);
    }
    two_operands!("sse4.1", shuffle: packusdw);
    one_operand!("sse3", shuffle: movddup movsldup movshdup);
    one_operand!("sse4.1", shuffle: pmovsxbw pmovsxbd pmovsxbq pmovsxwd pmovsxwq pmovsxdq pmovzxbw pmovzxbd pmovzxbq
        pmovzxwd pmovzxwq pmovzxdq);
    immediates! { "sse2", [0 1 2 3 0x1b 0x4e 0x93 0xd8 0xe4 0xff]:
        pshufd = |_, b, imm| shuffle::pshufd(b, imm);
        pshuflw = |_, b, imm| shuffle::pshuflw(b, imm);
        pshufhw = |_, b, imm| shuffle::pshufhw(b, imm);
        shufps = shuffle::shufps;
        shufpd = shuffle::shufpd;
    }
    immediates!("ssse3", [0 1 7 8 15 16 17 31 32 255]: palignr = shuffle::palignr;);
    immediates! { "sse4.1", [0 1 2 3 5 10 0x5a 0xa5 0xcc 0xff]:
        pblendw = shuffle::pblendw;
        blendps = shuffle::blendps;
        blendpd = shuffle::blendpd;
        insertps = |a, b, imm| shuffle::insertps(a, shuffle::pextrd(b, imm >> 6), imm);
    }
    written_out! { "sse4.1":
        "pblendvb xmm1, xmm2" = shuffle::pblendvb;
        "blendvps xmm1, xmm2" = shuffle::blendvps;
        "blendvpd xmm1, xmm2" = shuffle::blendvpd;
        "movq rax, xmm2\npinsrb xmm1, eax, 27" = |a, b, _| shuffle::pinsrb(a, b as u8, 27);
        "movq rax, xmm2\npinsrd xmm1, eax, 6" = |a, b, _| shuffle::pinsrd(a, b as u32, 6);
        "movq rax, xmm2\npinsrq xmm1, rax, 3" = |a, b, _| shuffle::pinsrq(a, b as u64, 3);
        "pextrb eax, xmm2, 19\nmovq xmm1, rax" = |_, b, _| shuffle::pextrb(b, 19).into();
        "pextrd eax, xmm2, 7\nmovq xmm1, rax" = |_, b, _| shuffle::pextrd(b, 7).into();
        "pextrq rax, xmm2, 5\nmovq xmm1, rax" = |_, b, _| shuffle::pextrq(b, 5).into();
        "xor eax, eax\nxor ecx, ecx\nptest xmm1, xmm2\nsetz al\nsetc cl\nlea eax, [rax + 2 * rcx]\nmovq xmm1, rax" =
            |a, b, _| { let (zero, carry) = int::ptest(a, b); u128::from(zero) | u128::from(carry) << 1 };
    }
    written_out! { "sse2":
        "movq rax, xmm2\npinsrw xmm1, eax, 13" = |a, b, _| shuffle::pinsrw(a, b as u16, 13);
        "pextrw eax, xmm2, 12\nmovq xmm1, rax" = |_, b, _| shuffle::pextrw(b, 12).into();
        "pmovmskb eax, xmm2\nmovq xmm1, rax" = |_, b, _| shuffle::pmovmskb(b).into();
        "pmovmskb ecx, xmm2\nmovq xmm1, rcx" = |_, b, _| shuffle::portable_pmovmskb(b).into();
        "movmskps eax, xmm2\nmovq xmm1, rax" = |_, b, _| shuffle::movmskps(b).into();
        "movmskpd eax, xmm2\nmovq xmm1, rax" = |_, b, _| shuffle::movmskpd(b).into();
        "movq xmm1, xmm2" = |_, b, _| int::low_half(b);
    }
}

#[test]
fn mmx_forms() {
    mmx_lanes!(mmx::lanes, "mmx", int: paddb as paddb, paddw as paddw, paddd as paddd, paddq as paddq,
        paddsb as paddsb, paddusw as paddusw, psubb as psubb, psubq as psubq, psubusb as psubusb, pavgb as pavgb,
        pminsw as pminsw, pmaxub as pmaxub, pcmpeqd as pcmpeqd, pcmpgtb as pcmpgtb, pmullw as pmullw,
        pmulhw as pmulhw, pmulhuw as pmulhuw, pmuludq as pmuludq, pmaddwd as pmaddwd, psadbw as psadbw,
        pandn as pandn);
    mmx_lanes!(mmx::lanes, "ssse3", int: pmulhrsw as pmulhrsw, pmaddubsw as pmaddubsw, psignw as psignw);
    mmx_lanes!(mmx::lanes, "mmx", shuffle: punpcklbw as punpcklbw, punpcklwd as punpcklwd, punpckldq as punpckldq);
    mmx_lanes!(mmx::upper, "mmx", shuffle: punpcklbw as punpckhbw, punpcklwd as punpckhwd, punpckldq as punpckhdq);
    mmx_lanes!(mmx::joined, "mmx", shuffle: packsswb as packsswb, packuswb as packuswb, packssdw as packssdw);
    mmx_lanes!(mmx::joined, "ssse3", int: phaddw as phaddw, phaddsw as phaddsw, phaddd as phaddd, phsubw as phsubw,
        phsubsw as phsubsw, phsubd as phsubd);
    check_mm("pshufb", mmx::pshufb, mm!("pshufb mm1, mm2"));
    check_mm("pshufw", |_, b| shuffle::pshufw(b, 0x93), mm!("pshufw mm1, mm2, 0x93"));
    check_mm("palignr 3", |a, b| mmx::palignr(a, b, 3), mm!("palignr mm1, mm2, 3"));
    check_mm("palignr 11", |a, b| mmx::palignr(a, b, 11), mm!("palignr mm1, mm2, 11"));
    check_mm("palignr 17", |a, b| mmx::palignr(a, b, 17), mm!("palignr mm1, mm2, 17"));
    check_mm("pmovmskb", |_, b| shuffle::pmovmskb(b.into()).into(), mm!("pmovmskb eax, mm2\nmovd mm1, eax"));
}

#[test]
fn cryptography() {
    two_operands!("aes", aes: aesenc aesenclast aesdec aesdeclast);
    one_operand!("aes", aes: aesimc);
    immediates!("aes", [0 1 0x36 0xff]: aeskeygenassist = |_, b, imm| aes::aeskeygenassist(b, imm););
    written_out! { "aes":
        "aesenc xmm1, xmm2" = |a, b, _| aes::soft::aesenc(a, b);
        "aesenclast xmm1, xmm2" = |a, b, _| aes::soft::aesenclast(a, b);
        "aesdec xmm1, xmm2" = |a, b, _| aes::soft::aesdec(a, b);
        "aesdeclast xmm1, xmm2" = |a, b, _| aes::soft::aesdeclast(a, b);
    }
    immediates!("pclmulqdq", [0 1 0x10 0x11 0xee]: pclmulqdq = int::pclmulqdq;);
    written_out!("pclmulqdq": "pclmulqdq xmm1, xmm2, 0" = |a, b, _| int::clmul(low(a), low(b)););
    two_operands!("sha", sha: sha1nexte sha1msg1 sha1msg2 sha256msg1 sha256msg2);
    immediates!("sha", [0 1 2 3 7]: sha1rnds4 = sha::sha1rnds4;);
    written_out!("sha": "sha256rnds2 xmm1, xmm2" = sha::sha256rnds2;);
    written_out! { "sse4.2":
        "movq rax, xmm1\nmovq rcx, xmm2\ncrc32 rax, rcx\nmovq xmm1, rax" =
            |a, b, _| crc::crc32(a as u32, b as u64, 8).into();
        "movq rax, xmm1\nmovq rcx, xmm2\ncrc32 eax, ecx\nmovq xmm1, rax" =
            |a, b, _| crc::crc32(a as u32, b as u64, 4).into();
        "movq rax, xmm1\nmovq rcx, xmm2\ncrc32 eax, cx\nmovq xmm1, rax" =
            |a, b, _| crc::crc32(a as u32, b as u64, 2).into();
        "movq rax, xmm1\nmovq rcx, xmm2\ncrc32 eax, cl\nmovq xmm1, rax" =
            |a, b, _| crc::crc32(a as u32, b as u64, 1).into();
    }
}

/// CF, ZF, SF and OF, as LAHF and SETO leave them in AX: those of a comparison.
fn string_flags(comparison: strings::Comparison) -> u64 {
    u64::from(comparison.at_start())
        | u64::from(comparison.found()) << 8
        | u64::from(comparison.second_ends) << 14
        | u64::from(comparison.first_ends) << 15
}

macro_rules! string_cases {
    ($($imm:literal)*) => {$({
        let mut random = Random($imm);
        for _ in 0..300 {
            let (mut a, mut b) = (random.register(), random.register());
            // Small alphabets, so that something matches.
            a &= 0x0303_0303_0303_0303_0303_0303_0303_0303 | u128::from(random.next() & 0x8080);
            b &= 0x0303_0303_0303_0303_0303_0303_0303_0303 | u128::from(random.next() & 0x8080);
            if random.next() % 2 == 0 {
                (a, b) = (a | 0x0101_0101_0101, b | 0x0101_0101_0101_0101_0101);
            }
            let lengths = (random.next() as i64 % 20, random.next() as i64 % 20);
            let (inputs, mut outputs) = ([a.to_le_bytes(), b.to_le_bytes()], [[0_u8; 16]; 2]);
            let (mut flags, mut indices) = ([0_u64; 2], [0_u64; 2]);
            // SAFETY: rules 1 to 3; the pointers are to live arrays.
            unsafe {
                asm!(
                    "movups xmm1, [{inputs}]",
                    "movups xmm2, [{inputs} + 16]",
                    concat!("pcmpistrm xmm1, xmm2, ", $imm),
                    "movups [{outputs}], xmm0",
                    concat!("pcmpistri xmm1, xmm2, ", $imm),
                    "mov [{indices}], rcx",
                    "mov eax, 0", "lahf", "seto al", "and eax, 0xffff",
                    "mov [{flags}], rax",
                    "mov eax, {a_len:e}", "mov edx, {b_len:e}",
                    concat!("pcmpestrm xmm1, xmm2, ", $imm),
                    "movups [{outputs} + 16], xmm0",
                    concat!("pcmpestri xmm1, xmm2, ", $imm),
                    "mov [{indices} + 8], rcx",
                    "mov eax, 0", "lahf", "seto al", "and eax, 0xffff",
                    "mov [{flags} + 8], rax",
                    inputs = in(reg) &inputs, outputs = in(reg) &mut outputs,
                    flags = in(reg) &mut flags, indices = in(reg) &mut indices,
                    a_len = in(reg) lengths.0, b_len = in(reg) lengths.1,
                    out("rax") _, out("rcx") _, out("rdx") _, out("xmm0") _, out("xmm1") _, out("xmm2") _,
                );
            }
            let ours = [strings::implicit(a, b, $imm), strings::explicit(a, b, lengths, $imm)];
            for i in 0..2 {
                let context = format!("imm {:#x}, form {i}: {a:#034x} {b:#034x} {lengths:?}", $imm);
                assert_eq!(ours[i].mask(), u128::from_le_bytes(outputs[i]), "mask, {context}");
                assert_eq!(u64::from(ours[i].index()), indices[i], "index, {context}");
                assert_eq!(string_flags(ours[i]), flags[i] & 0xc1ff & !0x3e00, "flags, {context}");
            }
        }
    })*};
}

#[test]
fn string_comparisons() {
    if reported("sse4.2", is_x86_feature_detected!("sse4.2")) {
        string_cases!(0x00 0x01 0x02 0x03 0x04 0x05 0x06 0x07 0x08 0x09 0x0a 0x0b 0x0c 0x0d 0x0e 0x0f
            0x10 0x15 0x1a 0x1f 0x20 0x25 0x2a 0x2f 0x30 0x34 0x35 0x38 0x39 0x3c 0x3d 0x33
            0x40 0x44 0x45 0x48 0x4c 0x4d 0x50 0x58 0x59 0x70 0x74 0x75 0x78 0x7c 0x7f 0xc1);
    }
}
