//! The program.
//!
//! Unsafe rule of this module: RAM is taken by the places that the plan gives, which do not overlap while both are in
//! use (the unpacker's heap is done with when the kernel goes to its place); the program itself lives in firmware
//! memory, apart from RAM. [`Ram::take`] is the only place that takes memory.

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Display};

use bulla_boot_abi::handoff::Handoff;
use bulla_boot_abi::progress::{Failure, Milestone};
use bulla_boot_abi::window::{Extent, Kind};
use bulla_boot_abi::{chain, map};
use bulla_bootloader::bzimage::BzImage;
use bulla_bootloader::elf::{Elf, Segment};
use bulla_bootloader::kernel::Kernel;
use bulla_bootloader::load::{Unpacking, check_unpacked, unpacking};
use bulla_bootloader::memory::low_ram;
use bulla_bootloader::plan::{Plan, PlanError, Protocol, kernel_copy_at, plan};
use bulla_guest_rt::interface::Interface;
use bulla_guest_rt::machine::{TpmRegisters, copy_from_window, take_memory};
use bulla_guest_rt::measure::{Chain, MeasureError};
use bulla_guest_rt::{fail, gate, main, progress, with_heap};
use bulla_tpm_types::eventlog::ev;

main!(bootloader);

fn bootloader(_: u64) -> ! {
    progress(Milestone::BootloaderEntered);
    match boot() {
        Ok(Entry { protocol: Protocol::Linux64, address, argument }) => gate::enter_linux(address, argument),
        Ok(Entry { protocol: Protocol::Pvh, address, argument }) => gate::enter_pvh(address, argument),
        Err(stop) => fail(stop.failure(), &stop),
    }
}

/// Where to go in the end.
struct Entry {
    protocol: Protocol,
    address: u64,
    argument: u64,
}

