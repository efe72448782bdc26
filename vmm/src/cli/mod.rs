//! The commands of `bulla`, one module each, and what they share.

mod accel;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod measure;
pub(crate) mod run;

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use accel::AccelArguments;
use bulla_vmm::backend::kvm::probe::{DeviceState, Probe};
use bulla_vmm::devices::tpm::TpmInterface;

/// Printed below `bulla --help`.
pub(crate) const AFTER_HELP: &str = "\
Exit codes:
  0  done; for demo: every claim held; for run: the guest powered off, or --until was reached
  1  the guest or a claim failed: a refused image, a crash, a check of the demo that did not hold
  2  bad arguments or unreadable input
  3  this host cannot run VMs, or not with the --accel asked for (see `bulla doctor`)
  4  the host failed: a device, a file, the vTPM process
  5  the vTPM's state (--tpm-state) cannot be used: another VM has it, another key, damaged, rolled back

Examples:
  bulla doctor
  bulla demo
  bulla run --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0' --evidence ev.cbor --nonce 0011223344556677
  bulla measure --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0' --out exp.cbor
  bulla-attest verify --evidence ev.cbor --nonce 0011223344556677 --expected exp.cbor";

/// `println!`, but for a reader of standard output that has left, as `head` does: then the rest goes nowhere, and the exit code
/// still says how it went.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::say_line(format_args!($($text)*))
    };
}
pub(crate) use say;

pub(crate) fn say_line(text: fmt::Arguments<'_>) {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => eprintln!("bulla: standard output: {error}"),
        _ => {}
    }
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    GuestFailed = 1,
    BadInput = 2,
    NoBackend = 3,
    HostFailed = 4,
    TpmState = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code it leads to.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Says `what` was being done when `error` came.
    pub(crate) fn because(exit: Exit, what: impl fmt::Display, error: &dyn Error) -> Self {
        Self::new(exit, format!("{what}: {}", chain(error)))
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error and its causes in one line; a cause that its parent's text already contains is not said twice.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Largest image file taken; the boot window is the true limit, this only keeps a mistake from filling memory.
const FILE_MAX: u64 = bulla_boot_abi::map::BOOT_WINDOW_MAX;

/// Reads a file that the user named, with its name in the error.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let size = fs::metadata(path).map_err(|e| Failure::because(Exit::BadInput, format!("cannot read {name}"), &e))?;
    if size.len() > FILE_MAX {
        let message = format!("{name} has {} bytes, the most is {FILE_MAX}", size.len());
        return Err(Failure::new(Exit::BadInput, message));
    }
    fs::read(path).map_err(|e| Failure::because(Exit::BadInput, format!("cannot read {name}"), &e))
}

/// Writes a file that the user named.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes)
        .map_err(|e| Failure::because(Exit::HostFailed, format!("cannot write {}", path.display()), &e))
}

/// The word that stands for the kernel that ships with bulla.
pub(crate) const TENANT: &str = "tenant";

/// What a VM boots: the same arguments for `run` and for `measure`, so that what is measured is what is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BootArguments {
    /// Kernel: a bzImage, an ELF vmlinux (PVH or 64-bit), or the word `tenant` for the bundled guest.
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: PathBuf,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) cmdline: String,
    /// RAM: a number of bytes, or with K, M or G.
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse_size)]
    pub(crate) memory: u64,
    /// Number of vCPUs: 1 on KVM, up to 16 on the software processor (where they take turns).
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) cpus: u32,
    /// How the guest talks to its TPM; the ACPI tables tell it, so it is measured: give the same to `bulla measure`.
    #[arg(long, value_name = "INTERFACE", value_enum, default_value_t)]
    pub(crate) tpm_interface: TpmInterfaceArgument,
}

/// [`TpmInterface`], as it is written on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TpmInterfaceArgument {
    /// The Command Response Buffer
    #[default]
    Crb,
    /// The older FIFO, for guests whose driver knows no other
    Tis,
}

impl From<TpmInterfaceArgument> for TpmInterface {
    fn from(argument: TpmInterfaceArgument) -> Self {
        match argument {
            TpmInterfaceArgument::Crb => Self::Crb,
            TpmInterfaceArgument::Tis => Self::Tis,
        }
    }
}

/// The files that [`BootArguments`] name, read.
pub(crate) struct BootFiles {
    pub(crate) kernel: Vec<u8>,
    pub(crate) initrd: Option<Vec<u8>>,
}

impl BootArguments {
    pub(crate) fn read(&self) -> Result<BootFiles, Failure> {
        let kernel =
            if self.kernel.as_os_str() == TENANT { bulla_firmware::TENANT.to_vec() } else { read_file(&self.kernel)? };
        Ok(BootFiles { kernel, initrd: self.initrd.as_deref().map(read_file).transpose()? })
    }

    pub(crate) fn inputs<'a>(&'a self, files: &'a BootFiles) -> bulla_vmm::measure::BootInputs<'a> {
        bulla_vmm::measure::BootInputs {
            firmware: bulla_firmware::FIRMWARE,
            bootloader: bulla_firmware::BOOTLOADER,
            kernel: &files.kernel,
            initrd: files.initrd.as_deref(),
            cmdline: &self.cmdline,
            memory: self.memory,
            vcpus: self.cpus,
            tpm_interface: self.tpm_interface.into(),
        }
    }
}

/// Reads `512M`, `2G`, `65536K` or a number of bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a size: write 512M, 2G or a byte count"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is more than 64 bits can hold"))
}

/// A nonce from the command line (clap takes a bare `Vec` for a repeated argument).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nonce(pub(crate) Vec<u8>);

/// Reads a nonce in hexadecimal: 8 to 32 bytes.
pub(crate) fn parse_nonce(text: &str) -> Result<Nonce, String> {
    let nonce = hex::decode(text).map_err(|e| format!("not hexadecimal: {e}"))?;
    if (8..=bulla_boot_abi::mailbox::NONCE_MAX).contains(&nonce.len()) {
        return Ok(Nonce(nonce));
    }
    Err(format!("a nonce has 8 to 32 bytes (16 to 64 hexadecimal digits), this one has {}", nonce.len()))
}

/// Stops with advice where there is no usable KVM.
pub(crate) fn require_kvm() -> Result<(), Failure> {
    let probe = Probe::take();
    if matches!(probe.device, DeviceState::Usable { .. }) {
        return Ok(());
    }
    let (device, advice) = (&probe.device, probe.device.advice());
    let message = format!("{device}. {advice}. `--accel soft` needs no KVM; `bulla doctor` tells more");
    Err(Failure::new(Exit::NoBackend, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("512M"), Ok(512 << 20));
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        assert_eq!(parse_size("4096"), Ok(4096));
        for bad in ["", "M", "1T", "-1", "1.5G", "99999999999G", "é"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nonces_outside_8_to_32_bytes_are_refused() {
        assert!(parse_nonce("0011223344556677").is_ok());
        for bad in ["", "00", "zz11223344556677", &"00".repeat(33)] {
            assert!(parse_nonce(bad).is_err(), "{bad}");
        }
    }
}
