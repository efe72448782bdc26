//! What a guest can learn about the machine under it from the instructions that classic x86 does not trap: SIDT, SGDT,
//! SLDT, STR, SMSW, PUSHF, POPF, RDTSC, CPUID. One small guest runs them at CPL 0 and at CPL 3, with and without CR4.UMIP
//! and CR4.TSD, on every backend of this host. Each value is one that the guest's own state implies and no host has, or the
//! exception that the architecture asks for; `docs/invisible-monitor.md` is the table of it.
//!
//! With `BULLA_WRITE_DOCS=1` the page is written, without it is compared.
#![forbid(unsafe_code)]

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use bulla_vmm::backend::kvm::KvmBackend;
use bulla_vmm::backend::kvm::probe::{Kind, Probe};
use bulla_vmm::backend::soft::{Pace, SoftBackend};
use bulla_vmm::backend::{
    Backend, BackendError, CpuState, CpuidLeaf, DescriptorTable, GuestIo, Kick, MemorySlot, Msr, Segment, VcpuError,
    VcpuExit,
};
use vm_memory::{Bytes, GuestAddress, GuestRegionMmap, MemoryRegionAddress, MmapRegion};

// What the guest is given. No operating system has any of it.
const GDT: u64 = 0x2000;
const GDT_LIMIT: u16 = 0x4F;
const IDT: u64 = 0x3000;
const IDT_LIMIT: u16 = 0x1EF;
const TSS: u64 = 0x4000;
const TSS_SELECTOR: u16 = 0x28;
const LDT: u64 = 0x5000;
const LDT_SELECTOR: u16 = 0x38;
/// PE, TS, ET, PG; a host has NE and WP.
const CR0: u64 = 1 | 1 << 3 | 1 << 4 | 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_TSD: u64 = 1 << 2;
const CR4_UMIP: u64 = 1 << 11;
/// Interrupts off, which no host has while a guest runs.
const RFLAGS: u64 = 2;
/// What POPF is given: IF, DF, IOPL 3, ID.
const POPPED: u64 = 2 | 1 << 9 | 1 << 10 | 3 << 12 | 1 << 21;
/// Where time begins, if the backend lets it be set; else at 0.
const TSC: u64 = 1 << 56;
/// The guest lives for less than this many ticks, a host has been up for longer.
const LIFETIME: u64 = 1 << 36;
const IA32_TSC: u32 = 0x10;
const VENDOR: [u32; 3] = [0x6C6C_7562, 0x7465_7361, 0x6F69_2065];
const SIGNATURE: u32 = 0x000F_0B07;

const STACK: u64 = 0x8000;
const HANDLERS: u64 = 0x9000;
const PROGRAM: u64 = 0xA000;
const RESULTS: u64 = 0xC000;
const TABLES: u64 = 0x10000;
const DOORBELL: u64 = 0xD000_0000;
const MEMORY: usize = 2 << 20;

/// Bytes a result has, and what they are before.
const RECORD: usize = 64;
const UNTOUCHED: u8 = 0xEE;

/// An instruction, the code around it, and what it leaves in its record.
struct Question {
    name: &'static str,
    code: &'static [u8],
    sees: Sees,
    /// What CR4 bit makes it #GP at CPL 3.
    guard: u64,
}

/// What the right value is.
enum Sees {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A time stamp of the guest's.
    Time,
}

fn table(limit: u16, base: u64) -> Sees {
    Sees::Bytes([&limit.to_le_bytes()[..], &base.to_le_bytes()].concat())
}

fn words(words: &[u32]) -> Sees {
    Sees::Bytes(words.iter().flat_map(|w| w.to_le_bytes()).collect())
}

