//! The vTPM's state on disk: encrypted, authenticated, durable, and never two vTPMs' at once.
//!
//! The form of the file, what is promised and what is not are in `docs/vtpm-state.md`.
//!
//! # For those who run a TPM
//!
//! ```no_run
//! use std::path::Path;
//! use bulla_vtpm::{platform, state};
//!
//! // Before the sandbox: folder, key, lock, anchor, counter. Everything that needs a path.
//! let opened = state::open(Path::new("/var/lib/vm1/tpm"), state::Options::default())?;
//! let store = opened.store();
//! // Into the sandbox, leaving `store.descriptor()` (and an anchor's) open, with pread64, pwrite64, fdatasync and, for `lock` and
//! // `unlock`, flock on it, and with files of up to `state::FILE_SIZE` bytes in RLIMIT_FSIZE.
//! // Then: loaded, or manufactured if the folder was empty.
//! let started = platform::start(opened)?;
//! let mut tpm = started.tpm;
//! match started.volatile {
//!     Some(volatile) => tpm.restore_volatile(&volatile)?,
//!     None => tpm.init(),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Store`] is a handle: give one to the TPM ([`Tpm::set_storage`]) and keep another for [`Store::suspend`] (the
//! volatile state beside the permanent one, as swtpm's CMD_STORE_VOLATILE) and for [`Store::unlock`] and
//! [`Store::lock`] (migration with shared storage).
//!
//! [`Tpm::set_storage`]: crate::engine::Tpm::set_storage

mod anchor;
pub mod blob;
mod counter;
mod error;
mod host;
mod key;
mod slot;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, StatxFlags};
use zeroize::Zeroizing;

pub use anchor::{Anchor, FileAnchor};
pub use counter::Counter;
pub use error::{OpenError, SlotError, StoreError};
pub use host::{AnchorPlace, HostError, HostTpm, OpenAnchor};
pub use key::{KeyError, KeyFormat, KeyKind, KeySource, SecretBytes};
pub use slot::Mark;

use crate::engine::{Storage, StorageError};
pub(crate) use key::random;
use key::{Kdf, StateKey};
use slot::{HEADER, Header, NONCE, Payload, Place, SLOT, TAG};

/// The state's file in its folder.
pub const STATE_FILE: &str = "bulla-vtpm.state";
/// Bytes of the state's file, all of which are allocated when it is made.
pub const FILE_SIZE: u64 = SLOTS * SLOT as u64;

const SLOTS: u64 = 2;

/// How a state is opened.
pub struct Options {
    /// What protects it.
    pub key: KeySource,
    /// What remembers its last state.
    pub anchor: Option<Box<dyn Anchor>>,
    /// What counts how often it was opened. Dropped once it is open.
    pub counter: Option<Box<dyn Counter>>,
    /// Whether a state that is older than its anchor or counter remembers, or gone, is accepted. The TPM then shows it.
    pub accept_rollback: bool,
    /// Whether a new state may be made if there is none.
    pub create: bool,
}

impl Default for Options {
    /// The key beside the state, no anchor; made if need be.
    fn default() -> Self {
        Self { key: KeySource::Beside, anchor: None, counter: None, accept_rollback: false, create: true }
    }
}

/// Where a state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It is where this vTPM stored it last.
    Here,
    /// Its file is another than the one it was stored in: a copy, of which there may be more.
    Copied,
    /// It is known not to be the last one, and that was accepted. `lost` states, at most, came after it.
    RolledBack {
        /// How many.
        lost: u64,
    },
}

/// A state that was stored.
#[derive(Debug)]
pub struct Loaded {
    /// What [`Tpm::load`](crate::engine::Tpm::load) takes.
    pub permanent: Zeroizing<Vec<u8>>,
    /// What [`Tpm::restore_volatile`](crate::engine::Tpm::restore_volatile) takes, if the machine was suspended.
    pub volatile: Option<Zeroizing<Vec<u8>>>,
    /// Where it comes from.
    pub origin: Origin,
}

