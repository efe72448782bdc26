//! Guest bytes through the whole processor: a machine with tables, stacks and a handler for every vector that halts.

mod delivery;
mod far;
mod hostile;
mod plain;
mod privileged;
mod segments;
mod task;

use std::sync::Arc;

use crate::core::{Core, Seg, Table, cr};
use crate::cpu::{Bus, Config, Cpu, Exit, Handle};
use crate::flags::bits as fl;
use crate::insn::{reg, seg};
use crate::mem::{AddressSpace, OwnedMemory, Plain, Slot};
use crate::time::Clock;

const GDT: u64 = 0x1000;
const IDT: u64 = 0x2000;
const TSS: u64 = 0x3000;
const LDT: u64 = 0x6000;
const CODE: u64 = 0x1_0000;
const STACK: u64 = 0x2_0000;
const USER_STACK: u64 = 0x2_2000;
const IST1: u64 = 0x2_4000;
const RSP0: u64 = 0x2_6000;
/// Handler `n` is at this plus 16 · n.
const HANDLERS: u64 = 0x3_0000;
const DATA: u64 = 0x4_0000;
/// A page that is not mapped.
const HOLE: u64 = 0x5_0000;
/// A page that only the kernel may use.
const KERNEL: u64 = 0x5_1000;

const CODE64: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
const CODE32: u16 = 0x18;
const USER32: u16 = 0x23;
const USER_DATA: u16 = 0x2B;
const USER64: u16 = 0x33;
const TSS_SELECTOR: u16 = 0x38;
const ABSENT_DATA: u16 = 0x48;
const READ_ONLY: u16 = 0x50;
const EXECUTE_ONLY: u16 = 0x58;
const CONFORMING32: u16 = 0x60;
const CONFORMING64: u16 = 0x68;
const LDT_SELECTOR: u16 = 0x70;
const GATE: u16 = 0x80;
const ABSENT_CODE: u16 = 0x90;
const CODE16: u16 = 0x98;
const DATA16: u16 = 0xA0;
const ABSENT_USER_DATA: u16 = 0xAB;
const DESCRIPTORS: [(u16, u64); 16] = [
    (CODE64, 0x00AF_9B00_0000_FFFF),
    (KERNEL_DATA, 0x00CF_9300_0000_FFFF),
    (CODE32, 0x00CF_9B00_0000_FFFF),
    (USER32, 0x00CF_FB00_0000_FFFF),
    (USER_DATA, 0x00CF_F300_0000_FFFF),
    (USER64, 0x00AF_FB00_0000_FFFF),
    (TSS_SELECTOR, 0x0000_8900_3000_2088),
    (ABSENT_DATA, 0x00CF_1300_0000_FFFF),
    (READ_ONLY, 0x00CF_9100_0000_FFFF),
    (EXECUTE_ONLY, 0x00CF_9900_0000_FFFF),
    (CONFORMING32, 0x00CF_9F00_0000_FFFF),
    (CONFORMING64, 0x00AF_9F00_0000_FFFF),
    (LDT_SELECTOR, 0x0000_8200_6000_001F),
    (ABSENT_CODE, 0x00AF_1B00_0000_FFFF),
    (CODE16, 0x0000_9B00_0000_FFFF),
    (DATA16, 0x0000_9300_0000_FFFF),
];

/// Ports that remember.
#[derive(Default)]
struct Ports {
    written: Vec<(u16, Vec<u8>)>,
    next: u8,
    handle: Option<Arc<Handle>>,
}

impl Bus for Ports {
    fn pio_read(&mut self, _: u16, data: &mut [u8]) {
        for byte in data {
            self.next += 1;
            *byte = self.next;
        }
    }
    fn pio_write(&mut self, port: u16, data: &[u8]) {
        self.written.push((port, data.to_vec()));
    }
    fn mmio_read(&mut self, _: u64, data: &mut [u8]) {
        self.pio_read(0, data);
    }
    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        self.pio_write(gpa as u16, data);
    }
    fn end_of_interrupt(&mut self, _: u8) {}
    fn next_deadline(&mut self) -> Option<u64> {
        // Asked before the processors rest, too: then the machine has halted.
        if let Some(handle) = &self.handle {
            handle.kick();
        }
        None
    }
}

struct Machine {
    cpu: Cpu,
    ports: Ports,
}

/// What a handler found: vector, error code.
type Caught = (u8, Option<u32>);

