//! The program bulla-attest: arguments in, verdict and exit code out. The work is in the library.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod commands;
#[cfg(feature = "initramfs")]
mod initramfs;

/// Exit code for a rejection; 2 is for wrong usage and unreadable input, as clap has it.
const REJECTED: u8 = 1;
const UNUSABLE: u8 = 2;

const ABOUT: &str = "Check what a bulla VM booted, without trusting the host that ran it.

Evidence holds a quote (PCR values signed by a key that lives in the VM's vTPM), the event log that explains
them, and a signature by the host. `verify` checks all of it against your nonce, against expected values that
`bulla measure` computes offline, and against your policy.";

const EXAMPLES: &str = "Examples:
  bulla measure --kernel vmlinuz --initrd I --cmdline C --out exp.cbor
  bulla run --kernel vmlinuz --initrd I --cmdline C --evidence ev.cbor --nonce 00112233445566778899aabbccddeeff
  bulla-attest verify --evidence ev.cbor --nonce 00112233445566778899aabbccddeeff --expected exp.cbor
  bulla-attest eventlog /sys/kernel/security/tpm0/binary_bios_measurements --replay
  bulla-attest export --tpm2-tools DIR --evidence ev.cbor

Exit code: 0 accepted, 1 rejected, 2 wrong usage or unreadable input.";

const VERIFY_EXAMPLES: &str = "Examples:
  Is it the kernel I measured?
    bulla-attest verify --evidence ev.cbor --nonce 00112233445566778899aabbccddeeff --expected exp.cbor
  ... and on the machine whose key I was given?
    bulla-attest verify --evidence ev.cbor --nonce HEX --expected exp.cbor --host-key host.pem
  For a program; the reasons have codes, the differences name PCR and event:
    bulla-attest verify --evidence ev.cbor --nonce HEX --expected exp.cbor --json

A policy file is TOML; every key is optional:
  minimum_root = \"vmm-hosted\"           # simulated < vmm-hosted < sev-snp
  require_endorsement = true            # refuse to work without any pinned key
  maximum_reset_count = 1
  [pcrs]
  sha256 = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12]
  [attestation_keys]
  names = [\"000b...\"]                   # or pem = ['''-----BEGIN PUBLIC KEY-----...''']
  [host_keys]
  thumbprints = [\"7d3e...\"]             # or pem

Exit code: 0 accepted, 1 rejected, 2 wrong usage or unreadable input.";

#[derive(Parser)]
#[command(name = "bulla-attest", version, about = "Check what a bulla VM booted", long_about = ABOUT, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Appraise evidence: all checks, a verdict, and why
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Show a TCG event log, and with --replay the PCR values it accounts for
    #[command(after_help = "Reads crypto-agile and SHA-1 logs of any machine. A log by itself proves nothing: compare
the replayed values with quoted ones.\n\nExit code: 0 well-formed, 2 wrong usage or malformed log.")]
    Eventlog(EventlogArgs),
    /// Write evidence as files that stock tools check
    #[command(
        after_help = "Writes quote.msg, quote.sig, quote.pcrs, ak.pem, nonce.hex, eventlog.bin, and a README with the
commands for tpm2_checkquote and tpm2_eventlog.\n\nExit code: 0 written, 2 wrong usage, unreadable input or unwritable output."
    )]
    Export(ExportArgs),
    /// Build an initial RAM disk whose first program hands out evidence of the guest
    #[cfg(feature = "initramfs")]
    #[command(after_help = initramfs::EXAMPLES)]
    Initramfs(initramfs::InitramfsArgs),
}

#[derive(clap::Args)]
struct VerifyArgs {
    /// The evidence file, as `bulla run --evidence` writes it
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,
    /// The nonce you sent, in hex: 8 to 64 bytes that nobody could guess
    #[arg(long, value_name = "HEX")]
    nonce: String,
    /// Expected values, as `bulla measure --out` writes them
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// Policy file (TOML, see below)
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Accept only this attestation key (PEM public key), besides those in the policy
    #[arg(long, value_name = "PEM")]
    ak: Option<PathBuf>,
    /// Accept only this host (PEM public key), besides those in the policy
    #[arg(long, value_name = "PEM")]
    host_key: Option<PathBuf>,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct EventlogArgs {
    /// The log: binary, as Linux shows it or `export` writes it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also print the PCR values that the log replays to
    #[arg(long)]
    replay: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct ExportArgs {
    /// Directory to write into; made if missing
    #[arg(long, value_name = "DIR")]
    tpm2_tools: PathBuf,
    /// The evidence file
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (json, result) = match &args.command {
        Command::Verify(args) => (args.json, commands::verify(args)),
        Command::Eventlog(args) => (args.json, commands::eventlog(args)),
        Command::Export(args) => (false, commands::export(args)),
        #[cfg(feature = "initramfs")]
        Command::Initramfs(args) => (false, initramfs::run(args)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REJECTED),
        Err(e) => {
            if json {
                // Standard error has it, too.
                let _ = writeln!(std::io::stdout(), "{}", serde_json::json!({ "error": e.to_string() }));
            }
            eprintln!("bulla-attest: {e}");
            ExitCode::from(UNUSABLE)
        }
    }
}
