//! Interrupts as the run loop sees them, and the processor's own view of its local APIC.

use crate::apic::{Effect, Refused};
use crate::core::{Core, Shadow};
use crate::flags::bits as fl;
use crate::pv::{GuestWrite, Now};

/// An interrupt that may be delivered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// NMI.
    Nmi,
    /// A maskable one, already acknowledged at the local APIC.
    External(u8),
}

impl Core {
    /// The next interrupt to deliver, acknowledged.
    pub(crate) fn next_interrupt(&mut self) -> Option<Interrupt> {
        if self.nmi_waits() {
            self.nmi_pending -= 1;
            return Some(Interrupt::Nmi);
        }
        if self.flags & fl::IF == 0 || self.shadow != Shadow::None {
            return None;
        }
        self.apic.pending()?;
        Some(Interrupt::External(self.apic.acknowledge()))
    }

    /// An NMI arrives. One waits while another is handled (SDM vol. 3A, §6.7.1). Before that there may be two: the first
    /// would be in its handler already if the processor had not had to wait for its turn.
    pub(crate) fn signal_nmi(&mut self) {
        let most = if self.nmi_blocked { 1 } else { 2 };
        self.nmi_pending = self.nmi_pending.saturating_add(1).min(most);
    }

    /// Is there an NMI to take now? STI holds it off as well, as it may (SDM vol. 3A, §6.8.1).
    fn nmi_waits(&self) -> bool {
        self.nmi_pending != 0 && !self.nmi_blocked && self.shadow == Shadow::None
    }

    /// Would `next_interrupt` have one?
    pub(crate) fn interrupt_waits(&self) -> bool {
        self.nmi_waits() || self.flags & fl::IF != 0 && self.shadow == Shadow::None && self.apic.pending().is_some()
    }

    /// Has it something to do?
    pub(crate) fn ready(&self) -> bool {
        !self.waits_for_startup && (!self.halted || self.interrupt_waits())
    }

    /// Tells the guest how long others have kept the processor waiting, if that has grown.
    pub(crate) fn tell_stolen(&mut self) {
        if self.stolen != self.stolen_told {
            self.stolen_told = self.stolen;
            let now = self.pv_now();
            if let Some(write) = self.pv.steal_time_bytes(&now) {
                self.write_guest(&write);
            }
        }
    }

    /// Nanoseconds since the guest began.
    pub(crate) fn now(&self) -> u64 {
        self.time.now(self.retired)
    }

    /// The time-stamp counter.
    pub(crate) fn tsc(&self) -> u64 {
        self.now().wrapping_add(self.tsc_offset)
    }

    /// Makes the time-stamp counter `value` from now on.
    pub(crate) fn set_tsc(&mut self, value: u64) {
        self.set_tsc_offset(value.wrapping_sub(self.now()));
    }

    /// Sets what the guest's TSC is ahead of the clock.
    pub(crate) fn set_tsc_offset(&mut self, offset: u64) {
        self.tsc_offset = offset;
        self.apic.set_tsc_offset(offset);
        let now = self.pv_now();
        if let Some(write) = self.pv.system_time_bytes(&now) {
            self.write_guest(&write);
        }
        self.recheck = true;
    }

    /// What kvmclock is told.
    pub(crate) fn pv_now(&self) -> Now {
        let nanoseconds = self.now();
        let tsc = nanoseconds.wrapping_add(self.tsc_offset);
        Now { tsc, nanoseconds, wall: self.time.wall().wrapping_add(nanoseconds), stolen: self.stolen }
    }

    /// RDMSR of a kvmclock or steal-time register.
    pub(crate) fn pv_read(&self, index: u32) -> Result<u64, Refused> {
        self.pv.read(index)
    }

    /// WRMSR of a kvmclock or steal-time register.
    pub(crate) fn pv_write(&mut self, index: u32, value: u64) -> Result<(), Refused> {
        let now = self.pv_now();
        if let Some(write) = self.pv.write(index, value, &now)? {
            self.write_guest(&write);
        }
        Ok(())
    }

