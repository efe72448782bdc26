//! Session commands (Part 3, 11).

use bulla_tpm_types::{Error, ErrorKind, HashAlg, Nonce, PublicKind, Rc, Reader, SessionSymmetric, alg, ht, rc, rh};
use zeroize::Zeroizing;

use crate::Tpm;
use crate::crypto::kdfa;
use crate::dispatch::Call;
use crate::secret::MAX_DIGEST;
use crate::secret::{AuthValue, Secret};
use crate::selftest::TestSet;
use crate::session::{Bound, Session, SessionKind};
use crate::sharing::{self, Purpose};

/// The smallest nonce of a caller.
const MIN_NONCE: usize = 16;
/// The largest TPM2B_ENCRYPTED_SECRET.
const MAX_SECRET: usize = 512;

/// TPM_SE (Part 2, 6.11).
fn session_kind(r: &mut Reader<'_>) -> Result<SessionKind, Error> {
    let at = r.clone();
    SessionKind::from_number(r.u8("TPM_SE")?).ok_or_else(|| at.error(ErrorKind::Value, "TPM_SE"))
}

/// TPM2_StartAuthSession (11.1).
pub(crate) fn start_auth_session(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (nonce_caller, encrypted_salt, kind, symmetric, hash) = call.params(|p| {
        Ok((
            p.get::<Nonce>()?,
            p.tpm2b(MAX_SECRET, "TPM2B_ENCRYPTED_SECRET")?,
            p.with(session_kind)?,
            p.get::<SessionSymmetric>()?,
            p.get::<HashAlg>()?,
        ))
    })?;
    if !(MIN_NONCE..=hash.size()).contains(&nonce_caller.len()) {
        return Err(rc::SIZE.parameter(1));
    }
    tpm.require(TestSet::hash(hash) | TestSet::DRBG | TestSet::ECDSA | TestSet::AES)?;
    let salt = salt(tpm, call, encrypted_salt)?;
    if matches!(symmetric, SessionSymmetric::Aes { mode, .. } if mode != alg::CFB) {
        return Err(rc::MODE.parameter(4));
    }
    let bind = call.handle(2);
    let is_public = matches!(bind.handle_type(), ht::TRANSIENT | ht::PERSISTENT)
        && tpm.objects.key(bind).is_ok_and(|k| k.private.is_none());
    if is_public {
        return Err(rc::HANDLE.handle(2));
    }
    // A session bound to a PIN index would use the authValue without being counted.
    if tpm.nv.get(bind).is_some_and(|i| i.kind().is_pin()) {
        return Err(rc::HANDLE.handle(2));
    }
    tpm.sessions.has_room()?;

    let mut nonce = [0; MAX_DIGEST];
    let nonce = nonce.get_mut(..nonce_caller.len()).unwrap_or_default();
    tpm.random.generate(nonce);
    let mut session = Session::new(kind, hash, symmetric);
    session.nonce_tpm = Nonce::new(nonce).unwrap_or_default();
    session.started_ms = tpm.time.time_ms();
    let bound_auth: &[u8] = if bind == rh::NULL { &[] } else { tpm.entity_auth(bind).ok_or(rc::HANDLE.handle(2))? };
    // Part 1, 19.6.8: a session that is neither salted nor bound has no key.
    if bind != rh::NULL || call.handle(1) != rh::NULL {
        let secret = Zeroizing::new([bound_auth, &salt].concat());
        let mut key = Secret::new(alloc::vec![0; hash.size()].into());
        kdfa(hash, &secret, "ATH", &session.nonce_tpm, &nonce_caller, &mut key);
        session.key = key;
    }
    if bind != rh::NULL && kind == SessionKind::Hmac {
        let auth = AuthValue::new(bound_auth);
        session.bound = Some(Bound { name: tpm.entity_name(bind), auth, scope: tpm.da_scope(bind) });
    }
    let nonce = session.nonce_tpm;
    call.answer_handle(tpm.sessions.insert(session)?);
    call.out().put(&nonce);
    Ok(())
}

/// The salt that only the TPM can decrypt; empty without a key for it.
fn salt(tpm: &mut Tpm, call: &Call<'_, '_>, encrypted: &[u8]) -> Result<Secret, Rc> {
    let handle = call.handle(1);
    if handle == rh::NULL {
        return if encrypted.is_empty() { Ok(Secret::default()) } else { Err(rc::VALUE.parameter(2)) };
    }
    let key = tpm.objects.key(handle).map_err(|_| rc::KEY.handle(1))?;
    if !matches!(key.public.kind, PublicKind::Rsa { .. } | PublicKind::Ecc { .. }) {
        return Err(rc::KEY.handle(1));
    }
    if key.private.is_none() {
        return Err(rc::HANDLE.handle(1));
    }
    if !key.has(bulla_tpm_types::ObjectAttributes::DECRYPT) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    sharing::open(&mut tpm.random, key, Purpose::Salt, encrypted).map_err(|_| rc::VALUE.parameter(2))
}

/// TPM2_PolicyRestart (11.2).
pub(crate) fn policy_restart(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.sessions.get_mut(call.handle(1)).ok_or(rc::HANDLE.handle(1))?.restart_policy();
    Ok(())
}
