//! The instructions as methods of the unit (SDM vol. 1, section 8.3, and vol. 2A under each name).

use std::cmp::Ordering;

use super::arith::{self, Binary};
use super::convert;
use super::float::{F80, Kind, Operand};
use super::partial::{self, Quotient};
use super::round::{Context, status};
use super::transcendental::{self, Trigonometric};
use super::unit::{Fpu, Source};
use super::wide::Wide;

/// An instruction that replaces ST(0) by a function of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unary {
    /// FABS
    Abs,
    /// FCHS
    Chs,
    /// FSQRT
    Sqrt,
    /// FRNDINT
    RoundToInteger,
    /// F2XM1
    Exp2Minus1,
}

/// An instruction on ST(0) and ST(1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pair {
    /// FSCALE: into ST(0).
    Scale,
    /// FPREM: into ST(0).
    Remainder,
    /// FPREM1: into ST(0).
    RemainderNearest,
    /// FYL2X: into ST(1), then pop.
    Log2,
    /// FYL2XP1: into ST(1), then pop.
    Log2Plus1,
    /// FPATAN: into ST(1), then pop.
    Arctangent,
}

/// An instruction that leaves one result in the place of ST(0) and pushes another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Split {
    /// FXTRACT
    Extract,
    /// FPTAN
    Tangent,
    /// FSINCOS
    SineCosine,
}

/// The constants of the D9 E8 group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Constant {
    /// FLD1
    One,
    /// FLDL2T
    Log2Of10,
    /// FLDL2E
    Log2OfE,
    /// FLDPI
    Pi,
    /// FLDLG2
    Log10Of2,
    /// FLDLN2
    LnOf2,
    /// FLDZ
    Zero,
}

/// ZF, PF and CF of FCOMI's results (SDM vol. 2A, table 3-22).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compared {
    /// Equal, or unordered.
    pub zf: bool,
    /// Unordered.
    pub pf: bool,
    /// Below, or unordered.
    pub cf: bool,
}

impl Compared {
    const UNORDERED: Self = Self { zf: true, pf: true, cf: true };

    fn new(order: Option<Ordering>) -> Self {
        match order {
            None => Self::UNORDERED,
            Some(order) => Self { zf: order == Ordering::Equal, pf: false, cf: order == Ordering::Less },
        }
    }
}

impl Fpu {
    /// Pushes what `value` makes, unless there is no room or an unmasked invalid operation. An unmasked denormal operand
    /// is pushed, and reported afterwards.
    fn load(&mut self, value: impl FnOnce(&mut Context) -> F80) {
        let mut cx = self.begin();
        if !self.is_empty(7) {
            if self.stack_fault(true) {
                self.push(F80::INDEFINITE);
            }
            return;
        }
        let value = value(&mut cx);
        self.settle(cx);
        if !cx.unmasked(cx.raised & status::IE) {
            self.push(value);
        }
    }

    /// FLD m80fp: any bits, no exception but of the stack.
    pub fn fld(&mut self, value: F80) {
        self.load(|_| value);
    }

    /// FLD m32fp, FLD m64fp, FILD and FBLD.
    pub fn fld_operand(&mut self, operand: Operand) {
        self.load(|cx| {
            cx.nan(operand, operand).unwrap_or_else(|| {
                cx.denormal(&[operand]);
                operand.value()
            })
        });
    }

    /// FLD ST(i).
    pub fn fld_st(&mut self, i: u8) {
        if self.is_empty(i) {
            self.begin();
            if self.stack_fault(false) {
                self.push(F80::INDEFINITE);
            }
        } else {
            self.fld(self.raw(i));
        }
    }

    /// FLD1 and its kin. All but 1 and 0 are rounded as the control word says, and not inexact.
    pub fn fld_constant(&mut self, constant: Constant) {
        let wide = match constant {
            Constant::One => Wide::ONE,
            Constant::Zero => Wide::ZERO,
            Constant::Log2Of10 => Wide::LOG2_10,
            Constant::Log2OfE => Wide::LOG2_E,
            Constant::Pi => Wide::PI,
            Constant::Log10Of2 => Wide::LOG10_2,
            Constant::LnOf2 => Wide::LN_2,
        };
        let control = self.control;
        self.load(|_| wide.exact(&mut Context::new(control)));
    }

