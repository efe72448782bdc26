//! Floating-point instructions against the host's: results and the MXCSR they leave.

use super::super::float::{Add, Div, Double, Max, Min, Mul, Result, Single, Sub};
use super::super::lanes::{low, with_low64};
use super::super::{Mxcsr, compare, convert, float};
use super::{CASES, Random, fp, reported};

/// An operation on registers, or to an integer where the first of the pair is `None`.
fn check(
    name: &str,
    double: bool,
    ours: impl Fn(u128, u128, &mut Mxcsr) -> Result<(Option<u128>, u64)>,
    native: impl Fn(u128, u128, Mxcsr) -> (u128, u64, u32),
) {
    let mut random = Random(9);
    for _ in 0..10 * CASES {
        let (a, b, mxcsr) = (random.floats(double), random.floats(double), random.mxcsr());
        let mut after = mxcsr;
        let (register, integer) = ours(a, b, &mut after).expect("everything is masked");
        let ours = (register.unwrap_or(a), integer, after.bits());
        let native = native(a, b, mxcsr);
        assert_eq!(
            ours,
            native,
            "{name} {a:#034x} {b:#034x} under {:#x}: {:#034x} {:#x} {:#x}, natively {:#034x} {:#x} {:#x}",
            mxcsr.bits(),
            ours.0,
            ours.1,
            ours.2,
            native.0,
            native.1,
            native.2
        );
    }
}

macro_rules! registers {
    ($double:literal: $($native:literal = $ours:expr;)*) => {$({
        let ours = |a, b, mxcsr: &mut Mxcsr| -> Result<_> {
            let ours: fn(u128, u128, &mut Mxcsr) -> Result<u128> = $ours;
            Ok((Some(ours(a, b, mxcsr)?), 0))
        };
        check($native, $double, ours, fp!($native));
    })*};
}

macro_rules! integers {
    ($double:literal: $($native:literal = $ours:expr;)*) => {$({
        let ours = |a, b, mxcsr: &mut Mxcsr| -> Result<_> {
            let ours: fn(u128, u128, &mut Mxcsr) -> Result<u64> = $ours;
            Ok((None, ours(a, b, mxcsr)?))
        };
        check($native, $double, ours, fp!($native));
    })*};
}

#[test]
fn arithmetic() {
    registers! { false:
        "addss xmm1, xmm2" = float::scalar::<Single, Add>;
        "subss xmm1, xmm2" = float::scalar::<Single, Sub>;
        "mulss xmm1, xmm2" = float::scalar::<Single, Mul>;
        "divss xmm1, xmm2" = float::scalar::<Single, Div>;
        "minss xmm1, xmm2" = float::scalar::<Single, Min>;
        "maxss xmm1, xmm2" = float::scalar::<Single, Max>;
        "sqrtss xmm1, xmm2" = float::sqrt_scalar::<Single>;
        "addps xmm1, xmm2" = float::packed::<Single, Add>;
        "subps xmm1, xmm2" = float::packed::<Single, Sub>;
        "mulps xmm1, xmm2" = float::packed::<Single, Mul>;
        "divps xmm1, xmm2" = float::packed::<Single, Div>;
        "minps xmm1, xmm2" = float::packed::<Single, Min>;
        "maxps xmm1, xmm2" = float::packed::<Single, Max>;
        "sqrtps xmm1, xmm2" = |_, b, mxcsr| float::sqrt_packed::<Single>(b, mxcsr);
    }
    registers! { true:
        "addsd xmm1, xmm2" = float::scalar::<Double, Add>;
        "subsd xmm1, xmm2" = float::scalar::<Double, Sub>;
        "mulsd xmm1, xmm2" = float::scalar::<Double, Mul>;
        "divsd xmm1, xmm2" = float::scalar::<Double, Div>;
        "minsd xmm1, xmm2" = float::scalar::<Double, Min>;
        "maxsd xmm1, xmm2" = float::scalar::<Double, Max>;
        "sqrtsd xmm1, xmm2" = float::sqrt_scalar::<Double>;
        "addpd xmm1, xmm2" = float::packed::<Double, Add>;
        "subpd xmm1, xmm2" = float::packed::<Double, Sub>;
        "mulpd xmm1, xmm2" = float::packed::<Double, Mul>;
        "divpd xmm1, xmm2" = float::packed::<Double, Div>;
        "minpd xmm1, xmm2" = float::packed::<Double, Min>;
        "maxpd xmm1, xmm2" = float::packed::<Double, Max>;
        "sqrtpd xmm1, xmm2" = |_, b, mxcsr| float::sqrt_packed::<Double>(b, mxcsr);
    }
}

