//! What a test printed and how it ended, and what that means.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The value written to the exit port.
    Exit(u32),
    /// Its time was over.
    Timeout,
    /// The machine stopped by itself; why.
    Stopped(String),
    /// It was never started; why.
    NotRun(String),
}

/// The verdict on one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    Skip,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        })
    }
}

/// A judged run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Sub-tests that failed.
    pub(crate) failures: Vec<String>,
    /// Sub-tests that skipped themselves.
    pub(crate) skips: Vec<String>,
    /// In one line, what the run itself said about why it did not pass.
    pub(crate) because: Option<String>,
    pub(crate) seconds: f64,
}

/// `main` returned 77 / 2: nothing could be tested (the suite's `report_summary`).
const ALL_SKIPPED: u32 = 77 >> 1;

impl Outcome {
    /// Judges what a run printed and how it ended.
    pub(crate) fn judge(end: &End, printed: &str, seconds: f64) -> Self {
        let lines = || printed.lines().map(|line| line.trim_end_matches('\r'));
        let with = |prefix: &str| lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect();
        let passes: Vec<String> = with("PASS: ");
        let failures: Vec<String> = [with("FAIL: "), with("XPASS: ")].concat();
        let skips: Vec<String> = with("SKIP: ");
        let verdict = match end {
            End::Exit(ALL_SKIPPED) | End::NotRun(_) => Verdict::Skip,
            // Some tests return 0 without a report.
            End::Exit(0) if failures.is_empty() => Verdict::Pass,
            _ => Verdict::Fail,
        };
        let last_word = || {
            let signs = ["Unhandled", "ABORT", "assert", "Test suite", "unexpected"];
            lines().find(|line| signs.iter().any(|s| line.contains(s))).map(|line| line.trim().to_owned())
        };
        let because = match (verdict, end) {
            (Verdict::Pass, _) => None,
            (_, End::NotRun(why) | End::Stopped(why)) => Some(why.clone()),
            (_, End::Timeout) => Some(match lines().rfind(|line| !line.is_empty()) {
                Some(last) => format!("out of time after “{last}”"),
                None => "out of time without a word".to_owned(),
            }),
            (Verdict::Skip, End::Exit(_)) => {
                skips.first().cloned().or_else(|| lines().rfind(|line| !line.is_empty()).map(str::to_owned))
            }
            (Verdict::Fail, End::Exit(code)) => {
                last_word().or_else(|| failures.first().cloned()).or_else(|| Some(format!("exit code {code}")))
            }
        };
        Self {
            verdict,
            passed: passes.len(),
            failed: failures.len(),
            skipped: skips.len(),
            failures,
            skips,
            because,
            seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_passes_only_with_exit_code_0_and_without_a_failure() {
        let printed = "PASS: a\r\nSKIP: b\r\nPASS: c\r\n";
        let outcome = Outcome::judge(&End::Exit(0), printed, 0.0);
        assert_eq!((outcome.verdict, outcome.passed, outcome.skipped), (Verdict::Pass, 2, 1));
        let outcome = Outcome::judge(&End::Exit(0), "PASS: a\r\nFAIL: b\r\n", 0.0);
        assert_eq!((outcome.verdict, outcome.because.as_deref()), (Verdict::Fail, Some("b")));
        assert_eq!(Outcome::judge(&End::Exit(1), printed, 0.0).verdict, Verdict::Fail);
        assert_eq!(Outcome::judge(&End::Stopped("x".into()), printed, 0.0).verdict, Verdict::Fail);
    }

    #[test]
    fn reasons_come_from_what_was_said_last() {
        let because = |end, printed| Outcome::judge(&end, printed, 0.0).because.unwrap_or_default();
        assert_eq!(because(End::Exit(38), "SKIP: no SMAP\r\n"), "no SMAP");
        assert_eq!(because(End::Timeout, "one\r\ntwo\r\n"), "out of time after “two”");
        assert_eq!(
            because(End::Exit(127), "FAIL: a\nUnhandled exception 6 #UD at ip 1\n"),
            "Unhandled exception 6 #UD at ip 1"
        );
        assert_eq!(because(End::Exit(9), ""), "exit code 9");
    }
}