    /// FADD, FSUB(R), FMUL, FDIV(R) and their integer and popping forms: ST(`to`) = `left` op `right`.
    pub fn binary(&mut self, operation: Binary, to: u8, left: Source, right: Source, pop: bool) {
        let mut cx = self.begin();
        match (self.operand(left), self.operand(right)) {
            (Some(left), Some(right)) => {
                let value = arith::binary(&mut cx, operation, left, right);
                if !self.settle(cx) {
                    return;
                }
                self.write(to, value);
            }
            _ => {
                if !self.stack_fault(false) {
                    return;
                }
                self.write(to, F80::INDEFINITE);
            }
        }
        if pop {
            self.pop();
        }
    }

    /// FABS, FCHS, FSQRT, FRNDINT and F2XM1.
    pub fn unary(&mut self, operation: Unary) {
        let mut cx = self.begin();
        let Some(a) = self.operand(Source::St(0)) else {
            if self.stack_fault(false) {
                self.write(0, F80::INDEFINITE);
            }
            return;
        };
        let raw = self.raw(0);
        let value = match operation {
            Unary::Abs => F80 { sign_exponent: raw.sign_exponent & 0x7fff, ..raw },
            Unary::Chs => F80 { sign_exponent: raw.sign_exponent ^ 0x8000, ..raw },
            Unary::Sqrt => arith::sqrt(&mut cx, a),
            Unary::RoundToInteger => partial::round_to_integer(&mut cx, a),
            Unary::Exp2Minus1 => transcendental::exp2_minus_1(&mut cx, a),
        };
        if self.settle(cx) {
            self.write(0, value);
        }
    }

    /// FSCALE, FPREM, FPREM1, FYL2X, FYL2XP1 and FPATAN.
    pub fn pair(&mut self, operation: Pair) {
        let mut cx = self.begin();
        let pops = matches!(operation, Pair::Log2 | Pair::Log2Plus1 | Pair::Arctangent);
        let to = u8::from(pops);
        let remainder = matches!(operation, Pair::Remainder | Pair::RemainderNearest);
        if remainder {
            self.status &= !status::C2;
        }
        let (Some(a), Some(b)) = (self.operand(Source::St(0)), self.operand(Source::St(1))) else {
            if self.stack_fault(false) {
                self.write(to, F80::INDEFINITE);
                if pops {
                    self.pop();
                }
            }
            return;
        };
        let mut quotient = Quotient::None;
        let value = match operation {
            Pair::Scale => partial::scale(&mut cx, a, b),
            Pair::Remainder | Pair::RemainderNearest => {
                let result = partial::remainder(&mut cx, a, b, operation == Pair::RemainderNearest);
                quotient = result.quotient;
                result.value
            }
            Pair::Log2 => transcendental::y_log2_x(&mut cx, a, b),
            Pair::Log2Plus1 => transcendental::y_log2_x_plus_1(&mut cx, a, b),
            Pair::Arctangent => transcendental::arctangent_of(&mut cx, a, b),
        };
        if !self.settle(cx) {
            return;
        }
        self.write(to, value);
        if pops {
            self.pop();
        }
        // The low three bits of the quotient go to C0, C3 and C1 (SDM vol. 2A, FPREM).
        let low = match quotient {
            Quotient::None => return,
            Quotient::Partial => {
                self.status |= status::C2;
                0
            }
            Quotient::Low(low) => low,
        };
        self.condition(status::C0, low & 4 != 0);
        self.condition(status::C3, low & 2 != 0);
        self.condition(status::C1, low & 1 != 0);
    }