#[test]
fn sse3_and_sse4() {
    if reported("sse3", is_x86_feature_detected!("sse3")) {
        registers! { false:
            "addsubps xmm1, xmm2" = float::addsub::<Single>;
            "haddps xmm1, xmm2" = float::horizontal::<Single, Add>;
            "hsubps xmm1, xmm2" = float::horizontal::<Single, Sub>;
        }
        registers! { true:
            "addsubpd xmm1, xmm2" = float::addsub::<Double>;
            "haddpd xmm1, xmm2" = float::horizontal::<Double, Add>;
            "hsubpd xmm1, xmm2" = float::horizontal::<Double, Sub>;
        }
    }
    if reported("sse4.1", is_x86_feature_detected!("sse4.1")) {
        registers! { false:
            "roundss xmm1, xmm2, 0" = |a, b, mxcsr| float::round_scalar::<Single>(a, b, 0, mxcsr);
            "roundss xmm1, xmm2, 4" = |a, b, mxcsr| float::round_scalar::<Single>(a, b, 4, mxcsr);
            "roundps xmm1, xmm2, 1" = |_, b, mxcsr| float::round_packed::<Single>(b, 1, mxcsr);
            "roundps xmm1, xmm2, 10" = |_, b, mxcsr| float::round_packed::<Single>(b, 10, mxcsr);
            "dpps xmm1, xmm2, 0xff" = |a, b, mxcsr| float::dot_product::<Single>(a, b, 0xff, mxcsr);
            "dpps xmm1, xmm2, 0x75" = |a, b, mxcsr| float::dot_product::<Single>(a, b, 0x75, mxcsr);
        }
        registers! { true:
            "roundsd xmm1, xmm2, 3" = |a, b, mxcsr| float::round_scalar::<Double>(a, b, 3, mxcsr);
            "roundsd xmm1, xmm2, 12" = |a, b, mxcsr| float::round_scalar::<Double>(a, b, 12, mxcsr);
            "roundpd xmm1, xmm2, 2" = |_, b, mxcsr| float::round_packed::<Double>(b, 2, mxcsr);
            "roundpd xmm1, xmm2, 4" = |_, b, mxcsr| float::round_packed::<Double>(b, 4, mxcsr);
            "dppd xmm1, xmm2, 0x33" = |a, b, mxcsr| float::dot_product::<Double>(a, b, 0x33, mxcsr);
            "dppd xmm1, xmm2, 0x12" = |a, b, mxcsr| float::dot_product::<Double>(a, b, 0x12, mxcsr);
        }
    }
}

#[test]
fn comparisons() {
    macro_rules! each {
        ($double:literal, $format:ident, $packed:literal, $scalar:literal: $($predicate:literal)*) => {$(
            check(
                concat!($scalar, " ", $predicate),
                $double,
                |a, b, mxcsr| Ok((Some(compare::scalar::<$format>(a, b, $predicate, mxcsr)?), 0)),
                fp!(concat!($scalar, " xmm1, xmm2, ", $predicate)),
            );
            check(
                concat!($packed, " ", $predicate),
                $double,
                |a, b, mxcsr| Ok((Some(compare::packed::<$format>(a, b, $predicate, mxcsr)?), 0)),
                fp!(concat!($packed, " xmm1, xmm2, ", $predicate)),
            );
        )*};
    }
    each!(false, Single, "cmpps", "cmpss": 0 1 2 3 4 5 6 7);
    each!(true, Double, "cmppd", "cmpsd": 0 1 2 3 4 5 6 7);

    /// ZF, PF and CF at the places LAHF has them in AH.
    fn ah(flags: compare::CompareFlags) -> u64 {
        u64::from(flags.zero) << 14 | u64::from(flags.parity) << 10 | u64::from(flags.carry) << 8 | 1 << 9
    }
    macro_rules! flags {
        ($($native:literal = $format:ident, $double:literal, $signaling:literal;)*) => {$(
            check(
                $native,
                $double,
                |a, b, mxcsr| Ok((None, ah(compare::flags::<$format>(a, b, $signaling, mxcsr)?))),
                fp!($native, "lahf", "movzx eax, ax"),
            );
        )*};
    }
    flags! {
        "ucomiss xmm1, xmm2" = Single, false, false;
        "comiss xmm1, xmm2" = Single, false, true;
        "ucomisd xmm1, xmm2" = Double, true, false;
        "comisd xmm1, xmm2" = Double, true, true;
    }
}

