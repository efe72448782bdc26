//! Gives an instruction operands that it can do something with: addresses that point to the data, quotients that fit,
//! comparisons that succeed.

use iced_x86::{ConstantOffsets, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register, UsedMemory};

use super::values;
use crate::case::Registers;
use crate::layout;
use crate::rng::Rng;

/// Sets a general register, or the part of one that it is.
pub(super) fn set(state: &mut Registers, register: Register, value: u64) {
    let full = register.full_register();
    if !full.is_gpr64() {
        return;
    }
    let Some(gpr) = state.gpr.get_mut(full.number()) else { return };
    *gpr = match register.size() {
        8 => value,
        4 => *gpr & !0xFFFF_FFFF | value & 0xFFFF_FFFF,
        2 => *gpr & !0xFFFF | value & 0xFFFF,
        _ if matches!(register, Register::AH | Register::CH | Register::DH | Register::BH) => {
            *gpr & !0xFF00 | (value & 0xFF) << 8
        }
        _ => *gpr & !0xFF | value & 0xFF,
    };
}

/// Value of a general register or a part of one.
pub(super) fn get(state: &Registers, register: Register) -> Option<u64> {
    let full = register.full_register();
    let value = if full.is_gpr64() { *state.gpr.get(full.number())? } else { return None };
    Some(match register.size() {
        8 => value,
        4 => value & 0xFFFF_FFFF,
        2 => value & 0xFFFF,
        _ if matches!(register, Register::AH | Register::CH | Register::DH | Register::BH) => value >> 8 & 0xFF,
        _ => value & 0xFF,
    })
}

fn segment_base(state: &Registers, segment: Register) -> u64 {
    match segment {
        Register::FS => state.fs_base,
        Register::GS => state.gs_base,
        _ => 0,
    }
}

/// Points the instruction's memory operands to the data, through registers or, where there are none, its displacement.
/// `bytes` are the instruction's.
pub(super) fn steer(
    instruction: &Instruction,
    offsets: ConstantOffsets,
    bytes: &mut [u8],
    state: &mut Registers,
    image: &[u8],
    factory: &mut InstructionInfoFactory,
    rng: &mut Rng,
) {
    let memories: Vec<UsedMemory> = factory.info(instruction).used_memory().to_vec();
    let jumps = instruction.is_jmp_near_indirect()
        || instruction.is_call_near_indirect()
        || instruction.mnemonic() == Mnemonic::Ret;
    for memory in &memories {
        let mut target = values::pointer(rng);
        if jumps && rng.percent(70) {
            target = code_pointer(image, rng).unwrap_or(target);
        } else if instruction.is_stack_instruction() && memory.base() == Register::RSP && rng.percent(80) {
            target &= !7;
        }
        let wanted = target.wrapping_sub(segment_base(state, memory.segment()));
        let fixed =
            matches!(memory.base(), Register::None | Register::RIP | Register::EIP) && memory.index() == Register::None;
        if fixed {
            displace(instruction, offsets, bytes, wanted);
            continue;
        }
        let left = wanted.wrapping_sub(memory.displacement());
        let scale = u64::from(memory.scale());
        if memory.base() == Register::None || memory.base() == Register::RIP {
            set(state, memory.index(), left / scale.max(1));
        } else if memory.base().full_register() == memory.index().full_register() {
            set(state, memory.base(), left / (scale + 1));
        } else if memory.index() != Register::None {
            if memory.index().size() > 1 && rng.percent(60) {
                set(state, memory.index(), rng.below(64));
            }
            let index = get(state, memory.index()).unwrap_or(0);
            set(state, memory.base(), left.wrapping_sub(index.wrapping_mul(scale)));
        } else {
            set(state, memory.base(), left);
        }
    }
    if jumps && instruction.op0_kind() == OpKind::Register && rng.percent(80) {
        set(state, instruction.op0_register(), layout::TRAPS + rng.below(layout::TRAPS_SIZE));
    }
    operands(instruction, state, image, rng);
}

/// Rewrites the displacement so that it leads to `wanted`.
fn displace(instruction: &Instruction, offsets: ConstantOffsets, bytes: &mut [u8], wanted: u64) {
    let value =
        if instruction.is_ip_rel_memory_operand() { wanted.wrapping_sub(instruction.next_ip()) } else { wanted };
    let (at, size) = (offsets.displacement_offset(), offsets.displacement_size());
    if offsets.has_displacement()
        && let Some(place) = bytes.get_mut(at..at + size)
    {
        place.copy_from_slice(&value.to_le_bytes()[..size.min(8)]);
    }
}

