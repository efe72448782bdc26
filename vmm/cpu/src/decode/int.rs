//! The integer instructions.

use iced_x86::Instruction;

use super::Lowered;
use crate::core::Code;
use crate::cpuid::Features;
use crate::insn::Insn;

/// What `i` does, if it belongs here.
pub(super) fn lower(_i: &Instruction, _mode: Code, _features: &Features, _out: &mut Insn) -> Option<Lowered> {
    None
}
