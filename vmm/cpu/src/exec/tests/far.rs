//! Far transfers, IRET and the fast system calls.

use super::*;

const HLT: u8 = 0xF4;
const TARGET: u64 = 0x1_8000;

/// jmp far [DATA], 64-bit operand.
const JUMP: [u8; 8] = [0x48, 0xFF, 0x2C, 0x25, 0, 0, 4, 0];
/// call far [DATA], 64-bit operand.
const CALL: [u8; 8] = [0x48, 0xFF, 0x1C, 0x25, 0, 0, 4, 0];

fn to(mut m: Machine, selector: u16, ip: u64) -> Machine {
    m.put(DATA, ip);
    m.put(DATA + 8, selector);
    m.put(TARGET, HLT);
    m
}

#[test]
fn jumps_between_64_bit_and_compatibility_mode() {
    let mut m = to(Machine::long(), CODE32, TARGET);
    m.completes(&JUMP);
    assert_eq!(m.core().regs[reg::RIP], TARGET + 1);
    assert_eq!((m.core().mode, m.core().long_mode()), (crate::core::Code::Bits32, true));
    // And back: jmp 8:TARGET + 1 with a direct far jump.
    m.core().halted = false;
    m.run(&[0xEA, 0, 0x80, 1, 0, 8, 0]);
    assert_eq!((m.core().regs[reg::RIP], m.core().mode), (TARGET + 1, crate::core::Code::Bits64));
}

#[test]
fn jumps_are_checked() {
    let jump = |selector, ip| to(Machine::long(), selector, ip).raises(&JUMP);
    assert_eq!(jump(0, TARGET), gp(0));
    assert_eq!(jump(0x200, TARGET), gp(0x200));
    assert_eq!(jump(KERNEL_DATA, TARGET), gp(KERNEL_DATA.into()));
    assert_eq!(jump(ABSENT_CODE, TARGET), (11, Some(ABSENT_CODE.into())));
    assert_eq!(jump(USER64, TARGET), gp(u32::from(USER64 & !3)));
    assert_eq!(jump(CODE64 | 3, TARGET), gp(CODE64.into()));
    assert_eq!(jump(CODE64, 1 << 50), gp(0));
    assert_eq!(jump(CODE16, 0x1_0000), gp(0));
    // A TSS or task gate is nothing to jump to in IA-32e mode.
    assert_eq!(jump(TSS_SELECTOR, TARGET), gp(TSS_SELECTOR.into()));
    // Conforming code runs at the caller's level, whatever the RPL.
    let mut m = to(Machine::long(), CONFORMING64 | 3, TARGET);
    m.user64();
    // HLT is #GP(0) for the program that the code now is.
    assert_eq!(m.raises(&JUMP), gp(0));
    assert_eq!(m.frame()[..2], [TARGET, u64::from(CONFORMING64 | 3)]);
}

#[test]
fn a_far_call_comes_back() {
    let mut m = to(Machine::long(), CODE64, TARGET);
    // retf of 64 bits
    m.put(TARGET, 0x48_u8);
    m.put(TARGET + 1, 0xCB_u8);
    let mut code = CALL.to_vec();
    code.push(HLT);
    m.completes(&code);
    assert_eq!(m.core().regs[reg::RIP], CODE + 9);
    assert_eq!(m.core().regs[reg::RSP], STACK);
    assert_eq!([m.get::<u64>(STACK - 8), m.get::<u64>(STACK - 16)], [CODE64.into(), CODE + 8]);
}

fn with_gate(mut m: Machine, attributes: u64, selector: u16) -> Machine {
    let [low, high] = gate64(TARGET, selector, attributes, 0);
    m.put(GDT + u64::from(GATE), low);
    m.put(GDT + u64::from(GATE) + 8, high);
    to(m, GATE | 3, 0)
}

#[test]
fn call_gates_of_64_bit_mode_change_the_level() {
    let mut m = with_gate(Machine::long(), 0xEC, CODE64);
    m.user64();
    m.completes(&CALL);
    assert_eq!(m.core().regs[reg::RIP], TARGET + 1);
    assert_eq!((m.core().cpl, m.core().seg[seg::SS].selector), (0, 0));
    let frame = [0, 1, 2, 3].map(|n| m.top::<u64>(n));
    assert_eq!(frame, [CODE + 8, USER64.into(), USER_STACK, USER_DATA.into()]);
    assert_eq!(m.core().regs[reg::RSP], RSP0 - 32);
    // Back out: the return to level 3 is where HLT is #GP.
    m.core().halted = false;
    let at = m.core().regs[reg::RIP];
    m.put(CODE + 8, HLT);
    m.put(at, 0x48_u8);
    m.put(at + 1, 0xCB_u8);
    m.run(&[]);
    assert_eq!(m.caught(), gp(0));
    assert_eq!(m.frame(), [CODE + 8, USER64.into(), fl::FIXED | fl::RF, USER_STACK, USER_DATA.into()]);
}

