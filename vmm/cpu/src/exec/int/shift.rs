//! Shifts and rotates.

use super::{Place, Source};
use crate::core::Core;
use crate::fault::R;
use crate::flags::Lazy;
use crate::insn::Insn;
use crate::word::Word;

/// A shift or rotate by a count that is not 0.
pub(crate) trait Shift {
    /// The result, and the flags that it leaves (`flags`: those before).
    fn apply<T: Word>(a: T, count: u32, flags: Lazy) -> (T, Lazy);
}

pub(crate) struct Shl;
pub(crate) struct Shr;
pub(crate) struct Sar;
pub(crate) struct Rol;
pub(crate) struct Ror;
pub(crate) struct Rcl;
pub(crate) struct Rcr;

#[inline(always)]
fn top<T: Word>(value: u64) -> bool {
    value >> (T::BITS - 1) & 1 != 0
}

impl Shift for Shl {
    #[inline(always)]
    fn apply<T: Word>(a: T, count: u32, _: Lazy) -> (T, Lazy) {
        // Counts up to 31 with 8- and 16-bit operands shift everything out.
        let wide = u128::from(a.wide()) << count;
        let cf = wide >> T::BITS & 1 != 0;
        let r = T::cut(wide as u64);
        (r, Lazy::with(r, cf, top::<T>(r.wide()) != cf))
    }
}
impl Shift for Shr {
    #[inline(always)]
    fn apply<T: Word>(a: T, count: u32, _: Lazy) -> (T, Lazy) {
        let cf = a.wide() >> (count - 1) & 1 != 0;
        let r = T::cut((u128::from(a.wide()) >> count) as u64);
        (r, Lazy::with(r, cf, top::<T>(a.wide())))
    }
}
impl Shift for Sar {
    #[inline(always)]
    fn apply<T: Word>(a: T, count: u32, _: Lazy) -> (T, Lazy) {
        let s = a.sext() as i64;
        let cf = s >> (count - 1) & 1 != 0;
        let r = T::cut((s >> count) as u64);
        (r, Lazy::with(r, cf, false))
    }
}

/// Rotates leave SF, ZF, AF and PF.
#[inline(always)]
fn carry_and_overflow(flags: Lazy, cf: bool, of: bool) -> Lazy {
    Lazy { aux: flags.aux & !(3 << 62) | u64::from(cf) << 63 | u64::from(cf ^ of) << 62, ..flags }
}

impl Shift for Rol {
    #[inline(always)]
    fn apply<T: Word>(a: T, count: u32, flags: Lazy) -> (T, Lazy) {
        let (x, n) = (a.wide(), count % T::BITS);
        let r = if n == 0 { x } else { (x << n | x >> (T::BITS - n)) & T::MASK };
        let cf = r & 1 != 0;
        (T::cut(r), carry_and_overflow(flags, cf, top::<T>(r) != cf))
    }
}
impl Shift for Ror {
    #[inline(always)]
    fn apply<T: Word>(a: T, count: u32, flags: Lazy) -> (T, Lazy) {
        let (x, n) = (a.wide(), count % T::BITS);
        let r = if n == 0 { x } else { (x >> n | x << (T::BITS - n)) & T::MASK };
        let cf = top::<T>(r);
        (T::cut(r), carry_and_overflow(flags, cf, cf != (r >> (T::BITS - 2) & 1 != 0)))
    }
}
impl Shift for Rcl {
    #[inline(always)]
    fn apply<T: Word>(a: T, count: u32, flags: Lazy) -> (T, Lazy) {
        let n = count % (T::BITS + 1);
        if n == 0 {
            return (a, flags);
        }
        // The operand with CF above it, rotated in a ring of BITS + 1.
        let ring = u128::from(flags.cf()) << T::BITS | u128::from(a.wide());
        let turned = ring << n | ring >> (T::BITS + 1 - n);
        let r = T::cut(turned as u64);
        let cf = turned >> T::BITS & 1 != 0;
        (r, carry_and_overflow(flags, cf, top::<T>(r.wide()) != cf))
    }
}
impl Shift for Rcr {
    #[inline(always)]
    fn apply<T: Word>(a: T, count: u32, flags: Lazy) -> (T, Lazy) {
        let n = count % (T::BITS + 1);
        if n == 0 {
            return (a, flags);
        }
        let ring = u128::from(flags.cf()) << T::BITS | u128::from(a.wide());
        let turned = ring >> n | ring << (T::BITS + 1 - n);
        let r = T::cut(turned as u64);
        let cf = turned >> T::BITS & 1 != 0;
        (r, carry_and_overflow(flags, cf, top::<T>(r.wide()) != (r.wide() >> (T::BITS - 2) & 1 != 0)))
    }
}

/// `D ← D op count`.
pub(crate) fn shift<T: Word, O: Shift, D: Place, S: Source>(core: &mut Core, i: &Insn) -> R {
    let mask = if T::BITS == 64 { 63 } else { 31 };
    let count = u32::from(S::get::<u8>(core, i)?) & mask;
    let flags = core.lazy;
    D::update(core, i, |a: T| if count == 0 { (a, flags) } else { O::apply(a, count, flags) })
}

/// SHLD and SHRD.
pub(crate) fn double<T: Word, D: Place, S: Source, const LEFT: bool>(core: &mut Core, i: &Insn) -> R {
    let mask = if T::BITS == 64 { 63 } else { 31 };
    let count = u32::from(S::get::<u8>(core, i)?) & mask;
    let filler = T::get(&core.regs, i.src).wide();
    let flags = core.lazy;
    D::update(core, i, |a: T| {
        if count == 0 {
            return (a, flags);
        }
        let a = a.wide();
        let (r, cf) = if LEFT {
            // With 16 bits and counts above 16 (undefined) the ring operand:filler:operand is what processors shift.
            let ring = u128::from(a) << ((2 * T::BITS) % 128) | u128::from(filler) << T::BITS | u128::from(a);
            let ring = if T::BITS == 64 { u128::from(a) << 64 | u128::from(filler) } else { ring };
            let shift = if T::BITS == 64 { 64 - count } else { 2 * T::BITS - count };
            let cf = if T::BITS == 64 { a >> (64 - count) & 1 != 0 } else { ring >> (3 * T::BITS - count) & 1 != 0 };
            ((ring >> shift) as u64, cf)
        } else {
            let ring = u128::from(filler) << T::BITS | u128::from(a);
            let ring = if T::BITS == 64 { ring } else { ring | u128::from(a) << (2 * T::BITS) };
            ((ring >> count) as u64, ring >> (count - 1) & 1 != 0)
        };
        let r = T::cut(r);
        (r, Lazy::with(r, cf, top::<T>(r.wide()) != top::<T>(a)))
    })
}

/// RORX, SARX, SHLX, SHRX: no flags. `KIND`: 0 ROR, 1 SAR, 2 SHL, 3 SHR.
pub(crate) fn flagless<T: Word, S: Source, C: Source, const KIND: u8>(core: &mut Core, i: &Insn) -> R {
    let a: T = S::get(core, i)?;
    let count = (C::get::<u8>(core, i)? & (T::BITS as u8 - 1)).into();
    let r = match KIND {
        0 => Ror::apply(a, count, core.lazy).0.wide(),
        1 => ((a.sext() as i64) >> count) as u64,
        2 => a.wide() << count,
        _ => a.wide() >> count,
    };
    T::set(&mut core.regs, i.dst, T::cut(r));
    Ok(())
}
