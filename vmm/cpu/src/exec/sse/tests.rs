//! Instructions as bytes, through the decoder and the core: operands, memory, alignment, exceptions.

use std::sync::Arc;

use crate::Features;
use crate::core::{Code, Core, cr};
use crate::cpuid;
use crate::decode::{Decoded, decode};
use crate::fault::{Event, vector};
use crate::insn::reg;
use crate::mem::{AddressSpace, OwnedMemory, Slot};
use crate::time::Clock;

/// Page tables are in the first three pages: page 3 is the only one that is not mapped.
const DATA: u64 = 0x4000;
const HOLE: u64 = 0x3000;

/// A processor in 64-bit mode at CPL 0, linear addresses being physical ones.
fn core() -> Core {
    let space = AddressSpace::default();
    space.add(Slot::new(0, Arc::new(OwnedMemory::new(16)))).unwrap();
    let map = Arc::clone(space.enter().map());
    map.write(0u64, 0x1003_u64).unwrap();
    map.write(0x1000, 0x2003_u64).unwrap();
    map.write(0x2000, 0x7003_u64).unwrap();
    for page in 0..16 {
        map.write(0x7000 + 8 * page, if page == HOLE / 0x1000 { 0 } else { page << 12 | 3 }).unwrap();
    }
    let mut core = Core::new(map, 0, &cpuid::table().into(), Clock::Instructions { wall: 0 }, Some(1));
    core.cr0 |= cr::CR0_PE | cr::CR0_PG | cr::CR0_NE;
    core.cr3 = 0;
    core.cr4 = cr::CR4_PAE | cr::CR4_OSFXSR | cr::CR4_OSXMMEXCPT;
    core.efer = cr::EFER_LME | cr::EFER_LMA;
    core.seg[crate::insn::seg::CS].access = 0xA09B;
    core.refresh();
    assert_eq!(core.mode, Code::Bits64);
    core
}

/// Runs one instruction: the exception it ends in, or nothing.
fn run(core: &mut Core, bytes: &[u8]) -> Result<(), (u8, Option<u32>)> {
    let rip = core.regs[reg::RIP];
    let Decoded::Insn { insn, .. } = decode(bytes, rip, core.mode, &Features::all()) else {
        panic!("{bytes:x?} is not a whole instruction");
    };
    core.regs[reg::RIP] = rip.wrapping_add(insn.len.into());
    let result = (insn.run)(core, &insn);
    core.regs[reg::RIP] = rip;
    match (result, core.event) {
        (Ok(()), _) => Ok(()),
        (Err(_), Event::Exception { vector, error }) => Err((vector, error)),
        (Err(_), event) => panic!("{bytes:x?}: {event:?}"),
    }
}

fn runs(core: &mut Core, bytes: &[u8]) {
    assert_eq!(run(core, bytes), Ok(()), "{bytes:x?}");
}

fn read<T: crate::mem::Plain>(core: &Core, at: u64) -> T {
    core.tlb.map().read(at).unwrap()
}

fn write<T: crate::mem::Plain>(core: &Core, at: u64, value: T) {
    core.tlb.map().write(at, value).unwrap();
}

const A: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
const B: u128 = 0x1020_3040_5060_7080_90a0_b0c0_d0e0_f000;

