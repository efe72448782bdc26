//! Memory that a host program shares with one or more VMs: the channel's region, a tenant's mailbox.
//!
//! Everything in it is written by somebody else at any time; reads go through volatile accesses and copy out.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, SealFlags};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// A shared region in an anonymous file, mapped into this process.
#[derive(Debug)]
pub struct SharedRegion {
    file: File,
    map: MmapRegion,
}

/// Why a shared region could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The operating system refused.
    #[error("cannot create {len} bytes of shared memory: {source}")]
    Create {
        /// Bytes asked for.
        len: u64,
        /// What it said.
        source: io::Error,
    },
    /// An access outside the region.
    #[error("access to {len} bytes at {offset} leaves the shared region")]
    Range {
        /// Bytes from its start.
        offset: usize,
        /// Bytes.
        len: usize,
    },
}

impl SharedRegion {
    /// Makes a zeroed region of `len` bytes. Other processes reach it through [`Self::path`]. Its length is sealed: whoever
    /// shares it cannot cut it short, which would end all who have it mapped at their next access (SIGBUS).
    ///
    /// # Errors
    /// [`SharedError::Create`] with the operating system's reason.
    pub fn create(name: &str, len: u64) -> Result<Self, SharedError> {
        let failed = |source: io::Error| SharedError::Create { len, source };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create(name, flags).map_err(|e| failed(e.into()))?);
        file.set_len(len).map_err(failed)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(|e| failed(e.into()))?;
        let size = usize::try_from(len).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        let copy = file.try_clone().map_err(failed)?;
        let map = MmapRegion::from_file(FileOffset::new(copy, 0), size).map_err(|e| failed(io::Error::other(e)))?;
        Ok(Self { file, map })
    }

    /// A path by which a process of the same user can open the region while this one lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.size()
    }

    /// Whether it has no bytes (it never is so).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `len` bytes out.
    ///
    /// # Errors
    /// [`SharedError::Range`].
    pub fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>, SharedError> {
        let range = |_| SharedError::Range { offset, len };
        let slice = self.map.get_slice(offset, len).map_err(range)?;
        let mut out = vec![0; len];
        slice.copy_to(&mut out);
        Ok(out)
    }

    /// Copies `bytes` in.
    ///
    /// # Errors
    /// [`SharedError::Range`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), SharedError> {
        let range = |_| SharedError::Range { offset, len: bytes.len() };
        self.map.get_slice(offset, bytes.len()).map_err(range)?.copy_from(bytes);
        Ok(())
    }

    /// Reads a 32-bit word with acquire order.
    ///
    /// # Errors
    /// [`SharedError::Range`], also when `offset` is not a multiple of 4.
    pub fn load_u32(&self, offset: usize) -> Result<u32, SharedError> {
        self.map.as_volatile_slice().load(offset, Ordering::Acquire).map_err(|_| SharedError::Range { offset, len: 4 })
    }

    /// Writes a 32-bit word with release order.
    ///
    /// # Errors
    /// [`SharedError::Range`], also when `offset` is not a multiple of 4.
    pub fn store_u32(&self, offset: usize, value: u32) -> Result<(), SharedError> {
        self.map
            .as_volatile_slice()
            .store(value, offset, Ordering::Release)
            .map_err(|_| SharedError::Range { offset, len: 4 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_writes_another_opened_by_path_reads() {
        let region = SharedRegion::create("test", 8192).unwrap();
        region.write(100, b"hello").unwrap();
        region.store_u32(8, 0x0403_0201).unwrap();
        let other = std::fs::read(region.path()).unwrap();
        assert_eq!(other.len(), 8192);
        assert_eq!(&other[100..105], b"hello");
        assert_eq!(&other[8..12], &[1, 2, 3, 4]);
        assert_eq!(region.load_u32(8).unwrap(), 0x0403_0201);
    }

    #[test]
    fn whoever_opens_it_cannot_change_its_length() {
        let region = SharedRegion::create("test", 8192).unwrap();
        let other = File::options().read(true).write(true).open(region.path()).unwrap();
        for len in [0, 4096, 8193] {
            let error = other.set_len(len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{len}: {error}");
        }
        // Opening for a fresh start is a truncation, too.
        assert!(File::create(region.path()).is_err());
        assert!(rustix::fs::fcntl_add_seals(&other, SealFlags::WRITE).is_err());
        assert_eq!(region.read(8191, 1).unwrap(), [0]);
    }

    #[test]
    fn accesses_outside_are_errors() {
        let region = SharedRegion::create("test", 4096).unwrap();
        assert!(region.read(4090, 7).is_err());
        assert!(region.write(usize::MAX, b"x").is_err());
        assert!(region.load_u32(4096).is_err());
        assert!(region.load_u32(2).is_err());
    }
}
