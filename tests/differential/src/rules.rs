//! What can be compared with the processor of this machine, and what of it.

use iced_x86::{
    Code, CpuidFeature, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
    RflagsBits,
};

use crate::case::{Event, Outcome, Registers};

/// What a test of one instruction can claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Both processors do the same.
    Compare,
    /// An extension that `bulla_cpu` does not announce: #UD there, whatever it is here.
    Unannounced,
    /// Not an instruction by the decoder's account: #UD, unless this machine knows better.
    Unknown,
    /// Nothing: both are right and differ, or it would disturb the worker.
    Skip,
}

/// Which rule an instruction goes by. `bytes` are its bytes.
pub fn rule(instruction: &Instruction, bytes: &[u8]) -> Rule {
    if instruction.is_invalid() {
        // F0 before MOV CR0 is MOV CR8 on AMD's processors (APM vol. 3, MOV CRn).
        return Rule::Unknown;
    }
    // Multi-byte NOPs that extensions not announced give a meaning to (SDM vol. 2, NOP, ENDBR64, RDSSP).
    if matches!(
        instruction.code(),
        Code::Endbr32 | Code::Endbr64 | Code::Rdsspd_r32 | Code::Rdsspq_r64 | Code::Cldemote_m8 | Code::Prefetchwt1_m8
    ) {
        return Rule::Compare;
    }
    // A hypercall would go to this machine's own host.
    if matches!(instruction.mnemonic(), Mnemonic::Vmcall | Mnemonic::Vmmcall) {
        return Rule::Skip;
    }
    if !instruction.cpuid_features().iter().all(|feature| announced(*feature)) {
        return Rule::Unannounced;
    }
    if skipped(instruction, bytes) { Rule::Skip } else { Rule::Compare }
}

fn announced(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::ADX
            | F::AES
            | F::BMI1
            | F::BMI2
            | F::CLFLUSHOPT
            | F::CLFSH
            | F::CMOV
            | F::CMPXCHG16B
            | F::CPUID
            | F::CX8
            | F::FPU
            | F::FPU287
            | F::FPU387
            | F::FSGSBASE
            | F::FXSR
            | F::INVPCID
            | F::LZCNT
            | F::MMX
            | F::MOVBE
            | F::MSR
            | F::MULTIBYTENOP
            | F::PAUSE
            | F::PCLMULQDQ
            | F::POPCNT
            | F::PREFETCHW
            | F::RDPMC
            | F::RDRAND
            | F::RDSEED
            | F::RDTSCP
            | F::SEP
            | F::SHA
            | F::SMAP
            | F::SSE
            | F::SSE2
            | F::SSE3
            | F::SSE4_1
            | F::SSE4_2
            | F::SSSE3
            | F::SYSCALL
            | F::TSC
            | F::XSAVE
            | F::XSAVEC
            | F::XSAVEOPT
            | F::XSAVES
    )
}

