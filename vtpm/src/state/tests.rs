//! Slots that are torn, files that are copied and set back, keys that are wrong.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use bulla_vtpm_client::Exit;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn with_key(byte: u8) -> Options {
    Options { key: KeySource::Key(Zeroizing::new(vec![byte; 32])), ..Options::default() }
}

fn with_anchor(dir: &Path, accept_rollback: bool) -> Options {
    let anchor = FileAnchor::open(&dir.join("anchor")).expect("an anchor");
    Options { anchor: Some(Box::new(anchor)), accept_rollback, ..with_key(7) }
}

fn open_at(dir: &Path) -> Result<Opened, OpenError> {
    open(dir, with_key(7))
}

/// What was stored last, and where it came from.
fn stored(dir: &Path) -> Option<(Vec<u8>, Origin)> {
    open_at(dir).expect("a state").state.map(|s| (s.permanent.to_vec(), s.origin))
}

/// Stores these states, one after the other.
fn store_all(dir: &Path, states: &[&[u8]]) {
    let store = open_at(dir).expect("a state").store();
    states.iter().for_each(|s| store.store(s).expect("stored"));
}

/// The bytes of both slots that were ever written.
fn bytes_of(dir: &Path) -> Vec<u8> {
    fs::read(dir.join(STATE_FILE)).expect("a file")
}

#[test]
fn the_last_state_comes_back() {
    let dir = folder();
    assert!(open_at(dir.path()).expect("new").state.is_none());
    assert!(open_at(dir.path()).expect("still new: nothing was stored").state.is_none());
    for n in 0..5u8 {
        store_all(dir.path(), &[&[n; 100], &[n + 100; 3]]);
        assert_eq!(stored(dir.path()), Some((vec![n + 100; 3], Origin::Here)));
    }
    assert_eq!(open_at(dir.path()).expect("a state").store().mark().generation, 10);
    let none = open(&dir.path().join("other"), Options { create: false, ..with_key(7) });
    assert!(matches!(none, Err(OpenError::None(_))), "{none:?}");
    assert!(!dir.path().join("other").exists());
}

#[test]
fn the_file_and_the_folder_are_their_owners() {
    let dir = folder();
    let inner = dir.path().join("made");
    let store = open(&inner, Options::default()).expect("new").store();
    store.store(b"state").expect("stored");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    assert_eq!(mode(&inner.join(STATE_FILE)), 0o600);
    assert_eq!(mode(&inner.join(key::KEY_FILE)), 0o600);
    assert_eq!(fs::metadata(inner.join(STATE_FILE)).expect("there").len(), FILE_SIZE);
}

/// Power goes while a slot is written: after each byte, in order.
#[test]
fn a_slot_that_is_torn_at_any_byte_leaves_the_state_before() {
    let dir = folder();
    store_all(dir.path(), &[&[1; 60], &[2; 70]]);
    let before = bytes_of(dir.path());
    store_all(dir.path(), &[&[3; 64]]);
    let after = bytes_of(dir.path());
    let len = HEADER + TAG + slot::payload_len(&[3; 64], &[]);
    assert_eq!(before[SLOT..], after[SLOT..], "the third state is where the first was");
    let path = dir.path().join(STATE_FILE);
    let file = OpenOptions::new().write(true).open(&path).expect("the file");
    file.write_all_at(&before[..len], 0).expect("written");
    for n in 0..=len {
        file.write_all_at(&after[..n], 0).expect("written");
        let want = if n == len { vec![3; 64] } else { vec![2; 70] };
        assert_eq!(stored(dir.path()).map(|s| s.0), Some(want), "{n} of {len} bytes");
    }
}

