//! What remembers, outside the state, which state was the last one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use bulla_tpm_types::{HashAlg, Reader, hash};

use super::slot::Mark;

/// What remembers which state was the last one that a vTPM stored, in a place that whoever may set back the state
/// cannot set back with it.
///
/// It is asked once, when a state is opened, and told of each state after that is durable and before the TPM answers.
/// It works inside the sandbox: with open descriptors.
pub trait Anchor: Send {
    /// The last state that it was told of; `None` when it never was.
    ///
    /// # Errors
    /// When it cannot tell: the state is then not opened.
    fn read(&mut self) -> io::Result<Option<Mark>>;

    /// Remembers this state in the place of the one before. Durable when it returns.
    ///
    /// # Errors
    /// When it may not remember: the TPM then enters failure mode.
    fn advance(&mut self, mark: &Mark) -> io::Result<()>;
}

/// An anchor in a file of the caller's, on other storage than the state: where snapshots, backups and restores of the
/// state do not reach.
///
/// Whoever can write the file can set it back.
#[derive(Debug)]
pub struct FileAnchor {
    file: File,
    /// The record to be written next: the two take turns, so that one of them is whole at any time.
    next: u64,
}

const RECORDS: u64 = 2;
/// Records are in blocks of their own.
const STRIDE: u64 = 4096;
const RECORD: usize = 64;
const MAGIC: &[u8; 8] = b"bullaANC";

impl FileAnchor {
    /// Opens the file, or makes it. Nobody else can have it open as an anchor at the same time.
    ///
    /// # Errors
    /// When it cannot be opened, made or locked.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        if file.metadata()?.len() < RECORDS * STRIDE {
            file.set_len(RECORDS * STRIDE)?;
            file.sync_all()?;
            if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
                File::open(dir)?.sync_all()?;
            }
        }
        Ok(Self { file, next: 0 })
    }

    /// The file's descriptor, for a sandbox to leave open.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn record(mark: &Mark) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let sum = hash::digest(HashAlg::Sha256, &[MAGIC, &mark.instance, &mark.generation.to_be_bytes(), &mark.tag]);
    let fields = [&MAGIC[..], &mark.instance, &mark.generation.to_be_bytes(), &mark.tag, &sum.as_bytes()[..16]];
    bytes.iter_mut().zip(fields.concat()).for_each(|(to, from)| *to = from);
    bytes
}

/// A record that was written whole.
fn parse(bytes: &[u8; RECORD]) -> Option<Mark> {
    let mut r = Reader::new(bytes.get(MAGIC.len()..)?);
    let mark =
        Mark { instance: r.array("instance").ok()?, generation: r.u64("generation").ok()?, tag: r.array("tag").ok()? };
    (record(&mark) == *bytes).then_some(mark)
}

impl Anchor for FileAnchor {
    fn read(&mut self) -> io::Result<Option<Mark>> {
        let mut last: Option<Mark> = None;
        let mut blank = false;
        for n in 0..RECORDS {
            let mut bytes = [0; RECORD];
            self.file.read_exact_at(&mut bytes, n * STRIDE)?;
            blank = bytes == [0; RECORD];
            let mark = parse(&bytes);
            if mark.is_some_and(|m| last.is_none_or(|l| m.generation > l.generation)) {
                last = mark;
                self.next = (n + 1) % RECORDS;
            }
        }
        // One record can be torn while the other is whole. The very first can be torn while there is no other: then
        // nothing was promised yet.
        if last.is_none() && !blank {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the anchor is damaged"));
        }
        Ok(last)
    }

    fn advance(&mut self, mark: &Mark) -> io::Result<()> {
        self.file.write_all_at(&record(mark), self.next * STRIDE)?;
        self.file.sync_data()?;
        self.next = (self.next + 1) % RECORDS;
        Ok(())
    }
}
