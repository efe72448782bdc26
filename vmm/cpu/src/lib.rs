//! A software x86-64 processor.
//!
//! It knows instructions, exceptions, paging and its own local APIC; it knows nothing of devices, of Linux or of the
//! monitor around it.

#![deny(unsafe_code)]

mod access;
pub mod apic;
mod block;
pub mod core;
mod cpu;
pub mod cpuid;
mod decode;
mod entropy;
mod exception;
mod exec;
pub mod fault;
pub mod flags;
pub mod insn;
mod irq;
pub mod mem;
mod paging;
pub mod pv;
mod run;
mod segment;
pub mod simd;
pub mod state;
mod time;
pub mod word;
pub mod x87;

pub use cpu::{Bus, Config, Cpu, Exit, Handle};
pub use cpuid::Features;
pub use time::{Clock, NS_PER_INSTRUCTION};
