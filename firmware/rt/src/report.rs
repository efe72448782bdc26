//! Telling the monitor how things go, and how they end.

use core::fmt;

use bulla_boot_abi::port;
use bulla_boot_abi::progress::{Failure, Milestone};

use crate::{gate, machine, println};

/// Tells the monitor that `milestone` is reached.
pub fn progress(milestone: Milestone) {
    machine::out32(port::PROGRESS, milestone as u32);
}

/// Says why on the console, tells the monitor, and stops.
pub fn fail(failure: Failure, why: &dyn fmt::Display) -> ! {
    println!("bulla: {failure}: {why}");
    machine::out32(port::PROGRESS, failure as u32);
    gate::halt()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(Failure::Panic, info)
}

/// Where ring 0 sends a program after an exception, on a stack of its own.
// SAFETY: `ring0.s` refers to a function of this name and signature; no other crate defines it.
#[unsafe(no_mangle)]
extern "C" fn guest_exception_report(vector: u64, error: u64, rip: u64, cr2: u64, rsp: u64) -> ! {
    let why = format_args!("vector {vector} error {error:#x} rip {rip:#x} cr2 {cr2:#x} rsp {rsp:#x}");
    fail(Failure::Exception, &why)
}
