//! The protocol without its sockets, for those who bring their own bytes: fuzzers and benchmarks.

use std::io;
use std::sync::Arc;

use clap::{Args as _, Command, FromArgMatches as _};
use zeroize::Zeroizing;

use super::control;
use super::inherited::Inherited;
use super::log::Log;
use super::machine::{Keys, Machine};
use super::options::Options;
use super::request;
use super::shared::Shared;
use crate::engine::Tpm;
use crate::state::KeySource;

/// A TPM behind both channels' messages. It is off until a control message gives it power, and keeps its state in memory.
pub struct Direct {
    shared: Arc<Shared>,
}

impl core::fmt::Debug for Direct {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Direct").finish_non_exhaustive()
    }
}

impl Direct {
    /// Takes a TPM, options of the command line, of which those about sockets, files and the sandbox do nothing here, and the
    /// keys that `--key` and `--migration-key` would give.
    ///
    /// # Errors
    /// When the options are none, or the system has no descriptor left.
    pub fn new(
        tpm: Tpm,
        options: &[&str],
        key: Option<KeySource>,
        migration_key: Option<KeySource>,
    ) -> io::Result<Self> {
        let line = Options::augment_args(Command::new("socket").no_binary_name(true)).try_get_matches_from(options);
        let options = line.and_then(|line| Options::from_arg_matches(&line)).map_err(io::Error::other)?;
        let machine = Machine::new(tpm, &options, Keys { file: key, migration: migration_key });
        Ok(Self { shared: Shared::new(machine, Log::open(&options.log, &mut Inherited::default())?)? })
    }

    /// The answer to what came on the control channel at once; `None` if it is less than a request, whose rest would be
    /// waited for. That the program is to end is not told: it goes on here.
    #[must_use]
    pub fn control(&self, received: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let complete = match request::length(received) {
            Ok(length) if received.len() < length => return None,
            complete => complete.map(drop),
        };
        Some(control::reply(&self.shared, received, complete, None).0)
    }

    /// The answer to a message of the data channel.
    #[must_use]
    pub fn data(&self, message: &[u8]) -> Vec<u8> {
        self.shared.machine().message(message).bytes
    }
}
