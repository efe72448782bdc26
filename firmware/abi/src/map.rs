//! Guest-physical memory map.
//!
//! | from | size | what | who may write |
//! |---|---|---|---|
//! | 0 | ≤ 3 GiB | low RAM | guest |
//! | 0x000D_0000 | 64 KiB | event log (reserved in the memory map) | firmware |
//! | 0x000E_0000 | 128 KiB | ACPI tables | firmware |
//! | 0xC000_0000 | ≤ 64 MiB | channel window: shared between two VMs | both VMs and the host |
//! | 0xC800_0000 | 64 KiB | mailbox between the host and the tenant | guest and host |
//! | 0xD000_0000 | ≤ 512 MiB | boot window: images the host offers; gone after the hand-over | host |
//! | 0xFEC0_0000 | 4 KiB | IOAPIC | device |
//! | 0xFED4_0000 | 20 KiB | TPM, CRB or FIFO interface, localities 0–4 | device |
//! | 0xFEE0_0000 | 4 KiB | local APIC | device |
//! | 0xFFC0_0000 | 1 MiB | firmware: image, then its private memory | firmware |
//! | 0xFFD0_0000 | 3 MiB | bootloader: image, then its private memory | bootloader |
//! | 4 GiB | rest | high RAM | guest |

/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// Low RAM ends here at the latest; what the VM has beyond it lies at [`HIGH_RAM_BASE`].
pub const LOW_RAM_MAX: u64 = 0xC000_0000;
/// Where RAM goes on above the 32-bit hole.
pub const HIGH_RAM_BASE: u64 = 1 << 32;
/// The least RAM a VM can have: room for the legacy areas, a small kernel and the firmware's scratch copies.
pub const RAM_MIN: u64 = 16 * MIB;

/// Conventional memory ends here (below it lie zero page, command line and friends).
pub const CONVENTIONAL_END: u64 = 0x9_FC00;

/// TCG event log area (LASA of the ACPI TPM2 table).
pub const EVENT_LOG_BASE: u64 = 0xD_0000;
/// Its size in bytes (LAML of the ACPI TPM2 table).
pub const EVENT_LOG_SIZE: u32 = 0x1_0000;

/// ACPI tables, RSDP first.
pub const ACPI_BASE: u64 = 0xE_0000;
/// Room for them.
pub const ACPI_SIZE: u64 = 0x2_0000;

/// Shared memory between two VMs.
pub const CHANNEL_BASE: u64 = 0xC000_0000;
/// The largest shared region.
pub const CHANNEL_MAX: u64 = 64 * MIB;

/// Mailbox between host and tenant.
pub const MAILBOX_BASE: u64 = 0xC800_0000;
/// Its size: two boxes of half this.
pub const MAILBOX_SIZE: u64 = 0x1_0000;

/// Boot window.
pub const BOOT_WINDOW_BASE: u64 = 0xD000_0000;
/// The largest boot window.
pub const BOOT_WINDOW_MAX: u64 = 512 * MIB;

/// IOAPIC registers.
pub const IOAPIC_BASE: u64 = 0xFEC0_0000;
/// TPM locality 0; locality n lies 4 KiB × n further on (TCG PC Client PTP §6.2).
pub const TPM_BASE: u64 = 0xFED4_0000;
/// Five localities of 4 KiB.
pub const TPM_SIZE: u64 = 0x5000;
/// Local APIC registers.
pub const LAPIC_BASE: u64 = 0xFEE0_0000;

/// Firmware image and its private memory.
pub const FIRMWARE_BASE: u64 = 0xFFC0_0000;
/// What stage 1 (the firmware proper) may use.
pub const FIRMWARE_SIZE: u64 = MIB;
/// Bootloader image and its private memory.
pub const BOOTLOADER_BASE: u64 = FIRMWARE_BASE + FIRMWARE_SIZE;
/// What stage 2 (the bootloader) may use; the last page is [`HANDOFF_BASE`].
pub const BOOTLOADER_SIZE: u64 = 3 * MIB;
/// The page in which the firmware hands facts to the bootloader, see [`crate::handoff`].
pub const HANDOFF_BASE: u64 = BOOTLOADER_BASE + BOOTLOADER_SIZE - 0x1000;
/// The whole region that the firmware and the bootloader live in, one memory slot.
pub const FIRMWARE_REGION_SIZE: u64 = FIRMWARE_SIZE + BOOTLOADER_SIZE;

/// Boot protocol areas in conventional memory, written by the bootloader.
pub const BOOT_GDT: u64 = 0x500;
/// PVH `hvm_start_info` and its memory map.
pub const PVH_INFO: u64 = 0x6000;
/// Linux `boot_params` (the zero page).
pub const ZERO_PAGE: u64 = 0x7000;
/// Stack that an entered kernel may use until it has its own.
pub const BOOT_STACK_TOP: u64 = 0x1_0000;
/// Command line, NUL-terminated.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line without its NUL (Linux on x86: `COMMAND_LINE_SIZE` 2048).
pub const CMDLINE_MAX: usize = 2047;
