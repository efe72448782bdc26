//! Addition, subtraction, logic, and what is made of them.

use super::{Place, Source};
use crate::core::Core;
use crate::fault::R;
use crate::flags::Lazy;
use crate::insn::Insn;
use crate::word::Word;

/// A function of two operands and the flags.
pub(crate) trait Op {
    fn apply<T: Word>(a: T, b: T, flags: Lazy) -> (T, Lazy);
}

#[inline(always)]
fn add<T: Word>(a: T, b: T, carry: u64) -> (T, Lazy) {
    let (x, y) = (a.wide(), b.wide());
    let r = x.wrapping_add(y).wrapping_add(carry);
    let carries = x & y | (x | y) & !r;
    let r = T::cut(r);
    (r, Lazy::carries(r, carries))
}

#[inline(always)]
pub(crate) fn sub<T: Word>(a: T, b: T, borrow: u64) -> (T, Lazy) {
    let (x, y) = (a.wide(), b.wide());
    let r = x.wrapping_sub(y).wrapping_sub(borrow);
    let borrows = !x & y | (!x | y) & r;
    let r = T::cut(r);
    (r, Lazy::carries(r, borrows))
}

pub(crate) struct Add;
pub(crate) struct Adc;
pub(crate) struct Sub;
pub(crate) struct Sbb;
pub(crate) struct And;
pub(crate) struct Or;
pub(crate) struct Xor;

impl Op for Add {
    #[inline(always)]
    fn apply<T: Word>(a: T, b: T, _: Lazy) -> (T, Lazy) {
        add(a, b, 0)
    }
}
impl Op for Adc {
    #[inline(always)]
    fn apply<T: Word>(a: T, b: T, flags: Lazy) -> (T, Lazy) {
        add(a, b, flags.cf().into())
    }
}
impl Op for Sub {
    #[inline(always)]
    fn apply<T: Word>(a: T, b: T, _: Lazy) -> (T, Lazy) {
        sub(a, b, 0)
    }
}
impl Op for Sbb {
    #[inline(always)]
    fn apply<T: Word>(a: T, b: T, flags: Lazy) -> (T, Lazy) {
        sub(a, b, flags.cf().into())
    }
}
impl Op for And {
    #[inline(always)]
    fn apply<T: Word>(a: T, b: T, _: Lazy) -> (T, Lazy) {
        let r = T::cut(a.wide() & b.wide());
        (r, Lazy::logic(r))
    }
}
impl Op for Or {
    #[inline(always)]
    fn apply<T: Word>(a: T, b: T, _: Lazy) -> (T, Lazy) {
        let r = T::cut(a.wide() | b.wide());
        (r, Lazy::logic(r))
    }
}
impl Op for Xor {
    #[inline(always)]
    fn apply<T: Word>(a: T, b: T, _: Lazy) -> (T, Lazy) {
        let r = T::cut(a.wide() ^ b.wide());
        (r, Lazy::logic(r))
    }
}

/// `D ← D op S`.
pub(crate) fn two<T: Word, O: Op, D: Place, S: Source>(core: &mut Core, i: &Insn) -> R {
    let b: T = S::get(core, i)?;
    let flags = core.lazy;
    D::update(core, i, |a| O::apply(a, b, flags))
}

/// Flags of `D op S` only: CMP, TEST.
pub(crate) fn compare<T: Word, O: Op, D: Source, S: Source>(core: &mut Core, i: &Insn) -> R {
    let b: T = S::get(core, i)?;
    let a: T = D::get(core, i)?;
    core.lazy = O::apply(a, b, core.lazy).1;
    Ok(())
}

/// INC.
pub(crate) fn inc<T: Word, D: Place>(core: &mut Core, i: &Insn) -> R {
    let cf = core.lazy.cf();
    D::update(core, i, |a: T| {
        let (r, flags) = add(a, T::cut(1), 0);
        (r, flags.with_cf(cf))
    })
}

/// DEC.
pub(crate) fn dec<T: Word, D: Place>(core: &mut Core, i: &Insn) -> R {
    let cf = core.lazy.cf();
    D::update(core, i, |a: T| {
        let (r, flags) = sub(a, T::cut(1), 0);
        (r, flags.with_cf(cf))
    })
}

/// NEG.
pub(crate) fn neg<T: Word, D: Place>(core: &mut Core, i: &Insn) -> R {
    D::update(core, i, |a: T| sub(T::cut(0), a, 0))
}

/// NOT.
pub(crate) fn not<T: Word, D: Place>(core: &mut Core, i: &Insn) -> R {
    D::swap(core, i, |a: T| (T::cut(!a.wide()), ()))
}

/// XADD: the source register gets the old value.
pub(crate) fn xadd<T: Word, D: Place>(core: &mut Core, i: &Insn) -> R {
    let b = T::get(&core.regs, i.src);
    let (old, flags) = D::swap(core, i, |a: T| {
        let (r, flags) = add(a, b, 0);
        (r, (a, flags))
    })?;
    // With the same register twice the sum stays, because it is written last (SDM vol. 2, XADD).
    let sum = add(old, b, 0).0;
    T::set(&mut core.regs, i.src, old);
    if D::IS_REGISTER {
        T::set(&mut core.regs, i.dst, sum);
    }
    core.lazy = flags;
    Ok(())
}

/// CMPXCHG.
pub(crate) fn cmpxchg<T: Word, D: Place>(core: &mut Core, i: &Insn) -> R {
    let wanted = T::get(&core.regs, 0);
    let new = T::get(&core.regs, i.src);
    // The destination is written in any case: with what it was if the comparison fails.
    let old: T = D::swap(core, i, |old: T| (if old == wanted { new } else { old }, old))?;
    core.lazy = sub(wanted, old, 0).1;
    if old != wanted {
        T::set(&mut core.regs, 0, old);
    }
    Ok(())
}

/// ADCX and ADOX: CF or OF as a carry chain, nothing else touched.
pub(crate) fn adx<T: Word, S: Source, const OVERFLOW: bool>(core: &mut Core, i: &Insn) -> R {
    let b: T = S::get(core, i)?;
    let a = T::get(&core.regs, i.dst);
    let carry = if OVERFLOW { core.lazy.of() } else { core.lazy.cf() };
    let (r, flags) = add(a, b, carry.into());
    T::set(&mut core.regs, i.dst, r);
    let out = flags.cf();
    let (cf, of) = if OVERFLOW { (core.lazy.cf(), out) } else { (out, core.lazy.of()) };
    core.lazy.aux = core.lazy.aux & !(3 << 62) | u64::from(cf) << 63 | u64::from(cf ^ of) << 62;
    Ok(())
}
