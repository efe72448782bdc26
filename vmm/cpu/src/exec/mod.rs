//! What instructions do.

use crate::core::Core;
use crate::fault::R;
use crate::insn::Insn;

pub(crate) mod far;
pub(crate) mod int;
pub(crate) mod iret;
pub(crate) mod msr;
pub(crate) mod sse;
pub(crate) mod syscall;
pub(crate) mod system;
mod task;
#[cfg(test)]
mod tests;
pub(crate) mod x87;
pub(crate) mod xsave;

/// #UD.
pub(crate) fn undefined(core: &mut Core, _: &Insn) -> R {
    Err(core.ud())
}

/// An instruction longer than 15 bytes: #GP(0).
pub(crate) fn too_long(core: &mut Core, _: &Insn) -> R {
    Err(core.gp(0))
}
