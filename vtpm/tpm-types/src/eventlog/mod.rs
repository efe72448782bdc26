//! The TCG event log (PC Client Platform Firmware Profile 1.06, chapter 10): little-endian, unlike the TPM's wire.
//!
//! [`EventLog`] reads a crypto-agile log, or a legacy one with SHA-1 digests only; [`LogBuilder`] writes a
//! crypto-agile one. A log read here is only well formed: its truth is a matter of replaying it against
//! quoted PCR.

mod build;
mod parse;

pub use build::{LogBuilder, LogFull, NewLogError};
pub use parse::{Digests, EventLog, EventRef, Events, LogError, LogErrorKind};

use crate::constants::HashAlg;

/// The signature of a crypto-agile log's header event (10.4.5.1).
pub const SPEC_ID_SIGNATURE: [u8; 16] = *b"Spec ID Event03\0";
/// The signature of a legacy log's header event, if it has one (10.4.5.1).
pub const SPEC_ID_SIGNATURE_LEGACY: [u8; 16] = *b"Spec ID Event00\0";
/// The signature of the EV_NO_ACTION event that tells the locality of TPM2_Startup (10.4.5.3).
pub const STARTUP_LOCALITY_SIGNATURE: [u8; 16] = *b"StartupLocality\0";

/// The most digest algorithms that a log's header may list.
pub const MAX_LOG_ALGS: usize = 8;

/// Event types (10.4.1).
#[expect(missing_docs, reason = "each constant is the event type of that name")]
pub mod ev {
    pub const PREBOOT_CERT: u32 = 0x0000_0000;
    pub const POST_CODE: u32 = 0x0000_0001;
    pub const NO_ACTION: u32 = 0x0000_0003;
    pub const SEPARATOR: u32 = 0x0000_0004;
    pub const ACTION: u32 = 0x0000_0005;
    pub const EVENT_TAG: u32 = 0x0000_0006;
    pub const S_CRTM_CONTENTS: u32 = 0x0000_0007;
    pub const S_CRTM_VERSION: u32 = 0x0000_0008;
    pub const CPU_MICROCODE: u32 = 0x0000_0009;
    pub const PLATFORM_CONFIG_FLAGS: u32 = 0x0000_000a;
    pub const TABLE_OF_DEVICES: u32 = 0x0000_000b;
    pub const COMPACT_HASH: u32 = 0x0000_000c;
    pub const IPL: u32 = 0x0000_000d;
    pub const IPL_PARTITION_DATA: u32 = 0x0000_000e;
    pub const NONHOST_CODE: u32 = 0x0000_000f;
    pub const NONHOST_CONFIG: u32 = 0x0000_0010;
    pub const NONHOST_INFO: u32 = 0x0000_0011;
    pub const OMIT_BOOT_DEVICE_EVENTS: u32 = 0x0000_0012;
    pub const POST_CODE2: u32 = 0x0000_0013;
    pub const EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
    pub const EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
    pub const EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
    pub const EFI_BOOT_SERVICES_DRIVER: u32 = 0x8000_0004;
    pub const EFI_RUNTIME_SERVICES_DRIVER: u32 = 0x8000_0005;
    pub const EFI_GPT_EVENT: u32 = 0x8000_0006;
    pub const EFI_ACTION: u32 = 0x8000_0007;
    pub const EFI_PLATFORM_FIRMWARE_BLOB: u32 = 0x8000_0008;
    pub const EFI_HANDOFF_TABLES: u32 = 0x8000_0009;
    pub const EFI_PLATFORM_FIRMWARE_BLOB2: u32 = 0x8000_000a;
    pub const EFI_HANDOFF_TABLES2: u32 = 0x8000_000b;
    pub const EFI_HCRTM_EVENT: u32 = 0x8000_0010;
    pub const EFI_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;

