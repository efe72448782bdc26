//! Flags, ports, identification: what programs meet, too.

use super::*;

const HLT: u8 = 0xF4;

#[test]
fn pushf_shows_neither_vm_nor_rf() {
    let mut m = Machine::long();
    m.core().set_rflags(fl::RF | fl::CF | fl::IF | fl::AC);
    m.completes(&[0x9C, HLT]);
    assert_eq!(m.top::<u64>(0), fl::FIXED | fl::CF | fl::IF | fl::AC);
}

fn popf(m: &mut Machine, flags: u64, code: &[u8]) -> u64 {
    m.core().regs[reg::RSP] -= 8;
    let at = m.core().regs[reg::RSP];
    m.put(at, flags);
    m.run(code);
    if m.core().cpl == 0 && m.core().regs[reg::RIP] < HANDLERS { m.core().rflags() } else { m.frame()[2] & !fl::RF }
}

#[test]
fn popf_changes_what_the_level_allows() {
    let all = fl::DEFINED & !(fl::TF | fl::NT);
    let everybody = fl::FIXED | fl::ARITH | fl::DF;
    // Level 0: everything but VM, RF, VIF, VIP.
    let kernel = everybody | fl::IF | fl::IOPL | fl::AC | fl::ID;
    assert_eq!(popf(&mut Machine::long(), all, &[0x9D, HLT]), kernel);
    // 16 bits.
    assert_eq!(popf(&mut Machine::long(), all, &[0x66, 0x9D, HLT]), everybody | fl::IF | fl::IOPL);
    // Level 3 with IOPL 0, then 3.
    assert_eq!(popf(Machine::long().user64(), all, &[0x9D, HLT]), everybody | fl::AC | fl::ID);
    let mut m = Machine::long();
    m.user64().core().set_rflags(fl::IOPL);
    assert_eq!(popf(&mut m, all & !fl::IOPL, &[0x9D, HLT]), everybody | fl::AC | fl::ID | fl::IOPL | fl::IF);
}

#[test]
fn cli_and_sti_ask_for_iopl() {
    for code in [[0xFA, HLT], [0xFB, HLT]] {
        assert_eq!(Machine::long().user64().raises(&code), gp(0));
        let mut m = Machine::long();
        m.user64().core().set_rflags(fl::IOPL | fl::IF);
        assert_eq!(m.raises(&code), gp(0));
        assert_eq!(m.frame()[..1], [CODE + 1]);
        assert_eq!(m.frame()[2] & fl::IF != 0, code[0] == 0xFB);
    }
}

#[test]
fn stac_and_clac() {
    let mut m = Machine::long();
    m.core().cr4 |= cr::CR4_SMAP;
    // Without AC the kernel does not read programs' pages; this machine's are all of them.
    m.put(IDT + 14 * 16 + 4, 0_u8);
    for page in [CODE, STACK, HANDLERS, IDT, GDT, TSS, STACK - 0x1000] {
        m.put(0xB000 + page / 0x1000 * 8, page | 3);
    }
    // stac; mov al, [DATA]; clac; mov al, [DATA]
    let code = [0x0F, 0x01, 0xCB, 0xA0, 0, 0, 4, 0, 0, 0, 0, 0, 0x0F, 0x01, 0xCA, 0xA0, 0, 0, 4, 0, 0, 0, 0, 0];
    assert_eq!(m.raises(&code), (14, Some(1)));
    assert_eq!(m.frame()[0], CODE + 15);
    assert_eq!(Machine::long().user64().raises(&[0x0F, 0x01, 0xCB]), UD);
}

#[test]
fn ports_in_and_out() {
    let mut m = Machine::long();
    // mov edx, 0x3F8; in al, dx; in al, dx; in eax, dx; out 0x80, al; out dx, eax
    m.completes(&[0xBA, 0xF8, 3, 0, 0, 0xEC, 0xEC, 0xED, 0xE6, 0x80, 0xEF, HLT]);
    assert_eq!(m.core().regs[reg::RAX], 0x0605_0403);
    assert_eq!(m.ports.written, [(0x80, vec![3]), (0x3F8, vec![3, 4, 5, 6])]);
}