#[test]
fn call_gates_are_checked() {
    let call = |attributes, selector| {
        let mut m = with_gate(Machine::long(), attributes, selector);
        m.user64();
        m.raises(&CALL)
    };
    assert_eq!(call(0x8C, CODE64), gp(GATE.into()), "DPL 0");
    assert_eq!(call(0x6C, CODE64), (11, Some(GATE.into())), "not present");
    assert_eq!(call(0xE4, CODE64), gp(GATE.into()), "a 16-bit gate");
    assert_eq!(call(0xEC, 0), gp(0));
    assert_eq!(call(0xEC, CODE32), gp(CODE32.into()), "not 64-bit code");
    assert_eq!(call(0xEC, KERNEL_DATA), gp(KERNEL_DATA.into()));
    assert_eq!(call(0xEC, ABSENT_CODE), (11, Some(ABSENT_CODE.into())));
    let mut m = with_gate(Machine::long(), 0xEC, CODE64);
    m.put(GDT + u64::from(GATE) + 12, 0x0100_u32);
    assert_eq!(m.user64().raises(&CALL), gp(GATE.into()), "type in the second half");
    // A jump does not change the level.
    let mut m = with_gate(Machine::long(), 0xEC, CODE64);
    assert_eq!(m.user64().raises(&JUMP), gp(CODE64.into()));
}

#[test]
fn call_gates_of_protected_mode_copy_parameters() {
    let mut m = Machine::protected();
    m.put(GDT + u64::from(GATE), gate32(TARGET, CODE32, 0xEC) | 2 << 32);
    m.put(TARGET, HLT);
    m.put(USER_STACK - 8, 0x1111_u32);
    m.put(USER_STACK - 4, 0x2222_u32);
    m.user32().core().regs[reg::RSP] = USER_STACK - 8;
    // call GATE:0
    m.completes(&[0x9A, 0, 0, 0, 0, 0x83, 0]);
    let frame = [0, 1, 2, 3, 4, 5].map(|n| u64::from(m.top::<u32>(n)));
    assert_eq!(frame, [CODE + 7, USER32.into(), 0x1111, 0x2222, USER_STACK - 8, USER_DATA.into()]);
    // retf 8 drops them on both stacks.
    m.core().halted = false;
    m.put(CODE + 7, HLT);
    m.run(&[0xCA, 8, 0]);
    assert_eq!(m.caught(), gp(0));
    assert_eq!(u64::from(m.top::<u32>(4)), USER_STACK);
}

/// Pushes a frame of IRETQ: from the top RIP, CS, RFLAGS, RSP, SS.
fn iretq(m: &mut Machine, frame: [u64; 5]) -> Caught {
    for (n, value) in (0..).zip(frame) {
        m.put(STACK - 40 + 8 * n, value);
    }
    m.core().regs[reg::RSP] = STACK - 40;
    m.put(TARGET, HLT);
    m.raises(&[0x48, 0xCF])
}

const USER_FRAME: [u64; 5] = [TARGET, USER64 as u64, fl::FIXED, USER_STACK, USER_DATA as u64];

#[test]
fn iret_to_a_program() {
    let mut m = Machine::long();
    let mut frame = USER_FRAME;
    frame[2] = fl::FIXED | fl::IF | fl::CF | fl::IOPL | fl::ID;
    assert_eq!(iretq(&mut m, frame), gp(0));
    frame[2] |= fl::RF;
    assert_eq!(m.frame(), frame);
    // Data segments of level 0 were taken away.
    assert_eq!(m.core().seg[seg::DS], Seg::unusable(0, 0));
    // To compatibility mode.
    let mut m = Machine::long();
    assert_eq!(iretq(&mut m, [TARGET, USER32.into(), fl::FIXED, USER_STACK, USER_DATA.into()]), gp(0));
    assert_eq!(m.frame()[1], USER32.into());
}

