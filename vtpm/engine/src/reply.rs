//! What a command's sessions add to its response: encryption, audit and HMACs (Part 1, 17.6, 19.6.6, 21 and 31).

use alloc::vec::Vec;

use bulla_tpm_types::{AuthResponse, Ha, HashAlg, Marshal, Nonce, Rc, SessionAttributes, Writer, hash, ht, rc, rh};
use zeroize::Zeroizing;

use super::Tpm;
use super::auth::{Used, hmac_key, includes_auth};
use super::crypto::{Direction, hmac};
use super::parameter;
use super::secret::same_auth;
use super::session::SessionKind;

/// Finishes a response whose parameters begin at `params_at`, after which it adds the session area.
pub(super) fn finish(
    tpm: &mut Tpm,
    code: u32,
    mut used: Vec<Used>,
    params_at: usize,
    w: &mut Writer,
) -> Result<(), Rc> {
    // The authValue may have changed, or gone with its entity.
    for used in &mut used {
        let Some(entity) = used.entity else { continue };
        match tpm.entity_auth(entity) {
            // The first write of an NV Index changes its Name, but not what this command was authorized by.
            Some(auth) if same_auth(auth, &used.auth) => {}
            Some(auth) => {
                used.auth = Zeroizing::new(auth.to_vec());
                used.keyed_with_auth = tpm.sessions.get(used.handle).is_some_and(|s| includes_auth(tpm, s, entity));
            }
            // An index that is gone has the Empty Auth (Part 3, 31.5.1).
            None if entity.handle_type() == ht::NV_INDEX => used.auth = Zeroizing::default(),
            None => {}
        }
    }
    roll_nonces(tpm, &used);
    encrypt(tpm, &used, params_at, w)?;
    let params = Zeroizing::new(w.as_bytes().get(params_at..).unwrap_or_default().to_vec());
    audit(tpm, code, &mut used, &params);
    for used in &used {
        respond(tpm, code, used, &params).marshal(w);
    }
    for used in &used {
        if !used.attributes.contains(SessionAttributes::CONTINUE_SESSION) {
            tpm.sessions.flush(used.handle);
        } else if let (Some(_), Some(session)) = (used.entity, tpm.sessions.get_mut(used.handle))
            && session.kind == SessionKind::Policy
        {
            // A policy authorizes once (Part 1, 19.7.4).
            session.restart_policy();
        }
    }
    Ok(())
}

/// A command without sessions ends the exclusive use of the audit session (Part 1, 31.4).
pub(super) fn finish_without_sessions(tpm: &mut Tpm) {
    tpm.sessions.exclusive_audit = None;
}

fn roll_nonces(tpm: &mut Tpm, used: &[Used]) {
    for used in used {
        if let Some(session) = tpm.sessions.get_mut(used.handle) {
            let mut nonce = [0; 64];
            let nonce = nonce.get_mut(..session.nonce_tpm.len()).unwrap_or_default();
            tpm.random.generate(nonce);
            session.nonce_tpm = Nonce::new(nonce).unwrap_or_default();
        }
    }
}

fn encrypt(tpm: &Tpm, used: &[Used], params_at: usize, w: &mut Writer) -> Result<(), Rc> {
    let Some(used) = used.iter().find(|u| u.attributes.contains(SessionAttributes::ENCRYPT)) else {
        return Ok(());
    };
    let session = tpm.sessions.get(used.handle).ok_or(rc::FAILURE)?;
    let mut params = Zeroizing::new(w.as_bytes().get(params_at..).unwrap_or_default().to_vec());
    let (newer, older) = (&session.nonce_tpm, &used.nonce_caller);
    parameter::crypt(session, &used.auth, newer, older, &mut params, Direction::Encrypt)?;
    w.patch(params_at, &params);
    Ok(())
}

/// rpHash (Part 1, 16.8): of the parameters as they are sent, encrypted or not.
fn rp_hash(alg: HashAlg, code: u32, params: &[u8]) -> Ha {
    hash::digest(alg, &[&rc::SUCCESS.0.to_be_bytes(), &code.to_be_bytes(), params])
}

/// Adds a command to the digest of what is audited (Part 1, 31.2). TPM2_SetCommandCodeAuditStatus that has chosen
/// another algorithm begins no digest of it.
pub(super) fn audit_command(tpm: &mut Tpm, code: u32, cp_hash: &Ha, params: &[u8]) {
    if cp_hash.alg() != tpm.audit.alg() {
        return;
    }
    // A resume would bring back a digest without this command.
    tpm.forget_shutdown();
    if tpm.audit.extend(cp_hash, &rp_hash(cp_hash.alg(), code, params)) {
        tpm.permanent_changed();
    }
}

/// Extends the digest of the audit session, and sees which session is exclusive (Part 1, 31).
fn audit(tpm: &mut Tpm, code: u32, used: &mut [Used], params: &[u8]) {
    let sessions = &mut tpm.sessions;
    let Some((used, cp_hash)) = used.iter_mut().find_map(|u| u.cp_hash.map(|h| (u, h))) else {
        sessions.exclusive_audit = None;
        return;
    };
    let Some(session) = sessions.get_mut(used.handle) else {
        return;
    };
    let alg = session.hash;
    let fresh = session.audit.is_none() || used.attributes.contains(SessionAttributes::AUDIT_RESET);
    let before = session.audit.filter(|_| !fresh).unwrap_or(Ha::zero(alg));
    let rp_hash = rp_hash(alg, code, params);
    session.audit = Some(hash::digest(alg, &[before.as_bytes(), cp_hash.as_bytes(), rp_hash.as_bytes()]));
    if fresh {
        sessions.exclusive_audit = Some(used.handle);
    } else if sessions.exclusive_audit != Some(used.handle) {
        sessions.exclusive_audit = None;
    }
    let exclusive = sessions.exclusive_audit == Some(used.handle);
    used.attributes = used.attributes.without(SessionAttributes::AUDIT_EXCLUSIVE);
    if exclusive {
        used.attributes = used.attributes | SessionAttributes::AUDIT_EXCLUSIVE;
    }
}

/// One session of the response (Part 1, 19.6.6).
fn respond(tpm: &Tpm, code: u32, used: &Used, params: &[u8]) -> AuthResponse {
    let Some(session) = tpm.sessions.get(used.handle).filter(|_| used.handle != rh::PW) else {
        // A password's continueSession is always set (Part 1, 19.4).
        return AuthResponse { attributes: SessionAttributes::CONTINUE_SESSION, ..AuthResponse::default() };
    };
    let key = hmac_key(session, used);
    let silent = used.password || (key.is_empty() && used.without_hmac);
    let hmac = if silent {
        Nonce::EMPTY
    } else {
        let rp_hash = rp_hash(session.hash, code, params);
        let attributes = [used.attributes.bits()];
        hmac(session.hash, &key, &[rp_hash.as_bytes(), &session.nonce_tpm, &used.nonce_caller, &attributes]).digest()
    };
    AuthResponse { nonce: session.nonce_tpm, attributes: used.attributes, hmac }
}
