//! The verdict: what was checked, how it came out, and what no check covered.

use std::fmt;

use serde::Serialize;

use crate::bank::Bank;
use crate::evidence::TakenAt;
use crate::root::Root;

/// Why evidence was rejected: one code for each kind of failure, stable across versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// The host key's signature over the evidence is wrong: something in it was changed.
    EnvelopeSignature,
    /// The host key is not one that the policy names.
    HostKeyNotPinned,
    /// The root of trust is weaker than asked for.
    RootTooWeak,
    /// The evidence claims a root of trust that nothing in it proves.
    RootUnproven,
    /// The evidence carries another nonce.
    NonceMismatch,
    /// The attestation key is malformed, or of a kind that could sign a forged quote.
    AkUnsuitable,
    /// The attestation key is not one that the policy names.
    AkNotPinned,
    /// The policy asks for endorsement, but names neither attestation keys nor hosts.
    NotEndorsed,
    /// The TPMS_ATTEST or TPMT_SIGNATURE is malformed or not of a quote.
    QuoteMalformed,
    /// The quote is not signed by the attestation key in the evidence.
    QuoteSignature,
    /// The nonce inside the quote is another: the quote was made for someone else, or earlier.
    QuoteNonceMismatch,
    /// The quote leaves out a PCR that has to be covered.
    PcrSelection,
    /// The PCR values in the evidence are not those that were quoted.
    PcrDigest,
    /// The vTPM was reset or restarted more often than the policy allows.
    ResetCount,
    /// The event log is malformed.
    EventLogMalformed,
    /// The event log does not replay to the quoted PCR values.
    EventLogReplay,
    /// The data of an event is not what its digest is of.
    EventDataDigest,
    /// A quoted PCR does not have its expected value.
    PcrMismatch,
    /// An event has another digest than expected.
    EventChanged,
    /// An event has the expected digest, but other data or another type.
    EventDataDiffers,
    /// An expected event is not in the log.
    EventMissing,
    /// The log has an event that is not expected.
    EventUnexpected,
    /// The expected events are there, in another order.
    EventsReordered,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One spelling everywhere: the one that serde derives.
        let text = serde_json::to_value(self).unwrap_or_default();
        f.pad(text.as_str().unwrap_or_default())
    }
}

/// One check, passed or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How it came out.
    pub passed: bool,
    /// With which values.
    pub detail: String,
}

/// One reason for a rejection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// For programs.
    pub code: Code,
    /// For people.
    pub text: String,
}

/// How measured and expected events differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Measured something else.
    Changed,
    /// Expected, but not measured.
    Missing,
    /// Measured, but not expected.
    Unexpected,
    /// Measured as expected, but described by other event data or another type.
    DataDiffers,
    /// Measured as expected, but at another place in the order of its PCR.
    Reordered,
}

impl Kind {
    /// The reason code of such a difference.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Changed => Code::EventChanged,
            Self::Missing => Code::EventMissing,
            Self::Unexpected => Code::EventUnexpected,
            Self::DataDiffers => Code::EventDataDiffers,
            Self::Reordered => Code::EventsReordered,
        }
    }
}

/// One difference between what was measured and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The PCR.
    pub pcr: u32,
    /// The bank of the digests below.
    pub bank: Bank,
    /// How it differs.
    pub kind: Kind,
    /// Number of the event in the log, the header being 0; none for a missing event.
    pub event_index: Option<usize>,
    /// Name of the event in the expected values; for one that they do not have, what it is.
    pub event: String,
    /// What the event is, by type and data: `EV_IPL "bulla: kernel"`.
    pub described: String,
    /// The expected digest, in hex (event data for `data-differs`); none for an unexpected event.
    pub expected: Option<String>,
    /// The measured digest, in hex (event data for `data-differs`); none for a missing event.
    pub found: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Changed => "is not what was expected",
            Kind::Missing => "is missing",
            Kind::Unexpected => "was not expected",
            Kind::DataDiffers => "has the right digest but other data",
            Kind::Reordered => "is at another place in the order",
        };
        write!(f, "PCR {}: {}", self.pcr, self.event)?;
        if self.described != self.event {
            write!(f, " ({})", self.described)?;
        }
        write!(f, " {what}")?;
        match self.event_index {
            Some(index) => write!(f, " (event {index} of the log)"),
            None => Ok(()),
        }
    }
}

/// The result of an appraisal (RFC 9334: attestation result).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether every check passed.
    pub accepted: bool,
    /// The root of trust that the evidence claims, and that an acceptance rests on.
    pub root: Root,
    /// When the quote was made.
    pub taken_at: TakenAt,
    /// Name of the attestation key, in hex, to pin in a policy; none when the key is malformed.
    pub ak_name: Option<String>,
    /// Thumbprint of the host key, in hex, to pin in a policy.
    pub host_key: String,
    /// Why it was rejected; empty when accepted.
    pub reasons: Vec<Reason>,
    /// Where measurements differ from the expected ones.
    pub differences: Vec<Difference>,
    /// Every check that was run.
    pub checks: Vec<Check>,
    /// What an acceptance does not say.
    pub not_checked: Vec<String>,
}

impl Verdict {
    /// Whether this code is among the reasons.
    #[must_use]
    pub fn has(&self, code: Code) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.accepted { "ACCEPTED" } else { "REJECTED" };
        writeln!(f, "{word}  root of trust: {} (quote taken at {})", self.root, self.taken_at.name())?;
        if !self.reasons.is_empty() {
            writeln!(f, "\nBecause:")?;
        }
        for reason in &self.reasons {
            writeln!(f, "  {}  [{}]", reason.text, reason.code)?;
        }
        writeln!(f, "\nChecks:")?;
        for check in &self.checks {
            let mark = if check.passed { "ok  " } else { "FAIL" };
            writeln!(f, "  {mark}  {:<20}  {}", check.name, check.detail)?;
        }
        if !self.not_checked.is_empty() {
            writeln!(f, "\nNot checked:")?;
        }
        for note in &self.not_checked {
            writeln!(f, "  - {note}")?;
        }
        Ok(())
    }
}
