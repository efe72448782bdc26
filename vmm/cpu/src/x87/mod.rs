//! The x87 floating-point unit: 80-bit arithmetic and its register stack (SDM vol. 1, chapter 8).
//!
//! The arithmetic is our own: `rustc_apfloat` has neither precision control, nor C1, denormal-operand exceptions and
//! the wrapped results of unmasked ones, nor square roots and remainders, and it does not know the encodings that
//! hardware calls unsupported. Significands are 64 bits; exact results have 128 and are rounded once. All of it is
//! compared with the host's processor, state for state, in the tests.

mod arith;
mod convert;
mod float;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod native;
mod ops;
mod partial;
mod round;
mod transcendental;
mod unit;
mod wide;

pub use arith::Binary;
pub use float::{F80, Operand};
pub use ops::{Compared, Constant, Pair, Split, Unary};
pub use round::status;
pub use unit::{Fpu, Layout, Source};
