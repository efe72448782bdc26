//! What the boot loader left: `boot_params`, the command line, and the way through ACPI to the event log.
//!
//! All of it is in private memory and measured, and read as if it were not: every length and address is checked against
//! the windows of memory that may be looked at.

use alloc::string::String;
use alloc::vec::Vec;

use bulla_tpm_types::eventlog::{EventLog, LogError};

/// Pieces of physical memory that may be read, with their addresses.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'m> {
    windows: &'m [(u64, &'m [u8])],
}

impl<'m> Memory<'m> {
    /// Memory that consists of these windows.
    #[must_use]
    pub const fn new(windows: &'m [(u64, &'m [u8])]) -> Self {
        Self { windows }
    }

    /// Everything from `address` to the end of its window.
    fn from(&self, address: u64) -> Option<&'m [u8]> {
        self.windows.iter().find_map(|(base, bytes)| {
            let offset = usize::try_from(address.checked_sub(*base)?).ok()?;
            bytes.get(offset..).filter(|rest| !rest.is_empty())
        })
    }

    fn read(&self, what: &'static str, address: u64, len: usize) -> Result<&'m [u8], BootError> {
        let outside = BootError::Outside { what, address };
        self.from(address).and_then(|rest| rest.get(..len)).ok_or(outside)
    }
}

/// Why the tenant does not find what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// An address that leads where there is nothing of the kind.
    #[error("{what} at {address:#x} lies outside the memory it must be in")]
    Outside {
        /// What was looked for.
        what: &'static str,
        /// Where.
        address: u64,
    },
    /// A table that is not what its place says.
    #[error("{what} has a wrong signature, length or checksum")]
    Malformed {
        /// Which table.
        what: &'static str,
    },
    /// ACPI has no table of this kind.
    #[error("there is no ACPI table {0}")]
    Missing(&'static str),
    /// The command line is not UTF-8 or has no end.
    #[error("command line is not UTF-8 with a NUL behind it")]
    CommandLine,
    /// The event log does not parse.
    #[error("event log: {0}")]
    Log(#[from] LogError),
}

/// What the tenant needs to know of its boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFacts {
    /// The kernel command line.
    pub cmdline: String,
    /// The TCG event log, without the unused rest of its area.
    pub event_log: Vec<u8>,
}

// Offsets in `boot_params` (Documentation/arch/x86/zero-page.rst).
const ACPI_RSDP_ADDR: usize = 0x070;
const EXT_CMD_LINE_PTR: usize = 0x0c8;
const CMD_LINE_PTR: usize = 0x228;
const BOOT_PARAMS_LEN: usize = 4096;

const RSDP_LEN: usize = 36;
const SDT_HEADER_LEN: usize = 36;
const TPM2_LEN: usize = 76;
/// More tables than any machine of bulla has.
const MAX_TABLES: usize = 64;

/// Follows `boot_params` at `address` to the command line and the event log.
///
/// # Errors
/// A [`BootError`] that names the first thing that is not as it must be.
pub fn find(memory: Memory<'_>, address: u64) -> Result<BootFacts, BootError> {
    let params = memory.read("boot_params", address, BOOT_PARAMS_LEN)?;
    let pointer = u64_at(params, EXT_CMD_LINE_PTR, 4) << 32 | u64_at(params, CMD_LINE_PTR, 4);
    let cmdline = command_line(memory, pointer)?;
    let (log_base, log_len) = log_area(memory, u64_at(params, ACPI_RSDP_ADDR, 8))?;
    let area = memory.read("event log", log_base, log_len)?;
    let (_, used) = EventLog::in_area(area)?;
    Ok(BootFacts { cmdline, event_log: area.get(..used).unwrap_or_default().to_vec() })
}

fn command_line(memory: Memory<'_>, address: u64) -> Result<String, BootError> {
    if address == 0 {
        return Ok(String::new());
    }
    let rest = memory.from(address).ok_or(BootError::Outside { what: "command line", address })?;
    let rest = rest.get(..=bulla_boot_abi::map::CMDLINE_MAX).unwrap_or(rest);
    let end = rest.iter().position(|byte| *byte == 0).ok_or(BootError::CommandLine)?;
    let text = rest.get(..end).unwrap_or_default();
    core::str::from_utf8(text).map(String::from).map_err(|_| BootError::CommandLine)
}

