//! Bytes of x87 and state-saving instructions through the decoder and the processor.

use std::sync::Arc;

use crate::core::{Core, Seg, cr};
use crate::cpuid::Features;
use crate::decode::{Decoded, decode};
use crate::fault::{Event, vector};
use crate::insn::{reg, seg};
use crate::mem::{AddressSpace, OwnedMemory, PAGE, Slot};
use crate::time::Clock;
use crate::x87::native::{Image, Random, encoded};
use crate::x87::{F80, Fpu, status};

/// Where the instruction is.
const CODE: u64 = 0x8_0000;
/// Where its operand is.
const DATA: u64 = 0x1_0000;
/// The last page that there is; the one behind it is not present.
const LAST: u64 = 0x3_F000;

/// An exception: vector and error code.
type Raised = (u8, Option<u32>);

/// A processor in 64-bit mode at CPL 0 with 256 KiB of memory at linear address 0.
fn core() -> Core {
    let space = AddressSpace::default();
    space.add(Slot::new(0, Arc::new(OwnedMemory::new(64)))).unwrap();
    let map = Arc::clone(space.enter().map());
    for (at, entry) in [(0x1000, 0x2007u64), (0x2000, 0x3007), (0x3000, 0x4007)] {
        map.write(at, entry).unwrap();
    }
    for page in 0..64 {
        map.write(0x4000 + 8 * page, (page * PAGE) | 7).unwrap();
    }
    let mut core = Core::new(map, 0, &crate::cpuid::table().into(), Clock::Instructions { wall: 0 }, Some(1));
    core.features = Features::all();
    core.cr0 = cr::CR0_PE | cr::CR0_PG | cr::CR0_NE | cr::CR0_ET | cr::CR0_WP | cr::CR0_MP;
    core.cr3 = 0x1000;
    core.cr4 = cr::CR4_PAE | cr::CR4_OSFXSR | cr::CR4_OSXSAVE;
    core.efer = cr::EFER_LME | cr::EFER_LMA;
    core.xcr0 = 3;
    core.seg[seg::CS] = Seg { selector: 8, base: 0, limit: u32::MAX, access: 0xA09B };
    core.seg[seg::SS] = Seg { selector: 16, base: 0, limit: u32::MAX, access: 0xC093 };
    core.refresh();
    core.fpu.fninit();
    core.regs[reg::RDI] = DATA;
    core
}

/// Executes one instruction. On a fault RIP is back where it was, as in the run loop.
fn step(core: &mut Core, bytes: &[u8]) -> Result<(), Raised> {
    let Decoded::Insn { insn, .. } = decode(bytes, CODE, core.mode, &core.features) else {
        panic!("{bytes:02x?} is too short");
    };
    core.regs[reg::RIP] = CODE + u64::from(insn.len);
    (insn.run)(core, &insn).map_err(|_| match core.event {
        Event::Exception { vector, error } => (vector, error),
        event => panic!("{event:?}"),
    })
}

fn read(core: &Core, at: u64, size: usize) -> Vec<u8> {
    (at..).take(size).map(|at| core.tlb.map().read::<u8>(at).unwrap()).collect()
}

fn write(core: &Core, at: u64, bytes: &[u8]) {
    for (at, byte) in (at..).zip(bytes) {
        core.tlb.map().write(at, *byte).unwrap();
    }
}

fn word(core: &Core, at: u64) -> u64 {
    core.tlb.map().read(at).unwrap()
}

/// Opcodes whose operand is larger than the host test's memory: FLDENV, FNSTENV, FRSTOR, FNSAVE.
fn large([first, second]: [u8; 2]) -> bool {
    second < 0xc0 && matches!((first, second >> 3 & 7), (0xd9, 4 | 6) | (0xdd, 4 | 6))
}

/// Opcodes whose results are the implementation's in the last bit.
fn approximate(opcode: [u8; 2]) -> bool {
    matches!(opcode, [0xd9, 0xf0..=0xf3 | 0xf9 | 0xfb | 0xfe | 0xff])
}

