//! MMX and SSE to SSE4.2, AES, PCLMULQDQ and SHA: which function of [`crate::simd`] an instruction is, and which way its
//! operands come.

use iced_x86::{Instruction, OpKind, Register};

use super::{Lowered, go};
use crate::insn::Handler;

mod floats;
mod integers;
mod moves;

/// What `i` does, if it belongs here.
pub(super) fn lower(i: &Instruction) -> Option<Lowered> {
    moves::lower(i).or_else(|| integers::lower(i)).or_else(|| floats::lower(i))
}

/// The handlers of an instruction whose last source is a register, and is in memory.
type Forms = (Handler, Handler);

/// The right one of two handlers.
fn choose(i: &Instruction, (register, memory): Forms) -> Option<Lowered> {
    let in_memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
    go(if in_memory { memory } else { register })
}

/// Whether an operand is an MMX register.
fn is_mmx(i: &Instruction) -> bool {
    let mmx = Register::MM0 as u32..=Register::MM7 as u32;
    (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Register && mmx.contains(&(i.op_register(k) as u32)))
}

/// Both forms of a shape of [`crate::exec::sse`] around a function; the memory operand is `$M`.
macro_rules! forms {
    ($shape:ident, $M:ident, $f:expr) => {{
        let forms: crate::decode::sse::Forms = (
            |core, i| crate::exec::sse::$shape::<crate::exec::sse::Reg>(core, i, $f),
            |core, i| crate::exec::sse::$shape::<crate::exec::sse::$M>(core, i, $f),
        );
        forms
    }};
}

/// The same for a shape of [`crate::exec::sse::mmx`].
macro_rules! mmx_forms {
    ($shape:ident, $M:ident, $f:expr) => {{
        let forms: crate::decode::sse::Forms = (
            |core, i| crate::exec::sse::mmx::$shape::<crate::exec::sse::mmx::Reg>(core, i, $f),
            |core, i| crate::exec::sse::mmx::$shape::<crate::exec::sse::mmx::$M>(core, i, $f),
        );
        forms
    }};
}

use {forms, mmx_forms};

#[cfg(test)]
mod tests {
    use iced_x86::{Code, CpuidFeature as F, Instruction, Mnemonic as M, Register};

    /// Every instruction of these extensions is in the tables, but for a few that others have.
    #[test]
    fn nothing_is_missing() {
        let ours = [F::MMX, F::SSE, F::SSE2, F::SSE3, F::SSSE3, F::SSE4_1, F::SSE4_2, F::AES, F::PCLMULQDQ, F::SHA];
        let mut known = 0;
        for code in Code::values() {
            let needed = code.cpuid_features();
            if needed.is_empty() || !needed.iter().all(|f| ours.contains(f)) {
                continue;
            }
            let mut instruction = Instruction::default();
            instruction.set_code(code);
            // CRC32 wants to know the width of its source.
            instruction.set_op1_register(Register::EAX);
            let elsewhere = matches!(
                code.mnemonic(),
                M::Movnti
                    | M::Lfence
                    | M::Mfence
                    | M::Sfence
                    | M::Prefetchnta
                    | M::Prefetcht0
                    | M::Prefetcht1
                    | M::Prefetcht2
            );
            assert_ne!(super::lower(&instruction).is_some(), elsewhere, "{code:?}");
            known += usize::from(!elsewhere);
        }
        assert!(known > 350, "{known}");
    }
}
