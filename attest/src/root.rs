//! Roots of trust, ordered by what they protect against.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the measurements rest on; a later one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// A vTPM under test conditions: deterministic seeds or an emulated platform. Proves nothing to anyone.
    Simulated,
    /// A vTPM process of the monitor. Holds against everyone but whoever controls the host.
    VmmHosted,
    /// An AMD SEV-SNP report covers the launch. Holds against the host too.
    SevSnp,
}

impl Root {
    /// Every root, weakest first.
    pub const ALL: [Self; 3] = [Self::Simulated, Self::VmmHosted, Self::SevSnp];

    /// The name in evidence, policies and verdicts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::VmmHosted => "vmm-hosted",
            Self::SevSnp => "sev-snp",
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Root {
    type Err = UnknownRoot;

    fn from_str(name: &str) -> Result<Self, UnknownRoot> {
        Self::ALL.into_iter().find(|root| root.name() == name).ok_or_else(|| UnknownRoot(name.to_owned()))
    }
}

/// A name that is no root's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no root of trust; they are simulated, vmm-hosted and sev-snp")]
pub struct UnknownRoot(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_ordered_and_named() {
        assert!(Root::Simulated < Root::VmmHosted && Root::VmmHosted < Root::SevSnp);
        for root in Root::ALL {
            assert_eq!(root.name().parse(), Ok(root));
            assert_eq!(serde_json::to_string(&root).ok(), Some(format!("\"{root}\"")));
        }
        assert!("tdx".parse::<Root>().is_err());
    }
}
