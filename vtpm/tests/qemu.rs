//! A stock Linux under QEMU with `bulla-vtpm socket` in swtpm's place, on both interfaces: OVMF measures, and tpm2-tools and systemd of
//! Debian use the TPM (qemu/init has the steps). What is seen there, and how long it takes, is in docs/qemu.md.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-vtpm");
/// No boot takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(1800);
const OVMF: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

const EACH_BOOT: [&str; 4] =
    ["the driver", "PCRs: the kernel and tpm2_pcrread agree", "the log: replayed, it gives the PCRs", "IMA"];
const FIRST_BOOT: [&str; 17] = [
    "random numbers",
    "dictionary attacks",
    "a quote by an ECC key",
    "a quote by an RSA key",
    "a credential is activated",
    "signatures and encryption",
    "sealed to PCRs",
    "NV Indexes",
    "PolicyPCR and PolicyAuthValue in a salted session",
    "PolicyAuthorize",
    "PolicyAuthorizeNV",
    "systemd-tpm2-setup",
    "systemd-pcrextend",
    "systemd-creds",
    "systemd-cryptenroll",
    "systemd-pcrlock",
    "kept for later",
];
const LATER_BOOT: [&str; 1] = ["kept from before"];
const EACH_END: [&str; 2] = ["nothing is left over", "the kernel does not complain"];

/// Killed when it goes out of scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")))
    }

    /// Waits for it to end by itself and well.
    fn ends(&mut self, what: &str) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "{what}: {status}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what} does not end");
            sleep(Duration::from_millis(20));
        }
    }
}

/// A machine that is switched off: its TPM's state and the firmware's variables.
struct Machine {
    dir: TempDir,
    device: &'static str,
    initrd: PathBuf,
}

impl Machine {
    /// Starts the TPM and QEMU, which tells it to end when it ends itself (CMD_SHUTDOWN); waits until both have, and returns the
    /// console's lines.
    fn boot(&self, kernel: &Path, part: &str) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let (socket, console) = (path("tpm.sock"), path("console.log"));
        let mut tpm =
            if std::env::var_os("BULLA_QEMU_PEER").is_some() { Command::new("swtpm") } else { Command::new(PROGRAM) };
        tpm.args(["socket", "--tpm2", "--tpmstate", &format!("dir={}", path("state"))]);
        tpm.args(["--ctrl", &format!("type=unixio,path={socket}")]);
        let mut tpm = Running::start(&mut tpm);
        let start = Instant::now();
        while !Path::new(&socket).exists() {
            assert_eq!(tpm.0.try_wait().unwrap(), None, "the TPM ended before its socket was there");
            assert!(start.elapsed() < PATIENCE, "the TPM's socket does not come");
            sleep(Duration::from_millis(1));
        }
        let mut qemu = Command::new("qemu-system-x86_64");
        // Intel: Linux does not take random numbers from the TPM of an AMD processor.
        qemu.args(["-accel", "tcg", "-machine", "q35,smm=on", "-cpu", "max,vendor=GenuineIntel", "-m", "768M"]);
        qemu.args([
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-vga",
            "none",
            "-serial",
            &format!("file:{console}"),
        ]);
        qemu.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
        qemu.args(["-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF}")]);
        qemu.args(["-drive", &format!("if=pflash,format=raw,unit=1,file={}", path("variables.fd"))]);
        qemu.args(["-chardev", &format!("socket,id=tpm,path={socket}"), "-tpmdev", "emulator,id=tpm0,chardev=tpm"]);
        qemu.args(["-device", &format!("{},tpmdev=tpm0", self.device)]);
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(&self.initrd);
        qemu.args(["-append", &format!("console=ttyS0 panic=-1 cryptomgr.notests part={part}")]);
        Running::start(&mut qemu).ends("QEMU");
        tpm.ends("the TPM");
        let console = std::fs::read(console).unwrap();
        String::from_utf8_lossy(&console).lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Boots, and demands that the steps are taken and that the log has the initial RAM disk. Returns what is to last.
    fn takes(&self, kernel: &Path, part: &str, steps: &[&str]) -> Lasting {
        let start = Instant::now();
        let console = self.boot(kernel, part);
        let all = || console.join("\n");
        let taken: Vec<&str> = console.iter().filter_map(|line| line.strip_prefix("ok: ")).collect();
        let wanted: Vec<&str> = EACH_BOOT.iter().chain(steps).chain(&EACH_END).copied().collect();
        assert_eq!(taken, wanted, "{}", all());
        assert!(!console.iter().any(|line| line.starts_with("FAILED: ")), "{}", all());
        assert!(console.iter().any(|line| line.contains("TPMEventLog=")), "{}", all());
        assert!(console.last().is_some_and(|line| line.ends_with("reboot: Power down")), "{}", all());
        let digest: String =
            Sha256::digest(std::fs::read(&self.initrd).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(console.iter().any(|line| line.strip_prefix("measured: ") == Some(&digest)), "{digest}\n{}", all());
        let value = |name: &str| {
            let values = console.iter().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            values.unwrap_or_else(|| panic!("no '{name}'\n{}", all()))
        };
        let lasting = Lasting { key: value("key: "), counter: u64::from_str_radix(&value("counter: "), 16).unwrap() };
        let name = kernel.file_name().unwrap_or_default().to_string_lossy();
        println!("{}, {name}: {} steps in {} s", self.device, taken.len(), start.elapsed().as_secs());
        lasting
    }
}

/// What a TPM has that power comes and goes for.
#[derive(Debug, PartialEq, Eq)]
struct Lasting {
    /// Digest of a persistent key's public area.
    key: String,
    /// An NV counter; each later boot increments it when it has been read.
    counter: u64,
}

/// The other kernels that `./x kernels --all` fetches.
fn other_kernels() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/kernels");
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let other = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-") && !(name.starts_with("vmlinuz-6.1.") && name.contains("cloud"))
    };
    let mut kernels: Vec<PathBuf> = entries.filter(other).collect();
    kernels.sort();
    kernels
}

fn linux_uses_a_tpm(device: &'static str) {
    let test = "a stock Linux under QEMU";
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/qemu");
    let (kernel, initrd) = (cache.join("vmlinuz"), cache.join("initrd.img"));
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        println!("skipped: {test} needs qemu-system-x86_64");
        return;
    }
    if [&kernel, &initrd, Path::new(OVMF)].iter().any(|file| !file.exists()) {
        println!("skipped: {test} needs ./x qemu");
        return;
    }
    let machine = Machine { dir: TempDir::new().unwrap(), device, initrd };
    std::fs::create_dir(machine.dir.path().join("state")).unwrap();
    std::fs::copy(OVMF_VARIABLES, machine.dir.path().join("variables.fd")).unwrap();

    let first = machine.takes(&kernel, "first", &FIRST_BOOT);
    for (boots, kernel) in (0..).zip([kernel].into_iter().chain(other_kernels())) {
        let later = machine.takes(&kernel, "later", &LATER_BOOT);
        assert_eq!(later, Lasting { key: first.key.clone(), counter: first.counter + boots });
    }
}

#[test]
#[ignore = "slow: minutes, and needs ./x qemu"]
fn linux_uses_a_tpm_on_crb() {
    linux_uses_a_tpm("tpm-crb");
}

#[test]
#[ignore = "slow: minutes, and needs ./x qemu"]
fn linux_uses_a_tpm_on_tis() {
    linux_uses_a_tpm("tpm-tis");
}
