//! Why a kernel is not booted.

use bulla_boot_abi::progress::Failure;

/// What is wrong with a kernel, an initial RAM disk or a command line, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Neither kind of kernel.
    #[error("kernel is neither an x86-64 ELF executable nor a bzImage: {0}")]
    Format(&'static str),
    /// The file ends too early.
    #[error("kernel is truncated: {what} at offset {offset:#x} leaves the file of {len} bytes")]
    Truncated {
        /// What leaves the file.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// Length of the file.
        len: u64,
    },
    /// A field without a meaning.
    #[error("kernel has a bad {field}: {value:#x}")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// Two segments share memory.
    #[error("kernel segments {first} and {second} overlap")]
    Overlap {
        /// Number of the program header of the lower one.
        first: usize,
        /// Number of the program header of the higher one.
        second: usize,
    },
    /// Something has no place in RAM.
    #[error("{what} of {len} bytes has no place in RAM at {at:#x}")]
    NoRoom {
        /// What it is.
        what: &'static str,
        /// Where it should go, or the end of the space for it.
        at: u64,
        /// Its length.
        len: u64,
    },
    /// No entry point that this machine can use.
    #[error("kernel cannot be entered: {0}")]
    Entry(&'static str),
    /// The compressed kernel inside a bzImage is damaged.
    #[error("kernel payload does not decompress: {0}")]
    Payload(&'static str),
    /// The command line is longer than the kernel takes.
    #[error("command line of {len} bytes is longer than the {max} that the kernel takes")]
    CommandLineLength {
        /// Its length.
        len: usize,
        /// The most there can be.
        max: usize,
    },
    /// The command line is not UTF-8 without NUL.
    #[error("command line is not UTF-8 without NUL: byte {0}")]
    CommandLineText(usize),
    /// The memory map has no RAM at 1 MiB.
    #[error("memory map has no RAM at 1 MiB")]
    NoMemory,
}

impl PlanError {
    /// What to tell the monitor.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Format(_) | Self::Field { .. } => Failure::KernelFormat,
            Self::Truncated { .. } => Failure::KernelTruncated,
            Self::Overlap { .. } => Failure::KernelOverlap,
            Self::NoRoom { .. } => Failure::NoRoom,
            Self::Entry(_) => Failure::KernelEntry,
            Self::Payload(_) => Failure::KernelPayload,
            Self::CommandLineLength { .. } | Self::CommandLineText(_) => Failure::CommandLine,
            Self::NoMemory => Failure::MemoryMap,
        }
    }
}
