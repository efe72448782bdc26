//! How a vTPM process ends.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// How a `bulla-vtpm serve` process ended. The numbers are the program's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: the monitor closed the socket.
    MonitorLeft,
    /// 2: the command line was wrong.
    Usage,
    /// 3: the sandbox could not be entered; nothing was read.
    Sandbox,
    /// 4: the monitor sent what is not a frame.
    Frame,
    /// 5: the socket failed.
    Socket,
    /// 6: the TPM engine failed.
    Engine,
    /// 7: the TPM's state could not be opened.
    State,
    /// 8: another process has the TPM's state.
    Locked,
    /// 9: the TPM's state was rolled back.
    RolledBack,
    /// Another code.
    Code(i32),
    /// Killed by this signal: 6, SIGABRT, after a bug; 31, SIGSYS, by the sandbox.
    Signal(i32),
}

impl Exit {
    /// The exit code; `None` for a death by signal.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        Some(match self {
            Self::MonitorLeft => 0,
            Self::Usage => 2,
            Self::Sandbox => 3,
            Self::Frame => 4,
            Self::Socket => 5,
            Self::Engine => 6,
            Self::State => 7,
            Self::Locked => 8,
            Self::RolledBack => 9,
            Self::Code(code) => code,
            Self::Signal(_) => return None,
        })
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::MonitorLeft,
            (Some(2), _) => Self::Usage,
            (Some(3), _) => Self::Sandbox,
            (Some(4), _) => Self::Frame,
            (Some(5), _) => Self::Socket,
            (Some(6), _) => Self::Engine,
            (Some(7), _) => Self::State,
            (Some(8), _) => Self::Locked,
            (Some(9), _) => Self::RolledBack,
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MonitorLeft => f.write_str("it saw the monitor close the socket"),
            Self::Usage => f.write_str("it did not understand its command line"),
            Self::Sandbox => f.write_str("it could not enter its sandbox"),
            Self::Frame => f.write_str("it was sent what is not a frame"),
            Self::Socket => f.write_str("its socket failed"),
            Self::Engine => f.write_str("its TPM engine failed"),
            Self::State => f.write_str("it could not open its TPM's state"),
            Self::Locked => f.write_str("another process has its TPM's state"),
            Self::RolledBack => f.write_str("its TPM's state was rolled back"),
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(6) => f.write_str("it came upon a bug or the end of its memory and aborted (SIGABRT)"),
            Self::Signal(31) => f.write_str("its sandbox killed it (SIGSYS)"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_agree() {
        for code in 0..=255 {
            assert_eq!(Exit::from(ExitStatus::from_raw(code << 8)).code(), Some(code));
        }
        assert_eq!(Exit::from(ExitStatus::from_raw(9)), Exit::Signal(9));
    }
}
