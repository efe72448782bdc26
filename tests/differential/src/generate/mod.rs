//! Test cases by number: `(seed, index)` is one case, always the same.

mod encode;
mod steer;
pub mod values;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use crate::case::{self, Case, Registers};
use crate::layout;
use crate::rng::Rng;
use crate::rules::{self, Rule, Undefined, rule};

/// How many consecutive cases share their memory.
const SAME_MEMORY: u64 = 256;
/// Longest possible instruction.
const MAX_LENGTH: usize = 15;
/// Registers that point to the data throughout a sequence: RBX, RBP, R12 to R15; and RSP.
const POINTERS: u16 = 1 << 3 | 1 << 4 | 1 << 5 | 0xF << 12;

/// A case, and what is claimed of it.
#[derive(Clone, Debug)]
pub struct Test {
    /// What runs.
    pub case: Case,
    /// [`Rule::Compare`], [`Rule::Unannounced`] or [`Rule::Unknown`].
    pub rule: Rule,
    /// The instructions, without the jump at the end.
    pub program: Vec<Instruction>,
    /// What is not compared if the code comes through.
    pub undefined: Undefined,
    /// What is not compared if it does not: what is undefined anywhere on the way.
    pub on_the_way: Undefined,
}

/// Makes tests.
pub struct Generator {
    seed: u64,
    factory: InstructionInfoFactory,
    memory: u64,
    image: Vec<u8>,
}

impl Generator {
    /// Of the series `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, factory: InstructionInfoFactory::new(), memory: 0, image: case::image(0) }
    }

    /// Test number `index`.
    pub fn test(&mut self, index: u64) -> Test {
        let mut rng = Rng::new(self.seed, index);
        let memory = Rng::new(self.seed, index / SAME_MEMORY).u64();
        if memory != self.memory {
            case::image_into(memory, &mut self.image);
            self.memory = memory;
        }
        if rng.percent(25) { self.sequence(&mut rng) } else { self.single(&mut rng) }
    }

    fn single(&mut self, rng: &mut Rng) -> Test {
        loop {
            let mut start = values::registers(rng);
            start.rip = layout::CODE
                + match rng.below(100) {
                    // Across the two pages; across the end of the second.
                    0..6 => layout::PAGE - 1 - rng.below(14),
                    6..12 => 2 * layout::PAGE - 1 - rng.below(14),
                    _ => rng.below(0xF00),
                };
            let (mut bytes, tail) = encode::random(rng);
            let (instruction, offsets) = decode(&bytes, start.rip);
            let rule = rule(&instruction, &bytes);
            let keep = match rule {
                Rule::Compare => !instruction.is_privileged() || rng.percent(30),
                Rule::Unannounced => rng.percent(20),
                Rule::Unknown => rng.percent(10),
                Rule::Skip => false,
            };
            if !keep {
                continue;
            }
            if rule == Rule::Unknown {
                // Whatever this machine makes of it, INT3 is what follows.
                bytes[tail..].fill(0xCC);
                if !decode(&bytes, start.rip).0.is_invalid() {
                    continue;
                }
            } else {
                bytes.truncate(instruction.len());
                if !rng.percent(8) {
                    let (image, factory) = (&self.image, &mut self.factory);
                    steer::steer(&instruction, offsets, &mut bytes, &mut start, image, factory, rng);
                }
                if !branch(&instruction, offsets, &mut bytes, rng) {
                    continue;
                }
            }
            let (instruction, _) = decode(&bytes, start.rip);
            if rules::undefined_result(&instruction, Some(&start)) {
                continue;
            }
            let undefined = rules::undefined(&instruction, Some(&start));
            let case = finish(start, self.memory, bytes);
            let on_the_way = Undefined { mmx_mode_on_fault: undefined.mmx_mode_on_fault, ..Undefined::default() };
            return Test { case, rule, program: vec![instruction], undefined, on_the_way };
        }
    }

    /// Two to eight instructions, with jumps over some of them.
    fn sequence(&mut self, rng: &mut Rng) -> Test {
        let mut start = values::registers(rng);
        for n in [3, 5, 12, 13, 14, 15] {
            start.gpr[n] = layout::DATA + 0x200 + 16 * rng.below(0x1A0);
        }
        if rng.percent(60) {
            // For string instructions.
            start.gpr[6] = values::pointer(rng);
            start.gpr[7] = values::pointer(rng);
            start.gpr[1] = rng.below(20);
        }
        start.gpr[4] = layout::DATA + 0x800 + 8 * rng.below(0x200);
        start.rip = layout::CODE + if rng.percent(10) { layout::PAGE - 1 - rng.below(40) } else { rng.below(0xE00) };
        let length = 2 + rng.below(7);
        let mut code = Vec::new();
        let mut program = Vec::new();
        // Flags of which nobody knows what they are; instructions that may be jumped over define none.
        let mut unknown = 0;
        let mut on_the_way = Undefined::default();
        let mut skipped = 0;
        // The jump whose target is not yet set: where its displacement is.
        let mut jump: Option<usize> = None;
        while (program.len() as u64) < length {
            let at = start.rip + code.len() as u64;
            if jump.is_none() && rng.percent(12) {
                let condition = rng.u8() & 15;
                let short = [0x70 | condition, 0];
                let (instruction, _) = decode(&short, at);
                if rules::rflags(instruction.rflags_read()) & unknown == 0 {
                    code.extend(short);
                    program.push(instruction);
                    jump = Some(code.len() - 1);
                    skipped = 1 + rng.below(3);
                    continue;
                }
            }
            let Some((bytes, instruction)) = self.member(rng, at) else { continue };
            if rules::rflags(instruction.rflags_read()) & unknown != 0 {
                continue;
            }
            let undefined = rules::undefined(&instruction, None);
            if skipped == 0 && !rules::may_leave_flags(&instruction) {
                unknown &= !rules::rflags(instruction.rflags_modified());
            }
            unknown |= undefined.rflags;
            on_the_way.rflags |= unknown;
            on_the_way.fsw |= undefined.fsw;
            on_the_way.mmx_mode_on_fault |= undefined.mmx_mode_on_fault;
            code.extend(bytes);
            program.push(instruction);
            if let Some(place) = jump {
                skipped -= 1;
                if skipped == 0 || program.len() as u64 == length {
                    code[place] = (code.len() - place - 1) as u8;
                    jump = None;
                    skipped = 0;
                }
            }
        }
        if let Some(place) = jump {
            code[place] = (code.len() - place - 1) as u8;
        }
        let case = finish(start, self.memory, code);
        let undefined = Undefined { rflags: unknown, ..on_the_way };
        Test { case, rule: Rule::Compare, program, undefined, on_the_way }
    }

    /// An instruction for a sequence at `at`: no control flow, memory only through the pointers.
    fn member(&mut self, rng: &mut Rng, at: u64) -> Option<(Vec<u8>, Instruction)> {
        let (mut bytes, _) = encode::random(rng);
        let (mut instruction, offsets) = decode(&bytes, at);
        if rule(&instruction, &bytes) != Rule::Compare
            || instruction.flow_control() != FlowControl::Next
            || instruction.is_privileged()
        {
            return None;
        }
        bytes.truncate(instruction.len());
        let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
        if memory {
            let base = instruction.memory_base();
            let pointer = base.is_gpr() && POINTERS >> base.full_register().number() & 1 != 0;
            if !pointer || instruction.memory_index() != Register::None {
                return None;
            }
            if offsets.displacement_size() == 4 {
                let place = bytes.get_mut(offsets.displacement_offset()..)?.get_mut(..4)?;
                place.copy_from_slice(&((rng.below(512) as i32) - 256).to_le_bytes());
                (instruction, _) = decode(&bytes, at);
            }
            // Not aligned, they fault or not; what follows would not run, or run.
            if instruction.cpuid_features().contains(&iced_x86::CpuidFeature::SHA) {
                return None;
            }
            if matches!(instruction.segment_prefix(), Register::FS | Register::GS) {
                return None;
            }
        }
        let undefined = rules::undefined(&instruction, None);
        if rules::writes(&instruction, &mut self.factory, POINTERS)
            || rules::undefined_result(&instruction, None)
            // They would show undefined condition codes of those before them.
            || matches!(instruction.mnemonic(), Mnemonic::Fnstsw | Mnemonic::Fstsw)
            || undefined.approximate_sse
            || undefined.approximate_x87
        {
            return None;
        }
        Some((bytes, instruction))
    }
}

