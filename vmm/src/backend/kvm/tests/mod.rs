//! Tests that run small guests. Without `/dev/kvm` each says that it is skipped.

use super::KvmBackend;
use crate::backend::Backend;

#[path = "../../conformance/guest.rs"]
mod guest;
#[path = "../../conformance/io.rs"]
mod io;
#[path = "../../conformance/irq.rs"]
mod irq;
#[path = "../../conformance/memory.rs"]
mod memory;
mod own;
#[path = "../../conformance/run.rs"]
mod run;

/// What the tests run on.
fn backend() -> Option<Box<dyn Backend>> {
    if !std::path::Path::new("/dev/kvm").exists() {
        eprintln!("skipped: no /dev/kvm");
        return None;
    }
    Some(Box::new(KvmBackend::open().unwrap()))
}
