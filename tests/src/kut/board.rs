//! The machine that a test runs on: the house's devices and processors, our test ports, no firmware.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulla_boot_abi::map::{HIGH_RAM_BASE, IOAPIC_BASE, LOW_RAM_MAX};
use bulla_vmm::acpi::{self, AcpiConfig};
use bulla_vmm::backend::{
    Backend, BackendError, CpuFeatures, CpuState, CpuidLeaf, DescriptorTable, Feature, Kick, MemorySlot, Partition,
    Registers, Segment, SegmentRegisters, Vcpu, VcpuExit, bits,
};
use bulla_vmm::devices::power::PowerEvent;
use bulla_vmm::devices::tpm::{TpmBackend, TpmBackendError, TpmInterface};
use bulla_vmm::devices::{Clock, NoIrq, Platform, PlatformParts};
use vm_memory::{Bytes, GuestAddress, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress, MmapRegion};

use crate::Anything;
use crate::clock::{RunningClock, Ticker};
use crate::multiboot::{self, BOOT_MAGIC, Chunk, INFO, Image};
use crate::ports::{Io, TestPorts};
use crate::suite::Test;
use crate::transcript::{End, Outcome};

/// A test that prints more than this is cut off.
const OUTPUT_MAX: usize = 4 << 20;
/// How long a stopped vCPU may take to notice.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The machine has the interface, so it needs something behind it; no test talks to it.
struct NoTpm;

impl TpmBackend for NoTpm {
    fn execute(&mut self, _locality: u8, _command: &[u8]) -> Result<Vec<u8>, TpmBackendError> {
        Err("this machine has no TPM".into())
    }
}

/// Collects what the guest prints.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<u8>>>);

impl Collector {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OUTPUT_MAX.saturating_sub(all.len());
        all.extend(bytes.iter().take(room));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How the run ends; the first to say wins.
#[derive(Default)]
struct Ending {
    end: Mutex<Option<End>>,
    said: Condvar,
    stop: AtomicBool,
    kickers: Mutex<Vec<Arc<dyn Kick>>>,
}

impl Ending {
    fn say(&self, end: End) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        self.stop.store(true, Ordering::Release);
        self.said.notify_all();
        for kicker in self.kickers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            kicker.kick();
        }
    }

    fn wait(&self, limit: Duration) -> End {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.said.wait_timeout_while(end, limit, |end| end.is_none());
        let end = waited.unwrap_or_else(PoisonError::into_inner).0.clone();
        end.unwrap_or_else(|| {
            self.say(End::Timeout);
            End::Timeout
        })
    }
}

/// Runs one test; also returns what it printed.
pub(crate) fn run(test: &Test, limit: Duration, backend: &dyn Backend) -> (Outcome, String) {
    let start = Instant::now();
    let console = Collector::default();
    let end = attempt(test, limit, backend, &console).unwrap_or_else(|error| End::Stopped(error.to_string()));
    let printed = console.text();
    (Outcome::judge(&end, &printed, start.elapsed().as_secs_f64()), printed)
}

