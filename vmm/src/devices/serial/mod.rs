//! 16550 serial port: vm-superio's UART with buffered output, a backlog of input, and a saved state of our own.

mod device;
mod output;
mod state;
#[cfg(test)]
mod tests;

pub use device::{INPUT_BACKLOG_MAX, SERIAL_PORTS, SerialPort};
pub use output::{BUFFER_LEN, FLUSH_AFTER_NS, Peer};
pub use state::SerialState;
