//! The session area of a command: which sessions there are, and what they authorize (Part 1, 17 to 19; Part 3,
//! 5.5 and 5.6). What the sessions add to the response is in [`super::reply`].

use alloc::vec::Vec;

use bulla_tpm_types::{
    Error, ErrorKind, Ha, Handle, HashAlg, Locality, Name, Nonce, NvAttributes, Rc, Reader, SessionAttributes,
    SessionSymmetric, Unmarshal, cc, hash, rc, rh,
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Tpm;
use super::crypto::{Direction, hmac};
use super::parameter;
use super::secret::same_auth;
use super::session::{AuthNeed, DaScope, Fixed, Session, SessionKind};
use super::table::{Command, is_session};

/// The most sessions of a command (Part 1, 18.6).
pub(super) const MAX_SESSIONS: usize = 3;
/// The smallest session area: one session with empty nonce and empty password.
const MIN_AREA: usize = 9;
/// The longest nonce and authValue.
const MAX_AUTH: usize = 64;

/// The role in which a handle is authorized (Part 1, 19.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// USER.
    User,
    /// ADMIN.
    Admin,
    /// DUP: only by a policy that names the command.
    Dup,
}

/// One session of the command as it was sent; the password stays in the command's bytes.
struct Sent<'a> {
    handle: Handle,
    nonce: Nonce,
    attributes: SessionAttributes,
    hmac: &'a [u8],
}

impl<'a> Unmarshal<'a> for Sent<'a> {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        let handle = r.get::<Handle>()?;
        // TPMI_SH_AUTH_SESSION+ (Part 2, 9.8).
        if handle != rh::PW && !is_session(handle) {
            return Err(at.error(ErrorKind::Value, "TPMI_SH_AUTH_SESSION"));
        }
        Ok(Self { handle, nonce: r.get()?, attributes: r.get()?, hmac: r.tpm2b(MAX_AUTH, "hmac")? })
    }
}

impl Sent<'_> {
    fn has(&self, attribute: SessionAttributes) -> bool {
        self.attributes.contains(attribute)
    }
}

/// A session of the command, checked, with what the response needs of it.
pub(super) struct Used {
    /// The session, or TPM_RS_PW.
    pub(super) handle: Handle,
    /// The caller's nonce.
    pub(super) nonce_caller: Nonce,
    /// As in the command.
    pub(super) attributes: SessionAttributes,
    /// What it authorizes.
    pub(super) entity: Option<Handle>,
    /// The authValue of that when the command began: the entity may be gone when it ends.
    pub(super) auth: Zeroizing<Vec<u8>>,
    /// Whether that authValue is part of the HMAC's key.
    pub(super) keyed_with_auth: bool,
    /// Whether the command had no HMAC.
    pub(super) without_hmac: bool,
    /// Whether the authValue stood in the HMAC's place, so that the response has no HMAC.
    pub(super) password: bool,
    /// cpHash, for an audit session.
    pub(super) cp_hash: Option<Ha>,
}

/// The sessions of a command, checked.
pub(super) struct Checked {
    /// In their order.
    pub(super) used: Vec<Used>,
    /// The parameters, when they had to be decrypted.
    pub(super) decrypted: Option<Zeroizing<Vec<u8>>>,
}

/// What is authorized: the command with its handles and parameters, as sent.
struct Request<'a> {
    command: &'static Command,
    handles: &'a [Handle],
    names: Vec<Name>,
    params: &'a [u8],
    locality: u8,
}

impl Request<'_> {
    /// cpHash (Part 1, 16.7): of the parameters as they were sent, encrypted or not.
    fn cp_hash(&self, alg: HashAlg) -> Ha {
        let code = self.command.code.to_be_bytes();
        let names = self.names.iter().map(|n| n.as_bytes());
        let parts: Vec<&[u8]> = [&code[..]].into_iter().chain(names).chain([self.params]).collect();
        hash::digest(alg, &parts)
    }

    fn name_hash(&self, alg: HashAlg) -> Ha {
        let names: Vec<&[u8]> = self.names.iter().map(|n| n.as_bytes()).collect();
        hash::digest(alg, &names)
    }

    /// The digest of the template, the second parameter of the commands that create objects.
    fn template_hash(&self, alg: HashAlg) -> Option<Ha> {
        if !matches!(self.command.code, cc::CREATE | cc::CREATE_PRIMARY) {
            return None;
        }
        let mut r = Reader::new(self.params);
        r.tpm2b(self.params.len(), "inSensitive").ok()?;
        Some(hash::digest(alg, &[r.tpm2b(self.params.len(), "inPublic").ok()?]))
    }
}