/// What the guest runs. RBX points to the record; R12 and RAX–RDX are free.
fn probes(cpl: u8) -> Vec<Question> {
    let number = |value: u64| Sees::Bytes(value.to_le_bytes().to_vec());
    let selector = |value: u16| Sees::Bytes(value.to_le_bytes().to_vec());
    // At CPL 3 with IOPL 0, POPF leaves IF and IOPL alone (SDM vol. 2B, POPF, table 4-16).
    let kept = if cpl == 0 { 0 } else { 1 << 9 | 3 << 12 };
    let probe = |name, code, sees, guard| Question { name, code, sees, guard };
    vec![
        probe("SIDT", &[0x0F, 0x01, 0x0B], table(IDT_LIMIT, IDT), CR4_UMIP),
        probe("SGDT", &[0x0F, 0x01, 0x03], table(GDT_LIMIT, GDT), CR4_UMIP),
        probe("SLDT", &[0x0F, 0x00, 0x03], selector(LDT_SELECTOR), CR4_UMIP),
        probe("STR", &[0x0F, 0x00, 0x0B], selector(TSS_SELECTOR), CR4_UMIP),
        probe("SMSW m16", &[0x0F, 0x01, 0x23], selector(CR0 as u16), CR4_UMIP),
        // SMSW RAX; MOV [RBX], RAX
        probe("SMSW r64", &[0x48, 0x0F, 0x01, 0xE0, 0x48, 0x89, 0x03], number(CR0), CR4_UMIP),
        // PUSHFQ; POP [RBX]
        probe("PUSHF", &[0x9C, 0x8F, 0x03], number(RFLAGS), 0),
        // PUSH POPPED; POPFQ; PUSHFQ; POP [RBX]; PUSH 2; POPFQ
        probe(
            "POPF",
            &[0x68, 0x02, 0x36, 0x20, 0x00, 0x9D, 0x9C, 0x8F, 0x03, 0x6A, 0x02, 0x9D],
            number(POPPED & !kept),
            0,
        ),
        // RDTSC; MOV [RBX], EAX; MOV [RBX+4], EDX
        probe("RDTSC", &[0x0F, 0x31, 0x89, 0x03, 0x89, 0x53, 0x04], Sees::Time, CR4_TSD),
        // MOV R12, RBX; XOR EAX, EAX; XOR ECX, ECX; CPUID; XCHG RBX, R12; MOV [RBX], R12D; [RBX+4], EDX; [RBX+8], ECX
        probe(
            "CPUID 0 (vendor)",
            &[
                0x49, 0x89, 0xDC, 0x31, 0xC0, 0x31, 0xC9, 0x0F, 0xA2, 0x4C, 0x87, 0xE3, 0x44, 0x89, 0x23, 0x89, 0x53,
                0x04, 0x89, 0x4B, 0x08,
            ],
            words(&VENDOR),
            0,
        ),
        // MOV R12, RBX; MOV EAX, 1; XOR ECX, ECX; CPUID; MOV RBX, R12; MOV [RBX], EAX
        probe(
            "CPUID 1 (family, model)",
            &[0x49, 0x89, 0xDC, 0xB8, 0x01, 0, 0, 0, 0x31, 0xC9, 0x0F, 0xA2, 0x4C, 0x89, 0xE3, 0x89, 0x03],
            words(&[SIGNATURE]),
            0,
        ),
    ]
}

/// The program: for each probe, where to go on after an exception (R15), the probe, the number of exceptions (R14) into
/// the record's last bytes, the next record.
fn program(probes: &[Question]) -> Vec<u8> {
    let mut code = Vec::new();
    for probe in probes {
        code.extend([0x4C, 0x8D, 0x3D]); // LEA R15, [RIP + length]
        code.extend((probe.code.len() as u32).to_le_bytes());
        code.extend(probe.code);
        code.extend([0x4C, 0x89, 0x73, 0x38]); // MOV [RBX+0x38], R14
        code.extend([0x45, 0x31, 0xF6]); // XOR R14D, R14D
        code.extend([0x48, 0x83, 0xC3, RECORD as u8]); // ADD RBX, RECORD
    }
    code.extend([0xB8, 0, 0, 0, 0xD0]); // MOV EAX, DOORBELL
    code.extend([0x89, 0x18]); // MOV [RAX], EBX
    code.extend([0xEB, 0xFE]); // JMP $
    code
}

/// #GP: drops the error code, goes on at R15.
const ON_GP: &[u8] = &[0x48, 0x83, 0xC4, 0x08, 0x4C, 0x89, 0x3C, 0x24, 0x41, 0xFF, 0xC6, 0x48, 0xCF];
/// The same without an error code, 16 bytes behind the other.
const ON_UD: &[u8] = &[0x4C, 0x89, 0x3C, 0x24, 0x41, 0xFF, 0xC6, 0x41, 0xFF, 0xC6, 0x48, 0xCF];

