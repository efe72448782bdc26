//! The file of a vTPM's state, in the hands of somebody who has no key.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bulla_vtpm::state::{self, Anchor, FILE_SIZE, KeyFormat, KeySource, Mark, OpenError, Options, STATE_FILE, Store};

use crate::script::Script;

const MAX_STEPS: usize = 48;
const SLOT: u64 = FILE_SIZE / 2;

/// A file of a state, driven by a list of steps. The first byte's lowest bit says whether there is an anchor. A step is a byte,
/// modulo 8, and what it needs:
///
/// - 0: a state is stored: permanent: string;
/// - 1: one of a suspended machine: permanent: string, volatile: string;
/// - 2: a byte of the file changes: slot (lowest bit of a byte), offset of 16 bits, byte;
/// - 3: bytes are written: slot, offset, string;
/// - 4: a slot becomes what the other one is: which (lowest bit of a byte);
/// - 5: the file loses its end: 16 bits, in blocks of 16 bytes, are left;
/// - 6: the file becomes a copy of itself;
/// - 7: the state is opened again.
///
/// What opens is a state that was stored, and the last one if nobody has touched the file, or if an anchor remembers it.
/// Answers whether a state was opened.
pub fn vtpm_state_file(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let mut case = Case {
        dir: Folder::new(),
        anchor: script.byte().filter(|kind| kind & 1 == 1).map(|_| Memory::default()),
        stored: Vec::new(),
        touched: false,
        copied: false,
        opened: 0,
    };
    let mut store = case.open();
    for _ in 0..MAX_STEPS {
        if case.step(&mut script, &mut store).is_none() {
            break;
        }
    }
    drop(store);
    drop(case.open());
    case.opened > 0
}

/// A permanent and a volatile state.
type State = (Vec<u8>, Vec<u8>);

struct Case {
    dir: Folder,
    anchor: Option<Memory>,
    stored: Vec<State>,
    touched: bool,
    copied: bool,
    opened: usize,
}

impl Case {
    fn path(&self) -> PathBuf {
        self.dir.0.join(STATE_FILE)
    }

    fn step(&mut self, script: &mut Script<'_>, store: &mut Option<Store>) -> Option<()> {
        match script.byte()? % 8 {
            0 => self.store(store, script.sized()?, &[]),
            1 => {
                let permanent = script.sized()?;
                self.store(store, permanent, script.sized()?);
            }
            2 => {
                let [slot, high, low, byte] = script.array()?;
                self.write(slot, u16::from_be_bytes([high, low]), &[byte]);
            }
            3 => {
                let [slot, high, low] = script.array()?;
                self.write(slot, u16::from_be_bytes([high, low]), script.sized()?);
            }
            4 => {
                let from = u64::from(script.byte()? & 1) * SLOT;
                let mut bytes = vec![0; SLOT as usize];
                let file = self.file();
                if file.read_exact_at(&mut bytes, from).is_ok() {
                    file.write_all_at(&bytes, SLOT - from).expect("writable");
                }
                self.touched = true;
            }
            5 => {
                let blocks = u16::from_be_bytes(script.array()?);
                self.file().set_len(u64::from(blocks) * 16).expect("shorter");
                self.touched = true;
            }
            6 => {
                let copy = self.dir.0.join("copy");
                fs::copy(self.path(), &copy).expect("copied");
                fs::rename(&copy, self.path()).expect("renamed");
                self.copied = true;
                // Who has it open goes on with the one that has no name any more.
                *store = None;
                *store = self.open();
            }
            _ => {
                *store = None;
                *store = self.open();
            }
        }
        Some(())
    }

    fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.path()).expect("it is there")
    }

    fn write(&mut self, slot: u8, offset: u16, bytes: &[u8]) {
        self.file().write_all_at(bytes, u64::from(slot & 1) * SLOT + u64::from(offset)).expect("writable");
        self.touched = true;
    }

    fn store(&mut self, store: &Option<Store>, permanent: &[u8], volatile: &[u8]) {
        // An empty state stands for none, and no TPM has one.
        let Some(store) = store.as_ref().filter(|_| !permanent.is_empty()) else { return };
        store.suspend(permanent, volatile).expect("it fits");
        self.stored.push((permanent.to_vec(), volatile.to_vec()));
    }

    fn open(&mut self) -> Option<Store> {
        let key = KeySource::from_bytes(&[7; 32], KeyFormat::Binary).expect("32 bytes");
        let anchor = self.anchor.clone().map(|anchor| Box::new(anchor) as Box<dyn Anchor>);
        let opened = match state::open(&self.dir.0, Options { key, anchor, ..Options::default() }) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(self.touched, "{error}");
                assert!(!matches!(error, OpenError::Locked { .. } | OpenError::File { .. }), "{error}");
                return None;
            }
        };
        let anchored = self.anchor.is_some();
        match &opened.state {
            None if self.stored.is_empty() => {}
            None => assert!(self.touched && !anchored, "a state is gone, and nobody was told"),
            Some(loaded) => {
                let same = |state: &&State| {
                    state.0 == *loaded.permanent && loaded.volatile.as_ref().is_none_or(|v| state.1 == **v)
                };
                assert!(self.stored.iter().any(|state| same(&state)), "a state that nobody has stored");
                if anchored || !self.touched {
                    assert!(self.stored.last().as_ref().is_some_and(same), "not the last state");
                }
                self.opened += 1;
            }
        }
        Some(opened.store())
    }
}

/// An anchor out of reach.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Option<Mark>>>);

impl Anchor for Memory {
    fn read(&mut self) -> io::Result<Option<Mark>> {
        Ok(*self.0.lock().expect("no thread dies here"))
    }

    fn advance(&mut self, mark: &Mark) -> io::Result<()> {
        *self.0.lock().expect("no thread dies here") = Some(*mark);
        Ok(())
    }
}

/// A folder of its own, in memory where there is such a place, that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let name = format!("bulla-fuzz-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        fs::create_dir(&path).expect("a new folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
