//! The port and memory-mapped I/O buses.
//!
//! A device has the capabilities whose trait it implements: [`PioDevice`], [`MmioDevice`] or both. It is registered
//! for a range of one space under a name, and sees offsets within that range. The bus promises a device that each
//! access is non-empty and lies wholly within its range: an access that straddles ranges is split, and the parts that
//! no device claims read as all ones and swallow writes, as an undriven PC bus does.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A device reachable through I/O ports.
pub trait PioDevice: Send {
    /// Reads `data.len()` bytes at `offset`. `data` comes filled with ones; what is left alone reads so.
    fn pio_read(&mut self, offset: u16, data: &mut [u8]);

    /// Writes `data` at `offset`.
    fn pio_write(&mut self, offset: u16, data: &[u8]);
}

/// A device of 8-bit ports: a wider access is one access a port, lowest first (as on the ISA bus).
pub trait BytePorts: Send {
    /// Reads the port at `offset`.
    fn read_port(&mut self, offset: u16) -> u8;

    /// Writes the port at `offset`.
    fn write_port(&mut self, offset: u16, value: u8);
}

impl<D: BytePorts> PioDevice for D {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        for (byte, port) in data.iter_mut().zip(offset..=u16::MAX) {
            *byte = self.read_port(port);
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        for (byte, port) in data.iter().zip(offset..=u16::MAX) {
            self.write_port(port, *byte);
        }
    }
}

/// A device reachable through guest-physical memory.
pub trait MmioDevice: Send {
    /// Reads `data.len()` bytes at `offset`. `data` comes filled with ones; what is left alone reads so.
    fn mmio_read(&mut self, offset: u64, data: &mut [u8]);

    /// Writes `data` at `offset`.
    fn mmio_write(&mut self, offset: u64, data: &[u8]);
}

/// The two address spaces a device can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// I/O ports.
    Port,
    /// Guest-physical memory.
    Memory,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => "port",
            Self::Memory => "memory",
        })
    }
}

/// A range on a bus, with the name of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedRange {
    /// The device.
    pub name: &'static str,
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
}

impl fmt::Display for NamedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x}..={:#x})", self.name, self.first, self.last)
    }
}

/// Why a range was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The range has no bytes, or goes beyond the end of its space.
    #[error("{space} range of {name} at {base:#x} with {len:#x} bytes is empty or leaves the address space")]
    BadRange {
        /// Which bus.
        space: Space,
        /// The device.
        name: &'static str,
        /// First address asked for.
        base: u64,
        /// Bytes asked for.
        len: u64,
    },
    /// Another device is there.
    #[error("{space} range of {new} overlaps {old}")]
    Overlap {
        /// Which bus.
        space: Space,
        /// The refused range.
        new: NamedRange,
        /// The range that was there first.
        old: NamedRange,
    },
}

/// A device as the bus holds it.
pub type Shared<D> = Arc<Mutex<D>>;

/// Locks a device. A poisoned lock is taken all the same: devices keep no invariant that a panic (always a bug of
/// ours) could break half-way into unsafety, and a second panic would only hide the first.
pub(crate) fn lock<D: ?Sized>(device: &Mutex<D>) -> MutexGuard<'_, D> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Region<D: ?Sized> {
    range: NamedRange,
    device: Shared<D>,
}

/// Sorted, disjoint regions of one space.
struct Regions<D: ?Sized> {
    space: Space,
    max: u64,
    sorted: Vec<Region<D>>,
}

impl<D: ?Sized> Regions<D> {
    const fn new(space: Space, max: u64) -> Self {
        Self { space, max, sorted: Vec::new() }
    }

    fn add(&mut self, name: &'static str, base: u64, len: u64, device: Shared<D>) -> Result<(), BusError> {
        let space = self.space;
        let last = len
            .checked_sub(1)
            .and_then(|more| base.checked_add(more))
            .filter(|last| *last <= self.max)
            .ok_or(BusError::BadRange { space, name, base, len })?;
        let new = NamedRange { name, first: base, last };
        let index = self.sorted.partition_point(|r| r.range.last < base);
        if let Some(old) = self.sorted.get(index).map(|r| r.range).filter(|old| old.first <= last) {
            return Err(BusError::Overlap { space, new, old });
        }
        self.sorted.insert(index, Region { range: new, device });
        Ok(())
    }

