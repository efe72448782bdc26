//! System instructions, segments, far transfers.

use iced_x86::{Code as Id, Instruction, Mnemonic as M, OpKind, Register};

use super::{Lowered, end, go, size_of_operand};
use crate::core::Code;
use crate::exec::system::{control, flags, misc, nothing, port, segments, tables, touch};
use crate::exec::{far, iret, msr, syscall};
use crate::insn::{Insn, seg};

/// Chooses the form of a handler by the kind of operand `$k`.
macro_rules! by_operand {
    ($end:ident, $i:expr, $k:expr, $module:ident :: $name:ident) => {
        match $i.op_kind($k) {
            OpKind::Memory => $end($module::$name::<true>),
            _ => $end($module::$name::<false>),
        }
    };
}

/// What `i` does, if it belongs here. `out.third` becomes the operand size in bytes where handlers ask for one.
pub(super) fn lower(i: &Instruction, mode: Code, out: &mut Insn) -> Option<Lowered> {
    far_transfer(i, out)
        .or_else(|| segment_register(i, out))
        .or_else(|| table(i, mode, out))
        .or_else(|| ports(i, out))
        .or_else(|| system(i, out))
        .or_else(|| hint(i))
}

/// Jumps, calls, returns and interrupts.
fn far_transfer(i: &Instruction, out: &mut Insn) -> Option<Lowered> {
    out.third = match i.code() {
        Id::Jmp_ptr1616 | Id::Call_ptr1616 | Id::Jmp_m1616 | Id::Call_m1616 => 2,
        Id::Jmp_ptr1632 | Id::Call_ptr1632 | Id::Jmp_m1632 | Id::Call_m1632 => 4,
        Id::Jmp_m1664 | Id::Call_m1664 => 8,
        Id::Retfw | Id::Retfw_imm16 | Id::Iretw => 2,
        Id::Retfd | Id::Retfd_imm16 | Id::Iretd => 4,
        Id::Retfq | Id::Retfq_imm16 | Id::Iretq => 8,
        Id::Sysretq | Id::Sysexitq => 8,
        Id::Sysretd | Id::Sysexitd => 4,
        _ => out.third,
    };
    let offset = match i.op0_kind() {
        OpKind::FarBranch16 => Some(u64::from(i.far_branch16())),
        OpKind::FarBranch32 => Some(u64::from(i.far_branch32())),
        _ => None,
    };
    if let Some(offset) = offset {
        out.imm = u64::from(i.far_branch_selector()) << 32 | offset;
    }
    match i.code() {
        Id::Jmp_ptr1616 | Id::Jmp_ptr1632 => end(far::jump_direct),
        Id::Call_ptr1616 | Id::Call_ptr1632 => end(far::call_direct),
        Id::Jmp_m1616 | Id::Jmp_m1632 | Id::Jmp_m1664 => end(far::jump_indirect),
        Id::Call_m1616 | Id::Call_m1632 | Id::Call_m1664 => end(far::call_indirect),
        Id::Retfw | Id::Retfd | Id::Retfq | Id::Retfw_imm16 | Id::Retfd_imm16 | Id::Retfq_imm16 => end(far::ret),
        Id::Iretw | Id::Iretd | Id::Iretq => end(iret::iret),
        Id::Int_imm8 => end(iret::int_n),
        Id::Int3 => end(iret::int3),
        Id::Int1 => end(iret::int1),
        Id::Into => end(iret::into),
        Id::Syscall => end(syscall::syscall),
        Id::Sysretd | Id::Sysretq => end(syscall::sysret),
        Id::Sysenter => end(syscall::sysenter),
        Id::Sysexitd | Id::Sysexitq => end(syscall::sysexit),
        _ => None,
    }
}

