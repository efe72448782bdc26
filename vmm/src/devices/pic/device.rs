//! The pair, as it is wired in a PC.

use std::fmt;
use std::sync::Arc;

use super::chip::Chip;
use super::state::{ChipState, PicState, VERSION};
use crate::devices::{BytePorts, IrqLine, RestoreError, SaveRestore, Shared, lock};

/// Command and data port of the master.
pub const PIC_MASTER_PORTS: u16 = 0x20;
/// Command and data port of the slave.
pub const PIC_SLAVE_PORTS: u16 = 0xA0;
/// Edge/level control registers, master then slave.
pub const ELCR_PORTS: u16 = 0x4D0;

const DEVICE: &str = "8259A pair";
/// Master input that the slave's output is wired to.
const CASCADE: u8 = 2;

/// Both 8259A. IRQ 0–7 are the master's inputs (2 is the slave), 8–15 the slave's.
///
/// The machine's interrupts go through the I/O APIC. This pair is here because kernels initialise, mask and probe it
/// before they believe that it is there or not; a backend that can inject external interrupts takes
/// [`PicPair::acknowledge`] when the output line is high.
pub struct PicPair {
    // Glue.
    output: Arc<dyn IrqLine>,
    // Volatile state.
    master: Chip,
    slave: Chip,
}

impl fmt::Debug for PicPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PicPair").field("master", &self.master).field("slave", &self.slave).finish_non_exhaustive()
    }
}

impl PicPair {
    /// A pair whose INTR output is `output`.
    pub fn new(output: Arc<dyn IrqLine>) -> Self {
        // Timer, keyboard, cascade, RTC and coprocessor are edge-triggered in every PC.
        Self { output, master: Chip::new(0xF8, 1 << CASCADE), slave: Chip::new(0xDE, 0) }
    }

    /// Sets the level of interrupt request `irq` (0–15, except 2); others are ignored.
    pub fn set_irq(&mut self, irq: u8, high: bool) {
        match irq {
            CASCADE => return,
            0..8 => self.master.set_input(irq, high),
            8..16 => self.slave.set_input(irq - 8, high),
            _ => return,
        }
        self.update();
    }

    /// The processor acknowledges: the vector it gets. Spurious interrupts are those of IRQ 7 and 15, as in hardware.
    pub fn acknowledge(&mut self) -> u8 {
        let input = self.master.acknowledge();
        let vector = if input == CASCADE {
            let input = self.slave.acknowledge();
            // The slave's output goes low with the acknowledgement, so that its next request is a new edge.
            self.master.set_input(CASCADE, false);
            self.slave.vector(input)
        } else {
            self.master.vector(input)
        };
        self.update();
        vector
    }

    /// Whether the INTR output is high.
    pub fn is_pending(&self) -> bool {
        self.master.pending().is_some()
    }

    /// Carries the slave's output to the master and the master's to the processor.
    fn update(&mut self) {
        self.master.set_input(CASCADE, self.slave.pending().is_some());
        // The cascade input is edge-triggered, but a slave request that goes away takes its edge with it: the master
        // would otherwise acknowledge a slave that has nothing.
        if self.slave.pending().is_none() {
            self.master.state.irr &= !(1 << CASCADE);
        }
        self.output.set_level(self.is_pending());
    }

    fn chip(&mut self, slave: bool) -> &mut Chip {
        if slave { &mut self.slave } else { &mut self.master }
    }
}

/// Which ports of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PicRange {
    /// [`PIC_MASTER_PORTS`].
    Master,
    /// [`PIC_SLAVE_PORTS`].
    Slave,
    /// [`ELCR_PORTS`].
    Elcr,
}

/// One range of two ports of the shared pair.
#[derive(Clone, Debug)]
pub struct PicPorts {
    pair: Shared<PicPair>,
    range: PicRange,
}

impl PicPorts {
    /// The ports `range` of `pair`.
    pub const fn new(pair: Shared<PicPair>, range: PicRange) -> Self {
        Self { pair, range }
    }
}

impl BytePorts for PicPorts {
    fn read_port(&mut self, offset: u16) -> u8 {
        let mut pair = lock(&self.pair);
        let slave = self.range == PicRange::Slave;
        match (self.range, offset) {
            (PicRange::Elcr, 0 | 1) => pair.chip(offset == 1).state.elcr,
            (_, 0 | 1) => {
                let value = pair.chip(slave).read(offset == 1);
                // A poll of the slave acknowledges; what it still requests is a new edge.
                if slave {
                    pair.master.set_input(CASCADE, false);
                }
                pair.update();
                value
            }
            _ => 0xFF,
        }
    }

    fn write_port(&mut self, offset: u16, value: u8) {
        let mut pair = lock(&self.pair);
        let slave = self.range == PicRange::Slave;
        match (self.range, offset) {
            (PicRange::Elcr, 0 | 1) => pair.chip(offset == 1).write_elcr(value),
            (_, 0) => pair.chip(slave).write_command(value),
            (_, 1) => pair.chip(slave).write_data(value),
            _ => return,
        }
        pair.update();
    }
}

impl SaveRestore for PicPair {
    type State = PicState;

    fn save(&self) -> PicState {
        PicState { version: VERSION, master: self.master.state, slave: self.slave.state }
    }

    fn restore(&mut self, state: &PicState) -> Result<(), RestoreError> {
        RestoreError::check_version(DEVICE, state.version, VERSION)?;
        let invalid = |field| RestoreError::Invalid { device: DEVICE, field };
        for (chip, saved) in [(&self.master, &state.master), (&self.slave, &state.slave)] {
            if saved.next_icw == 1 || saved.next_icw > 4 {
                return Err(invalid("initialisation step"));
            }
            if saved.lowest_priority > 7 {
                return Err(invalid("priority"));
            }
            if saved.vector_base & 7 != 0 {
                return Err(invalid("vector base"));
            }
            if saved.elcr & !chip.elcr_mask != 0 {
                return Err(invalid("edge/level register"));
            }
        }
        self.master.state = state.master;
        self.slave.state = state.slave;
        self.update();
        Ok(())
    }

    /// The lines keep their levels: they belong to the devices.
    fn reset(&mut self) {
        for chip in [&mut self.master, &mut self.slave] {
            chip.state = ChipState { levels: chip.state.levels, ..ChipState::default() };
        }
        self.update();
    }
}
