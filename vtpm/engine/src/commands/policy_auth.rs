//! Enhanced authorization (Part 3, 23) by what somebody knows or has signed: PolicySecret and PolicySigned, the
//! tickets that stand for them, and PolicyAuthorize.

use alloc::vec::Vec;

use bulla_tpm_types::{
    Digest, Error, ErrorKind, Ha, Handle, Name, Nonce, NvAttributes, NvKind, Rc, Reader, Writer, cc, hash, rc, rh, st,
};
use subtle::ConstantTimeEq;

use super::policy::{is_digest_or_empty, session};
use super::sign;
use crate::Tpm;
use crate::crypto::hmac;
use crate::dispatch::Call;
use crate::secret::INTEGRITY_HASH;
use crate::session::{Fixed, Session};

/// A TPM2B_TIMEOUT here: the TPM's Time in milliseconds.
const TIMEOUT: usize = 8;

/// What PolicySecret and PolicySigned have in common, as sent.
struct Terms {
    nonce_tpm: Nonce,
    cp_hash: Digest,
    policy_ref: Nonce,
    expiration: i32,
}

impl Session {
    /// Extends a policy by the Name of whoever approved and by what for (Part 3, 23.2.3 PolicyUpdate).
    fn approve(&mut self, code: u32, name: &[u8], policy_ref: &[u8]) {
        self.extend_policy(code, &[name]);
        self.policy.digest = hash::digest(self.hash, &[self.policy.digest.as_bytes(), policy_ref]);
    }