/// A release with another form of slots stores its first state, and power goes after each byte.
#[test]
fn a_torn_slot_of_a_newer_form_leaves_the_state_in_the_older_one() {
    const FORM: usize = 8;
    let dir = folder();
    store_all(dir.path(), &[&[1; 60], &[2; 70]]);
    let path = dir.path().join(STATE_FILE);
    let older = bytes_of(dir.path());
    store_all(dir.path(), &[&[3; 64]]);
    let newer = {
        // To this release a slot of the next form is none, whatever is in it.
        let mut bytes = bytes_of(dir.path());
        bytes[FORM..FORM + 2].copy_from_slice(&2u16.to_be_bytes());
        bytes
    };
    let len = HEADER + TAG + slot::payload_len(&[3; 64], &[]);
    let file = OpenOptions::new().write(true).open(&path).expect("the file");
    for n in 0..=len {
        file.write_all_at(&older[..len], 0).expect("written");
        file.write_all_at(&newer[..n], 0).expect("written");
        let found = stored(dir.path()).map(|s| s.0);
        assert_eq!(found, Some(vec![2; 70]), "{n} of {len} bytes: the other slot is as it was");
    }
    // This release goes on over the one that it does not know, and that is durable before the older one is touched.
    store_all(dir.path(), &[&[4; 10]]);
    assert_eq!(bytes_of(dir.path())[SLOT..], older[SLOT..], "the older state is where it was");
    assert_eq!(stored(dir.path()).map(|s| s.0), Some(vec![4; 10]));
}

/// A disk writes sectors in any order.
#[test]
fn any_sectors_of_a_slot_that_are_missing_leave_the_state_before() {
    let dir = folder();
    store_all(dir.path(), &[&[1; 2000], &[2; 2000]]);
    let before = bytes_of(dir.path());
    store_all(dir.path(), &[&[3; 2000]]);
    let after = bytes_of(dir.path());
    let file = OpenOptions::new().write(true).open(dir.path().join(STATE_FILE)).expect("the file");
    for written in 0u32..16 {
        for sector in 0..5 {
            let from = if sector == 4 || written & 1 << sector != 0 { &after } else { &before };
            let at = sector * 512;
            file.write_all_at(&from[at..at + 512], at as u64).expect("written");
        }
        let want = if written == 15 { 3 } else { 2 };
        assert_eq!(stored(dir.path()).map(|s| s.0), Some(vec![want; 2000]), "{written:04b}");
    }
}

/// Power goes while the very first state is written: nobody was promised anything.
#[test]
fn a_first_state_that_is_torn_was_never_there() {
    let dir = folder();
    store_all(dir.path(), &[&[1; 50]]);
    let whole = bytes_of(dir.path());
    let len = HEADER + TAG + slot::payload_len(&[1; 50], &[]);
    let file = OpenOptions::new().write(true).open(dir.path().join(STATE_FILE)).expect("the file");
    // The header is in one sector, which is written or not.
    for n in std::iter::once(0).chain(HEADER..len) {
        file.write_all_at(&vec![0; len], 0).expect("written");
        file.write_all_at(&whole[..n], 0).expect("written");
        assert!(open_at(dir.path()).expect("new").state.is_none(), "{n} of {len} bytes");
    }
}

#[test]
fn a_second_owner_is_refused_by_name_until_the_first_is_gone() {
    let dir = folder();
    let first = open_at(dir.path()).expect("new");
    let store = first.store();
    drop(first);
    let second = open_at(dir.path());
    let me = std::process::id();
    assert!(matches!(second, Err(OpenError::Locked { pid: Some(pid), .. }) if pid == me), "{second:?}");
    assert_eq!(second.err().map(|e| e.exit()), Some(Exit::Locked));
    store.store(b"mine").expect("stored");
    drop(store);
    assert!(open_at(dir.path()).is_ok());
}

#[test]
fn an_unlocked_state_is_another_process_until_it_is_locked_again() {
    let dir = folder();
    let store = open_at(dir.path()).expect("new").store();
    store.store(b"mine").expect("stored");
    store.unlock().expect("unlocked");
    assert!(matches!(store.store(b"no"), Err(StoreError::Unlocked)));
    assert!(store.lock().expect("locked"));
    store.store(b"yes").expect("stored");
    store.unlock().expect("unlocked");
    store_all(dir.path(), &[b"theirs"]);
    assert!(!store.lock().expect("locked"), "another went on");
    assert!(matches!(store.store(b"no"), Err(StoreError::Unlocked)));
    drop(store);
    assert_eq!(stored(dir.path()).map(|s| s.0), Some(b"theirs".to_vec()));
}

