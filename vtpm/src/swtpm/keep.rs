//! The state that lasts, and the keys around it, as the command line wants them.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::SocketError;
use super::inherited::Inherited;
use super::machine::{Keys, Machine};
use super::options::{KeyOption, Options, PATH_VARIABLE, PathOrFd};
use crate::platform;
use crate::state::{self, AnchorPlace, KeyError, KeyFormat, KeySource, OpenAnchor, STATE_FILE};

/// More than any file of a key or passphrase has.
const MOST: u64 = 4096;

/// The TPM of the command line: with its state, or in memory.
pub(super) fn machine(options: &Options, inherited: &mut Inherited) -> Result<Machine, SocketError> {
    let mut key = |name, option: &Option<KeyOption>| match option {
        None => Ok(None),
        Some(option) => {
            read_key(option, inherited).map(Some).map_err(|source| SocketError::Key { option: name, source })
        }
    };
    let keys = Keys { file: key("--key", &options.key)?, migration: key("--migration-key", &options.migration_key)? };
    let Some((dir, mode)) = folder(options) else {
        return Ok(Machine::new(platform::manufacture(), options, keys));
    };
    let mut how = state::Options { accept_rollback: options.accept_rollback, ..state::Options::default() };
    if let Some(key) = &keys.file {
        how.key = key.clone();
    }
    match options.state_anchor.as_ref().map(AnchorPlace::open).transpose().map_err(SocketError::Anchor)? {
        Some(OpenAnchor::File(anchor)) => how.anchor = Some(Box::new(anchor)),
        Some(OpenAnchor::Counter(counter)) => how.counter = Some(counter),
        None => {}
    }
    let opened = state::open(&dir, how)?;
    if let Some(mode) = mode {
        fs::set_permissions(dir.join(STATE_FILE), fs::Permissions::from_mode(mode))
            .map_err(|source| SocketError::File { what: "--tpmstate mode", source })?;
    }
    let store = opened.store();
    let started = platform::start(opened).map_err(SocketError::State)?;
    Ok(Machine::new(started.tpm, options, keys).with_store(store, started.volatile))
}

/// The folder of the state, and its file's mode bits.
fn folder(options: &Options) -> Option<(PathBuf, Option<u32>)> {
    match &options.tpmstate {
        Some(state) => Some((state.dir.clone(), state.mode)),
        None => std::env::var_os(PATH_VARIABLE).map(|dir| (dir.into(), None)),
    }
}

/// The key or passphrase that an option tells of.
pub(crate) fn read_key(option: &KeyOption, inherited: &mut Inherited) -> Result<KeySource, KeyError> {
    let option = match option {
        KeyOption::HostTpm(host) => return Ok(KeySource::HostTpm(host.clone())),
        KeyOption::Given(given) => given,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let (path, read) = match &option.place {
        PathOrFd::Path(path) => (path.clone(), fs::File::open(path)),
        PathOrFd::Fd(fd) => (format!("/dev/fd/{fd}").into(), inherited.take(*fd).map(fs::File::from)),
    };
    let failed = |source| KeyError::File { path: path.clone(), source };
    read.and_then(|file| file.take(MOST).read_to_end(&mut bytes)).map_err(failed)?;
    let key = match option.format {
        // As swtpm does: what comes after the key's bytes, an end of line for one, is no part of it.
        Some(KeyFormat::Hex) => KeySource::from_bytes(&bytes, KeyFormat::Hex)?,
        Some(KeyFormat::Binary) => KeySource::from_bytes(&bytes, KeyFormat::Binary)?,
        None => KeySource::passphrase_from_bytes(&bytes)?,
    };
    if let (true, PathOrFd::Path(path)) = (option.remove, &option.place) {
        fs::remove_file(path).map_err(failed)?;
    }
    Ok(key)
}

/// What `--print-states` prints.
pub(super) fn states(options: &Options, inherited: &mut Inherited) -> Result<Value, SocketError> {
    let (dir, _) = folder(options)
        .ok_or(SocketError::File { what: "--print-states", source: io::Error::other("it needs --tpmstate") })?;
    let mut how = state::Options { create: false, ..state::Options::default() };
    if let Some(option) = &options.key {
        how.key = read_key(option, inherited).map_err(|source| SocketError::Key { option: "--key", source })?;
    }
    let loaded = match state::open(&dir, how) {
        Ok(opened) => opened.state,
        Err(state::OpenError::None(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let mut states = Vec::new();
    if let Some(loaded) = loaded {
        states.push(json!({"name": "permall", "size": loaded.permanent.len()}));
        if let Some(volatile) = loaded.volatile {
            states.push(json!({"name": "volatile", "size": volatile.len()}));
        }
    }
    Ok(json!({"type": "swtpm", "states": states}))
}

/// What `--print-capabilities` prints: swtpm's words for what is here, too.
pub(super) fn capabilities() -> Value {
    json!({
        "type": "swtpm",
        "features": [
            "tpm-2.0",
            "tpm-send-command-header",
            "flags-opt-startup",
            "flags-opt-disable-auto-shutdown",
            "ctrl-opt-terminate",
            "cmdarg-seccomp",
            "cmdarg-key-fd",
            "cmdarg-pwd-fd",
            "cmdarg-print-states",
            "nvram-backend-dir",
            "tpmstate-opt-lock",
            "rsa-keysize-1024",
            "rsa-keysize-2048",
            "rsa-keysize-3072",
            "rsa-keysize-4096",
        ],
        "version": SPOKEN,
    })
}

/// The version of swtpm whose command line and control channel these are.
const SPOKEN: &str = "0.7.1";
