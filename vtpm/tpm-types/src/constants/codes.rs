//! Command codes, response codes, structure tags (Part 2, 6.5, 6.6, 6.9, 6.10).

use core::fmt;

/// TPM_CC_* values (Part 2, 6.5.2).
#[expect(missing_docs, reason = "each constant is the command code of that name")]
pub mod cc {
    pub const NV_UNDEFINE_SPACE_SPECIAL: u32 = 0x0000_011f;
    pub const EVICT_CONTROL: u32 = 0x0000_0120;
    pub const HIERARCHY_CONTROL: u32 = 0x0000_0121;
    pub const NV_UNDEFINE_SPACE: u32 = 0x0000_0122;
    pub const CHANGE_EPS: u32 = 0x0000_0124;
    pub const CHANGE_PPS: u32 = 0x0000_0125;
    pub const CLEAR: u32 = 0x0000_0126;
    pub const CLEAR_CONTROL: u32 = 0x0000_0127;
    pub const CLOCK_SET: u32 = 0x0000_0128;
    pub const HIERARCHY_CHANGE_AUTH: u32 = 0x0000_0129;
    pub const NV_DEFINE_SPACE: u32 = 0x0000_012a;
    pub const PCR_ALLOCATE: u32 = 0x0000_012b;
    pub const PCR_SET_AUTH_POLICY: u32 = 0x0000_012c;
    pub const PP_COMMANDS: u32 = 0x0000_012d;
    pub const SET_PRIMARY_POLICY: u32 = 0x0000_012e;
    pub const CLOCK_RATE_ADJUST: u32 = 0x0000_0130;
    pub const CREATE_PRIMARY: u32 = 0x0000_0131;
    pub const NV_GLOBAL_WRITE_LOCK: u32 = 0x0000_0132;
    pub const GET_COMMAND_AUDIT_DIGEST: u32 = 0x0000_0133;
    pub const NV_INCREMENT: u32 = 0x0000_0134;
    pub const NV_SET_BITS: u32 = 0x0000_0135;
    pub const NV_EXTEND: u32 = 0x0000_0136;
    pub const NV_WRITE: u32 = 0x0000_0137;
    pub const NV_WRITE_LOCK: u32 = 0x0000_0138;
    pub const DICTIONARY_ATTACK_LOCK_RESET: u32 = 0x0000_0139;
    pub const DICTIONARY_ATTACK_PARAMETERS: u32 = 0x0000_013a;
    pub const NV_CHANGE_AUTH: u32 = 0x0000_013b;
    pub const PCR_EVENT: u32 = 0x0000_013c;
    pub const PCR_RESET: u32 = 0x0000_013d;
    pub const SEQUENCE_COMPLETE: u32 = 0x0000_013e;
    pub const SET_ALGORITHM_SET: u32 = 0x0000_013f;
    pub const SET_COMMAND_CODE_AUDIT_STATUS: u32 = 0x0000_0140;
    pub const INCREMENTAL_SELF_TEST: u32 = 0x0000_0142;
    pub const SELF_TEST: u32 = 0x0000_0143;
    pub const STARTUP: u32 = 0x0000_0144;
    pub const SHUTDOWN: u32 = 0x0000_0145;
    pub const STIR_RANDOM: u32 = 0x0000_0146;
    pub const ACTIVATE_CREDENTIAL: u32 = 0x0000_0147;
    pub const CERTIFY: u32 = 0x0000_0148;
    pub const POLICY_NV: u32 = 0x0000_0149;
    pub const CERTIFY_CREATION: u32 = 0x0000_014a;
    pub const DUPLICATE: u32 = 0x0000_014b;
    pub const GET_TIME: u32 = 0x0000_014c;
    pub const GET_SESSION_AUDIT_DIGEST: u32 = 0x0000_014d;
    pub const NV_READ: u32 = 0x0000_014e;
    pub const NV_READ_LOCK: u32 = 0x0000_014f;
    pub const OBJECT_CHANGE_AUTH: u32 = 0x0000_0150;
    pub const POLICY_SECRET: u32 = 0x0000_0151;
    pub const REWRAP: u32 = 0x0000_0152;
    pub const CREATE: u32 = 0x0000_0153;
    pub const ECDH_ZGEN: u32 = 0x0000_0154;
    pub const HMAC: u32 = 0x0000_0155;
    pub const IMPORT: u32 = 0x0000_0156;
    pub const LOAD: u32 = 0x0000_0157;
    pub const QUOTE: u32 = 0x0000_0158;
    pub const RSA_DECRYPT: u32 = 0x0000_0159;
    pub const HMAC_START: u32 = 0x0000_015b;
    pub const SEQUENCE_UPDATE: u32 = 0x0000_015c;
    pub const SIGN: u32 = 0x0000_015d;
    pub const UNSEAL: u32 = 0x0000_015e;
    pub const POLICY_SIGNED: u32 = 0x0000_0160;
    pub const CONTEXT_LOAD: u32 = 0x0000_0161;
    pub const CONTEXT_SAVE: u32 = 0x0000_0162;
    pub const ECDH_KEY_GEN: u32 = 0x0000_0163;
    pub const ENCRYPT_DECRYPT: u32 = 0x0000_0164;
    pub const FLUSH_CONTEXT: u32 = 0x0000_0165;
    pub const LOAD_EXTERNAL: u32 = 0x0000_0167;
    pub const MAKE_CREDENTIAL: u32 = 0x0000_0168;
    pub const NV_READ_PUBLIC: u32 = 0x0000_0169;
    pub const POLICY_AUTHORIZE: u32 = 0x0000_016a;
    pub const POLICY_AUTH_VALUE: u32 = 0x0000_016b;
    pub const POLICY_COMMAND_CODE: u32 = 0x0000_016c;
    pub const POLICY_COUNTER_TIMER: u32 = 0x0000_016d;
    pub const POLICY_CP_HASH: u32 = 0x0000_016e;
    pub const POLICY_LOCALITY: u32 = 0x0000_016f;
    pub const POLICY_NAME_HASH: u32 = 0x0000_0170;
    pub const POLICY_OR: u32 = 0x0000_0171;
    pub const POLICY_TICKET: u32 = 0x0000_0172;
    pub const READ_PUBLIC: u32 = 0x0000_0173;
    pub const RSA_ENCRYPT: u32 = 0x0000_0174;
    pub const START_AUTH_SESSION: u32 = 0x0000_0176;
    pub const VERIFY_SIGNATURE: u32 = 0x0000_0177;
    pub const ECC_PARAMETERS: u32 = 0x0000_0178;
    pub const GET_CAPABILITY: u32 = 0x0000_017a;
    pub const GET_RANDOM: u32 = 0x0000_017b;
    pub const GET_TEST_RESULT: u32 = 0x0000_017c;
    pub const HASH: u32 = 0x0000_017d;
    pub const PCR_READ: u32 = 0x0000_017e;
    pub const POLICY_PCR: u32 = 0x0000_017f;
    pub const POLICY_RESTART: u32 = 0x0000_0180;
    pub const READ_CLOCK: u32 = 0x0000_0181;
    pub const PCR_EXTEND: u32 = 0x0000_0182;
    pub const PCR_SET_AUTH_VALUE: u32 = 0x0000_0183;
    pub const NV_CERTIFY: u32 = 0x0000_0184;
    pub const EVENT_SEQUENCE_COMPLETE: u32 = 0x0000_0185;
    pub const HASH_SEQUENCE_START: u32 = 0x0000_0186;
    pub const POLICY_PHYSICAL_PRESENCE: u32 = 0x0000_0187;
    pub const POLICY_DUPLICATION_SELECT: u32 = 0x0000_0188;
    pub const POLICY_GET_DIGEST: u32 = 0x0000_0189;
    pub const TEST_PARMS: u32 = 0x0000_018a;
    pub const COMMIT: u32 = 0x0000_018b;
    pub const POLICY_PASSWORD: u32 = 0x0000_018c;
    pub const ZGEN_2PHASE: u32 = 0x0000_018d;
    pub const EC_EPHEMERAL: u32 = 0x0000_018e;
    pub const POLICY_NV_WRITTEN: u32 = 0x0000_018f;
    pub const POLICY_TEMPLATE: u32 = 0x0000_0190;
    pub const CREATE_LOADED: u32 = 0x0000_0191;
    pub const POLICY_AUTHORIZE_NV: u32 = 0x0000_0192;
    pub const ENCRYPT_DECRYPT_2: u32 = 0x0000_0193;
    pub const CERTIFY_X509: u32 = 0x0000_0197;
    pub const ECC_ENCRYPT: u32 = 0x0000_0199;
    pub const ECC_DECRYPT: u32 = 0x0000_019a;
}

