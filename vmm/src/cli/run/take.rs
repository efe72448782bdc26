//! Taking evidence at the hand-over.

use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bulla_attest::HostKey;
use bulla_boot_abi::map::{EVENT_LOG_BASE, EVENT_LOG_SIZE};
use bulla_boot_abi::progress::{Milestone, Progress};
use bulla_vmm::evidence;
use bulla_vmm::machine::{AtProgress, ProgressHandler};

use super::events::Events;
use crate::cli::{Exit, Failure, Nonce};

struct Order {
    path: PathBuf,
    /// Open from the start: the confined monitor opens none.
    file: File,
    nonce: Vec<u8>,
    key: HostKey,
}

/// What is to be taken, and what went wrong with it.
pub(crate) struct Take {
    order: Option<Arc<Order>>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Take {
    /// Loads or makes the host key and makes the file, so that a bad one is known before the VM starts. The file is empty
    /// until the hand-over.
    pub(crate) fn prepare(path: Option<&Path>, nonce: Option<&Nonce>, key: Option<&Path>) -> Result<Self, Failure> {
        let failure = Arc::default();
        let (Some(path), Some(nonce)) = (path, nonce) else {
            return Ok(Self { order: None, failure });
        };
        let key = match key {
            Some(file) => HostKey::load_or_generate(file),
            None => HostKey::generate(),
        };
        let key = key.map_err(|e| Failure::because(Exit::BadInput, "host key", &e))?;
        let file = File::create(path).map_err(|e| cannot_write(path, &e))?;
        let order = Order { path: path.to_owned(), file, nonce: nonce.0.clone(), key };
        Ok(Self { order: Some(Arc::new(order)), failure })
    }

    /// What runs at each write to the progress port.
    pub(crate) fn handler(&self, events: Arc<Events>) -> ProgressHandler {
        let (order, failure) = (self.order.clone(), Arc::clone(&self.failure));
        // Once: a guest that claims a second hand-over, when it is the kernel that runs, gets no second evidence.
        let mut order = order;
        Box::new(move |progress, at| {
            if progress == Progress::Reached(Milestone::Handover)
                && let Some(order) = order.take()
            {
                match take(&order, at) {
                    Ok(()) => events.evidence(&order.path),
                    Err(error) => {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            if events.progress(progress) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }

    /// What went wrong, once.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn take(order: &Order, at: &mut AtProgress<'_>) -> Result<(), Failure> {
    let mut log = vec![0; EVENT_LOG_SIZE as usize];
    at.memory.read(EVENT_LOG_BASE, &mut log).map_err(|e| Failure::because(Exit::HostFailed, "event log", &e))?;
    let evidence = evidence::take(at.vtpm, &order.nonce, &log)
        .map_err(|e| Failure::because(Exit::HostFailed, "cannot take evidence", &e))?;
    let signed =
        evidence.sign(&order.key).map_err(|e| Failure::because(Exit::HostFailed, "cannot sign evidence", &e))?;
    (&order.file).write_all(&signed).map_err(|e| cannot_write(&order.path, &e))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::because(Exit::HostFailed, format!("cannot write {}", path.display()), error)
}
