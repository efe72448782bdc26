//! Hierarchies: primary seeds, proofs and authorizations (Part 1, 14).

use bulla_tpm_types::{Error, Handle, Reader, Writer, rh};

use super::auth_policy::AuthPolicy;
use super::drbg::Drbg;
use super::secret::{AuthValue, SEED_SIZE, Seed, empty_seed};
use super::state::flag;
use super::time::StartupKind;

/// One hierarchy.
pub(super) struct Hierarchy {
    /// What primary objects derive from.
    pub(super) seed: Seed,
    /// What tickets and obfuscation are keyed with.
    pub(super) proof: Seed,
    /// Its authValue.
    pub(super) auth: AuthValue,
    /// Its authPolicy.
    policy: AuthPolicy,
}

impl Hierarchy {
    fn empty() -> Self {
        Self { seed: empty_seed(), proof: empty_seed(), auth: AuthValue::default(), policy: AuthPolicy::default() }
    }

    fn save(&self, w: &mut Writer) {
        w.bytes(&self.seed[..]);
        w.bytes(&self.proof[..]);
        w.tpm2b(self.auth.as_bytes());
        w.put(&self.policy);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        self.seed.copy_from_slice(r.take(SEED_SIZE, "primary seed")?);
        self.proof.copy_from_slice(r.take(SEED_SIZE, "proof")?);
        self.auth = AuthValue::new(r.tpm2b(SEED_SIZE, "authValue")?);
        self.policy = AuthPolicy::restore(r)?;
        Ok(())
    }

    fn regenerate(&mut self, random: &mut Drbg) {
        random.generate(&mut self.seed[..]);
        random.generate(&mut self.proof[..]);
    }

    /// Empty Auth and Empty Policy.
    fn forget_authorization(&mut self) {
        self.auth = AuthValue::default();
        self.policy = AuthPolicy::default();
    }
}

/// Which hierarchies may be used (Part 1, 13.2).
#[derive(Clone, Copy)]
struct Enabled {
    /// phEnable.
    platform: bool,
    /// phEnableNV.
    platform_nv: bool,
    /// shEnable.
    owner: bool,
    /// ehEnable.
    endorsement: bool,
}

impl Enabled {
    const ALL: Self = Self { platform: true, platform_nv: true, owner: true, endorsement: true };

    fn of(&mut self, handle: Handle) -> Option<&mut bool> {
        match handle {
            rh::PLATFORM => Some(&mut self.platform),
            rh::PLATFORM_NV => Some(&mut self.platform_nv),
            rh::OWNER => Some(&mut self.owner),
            rh::ENDORSEMENT => Some(&mut self.endorsement),
            _ => None,
        }
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
    lockout_policy: AuthPolicy,
    enabled: Enabled,
    /// disableClear: whether TPM2_Clear is refused.
    pub(super) disable_clear: bool,
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
            lockout_policy: AuthPolicy::default(),
            enabled: Enabled::ALL,
            disable_clear: false,
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
    ///
    /// platformAuth, its policy and what is enabled outlive only TPM2_Shutdown(STATE), but do no harm: any other
    /// startup resets them.
    pub(super) fn save(&self, w: &mut Writer) {
        w.u8(u8::from(self.generated));
        for hierarchy in [&self.platform, &self.owner, &self.endorsement, &self.null] {
            hierarchy.save(w);
        }
        w.tpm2b(self.lockout.as_bytes());
        w.put(&self.lockout_policy);
        let Enabled { platform, platform_nv, owner, endorsement } = self.enabled;
        for yes in [platform, platform_nv, owner, endorsement, self.disable_clear] {
            w.u8(u8::from(yes));
        }
    }

    /// Reads what [`Hierarchies::save`] has written.
    pub(super) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        self.generated = flag(r, "whether there are seeds")?;
        for hierarchy in [&mut self.platform, &mut self.owner, &mut self.endorsement, &mut self.null] {
            hierarchy.restore(r)?;
        }
        self.lockout = AuthValue::new(r.tpm2b(SEED_SIZE, "lockoutAuth")?);
        self.lockout_policy = AuthPolicy::restore(r)?;
        self.enabled = Enabled {
            platform: flag(r, "phEnable")?,
            platform_nv: flag(r, "phEnableNV")?,
            owner: flag(r, "shEnable")?,
            endorsement: flag(r, "ehEnable")?,
        };
        self.disable_clear = flag(r, "disableClear")?;
        Ok(())
    }

