//! What the MMX and SSE instructions compute, as functions of values alone.
//!
//! Registers are `u128` (XMM) and `u64` (MMX); no function here knows the processor, memory or an encoding. The
//! floating-point functions take [`Mxcsr`] and end in [`Unmasked`] when an unmasked exception must be raised.

pub mod aes;
pub mod compare;
pub mod convert;
pub mod crc;
pub mod float;
mod host;
pub mod int;
pub mod lanes;
pub mod mmx;
mod mxcsr;
#[cfg(all(test, target_arch = "x86_64"))]
mod native;
pub mod sha;
pub mod shuffle;
mod soft;
pub mod strings;

pub use mxcsr::{Mxcsr, Rounding, Unmasked};