/// cpHash of a command that is audited, with or without sessions.
pub(super) fn cp_hash(tpm: &Tpm, command: &'static Command, handles: &[Handle], params: &[u8]) -> Ha {
    let names = handles.iter().map(|h| tpm.entity_name(*h)).collect();
    // Locality has no part in it.
    Request { command, handles, names, params, locality: 0 }.cp_hash(tpm.audit.alg())
}

/// Reads the session area that `r` is at and checks it for the command. `r` is left at the parameters.
pub(super) fn check(
    tpm: &mut Tpm,
    command: &'static Command,
    handles: &[Handle],
    locality: u8,
    r: &mut Reader<'_>,
) -> Result<Checked, Rc> {
    let size = r.u32("authorizationSize").ok().and_then(|s| usize::try_from(s).ok());
    let area = match size {
        Some(size) if size >= MIN_AREA => r.take(size, "session area").map_err(|_| rc::AUTHSIZE)?,
        _ => return Err(rc::AUTHSIZE),
    };
    // Part 3, 5.5: sessions are not allowed at all in a few commands.
    if !command.sessions {
        return Err(rc::AUTH_CONTEXT);
    }
    let sent = read_area(tpm, command, area)?;
    let needed: Vec<(Handle, Role)> =
        command.handles.iter().zip(handles).filter_map(|(spec, h)| Some((*h, spec.auth.role()?))).collect();
    if sent.len() < needed.len() {
        return Err(rc::AUTH_MISSING);
    }
    let names = handles.iter().map(|h| tpm.entity_name(*h)).collect();
    let request = Request { command, handles, names, params: r.rest(), locality };
    debug_assert_eq!(request.handles.len(), request.names.len());

    let mut used = Vec::with_capacity(MAX_SESSIONS);
    for (index, session) in sent.iter().enumerate() {
        used.push(check_one(tpm, &request, &sent, index, session, needed.get(index).copied())?);
    }
    let decrypted = decrypt(tpm, &used, request.params)?;
    Ok(Checked { used, decrypted })
}

/// Reads the sessions and checks each for itself.
fn read_area<'a>(tpm: &Tpm, command: &Command, area: &'a [u8]) -> Result<Vec<Sent<'a>>, Rc> {
    let mut area = Reader::new(area);
    let mut sent: Vec<Sent<'a>> = Vec::with_capacity(MAX_SESSIONS);
    while !area.is_empty() {
        let number = sent.len() + 1;
        if number > MAX_SESSIONS {
            return Err(rc::SIZE.session(number));
        }
        let session = area.get::<Sent<'a>>().map_err(|e| e.rc().session(number))?;
        check_form(tpm, command, &session, &sent)?;
        sent.push(session);
    }
    Ok(sent)
}

