//! A vCPU of KVM and its run loop.
//!
//! Rules for the unsafe code here:
//! 1. `kvm_run` is looked at only between two `KVM_RUN`s, by the thread that called the last one.
//! 2. A union field is read only after the exit reason that says it is the one in use.
//! 3. A raw pointer to the data of a port access is used up before the next `KVM_RUN`.
#![expect(unsafe_code, reason = "reads the page that the kernel shares with the vCPU's thread; see the rules above")]

use std::ptr::NonNull;
use std::sync::Arc;

use kvm_bindings::{KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_run};
use kvm_ioctls::{VcpuExit as Raw, VcpuFd};

use super::kick::Kicker;
use super::partition::Shared;
use super::regs;
use crate::backend::{CpuState, GuestIo, InstructionBytes, Kick, Vcpu, VcpuError, VcpuExit};

/// A vCPU. Dropping it is part of rule 2 of [`super::kick`].
pub(super) struct KvmVcpu {
    fd: VcpuFd,
    kicker: Arc<Kicker>,
    shared: Arc<Shared>,
}

/// An exit whose answer needs more of `kvm_run` than `kvm-ioctls` tells.
enum Pending {
    Continue,
    PortIn { port: u16, data: NonNull<u8>, len: usize },
    PortOut { port: u16, data: NonNull<u8>, len: usize },
    InternalError,
    Unexpected,
    Exit(VcpuExit),
    Error(VcpuError),
}

impl KvmVcpu {
    pub(super) fn new(mut fd: VcpuFd, shared: Arc<Shared>) -> Self {
        let byte = NonNull::from(&mut fd.get_kvm_run().immediate_exit);
        // SAFETY: the page stays mapped where it is until `fd` is dropped, and `drop` below detaches before that.
        let kicker = unsafe { Kicker::attach(byte) };
        Self { fd, kicker, shared }
    }

    /// One `KVM_RUN`, and the answer to what it came back with, if that needs no more than what is at hand.
    fn step(&mut self, io: &mut dyn GuestIo) -> Pending {
        let raw = match self.fd.run() {
            Ok(raw) => raw,
            // EINTR: a kick, or some other signal of this process. EAGAIN: the vCPU was woken before it could run.
            Err(e) if e.errno() == libc::EINTR => {
                return if self.kicker.take() { Pending::Exit(VcpuExit::Kicked) } else { Pending::Continue };
            }
            Err(e) if e.errno() == libc::EAGAIN => return Pending::Continue,
            Err(e) => return Pending::Error(VcpuError::Host { what: "run the vCPU", source: e.into() }),
        };
        match raw {
            Raw::IoIn(port, data) => Pending::PortIn { port, len: data.len(), data: pointer(data) },
            Raw::IoOut(port, data) => Pending::PortOut { port, len: data.len(), data: NonNull::from(data).cast() },
            Raw::MmioRead(gpa, data) => {
                data.fill(0xFF);
                io.mmio_read(gpa, data);
                Pending::Continue
            }
            Raw::MmioWrite(gpa, data) => {
                io.mmio_write(gpa, data);
                Pending::Continue
            }
            Raw::IoapicEoi(vector) => {
                io.end_of_interrupt(vector);
                Pending::Continue
            }
            Raw::Hlt => Pending::Exit(VcpuExit::Halt),
            Raw::Debug(_) => Pending::Exit(VcpuExit::Debug),
            Raw::Shutdown => Pending::Exit(VcpuExit::Shutdown),
            Raw::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => Pending::Exit(VcpuExit::Reset),
            Raw::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN | KVM_SYSTEM_EVENT_CRASH, _) => {
                Pending::Exit(VcpuExit::Shutdown)
            }
            Raw::IrqWindowOpen | Raw::Intr => Pending::Continue,
            Raw::FailEntry(reason, _) => Pending::Error(VcpuError::EntryFailed { rip: 0, reason }),
            Raw::MemoryFault { gpa, .. } => Pending::Error(VcpuError::MemoryFault { gpa }),
            Raw::InternalError => Pending::InternalError,
            _ => Pending::Unexpected,
        }
    }

    /// Size in bytes of one element of the port access that stopped the vCPU. A string instruction may bring many.
    fn port_access_size(&mut self) -> usize {
        let run = self.fd.get_kvm_run();
        // SAFETY: called only after KVM_EXIT_IO (rule 2).
        let io = unsafe { run.__bindgen_anon_1.io };
        usize::from(io.size).max(1)
    }

    /// Where the guest is, in linear addresses; 0 if not even that is known.
    fn linear_rip(&self) -> u64 {
        match (self.fd.get_regs(), self.fd.get_sregs()) {
            (Ok(regs), Ok(sregs)) => sregs.cs.base.wrapping_add(regs.rip),
            _ => 0,
        }
    }

    fn internal_error(&mut self) -> VcpuError {
        let rip = self.linear_rip();
        let (detail, mut instruction) = describe(self.fd.get_kvm_run());
        if instruction.as_slice().is_empty() {
            instruction = self.fetch(rip);
        }
        VcpuError::CannotExecute { rip, instruction, detail }
    }

    /// Reads the instruction from guest memory, up to the end of its page.
    fn fetch(&self, rip: u64) -> InstructionBytes {
        let mut bytes = [0; 15];
        let in_page = usize::try_from(4096 - rip % 4096).unwrap_or(0);
        let found = match (self.fd.translate_gva(rip), bytes.get_mut(..in_page.min(15))) {
            (Ok(t), Some(into)) if t.valid != 0 => self.shared.peek(t.physical_address, into),
            _ => 0,
        };
        InstructionBytes::new(bytes.get(..found).unwrap_or_default())
    }
}

