//! The TPM's FIFO interface, known as TIS.
//!
//! TCG PC Client Platform TPM Profile Specification for TPM 2.0 (PTP) 1.05, section 6.5.2: five localities of 4 KiB, each
//! with the same registers; commands and responses go byte by byte through one of them.

mod device;
pub mod regs;
mod state;
#[cfg(test)]
mod tests;

pub use device::Tis;
pub use state::{TisPhase, TisState};