    /// Splits `[addr, addr + len)` at region edges: `visit(region, offset in region, range of the access)`.
    /// What lies outside of all regions or beyond the end of the space is not visited.
    fn split(&self, addr: u64, len: usize, mut visit: impl FnMut(&Region<D>, u64, std::ops::Range<usize>)) {
        let Some(more) = len.checked_sub(1) else { return };
        let last = addr.saturating_add(more as u64).min(self.max);
        let from = self.sorted.partition_point(|r| r.range.last < addr);
        for region in self.sorted.iter().skip(from).take_while(|r| r.range.first <= last) {
            let first_here = region.range.first.max(addr);
            let last_here = region.range.last.min(last);
            // Both lie within the access, whose length is a usize.
            let start = (first_here - addr) as usize;
            let end = (last_here - addr) as usize + 1;
            visit(region, first_here - region.range.first, start..end);
        }
    }
}

/// Both buses. Devices are added while the machine is built; after that it is shared between vCPU threads.
pub struct Bus {
    pio: Regions<dyn PioDevice>,
    mmio: Regions<dyn MmioDevice>,
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

impl Bus {
    /// A bus with nothing on it.
    pub const fn new() -> Self {
        Self { pio: Regions::new(Space::Port, 0xFFFF), mmio: Regions::new(Space::Memory, u64::MAX) }
    }

    /// Puts `device` at the ports `base..base + len`.
    ///
    /// # Errors
    /// If the range is empty, leaves the space, or overlaps another one.
    pub fn add_pio(
        &mut self,
        name: &'static str,
        base: u16,
        len: u16,
        device: Shared<dyn PioDevice>,
    ) -> Result<(), BusError> {
        self.pio.add(name, base.into(), len.into(), device)
    }

    /// Puts `device` at the guest-physical addresses `base..base + len`.
    ///
    /// # Errors
    /// If the range is empty, leaves the space, or overlaps another one.
    pub fn add_mmio(
        &mut self,
        name: &'static str,
        base: u64,
        len: u64,
        device: Shared<dyn MmioDevice>,
    ) -> Result<(), BusError> {
        self.mmio.add(name, base, len, device)
    }

    /// Every range with its space, for listings and for checking memory slots against.
    pub fn ranges(&self) -> impl Iterator<Item = (Space, NamedRange)> + '_ {
        let pio = self.pio.sorted.iter().map(|r| (Space::Port, r.range));
        pio.chain(self.mmio.sorted.iter().map(|r| (Space::Memory, r.range)))
    }

