//! The pair of 8259A interrupt controllers, with the edge/level registers of the PIIX.
//!
//! Sources: Intel 8259A data sheet (231468); 82371AB (PIIX4) data sheet, section 4.2.5 for ELCR.

mod chip;
mod device;
mod state;
#[cfg(test)]
mod tests;

pub use device::{ELCR_PORTS, PIC_MASTER_PORTS, PIC_SLAVE_PORTS, PicPair, PicPorts, PicRange};
pub use state::{ChipState, PicState};
