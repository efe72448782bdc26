use std::collections::BTreeMap;
use std::process::Command;

use bulla_boot_abi::map::{EVENT_LOG_BASE, EVENT_LOG_SIZE, LAPIC_BASE};
use bulla_boot_abi::port;

use super::*;

fn le(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
}

/// Follows the pointers as a kernel does, checking every checksum: signature → table.
fn parse(blob: &AcpiBlob) -> BTreeMap<String, Vec<u8>> {
    let at = |address: u64| &blob.bytes[usize::try_from(address - blob.base).unwrap()..];
    let table = |address: u64| {
        let bytes = at(address);
        let bytes = &bytes[..le(bytes, 4, 4) as usize];
        (String::from_utf8(bytes[..4].to_vec()).unwrap(), bytes.to_vec())
    };
    let checked = |address| {
        let (signature, bytes) = table(address);
        assert_eq!(sum(&bytes), 0, "checksum of {signature}");
        (signature, bytes)
    };
    let rsdp = at(blob.rsdp);
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!((sum(&rsdp[..20]), sum(&rsdp[..36]), rsdp[15]), (0, 0, 2));
    let (signature, xsdt) = checked(le(rsdp, 24, 8));
    assert_eq!(signature, "XSDT");
    let mut tables: BTreeMap<_, _> = xsdt[36..].chunks(8).map(|entry| checked(le(entry, 0, 8))).collect();
    let fadt = tables["FACP"].clone();
    let dsdt = le(&fadt, 140, 8);
    assert_eq!(le(&fadt, 40, 4), dsdt, "both pointers to the DSDT agree");
    tables.extend([checked(dsdt)]);
    let facs = le(&fadt, 36, 4);
    assert_eq!(facs % 64, 0, "FACS alignment");
    tables.extend([table(facs)]);
    tables
}

fn blob(vcpus: u32) -> AcpiBlob {
    build(&AcpiConfig { vcpus, tpm: TpmInterface::Crb }).unwrap()
}

#[test]
fn all_tables_are_found_from_the_rsdp() {
    for vcpus in [1, 2, 255] {
        let blob = blob(vcpus);
        assert_eq!((blob.base, blob.rsdp), (ACPI_BASE, ACPI_BASE));
        assert!(blob.bytes.len() as u64 <= ACPI_SIZE);
        let names: Vec<_> = parse(&blob).into_keys().collect();
        assert_eq!(names, ["APIC", "DSDT", "FACP", "FACS", "TPM2"]);
    }
}

#[test]
fn the_same_machine_gives_the_same_bytes() {
    assert_eq!(blob(3), blob(3));
    assert_ne!(blob(3).bytes, blob(4).bytes);
}

#[test]
fn impossible_machines_are_refused() {
    for vcpus in [0, 256, u32::MAX] {
        assert_eq!(build(&AcpiConfig { vcpus, tpm: TpmInterface::Crb }), Err(AcpiError::Vcpus(vcpus)));
    }
}

#[test]
fn the_fadt_names_the_ports_of_the_boot_contract() {
    let fadt = &parse(&blob(1))["FACP"];
    assert_eq!(fadt.len(), 276);
    assert_eq!(le(fadt, 46, 2), 9, "SCI");
    assert_eq!(le(fadt, 48, 4), 0, "no SMI command port");
    assert_eq!((le(fadt, 56, 4), fadt[88]), (u64::from(port::PM1A_EVT), 4));
    assert_eq!((le(fadt, 64, 4), fadt[89]), (u64::from(port::PM1A_CNT), 2));
    assert_eq!((le(fadt, 76, 4), fadt[91]), (u64::from(port::PM_TMR), 4));
    assert_eq!(le(fadt, 109, 2), 0b101, "boot architecture");
    let flags = le(fadt, 112, 4);
    assert_eq!(flags & 1 << 20, 0, "not hardware-reduced");
    assert_eq!(flags, 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10);
    assert_eq!((fadt[116], le(fadt, 120, 8), fadt[128]), (1, u64::from(port::RESET_CONTROL), 6));
    assert_eq!(le(fadt, 152, 8), u64::from(port::PM1A_EVT));
    assert_eq!(le(fadt, 176, 8), u64::from(port::PM1A_CNT));
    assert_eq!(le(fadt, 212, 8), u64::from(port::PM_TMR));
}