/// TPM_ST_* values (Part 2, 6.9).
#[expect(missing_docs, reason = "each constant is the structure tag of that name")]
pub mod st {
    pub const RSP_COMMAND: u16 = 0x00c4;
    pub const NO_SESSIONS: u16 = 0x8001;
    pub const SESSIONS: u16 = 0x8002;
    pub const ATTEST_NV: u16 = 0x8014;
    pub const ATTEST_COMMAND_AUDIT: u16 = 0x8015;
    pub const ATTEST_SESSION_AUDIT: u16 = 0x8016;
    pub const ATTEST_CERTIFY: u16 = 0x8017;
    pub const ATTEST_QUOTE: u16 = 0x8018;
    pub const ATTEST_TIME: u16 = 0x8019;
    pub const ATTEST_CREATION: u16 = 0x801a;
    pub const ATTEST_NV_DIGEST: u16 = 0x801c;
    pub const CREATION: u16 = 0x8021;
    pub const VERIFIED: u16 = 0x8022;
    pub const AUTH_SECRET: u16 = 0x8023;
    pub const HASHCHECK: u16 = 0x8024;
    pub const AUTH_SIGNED: u16 = 0x8025;
}

/// TPM_SU (Part 2, 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupType {
    /// TPM_SU_CLEAR.
    Clear,
    /// TPM_SU_STATE.
    State,
}

