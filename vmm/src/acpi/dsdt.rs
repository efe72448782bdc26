//! The DSDT: devices that cannot be discovered.

use acpi_tables::Aml;
use acpi_tables::aml::{Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path, ResourceTemplate, Scope};
use acpi_tables::sdt::Sdt;
use bulla_boot_abi::map::{TPM_BASE, TPM_SIZE};
use bulla_boot_abi::port::{COM1, COM2, S5_SLP_TYP};

use super::{AcpiConfig, OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::devices::platform::{COM1_IRQ, COM2_IRQ, RTC_IRQ};
use crate::devices::rtc::{RTC_LEN, RTC_PORTS};
use crate::devices::serial::SERIAL_PORTS;

/// Bytes of the table header.
const HEADER_LEN: u32 = 36;

/// Differentiated System Description Table. Revision 2: 64-bit integers.
pub(super) fn dsdt(config: &AcpiConfig) -> Sdt {
    let mut aml = Vec::new();
    // SLP_TYP for PM1a, for PM1b, two reserved.
    let zero = 0_u8;
    Name::new(Path::new("_S5_"), &Package::new(vec![&S5_SLP_TYP, &S5_SLP_TYP, &zero, &zero])).to_aml_bytes(&mut aml);

    let serial = [("COM1", COM1, COM1_IRQ), ("COM2", COM2, COM2_IRQ)];
    let serial: Vec<_> = (0_u8..)
        .zip(serial)
        .map(|(uid, (name, port, irq))| isa("PNP0501", name, uid, port, SERIAL_PORTS, irq))
        .collect();
    let rtc = isa("PNP0B00", "RTC_", 0, RTC_PORTS, RTC_LEN, RTC_IRQ);
    let tpm = tpm();
    let processors: Vec<_> = (0..config.vcpus).map(processor).collect();
    let devices = serial.iter().chain([&rtc, &tpm]).chain(&processors);
    Scope::new(Path::new("_SB_"), devices.map(|d| d as &dyn Aml).collect()).to_aml_bytes(&mut aml);

    let mut dsdt = Sdt::new(*b"DSDT", HEADER_LEN, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    dsdt.append_slice(&aml);
    dsdt
}

/// AML that is ready.
struct Encoded(Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

fn encoded(aml: &dyn Aml) -> Encoded {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    Encoded(bytes)
}

/// A device with one range of ports and one edge-triggered interrupt.
fn isa(hid: &str, name: &'static str, uid: u8, port: u16, len: u16, irq: u8) -> Encoded {
    let range = IO::new(port, port, 1, u8::try_from(len).unwrap_or(u8::MAX));
    let interrupt = Interrupt::new(true, true, false, false, irq.into());
    encoded(&Device::new(
        Path::new(name),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new(hid)),
            &Name::new(Path::new("_UID"), &uid),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&range, &interrupt])),
        ],
    ))
}

/// The TPM (TCG ACPI Specification 1.4, section 4): all localities.
fn tpm() -> Encoded {
    let registers = Memory32Fixed::new(true, TPM_BASE as u32, TPM_SIZE as u32);
    encoded(&Device::new(
        Path::new("TPM_"),
        vec![
            &Name::new(Path::new("_HID"), &"MSFT0101"),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&registers])),
        ],
    ))
}

/// A processor device; its UID is the one of the MADT entry.
fn processor(uid: u32) -> Encoded {
    encoded(&Device::new(
        Path::new(&format!("C{uid:03X}")),
        vec![&Name::new(Path::new("_HID"), &"ACPI0007"), &Name::new(Path::new("_UID"), &uid)],
    ))
}
