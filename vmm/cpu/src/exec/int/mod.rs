//! Integer instructions.

use crate::core::Core;
use crate::fault::R;
use crate::flags::Lazy;
use crate::insn::Insn;
use crate::word::Word;

pub(crate) mod alu;
pub(crate) mod bcd;
pub(crate) mod bits;
pub(crate) mod branch;
pub(crate) mod data;
pub(crate) mod muldiv;
pub(crate) mod shift;
pub(crate) mod string;

/// Where a value comes from.
pub(crate) trait Source {
    fn get<T: Word>(core: &mut Core, i: &Insn) -> R<T>;
}

/// Where a result goes.
pub(crate) trait Place: Source {
    /// A register, so that writing cannot fail.
    const IS_REGISTER: bool;
    fn put<T: Word>(core: &mut Core, i: &Insn, value: T) -> R;
    /// Replaces the value by a function of it, and sets the flags that the function says. The function may be called
    /// more than once.
    fn update<T: Word>(core: &mut Core, i: &Insn, f: impl FnMut(T) -> (T, Lazy)) -> R;
    /// Replaces the value and leaves the flags; returns what the function says besides.
    fn swap<T: Word, U>(core: &mut Core, i: &Insn, f: impl FnMut(T) -> (T, U)) -> R<U>;
}

/// The register `dst`.
pub(crate) struct Dst;
/// The register `src`.
pub(crate) struct Src;
/// The register `third`.
pub(crate) struct Third;
/// The memory operand.
pub(crate) struct Mem;
/// The immediate.
pub(crate) struct Imm;
/// CL.
pub(crate) struct Cl;

macro_rules! register {
    ($name:ident, $field:ident) => {
        impl Source for $name {
            #[inline(always)]
            fn get<T: Word>(core: &mut Core, i: &Insn) -> R<T> {
                Ok(T::get(&core.regs, i.$field))
            }
        }
        impl Place for $name {
            const IS_REGISTER: bool = true;
            #[inline(always)]
            fn put<T: Word>(core: &mut Core, i: &Insn, value: T) -> R {
                T::set(&mut core.regs, i.$field, value);
                Ok(())
            }
            #[inline(always)]
            fn update<T: Word>(core: &mut Core, i: &Insn, mut f: impl FnMut(T) -> (T, Lazy)) -> R {
                let (value, flags) = f(T::get(&core.regs, i.$field));
                T::set(&mut core.regs, i.$field, value);
                core.lazy = flags;
                Ok(())
            }
            #[inline(always)]
            fn swap<T: Word, U>(core: &mut Core, i: &Insn, mut f: impl FnMut(T) -> (T, U)) -> R<U> {
                let (value, extra) = f(T::get(&core.regs, i.$field));
                T::set(&mut core.regs, i.$field, value);
                Ok(extra)
            }
        }
    };
}
register!(Dst, dst);
register!(Src, src);
register!(Third, third);

impl Source for Mem {
    #[inline(always)]
    fn get<T: Word>(core: &mut Core, i: &Insn) -> R<T> {
        core.load(i)
    }
}

impl Place for Mem {
    const IS_REGISTER: bool = false;
    #[inline(always)]
    fn put<T: Word>(core: &mut Core, i: &Insn, value: T) -> R {
        core.store(i, value)
    }
    #[inline(always)]
    fn update<T: Word>(core: &mut Core, i: &Insn, f: impl FnMut(T) -> (T, Lazy)) -> R {
        core.lazy = core.rmw(i, f)?;
        Ok(())
    }
    #[inline(always)]
    fn swap<T: Word, U>(core: &mut Core, i: &Insn, f: impl FnMut(T) -> (T, U)) -> R<U> {
        core.rmw(i, f)
    }
}

impl Source for Imm {
    #[inline(always)]
    fn get<T: Word>(_: &mut Core, i: &Insn) -> R<T> {
        Ok(T::cut(i.imm))
    }
}

impl Source for Cl {
    #[inline(always)]
    fn get<T: Word>(core: &mut Core, _: &Insn) -> R<T> {
        Ok(T::cut(core.regs[crate::insn::reg::RCX] & 0xFF))
    }
}