impl StartupType {
    /// The number on the wire.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Clear => 0,
            Self::State => 1,
        }
    }
}

/// TPM_RC: a response code (Part 2, 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rc(pub u32);

/// TPM_RC_P: the number of a format-one code is a parameter's.
const P: u32 = 0x040;
/// TPM_RC_S: the number of a format-one code is a session's.
const S: u32 = 0x800;
/// RC_FMT1.
const FMT1: u32 = 0x080;

impl Rc {
    /// Whether the command succeeded.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }

    /// Whether this is a format-one code, which can name a handle, parameter or session.
    #[must_use]
    pub const fn is_format_one(self) -> bool {
        self.0 & FMT1 != 0
    }

    /// This code for parameter `n` (from 1); a format-zero code stays as it is.
    #[must_use]
    pub const fn parameter(self, n: usize) -> Self {
        if self.is_format_one() { Self(self.0 | P | ((n as u32 & 0xf) << 8)) } else { self }
    }

    /// This code for handle `n` (from 1); a format-zero code stays as it is.
    #[must_use]
    pub const fn handle(self, n: usize) -> Self {
        if self.is_format_one() { Self(self.0 | ((n as u32 & 0x7) << 8)) } else { self }
    }

    /// This code for session `n` (from 1); a format-zero code stays as it is.
    #[must_use]
    pub const fn session(self, n: usize) -> Self {
        if self.is_format_one() { Self(self.0 | S | ((n as u32 & 0x7) << 8)) } else { self }
    }

    /// The code without the number of its handle, parameter or session.
    #[must_use]
    pub const fn base(self) -> Self {
        if self.is_format_one() { Self(self.0 & 0x0bf) } else { self }
    }
}

impl fmt::Display for Rc {
    /// The code in hexadecimal, with what it is about: `0x1d5 (parameter 1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TPM_RC {:#05x}", self.0)?;
        if !self.is_format_one() {
            return Ok(());
        }
        let n = (self.0 >> 8) & 0xf;
        if self.0 & P != 0 {
            write!(f, " (parameter {n})")
        } else if n & 8 != 0 {
            write!(f, " (session {})", n & 7)
        } else if n != 0 {
            write!(f, " (handle {n})")
        } else {
            Ok(())
        }
    }
}

/// TPM_RC_* values (Part 2, 6.6.3).
#[expect(missing_docs, reason = "each constant is the response code of that name")]
pub mod rc {
    use super::{FMT1, Rc};

    const VER1: u32 = 0x100;
    const WARN: u32 = 0x900;

    pub const SUCCESS: Rc = Rc(0);
    pub const BAD_TAG: Rc = Rc(0x01e);

