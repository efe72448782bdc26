//! The first program of the machine that [`bulla_tests::svm`] describes: loads KVM's modules, takes the steps, reports, switches off.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bulla_tests::svm::{MODULE_DIR, MODULES, Report, STEPS, Step};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

/// The line to the host.
const LINE: &str = "/dev/ttyS1";
/// What `bulla` and the modules of the kernel need.
const MOUNTS: [(&str, &str); 5] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("securityfs", "/sys/kernel/security"),
    ("tmpfs", "/tmp"),
];

fn main() {
    if std::process::id() != 1 {
        eprintln!("bulla-svm-init is the first program of a machine, and loads modules: it does not run elsewhere");
        std::process::exit(2);
    }
    if let Err(error) = work() {
        println!("bulla-svm-init: {error}");
    }
    // Returns only if it fails; then Linux panics because its first program ends, and QEMU ends too.
    let _ = reboot(RebootCommand::PowerOff);
}

fn on<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    }
}

fn work() -> io::Result<()> {
    for (kind, place) in MOUNTS {
        match mount(kind, place, kind, MountFlags::empty(), None) {
            // Somebody was here before.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => return Err(on(place)(error)),
        }
    }
    let mut line = File::options().write(true).open(LINE).map_err(on(LINE))?;
    if let Err(error) = steps(&mut line) {
        report(&mut line, &Report::Trouble { what: error.to_string() })?;
    }
    report(&mut line, &Report::Over)?;
    Ok(rustix::termios::tcdrain(&line)?)
}

fn report(line: &mut File, report: &Report) -> io::Result<()> {
    let mut text = serde_json::to_vec(report)?;
    text.push(b'\n');
    line.write_all(&text).map_err(on(LINE))
}

fn steps(line: &mut File) -> io::Result<()> {
    let steps: Vec<Step> = serde_json::from_slice(&fs::read(STEPS).map_err(on(STEPS))?)?;
    for name in MODULES {
        let path = Path::new(MODULE_DIR).join(name);
        let module = File::open(&path).map_err(on(name))?;
        finit_module(&module, c"", 0).map_err(on(name))?;
    }
    report(line, &Report::Ready)?;
    for step in steps {
        report(line, &Report::Started { step: step.name.clone() })?;
        let (program, arguments) =
            step.command.split_first().ok_or_else(|| io::Error::other("a step without a program"))?;
        let output = Command::new(program)
            .args(arguments)
            .current_dir("/tmp")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(on(program))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        report(line, &Report::Ended { code: output.status.code(), stdout })?;
        for path in step.files {
            let hex = hex::encode(fs::read(&path).map_err(on(&path))?);
            report(line, &Report::File { path, hex })?;
        }
    }
    Ok(())
}
