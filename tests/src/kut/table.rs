//! The results, for people.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::reasons;
use crate::suite::Test;
use crate::transcript::{End, Outcome, Verdict};

/// One test's results.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
}

impl Row {
    /// A test that the suite does not want to be run here.
    pub(crate) fn not_run(test: &Test) -> Self {
        let why = test.not_here.clone().unwrap_or_default();
        Self { name: test.name.clone(), outcome: Outcome::judge(&End::NotRun(why), "", 0.0) }
    }

    /// Why it does not pass as a whole: as somebody found who looked, or else in the run's own words. A test that passes
    /// may leave parts out.
    fn why(&self) -> String {
        let outcome = &self.outcome;
        if outcome.verdict == Verdict::Pass && outcome.skipped == 0 {
            return String::new();
        }
        match (reasons::of(&self.name), &outcome.because, outcome.skips.first()) {
            (Some(reason), ..) => reason.to_owned(),
            (None, Some(words), _) | (None, None, Some(words)) => format!("“{}”", words.replace(['“', '”'], "'")),
            (None, None, None) => String::new(),
        }
    }
}

fn counts(outcome: &Outcome) -> String {
    format!("{}/{}/{}", outcome.passed, outcome.failed, outcome.skipped)
}

/// The verdict; a test that was stopped when its time was over has not been judged.
fn verdict(outcome: &Outcome) -> String {
    let stopped = outcome.because.as_deref().is_some_and(|why| why.starts_with("out of time"));
    if stopped { "no end".to_owned() } else { outcome.verdict.to_string() }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, outcome, .. } = self;
        write!(f, "{} {name:<34} {:>12} {:>7.2} s", outcome.verdict, counts(outcome), outcome.seconds)?;
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
Written by `bulla-kut` (`--markdown`), which runs the images of a built tree of kvm-unit-tests (x86_64) on one of bulla's
backends, and for comparison on QEMU's own software CPU (`--accel tcg`). Nobody edits this page; reasons are in
`tests/src/kut/reasons.rs`, those in quotation marks are the test's own words.

The machine is bulla's: its devices, its ACPI tables, its CPUID; no PCI bus, no firmware under the test. The devices that
only the suite needs (exit port, test device, two keys of the configuration port) are hidden ones of the runner.
The suite is told that there is no KVM below it (`TEST_DEVICE=0`, as for runs on bare metal). Counts are sub-tests that
pass/fail/are skipped by the test itself; some tests have none and only an exit code.
“no end”: stopped when its time was over, which counts as a failure in the sum. The run on this page had two busy cores,
up to 270 seconds a test for bulla, 40 for QEMU 7.2.
";

/// The page for the documentation: `rows`, beside those of another run.
pub(crate) fn markdown(rows: &[Row], others: &[Row]) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
    let mut page = format!("# kvm-unit-tests on bulla's software CPU\n\n{INTRODUCTION}\n{}.\n\n", summary(rows));
    page.push_str(
        "| test | bulla | counts | QEMU TCG | counts | why not all of it passes |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let other = others.iter().find(|other| other.name == row.name).map(|other| &other.outcome);
        let (others_own, numbers) = other.map_or_else(Default::default, |o: &Outcome| (verdict(o), counts(o)));
        let (own, own_counts) = (verdict(&row.outcome), counts(&row.outcome));
        let (name, why) = (cell(&row.name), cell(&row.why()));
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {name} | {own} | {own_counts} | {others_own} | {numbers} | {why} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_break_out_of_the_table() {
        let outcome = Outcome::judge(&End::Stopped("a | b\nc".to_owned()), "", 0.0);
        let row = Row { name: "x".to_owned(), outcome };
        let page = markdown(&[row], &[]);
        assert!(page.ends_with("| x | FAIL | 0/0/0 |  |  | “a \\| b c” |\n"), "{page}");
        assert!(page.contains("0 tests pass, 1 fail, 0 are skipped"));
    }
}
