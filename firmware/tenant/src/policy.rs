//! Whom to talk to, from the words of the measured command line.
//!
//! | word | meaning |
//! |---|---|
//! | `peer_ak=NAME[,NAME…]` | the peer's AK has one of these Names (68 hexadecimal digits each) |
//! | `peer_pcrs=same` | the peer's quoted PCRs are all the same as ours |
//! | `peer_pcrs=same:N[,N…]` | these of them are |
//! | `peer_pcr=N:VALUE` | PCR N of the peer has this SHA-256 value; may be given several times, also for one N |
//! | `channel_id=ID` | 64 hexadecimal digits, the same at both ends; zeros if not given |
//! | `channel_size=N[K\|M]` | bytes of the shared region, the same at both ends; 64K if not given |
//!
//! At least one `peer_` word is needed. Without `peer_ak` the peer's key is not known to live in a TPM, which is much weaker: then
//! somebody else (the host, who asks both ends for evidence) has to compare the AK Name that the tenant reports. Words that
//! begin like these and are none of them are refused; all others are somebody else's.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use bulla_boot_abi::chain::QUOTE_PCRS;
use bulla_boot_abi::map::CHANNEL_MAX;
use bulla_channel::appraise::PolicyError;
use bulla_channel::{AkName, ChannelId, PcrRule, PcrSet, PeerPolicy, PinnedAks};

/// A small region is inside every larger one, so a window of more than this needs no word.
const DEFAULT_SIZE: usize = 64 << 10;

/// What the command line says about the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// What it is called.
    pub id: ChannelId,
    /// Bytes of the shared region.
    pub size: usize,
    /// Whom to talk to.
    pub policy: PeerPolicy,
}

/// Why the command line is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// No word says who the peer must be.
    #[error("the command line says nothing about the peer (peer_ak=, peer_pcrs= or peer_pcr=)")]
    NoPolicy,
    /// A word with a value that has no meaning.
    #[error("command line: cannot read {0:?}")]
    Value(String),
    /// A word that begins with `peer_` or `channel_` and is not known.
    #[error("command line: {0:?} is not known")]
    Unknown(String),
    /// A word that may be there only once, or not beside another one.
    #[error("command line: {0:?} contradicts an earlier word")]
    Repeated(String),
    /// A policy that makes no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// The PCRs of every quote a tenant makes or asks for.
#[must_use]
pub fn quoted() -> PcrSet {
    PcrSet::of(&QUOTE_PCRS).unwrap_or_default()
}

impl ChannelConfig {
    /// Reads the command line.
    ///
    /// # Errors
    /// A [`CmdlineError`] that names the word.
    pub fn from_cmdline(cmdline: &str) -> Result<Self, CmdlineError> {
        let mut words = Words::default();
        for word in cmdline.split_ascii_whitespace() {
            words.take(word)?;
        }
        let Words { aks, same, values, id, size } = words;
        if aks.is_none() && same.is_none() && values.is_empty() {
            return Err(CmdlineError::NoPolicy);
        }
        let policy = PeerPolicy {
            aks: aks.map_or(PinnedAks::Any, PinnedAks::OneOf),
            selection: quoted(),
            pcrs: same.map_or(PcrRule::Values(values), PcrRule::SameAsMine),
        };
        policy.validate()?;
        let id = id.unwrap_or(ChannelId::new([0; 32]));
        Ok(Self { id, size: size.unwrap_or(DEFAULT_SIZE), policy })
    }
}

#[derive(Default)]
struct Words {
    aks: Option<Vec<AkName>>,
    same: Option<PcrSet>,
    values: BTreeMap<u8, BTreeSet<[u8; 32]>>,
    id: Option<ChannelId>,
    size: Option<usize>,
}

impl Words {
    fn take(&mut self, word: &str) -> Result<(), CmdlineError> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let repeated = match key {
            "peer_ak" => self.aks.replace(read(word, aks(value))?).is_some(),
            "peer_pcrs" => self.same.replace(read(word, same(value))?).is_some() || !self.values.is_empty(),
            "peer_pcr" => {
                let (pcr, sha256) = read(word, pcr_value(value))?;
                self.values.entry(pcr).or_default().insert(sha256);
                self.same.is_some()
            }
            "channel_id" => self.id.replace(ChannelId::new(read(word, hex32(value))?)).is_some(),
            "channel_size" => self.size.replace(read(word, size(value))?).is_some(),
            _ if key.starts_with("peer_") || key.starts_with("channel_") => {
                return Err(CmdlineError::Unknown(word.into()));
            }
            _ => false,
        };
        if repeated { Err(CmdlineError::Repeated(word.into())) } else { Ok(()) }
    }
}

fn read<T>(word: &str, value: Option<T>) -> Result<T, CmdlineError> {
    value.ok_or_else(|| CmdlineError::Value(word.into()))
}

fn aks(value: &str) -> Option<Vec<AkName>> {
    value.split(',').map(AkName::from_hex).collect()
}