    /// FSIN and FCOS.
    pub fn fsin(&mut self, cosine: bool) {
        let mut cx = self.begin();
        self.status &= !status::C2;
        let Some(a) = self.operand(Source::St(0)) else {
            if self.stack_fault(false) {
                self.write(0, F80::INDEFINITE);
            }
            return;
        };
        let function = if cosine { Trigonometric::Cos } else { Trigonometric::Sin };
        let value = transcendental::trigonometric(&mut cx, function, a);
        if !self.settle(cx) {
            return;
        }
        match value {
            Some(value) => self.write(0, value),
            None => self.status |= status::C2,
        }
    }

    /// FXTRACT, FPTAN and FSINCOS.
    pub fn split(&mut self, operation: Split) {
        let mut cx = self.begin();
        if operation != Split::Extract {
            self.status &= !status::C2;
        }
        let a = self.operand(Source::St(0));
        let room = self.is_empty(7);
        let (Some(a), true) = (a, room) else {
            if self.stack_fault(a.is_some()) {
                self.write(0, F80::INDEFINITE);
                self.push(F80::INDEFINITE);
            }
            return;
        };
        let nan = a.is_nan() || matches!(a.kind, Kind::Unsupported | Kind::Infinity);
        let results = match operation {
            Split::Extract => Some(partial::extract(&mut cx, a)),
            Split::Tangent => transcendental::trigonometric(&mut cx, Trigonometric::Tan, a)
                .map(|value| (value, if nan { value } else { F80::ONE })),
            Split::SineCosine => {
                let sine = transcendental::trigonometric(&mut cx, Trigonometric::Sin, a);
                let cosine = transcendental::trigonometric(&mut cx, Trigonometric::Cos, a);
                sine.zip(cosine)
            }
        };
        if !self.settle(cx) {
            return;
        }
        match results {
            Some((first, second)) => {
                self.write(0, first);
                self.push(second);
            }
            None => self.status |= status::C2,
        }
    }

    /// ST(0) against `right`; false when an unmasked exception is raised.
    fn order(&mut self, right: Source, quiet: bool) -> (Compared, bool) {
        let mut cx = self.begin();
        match (self.operand(Source::St(0)), self.operand(right)) {
            (Some(left), Some(right)) => {
                let order = arith::compare(&mut cx, left, right, quiet);
                (Compared::new(order), self.settle(cx))
            }
            _ => (Compared::UNORDERED, self.stack_fault(false)),
        }
    }

    /// FCOM, FICOM, FTST and, when `quiet`, FUCOM: into C3, C2 and C0; then `pops` registers are popped, unless
    /// an unmasked exception is raised, which leaves the stack alone.
    pub fn fcom(&mut self, right: Source, quiet: bool, pops: u8) {
        let (compared, complete) = self.order(right, quiet);
        self.condition(status::C3, compared.zf);
        self.condition(status::C2, compared.pf);
        self.condition(status::C0, compared.cf);
        for _ in 0..if complete { pops } else { 0 } {
            self.pop();
        }
    }

    /// FCOMI and, when `quiet`, FUCOMI: the flags, which are set even when an unmasked exception keeps the stack from
    /// being popped.
    pub fn fcomi(&mut self, i: u8, quiet: bool, pop: bool) -> Compared {
        let (compared, complete) = self.order(Source::St(i), quiet);
        if complete && pop {
            self.pop();
        }
        compared
    }

    /// FTST.
    pub fn ftst(&mut self) {
        self.fcom(Source::Memory(Operand::integer(0)), false, 0);
    }

    /// FXAM.
    pub fn fxam(&mut self) {
        use status::{C0, C1, C2, C3};
        let raw = self.raw(0);
        let operand = Operand::f80(raw);
        let class = match operand.kind {
            _ if self.is_empty(0) => C3 | C0,
            Kind::Unsupported => 0,
            Kind::Quiet | Kind::Signaling => C0,
            Kind::Finite if operand.denormal => C3 | C2,
            Kind::Finite => C2,
            Kind::Infinity => C2 | C0,
            Kind::Zero => C3,
        };
        self.status = self.status & !status::CONDITIONS | class;
        self.condition(C1, raw.negative());
    }