    pub const INITIALIZE: Rc = Rc(VER1);
    pub const FAILURE: Rc = Rc(VER1 + 0x01);
    pub const SEQUENCE: Rc = Rc(VER1 + 0x03);
    pub const DISABLED: Rc = Rc(VER1 + 0x20);
    pub const EXCLUSIVE: Rc = Rc(VER1 + 0x21);
    pub const AUTH_TYPE: Rc = Rc(VER1 + 0x24);
    pub const AUTH_MISSING: Rc = Rc(VER1 + 0x25);
    pub const POLICY: Rc = Rc(VER1 + 0x26);
    pub const PCR: Rc = Rc(VER1 + 0x27);
    pub const PCR_CHANGED: Rc = Rc(VER1 + 0x28);
    pub const UPGRADE: Rc = Rc(VER1 + 0x2d);
    pub const AUTH_UNAVAILABLE: Rc = Rc(VER1 + 0x2f);
    pub const REBOOT: Rc = Rc(VER1 + 0x30);
    pub const COMMAND_SIZE: Rc = Rc(VER1 + 0x42);
    pub const COMMAND_CODE: Rc = Rc(VER1 + 0x43);
    pub const AUTHSIZE: Rc = Rc(VER1 + 0x44);
    pub const AUTH_CONTEXT: Rc = Rc(VER1 + 0x45);
    pub const NV_RANGE: Rc = Rc(VER1 + 0x46);
    pub const NV_SIZE: Rc = Rc(VER1 + 0x47);
    pub const NV_LOCKED: Rc = Rc(VER1 + 0x48);
    pub const NV_AUTHORIZATION: Rc = Rc(VER1 + 0x49);
    pub const NV_UNINITIALIZED: Rc = Rc(VER1 + 0x4a);
    pub const NV_SPACE: Rc = Rc(VER1 + 0x4b);
    pub const NV_DEFINED: Rc = Rc(VER1 + 0x4c);
    pub const CPHASH: Rc = Rc(VER1 + 0x51);
    pub const NEEDS_TEST: Rc = Rc(VER1 + 0x53);
    pub const NO_RESULT: Rc = Rc(VER1 + 0x54);

    pub const ASYMMETRIC: Rc = Rc(FMT1 + 0x01);
    pub const ATTRIBUTES: Rc = Rc(FMT1 + 0x02);
    pub const HASH: Rc = Rc(FMT1 + 0x03);
    pub const VALUE: Rc = Rc(FMT1 + 0x04);
    pub const HIERARCHY: Rc = Rc(FMT1 + 0x05);
    pub const PP: Rc = Rc(FMT1 + 0x10);
    pub const KEY_SIZE: Rc = Rc(FMT1 + 0x07);
    pub const MODE: Rc = Rc(FMT1 + 0x09);
    pub const TYPE: Rc = Rc(FMT1 + 0x0a);
    pub const HANDLE: Rc = Rc(FMT1 + 0x0b);
    pub const KDF: Rc = Rc(FMT1 + 0x0c);
    pub const RANGE: Rc = Rc(FMT1 + 0x0d);
    pub const AUTH_FAIL: Rc = Rc(FMT1 + 0x0e);
    pub const NONCE: Rc = Rc(FMT1 + 0x0f);
    pub const SCHEME: Rc = Rc(FMT1 + 0x12);
    pub const SIZE: Rc = Rc(FMT1 + 0x15);
    pub const SYMMETRIC: Rc = Rc(FMT1 + 0x16);
    pub const TAG: Rc = Rc(FMT1 + 0x17);
    pub const SELECTOR: Rc = Rc(FMT1 + 0x18);
    pub const INSUFFICIENT: Rc = Rc(FMT1 + 0x1a);
    pub const SIGNATURE: Rc = Rc(FMT1 + 0x1b);
    pub const KEY: Rc = Rc(FMT1 + 0x1c);
    pub const POLICY_FAIL: Rc = Rc(FMT1 + 0x1d);
    pub const INTEGRITY: Rc = Rc(FMT1 + 0x1f);
    pub const TICKET: Rc = Rc(FMT1 + 0x20);
    pub const RESERVED_BITS: Rc = Rc(FMT1 + 0x21);
    pub const BAD_AUTH: Rc = Rc(FMT1 + 0x22);
    pub const EXPIRED: Rc = Rc(FMT1 + 0x23);
    pub const POLICY_CC: Rc = Rc(FMT1 + 0x24);
    pub const BINDING: Rc = Rc(FMT1 + 0x25);
    pub const CURVE: Rc = Rc(FMT1 + 0x26);
    pub const ECC_POINT: Rc = Rc(FMT1 + 0x27);

    pub const CONTEXT_GAP: Rc = Rc(WARN + 0x01);
    pub const OBJECT_MEMORY: Rc = Rc(WARN + 0x02);
    pub const SESSION_MEMORY: Rc = Rc(WARN + 0x03);
    pub const SESSION_HANDLES: Rc = Rc(WARN + 0x05);
    pub const LOCALITY: Rc = Rc(WARN + 0x07);
    pub const CANCELED: Rc = Rc(WARN + 0x09);
    pub const TESTING: Rc = Rc(WARN + 0x0a);
    pub const REFERENCE_H0: Rc = Rc(WARN + 0x10);
    pub const REFERENCE_S0: Rc = Rc(WARN + 0x18);
    pub const LOCKOUT: Rc = Rc(WARN + 0x21);
    pub const RETRY: Rc = Rc(WARN + 0x22);
}