/// LASA and LAML of the TPM2 table (TCG ACPI Specification 1.3, table 7), found through the RSDP and the XSDT (ACPI 6.5, 5.2.5
/// and 5.2.8).
fn log_area(memory: Memory<'_>, rsdp: u64) -> Result<(u64, usize), BootError> {
    let root = memory.read("RSDP", rsdp, RSDP_LEN)?;
    if !root.starts_with(b"RSD PTR ") || sum(root) != 0 {
        return Err(BootError::Malformed { what: "RSDP" });
    }
    let xsdt = table(memory, "XSDT", u64_at(root, 24, 8))?;
    if !xsdt.starts_with(b"XSDT") {
        return Err(BootError::Malformed { what: "XSDT" });
    }
    let entries = xsdt.get(SDT_HEADER_LEN..).unwrap_or_default().chunks_exact(8).take(MAX_TABLES);
    for entry in entries {
        let table = table(memory, "ACPI table", u64_at(entry, 0, 8))?;
        if table.starts_with(b"TPM2") {
            if table.len() < TPM2_LEN {
                return Err(BootError::Malformed { what: "TPM2" });
            }
            let len = usize::try_from(u64_at(table, 64, 4));
            return Ok((u64_at(table, 68, 8), len.map_err(|_| BootError::Malformed { what: "TPM2" })?));
        }
    }
    Err(BootError::Missing("TPM2"))
}

