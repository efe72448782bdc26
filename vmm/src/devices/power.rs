//! Ports with which a guest resets the machine: the reset control register and the keyboard controller's reset line.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{BytePorts, PioDevice, RestoreError, SaveRestore};

/// What a guest asks the machine to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerEvent {
    /// Start again from the firmware.
    Reset,
    /// Power off (S5).
    PowerOff,
}

/// Called on a vCPU's thread, with the device's lock held: leave a note and kick the vCPUs, do no more.
pub type PowerHandler = Arc<dyn Fn(PowerEvent) + Send + Sync>;

/// First port of the range that [`ResetControl`] answers for.
pub const RESET_CONTROL_BASE: u16 = 0xCF8;
/// Ports in that range.
pub const RESET_CONTROL_LEN: u16 = 4;
/// Offset of RST_CNT.
const RST_CNT: u16 = 1;
/// SYS_RST and FULL_RST keep their value; RST_CPU acts on its rising edge.
const RST_CPU: u8 = 1 << 2;
const RST_KEPT: u8 = 0b1110;

/// The reset control register RST_CNT at port 0xCF9 (ICH9 data sheet, section 13.7.5).
///
/// It lies in the middle of PCI's configuration address register and differs from it by access size: RST_CNT is what
/// *byte* accesses at 0xCF9 reach. So this device answers for all four ports and lets every other access go nowhere,
/// where a split 32-bit write of a PCI configuration address would look like a reset.
pub struct ResetControl {
    // Glue.
    handler: PowerHandler,
    // Volatile state.
    value: u8,
}

impl fmt::Debug for ResetControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetControl").field("value", &self.value).finish_non_exhaustive()
    }
}

impl ResetControl {
    /// A register that reports to `handler`.
    pub fn new(handler: PowerHandler) -> Self {
        Self { handler, value: 0 }
    }
}

impl PioDevice for ResetControl {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        if let (RST_CNT, [byte]) = (offset, data) {
            *byte = self.value;
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        if let (RST_CNT, [value]) = (offset, data) {
            let rising = value & !self.value & RST_CPU != 0;
            self.value = value & RST_KEPT;
            if rising {
                (self.handler)(PowerEvent::Reset);
            }
        }
    }
}

/// Saved state of [`ResetControl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetControlState {
    /// Format of this state.
    pub version: u32,
    /// RST_CNT.
    pub value: u8,
}

impl SaveRestore for ResetControl {
    type State = ResetControlState;

    fn save(&self) -> ResetControlState {
        ResetControlState { version: 1, value: self.value }
    }

    fn restore(&mut self, state: &ResetControlState) -> Result<(), RestoreError> {
        const DEVICE: &str = "reset control";
        RestoreError::check_version(DEVICE, state.version, 1)?;
        if state.value & !RST_KEPT != 0 {
            return Err(RestoreError::Invalid { device: DEVICE, field: "value" });
        }
        self.value = state.value;
        Ok(())
    }

    fn reset(&mut self) {
        self.value = 0;
    }
}

/// The keyboard controller's command and status port.
pub const I8042_PORT: u16 = 0x64;
/// "Pulse output port": the low four bits are the lines to leave alone; line 0 is the processor's reset.
const PULSE: u8 = 0xF0;

/// What is left of the 8042 keyboard controller in a machine without keyboard: its reset line. The status port reads
/// as an idle controller with nothing to say, so that a kernel that waits for its input buffer to drain goes on. The
/// ACPI tables say that there is no keyboard controller. It has no state.
pub struct I8042 {
    handler: PowerHandler,
}

impl fmt::Debug for I8042 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("I8042")
    }
}

impl I8042 {
    /// A controller that reports to `handler`.
    pub fn new(handler: PowerHandler) -> Self {
        Self { handler }
    }
}

impl BytePorts for I8042 {
    fn read_port(&mut self, _offset: u16) -> u8 {
        0
    }

    fn write_port(&mut self, _offset: u16, value: u8) {
        if value & PULSE == PULSE && value & 1 == 0 {
            (self.handler)(PowerEvent::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::devices::{Bus, lock};

    fn recorder() -> (PowerHandler, Arc<Mutex<Vec<PowerEvent>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        (Arc::new(move |event| lock(&log).push(event)), seen)
    }

    #[test]
    fn reset_control_acts_on_the_rising_edge_of_rst_cpu() {
        let (handler, seen) = recorder();
        let mut register = ResetControl::new(handler);
        // The way Linux does it: set SYS_RST, then SYS_RST with RST_CPU.
        register.pio_write(1, &[0x02]);
        assert!(lock(&seen).is_empty());
        register.pio_write(1, &[0x06]);
        assert_eq!(*lock(&seen), [PowerEvent::Reset]);
        let mut byte = [0xFF];
        register.pio_read(1, &mut byte);
        assert_eq!(byte, [0x06]);
        register.pio_write(1, &[0xFF]);
        assert_eq!(lock(&seen).len(), 1, "no new edge");
        register.reset();
        register.pio_write(1, &[0x0E]);
        assert_eq!(lock(&seen).len(), 2);
    }

    #[test]
    fn pci_configuration_accesses_do_not_reset() {
        let (handler, seen) = recorder();
        let mut bus = Bus::new();
        let device = Arc::new(Mutex::new(ResetControl::new(handler)));
        bus.add_pio("reset", RESET_CONTROL_BASE, RESET_CONTROL_LEN, device).unwrap();
        for value in [0x8000_0600_u32, 0x8000_FE00, u32::MAX] {
            bus.pio_write(0xCF8, &value.to_le_bytes());
            bus.pio_write(0xCF8, &value.to_le_bytes()[..2]);
            bus.pio_write(0xCF9, &value.to_le_bytes()[1..3]);
        }
        for other in [0xCF8, 0xCFA, 0xCFB] {
            bus.pio_write(other, &[0x06]);
        }
        assert!(lock(&seen).is_empty());
        let mut data = [0; 4];
        bus.pio_read(0xCF8, &mut data);
        assert_eq!(data, [0xFF; 4], "no PCI here");
    }

    #[test]
    fn keyboard_controller_resets_by_its_pulse_command_only() {
        for value in 0..=255 {
            let (handler, seen) = recorder();
            I8042::new(handler).write_port(0, value);
            let resets = [0xF0, 0xF2, 0xF4, 0xF6, 0xF8, 0xFA, 0xFC, 0xFE].contains(&value);
            assert_eq!(lock(&seen).len(), usize::from(resets), "{value:#x}");
        }
    }

    #[test]
    fn reset_control_is_saved() {
        let (handler, _) = recorder();
        let mut register = ResetControl::new(handler);
        register.pio_write(1, &[0x02]);
        let state = register.save();
        register.reset();
        register.restore(&state).unwrap();
        assert_eq!(register.save(), state);
        assert!(register.restore(&ResetControlState { version: 1, value: 1 }).is_err());
        assert!(register.restore(&ResetControlState { version: 2, value: 0 }).is_err());
    }
}