#[test]
fn every_encoding_does_what_it_does_on_the_host() {
    let mut core = core();
    let mut random = Random(7);
    let mut undefined = Vec::new();
    for first in 0xd8..=0xdf {
        for second in (0u8..=0xff).filter(|&second| second >= 0xc0 || second & 0xc7 == 7) {
            let opcode = [first, second];
            if large(opcode) || approximate(opcode) {
                continue;
            }
            let bytes = [&opcode[..], &[0x90; 14]].concat();
            for round in 0..200 {
                let (unit, mut memory) = (random.unit(), random.memory());
                let flags = random.next() & 0x8d5 | 0x202;
                core.fpu = unit.clone();
                core.set_rflags(flags);
                core.regs[reg::RAX] = 0;
                write(&core, DATA, &memory);
                let ran = step(&mut core, &bytes);
                if ran == Err((vector::UD, None)) {
                    assert_eq!(round, 0);
                    undefined.push(opcode);
                    break;
                }
                assert_eq!(ran, Ok(()), "{opcode:02x?}");
                let mut image = Image::of(&unit);
                let (host_flags, ax) = encoded(opcode, &mut image, &mut memory, flags);
                let mut ours = core.fpu.clone();
                (ours.opcode, ours.ip, ours.dp) = (0, 0, 0);
                let mut host = image.unit();
                if matches!(opcode, [0xdb | 0xdf, 0xe8..=0xf7]) {
                    // FCOMI and its kin: see `x87::native`.
                    ours.set_status(ours.status() & !status::C1);
                    host.set_status(host.status() & !status::C1);
                }
                let before = format!("{opcode:02x?} {unit:x?}");
                assert_eq!(ours, host, "{before}");
                assert_eq!(read(&core, DATA, 16), memory, "{before}");
                assert_eq!(core.rflags() & 0x8d5, host_flags & 0x8d5, "{before}");
                assert_eq!(core.regs[reg::RAX], u64::from(ax), "{before}");
            }
        }
    }
    // SDM vol. 2D, tables, less the aliases that every processor has.
    let reserved = |[first, second]: [u8; 2]| match first {
        0xd9 => matches!(second, 0x0f | 0xd1..=0xd7 | 0xe2 | 0xe3 | 0xe6 | 0xe7 | 0xef),
        0xda => matches!(second, 0xe0..=0xe8 | 0xea..),
        0xdb => matches!(second, 0x27 | 0x37 | 0xe5..=0xe7 | 0xf8..),
        0xdd => matches!(second, 0x2f | 0xf0..),
        0xde => matches!(second, 0xd8 | 0xda..=0xdf),
        0xdf => matches!(second, 0xe1..=0xe7 | 0xf8..),
        _ => false,
    };
    let expected: Vec<_> = (0xd8..=0xdf)
        .flat_map(|first| (0..=0xff).map(move |second| [first, second]))
        .filter(|&[first, second]| (second >= 0xc0 || second & 0xc7 == 7) && reserved([first, second]))
        .collect();
    assert_eq!(undefined, expected);
}

#[test]
fn em_and_ts_are_asked_before_anything_else() {
    const FXSAVE: &[u8] = &[0x0f, 0xae, 0x07];
    const XSAVE: &[u8] = &[0x0f, 0xae, 0x27];
    const FLD: &[u8] = &[0xd9, 0x07];
    const FNSTSW: &[u8] = &[0xdf, 0xe0];
    const FWAIT: &[u8] = &[0x9b];
    let not_available = Err((vector::NM, None));
    for (bits, bytes, expected) in [
        (cr::CR0_EM, FLD, not_available),
        (cr::CR0_TS, FLD, not_available),
        (cr::CR0_EM, FNSTSW, not_available),
        (cr::CR0_TS, FNSTSW, not_available),
        (cr::CR0_EM, FWAIT, Ok(())),
        (cr::CR0_TS, FWAIT, Ok(())),
        (cr::CR0_TS | cr::CR0_MP, FWAIT, not_available),
        (cr::CR0_EM, FXSAVE, not_available),
        (cr::CR0_TS, FXSAVE, not_available),
        (cr::CR0_EM, XSAVE, Ok(())),
        (cr::CR0_TS, XSAVE, not_available),
        (0, FLD, Ok(())),
    ] {
        let mut core = core();
        core.cr0 = core.cr0 & !cr::CR0_MP | bits;
        core.refresh();
        assert_eq!(step(&mut core, bytes), expected, "{bits:x} {bytes:02x?}");
    }
}

