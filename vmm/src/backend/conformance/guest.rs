//! What every backend's tests have in common; each includes it and says which `backend()` it is.
//!
//! A partition with one vCPU, some memory, page tables and hand-assembled code, and devices that write down what
//! they see.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};

use super::backend;
use crate::backend::{
    CpuFeatures, CpuState, DescriptorTable, GuestIo, Kick, MemorySlot, Partition, Segment, SlotId, Vcpu, VcpuError,
    VcpuExit,
};

/// Page tables: PML4, PDPT, four page directories that map 4 GiB one to one, all usable from CPL 3.
const TABLES: u64 = 0x1000;
/// A task state segment whose I/O bitmap allows every port.
const TSS: u64 = 0x10000;
const TSS_LIMIT: u32 = 0x2069;
/// GDT: null, 64-bit code at DPL 0.
const GDT: u64 = 0x800;
/// Where the code stands, and where its stack begins.
pub(super) const CODE: u64 = 0x8000;
const STACK_TOP: u64 = 0xF000;
const RAM: usize = 0x2_0000;
/// An address that nothing answers.
pub(super) const NOTHING: u64 = 0xE000_0000;
/// A write here ends the test's guest.
pub(super) const STOP: u16 = 0x510;

/// `mov edx, STOP; out dx, al`
pub(super) const STOP_CODE: [u8; 6] = [0xBA, 0x10, 0x05, 0, 0, 0xEE];

/// One device access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    In(u16, usize),
    Out(u16, Vec<u8>),
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Eoi(u8),
}

/// Devices that write everything down. Ports from 0x600 on read as their own number; everything else is left to
/// whoever called.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) seen: Vec<Access>,
    stop: Option<Arc<dyn Kick>>,
}

impl GuestIo for Recorder {
    fn pio_read(&mut self, port: u16, data: &mut [u8]) {
        self.seen.push(Access::In(port, data.len()));
        if port >= 0x600 {
            for (to, from) in data.iter_mut().zip(u32::from(port).to_le_bytes()) {
                *to = from;
            }
        }
    }

    fn pio_write(&mut self, port: u16, data: &[u8]) {
        match &self.stop {
            Some(stop) if port == STOP => stop.kick(),
            _ => self.seen.push(Access::Out(port, data.to_vec())),
        }
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        self.seen.push(Access::Read(gpa, data.len()));
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        self.seen.push(Access::Write(gpa, data.to_vec()));
    }

    fn end_of_interrupt(&mut self, vector: u8) {
        self.seen.push(Access::Eoi(vector));
    }
}

pub(super) struct Guest {
    pub(super) partition: Arc<dyn Partition>,
    pub(super) vcpu: Box<dyn Vcpu>,
    pub(super) io: Recorder,
    pub(super) ram: Arc<GuestRegionMmap>,
}

pub(super) fn region(base: u64, size: usize) -> Arc<GuestRegionMmap> {
    Arc::new(GuestRegionMmap::from_range(GuestAddress(base), size, None).unwrap())
}

impl Guest {
    /// A guest about to run `code` at CPL 0; `None` without the backend.
    pub(super) fn new(code: &[u8]) -> Option<Self> {
        let backend = backend()?;
        let partition = backend.create_partition().unwrap();
        let ram = region(0, RAM);
        fill(&ram, code);
        partition.add_memory(plain(&ram)).unwrap();
        let cpuid = CpuFeatures::default().apply(&backend.capabilities().cpuid).unwrap();
        let mut vcpu = partition.create_vcpu(0, &cpuid).unwrap();
        let mut state = CpuState::long_mode(&vcpu.state().unwrap(), CODE, TABLES);
        state.registers.rsp = STACK_TOP;
        state.gdt = DescriptorTable { base: GDT, limit: 15 };
        vcpu.set_state(&state).unwrap();
        let io = Recorder { stop: Some(vcpu.kicker()), ..Recorder::default() };
        Some(Self { partition, vcpu, io, ram })
    }

    /// The same at CPL 3, with every port allowed by the TSS.
    pub(super) fn at_cpl3(code: &[u8]) -> Option<Self> {
        const DPL3: u32 = 3 << 5;
        let mut guest = Self::new(code)?;
        guest.change(|state| {
            let data = Segment::flat(0x23, Segment::FLAT_DATA | DPL3);
            let s = &mut state.segments;
            s.cs = Segment::flat(0x1B, Segment::CODE_64 | DPL3);
            (s.ss, s.ds, s.es, s.fs, s.gs) = (data, data, data, data, data);
            s.tr = Segment { base: TSS, limit: TSS_LIMIT, selector: 0x28, access: Segment::BUSY_TSS };
        });
        Some(guest)
    }

    pub(super) fn change(&mut self, f: impl FnOnce(&mut CpuState)) {
        let mut state = self.vcpu.state().unwrap();
        f(&mut state);
        self.vcpu.set_state(&state).unwrap();
    }

    pub(super) fn write(&self, gpa: u64, bytes: &[u8]) {
        self.ram.write_slice(bytes, MemoryRegionAddress(gpa)).unwrap();
    }

    pub(super) fn add(&self, region: &Arc<GuestRegionMmap>) -> SlotId {
        self.partition.add_memory(plain(region)).unwrap()
    }

    pub(super) fn run(&mut self) -> Result<VcpuExit, VcpuError> {
        self.vcpu.run(&mut self.io)
    }

    /// Runs up to the write to [`STOP`] and returns what the devices saw on the way.
    pub(super) fn run_to_stop(&mut self) -> Vec<Access> {
        let exit = self.run();
        assert!(matches!(exit, Ok(VcpuExit::Kicked)), "{exit:?} after {:x?}", self.io.seen);
        std::mem::take(&mut self.io.seen)
    }
}

pub(super) fn plain(region: &Arc<GuestRegionMmap>) -> MemorySlot {
    MemorySlot { region: Arc::clone(region), read_only: false, track_dirty: false }
}

fn fill(ram: &GuestRegionMmap, code: &[u8]) {
    let write = |gpa: u64, value: u64| ram.write_slice(&value.to_le_bytes(), MemoryRegionAddress(gpa)).unwrap();
    const PRESENT_WRITE_USER: u64 = 7;
    const LARGE: u64 = 1 << 7;
    write(TABLES, (TABLES + 0x1000) | PRESENT_WRITE_USER);
    for directory in 0..4 {
        let at = TABLES + 0x2000 + directory * 0x1000;
        write(TABLES + 0x1000 + directory * 8, at | PRESENT_WRITE_USER);
        for entry in 0..512 {
            write(at + entry * 8, ((directory * 512 + entry) << 21) | LARGE | PRESENT_WRITE_USER);
        }
    }
    write(GDT + 8, 0x00AF_9B00_0000_FFFF);
    // Offset 102 of a TSS: where the I/O bitmap begins (SDM vol. 3A, §8.7). A byte of ones ends it.
    ram.write_slice(&104u16.to_le_bytes(), MemoryRegionAddress(TSS + 102)).unwrap();
    ram.write_slice(&[0xFF], MemoryRegionAddress(TSS + u64::from(TSS_LIMIT))).unwrap();
    ram.write_slice(code, MemoryRegionAddress(CODE)).unwrap();
    assert!(ram.len() as usize >= RAM);
}