    /// The name of an event type in the profile, if it has one.
    #[must_use]
    pub const fn name(event_type: u32) -> Option<&'static str> {
        Some(match event_type {
            PREBOOT_CERT => "EV_PREBOOT_CERT",
            POST_CODE => "EV_POST_CODE",
            NO_ACTION => "EV_NO_ACTION",
            SEPARATOR => "EV_SEPARATOR",
            ACTION => "EV_ACTION",
            EVENT_TAG => "EV_EVENT_TAG",
            S_CRTM_CONTENTS => "EV_S_CRTM_CONTENTS",
            S_CRTM_VERSION => "EV_S_CRTM_VERSION",
            CPU_MICROCODE => "EV_CPU_MICROCODE",
            PLATFORM_CONFIG_FLAGS => "EV_PLATFORM_CONFIG_FLAGS",
            TABLE_OF_DEVICES => "EV_TABLE_OF_DEVICES",
            COMPACT_HASH => "EV_COMPACT_HASH",
            IPL => "EV_IPL",
            IPL_PARTITION_DATA => "EV_IPL_PARTITION_DATA",
            NONHOST_CODE => "EV_NONHOST_CODE",
            NONHOST_CONFIG => "EV_NONHOST_CONFIG",
            NONHOST_INFO => "EV_NONHOST_INFO",
            OMIT_BOOT_DEVICE_EVENTS => "EV_OMIT_BOOT_DEVICE_EVENTS",
            POST_CODE2 => "EV_POST_CODE2",
            EFI_VARIABLE_DRIVER_CONFIG => "EV_EFI_VARIABLE_DRIVER_CONFIG",
            EFI_VARIABLE_BOOT => "EV_EFI_VARIABLE_BOOT",
            EFI_BOOT_SERVICES_APPLICATION => "EV_EFI_BOOT_SERVICES_APPLICATION",
            EFI_BOOT_SERVICES_DRIVER => "EV_EFI_BOOT_SERVICES_DRIVER",
            EFI_RUNTIME_SERVICES_DRIVER => "EV_EFI_RUNTIME_SERVICES_DRIVER",
            EFI_GPT_EVENT => "EV_EFI_GPT_EVENT",
            EFI_ACTION => "EV_EFI_ACTION",
            EFI_PLATFORM_FIRMWARE_BLOB => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
            EFI_HANDOFF_TABLES => "EV_EFI_HANDOFF_TABLES",
            EFI_PLATFORM_FIRMWARE_BLOB2 => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
            EFI_HANDOFF_TABLES2 => "EV_EFI_HANDOFF_TABLES2",
            EFI_HCRTM_EVENT => "EV_EFI_HCRTM_EVENT",
            EFI_VARIABLE_AUTHORITY => "EV_EFI_VARIABLE_AUTHORITY",
            _ => return None,
        })
    }
}

/// The data of the EV_NO_ACTION event that tells the locality of TPM2_Startup: 0, 3, or 4 for an H-CRTM
/// (10.4.5.3). PCR 0 starts at this number.
#[must_use]
pub fn startup_locality_event(locality: u8) -> [u8; 17] {
    let mut data = [0; 17];
    data[..16].copy_from_slice(&STARTUP_LOCALITY_SIGNATURE);
    data[16] = locality;
    data
}

/// The locality in the data of a StartupLocality event; `None` for any other data.
#[must_use]
pub fn parse_startup_locality(data: &[u8]) -> Option<u8> {
    match data.strip_prefix(&STARTUP_LOCALITY_SIGNATURE)? {
        [locality] => Some(*locality),
        _ => None,
    }
}

/// TCG_EfiSpecIDEvent: the header of a crypto-agile log (10.4.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecId<'a> {
    /// 0 for a client platform, 1 for a server.
    pub platform_class: u32,
    /// Minor version of the profile, 0 in "2.0".
    pub version_minor: u8,
    /// Major version of the profile, 2.
    pub version_major: u8,
    /// Errata level of the profile.
    pub errata: u8,
    /// Size of UINTN in 32-bit units: 1 or 2.
    pub uintn_size: u8,
    /// The digests of each event: algorithm identifiers and sizes.
    pub algs: crate::List<LogAlg, MAX_LOG_ALGS>,
    /// Vendor information.
    pub vendor_info: &'a [u8],
}

/// An algorithm in the header of a log, which need not be one that this crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogAlg {
    /// TPM_ALG_ID.
    pub id: crate::AlgId,
    /// Size of its digest in bytes.
    pub size: u16,
}

impl Default for LogAlg {
    fn default() -> Self {
        Self::from(HashAlg::Sha256)
    }
}

impl From<HashAlg> for LogAlg {
    fn from(alg: HashAlg) -> Self {
        Self { id: alg.id(), size: alg.size() as u16 }
    }
}