#[test]
fn an_unmasked_exception_is_reported_by_the_next_waiting_instruction() {
    let mut core = core();
    // Division by zero, unmasked: FLDCW, FLD1, FLDZ, FDIVP.
    write(&core, DATA, &0x037b_u16.to_le_bytes());
    for bytes in [[0xd9, 0x2f], [0xd9, 0xe8], [0xd9, 0xee], [0xde, 0xf9]] {
        assert_eq!(step(&mut core, &bytes), Ok(()));
    }
    let before = core.fpu.clone();
    assert_eq!(before.status() & (status::ZE | status::ES | status::B), status::ZE | status::ES | status::B);
    for waiting in [&[0x9b][..], &[0xd9, 0xe8], &[0xd9, 0x2f], &[0xd9, 0xd0], &[0xdd, 0x27]] {
        assert_eq!(step(&mut core, waiting), Err((vector::MF, None)), "{waiting:02x?}");
        assert_eq!(core.fpu, before);
    }
    // FNSTSW AX, FNSTCW and FXSAVE do not wait.
    for waitless in [&[0xdf, 0xe0][..], &[0xd9, 0x3f], &[0x0f, 0xae, 0x07]] {
        assert_eq!(step(&mut core, waitless), Ok(()), "{waitless:02x?}");
    }
    assert_eq!(core.regs[reg::RAX] as u16, before.status());
    core.cr0 &= !cr::CR0_NE;
    assert_eq!(step(&mut core, &[0x9b]), Ok(()));
    core.cr0 |= cr::CR0_NE;
    // FNCLEX
    assert_eq!(step(&mut core, &[0xdb, 0xe2]), Ok(()));
    assert_eq!(step(&mut core, &[0x9b]), Ok(()));
}

#[test]
fn the_environment_names_the_last_instruction() {
    let mut core = core();
    assert_eq!(step(&mut core, &[0x66, 0xd9, 0x07]), Ok(()));
    core.regs[reg::RSI] = DATA + 0x100;
    assert_eq!(step(&mut core, &[0xd9, 0x36]), Ok(()));
    let expected = [0xffff_037f, 0xffff_3800, 0xffff_7fff, CODE as u32, 0x0107_0000, DATA as u32, 0xffff_0000];
    assert_eq!(read(&core, DATA + 0x100, 28), expected.map(u32::to_le_bytes).concat());
    // 16-bit operand size; FNSAVE this time, which initializes.
    assert_eq!(step(&mut core, &[0x66, 0xdd, 0x36]), Ok(()));
    let expected = [0x037f, 0x3800, 0x7fff, CODE as u16, 0, DATA as u16, 0];
    assert_eq!(read(&core, DATA + 0x100, 14), expected.map(u16::to_le_bytes).concat());
    assert_eq!(core.fpu, Fpu::initial());
}

#[test]
fn the_environment_of_real_mode_has_linear_addresses() {
    let mut core = core();
    core.cr0 = cr::CR0_NE;
    core.efer = 0;
    core.cr4 = 0;
    core.seg = [Seg::real(0, 0x93); 8];
    core.seg[seg::CS] = Seg::real(0x1234, 0x9b);
    core.seg[seg::DS] = Seg::real(0x1000, 0x93);
    core.refresh();
    core.regs[reg::RDI] = 0x20;
    core.regs[reg::RSI] = 0x100;
    write(&core, DATA + 0x20, &2.5_f64.to_le_bytes());
    // FLD m64, FNSTENV with 16 and with 32 bits.
    assert_eq!(step(&mut core, &[0xdd, 0x05]), Ok(()));
    assert_eq!(step(&mut core, &[0xd9, 0x34]), Ok(()));
    let ip = 0x1_2340 + CODE;
    let expected = [0x037f, 0x3800, 0x3fff, ip as u16, 0x9505, 0x0020, 0x1000];
    assert_eq!(read(&core, DATA + 0x100, 14), expected.map(u16::to_le_bytes).concat());
    assert_eq!(step(&mut core, &[0x66, 0xd9, 0x34]), Ok(()));
    let expected = [0xffff_037f, 0xffff_3800, 0xffff_3fff, 0xffff_2340, 0x0000_9505, 0xffff_0020, 0x0000_1000];
    assert_eq!(read(&core, DATA + 0x100, 28), expected.map(u32::to_le_bytes).concat());
    // FLDENV brings back what FNSTENV has stored.
    let before = core.fpu.clone();
    core.fpu.fninit();
    assert_eq!(step(&mut core, &[0x66, 0xd9, 0x24]), Ok(()));
    assert_eq!(core.fpu, before);
}