fn gate64(target: u64, selector: u16, attributes: u64, ist: u64) -> [u64; 2] {
    let low =
        target & 0xFFFF | u64::from(selector) << 16 | ist << 32 | attributes << 40 | (target >> 16 & 0xFFFF) << 48;
    [low, target >> 32]
}

fn gate32(target: u64, selector: u16, attributes: u64) -> u64 {
    gate64(target, selector, attributes, 0)[0]
}

impl Machine {
    fn bare() -> Self {
        let space = Arc::new(AddressSpace::default());
        space.add(Slot::new(0, Arc::new(OwnedMemory::new(512)))).unwrap();
        let config = Config {
            cpuid: crate::cpuid::table(),
            processors: 1,
            clock: Clock::Instructions { wall: 0 },
            seed: Some(1),
        };
        let cpu = Cpu::new(space, &config);
        let ports = Ports { handle: Some(cpu.handle()), ..Ports::default() };
        let mut m = Self { cpu, ports };
        for n in 0..256 {
            m.put(HANDLERS + 16 * n, 0xF4_u8);
        }
        for (selector, raw) in DESCRIPTORS {
            m.put(GDT + u64::from(selector & !7), raw);
        }
        m.put(GDT + u64::from(ABSENT_USER_DATA & !7), 0x00CF_7300_0000_FFFF_u64);
        m.core().regs[reg::RIP] = CODE;
        m.core().regs[reg::RSP] = STACK;
        m
    }

    /// 64-bit mode, level 0.
    fn long() -> Self {
        let mut m = Self::bare();
        for (at, to) in [(0x8000_u64, 0x9000_u64), (0x9000, 0xA000), (0xA000, 0xB000)] {
            m.put(at, to | 7);
        }
        for page in 0..512_u64 {
            let rights = match page << 12 {
                HOLE => 0,
                KERNEL => 3,
                _ => 7,
            };
            m.put(0xB000 + 8 * page, page << 12 | rights);
        }
        for n in 0..256_u64 {
            let [low, high] = gate64(HANDLERS + 16 * n, CODE64, if n >= 0x80 { 0xEE } else { 0x8E }, 0);
            m.put(IDT + 16 * n, low);
            m.put(IDT + 16 * n + 8, high);
        }
        m.put(TSS + 4, RSP0);
        m.put(TSS + 0x24, IST1);
        m.put(TSS + 0x66, 0x68_u16);
        for byte in 0..=0x2000 {
            m.put(TSS + 0x68 + byte, 0xFF_u8);
        }
        let core = m.core();
        core.cr0 = cr::CR0_PE | cr::CR0_PG | cr::CR0_NE | cr::CR0_ET | cr::CR0_WP;
        core.cr3 = 0x8000;
        core.cr4 = cr::CR4_PAE | cr::CR4_OSFXSR;
        core.efer = cr::EFER_LME | cr::EFER_LMA | cr::EFER_SCE | cr::EFER_NXE;
        core.gdtr = Table { base: GDT, limit: 0xFF };
        core.idtr = Table { base: IDT, limit: 0xFFF };
        core.tr = Seg { selector: TSS_SELECTOR, base: TSS, limit: 0x2088, access: 0x8B };
        m.level(0, CODE64, KERNEL_DATA);
        m
    }

    /// Flat 32-bit protected mode without paging, level 0.
    fn protected() -> Self {
        let mut m = Self::bare();
        for n in 0..256_u64 {
            m.put(IDT + 8 * n, gate32(HANDLERS + 16 * n, CODE32, if n >= 0x80 { 0xEE } else { 0x8E }));
        }
        m.put(TSS + 4, RSP0 as u32);
        m.put(TSS + 8, u32::from(KERNEL_DATA));
        m.put(TSS + 0x66, 0x68_u16);
        for byte in 0..=0x2000 {
            m.put(TSS + 0x68 + byte, 0xFF_u8);
        }
        let core = m.core();
        core.cr0 = cr::CR0_PE | cr::CR0_NE | cr::CR0_ET;
        core.gdtr = Table { base: GDT, limit: 0xFF };
        core.idtr = Table { base: IDT, limit: 0x7FF };
        core.tr = Seg { selector: TSS_SELECTOR, base: TSS, limit: 0x2088, access: 0x8B };
        m.level(0, CODE32, KERNEL_DATA);
        m
    }

