//! The boundary between the machine and whatever executes its instructions.
//!
//! One machine model runs on several backends. A backend offers three things: a [`Backend`] makes partitions, a
//! [`Partition`] is a guest-physical address space with interrupt delivery, a [`Vcpu`] executes. Device accesses are
//! a callback ([`GuestIo`]) and not an exit, because a CPU in software needs the answer in mid-instruction; what is
//! left as an exit ([`VcpuExit`]) is what changes the run loop's course.
//!
//! What only some backends can do is a trait of its own that a partition hands out if it has it ([`DirtyLog`]), so
//! nothing here ever has to be left unimplemented. Nothing in this module knows which backends there are; [`select`] does.

use std::sync::Arc;

use vm_memory::GuestRegionMmap;

mod cpuid;
mod error;
mod state;

pub mod kvm;
pub mod select;
pub mod soft;

pub use cpuid::{CpuFeatureError, CpuFeatures, CpuidLeaf, Feature};
pub use error::{BackendError, InstructionBytes, VcpuError};
pub use state::{CpuState, DescriptorTable, FpuState, Msr, Registers, Segment, SegmentRegisters, bits};

/// Makes partitions.
pub trait Backend: Send + Sync {
    /// Short name, for messages: `kvm`, `soft`.
    fn name(&self) -> &'static str;

    /// What partitions of this backend can do on this host.
    fn capabilities(&self) -> &Capabilities;

    /// Makes an empty partition: no memory, no vCPU, one interrupt controller that takes MSIs.
    ///
    /// # Errors
    /// [`BackendError`] when the host refuses.
    fn create_partition(&self) -> Result<Arc<dyn Partition>, BackendError>;
}

/// What a backend can do on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Most vCPUs a partition can have.
    pub max_vcpus: usize,
    /// Most memory slots a partition can have.
    pub max_memory_slots: usize,
    /// Everything a vCPU of this backend can show in CPUID; [`CpuFeatures::apply`] cuts a vCPU's own table from it.
    pub cpuid: Vec<CpuidLeaf>,
}

/// One guest-physical range backed by host memory.
#[derive(Clone)]
pub struct MemorySlot {
    /// The host memory and the guest-physical address it appears at.
    pub region: Arc<GuestRegionMmap>,
    /// Guest writes become MMIO instead of reaching the memory.
    pub read_only: bool,
    /// Guest writes are recorded for [`DirtyLog`].
    pub track_dirty: bool,
}

/// Names a slot within its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub(crate) u32);

/// A guest-physical address space, its interrupt delivery, and the vCPUs in it.
pub trait Partition: Send + Sync {
    /// Makes host memory visible to the guest. The partition keeps the mapping alive until the slot is removed.
    ///
    /// # Errors
    /// [`BackendError::SlotOverlap`] when the range touches one that is there already,
    /// [`BackendError::TooManySlots`], or the host's refusal.
    fn add_memory(&self, slot: MemorySlot) -> Result<SlotId, BackendError>;

    /// Takes a slot away; what the guest does there from now on is MMIO. When this returns, the guest cannot touch
    /// the memory any more.
    ///
    /// # Errors
    /// [`BackendError::NoSuchSlot`], or the host's refusal.
    fn remove_memory(&self, id: SlotId) -> Result<(), BackendError>;

    /// Where devices deliver interrupts.
    fn irq_sink(&self) -> Arc<dyn IrqSink>;

    /// Makes a vCPU that shows `cpuid`, in its state after power-on.
    ///
    /// # Errors
    /// [`BackendError::TooManyVcpus`], or the host's refusal (also when `id` is taken).
    fn create_vcpu(&self, id: u32, cpuid: &[CpuidLeaf]) -> Result<Box<dyn Vcpu>, BackendError>;

    /// Makes `count` processors, 0 to `count - 1`, that one [`Vcpu::run`] executes in turns. State is that of the first, which
    /// starts; the others wait for its start-up message.
    ///
    /// # Errors
    /// As [`Partition::create_vcpu`]; [`BackendError::TooManyVcpus`] for more than one where processors are threads of
    /// their own.
    fn create_processors(&self, count: u32, cpuid: &[CpuidLeaf]) -> Result<Box<dyn Vcpu>, BackendError> {
        if count > 1 {
            return Err(BackendError::TooManyVcpus { id: count - 1, max: 1 });
        }
        self.create_vcpu(0, cpuid)
    }

    /// Dirty page tracking, where the backend has it.
    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        None
    }

    /// The machine's time, where the backend makes it.
    fn time(&self) -> Option<Arc<dyn VmTime>> {
        None
    }
}