#[test]
fn another_key_is_told_from_damage() {
    let dir = folder();
    store_all(dir.path(), &[b"state"]);
    assert!(matches!(open(dir.path(), with_key(8)), Err(OpenError::WrongKey)));
    let kind = open(dir.path(), Options::default());
    assert!(matches!(kind, Err(OpenError::KeyKind { stored: KeyKind::Key, given: KeyKind::Beside })), "{kind:?}");
    store_all(dir.path(), &[b"again"]);
    let file = OpenOptions::new().write(true).open(dir.path().join(STATE_FILE)).expect("the file");
    for at in [0, SLOT as u64] {
        file.write_all_at(&[0xff], at + HEADER as u64 + 20).expect("written");
    }
    let damaged = open_at(dir.path());
    assert!(matches!(damaged, Err(OpenError::Damaged { a: SlotError::Contents, b: SlotError::Contents, .. })));
    let words = damaged.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(words.contains("slot A: its contents are not what was stored"), "{words}");
}

#[test]
fn the_key_beside_the_state_is_made_once_and_missed() {
    let dir = folder();
    let store = open(dir.path(), Options::default()).expect("new").store();
    store.store(b"state").expect("stored");
    drop(store);
    let again = open(dir.path(), Options::default()).expect("a state");
    assert_eq!(again.state.as_ref().map(|s| s.permanent.to_vec()), Some(b"state".to_vec()));
    drop(again);
    fs::remove_file(dir.path().join(key::KEY_FILE)).expect("removed");
    let gone = open(dir.path(), Options::default());
    assert!(matches!(gone, Err(OpenError::Key(KeyError::Gone(_)))), "{gone:?}");
    assert!(!dir.path().join(key::KEY_FILE).exists(), "no other key is made in its place");
}

#[test]
fn a_passphrase_opens_what_it_closed() {
    let passphrase = |words: &[u8]| Options {
        key: KeySource::passphrase_from_bytes(words).expect("a passphrase"),
        ..Options::default()
    };
    let dir = folder();
    let store = open(dir.path(), passphrase(b"correct horse\n")).expect("new").store();
    store.store(b"state").expect("stored");
    drop(store);
    assert!(open(dir.path(), passphrase(b"correct horse")).expect("a state").state.is_some());
    assert!(matches!(open(dir.path(), passphrase(b"battery")), Err(OpenError::WrongKey)));
    assert!(matches!(KeySource::passphrase_from_bytes(b"\n"), Err(KeyError::Empty)));
    // Whoever can write the header cannot have this process take all memory.
    let file = OpenOptions::new().write(true).open(dir.path().join(STATE_FILE)).expect("the file");
    file.write_all_at(&u32::MAX.to_be_bytes(), 88).expect("written");
    let greedy = open(dir.path(), passphrase(b"correct horse"));
    assert!(matches!(greedy, Err(OpenError::Key(KeyError::Kdf { memory_kib: u32::MAX, .. }))), "{greedy:?}");
}

#[test]
fn keys_are_read_as_swtpm_reads_them() {
    let hex = |s: &str| KeySource::from_bytes(s.as_bytes(), KeyFormat::Hex);
    let digits = "00112233445566778899aabbccddeeff";
    for s in [digits.to_owned(), format!("0x{digits}\n"), format!("{digits}{digits}")] {
        let key = hex(&s).expect("a key");
        assert!(matches!(key, KeySource::Key(k) if k.starts_with(&[0, 0x11, 0x22])), "{s}");
    }
    assert!(matches!(hex("00"), Err(KeyError::Length(1))));
    assert!(matches!(hex("0g"), Err(KeyError::Hex)));
    assert!(matches!(hex("000"), Err(KeyError::Hex)));
    assert!(matches!(KeySource::from_bytes(&[1; 31], KeyFormat::Binary), Err(KeyError::Length(31))));
}

