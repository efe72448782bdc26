//! Bad input to the programs: a typed error that names what was wrong, the documented exit code, never a panic.

use std::path::Path;
use std::process::Output;

use bulla_tests::{NONCE, TempDir, command, kvm_or_skip, run, write};

fn refused(arguments: &[&str], code: i32, needle: &str) {
    let output = run(command("bulla").args(arguments));
    check(&output, code, needle);
}

fn check(output: &Output, code: i32, needle: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.to_lowercase().contains(needle), "no {needle:?} in {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

fn put(kernel: &mut [u8], at: usize, value: u64) {
    kernel[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Offsets of the loadable program headers. ELF64: e_phoff at 32, e_phnum at 56; a program header is 56 bytes long and has
/// p_type at 0 (1 is PT_LOAD), p_paddr at 24, p_filesz at 32, p_memsz at 40.
fn segments(kernel: &[u8]) -> Vec<usize> {
    let start = u64::from_le_bytes(kernel[32..40].try_into().unwrap()) as usize;
    let count = usize::from(u16::from_le_bytes(kernel[56..58].try_into().unwrap()));
    let headers = (0..count).map(|n| start + n * 56);
    headers.filter(|at| kernel[*at..*at + 4] == 1u32.to_le_bytes()).collect()
}

type Damage = fn(&mut Vec<u8>);

/// Ways to damage the tenant's image, and what `bulla measure` and the bootloader have to say to each.
const DAMAGES: [(Damage, &str, &str); 5] = [
    (|k| k.truncate(40), "truncated", "truncated"),
    (|k| *k = b"hello, I am no kernel at all".repeat(100), "neither", "neither"),
    (|k| beyond_the_file(k), "truncated", "truncated"),
    (|k| beyond_memory(k), "no place in ram", "does not fit"),
    (|k| overlap(k), "overlap", "overlap"),
];

fn beyond_the_file(kernel: &mut [u8]) {
    let first = segments(kernel)[0];
    put(kernel, first + 32, u64::MAX / 2);
}

fn beyond_memory(kernel: &mut [u8]) {
    let last = segments(kernel).pop().unwrap();
    put(kernel, last + 40, 1 << 40);
}

fn overlap(kernel: &mut [u8]) {
    let (first, second) = (segments(kernel)[0], segments(kernel)[1]);
    let paddr = u64::from_le_bytes(kernel[first + 24..first + 32].try_into().unwrap());
    put(kernel, second + 24, paddr);
}

fn damaged(dir: &TempDir, damage: Damage) -> String {
    let mut kernel = bulla_firmware::TENANT.to_vec();
    damage(&mut kernel);
    write(dir, "kernel", &kernel).to_string_lossy().into_owned()
}

#[test]
fn measure_refuses_bad_kernels_by_what_is_wrong_with_them() {
    let dir = TempDir::new().unwrap();
    refused(&["measure", "--kernel", "/nonexistent/kernel"], 2, "/nonexistent/kernel");
    for (damage, needle, _) in DAMAGES {
        refused(&["measure", "--kernel", &damaged(&dir, damage)], 2, needle);
    }
}

#[test]
fn the_bootloader_refuses_bad_kernels_by_what_is_wrong_with_them() {
    if !kvm_or_skip("bad kernels in a VM") {
        return;
    }
    let dir = TempDir::new().unwrap();
    for (damage, _, needle) in DAMAGES {
        let kernel = damaged(&dir, damage);
        let shape = ["--memory", "64M", "--console", "none", "--timeout", "60"];
        refused(&[&["run", "--kernel", &kernel], &shape[..]].concat(), 1, needle);
    }
}

#[test]
fn a_command_line_that_no_kernel_could_take_is_refused() {
    let long = "x".repeat(3000);
    refused(&["measure", "--kernel", "tenant", "--cmdline", &long], 2, "command line");
    refused(&["run", "--kernel", "tenant", "--cmdline", &long], 2, "command line");
}

#[test]
fn machine_shapes_that_cannot_be_are_refused() {
    refused(&["measure", "--kernel", "tenant", "--memory", "1M"], 2, "1048576 bytes of ram");
    refused(&["run", "--kernel", "tenant", "--memory", "1M"], 2, "1048576 bytes of ram");
    refused(&["measure", "--kernel", "tenant", "--memory", "soup"], 2, "soup");
    refused(&["measure", "--kernel", "tenant", "--cpus", "0"], 2, "vcpu");
    refused(&["run", "--kernel", "tenant", "--cpus", "64"], 2, "vcpu");
    refused(&["run", "--kernel", "tenant", "--cpu-features", "+warpdrive"], 2, "warpdrive");
    refused(&["run", "--kernel", "tenant", "--evidence", "x.cbor"], 2, "--nonce");
    refused(&["run", "--kernel", "tenant", "--evidence", "x.cbor", "--nonce", "xyz"], 2, "hexadecimal");
}

#[test]
fn the_verifier_refuses_what_is_not_evidence() {
    let dir = TempDir::new().unwrap();
    let verify = |evidence: &Path| {
        run(command("bulla-attest").arg("verify").arg("--evidence").arg(evidence).args(["--nonce", NONCE]))
    };
    check(&verify(Path::new("/nonexistent/ev")), 2, "/nonexistent/ev");
    // Nothing, a lone break, an array that claims 2^64-1 items.
    for bytes in [&b""[..], b"\xff\xff\xff", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"] {
        check(&verify(&write(&dir, "ev", bytes)), 2, "evidence");
    }
}
