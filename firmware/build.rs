//! Builds the three guest programs with a nested cargo and turns the two firmware stages into flat images.
//!
//! The images must be the same bytes wherever they are built, since their digests are what a verifier knows. So the
//! nested build inherits nothing from the outer one that could change code: no flags, wrappers (clippy, coverage),
//! profiles; and no path of this machine reaches the output. `firmware/reproducible` checks that.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulla_boot_abi::image::{BOOTLOADER_MAGIC, FIRMWARE_MAGIC, Header};
use bulla_boot_abi::map;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "guest";
const PROGRAMS: [&str; 3] = ["bulla-stage1", "bulla-bootloader", "bulla-tenant"];

/// Everything that the guest programs are made of, from the workspace's root.
const SOURCES: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "firmware/build.rs",
    "firmware/abi",
    "firmware/rt",
    "firmware/stage1",
    "firmware/bootloader",
    "firmware/tenant",
    "vtpm/tpm-types/Cargo.toml",
    "vtpm/tpm-types/src",
    "channel/Cargo.toml",
    "channel/src",
];

/// What the outer cargo's environment may tell the nested one: where crates come from, and the job server.
const KEPT: [&str; 6] =
    ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let workspace = here.parent().ok_or("the crate has no parent directory")?;
    let out = PathBuf::from(var("OUT_DIR")?);
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", workspace.join(source).display());
    }

    let guest = out.join("guest");
    build(workspace, &guest)?;
    let program = |name: &str| fs::read(guest.join(TARGET).join(PROFILE).join(name));
    let firmware = flatten(&program("bulla-stage1")?, map::FIRMWARE_BASE)?;
    Header::parse(&firmware, FIRMWARE_MAGIC, map::FIRMWARE_BASE, map::FIRMWARE_SIZE)?;
    let bootloader = flatten(&program("bulla-bootloader")?, map::BOOTLOADER_BASE)?;
    let room = map::HANDOFF_BASE - map::BOOTLOADER_BASE;
    Header::parse(&bootloader, BOOTLOADER_MAGIC, map::BOOTLOADER_BASE, room)?;
    fs::write(out.join("firmware.img"), firmware)?;
    fs::write(out.join("bootloader.img"), bootloader)?;
    fs::write(out.join("tenant.elf"), program("bulla-tenant")?)?;
    Ok(())
}

fn var(name: &str) -> Result<String, Box<dyn Error>> {
    env::var(name).map_err(|e| format!("{name}: {e}").into())
}

fn build(workspace: &Path, target_dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(var("CARGO")?);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let cargos = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CLIPPY", "LLVM_PROFILE", "NEXTEST", "MIRI", "__CARGO"];
        if cargos.iter().any(|p| name.starts_with(p)) && !KEPT.iter().any(|p| name.starts_with(p)) {
            cargo.env_remove(&*name);
        }
    }
    cargo.current_dir(workspace);
    // The compiler itself; the wrappers that cargo may have around it are not in this variable.
    cargo.env("RUSTC", var("RUSTC")?);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, target_dir)?.join("\x1f"));
    cargo.args(["build", "--locked", "--bins", "--target", TARGET, "--profile", PROFILE, "--target-dir"]);
    cargo.arg(target_dir);
    PROGRAMS.iter().for_each(|p| {
        cargo.args(["--package", p]);
    });
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building the guest programs: {status}").into());
    }
    Ok(())
}

fn flags(workspace: &Path, target_dir: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut flags: Vec<String> = [
        "--cfg=bulla_guest",
        // AVX needs state that the guest does not enable; these crates trust CPUID, which is not the guest's everywhere.
        "--cfg=sha2_512_backend=\"soft\"",
        "--cfg=chacha20_backend=\"sse2\"",
        "--cfg=poly1305_backend=\"soft\"",
        "--cfg=curve25519_dalek_backend=\"serial\"",
        // Position-independent code reaches addresses above 2 GiB, where the firmware is linked.
        "-Crelocation-model=pic",
        "-Ctarget-feature=+crt-static",
        "-Clink-arg=-nostartfiles",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-static",
        "-Clink-arg=-no-pie",
        "-Clink-arg=-Wl,--gc-sections,--build-id=none,-z,max-page-size=4096",
    ]
    .map(String::from)
    .into();
    // Later ones win, so the more particular come last.
    let cargo_home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(var("HOME")?).join(".cargo"),
    };
    let mut remap = |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    remap(&cargo_home, "/cargo");
    // The directory's name says which mirror of the registry the sources came from.
    if let Ok(registries) = fs::read_dir(cargo_home.join("registry/src")) {
        registries.flatten().for_each(|registry| remap(&registry.path(), "/registry"));
    }
    remap(workspace, "/bulla");
    remap(target_dir, "/target");
    Ok(flags)
}

/// Lays out an ELF's loadable segments by physical address, from `base` on, as one flat image.
fn flatten(elf: &[u8], base: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let bytes = |at: u64, len: u64| {
        let start = usize::try_from(at).ok()?;
        elf.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    };
    let int = |at: u64, len: u64| -> Result<u64, Box<dyn Error>> {
        let field = bytes(at, len).ok_or("ELF is truncated")?;
        Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    // ELF-64 Object File Format: e_phoff, e_phentsize, e_phnum; p_type, p_offset, p_paddr, p_filesz.
    let (table, entry_len, count) = (int(32, 8)?, int(54, 2)?, int(56, 2)?);
    let mut image = Vec::new();
    for header in (0..count).map(|i| table + i * entry_len) {
        let (kind, offset, address, len) =
            (int(header, 4)?, int(header + 8, 8)?, int(header + 24, 8)?, int(header + 32, 8)?);
        if kind != 1 || len == 0 {
            continue;
        }
        let start = usize::try_from(address.checked_sub(base).ok_or("a segment lies below the image's base")?)?;
        let segment = bytes(offset, len).ok_or("ELF is truncated")?;
        if start < image.len() {
            return Err("segments overlap or are out of order".into());
        }
        image.resize(start, 0);
        image.extend_from_slice(segment);
    }
    Ok(image)
}
