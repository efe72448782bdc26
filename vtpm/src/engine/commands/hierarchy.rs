//! Hierarchy commands (Part 3, 24).

use bulla_tpm_types::{Rc, rc};

use super::super::Tpm;
use super::super::dispatch::Call;
use super::super::secret::{AuthValue, INTEGRITY_HASH, MAX_DIGEST};

/// TPM2_HierarchyChangeAuth (24.8).
pub(in super::super) fn hierarchy_change_auth(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let auth = call.params(|p| p.tpm2b(MAX_DIGEST, "newAuth"))?;
    // No longer than the digests that protect the hierarchy's own objects.
    if auth.len() > INTEGRITY_HASH.size() {
        return Err(rc::SIZE.parameter(1));
    }
    let changed = tpm.hierarchies.set_auth(call.handle(1), AuthValue::new(auth));
    if changed { Ok(()) } else { Err(rc::VALUE.handle(1)) }
}