#[test]
fn register_and_memory_operands() {
    let mut core = core();
    (core.xmm[1], core.xmm[9]) = (A, B);
    // paddb xmm1, xmm9
    runs(&mut core, &[0x66, 0x41, 0x0f, 0xfc, 0xc9]);
    assert_eq!(core.xmm[1], crate::simd::int::paddb(A, B));
    write(&core, DATA + 0x20, A);
    core.regs[reg::RBX] = DATA;
    // pxor xmm9, [rbx + 0x20]
    runs(&mut core, &[0x66, 0x44, 0x0f, 0xef, 0x4b, 0x20]);
    assert_eq!(core.xmm[9], A ^ B);
    // pshufd xmm2, [rbx + 0x20], 0x1b
    runs(&mut core, &[0x66, 0x0f, 0x70, 0x53, 0x20, 0x1b]);
    assert_eq!(core.xmm[2], crate::simd::shuffle::pshufd(A, 0x1b));
    // psrldq xmm2, 4; psllw xmm2, xmm3
    runs(&mut core, &[0x66, 0x0f, 0x73, 0xda, 0x04]);
    assert_eq!(core.xmm[2], crate::simd::shuffle::pshufd(A, 0x1b) >> 32);
    core.xmm[3] = 3;
    runs(&mut core, &[0x66, 0x0f, 0xf1, 0xd3]);
    assert_eq!(core.xmm[2], crate::simd::int::psllw(crate::simd::shuffle::pshufd(A, 0x1b) >> 32, 3));
    // aesenc xmm1, [rbx + 0x20]
    core.xmm[1] = B;
    runs(&mut core, &[0x66, 0x0f, 0x38, 0xdc, 0x4b, 0x20]);
    assert_eq!(core.xmm[1], crate::simd::aes::aesenc(B, A));
    // sha256rnds2 xmm1, xmm9 takes XMM0, too
    (core.xmm[0], core.xmm[1]) = (A, B);
    runs(&mut core, &[0x41, 0x0f, 0x38, 0xcb, 0xc9]);
    assert_eq!(core.xmm[1], crate::simd::sha::sha256rnds2(B, A ^ B, A));
}

#[test]
fn moves() {
    let mut core = core();
    core.regs[reg::RBX] = DATA;
    write(&core, DATA + 3, A);
    // movups xmm4, [rbx + 3]; movups [rbx + 0x21], xmm4
    runs(&mut core, &[0x0f, 0x10, 0x63, 0x03]);
    runs(&mut core, &[0x0f, 0x11, 0x63, 0x21]);
    assert_eq!(read::<u128>(&core, DATA + 0x21), A);
    // movss xmm5, xmm4 keeps the rest; movss xmm5, [rbx + 3] clears it
    core.xmm[5] = B;
    runs(&mut core, &[0xf3, 0x0f, 0x10, 0xec]);
    assert_eq!(core.xmm[5], crate::simd::lanes::with_low32(B, A as u32));
    runs(&mut core, &[0xf3, 0x0f, 0x10, 0x6b, 0x03]);
    assert_eq!(core.xmm[5], A & 0xffff_ffff);
    // movhps xmm5, [rbx + 3]; movhlps xmm6, xmm5
    runs(&mut core, &[0x0f, 0x16, 0x6b, 0x03]);
    assert_eq!(core.xmm[5], A & 0xffff_ffff | A << 64);
    core.xmm[6] = B;
    runs(&mut core, &[0x0f, 0x12, 0xf5]);
    assert_eq!(core.xmm[6], B >> 64 << 64 | A & u128::from(u64::MAX));
    // movq r9, xmm4; movd [rbx], xmm4; movnti [rbx + 8], r9
    runs(&mut core, &[0x66, 0x49, 0x0f, 0x7e, 0xe1]);
    assert_eq!(core.regs[9], A as u64);
    write(&core, DATA, u64::MAX);
    runs(&mut core, &[0x66, 0x0f, 0x7e, 0x23]);
    assert_eq!(read::<u64>(&core, DATA), 0xffff_ffff_0302_0100);
    runs(&mut core, &[0x4c, 0x0f, 0xc3, 0x4b, 0x08]);
    assert_eq!(read::<u64>(&core, DATA + 8), A as u64);
    // pextrb eax, xmm4, 15 clears the rest; pextrw [rbx], xmm4, 1; pinsrb xmm4, al, 0
    core.regs[reg::RAX] = u64::MAX;
    runs(&mut core, &[0x66, 0x0f, 0x3a, 0x14, 0xe0, 0x0f]);
    assert_eq!(core.regs[reg::RAX], 0x0f);
    runs(&mut core, &[0x66, 0x0f, 0x3a, 0x15, 0x23, 0x01]);
    assert_eq!(read::<u16>(&core, DATA), 0x0302);
    runs(&mut core, &[0x66, 0x0f, 0x3a, 0x20, 0xe0, 0x00]);
    assert_eq!(core.xmm[4], A | 0x0f);
    // pmovmskb ecx, xmm9
    core.xmm[9] = B;
    core.regs[reg::RCX] = u64::MAX;
    runs(&mut core, &[0x66, 0x41, 0x0f, 0xd7, 0xc9]);
    assert_eq!(core.regs[reg::RCX], crate::simd::shuffle::pmovmskb(B).into());
}