#[test]
fn conversions() {
    registers! { false:
        "cvtss2sd xmm1, xmm2" = convert::scalar::<Single, Double>;
        "cvtps2pd xmm1, xmm2" = |_, b, mxcsr| convert::cvtps2pd(low(b), mxcsr);
        "cvtps2dq xmm1, xmm2" = |_, b, mxcsr| convert::cvtps2dq(b, false, mxcsr);
        "cvttps2dq xmm1, xmm2" = |_, b, mxcsr| convert::cvtps2dq(b, true, mxcsr);
        "cvtdq2ps xmm1, xmm2" = |_, b, mxcsr| convert::cvtdq2ps(b, mxcsr);
        "cvtdq2pd xmm1, xmm2" = |_, b, _| Ok(convert::cvtdq2pd(low(b)));
        "cvtps2pi mm0, xmm2\nmovq2dq xmm1, mm0\nemms" = |_, b, mxcsr| Ok(convert::cvtps2pi(low(b), false, mxcsr)?.into());
        "cvttps2pi mm0, xmm2\nmovq2dq xmm1, mm0\nemms" = |_, b, mxcsr| Ok(convert::cvtps2pi(low(b), true, mxcsr)?.into());
        "movdq2q mm0, xmm2\ncvtpi2ps xmm1, mm0\nemms" =
            |a, b, mxcsr| Ok(with_low64(a, convert::cvtpi2ps(low(b), mxcsr)?));
        "movd eax, xmm2\ncvtsi2ss xmm1, eax\nxor eax, eax" =
            |a, b, mxcsr| convert::from_integer::<Single>(a, (b as i32).into(), mxcsr);
        "movq rax, xmm2\ncvtsi2ss xmm1, rax\nxor eax, eax" =
            |a, b, mxcsr| convert::from_integer::<Single>(a, b as i64, mxcsr);
    }
    registers! { true:
        "cvtsd2ss xmm1, xmm2" = convert::scalar::<Double, Single>;
        "cvtpd2ps xmm1, xmm2" = |_, b, mxcsr| convert::cvtpd2ps(b, mxcsr);
        "cvtpd2dq xmm1, xmm2" = |_, b, mxcsr| Ok(convert::cvtpd2dq(b, false, mxcsr)?.into());
        "cvttpd2dq xmm1, xmm2" = |_, b, mxcsr| Ok(convert::cvtpd2dq(b, true, mxcsr)?.into());
        "movd eax, xmm2\ncvtsi2sd xmm1, eax\nxor eax, eax" =
            |a, b, mxcsr| convert::from_integer::<Double>(a, (b as i32).into(), mxcsr);
        "movq rax, xmm2\ncvtsi2sd xmm1, rax\nxor eax, eax" =
            |a, b, mxcsr| convert::from_integer::<Double>(a, b as i64, mxcsr);
    }
    integers! { false:
        "cvtss2si eax, xmm2" = |_, b, mxcsr| Ok(u64::from(convert::to_integer::<Single>(b, 32, false, mxcsr)? as u32));
        "cvtss2si rax, xmm2" = |_, b, mxcsr| Ok(convert::to_integer::<Single>(b, 64, false, mxcsr)? as u64);
        "cvttss2si eax, xmm2" = |_, b, mxcsr| Ok(u64::from(convert::to_integer::<Single>(b, 32, true, mxcsr)? as u32));
        "cvttss2si rax, xmm2" = |_, b, mxcsr| Ok(convert::to_integer::<Single>(b, 64, true, mxcsr)? as u64);
    }
    integers! { true:
        "cvtsd2si eax, xmm2" = |_, b, mxcsr| Ok(u64::from(convert::to_integer::<Double>(b, 32, false, mxcsr)? as u32));
        "cvtsd2si rax, xmm2" = |_, b, mxcsr| Ok(convert::to_integer::<Double>(b, 64, false, mxcsr)? as u64);
        "cvttsd2si eax, xmm2" = |_, b, mxcsr| Ok(u64::from(convert::to_integer::<Double>(b, 32, true, mxcsr)? as u32));
        "cvttsd2si rax, xmm2" = |_, b, mxcsr| Ok(convert::to_integer::<Double>(b, 64, true, mxcsr)? as u64);
    }
}