    /// Bytes that the processor itself puts into guest memory; where there is none they are lost.
    pub(crate) fn write_guest(&mut self, write: &GuestWrite) {
        for (gpa, byte) in (write.gpa..).zip(write.bytes()) {
            if self.code.holds(gpa) {
                self.code.written(gpa, 1);
                self.leave_block = true;
            }
            // Not there: the guest named a place without memory.
            let _ = self.tlb.map().write(gpa, *byte);
        }
    }

    /// Takes what the write of an APIC register means for others.
    pub(crate) fn apic_effect(&mut self, effect: Effect) {
        if effect != Effect::None {
            self.effects.push(effect);
        }
        // The run loop looks at the effects, and at what may be pending now, before the next instruction.
        self.leave_block = true;
        self.recheck = true;
    }

    /// Reads the local APIC's page. `None`: it is not there.
    pub(crate) fn apic_read(&mut self, gpa: u64, size: usize) -> Option<u64> {
        if !self.apic.claims(gpa) {
            return None;
        }
        let now = self.now();
        let mut data = [0; 8];
        self.apic.mmio_read((gpa & 0xFFF) as u16, data.get_mut(..size)?, now);
        Some(u64::from_le_bytes(data))
    }

    /// Writes the local APIC's page. False: it is not there.
    pub(crate) fn apic_write(&mut self, gpa: u64, size: usize, value: u64) -> bool {
        if !self.apic.claims(gpa) {
            return false;
        }
        let now = self.now();
        let data = value.to_le_bytes();
        let effect = self.apic.mmio_write((gpa & 0xFFF) as u16, data.get(..size).unwrap_or(&data), now);
        self.apic_effect(effect);
        true
    }

    /// RDMSR of an x2APIC register.
    pub(crate) fn apic_msr_read(&mut self, index: u32) -> Result<u64, Refused> {
        let now = self.now();
        self.apic.msr_read(index, now)
    }

    /// WRMSR of an x2APIC register.
    pub(crate) fn apic_msr_write(&mut self, index: u32, value: u64) -> Result<(), Refused> {
        let now = self.now();
        let effect = self.apic.msr_write(index, value, now)?;
        self.apic_effect(effect);
        Ok(())
    }

    /// IA32_TSC_DEADLINE.
    pub(crate) fn tsc_deadline(&mut self) -> Result<u64, Refused> {
        let now = self.now();
        self.apic.tsc_deadline(now)
    }

    /// Write of IA32_TSC_DEADLINE.
    pub(crate) fn set_tsc_deadline(&mut self, value: u64) -> Result<(), Refused> {
        let now = self.now();
        self.apic.set_tsc_deadline(value, now)?;
        self.apic_effect(Effect::None);
        Ok(())
    }

    /// Write of IA32_APIC_BASE.
    pub(crate) fn set_apic_base(&mut self, value: u64) -> Result<(), Refused> {
        self.apic.set_base(value)?;
        self.apic_effect(Effect::None);
        Ok(())
    }

    /// CR8.
    pub(crate) fn cr8(&self) -> u64 {
        self.apic.cr8().into()
    }

    /// Write of CR8, whose reserved bits are checked.
    pub(crate) fn set_cr8(&mut self, class: u8) {
        self.apic.set_cr8(class);
        self.recheck = true;
    }

    /// CPUID.
    pub(crate) fn cpuid_leaf(&self, function: u32, index: u32) -> [u32; 4] {
        let state = crate::cpuid::Dynamic {
            apic_id: self.apic.id(),
            apic_enabled: self.apic.enabled(),
            osxsave: self.cr4 & crate::core::cr::CR4_OSXSAVE != 0,
        };
        crate::cpuid::query(&self.cpuid, function, index, state)
    }

    /// A random number, from the host or, in a run that can be repeated, from its seed.
    pub(crate) fn random(&mut self) -> u64 {
        self.entropy.next()
    }
}