/// Checks what can be wrong with a session itself, or with it beside those before it.
fn check_form(tpm: &Tpm, command: &Command, session: &Sent<'_>, before: &[Sent<'_>]) -> Result<(), Rc> {
    use SessionAttributes as A;
    let index = before.len();
    let number = index + 1;
    if session.handle == rh::PW {
        // A password session cannot be used for encryption or audit (Part 1, 19.4).
        if session.attributes.without(A::CONTINUE_SESSION) != A::NONE {
            return Err(rc::ATTRIBUTES.session(number));
        }
        return if session.nonce.is_empty() { Ok(()) } else { Err(rc::NONCE.session(number)) };
    }
    let Some(loaded) = tpm.sessions.get(session.handle) else {
        // A loaded session that is of the other type is there, but this is not its handle.
        let mistyped = tpm.sessions.is_loaded(session.handle);
        return Err(if mistyped { rc::HANDLE.session(number) } else { Rc(rc::REFERENCE_S0.0 + index as u32) });
    };
    if before.iter().any(|s| s.handle == session.handle) {
        return Err(rc::HANDLE.session(number));
    }
    // One session each for decryption, encryption and audit, where the command has a parameter for it.
    let taken = |attribute| before.iter().any(|s| s.has(attribute));
    for (attribute, possible) in [(A::DECRYPT, command.decrypts), (A::ENCRYPT, command.encrypts)] {
        if session.has(attribute) && (!possible || taken(attribute)) {
            return Err(rc::ATTRIBUTES.session(number));
        }
        if session.has(attribute) && loaded.symmetric == SessionSymmetric::Null {
            return Err(rc::SYMMETRIC.session(number));
        }
    }
    let wrong = match session.has(A::AUDIT) {
        true => taken(A::AUDIT) || loaded.kind != SessionKind::Hmac,
        false => session.attributes.intersects(A::AUDIT_EXCLUSIVE.with(A::AUDIT_RESET)),
    };
    if wrong {
        return Err(rc::ATTRIBUTES.session(number));
    }
    // The first use for audit, and one that begins anew, make the session exclusive, whatever it was before.
    let goes_on = session.has(A::AUDIT) && loaded.audit.is_some() && !session.has(A::AUDIT_RESET);
    let exclusive = tpm.sessions.exclusive_audit == Some(session.handle);
    if goes_on && session.has(A::AUDIT_EXCLUSIVE) && !exclusive { Err(rc::EXCLUSIVE) } else { Ok(()) }
}

