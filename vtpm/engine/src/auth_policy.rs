//! authPolicies that belong to no object: those of hierarchies, of lockout and of PCR (Part 3, 22.6 and 24.3).

use bulla_tpm_types::{Digest, Error, ErrorKind, Ha, HashAlg, Marshal, Reader, Writer, alg};

/// An authPolicy with its algorithm. The Empty Policy, which no session satisfies, unless one was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AuthPolicy(Option<Ha>);

impl AuthPolicy {
    /// A policy of this algorithm, TPM_ALG_NULL being the Empty Policy; `None` for a digest of another size.
    pub(super) fn new(alg: Option<HashAlg>, digest: &Digest) -> Option<Self> {
        match alg {
            None => digest.is_empty().then_some(Self(None)),
            Some(alg) => Ha::new(alg, digest).map(|ha| Self(Some(ha))),
        }
    }

    /// Whether it is the Empty Policy.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Its algorithm and digest.
    pub(super) fn parts(&self) -> (Option<HashAlg>, Digest) {
        self.0.map_or((None, Digest::EMPTY), |ha| (Some(ha.alg()), ha.digest()))
    }

    /// Reads what its [`Marshal`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        let at = r.clone();
        let alg = HashAlg::unmarshal_or_null(r)?;
        let digest = alg.map(|alg| r.take(alg.size(), "authPolicy").map(|d| Ha::new(alg, d))).transpose()?;
        match digest {
            Some(None) => Err(at.error(ErrorKind::Size, "authPolicy")),
            policy => Ok(Self(policy.flatten())),
        }
    }
}

impl Marshal for AuthPolicy {
    /// A TPMT_HA.
    fn marshal(&self, w: &mut Writer) {
        match &self.0 {
            Some(ha) => w.put(ha),
            None => w.put(&alg::NULL),
        }
    }
}
