//! Decimal arithmetic, which 64-bit mode does not have (SDM vol. 1, §7.3.3).

use crate::core::Core;
use crate::fault::{R, vector};
use crate::flags::{Lazy, bits as fl};
use crate::insn::Insn;
use crate::word::{HIGH, Word};

fn al(core: &Core) -> u8 {
    u8::get(&core.regs, 0)
}

fn finish(core: &mut Core, al: u8, cf: bool, af: bool) {
    u8::set(&mut core.regs, 0, al);
    core.lazy = Lazy::with(al, cf, false);
    core.lazy.aux |= u64::from(af) << 3;
}

/// DAA, and DAS with `SUBTRACT`.
pub(crate) fn decimal<const SUBTRACT: bool>(core: &mut Core, _: &Insn) -> R {
    let (old, old_cf) = (al(core), core.lazy.cf());
    let apply = |v: u8, n: u8| if SUBTRACT { v.wrapping_sub(n) } else { v.wrapping_add(n) };
    let (mut v, mut cf, mut af) = (old, false, false);
    if v & 0xF > 9 || core.lazy.af() {
        let over = if SUBTRACT { v < 6 } else { v > 0xF9 };
        v = apply(v, 6);
        cf = old_cf || over;
        af = true;
    }
    if old > 0x99 || old_cf {
        v = apply(v, 0x60);
        cf = true;
    }
    finish(core, v, cf, af);
    Ok(())
}

/// AAA, and AAS with `SUBTRACT`.
pub(crate) fn ascii<const SUBTRACT: bool>(core: &mut Core, _: &Insn) -> R {
    let adjust = al(core) & 0xF > 9 || core.lazy.af();
    if adjust {
        let ax = core.regs[0] as u16;
        let ax = if SUBTRACT { ax.wrapping_sub(0x106) } else { ax.wrapping_add(0x106) };
        u16::set(&mut core.regs, 0, ax);
    }
    let v = al(core) & 0xF;
    finish(core, v, adjust, adjust);
    Ok(())
}

/// AAM.
pub(crate) fn aam(core: &mut Core, i: &Insn) -> R {
    let base = i.imm as u8;
    if base == 0 {
        return Err(core.raise(vector::DE));
    }
    let v = al(core);
    u8::set(&mut core.regs, HIGH, v / base);
    finish(core, v % base, false, false);
    Ok(())
}

/// AAD.
pub(crate) fn aad(core: &mut Core, i: &Insn) -> R {
    let ah = u8::get(&core.regs, HIGH);
    let v = al(core).wrapping_add(ah.wrapping_mul(i.imm as u8));
    u8::set(&mut core.regs, HIGH, 0);
    finish(core, v, false, false);
    Ok(())
}

/// SALC: AL is all ones if CF, else 0.
pub(crate) fn salc(core: &mut Core, _: &Insn) -> R {
    let v = if core.lazy.bits() & fl::CF != 0 { 0xFF } else { 0 };
    u8::set(&mut core.regs, 0, v);
    Ok(())
}
