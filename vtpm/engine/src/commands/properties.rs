//! TPM_PT_*: what the TPM says of itself (Part 2, 6.13).

use bulla_tpm_types::{IMPLEMENTATION_PCR, MAX_NV_BUFFER_SIZE, PCR_SELECT_SIZE, pt, rh};

use super::MAX_BUFFER;
use super::capability::MAX_CAP_BUFFER;
use crate::context::{MAX_OBJECT_CONTEXT, MAX_SESSION_CONTEXT};
use crate::dispatch::{MAX_COMMAND_SIZE, MAX_RESPONSE_SIZE};
use crate::ecc::CURVES;
use crate::nv::{MAX_INDEX_SIZE, MAX_ORDERLY_COUNT};
use crate::object::{PERSISTENT, SLOTS};
use crate::secret::INTEGRITY_HASH;
use crate::session::{ACTIVE, CONTEXT_GAP, LOADED};
use crate::table::COMMANDS;
use crate::time::CLOCK_UPDATE_MS;
use crate::{Mode, Tpm};

/// TPMS_ATTEST.firmwareVersion, and TPM_PT_FIRMWARE_VERSION_1 and _2: year and month, then a serial number.
pub(super) const FIRMWARE_VERSION: u64 = 0x2026_0b00_0000_0001;

/// Revision 1.59 of the library specification, of 8 November 2019.
const REVISION: u32 = 159;
const DAY_OF_YEAR: u32 = 312;
const YEAR: u32 = 2019;
/// TPM_PS_PC: the platform specification is the PC Client's, PTP 1.05 of 4 September 2020.
const PS_PC: u32 = 1;
const PS_REVISION: u32 = 105;
const PS_DAY_OF_YEAR: u32 = 248;
const PS_YEAR: u32 = 2020;

const fn text(s: [u8; 4]) -> u32 {
    u32::from_be_bytes(s)
}

/// TPMA_PERMANENT.tpmGeneratedEPS (Part 2, 8.6).
const TPM_GENERATED_EPS: u32 = 1 << 10;
/// TPMA_PERMANENT.disableClear.
const DISABLE_CLEAR: u32 = 1 << 8;
/// TPMA_PERMANENT.inLockout.
const IN_LOCKOUT: u32 = 1 << 9;
/// TPMA_STARTUP_CLEAR.orderly (Part 2, 8.7).
const ORDERLY: u32 = 1 << 31;

