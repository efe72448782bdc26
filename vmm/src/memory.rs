//! Guest memory: the regions of the memory map, each backed by a mapping of its own.
//!
//! Anonymous memory is committed when it is first touched. Regions that others share are mapped from their file.
//! Everything in guest memory is written by the guest at any time: accesses here copy, and nothing hands out a
//! reference into it.

use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress, MmapRegion};

use crate::backend::{BackendError, MemorySlot, Partition, SlotId};

mod layout;

pub use layout::{LayoutError, MemorySizes, PAGE, RAM_MAX, RegionKind, RegionPlan, plan};

/// Files behind the regions that this VM shares.
#[derive(Debug, Default)]
pub struct SharedFiles {
    /// Channel window, mapped whole.
    pub channel: Option<File>,
    /// Mailbox, at least [`bulla_boot_abi::map::MAILBOX_SIZE`] bytes.
    pub mailbox: Option<File>,
}

/// What can go wrong with guest memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The configured sizes are not possible.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A shared file is shorter than its region (an access beyond its end would kill the process).
    #[error("the file behind the {kind:?} region has {len} bytes, {needed} are needed")]
    FileTooShort {
        /// Which region.
        kind: RegionKind,
        /// Length of the file.
        len: u64,
        /// Length of the region.
        needed: u64,
    },
    /// The host refused.
    #[error("cannot map {len} bytes for the {kind:?} region: {source}")]
    Map {
        /// Which region.
        kind: RegionKind,
        /// Its length in bytes.
        len: u64,
        /// What the host said.
        source: io::Error,
    },
    /// The backend refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// An access that does not lie in one region.
    #[error("no guest memory at {gpa:#x} for {len} bytes")]
    Access {
        /// First byte.
        gpa: u64,
        /// Bytes.
        len: usize,
    },
}

struct Region {
    kind: RegionKind,
    map: Arc<GuestRegionMmap>,
    slot: Option<SlotId>,
}

/// All memory of one VM.
pub struct GuestMemory {
    regions: RwLock<Vec<Region>>,
}

impl GuestMemory {
    /// Maps the regions of `sizes`. The channel's size is that of its file, and a mailbox is there if its file is:
    /// these two fields of `sizes` are not looked at.
    ///
    /// # Errors
    /// [`MemoryError`]: sizes that are not possible, or the host's refusal.
    pub fn allocate(sizes: &MemorySizes, mut files: SharedFiles) -> Result<Self, MemoryError> {
        let channel = match &files.channel {
            Some(file) => file_len(file, RegionKind::Channel)?,
            None => 0,
        };
        let plans = plan(&MemorySizes { channel, mailbox: files.mailbox.is_some(), ..*sizes })?;
        let regions = plans
            .iter()
            .map(|plan| {
                let file = match plan.kind {
                    RegionKind::Channel => files.channel.take(),
                    RegionKind::Mailbox => files.mailbox.take(),
                    _ => None,
                };
                Ok(Region { kind: plan.kind, map: Arc::new(map_region(plan, file)?), slot: None })
            })
            .collect::<Result<_, MemoryError>>()?;
        Ok(Self { regions: RwLock::new(regions) })
    }

    /// Makes all regions visible to the guests of `partition`.
    ///
    /// # Errors
    /// [`MemoryError::Backend`].
    pub fn attach(&self, partition: &dyn Partition) -> Result<(), MemoryError> {
        for region in self.regions.write().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let slot = MemorySlot { region: Arc::clone(&region.map), read_only: false, track_dirty: false };
            region.slot = Some(partition.add_memory(slot)?);
        }
        Ok(())
    }

    /// Takes the boot window away from the guest and gives its memory back to the host. Does nothing if it is gone
    /// already.
    ///
    /// # Errors
    /// [`MemoryError::Backend`]; the window is then still there.
    pub fn withdraw_boot_window(&self, partition: &dyn Partition) -> Result<(), MemoryError> {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = regions.iter().position(|r| r.kind == RegionKind::BootWindow) else { return Ok(()) };
        if let Some(slot) = regions.get(index).and_then(|r| r.slot) {
            partition.remove_memory(slot)?;
        }
        regions.remove(index);
        Ok(())
    }

    /// Where a region lies, if there is (still) one of this kind: first address and bytes.
    pub fn find(&self, kind: RegionKind) -> Option<(u64, u64)> {
        self.regions().iter().find(|r| r.kind == kind).map(|r| (r.map.start_addr().0, r.map.len()))
    }

    /// Copies guest memory out.
    ///
    /// # Errors
    /// [`MemoryError::Access`] if the range is not within one region.
    pub fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.within(gpa, into.len(), |map, at| map.read_slice(into, at).is_ok())
    }

    /// Copies into guest memory.
    ///
    /// # Errors
    /// [`MemoryError::Access`] if the range is not within one region.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.within(gpa, bytes.len(), |map, at| map.write_slice(bytes, at).is_ok())
    }

    fn within(
        &self,
        gpa: u64,
        len: usize,
        access: impl FnOnce(&GuestRegionMmap, MemoryRegionAddress) -> bool,
    ) -> Result<(), MemoryError> {
        let regions = self.regions();
        let found = regions.iter().find_map(|r| {
            let offset = gpa.checked_sub(r.map.start_addr().0)?;
            let end = offset.checked_add(u64::try_from(len).ok()?)?;
            (end <= r.map.len()).then_some((&r.map, MemoryRegionAddress(offset)))
        });
        match found {
            Some((map, at)) if access(map, at) => Ok(()),
            _ => Err(MemoryError::Access { gpa, len }),
        }
    }

    fn regions(&self) -> RwLockReadGuard<'_, Vec<Region>> {
        self.regions.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = f.debug_list();
        for region in self.regions().iter() {
            let base = region.map.start_addr().0;
            list.entry(&format_args!("{:?} {base:#x}+{:#x}", region.kind, region.map.len()));
        }
        list.finish()
    }
}

