//! Appraisal: evidence against nonce, expected values and policy.
//!
//! [`appraise`] reads as the list of its checks. All of them are run, so that a verdict names everything that is
//! wrong and not only what was found first.

mod checks;
mod diff;
mod verdict;

pub use verdict::{Check, Code, Difference, Kind, Reason, Verdict};

use crate::envelope::SignedEvidence;
use crate::eventlog::{EventLogError, Log, Replay};
use crate::evidence::Evidence;
use crate::expected::Expected;
use crate::policy::Policy;
use crate::quote::{AttestationKey, Quote, QuoteError, QuoteSignature};

/// How one check came out.
enum Outcome {
    Pass(String),
    Fail(Code, String),
    /// It needs something that another check has found missing.
    Impossible(&'static str),
}

/// What the checks look at, parsed once.
struct Subject<'a> {
    signed: &'a SignedEvidence,
    evidence: &'a Evidence,
    nonce: &'a [u8],
    expected: Option<&'a Expected>,
    policy: &'a Policy,
    ak: Result<AttestationKey, QuoteError>,
    quote: Result<Quote, QuoteError>,
    signature: Result<QuoteSignature, QuoteError>,
    log: Result<(Log, Replay), EventLogError>,
}

/// Checks `signed` completely. `nonce` is the one that the verifier sent.
///
/// Without expected values the verdict says only that the measurements are genuine, not that they are good; without
/// pins in the policy it does not say whose they are. [`Verdict::not_checked`] says so each time.
#[must_use]
pub fn appraise(signed: &SignedEvidence, nonce: &[u8], expected: Option<&Expected>, policy: &Policy) -> Verdict {
    let evidence = signed.evidence();
    let log = Log::parse(&evidence.event_log).and_then(|log| log.replay().map(|replay| (log, replay)));
    let subject = Subject {
        signed,
        evidence,
        nonce,
        expected,
        policy,
        ak: AttestationKey::parse(&evidence.tpm.ak_public),
        quote: Quote::parse(&evidence.tpm.quote),
        signature: QuoteSignature::parse(&evidence.tpm.signature),
        log,
    };
    let s = &subject;
    let differences = match (&s.log, expected) {
        (Ok((log, _)), Some(expected)) => diff::compare(&log.events, expected),
        _ => Vec::new(),
    };

    let mut report = Report::default();
    report.check("envelope signature", s.envelope_signature());
    report.check("host key", s.host_key());
    report.check("nonce", s.nonce());
    report.check("root of trust", s.root());
    report.check("attestation key", s.ak_suitable());
    report.check("attestation key pin", s.ak_pinned());
    report.check("endorsement", s.endorsement());
    report.check("quote structure", s.quote_structure());
    report.check("quote signature", s.quote_signature());
    report.check("quote nonce", s.quote_nonce());
    report.check("reset counters", s.counters());
    report.check("PCR selection", s.pcr_selection());
    report.check("PCR values", s.pcr_digest());
    report.check("event log structure", s.log_structure());
    report.check("event log replay", s.log_replay());
    report.check("event data", s.event_data());
    if let Some(expected) = expected {
        report.check("expected PCRs", s.expected_pcrs(expected));
        report.differences("expected events", s.log.is_ok(), &differences);
    }

    Verdict {
        accepted: report.reasons.is_empty() && report.checks.iter().all(|check| check.passed),
        root: evidence.root,
        taken_at: evidence.taken_at,
        ak_name: s.ak.as_ref().ok().map(|ak| hex::encode(ak.name())),
        host_key: hex::encode(signed.host_key().thumbprint()),
        reasons: report.reasons,
        differences,
        checks: report.checks,
        not_checked: s.not_checked(),
    }
}

#[derive(Default)]
struct Report {
    checks: Vec<Check>,
    reasons: Vec<Reason>,
}

impl Report {
    fn check(&mut self, name: &'static str, outcome: Outcome) {
        let (passed, detail) = match outcome {
            Outcome::Pass(detail) => (true, detail),
            Outcome::Impossible(lacking) => (false, format!("not possible: {lacking}")),
            Outcome::Fail(code, text) => {
                self.reasons.push(Reason { code, text: text.clone() });
                (false, text)
            }
        };
        self.checks.push(Check { name, passed, detail });
    }

    fn differences(&mut self, name: &'static str, readable: bool, differences: &[Difference]) {
        let detail = match (readable, differences.len()) {
            (false, _) => "not possible: the event log cannot be read".to_owned(),
            (true, 0) => "every event is as expected".to_owned(),
            (true, n) => format!("{n} differ from what was expected"),
        };
        self.checks.push(Check { name, passed: readable && differences.is_empty(), detail });
        let reason = |d: &Difference| Reason { code: d.kind.code(), text: d.to_string() };
        self.reasons.extend(differences.iter().map(reason));
    }
}
