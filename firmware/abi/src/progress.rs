//! What the guest tells the monitor through [`crate::port::PROGRESS`].
//!
//! A value with the top bit clear is a [`Milestone`], one with it set a [`Failure`]. The monitor treats either as a
//! claim of the guest: it may time things by it and stop the VM, and trusts nothing to it.

/// How far the chain has come, in the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Milestone {
    /// First instructions of the firmware.
    FirmwareEntered = 0x0001,
    /// The TPM has answered TPM2_Startup.
    TpmReady = 0x0002,
    /// The bootloader has been copied to private memory (the boot window is no longer read for it).
    BootloaderCopied = 0x0003,
    /// The bootloader has been measured and is about to run.
    BootloaderMeasured = 0x0004,
    /// First instructions of the bootloader.
    BootloaderEntered = 0x0010,
    /// Kernel, initrd and command line have been copied to private memory.
    ImagesCopied = 0x0011,
    /// They have been measured.
    ImagesMeasured = 0x0012,
    /// All is in place; the next instruction that runs outside the firmware is the kernel's.
    /// The monitor takes evidence and withdraws the boot window while the guest waits here.
    Handover = 0x001F,
    /// The tenant serves its mailbox.
    TenantReady = 0x0040,
    /// The tenant has put a reply into the mailbox.
    TenantReplied = 0x0041,
}

/// Why the firmware, the bootloader or the tenant gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u32)]
pub enum Failure {
    /// A processor exception nobody expected; the console has the details.
    #[error("unexpected processor exception in the guest firmware")]
    Exception = 0x8000_0001,
    /// A Rust panic: a bug of ours.
    #[error("guest firmware panicked (a bug in bulla)")]
    Panic = 0x8000_0002,
    /// No TPM answers at its address.
    #[error("no TPM at its address")]
    TpmMissing = 0x8000_0010,
    /// The TPM answered a command with an error, or not at all.
    #[error("the TPM refused a command of the firmware")]
    TpmFailed = 0x8000_0011,
    /// The header of the boot window makes no sense.
    #[error("boot window header is malformed")]
    WindowHeader = 0x8000_0020,
    /// An image that must be there is not.
    #[error("boot window lacks a required item")]
    WindowItemMissing = 0x8000_0021,
    /// An item is larger than the place it must go to.
    #[error("boot window item is too large")]
    WindowItemTooLarge = 0x8000_0022,
    /// The memory map is unsorted, overlaps, or lacks RAM where it is needed.
    #[error("memory map is malformed")]
    MemoryMap = 0x8000_0023,
    /// The bootloader image has a bad header.
    #[error("bootloader image is malformed")]
    BootloaderImage = 0x8000_0024,
    /// The event log is full.
    #[error("event log is full")]
    EventLogFull = 0x8000_0025,
    /// The firmware's hand-off page is malformed.
    #[error("hand-off from firmware to bootloader is malformed")]
    Handoff = 0x8000_0026,
    /// Neither an ELF nor a bzImage.
    #[error("kernel is neither an x86-64 ELF nor a bzImage")]
    KernelFormat = 0x8000_0030,
    /// The kernel file ends before what its headers promise.
    #[error("kernel image is truncated")]
    KernelTruncated = 0x8000_0031,
    /// Two loadable segments overlap.
    #[error("kernel segments overlap")]
    KernelOverlap = 0x8000_0032,
    /// A segment or the initrd does not fit the VM's RAM.
    #[error("kernel or initrd does not fit the VM's memory")]
    NoRoom = 0x8000_0033,
    /// The compressed payload is damaged.
    #[error("kernel payload does not decompress")]
    KernelPayload = 0x8000_0034,
    /// The kernel is of a kind this machine cannot enter (32-bit, no entry point in a segment, old protocol).
    #[error("kernel has no entry point this machine can use")]
    KernelEntry = 0x8000_0035,
    /// The command line is too long or not UTF-8 without NUL.
    #[error("kernel command line is too long or malformed")]
    CommandLine = 0x8000_0036,
    /// The tenant could not set itself up; the console has the details.
    #[error("the tenant could not start")]
    Tenant = 0x8000_0040,
}

/// One write to the progress port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something was reached.
    Reached(Milestone),
    /// The guest gave up.
    Failed(Failure),
    /// A number that means nothing here (a guest may write what it likes).
    Unknown(u32),
}

const MILESTONES: [Milestone; 10] = [
    Milestone::FirmwareEntered,
    Milestone::TpmReady,
    Milestone::BootloaderCopied,
    Milestone::BootloaderMeasured,
    Milestone::BootloaderEntered,
    Milestone::ImagesCopied,
    Milestone::ImagesMeasured,
    Milestone::Handover,
    Milestone::TenantReady,
    Milestone::TenantReplied,
];

const FAILURES: [Failure; 19] = [
    Failure::Exception,
    Failure::Panic,
    Failure::TpmMissing,
    Failure::TpmFailed,
    Failure::WindowHeader,
    Failure::WindowItemMissing,
    Failure::WindowItemTooLarge,
    Failure::MemoryMap,
    Failure::BootloaderImage,
    Failure::EventLogFull,
    Failure::Handoff,
    Failure::KernelFormat,
    Failure::KernelTruncated,
    Failure::KernelOverlap,
    Failure::NoRoom,
    Failure::KernelPayload,
    Failure::KernelEntry,
    Failure::CommandLine,
    Failure::Tenant,
];

impl From<u32> for Progress {
    fn from(value: u32) -> Self {
        if let Some(m) = MILESTONES.iter().find(|m| **m as u32 == value) {
            return Self::Reached(*m);
        }
        match FAILURES.iter().find(|f| **f as u32 == value) {
            Some(f) => Self::Failed(*f),
            None => Self::Unknown(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_code_comes_back_as_itself() {
        for m in MILESTONES {
            assert_eq!(Progress::from(m as u32), Progress::Reached(m));
        }
        for f in FAILURES {
            assert_eq!(Progress::from(f as u32), Progress::Failed(f));
        }
        assert_eq!(Progress::from(0x7777), Progress::Unknown(0x7777));
    }
}
