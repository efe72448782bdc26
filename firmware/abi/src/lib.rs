//! The contract between the monitor, the in-guest programs and `bulla measure`.
//!
//! Everything that two of them must agree on stands here once: where things lie in guest-physical memory
//! ([`map`]), which ports exist ([`port`]), how the monitor offers images to the firmware ([`window`]), what the
//! firmware tells the monitor while it works ([`progress`]), which PCR each link of the chain is measured into
//! ([`chain`]), what the firmware hands to the bootloader ([`handoff`]), what the image headers look like
//! ([`image`]), and how a host talks to the bundled tenant ([`mailbox`]).
//!
//! All integers are little-endian unless said otherwise. Nothing here touches memory: the functions turn bytes
//! into checked values and back, and every value that came from the other side is an allegation until it has been
//! through one of them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod chain;
pub mod handoff;
pub mod image;
pub mod mailbox;
pub mod map;
pub mod port;
pub mod progress;
pub mod window;

mod bytes;