/// An open state.
#[derive(Debug)]
pub struct Opened {
    store: Store,
    /// What was stored; `None` for a new one.
    pub state: Option<Loaded>,
}

impl Opened {
    /// Where to store what comes next.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store.clone()
    }
}

/// An open state's file.
struct Inner {
    file: File,
    path: PathBuf,
    key: StateKey,
    place: Place,
    /// What the states of this process are marked with.
    epoch: u64,
    /// The last state that is durable; generation 0 if there is none.
    last: Mark,
    /// The slot to be written next: never that of the last state.
    next: u8,
    anchor: Option<Box<dyn Anchor>>,
    /// Whether another process may have the state.
    unlocked: bool,
}

/// Where a TPM's state is stored. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Mutex<Inner>>);

impl core::fmt::Debug for Store {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Opens the state in a folder, and locks it for this process and those that inherit its descriptor.
///
/// # Errors
/// See [`OpenError`].
pub fn open(dir: &Path, options: Options) -> Result<Opened, OpenError> {
    let path = dir.join(STATE_FILE);
    let file = open_file(dir, &path, options.create)?;
    lock(&file, &path)?;
    let place = place(&file).map_err(of("look at", &path))?;
    let Options { key: source, mut anchor, mut counter, accept_rollback, create } = options;
    let anchored = anchor.as_mut().map_or(Ok(None), |anchor| anchor.read()).map_err(OpenError::Anchor)?;
    let counted = counter.as_mut().map_or(Ok(None), |counter| counter.read()).map_err(OpenError::Counter)?;
    let found = find(&file, &path, &source, dir)?;
    if found.as_ref().is_none_or(Found::is_begun) && !create {
        return Err(OpenError::None(dir.to_owned()));
    }
    let mut last = found.as_ref().map_or_else(Mark::default, |f| f.mark);
    let epoch = found.as_ref().map(|f| f.header.epoch);
    // How many states came after this one, at most, if it is not the last.
    let mut lost = None;
    if let Err(error) = judge(last, found.as_ref().map(|f| f.header.previous), anchored) {
        lost = Some(accepted(accept_rollback, error)?);
    }
    if counter.is_some()
        && let Err(error) = counter::judge(epoch, counted)
    {
        lost = lost.max(Some(accepted(accept_rollback, error)?));
    }

    let origin = match (&found, lost) {
        (_, Some(lost)) => Origin::RolledBack { lost },
        // Where an anchor vouches for the state, it does not matter which file it is in.
        (Some(found), None) if found.header.place != place && anchored.is_none() => Origin::Copied,
        _ => Origin::Here,
    };
    if found.is_none() || origin != Origin::Here {
        random(&mut last.instance)?;
    }
    if lost.is_some() {
        last.generation = last.generation.max(anchored.map_or(0, |a| a.generation));
    }
    let (next, key, payload) = match found {
        Some(found) => (1 - found.header.slot, found.key, found.payload),
        None => (0, StateKey::derive(&source, Kdf::new(source.kind())?, dir, true)?, Payload::default()),
    };
    let known = last.generation > 0;
    // Without its counter a state is none that was counted.
    let mut inner = Inner { file, path, key, place, epoch: 0, last, next, anchor, unlocked: false };
    if known && lost.is_none() && anchored != Some(inner.last) {
        // The anchor is new, or the power went between a state and its anchor.
        inner.advance_anchor().map_err(OpenError::Anchor)?;
    }
    let Payload { permanent, mut volatile } = payload;
    if origin != Origin::Here {
        // What was suspended goes on once, where it was.
        volatile = Zeroizing::default();
    }
    if let Some(counter) = &mut counter {
        inner.begin(counter.as_mut(), (epoch, counted), origin, &permanent, &volatile)?;
    }
    let volatile = Some(volatile).filter(|v| !v.is_empty());
    let state = (!permanent.is_empty()).then_some(Loaded { permanent, volatile, origin });
    Ok(Opened { store: Store::new(inner), state })
}

/// How many states are lost if a rollback that was found is accepted; else what was found.
fn accepted(accept: bool, found: OpenError) -> Result<u64, OpenError> {
    match found {
        OpenError::RolledBack { found, anchored } | OpenError::Forked { found, anchored } if accept => {
            Ok(anchored.saturating_sub(found).max(1))
        }
        OpenError::Counted { found, counted } if accept => Ok(counter::lost(found, counted)),
        refused => Err(refused),
    }
}

/// Whether what is there is what the anchor remembers, or the one state after it, whose anchoring a crash may have cut off.
fn judge(found: Mark, previous: Option<[u8; TAG]>, anchored: Option<Mark>) -> Result<(), OpenError> {
    let Some(anchor) = anchored else {
        return Ok(());
    };
    if found.generation < anchor.generation {
        return Err(OpenError::RolledBack { found: found.generation, anchored: anchor.generation });
    }
    let is_anchored = found == anchor;
    let comes_next = anchor.generation.checked_add(1) == Some(found.generation) && previous == Some(anchor.tag);
    if is_anchored || comes_next {
        return Ok(());
    }
    Err(OpenError::Forked { found: found.generation, anchored: anchor.generation })
}

/// Removes the state in a folder, and the key beside it. Answers whether there was one.
///
/// # Errors
/// When another process has it, or the system does not remove it.
pub fn remove(dir: &Path) -> Result<bool, OpenError> {
    let path = dir.join(STATE_FILE);
    let file = match open_file(dir, &path, false) {
        Err(OpenError::None(_)) => return Ok(false),
        other => other?,
    };
    lock(&file, &path)?;
    fs::remove_file(&path).map_err(of("remove", &path))?;
    for name in [key::KEY_FILE, key::HOST_KEY_FILE] {
        let key = dir.join(name);
        match fs::remove_file(&key) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(of("remove", &key)(error)),
            _ => {}
        }
    }
    Ok(true)
}

fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::File { what, path: path.to_owned(), source }
}

/// Opens the file, making folder and file if that is wanted.
fn open_file(dir: &Path, path: &Path, create: bool) -> Result<File, OpenError> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::None(dir.to_owned())),
        other => return other.map_err(of("open", path)),
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(of("make the folder", dir))?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(of("make", path))?;
    // The name must not be lost with the first state in it.
    File::open(dir).and_then(|d| d.sync_all()).map_err(of("make durable the folder", dir))?;
    Ok(file)
}

/// One owner at a time: the lock belongs to the open file, so it goes on in processes that inherit the descriptor, and
/// ends with the last of them.
fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { path: path.to_owned(), pid: lock_holder(file) }),
        Err(error) => Err(of("lock", path)(error.into())),
    }
}

/// Who holds the lock, from /proc/locks: "1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF".
fn lock_holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, at, ..] = fields[..] else {
            return None;
        };
        if at.rsplit(':').next() == Some(&inode) { pid.parse().ok() } else { None }
    })
}

/// What a copy of a file does not share with it.
fn place(file: &File) -> io::Result<Place> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME | StatxFlags::INO)?;
    let knows = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let born = if knows { (stat.stx_btime.tv_sec.cast_unsigned(), stat.stx_btime.tv_nsec) } else { (0, 0) };
    Ok(Place { inode: stat.stx_ino, born })
}

/// The last whole state in a file.
struct Found {
    header: Header,
    mark: Mark,
    key: StateKey,
    payload: Payload,
}

impl Found {
    /// Whether a counter has begun with the state, but no TPM was made yet.
    fn is_begun(&self) -> bool {
        self.payload.permanent.is_empty()
    }
}