#[test]
fn fnsave_and_frstor_carry_every_state() {
    let (mut core, mut random) = (core(), Random(11));
    for _ in 0..500 {
        let mut unit = random.unit();
        (unit.ip, unit.dp, unit.opcode) = (random.next() >> 32, random.next() >> 32, random.next() as u16 & 0x7ff);
        core.fpu = unit.clone();
        assert_eq!(step(&mut core, &[0xdd, 0x37]), Ok(()));
        assert_eq!(core.fpu.abridged_tags(), 0);
        assert_eq!(step(&mut core, &[0xdd, 0x27]), Ok(()));
        assert_eq!(core.fpu, unit);
    }
}

#[test]
fn what_crosses_into_a_missing_page_is_done_not_at_all() {
    // Instruction, bytes of the operand, alignment, write.
    let cases: &[(&[u8], u64, u64, bool)] = &[
        (&[0xdb, 0x3f], 10, 1, true),
        (&[0xdf, 0x37], 10, 1, true),
        (&[0xdd, 0x1f], 8, 1, true),
        (&[0xd9, 0x37], 28, 1, true),
        (&[0xdd, 0x37], 108, 1, true),
        (&[0x0f, 0xae, 0x07], 512, 16, true),
        (&[0x48, 0x0f, 0xae, 0x07], 512, 16, true),
        (&[0x0f, 0xae, 0x27], 576, 64, true),
        (&[0x0f, 0xae, 0x37], 576, 64, true),
        (&[0x0f, 0xc7, 0x27], 576, 64, true),
        (&[0xdb, 0x2f], 10, 1, false),
        (&[0xdd, 0x07], 8, 1, false),
        (&[0xd8, 0x07], 4, 1, false),
        (&[0xd9, 0x27], 28, 1, false),
        (&[0xdd, 0x27], 108, 1, false),
        (&[0x0f, 0xae, 0x0f], 512, 16, false),
        (&[0x0f, 0xae, 0x2f], 576, 64, false),
    ];
    for &(bytes, size, align, writes) in cases {
        let mut core = core();
        core.regs[reg::RAX] = 3;
        core.fpu.fld(F80::ONE);
        core.xmm = [u128::MAX / 3; 16];
        let (unit, xmm, page) = (core.fpu.clone(), core.xmm, read(&core, LAST, PAGE as usize));
        for inside in [align.max(size / 2), size - align.min(size - 1)] {
            let at = LAST + PAGE - inside.next_multiple_of(align);
            core.regs[reg::RDI] = at;
            let error = if writes { 2 } else { 0 };
            assert_eq!(step(&mut core, bytes), Err((vector::PF, Some(error))), "{bytes:02x?} at {at:x}");
            assert_eq!(core.pending_cr2, LAST + PAGE, "{bytes:02x?}");
            assert_eq!((&core.fpu, core.xmm), (&unit, xmm), "{bytes:02x?}");
            assert_eq!(read(&core, LAST, PAGE as usize), page, "{bytes:02x?}");
        }
    }
}

