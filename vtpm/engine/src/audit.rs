//! The audit of commands (Part 1, 31.2; Part 3, 21). The audit of sessions is in [`super::reply`].

use alloc::collections::BTreeSet;

use bulla_tpm_types::hash::Hasher;
use bulla_tpm_types::{Digest, Error, Ha, HashAlg, Reader, Writer, cc, hash};

use super::secret::INTEGRITY_HASH;
use super::state::flag;
use super::table;

/// Which commands are audited, and what was.
pub(super) struct CommandAudit {
    alg: HashAlg,
    /// The audited commands but TPM2_SetCommandCodeAuditStatus, which always is one.
    commands: BTreeSet<u32>,
    /// How often a new digest was begun since TPM2_Clear.
    counter: u64,
    /// The digest of what was audited; `None` before the first command, and after the digest was attested.
    digest: Option<Ha>,
}

impl Default for CommandAudit {
    fn default() -> Self {
        Self { alg: INTEGRITY_HASH, commands: BTreeSet::new(), counter: 0, digest: None }
    }
}

impl CommandAudit {
    /// auditAlg.
    pub(super) fn alg(&self) -> HashAlg {
        self.alg
    }

    /// auditCounter.
    pub(super) fn counter(&self) -> u64 {
        self.counter
    }

    /// commandAuditDigest; empty when nothing was audited.
    pub(super) fn digest(&self) -> Digest {
        self.digest.map_or(Digest::EMPTY, |ha| ha.digest())
    }

    /// The audited commands, in ascending order.
    pub(super) fn commands(&self) -> impl Iterator<Item = u32> + '_ {
        table::COMMANDS.iter().map(|c| c.code).filter(|c| self.includes(*c))
    }

    /// Whether a command is audited.
    pub(super) fn includes(&self, code: u32) -> bool {
        code == cc::SET_COMMAND_CODE_AUDIT_STATUS || self.commands.contains(&code)
    }

    /// The digest of the audited commands' codes (Part 2, 10.12.9).
    pub(super) fn command_digest(&self) -> Digest {
        let mut h = Hasher::new(self.alg);
        self.commands().for_each(|c| h.update(&c.to_be_bytes()));
        h.finish().digest()
    }

    /// Chooses another algorithm: the digest so far is void.
    pub(super) fn set_alg(&mut self, alg: HashAlg) {
        self.alg = alg;
        self.digest = None;
    }

    /// Audits a command from now on. Commands that do not exist are ignored, and so is TPM2_Shutdown: its audit would come
    /// after the digest was saved (Part 3, 21.2).
    pub(super) fn insert(&mut self, code: u32) {
        if table::find(code).is_some() && !matches!(code, cc::SHUTDOWN | cc::SET_COMMAND_CODE_AUDIT_STATUS) {
            self.commands.insert(code);
        }
    }

    /// No longer audits a command.
    pub(super) fn remove(&mut self, code: u32) {
        self.commands.remove(&code);
    }

    /// Adds a command to the digest. Answers whether it is the first one, so that the counter has changed.
    pub(super) fn extend(&mut self, cp_hash: &Ha, rp_hash: &Ha) -> bool {
        let first = self.digest.is_none();
        if first {
            self.counter = self.counter.saturating_add(1);
        }
        let before = self.digest.unwrap_or(Ha::zero(self.alg));
        self.digest = Some(hash::digest(self.alg, &[before.as_bytes(), cp_hash.as_bytes(), rp_hash.as_bytes()]));
        first
    }

    /// The digest was attested, or a TPM Reset came: the next command begins another one.
    pub(super) fn forget_digest(&mut self) {
        self.digest = None;
    }

    /// TPM2_Clear (Part 3, 24.6): the counter starts anew.
    pub(super) fn clear(&mut self) {
        self.counter = 0;
    }

    /// The digest for [`CommandAudit::resume`]: TPM2_Shutdown(STATE) saves it, and so does whoever suspends a machine.
    pub(super) fn saved_digest(&self) -> Option<Ha> {
        self.digest
    }

    /// Goes on with a saved digest: after a TPM Resume or Restart (Part 1, 31.2).
    pub(super) fn resume(&mut self, digest: Option<Ha>) {
        self.digest = digest.filter(|d| d.alg() == self.alg);
    }

    /// Writes what survives a loss of power, for [`CommandAudit::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.put(&self.alg);
        w.u64(self.counter);
        save_codes(w, &self.commands);
    }

    /// Reads what [`CommandAudit::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        let alg = r.get()?;
        let counter = r.u64("auditCounter")?;
        let commands = restore_codes(r)?;
        Ok(Self { alg, commands, counter, digest: None })
    }
}

/// Writes a set of command codes.
pub(super) fn save_codes(w: &mut Writer, codes: &BTreeSet<u32>) {
    w.u16(codes.len() as u16);
    codes.iter().for_each(|c| w.u32(*c));
}

/// Reads what [`save_codes`] has written. A command that a newer release had is kept: it costs nothing.
pub(super) fn restore_codes(r: &mut Reader<'_>) -> Result<BTreeSet<u32>, Error> {
    let count = r.u16("number of commands")?;
    (0..count).map(|_| r.u32("command code")).collect()
}

/// Writes a saved digest.
pub(super) fn save_digest(w: &mut Writer, digest: Option<Ha>) {
    w.u8(u8::from(digest.is_some()));
    if let Some(digest) = &digest {
        w.put(digest);
    }
}

/// Reads what [`save_digest`] has written.
pub(super) fn restore_digest(r: &mut Reader<'_>) -> Result<Option<Ha>, Error> {
    if flag(r, "whether there is an audit digest")? { r.get().map(Some) } else { Ok(None) }
}