/// Checks a session's use and its authorization.
fn check_one(
    tpm: &mut Tpm,
    request: &Request<'_>,
    sent: &[Sent<'_>],
    index: usize,
    this: &Sent<'_>,
    entity: Option<(Handle, Role)>,
) -> Result<Used, Rc> {
    use SessionAttributes as A;
    let number = index + 1;
    let mut used = Used {
        handle: this.handle,
        nonce_caller: this.nonce,
        attributes: this.attributes,
        entity: entity.map(|(handle, _)| handle),
        auth: Zeroizing::default(),
        keyed_with_auth: false,
        without_hmac: this.hmac.is_empty(),
        password: this.handle == rh::PW,
        cp_hash: None,
    };
    // A trial session can authorize nothing.
    if tpm.sessions.get(this.handle).is_some_and(|s| s.kind == SessionKind::Trial) {
        return Err(rc::ATTRIBUTES.session(number));
    }
    // Part 1, 19.9: before anything else about the authorization.
    let by_platform = entity.is_some_and(|(handle, _)| handle == rh::PLATFORM);
    if by_platform && tpm.presence.is_required(request.command.code) && !tpm.presence.asserted {
        return Err(rc::PP.session(number));
    }
    if let Some((handle, _)) = entity {
        used.auth = Zeroizing::new(tpm.entity_auth(handle).unwrap_or_default().to_vec());
    }
    let session = tpm.sessions.get(this.handle);
    if let Some(session) = session {
        let bound_scope = session.bound.as_ref().map_or(DaScope::Exempt, |b| b.scope);
        tpm.lockout.check(bound_scope)?;
        if this.has(A::AUDIT) {
            used.cp_hash = Some(request.cp_hash(session.hash));
        }
        // A session that authorizes nothing must have another use.
        if entity.is_none() && !this.attributes.intersects(A::AUDIT.with(A::DECRYPT).with(A::ENCRYPT)) {
            return Err(rc::ATTRIBUTES.session(number));
        }
    } else if entity.is_none() {
        // A password is for a handle.
        return Err(rc::HANDLE.session(number));
    }

    if let Some((handle, role)) = entity {
        check_entity(tpm, request, session, handle, role).map_err(|e| e.session(number))?;
    }
    note_use(tpm, this.handle, entity.map(|(handle, _)| handle));
    let session = tpm.sessions.get(this.handle);
    let right = match session {
        Some(session) if session.policy.need != AuthNeed::Password || entity.is_none() => {
            used.keyed_with_auth = entity.is_some_and(|(handle, _)| includes_auth(tpm, session, handle));
            let key = hmac_key(session, &used);
            (key.is_empty() && this.hmac.is_empty())
                || command_hmac(tpm, request, sent, index, session, &key).as_bytes().ct_eq(this.hmac).into()
        }
        // The authValue itself, in a password session or by PolicyPassword.
        _ => {
            used.password = true;
            same_auth(&used.auth, this.hmac)
        }
    };
    if let Some((handle, _)) = entity.filter(|_| used.password || used.keyed_with_auth) {
        tpm.nv_count_pin(handle, right);
    }
    if right { Ok(used) } else { Err(wrong(tpm, this.handle, entity).session(number)) }
}

/// A DA-protected authValue is about to be compared: should the power go before TPM2_Shutdown, the TPM has to know
/// (Part 1, 19.8.6). It is stored before the response leaves, so there is no TPM_RC_RETRY.
fn note_use(tpm: &mut Tpm, session: Handle, entity: Option<Handle>) {
    let session = tpm.sessions.get(session);
    let by_value = session.is_none_or(|s| s.kind != SessionKind::Policy || s.policy.need != AuthNeed::Nothing);
    let own = by_value && entity.is_some_and(|handle| tpm.da_scope(handle) == DaScope::Objects);
    let bound = session.and_then(|s| s.bound.as_ref()).is_some_and(|b| b.scope == DaScope::Objects);
    if (own || bound) && tpm.lockout.mark_used() {
        tpm.forget_shutdown();
        tpm.permanent_changed();
    }
}

/// An authorization was wrong: counts it where that is due.
fn wrong(tpm: &mut Tpm, session: Handle, entity: Option<(Handle, Role)>) -> Rc {
    let bound = tpm.sessions.get(session).and_then(|s| s.bound.as_ref()).map_or(DaScope::Exempt, |b| b.scope);
    let own = entity.map_or(DaScope::Exempt, |(handle, _)| tpm.da_scope(handle));
    let scope = if own == DaScope::Exempt { bound } else { own };
    if scope != DaScope::Exempt {
        tpm.permanent_changed();
    }
    tpm.lockout.fail(scope)
}

/// Whether an entity can be authorized in this way at all, before any secret is compared.
fn check_entity(
    tpm: &Tpm,
    request: &Request<'_>,
    session: Option<&Session>,
    handle: Handle,
    role: Role,
) -> Result<(), Rc> {
    let policy = session.filter(|s| s.kind == SessionKind::Policy);
    if policy.is_none_or(|s| s.policy.need != AuthNeed::Nothing) {
        tpm.lockout.check(tpm.da_scope(handle))?;
    }
    let Some(session) = policy else {
        if tpm.policy_is_required(handle, role) {
            return Err(rc::AUTH_TYPE);
        }
        let available = tpm.auth_value_is_available(handle, role, request.command.code);
        return if available { Ok(()) } else { Err(rc::AUTH_UNAVAILABLE) };
    };
    let (alg, wanted) = tpm.entity_policy(handle, role, request.command.code).ok_or(rc::AUTH_UNAVAILABLE)?;
    let policy = &session.policy;
    // PolicySecret is about knowing the authValue (Part 3, 23.4.1).
    if request.command.code == cc::POLICY_SECRET && policy.need == AuthNeed::Nothing {
        return Err(rc::MODE);
    }
    if policy.pcr_counter.is_some_and(|counter| counter != tpm.pcrs.update_counter()) {
        return Err(rc::PCR_CHANGED);
    }
    if alg != Some(session.hash) || wanted.as_bytes() != policy.digest.as_bytes() {
        return Err(rc::POLICY_FAIL);
    }
    if policy.expires_ms.is_some_and(|at| at < tpm.time.time_ms()) {
        return Err(rc::EXPIRED);
    }
    match policy.command {
        Some(code) if code != request.command.code => return Err(rc::POLICY_CC),
        // The ADMIN and DUP roles are for one command, which the policy has to name.
        None if role != Role::User => return Err(rc::POLICY_FAIL),
        _ => {}
    }
    if policy.locality.is_some_and(|allowed| !allows(allowed, request.locality)) {
        return Err(rc::LOCALITY);
    }
    if policy.presence && !tpm.presence.asserted {
        return Err(rc::PP);
    }
    let alg_of = session.hash;
    let fits = match &policy.fixed {
        Fixed::Nothing => true,
        Fixed::CpHash(want) => request.cp_hash(alg_of).as_bytes() == want.as_bytes(),
        Fixed::NameHash(want) => request.name_hash(alg_of).as_bytes() == want.as_bytes(),
        Fixed::Template(want) => request.template_hash(alg_of).is_some_and(|h| h.as_bytes() == want.as_bytes()),
    };
    // Anything but an NV Index is neither written nor unwritten (Part 3, 23.20).
    let written = || tpm.nv.get(handle).map(|i| i.has(NvAttributes::WRITTEN));
    if !fits || (policy.nv_written.is_some() && policy.nv_written != written()) {
        return Err(rc::POLICY_FAIL);
    }
    Ok(())
}

/// Whether a locality is among those of a TPMA_LOCALITY (Part 2, 8.5).
pub(super) fn allows(allowed: Locality, locality: u8) -> bool {
    match Locality::of(locality) {
        Some(this) if locality < 5 && allowed.bits() < 32 => allowed.contains(this),
        Some(this) => allowed == this,
        None => false,
    }
}

/// Whether the authValue of what a session authorizes is part of its HMAC key: not when the session is bound to
/// just that, and only by PolicyAuthValue for a policy (Part 1, 19.6.5).
pub(super) fn includes_auth(tpm: &Tpm, session: &Session, entity: Handle) -> bool {
    match session.kind {
        SessionKind::Hmac => {
            let auth = tpm.entity_auth(entity).unwrap_or_default();
            !session
                .bound
                .as_ref()
                .is_some_and(|b| b.name == tpm.entity_name(entity) && same_auth(b.auth.as_bytes(), auth))
        }
        SessionKind::Policy => session.policy.need == AuthNeed::Hmac,
        SessionKind::Trial => false,
    }
}

/// sessionKey ‖ authValue (Part 1, 19.6.5).
pub(super) fn hmac_key(session: &Session, used: &Used) -> Zeroizing<Vec<u8>> {
    let auth: &[u8] = if used.keyed_with_auth { &used.auth } else { &[] };
    Zeroizing::new([&session.key[..], auth].concat())
}

/// The HMAC of a command (Part 1, 19.6.5). The first session that authorizes also vouches for the nonces of the
/// sessions that encrypt, if those are others (19.6.3.5).
fn command_hmac(
    tpm: &Tpm,
    request: &Request<'_>,
    sent: &[Sent<'_>],
    index: usize,
    session: &Session,
    key: &[u8],
) -> Ha {
    let using = |attribute| sent.iter().position(|s| s.has(attribute)).filter(|at| *at != index);
    let nonce = |at: Option<usize>| {
        let other = at.and_then(|at| sent.get(at)).and_then(|s| tpm.sessions.get(s.handle));
        other.map_or(Nonce::EMPTY, |s| s.nonce_tpm)
    };
    let authorizes = request.command.handles.iter().any(|h| h.auth.role().is_some());
    let (mut for_decrypt, mut for_encrypt) = (Nonce::EMPTY, Nonce::EMPTY);
    if index == 0 && authorizes {
        let decrypts = using(SessionAttributes::DECRYPT);
        for_decrypt = nonce(decrypts);
        for_encrypt = nonce(using(SessionAttributes::ENCRYPT).filter(|at| Some(*at) != decrypts));
    }
    let (caller, attributes) = sent.get(index).map_or((Nonce::EMPTY, 0), |s| (s.nonce, s.attributes.bits()));
    let cp_hash = request.cp_hash(session.hash);
    hmac(
        session.hash,
        key,
        &[cp_hash.as_bytes(), &caller, &session.nonce_tpm, &for_decrypt, &for_encrypt, &[attributes]],
    )
}

/// Decrypts the first parameter, if a session says that it is encrypted (Part 1, 21).
fn decrypt(tpm: &Tpm, used: &[Used], params: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Rc> {
    let mut found = used.iter().enumerate().filter(|(_, u)| u.attributes.contains(SessionAttributes::DECRYPT));
    let Some((index, used)) = found.next() else {
        return Ok(None);
    };
    let Some(session) = tpm.sessions.get(used.handle) else {
        return Ok(None);
    };
    let mut params = Zeroizing::new(params.to_vec());
    parameter::crypt(session, &used.auth, &used.nonce_caller, &session.nonce_tpm, &mut params, Direction::Decrypt)
        .map_err(|e| e.session(index + 1))?;
    Ok(Some(params))
}

/// Whether a command without sessions would need one.
pub(super) fn check_none(command: &Command) -> Result<(), Rc> {
    if command.handles.iter().any(|h| h.auth.role().is_some()) { Err(rc::AUTH_MISSING) } else { Ok(()) }
}
