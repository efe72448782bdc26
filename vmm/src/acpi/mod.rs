//! ACPI tables: what the machine tells the guest about itself.
//!
//! The tables are measured into PCR 1, so the same configuration gives the same bytes, and `bulla measure` builds them
//! with the same function as the machine. ACPI is not hardware-reduced here: the fixed hardware (PM1a block, PM timer,
//! SCI) is [`crate::devices::pm`].
//!
//! Sources: ACPI 6.5; TCG ACPI Specification 1.4 for the TPM2 table.
#![forbid(unsafe_code)]

mod dsdt;
mod tables;
#[cfg(test)]
mod tests;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use bulla_boot_abi::map::{ACPI_BASE, ACPI_SIZE};

use crate::devices::tpm::TpmInterface;

/// OEM ID of all tables.
pub(crate) const OEM_ID: [u8; 6] = *b"BULLA ";
/// OEM table ID of all tables.
pub(crate) const OEM_TABLE_ID: [u8; 8] = *b"BULLAVM ";
/// OEM revision of all tables; to be raised when their meaning changes.
pub(crate) const OEM_REVISION: u32 = 1;

/// Most vCPUs that the tables can describe: 8-bit APIC IDs, of which 255 is the broadcast.
pub const MAX_VCPUS: u32 = 255;

/// What the tables depend on. Everything else is the same in every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcpiConfig {
    /// Number of vCPUs; vCPU n has APIC ID n.
    pub vcpus: u32,
    /// How the TPM is talked to.
    pub tpm: TpmInterface,
}

/// The tables, ready to be put into guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiBlob {
    /// Guest-physical address of the first byte.
    pub base: u64,
    /// All tables; the pointers in them hold only at `base`.
    pub bytes: Vec<u8>,
    /// Guest-physical address of the RSDP: the first table.
    pub rsdp: u64,
}

/// Why there are no tables for a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcpiError {
    /// None, or more than 8-bit APIC IDs allow.
    #[error("a machine has 1 to {MAX_VCPUS} vCPUs, not {0}")]
    Vcpus(u32),
    /// The tables do not fit the place that the memory map has for them.
    #[error("ACPI tables take {size} bytes, there is room for {ACPI_SIZE}")]
    TooLarge {
        /// Bytes of all tables.
        size: u64,
    },
}

/// Lays tables out one after the other.
struct Layout {
    bytes: Vec<u8>,
}

impl Layout {
    /// FACS must be aligned so (ACPI 6.5, section 5.2.10); the others want 16 at most.
    const ALIGN: usize = 64;

    /// Appends a table and returns its guest-physical address.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(Self::ALIGN), 0);
        let address = ACPI_BASE + self.bytes.len() as u64;
        table.to_aml_bytes(&mut self.bytes);
        address
    }
}

/// Builds the tables of a machine.
///
/// # Errors
/// If the configuration cannot be described.
pub fn build(config: &AcpiConfig) -> Result<AcpiBlob, AcpiError> {
    if !(1..=MAX_VCPUS).contains(&config.vcpus) {
        return Err(AcpiError::Vcpus(config.vcpus));
    }
    // The RSDP comes first and is filled in last: everything points from it onwards.
    let mut layout = Layout { bytes: vec![0; Rsdp::len()] };
    let facs = layout.add(&FACS::new());
    let dsdt = layout.add(&dsdt::dsdt(config));
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(layout.add(&tables::fadt(facs, dsdt)));
    xsdt.add_entry(layout.add(&tables::madt(config)));
    xsdt.add_entry(layout.add(&tables::tpm2(config.tpm)));
    let xsdt = layout.add(&xsdt);

    let mut bytes = Vec::new();
    Rsdp::new(OEM_ID, xsdt).to_aml_bytes(&mut bytes);
    bytes.extend(layout.bytes.into_iter().skip(Rsdp::len()));
    let size = bytes.len() as u64;
    if size > ACPI_SIZE {
        return Err(AcpiError::TooLarge { size });
    }
    Ok(AcpiBlob { base: ACPI_BASE, bytes, rsdp: ACPI_BASE })
}
