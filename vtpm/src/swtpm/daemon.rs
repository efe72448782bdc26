//! `--daemon`: the program goes on in the background, and the caller gets its prompt back when the sockets are there.
//!
//! The process starts itself again, in a session of its own, and waits for a byte from that one: no fork(2) of a process
//! that has state. Inherited descriptors go along.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

/// In the environment of the process in the background.
const VARIABLE: &str = "BULLA_VTPM_DAEMON";

/// The end of the caller's wait, in the background process. Until [`Ready::tell`] the caller sees standard error.
#[derive(Debug)]
pub(super) struct Ready(File);

/// What this process is.
pub(super) enum Role {
    /// The one that the caller waits for: it ends with this code.
    Front(u8),
    /// The one that serves.
    Background(Ready),
}

/// Starts the process in the background and waits until it serves or has ended; in that process itself, leaves the
/// caller's session.
pub(super) fn daemonize() -> io::Result<Role> {
    if std::env::var_os(VARIABLE).is_some() {
        rustix::process::setsid()?;
        let waiting = io::stdout().as_fd().try_clone_to_owned()?;
        return Ok(Role::Background(Ready(File::from(waiting))));
    }
    let mut child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = [0];
    if let Some(mut out) = child.stdout.take()
        && out.read_exact(&mut told).is_ok()
    {
        return Ok(Role::Front(0));
    }
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(Role::Front(code.unwrap_or(1)))
}

impl Ready {
    /// Gives up the caller's standard streams.
    pub(super) fn leave_streams(&self) -> io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        Ok(())
    }

    /// Ends the caller's wait.
    pub(super) fn tell(mut self) -> io::Result<()> {
        self.0.write_all(b"\n")
    }
}
