//! A machine of one software processor and some memory, in any mode, with tables that work: what tests, the fuzz target
//! and the benchmark start from.
#![allow(dead_code, reason = "not everyone who includes this file needs all of it")]

use std::sync::Arc;

use bulla_cpu::core::{Seg, Table};
use bulla_cpu::insn::{reg, seg};
use bulla_cpu::mem::{AddressSpace, Map, OwnedMemory, Slot};
use bulla_cpu::state::State;
use bulla_cpu::{Bus, Clock, Config, Cpu, Exit, Handle};

/// Page tables: PML4, PDPT, PD, PT, and the PDPT or page directory of the other modes.
pub(crate) const TABLES: [u64; 5] = [0x1000, 0x2000, 0x3000, 0x4000, 0x5000];
/// Page table of the first 2 MiB in 64-bit and PAE modes.
pub(crate) const PT: u64 = TABLES[3];
/// Global descriptor table.
pub(crate) const GDT: u64 = 0x6000;
/// Interrupt descriptor table.
pub(crate) const IDT: u64 = 0x7000;
/// Where code starts.
pub(crate) const CODE: u64 = 0x8000;
/// Task state segment.
pub(crate) const TSS: u64 = 0xA000;
/// Handler of every exception: returns from it.
pub(crate) const HANDLER: u64 = 0xB000;
/// Stack of privilege level 0.
pub(crate) const STACK: u64 = 0xF000;
/// Stack of privilege level 3.
pub(crate) const USER_STACK: u64 = 0xE000;
/// Where 64-bit and PAE modes see the local APIC.
pub(crate) const APIC: u64 = 0x3FE0_0000;

/// Modes to start in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Real-address mode.
    Real,
    /// Protected mode, 32 bits, without paging.
    Flat,
    /// With paging of 32-bit entries.
    Paged,
    /// With paging of 64-bit entries.
    Pae,
    /// 64-bit mode, privilege level 0.
    Long,
    /// 64-bit mode, privilege level 3.
    User,
}

/// Every mode.
pub(crate) const MODES: [Mode; 6] = [Mode::Real, Mode::Flat, Mode::Paged, Mode::Pae, Mode::Long, Mode::User];

/// Devices: every port and address answers with a count; nothing ever sleeps, because something is always due.
pub(crate) struct Devices {
    handle: Arc<Handle>,
    count: u64,
    looks: u64,
    most_looks: u64,
    now: u64,
    /// What was written to ports.
    pub(crate) written: Vec<(u16, u8)>,
}

impl Bus for Devices {
    fn pio_read(&mut self, port: u16, data: &mut [u8]) {
        self.count += u64::from(port);
        data.fill(self.count as u8);
    }
    fn pio_write(&mut self, port: u16, data: &[u8]) {
        if self.written.len() < 4096 {
            self.written.push((port, data[0]));
        }
    }
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        self.count += gpa;
        data.fill(self.count as u8);
    }
    fn mmio_write(&mut self, _: u64, _: &[u8]) {}
    fn end_of_interrupt(&mut self, _: u8) {}
    fn next_deadline(&mut self) -> Option<u64> {
        Some(self.now + 1_000_000)
    }
    fn advance(&mut self, now: u64) {
        self.now = now;
        self.looks += 1;
        // A guest that only waits must not keep the test.
        if self.looks > self.most_looks {
            self.looks = 0;
            self.handle.kick();
        }
    }
}

/// See the module.
pub(crate) struct Machine {
    /// The processor.
    pub(crate) cpu: Cpu,
    /// Its memory.
    pub(crate) map: Arc<Map>,
    /// Its devices.
    pub(crate) devices: Devices,
}

impl Machine {
    /// A machine with this many pages of zeros but for the tables, at [`CODE`] in `mode`.
    pub(crate) fn new(pages: usize, mode: Mode) -> Self {
        let space = Arc::new(AddressSpace::default());
        space.add(Slot::new(0, Arc::new(OwnedMemory::new(pages.max(16))))).expect("one slot");
        let clock = Clock::Instructions { wall: 0 };
        let config = Config { cpuid: bulla_cpu::cpuid::table(), processors: 1, clock, seed: Some(1) };
        let map = Arc::clone(space.enter().map());
        let cpu = Cpu::new(space, &config);
        let handle = cpu.handle();
        let devices = Devices { handle, count: 0, looks: 0, most_looks: 1 << 20, now: 0, written: Vec::new() };
        let mut machine = Self { cpu, map, devices };
        machine.tables(pages as u64, mode);
        let mut state = machine.state();
        enter(&mut state, mode);
        machine.set_state(&state);
        machine
    }

    /// The state.
    pub(crate) fn state(&self) -> State {
        self.cpu.core(0).expect("a processor").state()
    }

    /// Sets the state.
    pub(crate) fn set_state(&mut self, state: &State) {
        self.cpu.core_mut(0).expect("a processor").set_state(state).expect("a possible state");
    }

