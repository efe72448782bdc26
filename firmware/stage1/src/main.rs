//! The firmware: starts the TPM, measures what the machine is made of and the bootloader, and enters it.
//!
//! Order of events: see [`bulla_boot_abi::chain`]. Whatever goes wrong ends in [`bulla_guest_rt::fail`]: nothing that
//! was not measured is ever run.
#![cfg_attr(bulla_guest, no_std, no_main)]

#[cfg(bulla_guest)]
mod firmware;

/// On the host there is nothing to run; `bulla-firmware` builds the program for the guest.
#[cfg(not(bulla_guest))]
fn main() {}
