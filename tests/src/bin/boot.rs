//! Whole-boot benchmark: a stock kernel, measured, from process start to user space and power-off, on bulla's software
//! processor and on the peer (QEMU's emulator with OVMF and swtpm), taking turns on the same machine. Prints medians and the
//! ratio; fails only if something does not work, never because of a time.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use bulla_tests::{program, resident};
use clap::Parser;
use serde::Serialize;

/// Boots a stock kernel on bulla's software processor and on QEMU + OVMF + swtpm in turn.
#[derive(Debug, Parser)]
struct Arguments {
    /// The kernel.
    #[arg(long)]
    kernel: PathBuf,
    /// Initial RAM disk whose first program powers off; by default one with bulla's agent.
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// Kernel command line. The default one leaves out the crypto self-tests and has the agent end at once.
    #[arg(long, default_value = "console=ttyS0 panic=-1 cryptomgr.notests -- --port /nonexistent")]
    cmdline: String,
    /// Boots each; medians are printed.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only bulla.
    #[arg(long)]
    no_peer: bool,
    /// OVMF's code image.
    #[arg(long, default_value = "/usr/share/OVMF/OVMF_CODE_4M.fd")]
    ovmf: PathBuf,
    /// OVMF's empty variables.
    #[arg(long, default_value = "/usr/share/OVMF/OVMF_VARS_4M.fd")]
    ovmf_variables: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

const MEMORY: u64 = 512 << 20;
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Serialize)]
struct Report {
    runs: usize,
    bulla_seconds: f64,
    bulla_worst_seconds: f64,
    /// Largest seen, in 10⁶ bytes, of the monitor without the guest's memory.
    bulla_overhead_mb: f64,
    peer_seconds: Option<f64>,
    peer_worst_seconds: Option<f64>,
    ratio: Option<f64>,
}

fn main() -> Anything<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    let initrd = match &arguments.initrd {
        Some(path) => path.clone(),
        None => {
            let path = dir.path().join("agent.img");
            let made = Command::new(program("bulla-attest")).arg("initramfs").arg("-o").arg(&path).status()?;
            if !made.success() {
                return Err("bulla-attest initramfs failed".into());
            }
            path
        }
    };
    let (mut ours, mut theirs, mut overhead) = (Vec::new(), Vec::new(), 0.0f64);
    for run in 0..arguments.runs.max(1) {
        eprintln!("run {} of {}", run + 1, arguments.runs.max(1));
        let (seconds, resident) = bulla(&arguments, &initrd, dir.path())?;
        ours.push(seconds);
        overhead = overhead.max(resident);
        if !arguments.no_peer {
            theirs.push(peer(&arguments, &initrd, dir.path())?);
        }
    }
    let (bulla_seconds, bulla_worst_seconds) = summary(&mut ours).ok_or("no run")?;
    let peer = summary(&mut theirs);
    let report = Report {
        runs: ours.len(),
        bulla_seconds,
        bulla_worst_seconds,
        bulla_overhead_mb: overhead,
        peer_seconds: peer.map(|p| p.0),
        peer_worst_seconds: peer.map(|p| p.1),
        ratio: peer.map(|p| bulla_seconds / p.0),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!(
        "measured boot to user space and power-off, 1 processor, {} MiB, medians of {}",
        MEMORY >> 20,
        report.runs
    );
    println!("bulla --accel soft          {bulla_seconds:>7.2} s (worst {bulla_worst_seconds:.2})");
    if let (Some(median), Some(worst), Some(ratio)) = (report.peer_seconds, report.peer_worst_seconds, report.ratio) {
        println!("QEMU TCG + OVMF + swtpm     {median:>7.2} s (worst {worst:.2})");
        println!("ratio                       {ratio:>7.2}   (aim <= 1.0)");
    }
    println!("bulla beside guest memory   {overhead:>7.1} MB (aim < 64)");
    Ok(())
}

/// Median and worst.
fn summary(samples: &mut [f64]) -> Option<(f64, f64)> {
    samples.sort_by(f64::total_cmp);
    Some((samples.get(samples.len() / 2).copied()?, samples.last().copied()?))
}

/// Killed when it goes out of scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the process to end by itself, looking at `each` now and then.
fn wait(child: &mut Running, what: &str, mut each: impl FnMut(u32)) -> Anything<()> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.0.try_wait()? {
            return if status.success() { Ok(()) } else { Err(format!("{what}: {status}").into()) };
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("{what} does not end").into());
        }
        each(child.0.id());
        thread::sleep(Duration::from_millis(20));
    }
}

/// The console must show that user space was reached and that it was the guest that switched off.
fn check(console: &Path, what: &str) -> Anything<()> {
    let text = String::from_utf8_lossy(&fs::read(console)?).into_owned();
    for wanted in ["Run /init as init process", "reboot: Power down"] {
        if !text.contains(wanted) {
            return Err(format!("{what}: no '{wanted}' on the console").into());
        }
    }
    Ok(())
}

fn bulla(arguments: &Arguments, initrd: &Path, dir: &Path) -> Anything<(f64, f64)> {
    let console = dir.join("bulla.log");
    let start = Instant::now();
    let child = Command::new(program("bulla"))
        .args(["run", "--accel", "soft", "--memory", &MEMORY.to_string(), "--cmdline", &arguments.cmdline])
        .arg("--kernel")
        .arg(&arguments.kernel)
        .arg("--initrd")
        .arg(initrd)
        .arg("--console")
        .arg(&console)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut overhead = 0.0f64;
    let guest = [MEMORY, bulla_boot_abi::map::FIRMWARE_REGION_SIZE];
    wait(&mut Running(child), "bulla run", |pid| {
        // Gone between two looks: the last one counts.
        overhead = overhead.max(resident(pid, &guest).unwrap_or(0.0));
    })?;
    let seconds = start.elapsed().as_secs_f64();
    check(&console, "bulla")?;
    Ok((seconds, overhead))
}

fn peer(arguments: &Arguments, initrd: &Path, dir: &Path) -> Anything<f64> {
    let (state, socket) = (dir.join("swtpm"), dir.join("swtpm.sock"));
    // Each boot finds a machine that is new.
    let _ = fs::remove_dir_all(&state);
    fs::create_dir(&state)?;
    let variables = dir.join("variables.fd");
    fs::copy(&arguments.ovmf_variables, &variables)?;
    let console = dir.join("qemu.log");
    let start = Instant::now();
    let tpm = Command::new("swtpm")
        .args(["socket", "--tpm2", "--tpmstate"])
        .arg(format!("dir={}", state.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("swtpm: {e} (apt-get install swtpm)"))?;
    let _tpm = Running(tpm);
    while !socket.exists() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err("swtpm does not start".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-machine", "q35", "-cpu", "max", "-smp", "1", "-m", "512M", "-no-reboot"])
        .args(["-nodefaults", "-display", "none", "-vga", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-drive")
        .arg(format!("if=pflash,format=raw,unit=0,readonly=on,file={}", arguments.ovmf.display()))
        .arg("-drive")
        .arg(format!("if=pflash,format=raw,unit=1,file={}", variables.display()))
        .arg("-chardev")
        .arg(format!("socket,id=tpm,path={}", socket.display()))
        .args(["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"])
        .arg("-kernel")
        .arg(&arguments.kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", &arguments.cmdline])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("qemu-system-x86_64: {e} (apt-get install qemu-system-x86 ovmf)"))?;
    wait(&mut Running(child), "QEMU", |_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    check(&console, "QEMU")?;
    Ok(seconds)
}
