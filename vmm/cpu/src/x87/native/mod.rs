//! Every instruction, executed by the host's own floating-point unit and by ours, from the same state.
//!
//! Rules for unsafe code here: 1. the only unsafe operations are the assembly of [`host!`] and of [`encoded`]; 2. they
//! load the whole unit from an image, run one instruction and save the whole unit, which also initializes it as the ABI
//! wants it; 3. no image has an unmasked exception pending, so nothing traps; 4. memory is touched through RDI only,
//! where there are sixteen bytes that belong to the caller.

#![allow(unsafe_code, reason = "tests call the host's own instructions")]

use std::arch::{asm, global_asm};

use super::{F80, Fpu, Layout};

/// An FNSAVE image in the 32-bit protected format.
#[repr(C, align(16))]
#[derive(Clone)]
pub(crate) struct Image([u8; 128]);

/// Runs an instruction on the host: image, the operand's memory, flags before; returns the flags after.
type Host = fn(&mut Image, &mut [u8; 16], u64) -> u64;
/// Runs it on ours.
type Ours = fn(&mut Fpu, &mut [u8; 16], &mut u64);

macro_rules! host {
    ($text:literal) => {{
        fn run(image: &mut Image, memory: &mut [u8; 16], flags: u64) -> u64 {
            let after: u64;
            // SAFETY: rules 2 to 4 above; every register of the unit and the flags are declared as clobbered (flags by
            // default).
            unsafe {
                asm!(
                    "frstor [{image}]",
                    "push {flags}",
                    "popfq",
                    $text,
                    "pushfq",
                    "pop {flags}",
                    "fnsave [{image}]",
                    image = in(reg) image,
                    flags = inout(reg) flags => after,
                    in("rdi") memory,
                    out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                    out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                    out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
                    out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
                );
            }
            after
        }
        run as Host
    }};
}

mod cases;
mod compare;
mod random;

pub(crate) use random::Random;

// Every opcode from D8 to DF with every second byte, each followed by a return: four bytes apiece.
global_asm!(
    ".pushsection .text",
    "bulla_cpu_x87_encodings:",
    ".set bulla_first, 0xd8",
    ".rept 8",
    ".set bulla_second, 0",
    ".rept 256",
    ".byte bulla_first, bulla_second, 0xc3, 0x90",
    ".set bulla_second, bulla_second + 1",
    ".endr",
    ".set bulla_first, bulla_first + 1",
    ".endr",
    ".popsection",
);

/// Runs the instruction `opcode` on the host; returns the flags and AX after. The second byte names registers, or RDI
/// as the address of an operand of at most sixteen bytes; the instruction must be a defined one.
pub(crate) fn encoded(opcode: [u8; 2], image: &mut Image, memory: &mut [u8; 16], flags: u64) -> (u64, u16) {
    let [first, second] = opcode;
    assert!((0xd8..=0xdf).contains(&first) && (second >= 0xc0 || second & 0xc7 == 7));
    let index = u64::from(first - 0xd8) << 8 | u64::from(second);
    let (after, ax): (u64, u64);
    // SAFETY: rules 2 to 4 above; the table has an entry for every index below 2048.
    unsafe {
        asm!(
            "frstor [rsi]",
            "lea rcx, [rip + bulla_cpu_x87_encodings]",
            "lea rcx, [rcx + 4 * rdx]",
            "push {flags}",
            "popfq",
            "call rcx",
            "pushfq",
            "pop {flags}",
            "fnsave [rsi]",
            flags = inout(reg) flags => after,
            in("rsi") image,
            in("rdi") memory,
            in("rdx") index,
            out("rcx") _,
            inout("rax") 0u64 => ax,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
            out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
        );
    }
    (after, ax as u16)
}

impl Image {
    pub(crate) fn of(unit: &Fpu) -> Self {
        let mut bytes = [0; 128];
        bytes[..28].copy_from_slice(&unit.environment(Layout::Protected32));
        for i in 0..8 {
            let at = 28 + 10 * usize::from(i);
            bytes[at..at + 10].copy_from_slice(&unit.raw(i).to_bytes());
        }
        Self(bytes)
    }

    pub(crate) fn unit(&self) -> Fpu {
        let mut unit = Fpu::initial();
        let mut environment = [0; 28];
        environment.copy_from_slice(&self.0[..28]);
        unit.set_environment(Layout::Protected32, &environment);
        for i in 0..8 {
            let at = 28 + 10 * usize::from(i);
            unit.set_raw(i, F80::from_bytes(self.0[at..at + 10].try_into().unwrap()));
        }
        (unit.opcode, unit.ip, unit.dp) = (0, 0, 0);
        unit
    }

    /// Status, tags and control as they are in memory, before any interpretation of ours.
    pub(crate) fn words(&self) -> [u16; 3] {
        [0, 4, 8].map(|at| u16::from_le_bytes([self.0[at], self.0[at + 1]]))
    }
}
