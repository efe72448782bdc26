//! Interrupt delivery with the split irqchip: the local APIC is in the kernel, the IOAPIC is ours.

use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_msi, kvm_msi};

use super::host;
use super::partition::Shared;
use crate::backend::{BackendError, IOAPIC_PINS, IrqSink, Msi};

const PINS: usize = IOAPIC_PINS as usize;

/// Delivers to the local APICs of one partition.
pub(super) struct KvmIrqSink {
    shared: Arc<Shared>,
    routes: Mutex<[Option<Msi>; PINS]>,
}

impl KvmIrqSink {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, routes: Mutex::new([None; PINS]) }
    }
}

const fn low(address: u64) -> u32 {
    (address & 0xFFFF_FFFF) as u32
}

const fn high(address: u64) -> u32 {
    (address >> 32) as u32
}

impl IrqSink for KvmIrqSink {
    fn signal_msi(&self, msi: Msi) -> Result<(), BackendError> {
        let message = kvm_msi {
            address_lo: low(msi.address),
            address_hi: high(msi.address),
            data: msi.data,
            ..kvm_msi::default()
        };
        // A return value of 0 means that the guest has blocked the interrupt: that is its affair.
        self.shared.vm.signal_msi(message).map(drop).map_err(host("deliver an interrupt"))
    }

    fn route_pin(&self, pin: u8, msi: Option<Msi>) -> Result<(), BackendError> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let route = routes.get_mut(usize::from(pin)).ok_or(BackendError::NoSuchPin(pin))?;
        if *route == msi {
            return Ok(());
        }
        *route = msi;
        let entries: Vec<kvm_irq_routing_entry> = (0u32..)
            .zip(routes.iter())
            .filter_map(|(gsi, route)| {
                let msi = (*route)?;
                let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
                entry.u.msi = kvm_irq_routing_msi {
                    address_lo: low(msi.address),
                    address_hi: high(msi.address),
                    data: msi.data,
                    ..Default::default()
                };
                Some(entry)
            })
            .collect();
        let table = KvmIrqRouting::from_entries(&entries).map_err(|_| BackendError::NoSuchPin(pin))?;
        self.shared.vm.set_gsi_routing(&table).map_err(host("set interrupt routes"))
    }
}