#[test]
fn what_is_stored_shows_nothing_of_the_state_and_never_twice_the_same() {
    let dir = folder();
    let secret = [0x5a; 64];
    store_all(dir.path(), &[&secret, &secret]);
    let file = bytes_of(dir.path());
    assert!(!file.windows(8).any(|w| w == [0x5a; 8]));
    let body = |slot: usize| file[slot * SLOT + HEADER..][..TAG + slot::payload_len(&secret, &[])].to_vec();
    assert_ne!(body(0), body(1));
}

#[test]
fn a_suspended_machine_goes_on_once() {
    let dir = folder();
    let volatile = |dir: &Path| open_at(dir).expect("a state").state.expect("stored").volatile.map(|v| v.to_vec());
    let store = open_at(dir.path()).expect("new").store();
    store.suspend(b"permanent", b"volatile").expect("stored");
    drop(store);
    assert_eq!(volatile(dir.path()), Some(b"volatile".to_vec()));
    store_all(dir.path(), &[b"permanent"]);
    assert_eq!(volatile(dir.path()), None);
}

/// Copies the state to another folder, as a backup or a clone of the machine does.
fn copy(from: &Path, to: &Path) {
    fs::copy(from.join(STATE_FILE), to.join(STATE_FILE)).expect("copied");
}

#[test]
fn a_copy_is_told_and_goes_on_as_another() {
    let (dir, other) = (folder(), folder());
    let store = open_at(dir.path()).expect("new").store();
    store.suspend(b"state", b"volatile").expect("stored");
    drop(store);
    copy(dir.path(), other.path());
    let original = open_at(dir.path()).expect("a state");
    let opened = open_at(other.path()).expect("a copy");
    let state = opened.state.as_ref().expect("stored");
    assert_eq!((state.origin, state.volatile.is_none()), (Origin::Copied, true));
    assert_ne!(opened.store().mark().instance, original.store().mark().instance);
    opened.store().store(b"copy's").expect("stored");
    drop((opened, original));
    assert_eq!(stored(other.path()), Some((b"copy's".to_vec(), Origin::Here)), "told once");
    assert_eq!(stored(dir.path()).map(|s| s.1), Some(Origin::Here));
}

#[test]
fn an_anchor_tells_an_older_state_a_missing_one_and_one_that_went_on_elsewhere() {
    let (dir, old, elsewhere) = (folder(), folder(), folder());
    let go = |states: &[&[u8]]| {
        let store = open(dir.path(), with_anchor(dir.path(), false)).expect("a state").store();
        states.iter().for_each(|s| store.store(s).expect("stored"));
    };
    let refused = || open(dir.path(), with_anchor(dir.path(), false)).expect_err("refused");
    go(&[b"one", b"two"]);
    copy(dir.path(), old.path());
    go(&[b"three"]);
    go(&[b"four", b"five"]);

    // Set back in place, which nothing but the anchor tells.
    let newest = bytes_of(dir.path());
    fs::write(dir.path().join(STATE_FILE), bytes_of(old.path())).expect("written");
    let error = refused();
    assert!(matches!(error, OpenError::RolledBack { found: 2, anchored: 5 }), "{error}");
    assert_eq!(error.exit(), Exit::RolledBack);

    // A copy that went on without the anchor, for longer than the original.
    copy(old.path(), elsewhere.path());
    store_all(elsewhere.path(), &[b"3", b"4", b"5", b"6"]);
    fs::write(dir.path().join(STATE_FILE), bytes_of(elsewhere.path())).expect("written");
    assert!(matches!(refused(), OpenError::Forked { found: 6, anchored: 5 }));

    // Gone altogether.
    fs::remove_file(dir.path().join(STATE_FILE)).expect("removed");
    assert!(matches!(refused(), OpenError::RolledBack { found: 0, anchored: 5 }));

    // The newest is no rollback, wherever its file is.
    fs::write(dir.path().join(STATE_FILE), newest).expect("written");
    let opened = open(dir.path(), with_anchor(dir.path(), false)).expect("the newest");
    assert_eq!(opened.state.as_ref().map(|s| s.origin), Some(Origin::Here));
    drop(opened);

    // Accepted: another instance, beyond all that was lost.
    fs::write(dir.path().join(STATE_FILE), bytes_of(old.path())).expect("written");
    let opened = open(dir.path(), with_anchor(dir.path(), true)).expect("accepted");
    assert_eq!(opened.state.as_ref().map(|s| s.origin), Some(Origin::RolledBack { lost: 3 }));
    opened.store().store(b"six").expect("stored");
    assert_eq!(opened.store().mark().generation, 6);
    drop(opened);
    let again = open(dir.path(), with_anchor(dir.path(), false)).expect("anchored again");
    assert_eq!(again.state.map(|s| (s.permanent.to_vec(), s.origin)), Some((b"six".to_vec(), Origin::Here)));
}

