//! The commands, one function each, grouped as Part 3 groups them.
//!
//! Each takes the TPM and the call, whose handles and sessions are checked already. It unmarshals all
//! parameters first, and answers an error before it has changed anything.

pub(super) mod attest;
pub(super) mod audit;
pub(super) mod capability;
pub(super) mod certify_x509;
pub(super) mod clock;
pub(super) mod commit;
pub(super) mod context;
pub(super) mod dictionary;
pub(super) mod duplicate;
pub(super) mod ecc_crypt;
pub(super) mod ecdh;
pub(super) mod hash;
pub(super) mod hierarchy;
pub(super) mod lifecycle;
pub(super) mod nv;
pub(super) mod object;
pub(super) mod pcr;
pub(super) mod policy;
pub(super) mod policy_auth;
pub(super) mod policy_nv;
pub(super) mod presence;
pub(super) mod primary;
pub(super) mod properties;
pub(super) mod random;
pub(super) mod rsa;
pub(super) mod selftest;
pub(super) mod session;
pub(super) mod sign;
pub(super) mod symmetric;

use alloc::vec::Vec;

use bulla_tpm_types::{Error, ErrorKind, Handle, Reader};

use super::table::is_hierarchy;

/// TPM_PT_INPUT_BUFFER: the largest TPM2B_MAX_BUFFER, and the largest TPM2B_EVENT.
pub(super) const MAX_BUFFER: usize = 1024;

/// MAX_CAP_CC: the most command codes of a TPML_CC.
const MAX_CC: usize = (capability::MAX_CAP_BUFFER - 4 - 4) / 4;

/// TPML_CC (Part 2, 10.9.1).
fn command_codes(r: &mut Reader<'_>) -> Result<Vec<u32>, Error> {
    let at = r.clone();
    let count = r.u32("TPML_CC count")?;
    if usize::try_from(count).is_ok_and(|c| c <= MAX_CC) {
        (0..count).map(|_| r.u32("TPM_CC")).collect()
    } else {
        Err(at.error(ErrorKind::Size, "TPML_CC count"))
    }
}

/// TPMI_RH_HIERARCHY+ (Part 2, 9.13).
fn hierarchy(r: &mut Reader<'_>) -> Result<Handle, Error> {
    let at = r.clone();
    let handle = r.get()?;
    if is_hierarchy(handle) { Ok(handle) } else { Err(at.error(ErrorKind::Value, "TPMI_RH_HIERARCHY")) }
}
