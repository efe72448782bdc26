//! A port that hands 32-bit writes to the monitor: the progress port of the boot contract
//! ([`bulla_boot_abi::port::PROGRESS`]).

use std::fmt;

use super::PioDevice;

/// Bytes of the port's range: exactly one 32-bit register.
pub const NOTIFY_PORT_LEN: u16 = 4;

/// Calls its handler with every 32-bit value written to it. Anything narrower is no message and is
/// dropped (x86 has no wider port writes); reads give all ones.
///
/// The handler runs on the vCPU's thread inside the write, so the guest waits until it returns. It has no state.
pub struct NotifyPort {
    handler: Box<dyn FnMut(u32) + Send>,
}

impl NotifyPort {
    /// A port that calls `handler`.
    pub fn new(handler: impl FnMut(u32) + Send + 'static) -> Self {
        Self { handler: Box::new(handler) }
    }
}

impl fmt::Debug for NotifyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotifyPort")
    }
}

impl PioDevice for NotifyPort {
    fn pio_read(&mut self, _offset: u16, _data: &mut [u8]) {}

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        if let (0, Ok(value)) = (offset, <[u8; 4]>::try_from(data)) {
            (self.handler)(u32::from_le_bytes(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::devices::{Bus, lock};

    #[test]
    fn only_whole_32_bit_writes_are_messages() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let mut bus = Bus::new();
        let port = NotifyPort::new(move |value| lock(&sink).push(value));
        bus.add_pio("notify", 0xB10, NOTIFY_PORT_LEN, Arc::new(Mutex::new(port))).unwrap();
        let bytes = [0x1F, 0, 0, 0x80, 0, 0, 0, 0];
        for port in 0xB0D..0xB15 {
            for len in 0..=4 {
                if (port, len) != (0xB10, 4) {
                    bus.pio_write(port, &bytes[..len]);
                }
            }
        }
        assert!(lock(&seen).is_empty());
        bus.pio_write(0xB10, &bytes[..4]);
        assert_eq!(*lock(&seen), [0x8000_001F]);
        let mut data = [0; 4];
        bus.pio_read(0xB10, &mut data);
        assert_eq!(data, [0xFF; 4]);
    }
}