#[test]
fn alignment() {
    let mut core = core();
    core.regs[reg::RBX] = DATA + 8;
    let gp = Err((vector::GP, Some(0)));
    // movaps load and store, paddd, movntdq, movntdqa, cmpps, pshufb
    let aligned: [&[u8]; 7] = [
        &[0x0f, 0x28, 0x03],
        &[0x0f, 0x29, 0x03],
        &[0x66, 0x0f, 0xfe, 0x03],
        &[0x66, 0x0f, 0xe7, 0x03],
        &[0x66, 0x0f, 0x38, 0x2a, 0x03],
        &[0x0f, 0xc2, 0x03, 0x01],
        &[0x66, 0x0f, 0x38, 0x00, 0x03],
    ];
    for bytes in aligned {
        core.regs[reg::RBX] = DATA + 8;
        assert_eq!(run(&mut core, bytes), gp, "{bytes:x?}");
        // Before the page is looked at.
        core.regs[reg::RBX] = HOLE + 8;
        assert_eq!(run(&mut core, bytes), gp, "{bytes:x?}");
        core.regs[reg::RBX] = DATA;
        runs(&mut core, bytes);
    }
    core.regs[reg::RBX] = DATA + 7;
    // movdqu load and store, lddqu, addsd, pcmpistri, pmovzxbw, pinsrw, cvtdq2pd
    let unaligned: [&[u8]; 8] = [
        &[0xf3, 0x0f, 0x6f, 0x03],
        &[0xf3, 0x0f, 0x7f, 0x03],
        &[0xf2, 0x0f, 0xf0, 0x03],
        &[0xf2, 0x0f, 0x58, 0x03],
        &[0x66, 0x0f, 0x3a, 0x63, 0x03, 0x00],
        &[0x66, 0x0f, 0x38, 0x30, 0x03],
        &[0x66, 0x0f, 0xc4, 0x03, 0x05],
        &[0xf3, 0x0f, 0xe6, 0x03],
    ];
    for bytes in unaligned {
        runs(&mut core, bytes);
    }
    // A page fault leaves the register.
    core.regs[reg::RBX] = HOLE - 8;
    core.xmm[0] = A;
    assert_eq!(run(&mut core, &[0xf3, 0x0f, 0x6f, 0x03]), Err((vector::PF, Some(0))));
    assert_eq!(core.xmm[0], A);
    assert_eq!(run(&mut core, &[0xf3, 0x0f, 0x7f, 0x03]), Err((vector::PF, Some(2))));
    assert_eq!(read::<u64>(&core, HOLE - 8), 0);
}

#[test]
fn switched_off() {
    // xorps xmm0, xmm0; cvtpi2ps xmm0, mm0; paddb mm0, mm0; emms; crc32 eax, eax; movnti [rbx], eax
    let xmm: &[u8] = &[0x0f, 0x57, 0xc0];
    let both: &[u8] = &[0x0f, 0x2a, 0xc0];
    let mm: &[u8] = &[0x0f, 0xfc, 0xc0];
    let emms: &[u8] = &[0x0f, 0x77];
    let crc32: &[u8] = &[0xf2, 0x0f, 0x38, 0xf1, 0xc0];
    let movnti: &[u8] = &[0x0f, 0xc3, 0x03];
    let (ud, nm) = (Err((vector::UD, None)), Err((vector::NM, None)));
    // CR0 bits set, CR4 bits cleared, and what comes of it in the order above.
    type Case = (u64, u64, [Result<(), (u8, Option<u32>)>; 6]);
    let cases: [Case; 5] = [
        (0, 0, [Ok(()); 6]),
        (cr::CR0_EM, 0, [ud, ud, ud, ud, Ok(()), Ok(())]),
        (cr::CR0_TS, 0, [nm, nm, nm, nm, Ok(()), Ok(())]),
        (cr::CR0_EM | cr::CR0_TS, 0, [ud, ud, ud, ud, Ok(()), Ok(())]),
        (cr::CR0_TS, cr::CR4_OSFXSR, [ud, ud, nm, nm, Ok(()), Ok(())]),
    ];
    for (set, clear, expected) in cases {
        let mut core = core();
        core.regs[reg::RBX] = DATA;
        core.cr0 |= set;
        core.cr4 &= !clear;
        core.refresh();
        for (bytes, expected) in [xmm, both, mm, emms, crc32, movnti].into_iter().zip(expected) {
            assert_eq!(run(&mut core, bytes), expected, "{bytes:x?} with {set:#x}, without {clear:#x}");
        }
    }
}

