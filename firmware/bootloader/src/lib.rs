//! The bootloader's logic: what kind of kernel a file is, where it and its companions go, and what the kernel is told.
//!
//! The bootloader runs it in the guest; `bulla measure` runs the same functions on any machine, so that both arrive
//! at the same bytes. Nothing here touches memory outside of the slices it is given. Every file is hostile input:
//! offsets and sizes are checked before use, and errors say which field is wrong.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bzimage;
pub mod elf;
pub mod kernel;
pub mod load;
pub mod memory;
pub mod params;
pub mod payload;
pub mod plan;

mod bytes;
mod error;
#[cfg(test)]
mod testing;
