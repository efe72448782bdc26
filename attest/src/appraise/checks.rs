//! The checks, one function each, in the order in which the verdict lists them.

use std::collections::BTreeSet;

use super::verdict::Code;
use super::{Outcome, Subject};
use crate::bank::{Bank, pcr_ranges};
use crate::evidence::TakenAt;
use crate::expected::Expected;
use crate::root::Root;

use Outcome::{Fail, Impossible, Pass};

const NO_QUOTE: &str = "the quote cannot be read";
const NO_LOG: &str = "the event log cannot be read";
const NO_AK: &str = "the attestation key cannot be read";

fn check(passed: bool, code: Code, good: impl Into<String>, bad: impl Into<String>) -> Outcome {
    if passed { Pass(good.into()) } else { Fail(code, bad.into()) }
}

/// `sha256: 0-4, 7; sha384: 0`.
fn list(pcrs: &BTreeSet<(Bank, u32)>) -> String {
    let of = |bank| pcrs.iter().filter(move |(b, _)| *b == bank).map(|&(_, pcr)| pcr);
    let banks = Bank::ALL.into_iter().filter(|&bank| of(bank).next().is_some());
    banks.map(|bank| format!("{bank}: {}", pcr_ranges(of(bank)))).collect::<Vec<_>>().join("; ")
}