fn pointer(data: &mut [u8]) -> NonNull<u8> {
    NonNull::from(data).cast()
}

/// What the kernel says about KVM_EXIT_INTERNAL_ERROR, and the instruction's bytes if it tells them.
fn describe(run: &kvm_run) -> (String, InstructionBytes) {
    const EMULATION: u32 = 1;
    const HAS_BYTES: u64 = 1;
    // SAFETY: called only after KVM_EXIT_INTERNAL_ERROR (rule 2).
    let internal = unsafe { run.__bindgen_anon_1.internal };
    let text = match internal.suberror {
        EMULATION => "the host kernel cannot emulate it",
        2 => "it faulted while an event was being emulated",
        3 => "it stopped while an event was being delivered",
        4 => "the processor stopped it for a reason that the host kernel does not know",
        _ => "the host kernel failed",
    };
    let detail = format!("{text} (KVM internal error {})", internal.suberror);
    if internal.suberror != EMULATION {
        return (detail, InstructionBytes::default());
    }
    // SAFETY: the layout of an internal error with suberror 1 (rule 2).
    let failure = unsafe { run.__bindgen_anon_1.emulation_failure };
    if failure.ndata < 3 || failure.flags & HAS_BYTES == 0 {
        return (detail, InstructionBytes::default());
    }
    // SAFETY: the flag says that these bytes are there.
    let found = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
    let len = usize::from(found.insn_size);
    (detail, InstructionBytes::new(found.insn_bytes.get(..len).unwrap_or_default()))
}

impl Vcpu for KvmVcpu {
    fn run(&mut self, io: &mut dyn GuestIo) -> Result<VcpuExit, VcpuError> {
        let kicker = Arc::clone(&self.kicker);
        let _inside = kicker.enter().map_err(|source| VcpuError::Host { what: "take signals", source })?;
        loop {
            match self.step(io) {
                Pending::Continue => {}
                Pending::PortIn { port, data, len } => {
                    let size = self.port_access_size();
                    // SAFETY: the kernel's data of this access, `len` bytes that nobody else looks at (rules 1, 3).
                    let data = unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), len) };
                    for element in data.chunks_exact_mut(size) {
                        element.fill(0xFF);
                        io.pio_read(port, element);
                    }
                }
                Pending::PortOut { port, data, len } => {
                    let size = self.port_access_size();
                    // SAFETY: as above.
                    let data = unsafe { std::slice::from_raw_parts(data.as_ptr(), len) };
                    for element in data.chunks_exact(size) {
                        io.pio_write(port, element);
                    }
                }
                Pending::InternalError => return Err(self.internal_error()),
                Pending::Unexpected => {
                    let rip = self.linear_rip();
                    return Err(VcpuError::UnexpectedExit { reason: self.fd.get_kvm_run().exit_reason, rip });
                }
                Pending::Error(VcpuError::EntryFailed { reason, .. }) => {
                    return Err(VcpuError::EntryFailed { rip: self.linear_rip(), reason });
                }
                Pending::Error(error) => return Err(error),
                Pending::Exit(exit) => return Ok(exit),
            }
        }
    }

    fn state(&self) -> Result<CpuState, VcpuError> {
        regs::get(&self.fd, &self.shared.msr_indices)
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), VcpuError> {
        regs::set(&self.fd, state)
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.kicker) as Arc<dyn Kick>
    }
}

impl Drop for KvmVcpu {
    fn drop(&mut self) {
        self.kicker.detach();
    }
}
