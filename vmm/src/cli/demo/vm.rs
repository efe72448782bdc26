//! A tenant VM of the demo: a `bulla run` process of its own, and the mailbox shared with its guest.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulla_boot_abi::mailbox::{Reply, Request};
use bulla_vmm::shared::SharedRegion;
use bulla_vmm::tenant::{Mailbox, MailboxError};

use crate::cli::{Exit, Failure, TENANT};

/// No step of the demo takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// RAM of a demo VM.
pub(crate) const MEMORY: u64 = 32 << 20;

/// A monitor process.
#[derive(Debug)]
pub(crate) struct Monitor {
    name: &'static str,
    child: Child,
}

impl Monitor {
    /// Starts `bulla run` with the demo's machine, `kernel` and the given further arguments.
    pub(crate) fn start(
        name: &'static str,
        accel: &str,
        kernel: &Path,
        cmdline: &str,
        more: &[OsString],
    ) -> Result<Self, Failure> {
        let failed = |e| Failure::because(Exit::HostFailed, format!("cannot start a monitor for {name}"), &e);
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .args(["run", "--accel", accel, "--kernel"])
            .arg(kernel)
            .args(["--cmdline", cmdline, "--memory", &MEMORY.to_string(), "--console", "none"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Self { name, child })
    }

    /// Waits for the process to end by itself and returns its exit code.
    pub(crate) fn wait(&mut self) -> Result<Option<i32>, Failure> {
        let start = Instant::now();
        loop {
            let status = self.child.try_wait();
            let failed = |e| Failure::because(Exit::HostFailed, format!("cannot wait for {}", self.name), &e);
            if let Some(status) = status.map_err(failed)? {
                return Ok(status.code());
            }
            if start.elapsed() > PATIENCE {
                return Err(Failure::new(Exit::GuestFailed, format!("{} did not stop within {PATIENCE:?}", self.name)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill and the wait reaps it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A VM that runs the bundled tenant.
#[derive(Debug)]
pub(crate) struct TenantVm {
    monitor: Monitor,
    mailbox: Mailbox,
}

impl TenantVm {
    pub(crate) fn start(
        name: &'static str,
        accel: &str,
        cmdline: &str,
        channel: &SharedRegion,
    ) -> Result<Self, Failure> {
        let mailbox = Mailbox::create().map_err(|e| failed(name, &e))?;
        let more = ["--mailbox".into(), mailbox.region().path().into(), "--channel".into(), channel.path().into()];
        Ok(Self { monitor: Monitor::start(name, accel, Path::new(TENANT), cmdline, &more)?, mailbox })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.monitor.name
    }

    pub(crate) fn post(&mut self, request: &Request) -> Result<(), Failure> {
        self.mailbox.post(request).map_err(|e| failed(self.monitor.name, &e))
    }

    pub(crate) fn wait(&mut self) -> Result<Reply, Failure> {
        self.try_wait().map_err(|e| failed(self.monitor.name, &e))
    }

    /// As [`Self::wait`], with the error for those who expect one.
    pub(crate) fn try_wait(&mut self) -> Result<Reply, MailboxError> {
        let monitor = &mut self.monitor;
        self.mailbox.wait(PATIENCE, || monitor.runs())
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        self.post(request)?;
        self.wait()
    }

    /// Asks the guest to power off and waits for its monitor to end well.
    pub(crate) fn power_off(&mut self) -> Result<bool, Failure> {
        self.post(&Request::PowerOff)?;
        Ok(self.monitor.wait()? == Some(0))
    }
}

/// A step that a VM did not do; the exit code is that of a failed claim.
pub(crate) fn failed(name: &str, error: &MailboxError) -> Failure {
    Failure::because(Exit::GuestFailed, name, error)
}
