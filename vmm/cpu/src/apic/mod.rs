//! The local APIC (SDM vol. 3A, chapter 11) as a state machine: registers in, messages and interrupts out.
//!
//! It does nothing by itself. Whoever owns it
//! - gives it the accesses to its page ([`Apic::mmio_read`], [`Apic::mmio_write`]) or its MSRs ([`Apic::msr_read`],
//!   [`Apic::msr_write`]), and carries out the [`Effect`];
//! - gives it the messages that come in ([`deliver`], or [`Apic::receive`] where there is one APIC only);
//! - tells it the time: [`Apic::advance`] at [`Apic::next_deadline`] or later;
//! - asks [`Apic::pending`] between instructions, and calls [`Apic::acknowledge`] when it takes the interrupt.
//!
//! Left out, because no processor that this crate is has them: CMCI, suppression of EOI broadcasts, thermal and performance
//! interrupts (their LVT entries are registers without a source).

mod access;
mod message;
mod regs;
mod state;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;

pub use message::{Delivery, Destination, Effect, Event, Message, Msi};
pub use state::{ApicState, BadState};
pub use vectors::Vectors;

use regs::{
    ERROR, ESR_RECEIVE_ILLEGAL_VECTOR, FIRST_LEGAL_VECTOR, LINT0, LVT_ENTRIES, LVT_LEVEL, LVT_MASKED, LVT_MODE,
    LVT_REMOTE_IRR, LVT_VECTOR, SVR_ENABLED, TIMER,
};
use timer::{Mode, Timer};

/// IA32_APIC_BASE (SDM vol. 3A, figure 11-5): this processor began the boot.
pub const BASE_BSP: u64 = 1 << 8;
/// IA32_APIC_BASE: x2APIC mode.
pub const BASE_X2APIC: u64 = 1 << 10;
/// IA32_APIC_BASE: the APIC is there.
pub const BASE_ENABLED: u64 = 1 << 11;
/// Where the registers are after reset.
pub const DEFAULT_BASE: u64 = 0xFEE0_0000;
/// IA32_APIC_BASE.
pub const MSR_APIC_BASE: u32 = 0x1B;
/// IA32_TSC_DEADLINE.
pub const MSR_TSC_DEADLINE: u32 = 0x6E0;
/// First MSR of the x2APIC's registers, which go on to [`MSR_X2APIC_LAST`].
pub const MSR_X2APIC: u32 = 0x800;
/// Last MSR of the x2APIC's registers.
pub const MSR_X2APIC_LAST: u32 = 0x8FF;

/// The access is against the rules: #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("general protection")]
pub struct Refused;

/// What an APIC is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// APIC ID; xAPIC mode shows its low 8 bits.
    pub id: u32,
    /// The processor that begins the boot.
    pub bootstrap: bool,
    /// CPUID shows x2APIC mode.
    pub x2apic: bool,
    /// CPUID shows the TSC-deadline mode of the timer.
    pub tsc_deadline: bool,
    /// Width of a physical address.
    pub physical_bits: u8,
}

/// A local APIC.
#[derive(Clone, Debug)]
pub struct Apic {
    config: Config,
    base: u64,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    /// What reads show, and what has happened since it was last written.
    esr: u32,
    errors: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    icr: u64,
    lvt: [u32; LVT_ENTRIES],
    timer: Timer,
    /// Levels of the pins LINT0 and LINT1.
    lint: [bool; 2],
}