    /// Changes the state.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.set_state(&state);
    }

    /// Writes memory, as far as there is some. Before code there has run.
    pub(crate) fn write(&mut self, gpa: u64, bytes: &[u8]) {
        for (n, byte) in (0u64..).zip(bytes) {
            let _ = self.map.write(gpa.wrapping_add(n), *byte);
        }
    }

    /// Writes a word of a table.
    pub(crate) fn put(&mut self, gpa: u64, value: u64) {
        let _ = self.map.write(gpa, value);
    }

    /// Runs `most` instructions or a few more. A guest that only waits is kicked after `looks` looks at the devices.
    pub(crate) fn run(&mut self, most: u64, looks: u64) -> Option<Exit> {
        self.devices.looks = 0;
        self.devices.most_looks = looks;
        self.cpu.run_for(&mut self.devices, most)
    }

    fn tables(&mut self, pages: u64, mode: Mode) {
        let [pml4, pdpt, pd, pt, other] = TABLES;
        const ALL: u64 = 7;
        const LARGE: u64 = 0x80;
        self.put(pml4, pdpt | ALL);
        self.put(pdpt, pd | ALL);
        self.put(pd, pt | ALL);
        for n in 1..pages.div_ceil(512).min(511) {
            self.put(pd + 8 * n, n << 21 | ALL | LARGE);
        }
        self.put(pd + 8 * 511, 0xFEE0_0000 | ALL | LARGE);
        for n in 0..512 {
            self.put(pt + 8 * n, n << 12 | ALL);
        }
        if mode == Mode::Paged {
            for n in 0..1024 {
                let _ = self.map.write(other + 4 * n, (n << 22) as u32 | (ALL | LARGE) as u32);
            }
        } else {
            self.put(other, pd | 1);
        }
        // 8: code, 0x10: data, 0x18: user data, 0x20: user code, 0x28: TSS.
        let long = matches!(mode, Mode::Long | Mode::User);
        let (code, user) = if long { (0x00AF_9B00, 0x00AF_FB00) } else { (0x00CF_9B00, 0x00CF_FB00) };
        for (n, high) in [(1, code), (2, 0x00CF_9300), (3, 0x00CF_F300), (4, user)] {
            self.put(GDT + 8 * n, high << 32 | 0xFFFF);
        }
        for vector in 0..256u64 {
            let gate = HANDLER & 0xFFFF | 8 << 16 | 0x8E00 << 32;
            match mode {
                Mode::Real => {
                    let _ = self.map.write(4 * vector, HANDLER as u32);
                }
                Mode::Long | Mode::User => {
                    self.put(IDT + 16 * vector, gate);
                    self.put(IDT + 16 * vector + 8, 0);
                }
                _ => self.put(IDT + 8 * vector, gate),
            }
        }
        self.put(TSS + 4, if long { STACK } else { STACK | 0x10 << 32 });
        self.write(TSS + 0x66, &[0x68, 0]);
        self.write(HANDLER, if long { &[0x48, 0xCF] } else { &[0xCF] });
    }
}

/// Makes a state that of `mode`, at [`CODE`].
pub(crate) fn enter(state: &mut State, mode: Mode) {
    state.rip = CODE;
    state.rflags = 2;
    state.regs[reg::RSP] = STACK;
    if mode == Mode::Real {
        state.seg[seg::CS] = Seg::real(0, 0x9B);
        state.idtr = Table { base: 0, limit: 0x3FF };
        return;
    }
    let [pml4, .., other] = TABLES;
    let data = Seg { selector: 0x10, base: 0, limit: u32::MAX, access: 0xC093 };
    state.seg = [data; 6];
    state.seg[seg::CS] = Seg { selector: 8, access: 0xC09B, ..data };
    state.gdtr = Table { base: GDT, limit: 0x2F };
    state.idtr = Table { base: IDT, limit: 0xFFF };
    state.tr = Seg { selector: 0x28, base: TSS, limit: 0x67, access: 0x8B };
    state.ldtr = Seg { access: Seg::UNUSABLE, ..Seg::default() };
    // PE MP ET NE WP AM; OSFXSR OSXMMEXCPT OSXSAVE.
    (state.cr0, state.cr4) = (0x5_0033, 0x4_0600);
    const PAGING: u64 = 1 << 31;
    match mode {
        Mode::Real | Mode::Flat => {}
        Mode::Paged => {
            state.cr4 |= 0x10;
            state.cr3 = other;
            state.cr0 |= PAGING;
        }
        Mode::Pae => {
            state.cr4 |= 0x20;
            state.cr3 = other;
            state.cr0 |= PAGING;
        }
        Mode::Long | Mode::User => {
            state.cr4 |= 0x1_00A0;
            state.cr3 = pml4;
            state.cr0 |= PAGING;
            state.efer = 0xD01;
            state.seg[seg::CS].access = 0xA09B;
        }
    }
    if mode == Mode::User {
        state.seg[seg::CS] = Seg { selector: 0x23, access: 0xA0FB, ..data };
        state.seg[seg::SS] = Seg { selector: 0x1B, access: 0xC0F3, ..data };
        state.regs[reg::RSP] = USER_STACK;
    }
}