fn attempt(test: &Test, limit: Duration, backend: &dyn Backend, console: &Collector) -> Anything<End> {
    let capabilities = backend.capabilities();
    // As the suite itself does on a host with fewer processors than a test would like.
    let vcpus = test.vcpus.min(u32::try_from(capabilities.max_vcpus).unwrap_or(u32::MAX));
    let image = match std::fs::read(&test.image) {
        Ok(file) => Image::parse(&file)?,
        Err(error) => return Ok(End::NotRun(format!("{}: {error}", test.image.display()))),
    };
    if !image.keeps_clear_of(&multiboot::information_area()) {
        return Err("the image lies where its boot information goes".into());
    }
    let partition = backend.create_partition()?;
    let memory = Memory::new(test.memory() << 20, &*partition)?;
    // The last is what the suite says of processors that are not KVM's: no KVM hypercalls, no SYSCALL where Intel has none.
    let environment = format!("NR_CPUS={vcpus}\nMEMSIZE={}\nTEST_DEVICE=0\n", test.memory());
    let command_line = format!("{} {}", test.image.display(), test.arguments());
    let information = multiboot::information(&memory.ranges(), &command_line, environment.as_bytes())?;
    let tables = acpi::build(&AcpiConfig { vcpus, tpm: TpmInterface::Crb })?;
    let tables = Chunk { address: tables.base, bytes: tables.bytes };
    for chunk in image.chunks.iter().chain(&information).chain([&tables]) {
        memory.write(chunk)?;
    }

    let ending = Arc::new(Ending::default());
    let (exited, powered) = (Arc::clone(&ending), Arc::clone(&ending));
    let clock = RunningClock::new();
    let platform = Arc::new(Platform::new(PlatformParts {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        irq_sink: partition.irq_sink(),
        ext_int: Arc::new(NoIrq),
        com1: Box::new(console.clone()),
        com2: Box::new(io::sink()),
        tpm: Box::new(NoTpm),
        tpm_interface: TpmInterface::Crb,
        progress: Box::new(|_| {}),
        power: Arc::new(move |event| {
            powered.say(End::Stopped(match event {
                PowerEvent::Reset => "the guest asked for a reset".to_owned(),
                PowerEvent::PowerOff => "the guest powered off".to_owned(),
            }));
        }),
    })?);
    let entry = if image.is_low() { leave_as_firmware_does(image.entry, &memory, &platform)? } else { image.entry };
    let ports = TestPorts::new(test.memory() << 20, vcpus, &platform, Box::new(move |v| exited.say(End::Exit(v))));
    let ports = Arc::new(ports);
    let cpuid = cpuid(test, &capabilities.cpuid)?;
    // One that executes all processors in turns, or one each.
    let mut vcpus = match partition.create_processors(vcpus, &cpuid) {
        Err(BackendError::TooManyVcpus { .. }) => {
            (0..vcpus).map(|id| partition.create_vcpu(id, &cpuid)).collect::<Result<Vec<_>, _>>()?
        }
        one => vec![one?],
    };
    if let Some(first) = vcpus.first_mut() {
        let reset = first.state()?;
        first.set_state(&entry_state(&reset, entry))?;
    }
    *ending.kickers.lock().unwrap_or_else(PoisonError::into_inner) = vcpus.iter().map(|v| v.kicker()).collect();

    let ticker = Ticker::start(Arc::clone(&platform), clock);
    let mut threads = Vec::new();
    for vcpu in vcpus {
        let (platform, ports, ending) = (Arc::clone(&platform), Arc::clone(&ports), Arc::clone(&ending));
        threads.push(std::thread::spawn(move || execute(vcpu, &platform, &ports, &ending)));
    }
    let end = ending.wait(limit);
    let end = join(threads, end);
    drop(ticker);
    platform.flush_consoles();
    Ok(end)
}

/// A vCPU's thread.
fn execute(mut vcpu: Box<dyn Vcpu>, platform: &Platform, ports: &TestPorts, ending: &Ending) {
    while !ending.stop.load(Ordering::Acquire) {
        let stopped = match vcpu.run(&mut Io { ports, platform }) {
            Ok(VcpuExit::Kicked | VcpuExit::Debug) => continue,
            Ok(VcpuExit::Halt) => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Ok(VcpuExit::Shutdown) => "triple fault".to_owned(),
            Ok(VcpuExit::Reset) => "reset".to_owned(),
            Err(error) => error.to_string(),
        };
        let at = vcpu.state().map_or_else(|e| e.to_string(), |s| format!("{:#x}", s.registers.rip));
        ending.say(End::Stopped(format!("{stopped} at rip {at}")));
    }
}

/// Waits for the vCPUs' threads. One that does not end is left behind: that is a finding, and not to be waited for.
fn join(threads: Vec<JoinHandle<()>>, end: End) -> End {
    let deadline = Instant::now() + STOP_PATIENCE;
    for thread in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !thread.is_finished() {
            return End::Stopped("a vCPU does not listen to its kick".to_owned());
        }
        if thread.join().is_err() {
            return End::Stopped("the monitor panicked".to_owned());
        }
    }
    end
}

/// The guest's RAM: one part below 3 GiB, another from 4 GiB on.
struct Memory(Vec<Arc<GuestRegionMmap>>);

impl Memory {
    fn new(size: u64, partition: &dyn Partition) -> Anything<Self> {
        let low = size.min(LOW_RAM_MAX);
        let mut regions = Vec::new();
        for (base, size) in [(0, low), (HIGH_RAM_BASE, size - low)].into_iter().filter(|(_, size)| *size != 0) {
            let region = GuestRegionMmap::new(MmapRegion::new(usize::try_from(size)?)?, GuestAddress(base));
            let region = Arc::new(region.ok_or("the memory wraps around")?);
            partition.add_memory(MemorySlot { region: Arc::clone(&region), read_only: false, track_dirty: false })?;
            regions.push(region);
        }
        Ok(Self(regions))
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        let start = |r: &GuestRegionMmap| r.start_addr().0;
        self.0.iter().map(|r| start(r)..start(r).saturating_add(r.len())).collect()
    }

