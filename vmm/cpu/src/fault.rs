//! What can keep an instruction from completing.

/// The result of a step of an instruction.
pub type R<T = ()> = Result<T, Fault>;

/// The instruction did not complete; [`crate::core::Core::event`] says why. Made only by the core's `raise` and its
/// kin, so that there is always an event behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Fault(pub(crate) ());

/// Exception vectors (SDM vol. 3A, table 6-1).
#[expect(missing_docs, reason = "the names are the architecture's")]
pub mod vector {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const DF: u8 = 8;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const XM: u8 = 19;
}

/// An access that memory cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoRequest {
    /// IN.
    PioRead {
        /// Port number.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
    },
    /// OUT.
    PioWrite {
        /// Port number.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// Low bytes are what is written.
        value: u32,
    },
    /// Read of a guest-physical address.
    MmioRead {
        /// Where.
        gpa: u64,
        /// Bytes: 1 to 8.
        size: u8,
    },
    /// Write to a guest-physical address.
    MmioWrite {
        /// Where.
        gpa: u64,
        /// Bytes: 1 to 8.
        size: u8,
        /// Low bytes are what is written.
        value: u64,
    },
}

/// Why an instruction did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// An exception is to be delivered; RIP is the instruction's own (a fault).
    Exception {
        /// Vector.
        vector: u8,
        /// Error code, for the vectors that have one.
        error: Option<u32>,
    },
    /// A device must answer first; then the instruction is executed again from its start.
    Io(IoRequest),
    /// A repeated string instruction lets the run loop look at interrupts; RIP stays.
    Again,
    /// Triple fault.
    Shutdown,
}