#[test]
fn floating_point_exceptions() {
    let mut core = core();
    let one = u128::from(1.0_f32.to_bits());
    (core.xmm[0], core.xmm[1]) = (one, 0);
    // divss xmm0, xmm1: masked, then not
    runs(&mut core, &[0xf3, 0x0f, 0x5e, 0xc1]);
    assert_eq!((core.xmm[0], core.mxcsr), (u128::from(f32::INFINITY.to_bits()), 0x1f84));
    (core.xmm[0], core.mxcsr) = (one, 0x1d80);
    assert_eq!(run(&mut core, &[0xf3, 0x0f, 0x5e, 0xc1]), Err((vector::XM, None)));
    assert_eq!((core.xmm[0], core.mxcsr), (one, 0x1d84));
    core.cr4 &= !cr::CR4_OSXMMEXCPT;
    assert_eq!(run(&mut core, &[0xf3, 0x0f, 0x5e, 0xc1]), Err((vector::UD, None)));
    // cvttsd2si rax, xmm1 of what does not fit; ucomiss xmm0, xmm0
    core.mxcsr = 0x1f80;
    core.xmm[1] = u128::from(1e30_f64.to_bits());
    runs(&mut core, &[0xf2, 0x48, 0x0f, 0x2c, 0xc1]);
    assert_eq!((core.regs[reg::RAX], core.mxcsr), (1 << 63, 0x1f81));
    core.set_rflags(0x8d7);
    runs(&mut core, &[0x0f, 0x2e, 0xc0]);
    assert_eq!(core.rflags() & 0x8d5, 0x40);
    // ldmxcsr [rbx], stmxcsr [rbx + 4]
    core.regs[reg::RBX] = DATA;
    write(&core, DATA, 0x1_0000_u32);
    assert_eq!(run(&mut core, &[0x0f, 0xae, 0x13]), Err((vector::GP, Some(0))));
    assert_eq!(core.mxcsr, 0x1f81);
    write(&core, DATA, 0xffc0_u32);
    runs(&mut core, &[0x0f, 0xae, 0x13]);
    runs(&mut core, &[0x0f, 0xae, 0x5b, 0x04]);
    assert_eq!(read::<u32>(&core, DATA + 4), 0xffc0);
}

#[test]
fn mmx_registers() {
    let mut core = core();
    core.regs[reg::RAX] = 0x0102_0304_0506_0708;
    // movq mm2, rax; paddb mm2, mm2; movq [rbx], mm2; movq2dq xmm3, mm2; emms
    runs(&mut core, &[0x48, 0x0f, 0x6e, 0xd0]);
    runs(&mut core, &[0x0f, 0xfc, 0xd2]);
    core.regs[reg::RBX] = DATA;
    runs(&mut core, &[0x0f, 0x7f, 0x13]);
    assert_eq!(read::<u64>(&core, DATA), 0x0204_0608_0a0c_0e10);
    runs(&mut core, &[0xf3, 0x0f, 0xd6, 0xda]);
    assert_eq!(core.xmm[3], 0x0204_0608_0a0c_0e10);
    assert_eq!(core.fpu.abridged_tags(), 0xff);
    runs(&mut core, &[0x0f, 0x77]);
    assert_eq!(core.fpu.abridged_tags(), 0);
    // punpckhbw mm2, mm0 and packsswb mm0, mm2, whose XMM forms are different functions
    runs(&mut core, &[0x0f, 0x68, 0xd0]);
    assert_eq!(core.fpu.mmx_read(2), 0x0002_0004_0006_0008);
    runs(&mut core, &[0x0f, 0x63, 0xc2]);
    assert_eq!(core.fpu.mmx_read(0), 0x0204_0608_0000_0000);
    // A pending x87 exception comes first: fldz; fldz; fdivp with ZE and IE unmasked
    core.fpu.fninit();
    core.fpu.set_control(0);
    core.fpu.set_status(1);
    assert_eq!(run(&mut core, &[0x0f, 0xfc, 0xd2]), Err((vector::MF, None)));
    assert_eq!(run(&mut core, &[0x0f, 0x2a, 0xc0]), Err((vector::MF, None)));
}

