//! The policy file: what a verifier insists on. TOML, strict: a key it does not know is an error.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::bank::{Bank, PCR_COUNT};
use crate::hostkey::HostPublicKey;
use crate::root::Root;

/// Largest policy file, in bytes.
pub const MAX_POLICY: usize = 256 * 1024;

/// Why a policy file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Too large to be a policy.
    #[error("policy: {0} bytes, more than the limit of {MAX_POLICY}")]
    TooLarge(usize),
    /// Not TOML, or a key or type that policies do not have.
    #[error("policy: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value out of range.
    #[error("policy: {key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

/// What a verifier insists on. [`Policy::default`] holds when no file is given.
///
/// ```
/// let policy = bulla_attest::Policy::from_toml(r#"
///     ## The weakest root of trust to accept: simulated, vmm-hosted or sev-snp.
///     ## Default: the one the expected values were computed for, else vmm-hosted.
///     minimum_root = "vmm-hosted"
///
///     ## Accept nothing unless attestation keys or hosts are named, below or on the command line.
///     require_endorsement = true
///
///     ## Refuse evidence of a vTPM that was reset more often than this.
///     maximum_reset_count = 1
///     maximum_restart_count = 0
///
///     ## PCRs that the quote must cover. Default: in bank sha256, all that the expected values
///     ## (without them: the event log) account for.
///     [pcrs]
///     sha256 = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12]
///
///     ## Names of attestation keys, as `bulla-attest verify --json` prints them, or PEM public keys.
///     [attestation_keys]
///     names = []
///     pem = []
///
///     ## Hosts, by the thumbprint of their key (RFC 9679, SHA-256), or PEM public keys.
///     [host_keys]
///     thumbprints = ["7d3e0f0a6c1b2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5"]
///     pem = []
/// "#)?;
/// assert!(policy.require_endorsement);
/// # Ok::<(), bulla_attest::PolicyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The weakest root of trust to accept.
    pub minimum_root: Option<Root>,
    /// Whether the policy must name attestation keys or hosts at all: guards against a policy with its pins lost.
    pub require_endorsement: bool,
    /// Largest resetCount to accept.
    pub maximum_reset_count: Option<u32>,
    /// Largest restartCount to accept.
    pub maximum_restart_count: Option<u32>,
    /// The PCRs that the quote must cover, when not the default ones.
    pub pcrs: Option<BTreeMap<Bank, BTreeSet<u32>>>,
    /// Names of the attestation keys to accept; any when this and `ak_spki` are empty.
    pub ak_names: BTreeSet<Vec<u8>>,
    /// DER SubjectPublicKeyInfo of the attestation keys to accept.
    pub ak_spki: BTreeSet<Vec<u8>>,
    /// Thumbprints of the host keys to accept; any when empty.
    pub host_keys: BTreeSet<[u8; 32]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    minimum_root: Option<Root>,
    #[serde(default)]
    require_endorsement: bool,
    maximum_reset_count: Option<u32>,
    maximum_restart_count: Option<u32>,
    pcrs: Option<BTreeMap<Bank, BTreeSet<u32>>>,
    #[serde(default)]
    attestation_keys: AttestationKeys,
    #[serde(default)]
    host_keys: HostKeys,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestationKeys {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    pem: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostKeys {
    #[serde(default)]
    thumbprints: Vec<String>,
    #[serde(default)]
    pem: Vec<String>,
}

fn value_error(key: &'static str, reason: impl ToString) -> PolicyError {
    PolicyError::Value { key, reason: reason.to_string() }
}

impl Policy {
    /// Reads a policy file.
    pub fn from_toml(file: &str) -> Result<Self, PolicyError> {
        if file.len() > MAX_POLICY {
            return Err(PolicyError::TooLarge(file.len()));
        }
        let file: File = toml::from_str(file)?;
        if let Some(pcrs) = &file.pcrs {
            if pcrs.values().all(BTreeSet::is_empty) {
                return Err(value_error("pcrs", "selects no PCR; leave the table out for the default"));
            }
            if let Some(pcr) = pcrs.values().flatten().find(|&&pcr| pcr >= PCR_COUNT) {
                return Err(value_error("pcrs", format!("there is no PCR {pcr}; the last is 23")));
            }
        }
        let mut policy = Self {
            minimum_root: file.minimum_root,
            require_endorsement: file.require_endorsement,
            maximum_reset_count: file.maximum_reset_count,
            maximum_restart_count: file.maximum_restart_count,
            pcrs: file.pcrs,
            ..Self::default()
        };
        for name in &file.attestation_keys.names {
            let name = hex::decode(name).map_err(|e| value_error("attestation_keys.names", e))?;
            // A Name is nameAlg and a digest of that algorithm (Part 1, 16).
            if !matches!(name.as_slice(), [0, 0x04, d @ ..] if d.len() == 20)
                && !matches!(name.as_slice(), [0, 0x0b, d @ ..] if d.len() == 32)
                && !matches!(name.as_slice(), [0, 0x0c, d @ ..] if d.len() == 48)
                && !matches!(name.as_slice(), [0, 0x0d, d @ ..] if d.len() == 64)
            {
                return Err(value_error("attestation_keys.names", "not a Name: an algorithm and a digest, in hex"));
            }
            policy.ak_names.insert(name);
        }
        for pem in &file.attestation_keys.pem {
            policy.pin_ak_pem(pem)?;
        }
        for thumbprint in &file.host_keys.thumbprints {
            let mut bytes = [0; 32];
            hex::decode_to_slice(thumbprint, &mut bytes)
                .map_err(|_| value_error("host_keys.thumbprints", "a thumbprint is 64 hex digits"))?;
            policy.host_keys.insert(bytes);
        }
        for pem in &file.host_keys.pem {
            policy.pin_host_key_pem(pem)?;
        }
        Ok(policy)
    }

    /// Accepts also the attestation key with this PEM public key, and from now on only pinned ones.
    pub fn pin_ak_pem(&mut self, pem: &str) -> Result<(), PolicyError> {
        let key = "attestation_keys.pem";
        let (label, der) = pem_rfc7468::decode_vec(pem.trim().as_bytes()).map_err(|e| value_error(key, e))?;
        if label != "PUBLIC KEY" {
            return Err(value_error(key, format!("a PEM \"PUBLIC KEY\" is needed, not {label:?}")));
        }
        self.ak_spki.insert(der);
        Ok(())
    }

    /// Accepts also the host with this PEM public key, and from now on only pinned ones.
    pub fn pin_host_key_pem(&mut self, pem: &str) -> Result<(), PolicyError> {
        let key = HostPublicKey::from_pem(pem.trim()).map_err(|e| value_error("host_keys.pem", e))?;
        self.host_keys.insert(key.thumbprint());
        Ok(())
    }

    /// Whether attestation keys are pinned.
    #[must_use]
    pub fn pins_ak(&self) -> bool {
        !self.ak_names.is_empty() || !self.ak_spki.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(file: &str) -> String {
        Policy::from_toml(file).expect_err("must be refused").to_string()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Policy::from_toml("").expect("empty is fine"), Policy::default());
    }

    #[test]
    fn what_a_policy_does_not_know_is_refused() {
        assert!(refused("minimum_rot = \"sev-snp\"").contains("minimum_rot"));
        assert!(refused("[host_keys]\nthumbprint = []").contains("thumbprint"));
        assert!(refused("minimum_root = \"tdx\"").contains("tdx"));
        assert!(refused("[pcrs]\nsha512 = [1]").contains("sha512"));
        assert!(refused("[pcrs]\nsha256 = [24]").contains("no PCR 24"));
        assert!(refused("[pcrs]\nsha256 = []").contains("no PCR"));
        assert!(refused("[attestation_keys]\nnames = [\"000b00\"]").contains("not a Name"));
        assert!(refused("[host_keys]\nthumbprints = [\"00\"]").contains("64 hex digits"));
        assert!(refused("[attestation_keys]\npem = [\"no\"]").contains("attestation_keys.pem"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = Policy::from_toml(&text);
        }
    }
}
