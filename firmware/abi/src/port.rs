//! I/O ports that exist only on bulla's machine (the PC's own are in the monitor's devices).

/// 32-bit writes tell the monitor how far the guest has come, see [`crate::progress`]. Reads give all ones.
/// The port must not be 0x80: kernels write there to waste time.
pub const PROGRESS: u16 = 0x0B10;

/// ACPI PM1a event block, control block and PM timer.
pub const PM1A_EVT: u16 = 0x600;
/// PM1a control block (16 bits): SLP_TYP 5 with SLP_EN powers off.
pub const PM1A_CNT: u16 = 0x604;
/// PM timer (32 bits).
pub const PM_TMR: u16 = 0x608;
/// SLP_TYP of S5.
pub const S5_SLP_TYP: u8 = 5;
/// What a program writes to [`PM1A_CNT`] to power the machine off.
pub const PM1A_CNT_POWER_OFF: u16 = ((S5_SLP_TYP as u16) << 10) | (1 << 13);

/// First serial port: console.
pub const COM1: u16 = 0x3F8;
/// Second serial port.
pub const COM2: u16 = 0x2F8;
/// Reset control register: 6 resets.
pub const RESET_CONTROL: u16 = 0xCF9;