#[test]
fn iret_is_checked() {
    let with = |place: usize, value: u64| {
        let mut frame = USER_FRAME;
        frame[place] = value;
        let mut m = Machine::long();
        let caught = iretq(&mut m, frame);
        // Raised by IRET itself.
        assert_eq!(m.frame()[..2], [CODE, u64::from(CODE64)], "{place} {value:#x}");
        caught
    };
    assert_eq!(with(0, 1 << 50), gp(0));
    assert_eq!(with(1, 0), gp(0));
    assert_eq!(with(1, 3), gp(0));
    assert_eq!(with(1, 0x203), gp(0x200));
    assert_eq!(with(1, USER_DATA.into()), gp(u32::from(USER_DATA & !3)));
    assert_eq!(with(1, u64::from(USER64 & !3)), gp(u32::from(USER64 & !3)));
    assert_eq!(with(1, ABSENT_CODE.into()), (11, Some(ABSENT_CODE.into())));
    assert_eq!(with(4, 0), gp(0));
    assert_eq!(with(4, 3), gp(0));
    assert_eq!(with(4, u64::from(KERNEL_DATA)), gp(KERNEL_DATA.into()));
    assert_eq!(with(4, u64::from(KERNEL_DATA | 3)), gp(KERNEL_DATA.into()));
    assert_eq!(with(4, ABSENT_USER_DATA.into()), (12, Some(u32::from(ABSENT_USER_DATA & !3))));
    // NT.
    let mut m = Machine::long();
    m.core().set_rflags(fl::NT);
    assert_eq!(iretq(&mut m, USER_FRAME), gp(0));
    // A frame that is not there.
    let mut m = Machine::long();
    m.core().regs[reg::RSP] = HOLE;
    m.put(IDT + 14 * 16 + 4, 1_u8);
    assert_eq!(m.raises(&[0x48, 0xCF]), (14, Some(0)));
}

#[test]
fn programs_cannot_change_iopl_or_if_with_iret() {
    let mut m = Machine::long();
    m.user64();
    let frame = [
        TARGET,
        USER64.into(),
        fl::FIXED | fl::IF | fl::IOPL | fl::VIF | fl::CF | fl::AC,
        USER_STACK,
        USER_DATA.into(),
    ];
    assert_eq!(iretq(&mut m, frame), gp(0));
    assert_eq!(m.frame()[2], fl::FIXED | fl::CF | fl::AC | fl::RF);
}

#[test]
fn iret_to_the_same_level_may_have_a_null_stack() {
    let mut m = Machine::long();
    for (n, value) in (0..).zip([TARGET, CODE64.into(), fl::FIXED, USER_STACK, 0]) {
        m.put(STACK - 40 + 8 * n, value);
    }
    m.core().regs[reg::RSP] = STACK - 40;
    m.put(TARGET, HLT);
    m.completes(&[0x48, 0xCF]);
    assert_eq!((m.core().regs[reg::RSP], m.core().seg[seg::SS].selector), (USER_STACK, 0));
}

#[test]
fn iret_in_protected_and_real_mode() {
    let mut m = Machine::protected();
    for (n, value) in (0..).zip([TARGET, CODE32.into(), fl::FIXED | fl::ZF]) {
        m.put(STACK - 12 + 4 * n, value as u32);
    }
    m.core().regs[reg::RSP] = STACK - 12;
    m.put(TARGET, HLT);
    m.completes(&[0xCF]);
    assert_eq!((m.core().regs[reg::RSP], m.core().rflags()), (STACK, fl::FIXED | fl::ZF));
    let mut m = Machine::real();
    m.core().regs[reg::RSP] = 0x7FFA;
    for (n, value) in (0..).zip([0x20_u16, 0x1800, 0x3003]) {
        m.put(0x2_7FFA + 2 * n, value);
    }
    m.put(0x1_8020, HLT);
    m.completes(&[0xCF]);
    assert_eq!((m.core().seg[seg::CS].base, m.core().regs[reg::RSP]), (0x1_8000, 0x8000));
    assert_eq!(m.core().rflags(), fl::FIXED | fl::CF | fl::IOPL);
}

