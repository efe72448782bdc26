//! One processor's state.

use std::sync::Arc;

use crate::apic::{Apic, Effect};
use crate::cpuid::{Features, Leaf, PHYSICAL_BITS};
use crate::entropy::Entropy;
use crate::fault::{Event, Fault, IoRequest, R};
use crate::flags::{Lazy, bits as fl};
use crate::insn::{reg, seg};
use crate::mem::{Map, Mmu, Tlb};
use crate::pv::Paravirt;
use crate::time::{Clock, Time};

/// Bits of control registers and EFER (SDM vol. 3A, §2.5, §2.2.1).
#[expect(missing_docs, reason = "the names are the architecture's")]
pub mod cr {
    pub const CR0_PE: u64 = 1 << 0;
    pub const CR0_MP: u64 = 1 << 1;
    pub const CR0_EM: u64 = 1 << 2;
    pub const CR0_TS: u64 = 1 << 3;
    pub const CR0_ET: u64 = 1 << 4;
    pub const CR0_NE: u64 = 1 << 5;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_AM: u64 = 1 << 18;
    pub const CR0_NW: u64 = 1 << 29;
    pub const CR0_CD: u64 = 1 << 30;
    pub const CR0_PG: u64 = 1 << 31;
    pub const CR4_VME: u64 = 1 << 0;
    pub const CR4_PVI: u64 = 1 << 1;
    pub const CR4_TSD: u64 = 1 << 2;
    pub const CR4_DE: u64 = 1 << 3;
    pub const CR4_PSE: u64 = 1 << 4;
    pub const CR4_PAE: u64 = 1 << 5;
    pub const CR4_MCE: u64 = 1 << 6;
    pub const CR4_PGE: u64 = 1 << 7;
    pub const CR4_PCE: u64 = 1 << 8;
    pub const CR4_OSFXSR: u64 = 1 << 9;
    pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
    pub const CR4_UMIP: u64 = 1 << 11;
    pub const CR4_FSGSBASE: u64 = 1 << 16;
    pub const CR4_PCIDE: u64 = 1 << 17;
    pub const CR4_OSXSAVE: u64 = 1 << 18;
    pub const CR4_SMEP: u64 = 1 << 20;
    pub const CR4_SMAP: u64 = 1 << 21;
    pub const EFER_SCE: u64 = 1 << 0;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_LMA: u64 = 1 << 10;
    pub const EFER_NXE: u64 = 1 << 11;
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seg {
    /// What a MOV from the register reads.
    pub selector: u16,
    /// Linear address of byte 0.
    pub base: u64,
    /// Last valid offset, in bytes.
    pub limit: u32,
    /// Access rights as VMX has them (SDM vol. 3C, §25.4.1): bits 0–3 type, 4 S, 5–6 DPL, 7 P, 12 AVL, 13 L, 14 D/B,
    /// 15 G, 16 unusable.
    pub access: u32,
}

impl Seg {
    /// Not usable: a null selector was loaded.
    pub const UNUSABLE: u32 = 1 << 16;

    /// As real mode has it: base is 16 times the selector.
    pub fn real(selector: u16, access: u32) -> Self {
        Self { selector, base: u64::from(selector) << 4, limit: 0xFFFF, access }
    }
    /// Bits 0–3.
    pub fn kind(&self) -> u32 {
        self.access & 0xF
    }
    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.access >> 5 & 3) as u8
    }
    /// D/B.
    pub fn big(&self) -> bool {
        self.access & 1 << 14 != 0
    }
    /// L.
    pub fn long(&self) -> bool {
        self.access & 1 << 13 != 0
    }
    /// May be used for memory accesses.
    pub fn usable(&self) -> bool {
        self.access & Self::UNUSABLE == 0
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Linear address.
    pub base: u64,
    /// Last valid offset, in bytes.
    pub limit: u16,
}

/// How instructions are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// 16-bit operands and addresses unless prefixed.
    Bits16 = 0,
    /// 32-bit.
    Bits32 = 1,
    /// 64-bit mode.
    Bits64 = 2,
}

/// MSRs that are nothing but state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub tsc_aux: u64,
    pub pat: u64,
    pub misc_enable: u64,
    pub spec_ctrl: u64,
    pub debugctl: u64,
    pub microcode: u64,
    pub mtrr: crate::exec::msr::Mtrr,
}

/// Answers of devices during the instruction that is being executed again. See [`crate::fault::Event::Io`].
#[derive(Default)]
pub(crate) struct Replay {
    /// What was answered so far, in order.
    pub(crate) done: Vec<(IoRequest, u64)>,
    /// How many of those this execution has used.
    pub(crate) used: usize,
}