    /// A guest's read of `data.len()` bytes from `port`.
    pub fn pio_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xFF);
        self.pio.split(port.into(), data.len(), |region, offset, part| {
            if let (Ok(offset), Some(data)) = (u16::try_from(offset), data.get_mut(part)) {
                lock(&region.device).pio_read(offset, data);
            }
        });
    }

    /// A guest's write of `data` to `port`.
    pub fn pio_write(&self, port: u16, data: &[u8]) {
        self.pio.split(port.into(), data.len(), |region, offset, part| {
            if let (Ok(offset), Some(data)) = (u16::try_from(offset), data.get(part)) {
                lock(&region.device).pio_write(offset, data);
            }
        });
    }

    /// A guest's read of `data.len()` bytes at guest-physical address `gpa`.
    pub fn mmio_read(&self, gpa: u64, data: &mut [u8]) {
        data.fill(0xFF);
        self.mmio.split(gpa, data.len(), |region, offset, part| {
            if let Some(data) = data.get_mut(part) {
                lock(&region.device).mmio_read(offset, data);
            }
        });
    }

    /// A guest's write of `data` at guest-physical address `gpa`.
    pub fn mmio_write(&self, gpa: u64, data: &[u8]) {
        self.mmio.split(gpa, data.len(), |region, offset, part| {
            if let Some(data) = data.get(part) {
                lock(&region.device).mmio_write(offset, data);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers writes, reads back its tag in the high and the offset in the low nibble.
    struct Probe {
        tag: u8,
        writes: Vec<(u64, Vec<u8>)>,
    }

    impl Probe {
        fn new(tag: u8) -> Shared<Self> {
            Arc::new(Mutex::new(Self { tag, writes: Vec::new() }))
        }
    }

    impl PioDevice for Probe {
        fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
            self.mmio_read(offset.into(), data);
        }
        fn pio_write(&mut self, offset: u16, data: &[u8]) {
            self.mmio_write(offset.into(), data);
        }
    }

    impl MmioDevice for Probe {
        fn mmio_read(&mut self, offset: u64, data: &mut [u8]) {
            for (n, byte) in data.iter_mut().enumerate() {
                *byte = self.tag << 4 | (offset as u8 + n as u8);
            }
        }
        fn mmio_write(&mut self, offset: u64, data: &[u8]) {
            self.writes.push((offset, data.to_vec()));
        }
    }

    #[test]
    fn overlapping_ranges_are_refused_naming_both() {
        let mut bus = Bus::new();
        bus.add_pio("one", 0x10, 4, Probe::new(1)).unwrap();
        bus.add_pio("after", 0x14, 4, Probe::new(2)).unwrap();
        for (base, len) in [(0x13, 1), (0x0F, 2), (0x10, 4), (0x11, 1), (0, 0x100)] {
            let error = bus.add_pio("two", base, len, Probe::new(3)).unwrap_err();
            let BusError::Overlap { space: Space::Port, new, old } = error else { panic!("{error}") };
            assert_eq!((new.name, old.name), ("two", "one"));
        }
        let error = bus.add_pio("two", 0x17, 3, Probe::new(3)).unwrap_err();
        assert_eq!(error.to_string(), "port range of two (0x17..=0x19) overlaps after (0x14..=0x17)");
        // The same numbers in the other space are free.
        bus.add_mmio("two", 0x10, 4, Probe::new(3)).unwrap();
        assert_eq!(bus.ranges().count(), 3);
    }

    #[test]
    fn ranges_that_are_empty_or_too_long_are_refused() {
        let mut bus = Bus::new();
        assert!(matches!(bus.add_pio("a", 5, 0, Probe::new(1)), Err(BusError::BadRange { .. })));
        assert!(matches!(bus.add_pio("a", 0xFFFF, 2, Probe::new(1)), Err(BusError::BadRange { .. })));
        assert!(matches!(bus.add_mmio("a", u64::MAX, 2, Probe::new(1)), Err(BusError::BadRange { .. })));
        bus.add_pio("a", 0xFFFF, 1, Probe::new(1)).unwrap();
        bus.add_mmio("a", u64::MAX, 1, Probe::new(1)).unwrap();
    }

    #[test]
    fn unmapped_reads_are_all_ones_and_writes_go_nowhere() {
        let bus = Bus::new();
        for len in 0..=9 {
            let mut data = vec![0; len];
            bus.pio_read(0xFFFE, &mut data);
            assert!(data.iter().all(|b| *b == 0xFF));
            bus.pio_write(0xFFFE, &data);
            data.fill(0);
            bus.mmio_read(u64::MAX - 1, &mut data);
            assert!(data.iter().all(|b| *b == 0xFF));
            bus.mmio_write(u64::MAX - 1, &data);
        }
    }

    #[test]
    fn straddling_accesses_are_split_and_gaps_read_as_ones() {
        let (a, b) = (Probe::new(1), Probe::new(2));
        let mut bus = Bus::new();
        bus.add_mmio("a", 0x1000, 4, a.clone()).unwrap();
        bus.add_mmio("b", 0x1006, 4, b.clone()).unwrap();
        let mut data = [0; 8];
        bus.mmio_read(0x1002, &mut data);
        assert_eq!(data, [0x12, 0x13, 0xFF, 0xFF, 0x20, 0x21, 0x22, 0x23]);
        bus.mmio_write(0x1003, &[1, 2, 3, 4, 5]);
        assert_eq!(lock(&a).writes, [(3, vec![1])]);
        assert_eq!(lock(&b).writes, [(0, vec![4, 5])]);
        // The access that starts before the first range and ends behind the last one.
        let mut data = [0; 16];
        bus.mmio_read(0xFFE, &mut data);
        assert_eq!(data[..3], [0xFF, 0xFF, 0x10]);
        assert_eq!(data[11..], [0x23, 0xFF, 0xFF, 0xFF, 0xFF]);
    }

    #[test]
    fn ports_do_not_wrap_around() {
        let (first, last) = (Probe::new(1), Probe::new(2));
        let mut bus = Bus::new();
        bus.add_pio("first", 0, 1, first.clone()).unwrap();
        bus.add_pio("last", 0xFFFF, 1, last).unwrap();
        let mut data = [0; 4];
        bus.pio_read(0xFFFF, &mut data);
        assert_eq!(data, [0x20, 0xFF, 0xFF, 0xFF]);
        bus.pio_write(0xFFFF, &data);
        assert_eq!(lock(&first).writes, []);
    }

    #[test]
    fn byte_ports_take_wide_accesses_port_by_port() {
        struct Bytes(Vec<(u16, u8)>);
        impl BytePorts for Bytes {
            fn read_port(&mut self, offset: u16) -> u8 {
                offset as u8
            }
            fn write_port(&mut self, offset: u16, value: u8) {
                self.0.push((offset, value));
            }
        }
        let device = Arc::new(Mutex::new(Bytes(Vec::new())));
        let mut bus = Bus::new();
        bus.add_pio("bytes", 0x60, 8, device.clone()).unwrap();
        let mut data = [0; 3];
        bus.pio_read(0x62, &mut data);
        assert_eq!(data, [2, 3, 4]);
        bus.pio_write(0x66, &[7, 8, 9]);
        assert_eq!(lock(&device).0, [(6, 7), (7, 8)]);
    }
}