#[test]
fn iret_to_virtual_8086_mode() {
    let mut m = Machine::protected();
    let frame = [0x8000, 0x1000, (fl::FIXED | fl::VM | fl::IOPL) as u32, 0x100, 0x2000, 1, 2, 3, 4];
    for (n, value) in (0..).zip(frame) {
        m.put(STACK - 36 + 4 * n, value);
    }
    m.core().regs[reg::RSP] = STACK - 36;
    // HLT is #GP(0) there.
    m.put(TARGET, HLT);
    assert_eq!(m.raises(&[0xCF]), gp(0));
    let found = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(|n| m.top::<u32>(n));
    let mut expected = frame;
    expected[2] |= fl::RF as u32;
    assert_eq!(found, expected);
    // Beyond 64 KiB there is no code.
    let mut m = Machine::protected();
    m.core().regs[reg::RSP] = STACK - 36;
    for (n, value) in (0..).zip(frame) {
        m.put(STACK - 36 + 4 * n, if n == 0 { 0x1_0000 } else { value });
    }
    assert_eq!(m.raises(&[0xCF]), gp(0));
    assert_eq!(m.top::<u32>(1), CODE as u32);
}

#[test]
fn syscall_and_sysret() {
    let mut m = Machine::long();
    m.put(TARGET, HLT);
    m.core().msr.star = u64::from(CODE64) << 32 | 0x23 << 48;
    m.core().msr.lstar = TARGET;
    m.core().msr.sfmask = fl::IF | fl::TF | fl::AC;
    m.user64().core().set_rflags(fl::IF | fl::CF | fl::AC);
    m.completes(&[0x0F, 0x05]);
    assert_eq!((m.core().cpl, m.core().rflags()), (0, fl::FIXED | fl::CF));
    assert_eq!((m.core().regs[reg::RCX], m.core().regs[reg::R11]), (CODE + 2, fl::FIXED | fl::IF | fl::CF | fl::AC));
    assert_eq!((m.core().seg[seg::CS].selector, m.core().seg[seg::SS].selector), (CODE64, KERNEL_DATA));
    assert_eq!(m.core().regs[reg::RSP], USER_STACK);
    // sysretq
    m.core().halted = false;
    m.put(CODE + 2, HLT);
    m.run(&[0x48, 0x0F, 0x07]);
    assert_eq!(m.caught(), gp(0));
    let flags = fl::FIXED | fl::IF | fl::CF | fl::AC | fl::RF;
    assert_eq!(m.frame(), [CODE + 2, USER64.into(), flags, USER_STACK, USER_DATA.into()]);
}

#[test]
fn syscall_where_it_is_not() {
    let mut m = Machine::long();
    m.core().efer &= !cr::EFER_SCE;
    assert_eq!(m.raises(&[0x0F, 0x05]), UD);
    // Outside 64-bit mode (the way of Intel's).
    assert_eq!(Machine::protected().raises(&[0x0F, 0x05]), UD);
    assert_eq!(Machine::long().user32().raises(&[0x0F, 0x05]), UD);
    assert_eq!(Machine::long().user64().raises(&[0x48, 0x0F, 0x07]), gp(0));
    let mut m = Machine::long();
    m.core().regs[reg::RCX] = 1 << 47;
    assert_eq!(m.raises(&[0x48, 0x0F, 0x07]), gp(0));
}

#[test]
fn sysenter_and_sysexit() {
    let mut m = Machine::long();
    assert_eq!(m.user64().raises(&[0x0F, 0x34]), gp(0));
    let mut m = Machine::long();
    m.put(TARGET, HLT);
    m.core().msr.sysenter_cs = CODE64.into();
    m.core().msr.sysenter_eip = TARGET;
    m.core().msr.sysenter_esp = RSP0;
    m.user32().core().set_rflags(fl::IF | fl::CF);
    m.completes(&[0x0F, 0x34]);
    assert_eq!((m.core().regs[reg::RSP], m.core().rflags()), (RSP0, fl::FIXED | fl::CF));
    assert_eq!((m.core().cpl, m.core().mode), (0, crate::core::Code::Bits64));
    // sysexit to 32-bit code: CS + 16, SS + 24.
    m.core().msr.sysenter_cs = 0x10;
    m.core().halted = false;
    m.core().regs[reg::RDX] = CODE + 0x100;
    m.core().regs[reg::RCX] = USER_STACK;
    m.put(CODE + 0x100, HLT);
    m.run(&[0x0F, 0x35]);
    assert_eq!(m.caught(), gp(0));
    assert_eq!(m.frame(), [CODE + 0x100, 0x23, fl::FIXED | fl::CF | fl::RF, USER_STACK, 0x2B]);
}
