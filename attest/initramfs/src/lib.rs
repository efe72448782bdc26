//! Initial RAM disks for guests.
//!
//! - [`AGENT`] is bulla's agent, built by this crate's build script: a static program that can be a guest's process 1.
//! - [`Archive`] writes cpio archives of the format that Linux unpacks, the same bytes for the same inputs, so that whoever
//!   builds one knows what a guest that boots it measures.
//! - [`gzip`] packs one.
#![forbid(unsafe_code)]

mod cpio;
mod gzip;

pub use cpio::{Archive, ArchiveError};
pub use gzip::gzip;

/// The agent (package `bulla-agent`): an ELF program for x86-64 Linux without dynamic libraries.
pub const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bulla-agent"));

/// What a guest starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// The agent: it hands out evidence and powers off.
    Agent,
    /// This program; the agent is `/bin/bulla-agent` beside it.
    Other(Vec<u8>),
}

/// The initial RAM disk of a guest: `agent` (else [`AGENT`]), places to mount on, `/dev/console`, and `files`.
///
/// # Errors
/// [`ArchiveError`] if `files` cannot be added, or would stand in the place of the rest.
pub fn guest(agent: Option<&[u8]>, init: Init, files: &[File]) -> Result<Vec<u8>, ArchiveError> {
    let agent = agent.unwrap_or(AGENT).to_vec();
    let mut archive = Archive::new();
    for directory in ["dev", "proc", "sys"] {
        archive.directory(directory)?;
    }
    // Before devtmpfs is mounted Linux opens it for process 1.
    archive.character_device("dev/console", 5, 1)?;
    match init {
        Init::Agent => archive.file("init", true, agent)?,
        Init::Other(program) => {
            archive.file("init", true, program)?;
            archive.file("bin/bulla-agent", true, agent)?;
        }
    }
    for File { path, executable, bytes } in files {
        archive.file(path, *executable, bytes.clone())?;
    }
    Ok(archive.to_bytes())
}

/// A file for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where the guest has it.
    pub path: String,
    /// Whether it can be run there.
    pub executable: bool,
    /// What is in it.
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_a_static_program_that_names_no_path_of_the_machine_it_was_built_on() {
        assert!(AGENT.starts_with(b"\x7fELF\x02\x01"));
        let field = |at: usize, len: usize| AGENT[at..at + len].iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
        // Program headers of types PT_DYNAMIC and PT_INTERP are what a static program has not.
        let (table, size, count) = (field(32, 8), field(54, 2), field(56, 2));
        let kinds: Vec<usize> = (0..count).map(|i| field(table + i * size, 4)).collect();
        assert!(!kinds.contains(&2) && !kinds.contains(&3), "{kinds:?}");
        for path in [env!("CARGO_MANIFEST_DIR"), env!("OUT_DIR"), "/home/", "/root/"] {
            assert!(!AGENT.windows(path.len()).any(|w| w == path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_guests_own_files_do_not_replace_the_rest() {
        let file = |path: &str| File { path: path.into(), executable: false, bytes: vec![] };
        assert!(guest(Some(b"agent"), Init::Agent, &[file("etc/motd")]).is_ok());
        for path in ["init", "dev/console", "dev"] {
            assert!(matches!(guest(Some(b"agent"), Init::Agent, &[file(path)]), Err(ArchiveError::Twice(_))), "{path}");
        }
    }
}
