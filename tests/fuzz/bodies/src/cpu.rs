//! The software processor: any memory, any state, ten thousand steps.

use bulla_cpu::Exit;
use bulla_cpu::core::Table;
use bulla_cpu::insn::seg;

use crate::machine::{CODE, GDT, HANDLER, IDT, MODES, Machine, TABLES};
use crate::script::Script;

/// Instructions that a guest may try.
const STEPS: u64 = 10_000;
/// Looks at the devices before a guest that only waits is kicked.
const LOOKS: u64 = 2_000;
/// Pages of memory.
const PAGES: usize = 64;

/// A mode, bits, words of its tables and control registers, and code; the rest of memory is made from a number.
///
/// - byte 0: the mode, of [`MODES`]; byte 1: [`bit`]s; byte 2: how many table words follow, each two bytes of place and
///   eight of value; then eight bytes each for the general registers' seed and the bits of RFLAGS;
/// - a sized string: the code at [`CODE`]; a sized string: that of the exception handler, if there is any;
/// - the rest, repeated, fills all memory above the tables and behind the code.
///
/// Claims: the processor comes back after the steps it was given, or says why it cannot go on; the same bytes lead to the
/// same state twice; the state is one that a processor can be started from, and reads back the same; decoded code stays
/// within its bound.
pub fn cpu(bytes: &[u8]) -> bool {
    let Some(first) = attempt(bytes) else { return false };
    let second = attempt(bytes);
    assert!(second.as_ref() == Some(&first), "the same machine did something else");
    first.retired >= 50
}

/// Bits of byte 1.
mod bit {
    /// RFLAGS as given (TF, AC, IOPL, NT …), else none.
    pub(super) const FLAGS: u8 = 1;
    /// An empty IDT.
    pub(super) const NO_IDT: u8 = 2;
    /// SMEP, SMAP, UMIP, PCIDE and PGE where the mode has them.
    pub(super) const GUARDED: u8 = 4;
    /// Segment limits of 64 KiB.
    pub(super) const SHORT: u8 = 8;
    /// FPU and SSE switched off.
    pub(super) const NO_FPU: u8 = 16;
    /// A breakpoint on the code's first page of data.
    pub(super) const BREAK: u8 = 32;
}

#[derive(PartialEq)]
struct Ended {
    exit: Option<Exit>,
    retired: u64,
    state: bulla_cpu::state::State,
}

fn attempt(bytes: &[u8]) -> Option<Ended> {
    let mut script = Script::new(bytes);
    let mode = MODES[usize::from(script.byte()?) % MODES.len()];
    let bits = script.byte()?;
    let words = script.byte()?;
    let mut machine = Machine::new(PAGES, mode);
    for _ in 0..words {
        let place = u64::from(u16::from_le_bytes(script.array()?));
        let value = u64::from_le_bytes(script.array()?);
        // Tables lie between the first page and the code.
        let tables = CODE - TABLES[0];
        machine.put(TABLES[0] + place * 8 % tables, value);
    }
    let seed = u64::from_le_bytes(script.array()?);
    let flags = u64::from_le_bytes(script.array()?);
    let code = script.sized()?;
    let handler = script.sized()?;
    fill(&mut machine, script.rest());
    machine.write(CODE, code);
    if !handler.is_empty() {
        machine.write(HANDLER, handler);
    }
    let mut state = machine.state();
    let mut number = seed;
    for (n, register) in state.regs.iter_mut().enumerate() {
        number = number.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        // The stack pointer stays; every other register that is not huge points somewhere into memory.
        if n != 4 {
            *register = if number >> 62 == 0 { number } else { number >> 46 };
        }
    }
    if bits & bit::FLAGS != 0 {
        // No virtual-8086 mode, which no such state may be in.
        state.rflags = flags & 0x3D_7FD5 | 2;
    }
    if bits & bit::NO_IDT != 0 {
        state.idtr = Table { base: 0, limit: 0 };
    }
    if bits & bit::GUARDED != 0 && state.cr4 & 0x20 != 0 && state.efer & 0x400 != 0 {
        state.cr4 |= 0x32_0800;
    }
    if bits & bit::SHORT != 0 {
        state.seg.iter_mut().for_each(|segment| segment.limit = 0xFFFF);
    }
    if bits & bit::NO_FPU != 0 {
        state.cr0 |= 0xC;
    }
    if bits & bit::BREAK != 0 {
        state.dr = [HANDLER, CODE + 0x1000, GDT, IDT];
        state.dr7 = 0x0D3B_04AA;
    }
    state.seg[seg::FS].base = number >> 44;
    if machine.cpu.core_mut(0)?.set_state(&state).is_err() {
        return None;
    }
    let exit = machine.run(STEPS, LOOKS);
    let retired = machine.cpu.retired();
    assert!(retired < STEPS + 32_768, "{retired} instructions when {STEPS} were allowed");
    assert!(machine.cpu.cached() < 400_000);
    let state = machine.state();
    machine.set_state(&state);
    assert!(machine.state() == state, "a state that came out does not go in");
    Some(Ended { exit, retired, state })
}

/// Repeats `pattern` over the memory behind the code's first page.
fn fill(machine: &mut Machine, pattern: &[u8]) {
    if pattern.is_empty() {
        return;
    }
    let word = |n: u64| {
        let byte = |k: u64| pattern[((8 * n + k) % pattern.len() as u64) as usize];
        u64::from_le_bytes(std::array::from_fn(|k| byte(k as u64)))
    };
    for gpa in (0x1_0000..PAGES as u64 * 4096).step_by(8) {
        machine.put(gpa, word(gpa / 8));
    }
}