impl Apic {
    /// The APIC after power-on.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let bsp = if config.bootstrap { BASE_BSP } else { 0 };
        let mut apic = Self {
            config,
            base: DEFAULT_BASE | BASE_ENABLED | bsp,
            tpr: 0,
            ldr: 0,
            dfr: 0,
            svr: 0,
            esr: 0,
            errors: 0,
            isr: Vectors::NONE,
            tmr: Vectors::NONE,
            irr: Vectors::NONE,
            icr: 0,
            lvt: [0; LVT_ENTRIES],
            timer: Timer::default(),
            lint: [false; 2],
        };
        apic.init();
        apic
    }

    /// What INIT does: all registers as after power-on, but the mode and the ID (SDM vol. 3A, §11.4.7.3).
    pub fn init(&mut self) {
        let tsc_offset = self.timer.tsc_offset;
        self.tpr = 0;
        self.ldr = 0;
        self.dfr = u32::MAX;
        self.svr = 0xFF;
        (self.esr, self.errors) = (0, 0);
        (self.isr, self.tmr, self.irr) = (Vectors::NONE, Vectors::NONE, Vectors::NONE);
        self.icr = 0;
        self.lvt = [LVT_MASKED; LVT_ENTRIES];
        self.timer = Timer { tsc_offset, ..Timer::default() };
    }

    /// What it was made with.
    #[must_use]
    pub const fn config(&self) -> Config {
        self.config
    }

    /// APIC ID.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.config.id
    }

    /// IA32_APIC_BASE.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Whether it is there at all: CPUID's leaf 1 says the same in EDX bit 9.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.base & BASE_ENABLED != 0
    }

    /// Whether it is in x2APIC mode.
    #[must_use]
    pub const fn x2apic(&self) -> bool {
        self.base & (BASE_ENABLED | BASE_X2APIC) == BASE_ENABLED | BASE_X2APIC
    }

    /// Whether software has enabled it, so that it takes interrupts.
    const fn accepts(&self) -> bool {
        self.enabled() && self.svr & SVR_ENABLED != 0
    }

    /// Write of IA32_APIC_BASE (SDM vol. 3A, §11.12.5).
    ///
    /// # Errors
    /// [`Refused`] for reserved bits and for changes of mode that are not allowed.
    pub fn set_base(&mut self, value: u64) -> Result<(), Refused> {
        const MODE: u64 = BASE_ENABLED | BASE_X2APIC;
        self.check_base(value)?;
        match (self.base & MODE, value & MODE) {
            (from, to) if from == to => {}
            (BASE_ENABLED, MODE) => self.icr &= 0xFFFF_FFFF,
            (0, BASE_ENABLED) => {}
            (_, 0) => self.init(),
            _ => return Err(Refused),
        }
        self.base = value;
        Ok(())
    }

    fn check_base(&self, value: u64) -> Result<(), Refused> {
        let address = (1u64 << self.config.physical_bits.clamp(32, 52)) - (1 << 12);
        let x2apic = if self.config.x2apic { BASE_X2APIC } else { 0 };
        let reserved = value & !(address | BASE_BSP | BASE_ENABLED | x2apic) != 0;
        if reserved || value & (BASE_ENABLED | BASE_X2APIC) == BASE_X2APIC { Err(Refused) } else { Ok(()) }
    }

    /// Whether an access to this guest-physical address is for [`Self::mmio_read`] and [`Self::mmio_write`].
    #[must_use]
    pub const fn claims(&self, gpa: u64) -> bool {
        self.enabled() && !self.x2apic() && gpa & !0xFFF == self.base & !0xFFF
    }

    /// The logical ID register: in x2APIC mode made of the ID (SDM vol. 3A, §11.12.10.2).
    const fn logical_id(&self) -> u32 {
        if self.x2apic() { (self.config.id >> 4) << 16 | 1 << (self.config.id & 0xF) } else { self.ldr }
    }

    /// Whether a message is for this processor (SDM vol. 3A, §11.6.2).
    #[must_use]
    pub const fn is_addressed_by(&self, message: &Message) -> bool {
        if !self.enabled() {
            return false;
        }
        let id = self.config.id;
        match message.destination {
            Destination::All => true,
            Destination::AllBut(sender) => id != sender,
            Destination::Physical(to) => to == if self.x2apic() { id } else { id & 0xFF },
            Destination::Logical(to) if self.x2apic() => {
                let own = self.logical_id();
                to >> 16 == own >> 16 && to & own & 0xFFFF != 0
            }
            Destination::Logical(to) => {
                let own = self.ldr >> 24;
                // Flat model: a bit a processor. Cluster model: four bits of cluster, four of processor.
                let flat = self.dfr >> 28 == 0xF;
                if flat { to & own & 0xFF != 0 } else { to >> 4 == own >> 4 && to & own & 0xF != 0 }
            }
        }
    }

    /// The priority at which the processor works now: PPR (SDM vol. 3A, §11.8.3.1).
    #[must_use]
    pub fn processor_priority(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0) & 0xF0;
        if self.tpr & 0xF0 >= in_service { self.tpr } else { in_service }
    }

    /// Takes a message if it is for this processor. With more than one processor use [`deliver`], which knows what
    /// "lowest priority" means.
    pub fn receive(&mut self, message: &Message) -> Option<Event> {
        if self.is_addressed_by(message) { self.accept(message) } else { None }
    }

    /// Takes a message.
    fn accept(&mut self, message: &Message) -> Option<Event> {
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                if self.accepts() {
                    self.request(message.vector, message.level);
                }
                None
            }
            Delivery::Nmi => Some(Event::Nmi),
            Delivery::Smi => Some(Event::Smi),
            Delivery::Init => Some(Event::Init),
            Delivery::StartUp => Some(Event::StartUp(message.vector)),
            // An 8259's interrupts come through LINT0 here, never as a message.
            Delivery::ExtInt | Delivery::Reserved => None,
        }
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < FIRST_LEGAL_VECTOR {
            self.error(ESR_RECEIVE_ILLEGAL_VECTOR);
            return;
        }
        self.irr.set(vector, true);
        self.tmr.set(vector, level);
    }

    /// Notes errors, and tells the processor of those that are new.
    fn error(&mut self, bits: u32) {
        let new = bits & !self.errors != 0;
        self.errors |= bits;
        let lvt = self.lvt[ERROR];
        if !new || lvt & LVT_MASKED != 0 || !self.accepts() {
            return;
        }
        let vector = (lvt & LVT_VECTOR) as u8;
        if vector < FIRST_LEGAL_VECTOR {
            // An error of the report of an error has nobody left to be reported to.
            self.errors |= ESR_RECEIVE_ILLEGAL_VECTOR;
        } else {
            self.request(vector, false);
        }
    }

    /// The interrupt that the processor would take now, if any.
    #[must_use]
    pub fn pending(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (self.enabled() && vector & 0xF0 > self.processor_priority() & 0xF0).then_some(vector)
    }

    /// The processor takes the interrupt: its vector. The spurious vector if there is none.
    pub fn acknowledge(&mut self) -> u8 {
        match self.pending() {
            Some(vector) => {
                self.irr.set(vector, false);
                self.isr.set(vector, true);
                vector
            }
            None => self.svr as u8,
        }
    }

    /// End of interrupt.
    fn end_of_interrupt(&mut self) -> Effect {
        let Some(vector) = self.isr.highest() else { return Effect::None };
        self.isr.set(vector, false);
        if self.tmr.contains(vector) { Effect::EndOfInterrupt(vector) } else { Effect::None }
    }

    /// CR8: the class of the task priority (SDM vol. 3A, §11.8.6).
    #[must_use]
    pub const fn cr8(&self) -> u8 {
        self.tpr >> 4
    }

    /// Write of CR8, of which bits 4 and up are the caller's to check.
    pub const fn set_cr8(&mut self, class: u8) {
        self.tpr = class << 4;
    }

    /// Moves the pin LINT0 (`pin` 0, where an 8259 is) or LINT1.
    pub fn set_lint(&mut self, pin: usize, high: bool) -> Option<Event> {
        let level = self.lint.get_mut(pin)?;
        let rising = high && !*level;
        *level = high;
        let entry = self.lvt.get_mut(LINT0 + pin)?;
        if !rising || *entry & LVT_MASKED != 0 || self.base & BASE_ENABLED == 0 {
            return None;
        }
        let (vector, triggered) = ((*entry & LVT_VECTOR) as u8, *entry & LVT_LEVEL != 0);
        match Delivery::from_bits(*entry >> 8) {
            Delivery::Fixed => {
                if triggered {
                    *entry |= LVT_REMOTE_IRR;
                }
                self.request(vector, triggered);
                None
            }
            Delivery::Nmi => Some(Event::Nmi),
            Delivery::Smi => Some(Event::Smi),
            Delivery::Init => Some(Event::Init),
            // Looked at when the processor asks: `ext_int`.
            _ => None,
        }
    }

    /// Whether an 8259 on LINT0 has an interrupt for the processor: its vector is to be had from there.
    #[must_use]
    pub fn ext_int(&self) -> bool {
        let entry = self.lvt[LINT0];
        let through = entry & LVT_MASKED == 0 && Delivery::from_bits((entry & LVT_MODE) >> 8) == Delivery::ExtInt;
        // Without an APIC the pin is the processor's INTR (SDM vol. 3A, §11.4.3).
        self.lint[0] && (!self.enabled() || through)
    }

    /// Time goes on: the timer may expire. `now` never goes back.
    pub fn advance(&mut self, now: u64) {
        let lvt = self.lvt[TIMER];
        if self.timer.expire(Mode::of(lvt), now) && lvt & LVT_MASKED == 0 && self.accepts() {
            self.request((lvt & LVT_VECTOR) as u8, false);
        }
    }

    /// When [`Self::advance`] has something to do that the processor would notice.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let lvt = self.lvt[TIMER];
        if lvt & LVT_MASKED != 0 || !self.accepts() { None } else { self.timer.due(Mode::of(lvt)) }
    }

    /// What the guest's TSC is ahead of the time that this APIC is told (modulo 2⁶⁴).
    pub const fn set_tsc_offset(&mut self, offset: u64) {
        self.timer.tsc_offset = offset;
    }

    /// IA32_TSC_DEADLINE: 0 unless armed.
    ///
    /// # Errors
    /// [`Refused`] where CPUID does not show the mode.
    pub fn tsc_deadline(&mut self, now: u64) -> Result<u64, Refused> {
        if !self.config.tsc_deadline {
            return Err(Refused);
        }
        self.advance(now);
        Ok(self.timer.deadline)
    }

    /// Write of IA32_TSC_DEADLINE; without effect in the other modes (SDM vol. 3A, §11.5.4.1).
    ///
    /// # Errors
    /// [`Refused`] where CPUID does not show the mode.
    pub fn set_tsc_deadline(&mut self, value: u64, now: u64) -> Result<(), Refused> {
        if !self.config.tsc_deadline {
            return Err(Refused);
        }
        self.advance(now);
        if Mode::of(self.lvt[TIMER]) == Mode::Deadline {
            self.timer.deadline = value;
            self.advance(now);
        }
        Ok(())
    }
}

/// Delivers a message to those of all processors' APICs that it is for. Calls `event` with the place in `apics` and what
/// that processor has to do.
pub fn deliver(message: &Message, apics: &mut [&mut Apic], mut event: impl FnMut(usize, Event)) {
    if message.delivery == Delivery::LowestPriority {
        let able = |apic: &&mut &mut Apic| apic.accepts() && apic.is_addressed_by(message);
        if let Some(apic) = apics.iter_mut().filter(able).min_by_key(|apic| apic.processor_priority()) {
            apic.accept(message);
        }
        return;
    }
    for (place, apic) in apics.iter_mut().enumerate() {
        if let Some(what) = apic.receive(message) {
            event(place, what);
        }
    }
}
