//! Where the key of a state comes from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit, Mac};
use rustix::rand::GetRandomFlags;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use super::OpenError;
use super::host::{self, HostError, HostTpm};

/// The file of a key that nobody gave, beside the state.
pub(super) const KEY_FILE: &str = "bulla-vtpm.key";

/// The file of a key that only the host's TPM opens, beside the state.
pub(super) const HOST_KEY_FILE: &str = "bulla-vtpm.host-key";

/// RFC 9106, 4, the second recommended choice but for its lanes: 64 MiB, three passes. One lane: there is one thread.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u8 = 3;
/// What a header may ask for, before anyone knows whether it is authentic.
const MAX_MEMORY_KIB: u32 = 256 << 10;
const MAX_PASSES: u8 = 8;
/// The longest passphrase in a file.
const MAX_PASSPHRASE: u64 = 1024;

/// Secret bytes.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// What protects a state at rest.
#[derive(Clone)]
#[non_exhaustive]
pub enum KeySource {
    /// A file `bulla-vtpm.key` beside the state, made with it, that only its owner can read. It protects copies of the
    /// state without it, and tells damage; not from whoever reads the folder.
    Beside,
    /// A key of 16 or 32 bytes.
    Key(SecretBytes),
    /// A passphrase, from which the key is derived with Argon2id: 64 MiB of memory and a good tenth of a second.
    Passphrase(SecretBytes),
    /// A file `bulla-vtpm.host-key` beside the state, made with it, that only a TPM of the host's opens.
    HostTpm(HostTpm),
}

impl core::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Beside => "Beside",
            Self::Key(_) => "Key",
            Self::Passphrase(_) => "Passphrase",
            Self::HostTpm(_) => "HostTpm",
        })
    }
}

/// How a file writes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// The bytes.
    Binary,
    /// Hexadecimal digits, with or without `0x` before them and white space after.
    Hex,
}

/// Why a key could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Its file could not be read or made.
    #[error("the key file {}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a key.
    #[error("a key has 16 or 32 bytes (32 or 64 hexadecimal digits), not {0}")]
    Length(usize),
    /// It is not hexadecimal.
    #[error("the key is not hexadecimal")]
    Hex,
    /// The passphrase is empty.
    #[error("the passphrase is empty")]
    Empty,
    /// The passphrase is too long.
    #[error("the passphrase is longer than {MAX_PASSPHRASE} bytes")]
    Long,
    /// There is a state but the key beside it is gone.
    #[error("the state's key {} is gone: without it nobody can read the state", .0.display())]
    Gone(PathBuf),
    /// The header asks for a derivation that no release asks for.
    #[error(
        "the state asks for a key derivation with {memory_kib} KiB and {passes} passes, which is no reasonable one"
    )]
    Kdf {
        /// KiB of memory.
        memory_kib: u32,
        /// Passes over it.
        passes: u8,
    },
    /// The host's TPM did not do its part.
    #[error(transparent)]
    Host(#[from] HostError),
    /// There was not the memory for it, or no randomness.
    #[error("the key could not be derived: {0}")]
    Derive(String),
}

impl KeySource {
    /// Reads a key from a file.
    ///
    /// # Errors
    /// When the file cannot be read or is no key.
    pub fn from_file(path: &Path, format: KeyFormat) -> Result<Self, KeyError> {
        let bytes = read(path, 256)?;
        Self::from_bytes(&bytes, format)
    }

    /// A key from the contents of a file.
    ///
    /// # Errors
    /// When they are no key.
    pub fn from_bytes(bytes: &[u8], format: KeyFormat) -> Result<Self, KeyError> {
        let key = match format {
            KeyFormat::Binary => Zeroizing::new(bytes.to_vec()),
            KeyFormat::Hex => unhex(bytes.trim_ascii())?,
        };
        if matches!(key.len(), 16 | 32) { Ok(Self::Key(key)) } else { Err(KeyError::Length(key.len())) }
    }

    /// Reads a passphrase from a file, without the end of its line.
    ///
    /// # Errors
    /// When the file cannot be read, or the passphrase is empty or too long.
    pub fn passphrase_from_file(path: &Path) -> Result<Self, KeyError> {
        Self::passphrase_from_bytes(&read(path, MAX_PASSPHRASE + 1)?)
    }

    /// A passphrase from the contents of a file, without the end of its line.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn passphrase_from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(KeyError::Empty);
        }
        if line.len() as u64 > MAX_PASSPHRASE {
            return Err(KeyError::Long);
        }
        Ok(Self::Passphrase(Zeroizing::new(line.to_vec())))
    }

    pub(super) fn kind(&self) -> KeyKind {
        match self {
            Self::Beside => KeyKind::Beside,
            Self::Key(_) => KeyKind::Key,
            Self::Passphrase(_) => KeyKind::Passphrase,
            Self::HostTpm(_) => KeyKind::HostTpm,
        }
    }
}

fn read(path: &Path, most: u64) -> Result<SecretBytes, KeyError> {
    let file = |source| KeyError::File { path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(most).unwrap_or(0) + 1));
    File::open(path).and_then(|f| f.take(most).read_to_end(&mut bytes)).map_err(file)?;
    Ok(bytes)
}

fn unhex(digits: &[u8]) -> Result<SecretBytes, KeyError> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(KeyError::Hex);
    let mut key = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks(2) {
        match *pair {
            [high, low] => key.push(digit(high)? << 4 | digit(low)?),
            _ => return Err(KeyError::Hex),
        }
    }
    Ok(key)
}

