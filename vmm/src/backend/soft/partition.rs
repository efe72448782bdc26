//! A virtual machine in software: memory that its processor shares with the host, and interrupt delivery.
//!
//! Rule for the unsafe code here: a [`Region`] holds its mapping, which is mapped readable and writable, never moves and never
//! shrinks while somebody holds it.
#![expect(unsafe_code, reason = "gives host memory to a guest; see the rule above")]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bulla_cpu::apic;
use bulla_cpu::mem::{AddressSpace, HostMemory, Slot};
use bulla_cpu::{Clock, Config, Cpu, Handle};
use vm_memory::{GuestMemoryRegion, GuestRegionMmap};

use super::time::VirtualTime;
use super::vcpu::SoftVcpu;
use super::{Pace, to_cpu};
use crate::backend::{
    BackendError, Capabilities, CpuidLeaf, DirtyLog, IOAPIC_PINS, IrqSink, MemorySlot, Msi, Partition, SlotId, Vcpu,
    VmTime,
};

const PAGE: u64 = 4096;
/// Seed of a deterministic guest's random numbers.
const SEED: u64 = 0x6275_6C6C_6100_0001;

/// A mapping as the processor wants it.
struct Region(Arc<GuestRegionMmap>);

// SAFETY: the rule above; `GuestRegionMmap` hands out no references, its own accesses are volatile.
unsafe impl HostMemory for Region {
    fn base(&self) -> *mut u8 {
        self.0.get_mmap().as_ptr()
    }

    fn len(&self) -> usize {
        self.0.get_mmap().size()
    }
}

/// A slot as the partition knows it.
struct Known {
    base: u64,
    len: u64,
    track_dirty: bool,
}

/// See the module.
pub(super) struct SoftPartition {
    space: Arc<AddressSpace>,
    slots: Mutex<BTreeMap<u32, Known>>,
    max_slots: usize,
    max_vcpus: usize,
    sink: Arc<SoftIrqSink>,
    time: Option<Arc<VirtualTime>>,
}

impl SoftPartition {
    pub(super) fn new(pace: Pace, capabilities: &Capabilities) -> Self {
        Self {
            space: Arc::default(),
            slots: Mutex::default(),
            max_slots: capabilities.max_memory_slots,
            max_vcpus: capabilities.max_vcpus,
            sink: Arc::default(),
            time: (pace == Pace::Deterministic).then(Arc::default),
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<u32, Known>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Partition for SoftPartition {
    fn add_memory(&self, slot: MemorySlot) -> Result<SlotId, BackendError> {
        let (base, len) = (slot.region.start_addr().0, slot.region.len());
        let shape = BackendError::SlotShape { base, size: len };
        let Some(end) =
            base.checked_add(len).filter(|_| len != 0 && base.is_multiple_of(PAGE) && len.is_multiple_of(PAGE))
        else {
            return Err(shape);
        };
        let mut slots = self.slots();
        if let Some(old) = slots.values().find(|old| base < old.base + old.len && old.base < end) {
            return Err(BackendError::SlotOverlap { base, end, other: old.base });
        }
        let max = self.max_slots;
        let free = (0u32..).take(max).find(|id| !slots.contains_key(id));
        let id = free.ok_or(BackendError::TooManySlots { max })?;
        let pages = usize::try_from(len / PAGE).map_err(|_| BackendError::SlotShape { base, size: len })?;
        let bits = || (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        // What is mapped from a file may be written by others at any time.
        let shared = slot.region.file_offset().is_some();
        let track_dirty = slot.track_dirty;
        self.space
            .add(Slot {
                gpa: base,
                read_only: slot.read_only,
                shared,
                dirty: track_dirty.then(bits),
                memory: Arc::new(Region(slot.region)),
            })
            .map_err(|_| shape)?;
        slots.insert(id, Known { base, len, track_dirty });
        Ok(SlotId(id))
    }

    fn remove_memory(&self, id: SlotId) -> Result<(), BackendError> {
        let known = self.slots().remove(&id.0).ok_or(BackendError::NoSuchSlot(id))?;
        self.space.remove(known.base);
        Ok(())
    }

    fn irq_sink(&self) -> Arc<dyn IrqSink> {
        Arc::clone(&self.sink) as Arc<dyn IrqSink>
    }

    fn create_vcpu(&self, id: u32, table: &[CpuidLeaf]) -> Result<Box<dyn Vcpu>, BackendError> {
        if id > 0 {
            return Err(BackendError::TooManyVcpus { id, max: 1 });
        }
        self.create_processors(1, table)
    }

    fn create_processors(&self, count: u32, table: &[CpuidLeaf]) -> Result<Box<dyn Vcpu>, BackendError> {
        let max = self.max_vcpus;
        if usize::try_from(count).map_or(true, |count| count > max) {
            return Err(BackendError::TooManyVcpus { id: count.saturating_sub(1), max });
        }
        let (clock, seed) = match self.time {
            Some(_) => (Clock::Instructions { wall: super::time::EPOCH }, Some(SEED)),
            None => (Clock::Host, None),
        };
        let config = Config { cpuid: table.iter().map(to_cpu).collect(), processors: count.max(1), clock, seed };
        let cpu = Cpu::new(Arc::clone(&self.space), &config);
        self.sink.handle.set(cpu.handle()).map_err(|_| BackendError::Host {
            what: "create a vCPU",
            source: std::io::ErrorKind::AlreadyExists.into(),
        })?;
        if let Some(time) = &self.time {
            time.follow(cpu.handle());
        }
        Ok(Box::new(SoftVcpu::new(cpu, Arc::clone(&self.sink), self.time.clone())))
    }

    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        Some(self)
    }

    fn time(&self) -> Option<Arc<dyn VmTime>> {
        self.time.clone().map(|time| time as Arc<dyn VmTime>)
    }
}

impl DirtyLog for SoftPartition {
    fn take_dirty(&self, id: SlotId) -> Result<Vec<u64>, BackendError> {
        let slots = self.slots();
        let known = slots.get(&id.0).filter(|known| known.track_dirty).ok_or(BackendError::NoSuchSlot(id))?;
        self.space.take_dirty(known.base).ok_or(BackendError::NoSuchSlot(id))
    }
}

/// Brings messages to the processors.
#[derive(Default)]
pub(super) struct SoftIrqSink {
    /// Until there is a processor, nobody is addressed.
    handle: OnceLock<Arc<Handle>>,
    routes: Mutex<[Option<Msi>; IOAPIC_PINS as usize]>,
}

impl SoftIrqSink {
    /// Whether some pin's message has this vector: then the I/O APIC wants to know of its end.
    pub(super) fn is_routed(&self, vector: u8) -> bool {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.iter().flatten().any(|msi| msi.data & 0xFF == u32::from(vector))
    }
}

impl IrqSink for SoftIrqSink {
    fn signal_msi(&self, msi: Msi) -> Result<(), BackendError> {
        if let Some(handle) = self.handle.get() {
            handle.signal(apic::Msi { address: msi.address, data: msi.data });
        }
        Ok(())
    }

    fn route_pin(&self, pin: u8, msi: Option<Msi>) -> Result<(), BackendError> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        *routes.get_mut(usize::from(pin)).ok_or(BackendError::NoSuchPin(pin))? = msi;
        Ok(())
    }
}