#[test]
fn repeated_port_strings_ask_once_for_each_iteration() {
    let mut m = Machine::long();
    m.core().regs[reg::RDI] = DATA;
    m.core().regs[reg::RCX] = 4;
    // rep insb
    m.completes(&[0xF3, 0x6C, HLT]);
    assert_eq!((m.get::<u32>(DATA), m.ports.next), (0x0403_0201, 4));
    assert_eq!((m.core().regs[reg::RDI], m.core().regs[reg::RCX]), (DATA + 4, 0));
    let mut m = Machine::long();
    m.put(DATA, 0x4433_2211_u32);
    m.core().regs[reg::RSI] = DATA;
    m.core().regs[reg::RCX] = 2;
    m.core().regs[reg::RDX] = 0x70;
    // rep outsw
    m.completes(&[0xF3, 0x66, 0x6F, HLT]);
    assert_eq!(m.ports.written, [(0x70, vec![0x11, 0x22]), (0x70, vec![0x33, 0x44])]);
    // A fault in the middle: what was done stays done, and the device is not asked in vain.
    let mut m = Machine::long();
    m.core().regs[reg::RDI] = HOLE - 2;
    m.core().regs[reg::RCX] = 4;
    assert_eq!(m.raises(&[0xF3, 0x6C, HLT]), (14, Some(2)));
    assert_eq!((m.core().regs[reg::RDI], m.core().regs[reg::RCX], m.ports.next), (HOLE, 2, 2));
    assert_eq!(m.frame()[0], CODE);
}

#[test]
fn the_io_map_says_which_ports_programs_may_use() {
    let inb = [0xE4, 0x60, 0xFA];
    // A set bit refuses.
    assert_eq!(Machine::long().user64().raises(&inb), gp(0));
    let mut m = Machine::long();
    m.put(TSS + 0x68 + 0x60 / 8, 0xFE_u8);
    assert_eq!(m.user64().raises(&inb), gp(0));
    // CLI was reached.
    assert_eq!((m.frame()[0], m.ports.next), (CODE + 2, 1));
    // All bits of a wide access count.
    let mut m = Machine::long();
    m.put(TSS + 0x68 + 0x60 / 8, 0xFE_u8);
    m.user64();
    assert_eq!(m.raises(&[0xE5, 0x60, 0xFA]), gp(0));
    assert_eq!(m.frame()[0], CODE);
    // IOPL makes it free; a TSS that ends before the map refuses.
    let mut m = Machine::long();
    m.user64().core().set_rflags(fl::IOPL);
    m.run(&[0xE4, 0x60, HLT]);
    assert_eq!((m.caught(), m.ports.next), (gp(0), 1));
    let mut m = Machine::long();
    m.put(TSS + 0x68 + 0x60 / 8, 0_u16);
    m.core().tr.limit = 0x68 + 0x60 / 8;
    assert_eq!(m.user64().raises(&inb), gp(0));
    assert_eq!(m.frame()[0], CODE);
}

#[test]
fn port_breakpoints_are_traps() {
    // in al, 0x61 with a breakpoint on ports 0x60 and 0x61; behind it the trap.
    let with = |cr4: u64, code: &[u8]| {
        let mut m = Machine::long();
        m.core().cr4 |= cr4;
        m.core().dr[2] = 0x60;
        m.core().dr7 = 0x400 | 1 << 4 | 6 << 24;
        m.run(code);
        (m.core().regs[reg::RIP], m.core().dr6)
    };
    assert_eq!(with(cr::CR4_DE, &[0xE4, 0x61, HLT]), (HANDLERS + 17, 0xFFFF_0FF4));
    assert_eq!(with(cr::CR4_DE, &[0xE6, 0x60, HLT]), (HANDLERS + 17, 0xFFFF_0FF4));
    assert_eq!(with(cr::CR4_DE, &[0xE4, 0x62, HLT]), (CODE + 3, 0xFFFF_0FF0));
    assert_eq!(with(0, &[0xE4, 0x61, HLT]), (CODE + 3, 0xFFFF_0FF0));
}

#[test]
fn hlt_waits_and_is_not_for_programs() {
    assert_eq!(Machine::long().user64().raises(&[HLT]), gp(0));
}

#[test]
fn identification_time_and_chance() {
    let mut m = Machine::long();
    m.core().regs[reg::RAX] = 0xFFFF_FFFF_0000_0000;
    m.completes(&[0x0F, 0xA2, HLT]);
    assert_eq!(m.core().regs[reg::RBX], 0x756E_6547);
    // rdtsc; mov ecx, eax; rdtsc
    let mut m = Machine::long();
    m.completes(&[0x0F, 0x31, 0x89, 0xC1, 0x0F, 0x31, HLT]);
    assert!(m.core().regs[reg::RAX] >= m.core().regs[reg::RCX]);
    let mut m = Machine::long();
    m.core().msr.tsc_aux = 7;
    m.completes(&[0x0F, 0x01, 0xF9, HLT]);
    assert_eq!(m.core().regs[reg::RCX], 7);
    let mut m = Machine::long();
    m.core().cr4 |= cr::CR4_TSD;
    assert_eq!(m.user64().raises(&[0x0F, 0x31]), gp(0));
    assert_eq!(Machine::long().raises(&[0x0F, 0x33]), gp(0));
    // rdrand rcx; rdseed rdx
    let mut m = Machine::long();
    m.completes(&[0x48, 0x0F, 0xC7, 0xF1, 0x48, 0x0F, 0xC7, 0xFA, HLT]);
    assert_eq!(m.core().rflags(), fl::FIXED | fl::CF);
    let regs = m.core().regs;
    assert_ne!(regs[reg::RCX], regs[reg::RDX]);
}

