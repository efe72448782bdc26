//! The command `initramfs`: an initial RAM disk with the agent in it.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulla_initramfs::{File as GuestFile, Init};

use crate::commands::CommandError;

pub(crate) const EXAMPLES: &str =
    "The same inputs give the same bytes, so that `bulla measure --initrd` tells what a guest that boots it measures.

Examples:
  A guest that does nothing but hand out evidence and power off:
    bulla-attest initramfs -o agent.img
    bulla run --kernel vmlinuz --initrd agent.img --cmdline console=ttyS0 --agent-evidence ev.cbor --nonce HEX
  Your own first program; the agent is /bin/bulla-agent:
    bulla-attest initramfs --init ./init --file etc/app.conf=./app.conf -o guest.img

Exit code: 0 written, 2 wrong usage, unreadable input or unwritable output.";

#[derive(clap::Args)]
pub(crate) struct InitramfsArgs {
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Another agent than the one that is built in: a static program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Another first program than the agent, which is /bin/bulla-agent then
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// A file for the guest; executable there if it is here. Can be repeated
    #[arg(long, value_name = "GUEST=HOST", value_parser = pair)]
    file: Vec<(String, PathBuf)>,
    /// Do not pack it: a larger file for a guest that starts a little sooner
    #[arg(long)]
    plain: bool,
}

fn pair(text: &str) -> Result<(String, PathBuf), String> {
    let (guest, host) = text.split_once('=').ok_or("write GUEST=HOST, e.g. etc/app.conf=./app.conf")?;
    Ok((guest.to_owned(), host.into()))
}

pub(crate) fn run(args: &InitramfsArgs) -> Result<bool, CommandError> {
    let agent = args.agent.as_deref().map(read).transpose()?;
    let init = match &args.init {
        Some(path) => Init::Other(read(path)?),
        None => Init::Agent,
    };
    let files: Result<Vec<_>, _> = args.file.iter().map(|(guest, host)| guest_file(guest, host)).collect();
    let archive = bulla_initramfs::guest(agent.as_deref(), init, &files?)?;
    let bytes = if args.plain { archive } else { bulla_initramfs::gzip(&archive) };
    fs::write(&args.output, bytes)
        .map_err(|source| CommandError::Write { path: args.output.clone(), source })
        .map(|()| true)
}

fn guest_file(guest: &str, host: &Path) -> Result<GuestFile, CommandError> {
    let metadata = fs::metadata(host).map_err(|source| CommandError::Read { path: host.to_owned(), source })?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    Ok(GuestFile { path: guest.to_owned(), executable, bytes: read(host)? })
}

/// Largest file taken; a guest has to hold it in memory twice while it starts.
const FILE_MAX: u64 = 1 << 30;

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = |source| CommandError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(CommandError::TooLarge { path: path.to_owned(), limit: FILE_MAX as usize });
    }
    Ok(bytes)
}
