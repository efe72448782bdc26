//! The machine's standard set of devices, wired up and put on a bus.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex};

use bulla_boot_abi::{map, port};
use serde::{Deserialize, Serialize};

use super::ioapic::{IOAPIC_LEN, Ioapic, IoapicState};
use super::pic::{ELCR_PORTS, PIC_MASTER_PORTS, PIC_SLAVE_PORTS, PicPair, PicPorts, PicRange, PicState};
use super::pit::{PIT_LEN, PIT_PORTS, Pit, PitPorts, PitState, SYSTEM_CONTROL_B};
use super::pm::{PM_LEN, Pm, PmState};
use super::power::{
    I8042, I8042_PORT, PowerHandler, RESET_CONTROL_BASE, RESET_CONTROL_LEN, ResetControl, ResetControlState,
};
use super::rtc::{RTC_LEN, RTC_PORTS, Rtc, RtcState};
use super::serial::{Peer, SERIAL_PORTS, SerialPort, SerialState};
use super::tpm::{TpmBackend, TpmDevice, TpmInterface, TpmState};
use super::{Bus, BusError, Clock, IrqLine, NOTIFY_PORT_LEN, NotifyPort, RestoreError, SaveRestore, Shared, lock};
use crate::backend::{GuestIo, IrqSink};

/// Interrupt of the timer; it is on pin 2 of the I/O APIC.
pub const TIMER_IRQ: u8 = 0;
/// Interrupt of the first serial port.
pub const COM1_IRQ: u8 = 4;
/// Interrupt of the second serial port.
pub const COM2_IRQ: u8 = 3;
/// Interrupt of the TPM's FIFO interface, if the guest picks it in INT_VECTOR. The ACPI tables name none: a command is done
/// when the write that starts it is, so there is nothing to wait for.
pub const TPM_IRQ: u8 = 5;
/// Interrupt of the real-time clock.
pub const RTC_IRQ: u8 = 8;
/// ACPI's system control interrupt.
pub const SCI_IRQ: u8 = 9;
/// Where [`TIMER_IRQ`] is on the I/O APIC.
const TIMER_PIN: u8 = 2;

/// What the devices need from outside.
pub struct PlatformParts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Takes the I/O APIC's messages.
    pub irq_sink: Arc<dyn IrqSink>,
    /// The 8259 pair's output. Use [`super::NoIrq`] with a backend that cannot inject external interrupts: nothing but
    /// a kernel without I/O APIC needs it.
    pub ext_int: Arc<dyn IrqLine>,
    /// Takes the console's output.
    pub com1: Box<dyn Write + Send>,
    /// What the second serial port leads to.
    pub com2: Box<dyn Peer>,
    /// The TPM.
    pub tpm: Box<dyn TpmBackend>,
    /// What the guest sees of it.
    pub tpm_interface: TpmInterface,
    /// Gets each value written to the progress port, while the guest waits.
    pub progress: Box<dyn FnMut(u32) + Send>,
    /// Gets the guest's wish to reset or power off.
    pub power: PowerHandler,
}

impl fmt::Debug for PlatformParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlatformParts")
    }
}

/// An interrupt request as it is wired in a PC: to both interrupt controllers.
struct IsaLine {
    irq: u8,
    pin: u8,
    pic: Shared<PicPair>,
    ioapic: Shared<Ioapic>,
}

impl IrqLine for IsaLine {
    fn set_level(&self, high: bool) {
        lock(&self.pic).set_irq(self.irq, high);
        lock(&self.ioapic).set_pin(self.pin, high);
    }
}

fn isa_line(irq: u8, pic: &Shared<PicPair>, ioapic: &Shared<Ioapic>) -> Arc<dyn IrqLine> {
    let pin = if irq == TIMER_IRQ { TIMER_PIN } else { irq };
    Arc::new(IsaLine { irq, pin, pic: Arc::clone(pic), ioapic: Arc::clone(ioapic) })
}

/// The devices of a machine. Shared between vCPU threads, the timer thread and whoever feeds the console.
#[derive(Debug)]
pub struct Platform {
    bus: Bus,
    com1: Shared<SerialPort>,
    com2: Shared<SerialPort>,
    tpm: Shared<TpmDevice>,
    pm: Shared<Pm>,
    pit: Shared<Pit>,
    rtc: Shared<Rtc>,
    reset_control: Shared<ResetControl>,
    pic: Shared<PicPair>,
    ioapic: Shared<Ioapic>,
}