#[test]
fn a_store_that_stores_nothing_needs_a_writable_place_too() {
    // FSTP m32 and m80 of an empty register, invalid operations unmasked.
    for bytes in [[0xd9, 0x1f], [0xdb, 0x3f]] {
        let mut core = core();
        core.fpu.set_control(0x037e);
        let before = core.fpu.clone();
        core.regs[reg::RDI] = LAST + PAGE;
        assert_eq!(step(&mut core, &bytes), Err((vector::PF, Some(2))), "{bytes:02x?}");
        assert_eq!(core.fpu, before);
        core.regs[reg::RDI] = DATA;
        write(&core, DATA, &[0xcc; 16]);
        assert_eq!(step(&mut core, &bytes), Ok(()));
        assert_eq!(core.fpu.status() & 0x3fff, status::ES | status::SF | status::IE);
        assert_eq!(read(&core, DATA, 16), [0xcc; 16]);
    }
}

#[test]
fn fxsave_lays_out_what_fxrstor_reads() {
    let (mut core, mut random) = (core(), Random(13));
    for round in 0..200 {
        let wide = round % 2 == 0;
        let mut unit = random.unit();
        (unit.ip, unit.dp, unit.opcode) = (random.next(), random.next(), random.next() as u16 & 0x7ff);
        core.fpu = unit.clone();
        core.xmm = std::array::from_fn(|_| u128::from(random.next()) << 64 | u128::from(random.next()));
        core.mxcsr = random.next() as u32 & 0xffff;
        let (xmm, mxcsr) = (core.xmm, core.mxcsr);
        let rex: &[u8] = if wide { &[0x48] } else { &[] };
        write(&core, DATA, &[0xcc; 576]);
        assert_eq!(step(&mut core, &[rex, &[0x0f, 0xae, 0x07]].concat()), Ok(()));
        // SDM vol. 1, tables 10-2 and vol. 2A, table 3-43.
        assert_eq!(word(&core, DATA) as u16, unit.control());
        assert_eq!((word(&core, DATA) >> 16) as u16, unit.status());
        assert_eq!((word(&core, DATA) >> 32) as u16, unit.abridged_tags().into());
        assert_eq!(word(&core, DATA + 24), u64::from(mxcsr) | 0xffff << 32);
        assert_eq!(read(&core, DATA + 32, 10), unit.raw(0).to_bytes());
        assert_eq!(read(&core, DATA + 42, 6), [0; 6]);
        assert_eq!(read(&core, DATA + 160, 16), xmm[0].to_le_bytes());
        assert_eq!(read(&core, DATA + 400, 16), xmm[15].to_le_bytes());
        assert_eq!(read(&core, DATA + 416, 160), [0xcc; 160]);
        core.fpu = Fpu::new();
        (core.xmm, core.mxcsr) = ([0; 16], 0x1f80);
        assert_eq!(step(&mut core, &[rex, &[0x0f, 0xae, 0x0f]].concat()), Ok(()));
        if !wide {
            (unit.ip, unit.dp) = (unit.ip & 0xffff_ffff, unit.dp & 0xffff_ffff);
        }
        assert_eq!((&core.fpu, core.xmm, core.mxcsr), (&unit, xmm, mxcsr));
    }
    // Not aligned; reserved bits of MXCSR.
    let gp = Err((vector::GP, Some(0)));
    write(&core, DATA + 26, &[1]);
    assert_eq!(step(&mut core, &[0x0f, 0xae, 0x0f]), gp);
    core.regs[reg::RDI] += 8;
    assert_eq!(step(&mut core, &[0x0f, 0xae, 0x07]), gp);
    assert_eq!(step(&mut core, &[0x0f, 0xae, 0x0f]), gp);
}

/// A processor with both states in use, and the image's place filled with a pattern, its header with zeros.
fn saving() -> Core {
    let mut core = core();
    core.fpu.fld(F80::ONE);
    core.xmm[3] = 5;
    core.mxcsr = 0x9f80;
    core.regs[reg::RAX] = 7;
    write(&core, DATA, &[0xcc; 640]);
    write(&core, DATA + 512, &[0; 64]);
    core
}

const XSAVE: &[u8] = &[0x48, 0x0f, 0xae, 0x27];
const XRSTOR: &[u8] = &[0x48, 0x0f, 0xae, 0x2f];
const XSAVEOPT: &[u8] = &[0x48, 0x0f, 0xae, 0x37];
const XSAVEC: &[u8] = &[0x48, 0x0f, 0xc7, 0x27];