/// The descriptor of a 16-byte system segment (SDM vol. 3A, §7.2.3), in two words.
fn system_descriptor(base: u64, limit: u64, access: u64) -> [u64; 2] {
    [limit & 0xFFFF | (base & 0xFF_FFFF) << 16 | access << 40 | (base >> 24 & 0xFF) << 56, base >> 32]
}

/// An interrupt gate of 64-bit mode (SDM vol. 3A, §6.14.1).
fn gate(handler: u64) -> [u64; 2] {
    [handler & 0xFFFF | 8 << 16 | 0x8E << 40 | (handler >> 16 & 0xFFFF) << 48, handler >> 32]
}

/// Everything in the guest's memory before it starts.
fn image(probes: &[Question]) -> Vec<(u64, Vec<u8>)> {
    let quads = |quads: &[u64]| quads.iter().flat_map(|q| q.to_le_bytes()).collect::<Vec<u8>>();
    let ([tss0, tss1], [ldt0, ldt1]) = (system_descriptor(TSS, 0x67, 0x8B), system_descriptor(LDT, 0xFFF, 0x82));
    let gdt = [0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF];
    let gdt = [&gdt[..], &[tss0, tss1, ldt0, ldt1]].concat();
    // The stack for handlers (RSP0), one word off a multiple of 8 in the 32-bit header.
    let tss = [&[0; 4][..], &STACK.to_le_bytes()].concat();
    // Present, writable, user; the last level maps 2 MiB pages.
    let (low, high) = (TABLES + 0x2000, TABLES + 0x3000);
    vec![
        (GDT, quads(&gdt)),
        (IDT + 16 * 6, quads(&gate(HANDLERS + 16))),
        (IDT + 16 * 13, quads(&gate(HANDLERS))),
        (TSS, tss),
        (HANDLERS, ON_GP.to_vec()),
        (HANDLERS + 16, ON_UD.to_vec()),
        (PROGRAM, program(probes)),
        (RESULTS, vec![UNTOUCHED; RECORD * probes.len()]),
        (TABLES, quads(&[TABLES + 0x1007])),
        (TABLES + 0x1000, quads(&[low | 7, 0, 0, high | 7])),
        (low, quads(&[0x87])),
        (high + 8 * (DOORBELL >> 21 & 0x1FF), quads(&[DOORBELL | 0x87])),
    ]
}

/// Stops the guest when it rings.
struct Doorbell(Arc<dyn Kick>, bool);

impl GuestIo for Doorbell {
    fn pio_read(&mut self, _port: u16, _data: &mut [u8]) {}
    fn pio_write(&mut self, _port: u16, _data: &[u8]) {}
    fn mmio_read(&mut self, _gpa: u64, _data: &mut [u8]) {}
    fn mmio_write(&mut self, gpa: u64, _data: &[u8]) {
        self.1 |= gpa == DOORBELL;
        self.0.kick();
    }
    fn end_of_interrupt(&mut self, _vector: u8) {}
}

fn state(reset: &CpuState, cpl: u8, cr4: u64) -> CpuState {
    let mut state = CpuState::long_mode(reset, PROGRAM, TABLES);
    let dpl = u32::from(cpl) << 5;
    let (code, data) = if cpl == 0 { (8, 0x10) } else { (0x1B, 0x23) };
    let data = Segment::flat(data, Segment::FLAT_DATA | dpl);
    let segments = &mut state.segments;
    segments.cs = Segment::flat(code, Segment::CODE_64 | dpl);
    [segments.ds, segments.es, segments.fs, segments.gs, segments.ss] = [data; 5];
    segments.tr = Segment { base: TSS, limit: 0x67, selector: TSS_SELECTOR, access: Segment::BUSY_TSS };
    segments.ldt = Segment { base: LDT, limit: 0xFFF, selector: LDT_SELECTOR, access: 0x82 };
    state.gdt = DescriptorTable { base: GDT, limit: GDT_LIMIT };
    state.idt = DescriptorTable { base: IDT, limit: IDT_LIMIT };
    state.cr0 = CR0;
    state.cr4 = cr4;
    state.registers.rflags = RFLAGS;
    state.registers.rbx = RESULTS;
    state.registers.rsp = STACK - 0x100;
    state
}

/// A processor that no host is.
fn cpuid(supported: &[CpuidLeaf]) -> Vec<CpuidLeaf> {
    let mut table = supported.to_vec();
    for leaf in &mut table {
        let [eax, ebx, edx_ecx @ ..] = &mut leaf.output;
        match leaf.function {
            0 => (*ebx, *edx_ecx) = (VENDOR[0], [VENDOR[2], VENDOR[1]]),
            1 => *eax = SIGNATURE,
            _ => {}
        }
    }
    table
}

