//! The registers, as the xAPIC's page and as the x2APIC's MSRs (SDM vol. 3A, §11.4.1 and §11.12.1).

use super::regs::*;
use super::timer::Mode;
use super::{Apic, Delivery, Destination, Effect, MSR_X2APIC, MSR_X2APIC_LAST, Message, Refused, message};

impl Apic {
    /// Reads from the page: `offset` from its start. What is not a whole register at its place reads as zero.
    pub fn mmio_read(&mut self, offset: u16, data: &mut [u8], now: u64) {
        data.fill(0);
        let Some(register) = register_at(offset, data.len()) else { return };
        self.advance(now);
        let value = match register {
            ID => self.id() << 24,
            // Arbitration is no business of message-passing APICs, and remote read was never one of theirs.
            APR | RRD => 0,
            LDR => self.ldr,
            DFR => self.dfr,
            ICR_HIGH => (self.icr >> 32) as u32,
            ICR_LOW => self.icr as u32,
            EOI => 0,
            other => match self.register(other, now) {
                Some(value) => value,
                None => {
                    self.error(ESR_ILLEGAL_REGISTER);
                    0
                }
            },
        };
        data.copy_from_slice(&value.to_le_bytes());
    }

    /// Writes to the page. What is not a whole register at its place is ignored.
    pub fn mmio_write(&mut self, offset: u16, data: &[u8], now: u64) -> Effect {
        let (Some(register), Ok(bytes)) = (register_at(offset, data.len()), <[u8; 4]>::try_from(data)) else {
            return Effect::None;
        };
        let value = u32::from_le_bytes(bytes);
        self.advance(now);
        match register {
            TPR => self.tpr = value as u8,
            EOI => return self.end_of_interrupt(),
            LDR => self.ldr = value & 0xFF00_0000,
            DFR => self.dfr = value | 0x0FFF_FFFF,
            SVR => self.set_svr(value & SVR_WRITABLE),
            ESR => self.latch_errors(),
            ICR_HIGH => self.icr = u64::from(self.icr as u32) | u64::from(value & 0xFF00_0000) << 32,
            ICR_LOW => {
                let low = value & ICR_WRITABLE;
                self.icr = self.icr & !0xFFFF_FFFF | u64::from(low);
                return self.send(low, (self.icr >> 56) as u32, 0xFF);
            }
            LVT..=LVT_LAST => self.set_lvt(register, value),
            INITIAL_COUNT => self.set_initial_count(value, now),
            DIVIDE => self.timer.set_divide(value, now),
            // Read-only registers swallow writes.
            ID | VERSION | APR | PPR | RRD | ISR..=IRR_LAST | CURRENT_COUNT => {}
            _ => self.error(ESR_ILLEGAL_REGISTER),
        }
        Effect::None
    }

    /// RDMSR of a register.
    ///
    /// # Errors
    /// [`Refused`] outside x2APIC mode, and for registers that are not there or cannot be read.
    pub fn msr_read(&mut self, index: u32, now: u64) -> Result<u64, Refused> {
        let register = self.register_of(index)?;
        self.advance(now);
        Ok(match register {
            ID => self.id().into(),
            LDR => self.logical_id().into(),
            ICR_LOW => self.icr,
            other => self.register(other, now).ok_or(Refused)?.into(),
        })
    }

    /// WRMSR of a register.
    ///
    /// # Errors
    /// [`Refused`] outside x2APIC mode, for registers that are not there or cannot be written, and for reserved bits.
    pub fn msr_write(&mut self, index: u32, value: u64, now: u64) -> Result<Effect, Refused> {
        let register = self.register_of(index)?;
        if register == ICR_LOW {
            // The delivery status is gone; software that sets it all the same does no harm.
            if value as u32 & !(ICR_WRITABLE | ICR_STATUS) != 0 {
                return Err(Refused);
            }
            self.icr = value & !u64::from(ICR_STATUS);
            return Ok(self.send(self.icr as u32, (value >> 32) as u32, u32::MAX));
        }
        let value = u32::try_from(value).map_err(|_| Refused)?;
        let allowed = match register {
            TPR | SELF_IPI => 0xFF,
            EOI | ESR => 0,
            SVR => SVR_WRITABLE,
            LVT..=LVT_LAST => lvt_writable(register) | LVT_READ_ONLY,
            INITIAL_COUNT => u32::MAX,
            DIVIDE => DIVIDE_WRITABLE,
            _ => return Err(Refused),
        };
        if value & !allowed != 0 {
            return Err(Refused);
        }
        self.advance(now);
        match register {
            TPR => self.tpr = value as u8,
            EOI => return Ok(self.end_of_interrupt()),
            SVR => self.set_svr(value),
            ESR => self.latch_errors(),
            LVT..=LVT_LAST => self.set_lvt(register, value),
            INITIAL_COUNT => self.set_initial_count(value, now),
            DIVIDE => self.timer.set_divide(value, now),
            // A fixed, edge-triggered interrupt for this processor (SDM vol. 3A, §11.12.11).
            SELF_IPI => return Ok(self.send(value, self.id(), u32::MAX)),
            _ => {}
        }
        Ok(Effect::None)
    }

