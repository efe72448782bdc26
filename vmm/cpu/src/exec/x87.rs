//! The x87 instructions between memory, the unit and exceptions. The arithmetic is in [`crate::x87`].
//!
//! With CR0.NE clear a pending exception is not reported: that would be the FERR# pin and interrupt 13 of the PC/AT,
//! which this machine does not have (as on a board that always asserts IGNNE#).

use crate::core::{Core, cr};
use crate::fault::{R, vector};
use crate::flags::{Lazy, bits as fl};
use crate::insn::{Insn, reg, seg};
use crate::mem::{Access, Plain};
use crate::x87::{Compared, F80, Fpu, Layout, Operand, Source};

/// Bytes of the largest block that an x87 instruction moves (FNSAVE, 32-bit).
const LARGEST: usize = 108;

/// May x87 instructions run at all? #NM otherwise (SDM vol. 3A, table 2-2).
fn available(core: &mut Core) -> R {
    if core.cr0 & (cr::CR0_EM | cr::CR0_TS) != 0 {
        return Err(core.raise(vector::NM));
    }
    Ok(())
}

/// The #MF that an earlier instruction has left pending.
pub(crate) fn pending(core: &mut Core) -> R {
    if core.fpu.pending() && core.cr0 & cr::CR0_NE != 0 {
        return Err(core.raise(vector::MF));
    }
    Ok(())
}

/// What every waiting instruction starts with.
fn ready(core: &mut Core) -> R {
    available(core)?;
    pending(core)
}

/// FWAIT looks at TS only together with MP, and not at EM.
pub(crate) fn wait(core: &mut Core, _: &Insn) -> R {
    const BOTH: u64 = cr::CR0_MP | cr::CR0_TS;
    if core.cr0 & BOTH == BOTH {
        return Err(core.raise(vector::NM));
    }
    pending(core)
}

/// Where the instruction and its memory operand are, for FIP, FDP and FOP: offsets in protected mode, linear addresses
/// otherwise. The decoder leaves the opcode in the immediate.
fn note(core: &mut Core, i: &Insn, memory: bool) {
    let rip = core.regs[reg::RIP].wrapping_sub(i.len.into());
    let data = core.offset(i);
    let protected = core.protected();
    let pointer = |segment: usize, offset: u64| {
        if protected { offset } else { core.seg[segment & 7].base.wrapping_add(offset) & 0xFFFF_FFFF }
    };
    let ip = if core.bits64() { rip } else { pointer(seg::CS, rip & 0xFFFF_FFFF) };
    let dp = pointer(i.seg.into(), data);
    core.fpu.ip = ip;
    core.fpu.opcode = i.imm as u16 & 0x7FF;
    if memory {
        core.fpu.dp = dp;
    }
}

/// An instruction without a memory operand.
pub(crate) fn register(core: &mut Core, i: &Insn, f: impl FnOnce(&mut Fpu, &Insn)) -> R {
    ready(core)?;
    note(core, i, false);
    f(&mut core.fpu, i);
    Ok(())
}

/// A format that instructions read from memory.
pub(crate) trait Format {
    /// Reads the operand.
    fn load(core: &mut Core, i: &Insn) -> R<Operand>;
}

/// m32fp
pub(crate) enum F32 {}
/// m64fp
pub(crate) enum F64 {}
/// m16int
pub(crate) enum I16 {}
/// m32int
pub(crate) enum I32 {}
/// m64int
pub(crate) enum I64 {}
/// m80bcd
pub(crate) enum Decimal {}

impl Format for F32 {
    fn load(core: &mut Core, i: &Insn) -> R<Operand> {
        core.load::<u32>(i).map(Operand::f32)
    }
}

impl Format for F64 {
    fn load(core: &mut Core, i: &Insn) -> R<Operand> {
        core.load::<u64>(i).map(Operand::f64)
    }
}

impl Format for I16 {
    fn load(core: &mut Core, i: &Insn) -> R<Operand> {
        core.load::<u16>(i).map(|value| Operand::integer((value as i16).into()))
    }
}

impl Format for I32 {
    fn load(core: &mut Core, i: &Insn) -> R<Operand> {
        core.load::<u32>(i).map(|value| Operand::integer((value as i32).into()))
    }
}

impl Format for I64 {
    fn load(core: &mut Core, i: &Insn) -> R<Operand> {
        core.load::<u64>(i).map(|value| Operand::integer(value as i64))
    }
}