/// Address of a word in the data that points to code.
fn code_pointer(image: &[u8], rng: &mut Rng) -> Option<u64> {
    let data = image.get(layout::DATA_OFFSET..layout::READ_ONLY_OFFSET)?;
    let start = rng.below(data.len() as u64 / 8) as usize;
    let words = data.as_chunks::<8>().0;
    let found = (start..words.len()).find(|n| {
        let word = u64::from_le_bytes(words[*n]);
        (layout::TRAPS..layout::TRAPS + layout::TRAPS_SIZE).contains(&word)
    })?;
    Some(layout::DATA + 8 * found as u64)
}

/// Values that let the instruction do more than fault, most of the time.
fn operands(instruction: &Instruction, state: &mut Registers, image: &[u8], rng: &mut Rng) {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Div | M::Idiv if rng.percent(75) => {
            let high = if instruction.mnemonic() == M::Idiv && rng.percent(50) {
                let negative = state.gpr[0] >> 63 != 0;
                if negative { u64::MAX } else { 0 }
            } else {
                rng.below(4)
            };
            let size = match instruction.op0_kind() {
                OpKind::Register => instruction.op0_register().size(),
                _ => instruction.memory_size().size(),
            };
            let register = if size == 1 { Register::AH } else { Register::RDX };
            if instruction.op0_kind() != OpKind::Register
                || instruction.op0_register().full_register() != register.full_register()
            {
                set(state, register, high);
            }
        }
        M::Bt | M::Bts | M::Btr | M::Btc
            if instruction.op0_kind() == OpKind::Memory
                && instruction.op1_kind() == OpKind::Register
                && rng.percent(75) =>
        {
            let register = instruction.op1_register();
            if register.full_register() != instruction.memory_base().full_register()
                && register.full_register() != instruction.memory_index().full_register()
            {
                set(state, register, rng.below(4096).wrapping_sub(2048));
            }
        }
        M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b if rng.percent(60) => expect(instruction, state, image),
        M::Shl | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd if rng.percent(60) => {
            set(state, Register::CL, rng.below(70));
        }
        M::Enter if rng.percent(50) => {
            state.gpr[4] = layout::DATA + layout::PAGE + 8 * rng.below(400);
            state.gpr[5] = layout::DATA + 8 * rng.below(900);
        }
        M::Pcmpestri | M::Pcmpestrm | M::Pcmpestri64 | M::Pcmpestrm64 if rng.percent(75) => {
            state.gpr[0] = rng.below(20).wrapping_sub(2);
            state.gpr[2] = rng.below(20).wrapping_sub(2);
        }
        _ => {}
    }
    if instruction.has_rep_prefix() || instruction.has_repne_prefix() || instruction.mnemonic() == M::Loop {
        state.gpr[1] = match rng.below(10) {
            0 => 0,
            1..8 => rng.below(40),
            8 => rng.below(5000),
            _ => state.gpr[1],
        };
    }
}

/// Makes the comparison of a CMPXCHG succeed.
fn expect(instruction: &Instruction, state: &mut Registers, image: &[u8]) {
    if instruction.op0_kind() == OpKind::Register {
        if let Some(value) = get(state, instruction.op0_register()) {
            state.gpr[0] = value;
        }
        return;
    }
    let address = instruction.virtual_address(0, 0, |register, _, _| match register {
        Register::FS => Some(state.fs_base),
        Register::GS => Some(state.gs_base),
        _ if register.is_segment_register() => Some(0),
        _ => get(state, register),
    });
    let Some(at) = address.and_then(layout::offset) else { return };
    let word = |at: usize| image.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    match instruction.mnemonic() {
        Mnemonic::Cmpxchg => state.gpr[0] = word(at),
        Mnemonic::Cmpxchg8b => {
            state.gpr[0] = word(at) & 0xFFFF_FFFF;
            state.gpr[2] = word(at) >> 32;
        }
        _ => {
            state.gpr[0] = word(at);
            state.gpr[2] = word(at + 8);
        }
    }
}
