//! `bulla_cpu`, set up as Linux sets up a processor for a program: 64-bit mode at privilege level 3, the same pages, the
//! same selectors. Exceptions go through its IDT to stubs that tell a port their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulla_cpu::core::{Seg, Table};
use bulla_cpu::insn::{reg, seg};
use bulla_cpu::mem::{AddressSpace, Map, OwnedMemory, Slot};
use bulla_cpu::state::State;
use bulla_cpu::x87::{F80, Fpu};
use bulla_cpu::{Bus, Clock, Config, Cpu, Exit, Handle};

use crate::case::{self, Case, Event, Outcome, Registers};
use crate::layout;

// Guest-physical addresses.
const PML4: u64 = 0x1000;
const LOW_PDPT: u64 = 0x2000;
const LOW_PD: u64 = 0x3000;
const LOW_PT: u64 = 0x4000;
const HIGH_PDPT: u64 = 0x5000;
const HIGH_PD: u64 = 0x6000;
const HIGH_PT: u64 = 0x7000;
const GDT: u64 = 0x8000;
const IDT: u64 = 0x9000;
const TSS: u64 = 0xA000;
const STUBS: u64 = 0xB000;
const LOADER: u64 = 0xB800;
const STACK_TOP: u64 = 0xD000;
const STAGING: u64 = 0xD000;
const SYSTEM_PAGES: u64 = 16;
const IMAGE: u64 = SYSTEM_PAGES * layout::PAGE;

/// Where the first pages of physical memory lie for the supervisor.
const HIGH: u64 = 0xFFFF_8000_0000_0000;

// Selectors, as Linux has them.
const KERNEL_CS: u16 = 0x10;
const KERNEL_SS: u16 = 0x18;
const USER_SS: u16 = 0x2B;
const USER_CS: u16 = 0x33;

/// Port of the loader; the others are vectors.
const LOADED: u16 = 0xFF;
/// No case takes as many instructions.
const LIMIT: u64 = 100_000;

/// Clears the code of the last case, copies that of the next, says so.
const LOADER_CODE: [u8; 14] = [
    0xF3, 0xAA, // rep stosb
    0x48, 0x89, 0xD7, // mov rdi, rdx
    0x4C, 0x89, 0xC1, // mov rcx, r8
    0xF3, 0xA4, // rep movsb
    0xE6, 0xFF, // out 0xFF, al
    0xEB, 0xFC, // again
];

/// Stops the processor at an OUT, and keeps the port's number.
struct Ports {
    handle: Arc<Handle>,
    port: Option<u16>,
}

impl Bus for Ports {
    fn pio_read(&mut self, _: u16, _: &mut [u8]) {}
    fn pio_write(&mut self, port: u16, _: &[u8]) {
        self.port = Some(port);
        self.handle.kick();
    }
    fn mmio_read(&mut self, _: u64, _: &mut [u8]) {}
    fn mmio_write(&mut self, _: u64, _: &[u8]) {}
    fn end_of_interrupt(&mut self, _: u8) {}
}

/// A software processor.
pub struct Soft {
    cpu: Cpu,
    ports: Ports,
    map: Arc<Map>,
    dirty: Arc<[AtomicU64]>,
    system: State,
    /// The image as the processor's memory has it, without a case's code.
    image: Vec<u8>,
    memory: u64,
    /// Code to be cleared: where in the image, and how many bytes.
    old: (usize, usize),
}

impl Default for Soft {
    fn default() -> Self {
        Self::new()
    }
}

impl Soft {
    /// A processor with the memory of [`layout`].
    pub fn new() -> Self {
        let space = Arc::new(AddressSpace::default());
        let dirty: Arc<[AtomicU64]> = Arc::new([AtomicU64::new(0)]);
        let system = Slot::new(0, Arc::new(OwnedMemory::new(SYSTEM_PAGES as usize)));
        let pages = layout::IMAGE_SIZE / layout::PAGE as usize;
        let image = Slot { dirty: Some(Arc::clone(&dirty)), ..Slot::new(IMAGE, Arc::new(OwnedMemory::new(pages))) };
        for slot in [system, image] {
            // Fixed places that do not overlap.
            let added = space.add(slot);
            debug_assert!(added.is_ok());
        }
        let clock = Clock::Instructions { wall: 0 };
        let config = Config { cpuid: bulla_cpu::cpuid::table(), processors: 1, clock, seed: Some(0) };
        let map = Arc::clone(space.enter().map());
        let cpu = Cpu::new(space, &config);
        tables(&map);
        let ports = Ports { handle: cpu.handle(), port: None };
        let reset = cpu.core(0).map(bulla_cpu::core::Core::state).unwrap_or_default();
        let mut soft = Self {
            cpu,
            ports,
            map,
            dirty,
            system: system_state(reset),
            image: vec![0; layout::IMAGE_SIZE],
            memory: 0,
            old: (0, 0),
        };
        soft.fill(0);
        soft
    }