/// Why the boot ends here.
enum Stop {
    Handoff,
    Missing(&'static str),
    TooLarge(&'static str),
    Window(&'static str),
    Plan(PlanError),
    Measure(MeasureError),
}

impl Stop {
    fn failure(&self) -> Failure {
        match self {
            Self::Handoff => Failure::Handoff,
            Self::Missing(_) => Failure::WindowItemMissing,
            Self::TooLarge(_) => Failure::WindowItemTooLarge,
            Self::Window(_) => Failure::WindowHeader,
            Self::Plan(e) => e.failure(),
            Self::Measure(e) => e.failure(),
        }
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handoff => f.write_str("hand-off page"),
            Self::Missing(what) | Self::TooLarge(what) | Self::Window(what) => f.write_str(what),
            Self::Plan(e) => e.fmt(f),
            Self::Measure(e) => e.fmt(f),
        }
    }
}

impl From<PlanError> for Stop {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<MeasureError> for Stop {
    fn from(error: MeasureError) -> Self {
        Self::Measure(error)
    }
}

/// The RAM that may be taken: conventional memory and low RAM.
struct Ram {
    low: (u64, u64),
}

impl Ram {
    #[expect(clippy::mut_from_ref, reason = "the reference is a name; the memory is RAM")]
    fn take(&mut self, what: &'static str, at: u64, len: u64) -> Result<&'static mut [u8], Stop> {
        let end = at.checked_add(len);
        let inside = |(base, limit): (u64, u64)| at >= base && end.is_some_and(|end| end <= limit);
        if !inside(self.low) && !inside((0, map::CONVENTIONAL_END)) {
            return Err(PlanError::NoRoom { what, at, len }.into());
        }
        // SAFETY: the range is RAM, below 4 GiB; the module's rule says that nothing else uses it.
        Ok(unsafe { take_memory(at, len) })
    }

    fn write(&mut self, what: &'static str, at: u64, bytes: &[u8]) -> Result<(), Stop> {
        self.take(what, at, bytes.len() as u64)?.copy_from_slice(bytes);
        Ok(())
    }
}

fn copy(what: &'static str, extent: Extent, to: &mut [u8]) -> Result<(), Stop> {
    copy_from_window(extent.offset, to).ok_or(Stop::Window(what))
}

fn boot() -> Result<Entry, Stop> {
    // SAFETY: the firmware filled the page and is gone; nothing else uses it.
    let handoff = Handoff::parse(unsafe { take_memory(map::HANDOFF_BASE, 4096) }).ok_or(Stop::Handoff)?;
    let directory = &handoff.directory;
    let memory_map = &handoff.memory_map;
    let mut ram = Ram { low: low_ram(memory_map)? };

    let extent = directory.get(Kind::Kernel).ok_or(Stop::Missing("kernel"))?;
    let kernel = ram.take("kernel file", kernel_copy_at(extent.len, memory_map)?, extent.len)?;
    copy("kernel", extent, kernel)?;
    let kernel = &*kernel;
    let cmdline = match directory.get(Kind::CommandLine) {
        Some(extent) if extent.len > map::CMDLINE_MAX as u64 => return Err(Stop::TooLarge("command line")),
        Some(extent) => {
            let mut cmdline = vec![0; extent.len as usize];
            copy("command line", extent, &mut cmdline)?;
            cmdline
        }
        None => Vec::new(),
    };
    let initrd_extent = directory.get(Kind::Initrd);
    let plan = plan(kernel, initrd_extent.map(|e| e.len), &cmdline, memory_map)?;
    let initrd = match (plan.initrd_at, initrd_extent) {
        (Some(at), Some(extent)) => {
            let initrd = ram.take("initrd", at, extent.len)?;
            copy("initrd", extent, initrd)?;
            Some(&*initrd)
        }
        _ => None,
    };
    progress(Milestone::ImagesCopied);

    measure(&handoff, kernel, initrd, &cmdline, &plan)?;
    progress(Milestone::ImagesMeasured);

    let mut cmdline = cmdline;
    cmdline.push(0);
    ram.write("command line", map::CMDLINE, &cmdline)?;
    ram.write("boot parameters", plan.boot_params_at, &plan.boot_params)?;
    let gdt: Vec<u8> = gate::BOOT_GDT.iter().flat_map(|d| d.to_le_bytes()).collect();
    ram.write("GDT", map::BOOT_GDT, &gdt)?;
    let address = match &plan.kernel {
        Kernel::Elf(elf) => {
            load(&mut ram, &elf.segments)?;
            elf.pvh_entry.map_or(elf.entry, u64::from)
        }
        Kernel::BzImage(image) => load_bzimage(&mut ram, &plan, image)?,
    };
    progress(Milestone::Handover);
    Ok(Entry { protocol: plan.protocol, address, argument: plan.boot_params_at })
}

fn measure(
    handoff: &Handoff,
    kernel: &[u8],
    initrd: Option<&[u8]>,
    cmdline: &[u8],
    plan: &Plan<'_>,
) -> Result<(), Stop> {
    let tpm = Interface::open(TpmRegisters::locality0()).map_err(MeasureError::from)?;
    // SAFETY: the area is reserved in the memory map, and the firmware, which began the log, is gone.
    let log = unsafe { take_memory(map::EVENT_LOG_BASE, u64::from(map::EVENT_LOG_SIZE)) };
    let used = usize::try_from(handoff.log_len).map_err(|_| Stop::Handoff)?;
    let mut chain = Chain::resume(tpm, log, used)?;
    chain.measure(chain::PCR_BOOT_CODE, ev::IPL, kernel, chain::KERNEL_EVENT)?;
    if let Some(initrd) = initrd {
        chain.measure(chain::PCR_INITRD, ev::IPL, initrd, chain::INITRD_EVENT)?;
    }
    let text = core::str::from_utf8(cmdline).map_err(|e| Stop::Plan(PlanError::CommandLineText(e.valid_up_to())))?;
    let event = chain::cmdline_event(text);
    chain.measure(chain::PCR_CMDLINE, ev::IPL, &event, &event)?;
    chain.measure(chain::PCR_BOOT_CONFIG, ev::IPL, &plan.boot_params, chain::BOOT_PARAMS_EVENT)?;
    Ok(())
}

/// Copies segments to their addresses. The plan has checked that they lie in low RAM, apart from everything else.
fn load(ram: &mut Ram, segments: &[Segment<'_>]) -> Result<(), Stop> {
    for segment in segments {
        let place = ram.take("segment", segment.address, segment.memory)?;
        // An ELF segment is no shorter in memory than in the file.
        let (data, rest) = place.split_at_mut(segment.data.len().min(place.len()));
        data.copy_from_slice(segment.data.get(..data.len()).unwrap_or_default());
        rest.fill(0);
    }
    Ok(())
}

/// Puts a bzImage's kernel into place and gives its entry point.
fn load_bzimage(ram: &mut Ram, plan: &Plan<'_>, image: &BzImage<'_>) -> Result<u64, Stop> {
    let Unpacking::Here { buffer, heap } = unpacking(plan, image) else {
        ram.write("kernel", image.address, image.protected)?;
        return Ok(image.entry());
    };
    let heap = ram.take("unpacker's heap", heap, buffer.saturating_sub(heap))?;
    let unpacked = ram.take("unpacked kernel", buffer, image.payload.unpacked_len().into())?;
    // SAFETY: what is unpacked lies in the buffer, and the errors are plain values: nothing of the heap survives.
    unsafe { with_heap(heap, || image.payload.unpack(unpacked)) }?;
    let elf = Elf::parse(unpacked)?;
    let entry = check_unpacked(&elf, image)?;
    load(ram, &elf.segments)?;
    Ok(entry)
}
