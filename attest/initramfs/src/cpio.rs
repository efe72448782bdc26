//! cpio archives in the "new ASCII" format (`070701`; Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeMap;

/// Why an archive cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// A path that has no single meaning in the guest.
    #[error("{0:?} is no path in a guest: no empty part, no \".\" or \"..\", no NUL, at most {PATH_MAX} bytes")]
    Path(String),
    /// Two things in one place.
    #[error("{0:?} is given twice")]
    Twice(String),
    /// Something below what is not a directory.
    #[error("{0:?} is not a directory, and cannot hold anything")]
    NotADirectory(String),
    /// A file larger than the format has digits for.
    #[error("{0:?} has 4 GiB or more")]
    TooLarge(String),
}

/// What Linux takes (PATH_MAX, with the NUL), less some room.
const PATH_MAX: usize = 4000;

/// File types and permissions (inode(7)).
const DIRECTORY: u32 = 0o040_755;
const PLAIN: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
    Device { major: u32, minor: u32 },
}

/// An archive: owner root, time 0, in the order of paths, so that equal contents give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive(BTreeMap<String, Entry>);

impl Archive {
    /// Nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory, if it is not there.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn directory(&mut self, path: &str) -> Result<(), ArchiveError> {
        let path = checked(path)?;
        self.parents(path)?;
        self.directory_at(path)
    }

    /// Adds a file, and the directories above it.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn file(&mut self, path: &str, executable: bool, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        let path = checked(path)?;
        if u32::try_from(bytes.len()).is_err() {
            return Err(ArchiveError::TooLarge(path.to_owned()));
        }
        self.add(path, Entry::File { mode: if executable { EXECUTABLE } else { PLAIN }, bytes })
    }

    /// Adds a character device that only root can open, and the directories above it.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) -> Result<(), ArchiveError> {
        self.add(checked(path)?, Entry::Device { major, minor })
    }

    fn add(&mut self, path: &str, entry: Entry) -> Result<(), ArchiveError> {
        self.parents(path)?;
        if self.0.contains_key(path) {
            return Err(ArchiveError::Twice(path.to_owned()));
        }
        self.0.insert(path.to_owned(), entry);
        Ok(())
    }

    fn parents(&mut self, path: &str) -> Result<(), ArchiveError> {
        path.match_indices('/').try_for_each(|(end, _)| self.directory_at(&path[..end]))
    }

    fn directory_at(&mut self, path: &str) -> Result<(), ArchiveError> {
        match self.0.get(path) {
            None => {
                self.0.insert(path.to_owned(), Entry::Directory);
                Ok(())
            }
            Some(Entry::Directory) => Ok(()),
            Some(_) => Err(ArchiveError::NotADirectory(path.to_owned())),
        }
    }

    /// The archive's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // A path sorts before what begins with it: directories come before what is in them. Inode numbers are counted from 1.
        for (inode, (path, entry)) in (1..).zip(&self.0) {
            let (mode, device, bytes) = match entry {
                Entry::Directory => (DIRECTORY, (0, 0), &[][..]),
                Entry::File { mode, bytes } => (*mode, (0, 0), &bytes[..]),
                Entry::Device { major, minor } => (CHARACTER_DEVICE, (*major, *minor), &[][..]),
            };
            write(&mut out, inode, mode, device, path, bytes);
        }
        write(&mut out, 0, 0, (0, 0), "TRAILER!!!", &[]);
        out
    }
}

