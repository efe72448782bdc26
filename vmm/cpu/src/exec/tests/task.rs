//! Task switches (SDM vol. 3A, chapter 7).

use super::*;

const HLT: u8 = 0xF4;
const OTHER: u16 = 0xB0;
const OTHER_TSS: u64 = 0x7000;
const TASK_GATE: u16 = 0xB8;
const ENTRY: u64 = 0x1_8000;
const OTHER_STACK: u64 = 0x2_8000;

/// A second task of level 0 that halts at once, and the first one's TSS marked busy.
fn machine() -> Machine {
    let mut m = Machine::protected();
    m.put(GDT + u64::from(TSS_SELECTOR) + 5, 0x8B_u8);
    m.put(GDT + u64::from(OTHER), 0x0000_8900_7000_0067_u64);
    m.put(GDT + u64::from(TASK_GATE), gate32(0, OTHER, 0x85));
    m.put(OTHER_TSS + 0x20, ENTRY as u32);
    m.put(OTHER_TSS + 0x24, (fl::FIXED | fl::CF) as u32);
    m.put(OTHER_TSS + 0x28, 0xAAAA_u32);
    m.put(OTHER_TSS + 0x38, OTHER_STACK as u32);
    for (k, selector) in (0..).zip([KERNEL_DATA, CODE32, KERNEL_DATA, KERNEL_DATA, 0, USER_DATA]) {
        m.put(OTHER_TSS + 0x48 + 4 * k, selector);
    }
    m.put(ENTRY, HLT);
    m
}

fn busy(m: &mut Machine, selector: u16) -> bool {
    m.get::<u8>(GDT + u64::from(selector) + 5) & 2 != 0
}

/// jmp or call selector:0.
fn far(opcode: u8, selector: u16) -> [u8; 7] {
    [opcode, 0, 0, 0, 0, selector as u8, 0]
}

#[test]
fn a_jump_saves_the_old_task_and_loads_the_new_one() {
    for selector in [OTHER, TASK_GATE] {
        let mut m = machine();
        m.core().regs[reg::RBX] = 0xBBBB;
        m.core().set_rflags(fl::ZF);
        m.completes(&far(0xEA, selector));
        assert_eq!((m.core().regs[reg::RIP], m.core().regs[reg::RSP]), (ENTRY + 1, OTHER_STACK));
        assert_eq!((m.core().regs[reg::RAX], m.core().regs[reg::RBX]), (0xAAAA, 0));
        assert_eq!((m.core().rflags(), m.core().cr0 & cr::CR0_TS), (fl::FIXED | fl::CF, cr::CR0_TS));
        assert_eq!((m.core().tr.selector, m.core().tr.base, m.core().tr.kind()), (OTHER, OTHER_TSS, 11));
        assert_eq!((m.core().seg[seg::FS].usable(), m.core().seg[seg::GS].selector), (false, USER_DATA));
        assert_eq!((busy(&mut m, TSS_SELECTOR), busy(&mut m, OTHER)), (false, true));
        let saved = [0x20, 0x24, 0x34, 0x38, 0x4C].map(|at| u64::from(m.get::<u32>(TSS + at)));
        assert_eq!(saved, [CODE + 7, fl::FIXED | fl::ZF, 0xBBBB, STACK, CODE32.into()]);
    }
}

#[test]
fn a_call_nests_and_iret_comes_back() {
    let mut m = machine();
    m.put(ENTRY, 0xCF_u8);
    m.put(ENTRY + 1, HLT);
    let mut code = far(0x9A, OTHER).to_vec();
    code.push(HLT);
    m.completes(&code);
    assert_eq!((m.core().regs[reg::RIP], m.core().regs[reg::RSP]), (CODE + 8, STACK));
    assert_eq!(m.get::<u16>(OTHER_TSS), TSS_SELECTOR);
    // The saved image of the nested task has NT clear again.
    assert_eq!(m.get::<u32>(OTHER_TSS + 0x24), (fl::FIXED | fl::CF) as u32);
    assert_eq!(m.get::<u32>(OTHER_TSS + 0x20), ENTRY as u32 + 1);
    assert_eq!((busy(&mut m, TSS_SELECTOR), busy(&mut m, OTHER), m.core().flags & fl::NT), (true, false, 0));
}