/// The properties with their values, in ascending order.
pub(super) fn all(tpm: &Tpm) -> impl Iterator<Item = (u32, u32)> + use<> {
    let free = tpm.objects.free() as u32;
    let persistent = tpm.objects.persistent().count();
    let loaded = tpm.sessions.loaded().count();
    let active = loaded + tpm.sessions.saved_handles().count();
    let auth_set = [(rh::OWNER, 1), (rh::ENDORSEMENT, 1 << 1), (rh::LOCKOUT, 1 << 2)];
    let is_set = |h| tpm.hierarchies.auth(h).is_some_and(|a| !a.as_bytes().is_empty());
    let auth_set = auth_set.into_iter().filter(|(h, _)| is_set(*h)).fold(0, |bits, (_, bit)| bits | bit);
    let lockout = tpm.lockout.parameters();
    let permanent = TPM_GENERATED_EPS
        | auth_set
        | if tpm.hierarchies.disable_clear { DISABLE_CLEAR } else { 0 }
        | if tpm.lockout.is_locked_out() { IN_LOCKOUT } else { 0 };
    let enables = [(rh::PLATFORM, 1), (rh::OWNER, 1 << 1), (rh::ENDORSEMENT, 1 << 2), (rh::PLATFORM_NV, 1 << 3)];
    let enabled =
        enables.into_iter().filter(|(h, _)| tpm.hierarchies.is_enabled(*h)).fold(0, |bits, (_, bit)| bits | bit);
    let startup_clear = if tpm.mode == Mode::Operational { enabled } else { 0 } | if tpm.orderly { ORDERLY } else { 0 };
    let vendor = tpm.vendor.properties();
    let fixed = [
        (pt::FAMILY_INDICATOR, text(*b"2.0\0")),
        (pt::LEVEL, 0),
        (pt::REVISION, REVISION),
        (pt::DAY_OF_YEAR, DAY_OF_YEAR),
        (pt::YEAR, YEAR),
        (pt::MANUFACTURER, text(*b"BULA")),
        (pt::VENDOR_STRING_1, vendor[0]),
        (pt::VENDOR_STRING_2, vendor[1]),
        (pt::VENDOR_STRING_3, vendor[2]),
        (pt::VENDOR_STRING_4, vendor[3]),
        (pt::VENDOR_TPM_TYPE, 1),
        (pt::FIRMWARE_VERSION_1, (FIRMWARE_VERSION >> 32) as u32),
        (pt::FIRMWARE_VERSION_2, FIRMWARE_VERSION as u32),
        (pt::INPUT_BUFFER, MAX_BUFFER as u32),
        (pt::HR_TRANSIENT_MIN, SLOTS as u32),
        (pt::HR_PERSISTENT_MIN, PERSISTENT as u32),
        (pt::HR_LOADED_MIN, LOADED as u32),
        (pt::ACTIVE_SESSIONS_MAX, ACTIVE as u32),
        (pt::PCR_COUNT, IMPLEMENTATION_PCR),
        (pt::PCR_SELECT_MIN, PCR_SELECT_SIZE as u32),
        (pt::CONTEXT_GAP_MAX, CONTEXT_GAP as u32),
        // No limit but the space.
        (pt::NV_COUNTERS_MAX, 0),
        (pt::NV_INDEX_MAX, u32::from(MAX_INDEX_SIZE)),
        (pt::MEMORY, 0),
        (pt::CLOCK_UPDATE, CLOCK_UPDATE_MS as u32),
        (pt::CONTEXT_HASH, u32::from(INTEGRITY_HASH.id().0)),
        (pt::CONTEXT_SYM, u32::from(bulla_tpm_types::alg::AES.0)),
        (pt::CONTEXT_SYM_SIZE, 256),
        (pt::ORDERLY_COUNT, MAX_ORDERLY_COUNT as u32),
        (pt::MAX_COMMAND_SIZE, MAX_COMMAND_SIZE as u32),
        (pt::MAX_RESPONSE_SIZE, MAX_RESPONSE_SIZE as u32),
        (pt::MAX_DIGEST, 64),
        (pt::MAX_OBJECT_CONTEXT, MAX_OBJECT_CONTEXT as u32),
        (pt::MAX_SESSION_CONTEXT, MAX_SESSION_CONTEXT as u32),
        (pt::PS_FAMILY_INDICATOR, PS_PC),
        (pt::PS_LEVEL, 0),
        (pt::PS_REVISION, PS_REVISION),
        (pt::PS_DAY_OF_YEAR, PS_DAY_OF_YEAR),
        (pt::PS_YEAR, PS_YEAR),
        (pt::SPLIT_MAX, 0),
        (pt::TOTAL_COMMANDS, COMMANDS.len() as u32),
        (pt::LIBRARY_COMMANDS, COMMANDS.len() as u32),
        (pt::VENDOR_COMMANDS, 0),
        (pt::NV_BUFFER_MAX, MAX_NV_BUFFER_SIZE as u32),
        (pt::MODES, 0),
        (pt::MAX_CAP_BUFFER, MAX_CAP_BUFFER as u32),
    ];
    let variable = [
        (pt::PERMANENT, permanent),
        (pt::STARTUP_CLEAR, startup_clear),
        (pt::HR_NV_INDEX, tpm.nv.handles().count() as u32),
        (pt::HR_LOADED, loaded as u32),
        (pt::HR_LOADED_AVAIL, (LOADED - loaded) as u32),
        (pt::HR_ACTIVE, active as u32),
        (pt::HR_ACTIVE_AVAIL, (ACTIVE - active) as u32),
        (pt::HR_TRANSIENT_AVAIL, free),
        (pt::HR_PERSISTENT, persistent as u32),
        (pt::HR_PERSISTENT_AVAIL, (PERSISTENT - persistent) as u32),
        (pt::NV_COUNTERS, tpm.nv.counters() as u32),
        (pt::NV_COUNTERS_AVAIL, tpm.nv.counters_available() as u32),
        (pt::ALGORITHM_SET, tpm.algorithm_set),
        (pt::LOADED_CURVES, CURVES.len() as u32),
        (pt::LOCKOUT_COUNTER, tpm.lockout.failed_tries()),
        (pt::MAX_AUTH_FAIL, lockout.max_tries),
        (pt::LOCKOUT_INTERVAL, lockout.recovery_seconds),
        (pt::LOCKOUT_RECOVERY, lockout.lockout_recovery_seconds),
        (pt::NV_WRITE_RECOVERY, 0),
        (pt::AUDIT_COUNTER_0, (tpm.audit.counter() >> 32) as u32),
        (pt::AUDIT_COUNTER_1, tpm.audit.counter() as u32),
    ];
    fixed.into_iter().chain(variable)
}
