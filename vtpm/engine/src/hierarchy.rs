//! Hierarchies: primary seeds, proofs and authorizations (Part 1, 14).

use bulla_tpm_types::{Error, Handle, Reader, Writer, rh};

use super::drbg::Drbg;
use super::secret::{AuthValue, SEED_SIZE, Seed, empty_seed};
use super::state::flag;

/// One hierarchy.
pub(super) struct Hierarchy {
    /// What primary objects derive from.
    pub(super) seed: Seed,
    /// What tickets and obfuscation are keyed with.
    pub(super) proof: Seed,
    /// Its authValue.
    pub(super) auth: AuthValue,
}

impl Hierarchy {
    fn empty() -> Self {
        Self { seed: empty_seed(), proof: empty_seed(), auth: AuthValue::default() }
    }

    fn save(&self, w: &mut Writer) {
        w.bytes(&self.seed[..]);
        w.bytes(&self.proof[..]);
        w.tpm2b(self.auth.as_bytes());
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        self.seed.copy_from_slice(r.take(SEED_SIZE, "primary seed")?);
        self.proof.copy_from_slice(r.take(SEED_SIZE, "proof")?);
        self.auth = AuthValue::new(r.tpm2b(SEED_SIZE, "authValue")?);
        Ok(())
    }

    fn regenerate(&mut self, random: &mut Drbg) {
        random.generate(&mut self.seed[..]);
        random.generate(&mut self.proof[..]);
    }
}

/// The four hierarchies.
pub(super) struct Hierarchies {
    platform: Hierarchy,
    owner: Hierarchy,
    endorsement: Hierarchy,
    null: Hierarchy,
    /// lockoutAuth.
    lockout: AuthValue,
    generated: bool,
}

impl Hierarchies {
    /// Hierarchies that have no seeds yet.
    pub(super) fn empty() -> Self {
        Self {
            platform: Hierarchy::empty(),
            owner: Hierarchy::empty(),
            endorsement: Hierarchy::empty(),
            null: Hierarchy::empty(),
            lockout: AuthValue::default(),
            generated: false,
        }
    }

    /// Hierarchies with fresh seeds and Empty Auths.
    ///
    /// The order in which the seeds are drawn is of no consequence: `random` is fresh entropy.
    pub(super) fn generate(random: &mut Drbg) -> Self {
        let mut h = Self::empty();
        for hierarchy in [&mut h.platform, &mut h.owner, &mut h.endorsement, &mut h.null] {
            hierarchy.regenerate(random);
        }
        h.generated = true;
        h
    }

    /// Writes them for [`Hierarchies::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.u8(u8::from(self.generated));
        for hierarchy in [&self.platform, &self.owner, &self.endorsement, &self.null] {
            hierarchy.save(w);
        }
        w.tpm2b(self.lockout.as_bytes());
    }

    /// Reads what [`Hierarchies::save`] has written.
    pub(super) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        self.generated = flag(r, "whether there are seeds")?;
        for hierarchy in [&mut self.platform, &mut self.owner, &mut self.endorsement, &mut self.null] {
            hierarchy.restore(r)?;
        }
        self.lockout = AuthValue::new(r.tpm2b(SEED_SIZE, "lockoutAuth")?);
        Ok(())
    }

    /// Whether the seeds exist.
    pub(super) fn are_generated(&self) -> bool {
        self.generated
    }

    /// TPM2_Clear: another primary seed and proof for the owner, another proof for the endorsement hierarchy, Empty
    /// Auths (Part 3, 24.6).
    pub(super) fn clear(&mut self, random: &mut Drbg) {
        self.owner.regenerate(random);
        random.generate(&mut self.endorsement.proof[..]);
        for auth in [&mut self.owner.auth, &mut self.endorsement.auth, &mut self.lockout] {
            *auth = AuthValue::default();
        }
    }

    /// TPM Reset: the NULL hierarchy starts anew, and platformAuth is the Empty Auth again (Part 3, 9.3).
    pub(super) fn reset(&mut self, random: &mut Drbg) {
        self.null.regenerate(random);
    }

    /// TPM Reset and Restart: platformAuth is the Empty Auth again (Part 3, 9.3).
    pub(super) fn clear_platform_auth(&mut self) {
        self.platform.auth = AuthValue::default();
    }

    /// The hierarchy with this handle.
    pub(super) fn get(&self, handle: Handle) -> Option<&Hierarchy> {
        match handle {
            rh::PLATFORM => Some(&self.platform),
            rh::OWNER => Some(&self.owner),
            rh::ENDORSEMENT => Some(&self.endorsement),
            rh::NULL => Some(&self.null),
            _ => None,
        }
    }

    /// The authValue of a hierarchy or of TPM_RH_LOCKOUT.
    pub(super) fn auth(&self, handle: Handle) -> Option<&AuthValue> {
        if handle == rh::LOCKOUT { Some(&self.lockout) } else { self.get(handle).map(|h| &h.auth) }
    }

    /// Sets the authValue of a hierarchy or of TPM_RH_LOCKOUT; false for any other handle.
    pub(super) fn set_auth(&mut self, handle: Handle, auth: AuthValue) -> bool {
        let place = match handle {
            rh::PLATFORM => &mut self.platform.auth,
            rh::OWNER => &mut self.owner.auth,
            rh::ENDORSEMENT => &mut self.endorsement.auth,
            rh::LOCKOUT => &mut self.lockout,
            _ => return false,
        };
        *place = auth;
        true
    }

    /// The owner's (storage) hierarchy, whose proof obfuscates attestations.
    pub(super) fn owner(&self) -> &Hierarchy {
        &self.owner
    }
}

/// Whether attestations by keys of this hierarchy show the counters and the firmware version as they are
/// (Part 1, 36.7; Part 3, 18.1).
pub(super) fn sees_plain_counters(hierarchy: Handle) -> bool {
    matches!(hierarchy, rh::PLATFORM | rh::ENDORSEMENT)
}
