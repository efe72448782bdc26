//! The results, for people.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::reasons;
use crate::suite::Test;
use crate::transcript::{End, Outcome, Verdict};

/// One test's results.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// The same on QEMU's software CPU.
    pub(crate) reference: Option<Outcome>,
    /// Why it does not pass, as somebody found who looked.
    pub(crate) reason: Option<&'static str>,
}

impl Row {
    pub(crate) fn new(test: &Test, outcome: Outcome, reference: Option<Outcome>) -> Self {
        // Also a test that passes may leave something out.
        let complete = outcome.verdict == Verdict::Pass && outcome.skipped == 0;
        let reason = if complete { None } else { reasons::of(&test.name) };
        Self { name: test.name.clone(), outcome, reference, reason }
    }

    /// A test that the suite does not want to be run here.
    pub(crate) fn not_run(test: &Test) -> Self {
        let why = test.not_here.clone().unwrap_or_default();
        Self::new(test, Outcome::judge(&End::NotRun(why), "", 0.0), None)
    }

    fn why(&self) -> String {
        match (self.reason, &self.outcome.because) {
            (Some(reason), _) => reason.to_owned(),
            (None, Some(because)) => format!("“{}”", because.trim_matches(['“', '”'])),
            (None, None) => String::new(),
        }
    }
}

fn counts(outcome: &Outcome) -> String {
    format!("{}/{}/{}", outcome.passed, outcome.failed, outcome.skipped)
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, outcome, .. } = self;
        write!(f, "{} {name:<34} {:>12} {:>7.2} s", outcome.verdict, counts(outcome), outcome.seconds)?;
        if let Some(reference) = &self.reference {
            write!(f, " | QEMU {} {:>12} {:>7.2} s", reference.verdict, counts(reference), reference.seconds)?;
        }
        if let Some(because) = &outcome.because {
            write!(f, "  {because}")?;
        }
        Ok(())
    }
}

/// One line about all.
pub(crate) fn summary(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.outcome.verdict == verdict).count();
    let sum = |f: fn(&Outcome) -> usize| rows.iter().map(|row| f(&row.outcome)).sum::<usize>();
    format!(
        "{} tests pass, {} fail, {} are skipped; sub-tests: {} pass, {} fail, {} are skipped",
        count(Verdict::Pass),
        count(Verdict::Fail),
        count(Verdict::Skip),
        sum(|o| o.passed),
        sum(|o| o.failed),
        sum(|o| o.skipped),
    )
}

/// What the page says before its table.
const INTRODUCTION: &str = "\
Written by `bulla-kut`, which runs the images of a built tree of kvm-unit-tests (x86_64) on one of bulla's backends, and
for comparison on QEMU's own software CPU (TCG). Nobody edits this page; reasons are in `tests/src/kut/reasons.rs`.

The machine is bulla's: its devices, its ACPI tables, its CPUID; no PCI bus, no firmware under the test. The devices that
only the suite needs (exit port, test device, two keys of the configuration port) are hidden ones of the runner.
Counts are sub-tests that pass/fail/are skipped by the test itself.
";

/// The page for the documentation.
pub(crate) fn markdown(rows: &[Row], backend: &str) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
    let mut page = format!("# kvm-unit-tests on bulla ({backend})\n\n{INTRODUCTION}\n{}.\n\n", summary(rows));
    page.push_str("| test | bulla | counts | QEMU TCG | counts | why |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let (verdict, numbers) = match &row.reference {
            Some(reference) => (reference.verdict.to_string(), counts(reference)),
            None => ("–".to_owned(), String::new()),
        };
        let ours = (row.outcome.verdict, counts(&row.outcome));
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| {} | {} | {} | {verdict} | {numbers} | {} |",
            cell(&row.name),
            ours.0,
            ours.1,
            cell(&row.why())
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_break_out_of_the_table() {
        let outcome = Outcome::judge(&End::Stopped("a | b\nc".to_owned()), "", 0.0);
        let row = Row { name: "x".to_owned(), outcome, reference: None, reason: None };
        let page = markdown(&[row], "soft");
        assert!(page.ends_with("| x | FAIL | 0/0/0 | – |  | “a \\| b c” |\n"), "{page}");
        assert!(page.contains("0 tests pass, 1 fail, 0 are skipped"));
    }
}
