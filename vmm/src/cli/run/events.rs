//! What `bulla run` tells while the VM runs, and when it shall stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use bulla_boot_abi::progress::{Milestone, Progress};
use bulla_vmm::backend::select::Choice;
use bulla_vmm::confine::Landlock;
use bulla_vmm::machine::Stopper;

use crate::cli::say;

/// What `--until` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The hand-over to the kernel.
    Handover,
    /// The evidence of the guest's agent.
    AgentEvidence,
    /// A text on the console.
    Console(String),
}

pub(crate) fn parse_until(text: &str) -> Result<Until, String> {
    match text.strip_prefix("console:") {
        Some(needle) if !needle.is_empty() => Ok(Until::Console(needle.to_owned())),
        None if text == "handover" => Ok(Until::Handover),
        None if text == "agent-evidence" => Ok(Until::AgentEvidence),
        _ => Err("write `handover`, `agent-evidence` or `console:TEXT`".to_owned()),
    }
}

/// See the module.
pub(crate) struct Events {
    json: bool,
    until: Option<Until>,
    reached: AtomicBool,
    stopper: OnceLock<Stopper>,
    /// Lines of JSON come from two threads.
    out: Mutex<()>,
}

impl Events {
    pub(crate) fn new(json: bool, until: Option<Until>) -> Self {
        Self { json, until, reached: AtomicBool::new(false), stopper: OnceLock::new(), out: Mutex::new(()) }
    }

    /// What ends the VM once `--until` is reached.
    pub(crate) fn on_reached(&self, stopper: Stopper) {
        // Called once, before the VM starts.
        let _ = self.stopper.set(stopper);
    }

    pub(crate) fn reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    /// The text to look for on the console.
    pub(crate) fn needle(&self) -> Option<&str> {
        match &self.until {
            Some(Until::Console(text)) => Some(text),
            _ => None,
        }
    }

    /// The console has shown [`Self::needle`].
    pub(crate) fn needle_seen(&self) {
        self.reach();
    }

    fn reach(&self) {
        self.reached.store(true, Ordering::Release);
        if let Some(stopper) = self.stopper.get() {
            stopper.stop();
        }
    }

    /// Tells of a milestone. True if the VM shall end here.
    pub(crate) fn progress(&self, progress: Progress, vm_time: u64) -> bool {
        if let Progress::Reached(milestone) = progress {
            let name = name(milestone);
            self.line(&serde_json::json!({ "milestone": name, "monotonic_ns": monotonic_ns(), "vm_ns": vm_time }));
            if milestone == Milestone::Handover && self.until == Some(Until::Handover) {
                self.reached.store(true, Ordering::Release);
                return true;
            }
        }
        false
    }

    /// Tells what executes the guest, and why; a person only if it is news.
    pub(crate) fn backend(&self, choice: &Choice, news: bool) {
        self.line(&serde_json::json!({ "accel": choice.name(), "why": choice.why }));
        if news && !self.json {
            eprintln!("bulla: runs on {choice}");
        }
    }

    /// Tells what the monitor has given up: system calls in any case, files as far as `landlock` says; `None` is nothing.
    pub(crate) fn confined(&self, landlock: Option<Landlock>) {
        let confined = landlock.map(|landlock| serde_json::json!({ "seccomp": true, "landlock": landlock.name() }));
        self.line(&serde_json::json!({ "confined": confined.unwrap_or(false.into()) }));
    }

    pub(crate) fn evidence(&self, path: &std::path::Path) {
        self.line(&serde_json::json!({ "evidence": path }));
    }

    /// The guest's agent has sent evidence, and it has been written.
    pub(crate) fn agent_evidence(&self, path: &std::path::Path) {
        self.line(&serde_json::json!({ "agent_evidence": path }));
        if self.until == Some(Until::AgentEvidence) {
            self.reach();
        }
    }

    pub(crate) fn stopped(&self, how: &str, vm_time: u64) {
        self.line(&serde_json::json!({ "stopped": how, "monotonic_ns": monotonic_ns(), "vm_ns": vm_time }));
    }

    fn line(&self, value: &serde_json::Value) {
        if self.json {
            let _one_at_a_time = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            say!("{value}");
        }
    }
}

/// Names of milestones in JSON; stable.
fn name(milestone: Milestone) -> &'static str {
    match milestone {
        Milestone::FirmwareEntered => "firmware-entered",
        Milestone::TpmReady => "tpm-ready",
        Milestone::BootloaderCopied => "bootloader-copied",
        Milestone::BootloaderMeasured => "bootloader-measured",
        Milestone::BootloaderEntered => "bootloader-entered",
        Milestone::ImagesCopied => "images-copied",
        Milestone::ImagesMeasured => "images-measured",
        Milestone::Handover => "handover",
        Milestone::TenantReady => "tenant-ready",
        Milestone::TenantReplied => "tenant-replied",
    }
}

/// CLOCK_MONOTONIC in nanoseconds: comparable between processes of one host.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_takes_a_handover_or_a_text() {
        assert_eq!(parse_until("handover"), Ok(Until::Handover));
        assert_eq!(parse_until("agent-evidence"), Ok(Until::AgentEvidence));
        assert_eq!(parse_until("console:Linux version"), Ok(Until::Console("Linux version".into())));
        for bad in ["", "console:", "console", "reboot"] {
            assert!(parse_until(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_named_milestone_ends_the_vm() {
        let events = Events::new(false, Some(Until::Handover));
        assert!(!events.progress(Progress::Reached(Milestone::TpmReady), 0));
        assert!(!events.reached());
        assert!(events.progress(Progress::Reached(Milestone::Handover), 0));
        assert!(events.reached());
        assert!(!Events::new(false, None).progress(Progress::Reached(Milestone::Handover), 0));
    }
}
