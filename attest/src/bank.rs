//! The PCR banks a bulla vTPM keeps, and sets of PCR values.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384};

/// Number of PCRs of a PC Client TPM.
pub const PCR_COUNT: u32 = 24;

/// A PCR bank, in the order of its TPM algorithm number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bank {
    /// TPM_ALG_SHA1.
    Sha1,
    /// TPM_ALG_SHA256.
    Sha256,
    /// TPM_ALG_SHA384.
    Sha384,
}

impl Bank {
    /// Every bank.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha384];

    /// TPM_ALG_ID of the bank (TPM 2.0 Part 2, 6.3).
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    /// The bank with this TPM_ALG_ID.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.id() == id)
    }

    /// Bytes of a digest of this bank.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    /// The name users write: `sha1`, `sha256`, `sha384`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }

    /// The digest of the concatenation of `parts`.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn run<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut hash = D::new();
            for part in parts {
                hash.update(part);
            }
            hash.finalize().to_vec()
        }
        match self {
            Self::Sha1 => run::<Sha1>(parts),
            Self::Sha256 => run::<Sha256>(parts),
            Self::Sha384 => run::<Sha384>(parts),
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Bank {
    type Err = UnknownBank;

    fn from_str(name: &str) -> Result<Self, UnknownBank> {
        Self::ALL.into_iter().find(|bank| bank.name() == name).ok_or_else(|| UnknownBank(name.to_owned()))
    }
}

/// A name that is no bank's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no PCR bank; the banks are sha1, sha256 and sha384")]
pub struct UnknownBank(String);

/// PCR values: bank → PCR index → digest.
pub type PcrValues = BTreeMap<Bank, BTreeMap<u32, Vec<u8>>>;

/// One digest for each bank.
pub type Digests = BTreeMap<Bank, Vec<u8>>;

/// The digests of `content` in every bank: what a measurement of it extends.
#[must_use]
pub fn digests_of(content: &[u8]) -> Digests {
    Bank::ALL.into_iter().map(|bank| (bank, bank.digest(&[content]))).collect()
}

/// PCR numbers as ranges: `0-4, 7, 9`.
#[must_use]
pub fn pcr_ranges(pcrs: impl IntoIterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for pcr in pcrs {
        match ranges.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(pcr) => *end = pcr,
            _ => ranges.push((pcr, pcr)),
        }
    }
    if ranges.is_empty() {
        return "none".to_owned();
    }
    let text = |(a, b): &(u32, u32)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for bank in Bank::ALL {
            assert_eq!(Bank::from_id(bank.id()), Some(bank));
            assert_eq!(bank.name().parse(), Ok(bank));
            assert_eq!(bank.digest(&[b"a", b"b"]), bank.digest(&[b"ab"]));
            assert_eq!(bank.digest(&[]).len(), bank.size());
        }
        assert!("sha512".parse::<Bank>().is_err());
    }

    #[test]
    fn ranges_read_well() {
        assert_eq!(pcr_ranges([0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(pcr_ranges([]), "none");
    }
}
