//! Text on COM1. Every byte is an exit to the monitor (59 µs on the slowest host known), so only errors are told.

use core::fmt::{self, Write};

use bulla_boot_abi::port;

use crate::machine;

/// The serial port, as something to write to.
#[derive(Debug)]
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                machine::out8(port::COM1, b'\r');
            }
            machine::out8(port::COM1, byte);
        }
        Ok(())
    }
}

/// Writes a line to COM1.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        // The serial port takes everything.
        let _ = core::writeln!($crate::console::Console, $($arg)*);
    }};
}
