//! Runs the kvm-unit-tests of a built tree on one of bulla's backends and says what passes, what does not, and why.
//!
//! The tests are Multiboot images for a PC with a few devices of their own. This program is a second, small machine
//! around the same backends and devices that `bulla run` uses: no firmware, no vTPM, but those test devices.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
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

use table::Row;
use transcript::Verdict;

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

/// What executes the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Accel {
    /// The host's KVM.
    Kvm,
    /// The software CPU.
    Soft,
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
    #[arg(long, default_value_t = 90)]
    limit: u64,
    /// Run each test on this QEMU's software CPU as well.
    #[arg(long)]
    reference: Option<PathBuf>,
    /// Keep what each test prints in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write the table to this file.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Fail unless all of these pass (comma-separated).
    #[arg(long, value_delimiter = ',')]
    must_pass: Vec<String>,
}

fn open(accel: Accel) -> Anything<Box<dyn Backend>> {
    match accel {
        Accel::Kvm => Ok(Box::new(KvmBackend::open()?)),
        Accel::Soft => Ok(Box::new(SoftBackend::new(Pace::Host))),
    }
}

fn main() -> Anything<ExitCode> {
    let arguments = Arguments::parse();
    let backend = open(arguments.accel)?;
    let mut tests = suite::read(&arguments.tree)?;
    if !arguments.only.is_empty() {
        tests.retain(|test| arguments.only.contains(&test.name));
    }
    if let Some(folder) = &arguments.keep {
        fs::create_dir_all(folder)?;
    }
    let mut rows = Vec::new();
    for test in &tests {
        let limit = test.timeout.min(Duration::from_secs(arguments.limit));
        let keep = |kind: &str, printed: &str| match &arguments.keep {
            Some(folder) => fs::write(folder.join(format!("{}.{kind}", test.name)), printed),
            None => Ok(()),
        };
        let row = if test.not_here.is_some() {
            Row::not_run(test)
        } else {
            let (ours, printed) = board::run(test, limit, &*backend);
            keep(backend.name(), &printed)?;
            let reference = arguments.reference.as_ref().map(|qemu| reference::run(test, limit, qemu));
            if let Some((_, printed)) = &reference {
                keep("qemu", printed)?;
            }
            Row::new(test, ours, reference.map(|(outcome, _)| outcome))
        };
        if !arguments.json {
            println!("{row}");
        }
        rows.push(row);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table::summary(&rows));
    }
    if let Some(path) = &arguments.markdown {
        fs::write(path, table::markdown(&rows, backend.name()))?;
    }
    let passed = |name: &String| rows.iter().any(|row| row.name == *name && row.outcome.verdict == Verdict::Pass);
    let missing: Vec<&String> = arguments.must_pass.iter().filter(|name| !passed(name)).collect();
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("these do not pass: {missing:?}");
    Ok(ExitCode::FAILURE)
}
