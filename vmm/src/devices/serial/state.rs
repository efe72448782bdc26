//! Saved state of a serial port.

use serde::{Deserialize, Serialize};

/// Version of [`SerialState`].
pub(super) const VERSION: u32 = 1;

/// Volatile state of a 16550.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialState {
    /// Format of this state.
    pub version: u32,
    /// Divisor latch.
    pub divisor: u16,
    /// IER.
    pub interrupt_enable: u8,
    /// IIR without the FIFO bits.
    pub interrupt_identification: u8,
    /// LCR.
    pub line_control: u8,
    /// LSR.
    pub line_status: u8,
    /// MCR.
    pub modem_control: u8,
    /// MSR.
    pub modem_status: u8,
    /// SCR.
    pub scratch: u8,
    /// Bytes in the receiver FIFO, oldest first.
    pub receive_fifo: Vec<u8>,
    /// Bytes from the host that wait for room in the FIFO.
    pub backlog: Vec<u8>,
}