    /// What a store takes from ST(0): `indefinite` when that is empty, `None` when an unmasked exception forbids it.
    fn store<T>(
        &mut self,
        mut cx: Context,
        indefinite: T,
        pop: bool,
        f: impl FnOnce(&mut Context, Operand) -> T,
    ) -> Option<T> {
        self.status &= !status::C1;
        let value = match self.operand(Source::St(0)) {
            None => {
                if !self.stack_fault(false) {
                    return None;
                }
                indefinite
            }
            Some(a) => {
                let value = f(&mut cx, a);
                let fits = self.settle(cx);
                if !fits || cx.unmasked(cx.raised & (status::OE | status::UE)) {
                    return None;
                }
                value
            }
        };
        if pop {
            self.pop();
        }
        Some(value)
    }

    /// FST m32fp, FSTP m32fp.
    pub fn fst_f32(&mut self, pop: bool) -> Option<u32> {
        self.store(Context::new(self.control), convert::F32_INDEFINITE, pop, convert::to_f32)
    }

    /// FST m64fp, FSTP m64fp.
    pub fn fst_f64(&mut self, pop: bool) -> Option<u64> {
        self.store(Context::new(self.control), convert::F64_INDEFINITE, pop, convert::to_f64)
    }

    /// FSTP m80fp.
    pub fn fstp_f80(&mut self) -> Option<F80> {
        let raw = self.raw(0);
        self.store(Context::new(self.control), F80::INDEFINITE, true, |_, _| raw)
    }

    /// FIST, FISTP and, when `truncate`, FISTTP: an integer of `bits` bits (16, 32, 64), sign-extended.
    pub fn fist(&mut self, bits: u32, truncate: bool, pop: bool) -> Option<i64> {
        let cx = if truncate { Context::truncating(self.control) } else { Context::new(self.control) };
        self.store(cx, i64::MIN >> (64 - bits), pop, |cx, a| convert::to_integer(cx, a, bits))
    }

    /// FBSTP.
    pub fn fbstp(&mut self) -> Option<[u8; 10]> {
        self.store(Context::new(self.control), convert::DECIMAL_INDEFINITE, true, convert::to_decimal)
    }

    /// FST ST(i), FSTP ST(i).
    pub fn fst_st(&mut self, i: u8, pop: bool) {
        let raw = self.raw(0);
        if let Some(value) = self.store(Context::new(self.control), F80::INDEFINITE, false, |_, _| raw) {
            self.write(i, value);
            if pop {
                self.pop();
            }
        }
    }

    /// FSTPNCE ("no check, exception"), an alias of FSTP that knows no stack fault: nothing comes of an empty
    /// register.
    pub fn fstpnce(&mut self, i: u8) {
        self.begin();
        if !self.is_empty(0) {
            self.write(i, self.raw(0));
        }
        self.pop();
    }

    /// FXCH. Masked, an empty register counts as holding an indefinite value.
    pub fn fxch(&mut self, i: u8) {
        self.begin();
        if (self.is_empty(0) || self.is_empty(i)) && !self.stack_fault(false) {
            return;
        }
        let held = |unit: &Self, i| if unit.is_empty(i) { F80::INDEFINITE } else { unit.raw(i) };
        let (first, second) = (held(self, 0), held(self, i));
        self.write(0, second);
        self.write(i, first);
    }

    /// FCMOVcc, the condition being `condition`.
    pub fn fcmov(&mut self, i: u8, condition: bool) {
        if self.is_empty(0) || self.is_empty(i) {
            if self.stack_fault(false) {
                self.write(0, F80::INDEFINITE);
            }
        } else if condition {
            self.write(0, self.raw(i));
        }
    }

    /// FFREE, FFREEP.
    pub fn ffree(&mut self, i: u8, pop: bool) {
        self.begin();
        self.full &= !(1 << (self.top().wrapping_add(i) & 7));
        if pop {
            self.pop();
        }
    }

    /// FINCSTP.
    pub fn fincstp(&mut self) {
        self.begin();
        self.set_top(self.top().wrapping_add(1));
    }

    /// FDECSTP.
    pub fn fdecstp(&mut self) {
        self.begin();
        self.set_top(self.top().wrapping_sub(1));
    }
}
