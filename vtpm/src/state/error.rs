//! What can go wrong with a stored state, in words for whoever keeps it.

use std::io;
use std::path::PathBuf;

use bulla_vtpm_client::Exit;
use thiserror::Error;

use super::key::{KeyError, KeyKind};

/// Why a state was not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The system refused something.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no state.
    #[error("there is no TPM state in {}", .0.display())]
    None(PathBuf),
    /// Another process has it.
    #[error("the TPM state {} is in use by {}", path.display(), holder(*pid))]
    Locked {
        /// The state's file.
        path: PathBuf,
        /// The process, if the system says.
        pid: Option<u32>,
    },
    /// The key could not be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key of another kind protects the state.
    #[error("the TPM state is protected by {stored}, not by {given}")]
    KeyKind {
        /// What protects it.
        stored: KeyKind,
        /// What was given.
        given: KeyKind,
    },
    /// Not the key that the state was stored with.
    #[error("this key or passphrase is not the one that the TPM state was stored with")]
    WrongKey,
    /// The file is not a state, or no slot of it is whole.
    #[error("the TPM state {} is damaged: slot A: {a}; slot B: {b}", path.display())]
    Damaged {
        /// The state's file.
        path: PathBuf,
        /// What is wrong with the first slot.
        a: SlotError,
        /// What is wrong with the second slot.
        b: SlotError,
    },
    /// The state is older than the one that the anchor remembers.
    #[error(
        "the TPM state was rolled back: it is number {found}, and number {anchored} was stored (0: none); to go on from it, \
        and show that to verifiers, accept the rollback"
    )]
    RolledBack {
        /// The number of the state that is there; 0: there is none.
        found: u64,
        /// The number of the state that the anchor remembers.
        anchored: u64,
    },
    /// The state goes back to the one that the anchor remembers by a way that the anchor was not told of.
    #[error(
        "the TPM state number {found} was stored without its anchor, which remembers number {anchored}: a copy went on \
        elsewhere; to go on from it, and show that to verifiers, accept the rollback"
    )]
    Forked {
        /// The number of the state that is there.
        found: u64,
        /// The number of the state that the anchor remembers.
        anchored: u64,
    },
    /// The anchor could not be asked.
    #[error("the anchor of the TPM state: {0}")]
    Anchor(#[source] io::Error),
    /// The state is not of the last start that was counted.
    #[error(
        "the TPM state was rolled back, or is another one's: it was stored in start number {found}, and its counter \
        stands at {counted} (0: none); to go on from it, and show that to verifiers, accept the rollback"
    )]
    Counted {
        /// The number of the start that the state was stored in; 0: there is no state, or it was never counted.
        found: u64,
        /// What the counter stands at; 0: it has never counted, or is gone.
        counted: u64,
    },
    /// The first state of this start could not be stored.
    #[error(transparent)]
    Begin(Box<StoreError>),
    /// The counter could not be asked or advanced.
    #[error("the counter of the TPM state: {0}")]
    Counter(#[source] io::Error),
}

impl OpenError {
    /// How the process has to end.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Locked { .. } => Exit::Locked,
            Self::RolledBack { .. } | Self::Forked { .. } | Self::Counted { .. } => Exit::RolledBack,
            _ => Exit::State,
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

/// What is wrong with one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SlotError {
    /// It was never written.
    #[error("never written")]
    Blank,
    /// Its header is none.
    #[error("{0}")]
    Header(bulla_tpm_types::Error),
    /// It is the other slot's.
    #[error("it was copied from the other slot")]
    Number,
    /// Its contents are not authentic.
    #[error("its contents are not what was stored")]
    Contents,
}

/// Why a state was not stored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It is too large for a slot.
    #[error("a TPM state of {0} bytes does not fit its file")]
    TooLong(usize),
    /// The lock was given away.
    #[error("the TPM state was unlocked for another process")]
    Unlocked,
    /// No randomness.
    #[error(transparent)]
    Random(KeyError),
    /// The file could not be written.
    #[error("write {}: {source}", path.display())]
    File {
        /// The state's file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The anchor could not be told.
    #[error("the anchor of the TPM state: {0}")]
    Anchor(#[source] io::Error),
}