/// Segment registers as operands.
fn segment_register(i: &Instruction, out: &mut Insn) -> Option<Lowered> {
    let loads = |which: u8, run| if which == seg::SS as u8 { end(run) } else { go(run) };
    match i.code() {
        Id::Mov_Sreg_rm16 | Id::Mov_Sreg_r32m16 | Id::Mov_Sreg_r64m16 if out.dst != seg::CS as u8 => {
            match i.op1_kind() {
                OpKind::Memory => loads(out.dst, segments::mov_to::<true>),
                _ => loads(out.dst, segments::mov_to::<false>),
            }
        }
        Id::Mov_rm16_Sreg | Id::Mov_r32m16_Sreg | Id::Mov_r64m16_Sreg => {
            out.third = size_of_operand(i, 0) as u8;
            by_operand!(go, i, 0, segments::mov_from)
        }
        _ if i.mnemonic() == M::Push && is_segment(i.op0_register()) => {
            out.third = stack_size(i);
            go(segments::push)
        }
        _ if i.mnemonic() == M::Pop && is_segment(i.op0_register()) && out.dst != seg::CS as u8 => {
            out.third = stack_size(i);
            loads(out.dst, segments::pop)
        }
        _ => {
            out.imm = match i.mnemonic() {
                M::Les => seg::ES,
                M::Lss => seg::SS,
                M::Lds => seg::DS,
                M::Lfs => seg::FS,
                M::Lgs => seg::GS,
                _ => return questions(i, out),
            } as u64;
            out.third = size_of_operand(i, 0) as u8;
            end(segments::load_far)
        }
    }
}

fn is_segment(r: Register) -> bool {
    (Register::ES as u32..=Register::GS as u32).contains(&(r as u32))
}

/// What PUSH and POP move.
fn stack_size(i: &Instruction) -> u8 {
    match i.code() {
        Id::Pushq_FS | Id::Pushq_GS | Id::Popq_FS | Id::Popq_GS => 8,
        Id::Pushd_ES | Id::Pushd_CS | Id::Pushd_SS | Id::Pushd_DS | Id::Pushd_FS | Id::Pushd_GS => 4,
        Id::Popd_ES | Id::Popd_SS | Id::Popd_DS | Id::Popd_FS | Id::Popd_GS => 4,
        _ => 2,
    }
}

/// LAR, LSL, VERR, VERW, ARPL.
fn questions(i: &Instruction, out: &mut Insn) -> Option<Lowered> {
    match i.mnemonic() {
        M::Lar => {
            out.third = size_of_operand(i, 0) as u8;
            by_operand!(go, i, 1, segments::lar)
        }
        M::Lsl => {
            out.third = size_of_operand(i, 0) as u8;
            by_operand!(go, i, 1, segments::lsl)
        }
        M::Verr => by_operand!(go, i, 0, segments::verr),
        M::Verw => by_operand!(go, i, 0, segments::verw),
        M::Arpl => by_operand!(go, i, 0, segments::arpl),
        _ => None,
    }
}

/// Descriptor-table registers and the machine status word.
fn table(i: &Instruction, mode: Code, out: &mut Insn) -> Option<Lowered> {
    if i.op0_kind() == OpKind::Register && matches!(i.mnemonic(), M::Sldt | M::Str | M::Smsw) {
        out.third = size_of_operand(i, 0) as u8;
    }
    match i.mnemonic() {
        M::Sgdt => go(tables::sgdt),
        M::Sidt => go(tables::sidt),
        M::Lgdt | M::Lidt => {
            let narrow = matches!(i.code(), Id::Lgdt_m1632_16 | Id::Lidt_m1632_16) && mode != Code::Bits64;
            out.third = if narrow { 2 } else { 4 };
            if i.mnemonic() == M::Lgdt { end(tables::lgdt) } else { end(tables::lidt) }
        }
        M::Sldt => by_operand!(go, i, 0, tables::sldt),
        M::Str => by_operand!(go, i, 0, tables::str),
        M::Smsw => by_operand!(go, i, 0, tables::smsw),
        M::Lldt => by_operand!(end, i, 0, tables::lldt),
        M::Ltr => by_operand!(end, i, 0, tables::ltr),
        M::Lmsw => by_operand!(end, i, 0, control::lmsw),
        _ => None,
    }
}

