//! Sessions: HMAC, policy and trial (Part 1, 17.2, 19 and 30.5).

use alloc::boxed::Box;

use bulla_tpm_types::{
    Digest, Error, ErrorKind, Ha, Handle, HashAlg, Locality, Marshal, Name, Nonce, Rc, Reader, SessionSymmetric,
    Unmarshal, Writer, ht, rc,
};

use super::secret::{AuthValue, Secret};

/// TPM_PT_HR_LOADED_MIN: how many sessions can be loaded.
pub(super) const LOADED: usize = 8;
/// TPM_PT_ACTIVE_SESSIONS_MAX: how many sessions can exist, loaded or saved.
pub(super) const ACTIVE: usize = 64;
/// TPM_PT_CONTEXT_GAP_MAX: how far the oldest saved session may lie behind the newest.
pub(super) const CONTEXT_GAP: u64 = 0xffff;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionKind {
    /// TPM_SE_HMAC.
    Hmac,
    /// TPM_SE_POLICY.
    Policy,
    /// TPM_SE_TRIAL: computes a policy's digest and authorizes nothing.
    Trial,
}

impl SessionKind {
    /// The session type of a number (Part 2, 6.11).
    pub(super) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Hmac),
            1 => Some(Self::Policy),
            3 => Some(Self::Trial),
            _ => None,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Hmac => 0,
            Self::Policy => 1,
            Self::Trial => 3,
        }
    }

    fn handle_type(self) -> u8 {
        match self {
            Self::Hmac => ht::HMAC_SESSION,
            Self::Policy | Self::Trial => ht::POLICY_SESSION,
        }
    }
}

/// Whose lockout an entity is subject to (Part 1, 19.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DaScope {
    /// Nobody's.
    Exempt,
    /// That of DA-protected objects.
    Objects,
    /// That of lockoutAuth.
    Lockout,
}

/// The entity that a session is bound to, as it was when the session began (Part 1, 19.6.9).
pub(super) struct Bound {
    pub(super) name: Name,
    pub(super) auth: AuthValue,
    pub(super) scope: DaScope,
}

/// Which value a policy asks for beside its digest (Part 3, 23.17 and 23.18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AuthNeed {
    /// None.
    #[default]
    Nothing,
    /// The authValue is part of the session's HMAC key: PolicyAuthValue.
    Hmac,
    /// The authValue is in the HMAC's place: PolicyPassword.
    Password,
}

/// What else of the command a policy has fixed: the three share one field (Part 3, 23.13, 23.14 and 23.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fixed {
    /// Nothing.
    #[default]
    Nothing,
    /// The command's cpHash.
    CpHash(Digest),
    /// The Names of its handles.
    NameHash(Digest),
    /// The template of the object that it creates.
    Template(Digest),
}

/// The state of a policy (Part 1, 19.7.4).
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// policyDigest.
    pub(super) digest: Ha,
    /// The only command that may be authorized.
    pub(super) command: Option<u32>,
    /// What else is fixed.
    pub(super) fixed: Fixed,
    /// Which value is needed.
    pub(super) need: AuthNeed,
    /// The localities that the command may come from.
    pub(super) locality: Option<Locality>,
    /// pcrUpdateCounter when PCR were checked.
    pub(super) pcr_counter: Option<u32>,
    /// The TPM's Time in milliseconds, and its epoch, at which the session expires.
    pub(super) expires_ms: Option<u64>,
    /// What the NV Index's WRITTEN has to be.
    pub(super) nv_written: Option<bool>,
    /// Whether physical presence is needed.
    pub(super) presence: bool,
}

impl Policy {
    fn new(alg: HashAlg) -> Self {
        Self {
            digest: Ha::zero(alg),
            command: None,
            fixed: Fixed::Nothing,
            need: AuthNeed::Nothing,
            locality: None,
            pcr_counter: None,
            expires_ms: None,
            nv_written: None,
            presence: false,
        }
    }

    fn save(&self, w: &mut Writer) {
        fn optional<T>(w: &mut Writer, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
            w.u8(u8::from(value.is_some()));
            if let Some(value) = value {
                write(w, value);
            }
        }
        w.put(&self.digest);
        optional(w, self.command, Writer::u32);
        let (tag, digest) = match &self.fixed {
            Fixed::Nothing => (0, &Digest::EMPTY),
            Fixed::CpHash(d) => (1, d),
            Fixed::NameHash(d) => (2, d),
            Fixed::Template(d) => (3, d),
        };
        w.u8(tag);
        w.put(digest);
        w.u8(match self.need {
            AuthNeed::Nothing => 0,
            AuthNeed::Hmac => 1,
            AuthNeed::Password => 2,
        });
        optional(w, self.locality, |w, l| w.put(&l));
        optional(w, self.pcr_counter, Writer::u32);
        optional(w, self.expires_ms, Writer::u64);
        optional(w, self.nv_written, |w, b| w.u8(u8::from(b)));
        w.u8(u8::from(self.presence));
    }

    fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        fn optional<'a, T>(
            r: &mut Reader<'a>,
            read: impl FnOnce(&mut Reader<'a>) -> Result<T, Error>,
        ) -> Result<Option<T>, Error> {
            if r.u8("policy")? == 0 { Ok(None) } else { read(r).map(Some) }
        }
        let bad = |r: &Reader<'_>| r.error(ErrorKind::Value, "policy");
        Ok(Self {
            digest: r.get()?,
            command: optional(r, |r| r.u32("policy"))?,
            fixed: match (r.u8("policy")?, r.get()?) {
                (0, _) => Fixed::Nothing,
                (1, d) => Fixed::CpHash(d),
                (2, d) => Fixed::NameHash(d),
                (3, d) => Fixed::Template(d),
                _ => return Err(bad(r)),
            },
            need: match r.u8("policy")? {
                0 => AuthNeed::Nothing,
                1 => AuthNeed::Hmac,
                2 => AuthNeed::Password,
                _ => return Err(bad(r)),
            },
            locality: optional(r, |r| r.get())?,
            pcr_counter: optional(r, |r| r.u32("policy"))?,
            expires_ms: optional(r, |r| r.u64("policy"))?,
            nv_written: optional(r, |r| Ok(r.u8("policy")? != 0))?,
            presence: r.u8("policy")? != 0,
        })
    }
}

/// A session.
pub(super) struct Session {
    /// What it is for.
    pub(super) kind: SessionKind,
    /// Its hash algorithm.
    pub(super) hash: HashAlg,
    /// How it encrypts parameters.
    pub(super) symmetric: SessionSymmetric,
    /// The TPM's latest nonce.
    pub(super) nonce_tpm: Nonce,
    /// sessionKey; empty if the session is neither salted nor bound.
    pub(super) key: Secret,
    /// What it is bound to.
    pub(super) bound: Option<Bound>,
    /// The audit digest, once the session has been used for audit.
    pub(super) audit: Option<Ha>,
    /// The TPM's Time when the session began.
    pub(super) started_ms: u64,
    /// The policy, for the other two kinds.
    pub(super) policy: Policy,
}

impl Session {
    /// A new session, with an empty key and nonce.
    pub(super) fn new(kind: SessionKind, hash: HashAlg, symmetric: SessionSymmetric) -> Self {
        Self {
            kind,
            hash,
            symmetric,
            nonce_tpm: Nonce::EMPTY,
            key: Secret::default(),
            bound: None,
            audit: None,
            started_ms: 0,
            policy: Policy::new(hash),
        }
    }

    /// Forgets the policy (TPM2_PolicyRestart, and after each authorization).
    pub(super) fn restart_policy(&mut self) {
        self.policy = Policy::new(self.hash);
    }

    /// Writes the session for [`Session::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.u8(self.kind.number());
        w.put(&self.hash);
        w.put(&self.symmetric);
        w.put(&self.nonce_tpm);
        w.tpm2b(&self.key);
        w.u64(self.started_ms);
        w.u8(match self.bound.as_ref().map(|b| b.scope) {
            None => 0,
            Some(DaScope::Exempt) => 1,
            Some(DaScope::Objects) => 2,
            Some(DaScope::Lockout) => 3,
        });
        if let Some(bound) = &self.bound {
            w.put(&bound.name);
            w.tpm2b(bound.auth.as_bytes());
        }
        w.u8(u8::from(self.audit.is_some()));
        if let Some(audit) = &self.audit {
            w.put(audit);
        }
        self.policy.save(w);
    }

    /// Reads what [`Session::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        const MAX: usize = 64;
        let bad = |r: &Reader<'_>| r.error(ErrorKind::Value, "session");
        let kind = SessionKind::from_number(r.u8("session")?).ok_or_else(|| bad(r))?;
        let mut session = Self::new(kind, HashAlg::unmarshal(r)?, r.get()?);
        session.nonce_tpm = r.get()?;
        session.key = Secret::new(r.tpm2b(MAX, "session")?.into());
        session.started_ms = r.u64("session")?;
        let scope = match r.u8("session")? {
            0 => None,
            1 => Some(DaScope::Exempt),
            2 => Some(DaScope::Objects),
            3 => Some(DaScope::Lockout),
            _ => return Err(bad(r)),
        };
        if let Some(scope) = scope {
            session.bound = Some(Bound { name: r.get()?, auth: AuthValue::new(r.tpm2b(MAX, "session")?), scope });
        }
        if r.u8("session")? != 0 {
            session.audit = Some(r.get()?);
        }
        session.policy = Policy::restore(r)?;
        Ok(session)
    }
}

