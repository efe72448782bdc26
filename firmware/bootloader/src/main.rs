//! The bootloader: measures a kernel, its initial RAM disk and its command line, and enters it.
#![cfg_attr(bulla_guest, no_std, no_main)]

#[cfg(bulla_guest)]
mod program;

/// On the host there is nothing to run; `bulla-firmware` builds the program for the guest.
#[cfg(not(bulla_guest))]
fn main() {}