fn skipped(instruction: &Instruction, bytes: &[u8]) -> bool {
    use Mnemonic as M;
    match instruction.mnemonic() {
        // Time, chance, identity.
        M::Rdtsc | M::Rdtscp | M::Rdrand | M::Rdseed | M::Cpuid | M::Rdpmc => return true,
        // Layout and contents depend on which components the machine has.
        M::Xgetbv | M::Xsave | M::Xsave64 | M::Xsavec | M::Xsavec64 | M::Xsaveopt | M::Xsaveopt64 => return true,
        M::Xsaves | M::Xsaves64 | M::Xrstor | M::Xrstor64 | M::Xrstors | M::Xrstors64 => return true,
        // The operating system's.
        M::Syscall | M::Sysenter | M::Sysexit | M::Sysexitq | M::Sysret | M::Sysretq => return true,
        // Linux answers these itself under UMIP.
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => return true,
        // They show the descriptor tables; far transfers could enter compatibility mode.
        M::Lar | M::Lsl | M::Verr | M::Verw | M::Retf | M::Iret | M::Iretd | M::Iretq => return true,
        M::Lss | M::Lfs | M::Lgs => return true,
        // INT1 saves another RIP under hypervisors that emulate it.
        M::Int1 => return true,
        // FDP and FIP in memory, which AMD's processors keep only for unmasked exceptions (APM vol. 2, §11.4.4).
        M::Fnstenv | M::Fstenv | M::Fnsave | M::Fsave | M::Fxsave | M::Fxsave64 => return true,
        // Undocumented: FSTP, but for an empty register.
        M::Fstpnce => return true,
        // From memory AMD does not enter MMX mode, Intel does (SDM vol. 2, CVTPI2PS; CVTPI2PD never does).
        M::Cvtpi2ps => return instruction.op1_kind() == OpKind::Memory,
        // AMD lets REP and REPNE choose between the two.
        M::Loope | M::Loopne if prefixes(bytes).iter().any(|p| matches!(p, 0xF2 | 0xF3)) => return true,
        // With REX.B it is XCHG on AMD, whatever the prefix.
        M::Pause => return prefixes(bytes).iter().any(|p| p & 0xF1 == 0x41),
        // A register that is not equal keeps its upper half on AMD; Intel's description writes it (SDM vol. 2, CMPXCHG).
        M::Cmpxchg if instruction.code() == Code::Cmpxchg_rm32_r32 => {
            return instruction.op0_kind() == OpKind::Register;
        }
        // From memory AMD reads 32 bits.
        M::Movsxd => return instruction.code() == Code::Movsxd_r16_rm16 && instruction.op1_kind() == OpKind::Memory,
        // Whether a count of 0 asks for the permission.
        M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd => {
            return instruction.has_rep_prefix() || instruction.has_repne_prefix();
        }
        // The register form is a NOP on Intel and #UD on AMD.
        _ if matches!(
            instruction.code(),
            Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D | Code::Reservednop_rm64_r64_0F0D
        ) =>
        {
            return instruction.op0_kind() == OpKind::Register;
        }
        // AMD gives 16-bit BSWAP a meaning, Intel none (SDM vol. 2, BSWAP).
        M::Bswap => return instruction.op0_register().is_gpr16(),
        _ => {}
    }
    if instruction.code() == Code::Int_imm8 {
        return instruction.immediate8() == 0x80;
    }
    if matches!(instruction.flow_control(), FlowControl::UnconditionalBranch | FlowControl::IndirectBranch)
        && instruction.is_jmp_far()
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far()
        || instruction.is_call_far_indirect()
    {
        return true;
    }
    // An operand-size prefix makes near branches 16 bits wide on AMD, and is ignored on Intel (SDM vol. 2, JMP).
    if instruction.flow_control() != FlowControl::Next
        && instruction.flow_control() != FlowControl::Exception
        && prefixes(bytes).contains(&0x66)
    {
        return true;
    }
    // Loads of a segment register depend on the operating system's descriptor tables.
    let segment = |register: Register| register.is_segment_register();
    if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register && segment(instruction.op0_register()) {
        return true;
    }
    false
}

