//! ACPI fixed hardware: PM1a event and control blocks and the PM timer (ACPI 6.5, section 4.8.3).

mod device;
mod state;
#[cfg(test)]
mod tests;

pub use device::{PM_LEN, PM_TIMER_HZ, Pm};
pub use state::PmState;
