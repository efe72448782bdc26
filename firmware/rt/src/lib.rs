//! What the freestanding guest programs (firmware, bootloader, tenant) stand on.
//!
//! Programs run at CPL 3 on one vCPU with interrupts off, over an identity mapping of the first 4 GiB; ring 0 is the
//! small gate in `ring0.s`. A program defines its `main` with [`main!`] and is linked by its own `link.ld`.
//!
//! [`interface`] (the TPM's) and [`measure`] (hash, extend, log) are plain logic and build on any machine; the
//! rest exists only in the guest, that is with `cfg(bulla_guest)`, which the build script of `bulla-firmware` sets.
#![no_std]

extern crate alloc;

pub mod crb;
pub mod fifo;
pub mod interface;
pub mod measure;

#[cfg(bulla_guest)]
pub mod console;
#[cfg(bulla_guest)]
pub mod gate;
#[cfg(bulla_guest)]
mod heap;
#[cfg(bulla_guest)]
pub mod machine;
#[cfg(bulla_guest)]
mod report;
#[cfg(bulla_guest)]
mod ring0;

#[cfg(bulla_guest)]
pub use heap::with_heap;
#[cfg(bulla_guest)]
pub use report::{fail, progress};

/// Names the program's main function, a `fn(u64) -> !`. A kernel's argument is what its loader left in RSI
/// (`boot_params`), that of the firmware and the bootloader has no meaning.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        // SAFETY: the assembly in `ring0.s` calls a function of this name and signature; no other crate defines it.
        #[unsafe(no_mangle)]
        extern "C" fn guest_main(argument: u64) -> ! {
            let main: fn(u64) -> ! = $main;
            main(argument)
        }
    };
}