#[test]
fn xsave_writes_what_is_asked_for() {
    const KEPT: u64 = 0xcccc_cccc_cccc_cccc;
    // XCR0, mask, then: the first words of x87, MXCSR and XMM3 are written; XSTATE_BV and XCOMP_BV.
    let cases = [
        (XSAVE, 3, 3, true, [true, true, true], 3, 0),
        (XSAVE, 3, 1, true, [true, false, false], 1, 0),
        (XSAVE, 3, 2, true, [false, true, true], 2, 0),
        (XSAVE, 1, 3, true, [true, false, false], 1, 0),
        (XSAVE, 3, 0, true, [false; 3], 0, 0),
        (XSAVE, 3, 3, false, [true, true, true], 0, 0),
        (XSAVEOPT, 3, 3, true, [true, true, true], 3, 0),
        (XSAVEOPT, 3, 3, false, [false, true, false], 0, 0),
        (XSAVEC, 3, 3, true, [true, true, true], 3, 1 << 63 | 3),
        (XSAVEC, 3, 2, true, [false, true, true], 2, 1 << 63 | 2),
        (XSAVEC, 3, 3, false, [false; 3], 0, 1 << 63 | 3),
    ];
    for (bytes, xcr0, mask, used, written, present, components) in cases {
        let what = format!("{bytes:02x?} {xcr0} {mask} {used}");
        let mut core = saving();
        (core.xcr0, core.regs[reg::RAX]) = (xcr0, mask);
        if !used {
            core.fpu = Fpu::initial();
            (core.xmm, core.mxcsr) = ([0; 16], 0x1f80);
        }
        // Bits of states that are not asked for stay in XSTATE_BV, but in the compacted form.
        write(&core, DATA + 512, &[!(mask & xcr0) as u8 & 3]);
        assert_eq!(step(&mut core, bytes), Ok(()), "{what}");
        let is_written = [0, 24, 160 + 48].map(|at| word(&core, DATA + at) != KEPT);
        assert_eq!(is_written, written, "{what}");
        let kept = if components == 0 { !(mask & xcr0) & 3 } else { 0 };
        assert_eq!(word(&core, DATA + 512), present | kept, "{what}");
        assert_eq!(word(&core, DATA + 520), components, "{what}");
        assert_eq!(word(&core, DATA + 416), KEPT, "{what}");
        assert_eq!(word(&core, DATA + 576), KEPT, "{what}");
    }
}

#[test]
fn xrstor_restores_or_initializes() {
    for (save, initial_mxcsr) in [(XSAVE, 0x9f80), (XSAVEC, 0x1f80)] {
        let mut core = saving();
        let (unit, xmm) = (core.fpu.clone(), core.xmm);
        assert_eq!(step(&mut core, save), Ok(()));
        core.fpu.fld(F80::ONE);
        (core.xmm, core.mxcsr) = ([9; 16], 0x1fa0);
        assert_eq!(step(&mut core, XRSTOR), Ok(()));
        assert_eq!((&core.fpu, core.xmm, core.mxcsr), (&unit, xmm, 0x9f80));
        // Only SSE.
        core.fpu.fld(F80::ONE);
        let unit = core.fpu.clone();
        (core.xmm, core.regs[reg::RAX]) = ([9; 16], 2);
        assert_eq!(step(&mut core, XRSTOR), Ok(()));
        assert_eq!((&core.fpu, core.xmm), (&unit, xmm));
        // Neither is in the image: both are initialized; MXCSR comes from a standard image all the same.
        write(&core, DATA + 512, &[0]);
        core.regs[reg::RAX] = 3;
        assert_eq!(step(&mut core, XRSTOR), Ok(()));
        assert_eq!((&core.fpu, core.xmm, core.mxcsr), (&Fpu::initial(), [0; 16], initial_mxcsr));
    }
}

