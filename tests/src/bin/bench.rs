//! Whole-process benchmark: how long a tenant takes from process start to a verified quote, what the processes weigh, what
//! an exit costs. Prints medians and the aims; fails only if something does not work, never because of a time.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bulla_attest::{Expected, HostKey, Policy, SignedEvidence, appraise};
use bulla_boot_abi::mailbox::{BenchKind, Reply, Request};
use bulla_boot_abi::map::{FIRMWARE_REGION_SIZE, MAILBOX_SIZE};
use bulla_tests::resident;
use bulla_vmm::devices::tpm::TpmInterface;
use bulla_vmm::measure::{BootInputs, expected};
use bulla_vmm::tenant::Mailbox;
use clap::Parser;
use serde::Serialize;

/// Measures bulla on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many VMs to start; medians are printed.
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// Exits a kind and run.
    #[arg(long, default_value_t = 2000)]
    exits: u32,
    /// What executes the guest: auto, kvm or soft, as for `bulla run`.
    #[arg(long, default_value = "auto")]
    accel: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

const MEMORY: u64 = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// One number: what it is, its unit, and what we aim for.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    unit: &'static str,
    median: f64,
    worst: f64,
    aim: Option<f64>,
}

fn main() -> Anything<()> {
    let arguments = Arguments::parse();
    let expected = expected(&BootInputs {
        firmware: bulla_firmware::FIRMWARE,
        bootloader: bulla_firmware::BOOTLOADER,
        kernel: bulla_firmware::TENANT,
        initrd: None,
        cmdline: "",
        memory: MEMORY,
        vcpus: 1,
        tpm_interface: TpmInterface::Crb,
    })?;
    let mut samples: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..arguments.runs.max(1) {
        for (name, value) in sample(&expected, &arguments)? {
            samples.entry(name).or_default().push(value);
        }
    }
    let rows: Vec<Row> = ROWS.iter().map(|&(name, unit, aim)| row(name, unit, aim, &mut samples)).collect();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    println!("{} runs of a tenant with {} MiB, --accel {}; medians", arguments.runs, MEMORY >> 20, arguments.accel);
    for row in &rows {
        let aim = row.aim.map(|aim| format!("aim < {aim}, ratio {:.2}", row.median / aim)).unwrap_or_default();
        println!("{:<44} {:>9.2} {:<3} (worst {:>9.2})  {aim}", row.name, row.median, row.unit, row.worst);
    }
    Ok(())
}

const FIRST: &str = "process start to first guest instruction";
const FIRMWARE: &str = "process start to firmware and bootloader done";
const VERIFIED: &str = "process start to verified quote";
const VTPM: &str = "vTPM process, resident";
const VMM: &str = "VMM process beside guest memory, resident";
const PORT: &str = "port exit, guest ring 3";
const MMIO: &str = "MMIO exit, guest ring 3";

const ROWS: [(&str, &str, Option<f64>); 7] = [
    (FIRST, "ms", None),
    (FIRMWARE, "ms", None),
    (VERIFIED, "ms", Some(150.0)),
    (VTPM, "MB", Some(4.0)),
    (VMM, "MB", Some(8.0)),
    (PORT, "µs", None),
    (MMIO, "µs", None),
];

fn row(
    name: &'static str,
    unit: &'static str,
    aim: Option<f64>,
    samples: &mut BTreeMap<&'static str, Vec<f64>>,
) -> Row {
    let values = samples.entry(name).or_default();
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    Row { name, unit, median, worst: values.last().copied().unwrap_or(f64::NAN), aim }
}

/// A monitor that is killed when the sample is over, however it ends.
struct Vm(Child);

impl Drop for Vm {
    fn drop(&mut self) {
        // Gone already if the guest powered off.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sample(expected: &Expected, arguments: &Arguments) -> Anything<Vec<(&'static str, f64)>> {
    let mut mailbox = Mailbox::create()?;
    let nonce = vec![0x5a; 32];
    mailbox.post(&Request::Quote { nonce: nonce.clone() })?;

    let start = Instant::now();
    let start_ns = monotonic_ns();
    let mut child = Command::new(bulla_tests::program("bulla"))
        .args([
            "run",
            "--accel",
            &arguments.accel,
            "--kernel",
            "tenant",
            "--memory",
            &MEMORY.to_string(),
            "--console",
            "none",
            "--json",
            "--mailbox",
        ])
        .arg(mailbox.region().path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let events = child.stdout.take().ok_or("no standard output")?;
    let mut vm = Vm(child);
    let reply = mailbox.wait(PATIENCE, || matches!(vm.0.try_wait(), Ok(None)))?;
    if !verified(reply, &nonce, expected)? {
        return Err("the quote does not verify".into());
    }
    let verified = start.elapsed().as_secs_f64() * 1e3;

    let mut out = vec![(VERIFIED, verified)];
    out.extend(memory(vm.0.id())?);
    for (name, kind) in [(PORT, BenchKind::Port), (MMIO, BenchKind::Mmio)] {
        let begin = Instant::now();
        mailbox.ask(&Request::Bench { kind, count: arguments.exits }, PATIENCE, || true)?;
        out.push((name, begin.elapsed().as_secs_f64() * 1e6 / f64::from(arguments.exits)));
    }
    mailbox.post(&Request::PowerOff)?;
    let milestones = milestones(events)?;
    let since = |name: &str| -> Anything<f64> {
        let at = milestones.get(name).ok_or_else(|| format!("no milestone {name}"))?;
        Ok(at.saturating_sub(start_ns) as f64 / 1e6)
    };
    out.push((FIRST, since("firmware-entered")?));
    out.push((FIRMWARE, since("handover")?));
    Ok(out)
}

fn verified(reply: Reply, nonce: &[u8], expected: &Expected) -> Anything<bool> {
    let evidence = bulla_vmm::evidence::from_tenant(nonce, reply)?.ok_or("the tenant answered with something else")?;
    let signed = SignedEvidence::from_bytes(&evidence.sign(&HostKey::generate()?)?)?;
    Ok(appraise(&signed, nonce, Some(expected), &Policy::default()).accepted)
}

/// When each milestone was reached, CLOCK_MONOTONIC in nanoseconds, from the JSON lines of `bulla run --json`.
fn milestones(events: ChildStdout) -> Anything<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for line in BufReader::new(events).lines() {
        let event: serde_json::Value = serde_json::from_str(&line?)?;
        if let (Some(name), Some(at)) = (event["milestone"].as_str(), event["monotonic_ns"].as_u64()) {
            found.entry(name.to_owned()).or_insert(at);
        }
    }
    Ok(found)
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Resident memory of the monitor without the guest's, and of its vTPM, in MB (10^6 bytes).
fn memory(monitor: u32) -> Anything<Vec<(&'static str, f64)>> {
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children"))?;
    let vtpm: u32 = children.split_whitespace().next().ok_or("the monitor has no child process")?.parse()?;
    let guest = [MEMORY, FIRMWARE_REGION_SIZE, MAILBOX_SIZE];
    Ok(vec![(VMM, resident(monitor, &guest)?), (VTPM, resident(vtpm, &[])?)])
}
