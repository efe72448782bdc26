//! Saved state of the 8259A pair.

use serde::{Deserialize, Serialize};

/// Version of [`PicState`].
pub(super) const VERSION: u32 = 1;

/// Volatile state of one 8259A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipState {
    /// Interrupt request register.
    pub irr: u8,
    /// In-service register.
    pub isr: u8,
    /// Interrupt mask register.
    pub imr: u8,
    /// Input levels.
    pub levels: u8,
    /// Which inputs are level-triggered.
    pub elcr: u8,
    /// Vector of input 0 (ICW2).
    pub vector_base: u8,
    /// The input with the lowest priority.
    pub lowest_priority: u8,
    /// The initialisation word that comes next: 2, 3 or 4; 0 outside of initialisation.
    pub next_icw: u8,
    /// ICW1 announced an ICW4.
    pub icw4_needed: bool,
    /// Automatic end of interrupt.
    pub auto_eoi: bool,
    /// Rotate on automatic end of interrupt.
    pub rotate_on_auto_eoi: bool,
    /// Special fully nested mode.
    pub special_fully_nested: bool,
    /// Special mask mode.
    pub special_mask: bool,
    /// The command port reads ISR rather than IRR.
    pub read_isr: bool,
    /// The next read is a poll.
    pub poll: bool,
}

impl Default for ChipState {
    fn default() -> Self {
        Self {
            irr: 0,
            isr: 0,
            imr: 0,
            levels: 0,
            elcr: 0,
            vector_base: 0,
            // Input 0 has the highest priority.
            lowest_priority: 7,
            next_icw: 0,
            icw4_needed: false,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            special_fully_nested: false,
            special_mask: false,
            read_isr: false,
            poll: false,
        }
    }
}

/// Volatile state of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PicState {
    /// Format of this state.
    pub version: u32,
    /// IRQ 0–7.
    pub master: ChipState,
    /// IRQ 8–15, cascaded to the master's input 2.
    pub slave: ChipState,
}