/// Header, name with NUL, data; each padded to four bytes.
fn write(out: &mut Vec<u8>, inode: u32, mode: u32, (major, minor): (u32, u32), name: &str, bytes: &[u8]) {
    let (owner, group, time, links) = (0, 0, 0, 1);
    let (file_major, file_minor, checksum) = (0, 0, 0);
    // Both lengths were checked when the entry was added.
    let (size, name_size) = (bytes.len() as u32, name.len() as u32 + 1);
    out.extend(b"070701");
    for field in
        [inode, mode, owner, group, links, time, size, file_major, file_minor, major, minor, name_size, checksum]
    {
        out.extend(format!("{field:08X}").bytes());
    }
    out.extend(name.bytes());
    out.push(0);
    pad(out);
    out.extend(bytes);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The path without the slash that it may begin with.
fn checked(path: &str) -> Result<&str, ArchiveError> {
    let relative = path.strip_prefix('/').unwrap_or(path);
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    // Readers would take the archive's end for the archive's end.
    let bad = relative.len() > PATH_MAX || relative.contains('\0') || relative == "TRAILER!!!";
    if bad || relative.split('/').any(bad_part) { Err(ArchiveError::Path(path.to_owned())) } else { Ok(relative) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::{Command, Stdio};

    fn sample() -> Archive {
        let mut archive = Archive::new();
        archive.file("/init", true, b"#!/bin/sh\n".to_vec()).unwrap();
        archive.character_device("dev/console", 5, 1).unwrap();
        archive.file("usr/share/doc/a b", false, vec![7; 4097]).unwrap();
        archive.file("usr/share/empty", false, vec![]).unwrap();
        archive.directory("sys").unwrap();
        archive
    }

    /// Has a tool read an archive; `None` without the tool.
    fn read_with(tool: &str, arguments: &[&str], dir: &Path, archive: &[u8]) -> Option<String> {
        let spawned = Command::new(tool)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            println!("skipped: needs {tool}");
            return None;
        };
        let mut stdin = child.stdin.take().unwrap();
        let bytes = archive.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool}: {stderr}");
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn cpio_and_bsdtar_list_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = sample().to_bytes();
        let expected =
            "dev\ndev/console\ninit\nsys\nusr\nusr/share\nusr/share/doc\nusr/share/doc/a b\nusr/share/empty\n";
        for (tool, arguments) in [("cpio", &["-t", "--quiet"][..]), ("bsdtar", &["-tf", "-"])] {
            if let Some(listed) = read_with(tool, arguments, dir.path(), &bytes) {
                assert_eq!(listed, expected, "{tool}");
            }
        }
        if let Some(listed) = read_with("cpio", &["-tv", "--quiet", "--numeric-uid-gid"], dir.path(), &bytes) {
            let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
            assert!(line(" init").starts_with("-rwxr-xr-x   1 0        0              10 "), "{listed}");
            assert!(line(" dev/console").starts_with("crw-------   1 0        0          5,   1 "), "{listed}");
            assert!(line(" sys").starts_with("drwxr-xr-x "), "{listed}");
        }
    }

    #[test]
    fn bsdtar_unpacks_what_was_packed() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = sample();
        archive.0.remove("dev/console");
        if read_with("bsdtar", &["-xf", "-"], dir.path(), &archive.to_bytes()).is_some() {
            assert_eq!(std::fs::read(dir.path().join("usr/share/doc/a b")).unwrap(), [7; 4097]);
            assert_eq!(std::fs::read(dir.path().join("init")).unwrap(), b"#!/bin/sh\n");
            assert!(dir.path().join("sys").is_dir());
        }
    }

    #[test]
    fn the_order_of_additions_does_not_matter() {
        let mut other = Archive::new();
        other.directory("sys").unwrap();
        other.file("usr/share/empty", false, vec![]).unwrap();
        other.file("usr/share/doc/a b", false, vec![7; 4097]).unwrap();
        other.directory("dev").unwrap();
        other.character_device("/dev/console", 5, 1).unwrap();
        other.file("init", true, b"#!/bin/sh\n".to_vec()).unwrap();
        assert_eq!(other.to_bytes(), sample().to_bytes());
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        let mut archive = sample();
        for path in ["", "/", "a//b", "a/", "../etc", "a/./b", "a\0b", "TRAILER!!!", &"x".repeat(PATH_MAX + 1)] {
            assert_eq!(archive.directory(path), Err(ArchiveError::Path(path.to_owned())), "{path:?}");
        }
        assert_eq!(archive.file("init", false, vec![]), Err(ArchiveError::Twice("init".into())));
        assert_eq!(archive.file("sys", false, vec![]), Err(ArchiveError::Twice("sys".into())));
        assert_eq!(archive.directory("init"), Err(ArchiveError::NotADirectory("init".into())));
        assert_eq!(archive.file("init/x", false, vec![]), Err(ArchiveError::NotADirectory("init".into())));
        assert_eq!(archive, sample(), "a refusal changes nothing");
    }

    proptest! {
        /// Every name and every byte is where the format says, whatever the lengths.
        #[test]
        fn entries_are_found_by_their_headers(files in proptest::collection::btree_map("[a-z]{1,40}", proptest::collection::vec(any::<u8>(), 0..70), 0..8)) {
            let mut archive = Archive::new();
            for (path, bytes) in &files {
                archive.file(path, false, bytes.clone()).unwrap();
            }
            let bytes = archive.to_bytes();
            let (mut at, mut found) = (0, BTreeMap::new());
            loop {
                prop_assert_eq!(&bytes[at..at + 6], b"070701");
                let field = |n: usize| {
                    let digits = std::str::from_utf8(&bytes[at + 6 + n * 8..][..8]).unwrap();
                    usize::from_str_radix(digits, 16).unwrap()
                };
                let (size, name_size) = (field(6), field(11));
                let name = at + 110;
                let data = (name + name_size).next_multiple_of(4);
                let text = std::str::from_utf8(&bytes[name..name + name_size - 1]).unwrap();
                if text == "TRAILER!!!" {
                    prop_assert_eq!((data + size).next_multiple_of(4), bytes.len());
                    break;
                }
                found.insert(text.to_owned(), bytes[data..data + size].to_vec());
                at = (data + size).next_multiple_of(4);
            }
            prop_assert_eq!(found, files);
        }
    }
}