    fn write(&self, chunk: &Chunk) -> Anything<()> {
        let offset = |r: &&Arc<GuestRegionMmap>| chunk.address.checked_sub(r.start_addr().0).filter(|o| *o < r.len());
        let region = self.0.iter().find(|r| offset(r).is_some()).ok_or("the image wants memory that is not there")?;
        let offset = offset(&region).unwrap_or_default();
        Ok(region.write_slice(&chunk.bytes, MemoryRegionAddress(offset))?)
    }
}

/// What the backend has, less what the test hides; what the test wants beyond that is its own to find missing.
fn cpuid(test: &Test, supported: &[CpuidLeaf]) -> Anything<Vec<CpuidLeaf>> {
    let mut wishes = Vec::new();
    for wish in test.cpu_wishes() {
        // QEMU's names are the kernel's, but for hyphens.
        let name = wish.trim_start_matches(['+', '-']).replace('-', "_");
        let Ok(feature) = Feature::by_name(&name) else { continue };
        let there = feature.shown_by(supported);
        if wish.starts_with('-') || there {
            wishes.push(format!("{}{name}", if wish.starts_with('-') { '-' } else { '+' }));
        }
    }
    Ok(wishes.join(",").parse::<CpuFeatures>()?.apply(supported)?)
}

/// An image in conventional memory is a program of real mode, which expects what firmware leaves behind: interrupt
/// requests 8 to 15 at vectors from 0x70. Here they come through the I/O APIC and an enabled local APIC, for the 8259
/// pair is not wired to this machine's processors. Returns the entry, which enables the local APIC first.
fn leave_as_firmware_does(entry: u32, memory: &Memory, platform: &Platform) -> Anything<u32> {
    /// Below the boot information.
    const STUB: u32 = INFO - 0x1000;
    for irq in 8..16_u32 {
        // IOREGSEL, IOWIN; redirection entries from 0x10, two words each (82093AA, §3.0): to APIC 0, edge, fixed.
        for (register, value) in [(0x11 + 2 * irq, 0), (0x10 + 2 * irq, 0x68 + irq)] {
            platform.bus().mmio_write(IOAPIC_BASE, &register.to_le_bytes());
            platform.bus().mmio_write(IOAPIC_BASE + 0x10, &value.to_le_bytes());
        }
    }
    // MOV DWORD [0xFEE000F0], 0x1FF (spurious-interrupt vector register: enabled); JMP entry.
    let mut code = vec![0xC7, 0x05, 0xF0, 0x00, 0xE0, 0xFE, 0xFF, 0x01, 0, 0, 0xE9];
    let next = STUB + u32::try_from(code.len())? + 4;
    code.extend(entry.wrapping_sub(next).to_le_bytes());
    memory.write(&Chunk { address: STUB.into(), bytes: code })?;
    Ok(STUB)
}

/// The machine state at the entry of an image (Multiboot 0.6.96, §3.2).
fn entry_state(reset: &CpuState, entry: u32) -> CpuState {
    /// Present, accessed, readable 32-bit code at DPL 0, 4 GiB.
    const CODE_32: u32 = 0xC09B;
    let data = Segment::flat(0x10, Segment::FLAT_DATA);
    CpuState {
        registers: Registers {
            rax: BOOT_MAGIC.into(),
            rbx: INFO.into(),
            rip: entry.into(),
            rflags: 2,
            ..Registers::default()
        },
        segments: SegmentRegisters {
            cs: Segment::flat(8, CODE_32),
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            tr: Segment { base: 0, limit: 0xFFFF, selector: 0, access: Segment::BUSY_TSS },
            ldt: Segment { base: 0, limit: 0, selector: 0, access: Segment::UNUSABLE },
        },
        gdt: DescriptorTable::default(),
        // Where real mode has it (SDM vol. 3A, §9.1.4): a test that goes back there does not load it.
        idt: DescriptorTable { base: 0, limit: 0x3FF },
        cr0: bits::CR0_PE | bits::CR0_ET,
        cr3: 0,
        cr4: 0,
        efer: 0,
        ..reset.clone()
    }
}
