//! The I/O APIC device.

use std::fmt;
use std::sync::Arc;

use super::state::{IoapicState, VERSION};
use crate::backend::{IOAPIC_PINS, IrqSink, Msi};
use crate::devices::{MmioDevice, RestoreError, SaveRestore};

/// Bytes of the register window.
pub const IOAPIC_LEN: u64 = 0x1000;

const DEVICE: &str = "I/O APIC";
const PINS: usize = IOAPIC_PINS as usize;

/// Offsets in the window.
const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const EOI: u64 = 0x40;

/// Registers behind IOREGSEL.
const REG_ID: u8 = 0x00;
const REG_VERSION: u8 = 0x01;
const REG_ARBITRATION: u8 = 0x02;
const REG_REDIRECTION: u8 = 0x10;
/// Version 0x20 (has an EOI register), highest redirection entry in bits 16–23.
const VERSION_VALUE: u32 = 0x20 | (IOAPIC_PINS as u32 - 1) << 16;

/// Bits of a redirection entry.
const VECTOR: u64 = 0xFF;
const DELIVERY_MODE: u64 = 7 << 8;
const DELIVERY_EXT_INT: u64 = 7 << 8;
const LOGICAL: u64 = 1 << 11;
const DELIVERY_STATUS: u64 = 1 << 12;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL_TRIGGERED: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const DESTINATION_SHIFT: u32 = 56;
/// Bits that mean something: those, polarity (13), and destination. The rest reads as zero.
const DEFINED: u64 = 0x1_FFFF | 0xFF << DESTINATION_SHIFT;
/// Bits that the guest cannot write.
const READ_ONLY: u64 = DELIVERY_STATUS | REMOTE_IRR;

/// The message of a redirection entry (SDM volume 3A, section 12.11).
const fn message(entry: u64) -> Msi {
    let destination = (entry >> DESTINATION_SHIFT) << 12;
    let logical = if entry & LOGICAL != 0 { 1 << 2 } else { 0 };
    // Vector and delivery mode are in the same place in both; level-triggered messages assert.
    let trigger = if entry & LEVEL_TRIGGERED != 0 { 1 << 15 | 1 << 14 } else { 0 };
    Msi { address: 0xFEE0_0000 | destination | logical, data: (entry & (VECTOR | DELIVERY_MODE)) as u32 | trigger }
}

/// The I/O APIC. Polarity is ignored: a line here is asserted or not.
pub struct Ioapic {
    // Glue.
    sink: Arc<dyn IrqSink>,
    // Volatile state.
    id: u8,
    select: u8,
    redirection: [u64; PINS],
    levels: u32,
}

impl fmt::Debug for Ioapic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ioapic")
            .field("redirection", &format_args!("{:x?}", self.redirection))
            .field("levels", &self.levels)
            .finish_non_exhaustive()
    }
}

impl Ioapic {
    /// An I/O APIC with all pins masked that sends its messages to `sink`.
    pub fn new(sink: Arc<dyn IrqSink>) -> Self {
        Self { sink, id: 0, select: 0, redirection: [MASKED; PINS], levels: 0 }
    }

    /// Sets the level of input `pin`; a pin that does not exist is ignored.
    pub fn set_pin(&mut self, pin: u8, high: bool) {
        let Some(entry) = self.redirection.get(usize::from(pin)).copied() else { return };
        let bit = 1_u32 << pin;
        let rising = high && self.levels & bit == 0;
        if high {
            self.levels |= bit;
        } else {
            self.levels &= !bit;
        }
        // An edge on a masked pin is lost (82093AA, section 3.4.2, "interrupt mask").
        if rising && entry & MASKED == 0 {
            if entry & LEVEL_TRIGGERED == 0 {
                self.send(entry);
            } else {
                self.send_level(pin.into());
            }
        }
    }

