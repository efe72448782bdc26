//! Object information and context management (Part 3, 12.4 and 28).

use bulla_tpm_types::{Error, ErrorKind, Handle, Rc, Reader, ht, rc};

use super::super::Tpm;
use super::super::dispatch::Call;
use super::super::object::Kind;

/// TPM2_ReadPublic (12.4).
pub(in super::super) fn read_public(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let object = tpm.objects.get(call.handle(1)).ok_or(rc::HANDLE.handle(1))?;
    let Kind::Key(key) = &object.kind else {
        return Err(rc::SEQUENCE);
    };
    let out = call.out();
    out.sized(|w| w.put(&key.public));
    out.put(&key.name);
    out.put(&key.qualified_name);
    Ok(())
}

/// TPMI_DH_CONTEXT (Part 2, 9.11).
fn context(r: &mut Reader<'_>) -> Result<Handle, Error> {
    let at = r.clone();
    let handle = r.get::<Handle>()?;
    match handle.handle_type() {
        ht::HMAC_SESSION | ht::POLICY_SESSION | ht::TRANSIENT => Ok(handle),
        _ => Err(at.error(ErrorKind::Value, "TPMI_DH_CONTEXT")),
    }
}

/// TPM2_FlushContext (28.4). The handle is a parameter, so that it may be one that is not loaded.
pub(in super::super) fn flush_context(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let handle = call.params(|p| p.with(context))?;
    tpm.objects.remove(handle).map(drop).ok_or(rc::HANDLE.parameter(1))
}