#[test]
fn bases_of_fs_and_gs() {
    let mut m = Machine::long();
    // wrfsbase rcx without CR4.FSGSBASE
    assert_eq!(m.raises(&[0xF3, 0x48, 0x0F, 0xAE, 0xD1]), UD);
    let mut m = Machine::long();
    m.core().cr4 |= cr::CR4_FSGSBASE;
    m.core().regs[reg::RCX] = 0xFFFF_8000_0000_1234;
    // wrgsbase rcx; rdgsbase eax; swapgs; rdgsbase rdx
    m.completes(&[
        0xF3, 0x48, 0x0F, 0xAE, 0xD9, 0xF3, 0x0F, 0xAE, 0xC8, 0x0F, 0x01, 0xF8, 0xF3, 0x48, 0x0F, 0xAE, 0xCA, HLT,
    ]);
    assert_eq!((m.core().regs[reg::RAX], m.core().regs[reg::RDX]), (0x1234, 0));
    assert_eq!(m.core().msr.kernel_gs_base, 0xFFFF_8000_0000_1234);
    let mut m = Machine::long();
    m.core().cr4 |= cr::CR4_FSGSBASE;
    m.core().regs[reg::RCX] = 1 << 47;
    assert_eq!(m.raises(&[0xF3, 0x48, 0x0F, 0xAE, 0xD1]), gp(0));
    assert_eq!(Machine::long().user64().raises(&[0x0F, 0x01, 0xF8]), gp(0));
}

#[test]
fn hints_do_nothing_and_flushes_look_at_the_page() {
    let mut m = Machine::long();
    // nop [rax]; endbr64; prefetcht0 [HOLE]; lfence; mfence; sfence; pause; prefetchw [HOLE]; nopw; reserved 0F 1D
    m.completes(&[
        0x0F, 0x1F, 0x00, 0xF3, 0x0F, 0x1E, 0xFA, 0x0F, 0x18, 0x0C, 0x25, 0, 0, 5, 0, 0x0F, 0xAE, 0xE8, 0x0F, 0xAE,
        0xF0, 0x0F, 0xAE, 0xF8, 0xF3, 0x90, 0x0F, 0x0D, 0x0C, 0x25, 0, 0, 5, 0, 0x66, 0x90, 0x0F, 0x1D, 0xC0, HLT,
    ]);
    // rdsspq rax keeps RAX where there are no shadow stacks.
    let mut m = Machine::long();
    m.core().regs[reg::RAX] = 0x1234;
    m.completes(&[0xF3, 0x48, 0x0F, 0x1E, 0xC8, HLT]);
    assert_eq!(m.core().regs[reg::RAX], 0x1234);
    // clflush [HOLE], clflushopt [HOLE]
    assert_eq!(Machine::long().raises(&[0x0F, 0xAE, 0x3C, 0x25, 0, 0, 5, 0]), (14, Some(0)));
    assert_eq!(Machine::long().raises(&[0x66, 0x0F, 0xAE, 0x3C, 0x25, 0, 0, 5, 0]), (14, Some(0)));
    // ud0, ud1, ud2, monitor, mwait, vmxoff, rsm
    for code in [
        &[0x0F, 0xFF, 0xC0][..],
        &[0x0F, 0xB9, 0xC0],
        &[0x0F, 0x0B],
        &[0x0F, 0x01, 0xC8],
        &[0x0F, 0x01, 0xC9],
        &[0x0F, 0xAA],
    ] {
        assert_eq!(Machine::long().raises(code), UD, "{code:x?}");
    }
}

#[test]
fn hypercalls_do_not_exist() {
    let mut m = Machine::long();
    m.completes(&[0x0F, 0x01, 0xC1, HLT]);
    assert_eq!(m.core().regs[reg::RAX] as i64, -1000);
}

#[test]
fn bound_compares_signed() {
    for (index, fits) in [(-2_i32, true), (5, true), (-3, false), (6, false)] {
        let mut m = Machine::protected();
        m.put(DATA, -2_i32 as u32);
        m.put(DATA + 4, 5_u32);
        m.core().regs[reg::RAX] = u64::from(index as u32);
        let code = [0x62, 0x05, 0, 0, 4, 0, HLT];
        if fits { m.completes(&code) } else { assert_eq!(m.raises(&code), (5, None)) }
    }
}

#[test]
fn into_looks_at_of() {
    let mut m = Machine::protected();
    m.core().set_rflags(fl::OF);
    assert_eq!(m.user32().raises(&[0xCE]), gp(4 * 8 + 2));
    let mut m = Machine::protected();
    m.core().set_rflags(fl::OF);
    assert_eq!(m.raises(&[0xCE]), (4, None));
    Machine::protected().completes(&[0xCE, HLT]);
}