    /// The terms of an approval become the policy's (Part 3, 23.2.4 PolicyContextUpdate).
    fn limit(&mut self, cp_hash: &Digest, timeout: Option<u64>) {
        if !cp_hash.is_empty() {
            self.policy.fixed = Fixed::CpHash(*cp_hash);
        }
        // The earliest end counts.
        self.policy.expires_ms = match (self.policy.expires_ms, timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Checks the terms (Part 3, 23.2.2 PolicyParameterChecks), whose parameters are numbered as given; answers
    /// when the approval ends.
    fn check_terms(
        &self,
        terms: &Terms,
        now_ms: u64,
        (nonce, cp_hash, expiration): (usize, usize, usize),
    ) -> Result<Option<u64>, Rc> {
        if !terms.nonce_tpm.is_empty() && terms.nonce_tpm != self.nonce_tpm {
            return Err(rc::NONCE.parameter(nonce));
        }
        let mut timeout = None;
        if terms.expiration != 0 {
            // From the session's start if the approval is for this session only, from power-on otherwise.
            let start = if terms.nonce_tpm.is_empty() { 0 } else { self.started_ms };
            let end = start.saturating_add(u64::from(terms.expiration.unsigned_abs()) * 1000);
            if end < now_ms {
                return Err(rc::EXPIRED.parameter(expiration));
            }
            timeout = Some(end);
        }
        self.check_cp_hash(&terms.cp_hash, cp_hash)?;
        Ok(timeout)
    }

    fn check_cp_hash(&self, wanted: &Digest, number: usize) -> Result<(), Rc> {
        if !is_digest_or_empty(self.hash, wanted) {
            return Err(rc::SIZE.parameter(number));
        }
        let taken = self.policy.fixed != Fixed::Nothing && self.policy.fixed != Fixed::CpHash(*wanted);
        if !wanted.is_empty() && taken { Err(rc::CPHASH) } else { Ok(()) }
    }
}

/// TPMT_TK_AUTH and TPMT_TK_VERIFIED: a ticket with one of these tags (Part 2, 10.7).
pub(super) struct Ticket {
    pub(super) tag: u16,
    pub(super) hierarchy: Handle,
    pub(super) digest: Digest,
}

impl Ticket {
    /// A ticket that proves nothing.
    pub(super) fn null(tag: u16) -> Self {
        Self { tag, hierarchy: rh::NULL, digest: Digest::EMPTY }
    }

    /// Reads a ticket with one of these tags.
    pub(super) fn read(r: &mut Reader<'_>, tags: &[u16]) -> Result<Self, Error> {
        let at = r.clone();
        let tag = r.u16("TPMT_TK tag")?;
        if !tags.contains(&tag) {
            return Err(at.error(ErrorKind::Tag, "TPMT_TK tag"));
        }
        Ok(Self { tag, hierarchy: super::hierarchy(r)?, digest: r.get()? })
    }

    pub(super) fn put(&self, w: &mut Writer) {
        w.u16(self.tag);
        w.put(&self.hierarchy);
        w.put(&self.digest);
    }
}

impl Tpm {
    /// A ticket over `parts`, by the proof of a hierarchy (Part 1, 11.4.5.3; Part 2, 10.7).
    pub(super) fn ticket(&self, tag: u16, hierarchy: Handle, parts: &[&[u8]]) -> Ticket {
        let Some(h) = self.hierarchies.get(hierarchy) else {
            return Ticket::null(tag);
        };
        let tag_bytes = tag.to_be_bytes();
        let all: Vec<&[u8]> = [&tag_bytes[..]].into_iter().chain(parts.iter().copied()).collect();
        Ticket { tag, hierarchy, digest: hmac(INTEGRITY_HASH, &h.proof[..], &all).digest() }
    }

    /// Whether a ticket is one of this TPM's over `parts`.
    pub(super) fn ticket_is_valid(&self, ticket: &Ticket, parts: &[&[u8]]) -> bool {
        let want = self.ticket(ticket.tag, ticket.hierarchy, parts);
        !ticket.digest.is_empty() && bool::from(want.digest.as_bytes().ct_eq(ticket.digest.as_bytes()))
    }

    /// The ticket for an approval (Part 2, 10.7.5). `epoch` keeps it from outliving the power: its timeout is in
    /// the TPM's Time, which starts again then.
    fn auth_ticket(&self, tag: u16, hierarchy: Handle, timeout: u64, terms: (&[u8], &[u8], &[u8])) -> Ticket {
        let (cp_hash, policy_ref, name) = terms;
        self.ticket(tag, hierarchy, &[&timeout.to_be_bytes(), &self.power_epoch, cp_hash, policy_ref, name])
    }
}

fn expiration(r: &mut Reader<'_>) -> Result<i32, Error> {
    r.u32("expiration").map(u32::cast_signed)
}

/// Answers the timeout and the ticket of an approval: real ones when the caller asked with a negative expiration.
fn answer(
    tpm: &Tpm,
    call: &mut Call<'_, '_>,
    (tag, hierarchy): (u16, Handle),
    terms: &Terms,
    name: &Name,
    timeout: Option<u64>,
) {
    let out = call.out();
    match timeout.filter(|_| terms.expiration < 0) {
        Some(timeout) => {
            out.tpm2b(&timeout.to_be_bytes());
            tpm.auth_ticket(tag, hierarchy, timeout, (&terms.cp_hash, &terms.policy_ref, name)).put(out);
        }
        None => {
            out.tpm2b(&[]);
            Ticket::null(tag).put(out);
        }
    }
}

/// The hierarchy whose proof makes tickets for what an entity approves.
fn ticket_hierarchy(tpm: &Tpm, entity: Handle) -> Handle {
    if let Some(index) = tpm.nv.get(entity) {
        return if index.has(NvAttributes::PLATFORM_CREATE) { rh::PLATFORM } else { rh::OWNER };
    }
    match tpm.objects.get(entity) {
        Some(object) => object.key().map_or(rh::NULL, |k| k.hierarchy),
        None if tpm.hierarchies.get(entity).is_some() => entity,
        None => rh::OWNER,
    }
}

/// TPM2_PolicySecret (23.4). The authorization of the entity is its session's; what is left are the terms.
pub(crate) fn policy_secret(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let terms = call.params(|p| {
        Ok(Terms { nonce_tpm: p.get()?, cp_hash: p.get()?, policy_ref: p.get()?, expiration: p.with(expiration)? })
    })?;
    let entity = call.handle(1);
    let name = tpm.entity_name(entity);
    let now = tpm.time.time_ms();
    let session = session(tpm, call, 2)?;
    let timeout = if session.is_trial() { None } else { session.check_terms(&terms, now, (1, 2, 4))? };
    session.approve(cc::POLICY_SECRET, &name, &terms.policy_ref);
    session.limit(&terms.cp_hash, timeout);
    let hierarchy = ticket_hierarchy(tpm, entity);
    // A ticket would stand for uses of a PIN that were not counted (Part 3, 23.4.1).
    let is_pin = tpm.nv.get(entity).is_some_and(|i| i.kind() == NvKind::PinPass);
    answer(tpm, call, (st::AUTH_SECRET, hierarchy), &terms, &name, timeout.filter(|_| !is_pin));
    Ok(())
}

/// TPM2_PolicySigned (23.3).
pub(crate) fn policy_signed(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (terms, signature) = call.params(|p| {
        let terms =
            Terms { nonce_tpm: p.get()?, cp_hash: p.get()?, policy_ref: p.get()?, expiration: p.with(expiration)? };
        Ok((terms, p.with(sign::signature)?))
    })?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::SCHEME.parameter(5))?.clone();
    let now = tpm.time.time_ms();
    let alg = sign::hash_of(&signature).ok_or(rc::SCHEME.parameter(5))?;
    tpm.require(crate::selftest::TestSet::hash(alg) | crate::selftest::TestSet::ECDSA)?;
    let session = session(tpm, call, 2)?;
    let mut timeout = None;
    if !session.is_trial() {
        timeout = session.check_terms(&terms, now, (1, 2, 4))?;
        let expiration = terms.expiration.to_be_bytes();
        let signed = hash::digest(alg, &[&terms.nonce_tpm, &expiration, &terms.cp_hash, &terms.policy_ref]);
        sign::verify(&key, &signed, &signature).map_err(|e| e.parameter(5))?;
    }
    session.approve(cc::POLICY_SIGNED, &key.name, &terms.policy_ref);
    session.limit(&terms.cp_hash, timeout);
    answer(tpm, call, (st::AUTH_SIGNED, key.hierarchy), &terms, &key.name, timeout);
    Ok(())
}

/// TPM2_PolicyTicket (23.5).
pub(crate) fn policy_ticket(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (timeout, cp_hash, policy_ref, name, ticket) = call.params(|p| {
        Ok((
            p.tpm2b(TIMEOUT, "TPM2B_TIMEOUT")?,
            p.get::<Digest>()?,
            p.get::<Nonce>()?,
            p.get::<Name>()?,
            p.with(|r| Ticket::read(r, &[st::AUTH_SECRET, st::AUTH_SIGNED]))?,
        ))
    })?;
    let now = tpm.time.time_ms();
    let current = session(tpm, call, 1)?;
    // A ticket says what was proven to this TPM, and a trial session proves nothing.
    if current.is_trial() {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    let timeout: [u8; TIMEOUT] = timeout.try_into().map_err(|_| rc::SIZE.parameter(1))?;
    let end = u64::from_be_bytes(timeout);
    current.check_cp_hash(&cp_hash, 2)?;
    if end < now {
        return Err(rc::EXPIRED.parameter(1));
    }
    if !tpm.ticket_is_valid(&ticket, &[&timeout, &tpm.power_epoch, &cp_hash, &policy_ref, &name]) {
        return Err(rc::TICKET.parameter(5));
    }
    let code = if ticket.tag == st::AUTH_SECRET { cc::POLICY_SECRET } else { cc::POLICY_SIGNED };
    let session = session(tpm, call, 1)?;
    session.approve(code, &name, &policy_ref);
    session.limit(&cp_hash, Some(end));
    Ok(())
}

/// TPM2_PolicyAuthorize (23.16): a policy that somebody's key has approved takes the place of the one so far.
pub(crate) fn policy_authorize(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (approved, policy_ref, key_sign, ticket) = call.params(|p| {
        Ok((p.get::<Digest>()?, p.get::<Nonce>()?, p.get::<Name>()?, p.with(|r| Ticket::read(r, &[st::VERIFIED]))?))
    })?;
    let trial = session(tpm, call, 1)?.is_trial();
    if !trial {
        // The Name begins with the algorithm that the approval was hashed with.
        let alg = Reader::new(&key_sign).get::<bulla_tpm_types::HashAlg>().map_err(|_| rc::HASH.parameter(3))?;
        if key_sign.len() != 2 + alg.size() {
            return Err(rc::SIZE.parameter(3));
        }
        if session(tpm, call, 1)?.policy.digest.as_bytes() != approved.as_bytes() {
            return Err(rc::VALUE.parameter(1));
        }
        let a_hash = hash::digest(alg, &[&approved, &policy_ref]);
        if !tpm.ticket_is_valid(&ticket, &[a_hash.as_bytes(), &key_sign]) {
            return Err(rc::VALUE.parameter(4));
        }
    }
    let session = session(tpm, call, 1)?;
    session.policy.digest = Ha::zero(session.hash);
    session.approve(cc::POLICY_AUTHORIZE, &key_sign, &policy_ref);
    Ok(())
}
