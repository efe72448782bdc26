//! What instructions do.

use crate::core::Core;
use crate::fault::R;
use crate::insn::Insn;

pub(crate) mod int;
pub(crate) mod system;

/// #UD.
pub(crate) fn undefined(core: &mut Core, _: &Insn) -> R {
    Err(core.ud())
}

/// An instruction longer than 15 bytes: #GP(0).
pub(crate) fn too_long(core: &mut Core, _: &Insn) -> R {
    Err(core.gp(0))
}