fn shared<D>(device: D) -> Shared<D> {
    Arc::new(Mutex::new(device))
}

impl Platform {
    /// Builds and wires all devices.
    ///
    /// # Errors
    /// Only if two of them were given the same addresses, which a test rules out.
    pub fn new(parts: PlatformParts) -> Result<Self, BusError> {
        let PlatformParts { clock, irq_sink, ext_int, com1, com2, tpm, tpm_interface, progress, power } = parts;
        let pic = shared(PicPair::new(ext_int));
        let ioapic = shared(Ioapic::new(irq_sink));
        let line = |irq| isa_line(irq, &pic, &ioapic);
        let platform = Self {
            bus: Bus::new(),
            com1: shared(SerialPort::new(Box::new(com1), line(COM1_IRQ), Arc::clone(&clock))),
            com2: shared(SerialPort::new(com2, line(COM2_IRQ), Arc::clone(&clock))),
            tpm: shared(TpmDevice::new(tpm_interface, map::TPM_BASE, tpm, TPM_IRQ, line(TPM_IRQ))),
            pm: shared(Pm::new(port::S5_SLP_TYP, Arc::clone(&clock), line(SCI_IRQ), Arc::clone(&power))),
            pit: shared(Pit::new(Arc::clone(&clock), line(TIMER_IRQ))),
            rtc: shared(Rtc::new(clock, line(RTC_IRQ))),
            reset_control: shared(ResetControl::new(Arc::clone(&power))),
            pic: Arc::clone(&pic),
            ioapic: Arc::clone(&ioapic),
        };
        let progress = shared(NotifyPort::new(progress));
        let i8042 = shared(I8042::new(power));
        platform.register(progress, i8042)
    }

    /// Puts the devices on the bus.
    fn register(mut self, progress: Shared<NotifyPort>, i8042: Shared<I8042>) -> Result<Self, BusError> {
        let pic = |range| shared(PicPorts::new(Arc::clone(&self.pic), range));
        let bus = &mut self.bus;
        bus.add_pio("8259A master", PIC_MASTER_PORTS, 2, pic(PicRange::Master))?;
        bus.add_pio("8259A slave", PIC_SLAVE_PORTS, 2, pic(PicRange::Slave))?;
        bus.add_pio("8259A edge/level control", ELCR_PORTS, 2, pic(PicRange::Elcr))?;
        bus.add_pio("8254", PIT_PORTS, PIT_LEN, shared(PitPorts::Counters(Arc::clone(&self.pit))))?;
        bus.add_pio("system control B", SYSTEM_CONTROL_B, 1, shared(PitPorts::ControlB(Arc::clone(&self.pit))))?;
        bus.add_pio("8042", I8042_PORT, 1, i8042)?;
        bus.add_pio("RTC", RTC_PORTS, RTC_LEN, self.rtc.clone())?;
        bus.add_pio("COM2", port::COM2, SERIAL_PORTS, self.com2.clone())?;
        bus.add_pio("COM1", port::COM1, SERIAL_PORTS, self.com1.clone())?;
        bus.add_pio("ACPI PM1a", port::PM1A_EVT, PM_LEN, self.pm.clone())?;
        bus.add_pio("progress", port::PROGRESS, NOTIFY_PORT_LEN, progress)?;
        bus.add_pio("reset control", RESET_CONTROL_BASE, RESET_CONTROL_LEN, self.reset_control.clone())?;
        bus.add_mmio("IOAPIC", map::IOAPIC_BASE, IOAPIC_LEN, self.ioapic.clone())?;
        bus.add_mmio("TPM", map::TPM_BASE, map::TPM_SIZE, self.tpm.clone())?;
        Ok(self)
    }

    /// The bus with all devices on it.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Interrupt request `irq` of the ISA bus, for a device that is not of the standard set.
    pub fn irq_line(&self, irq: u8) -> Arc<dyn IrqLine> {
        isa_line(irq, &self.pic, &self.ioapic)
    }

    /// Gives the guest something to read from the console; returns how many bytes were taken.
    pub fn console_input(&self, bytes: &[u8]) -> usize {
        lock(&self.com1).input(bytes)
    }

    /// Writes out what the guest has printed and what still waits in a buffer.
    pub fn flush_consoles(&self) {
        lock(&self.com1).flush();
        lock(&self.com2).flush();
    }

    /// Presses the power button.
    pub fn press_power_button(&self) {
        lock(&self.pm).press_power_button();
    }

