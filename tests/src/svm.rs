//! A Linux machine with a KVM on AMD's SVM, wherever there is QEMU: its emulator runs a stock Debian kernel with KVM's modules.
//! The first program is `bulla-svm-init`, which takes the steps that it is given and reports on the second serial port.
//! What it is for is in docs/genuine-kvm.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bulla_initramfs::Archive;
use serde::{Deserialize, Serialize};

use crate::{TempDir, program, read, run_expecting, write};

/// KVM on SVM, in the order in which they are loaded.
pub const MODULES: [&str; 3] = ["irqbypass.ko", "kvm.ko", "kvm-amd.ko"];
/// Where the machine has its steps.
pub const STEPS: &str = "/steps.json";
/// Where it has the modules.
pub const MODULE_DIR: &str = "/modules";

/// QEMU's processor, with SVM and without XSAVE and what needs it: on QEMU 7.2 an XSETBV of the guest does not leave the guest, so that
/// KVM never hears which state was switched on, and CPUID goes on telling the old size. Linux 6.1 warns and does without XSAVE, 7.2 stops.
const PROCESSOR: &str = "max,+svm,-xsave,-avx,-avx2,-fma,-f16c,-pku";

/// Something that the machine is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What reports call it.
    pub name: String,
    /// Program and arguments. Standard error goes to the machine's console.
    pub command: Vec<String>,
    /// Files that the host wants to have afterwards.
    pub files: Vec<String>,
}

/// A line that the machine sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The modules are loaded.
    Ready,
    /// A step begins.
    Started {
        /// Which.
        step: String,
    },
    /// A step has ended.
    Ended {
        /// Its exit code, none if a signal ended it.
        code: Option<i32>,
        /// What it printed.
        stdout: String,
    },
    /// A file that the step just ended has left.
    File {
        /// Where.
        path: String,
        /// What is in it.
        hex: String,
    },
    /// The machine itself could not go on, or a step could not be started, or left no file.
    Trouble {
        /// Why.
        what: String,
    },
    /// Nothing comes after this.
    Over,
}

/// What became of a step.
#[derive(Clone, Debug)]
pub struct Done {
    /// Exit code, none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// The files it left, by name in the machine.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A machine to be.
pub struct Machine {
    kernel: PathBuf,
    archive: Archive,
    libraries: BTreeSet<PathBuf>,
    steps: Vec<Step>,
}

impl Machine {
    /// With the kernel and modules that `./x svm` fetched, and nothing to do. If they are not there, says that `test` was skipped.
    #[must_use]
    pub fn new_or_skip(test: &str) -> Option<Self> {
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/svm");
        let kernel = cache.join("vmlinuz");
        if !kernel.is_file() || MODULES.iter().any(|module| !cache.join(module).is_file()) {
            println!("skipped: {test} needs a stock kernel with KVM's modules, ./x svm fetches them");
            return None;
        }
        let mut machine = Self { kernel, archive: Archive::new(), libraries: BTreeSet::new(), steps: Vec::new() };
        for directory in ["dev", "proc", "sys", "tmp"] {
            machine.archive.directory(directory).unwrap_or_else(|e| panic!("{e}"));
        }
        machine.archive.character_device("dev/console", 5, 1).unwrap_or_else(|e| panic!("{e}"));
        machine.program("/init", &program("bulla-svm-init"));
        for module in MODULES {
            machine.file(&format!("{MODULE_DIR}/{module}"), &cache.join(module));
        }
        Some(machine)
    }

    /// Gives the machine a file.
    ///
    /// # Panics
    /// If it cannot be read, or there is one of that name already.
    pub fn file(&mut self, guest: &str, host: &Path) {
        self.add(guest, false, read(host));
    }

    /// Gives the machine a program, with the libraries that the host's loader would take for it.
    ///
    /// # Panics
    /// As [`Machine::file`].
    pub fn program(&mut self, guest: &str, host: &Path) {
        self.add(guest, true, read(host));
        let listed = run_expecting(Command::new("ldd").arg(host), 0);
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from) {
            if self.libraries.insert(library.clone()) {
                self.add(&library.to_string_lossy(), true, read(&library));
            }
        }
    }

