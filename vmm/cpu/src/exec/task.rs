//! Task switches (SDM vol. 3A, chapter 7), which exist outside IA-32e mode only.

use crate::core::Core;
use crate::fault::R;
use crate::segment::index;

impl Core {
    /// An interrupt or exception through a task gate.
    pub(crate) fn enter_task(&mut self, selector: u16, ext: u32, _error: Option<u32>, _image: u64) -> R {
        Err(self.ts(index(selector) | ext))
    }

    /// JMP or CALL to a task.
    pub(crate) fn far_task(&mut self, selector: u16, _nested: bool) -> R {
        Err(self.ts(index(selector)))
    }

    /// IRET with NT set.
    pub(crate) fn return_to_task(&mut self) -> R {
        Err(self.ts(0))
    }
}
