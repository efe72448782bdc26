//! The bundled guest kernel. What it does is in the library; here is only how it touches its machine.
#![cfg_attr(bulla_guest, no_std, no_main)]

#[cfg(bulla_guest)]
mod program;

/// On the host there is nothing to run; `bulla-firmware` builds the program for the guest.
#[cfg(not(bulla_guest))]
fn main() {}
