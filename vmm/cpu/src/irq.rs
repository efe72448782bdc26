//! Interrupts as the run loop sees them, and the local APIC's page.

use crate::core::{Core, Shadow};
use crate::flags::bits as fl;

/// An interrupt that may be delivered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// NMI.
    Nmi,
    /// A maskable one, already acknowledged at the local APIC.
    External(u8),
}

impl Core {
    /// The next interrupt to deliver, acknowledged.
    pub(crate) fn next_interrupt(&mut self) -> Option<Interrupt> {
        let _open = self.flags & fl::IF != 0 && self.shadow == Shadow::None;
        None
    }

    /// Reads the local APIC's page. `None`: it is not there.
    pub(crate) fn apic_read(&mut self, _gpa: u64, _size: usize) -> Option<u64> {
        None
    }

    /// Writes the local APIC's page. False: it is not there.
    pub(crate) fn apic_write(&mut self, _gpa: u64, _size: usize, _value: u64) -> bool {
        false
    }
}
