//! What a machine is made from, and what is wrong with it if it cannot be made.

use std::fmt;
use std::fs::File;
use std::io;

use bulla_boot_abi::image::ImageError;
use bulla_boot_abi::map::{BOOT_WINDOW_MAX, CMDLINE_MAX};

use crate::acpi::AcpiError;
use crate::backend::{BackendError, CpuFeatureError, CpuFeatures};
use crate::devices::BusError;
use crate::devices::serial::Peer;
use crate::devices::tpm::TpmInterface;
use crate::memory::{MemoryError, MemorySizes, plan};

/// The most vCPUs that a VM can have.
pub const VCPUS_MAX: u32 = 16;

/// The shape of a machine.
pub struct MachineConfig {
    /// RAM in bytes, a multiple of 4 KiB.
    pub memory: u64,
    /// Number of vCPUs, at most [`VCPUS_MAX`]. More than one only on a backend whose processors take turns
    /// ([`crate::backend::Partition::create_processors`]).
    pub vcpus: u32,
    /// What CPUID shows beyond or short of the defaults.
    pub cpu_features: CpuFeatures,
    /// How the guest talks to its TPM.
    pub tpm_interface: TpmInterface,
    /// Where the console (COM1) writes.
    pub console: Box<dyn io::Write + Send>,
    /// What the second serial port leads to: a writer, or somebody who answers.
    pub com2: Box<dyn Peer>,
    /// The channel window: memory that another VM maps too.
    pub channel: Option<File>,
    /// The mailbox: memory that a program of the host maps too.
    pub mailbox: Option<File>,
}

impl Default for MachineConfig {
    /// 256 MiB, one vCPU, no console, nothing shared.
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            vcpus: 1,
            cpu_features: CpuFeatures::default(),
            tpm_interface: TpmInterface::default(),
            console: Box::new(io::sink()),
            com2: Box::new(io::sink()),
            channel: None,
            mailbox: None,
        }
    }
}

impl fmt::Debug for MachineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineConfig")
            .field("memory", &self.memory)
            .field("vcpus", &self.vcpus)
            .field("cpu_features", &self.cpu_features)
            .field("tpm_interface", &self.tpm_interface)
            .field("channel", &self.channel)
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

/// What the machine boots: the bytes, as they will be measured.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    /// Stage 1, a flat image; goes to its place and is measured by the vTPM itself.
    pub firmware: &'a [u8],
    /// Stage 2, a flat image.
    pub bootloader: &'a [u8],
    /// Kernel file.
    pub kernel: &'a [u8],
    /// Initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// Command line.
    pub cmdline: &'a str,
}

/// A machine that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Too many vCPUs, or none.
    #[error("{0} vCPUs asked for; a VM has 1 to {VCPUS_MAX}")]
    Vcpus(u32),
    /// Longer than kernels take.
    #[error("the kernel command line has {len} bytes, at most {CMDLINE_MAX} are allowed")]
    CommandLineTooLong {
        /// Its length.
        len: usize,
    },
    /// A NUL, which would end the line early in the kernel's eyes but not in the measurement.
    #[error("the kernel command line has a NUL at byte {at}")]
    CommandLineNul {
        /// Where.
        at: usize,
    },
    /// An image without bytes.
    #[error("the {0} is empty")]
    EmptyImage(&'static str),
    /// All images together are too large.
    #[error("firmware, kernel and initrd need more than the boot window's {} MiB", BOOT_WINDOW_MAX >> 20)]
    ImagesTooLarge,
    /// An image has a bad header.
    #[error("the {image} is malformed: {source}")]
    Image {
        /// Which.
        image: &'static str,
        /// What is wrong with it.
        source: ImageError,
    },
    /// Memory sizes.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// CPU features.
    #[error(transparent)]
    CpuFeatures(#[from] CpuFeatureError),
    /// ACPI cannot describe it.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
}

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host is at fault.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Memory could not be had.
    #[error(transparent)]
    Memory(MemoryError),
    /// The vTPM does not answer as it should.
    #[error("the vTPM failed before the first instruction: {0}")]
    Vtpm(#[from] bulla_vtpm_client::Error),
    /// Two devices in one place: a bug of ours.
    #[error("devices collide: {0}")]
    Bus(#[from] BusError),
}

impl MachineConfig {
    /// Checks what can be checked without a host.
    ///
    /// # Errors
    /// [`ConfigError`] names the first thing that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=VCPUS_MAX).contains(&self.vcpus) {
            return Err(ConfigError::Vcpus(self.vcpus));
        }
        let sizes = MemorySizes { ram: self.memory, ..MemorySizes::default() };
        plan(&sizes).map_err(MemoryError::from)?;
        Ok(())
    }
}

impl Images<'_> {
    /// Checks what does not need the images to be parsed: that is the guest's business.
    ///
    /// # Errors
    /// [`ConfigError`] names the first thing that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.kernel.is_empty() {
            return Err(ConfigError::EmptyImage("kernel"));
        }
        if self.initrd.is_some_and(<[u8]>::is_empty) {
            return Err(ConfigError::EmptyImage("initrd"));
        }
        let len = self.cmdline.len();
        if len > CMDLINE_MAX {
            return Err(ConfigError::CommandLineTooLong { len });
        }
        match self.cmdline.find('\0') {
            Some(at) => Err(ConfigError::CommandLineNul { at }),
            None => Ok(()),
        }
    }
}