impl Format for Decimal {
    fn load(core: &mut Core, i: &Insn) -> R<Operand> {
        load_ten(core, i).map(Operand::decimal)
    }
}

/// An instruction with a memory operand that it reads.
pub(crate) fn memory<M: Format>(core: &mut Core, i: &Insn, f: impl FnOnce(&mut Fpu, Source)) -> R {
    ready(core)?;
    let operand = M::load(core, i)?;
    note(core, i, true);
    f(&mut core.fpu, Source::Memory(operand));
    Ok(())
}

/// FLD and its kin.
pub(crate) fn push<M: Format>(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let operand = M::load(core, i)?;
    note(core, i, true);
    core.fpu.fld_operand(operand);
    Ok(())
}

/// FLD m80fp
pub(crate) fn push_f80(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let bytes = load_ten(core, i)?;
    note(core, i, true);
    core.fpu.fld(F80::from_bytes(bytes));
    Ok(())
}

/// An instruction that stores what the unit gives, if it gives anything. The unit changes after the store only, and the
/// place is one that could be written even if nothing is.
fn store_with<T>(
    core: &mut Core,
    i: &Insn,
    size: usize,
    f: impl FnOnce(&mut Fpu) -> Option<T>,
    store: impl FnOnce(&mut Core, &Insn, T) -> R,
) -> R {
    ready(core)?;
    let mut next = core.fpu.clone();
    match f(&mut next) {
        Some(value) => store(core, i, value)?,
        None => {
            let la = core.linear(i, size as u64, Access::Write)?;
            core.translate_span(core.mmu, usize::from(i.seg), la, size, Access::Write)?;
        }
    }
    core.fpu = next;
    note(core, i, true);
    Ok(())
}

/// FST, FIST and their kin.
pub(crate) fn store<T: Plain>(core: &mut Core, i: &Insn, f: impl FnOnce(&mut Fpu) -> Option<T>) -> R {
    store_with(core, i, T::BYTES, f, |core, i, value| core.store(i, value))
}

/// FSTP m80fp and FBSTP.
pub(crate) fn store_ten(core: &mut Core, i: &Insn, f: impl FnOnce(&mut Fpu) -> Option<[u8; 10]>) -> R {
    store_with(core, i, 10, f, |core, i, [a, b, c, d, e, f, g, h, j, k]: [u8; 10]| {
        let la = core.linear(i, 10, Access::Write)?;
        let segment = usize::from(i.seg);
        core.probe(core.mmu, segment, la, 10, Access::Write)?;
        core.store_at(segment, la, u64::from_le_bytes([a, b, c, d, e, f, g, h]))?;
        let rest = core.wrapped(la, 8);
        core.store_at(segment, rest, u16::from_le_bytes([j, k]))
    })
}

fn load_ten(core: &mut Core, i: &Insn) -> R<[u8; 10]> {
    let la = core.linear(i, 10, Access::Read)?;
    let segment = usize::from(i.seg);
    let [a, b, c, d, e, f, g, h] = core.load_at::<u64>(segment, la)?.to_le_bytes();
    let rest = core.wrapped(la, 8);
    let [j, k] = core.load_at::<u16>(segment, rest)?.to_le_bytes();
    Ok([a, b, c, d, e, f, g, h, j, k])
}

/// FCMOVcc, `C` being the condition in the encoding of Jcc.
pub(crate) fn fcmov<const C: u8>(core: &mut Core, i: &Insn) -> R {
    let holds = core.lazy.condition::<C>();
    register(core, i, |fpu, i| fpu.fcmov(i.src, holds))
}

/// FCOMI, FCOMIP and, when `QUIET`, FUCOMI, FUCOMIP.
pub(crate) fn fcomi<const QUIET: bool, const POP: bool>(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    note(core, i, false);
    let Compared { zf, pf, cf } = core.fpu.fcomi(i.src, QUIET, POP);
    let bit = |set: bool, bit: u64| if set { bit } else { 0 };
    core.lazy = Lazy::from_bits(bit(zf, fl::ZF) | bit(pf, fl::PF) | bit(cf, fl::CF));
    Ok(())
}

/// FNCLEX, FNINIT.
pub(crate) fn control(core: &mut Core, f: impl FnOnce(&mut Fpu)) -> R {
    available(core)?;
    f(&mut core.fpu);
    Ok(())
}