/// What a key comes from, as the header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyKind {
    /// The file beside the state.
    Beside = 1,
    /// A key that was given.
    Key = 2,
    /// A passphrase.
    Passphrase = 3,
    /// The file beside the state that a TPM of the host's has sealed.
    HostTpm = 4,
}

impl KeyKind {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Beside),
            2 => Some(Self::Key),
            3 => Some(Self::Passphrase),
            4 => Some(Self::HostTpm),
            _ => None,
        }
    }
}

impl core::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Beside => "the key in the file beside it",
            Self::Key => "a key of its user's",
            Self::Passphrase => "a passphrase",
            Self::HostTpm => "a key that a TPM of the host's has sealed",
        })
    }
}

/// How a state's key is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kdf {
    pub(super) salt: [u8; 16],
    /// For a passphrase; 0 otherwise.
    pub(super) memory_kib: u32,
    /// For a passphrase; 0 otherwise.
    pub(super) passes: u8,
}

impl Kdf {
    /// For a new state.
    pub(super) fn new(kind: KeyKind) -> Result<Self, KeyError> {
        let mut salt = [0; 16];
        random(&mut salt)?;
        let (memory_kib, passes) = if kind == KeyKind::Passphrase { (MEMORY_KIB, PASSES) } else { (0, 0) };
        Ok(Self { salt, memory_kib, passes })
    }
}

/// A key that is ready for use.
pub(super) struct StateKey {
    pub(super) kind: KeyKind,
    pub(super) kdf: Kdf,
    pub(super) cipher: Zeroizing<[u8; 32]>,
    pub(super) check: [u8; 16],
}

impl StateKey {
    /// Derives the key that a header describes. `dir` is the state's folder; only for a new state may the key beside it
    /// be made.
    pub(super) fn derive(source: &KeySource, kdf: Kdf, dir: &Path, new: bool) -> Result<Self, OpenError> {
        let root = match source {
            KeySource::Beside => beside(dir, new)?,
            KeySource::Key(key) => key.clone(),
            KeySource::Passphrase(passphrase) => argon2id(passphrase, &kdf)?,
            KeySource::HostTpm(host) => host_key(dir, host, new)?,
        };
        let mut cipher = Zeroizing::new([0; 32]);
        expand(&root, b"bulla-vtpm state 1 cipher", &kdf.salt, &mut *cipher);
        let mut check = [0; 16];
        expand(&root, b"bulla-vtpm state 1 check", &kdf.salt, &mut check);
        Ok(Self { kind: source.kind(), kdf, cipher, check })
    }
}

/// One block of HMAC-SHA-256, as HKDF-Expand would (RFC 5869, 2.3).
fn expand(root: &[u8], label: &[u8], salt: &[u8; 16], out: &mut [u8]) {
    // HMAC takes keys of any length.
    if let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(root) {
        mac.update(label);
        mac.update(salt);
        mac.update(&[1]);
        let block = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
        out.iter_mut().zip(block.iter()).for_each(|(to, from)| *to = *from);
    }
}

fn argon2id(passphrase: &[u8], kdf: &Kdf) -> Result<SecretBytes, KeyError> {
    let Kdf { memory_kib, passes, .. } = *kdf;
    if memory_kib > MAX_MEMORY_KIB || passes > MAX_PASSES {
        return Err(KeyError::Kdf { memory_kib, passes });
    }
    let params =
        Params::new(memory_kib, u32::from(passes), 1, Some(32)).map_err(|_| KeyError::Kdf { memory_kib, passes })?;
    let mut key = Zeroizing::new(vec![0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, &kdf.salt, &mut key)
        .map_err(|e| KeyError::Derive(e.to_string()))?;
    Ok(key)
}

/// The key beside the state, which is made, whole or not at all, if the state is new.
fn beside(dir: &Path, new: bool) -> Result<SecretBytes, KeyError> {
    let path = dir.join(KEY_FILE);
    match read(&path, 33) {
        Ok(key) if key.len() == 32 => return Ok(key),
        Ok(key) => return Err(KeyError::Length(key.len())),
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if !new {
        return Err(KeyError::Gone(path));
    }
    let mut key = Zeroizing::new(vec![0; 32]);
    random(&mut key)?;
    write_new(dir, KEY_FILE, &key)?;
    Ok(key)
}

/// The key in the file beside the state that the host's TPM opens; made like that of [`beside`].
fn host_key(dir: &Path, host: &HostTpm, new: bool) -> Result<SecretBytes, KeyError> {
    let path = dir.join(HOST_KEY_FILE);
    match read(&path, host::MOST) {
        Ok(sealed) => return Ok(host.unseal(&sealed)?),
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if !new {
        return Err(KeyError::Gone(path));
    }
    let mut key = Zeroizing::new(vec![0; 32]);
    random(&mut key)?;
    write_new(dir, HOST_KEY_FILE, &host.seal(&key)?)?;
    Ok(key)
}

/// Makes a file in the state's folder, whole or not at all, that only its owner can read.
fn write_new(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), KeyError> {
    let (path, making) = (dir.join(name), dir.join(format!("{name}.new")));
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making).and_then(|mut f| {
            f.write_all(bytes)?;
            f.sync_all()
        });
    let named = written.and_then(|()| fs::rename(&making, &path)).and_then(|()| File::open(dir)?.sync_all());
    named.map_err(|source| KeyError::File { path, source })
}

/// Fills `out` from the kernel's generator.
pub(crate) fn random(out: &mut [u8]) -> Result<(), KeyError> {
    let mut rest = out;
    while !rest.is_empty() {
        match rustix::rand::getrandom(&mut *rest, GetRandomFlags::empty()) {
            Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(KeyError::Derive(error.to_string())),
        }
    }
    Ok(())
}
