//! Debian's kernels as they are, of every suite that `./x kernels --all` fetched: whatever their payload is packed with,
//! what `bulla measure` computes from the file is what the VM's vTPM quotes once the bootloader has unpacked and entered it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use bulla_tests::{NONCE, TempDir, command, kvm_or_skip, read, run, run_expecting, write};

/// First bytes of payloads that the bootloader unpacks: gzip, LZ4 legacy frames, Zstandard.
const UNPACKED_BY_THE_BOOTLOADER: [&[u8]; 3] = [&[0x1f, 0x8b], &[0x02, 0x21, 0x4c, 0x18], &[0x28, 0xb5, 0x2f, 0xfd]];

fn name(kernel: &Path) -> std::borrow::Cow<'_, str> {
    kernel.file_name().unwrap_or_default().to_string_lossy()
}

/// The kernels there are, or a line that says that `test` was skipped.
fn kernels_or_skip(test: &str) -> Vec<PathBuf> {
    if !kvm_or_skip(test) {
        return Vec::new();
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/kernels");
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut kernels: Vec<PathBuf> = entries.filter(|path| name(path).starts_with("vmlinuz-")).collect();
    kernels.sort();
    if kernels.is_empty() {
        println!("skipped: {test} needs stock kernels, ./x kernels --all fetches them");
    }
    kernels
}

/// Where the compressed kernel lies in a bzImage (Linux x86 boot protocol: setup_sects, payload_offset, payload_length).
fn payload(image: &[u8]) -> std::ops::Range<usize> {
    let field = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    let start = (usize::from(image[0x1f1]) + 1) * 512 + field(0x248);
    start..start + field(0x24c)
}

fn unpacked_by_the_bootloader(image: &[u8]) -> bool {
    UNPACKED_BY_THE_BOOTLOADER.iter().any(|magic| image[payload(image)].starts_with(magic))
}

#[test]
fn every_stock_kernel_is_measured_as_computed_and_its_evidence_accepted() {
    let dir = TempDir::new().unwrap();
    let initrd = write(&dir, "initrd", &[0x5a; 4097]);
    for kernel in kernels_or_skip("evidence of every stock kernel") {
        let (evidence, expected) = (dir.path().join("ev.cbor"), dir.path().join("exp.cbor"));
        let boot = |verb: &str| {
            let mut bulla = command("bulla");
            bulla.arg(verb).arg("--kernel").arg(&kernel).arg("--initrd").arg(&initrd);
            bulla.args(["--cmdline", "console=ttyS0 quiet", "--memory", "512M"]);
            bulla
        };
        let mut run = boot("run");
        run.arg("--evidence").arg(&evidence).args(["--nonce", NONCE, "--until", "handover", "--console", "none"]);
        let _ = run_expecting(&mut run, 0);
        let _ = run_expecting(boot("measure").arg("--out").arg(&expected), 0);
        let mut verify = command("bulla-attest");
        verify.arg("verify").arg("--evidence").arg(&evidence).arg("--expected").arg(&expected).args(["--nonce", NONCE]);
        let verdict = run_expecting(&mut verify, 0);
        assert!(verdict.starts_with("ACCEPTED"), "{verdict}");
        println!("{}: accepted", name(&kernel));
        // The next kernel shall not be judged by this one's files.
        std::fs::remove_file(&evidence).unwrap();
        std::fs::remove_file(&expected).unwrap();
    }
}

/// It would reach the hand-over if the payload were left packed.
#[test]
fn a_damaged_payload_of_a_stock_kernel_stops_in_the_bootloader() {
    let dir = TempDir::new().unwrap();
    for kernel in kernels_or_skip("a damaged stock kernel") {
        let mut image = read(&kernel);
        if !unpacked_by_the_bootloader(&image) {
            println!("skipped: {} unpacks itself", name(&kernel));
            continue;
        }
        let payload = payload(&image);
        let middle = payload.start.midpoint(payload.end);
        image[middle..middle + 64 * 1024].fill(0xff);
        let bad = write(&dir, "bad-kernel", &image);
        let mut bulla = command("bulla");
        bulla.arg("run").arg("--kernel").arg(&bad).args([
            "--memory",
            "512M",
            "--until",
            "handover",
            "--console",
            "none",
        ]);
        let output = run(&mut bulla);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}: {stderr}", name(&kernel));
        assert!(stderr.contains("kernel payload does not decompress"), "{}: {stderr}", name(&kernel));
    }
}

#[test]
#[ignore = "slow: half a minute a kernel where KVM interprets ring 0"]
fn every_stock_kernel_says_its_version_on_the_console() {
    for kernel in kernels_or_skip("the console of every stock kernel") {
        if !unpacked_by_the_bootloader(&read(&kernel)) {
            println!("skipped: {} unpacks itself, which takes hours where KVM interprets ring 0", name(&kernel));
            continue;
        }
        let started = Instant::now();
        let release = name(&kernel).replacen("vmlinuz-", "", 1);
        let mut bulla = command("bulla");
        bulla.arg("run").arg("--kernel").arg(&kernel).args(["--memory", "512M", "--timeout", "900"]);
        bulla.args(["--cmdline", "console=ttyS0 earlyprintk=serial,ttyS0"]);
        let _ = run_expecting(bulla.arg("--until").arg(format!("console:Linux version {release} ")), 0);
        println!("{release} says so after {:.1} s", started.elapsed().as_secs_f32());
    }
}
