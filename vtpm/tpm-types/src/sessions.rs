//! The authorization area, the sensitive part of a creation template, and tickets (Part 2, 10.13, 11.1.16, 10.7).

use crate::attributes::SessionAttributes;
use crate::buffers::{Auth, Digest, MAX_DIGEST, Nonce};
use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::{Handle, rh, st};
use crate::error::{Error, ErrorKind};

/// TPMS_AUTH_COMMAND: one session of a command (Part 2, 10.13.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthCommand {
    /// The session, or TPM_RS_PW.
    pub handle: Handle,
    /// The caller's nonce; empty for a password.
    pub nonce: Nonce,
    /// TPMA_SESSION.
    pub attributes: SessionAttributes,
    /// The HMAC, or the password.
    pub hmac: Auth,
}

impl AuthCommand {
    /// A password authorization; `None` when the password is longer than 64 bytes.
    #[must_use]
    pub fn password(password: &[u8]) -> Option<Self> {
        Some(Self {
            handle: rh::PW,
            nonce: Nonce::EMPTY,
            attributes: SessionAttributes::CONTINUE_SESSION,
            hmac: Auth::new(password)?,
        })
    }
}

impl Marshal for AuthCommand {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.handle);
        w.put(&self.nonce);
        w.put(&self.attributes);
        w.put(&self.hmac);
    }
}

impl<'a> Unmarshal<'a> for AuthCommand {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { handle: r.get()?, nonce: r.get()?, attributes: r.get()?, hmac: r.get()? })
    }
}

/// TPMS_AUTH_RESPONSE: one session of a response (Part 2, 10.13.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthResponse {
    /// The TPM's nonce; empty for a password.
    pub nonce: Nonce,
    /// TPMA_SESSION.
    pub attributes: SessionAttributes,
    /// The HMAC; empty for a password.
    pub hmac: Auth,
}

impl Marshal for AuthResponse {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.nonce);
        w.put(&self.attributes);
        w.put(&self.hmac);
    }
}

impl<'a> Unmarshal<'a> for AuthResponse {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { nonce: r.get()?, attributes: r.get()?, hmac: r.get()? })
    }
}

/// The largest TPM2B_SENSITIVE_DATA.
const MAX_SYM_DATA: usize = 128;

/// TPMS_SENSITIVE_CREATE (Part 2, 11.1.16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SensitiveCreate<'a> {
    /// The authValue of the object to create; borrowed, so that no copy of it stays behind.
    pub user_auth: &'a [u8],
    /// Data to seal, or a key to import; empty for a key that the TPM generates.
    pub data: &'a [u8],
}

impl Marshal for SensitiveCreate<'_> {
    fn marshal(&self, w: &mut Writer) {
        w.tpm2b(self.user_auth);
        w.tpm2b(self.data);
    }
}

impl<'a> Unmarshal<'a> for SensitiveCreate<'a> {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { user_auth: r.tpm2b(MAX_DIGEST, "TPM2B_AUTH")?, data: r.tpm2b(MAX_SYM_DATA, "TPM2B_SENSITIVE_DATA")? })
    }
}

/// TPMT_TK_CREATION and TPMT_TK_HASHCHECK: a ticket (Part 2, 10.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TkCreation {
    /// TPM_ST_CREATION or TPM_ST_HASHCHECK.
    pub tag: u16,
    /// The hierarchy whose proof made the ticket; TPM_RH_NULL for a null ticket.
    pub hierarchy: Handle,
    /// The HMAC by the proof; empty for a null ticket.
    pub digest: Digest,
}

impl Marshal for TkCreation {
    fn marshal(&self, w: &mut Writer) {
        w.u16(self.tag);
        w.put(&self.hierarchy);
        w.put(&self.digest);
    }
}

impl<'a> Unmarshal<'a> for TkCreation {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        let tag = r.u16("TPMT_TK tag")?;
        if !matches!(tag, st::CREATION | st::HASHCHECK) {
            return Err(at.error(ErrorKind::Tag, "TPMT_TK tag"));
        }
        Ok(Self { tag, hierarchy: r.get()?, digest: r.get()? })
    }
}