/// Finds it; `None` if none was ever stored.
fn find(file: &File, path: &Path, source: &KeySource, dir: &Path) -> Result<Option<Found>, OpenError> {
    let length = file.metadata().map_err(of("look at", path))?.len();
    if length < FILE_SIZE {
        // New, or the power went while it was made.
        allocate(file).map_err(of("allocate", path))?;
    }
    let headers = [read_header(file, 0), read_header(file, 1)];
    let mut errors = [SlotError::Blank; 2];
    let mut wrong_key = false;
    let mut keys: Vec<StateKey> = Vec::new();
    let mut best: Option<(Header, Mark, Payload)> = None;
    for (header, error) in headers.into_iter().zip(&mut errors) {
        let header = match header.map_err(of("read", path))? {
            Ok(header) => header,
            Err(e) => {
                *error = e;
                continue;
            }
        };
        if header.kind != source.kind() {
            return Err(OpenError::KeyKind { stored: header.kind, given: source.kind() });
        }
        if !keys.iter().any(|k| k.kdf == header.kdf) {
            keys.push(StateKey::derive(source, header.kdf, dir, false)?);
        }
        let Some(key) = keys.iter().find(|k| k.kdf == header.kdf) else { continue };
        if key.check != header.check {
            wrong_key = true;
            *error = SlotError::Contents;
            continue;
        }
        let body = read_body(file, &header).map_err(of("read", path))?;
        match slot::open(&header, key, body) {
            Some((payload, tag)) => {
                if best.as_ref().is_none_or(|(b, ..)| b.generation < header.generation) {
                    let mark = Mark { instance: header.instance, generation: header.generation, tag };
                    best = Some((header, mark, payload));
                }
            }
            None => *error = SlotError::Contents,
        }
    }
    let Some((header, mark, payload)) = best else {
        let [a, b] = errors;
        return match (a, b) {
            _ if wrong_key => Err(OpenError::WrongKey),
            // Nothing was ever promised: the first state goes to slot A, and only the second to slot B.
            (_, SlotError::Blank) => Ok(None),
            _ => Err(OpenError::Damaged { path: path.to_owned(), a, b }),
        };
    };
    let key = keys.into_iter().find(|k| k.kdf == header.kdf);
    Ok(key.map(|key| Found { header, mark, key, payload }))
}

/// Gives the file all of its bytes, so that a full file system shows now and not when a TPM has something to keep.
fn allocate(file: &File) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, FILE_SIZE) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(FILE_SIZE)?,
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

fn read_header(file: &File, slot: u8) -> io::Result<Result<Header, SlotError>> {
    let mut bytes = [0; HEADER];
    file.read_exact_at(&mut bytes, u64::from(slot) * SLOT as u64)?;
    if bytes == [0; HEADER] {
        return Ok(Err(SlotError::Blank));
    }
    Ok(match Header::from_bytes(&bytes) {
        Ok(header) if header.slot != slot => Err(SlotError::Number),
        other => other.map_err(SlotError::Header),
    })
}

fn read_body(file: &File, header: &Header) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut body = Zeroizing::new(vec![0; TAG + header.length]);
    file.read_exact_at(&mut body, u64::from(header.slot) * SLOT as u64 + HEADER as u64)?;
    Ok(body)
}

impl Inner {
    fn store(&mut self, permanent: &[u8], volatile: &[u8]) -> Result<(), StoreError> {
        if self.unlocked {
            return Err(StoreError::Unlocked);
        }
        let mut nonce = [0; NONCE];
        random(&mut nonce).map_err(StoreError::Random)?;
        let length = slot::payload_len(permanent, volatile);
        let header = Header {
            slot: self.next,
            instance: self.last.instance,
            generation: self.last.generation.saturating_add(1),
            previous: self.last.tag,
            place: self.place,
            kind: self.key.kind,
            kdf: self.key.kdf,
            check: self.key.check,
            nonce,
            length,
            epoch: self.epoch,
        };
        let too_long = StoreError::TooLong(length);
        let (bytes, tag) = slot::seal(&header, &self.key, permanent, volatile).ok_or(too_long)?;
        let written = self.file.write_all_at(&bytes, u64::from(self.next) * SLOT as u64);
        let durable = written.and_then(|()| self.file.sync_data());
        durable.map_err(|source| StoreError::File { path: self.path.clone(), source })?;
        self.last = Mark { instance: header.instance, generation: header.generation, tag };
        self.next = 1 - self.next;
        self.advance_anchor().map_err(StoreError::Anchor)
    }