    /// A local APIC has finished the interrupt with `vector` and broadcasts it.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for pin in 0..PINS {
            if let Some(entry) = self.redirection.get_mut(pin)
                && *entry & (LEVEL_TRIGGERED | REMOTE_IRR) == LEVEL_TRIGGERED | REMOTE_IRR
                && *entry & VECTOR == u64::from(vector)
            {
                *entry &= !REMOTE_IRR;
                self.send_level(pin);
            }
        }
    }

    /// Sends a level-triggered pin's message if the pin is high, unmasked, and not in service already.
    fn send_level(&mut self, pin: usize) {
        let Some(entry) = self.redirection.get_mut(pin) else { return };
        if *entry & (MASKED | REMOTE_IRR) == 0 && *entry & LEVEL_TRIGGERED != 0 && self.levels >> pin & 1 != 0 {
            *entry |= REMOTE_IRR;
            let entry = *entry;
            self.send(entry);
        }
    }

    fn send(&self, entry: u64) {
        // ExtINT would mean "ask the 8259 for the vector": its output is not wired to an I/O APIC pin here.
        // The guest can choose destinations that are refused, so this is no error of the host's to shout about.
        if entry & DELIVERY_MODE != DELIVERY_EXT_INT
            && let Err(error) = self.sink.signal_msi(message(entry))
        {
            tracing::debug!(%error, entry, "interrupt lost");
        }
    }

    /// Tells the backend what an unmasked pin sends. A masked pin keeps the route it had: an interrupt that it sent
    /// before may still be in service, and its end must still reach [`Ioapic::end_of_interrupt`].
    fn announce(&self, pin: usize) {
        if let (Some(entry), Ok(number)) = (self.redirection.get(pin), u8::try_from(pin))
            && entry & MASKED == 0
            && let Err(error) = self.sink.route_pin(number, Some(message(*entry)))
        {
            tracing::debug!(%error, pin, "interrupt route refused");
        }
    }

    fn read_window(&self) -> u32 {
        match self.select {
            REG_ID | REG_ARBITRATION => u32::from(self.id) << 24,
            REG_VERSION => VERSION_VALUE,
            select => {
                let Some(index) = select.checked_sub(REG_REDIRECTION) else { return 0 };
                let Some(entry) = self.redirection.get(usize::from(index / 2)) else { return 0 };
                if index & 1 == 0 { *entry as u32 } else { (entry >> 32) as u32 }
            }
        }
    }

    fn write_window(&mut self, value: u32) {
        if self.select == REG_ID {
            self.id = (value >> 24 & 0xF) as u8;
            return;
        }
        let Some(index) = self.select.checked_sub(REG_REDIRECTION) else { return };
        let pin = usize::from(index / 2);
        let Some(entry) = self.redirection.get_mut(pin) else { return };
        let kept = *entry & READ_ONLY;
        let new = if index & 1 == 0 {
            *entry & !0xFFFF_FFFF | u64::from(value)
        } else {
            *entry & 0xFFFF_FFFF | u64::from(value) << 32
        };
        *entry = new & DEFINED & !READ_ONLY | kept;
        if *entry & LEVEL_TRIGGERED == 0 {
            // Remote IRR means nothing in edge mode; kernels switch there and back to clear it.
            *entry &= !REMOTE_IRR;
        }
        self.announce(pin);
        self.send_level(pin);
    }

    /// The register that the window shows at the aligned `offset`, if there is one.
    fn read_at(&self, offset: u64) -> Option<u32> {
        match offset {
            IOREGSEL => Some(self.select.into()),
            IOWIN => Some(self.read_window()),
            _ => None,
        }
    }
}

impl MmioDevice for Ioapic {
    fn mmio_read(&mut self, offset: u64, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(offset..=u64::MAX) {
            if let Some(value) = self.read_at(at & !3) {
                *byte = (value >> ((at & 3) * 8)) as u8;
            }
        }
    }

    /// IOREGSEL and EOI are 8 bits wide and take their lowest byte; IOWIN takes 32 bits at once (82093AA, section 3.1).
    fn mmio_write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (IOREGSEL, [select, ..]) => self.select = *select,
            (EOI, [vector, ..]) => self.end_of_interrupt(*vector),
            (IOWIN, data) => {
                if let Some(value) = data.first_chunk() {
                    self.write_window(u32::from_le_bytes(*value));
                }
            }
            _ => {}
        }
    }
}

impl SaveRestore for Ioapic {
    type State = IoapicState;

    fn save(&self) -> IoapicState {
        IoapicState {
            version: VERSION,
            id: self.id,
            select: self.select,
            redirection: self.redirection.to_vec(),
            levels: self.levels,
        }
    }

    /// Announces the routes again. Sends nothing: an interrupt that was sent before is in the local APICs' state.
    fn restore(&mut self, state: &IoapicState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        let invalid = |field| RestoreError::Invalid { device: DEVICE, field };
        let redirection: [u64; PINS] =
            state.redirection.as_slice().try_into().map_err(|_| invalid("redirection table"))?;
        if redirection.iter().any(|entry| entry & !DEFINED != 0 || entry & DELIVERY_STATUS != 0) {
            return Err(invalid("redirection table"));
        }
        if state.levels >> PINS != 0 {
            return Err(invalid("levels"));
        }
        if state.id > 0xF {
            return Err(invalid("id"));
        }
        self.id = state.id;
        self.select = state.select;
        self.redirection = redirection;
        self.levels = state.levels;
        (0..PINS).for_each(|pin| self.announce(pin));
        Ok(())
    }

    /// The lines keep their levels: they belong to the devices.
    fn reset(&mut self) {
        self.id = 0;
        self.select = 0;
        self.redirection = [MASKED; PINS];
        for pin in 0..IOAPIC_PINS {
            if let Err(error) = self.sink.route_pin(pin, None) {
                tracing::error!(%error, pin, "interrupt route not removed");
            }
        }
    }
}
