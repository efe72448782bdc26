//! What the bundled tenant does, apart from the machine it does it on, so that all of it runs and is tested anywhere.
//!
//! The tenant is a kernel like any other: it finds its command line, ACPI tables and event log where its boot loader says
//! they are ([`boot`]), drives its TPM through the standard interface ([`tpm`]), and serves a host through the mailbox
//! ([`mailbox`], [`serve`]). Whom it talks to through the channel is decided by its command line alone ([`policy`]), which is
//! measured: the host can change it only where a verifier and every peer see it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod boot;
pub mod mailbox;
pub mod policy;
pub mod serve;
pub mod tpm;

#[cfg(test)]
mod testing;