/// What came of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// What the guest's own state implies.
    Guest,
    /// #GP, and nothing stored.
    Refused,
    /// Something else: perhaps the host's.
    Else,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest's",
            Self::Refused => "#GP",
            Self::Else => "**not the guest's**",
        })
    }
}

fn time(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().expect("eight bytes"))
}

fn judge(probe: &Question, record: &[u8], start: u64) -> Seen {
    let (value, faults) = (&record[..0x38], u64::from_le_bytes(record[0x38..].try_into().expect("eight bytes")));
    let rest = |from: usize| value[from..].iter().all(|b| *b == UNTOUCHED);
    match (&probe.sees, faults) {
        (_, 1) if rest(0) => Seen::Refused,
        (Sees::Bytes(bytes), 0) if value.starts_with(bytes) && rest(bytes.len()) => Seen::Guest,
        (Sees::Time, 0) if rest(8) && time(value).checked_sub(start).is_some_and(|d| d < LIFETIME) => Seen::Guest,
        _ => Seen::Else,
    }
}

/// Runs the guest; one verdict a probe.
fn run(backend: &dyn Backend, cpl: u8, cr4: u64) -> Result<Vec<Seen>, BackendError> {
    let probes = probes(cpl);
    let partition = backend.create_partition()?;
    let memory = MmapRegion::new(MEMORY).expect("memory for the guest");
    let memory = Arc::new(GuestRegionMmap::new(memory, GuestAddress(0)).expect("it does not wrap around"));
    for (address, bytes) in image(&probes) {
        memory.write_slice(&bytes, MemoryRegionAddress(address)).expect("the image fits");
    }
    partition.add_memory(MemorySlot { region: Arc::clone(&memory), read_only: false, track_dirty: false })?;
    let mut vcpu = partition.create_vcpu(0, &cpuid(&backend.capabilities().cpuid))?;
    let state = state(&vcpu.state()?, cpl, cr4 | CR4_PAE);
    let mut timed = state.clone();
    timed.msrs.retain(|msr| msr.index != IA32_TSC);
    timed.msrs.insert(0, Msr { index: IA32_TSC, value: TSC });
    let start = match vcpu.set_state(&timed) {
        Err(VcpuError::MsrRefused { index: IA32_TSC, .. }) => {
            vcpu.set_state(&state)?;
            0
        }
        set => set.map(|()| TSC)?,
    };
    let mut bell = Doorbell(vcpu.kicker(), false);
    let exit = vcpu.run(&mut bell)?;
    assert!(
        bell.1 && exit == VcpuExit::Kicked,
        "{} CPL {cpl}: {exit:?} at {:?}",
        backend.name(),
        vcpu.state()?.registers
    );
    let mut results = vec![0; RECORD * probes.len()];
    memory.read_slice(&mut results, MemoryRegionAddress(RESULTS)).expect("the results are there");
    if std::env::var_os("BULLA_SHOW").is_some() {
        for (probe, record) in probes.iter().zip(results.chunks_exact(RECORD)) {
            println!("{} CPL {cpl} CR4 {cr4:#x} {}: {record:02x?}", backend.name(), probe.name);
        }
    }
    Ok(probes.iter().zip(results.chunks_exact(RECORD)).map(|(p, r)| judge(p, r, start)).collect())
}

/// Rings and CR4 bits of the table's columns.
const COLUMNS: [(u8, u64); 4] = [(0, 0), (3, 0), (0, CR4_UMIP | CR4_TSD), (3, CR4_UMIP | CR4_TSD)];

/// All columns of a backend.
fn columns(backend: &dyn Backend) -> Vec<Vec<Seen>> {
    let column = |(cpl, cr4)| run(backend, cpl, cr4).unwrap_or_else(|e| panic!("{}: {e}", backend.name()));
    COLUMNS.into_iter().map(column).collect()
}

/// What the architecture says.
fn architecture() -> Vec<Vec<Seen>> {
    let cell = |cpl, cr4: u64, p: &Question| if cpl == 3 && cr4 & p.guard != 0 { Seen::Refused } else { Seen::Guest };
    COLUMNS.into_iter().map(|(cpl, cr4)| probes(cpl).iter().map(|p| cell(cpl, cr4, p)).collect()).collect()
}