/// One processor. Fields that other modules must keep in step are private to the crate and set through methods.
pub struct Core {
    /// General registers, RIP, and a zero: see [`reg`].
    pub regs: [u64; 32],
    /// Arithmetic flags.
    pub lazy: Lazy,
    /// All other flags, with bit 1 set and the arithmetic ones clear.
    pub(crate) flags: u64,
    /// Segment registers by number, see [`seg`]. 6 and 7 are not used.
    pub seg: [Seg; 8],
    /// Task register.
    pub tr: Seg,
    /// Local descriptor table register.
    pub ldtr: Seg,
    /// GDTR.
    pub gdtr: Table,
    /// IDTR.
    pub idtr: Table,
    pub(crate) cr0: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    pub(crate) xcr0: u64,
    /// DR0–DR3.
    pub dr: [u64; 4],
    /// DR6.
    pub dr6: u64,
    pub(crate) dr7: u64,
    /// Page-directory pointers as loaded with CR3 in PAE paging (SDM vol. 3A, §4.4.1).
    pub(crate) pdptes: [u64; 4],
    /// XMM0–XMM15.
    pub xmm: [u128; 16],
    /// SSE control and status.
    pub mxcsr: u32,
    /// x87, and the MMX registers in it.
    pub fpu: crate::x87::Fpu,
    /// MSRs without a home of their own.
    pub msr: Msrs,
    /// What the processor announces, hence what it executes.
    pub(crate) features: Features,
    /// What CPUID shows.
    pub(crate) cpuid: Arc<[Leaf]>,
    /// Local APIC.
    pub apic: Apic,
    /// kvmclock and steal time.
    pub pv: Paravirt,
    pub(crate) time: Time,
    /// What the guest's TSC is ahead of the clock (modulo 2⁶⁴).
    pub(crate) tsc_offset: u64,
    /// Nanoseconds in which the processor was ready and another one ran.
    pub(crate) stolen: u64,
    /// As much of it as the guest knows of.
    pub(crate) stolen_told: u64,
    pub(crate) entropy: Entropy,

    /// Translation cache, and the memory behind it.
    pub tlb: Tlb,
    /// Pages with decoded code, so that writes to them are noticed.
    pub(crate) code: crate::block::CodePages,

    // Derived from the state above; `refresh` makes them.
    pub(crate) cpl: u8,
    pub(crate) mode: Code,
    /// Mask of stack pointer width.
    pub(crate) stack_mask: u64,
    pub(crate) mmu: Mmu,
    /// SSE instructions may run: CR0.EM and TS clear, CR4.OSFXSR set.
    pub(crate) sse_ready: bool,

    /// What CR2 becomes when the page fault in `event` is delivered.
    pub(crate) pending_cr2: u64,
    /// Why the last handler returned `Err`.
    pub(crate) event: Event,
    pub(crate) replay: Replay,
    /// The run loop must leave the block after this instruction (its code may have changed).
    pub(crate) leave_block: bool,
    /// The run loop must look at interrupts before the next block.
    pub(crate) recheck: bool,
    /// Interrupts are held off for one instruction (after STI, MOV SS, POP SS).
    pub(crate) shadow: Shadow,
    /// Waiting for an interrupt.
    pub(crate) halted: bool,
    /// Waiting for a start-up message, as all processors but the first do.
    pub(crate) waits_for_startup: bool,
    /// How many NMIs wait, see [`Core::signal_nmi`].
    pub(crate) nmi_pending: u8,
    /// What writes to the local APIC mean for others, not yet acted on.
    pub(crate) effects: Vec<Effect>,
    /// The rest of this turn is for others.
    pub(crate) yields: bool,
    /// Changes with everything that makes cached block lookups stale.
    pub(crate) stamp: u64,
    /// Instructions completed (with repeated iterations counting as one).
    pub(crate) retired: u64,
    /// DR6 bits of data breakpoints that the current instruction has hit.
    pub(crate) hits: u64,
    /// The last instruction ended in an exception.
    pub(crate) faulted: bool,
    /// RF as IRET has just set it, so that the step over IRET itself does not clear it.
    pub(crate) fresh_rf: u64,
    /// DR6 bits of debug traps that wait behind MOV SS.
    pub(crate) pending_db: u64,
    /// NMIs are blocked until IRET.
    pub(crate) nmi_blocked: bool,
}

/// What the previous instruction holds off (SDM vol. 3A, §6.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadow {
    /// Nothing.
    None,
    /// Maskable interrupts: after STI.
    Sti,
    /// Interrupts, NMI and debug traps: after MOV SS or POP SS.
    MovSs,
}