fn same(value: &str) -> Option<PcrSet> {
    if value == "same" {
        return Some(quoted());
    }
    let list = value.strip_prefix("same:")?;
    PcrSet::of(&list.split(',').map(number).collect::<Option<Vec<u8>>>()?)
}

fn pcr_value(value: &str) -> Option<(u8, [u8; 32])> {
    let (pcr, sha256) = value.split_once(':')?;
    Some((number(pcr)?, hex32(sha256)?))
}

/// A decimal number. `parse` alone would also take a sign.
fn number<N: core::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0_u8, |value, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(value << 4 | u8::try_from(digit).ok()?)
        })?;
    }
    Some(out)
}

/// A number of bytes that the channel window can hold, in whole pages.
fn size(text: &str) -> Option<usize> {
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let size = number::<usize>(digits)?.checked_mul(unit)?;
    (size.is_multiple_of(4096) && size != 0 && size as u64 <= CHANNEL_MAX).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;
    use proptest::prelude::*;

    const NAME: &str = "000b0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";
    const VALUE: &str = "00000000000000000000000000000000000000000000000000000000000000fF";

    fn config(cmdline: &str) -> Result<ChannelConfig, CmdlineError> {
        ChannelConfig::from_cmdline(cmdline)
    }

    #[test]
    fn same_pcrs_with_any_key_is_what_two_equal_tenants_need() {
        let config = config("quiet peer_pcrs=same other=1").unwrap();
        assert_eq!(config.policy.aks, PinnedAks::Any);
        assert_eq!(config.policy.pcrs, PcrRule::SameAsMine(quoted()));
        assert_eq!(config.policy.selection.iter().collect::<Vec<_>>(), QUOTE_PCRS);
        assert_eq!((config.id, config.size), (ChannelId::new([0; 32]), 64 << 10));
    }

    #[test]
    fn every_word_is_understood() {
        let cmdline = format!(
            "peer_ak={NAME},{NAME} peer_pcr=4:{VALUE} peer_pcr=4:{} peer_pcr=12:{VALUE} channel_id={VALUE} channel_size=128K",
            "11".repeat(32)
        );
        let config = config(&cmdline).unwrap();
        let mut value = [0; 32];
        value[31] = 0xff;
        let name = AkName::from_hex(NAME).unwrap();
        assert_eq!(config.policy.aks, PinnedAks::OneOf(vec![name, name]));
        let values = [(4, [value, [0x11; 32]].into()), (12, [value].into())];
        assert_eq!(config.policy.pcrs, PcrRule::Values(values.into()));
        assert_eq!((config.id, config.size), (ChannelId::new(value), 128 << 10));
        let some = ChannelConfig::from_cmdline("peer_pcrs=same:0,4").unwrap();
        assert_eq!(some.policy.pcrs, PcrRule::SameAsMine(PcrSet::of(&[0, 4]).unwrap()));
    }

    #[test]
    fn without_a_policy_there_is_no_channel() {
        assert_eq!(config("quiet channel_size=1M"), Err(CmdlineError::NoPolicy));
    }

    #[test]
    fn misspelt_words_are_refused_rather_than_ignored() {
        for word in ["peer_aks=1", "peer_", "channel_name=x"] {
            assert_eq!(config(&format!("peer_pcrs=same {word}")), Err(CmdlineError::Unknown(word.into())));
        }
    }

    #[test]
    fn values_without_meaning_are_refused() {
        let words = [
            "peer_ak".into(),
            "peer_ak=00".into(),
            format!("peer_ak={NAME},"),
            "peer_pcrs=equal".into(),
            "peer_pcrs=same:".into(),
            "peer_pcrs=same:24".into(),
            "peer_pcrs=same:+4".into(),
            format!("peer_pcr={VALUE}"),
            format!("peer_pcr=256:{VALUE}"),
            "peer_pcr=4:zz".into(),
            "channel_id=1".into(),
            "channel_size=0".into(),
            "channel_size=5000".into(),
            "channel_size=65M".into(),
            "channel_size=99999999999999999999".into(),
        ];
        for word in words {
            assert_eq!(config(&format!("peer_pcrs=same {word}")), Err(CmdlineError::Value(word)));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let value = format!("peer_pcr=4:{VALUE}");
        for (first, second) in
            [("peer_pcrs=same", &*value), (&*value, "peer_pcrs=same"), ("peer_pcrs=same", "peer_pcrs=same")]
        {
            assert_eq!(config(&format!("{first} {second}")), Err(CmdlineError::Repeated(second.into())));
        }
    }

    #[test]
    fn a_rule_for_a_pcr_that_is_not_quoted_is_refused() {
        assert_eq!(config("peer_pcrs=same:0,8"), Err(CmdlineError::Policy(PolicyError::NotSelected { pcr: 8 })));
    }

    proptest! {
        #[test]
        fn any_command_line_is_read_without_panic(text in "(peer_(ak|pcrs|pcr)=|channel_(id|size)=|[0-9a-f:,KM ]|same|\\PC){0,20}") {
            let _ = config(&text);
        }
    }
}
