//! The tables with fixed layouts: FADT, MADT, TPM2.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::sdt::Sdt;
use bulla_boot_abi::map::{EVENT_LOG_BASE, EVENT_LOG_SIZE, IOAPIC_BASE, LAPIC_BASE, TPM_BASE};
use bulla_boot_abi::port::{PM_TMR, PM1A_CNT, PM1A_EVT, RESET_CONTROL};

use super::{AcpiConfig, OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::devices::crb::regs::CTRL_REQ;
use crate::devices::platform::SCI_IRQ;
use crate::devices::tpm::TpmInterface;

/// Bytes of the header that all tables begin with.
const HEADER_LEN: u32 = 36;

/// Fixed ACPI Description Table (ACPI 6.5, section 5.2.9).
pub(super) fn fadt(facs: u64, dsdt: u64) -> FADT {
    let port = |port: u16, bits: u8, access| GAS::new(AddressSpace::SystemIo, bits, 0, access, port.into());
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .preferred_pm_profile(PmProfile::Unspecified)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // These two say what is *not* in the fixed hardware; the power button is.
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup);
    // Both widths of each pointer, equal: old kernels read one, new kernels the other. All lie below 4 GiB.
    fadt.firmware_ctrl = (facs as u32).into();
    fadt.dsdt = (dsdt as u32).into();
    fadt.x_dsdt = dsdt.into();
    fadt.sci_int = u16::from(SCI_IRQ).into();
    // No SMI_CMD: always in ACPI mode.
    fadt.pm1a_evt_blk = u32::from(PM1A_EVT).into();
    fadt.pm1_evt_len = 4;
    fadt.x_pm1a_evt_blk = port(PM1A_EVT, 32, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = u32::from(PM1A_CNT).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_cnt_blk = port(PM1A_CNT, 16, AccessSize::WordAccess);
    fadt.pm_tmr_blk = u32::from(PM_TMR).into();
    fadt.pm_tmr_len = 4;
    fadt.x_pm_tmr_blk = port(PM_TMR, 32, AccessSize::DwordAccess);
    // Latencies above 100 and 1000: no C2, no C3.
    fadt.p_lvl2_lat = 0xFFFF.into();
    fadt.p_lvl3_lat = 0xFFFF.into();
    // CMOS index of the century.
    fadt.century = 0x32;
    // Bit 0: legacy devices on the ISA bus. Bit 1 clear: no 8042. Bit 2: no VGA. Bit 5 clear: there is a CMOS RTC.
    fadt.iapc_boot_arch = 0b101.into();
    fadt.reset_reg = port(RESET_CONTROL, 8, AccessSize::ByteAccess);
    fadt.reset_value = 6;
    fadt.finalize()
}

/// Multiple APIC Description Table (ACPI 6.5, section 5.2.12).
pub(super) fn madt(config: &AcpiConfig) -> Sdt {
    /// A PC's pair of 8259 is there as well.
    const PCAT_COMPAT: u32 = 1;
    /// Interrupt flags: as the bus has it; active high and level-triggered.
    const CONFORMING: u16 = 0;
    const HIGH_LEVEL: u16 = 0b1101;

    let mut body = Vec::new();
    body.extend((LAPIC_BASE as u32).to_le_bytes());
    body.extend(PCAT_COMPAT.to_le_bytes());
    for id in (0..config.vcpus).filter_map(|id| u8::try_from(id).ok()) {
        // Processor local APIC: type 0, 8 bytes, processor UID, APIC ID, enabled.
        body.extend([0, 8, id, id, 1, 0, 0, 0]);
    }
    // I/O APIC: type 1, 12 bytes, ID, address, first global interrupt.
    body.extend([1, 12, 0, 0]);
    body.extend((IOAPIC_BASE as u32).to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    // Interrupt source overrides: type 2, 10 bytes, bus 0 (ISA), source, global interrupt, flags.
    // IRQ 0 (the timer) is on pin 2, as on every PC; the SCI is level-triggered, other than ISA.
    for (irq, pin, flags) in [(0, 2_u32, CONFORMING), (SCI_IRQ, u32::from(SCI_IRQ), HIGH_LEVEL)] {
        body.extend([2, 10, 0, irq]);
        body.extend(pin.to_le_bytes());
        body.extend(flags.to_le_bytes());
    }
    // Local APIC NMI: type 4, 6 bytes, all processors, conforming, LINT1.
    body.extend([4, 6, 0xFF, 0, 0, 1]);
    let mut madt = Sdt::new(*b"APIC", HEADER_LEN, 5, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    madt.append_slice(&body);
    madt
}

/// TPM2 table (TCG ACPI Specification 1.4, section 8), revision 4: with the log area.
pub(super) fn tpm2(interface: TpmInterface) -> Sdt {
    const PLATFORM_CLASS_CLIENT: u16 = 0;
    const START_METHOD_MMIO: u32 = 6;
    const START_METHOD_CRB: u32 = 7;

    let (control_area, start_method) = match interface {
        // The control area begins at CTRL_REQ of locality 0.
        TpmInterface::Crb => (TPM_BASE + u64::from(CTRL_REQ), START_METHOD_CRB),
        // A FIFO has none; it is where it is on every PC, and where the DSDT says.
        TpmInterface::Tis => (0, START_METHOD_MMIO),
    };

    let mut body = Vec::new();
    body.extend(PLATFORM_CLASS_CLIENT.to_le_bytes());
    body.extend([0; 2]);
    body.extend(control_area.to_le_bytes());
    body.extend(start_method.to_le_bytes());
    // No parameters for these start methods.
    body.extend([0; 12]);
    body.extend(EVENT_LOG_SIZE.to_le_bytes());
    body.extend(EVENT_LOG_BASE.to_le_bytes());
    let mut tpm2 = Sdt::new(*b"TPM2", HEADER_LEN, 4, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    tpm2.append_slice(&body);
    tpm2
}