/// Ours are exact, the host's have 12 bits: they must agree where the result is special, and be close elsewhere.
#[test]
fn approximations() {
    let mut random = Random(10);
    let (rcp, rsqrt) = (fp!("rcpss xmm1, xmm2"), fp!("rsqrtss xmm1, xmm2"));
    for _ in 0..10 * CASES {
        let a = random.single();
        for (name, ours, native) in [
            ("rcpss", float::reciprocal(a), rcp(0, a.into(), Mxcsr::RESET).0 as u32),
            ("rsqrtss", float::reciprocal_root(a), rsqrt(0, a.into(), Mxcsr::RESET).0 as u32),
        ] {
            let (x, y) = (f32::from_bits(ours), f32::from_bits(native));
            let close = f64::from(x - y).abs() <= f64::from(x).abs() * 1.5 / 4096.0 * 1.001;
            // Around the smallest normal result, either side may flush to zero.
            let both_tiny = x.abs() < 1.2e-38 && y.abs() < 1.2e-38;
            assert!(ours == native || close || both_tiny, "{name} {a:#x}: {ours:#x}, natively {native:#x}");
        }
    }
}

/// What the host would do with unmasked exceptions cannot be tried without a trap; these are its answers to a program
/// that caught them.
#[test]
fn unmasked_exceptions() {
    const MIN: u64 = 0x0010_0000_0000_0000;
    const MAX: u64 = 0x7fef_ffff_ffff_ffff;
    const HALF: u64 = 0x3fe0_0000_0000_0000;
    let mul = float::scalar::<Double, Mul>;
    let div = float::packed::<Single, Div>;
    type Case = (fn(u128, u128, &mut Mxcsr) -> Result<u128>, u128, u128, u32, u32);
    let cases: [Case; 9] = [
        (mul, MAX.into(), MAX.into(), 0x1b80, 0x28),
        (mul, 0x7fe0_0000_0000_0000, 0x7fe0_0000_0000_0000, 0x1b80, 0x08),
        (mul, MIN.into(), HALF.into(), 0x1780, 0x10),
        (mul, u128::from(MIN) + 1, u128::from(MIN) + 1, 0x1780, 0x30),
        (float::scalar::<Double, Add>, 1, 0x3ff0_0000_0000_0000, 0x1e80, 0x02),
        (float::scalar::<Double, Add>, 1, 0x3ff0_0000_0000_0000, 0x0f80, 0x22),
        // Lane 0 is 1/3, lane 1 a signaling NaN: found before anything is computed.
        (div, 0x7f80_0001_3f80_0000, 0x3f80_0000_4040_0000, 0x1f00, 0x01),
        // 1/0, denormal/1 and twice 0/0.
        (div, 0x0000_0001_3f80_0000, 0x3f80_0000_0000_0000, 0x1d80, 0x07),
        (div, 0x3f80_0000_3f80_0000, 0x0000_0000_4040_0000, 0x0f80, 0x25),
    ];
    for (f, a, b, mxcsr, flags) in cases {
        let mut after = Mxcsr::new(mxcsr).unwrap();
        assert!(f(a, b, &mut after).is_err(), "{a:#x} {b:#x} under {mxcsr:#x}");
        assert_eq!(after.bits(), mxcsr | flags, "{a:#x} {b:#x} under {mxcsr:#x}");
    }
}
