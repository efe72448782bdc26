//! The TPM's Command Response Buffer interface.
//!
//! TCG PC Client Platform TPM Profile Specification for TPM 2.0 (PTP) 1.05, section 6.5.3: five localities of 4 KiB,
//! each with the same registers and a window on one data buffer.

mod device;
pub mod regs;
mod state;
#[cfg(test)]
mod tests;

pub use device::Crb;
pub use state::CrbState;