fn rows(columns: &[Vec<Seen>]) -> String {
    let mut text = String::from(
        "| instruction | CPL 0 | CPL 3 | CPL 0, UMIP and TSD | CPL 3, UMIP and TSD |\n|---|---|---|---|---|\n",
    );
    for (n, probe) in probes(0).iter().enumerate() {
        write!(text, "| {} |", probe.name).expect("writing to a String");
        for column in columns {
            write!(text, " {} |", column[n]).expect("writing to a String");
        }
        text.push('\n');
    }
    text
}

/// Where the table is.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/invisible-monitor.md");

/// Above this line nothing depends on the machine that wrote the page.
const MACHINE: &str = "## KVM on the machine that wrote this page\n";

/// The page's first part: the same wherever it is written.
fn page(soft: &[Vec<Seen>]) -> String {
    format!(
        "# Does the guest see the monitor?\n\n\
         Written by `tests/tests/invisible.rs` (`BULLA_WRITE_DOCS=1`), which runs a guest that executes the instructions below\n\
         at CPL 0 and CPL 3. \u{201C}guest's\u{201D}: the value that the guest's own registers imply and that no host has (its tables'\n\
         addresses and limits, its selectors, a CR0 without NE and WP, IF clear, a TSC that began at 2^56 or, with the VM, at 0,\n\
         a vendor and a model that do not exist). \u{201C}#GP\u{201D}: refused as CR4.UMIP and CR4.TSD ask for, and nothing stored.\n\n\
         ## Software CPU\n\nAs the architecture has it, in every cell (the test fails otherwise).\n\n{}\n",
        rows(soft)
    )
}

/// What a KVM that de-privileges guest kernels cannot hide: its guests' user code runs on the bare processor, where these
/// neither trap nor can be made to.
const DE_PRIVILEGED_SHOWS: &[&str] = &["PUSHF", "POPF", "RDTSC", "CPUID 0 (vendor)", "CPUID 1 (family, model)"];

fn kvm_part(kind: Kind, seen: &[Vec<Seen>]) -> String {
    let mut text = format!("{MACHINE}\nThis KVM is {kind}.");
    if kind == Kind::DePrivileged {
        text.push_str(
            " What is no secret on bare metal stays none there: at CPL 3 PUSHF shows\nthe host's interrupt flag, RDTSC the \
             host's counter, CPUID the host's processor. `--accel soft` hides all three. With VT-x or\nSVM behind it the test \
             demands what it demands of the software CPU.",
        );
    }
    write!(text, "\n\n{}", rows(seen)).expect("writing to a String");
    text
}

#[test]
fn the_software_cpu_shows_the_guest_only_what_is_the_guests() {
    let soft = columns(&SoftBackend::new(Pace::Host));
    assert_eq!(soft, architecture(), "\n{}", rows(&soft));
    let path = Path::new(PAGE);
    if std::env::var_os("BULLA_WRITE_DOCS").is_some() {
        let kvm = KvmBackend::open().ok().map(|kvm| kvm_part(Probe::take().kind, &columns(&kvm)));
        let parts = [page(&soft), kvm.unwrap_or_default()].concat();
        std::fs::write(path, parts).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).expect("the page is in the tree");
    let general = written.split(MACHINE).next().unwrap_or_default();
    assert_eq!(general, page(&soft), "write it anew: BULLA_WRITE_DOCS=1");
}

#[test]
fn kvm_shows_the_guest_only_what_is_the_guests() {
    if !bulla_tests::kvm_or_skip("kvm_shows_the_guest_only_what_is_the_guests") {
        return;
    }
    let seen = columns(&KvmBackend::open().expect("/dev/kvm is there"));
    let de_privileged = Probe::take().kind == Kind::DePrivileged;
    for ((column, wanted), (cpl, _)) in seen.iter().zip(architecture()).zip(COLUMNS) {
        for ((probe, cell), wanted) in probes(cpl).iter().zip(column).zip(wanted) {
            let bare = de_privileged && (cpl == 3 || probe.name == "RDTSC");
            let known = bare && DE_PRIVILEGED_SHOWS.contains(&probe.name);
            assert!(known || *cell == wanted, "{} at CPL {cpl}: {cell}\n{}", probe.name, rows(&seen));
        }
    }
}