/// FNSTCW, FNSTSW m16.
pub(crate) fn store_word(core: &mut Core, i: &Insn, f: impl FnOnce(&Fpu) -> u16) -> R {
    available(core)?;
    let value = f(&core.fpu);
    core.store(i, value)
}

/// FNSTSW AX
pub(crate) fn status_to_ax(core: &mut Core, _: &Insn) -> R {
    available(core)?;
    let status = u64::from(core.fpu.status());
    let rax = &mut core.regs[reg::RAX];
    *rax = *rax & !0xFFFF | status;
    Ok(())
}

/// FLDCW
pub(crate) fn load_control(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let control: u16 = core.load(i)?;
    core.fpu.set_control(control);
    Ok(())
}

fn layout(core: &Core, wide: bool) -> Layout {
    match (core.protected(), wide) {
        (false, false) => Layout::Real16,
        (true, false) => Layout::Protected16,
        (false, true) => Layout::Real32,
        (true, true) => Layout::Protected32,
    }
}

/// FNSTENV, with the operand size `WIDE`.
pub(crate) fn store_environment<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    available(core)?;
    let layout = layout(core, WIDE);
    store_block(core, i, &core.fpu.environment(layout), layout.size())?;
    core.fpu.mask_all();
    Ok(())
}

/// FLDENV
pub(crate) fn load_environment<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let layout = layout(core, WIDE);
    let mut bytes = [0; 28];
    load_block(core, i, &mut bytes, layout.size())?;
    core.fpu.set_environment(layout, &bytes);
    Ok(())
}

/// FNSAVE
pub(crate) fn save<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    available(core)?;
    let layout = layout(core, WIDE);
    let size = layout.size();
    let mut bytes = [0; LARGEST];
    let (environment, registers) = bytes.split_at_mut(size);
    environment.copy_from_slice(&core.fpu.environment(layout)[..size]);
    for (to, n) in registers.chunks_exact_mut(10).zip(0..8) {
        to.copy_from_slice(&core.fpu.raw(n).to_bytes());
    }
    store_block(core, i, &bytes, size + 80)?;
    core.fpu.fninit();
    Ok(())
}

/// FRSTOR
pub(crate) fn restore<const WIDE: bool>(core: &mut Core, i: &Insn) -> R {
    ready(core)?;
    let layout = layout(core, WIDE);
    let size = layout.size();
    let mut bytes = [0; LARGEST];
    load_block(core, i, &mut bytes, size + 80)?;
    let (environment, registers) = bytes.split_at(size);
    let mut image = [0; 28];
    image[..size].copy_from_slice(environment);
    core.fpu.set_environment(layout, &image);
    for (from, n) in registers.as_chunks::<10>().0.iter().zip(0..8) {
        core.fpu.set_raw(n, F80::from_bytes(*from));
    }
    Ok(())
}

/// Writes the first `size` bytes (an even number) to the memory operand: all of them, or none.
fn store_block(core: &mut Core, i: &Insn, bytes: &[u8], size: usize) -> R {
    let segment = usize::from(i.seg);
    let la = core.linear(i, size as u64, Access::Write)?;
    core.probe(core.mmu, segment, la, size, Access::Write)?;
    for (pair, k) in bytes.as_chunks::<2>().0.iter().zip(0..size as u64 / 2) {
        let at = core.wrapped(la, 2 * k);
        core.store_at(segment, at, u16::from_le_bytes(*pair))?;
    }
    Ok(())
}

/// Reads `size` bytes (an even number) of the memory operand.
fn load_block(core: &mut Core, i: &Insn, bytes: &mut [u8], size: usize) -> R {
    let segment = usize::from(i.seg);
    let la = core.linear(i, size as u64, Access::Read)?;
    for (pair, k) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(0..size as u64 / 2) {
        let at = core.wrapped(la, 2 * k);
        *pair = core.load_at::<u16>(segment, at)?.to_le_bytes();
    }
    Ok(())
}

impl Core {
    /// The linear address `by` bytes further on: outside IA-32e mode addresses wrap at 4 GiB.
    pub(crate) fn wrapped(&self, la: u64, by: u64) -> u64 {
        let next = la.wrapping_add(by);
        if self.bits64() { next } else { next & 0xFFFF_FFFF }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
#[path = "x87_tests.rs"]
mod tests;
