//! Tests that run small guests.

use super::{Pace, SoftBackend};
use crate::backend::Backend;

mod deterministic;
#[path = "../../conformance/guest.rs"]
mod guest;
#[path = "../../conformance/io.rs"]
mod io;
#[path = "../../conformance/irq.rs"]
mod irq;
mod many;
#[path = "../../conformance/memory.rs"]
mod memory;
#[path = "../../conformance/run.rs"]
mod run;

/// What the tests run on.
#[expect(clippy::unnecessary_wraps, reason = "other backends are not on every host")]
fn backend() -> Option<Box<dyn Backend>> {
    Some(Box::new(SoftBackend::new(Pace::Host)))
}