/// Where the two may end differently and both be right: why, if that is so here.
pub fn latitude(instruction: &Instruction, host: &Outcome, soft: &Outcome) -> Option<&'static str> {
    use Mnemonic as M;
    const FETCH: u32 = 0x10;
    let vector = |outcome: &Outcome| match outcome.event {
        Event::Exception { vector, error, address } => (vector, error, address),
        _ => (0xFF, 0, 0),
    };
    let (a, b) = (vector(host), vector(soft));
    let size = instruction.memory_size().size();
    let sha = instruction.cpuid_features().contains(&CpuidFeature::SHA);
    match (a, b) {
        // SDM vol. 3A, table 6-2: the order of faults of one class is the implementation's.
        ((17, ..), (14, error, _)) if error & FETCH == 0 => Some("#AC and #PF"),
        // How many bytes belong to what is no instruction.
        ((6, ..), (14, error, _)) | ((14, error, _), (6, ..)) if error & FETCH != 0 => Some("#UD and the next page"),
        // SDM vol. 2, MASKMOVDQU: faults of bytes that are not written are the implementation's.
        ((13 | 14 | 17, ..), _) if matches!(instruction.mnemonic(), M::Maskmovq | M::Maskmovdqu) => {
            Some("masked bytes")
        }
        // Which operand is read first.
        ((12..=14 | 17, ..), (12..=14 | 17, ..))
            if matches!(instruction.mnemonic(), M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq) =>
        {
            Some("two operands")
        }
        ((14, e, p), (14, f, q)) if size > 10 && e == f && p / 4096 == q / 4096 => Some("parts of an operand"),
        // Faults of alignment of 16-byte operands: with SHA AMD asks for none.
        ((x, ..), (13, 0, _)) if sha && size == 16 && x != 13 => Some("alignment for SHA"),
        // Which instructions for wide operands without alignment raise #AC (SDM vol. 2, MOVDQU; vol. 3A, table 6-7).
        ((17, ..), _) if size > 8 => Some("#AC for wide operands"),
        // The look at the last page of the new frame.
        ((17, ..), _) if instruction.mnemonic() == M::Enter => Some("#AC of ENTER"),
        // The target or the stack first.
        ((12..=14 | 17, ..), (12..=14 | 17, ..)) if instruction.mnemonic() == M::Call => Some("order of CALL"),
        _ => None,
    }
}

/// The legacy prefixes and REX in front of an instruction.
pub fn prefixes(bytes: &[u8]) -> &[u8] {
    let is = |b: &u8| matches!(b, 0x26 | 0x2E | 0x36 | 0x3E | 0x40..=0x4F | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3);
    let end = bytes.iter().position(|b| !is(b)).unwrap_or(bytes.len());
    &bytes[..end]
}

/// RFLAGS bits of the decoder's.
pub fn rflags(bits: u32) -> u64 {
    let pairs = [
        (RflagsBits::OF, 0x800),
        (RflagsBits::SF, 0x80),
        (RflagsBits::ZF, 0x40),
        (RflagsBits::AF, 0x10),
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 4),
        (RflagsBits::DF, 0x400),
    ];
    pairs.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| flag).sum()
}

/// x87 condition codes, as bits of FSW, that the decoder says are undefined.
fn condition_codes(bits: u32) -> u16 {
    let pairs = [(RflagsBits::C0, 0x100), (RflagsBits::C1, 0x200), (RflagsBits::C2, 0x400), (RflagsBits::C3, 0x4000)];
    pairs.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| flag).sum()
}

/// What is not compared behind an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undefined {
    /// Bits of RFLAGS.
    pub rflags: u64,
    /// Bits of FSW.
    pub fsw: u16,
    /// Registers of SSE may differ by the error that an approximation is allowed (RCPPS, RSQRTPS: 1.5·2⁻¹²).
    pub approximate_sse: bool,
    /// Registers of x87 may differ by a few units in the last place, and what follows from that.
    pub approximate_x87: bool,
    /// Registers of x87 are not compared: the operand was outside the instruction's range.
    pub any_x87: bool,
    /// An instruction that faults may have entered MMX mode already (AMD does, we do not).
    pub mmx_mode_on_fault: bool,
}

