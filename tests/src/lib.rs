//! What the end-to-end tests share: finding the programs, running them, saying what was skipped and why.
#![forbid(unsafe_code)]

pub mod svm;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub use tempfile::TempDir;

/// A nonce for tests that need just any.
pub const NONCE: &str = "00112233445566778899aabbccddeeff";

/// The program `name` of this workspace, as built beside this test.
///
/// # Panics
/// If it is not there: `cargo nextest run --workspace` builds it, `./x test` sees to that.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let found = test.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace` first"))
}

/// A command of one of our programs.
#[must_use]
pub fn command(name: &str) -> Command {
    Command::new(program(name))
}

/// Whether `/dev/kvm` can be opened. If not, says that `test` was skipped.
#[must_use]
pub fn kvm_or_skip(test: &str) -> bool {
    let there = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if !there {
        println!("skipped: {test} needs /dev/kvm");
    }
    there
}

/// Whether `tool` can be run. If not, says that `test` was skipped.
#[must_use]
pub fn tool_or_skip(tool: &str, test: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        println!("skipped: {test} needs {tool}");
    }
    there
}

/// The stock kernel that `./x kernels` fetched, if it is there.
#[must_use]
pub fn stock_kernel_or_skip(test: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/kernels");
    let kernel = std::fs::read_dir(dir).ok().and_then(|entries| {
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_cloud_6_1 = |name: &str| name.starts_with("vmlinuz-6.1.") && name.contains("cloud");
        paths.filter(|p| p.file_name().is_some_and(|n| is_cloud_6_1(&n.to_string_lossy()))).max()
    });
    if kernel.is_none() {
        println!("skipped: {test} needs a stock kernel, ./x kernels fetches it");
    }
    kernel
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"))
}

/// Runs a command and demands an exit code; returns standard output.
///
/// # Panics
/// If it ends differently; the message has everything it printed.
#[must_use]
pub fn run_expecting(command: &mut Command, code: i32) -> String {
    let output = run(command);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
    stdout
}

/// The bytes of a file.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Writes a file and returns its path.
///
/// # Panics
/// If it cannot be written.
#[must_use]
pub fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

/// Most that a neighbour adds to the mapping of the guest's RAM.
const JOINED_MAX: u64 = 48 << 20;

/// Resident bytes / 10^6 of a process, without the mappings of the sizes in `except`.
///
/// # Errors
/// When the process is gone.
pub fn resident(pid: u32, except: &[u64]) -> std::io::Result<f64> {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let (mut size, mut total) = (0, 0);
    for line in smaps.lines() {
        let kib = || line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        if line.starts_with("Size:") {
            size = kib() * 1024;
        } else if line.starts_with("Rss:") {
            total += match except.iter().max() {
                _ if except.contains(&size) => 0,
                // The kernel may have joined a neighbour to the guest's RAM: it counts as if it were all there.
                Some(&ram) if (ram..ram + JOINED_MAX).contains(&size) => (size - ram).min(kib() * 1024),
                _ => kib() * 1024,
            };
        }
    }
    Ok(total as f64 / 1e6)
}
