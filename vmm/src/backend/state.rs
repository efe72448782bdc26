//! A vCPU's state in terms of the architecture, the same for every backend.

/// General registers, instruction pointer, flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// A segment register with its hidden part (SDM vol. 3A, §3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Linear address of byte 0.
    pub base: u64,
    /// Last valid offset, in bytes.
    pub limit: u32,
    /// What a MOV from the register reads.
    pub selector: u16,
    /// Access rights as VMX has them (SDM vol. 3C, §25.4.1): bits 0–3 type, 4 S, 5–6 DPL, 7 P, 12 AVL, 13 L,
    /// 14 D/B, 15 G, 16 unusable.
    pub access: u32,
}

impl Segment {
    /// Present, accessed, writable data at DPL 0, 4 GiB, 32-bit stack size.
    pub const FLAT_DATA: u32 = 0xC093;
    /// Present, accessed, readable 64-bit code at DPL 0.
    pub const CODE_64: u32 = 0xA09B;
    /// Present, busy 64-bit TSS.
    pub const BUSY_TSS: u32 = 0x008B;
    /// Not usable.
    pub const UNUSABLE: u32 = 1 << 16;
    /// Bits that mean something.
    pub const ACCESS_MASK: u32 = 0x1_F0FF;

    /// A flat segment of 4 GiB.
    pub const fn flat(selector: u16, access: u32) -> Self {
        Self { base: 0, limit: u32::MAX, selector, access }
    }
}

/// The segment registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub struct SegmentRegisters {
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorTable {
    /// Linear address.
    pub base: u64,
    /// Last valid offset, in bytes.
    pub limit: u16,
}

/// x87 and SSE state as FXSAVE has it (SDM vol. 1, §10.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpuState {
    /// ST0 to ST7, 80 bits in 16 bytes each.
    pub st: [[u8; 16]; 8],
    /// XMM0 to XMM15.
    pub xmm: [[u8; 16]; 16],
    /// x87 control word.
    pub fcw: u16,
    /// x87 status word.
    pub fsw: u16,
    /// Abridged tag word.
    pub ftw: u8,
    /// Last opcode.
    pub fop: u16,
    /// Last instruction pointer.
    pub fip: u64,
    /// Last data pointer.
    pub fdp: u64,
    /// SSE control and status.
    pub mxcsr: u32,
}

impl Default for FpuState {
    /// The state after power-on and FNINIT (SDM vol. 3A, table 10-1).
    fn default() -> Self {
        Self { st: [[0; 16]; 8], xmm: [[0; 16]; 16], fcw: 0x37F, fsw: 0, ftw: 0, fop: 0, fip: 0, fdp: 0, mxcsr: 0x1F80 }
    }
}

/// A model-specific register and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msr {
    /// Number.
    pub index: u32,
    /// Value.
    pub value: u64,
}

/// Everything a program on the vCPU can see of it, its local APIC and extended vector state left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub struct CpuState {
    pub registers: Registers,
    pub segments: SegmentRegisters,
    pub gdt: DescriptorTable,
    pub idt: DescriptorTable,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    /// IA32_APIC_BASE.
    pub apic_base: u64,
    /// DR0 to DR3.
    pub db: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,
    pub fpu: FpuState,
    /// Every other model-specific register that belongs to the state, in ascending order of number.
    pub msrs: Vec<Msr>,
}

/// Bits of control registers and EFER that the machine sets (SDM vol. 3A, §2.5 and §2.2.1).
#[expect(missing_docs, reason = "the names are the architecture's")]
pub mod bits {
    pub const CR0_PE: u64 = 1 << 0;
    pub const CR0_MP: u64 = 1 << 1;
    pub const CR0_ET: u64 = 1 << 4;
    pub const CR0_NE: u64 = 1 << 5;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_PG: u64 = 1 << 31;
    pub const CR4_PAE: u64 = 1 << 5;
    pub const CR4_OSFXSR: u64 = 1 << 9;
    pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
    pub const EFER_SCE: u64 = 1 << 0;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_LMA: u64 = 1 << 10;
    pub const EFER_NXE: u64 = 1 << 11;
}

impl CpuState {
    /// 64-bit mode at CPL 0 with paging through `cr3`, flat segments (CS selector 8, data 0x10), no descriptor
    /// tables, interrupts off, every general register 0: how the machine starts its firmware. What is not said
    /// here (MSRs, APIC base) is taken from `reset`, the state after power-on.
    pub fn long_mode(reset: &Self, entry: u64, cr3: u64) -> Self {
        use bits::*;
        let data = Segment::flat(0x10, Segment::FLAT_DATA);
        Self {
            registers: Registers { rip: entry, rflags: 2, ..Registers::default() },
            segments: SegmentRegisters {
                cs: Segment::flat(8, Segment::CODE_64),
                ds: data,
                es: data,
                fs: data,
                gs: data,
                ss: data,
                tr: Segment { base: 0, limit: 0x67, selector: 0, access: Segment::BUSY_TSS },
                ldt: Segment { base: 0, limit: 0, selector: 0, access: Segment::UNUSABLE },
            },
            gdt: DescriptorTable::default(),
            idt: DescriptorTable::default(),
            cr0: CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE,
            cr2: 0,
            cr3,
            cr4: CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
            efer: EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE,
            fpu: FpuState::default(),
            ..reset.clone()
        }
    }
}
