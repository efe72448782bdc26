//! Devices that only these tests have, at the addresses at which the suite looks for them on QEMU's machine: an exit
//! port, a test device, and the two keys of the configuration port that it asks for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bulla_vmm::backend::GuestIo;
use bulla_vmm::devices::{IrqLine, Platform};

const DATA: u16 = 0xE0;
const FLUSH: u16 = 0xE4;
const BYTES: u16 = 0xE8;
const EXIT: u16 = 0xF4;
const CONFIG_KEY: u16 = 0x510;
const CONFIG_DATA: u16 = 0x511;
const IRQ_BASE: u16 = 0x2000;
/// Interrupt request lines of the ISA bus.
const IRQ_LINES: u8 = 16;
const SCRATCH_BASE: u64 = 0xFF00_0000;
const SCRATCH_LEN: usize = 0x1_0000;

const CONFIG_RAM_SIZE: u16 = 3;
const CONFIG_VCPUS: u16 = 5;

struct State {
    data: [u8; 4],
    config: Vec<u8>,
    scratch: Vec<u8>,
}

/// The devices. Shared between all vCPUs.
pub(crate) struct TestPorts {
    state: Mutex<State>,
    keys: BTreeMap<u16, Vec<u8>>,
    irqs: Vec<Arc<dyn IrqLine>>,
    exit: Box<dyn Fn(u32) + Send + Sync>,
}

impl TestPorts {
    /// The devices of a machine with `ram` bytes; `exit` gets the value written to the exit port.
    pub(crate) fn new(ram: u64, vcpus: u32, platform: &Platform, exit: Box<dyn Fn(u32) + Send + Sync>) -> Self {
        let keys = [(CONFIG_RAM_SIZE, ram.to_le_bytes().to_vec()), (CONFIG_VCPUS, vcpus.to_le_bytes().to_vec())];
        Self {
            state: Mutex::new(State { data: [0; 4], config: Vec::new(), scratch: vec![0; SCRATCH_LEN] }),
            keys: keys.into(),
            irqs: (0..IRQ_LINES).map(|irq| platform.irq_line(irq)).collect(),
            exit,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the port is ours.
    fn read(&self, port: u16, data: &mut [u8]) -> bool {
        match port {
            DATA..FLUSH | BYTES..=0xEB => self.with(|s| {
                for (to, from) in data.iter_mut().zip(s.data.iter().skip(usize::from(port % 4))) {
                    *to = *from;
                }
            }),
            CONFIG_DATA => self.with(|s| {
                for to in data.iter_mut() {
                    *to = if s.config.is_empty() { 0 } else { s.config.remove(0) };
                }
            }),
            _ => return false,
        }
        true
    }

    /// Whether the port is ours.
    fn write(&self, port: u16, data: &[u8]) -> bool {
        let value = data.iter().rev().fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
        match port {
            DATA..FLUSH | BYTES..=0xEB => self.with(|s| {
                for (to, from) in s.data.iter_mut().skip(usize::from(port % 4)).zip(data) {
                    *to = *from;
                }
            }),
            // A host would drop its mapping of that page; ours keeps none that the guest could tell.
            FLUSH..BYTES => {}
            EXIT => (self.exit)(value),
            CONFIG_KEY => {
                let key = u16::try_from(value).unwrap_or(u16::MAX);
                self.with(|s| s.config = self.keys.get(&key).cloned().unwrap_or_default());
            }
            IRQ_BASE.. => match self.irqs.get(usize::from(port - IRQ_BASE)) {
                Some(line) => line.set_level(value != 0),
                None => return false,
            },
            _ => return false,
        }
        true
    }

    fn scratch<T>(&self, gpa: u64, len: usize, f: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let from = usize::try_from(gpa.checked_sub(SCRATCH_BASE)?).ok()?;
        self.with(|s| Some(f(s.scratch.get_mut(from..from.checked_add(len)?)?)))
    }
}

/// What a vCPU sees: our devices before the machine's.
pub(crate) struct Io<'a> {
    pub(crate) ports: &'a TestPorts,
    pub(crate) platform: &'a Platform,
}

impl GuestIo for Io<'_> {
    fn pio_read(&mut self, port: u16, data: &mut [u8]) {
        if !self.ports.read(port, data) {
            self.platform.bus().pio_read(port, data);
        }
    }

    fn pio_write(&mut self, port: u16, data: &[u8]) {
        if !self.ports.write(port, data) {
            self.platform.bus().pio_write(port, data);
        }
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        if self.ports.scratch(gpa, data.len(), |bytes| data.copy_from_slice(bytes)).is_none() {
            self.platform.bus().mmio_read(gpa, data);
        }
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        if self.ports.scratch(gpa, data.len(), |bytes| bytes.copy_from_slice(data)).is_none() {
            self.platform.bus().mmio_write(gpa, data);
        }
    }

    fn end_of_interrupt(&mut self, vector: u8) {
        self.platform.end_of_interrupt(vector);
    }
}