    /// Real mode: code at 0x1000:0, stack at 0x2000:0, handlers at 0x3000:16·n, DS 0x4000.
    fn real() -> Self {
        let mut m = Self::bare();
        for n in 0..256_u64 {
            m.put(4 * n, 0x3000_0000_u32 | (16 * n) as u32);
        }
        let core = m.core();
        core.idtr = Table { base: 0, limit: 0x3FF };
        for (which, selector) in [(seg::CS, 0x1000), (seg::SS, 0x2000), (seg::DS, 0x4000), (seg::ES, 0x4000)] {
            core.seg[which] = Seg::real(selector, if which == seg::CS { 0x9B } else { 0x93 });
        }
        core.regs[reg::RIP] = 0;
        core.regs[reg::RSP] = 0x8000;
        core.refresh();
        m
    }

    /// Makes CS and SS (and the data segments) what these selectors name; user stacks for level 3.
    fn level(&mut self, cpl: u8, cs: u16, ss: u16) -> &mut Self {
        let code = self.core().descriptor(cs).unwrap().unwrap().segment(cs);
        let data = self.core().descriptor(ss).unwrap().unwrap().segment(ss);
        let core = self.core();
        core.seg = [data; 8];
        core.seg[seg::CS] = code;
        core.refresh();
        assert_eq!(core.cpl, cpl);
        if cpl == 3 {
            core.regs[reg::RSP] = USER_STACK;
        }
        self
    }

    fn user64(&mut self) -> &mut Self {
        self.level(3, USER64, USER_DATA)
    }

    fn user32(&mut self) -> &mut Self {
        self.level(3, USER32, USER_DATA)
    }

    fn core(&mut self) -> &mut Core {
        self.cpu.core_mut(0).unwrap()
    }

    fn put<T: Plain>(&mut self, at: u64, value: T) {
        self.core().tlb.map().write(at, value).unwrap();
    }

    fn get<T: Plain>(&mut self, at: u64) -> T {
        self.core().tlb.map().read(at).unwrap()
    }

    /// The `n`th value of `T` above the stack pointer.
    fn top<T: Plain>(&mut self, n: u64) -> T {
        let sp = self.core().seg[seg::SS].base + (self.core().regs[reg::RSP] & self.core().stack_mask);
        self.get(sp + n * T::BYTES as u64)
    }

    /// Runs `code` until something halts; panics on a triple fault.
    fn run(&mut self, code: &[u8]) {
        assert_eq!(self.try_run(code), None, "triple fault");
        assert!(self.core().halted, "still running at {:#x}", self.core().regs[reg::RIP]);
    }

    fn try_run(&mut self, code: &[u8]) -> Option<Exit> {
        let at = self.core().seg[seg::CS].base + self.core().regs[reg::RIP];
        for (at, byte) in (at..).zip(code) {
            self.put(at, *byte);
        }
        for _ in 0..64 {
            if self.core().halted {
                return None;
            }
            match self.cpu.run_for(&mut self.ports, 16) {
                None | Some(Exit::Kicked) => {}
                exit => return exit,
            }
        }
        None
    }

    /// Runs `code`; it must end at its own HLT.
    fn completes(&mut self, code: &[u8]) {
        self.run(code);
        let la = self.core().seg[seg::CS].base + self.core().regs[reg::RIP];
        assert!(!(HANDLERS..HANDLERS + 0x1000).contains(&la), "ended in {:x?}", self.caught());
    }

    /// Runs `code`; the exception or interrupt that it ends in.
    fn raises(&mut self, code: &[u8]) -> Caught {
        self.run(code);
        self.caught()
    }

    /// The handler that halted, and the error code on its stack.
    fn caught(&mut self) -> Caught {
        let la = self.core().seg[seg::CS].base + self.core().regs[reg::RIP];
        let vector = (la.checked_sub(HANDLERS + 1).expect("no handler ran") / 16) as u8;
        let real = self.core().cr0 & cr::CR0_PE == 0;
        let error = !real && matches!(vector, 8 | 10..=14 | 17);
        (vector, error.then(|| self.top::<u32>(0)))
    }

    /// Frame of a 64-bit handler without error code, or behind it: RIP, CS, RFLAGS, RSP, SS.
    fn frame(&mut self) -> [u64; 5] {
        let skip = u64::from(self.caught().1.is_some());
        [0, 1, 2, 3, 4].map(|n| self.top::<u64>(n + skip))
    }
}

const fn gp(error: u32) -> Caught {
    (13, Some(error))
}

const UD: Caught = (6, None);

#[test]
fn the_machine_itself_works() {
    for mut m in [Machine::long(), Machine::protected(), Machine::real()] {
        m.completes(&[0xB0, 0x2A, 0xF4]);
        assert_eq!(m.core().regs[reg::RAX], 0x2A);
        assert_eq!(m.core().flags & fl::IF, 0);
    }
}
