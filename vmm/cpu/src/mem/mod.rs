//! Guest-physical memory and the translation cache in front of it.
//!
//! This is the one place of the crate with `unsafe` code. What keeps it sound:
//!
//! 1. A [`Map`] owns (through an `Arc`) every piece of host memory that it names, so a host address computed from a slot
//!    is valid for as long as the map is alive.
//! 2. A [`tlb::Tlb`] owns the map that its entries point into and forgets every entry when it is given another one.
//! 3. Host memory is never borrowed as a Rust reference. It is read and written with volatile or atomic operations of at
//!    most 16 bytes, because devices, other processors and other processes may change it at any time.

#![allow(unsafe_code, reason = "guest memory: see the rules above")]

mod ram;
mod tlb;

pub use ram::{AddressSpace, Entered, HostMemory, Map, OwnedMemory, Plain, Slot};
pub use tlb::{Access, Mmu, Tlb, WritePermit};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