impl Core {
    /// Processor `id` after power-on (SDM vol. 3A, table 10-1) in front of `map`.
    pub(crate) fn new(map: Arc<Map>, id: u32, cpuid: &Arc<[Leaf]>, clock: Clock, seed: Option<u64>) -> Self {
        let features = Features::of(cpuid);
        let apic = Apic::new(crate::apic::Config {
            id,
            bootstrap: id == 0,
            x2apic: features.x2apic,
            tsc_deadline: features.tsc_deadline,
            physical_bits: PHYSICAL_BITS,
        });
        let data = Seg::real(0, 0x93);
        let mut core = Self {
            regs: [0; 32],
            lazy: Lazy::from_bits(0),
            flags: fl::FIXED,
            seg: [data; 8],
            tr: Seg { access: 0x8B, limit: 0xFFFF, ..Seg::default() },
            ldtr: Seg { access: 0x82, limit: 0xFFFF, ..Seg::default() },
            gdtr: Table { base: 0, limit: 0xFFFF },
            idtr: Table { base: 0, limit: 0xFFFF },
            cr0: cr::CR0_CD | cr::CR0_NW | cr::CR0_ET,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            xcr0: 1,
            dr: [0; 4],
            dr6: 0xFFFF_0FF0,
            dr7: 0x400,
            pdptes: [0; 4],
            xmm: [0; 16],
            mxcsr: 0x1F80,
            fpu: crate::x87::Fpu::new(),
            msr: Msrs { pat: 0x0007_0406_0007_0406, misc_enable: 1, ..Msrs::default() },
            features,
            cpuid: Arc::clone(cpuid),
            apic,
            pv: Paravirt::default(),
            time: Time::new(clock),
            tsc_offset: 0,
            stolen: 0,
            stolen_told: 0,
            entropy: seed.map_or(Entropy::Host, |seed| Entropy::Seeded(seed ^ u64::from(id) << 32)),
            tlb: Tlb::new(map),
            code: crate::block::CodePages::default(),
            cpl: 0,
            mode: Code::Bits16,
            stack_mask: 0xFFFF,
            mmu: Mmu::Supervisor,
            sse_ready: false,
            pending_cr2: 0,
            event: Event::None,
            replay: Replay::default(),
            leave_block: false,
            recheck: true,
            shadow: Shadow::None,
            halted: false,
            waits_for_startup: id != 0,
            nmi_pending: 0,
            effects: Vec::new(),
            yields: false,
            stamp: 1,
            retired: 0,
            hits: 0,
            faulted: false,
            fresh_rf: 0,
            pending_db: 0,
            nmi_blocked: false,
        };
        core.seg[seg::CS] = Seg { selector: 0xF000, base: 0xFFFF_0000, limit: 0xFFFF, access: 0x9B };
        core.regs[reg::RIP] = 0xFFF0;
        core.refresh();
        core
    }

    /// INIT (SDM vol. 3A, table 10-1): as after power-on, but x87, SSE, MSRs and the time-stamp counter stay.
    pub(crate) fn init(&mut self) {
        let fresh =
            Self::new(Arc::new(Map::default()), self.apic.id(), &self.cpuid, Clock::Instructions { wall: 0 }, Some(0));
        self.regs = fresh.regs;
        self.lazy = fresh.lazy;
        self.flags = fresh.flags;
        self.seg = fresh.seg;
        (self.tr, self.ldtr, self.gdtr, self.idtr) = (fresh.tr, fresh.ldtr, fresh.gdtr, fresh.idtr);
        // CD and NW stay (SDM vol. 3A, table 10-1, note 2).
        self.cr0 = self.cr0 & (cr::CR0_CD | cr::CR0_NW) | cr::CR0_ET;
        (self.cr2, self.cr3, self.cr4, self.efer) = (0, 0, 0, 0);
        (self.dr, self.dr6, self.dr7) = (fresh.dr, fresh.dr6, fresh.dr7);
        self.apic.init();
        self.event = Event::None;
        self.replay = Replay::default();
        (self.shadow, self.halted, self.nmi_pending, self.nmi_blocked) = (Shadow::None, false, 0, false);
        (self.pending_db, self.hits, self.fresh_rf) = (0, 0, 0);
        self.waits_for_startup = self.apic.base() & crate::apic::BASE_BSP == 0;
        self.recheck = true;
        self.flush_tlb();
        self.refresh();
    }

    /// A start-up message: begins at the page if the processor waits for one (SDM vol. 3A, §9.4.4.1).
    pub(crate) fn start_up(&mut self, page: u8) {
        if !std::mem::take(&mut self.waits_for_startup) {
            return;
        }
        self.seg[seg::CS] = Seg::real(u16::from(page) << 8, 0x9B);
        self.regs[reg::RIP] = 0;
        self.refresh();
    }

