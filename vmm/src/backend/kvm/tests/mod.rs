//! Tests that run small guests. Without `/dev/kvm` each says that it is skipped.

mod guest;
mod io;
mod irq;
mod memory;
mod run;