    /// Makes all memory that of number `memory`.
    fn fill(&mut self, memory: u64) {
        case::image_into(memory, &mut self.image);
        self.memory = memory;
        for (n, word) in self.image.chunks_exact(8).enumerate() {
            let _ = self.map.write(IMAGE + 8 * n as u64, u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
    }

    /// Runs one case.
    pub fn run(&mut self, case: &Case) -> Outcome {
        if case.memory != self.memory {
            self.fill(case.memory);
        }
        let placed = self.load(case);
        self.dirty[0].store(0, Ordering::Relaxed);
        let start = self.user_state(&case.start);
        let broken = |why: &str| {
            let mut outcome = Outcome::died(case);
            outcome.event = Event::Broken;
            if cfg!(test) {
                eprintln!("{why}");
            }
            outcome
        };
        let Some(core) = self.cpu.core_mut(0) else { return broken("no processor") };
        if core.set_state(&start).is_err() {
            return broken("the state is refused");
        }
        self.ports.port = None;
        let exit = self.cpu.run_for(&mut self.ports, LIMIT);
        let vector = match (exit, self.ports.port) {
            (Some(Exit::Kicked), Some(port)) => port as u8,
            (None, _) => {
                self.after(case, &placed);
                return Outcome { event: Event::Hang, ..broken("no end") };
            }
            _ => {
                self.after(case, &placed);
                return broken("shut down");
            }
        };
        let mut outcome = self.outcome(vector);
        outcome.changes = self.after(case, &placed);
        outcome
    }

    /// Has the processor itself write the case's code. Returns where it is: place in the image, and length.
    fn load(&mut self, case: &Case) -> Option<(usize, usize)> {
        let at = layout::offset(case.start.rip).filter(|at| *at < layout::DATA_OFFSET)?;
        let length = case.code.len().min(layout::DATA_OFFSET - at);
        for (n, chunk) in case.code[..length].chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let _ = self.map.write(STAGING + 8 * n as u64, u64::from_le_bytes(word));
        }
        let mut state = self.system.clone();
        state.rip = HIGH + LOADER;
        state.regs[reg::RAX] = 0xCC;
        state.regs[reg::RDI] = HIGH + IMAGE + self.old.0 as u64;
        state.regs[reg::RCX] = self.old.1 as u64;
        state.regs[reg::RSI] = HIGH + STAGING;
        state.regs[reg::RDX] = HIGH + IMAGE + at as u64;
        state.regs[8] = length as u64;
        self.ports.port = None;
        let loaded = self.cpu.core_mut(0)?.set_state(&state).is_ok()
            && self.cpu.run_for(&mut self.ports, LIMIT) == Some(Exit::Kicked)
            && self.ports.port == Some(LOADED);
        debug_assert!(loaded, "the loader does not run");
        self.old = (at, length);
        Some((at, length))
    }

    /// What the stub's stack frame and the registers say.
    fn outcome(&self, vector: u8) -> Outcome {
        let mut end = Registers::default();
        let Some(core) = self.cpu.core(0) else {
            return Outcome { event: Event::Broken, end, selectors: [0; 6], changes: Vec::new() };
        };
        let frame = core.regs[reg::RSP].wrapping_sub(HIGH);
        let has_error = matches!(vector, 8 | 10..=14 | 17 | 21);
        let word = |n: u64| self.map.read::<u64>(frame + 8 * n).unwrap_or(!0);
        let first = u64::from(has_error);
        let error = if has_error { word(0) as u32 } else { 0 };
        end.gpr.copy_from_slice(&core.regs[..16]);
        end.rip = word(first);
        let cs = word(first + 1) as u16;
        end.rflags = word(first + 2);
        end.gpr[reg::RSP] = word(first + 3);
        let ss = word(first + 4) as u16;
        end.fs_base = core.seg[seg::FS].base;
        end.gs_base = core.seg[seg::GS].base;
        write_fx(&mut end, &core.fpu, &core.xmm, core.mxcsr);
        let address = if vector == 14 { core.cr2 } else { 0 };
        let mut event = Event::Exception { vector, error, address };
        // A fetch, by a program, of a page that is not there.
        if event == (Event::Exception { vector: 14, error: 0x14, address: layout::THROUGH }) {
            event = Event::Through;
            end.rflags &= !(1 << 16);
        }
        end.normalize();
        let [es, ds, fs, gs] = [seg::ES, seg::DS, seg::FS, seg::GS].map(|n| core.seg[n].selector);
        Outcome { event, end, selectors: [es, cs, ss, ds, fs, gs], changes: Vec::new() }
    }

    /// Collects what changed in memory, and undoes it.
    fn after(&mut self, case: &Case, placed: &Option<(usize, usize)>) -> Vec<(u32, u64)> {
        let mut changes = Vec::new();
        case::place(case.start.rip, &case.code, &mut self.image);
        let dirty = self.dirty[0].swap(0, Ordering::Relaxed);
        for page in (0..layout::IMAGE_SIZE / 4096).filter(|page| dirty >> page & 1 != 0) {
            for at in (4096 * page..4096 * (page + 1)).step_by(8) {
                let now = self.map.read::<u64>(IMAGE + at as u64).unwrap_or(0);
                let before = u64::from_le_bytes(self.image[at..at + 8].try_into().unwrap_or_default());
                if now != before {
                    changes.push((at as u32, now));
                }
            }
        }
        for (at, _) in changes.iter().filter(|(at, _)| *at as usize >= layout::DATA_OFFSET) {
            let at = *at as usize;
            let before = u64::from_le_bytes(self.image[at..at + 8].try_into().unwrap_or_default());
            let _ = self.map.write(IMAGE + at as u64, before);
        }
        case::unplace(case.start.rip, &case.code, &mut self.image);
        // Code goes by way of the processor, so that it notices.
        let (mut first, mut end) = placed.map_or((0, 0), |(at, length)| (at, at + length));
        for (at, _) in changes.iter().filter(|(at, _)| (*at as usize) < layout::DATA_OFFSET) {
            first = first.min(*at as usize);
            end = end.max(*at as usize + 8);
        }
        self.old = (first, end - first);
        changes
    }

    fn user_state(&self, start: &Registers) -> State {
        let mut state = self.system.clone();
        state.regs = start.gpr;
        state.rip = start.rip;
        state.rflags = start.rflags;
        // Access rights: present, DPL 3; L and G, or D and G.
        state.seg[seg::CS] = Seg { selector: USER_CS, base: 0, limit: u32::MAX, access: 0xA0FB };
        state.seg[seg::SS] = Seg { selector: USER_SS, base: 0, limit: u32::MAX, access: 0xC0F3 };
        state.seg[seg::FS].base = start.fs_base;
        state.seg[seg::GS].base = start.gs_base;
        for (n, xmm) in state.xmm.iter_mut().enumerate() {
            *xmm = start.xmm(n);
        }
        state.mxcsr = start.mxcsr();
        state.fpu = fpu(start);
        state
    }
}

fn fpu(start: &Registers) -> Fpu {
    let mut fpu = Fpu::new();
    fpu.set_control(start.fcw());
    fpu.set_status(start.fsw());
    fpu.set_abridged_tags(start.ftw());
    for n in 0..8 {
        let bytes = start.st(n).to_le_bytes();
        fpu.set_raw(n as u8, F80::from_bytes(bytes[..10].try_into().unwrap_or_default()));
    }
    fpu
}

fn write_fx(to: &mut Registers, fpu: &Fpu, xmm: &[u128; 16], mxcsr: u32) {
    let fx = &mut to.fx;
    fx[..2].copy_from_slice(&fpu.control().to_le_bytes());
    fx[2..4].copy_from_slice(&fpu.status().to_le_bytes());
    fx[4] = fpu.abridged_tags();
    fx[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    for n in 0..8 {
        fx[32 + 16 * n..42 + 16 * n].copy_from_slice(&fpu.raw(n as u8).to_bytes());
    }
    for (n, xmm) in xmm.iter().enumerate() {
        fx[160 + 16 * n..176 + 16 * n].copy_from_slice(&xmm.to_le_bytes());
    }
}

/// Page tables, descriptor tables, stubs (SDM vol. 3A, §4.5.4, §3.4.5, §6.14.1, §8.7).
fn tables(map: &Map) {
    const PRESENT: u64 = 1;
    const WRITE: u64 = 2;
    const USER: u64 = 4;
    const NX: u64 = 1 << 63;
    let put = |gpa: u64, value: u64| {
        let written = map.write(gpa, value);
        debug_assert!(written.is_some());
    };
    let all = PRESENT | WRITE | USER;
    put(PML4, LOW_PDPT | all);
    put(PML4 + 8 * 256, HIGH_PDPT | all);
    put(LOW_PDPT, LOW_PD | all);
    put(LOW_PD + 8 * (layout::CODE >> 21), LOW_PT | all);
    put(HIGH_PDPT, HIGH_PD | all);
    put(HIGH_PD, HIGH_PT | all);
    for page in 0..SYSTEM_PAGES + layout::IMAGE_SIZE as u64 / layout::PAGE {
        put(HIGH_PT + 8 * page, (page * layout::PAGE) | PRESENT | WRITE);
    }
    for offset in (0..layout::IMAGE_SIZE).step_by(4096) {
        let rights = match offset {
            0..layout::DATA_OFFSET => all,
            layout::DATA_OFFSET..layout::READ_ONLY_OFFSET => all | NX,
            _ => PRESENT | USER | NX,
        };
        let page = layout::address(offset) >> 12 & 511;
        put(LOW_PT + 8 * page, (IMAGE + offset as u64) | rights);
    }
    // Kernel code and data, user data and code, the TSS.
    for (n, descriptor) in [
        (2, 0x00AF_9B00_0000_FFFF),
        (3, 0x00CF_9300_0000_FFFF),
        (4, 0x00CF_FB00_0000_FFFF),
        (5, 0x00CF_F300_0000_FFFF),
        (6, 0x00AF_FB00_0000_FFFF),
    ] {
        put(GDT + 8 * n, descriptor);
    }
    for vector in 0..256 {
        let target = HIGH + STUBS + 4 * vector;
        let dpl = if vector == 3 || vector == 4 { 3 } else { 0 };
        let low =
            target & 0xFFFF | u64::from(KERNEL_CS) << 16 | (0x8E00 | dpl << 13) << 32 | (target >> 16 & 0xFFFF) << 48;
        put(IDT + 16 * vector, low);
        put(IDT + 16 * vector + 8, target >> 32);
        // out vector, al; jmp back
        let _ = map.write(STUBS + 4 * vector, 0xFCEB_00E6 | (vector as u32) << 8);
    }
    put(TSS + 4, HIGH + STACK_TOP);
    // No I/O bitmap.
    let _ = map.write(TSS + 0x66, 0x68u16);
    for (n, byte) in LOADER_CODE.iter().enumerate() {
        let _ = map.write(LOADER + n as u64, *byte);
    }
}

/// The supervisor's state.
fn system_state(reset: State) -> State {
    // PE MP ET NE WP AM PG; PAE PGE OSFXSR OSXMMEXCPT UMIP FSGSBASE OSXSAVE SMEP SMAP; LME LMA NXE SCE.
    let unusable = Seg { selector: 0, base: 0, limit: 0, access: Seg::UNUSABLE };
    let mut state = State {
        rflags: 2,
        cr0: 0x8005_0033,
        cr3: PML4,
        cr4: 0x35_0EA0,
        efer: 0xD01,
        gdtr: Table { base: HIGH + GDT, limit: 0x7F },
        idtr: Table { base: HIGH + IDT, limit: 0xFFF },
        tr: Seg { selector: 0x40, base: HIGH + TSS, limit: 0x67, access: 0x8B },
        ldtr: unusable,
        ..reset
    };
    state.seg = [unusable; 6];
    state.seg[seg::CS] = Seg { selector: KERNEL_CS, base: 0, limit: u32::MAX, access: 0xA09B };
    state.seg[seg::SS] = Seg { selector: KERNEL_SS, base: 0, limit: u32::MAX, access: 0xC093 };
    state.regs[reg::RSP] = HIGH + STACK_TOP;
    state
}
