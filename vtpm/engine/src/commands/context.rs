//! Context management (Part 3, 28).

use alloc::boxed::Box;

use bulla_tpm_types::{Context, Error, ErrorKind, Handle, ObjectAttributes, Rc, Reader, ht, rc, rh};

use crate::Tpm;
use crate::context::{
    SAVED_OBJECT, SAVED_SEQUENCE, SAVED_ST_CLEAR, read_object, read_session, saved_handle, write_object,
};
use crate::dispatch::Call;
use crate::entity::PLATFORM_PERSISTENT;
use crate::object::Object;
use crate::selftest::TestSet;
use crate::session::Session;
use crate::table::{is_hierarchy, is_session, is_transient};

/// TPM2_ContextSave (28.2). An object stays loaded; a session does not.
pub(crate) fn context_save(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.require(TestSet::DRBG | TestSet::AES)?;
    let handle = call.handle(1);
    let mut plain = bulla_tpm_types::Writer::new();
    let (sequence, saved, hierarchy) = if is_session(handle) {
        let sequence = tpm.sessions.next_sequence()?;
        tpm.sessions.get(handle).ok_or(rc::HANDLE.handle(1))?.save(&mut plain);
        (sequence, handle, rh::NULL)
    } else {
        let object = tpm.objects.get(handle).ok_or(rc::HANDLE.handle(1))?;
        write_object(&mut plain, object);
        (tpm.epochs.next_object(), saved_handle(object), object.key().map_or(rh::NULL, |k| k.hierarchy))
    };
    let plain = zeroize::Zeroizing::new(plain.into_vec());
    let blob = tpm.wrap_context(sequence, saved, hierarchy, |w| w.bytes(&plain))?;
    if is_session(handle) {
        tpm.forget_shutdown();
        tpm.sessions.saved(handle);
    }
    call.out().put(&Context { sequence, saved_handle: saved, hierarchy, blob: &blob });
    Ok(())
}

/// TPMS_CONTEXT, whose handles are a TPMI_DH_SAVED and a TPMI_RH_HIERARCHY+.
fn context<'a>(r: &mut Reader<'a>) -> Result<Context<'a>, Error> {
    let at = r.clone();
    let context = r.get::<Context<'a>>()?;
    let saved = context.saved_handle;
    let known = is_session(saved) || matches!(saved, SAVED_OBJECT | SAVED_SEQUENCE | SAVED_ST_CLEAR);
    if known && is_hierarchy(context.hierarchy) { Ok(context) } else { Err(at.error(ErrorKind::Value, "TPMS_CONTEXT")) }
}

/// What a context holds.
enum Loaded {
    Session(Box<Session>),
    Object(Box<Object>),
}

/// TPM2_ContextLoad (28.3).
pub(crate) fn context_load(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let c = call.params(|p| p.with(context))?;
    tpm.require(TestSet::DRBG | TestSet::AES)?;
    let session = is_session(c.saved_handle);
    if session && c.hierarchy != rh::NULL {
        return Err(rc::HIERARCHY.parameter(1));
    }
    if !tpm.hierarchies.is_enabled(c.hierarchy) {
        return Err(rc::HIERARCHY.parameter(1));
    }
    let plain = tpm.unwrap_context(c.sequence, c.saved_handle, c.hierarchy, c.blob).map_err(|e| e.parameter(1))?;
    let loaded = if session {
        tpm.sessions.check_return(c.saved_handle, c.sequence).map_err(|e| e.parameter(1))?;
        read_session(&plain).map(|s| Loaded::Session(Box::new(s)))
    } else {
        tpm.objects.has_room()?;
        read_object(&plain, c.hierarchy).map(|o| Loaded::Object(Box::new(o)))
    };
    let handle = match loaded {
        Ok(Loaded::Session(session)) => {
            // A shutdown has saved that the session is outside: it could come back once more.
            tpm.forget_shutdown();
            tpm.sessions.returned(c.saved_handle, *session);
            c.saved_handle
        }
        Ok(Loaded::Object(object)) => tpm.objects.insert(*object)?,
        Err(_) => {
            // It was authentic, so this TPM has written it: not to be able to read it is a defect.
            tpm.fail();
            return Err(rc::FAILURE);
        }
    };
    call.answer_handle(handle);
    Ok(())
}

/// TPMI_DH_CONTEXT (Part 2, 9.11).
fn flushable(r: &mut Reader<'_>) -> Result<Handle, Error> {
    let at = r.clone();
    let handle = r.get::<Handle>()?;
    let known = is_session(handle) || is_transient(handle);
    if known { Ok(handle) } else { Err(at.error(ErrorKind::Value, "TPMI_DH_CONTEXT")) }
}

/// TPM2_FlushContext (28.4). The handle is a parameter, so that it may be one that is not loaded.
pub(crate) fn flush_context(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let handle = call.params(|p| p.with(flushable))?;
    let flushed = if is_session(handle) {
        let flushed = tpm.sessions.flush(handle);
        if flushed {
            tpm.forget_shutdown();
        }
        flushed
    } else {
        tpm.objects.remove(handle).is_some()
    };
    if flushed { Ok(()) } else { Err(rc::HANDLE.parameter(1)) }
}

/// TPM2_EvictControl (28.5).
pub(crate) fn evict_control(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let persistent = call.params(|p| {
        p.with(|r| {
            let at = r.clone();
            let handle = r.get::<Handle>()?;
            let ok = handle.handle_type() == ht::PERSISTENT;
            if ok { Ok(handle) } else { Err(at.error(ErrorKind::Value, "TPMI_DH_PERSISTENT")) }
        })
    })?;
    let (auth, handle) = (call.handle(1), call.handle(2));
    let object = tpm.objects.get(handle).ok_or(rc::HANDLE.handle(2))?;
    let key = object.key().ok_or(rc::ATTRIBUTES.handle(2))?;
    let temporary = key.external || key.hierarchy == rh::NULL || key.private.is_none();
    if temporary || key.has(ObjectAttributes::ST_CLEAR) {
        return Err(rc::ATTRIBUTES.handle(2));
    }
    // The owner manages the objects of the storage and endorsement hierarchies, the platform its own; each has
    // its own half of the handles. The platform may remove any.
    let by_platform = auth == rh::PLATFORM;
    let made = handle.handle_type() == ht::TRANSIENT;
    if !made && handle != persistent {
        return Err(rc::HANDLE.handle(2));
    }
    let of_platform = key.hierarchy == rh::PLATFORM;
    if by_platform != of_platform && (made || of_platform) {
        return Err(rc::HIERARCHY.handle(2));
    }
    if made && by_platform != (persistent >= PLATFORM_PERSISTENT) {
        return Err(rc::RANGE.parameter(1));
    }
    if made {
        let object = object.clone();
        tpm.objects.persist(persistent, object)?;
        tpm.permanent_changed();
        return Ok(());
    }
    tpm.objects.evict(handle);
    tpm.permanent_changed();
    Ok(())
}
