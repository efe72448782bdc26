//! The same images on QEMU's own software CPU, to see what passing looks like.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Anything;
use crate::suite::Test;
use crate::transcript::{End, Outcome};

/// QEMU, stopped however we leave.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one test.
pub(crate) fn run(test: &Test, limit: Duration, qemu: &Path) -> (Outcome, String) {
    let start = Instant::now();
    let (end, printed) = attempt(test, limit, qemu).unwrap_or_else(|e| (End::NotRun(e.to_string()), String::new()));
    (Outcome::judge(&end, &printed, start.elapsed().as_secs_f64()), printed)
}

fn attempt(test: &Test, limit: Duration, qemu: &Path) -> Anything<(End, String)> {
    let files = tempfile::tempdir()?;
    let (out, err, env) = (files.path().join("out"), files.path().join("err"), files.path().join("env"));
    std::fs::write(&env, format!("NR_CPUS={}\nMEMSIZE={}\n", test.vcpus, test.memory()))?;
    let machine = ["-nodefaults", "-display", "none", "-serial", "stdio", "--no-reboot", "-accel", "tcg"];
    let devices = ["-device", "pc-testdev", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"];
    let child = Command::new(qemu)
        .args(machine)
        .args(devices)
        .args(["-smp", &test.vcpus.to_string()])
        .args(test.options.iter().filter(|word| *word != "-enable-kvm"))
        .arg("-kernel")
        .arg(&test.image)
        .arg("-initrd")
        .arg(&env)
        .args(["-append", &test.arguments()])
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .spawn()?;
    let mut child = Running(child);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(child);
    let read = |path: &Path| -> Anything<String> {
        let mut bytes = Vec::new();
        File::open(path)?.take(4 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (printed, errors) = (read(&out)?, read(&err)?);
    let end = match status.map(|s| s.code()) {
        None => End::Timeout,
        // The exit device ends QEMU with (value << 1) | 1; 1 is also how QEMU refuses to start.
        Some(Some(1)) if printed.is_empty() => {
            End::NotRun(errors.lines().last().unwrap_or("QEMU does not start").to_owned())
        }
        Some(Some(code)) if code & 1 != 0 => End::Exit(u32::try_from(code >> 1).unwrap_or(u32::MAX)),
        Some(Some(0)) => End::Stopped("the guest reset or powered off".to_owned()),
        Some(code) => End::Stopped(format!("QEMU ended with {code:?}")),
    };
    Ok((end, printed))
}