/// Optional capability of a [`Partition`]: time comes from it, and its vCPUs call [`GuestIo::tick`] when a device's
/// deadline has come. So a vCPU and the devices never disagree on what time it is.
pub trait VmTime: Send + Sync {
    /// Nanoseconds of VM time: never goes back, stands still while the VM does.
    fn now(&self) -> u64;
    /// Nanoseconds since 1970-01-01 00:00 UTC.
    fn wall(&self) -> u64;
    /// VM time goes on.
    fn start(&self);
    /// VM time stands still.
    fn stop(&self);
    /// The next deadline of some device may have moved closer.
    fn deadline_changed(&self);
}

/// Optional capability of a [`Partition`]: which pages the guest has written.
pub trait DirtyLog {
    /// One bit a 4 KiB page of the slot, set if it was written since the last call (or since the slot was added).
    ///
    /// # Errors
    /// [`BackendError::NoSuchSlot`] also for a slot added without [`MemorySlot::track_dirty`].
    fn take_dirty(&self, id: SlotId) -> Result<Vec<u64>, BackendError>;
}

/// A message-signalled interrupt as the x86 local APIC takes it (SDM vol. 3A, §11.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// Message address, 0xFEEx_xxxx.
    pub address: u64,
    /// Message data: vector, delivery mode, trigger mode.
    pub data: u32,
}

/// Pins of the machine's IOAPIC.
pub const IOAPIC_PINS: u8 = 24;

/// Takes interrupts from devices. The IOAPIC is a device: it turns its pins into messages.
pub trait IrqSink: Send + Sync {
    /// Delivers one message. A message that addresses no vCPU is dropped, as on a real bus.
    ///
    /// # Errors
    /// [`BackendError`] only when the host fails.
    fn signal_msi(&self, msi: Msi) -> Result<(), BackendError>;

    /// Says which message IOAPIC pin `pin` would send now (`None`: masked). The local APIC needs this to know for
    /// which vectors it must report the end of interrupt through [`GuestIo::end_of_interrupt`].
    ///
    /// # Errors
    /// [`BackendError::NoSuchPin`] for a pin from [`IOAPIC_PINS`] on, or the host's refusal.
    fn route_pin(&self, pin: u8, msi: Option<Msi>) -> Result<(), BackendError>;
}

/// The devices, as a vCPU sees them. Slices are 1, 2, 4 or 8 bytes for memory, 1, 2 or 4 for ports, except that a
/// backend may split an access that crosses a boundary into parts of 1 to 8 bytes.
pub trait GuestIo {
    /// IN from `port`. `data` comes filled with ones: what nobody answers stays so.
    fn pio_read(&mut self, port: u16, data: &mut [u8]);
    /// OUT to `port`.
    fn pio_write(&mut self, port: u16, data: &[u8]);
    /// Read of a guest-physical address without memory. `data` comes filled with ones.
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]);
    /// Write to a guest-physical address without (writable) memory.
    fn mmio_write(&mut self, gpa: u64, data: &[u8]);
    /// The guest has finished the interrupt with this vector, and an IOAPIC pin is routed to it.
    fn end_of_interrupt(&mut self, vector: u8);
    /// Lets devices do what is due at VM time `now`; returns when the next of them has something to do. Called only by
    /// vCPUs whose partition has a [`Partition::time`].
    fn tick(&mut self, now: u64) -> Option<u64> {
        let _ = now;
        None
    }
}

/// Why a vCPU stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuExit {
    /// HLT, and this backend leaves the waiting to its caller. (One with its own local APIC waits inside `run`.)
    Halt,
    /// Triple fault, or INIT with nothing to take it (SDM vol. 3A, §7.15).
    Shutdown,
    /// The guest asked the backend for a reset.
    Reset,
    /// A debug exception that was asked for.
    Debug,
    /// [`Kick::kick`] was called. The last device access is complete, so the state is that between two instructions.
    Kicked,
}

/// A processor.
pub trait Vcpu: Send {
    /// Executes until something in [`VcpuExit`] happens, answering device accesses through `io`.
    ///
    /// # Errors
    /// [`VcpuError`]: an instruction that this host cannot carry out, an invalid state, or a failing host.
    fn run(&mut self, io: &mut dyn GuestIo) -> Result<VcpuExit, VcpuError>;

    /// The state, between two instructions.
    ///
    /// # Errors
    /// [`VcpuError::Host`].
    fn state(&self) -> Result<CpuState, VcpuError>;

    /// Sets the state.
    ///
    /// # Errors
    /// [`VcpuError::MsrRefused`] names the first model-specific register that could not be set;
    /// [`VcpuError::Host`] otherwise.
    fn set_state(&mut self, state: &CpuState) -> Result<(), VcpuError>;

    /// A handle that stops `run` from another thread, or from inside a [`GuestIo`] callback.
    fn kicker(&self) -> Arc<dyn Kick>;
}

/// Stops a vCPU.
pub trait Kick: Send + Sync {
    /// Makes the running, or else the next, [`Vcpu::run`] return [`VcpuExit::Kicked`] soon. Kicks do not add up.
    /// Does nothing once the vCPU is gone.
    fn kick(&self);
}