impl Subject<'_> {
    pub(super) fn envelope_signature(&self) -> Outcome {
        check(
            self.signed.verify_envelope(),
            Code::EnvelopeSignature,
            "ES256 by the host key in the evidence",
            "the host key's signature over the evidence is wrong: the evidence was changed after signing",
        )
    }

    pub(super) fn host_key(&self) -> Outcome {
        let thumbprint = self.signed.host_key().thumbprint();
        let shown = hex::encode(thumbprint);
        if self.policy.host_keys.is_empty() {
            return Pass(format!("{shown} (any host is accepted)"));
        }
        check(
            self.policy.host_keys.contains(&thumbprint),
            Code::HostKeyNotPinned,
            format!("{shown} is pinned"),
            format!("host key {shown} is not one that the policy names"),
        )
    }

    pub(super) fn nonce(&self) -> Outcome {
        check(
            self.evidence.nonce == self.nonce,
            Code::NonceMismatch,
            hex::encode(self.nonce),
            format!(
                "the evidence answers nonce {}, not {}",
                hex::encode(&self.evidence.nonce),
                hex::encode(self.nonce)
            ),
        )
    }

    pub(super) fn root(&self) -> Outcome {
        let claimed = self.evidence.root;
        let minimum = self.minimum_root();
        if claimed < minimum {
            return Fail(Code::RootTooWeak, format!("the root of trust is {claimed}, weaker than {minimum}"));
        }
        check(
            claimed < Root::SevSnp,
            Code::RootUnproven,
            format!("{claimed}, at least {minimum} was asked for"),
            format!("the evidence claims root {claimed}, but nothing in it proves that"),
        )
    }

    fn minimum_root(&self) -> Root {
        self.policy.minimum_root.or(self.expected.map(|e| e.root)).unwrap_or(Root::VmmHosted)
    }

    pub(super) fn ak_suitable(&self) -> Outcome {
        match self.ak.as_ref().map(|ak| ak.weakness()) {
            Ok(None) => Pass("a restricted signing key that cannot leave its TPM".to_owned()),
            Ok(Some(why)) => Fail(Code::AkUnsuitable, format!("the attestation key {why}")),
            Err(e) => Fail(Code::AkUnsuitable, format!("attestation key: {e}")),
        }
    }

    pub(super) fn ak_pinned(&self) -> Outcome {
        let Ok(ak) = &self.ak else { return Impossible(NO_AK) };
        let name = ak.name();
        let shown = hex::encode(&name);
        if !self.policy.pins_ak() {
            return Pass(format!("{shown} (any key is accepted)"));
        }
        let by_spki = ak.to_spki().is_ok_and(|spki| self.policy.ak_spki.contains(&spki));
        check(
            by_spki || self.policy.ak_names.contains(&name),
            Code::AkNotPinned,
            format!("{shown} is pinned"),
            format!("attestation key {shown} is not one that the policy names"),
        )
    }

    pub(super) fn endorsement(&self) -> Outcome {
        let pinned = self.policy.pins_ak() || !self.policy.host_keys.is_empty();
        check(
            pinned || !self.policy.require_endorsement,
            Code::NotEndorsed,
            if pinned { "by the keys that the policy names" } else { "not asked for" },
            "the policy requires endorsement, but names no attestation key and no host key",
        )
    }

    pub(super) fn quote_structure(&self) -> Outcome {
        match (&self.quote, &self.signature) {
            (Ok(_), Ok(_)) => Pass("TPM-generated, of PCRs".to_owned()),
            (Err(e), _) | (_, Err(e)) => Fail(Code::QuoteMalformed, e.to_string()),
        }
    }

    pub(super) fn quote_signature(&self) -> Outcome {
        let Ok(ak) = &self.ak else { return Impossible(NO_AK) };
        let Ok(signature) = &self.signature else { return Impossible(NO_QUOTE) };
        match ak.verify(&self.evidence.tpm.quote, signature) {
            Ok(()) => Pass("by the attestation key in the evidence".to_owned()),
            Err(e) => Fail(Code::QuoteSignature, format!("quote signature: {e}")),
        }
    }

    pub(super) fn quote_nonce(&self) -> Outcome {
        let Ok(quote) = &self.quote else { return Impossible(NO_QUOTE) };
        check(
            quote.nonce == self.nonce,
            Code::QuoteNonceMismatch,
            hex::encode(self.nonce),
            format!("the quote was made for nonce {}, not {}", hex::encode(&quote.nonce), hex::encode(self.nonce)),
        )
    }

    pub(super) fn counters(&self) -> Outcome {
        let Ok(quote) = &self.quote else { return Impossible(NO_QUOTE) };
        let limits = [
            ("resetCount", quote.reset_count, self.policy.maximum_reset_count),
            ("restartCount", quote.restart_count, self.policy.maximum_restart_count),
        ];
        for (name, count, limit) in limits {
            if let Some(limit) = limit.filter(|&limit| count > limit) {
                return Fail(Code::ResetCount, format!("{name} is {count}, the policy allows {limit}"));
            }
        }
        Pass(format!("resetCount {}, restartCount {}", quote.reset_count, quote.restart_count))
    }

    /// The PCRs that the quote must cover: the policy's, else in the SHA-256 bank all that there are values for.
    fn required_pcrs(&self) -> BTreeSet<(Bank, u32)> {
        if let Some(pcrs) = &self.policy.pcrs {
            return pcrs.iter().flat_map(|(&bank, pcrs)| pcrs.iter().map(move |&pcr| (bank, pcr))).collect();
        }
        let replayed = self.log.as_ref().ok().map(|(_, replay)| &replay.pcrs);
        let values = self.expected.map(|e| &e.pcrs).or(replayed).and_then(|pcrs| pcrs.get(&Bank::Sha256));
        values.into_iter().flat_map(|values| values.keys().map(|&pcr| (Bank::Sha256, pcr))).collect()
    }

    pub(super) fn pcr_selection(&self) -> Outcome {
        let Ok(quote) = &self.quote else { return Impossible(NO_QUOTE) };
        let required = self.required_pcrs();
        if required.is_empty() {
            return Fail(Code::PcrSelection, "nothing says which PCRs have to be quoted".to_owned());
        }
        let covered: BTreeSet<_> = quote.covered().collect();
        let left_out: BTreeSet<_> = required.difference(&covered).copied().collect();
        check(
            left_out.is_empty(),
            Code::PcrSelection,
            list(&covered),
            format!("the quote leaves out PCRs that have to be covered: {}", list(&left_out)),
        )
    }

    pub(super) fn pcr_digest(&self) -> Outcome {
        let (Ok(quote), Ok(signature)) = (&self.quote, &self.signature) else { return Impossible(NO_QUOTE) };
        let given = self.evidence.tpm.pcrs.iter().flat_map(|(&b, values)| values.keys().map(move |&pcr| (b, pcr)));
        if let Some((bank, pcr)) = given.into_iter().find(|&(bank, pcr)| !quote.covers(bank, pcr)) {
            return Fail(Code::PcrDigest, format!("a value is given for PCR {pcr} of {bank}, which is not quoted"));
        }
        match quote.digest_of(&self.evidence.tpm.pcrs, signature.hash) {
            Err(e) => Fail(Code::PcrDigest, e.to_string()),
            Ok(digest) => check(
                digest == quote.pcr_digest,
                Code::PcrDigest,
                "are the quoted ones",
                "the PCR values in the evidence are not those that were quoted",
            ),
        }
    }

    pub(super) fn log_structure(&self) -> Outcome {
        match &self.log {
            Ok((log, replay)) => {
                let banks = log.banks.iter().map(|b| b.name()).collect::<Vec<_>>().join(", ");
                let count = log.events.len();
                Pass(format!("{count} events, banks {banks}, startup locality {}", replay.startup_locality))
            }
            Err(e) => Fail(Code::EventLogMalformed, e.to_string()),
        }
    }

    /// Every quoted PCR must be what the log accounts for, those that the log does not touch included.
    pub(super) fn log_replay(&self) -> Outcome {
        let Ok((log, replay)) = &self.log else { return Impossible(NO_LOG) };
        let wrong: BTreeSet<(Bank, u32)> = self
            .quoted_values()
            .filter(|&(bank, pcr, value)| !log.banks.contains(&bank) || *value != replay.value(bank, pcr))
            .map(|(bank, pcr, _)| (bank, pcr))
            .collect();
        check(
            wrong.is_empty(),
            Code::EventLogReplay,
            "gives the quoted PCR values",
            format!("the event log does not replay to the quoted values of these PCRs: {}", list(&wrong)),
        )
    }

    fn quoted_values(&self) -> impl Iterator<Item = (Bank, u32, &Vec<u8>)> {
        let banks = self.evidence.tpm.pcrs.iter();
        banks.flat_map(|(&bank, values)| values.iter().map(move |(&pcr, value)| (bank, pcr, value)))
    }

    pub(super) fn event_data(&self) -> Outcome {
        let Ok((log, _)) = &self.log else { return Impossible(NO_LOG) };
        let lies = log.events.iter().find(|event| event.data_is_digested() == Some(false));
        match lies {
            None => Pass("matches its digest, where the digest is of the data".to_owned()),
            Some(event) => Fail(
                Code::EventDataDigest,
                format!(
                    "PCR {}: the data of {} (event {}) is not what its digest is of",
                    event.pcr,
                    event.describe(),
                    event.index
                ),
            ),
        }
    }

    pub(super) fn expected_pcrs(&self, expected: &Expected) -> Outcome {
        let expected_value = |bank, pcr| expected.pcrs.get(&bank).and_then(|values| values.get(&pcr));
        let (mut compared, mut wrong) = (BTreeSet::new(), BTreeSet::new());
        for (bank, pcr, value) in self.quoted_values() {
            if let Some(expected) = expected_value(bank, pcr) {
                compared.insert((bank, pcr));
                if expected != value {
                    wrong.insert((bank, pcr));
                }
            }
        }
        if compared.is_empty() {
            return Fail(Code::PcrSelection, "no quoted PCR is among the expected ones".to_owned());
        }
        check(
            wrong.is_empty(),
            Code::PcrMismatch,
            list(&compared),
            format!("these PCRs do not have their expected values: {}", list(&wrong)),
        )
    }

    /// What an acceptance does not say.
    pub(super) fn not_checked(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let (ak, host) = (self.policy.pins_ak(), !self.policy.host_keys.is_empty());
        if !ak && !host {
            notes.push(
                "neither the attestation key nor the host key is pinned: this shows what some vTPM measured, not \
                 which machine's"
                    .to_owned(),
            );
        } else if !host {
            notes.push("the host key is not pinned: the root of trust is only what the evidence claims".to_owned());
        }
        if self.expected.is_none() {
            notes.push(
                "no expected values were given: the measurements are genuine, nobody said whether they are good"
                    .to_owned(),
            );
            notes.push("event data that no digest is of, and EV_NO_ACTION events, are only the log's word".to_owned());
        }
        if self.evidence.root < Root::SevSnp {
            notes.push(format!(
                "the host itself: with root {}, whoever controls the host can forge all of this",
                self.evidence.root
            ));
        }
        notes.push(match self.evidence.taken_at {
            TakenAt::Handover => "what ran after the firmware handed over to the kernel".to_owned(),
            TakenAt::Guest => "what the guest did besides what it measured".to_owned(),
        });
        if let (Ok(quote), Some(expected)) = (&self.quote, self.expected) {
            let known = |(bank, pcr): &(Bank, u32)| expected.pcrs.get(bank).is_some_and(|v| v.contains_key(pcr));
            let unknown: BTreeSet<_> = quote.covered().filter(|pcr| !known(pcr)).collect();
            if !unknown.is_empty() {
                notes.push(format!("quoted PCRs for which there are no expected values: {}", list(&unknown)));
            }
        }
        notes
    }
}