#[test]
fn an_exception_through_a_task_gate_pushes_its_error_code_there() {
    let mut m = machine();
    m.put(IDT + 13 * 8, gate32(0, OTHER, 0x85));
    m.core().set_rflags(fl::IF);
    // mov ds, [a bad selector]
    m.core().regs[reg::RAX] = 0x200;
    m.run(&[0x8E, 0xD8]);
    assert_eq!((m.core().regs[reg::RIP], m.core().regs[reg::RSP]), (ENTRY + 1, OTHER_STACK - 4));
    assert_eq!(m.top::<u32>(0), 0x200);
    assert_eq!(u64::from(m.get::<u32>(TSS + 0x20)), CODE);
    assert_eq!(u64::from(m.get::<u32>(TSS + 0x24)), fl::FIXED | fl::IF | fl::RF);
    assert_eq!(m.core().rflags(), fl::FIXED | fl::CF | fl::NT);
}

#[test]
fn tasks_that_cannot_be_switched_to() {
    let call = |change: &dyn Fn(&mut Machine)| {
        let mut m = machine();
        change(&mut m);
        let caught = m.raises(&far(0x9A, OTHER));
        (caught, u64::from(m.top::<u32>(1)))
    };
    let descriptor = GDT + u64::from(OTHER);
    assert_eq!(call(&|m| m.put(descriptor + 5, 0x8B_u8)), (gp(OTHER.into()), CODE), "busy");
    assert_eq!(call(&|m| m.put(descriptor + 5, 0x09_u8)), ((11, Some(OTHER.into())), CODE), "not present");
    assert_eq!(call(&|m| m.put(descriptor, 0x66_u16)), ((10, Some(OTHER.into())), CODE), "too short");
    // Faults of the new task's own segments are raised in it, with its first instruction as theirs.
    assert_eq!(call(&|m| m.put(OTHER_TSS + 0x54, 0x200_u16)), ((10, Some(0x200)), ENTRY), "bad DS");
    assert_eq!(call(&|m| m.put(OTHER_TSS + 0x54, ABSENT_DATA)), ((11, Some(ABSENT_DATA.into())), ENTRY));
    // Before SS is loaded there is no stack for a handler that is not a task itself.
    for (at, bad) in [(0x4C, 0), (0x60, OTHER), (0x50, READ_ONLY)] {
        let mut m = machine();
        m.put(OTHER_TSS + at, bad);
        assert_eq!(m.try_run(&far(0x9A, OTHER)), Some(Exit::Shutdown), "{at:#x}");
        let mut m = machine();
        m.put(OTHER_TSS + at, bad);
        m.put(GDT + 0xC0, 0x0000_8900_7800_0067_u64);
        m.put(IDT + 10 * 8, gate32(0, 0xC0, 0x85));
        for field in (0..0x68).step_by(4) {
            let value: u32 = m.get(OTHER_TSS + field);
            m.put(0x7800 + field, value);
        }
        m.put(0x7800 + 0x4C, CODE32);
        m.put(0x7800 + 0x50, KERNEL_DATA);
        m.put(0x7800 + 0x60, 0_u16);
        m.run(&far(0x9A, OTHER));
        assert_eq!((m.core().regs[reg::RIP], m.core().tr.selector), (ENTRY + 1, 0xC0));
        assert_eq!(m.top::<u32>(0), u32::from(bad), "{at:#x}");
    }
}

#[test]
fn a_return_to_a_task_that_is_not_busy() {
    let mut m = machine();
    m.put(TSS, OTHER);
    m.core().set_rflags(fl::NT);
    assert_eq!(m.raises(&[0xCF]), (10, Some(OTHER.into())));
}

#[test]
fn a_task_to_be_traced_traps_at_once() {
    let mut m = machine();
    m.put(OTHER_TSS + 0x64, 1_u16);
    assert_eq!(m.raises(&far(0xEA, OTHER)), (1, None));
    assert_eq!(u64::from(m.top::<u32>(0)), ENTRY);
    assert_eq!(m.core().dr6 & 0xE000, 1 << 15);
}