/// A place for an active session.
#[derive(Default)]
enum Slot {
    #[default]
    Free,
    Loaded(Box<Session>),
    /// The context is outside, as number `sequence`.
    Saved {
        sequence: u64,
    },
}

/// The active sessions. A place's number is the session handle's offset, for HMAC and policy sessions alike.
pub(super) struct Sessions {
    slots: [Slot; ACTIVE],
    /// The number of the next saved context of a session.
    next: u64,
    /// The session that is an exclusive audit session (Part 1, 31.4).
    pub(super) exclusive_audit: Option<Handle>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { slots: core::array::from_fn(|_| Slot::Free), next: 1, exclusive_audit: None }
    }
}

impl Sessions {
    /// Whether another session can begin.
    pub(super) fn has_room(&self) -> Result<(), Rc> {
        self.check_loaded_room()?;
        self.check_gap()?;
        if self.slots.iter().any(|s| matches!(s, Slot::Free)) { Ok(()) } else { Err(rc::SESSION_HANDLES) }
    }

    /// Adds a session.
    pub(super) fn insert(&mut self, session: Session) -> Result<Handle, Rc> {
        self.has_room()?;
        let kind = session.kind;
        let free = (0u32..).zip(&mut self.slots).find(|(_, s)| matches!(s, Slot::Free));
        let (n, slot) = free.ok_or(rc::SESSION_HANDLES)?;
        *slot = Slot::Loaded(Box::new(session));
        Ok(handle(kind.handle_type(), n))
    }

    /// The loaded session of a handle.
    pub(super) fn get(&self, handle: Handle) -> Option<&Session> {
        match self.slots.get(index(handle)?)? {
            Slot::Loaded(s) if s.kind.handle_type() == handle.handle_type() => Some(s),
            _ => None,
        }
    }

    /// Whether a session is loaded in the place of a handle, of whichever type.
    pub(super) fn is_loaded(&self, handle: Handle) -> bool {
        index(handle).and_then(|n| self.slots.get(n)).is_some_and(|s| matches!(s, Slot::Loaded(_)))
    }

    /// The loaded session of a handle, to be changed.
    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Session> {
        match self.slots.get_mut(index(handle)?)? {
            Slot::Loaded(s) if s.kind.handle_type() == handle.handle_type() => Some(s),
            _ => None,
        }
    }

    /// Ends a session, loaded or saved; false when there is none. The type of a saved session is not looked at.
    pub(super) fn flush(&mut self, handle: Handle) -> bool {
        let loaded = self.get(handle).is_some();
        let Some(slot) = index(handle).and_then(|n| self.slots.get_mut(n)) else {
            return false;
        };
        if !loaded && !matches!(slot, Slot::Saved { .. }) {
            return false;
        }
        *slot = Slot::Free;
        if self.exclusive_audit == Some(handle) {
            self.exclusive_audit = None;
        }
        true
    }

    /// Numbers the next saved context; TPM_RC_CONTEXT_GAP when the oldest one lies too far behind.
    pub(super) fn next_sequence(&self) -> Result<u64, Rc> {
        self.check_gap()?;
        Ok(self.next)
    }

    /// A session's context is outside now, with the number of [`Sessions::next_sequence`].
    pub(super) fn saved(&mut self, handle: Handle) {
        if let Some(slot) = index(handle).and_then(|n| self.slots.get_mut(n)) {
            *slot = Slot::Saved { sequence: self.next };
            self.next += 1;
        }
    }

    /// Whether a context with this number can come back to this handle: TPM_RC_HANDLE when the session is not
    /// saved or was saved again since.
    pub(super) fn check_return(&self, handle: Handle, number: u64) -> Result<(), Rc> {
        let slot = index(handle).and_then(|n| self.slots.get(n));
        if !matches!(slot, Some(Slot::Saved { sequence }) if *sequence == number) {
            return Err(rc::HANDLE);
        }
        self.check_loaded_room()
    }