    /// Begins the counter's next epoch with what was found: stored first, then counted.
    fn begin(
        &mut self,
        counter: &mut dyn Counter,
        (found, counted): (Option<u64>, Option<u64>),
        origin: Origin,
        permanent: &[u8],
        volatile: &[u8],
    ) -> Result<(), OpenError> {
        self.epoch = counter::next(counter, found, counted).map_err(OpenError::Counter)?;
        let place = self.place;
        if origin != Origin::Here {
            // Until the TPM itself has stored what shows where it comes from, it is a copy.
            self.place = Place::default();
        }
        let stored = self.store(permanent, volatile);
        self.place = place;
        stored.map_err(|error| OpenError::Begin(Box::new(error)))?;
        counter::end_of_last(counter, self.epoch).map_err(OpenError::Counter)
    }

    fn advance_anchor(&mut self) -> io::Result<()> {
        match &mut self.anchor {
            Some(anchor) => anchor.advance(&self.last),
            None => Ok(()),
        }
    }
}

impl Store {
    fn new(inner: Inner) -> Self {
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change of it is whole: one that was cut off by a panic has written at most the inactive slot.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what survives a loss of power, and nothing else: what was suspended is forgotten.
    ///
    /// # Errors
    /// See [`StoreError`]. The state before is then still there.
    pub fn store(&self, permanent: &[u8]) -> Result<(), StoreError> {
        self.inner().store(permanent, &[])
    }

    /// Stores both states of a machine that is suspended. The next one that opens the store may go on from them, unless
    /// anything was stored since.
    ///
    /// # Errors
    /// See [`StoreError`]. The state before is then still there.
    pub fn suspend(&self, permanent: &[u8], volatile: &[u8]) -> Result<(), StoreError> {
        self.inner().store(permanent, volatile)
    }

    /// Which state was stored last.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.inner().last
    }

    /// The descriptor of the state's file, for a sandbox to leave open. An anchor has descriptors of its own.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.inner().file.as_raw_fd()
    }

    /// Lets another process have the state, as the source of a migration does. Nothing can be stored until
    /// [`Store::lock`].
    ///
    /// # Errors
    /// When the system does not unlock.
    pub fn unlock(&self) -> io::Result<()> {
        let mut inner = self.inner();
        rustix::fs::flock(&inner.file, FlockOperation::Unlock)?;
        inner.unlocked = true;
        Ok(())
    }

    /// Takes the state back after [`Store::unlock`]: `false` when another process has stored in it since, so that this
    /// process' TPM is not the last any more.
    ///
    /// # Errors
    /// When another process has it, or the file cannot be read.
    pub fn lock(&self) -> Result<bool, OpenError> {
        let mut inner = self.inner();
        lock(&inner.file, &inner.path)?;
        let last = 1 - inner.next;
        let header = read_header(&inner.file, last).map_err(of("read", &inner.path))?;
        let other = read_header(&inner.file, inner.next).map_err(of("read", &inner.path))?;
        let same = header.is_ok_and(|h| h.generation == inner.last.generation && h.instance == inner.last.instance)
            && other.map_or(true, |h| h.generation < inner.last.generation);
        inner.unlocked = !same;
        Ok(same)
    }
}

impl Storage for Store {
    fn store(&mut self, permanent: &[u8]) -> Result<(), StorageError> {
        Store::store(self, permanent).map_err(|error| {
            eprintln!("bulla-vtpm: {error}");
            StorageError
        })
    }
}
