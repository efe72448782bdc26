//! The devices of bulla's machine, and the buses they are on.
//!
//! Each device is built with what it needs injected (a clock, an interrupt line, a writer, a backend) and keeps three
//! groups of fields apart: configuration, the injected glue, and volatile state. Only the last is saved, in a
//! versioned type of its own that shares nothing with the implementation ([`SaveRestore`]).
//!
//! What holds for all of them:
//! - every value from the guest is an allegation; no access of any size at any offset can panic or allocate without
//!   bound;
//! - what no register claims reads as all ones, and swallows writes;
//! - a device never calls back into a bus, and calls into other parts in one direction only: device → interrupt
//!   controller → [`crate::backend::IrqSink`].
#![forbid(unsafe_code)]

mod bus;
mod clock;
pub mod crb;
pub mod ioapic;
mod irq;
mod notify;
pub mod pic;
pub mod pit;
pub mod platform;
pub mod pm;
pub mod power;
pub mod rtc;
mod save;
pub mod serial;
pub mod tis;
pub mod tpm;

#[cfg(test)]
mod testing;

pub use bus::{Bus, BusError, BytePorts, MmioDevice, NamedRange, PioDevice, Shared, Space};
pub use clock::{Clock, NS_PER_S};
pub use irq::{IrqLine, NoIrq};
pub use notify::{NOTIFY_PORT_LEN, NotifyPort};
pub use platform::{Platform, PlatformParts, PlatformState};
pub use save::{RestoreError, SaveRestore};

pub(crate) use bus::lock;
