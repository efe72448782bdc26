//! Runs generated instructions on this machine's processor and on the software processor, and reports where they differ.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use bulla_differential::compare::{Verdict, start};
use bulla_differential::generate::Generator;
use bulla_differential::host::Host;
use bulla_differential::run::{Report, Series, Summary, parallel, replay};
use bulla_differential::{compare, worker};
use clap::{Parser, Subcommand};

/// The software processor against the one of this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run tests and report differences.
    Run {
        /// Seed of the series.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many tests.
        #[arg(long, default_value_t = 100_000)]
        cases: u64,
        /// The first one.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Processes, each with a series of its own.
        #[arg(long, default_value_t = 1)]
        jobs: u64,
        /// Reports to print.
        #[arg(long, default_value_t = 10)]
        reports: usize,
        /// Count the differences by instruction and field as well.
        #[arg(long)]
        histogram: bool,
    },
    /// Run one test again, and print it whole.
    Replay {
        /// Seed of the series.
        seed: u64,
        /// Number of the test.
        index: u64,
    },
    /// Only run the tests on this machine's processor.
    Host {
        /// How many tests.
        #[arg(long, default_value_t = 100_000)]
        cases: u64,
    },
    /// What the program starts itself as, to run code in.
    #[command(hide = true)]
    Worker,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<bool, Error> {
    let program = std::env::current_exe()?;
    match command {
        Command::Worker => {
            worker::work()?;
            Ok(true)
        }
        Command::Run { seed, cases, first, jobs, reports, histogram } => {
            let keep = if histogram { usize::MAX } else { reports };
            let wanted = Series { seed, first, count: cases, reports: keep };
            let since = Instant::now();
            let summary = parallel(&program, wanted, jobs)?;
            print(&summary, reports, histogram, since.elapsed().as_secs_f64());
            Ok(summary.different == 0)
        }
        Command::Replay { seed, index } => {
            let (test, host, soft, verdict) = replay(program, seed, index)?;
            print!("{}{}", compare::listing(&test), start(&test.case));
            println!("host: {}, soft: {}", host.event, soft.event);
            match verdict {
                Verdict::Same => println!("the same"),
                Verdict::Void(why) => println!("says nothing: {why}"),
                Verdict::Different(fields) => {
                    for d in fields {
                        println!("  {}: host {}, soft {}", d.field, d.host, d.soft);
                    }
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Command::Host { cases } => {
            let since = Instant::now();
            let mut host = Host::start(program)?;
            let mut generator = Generator::new(1);
            let mut events: BTreeMap<String, u64> = BTreeMap::new();
            for first in (0..cases).step_by(64) {
                let batch: Vec<_> = (first..first + 64).map(|n| generator.test(n).case).collect();
                host.send(&batch);
                for outcome in host.outcomes(&batch, None)? {
                    let name = match outcome.event {
                        bulla_differential::case::Event::Exception { vector, .. } => format!("exception {vector}"),
                        event => event.to_string(),
                    };
                    *events.entry(name).or_default() += 1;
                }
            }
            println!(
                "{events:#?}\n{} deaths; {:.0} a second",
                host.deaths,
                cases as f64 / since.elapsed().as_secs_f64()
            );
            Ok(true)
        }
    }
}

fn print(summary: &Summary, reports: usize, histogram: bool, seconds: f64) {
    for report in summary.reports.iter().take(reports) {
        println!("{report}");
    }
    if histogram {
        let mut keys: BTreeMap<&str, (u64, &Report)> = BTreeMap::new();
        for report in &summary.reports {
            keys.entry(&report.key).or_insert((0, report)).0 += 1;
        }
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (key, (count, report)) in keys {
            println!("{count:8} {key} (replay {} {})", report.seed, report.index);
        }
    }
    let exceptions: Vec<String> =
        summary.exceptions.iter().enumerate().filter(|(_, n)| **n != 0).map(|(v, n)| format!("{v}: {n}")).collect();
    println!(
        "{} cases in {seconds:.1} s ({:.0} a second): {} came through, exceptions {{{}}}, {} undefined instructions, {} said nothing, {} different",
        summary.cases,
        summary.cases as f64 / seconds,
        summary.through,
        exceptions.join(", "),
        summary.undefined,
        summary.void,
        summary.different,
    );
}
