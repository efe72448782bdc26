//! The software processor as a vCPU.

use std::sync::Arc;

use bulla_cpu::{Bus, Cpu, Exit, Handle};

use super::partition::SoftIrqSink;
use super::state;
use super::time::VirtualTime;
use crate::backend::{CpuState, GuestIo, Kick, Vcpu, VcpuError, VcpuExit, VmTime};

/// A vCPU.
pub(super) struct SoftVcpu {
    cpu: Cpu,
    sink: Arc<SoftIrqSink>,
    /// Where time is virtual: devices are served on this thread.
    time: Option<Arc<VirtualTime>>,
}

impl SoftVcpu {
    pub(super) fn new(cpu: Cpu, sink: Arc<SoftIrqSink>, time: Option<Arc<VirtualTime>>) -> Self {
        Self { cpu, sink, time }
    }
}

impl Vcpu for SoftVcpu {
    fn run(&mut self, io: &mut dyn GuestIo) -> Result<VcpuExit, VcpuError> {
        let time = self.time.as_deref();
        if let Some(time) = time {
            // Whatever happened to the devices meanwhile.
            time.deadline_changed();
        }
        let exit = self.cpu.run(&mut Devices { io, sink: &self.sink, time, next: None });
        Ok(match exit {
            Exit::Kicked => VcpuExit::Kicked,
            Exit::Shutdown => VcpuExit::Shutdown,
        })
    }

    fn state(&self) -> Result<CpuState, VcpuError> {
        self.cpu.core(0).map(state::get).ok_or(VcpuError::EntryFailed { rip: 0, reason: 0 })
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), VcpuError> {
        let core = self.cpu.core_mut(0).ok_or(VcpuError::EntryFailed { rip: 0, reason: 0 })?;
        state::set(core, state)?;
        for n in 1..self.cpu.processors() {
            if let Some(core) = self.cpu.core_mut(n) {
                state::set_alike(core, state)?;
            }
        }
        Ok(())
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::new(Kicker(self.cpu.handle()))
    }
}

struct Kicker(Arc<Handle>);

impl Kick for Kicker {
    fn kick(&self) {
        self.0.kick();
    }
}

/// The machine's devices as the processor wants them.
struct Devices<'a> {
    io: &'a mut dyn GuestIo,
    sink: &'a SoftIrqSink,
    time: Option<&'a VirtualTime>,
    /// When a device next has something to do, as of the last time they were asked.
    next: Option<u64>,
}

impl Bus for Devices<'_> {
    fn pio_read(&mut self, port: u16, data: &mut [u8]) {
        self.io.pio_read(port, data);
    }

    fn pio_write(&mut self, port: u16, data: &[u8]) {
        self.io.pio_write(port, data);
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        self.io.mmio_read(gpa, data);
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        self.io.mmio_write(gpa, data);
    }

    fn end_of_interrupt(&mut self, vector: u8) {
        if self.sink.is_routed(vector) {
            self.io.end_of_interrupt(vector);
        }
    }

    fn next_deadline(&mut self) -> Option<u64> {
        let time = self.time?;
        self.advance(time.now());
        self.next
    }

    fn advance(&mut self, now: u64) {
        if let Some(time) = self.time
            && (time.take_changed() || self.next.is_some_and(|next| next <= now))
        {
            self.next = self.io.tick(now);
        }
    }
}