fn file_len(file: &File, kind: RegionKind) -> Result<u64, MemoryError> {
    file.metadata().map(|m| m.len()).map_err(|source| MemoryError::Map { kind, len: 0, source })
}

fn map_region(plan: &RegionPlan, file: Option<File>) -> Result<GuestRegionMmap, MemoryError> {
    let RegionPlan { kind, base, len } = *plan;
    let refused = |source| MemoryError::Map { kind, len, source };
    let size = usize::try_from(len).map_err(|_| refused(io::ErrorKind::OutOfMemory.into()))?;
    let mapping = match file {
        Some(file) => {
            let there = file_len(&file, kind)?;
            if there < len {
                return Err(MemoryError::FileTooShort { kind, len: there, needed: len });
            }
            MmapRegion::from_file(FileOffset::new(file, 0), size)
        }
        None => MmapRegion::new(size),
    };
    let mapping = mapping.map_err(|e| refused(io::Error::other(e)))?;
    GuestRegionMmap::new(mapping, GuestAddress(base)).ok_or_else(|| refused(io::ErrorKind::AddrNotAvailable.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_boot_abi::map;

    const SIZES: MemorySizes = MemorySizes { ram: map::RAM_MIN, channel: 0, mailbox: false, boot_window: 8192 };

    fn file_of(len: u64) -> File {
        let file = File::from(rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read_and_gaps_are_errors() {
        let memory = GuestMemory::allocate(&SIZES, SharedFiles::default()).unwrap();
        memory.write(map::FIRMWARE_BASE + 5, b"bulla").unwrap();
        let mut bytes = [0; 5];
        memory.read(map::FIRMWARE_BASE + 5, &mut bytes).unwrap();
        assert_eq!(&bytes, b"bulla");
        for gpa in [map::RAM_MIN - 4, map::RAM_MIN, map::CHANNEL_BASE, u64::MAX, u64::MAX - 4] {
            let error = memory.write(gpa, b"bulla").unwrap_err();
            assert!(matches!(error, MemoryError::Access { len: 5, .. }), "{error}");
        }
    }

    #[test]
    fn a_shared_region_is_the_file() {
        use std::os::unix::fs::FileExt;
        let channel = file_of(8192);
        let files = SharedFiles { channel: Some(channel.try_clone().unwrap()), ..SharedFiles::default() };
        let memory = GuestMemory::allocate(&SIZES, files).unwrap();
        assert_eq!(memory.find(RegionKind::Channel), Some((map::CHANNEL_BASE, 8192)));
        memory.write(map::CHANNEL_BASE + 8190, b"ab").unwrap();
        let mut bytes = [0; 2];
        channel.read_exact_at(&mut bytes, 8190).unwrap();
        assert_eq!(&bytes, b"ab");
    }

    #[test]
    fn a_short_mailbox_file_is_refused() {
        let files = SharedFiles { mailbox: Some(file_of(4096)), ..SharedFiles::default() };
        let error = GuestMemory::allocate(&SIZES, files).unwrap_err();
        assert!(matches!(error, MemoryError::FileTooShort { kind: RegionKind::Mailbox, len: 4096, .. }), "{error}");
        let files = SharedFiles { channel: Some(file_of(5000)), ..SharedFiles::default() };
        let error = GuestMemory::allocate(&SIZES, files).unwrap_err();
        assert!(matches!(error, MemoryError::Layout(LayoutError::NotPages { .. })), "{error}");
    }
}
