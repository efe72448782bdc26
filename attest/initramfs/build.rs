//! Builds the agent with a nested cargo, static and small, for this crate to embed.
//!
//! As in `firmware/build.rs`, the nested build inherits nothing from the outer one that could change code. Its bytes are the same
//! wherever compiler, sources and the system's libc.a are the same.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "guest";

/// Everything that the agent is made of, from the workspace's root.
const SOURCES: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "attest/initramfs/build.rs",
    "attest/agent/Cargo.toml",
    "attest/agent/src",
    "vtpm/tpm-types/Cargo.toml",
    "vtpm/tpm-types/src",
];

/// What the outer cargo's environment may tell the nested one: where crates come from, and the job server.
const KEPT: [&str; 6] =
    ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let workspace = here.ancestors().nth(2).ok_or("the crate is not two levels below the workspace's root")?;
    let out = PathBuf::from(var("OUT_DIR")?);
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", workspace.join(source).display());
    }
    let target_dir = out.join("agent");
    build(workspace, &target_dir)?;
    fs::copy(target_dir.join(TARGET).join(PROFILE).join("bulla-agent"), out.join("bulla-agent"))?;
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
    cargo.args(["build", "--locked", "--package", "bulla-agent", "--bin", "bulla-agent"]);
    // The target is given explicitly, so that the flags are not for build scripts.
    cargo.args(["--target", TARGET, "--profile", PROFILE, "--target-dir"]).arg(target_dir);
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building the agent: {status}").into());
    }
    Ok(())
}

fn flags(workspace: &Path, target_dir: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut flags: Vec<String> =
        ["-Ctarget-feature=+crt-static", "-Crelocation-model=static", "-Clink-arg=-Wl,--build-id=none"]
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
