//! Runs a series of tests, and one test again.

use std::path::{Path, PathBuf};
use std::thread;

use crate::case::{Case, Event, Outcome};
use crate::compare::{self, Difference, Verdict, judge};
use crate::generate::{Generator, Test};
use crate::host::{self, Host, MAX_BATCH};
use crate::rules::Rule;
use crate::soft::Soft;

/// What a series came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Tests that were run.
    pub cases: u64,
    /// Of these, those that say nothing: they ended the worker, did not end, or set what only AMD has.
    pub void: u64,
    /// Those that came through on this machine.
    pub through: u64,
    /// Those that ended in an exception, by vector.
    pub exceptions: [u64; 32],
    /// Those for instructions that are not announced, or none.
    pub undefined: u64,
    /// Tests with a difference.
    pub different: u64,
    /// Reports of the first of them.
    pub reports: Vec<Report>,
}

impl Summary {
    /// Adds another series' counts and reports.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.void += other.void;
        self.through += other.through;
        self.undefined += other.undefined;
        self.different += other.different;
        for (to, from) in self.exceptions.iter_mut().zip(other.exceptions) {
            *to += from;
        }
        self.reports.extend(other.reports);
    }
}

/// A test with a difference.
#[derive(Clone, Debug)]
pub struct Report {
    /// The series.
    pub seed: u64,
    /// The test's number in it.
    pub index: u64,
    /// For counting like with like: the first instruction's mnemonic, and the fields.
    pub key: String,
    /// The test.
    pub test: Test,
    /// The fields.
    pub differences: Vec<Difference>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "replay {} {} ({:?})", self.seed, self.index, self.test.rule)?;
        write!(f, "{}", compare::listing(&self.test))?;
        for d in &self.differences {
            writeln!(f, "  {}: host {}, soft {}", d.field, d.host, d.soft)?;
        }
        Ok(())
    }
}

/// Which tests to run.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// Seed.
    pub seed: u64,
    /// First test.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How many reports to keep.
    pub reports: usize,
}

/// Runs a series; `program worker` is the worker.
pub fn series(program: PathBuf, series: Series) -> Result<Summary, host::Error> {
    let mut host = Host::start(program)?;
    let mut soft = Soft::new();
    let mut generator = Generator::new(series.seed);
    let mut summary = Summary::default();
    let end = series.first + series.count;
    let mut batch = |first: u64| -> (Vec<Test>, Vec<Case>) {
        let tests: Vec<Test> = (first..end.min(first + MAX_BATCH as u64)).map(|n| generator.test(n)).collect();
        let cases = tests.iter().map(|test| test.case.clone()).collect();
        (tests, cases)
    };
    let mut first = series.first;
    let mut now = batch(first);
    host.send(&now.1);
    while !now.0.is_empty() {
        // The worker has the next batch while this one is looked at.
        let next = batch(first + MAX_BATCH as u64);
        if !next.0.is_empty() {
            host.send(&next.1);
        }
        let outcomes = host.outcomes(&now.1, Some(next.1.as_slice()).filter(|next| !next.is_empty()))?;
        for ((index, test), outcome) in (first..).zip(&now.0).zip(&outcomes) {
            let soft = soft.run(&test.case);
            count(&mut summary, series, index, test, outcome, &soft);
        }
        first += now.0.len() as u64;
        now = next;
    }
    Ok(summary)
}

/// Cuts a series into `jobs` pieces that run at the same time.
pub fn parallel(program: &Path, wanted: Series, jobs: u64) -> Result<Summary, host::Error> {
    let piece = wanted.count.div_ceil(jobs.max(1));
    let threads: Vec<_> = (0..jobs.max(1))
        .map(|n| {
            let (first, program) = (wanted.first + n * piece, program.to_path_buf());
            let count = piece.min((wanted.first + wanted.count).saturating_sub(first));
            thread::spawn(move || series(program, Series { first, count, ..wanted }))
        })
        .collect();
    let mut whole = Summary::default();
    for thread in threads {
        let part = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        whole.add(part);
    }
    Ok(whole)
}

fn count(summary: &mut Summary, series: Series, index: u64, test: &Test, host: &Outcome, soft: &Outcome) {
    summary.cases += 1;
    summary.undefined += u64::from(test.rule != Rule::Compare);
    match host.event {
        Event::Through => summary.through += 1,
        Event::Exception { vector, .. } => {
            if let Some(count) = summary.exceptions.get_mut(usize::from(vector)) {
                *count += 1;
            }
        }
        _ => {}
    }
    match judge(test, host, soft) {
        Verdict::Same => {}
        Verdict::Void(_) => summary.void += 1,
        Verdict::Different(differences) => {
            summary.different += 1;
            if summary.reports.len() < series.reports {
                summary.reports.push(report(series.seed, index, test, differences));
            }
        }
    }
}

fn report(seed: u64, index: u64, test: &Test, differences: Vec<Difference>) -> Report {
    let names: Vec<String> = test.program.iter().map(|i| format!("{:?}", i.code())).collect();
    let fields: Vec<&str> =
        differences.iter().map(|d| if d.field.starts_with('[') { "memory" } else { d.field.as_str() }).collect();
    let key = if names.len() == 1 { format!("{} {}", names[0], fields.join(",")) } else { "sequence".to_owned() };
    Report { seed, index, key, test: test.clone(), differences }
}

/// One test again: its report if there is a difference, and both outcomes.
pub fn replay(program: PathBuf, seed: u64, index: u64) -> Result<(Test, Outcome, Outcome, Verdict), host::Error> {
    let test = Generator::new(seed).test(index);
    let host = Host::start(program)?.run(&test.case)?;
    let soft = Soft::new().run(&test.case);
    let verdict = judge(&test, &host, &soft);
    Ok((test, host, soft, verdict))
}
