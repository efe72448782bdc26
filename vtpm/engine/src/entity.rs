//! Entities: whatever a handle can name, with its Name, authValue and policy (Part 1, 16 and 19).

use bulla_tpm_types::{Digest, Handle, HashAlg, Name, NvAttributes, ObjectAttributes, cc, ht, rh};

use super::Tpm;
use super::auth::Role;
use super::auth_policy::AuthPolicy;
use super::nv::Index;
use super::object::Object;
use super::pcr;
use super::secret::AuthValue;
use super::session::{DaScope, handle_name};

/// The first persistent handle that is the platform's (Part 1, 37.2.3).
pub(super) const PLATFORM_PERSISTENT: Handle = Handle(0x8180_0000);

impl Tpm {
    /// The Name of an entity: an object's or NV Index's own, or the handle for everything else (Part 1, 16).
    pub(super) fn entity_name(&self, handle: Handle) -> Name {
        match handle.handle_type() {
            ht::TRANSIENT | ht::PERSISTENT => self.objects.get(handle).map_or(Name::EMPTY, Object::name),
            ht::NV_INDEX => self.nv.get(handle).map_or(Name::EMPTY, Index::name),
            _ => handle_name(handle),
        }
    }

    /// Whether a persistent object is there and its hierarchy enabled, but for TPM2_EvictControl (Part 1, 37.3).
    pub(super) fn persistent_is_accessible(&self, handle: Handle, command: u32) -> bool {
        let half = if handle >= PLATFORM_PERSISTENT { rh::PLATFORM } else { rh::OWNER };
        let hierarchy = self.objects.get(handle).map(|o| o.key().map_or(rh::NULL, |k| k.hierarchy));
        let enabled = |h| command == cc::EVICT_CONTROL || self.hierarchies.is_enabled(h);
        self.hierarchies.is_enabled(half) && hierarchy.is_some_and(enabled)
    }

    /// The authValue of an entity, without trailing zeros; `None` for what has none or is not there.
    pub(super) fn entity_auth(&self, handle: Handle) -> Option<&[u8]> {
        match handle.handle_type() {
            ht::PCR if pcr::has_authorization(handle.0) => Some(self.pcrs.auth.as_bytes()),
            ht::PCR => Some(&[]),
            ht::PERMANENT => self.hierarchies.auth(handle).map(AuthValue::as_bytes),
            ht::TRANSIENT | ht::PERSISTENT => self.objects.get(handle).map(|o| o.auth.as_bytes()),
            ht::NV_INDEX => self.nv.get(handle).map(|i| i.auth.as_bytes()),
            _ => None,
        }
    }

    /// Whose lockout wrong authorizations of an entity count towards.
    pub(super) fn da_scope(&self, handle: Handle) -> DaScope {
        match handle.handle_type() {
            ht::PERMANENT if handle == rh::LOCKOUT => DaScope::Lockout,
            ht::TRANSIENT | ht::PERSISTENT if self.objects.get(handle).is_some_and(Object::is_da_protected) => {
                DaScope::Objects
            }
            ht::NV_INDEX if self.nv.get(handle).is_some_and(|i| !i.has(NvAttributes::NO_DA)) => DaScope::Objects,
            _ => DaScope::Exempt,
        }
    }

    /// The object of a handle, if it has attributes and a sensitive area, as all but sequences do; the outer
    /// `None` is no object, the inner one a sequence.
    fn attributes(&self, handle: Handle) -> Option<Option<(ObjectAttributes, bool)>> {
        let object = self.objects.get(handle)?;
        Some(object.key().map(|k| (k.public.attributes, k.private.is_some())))
    }

    /// Whether an authValue may authorize a command in this role of an entity (Part 1, 19.2).
    pub(super) fn auth_value_is_available(&self, handle: Handle, role: Role, command: u32) -> bool {
        match handle.handle_type() {
            ht::PCR => true,
            ht::PERMANENT => self.hierarchies.auth(handle).is_some(),
            ht::NV_INDEX => self.nv.get(handle).is_some_and(|index| match writes(command) {
                true => index.has(NvAttributes::AUTH_WRITE),
                false if index.kind().is_pin() => index.pin_is_available(),
                false => index.has(NvAttributes::AUTH_READ),
            }),
            _ => match self.attributes(handle) {
                Some(None) => true,
                Some(Some((attributes, sensitive))) => {
                    let by_value = attributes.contains(ObjectAttributes::USER_WITH_AUTH)
                        || (role == Role::Admin && !attributes.contains(ObjectAttributes::ADMIN_WITH_POLICY));
                    sensitive && by_value
                }
                None => false,
            },
        }
    }

    /// Whether only a policy may authorize this role of an entity.
    pub(super) fn policy_is_required(&self, handle: Handle, role: Role) -> bool {
        let admin_with_policy = || {
            matches!(self.attributes(handle),
                Some(Some((attributes, _))) if attributes.contains(ObjectAttributes::ADMIN_WITH_POLICY))
        };
        // A PCR with a policy has no other authorization (Part 1, 19.3.3).
        let pcr_with_policy = || {
            let has = handle.handle_type() == ht::PCR && pcr::has_authorization(handle.0);
            has && self.pcr_settings.policy.parts().0.is_some()
        };
        role == Role::Dup
            || (role == Role::Admin && (handle.handle_type() == ht::NV_INDEX || admin_with_policy()))
            || pcr_with_policy()
    }

    /// The policy of an entity and its algorithm; `None` when a policy cannot authorize it.
    pub(super) fn entity_policy(&self, handle: Handle, role: Role, command: u32) -> Option<(Option<HashAlg>, Digest)> {
        if let Some(index) = self.nv.get(handle) {
            let attribute = if writes(command) { NvAttributes::POLICY_WRITE } else { NvAttributes::POLICY_READ };
            let available = !index.public.auth_policy.is_empty() && (role == Role::Admin || index.has(attribute));
            return available.then_some((Some(index.public.name_alg), index.public.auth_policy));
        }
        match handle.handle_type() {
            ht::PCR => return pcr::has_authorization(handle.0).then(|| self.pcr_settings.policy.parts()),
            ht::PERMANENT => {
                return self.hierarchies.policy(handle).filter(|p| !p.is_empty()).map(AuthPolicy::parts);
            }
            _ => {}
        }
        let key = self.objects.get(handle)?.key()?;
        key.private.as_ref()?;
        Some((key.public.name_alg, key.public.auth_policy))
    }
}

/// Whether a command writes an NV Index, for which the index's own authorization is another than for all others
/// (Part 1, 37.2.3).
fn writes(command: u32) -> bool {
    matches!(command, cc::NV_WRITE | cc::NV_INCREMENT | cc::NV_EXTEND | cc::NV_SET_BITS | cc::NV_WRITE_LOCK)
}
