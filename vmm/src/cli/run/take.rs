//! Taking evidence at the hand-over, and what else has its moment there.

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

use super::agent::AgentEvidence;
use super::events::Events;
use crate::cli::{Exit, Failure, Nonce};

struct Order {
    path: PathBuf,
    /// Open from the start: the confined monitor opens none.
    file: File,
    nonce: Vec<u8>,
    key: Arc<HostKey>,
}

/// What is to be taken, and what went wrong with it.
#[derive(Default)]
pub(crate) struct Take {
    order: Option<Arc<Order>>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Take {
    /// Makes the file, if there is to be one, so that a bad one is known before the VM starts. It is empty until the hand-over.
    pub(crate) fn prepare(path: Option<&Path>, nonce: &Nonce, key: &Arc<HostKey>) -> Result<Self, Failure> {
        let order = path.map(|path| {
            let (path, file) = (path.to_owned(), create(path)?);
            Ok(Arc::new(Order { path, file, nonce: nonce.0.clone(), key: Arc::clone(key) }))
        });
        Ok(Self { order: order.transpose()?, failure: Arc::default() })
    }

    /// What runs at each write to the progress port. `agent` gets to know the vTPM's key.
    pub(crate) fn handler(&self, events: Arc<Events>, agent: Option<Arc<AgentEvidence>>) -> ProgressHandler {
        let failure = Arc::clone(&self.failure);
        // Once: a guest that claims a second hand-over, when it is the kernel that runs, gets no second evidence.
        let mut at_handover = Some((self.order.clone(), agent));
        Box::new(move |progress, at| {
            if progress == Progress::Reached(Milestone::Handover)
                && let Some((order, agent)) = at_handover.take()
            {
                let taken = order.as_ref().map_or(Ok(()), |order| take(order, at));
                match taken.and_then(|()| agent.map_or(Ok(()), |agent| tell(&agent, at))) {
                    Ok(()) => order.iter().for_each(|order| events.evidence(&order.path)),
                    Err(error) => {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            if events.progress(progress, at.vm_time) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
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

/// Before the kernel's first instruction: afterwards the guest could have other keys in the vTPM, and none could be added.
fn tell(agent: &AgentEvidence, at: &mut AtProgress<'_>) -> Result<(), Failure> {
    let ak = evidence::ak_public(at.vtpm);
    agent.handed_over(ak.map_err(|e| Failure::because(Exit::HostFailed, "no attestation key", &e))?);
    Ok(())
}

pub(crate) fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|e| cannot_write(path, &e))
}

pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::because(Exit::HostFailed, format!("cannot write {}", path.display()), error)
}