/// What of an instruction's results is undefined, or left to the implementation, if it starts from `start`
/// (`None`: from any state).
pub fn undefined(instruction: &Instruction, start: Option<&Registers>) -> Undefined {
    use Mnemonic as M;
    let mut undefined = Undefined {
        rflags: rflags(instruction.rflags_undefined()),
        fsw: condition_codes(instruction.rflags_undefined()),
        ..Undefined::default()
    };
    match instruction.mnemonic() {
        M::Rcpps | M::Rcpss | M::Rsqrtps | M::Rsqrtss => undefined.approximate_sse = true,
        M::F2xm1 | M::Fsin | M::Fcos | M::Fsincos | M::Fpatan | M::Fptan | M::Fyl2x | M::Fyl2xp1 => {
            undefined.approximate_x87 = true;
            // SDM vol. 2, F2XM1: −1 to 1; FYL2XP1: −(1−√½) to √2−1, here the power of two below.
            let exponent = start.map_or(0, |start| (start.st(0) >> 64) as u32 & 0x7FFF);
            undefined.any_x87 = match instruction.mnemonic() {
                M::F2xm1 => exponent >= 0x3FFF,
                M::Fyl2xp1 => exponent >= 0x3FFD,
                _ => false,
            };
        }
        // C1 is cleared by Intel's processors and left alone by AMD's.
        M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip => undefined.fsw |= 0x200,
        M::Cvtps2pi | M::Cvttps2pi | M::Cvtpd2pi | M::Cvttpd2pi | M::Cvtpi2ps | M::Cvtpi2pd | M::Maskmovq => {
            undefined.mmx_mode_on_fault = true;
        }
        M::Shl | M::Sal | M::Shr | M::Sar | M::Shld | M::Shrd | M::Rol | M::Ror | M::Rcl | M::Rcr => {
            undefined.rflags = shift(instruction, start);
        }
        _ => {}
    }
    undefined
}

/// Shifts and rotates (SDM vol. 2: SAL/SAR/SHL/SHR, SHLD, SHRD, RCL/RCR/ROL/ROR): what is undefined depends on the count.
fn shift(instruction: &Instruction, start: Option<&Registers>) -> u64 {
    use Mnemonic as M;
    const CF: u64 = 1;
    const AF: u64 = 0x10;
    const OF: u64 = 0x800;
    let rotates = matches!(instruction.mnemonic(), M::Rol | M::Ror | M::Rcl | M::Rcr);
    let size = operand_bits(instruction);
    let last = instruction.op_count().saturating_sub(1);
    let count = match instruction.op_kind(last) {
        OpKind::Immediate8 => Some(u64::from(instruction.immediate8())),
        OpKind::Register => start.map(|start| start.gpr[1] & 0xFF),
        _ => Some(1),
    };
    let count = count.map(|count| count & if size == 64 { 63 } else { 31 });
    match (count, rotates) {
        (Some(0), _) => 0,
        (Some(1), true) => 0,
        (_, true) => OF,
        (Some(1), false) => AF,
        (Some(count), false) if count >= size && instruction.mnemonic() != M::Sar => AF | OF | CF,
        (Some(_), false) => AF | OF,
        (None, false) => AF | OF | CF,
    }
}

/// May an instruction that sets flags also do nothing: shifts by CL, repeated comparisons?
pub fn may_leave_flags(instruction: &Instruction) -> bool {
    let last = instruction.op_count().saturating_sub(1);
    instruction.has_rep_prefix()
        || instruction.has_repne_prefix()
        || instruction.op_kind(last) == OpKind::Register && instruction.op_register(last) == Register::CL
}

/// Is the destination itself undefined: a double shift of 16 bits by more than 16?
pub fn undefined_result(instruction: &Instruction, start: Option<&Registers>) -> bool {
    if !matches!(instruction.mnemonic(), Mnemonic::Shld | Mnemonic::Shrd) || operand_bits(instruction) != 16 {
        return false;
    }
    match (instruction.op_kind(2), start) {
        (OpKind::Immediate8, _) => instruction.immediate8() & 31 > 16,
        (_, Some(start)) => start.gpr[1] & 31 > 16,
        _ => true,
    }
}

fn operand_bits(instruction: &Instruction) -> u64 {
    let bytes = match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size(),
        _ => instruction.memory_size().size(),
    };
    8 * bytes as u64
}

/// Does it write any of these general registers (bits by number)? Stack instructions' RSP aside.
pub fn writes(instruction: &Instruction, factory: &mut InstructionInfoFactory, registers: u16) -> bool {
    let info = factory.info(instruction);
    info.used_registers().iter().any(|used| {
        let register = used.register().full_register();
        register.is_gpr64()
            && registers >> register.number() & 1 != 0
            && !(register == Register::RSP && instruction.is_stack_instruction())
            && matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            )
    })
}
