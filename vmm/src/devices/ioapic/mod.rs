//! I/O APIC: the Intel 82093AA with the EOI register of later chipsets (version 0x20), 24 pins.
//!
//! Sources: Intel 82093AA data sheet (290566), section 3; ICH9 data sheet (316972), section 13.5 for the EOI register.

mod device;
mod state;
#[cfg(test)]
mod tests;

pub use device::{IOAPIC_LEN, Ioapic};
pub use state::IoapicState;
