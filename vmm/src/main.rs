//! `bulla`: boots measured VMs, says what they should measure, and shows that it holds.
//!
//! A thin layer over the library `bulla_vmm`: arguments in, results out.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A virtual machine monitor whose VMs can prove what they booted.
///
/// Every VM has its own TPM 2.0 in a process of its own. Firmware, bootloader, kernel, initrd and command line are
/// measured into it before each runs; `bulla measure` computes the same values offline, and `bulla-attest verify` compares.
#[derive(Debug, Parser)]
#[command(name = "bulla", version, propagate_version = true, after_help = cli::AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole story in a few seconds, and check every part of it.
    Demo(cli::demo::Arguments),
    /// Boot a kernel in a measured VM.
    Run(Box<cli::run::Arguments>),
    /// Compute what a VM should measure, without running it.
    Measure(cli::measure::Arguments),
    /// Say what this host can do, and what to do about what is missing.
    Doctor(cli::doctor::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => cli::demo::run(&arguments),
        Command::Run(arguments) => cli::run::run(&arguments),
        Command::Measure(arguments) => cli::measure::run(&arguments),
        Command::Doctor(arguments) => cli::doctor::run(&arguments),
    };
    match result {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("bulla: {failure}");
            failure.exit().into()
        }
    }
}