/// Aims a relative branch: to the next instruction, to INT3, or far away; never into the middle of itself. False: it
/// cannot be kept from that.
fn branch(instruction: &Instruction, offsets: iced_x86::ConstantOffsets, bytes: &mut [u8], rng: &mut Rng) -> bool {
    if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::NearBranch64 {
        return true;
    }
    let (at, size) = (offsets.immediate_offset(), offsets.immediate_size());
    let length = instruction.len() as i64;
    let jump = match (size, rng.below(10)) {
        (1, 0) | (4, 0..2) => 0,
        // Over the jump behind it, or before it.
        (1, n) if n % 2 == 0 => 5 + rng.below(123) as i64,
        (1, _) => -length - 1 - rng.below((127 - length) as u64) as i64,
        (4, 2..8) => (layout::TRAPS + rng.below(layout::TRAPS_SIZE)).wrapping_sub(instruction.next_ip()) as i64,
        (4, _) => i64::from(rng.u32() as i32),
        _ => return false,
    };
    if (-length..5).contains(&jump) && jump != 0 {
        return false;
    }
    let Some(place) = bytes.get_mut(at..at + size) else { return false };
    place.copy_from_slice(&jump.to_le_bytes()[..size]);
    true
}

/// Appends the jump to where the end is noticed.
fn finish(start: Registers, memory: u64, mut code: Vec<u8>) -> Case {
    let next = start.rip + code.len() as u64 + 5;
    code.push(0xE9);
    code.extend_from_slice(&(layout::THROUGH.wrapping_sub(next) as u32).to_le_bytes());
    Case { start, memory, code }
}

/// The instruction at the front of `bytes`, and where its constants are.
pub fn decode(bytes: &[u8], ip: u64) -> (Instruction, iced_x86::ConstantOffsets) {
    let mut decoder = Decoder::with_ip(64, &bytes[..bytes.len().min(MAX_LENGTH)], ip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let offsets = decoder.get_constant_offsets(&instruction);
    (instruction, offsets)
}