    /// Makes the derived fields, after any change to CR0, CR4, EFER, CS, SS or the AC and VM flags.
    pub(crate) fn refresh(&mut self) {
        let (cs, ss) = (&self.seg[seg::CS], &self.seg[seg::SS]);
        let protected = self.cr0 & cr::CR0_PE != 0;
        self.cpl = match (protected, self.flags & fl::VM != 0) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => ss.dpl(),
        };
        self.mode = if self.long_mode() && cs.long() {
            Code::Bits64
        } else if cs.big() {
            Code::Bits32
        } else {
            Code::Bits16
        };
        self.stack_mask = match self.mode {
            Code::Bits64 => u64::MAX,
            _ if ss.big() => 0xFFFF_FFFF,
            _ => 0xFFFF,
        };
        let ac = self.flags & fl::AC != 0;
        self.mmu = if self.cpl == 3 {
            if ac && self.cr0 & cr::CR0_AM != 0 { Mmu::UserAligned } else { Mmu::User }
        } else if ac {
            Mmu::SupervisorAc
        } else {
            Mmu::Supervisor
        };
        self.sse_ready = self.cr0 & (cr::CR0_EM | cr::CR0_TS) == 0 && self.cr4 & cr::CR4_OSFXSR != 0;
    }

    /// IA-32e mode is active: 64-bit or compatibility mode.
    pub fn long_mode(&self) -> bool {
        self.efer & cr::EFER_LMA != 0
    }

    /// Protected mode (any kind), and not virtual-8086.
    pub fn protected(&self) -> bool {
        self.cr0 & cr::CR0_PE != 0 && self.flags & fl::VM == 0
    }

    /// In 64-bit mode.
    #[inline(always)]
    pub fn bits64(&self) -> bool {
        self.mode == Code::Bits64
    }

    /// Current privilege level.
    pub fn cpl(&self) -> u8 {
        self.cpl
    }

    /// I/O privilege level.
    pub(crate) fn iopl(&self) -> u8 {
        (self.flags >> 12 & 3) as u8
    }

    /// RFLAGS.
    pub fn rflags(&self) -> u64 {
        self.flags | self.lazy.bits()
    }

    /// Sets RFLAGS, every defined bit, without asking for privileges.
    pub fn set_rflags(&mut self, value: u64) {
        self.lazy = Lazy::from_bits(value);
        let new = value & fl::DEFINED & !fl::ARITH | fl::FIXED;
        let changed = self.flags ^ new;
        self.flags = new;
        if changed & (fl::AC | fl::VM) != 0 {
            self.refresh();
        }
        self.recheck = true;
    }

    /// An exception without error code.
    #[cold]
    pub(crate) fn raise(&mut self, vector: u8) -> Fault {
        self.event = Event::Exception { vector, error: None };
        Fault(())
    }

    /// An exception with an error code.
    #[cold]
    pub(crate) fn raise_with(&mut self, vector: u8, error: u32) -> Fault {
        self.event = Event::Exception { vector, error: Some(error) };
        Fault(())
    }

    /// #GP(error).
    #[cold]
    pub(crate) fn gp(&mut self, error: u32) -> Fault {
        self.raise_with(crate::fault::vector::GP, error)
    }

    /// #UD.
    #[cold]
    pub(crate) fn ud(&mut self) -> Fault {
        self.raise(crate::fault::vector::UD)
    }

    /// Something other than an exception.
    #[cold]
    pub(crate) fn stop(&mut self, event: Event) -> Fault {
        self.event = event;
        Fault(())
    }

    /// The handler needs a device: returns what it answered in an earlier execution of the same instruction, or stops it.
    pub(crate) fn device(&mut self, request: IoRequest) -> R<u64> {
        let next = self.replay.done.get(self.replay.used).copied();
        if let Some((asked, answer)) = next
            && asked == request
        {
            self.replay.used += 1;
            // The answers are for this instruction only: behind it they are dropped.
            self.leave_block = true;
            return Ok(answer);
        }
        // An instruction whose accesses differ from one execution to the next (memory changed under it) goes on with
        // the new course; what was answered already is dropped.
        self.replay.done.truncate(self.replay.used);
        Err(self.stop(Event::Io(request)))
    }

    /// Forgets every translation.
    pub(crate) fn flush_tlb(&mut self) {
        self.tlb.flush();
        self.stamp += 1;
    }

    /// Is `la` canonical (48 bits)?
    #[inline(always)]
    pub(crate) fn canonical(la: u64) -> bool {
        ((la << 16) as i64 >> 16) as u64 == la
    }
}
