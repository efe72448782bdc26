//! Capabilities and properties (Part 2, 6.12, 6.13, 6.14).

/// TPM_CAP_* values (Part 2, 6.12).
#[expect(missing_docs, reason = "each constant is the capability of that name")]
pub mod cap {
    pub const ALGS: u32 = 0;
    pub const HANDLES: u32 = 1;
    pub const COMMANDS: u32 = 2;
    pub const PP_COMMANDS: u32 = 3;
    pub const AUDIT_COMMANDS: u32 = 4;
    pub const PCRS: u32 = 5;
    pub const TPM_PROPERTIES: u32 = 6;
    pub const PCR_PROPERTIES: u32 = 7;
    pub const ECC_CURVES: u32 = 8;
    pub const AUTH_POLICIES: u32 = 9;
}

/// TPM_PT_* values (Part 2, 6.13).
#[expect(missing_docs, reason = "each constant is the property of that name")]
pub mod pt {
    pub const FIXED: u32 = 0x100;
    pub const FAMILY_INDICATOR: u32 = 0x100;
    pub const LEVEL: u32 = 0x101;
    pub const REVISION: u32 = 0x102;
    pub const DAY_OF_YEAR: u32 = 0x103;
    pub const YEAR: u32 = 0x104;
    pub const MANUFACTURER: u32 = 0x105;
    pub const VENDOR_STRING_1: u32 = 0x106;
    pub const VENDOR_STRING_2: u32 = 0x107;
    pub const VENDOR_STRING_3: u32 = 0x108;
    pub const VENDOR_STRING_4: u32 = 0x109;
    pub const VENDOR_TPM_TYPE: u32 = 0x10a;
    pub const FIRMWARE_VERSION_1: u32 = 0x10b;
    pub const FIRMWARE_VERSION_2: u32 = 0x10c;
    pub const INPUT_BUFFER: u32 = 0x10d;
    pub const HR_TRANSIENT_MIN: u32 = 0x10e;
    pub const HR_PERSISTENT_MIN: u32 = 0x10f;
    pub const HR_LOADED_MIN: u32 = 0x110;
    pub const ACTIVE_SESSIONS_MAX: u32 = 0x111;
    pub const PCR_COUNT: u32 = 0x112;
    pub const PCR_SELECT_MIN: u32 = 0x113;
    pub const CONTEXT_GAP_MAX: u32 = 0x114;
    pub const NV_COUNTERS_MAX: u32 = 0x116;
    pub const NV_INDEX_MAX: u32 = 0x117;
    pub const MEMORY: u32 = 0x118;
    pub const CLOCK_UPDATE: u32 = 0x119;
    pub const CONTEXT_HASH: u32 = 0x11a;
    pub const CONTEXT_SYM: u32 = 0x11b;
    pub const CONTEXT_SYM_SIZE: u32 = 0x11c;
    pub const ORDERLY_COUNT: u32 = 0x11d;
    pub const MAX_COMMAND_SIZE: u32 = 0x11e;
    pub const MAX_RESPONSE_SIZE: u32 = 0x11f;
    pub const MAX_DIGEST: u32 = 0x120;
    pub const MAX_OBJECT_CONTEXT: u32 = 0x121;
    pub const MAX_SESSION_CONTEXT: u32 = 0x122;
    pub const PS_FAMILY_INDICATOR: u32 = 0x123;
    pub const PS_LEVEL: u32 = 0x124;
    pub const PS_REVISION: u32 = 0x125;
    pub const PS_DAY_OF_YEAR: u32 = 0x126;
    pub const PS_YEAR: u32 = 0x127;
    pub const SPLIT_MAX: u32 = 0x128;
    pub const TOTAL_COMMANDS: u32 = 0x129;
    pub const LIBRARY_COMMANDS: u32 = 0x12a;
    pub const VENDOR_COMMANDS: u32 = 0x12b;
    pub const NV_BUFFER_MAX: u32 = 0x12c;
    pub const MODES: u32 = 0x12d;
    pub const MAX_CAP_BUFFER: u32 = 0x12e;
    pub const VAR: u32 = 0x200;
    pub const PERMANENT: u32 = 0x200;
    pub const STARTUP_CLEAR: u32 = 0x201;
    pub const HR_NV_INDEX: u32 = 0x202;
    pub const HR_LOADED: u32 = 0x203;
    pub const HR_LOADED_AVAIL: u32 = 0x204;
    pub const HR_ACTIVE: u32 = 0x205;
    pub const HR_ACTIVE_AVAIL: u32 = 0x206;
    pub const HR_TRANSIENT_AVAIL: u32 = 0x207;
    pub const HR_PERSISTENT: u32 = 0x208;
    pub const HR_PERSISTENT_AVAIL: u32 = 0x209;
    pub const NV_COUNTERS: u32 = 0x20a;
    pub const NV_COUNTERS_AVAIL: u32 = 0x20b;
    pub const ALGORITHM_SET: u32 = 0x20c;
    pub const LOADED_CURVES: u32 = 0x20d;
    pub const LOCKOUT_COUNTER: u32 = 0x20e;
    pub const MAX_AUTH_FAIL: u32 = 0x20f;
    pub const LOCKOUT_INTERVAL: u32 = 0x210;
    pub const LOCKOUT_RECOVERY: u32 = 0x211;
    pub const NV_WRITE_RECOVERY: u32 = 0x212;
    pub const AUDIT_COUNTER_0: u32 = 0x213;
    pub const AUDIT_COUNTER_1: u32 = 0x214;
}

/// TPM_PT_PCR_* values (Part 2, 6.14).
#[expect(missing_docs, reason = "each constant is the PCR property of that name")]
pub mod pt_pcr {
    pub const SAVE: u32 = 0x00;
    pub const EXTEND_L0: u32 = 0x01;
    pub const RESET_L0: u32 = 0x02;
    pub const EXTEND_L1: u32 = 0x03;
    pub const RESET_L1: u32 = 0x04;
    pub const EXTEND_L2: u32 = 0x05;
    pub const RESET_L2: u32 = 0x06;
    pub const EXTEND_L3: u32 = 0x07;
    pub const RESET_L3: u32 = 0x08;
    pub const EXTEND_L4: u32 = 0x09;
    pub const RESET_L4: u32 = 0x0a;
    pub const NO_INCREMENT: u32 = 0x11;
    pub const DRTM_RESET: u32 = 0x12;
    pub const POLICY: u32 = 0x13;
    pub const AUTH: u32 = 0x14;
}