    fn add(&mut self, guest: &str, executable: bool, bytes: Vec<u8>) {
        self.archive.file(guest, executable, bytes).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Gives the machine something to do after all that it has to do already.
    pub fn step(&mut self, name: &str, command: &[&str], files: &[&str]) {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        self.steps.push(Step { name: name.to_owned(), command: owned(command), files: owned(files) });
    }

    /// Runs the machine until it switches itself off, says on standard error how far it is, and returns what became of each step.
    /// `patience` is how long a line may take to come: only a machine that hangs needs it.
    ///
    /// # Panics
    /// If the machine or one of its steps does not get to its end. The message has the end of its console.
    #[must_use]
    pub fn run(mut self, dir: &TempDir, patience: Duration) -> BTreeMap<String, Done> {
        let steps = serde_json::to_vec(&self.steps).unwrap_or_else(|e| panic!("{e}"));
        self.add(STEPS, false, steps);
        let initrd = write(dir, "machine.img", &self.archive.to_bytes());
        let (console, reports) = (write(dir, "console", b""), write(dir, "reports", b""));
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-cpu", PROCESSOR, "-m", "2G", "-nodefaults", "-no-user-config", "-no-reboot"]);
        qemu.args(["-display", "none", "-append", "console=ttyS0 quiet cryptomgr.notests panic=-1"]);
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(initrd);
        qemu.arg("-serial").arg(format!("file:{}", console.display()));
        qemu.arg("-serial").arg(format!("file:{}", reports.display()));
        let child = qemu.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("cannot start {qemu:?}: {e}"));
        let mut listener = Listener {
            machine: Running(child),
            lines: File::open(&reports).unwrap_or_else(|e| panic!("{}: {e}", reports.display())),
            begun: Vec::new(),
            patience,
            started: Instant::now(),
        };
        listener.listen().unwrap_or_else(|why| {
            let shown = read(&console);
            panic!("{why}\nthe end of the console:\n{}", String::from_utf8_lossy(tail(&shown)))
        })
    }
}

/// How much of a console a person reads.
const TAIL: usize = 6000;

fn tail(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(TAIL)..]
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

/// Reads what a machine reports while it does.
struct Listener {
    machine: Running,
    lines: File,
    /// A line that has not ended yet.
    begun: Vec<u8>,
    patience: Duration,
    started: Instant,
}

impl Listener {
    fn listen(&mut self) -> Result<BTreeMap<String, Done>, String> {
        let mut all = BTreeMap::new();
        let mut current: Option<(String, Instant)> = None;
        loop {
            match self.next()? {
                Report::Ready => self.say("KVM's modules are loaded"),
                Report::Started { step } => {
                    self.say(&format!("{step} …"));
                    current = Some((step, Instant::now()));
                }
                Report::Ended { code, stdout } => {
                    let (step, since) = current.as_ref().ok_or("a step ended that has not begun")?;
                    let code_said = code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
                    self.say(&format!("{step}: {code_said} after {:.1} s", since.elapsed().as_secs_f32()));
                    all.insert(step.clone(), Done { code, stdout, files: BTreeMap::new() });
                }
                Report::File { path, hex } => {
                    let bytes = hex::decode(&hex).map_err(|e| format!("{path}: {e}"))?;
                    let done = current.as_ref().and_then(|(step, _)| all.get_mut(step));
                    done.ok_or(format!("{path} belongs to no step"))?.files.insert(path, bytes);
                }
                Report::Trouble { what } => return Err(what),
                Report::Over => break,
            }
        }
        self.say("switching itself off");
        let deadline = Instant::now() + self.patience;
        while self.machine.0.try_wait().map_err(|e| e.to_string())?.is_none() {
            if Instant::now() > deadline {
                return Err("the machine does not switch itself off".to_owned());
            }
            sleep(PAUSE);
        }
        self.say("off");
        Ok(all)
    }

    fn say(&self, what: &str) {
        eprintln!("[{:>6.1} s] {what}", self.started.elapsed().as_secs_f32());
    }

    fn next(&mut self) -> Result<Report, String> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map_err(|e| format!("the machine says {:?}: {e}", String::from_utf8_lossy(&line)));
            }
            // Asked before reading: what was written before the end is seen.
            let over = self.machine.0.try_wait().map_err(|e| e.to_string())?;
            let _ = self.lines.read_to_end(&mut self.begun).map_err(|e| e.to_string())?;
            if self.begun.contains(&b'\n') {
                continue;
            }
            if let Some(status) = over {
                return Err(format!("the machine is off too early: {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("no news for {} s", self.patience.as_secs()));
            }
            sleep(PAUSE);
        }
    }
}

/// Between two looks at a machine.
const PAUSE: Duration = Duration::from_millis(100);
