//! A virtual machine of KVM: memory slots, irqchip, vCPUs.
//!
//! Rules for the unsafe code here:
//! 1. A slot given to the kernel is entered into the table first, and leaves the table only after the kernel has let
//!    go of it; the table holds the mapping alive, so the guest can never reach memory that is not its own.
//! 2. The table outlives the VM's last vCPU: whoever can run the guest holds the [`Shared`] state.
#![expect(unsafe_code, reason = "gives host memory to a guest; see the rules above")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VmFd};
use vm_memory::{Bytes, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};

use super::irq::KvmIrqSink;
use super::vcpu::KvmVcpu;
use super::{IDENTITY_MAP_BASE, TSS_BASE, cpuid, host, msrs};
use crate::backend::{
    BackendError, Capabilities, CpuidLeaf, DirtyLog, IOAPIC_PINS, IrqSink, MemorySlot, Partition, SlotId, Vcpu,
};

const PAGE: u64 = 4096;

/// What the partition, its vCPUs and its interrupt sink have in common.
pub(super) struct Shared {
    pub(super) vm: VmFd,
    pub(super) msr_indices: Vec<u32>,
    slots: Mutex<BTreeMap<u32, MemorySlot>>,
    max_slots: usize,
    max_vcpus: usize,
}

/// A virtual machine.
pub(super) struct KvmPartition {
    shared: Arc<Shared>,
    sink: Arc<KvmIrqSink>,
}

fn base_of(region: &GuestRegionMmap) -> u64 {
    region.start_addr().0
}

impl KvmPartition {
    pub(super) fn create(kvm: &Kvm, capabilities: &Capabilities) -> Result<Self, BackendError> {
        let vm = kvm.create_vm().map_err(host("create a virtual machine"))?;
        // Both must be set before the first vCPU, and lie where the guest has nothing.
        vm.set_identity_map_address(IDENTITY_MAP_BASE).map_err(host("set the identity map's address"))?;
        let tss = usize::try_from(TSS_BASE).map_err(|_| BackendError::SlotShape { base: TSS_BASE, size: PAGE * 3 })?;
        vm.set_tss_address(tss).map_err(host("set the task state segment's address"))?;
        let mut split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
        split.args[0] = u64::from(IOAPIC_PINS);
        vm.enable_cap(&split).map_err(host("split the interrupt controller"))?;
        let shared = Arc::new(Shared {
            vm,
            msr_indices: msrs::known_to(kvm).map_err(host("list model-specific registers"))?,
            slots: Mutex::default(),
            max_slots: capabilities.max_memory_slots,
            max_vcpus: capabilities.max_vcpus,
        });
        let sink = Arc::new(KvmIrqSink::new(Arc::clone(&shared)));
        Ok(Self { shared, sink })
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<u32, MemorySlot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads guest memory for a message about it: as many bytes as there are.
    pub(super) fn peek(&self, gpa: u64, into: &mut [u8]) -> usize {
        let slots = self.slots();
        slots
            .values()
            .find_map(|slot| {
                let offset = gpa.checked_sub(base_of(&slot.region)).filter(|offset| *offset < slot.region.len())?;
                slot.region.read(into, MemoryRegionAddress(offset)).ok()
            })
            .unwrap_or(0)
    }

    /// Tells the kernel about a slot; `size` 0 takes it away.
    fn set_slot(&self, id: u32, slot: &MemorySlot, size: u64) -> Result<(), kvm_ioctls::Error> {
        let mut flags = 0;
        if slot.read_only {
            flags |= KVM_MEM_READONLY;
        }
        if slot.track_dirty {
            flags |= KVM_MEM_LOG_DIRTY_PAGES;
        }
        let region = kvm_userspace_memory_region {
            slot: id,
            flags,
            guest_phys_addr: base_of(&slot.region),
            memory_size: size,
            userspace_addr: slot.region.get_mmap().as_ptr() as u64,
        };
        // SAFETY: the range is that of a live mapping, which the table keeps alive (rule 1).
        unsafe { self.vm.set_user_memory_region(region) }
    }
}

impl Partition for KvmPartition {
    fn add_memory(&self, slot: MemorySlot) -> Result<SlotId, BackendError> {
        let (base, size) = (base_of(&slot.region), slot.region.len());
        let end = base
            .checked_add(size)
            .filter(|_| size != 0 && base.is_multiple_of(PAGE) && size.is_multiple_of(PAGE))
            .ok_or(BackendError::SlotShape { base, size })?;
        let mut slots = self.shared.slots();
        for old in slots.values() {
            let other = base_of(&old.region);
            if base < other.saturating_add(old.region.len()) && other < end {
                return Err(BackendError::SlotOverlap { base, end, other });
            }
        }
        let max = self.shared.max_slots;
        let free = (0u32..).take(max).find(|id| !slots.contains_key(id));
        let id = free.ok_or(BackendError::TooManySlots { max })?;
        slots.insert(id, slot.clone());
        if let Err(refused) = self.shared.set_slot(id, &slot, size) {
            slots.remove(&id);
            return Err(host("add guest memory")(refused));
        }
        Ok(SlotId(id))
    }

    fn remove_memory(&self, id: SlotId) -> Result<(), BackendError> {
        let mut slots = self.shared.slots();
        let slot = slots.get(&id.0).ok_or(BackendError::NoSuchSlot(id))?;
        self.shared.set_slot(id.0, slot, 0).map_err(host("remove guest memory"))?;
        slots.remove(&id.0);
        Ok(())
    }

    fn irq_sink(&self) -> Arc<dyn IrqSink> {
        Arc::clone(&self.sink) as Arc<dyn IrqSink>
    }

    fn create_vcpu(&self, id: u32, table: &[CpuidLeaf]) -> Result<Box<dyn Vcpu>, BackendError> {
        let max = self.shared.max_vcpus;
        if usize::try_from(id).map_or(true, |id| id >= max) {
            return Err(BackendError::TooManyVcpus { id, max });
        }
        let fd = self.shared.vm.create_vcpu(u64::from(id)).map_err(host("create a vCPU"))?;
        fd.set_cpuid2(&cpuid::for_vcpu(table, id)?).map_err(host("set what CPUID shows"))?;
        Ok(Box::new(KvmVcpu::new(fd, Arc::clone(&self.shared))))
    }

    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        Some(self)
    }
}

impl DirtyLog for KvmPartition {
    fn take_dirty(&self, id: SlotId) -> Result<Vec<u64>, BackendError> {
        let slots = self.shared.slots();
        let slot = slots.get(&id.0).filter(|slot| slot.track_dirty).ok_or(BackendError::NoSuchSlot(id))?;
        let size = usize::try_from(slot.region.len()).map_err(|_| BackendError::NoSuchSlot(id))?;
        self.shared.vm.get_dirty_log(id.0, size).map_err(host("read the dirty log"))
    }
}