/// I/O ports.
fn ports(i: &Instruction, out: &mut Insn) -> Option<Lowered> {
    out.third = match i.code() {
        Id::In_AL_imm8 | Id::In_AL_DX | Id::Out_imm8_AL | Id::Out_DX_AL | Id::Insb_m8_DX | Id::Outsb_DX_m8 => 1,
        Id::In_AX_imm8 | Id::In_AX_DX | Id::Out_imm8_AX | Id::Out_DX_AX | Id::Insw_m16_DX | Id::Outsw_DX_m16 => 2,
        Id::In_EAX_imm8 | Id::In_EAX_DX | Id::Out_imm8_EAX | Id::Out_DX_EAX | Id::Insd_m32_DX | Id::Outsd_DX_m32 => 4,
        _ => return None,
    };
    match i.mnemonic() {
        M::In if i.op1_kind() == OpKind::Immediate8 => go(port::in_imm),
        M::In => go(port::in_dx),
        M::Out if i.op0_kind() == OpKind::Immediate8 => go(port::out_imm),
        M::Out => go(port::out_dx),
        M::Insb | M::Insw | M::Insd => go(port::ins),
        _ => go(port::outs),
    }
}

/// Everything else that does something.
fn system(i: &Instruction, out: &mut Insn) -> Option<Lowered> {
    match i.mnemonic() {
        M::Cli => go(flags::cli),
        M::Sti => go(flags::sti),
        M::Pushf | M::Pushfd | M::Pushfq | M::Popf | M::Popfd | M::Popfq => {
            out.third = match i.mnemonic() {
                M::Pushf | M::Popf => 2,
                M::Pushfd | M::Popfd => 4,
                _ => 8,
            };
            if matches!(i.mnemonic(), M::Pushf | M::Pushfd | M::Pushfq) { go(flags::pushf) } else { go(flags::popf) }
        }
        M::Stac => go(flags::stac),
        M::Clac => go(flags::clac),
        M::Clts => end(flags::clts),
        M::Hlt => end(misc::hlt),
        M::Cpuid => go(misc::cpuid),
        M::Rdtsc => go(misc::rdtsc),
        M::Rdtscp => go(misc::rdtscp),
        M::Rdpmc => go(misc::protection),
        M::Rdrand | M::Rdseed => sized(i, out, misc::random),
        M::Wbinvd | M::Invd => go(misc::for_kernels),
        M::Invlpg => end(control::invlpg),
        M::Invpcid => end(control::invpcid),
        M::Swapgs => go(misc::swapgs),
        M::Rdfsbase | M::Rdgsbase | M::Wrfsbase | M::Wrgsbase => {
            out.imm = if matches!(i.mnemonic(), M::Rdfsbase | M::Wrfsbase) { seg::FS } else { seg::GS } as u64;
            let reads = matches!(i.mnemonic(), M::Rdfsbase | M::Rdgsbase);
            sized(i, out, if reads { misc::read_base } else { misc::write_base })
        }
        M::Rdmsr => go(msr::rdmsr),
        M::Wrmsr => go(msr::wrmsr),
        M::Vmcall | M::Vmmcall => go(misc::hypercall),
        M::Bound => sized(i, out, misc::bound),
        M::Mov => match i.code() {
            Id::Mov_cr_r32 | Id::Mov_cr_r64 if matches!(out.dst, 0 | 2 | 3 | 4 | 8) => end(control::to_cr),
            Id::Mov_r32_cr | Id::Mov_r64_cr if matches!(out.src, 0 | 2 | 3 | 4 | 8) => go(control::from_cr),
            Id::Mov_dr_r32 | Id::Mov_dr_r64 if out.dst < 8 => end(control::to_dr),
            Id::Mov_r32_dr | Id::Mov_r64_dr if out.src < 8 => go(control::from_dr),
            _ => None,
        },
        _ => None,
    }
}

fn sized(i: &Instruction, out: &mut Insn, run: crate::insn::Handler) -> Option<Lowered> {
    out.third = size_of_operand(i, 0) as u8;
    go(run)
}

/// What this processor has no use for, and executes all the same.
fn hint(i: &Instruction) -> Option<Lowered> {
    match i.mnemonic() {
        M::Pause => end(misc::pause),
        M::Nop | M::Endbr32 | M::Endbr64 | M::Reservednop | M::Rdsspd | M::Rdsspq | M::Cldemote => go(nothing),
        M::Prefetch
        | M::Prefetchw
        | M::Prefetchwt1
        | M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchit0
        | M::Prefetchit1 => go(nothing),
        M::Lfence | M::Mfence | M::Sfence => go(nothing),
        M::Clflush | M::Clflushopt => go(touch),
        _ => None,
    }
}
