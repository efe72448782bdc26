//! What can go wrong at the boundary, told apart by who is at fault.

use std::fmt;

use super::{IOAPIC_PINS, SlotId};

/// The host or the caller is at fault: a partition or vCPU cannot be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// This backend cannot work on this host; the source says why and what to do.
    #[error("backend {backend} is not available: {source}")]
    Unavailable {
        /// Its name.
        backend: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host refused an operation.
    #[error("the host refused to {what}: {source}")]
    Host {
        /// The operation, in the infinitive.
        what: &'static str,
        /// Its reason.
        source: std::io::Error,
    },
    /// A memory slot that touches another.
    #[error("memory slot {base:#x}..{end:#x} overlaps the one at {other:#x}")]
    SlotOverlap {
        /// First byte of the new slot.
        base: u64,
        /// First byte behind it.
        end: u64,
        /// First byte of the slot that is there.
        other: u64,
    },
    /// A memory slot whose address or size is not a multiple of 4 KiB, or that wraps around.
    #[error("memory slot at {base:#x} of {size:#x} bytes is not made of whole 4 KiB pages")]
    SlotShape {
        /// First byte.
        base: u64,
        /// Length in bytes.
        size: u64,
    },
    /// No more memory slots.
    #[error("no more than {max} memory slots")]
    TooManySlots {
        /// The limit.
        max: usize,
    },
    /// A slot that is not (or no longer) there.
    #[error("no memory slot {}", .0.0)]
    NoSuchSlot(SlotId),
    /// An IOAPIC pin that does not exist.
    #[error("no IOAPIC pin {0}, there are {IOAPIC_PINS}")]
    NoSuchPin(u8),
    /// More vCPUs than the backend has.
    #[error("vCPU {id} asked for, this backend has {max}")]
    TooManyVcpus {
        /// Number asked for, from 0.
        id: u32,
        /// The limit.
        max: usize,
    },
    /// The initial state of a vCPU could not be set.
    #[error("vCPU could not be set up: {0}")]
    Vcpu(#[from] VcpuError),
}

/// The bytes of an instruction, as far as they are known.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct InstructionBytes {
    len: u8,
    bytes: [u8; 15],
}

impl InstructionBytes {
    /// Takes at most 15 bytes (the longest x86 instruction, SDM vol. 2A §2.3.11).
    pub fn new(from: &[u8]) -> Self {
        let mut bytes = [0; 15];
        let mut len = 0;
        for (to, byte) in bytes.iter_mut().zip(from) {
            *to = *byte;
            len += 1;
        }
        Self { len, bytes }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for InstructionBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 0 {
            return f.write_str("unknown bytes");
        }
        for (i, byte) in self.as_slice().iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for InstructionBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// A vCPU cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    /// An instruction that neither the processor nor the host's emulator carries out.
    #[error("this host cannot carry out the guest's instruction at {rip:#x} [{instruction}]: {detail}")]
    CannotExecute {
        /// Where it stands, in the guest's linear addresses.
        rip: u64,
        /// Its bytes; there may be some of the following ones too.
        instruction: InstructionBytes,
        /// What the host said.
        detail: String,
    },
    /// The processor refused the guest's state.
    #[error("the processor refused the guest's state at {rip:#x} (reason {reason:#x})")]
    EntryFailed {
        /// Where the guest was.
        rip: u64,
        /// The processor's reason, of its own making.
        reason: u64,
    },
    /// The memory behind a guest-physical address is gone (a file cut short under its mapping, a failing host page).
    #[error("the host has no memory behind guest-physical {gpa:#x}")]
    MemoryFault {
        /// Where.
        gpa: u64,
    },
    /// A model-specific register that this host does not let us set.
    #[error("the host refused MSR {index:#x} = {value:#x}")]
    MsrRefused {
        /// Number.
        index: u32,
        /// Value.
        value: u64,
    },
    /// The host stopped the vCPU for a reason that this backend never asks for.
    #[error("the host stopped the vCPU for unexpected reason {reason} at {rip:#x}")]
    UnexpectedExit {
        /// The backend's number for it.
        reason: u32,
        /// Where the guest was.
        rip: u64,
    },
    /// The host refused an operation.
    #[error("the host refused to {what}: {source}")]
    Host {
        /// The operation, in the infinitive.
        what: &'static str,
        /// Its reason.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_bytes_print_as_a_disassembler_would_and_stop_at_fifteen() {
        assert_eq!(InstructionBytes::new(&[0x0f, 0x0b]).to_string(), "0f 0b");
        assert_eq!(InstructionBytes::new(&[]).to_string(), "unknown bytes");
        assert_eq!(InstructionBytes::new(&[1; 40]).as_slice().len(), 15);
    }
}
