//! The interface that a machine has, whichever it is.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::TpmBackend;
use crate::devices::crb::{Crb, CrbState};
use crate::devices::tis::{Tis, TisState};
use crate::devices::{IrqLine, MmioDevice, RestoreError, SaveRestore};

/// Which interface the guest talks to its TPM through. The ACPI tables tell, so it is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TpmInterface {
    /// The Command Response Buffer.
    #[default]
    Crb,
    /// The FIFO, known as TIS from the specification that it was first described in.
    Tis,
}

impl fmt::Display for TpmInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crb => "crb",
            Self::Tis => "tis",
        })
    }
}

/// The TPM's interface of a machine.
#[derive(Debug)]
pub enum TpmDevice {
    /// See [`TpmInterface::Crb`].
    Crb(Box<Crb>),
    /// See [`TpmInterface::Tis`].
    Tis(Tis),
}

impl TpmDevice {
    /// An `interface` at guest-physical address `base` to `backend`. Interrupt `irq` is on `line`.
    pub fn new(
        interface: TpmInterface,
        base: u64,
        backend: Box<dyn TpmBackend>,
        irq: u8,
        line: Arc<dyn IrqLine>,
    ) -> Self {
        match interface {
            TpmInterface::Crb => Self::Crb(Box::new(Crb::new(base, backend))),
            TpmInterface::Tis => Self::Tis(Tis::new(backend, irq, line)),
        }
    }
}

impl MmioDevice for TpmDevice {
    fn mmio_read(&mut self, offset: u64, data: &mut [u8]) {
        match self {
            Self::Crb(crb) => crb.mmio_read(offset, data),
            Self::Tis(tis) => tis.mmio_read(offset, data),
        }
    }

    fn mmio_write(&mut self, offset: u64, data: &[u8]) {
        match self {
            Self::Crb(crb) => crb.mmio_write(offset, data),
            Self::Tis(tis) => tis.mmio_write(offset, data),
        }
    }
}

/// Saved state of a TPM's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TpmState {
    /// Of a CRB.
    Crb(CrbState),
    /// Of a FIFO.
    Tis(TisState),
}

impl SaveRestore for TpmDevice {
    type State = TpmState;

    fn save(&self) -> TpmState {
        match self {
            Self::Crb(crb) => TpmState::Crb(crb.save()),
            Self::Tis(tis) => TpmState::Tis(tis.save()),
        }
    }

    fn restore(&mut self, state: &TpmState) -> Result<(), RestoreError> {
        match (self, state) {
            (Self::Crb(crb), TpmState::Crb(state)) => crb.restore(state),
            (Self::Tis(tis), TpmState::Tis(state)) => tis.restore(state),
            _ => Err(RestoreError::Invalid { device: "TPM", field: "interface" }),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Crb(crb) => crb.reset(),
            Self::Tis(tis) => tis.reset(),
        }
    }
}