#[test]
fn xrstor_refuses_what_no_xsave_has_written() {
    // Saved how, offset, byte there.
    let cases: [(&[u8], u64, u8); 11] = [
        (XSAVE, 512, 4),
        (XSAVE, 519, 0x80),
        (XSAVE, 520, 1),
        (XSAVE, 528, 1),
        (XSAVE, 535, 1),
        (XSAVE, 26, 1),
        (XSAVEC, 520, 7),
        (XSAVEC, 520, 1),
        (XSAVEC, 528, 1),
        (XSAVEC, 575, 1),
        (XSAVEC, 26, 1),
    ];
    for (save, at, byte) in cases {
        let mut core = saving();
        assert_eq!(step(&mut core, save), Ok(()));
        write(&core, DATA + at, &[byte]);
        core.fpu.fninit();
        core.xmm[3] = 8;
        let unit = core.fpu.clone();
        assert_eq!(step(&mut core, XRSTOR), Err((vector::GP, Some(0))), "{save:02x?} {at} {byte}");
        assert_eq!((&core.fpu, core.xmm[3]), (&unit, 8));
    }
    // Bytes 63:24 of a standard header are nobody's business.
    let mut core = saving();
    assert_eq!(step(&mut core, XSAVE), Ok(()));
    write(&core, DATA + 536, &[1; 40]);
    assert_eq!(step(&mut core, XRSTOR), Ok(()));
    // XCR0 without SSE; a compacted image where XSAVEC is not announced; alignment; no OSXSAVE.
    core.xcr0 = 1;
    assert_eq!(step(&mut core, XRSTOR), Err((vector::GP, Some(0))));
    core.xcr0 = 3;
    write(&core, DATA + 512, &[0; 64]);
    assert_eq!(step(&mut core, XSAVEC), Ok(()));
    core.features.xsavec = false;
    assert_eq!(step(&mut core, XRSTOR), Err((vector::GP, Some(0))));
    assert_eq!(step(&mut core, XSAVEC), Err((vector::UD, None)));
    core.regs[reg::RDI] = DATA + 32;
    assert_eq!(step(&mut core, XSAVE), Err((vector::GP, Some(0))));
    core.cr4 &= !cr::CR4_OSXSAVE;
    assert_eq!(step(&mut core, XSAVE), Err((vector::UD, None)));
    assert_eq!(step(&mut core, XRSTOR), Err((vector::UD, None)));
}

#[test]
fn xcr0_takes_what_there_is() {
    const XGETBV: &[u8] = &[0x0f, 0x01, 0xd0];
    const XSETBV: &[u8] = &[0x0f, 0x01, 0xd1];
    let gp = Err((vector::GP, Some(0)));
    let mut core = core();
    // RAX, RDX, RCX.
    for (rax, rdx, rcx, expected) in [
        (1, 0, 0, Ok(())),
        (3, 0, 0, Ok(())),
        (!0 << 32 | 3, !0 << 32, !0 << 32, Ok(())),
        (2, 0, 0, gp),
        (0, 0, 0, gp),
        (7, 0, 0, gp),
        (3, 1, 0, gp),
        (3, 0, 1, gp),
    ] {
        (core.regs[reg::RAX], core.regs[reg::RDX], core.regs[reg::RCX]) = (rax, rdx, rcx);
        assert_eq!(step(&mut core, XSETBV), expected, "{rax:x} {rdx:x} {rcx:x}");
        core.regs[reg::RCX] = 0;
        assert_eq!(step(&mut core, XGETBV), Ok(()));
        assert_eq!(core.regs[reg::RAX], if expected.is_ok() { rax & 3 } else { 3 });
        assert_eq!(core.regs[reg::RDX], 0);
    }
    core.regs[reg::RCX] = 2;
    assert_eq!(step(&mut core, XGETBV), gp);
    core.regs[reg::RCX] = 0;
    core.seg[seg::SS].access |= 3 << 5;
    core.refresh();
    core.regs[reg::RAX] = 3;
    assert_eq!(step(&mut core, XSETBV), gp);
    assert_eq!(step(&mut core, XGETBV), Ok(()));
    core.cr4 &= !cr::CR4_OSXSAVE;
    assert_eq!(step(&mut core, XGETBV), Err((vector::UD, None)));
    assert_eq!(step(&mut core, XSETBV), Err((vector::UD, None)));
}
