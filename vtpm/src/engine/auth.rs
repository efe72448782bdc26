//! The session area and authorization (Part 1, 19; Part 3, 5.5 and 5.6).
//!
//! Only password sessions exist so far. Sessions of any other handle are refused as not loaded.

use bulla_tpm_types::{Handle, Rc, Reader, SessionAttributes, Unmarshal, ht, rc, rh};

use super::Tpm;
use super::table::{Auth, Command};

/// The most sessions of a command (Part 1, 18.6).
pub(super) const MAX_SESSIONS: usize = 3;
/// The smallest session area: one session with empty nonce and empty password.
const MIN_AREA: usize = 9;
/// The longest nonce and authValue.
const MAX_AUTH: usize = 64;

/// One session of the command; the password stays in the command's bytes.
struct Session<'a> {
    handle: Handle,
    nonce: &'a [u8],
    attributes: SessionAttributes,
    hmac: &'a [u8],
}

impl<'a> Unmarshal<'a> for Session<'a> {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, bulla_tpm_types::Error> {
        let at = r.clone();
        let handle = r.get::<Handle>()?;
        // TPMI_SH_AUTH_SESSION+ (Part 2, 9.8).
        if handle != rh::PW && !matches!(handle.handle_type(), ht::HMAC_SESSION | ht::POLICY_SESSION) {
            return Err(at.error(bulla_tpm_types::ErrorKind::Value, "TPMI_SH_AUTH_SESSION"));
        }
        Ok(Self { handle, nonce: r.tpm2b(MAX_AUTH, "nonce")?, attributes: r.get()?, hmac: r.tpm2b(MAX_AUTH, "hmac")? })
    }
}

/// Reads the session area that `r` is at, and authorizes `handles`. Answers the number of sessions.
pub(super) fn check(tpm: &mut Tpm, command: &Command, handles: &[Handle], r: &mut Reader<'_>) -> Result<usize, Rc> {
    let size = r.u32("authorizationSize").ok().and_then(|s| usize::try_from(s).ok());
    let area = match size {
        Some(size) if size >= MIN_AREA => r.take(size, "session area").map_err(|_| rc::AUTHSIZE)?,
        _ => return Err(rc::AUTHSIZE),
    };
    // Part 3, 5.5: sessions are not allowed at all in a few commands.
    if !command.sessions {
        return Err(rc::AUTH_CONTEXT);
    }

    let mut area = Reader::new(area);
    let mut sessions: [Option<Session<'_>>; MAX_SESSIONS] = [const { None }; MAX_SESSIONS];
    let mut count = 0;
    while !area.is_empty() {
        let number = count + 1;
        let place = sessions.get_mut(count).ok_or(rc::SIZE.session(number))?;
        let session = area.get::<Session<'_>>().map_err(|e| e.rc().session(number))?;
        check_form(&session, count)?;
        *place = Some(session);
        count = number;
    }

    // Part 3, 5.5: each handle that needs authorization has the session of its place; the others must have
    // another use, which a password has not.
    let needed = command.handles.iter().zip(handles).filter(|(h, _)| h.auth == Auth::User);
    let mut used = 0;
    for (_, &handle) in needed {
        let number = used + 1;
        let session = sessions.get(used).and_then(Option::as_ref).ok_or(rc::AUTH_MISSING)?;
        authorize(tpm, handle, session.hmac, number)?;
        used = number;
    }
    if count > used {
        return Err(rc::HANDLE.session(used + 1));
    }
    Ok(count)
}

/// Checks what can be wrong with a session itself.
fn check_form(session: &Session<'_>, index: usize) -> Result<(), Rc> {
    let number = index + 1;
    if session.handle != rh::PW {
        // No session can be loaded.
        return Err(Rc(rc::REFERENCE_S0.0 + index as u32));
    }
    // A password session cannot be used for encryption or audit (Part 1, 19.4).
    if session.attributes.without(SessionAttributes::CONTINUE_SESSION) != SessionAttributes::NONE {
        return Err(rc::ATTRIBUTES.session(number));
    }
    if !session.nonce.is_empty() {
        return Err(rc::NONCE.session(number));
    }
    Ok(())
}

/// Checks a password for the USER role on an entity (Part 1, 19.4 and 19.8).
fn authorize(tpm: &mut Tpm, handle: Handle, password: &[u8], session: usize) -> Result<(), Rc> {
    let (matches, da_protected) = match handle.handle_type() {
        // PCR have no authValue of their own: no PCR is in an authorization set.
        ht::PCR => (password.iter().all(|b| *b == 0), false),
        ht::PERMANENT => {
            let hierarchy = tpm.hierarchies.get(handle).ok_or(rc::VALUE.session(session))?;
            (hierarchy.auth.matches(password), false)
        }
        _ => {
            let object = tpm.objects.get(handle).ok_or(rc::HANDLE.session(session))?;
            if !object.user_with_auth() {
                return Err(rc::AUTH_UNAVAILABLE);
            }
            if object.is_da_protected() && tpm.lockout.is_locked_out() {
                return Err(rc::LOCKOUT);
            }
            (object.auth.matches(password), object.is_da_protected())
        }
    };
    match (matches, da_protected) {
        (true, _) => Ok(()),
        (false, false) => Err(rc::BAD_AUTH.session(session)),
        (false, true) => {
            tpm.lockout.count_failure(tpm.time.time_ms());
            Err(rc::AUTH_FAIL.session(session))
        }
    }
}

/// Whether a command without sessions would need one.
pub(super) fn check_none(command: &Command) -> Result<(), Rc> {
    if command.handles.iter().any(|h| h.auth == Auth::User) { Err(rc::AUTH_MISSING) } else { Ok(()) }
}

/// Dictionary attack protection (Part 1, 19.8).
#[derive(Debug, Default)]
pub(super) struct DictionaryAttack {
    failed_tries: u32,
    /// When, on the TPM's Time, the latest failure or recovery was.
    since_ms: u64,
}

/// TPM_PT_MAX_AUTH_FAIL.
pub(super) const MAX_TRIES: u32 = 32;
/// TPM_PT_LOCKOUT_INTERVAL: seconds until one failure is forgotten.
pub(super) const RECOVERY_SECONDS: u32 = 7200;
/// TPM_PT_LOCKOUT_RECOVERY.
pub(super) const LOCKOUT_RECOVERY_SECONDS: u32 = 86400;

impl DictionaryAttack {
    /// TPM_PT_LOCKOUT_COUNTER.
    pub(super) fn failed_tries(&self) -> u32 {
        self.failed_tries
    }

    /// Whether DA-protected entities cannot be authorized now.
    pub(super) fn is_locked_out(&self) -> bool {
        self.failed_tries >= MAX_TRIES
    }

    fn count_failure(&mut self, now_ms: u64) {
        self.failed_tries = self.failed_tries.saturating_add(1).min(MAX_TRIES);
        self.since_ms = now_ms;
    }

    /// Forgets one failure for each interval that has passed while powered.
    pub(super) fn recover(&mut self, now_ms: u64) {
        let interval = u64::from(RECOVERY_SECONDS) * 1000;
        // Time starts from zero when power comes on.
        self.since_ms = self.since_ms.min(now_ms);
        let intervals = (now_ms - self.since_ms) / interval;
        self.failed_tries = self.failed_tries.saturating_sub(u32::try_from(intervals).unwrap_or(u32::MAX));
        self.since_ms += intervals * interval;
    }
}
