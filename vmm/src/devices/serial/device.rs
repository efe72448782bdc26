//! The serial port device.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, SerialState as UartState, Trigger};

use super::output::{Output, Peer};
use super::state::{SerialState, VERSION};
use crate::devices::{BytePorts, Clock, IrqLine, RestoreError, SaveRestore};

/// Ports of a 16550.
pub const SERIAL_PORTS: u16 = 8;
/// Bytes of host input that are kept for a guest that does not read.
pub const INPUT_BACKLOG_MAX: usize = 64 << 10;

/// Receiver FIFO of the UART model.
const FIFO_LEN: usize = 0x40;
const DEVICE: &str = "serial port";

/// The UART's interrupt output. Its interrupts are edges: on the ISA bus the line is edge-triggered.
struct Edge(Arc<dyn IrqLine>);

impl Trigger for Edge {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.pulse();
        Ok(())
    }
}

/// A 16550A at eight consecutive ports.
pub struct SerialPort {
    // Glue.
    irq: Arc<dyn IrqLine>,
    clock: Arc<dyn Clock>,
    // Volatile state (the UART holds the output as well).
    uart: Serial<Edge, NoEvents, Output>,
    backlog: VecDeque<u8>,
}

impl fmt::Debug for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialPort").field("output", self.uart.writer()).finish_non_exhaustive()
    }
}

impl SerialPort {
    /// A port whose line leads to `peer`, and that interrupts over `irq`.
    pub fn new(peer: Box<dyn Peer>, irq: Arc<dyn IrqLine>, clock: Arc<dyn Clock>) -> Self {
        let output = Output::new(peer, Arc::clone(&clock));
        let uart = Serial::new(Edge(Arc::clone(&irq)), output);
        Self { irq, clock, uart, backlog: VecDeque::new() }
    }

    /// Gives the guest something to read. Returns how many bytes were taken: all of them, unless the guest has left
    /// [`INPUT_BACKLOG_MAX`] bytes unread.
    pub fn input(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(INPUT_BACKLOG_MAX.saturating_sub(self.backlog.len()));
        self.backlog.extend(bytes.iter().take(taken));
        self.refill();
        taken
    }

    /// VM time at which [`SerialPort::tick`] wants to be called.
    pub fn next_deadline(&self) -> Option<u64> {
        self.uart.writer().deadline()
    }

    /// Writes out what has waited long enough at VM time `now`.
    pub fn tick(&mut self, now: u64) {
        if self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.flush();
        }
    }

    /// Writes out what waits.
    pub fn flush(&mut self) {
        self.uart.writer_mut().drain();
        self.pass_answer_on();
    }

    /// Gives the guest what the peer has answered. A guest that does not read loses what is more than [`INPUT_BACKLOG_MAX`].
    fn pass_answer_on(&mut self) {
        let answer = self.uart.writer_mut().take_answer();
        if !answer.is_empty() {
            self.input(&answer);
        }
    }

    /// Bytes of the guest that the peer refused.
    pub fn lost_bytes(&self) -> u64 {
        self.uart.writer().lost()
    }

    /// Moves bytes from the backlog to the receiver FIFO.
    fn refill(&mut self) {
        let (front, _) = self.backlog.as_slices();
        let room = self.uart.fifo_capacity().min(front.len());
        if let Some(chunk) = front.get(..room).filter(|chunk| !chunk.is_empty()) {
            // In loop-back mode the UART takes nothing; the bytes then wait here.
            let moved = self.uart.enqueue_raw_bytes(chunk).unwrap_or(0);
            self.backlog.drain(..moved.min(room));
        }
    }

    /// Puts a new UART in the place of the old one, keeping its output.
    fn replace_uart(&mut self, state: &UartState) -> Result<(), RestoreError> {
        if state.in_buffer.len() > FIFO_LEN {
            return Err(RestoreError::Invalid { device: DEVICE, field: "receive_fifo" });
        }
        let invalid = |_| RestoreError::Invalid { device: DEVICE, field: "state" };
        let none = Output::new(Box::new(io::sink()), Arc::clone(&self.clock));
        let next = Serial::from_state(state, Edge(Arc::clone(&self.irq)), NoEvents, none).map_err(invalid)?;
        let old = std::mem::replace(&mut self.uart, next);
        *self.uart.writer_mut() = old.into_writer();
        Ok(())
    }
}

impl BytePorts for SerialPort {
    fn read_port(&mut self, offset: u16) -> u8 {
        let Ok(offset) = u8::try_from(offset) else { return 0xFF };
        let value = self.uart.read(offset);
        if offset == 0 && !self.backlog.is_empty() {
            self.refill();
        }
        value
    }

    fn write_port(&mut self, offset: u16, value: u8) {
        if let Ok(offset) = u8::try_from(offset) {
            // Neither our output nor our trigger fails, and a full FIFO in loop-back mode drops the byte as it should.
            let _ = self.uart.write(offset, value);
            self.pass_answer_on();
        }
    }
}

impl SaveRestore for SerialPort {
    type State = SerialState;

    fn save(&self) -> SerialState {
        let uart = self.uart.state();
        SerialState {
            version: VERSION,
            divisor: u16::from_le_bytes([uart.baud_divisor_low, uart.baud_divisor_high]),
            interrupt_enable: uart.interrupt_enable,
            interrupt_identification: uart.interrupt_identification,
            line_control: uart.line_control,
            line_status: uart.line_status,
            modem_control: uart.modem_control,
            modem_status: uart.modem_status,
            scratch: uart.scratch,
            receive_fifo: uart.in_buffer,
            backlog: self.backlog.iter().copied().collect(),
        }
    }

    fn restore(&mut self, state: &SerialState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        if state.backlog.len() > INPUT_BACKLOG_MAX {
            return Err(RestoreError::Invalid { device: DEVICE, field: "backlog" });
        }
        let [baud_divisor_low, baud_divisor_high] = state.divisor.to_le_bytes();
        self.replace_uart(&UartState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.receive_fifo.clone(),
        })?;
        self.backlog = state.backlog.iter().copied().collect();
        Ok(())
    }

    fn reset(&mut self) {
        self.flush();
        // The power-on state is a possible one.
        let _ = self.replace_uart(&UartState::default());
        self.backlog.clear();
    }
}
