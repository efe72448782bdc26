//! `--deterministic`: the same run from the same inputs.

use std::path::Path;

use bulla_tests::{TempDir, command, run, run_expecting, stock_kernel_or_skip};

/// Runs the arguments, and returns what happened at which VM time (in nanoseconds, 8 for an instruction).
fn events(arguments: &[&str]) -> Vec<(String, u64)> {
    let mut run = command("bulla");
    run.args(["run", "--deterministic", "--json", "--timeout", "300"]).args(arguments);
    let events: Vec<(String, u64)> = run_expecting(&mut run, 0)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|event| {
            let what = event["milestone"].as_str().or(event["stopped"].as_str())?;
            Some((what.to_owned(), event["vm_ns"].as_u64()?))
        })
        .collect();
    assert!(events.iter().any(|(what, at)| what == "handover" && *at > 1_000_000), "{events:?}");
    events
}

#[test]
fn every_milestone_of_the_measured_boot_comes_at_the_same_instruction() {
    let arguments = ["--kernel", "tenant", "--memory", "64M", "--until", "handover"];
    assert_eq!(events(&arguments), events(&arguments));
    let more = ["--kernel", "tenant", "--memory", "64M", "--until", "handover", "--cmdline", "x=y"];
    assert_ne!(events(&arguments), events(&more), "another input is another run");
}

/// A kernel that finds no root file system, up to that point: its console has the time of each line in it.
fn boot(kernel: &Path, console: &Path) -> (Vec<(String, u64)>, String) {
    let (kernel, console) = (kernel.to_str().unwrap(), console.to_str().unwrap());
    let cmdline = "console=ttyS0 cryptomgr.notests";
    let until = "console:Unable to mount root fs";
    let arguments = ["--kernel", kernel, "--cmdline", cmdline, "--console", console, "--until", until];
    (events(&arguments), std::fs::read_to_string(console).unwrap())
}

#[test]
fn a_stock_kernel_prints_the_same_bytes_at_the_same_times() {
    let Some(kernel) = stock_kernel_or_skip("a deterministic boot of a stock kernel") else { return };
    let scratch = TempDir::new().unwrap();
    let one = boot(&kernel, &scratch.path().join("one"));
    let two = boot(&kernel, &scratch.path().join("two"));
    assert!(one.1.contains("Linux version"), "{}", one.1);
    assert_eq!(one, two);
}

#[test]
fn it_is_refused_with_kvm() {
    let output = run(command("bulla").args(["run", "--deterministic", "--accel", "kvm", "--kernel", "tenant"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("deterministic"));
}
