//! How many guest instructions a second: `cargo run --release -p bulla-cpu --example mips [MILLIONS]`.
//!
//! Each loop runs in 64-bit mode with paging on, that many millions of instructions (40), five times; the best of them is
//! printed, because the others are the machine's noise.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use bulla_cpu::insn::reg;
use common::{CODE, Machine, Mode, PT, TABLES};

/// Arithmetic, flags, a branch, loads and stores that hit one line.
const INTEGER: [u8; 36] = [
    0x48, 0x01, 0xD8, // add rax, rbx
    0x48, 0x31, 0xC2, // xor rdx, rax
    0x48, 0xC1, 0xC2, 7, // rol rdx, 7
    0x48, 0x8D, 0x5C, 0x13, 3, // lea rbx, [rbx + rdx + 3]
    0x48, 0x89, 0x17, // mov [rdi], rdx
    0x48, 0x03, 0x07, // add rax, [rdi]
    0x48, 0x39, 0xD8, // cmp rax, rbx
    0x72, 3, // jb over
    0x48, 0xFF, 0xC6, // inc rsi
    0x0F, 0xB6, 0xF2, // over: movzx esi, dl
    0xFF, 0xC9, // dec ecx
    0xEB, 0xDC, // jmp again
];

/// Words from here to there, a quarter of a megabyte.
const COPY: [u8; 19] = [
    0x48, 0x8B, 0x04, 0x0E, // mov rax, [rsi + rcx]
    0x48, 0x89, 0x04, 0x0F, // mov [rdi + rcx], rax
    0x83, 0xC1, 8, // add ecx, 8
    0x81, 0xE1, 0xF8, 0xFF, 3, 0, // and ecx, 0x3FFF8
    0xEB, 0xED, // jmp again
];

/// 64 KiB at a time, counted in EBX.
const BLOCKS: [u8; 21] = [
    0xB9, 0, 0, 1, 0, // mov ecx, 0x10000
    0xF3, 0xA4, // rep movsb
    0xBE, 0, 0, 0x10, 0, // mov esi, 0x100000
    0xBF, 0, 0, 0x18, 0, // mov edi, 0x180000
    0xFF, 0xC3, // inc ebx
    0xEB, 0xEB, // jmp again
];

/// Another address space every few instructions, and one translation dropped.
const PAGING: [u8; 20] = [
    0x0F, 0x22, 0xD8, // mov cr3, rax
    0x48, 0x8B, 0x0E, // mov rcx, [rsi]
    0x48, 0x89, 0x0F, // mov [rdi], rcx
    0x0F, 0x01, 0x3F, // invlpg [rdi]
    0x48, 0x89, 0x0F, // mov [rdi], rcx
    0x48, 0xFF, 0xC1, // inc rcx
    0xEB, 0xEC, // jmp again
];

/// A program's side of system calls: the number, the call, again.
const CALLS: [u8; 9] = [
    0xB8, 39, 0, 0, 0, // mov eax, 39
    0x0F, 0x05, // syscall
    0xEB, 0xF7, // jmp again
];

/// The other side: another stack, and back.
const ANSWER: [u8; 20] = [
    0x0F, 0x01, 0xF8, // swapgs
    0x48, 0x89, 0xE3, // mov rbx, rsp
    0x83, 0xC0, 1, // add eax, 1
    0x48, 0x89, 0xDC, // mov rsp, rbx
    0x0F, 0x01, 0xF8, // swapgs
    0x48, 0x0F, 0x07, // sysretq
    0x90, 0x90,
];

/// Where the system call's code is.
const KERNEL: u64 = 0x9000;

fn prepare(code: &[u8], mode: Mode) -> Machine {
    let mut machine = Machine::new(1024, mode);
    machine.write(CODE, code);
    machine.write(KERNEL, &ANSWER);
    // A second address space: the same tables below another root.
    let root = 0x10000;
    machine.put(root, TABLES[1] | 7);
    // Pages of code and data that stay: global.
    for page in 8..10 {
        machine.put(PT + 8 * page, page << 12 | 0x107);
    }
    machine.change(|state| {
        state.regs[reg::RAX] = root;
        state.regs[reg::RBX] = 0;
        state.regs[reg::RSI] = 0x10_0000;
        state.regs[reg::RDI] = 0x18_0000;
        // SYSCALL: kernel 8 and 0x10, user 0x18 and 0x20.
        for (number, value) in &mut state.msrs {
            match *number {
                0xC000_0081 => *value = 0x13 << 48 | 8 << 32,
                0xC000_0082 => *value = KERNEL,
                _ => {}
            }
        }
    });
    machine
}

fn main() {
    let millions: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(40);
    let loops: [(&str, &[u8], Mode); 5] = [
        ("integer", &INTEGER, Mode::Long),
        ("memory copy", &COPY, Mode::Long),
        ("memory copy (rep movsb)", &BLOCKS, Mode::Long),
        ("page tables", &PAGING, Mode::Long),
        ("system calls", &CALLS, Mode::User),
    ];
    for (name, code, mode) in loops {
        let bytes = code == BLOCKS;
        let steps = if bytes { millions * 500 } else { millions * 1_000_000 };
        let mut best = f64::MAX;
        let mut work = 0.0;
        for _ in 0..5 {
            let mut machine = prepare(code, mode);
            let since = Instant::now();
            let exit = machine.run(steps, u64::MAX);
            best = best.min(since.elapsed().as_secs_f64());
            assert_eq!(exit, None, "{name} ended early at {:#x}", machine.state().rip);
            let rip = machine.state().rip;
            assert!((CODE..CODE + 0x2000).contains(&rip), "{name} went astray, to {rip:#x}");
            let blocks = machine.state().regs[reg::RBX];
            work = if bytes { blocks as f64 * 65536.0 } else { machine.cpu.retired() as f64 };
        }
        println!("{name:32} {:8.1} {}", work / best / 1e6, if bytes { "MB/s" } else { "million instructions/s" });
    }
}