    /// A saved session comes back.
    pub(super) fn returned(&mut self, handle: Handle, session: Session) {
        if let Some(slot) = index(handle).and_then(|n| self.slots.get_mut(n)) {
            *slot = Slot::Loaded(Box::new(session));
        }
    }

    /// The handles of loaded sessions, in the order of their places.
    pub(super) fn loaded(&self) -> impl Iterator<Item = Handle> + '_ {
        (0u32..).zip(&self.slots).filter_map(|(n, slot)| match slot {
            Slot::Loaded(s) => Some(handle(s.kind.handle_type(), n)),
            _ => None,
        })
    }

    /// The handles of saved sessions, in the order of their places, all as those of HMAC sessions.
    pub(super) fn saved_handles(&self) -> impl Iterator<Item = Handle> + '_ {
        let saved = (0u32..).zip(&self.slots).filter(|(_, slot)| matches!(slot, Slot::Saved { .. }));
        saved.map(|(n, _)| handle(ht::HMAC_SESSION, n))
    }

    /// What a loss of power leaves after TPM2_Shutdown(STATE): which sessions are saved (Part 1, 30.5).
    pub(super) fn outside(&self) -> Self {
        let slots = core::array::from_fn(|n| match self.slots.get(n) {
            Some(Slot::Saved { sequence }) => Slot::Saved { sequence: *sequence },
            _ => Slot::Free,
        });
        Self { slots, next: self.next, exclusive_audit: None }
    }

    /// Writes all sessions, loaded and saved, for [`Sessions::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.u64(self.next);
        w.put(&self.exclusive_audit.unwrap_or_default());
        let taken = || (0u8..).zip(&self.slots).filter(|(_, slot)| !matches!(slot, Slot::Free));
        w.u8(taken().count() as u8);
        for (n, slot) in taken() {
            w.u8(n);
            match slot {
                Slot::Free => {}
                Slot::Saved { sequence } => {
                    w.u8(0);
                    w.u64(*sequence);
                }
                Slot::Loaded(session) => {
                    w.u8(1);
                    session.save(w);
                }
            }
        }
    }

    /// Reads what [`Sessions::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        let mut sessions = Self { next: r.u64("number of saved sessions")?, ..Self::default() };
        sessions.exclusive_audit = Some(r.get()?).filter(|h| *h != Handle::default());
        for _ in 0..r.u8("number of sessions")? {
            let at = r.clone();
            let bad = || at.error(ErrorKind::Value, "session");
            let slot = sessions.slots.get_mut(usize::from(r.u8("place of a session")?)).ok_or_else(bad)?;
            *slot = match (&*slot, r.u8("session")?) {
                (Slot::Free, 0) => Slot::Saved { sequence: r.u64("number of a saved session")? },
                (Slot::Free, 1) => Slot::Loaded(Box::new(Session::restore(r)?)),
                _ => return Err(bad()),
            };
            if matches!(slot, Slot::Saved { sequence } if *sequence >= sessions.next) {
                return Err(bad());
            }
        }
        let bad = || r.error(ErrorKind::Size, "number of sessions");
        if sessions.loaded().count() > LOADED { Err(bad()) } else { Ok(sessions) }
    }

    /// The first handle of each session whose place is at least that of `from`.
    pub(super) fn from(from: u32) -> impl Fn(&Handle) -> bool {
        move |h| h.0 & 0x00ff_ffff >= from & 0x00ff_ffff
    }

    fn check_loaded_room(&self) -> Result<(), Rc> {
        if self.loaded().count() < LOADED { Ok(()) } else { Err(rc::SESSION_MEMORY) }
    }

    fn check_gap(&self) -> Result<(), Rc> {
        let oldest = self.slots.iter().filter_map(|slot| match slot {
            Slot::Saved { sequence } => Some(*sequence),
            _ => None,
        });
        match oldest.min() {
            Some(oldest) if self.next - oldest >= CONTEXT_GAP => Err(rc::CONTEXT_GAP),
            _ => Ok(()),
        }
    }
}

const fn handle(kind: u8, n: u32) -> Handle {
    Handle(((kind as u32) << 24) | n)
}

fn index(handle: Handle) -> Option<usize> {
    if !matches!(handle.handle_type(), ht::HMAC_SESSION | ht::POLICY_SESSION) {
        return None;
    }
    usize::try_from(handle.0 & 0x00ff_ffff).ok()
}

/// A handle's octets, as a Name.
pub(super) fn handle_name(handle: Handle) -> Name {
    Name::new(&handle.to_vec()).unwrap_or_default()
}