    fn register_of(&self, index: u32) -> Result<u8, Refused> {
        if !self.x2apic() || !(MSR_X2APIC..=MSR_X2APIC_LAST).contains(&index) {
            return Err(Refused);
        }
        u8::try_from(index - MSR_X2APIC).map_err(|_| Refused)
    }

    /// What both modes read alike; `None` for what is no register.
    fn register(&self, register: u8, now: u64) -> Option<u32> {
        Some(match register {
            VERSION => VERSION_VALUE,
            TPR => self.tpr.into(),
            PPR => self.processor_priority().into(),
            SVR => self.svr,
            ISR..=ISR_LAST => self.isr.register(register - ISR),
            TMR..=TMR_LAST => self.tmr.register(register - TMR),
            IRR..=IRR_LAST => self.irr.register(register - IRR),
            ESR => self.esr,
            LVT..=LVT_LAST => *self.lvt.get(usize::from(register - LVT))?,
            INITIAL_COUNT => self.timer.initial,
            CURRENT_COUNT => self.timer.current(now),
            DIVIDE => self.timer.divide,
            _ => return None,
        })
    }

    /// Software that disables the APIC masks all local interrupts with it (SDM vol. 3A, §11.4.7.2).
    fn set_svr(&mut self, value: u32) {
        self.svr = value;
        if value & SVR_ENABLED == 0 {
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
        }
    }

    /// A write shows what has happened since the last one (SDM vol. 3A, §11.5.3).
    fn latch_errors(&mut self) {
        self.esr = std::mem::take(&mut self.errors);
    }

    fn set_lvt(&mut self, register: u8, value: u32) {
        let place = usize::from(register - LVT);
        let Some(entry) = self.lvt.get_mut(place) else { return };
        let before = *entry;
        let mut after = value & lvt_writable(register) | before & LVT_READ_ONLY;
        if self.svr & SVR_ENABLED == 0 {
            after |= LVT_MASKED;
        }
        if place == TIMER {
            if !self.config.tsc_deadline {
                after &= !LVT_TIMER_DEADLINE;
            }
            self.timer.change_mode(Mode::of(before), Mode::of(after));
        }
        *entry = after;
    }

    fn set_initial_count(&mut self, value: u32, now: u64) {
        if Mode::of(self.lvt[TIMER]) != Mode::Deadline {
            self.timer.start(value, now);
        }
    }

    /// Write of the interrupt command (SDM vol. 3A, §11.6.1).
    fn send(&mut self, low: u32, to: u32, everybody: u32) -> Effect {
        let delivery = Delivery::from_bits(low >> 8);
        let vector = low as u8;
        match delivery {
            Delivery::Fixed | Delivery::LowestPriority if vector < FIRST_LEGAL_VECTOR => {
                self.error(ESR_SEND_ILLEGAL_VECTOR);
                return Effect::None;
            }
            // "INIT level de-assert" did something to processors of the last century.
            Delivery::Init if low & (ICR_LEVEL | ICR_ASSERT) == ICR_LEVEL => return Effect::None,
            Delivery::ExtInt | Delivery::Reserved => return Effect::None,
            _ => {}
        }
        let destination = match low >> 18 & 3 {
            0 => message::destination(to, low & ICR_LOGICAL != 0, everybody),
            1 if self.x2apic() => Destination::Physical(self.id()),
            1 => Destination::Physical(self.id() & 0xFF),
            2 => Destination::All,
            _ => Destination::AllBut(self.id()),
        };
        Effect::Send(Message { destination, delivery, vector, level: false })
    }
}

/// A register is 32 bits at the start of its 16 bytes.
fn register_at(offset: u16, len: usize) -> Option<u8> {
    (len == 4 && offset.is_multiple_of(16)).then(|| u8::try_from(offset >> 4).ok()).flatten()
}

fn lvt_writable(register: u8) -> u32 {
    LVT_WRITABLE.get(usize::from(register - LVT)).copied().unwrap_or(0)
}