#[test]
fn the_madt_lists_processors_and_interrupts() {
    let madt = &parse(&blob(2))["APIC"];
    assert_eq!((le(madt, 36, 4), le(madt, 40, 4)), (LAPIC_BASE, 1));
    let mut entries = Vec::new();
    let mut rest = &madt[44..];
    while let [_, len, ..] = rest {
        entries.push(&rest[..usize::from(*len)]);
        rest = &rest[usize::from(*len)..];
    }
    let expected: [&[u8]; 6] = [
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 1, 1, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0],
        &[4, 6, 0xFF, 0, 0, 1],
    ];
    assert_eq!(entries, expected);
}

#[test]
fn the_tpm2_table_names_control_area_and_log() {
    let tpm2 = &parse(&blob(1))["TPM2"];
    assert_eq!((tpm2.len(), tpm2[8]), (76, 4));
    assert_eq!(le(tpm2, 40, 8), 0xFED4_0040);
    assert_eq!(le(tpm2, 48, 4), 7, "CRB");
    assert_eq!((le(tpm2, 64, 4), le(tpm2, 68, 8)), (u64::from(EVENT_LOG_SIZE), EVENT_LOG_BASE));
}

#[test]
fn the_tpm2_table_of_a_fifo_names_no_control_area() {
    let crb = blob(1);
    let tis = build(&AcpiConfig { vcpus: 1, tpm: TpmInterface::Tis }).unwrap();
    let tpm2 = &parse(&tis)["TPM2"];
    assert_eq!((le(tpm2, 40, 8), le(tpm2, 48, 4)), (0, 6), "memory-mapped FIFO");
    assert_eq!((le(tpm2, 64, 4), le(tpm2, 68, 8)), (u64::from(EVENT_LOG_SIZE), EVENT_LOG_BASE));
    // The device is at the same place, so nothing else differs.
    let (mut crb, mut tis) = (parse(&crb), parse(&tis));
    assert_ne!(crb.remove("TPM2"), tis.remove("TPM2"));
    assert_eq!(crb, tis);
}

/// What `iasl -d` makes of a table, or nothing if it is not installed.
fn disassemble(signature: &str, table: &[u8]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("{signature}.aml"));
    std::fs::write(&file, table).unwrap();
    let output = match Command::new("iasl").arg("-d").arg(&file).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: iasl does not run ({error}); install acpica-tools");
            return None;
        }
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{signature}: {said}");
    for word in ["Error", "Warning", "nvalid", "ncorrect"] {
        assert!(!said.contains(word), "{signature}: {said}");
    }
    let source = file.with_extension("dsl");
    // What it disassembled compiles again.
    if signature == "DSDT" {
        let output = Command::new("iasl").arg("-p").arg(dir.path().join("again")).arg(&source).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("0 Errors, 0 Warnings"), "{said}");
    }
    Some(std::fs::read_to_string(source).unwrap())
}

#[test]
fn iasl_understands_every_table() {
    for (signature, table) in parse(&blob(2)) {
        let Some(source) = disassemble(&signature, &table) else { return };
        for word in ["Invalid", "**** Unknown", "Incorrect", "ERROR"] {
            assert!(!source.contains(word), "{signature}: {source}");
        }
        if signature == "DSDT" {
            let wanted = [
                "Name (_S5",
                "Device (COM1)",
                "Device (COM2)",
                "0x03F8,             // Range Minimum",
                "0x00000004,",
                "Device (TPM)",
                "\"MSFT0101\"",
                "0xFED40000,         // Address Base",
                "0x00005000,         // Address Length",
                "Device (C001)",
                "EisaId (\"PNP0B00\")",
            ];
            for text in wanted {
                assert!(source.contains(text), "{text} in {source}");
            }
        }
    }
}
