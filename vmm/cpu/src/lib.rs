//! A software x86-64 processor.
//!
//! It knows instructions, exceptions, paging and its own local APIC; it knows nothing of devices, of Linux or of the
//! monitor around it.

pub mod apic;
pub mod simd;
pub mod x87;