    /// Whether the seeds exist.
    pub(super) fn are_generated(&self) -> bool {
        self.generated
    }

    /// Whether what this permanent handle names may be used: phEnable, phEnableNV, shEnable or ehEnable. Anything but
    /// those hierarchies always may.
    pub(super) fn is_enabled(&self, handle: Handle) -> bool {
        let mut enabled = self.enabled;
        enabled.of(handle).is_none_or(|yes| *yes)
    }

    /// Enables or disables a hierarchy, or the platform's NV. Answers whether that is a change.
    pub(super) fn set_enabled(&mut self, handle: Handle, enable: bool) -> bool {
        self.enabled.of(handle).is_some_and(|place| core::mem::replace(place, enable) != enable)
    }

    /// TPM2_Clear: another primary seed and proof for the owner, another proof for the endorsement hierarchy, Empty
    /// Auths and Policies; both are enabled (Part 3, 24.6).
    pub(super) fn clear(&mut self, random: &mut Drbg) {
        self.owner.regenerate(random);
        random.generate(&mut self.endorsement.proof[..]);
        self.owner.forget_authorization();
        self.endorsement.forget_authorization();
        self.lockout = AuthValue::default();
        self.lockout_policy = AuthPolicy::default();
        self.enabled.owner = true;
        self.enabled.endorsement = true;
    }

    /// TPM2_ChangeEPS: the endorsement hierarchy starts anew, and is enabled (Part 3, 24.5).
    pub(super) fn change_endorsement(&mut self, random: &mut Drbg) {
        self.endorsement.regenerate(random);
        self.endorsement.forget_authorization();
        self.enabled.endorsement = true;
    }

    /// TPM2_ChangePPS: another primary seed and proof, and the Empty Policy (Part 3, 24.4).
    pub(super) fn change_platform(&mut self, random: &mut Drbg) {
        self.platform.regenerate(random);
        self.platform.policy = AuthPolicy::default();
    }

    /// TPM2_Startup (Part 3, 9.3): the platform hierarchy can always be used again. Unless the TPM resumes, everything
    /// is enabled and platformAuth and platformPolicy are empty. At a TPM Reset the NULL hierarchy starts anew.
    pub(super) fn startup(&mut self, kind: StartupKind, random: &mut Drbg) {
        self.enabled.platform = true;
        if kind != StartupKind::Resume {
            self.enabled = Enabled::ALL;
            self.platform.forget_authorization();
        }
        if kind == StartupKind::Reset {
            self.null.regenerate(random);
        }
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

    /// The authPolicy of a hierarchy or of TPM_RH_LOCKOUT.
    pub(super) fn policy(&self, handle: Handle) -> Option<&AuthPolicy> {
        if handle == rh::LOCKOUT { Some(&self.lockout_policy) } else { self.get(handle).map(|h| &h.policy) }
    }

    /// Authorization and policy of a hierarchy or of TPM_RH_LOCKOUT, to be changed; `None` for any other handle.
    fn authorization(&mut self, handle: Handle) -> Option<(&mut AuthValue, &mut AuthPolicy)> {
        let hierarchy = match handle {
            rh::PLATFORM => &mut self.platform,
            rh::OWNER => &mut self.owner,
            rh::ENDORSEMENT => &mut self.endorsement,
            rh::LOCKOUT => return Some((&mut self.lockout, &mut self.lockout_policy)),
            _ => return None,
        };
        Some((&mut hierarchy.auth, &mut hierarchy.policy))
    }

    /// Sets the authValue of a hierarchy or of TPM_RH_LOCKOUT; false for any other handle.
    pub(super) fn set_auth(&mut self, handle: Handle, auth: AuthValue) -> bool {
        self.authorization(handle).map(|(place, _)| *place = auth).is_some()
    }

    /// Sets the authPolicy of a hierarchy or of TPM_RH_LOCKOUT; false for any other handle.
    pub(super) fn set_policy(&mut self, handle: Handle, policy: AuthPolicy) -> bool {
        self.authorization(handle).map(|(_, place)| *place = policy).is_some()
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
