//! Runs the kvm-unit-tests of a built tree on one of bulla's backends and says what passes, what does not, and why.
//!
//! The tests are Multiboot images for a PC with a few devices of their own. This program is a second, small machine
//! around the same backends and devices that `bulla run` uses: no firmware, no vTPM, but those test devices.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bulla_vmm::backend::Backend;
use bulla_vmm::backend::kvm::KvmBackend;
use bulla_vmm::backend::soft::{Pace, SoftBackend};
use clap::{Parser, ValueEnum};

mod board;
mod clock;
mod multiboot;
mod ports;
mod reasons;
mod reference;
mod suite;
mod table;
mod transcript;

use suite::Test;
use table::Row;
use transcript::{Outcome, Verdict};

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

/// What executes the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Accel {
    /// The host's KVM.
    Kvm,
    /// The software CPU.
    Soft,
    /// QEMU's software CPU, to see what passing looks like.
    Tcg,
}

/// Runs kvm-unit-tests on bulla.
#[derive(Debug, Parser)]
struct Arguments {
    /// A tree of kvm-unit-tests, built for x86_64.
    tree: PathBuf,
    /// What executes them.
    #[arg(long, value_enum, default_value = "soft")]
    accel: Accel,
    /// Only tests of these names (comma-separated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Longest time for one test, in seconds.
    #[arg(long)]
    limit: Option<u64>,
    /// How many times the suite's own time limits a test may take: they are meant for processors of hardware.
    #[arg(long, default_value_t = 4)]
    patience: u32,
    /// The QEMU for `--accel tcg`.
    #[arg(long, default_value = "qemu-system-x86_64")]
    qemu: PathBuf,
    /// Results of another run (its `--json`), for the table's other column.
    #[arg(long)]
    compare: Option<PathBuf>,
    /// Results of an earlier run (its `--json`) instead of a new one.
    #[arg(long)]
    load: Option<PathBuf>,
    /// Keep what each test prints in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Write the results to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the table to this file.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Fail unless all of these pass (comma-separated).
    #[arg(long, value_delimiter = ',')]
    must_pass: Vec<String>,
}

/// What executes one test: the verdict, and what the test printed.
type Runner = Box<dyn Fn(&Test, Duration) -> (Outcome, String)>;

fn runner(arguments: &Arguments) -> Anything<Runner> {
    let backend: Box<dyn Backend> = match arguments.accel {
        Accel::Kvm => Box::new(KvmBackend::open()?),
        Accel::Soft => Box::new(SoftBackend::new(Pace::Host)),
        Accel::Tcg => {
            let qemu = arguments.qemu.clone();
            return Ok(Box::new(move |test, limit| reference::run(test, limit, &qemu)));
        }
    };
    Ok(Box::new(move |test, limit| board::run(test, limit, &*backend)))
}

/// Runs the tests.
fn run(arguments: &Arguments) -> Anything<Vec<Row>> {
    let run = runner(arguments)?;
    let mut tests = suite::read(&arguments.tree)?;
    if !arguments.only.is_empty() {
        tests.retain(|test| arguments.only.contains(&test.name));
    }
    if let Some(folder) = &arguments.keep {
        fs::create_dir_all(folder)?;
    }
    let mut rows = Vec::new();
    for test in &tests {
        let limit = test.timeout.saturating_mul(arguments.patience);
        let limit = arguments.limit.map_or(limit, |most| limit.min(Duration::from_secs(most)));
        let row = if test.not_here.is_some() {
            Row::not_run(test)
        } else {
            let (outcome, printed) = run(test, limit);
            if let Some(folder) = &arguments.keep {
                fs::write(folder.join(&test.name), printed)?;
            }
            Row { name: test.name.clone(), outcome }
        };
        println!("{row}");
        rows.push(row);
    }
    Ok(rows)
}

fn load(path: &Path) -> Anything<Vec<Row>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn main() -> Anything<ExitCode> {
    let arguments = Arguments::parse();
    let rows = match &arguments.load {
        Some(path) => load(path)?,
        None => run(&arguments)?,
    };
    println!("{}", table::summary(&rows));
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    if let Some(path) = &arguments.markdown {
        let others = arguments.compare.as_deref().map(load).transpose()?.unwrap_or_default();
        fs::write(path, table::markdown(&rows, &others))?;
    }
    let passed = |name: &String| rows.iter().any(|row| row.name == *name && row.outcome.verdict == Verdict::Pass);
    let missing: Vec<&String> = arguments.must_pass.iter().filter(|name| !passed(name)).collect();
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("these do not pass: {missing:?}");
    Ok(ExitCode::FAILURE)
}
