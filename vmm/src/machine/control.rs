//! What the outside wants of the VM, and what it does: the one place where the state changes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulla_boot_abi::progress::Failure;

use super::lifecycle::{IllegalTransition, VmState};
use crate::backend::{Kick, VcpuError};
use crate::memory::MemoryError;

/// Why a VM is over.
#[derive(Debug, thiserror::Error)]
pub enum StopReason {
    /// The guest switched the machine off.
    #[error("the guest powered off")]
    PoweredOff,
    /// The guest asked for a reset. The machine ends with it: a new one starts measured from the beginning.
    #[error("the guest asked for a reset")]
    Reset,
    /// The guest's processor gave up.
    #[error("the guest's processor shut down (triple fault)")]
    TripleFault,
    /// Firmware, bootloader or tenant gave up and said why.
    #[error("the boot chain stopped: {0}")]
    Guest(Failure),
    /// [`super::Machine::stop`], or the progress handler.
    #[error("stopped by the host")]
    Host,
    /// The vCPU cannot go on.
    #[error("the vCPU stopped: {0}")]
    Vcpu(#[from] VcpuError),
    /// The boot window could not be withdrawn at the hand-over, so the kernel was not entered.
    #[error("the boot window could not be withdrawn: {0}")]
    BootWindow(#[from] MemoryError),
}

struct Inner {
    state: VmState,
    pause: bool,
    stop: Option<Arc<StopReason>>,
}

/// See the module.
pub(super) struct Control {
    inner: Mutex<Inner>,
    changed: Condvar,
    kicker: Arc<dyn Kick>,
}

impl Control {
    pub(super) fn new(kicker: Arc<dyn Kick>) -> Self {
        let inner = Inner { state: VmState::Created, pause: false, stop: None };
        Self { inner: Mutex::new(inner), changed: Condvar::new(), kicker }
    }

    pub(super) fn state(&self) -> VmState {
        self.lock().state
    }

    /// Makes the VM end for `reason`, unless another one came first.
    pub(super) fn stop(&self, reason: StopReason) {
        self.lock().stop.get_or_insert_with(|| Arc::new(reason));
        self.changed.notify_all();
        self.kicker.kick();
    }

    /// The first change: out of [`VmState::Created`].
    pub(super) fn start(&self) -> Result<(), IllegalTransition> {
        let mut inner = self.lock();
        // Running is also what a paused VM may become, but not by starting it again.
        if inner.state != VmState::Created {
            return Err(IllegalTransition { from: inner.state, to: VmState::Running });
        }
        self.change(&mut inner, VmState::Running)
    }

    /// Asks for a pause and waits for it.
    pub(super) fn pause(&self) -> Result<(), IllegalTransition> {
        let mut inner = self.lock();
        inner.state.check(VmState::Paused)?;
        inner.pause = true;
        self.kicker.kick();
        let inner = self
            .changed
            .wait_while(inner, |inner| inner.pause && inner.state == VmState::Running)
            .unwrap_or_else(PoisonError::into_inner);
        match inner.state {
            VmState::Paused => Ok(()),
            from => Err(IllegalTransition { from, to: VmState::Paused }),
        }
    }

    /// Lets a paused VM go on, and waits until it does.
    pub(super) fn resume(&self) -> Result<(), IllegalTransition> {
        let mut inner = self.lock();
        if inner.state != VmState::Paused {
            return Err(IllegalTransition { from: inner.state, to: VmState::Running });
        }
        inner.pause = false;
        self.changed.notify_all();
        // Only the vCPU's thread leaves Paused. Were it done here, a second pause could come before that thread has
        // noticed the end of the first one, and both sides would wait for each other.
        let inner = self
            .changed
            .wait_while(inner, |inner| inner.state == VmState::Paused)
            .unwrap_or_else(PoisonError::into_inner);
        match inner.state {
            VmState::Running => Ok(()),
            from => Err(IllegalTransition { from, to: VmState::Running }),
        }
    }

    /// The vCPU's thread, between two runs: `None` once the VM shall end. Waits here while the VM is paused;
    /// `paused` and `resumed` are called around that.
    pub(super) fn go_on(&self, paused: impl FnOnce(), resumed: impl FnOnce()) -> Option<()> {
        let mut inner = self.lock();
        if inner.stop.is_none() && inner.pause && self.change(&mut inner, VmState::Paused).is_ok() {
            paused();
            inner = self
                .changed
                .wait_while(inner, |inner| inner.pause && inner.stop.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            if inner.stop.is_none() && self.change(&mut inner, VmState::Running).is_ok() {
                resumed();
            }
        }
        inner.stop.is_none().then_some(())
    }

    /// The vCPU's thread, at its end.
    pub(super) fn ended(&self) {
        let mut inner = self.lock();
        inner.stop.get_or_insert_with(|| Arc::new(StopReason::Host));
        // Legal from every state but itself, and nothing else leads there.
        let _ = self.change(&mut inner, VmState::Stopped);
    }

    /// Waits for the end.
    pub(super) fn wait(&self) -> Arc<StopReason> {
        let mut inner = self.lock();
        loop {
            match &inner.stop {
                Some(reason) if inner.state == VmState::Stopped => return Arc::clone(reason),
                _ => inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Waits for the end, for at most `limit`.
    pub(super) fn wait_for(&self, limit: Duration) -> Option<Arc<StopReason>> {
        let going = |inner: &mut Inner| inner.state != VmState::Stopped;
        let waited = self.changed.wait_timeout_while(self.lock(), limit, going);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.stop.clone().filter(|_| inner.state == VmState::Stopped)
    }

    fn change(&self, inner: &mut Inner, to: VmState) -> Result<(), IllegalTransition> {
        inner.state.check(to)?;
        inner.state = to;
        self.changed.notify_all();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
