//! Delivery of exceptions and interrupts (SDM vol. 3A, chapter 6).

use crate::core::Core;
use crate::fault::{Event, R};
use crate::irq::Interrupt;

impl Core {
    /// Delivers an exception whose instruction RIP points to (faults), or that follows the one before (traps).
    ///
    /// # Errors
    /// Triple fault.
    pub(crate) fn deliver_exception(&mut self, _vector: u8, _error: Option<u32>) -> R {
        self.faulted = true;
        Err(self.stop(Event::Shutdown))
    }

    /// Delivers an interrupt.
    ///
    /// # Errors
    /// Triple fault.
    pub(crate) fn deliver_interrupt(&mut self, _source: Interrupt) -> R {
        Err(self.stop(Event::Shutdown))
    }

    /// DR6 bits of the instruction breakpoints at RIP, if any.
    pub(crate) fn code_breakpoint(&self) -> Option<u64> {
        None
    }
}