/// A system description table (ACPI 6.5, 5.2.6): its length is at 4, and all its bytes add up to 0.
fn table<'m>(memory: Memory<'m>, what: &'static str, address: u64) -> Result<&'m [u8], BootError> {
    let header = memory.read(what, address, SDT_HEADER_LEN)?;
    let len = usize::try_from(u64_at(header, 4, 4)).map_err(|_| BootError::Malformed { what })?;
    let table = memory.read(what, address, len)?;
    if len < SDT_HEADER_LEN || sum(table) != 0 {
        return Err(BootError::Malformed { what });
    }
    Ok(table)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A little-endian integer of `len` bytes; bytes that are not there are 0, and every caller has checked that they are.
fn u64_at(bytes: &[u8], at: usize, len: usize) -> u64 {
    let field = bytes.get(at..).unwrap_or_default().iter().take(len);
    field.rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use bulla_tpm_types::eventlog::LogBuilder;
    use bulla_tpm_types::{HashAlg, hash};
    use proptest::prelude::*;

    const PARAMS: u64 = 0x7000;
    const CMDLINE: u64 = 0x9000;
    const TABLES: u64 = 0xe_0000;
    const LOG: u64 = 0xd_0000;
    const XSDT: usize = 0x40;
    const OTHER: usize = 0x80;
    const TPM2: usize = 0xc0;

    struct Machine {
        low: Vec<u8>,
        tables: Vec<u8>,
        log: Vec<u8>,
        log_len: usize,
    }

    fn seal(bytes: &mut [u8], checksum: usize) {
        bytes[checksum] = bytes[checksum].wrapping_sub(sum(bytes));
    }

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    fn machine(cmdline: &[u8]) -> Machine {
        let mut low = vec![0; 0x4000];
        put(&mut low, ACPI_RSDP_ADDR, &TABLES.to_le_bytes());
        put(&mut low, CMD_LINE_PTR, &(CMDLINE as u32).to_le_bytes());
        put(&mut low, 0x2000, cmdline);
        let mut tables = vec![0; 0x1000];
        put(&mut tables, 0, b"RSD PTR ");
        put(&mut tables, 24, &(TABLES + XSDT as u64).to_le_bytes());
        seal(&mut tables[..RSDP_LEN], 32);
        put(&mut tables, XSDT, b"XSDT");
        put(&mut tables, XSDT + 4, &52_u32.to_le_bytes());
        put(&mut tables, XSDT + 36, &(TABLES + OTHER as u64).to_le_bytes());
        put(&mut tables, XSDT + 44, &(TABLES + TPM2 as u64).to_le_bytes());
        seal(&mut tables[XSDT..XSDT + 52], 9);
        put(&mut tables, OTHER, b"APIC");
        put(&mut tables, OTHER + 4, &36_u32.to_le_bytes());
        seal(&mut tables[OTHER..OTHER + 36], 9);
        put(&mut tables, TPM2, b"TPM2");
        put(&mut tables, TPM2 + 4, &76_u32.to_le_bytes());
        put(&mut tables, TPM2 + 64, &0x1000_u32.to_le_bytes());
        put(&mut tables, TPM2 + 68, &LOG.to_le_bytes());
        seal(&mut tables[TPM2..TPM2 + 76], 9);
        let mut log = vec![0; 0x1000];
        let mut builder = LogBuilder::new(&mut log, &[HashAlg::Sha256]).unwrap();
        builder.append(4, 13, &hash::digest_banks(b"kernel"), b"kernel").unwrap();
        let log_len = builder.len();
        Machine { low, tables, log, log_len }
    }

    fn found(machine: &Machine) -> Result<BootFacts, BootError> {
        let windows = [(PARAMS, &*machine.low), (TABLES, &*machine.tables), (LOG, &*machine.log)];
        find(Memory::new(&windows), PARAMS)
    }

    #[test]
    fn command_line_and_log_are_found_as_any_kernel_finds_them() {
        let machine = machine(b"quiet peer_pcrs=same\0garbage");
        let facts = found(&machine).unwrap();
        assert_eq!(facts.cmdline, "quiet peer_pcrs=same");
        assert_eq!(facts.event_log, machine.log[..machine.log_len]);
    }

    #[test]
    fn no_command_line_is_an_empty_one() {
        let mut machine = machine(b"\0");
        assert_eq!(found(&machine).unwrap().cmdline, "");
        put(&mut machine.low, CMD_LINE_PTR, &[0; 4]);
        assert_eq!(found(&machine).unwrap().cmdline, "");
    }

    #[test]
    fn a_command_line_without_end_or_not_in_utf8_is_refused() {
        assert_eq!(found(&machine(&[b'x'; 0x2000])), Err(BootError::CommandLine));
        assert_eq!(found(&machine(b"\xff\0")), Err(BootError::CommandLine));
    }

    #[test]
    fn pointers_that_lead_outside_are_named() {
        let mut bad = machine(b"\0");
        put(&mut bad.low, CMD_LINE_PTR, &0xffff_0000_u32.to_le_bytes());
        assert_eq!(found(&bad), Err(BootError::Outside { what: "command line", address: 0xffff_0000 }));
        let mut bad = machine(b"\0");
        put(&mut bad.low, ACPI_RSDP_ADDR, &u64::MAX.to_le_bytes());
        assert_eq!(found(&bad), Err(BootError::Outside { what: "RSDP", address: u64::MAX }));
        let mut bad = machine(b"\0");
        put(&mut bad.tables, TPM2 + 64, &0x1001_u32.to_le_bytes());
        seal(&mut bad.tables[TPM2..TPM2 + 76], 9);
        assert_eq!(found(&bad), Err(BootError::Outside { what: "event log", address: LOG }));
    }

    #[test]
    fn every_changed_byte_of_the_tables_is_noticed() {
        let good = machine(b"\0");
        let used = [0..RSDP_LEN, XSDT..XSDT + 52, OTHER..OTHER + 36, TPM2..TPM2 + 76];
        for byte in used.into_iter().flatten() {
            let mut bad = machine(b"\0");
            bad.tables[byte] ^= 0x10;
            assert_ne!(found(&bad), found(&good), "byte {byte:#x}");
        }
    }

    #[test]
    fn a_machine_without_tpm2_table_is_told_so() {
        let mut bad = machine(b"\0");
        put(&mut bad.tables, TPM2, b"TPM1");
        seal(&mut bad.tables[TPM2..TPM2 + 76], 9);
        assert_eq!(found(&bad), Err(BootError::Missing("TPM2")));
    }

    proptest! {
        #[test]
        fn any_memory_is_read_without_panic(
            changes in proptest::collection::vec((0_usize..0x200, any::<u8>()), 0..8), address: u64)
        {
            let mut machine = machine(b"x\0");
            for (at, value) in changes {
                machine.tables[at] = value;
                machine.low[at * 4 % 0x300] = value;
            }
            let _ = found(&machine);
            let _ = find(Memory::new(&[(PARAMS, &machine.low)]), address);
        }
    }
}