#[test]
fn masked_stores() {
    let mut core = core();
    (core.xmm[1], core.xmm[2]) = (A, 0x80 << 120 | 0x80 << 24 | 0x80);
    core.regs[reg::RDI] = DATA + 5;
    // maskmovdqu xmm1, xmm2
    runs(&mut core, &[0x66, 0x0f, 0xf7, 0xca]);
    assert_eq!(read::<u128>(&core, DATA + 5), A & (0xff << 120 | 0xff << 24 | 0xff));
    // Across the hole: nothing is written, unless nothing was to be written there.
    core.regs[reg::RDI] = HOLE - 4;
    core.xmm[1] = u128::MAX;
    assert_eq!(run(&mut core, &[0x66, 0x0f, 0xf7, 0xca]), Err((vector::PF, Some(2))));
    assert_eq!(read::<u32>(&core, HOLE - 4), 0);
    core.xmm[2] = 0x80 << 24;
    runs(&mut core, &[0x66, 0x0f, 0xf7, 0xca]);
    assert_eq!(read::<u32>(&core, HOLE - 4), 0xff00_0000);
    core.xmm[2] = 0;
    core.regs[reg::RDI] = HOLE;
    runs(&mut core, &[0x66, 0x0f, 0xf7, 0xca]);
}

#[test]
fn strings_and_checksums() {
    let mut core = core();
    (core.xmm[1], core.xmm[2]) =
        (u128::from(b'x'), u128::from_le_bytes(*b"is there an x? no"[..16].as_array().unwrap()));
    // pcmpistri xmm1, xmm2, 0
    runs(&mut core, &[0x66, 0x0f, 0x3a, 0x63, 0xca, 0x00]);
    assert_eq!(core.regs[reg::RCX], 12);
    assert_eq!(core.rflags() & 0x8d5, 0x81, "CF: found, SF: the first string ends");
    // pcmpestrm xmm1, xmm2, 0x40 with lengths 1 and −3; with REX.W, RDX is more than 16
    (core.regs[reg::RAX], core.regs[reg::RDX]) = (1, 0x8000_0000_ffff_fffd);
    core.xmm[1] = u128::from(b's');
    runs(&mut core, &[0x66, 0x0f, 0x3a, 0x60, 0xca, 0x40]);
    assert_eq!(core.xmm[0], 0xff00);
    assert_eq!(core.rflags() & 0x8d5, 0xc1);
    runs(&mut core, &[0x66, 0x48, 0x0f, 0x3a, 0x60, 0xca, 0x40]);
    assert_eq!(core.rflags() & 0x8d5, 0x81);
    // crc32 rax, ch clears the upper half
    (core.regs[reg::RAX], core.regs[reg::RCX]) = (u64::MAX, 0x6100);
    runs(&mut core, &[0xf2, 0x0f, 0x38, 0xf0, 0xc5]);
    assert_eq!(core.regs[reg::RAX], crate::simd::crc::crc32(u32::MAX, 0x61, 1).into());
}

#[test]
fn not_announced() {
    let mut core = core();
    let without = Features { sse4_1: false, aes: false, ..Features::all() };
    // ptest xmm0, xmm0; aesenc xmm0, xmm0; pcmpgtq xmm0, xmm0; vpxor xmm0, xmm0, xmm0
    let cases: [(&[u8], bool); 4] = [
        (&[0x66, 0x0f, 0x38, 0x17, 0xc0], false),
        (&[0x66, 0x0f, 0x38, 0xdc, 0xc0], false),
        (&[0x66, 0x0f, 0x38, 0x37, 0xc0], true),
        (&[0xc5, 0xf9, 0xef, 0xc0], false),
    ];
    for (bytes, announced) in cases {
        let Decoded::Insn { insn, .. } = decode(bytes, 0, core.mode, &without) else { panic!("{bytes:x?}") };
        assert_eq!((insn.run)(&mut core, &insn).is_ok(), announced, "{bytes:x?}");
        assert!(announced || core.event == Event::Exception { vector: vector::UD, error: None });
    }
}