/// Power goes between a state and its anchor.
#[test]
fn a_state_that_its_anchor_was_not_told_of_is_no_rollback() {
    let dir = folder();
    let go = |state: &[u8]| {
        let opened = open(dir.path(), with_anchor(dir.path(), false)).expect("a state");
        opened.store().store(state).expect("stored");
    };
    go(b"one");
    go(b"two");
    let anchor = fs::read(dir.path().join("anchor")).expect("an anchor");
    go(b"three");
    fs::write(dir.path().join("anchor"), &anchor).expect("written");
    go(b"four");
    let opened = open(dir.path(), with_anchor(dir.path(), false)).expect("a state");
    assert_eq!(opened.state.map(|s| s.permanent.to_vec()), Some(b"four".to_vec()));
}

/// Power goes while the anchor is written.
#[test]
fn a_torn_anchor_remembers_the_state_before() {
    let dir = folder();
    let mark = |n: u64| Mark { instance: [9; 16], generation: n, tag: [u8::try_from(n).expect("small"); 16] };
    let path = dir.path().join("anchor");
    let mut anchor = FileAnchor::open(&path).expect("an anchor");
    assert_eq!(anchor.read().expect("new"), None);
    (1..=2).for_each(|n| anchor.advance(&mark(n)).expect("told"));
    let before = fs::read(&path).expect("the file");
    anchor.advance(&mark(3)).expect("told");
    let after = fs::read(&path).expect("the file");
    assert_eq!(anchor.read().expect("read"), Some(mark(3)));
    for n in 0..64 {
        fs::write(&path, [&after[..n], &before[n..]].concat()).expect("written");
        assert_eq!(anchor.read().expect("read"), Some(mark(if n == 64 { 3 } else { 2 })), "{n} bytes");
    }
    fs::write(&path, vec![1; 8192]).expect("written");
    assert!(anchor.read().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in a file: the last state, the one before, or an error that says what is wrong.
    #[test]
    fn no_change_of_the_file_makes_another_state(
        changes in prop::collection::vec((0..2u64, 0..240u64, any::<u8>()), 1..8),
    ) {
        let dir = folder();
        store_all(dir.path(), &[&[1; 40], &[2; 40]]);
        let file = OpenOptions::new().write(true).open(dir.path().join(STATE_FILE)).expect("the file");
        for (slot, at, to) in changes {
            file.write_all_at(&[to], slot * SLOT as u64 + at).expect("written");
        }
        match open_at(dir.path()) {
            Ok(opened) => {
                let state = opened.state.map(|s| s.permanent.to_vec());
                prop_assert!(state == Some(vec![1; 40]) || state == Some(vec![2; 40]), "{state:?}");
            }
            Err(error) => prop_assert_ne!(error.exit(), Exit::Locked),
        }
    }

    #[test]
    fn no_bytes_are_a_header_that_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let header = [&b"bullaNVR\0\x01"[..], &bytes].concat();
        if let Ok(h) = Header::from_bytes(&header) {
            prop_assert!(h.length <= SLOT);
        }
    }
}