    /// A local APIC has finished the interrupt with `vector`.
    pub fn end_of_interrupt(&self, vector: u8) {
        lock(&self.ioapic).end_of_interrupt(vector);
    }

    /// A vCPU takes the external interrupt that the 8259 pair's output announced: its vector.
    pub fn acknowledge_ext_int(&self) -> u8 {
        lock(&self.pic).acknowledge()
    }

    /// The VM time at which [`Platform::tick`] is next due, if any device waits for a time.
    pub fn next_deadline(&self) -> Option<u64> {
        let deadlines = [
            lock(&self.com1).next_deadline(),
            lock(&self.com2).next_deadline(),
            lock(&self.pm).next_deadline(),
            lock(&self.pit).next_deadline(),
            lock(&self.rtc).next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Lets all devices do what is due at VM time `now`.
    pub fn tick(&self, now: u64) {
        lock(&self.com1).tick(now);
        lock(&self.com2).tick(now);
        lock(&self.pm).tick(now);
        lock(&self.pit).tick(now);
        lock(&self.rtc).tick();
    }

    /// The state of all devices. Only meaningful while no vCPU runs. What the guest has printed is written out first:
    /// it belongs to the host this machine ran on.
    pub fn save(&self) -> PlatformState {
        self.flush_consoles();
        PlatformState {
            com1: lock(&self.com1).save(),
            com2: lock(&self.com2).save(),
            tpm: lock(&self.tpm).save(),
            pm: lock(&self.pm).save(),
            pit: lock(&self.pit).save(),
            rtc: lock(&self.rtc).save(),
            reset_control: lock(&self.reset_control).save(),
            pic: lock(&self.pic).save(),
            ioapic: lock(&self.ioapic).save(),
        }
    }

    /// Replaces the state of all devices.
    ///
    /// # Errors
    /// If a part is refused. Devices before it have their new state already: the machine is to be thrown away then.
    pub fn restore(&self, state: &PlatformState) -> Result<(), RestoreError> {
        lock(&self.com1).restore(&state.com1)?;
        lock(&self.com2).restore(&state.com2)?;
        lock(&self.tpm).restore(&state.tpm)?;
        lock(&self.pm).restore(&state.pm)?;
        lock(&self.pit).restore(&state.pit)?;
        lock(&self.rtc).restore(&state.rtc)?;
        lock(&self.reset_control).restore(&state.reset_control)?;
        // The controllers come last: what devices signal while they are restored is in the controllers' state.
        lock(&self.pic).restore(&state.pic)?;
        lock(&self.ioapic).restore(&state.ioapic)
    }

    /// The machine's reset: all devices back to their state after power-on.
    pub fn reset(&self) {
        lock(&self.com1).reset();
        lock(&self.com2).reset();
        lock(&self.tpm).reset();
        lock(&self.pm).reset();
        lock(&self.pit).reset();
        lock(&self.rtc).reset();
        lock(&self.reset_control).reset();
        lock(&self.pic).reset();
        lock(&self.ioapic).reset();
    }
}

/// State of all devices; each part has its own version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformState {
    /// First serial port.
    pub com1: SerialState,
    /// Second serial port.
    pub com2: SerialState,
    /// TPM interface.
    pub tpm: TpmState,
    /// ACPI fixed hardware.
    pub pm: PmState,
    /// Interval timer.
    pub pit: PitState,
    /// Real-time clock.
    pub rtc: RtcState,
    /// Reset control.
    pub reset_control: ResetControlState,
    /// 8259A pair.
    pub pic: PicState,
    /// I/O APIC.
    pub ioapic: IoapicState,
}

/// The devices as a vCPU sees them: `vcpu.run(&mut &*platform)`.
impl GuestIo for &Platform {
    fn pio_read(&mut self, port: u16, data: &mut [u8]) {
        self.bus.pio_read(port, data);
    }

    fn pio_write(&mut self, port: u16, data: &[u8]) {
        self.bus.pio_write(port, data);
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        self.bus.mmio_read(gpa, data);
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        self.bus.mmio_write(gpa, data);
    }

    fn end_of_interrupt(&mut self, vector: u8) {
        Platform::end_of_interrupt(self, vector);
    }

    fn tick(&mut self, now: u64) -> Option<u64> {
        Platform::tick(self, now);
        self.next_deadline()
    }
}

#[cfg(test)]
#[path = "platform_tests.rs"]
mod tests;
