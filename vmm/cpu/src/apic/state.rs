//! The APIC's state as plain data.

use super::regs::{
    DIVIDE_WRITABLE, FIRST_LEGAL_VECTOR, ICR_WRITABLE, LVT_ENTRIES, LVT_MASKED, LVT_READ_ONLY, LVT_WRITABLE,
    SVR_ENABLED, SVR_WRITABLE,
};
use super::timer::Timer;
use super::{Apic, Vectors};

/// Everything that an APIC remembers. Times are relative, so that it can be saved on one clock and go on on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApicState {
    /// IA32_APIC_BASE.
    pub base: u64,
    /// Task priority.
    pub tpr: u8,
    /// Logical ID register of xAPIC mode.
    pub ldr: u32,
    /// Destination format register of xAPIC mode.
    pub dfr: u32,
    /// Spurious vector register.
    pub svr: u32,
    /// Error status as reads show it.
    pub esr: u32,
    /// Errors since it was written.
    pub errors: u32,
    /// Interrupts in service.
    pub isr: [u64; 4],
    /// Which vectors were level-triggered.
    pub tmr: [u64; 4],
    /// Interrupts requested.
    pub irr: [u64; 4],
    /// Interrupt command.
    pub icr: u64,
    /// Timer, thermal, performance, LINT0, LINT1, error.
    pub lvt: [u32; LVT_ENTRIES],
    /// Initial count.
    pub initial_count: u32,
    /// Divide configuration.
    pub divide: u32,
    /// Ticks to the end of the count.
    pub remaining: Option<u64>,
    /// IA32_TSC_DEADLINE.
    pub tsc_deadline: u64,
    /// Levels of LINT0 and LINT1.
    pub lint: [bool; 2],
}

/// A state that no APIC can be in: the name of the field that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no APIC can have this in {field}")]
pub struct BadState {
    /// Name of the field.
    pub field: &'static str,
}

impl Apic {
    /// The state at `now`.
    #[must_use]
    pub fn save(&self, now: u64) -> ApicState {
        ApicState {
            base: self.base,
            tpr: self.tpr,
            ldr: self.ldr,
            dfr: self.dfr,
            svr: self.svr,
            esr: self.esr,
            errors: self.errors,
            isr: self.isr.words(),
            tmr: self.tmr.words(),
            irr: self.irr.words(),
            icr: self.icr,
            lvt: self.lvt,
            initial_count: self.timer.initial,
            divide: self.timer.divide,
            remaining: self.timer.expires.map(|at| at.saturating_sub(now)),
            tsc_deadline: self.timer.deadline,
            lint: self.lint,
        }
    }

    /// Takes a state over, at `now`. The offset of the TSC stays what it was told to be.
    ///
    /// # Errors
    /// [`BadState`] for what no sequence of accesses leads to; nothing is changed then.
    pub fn restore(&mut self, state: &ApicState, now: u64) -> Result<(), BadState> {
        let check = |good: bool, field| if good { Ok(()) } else { Err(BadState { field }) };
        let legal = |words: [u64; 4]| words[0] & ((1 << FIRST_LEGAL_VECTOR) - 1) == 0;
        check(self.check_base(state.base).is_ok(), "base")?;
        check(state.ldr & 0x00FF_FFFF == 0, "ldr")?;
        check(state.dfr & 0x0FFF_FFFF == 0x0FFF_FFFF, "dfr")?;
        check(state.svr & !SVR_WRITABLE == 0, "svr")?;
        check((state.esr | state.errors) & !0xFF == 0, "esr")?;
        check(legal(state.isr), "isr")?;
        check(legal(state.tmr), "tmr")?;
        check(legal(state.irr), "irr")?;
        check(state.icr as u32 & !ICR_WRITABLE == 0, "icr")?;
        for (entry, writable) in state.lvt.iter().zip(LVT_WRITABLE) {
            let masked = state.svr & SVR_ENABLED != 0 || entry & LVT_MASKED != 0;
            check(entry & !(writable | LVT_READ_ONLY) == 0 && masked, "lvt")?;
        }
        check(state.divide & !DIVIDE_WRITABLE == 0, "divide")?;
        self.base = state.base;
        self.tpr = state.tpr;
        (self.ldr, self.dfr, self.svr) = (state.ldr, state.dfr, state.svr);
        (self.esr, self.errors) = (state.esr, state.errors);
        self.isr = Vectors::from_words(state.isr);
        self.tmr = Vectors::from_words(state.tmr);
        self.irr = Vectors::from_words(state.irr);
        self.icr = state.icr;
        self.lvt = state.lvt;
        self.timer = Timer {
            initial: state.initial_count,
            divide: state.divide,
            expires: state.remaining.map(|left| now.saturating_add(left)),
            deadline: state.tsc_deadline,
            tsc_offset: self.timer.tsc_offset,
        };
        self.lint = state.lint;
        Ok(())
    }
}
