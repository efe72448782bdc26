//! Names of registers and bits (SDM vol. 3A, tables 11-1 and 11-6). A register's number is its offset in the xAPIC page
//! divided by 16, and its MSR number less 0x800.

pub(super) const ID: u8 = 0x02;
pub(super) const VERSION: u8 = 0x03;
pub(super) const TPR: u8 = 0x08;
/// Arbitration priority; xAPIC only.
pub(super) const APR: u8 = 0x09;
pub(super) const PPR: u8 = 0x0A;
pub(super) const EOI: u8 = 0x0B;
/// Remote read; xAPIC only.
pub(super) const RRD: u8 = 0x0C;
pub(super) const LDR: u8 = 0x0D;
/// Destination format; xAPIC only.
pub(super) const DFR: u8 = 0x0E;
pub(super) const SVR: u8 = 0x0F;
pub(super) const ISR: u8 = 0x10;
pub(super) const ISR_LAST: u8 = 0x17;
pub(super) const TMR: u8 = 0x18;
pub(super) const TMR_LAST: u8 = 0x1F;
pub(super) const IRR: u8 = 0x20;
pub(super) const IRR_LAST: u8 = 0x27;
pub(super) const ESR: u8 = 0x28;
pub(super) const ICR_LOW: u8 = 0x30;
/// xAPIC only; in x2APIC mode ICR is one register of 64 bits.
pub(super) const ICR_HIGH: u8 = 0x31;
pub(super) const LVT: u8 = 0x32;
pub(super) const LVT_LAST: u8 = 0x37;
pub(super) const INITIAL_COUNT: u8 = 0x38;
pub(super) const CURRENT_COUNT: u8 = 0x39;
pub(super) const DIVIDE: u8 = 0x3E;
/// x2APIC only.
pub(super) const SELF_IPI: u8 = 0x3F;

/// An integrated APIC with six LVT entries, without suppression of EOI broadcasts.
pub(super) const VERSION_VALUE: u32 = 0x14 | (LVT_ENTRIES as u32 - 1) << 16;

/// Entries of the local vector table, in the order of their registers.
pub(super) const LVT_ENTRIES: usize = 6;
pub(super) const TIMER: usize = 0;
pub(super) const LINT0: usize = 3;
pub(super) const ERROR: usize = 5;

/// Fields of an LVT entry (SDM vol. 3A, figure 11-8).
pub(super) const LVT_VECTOR: u32 = 0xFF;
pub(super) const LVT_MODE: u32 = 7 << 8;
pub(super) const LVT_STATUS: u32 = 1 << 12;
pub(super) const LVT_POLARITY: u32 = 1 << 13;
pub(super) const LVT_REMOTE_IRR: u32 = 1 << 14;
pub(super) const LVT_LEVEL: u32 = 1 << 15;
pub(super) const LVT_MASKED: u32 = 1 << 16;
pub(super) const LVT_TIMER_MODE: u32 = 3 << 17;
pub(super) const LVT_TIMER_PERIODIC: u32 = 1 << 17;
pub(super) const LVT_TIMER_DEADLINE: u32 = 2 << 17;

/// What can be written to each entry.
pub(super) const LVT_WRITABLE: [u32; LVT_ENTRIES] = [
    LVT_VECTOR | LVT_MASKED | LVT_TIMER_MODE,
    LVT_VECTOR | LVT_MASKED | LVT_MODE,
    LVT_VECTOR | LVT_MASKED | LVT_MODE,
    LVT_VECTOR | LVT_MASKED | LVT_MODE | LVT_POLARITY | LVT_LEVEL,
    LVT_VECTOR | LVT_MASKED | LVT_MODE | LVT_POLARITY | LVT_LEVEL,
    LVT_VECTOR | LVT_MASKED,
];
/// What only the APIC changes; a write is without effect.
pub(super) const LVT_READ_ONLY: u32 = LVT_STATUS | LVT_REMOTE_IRR;

/// Spurious vector register: vector, software enable, focus processor checking (which nothing looks at).
pub(super) const SVR_ENABLED: u32 = 1 << 8;
pub(super) const SVR_WRITABLE: u32 = 0x3FF;

/// Error status register (SDM vol. 3A, figure 11-9).
pub(super) const ESR_SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
pub(super) const ESR_RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
pub(super) const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// Interrupt command register (SDM vol. 3A, figures 11-12 and 11-28).
pub(super) const ICR_LOGICAL: u32 = 1 << 11;
pub(super) const ICR_STATUS: u32 = 1 << 12;
pub(super) const ICR_ASSERT: u32 = 1 << 14;
pub(super) const ICR_LEVEL: u32 = 1 << 15;
pub(super) const ICR_WRITABLE: u32 = 0xFFF | ICR_ASSERT | ICR_LEVEL | 3 << 18;

/// Divide configuration: bits 0, 1 and 3.
pub(super) const DIVIDE_WRITABLE: u32 = 0b1011;

/// Vectors below are for exceptions; no message may carry one.
pub(super) const FIRST_LEGAL_VECTOR: u8 = 16;
