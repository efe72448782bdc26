//! `bulla-vtpm socket`: a TPM on sockets that speaks swtpm's protocol, for programs made for `swtpm socket --tpm2`.
//!
//! Two channels, each a TCP or a Unix socket: on the data channel raw TPM commands come and responses go; on the
//! control channel a platform makes swtpm's requests (power, locality, hashing, state, cancelling). The module
//! knows the protocol; the TPM is the engine's.
//!
//! One thread serves each channel, so that a request to cancel is heard while a command runs. They share the `Machine`,
//! which one of them has at a time. The main thread waits for a reason to end.

mod code;
mod control;
mod daemon;
mod data;
mod direct;
mod info;
mod inherited;
mod keep;
mod listen;
mod log;
mod machine;
mod options;
mod request;
mod shared;
mod suboptions;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use bulla_tpm_types::response::ResponseError;
use bulla_vtpm_client::Exit;
use thiserror::Error;

pub use direct::Direct;
pub use inherited::Inherited;
pub use listen::ListenError;
pub use options::{
    Control, Flags, GivenKey, KeyOption, Localities, Log as LogOptions, Migration, Options, PathOrFd, Seccomp, Server,
    Source, TpmState,
};
pub use suboptions::OptionError;

pub(crate) use keep::read_key;
pub(crate) use options::key as parse_key;

use daemon::Role;
use data::Manners;
use listen::Endpoint;
use log::{EVENTS, Log};
use shared::{End, Shared, Watch};

use crate::engine::StateError;
use crate::sandbox::{self, Breach, SandboxError};
use crate::state::{KeyError, OpenError};

/// Why the program could not serve, or no longer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Neither channel is wanted.
    #[error("neither --server (or --port, --fd) nor --ctrl: nobody could reach the TPM")]
    NoChannel,
    /// A socket could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A file could not be opened or written.
    #[error("{what}: {source}")]
    File {
        /// Which.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A state that was to be gone on from is none.
    #[error("the TPM's state: {0}")]
    State(StateError),
    /// The state could not be gone on from.
    #[error("the TPM's state: {0}")]
    Resume(String),
    /// The state's folder could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The anchor could not be opened.
    #[error("--state-anchor: {0}")]
    Anchor(io::Error),
    /// A key could not be read.
    #[error("{option}: {source}")]
    Key {
        /// Which.
        option: &'static str,
        /// Why not.
        source: KeyError,
    },
    /// TPM2_Startup, which the program was to execute, failed.
    #[error("TPM2_Startup: {0}")]
    Startup(ResponseError),
    /// A channel failed.
    #[error("{channel} channel: {source}")]
    Channel {
        /// Which.
        channel: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The sandbox could not be entered.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A thread died.
    #[error("a bug: its message is above")]
    Bug,
}

impl SocketError {
    /// How the process has to end.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::NoChannel => Exit::Usage,
            Self::Listen(_) | Self::File { .. } | Self::Channel { .. } => Exit::Socket,
            Self::Sandbox(_) => Exit::Sandbox,
            Self::Open(error) => error.exit(),
            Self::State(_) | Self::Resume(_) | Self::Anchor(_) | Self::Key { .. } => Exit::State,
            Self::Startup(_) | Self::Bug => Exit::Engine,
        }
    }
}

/// A file that goes when the program ends.
struct PidFile(PathBuf);

impl Drop for PidFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Serves until a signal, the control channel or the last client ends it; or prints what was asked for; or leaves serving to a process in the
/// background. Answers the exit code.
///
/// # Errors
/// See [`SocketError`].
pub fn run(options: &Options, mut inherited: Inherited) -> Result<u8, SocketError> {
    let file = |what| move |source| SocketError::File { what, source };
    if options.print_capabilities {
        return print(&keep::capabilities()).map(|()| 0);
    }
    if options.print_states {
        return print(&keep::states(options, &mut inherited)?).map(|()| 0);
    }
    let background = match options.daemon.then(daemon::daemonize).transpose().map_err(file("--daemon"))? {
        None => None,
        Some(Role::Front(code)) => return Ok(code),
        Some(Role::Background(ready)) => Some(ready),
    };
    let log = Log::open(&options.log, &mut inherited).map_err(file("--log"))?;
    let server = match (&options.server, options.port, options.fd) {
        (Some(server), ..) => Some(server.clone()),
        (None, Some(port), _) => Some(Server {
            source: Source::Tcp { address: std::net::Ipv4Addr::LOCALHOST.into(), port },
            disconnect: true,
        }),
        (None, None, Some(fd)) => Some(Server { source: Source::Connected(fd), disconnect: false }),
        (None, None, None) => None,
    };
    if server.is_none() && options.ctrl.is_none() {
        return Err(SocketError::NoChannel);
    }
    let mut names = Vec::new();
    let mut open = |source: &Source| -> Result<Endpoint, SocketError> {
        let (endpoint, name) = listen::open(source, &mut inherited)?;
        names.extend(name);
        Ok(endpoint)
    };
    let control = options.ctrl.as_ref().map(|control| open(&control.source)).transpose()?;
    let data = server.as_ref().map(|server| open(&server.source)).transpose()?;
    let manners = Manners {
        disconnect: server.as_ref().is_some_and(|server| server.disconnect),
        // A descriptor that was given is the only client there will be.
        terminate: options.terminate || matches!(data, Some(Endpoint::Connected(_))),
    };

    let mut machine = keep::machine(options, &mut inherited)?;
    if options.flags.powered {
        machine.power_on().map_err(|error| SocketError::Resume(error.to_string()))?;
    }
    if let Some(kind) = options.flags.startup {
        machine.startup(kind).map_err(SocketError::Startup)?;
    }
    let shared = Shared::new(machine, log).map_err(file("eventfd"))?;
    let (ends, end) = mpsc::channel();
    let on_signal = ends.clone();
    ctrlc::set_handler(move || drop(on_signal.send(End::Signal)))
        .map_err(|error| SocketError::File { what: "signals", source: io::Error::other(error) })?;
    let _pid_file = write_pid(options.pid.as_ref(), &mut inherited).map_err(file("--pid"))?;

    // Two meetings: all threads run; all are confined.
    let confined = Arc::new(Barrier::new(2 + usize::from(control.is_some())));
    let thread = |name: &str, body: Box<dyn FnOnce() -> End + Send>| {
        let (watch, confined) = (Watch(ends.clone()), Arc::clone(&confined));
        let all = move || {
            confined.wait();
            confined.wait();
            watch.end(body());
        };
        thread::Builder::new().name(name.to_owned()).spawn(all).map_err(file("thread"))
    };
    if let Some(endpoint) = control {
        let shared = Arc::clone(&shared);
        let terminate = options.ctrl.as_ref().is_some_and(|control| control.terminate);
        let body = move || control::serve(&shared, endpoint, terminate).unwrap_or_else(|e| End::Failed("control", e));
        thread("control", Box::new(body))?;
    }
    let for_data = Arc::clone(&shared);
    let body = move || data::serve(&for_data, data, manners).unwrap_or_else(|e| End::Failed("data", e));
    thread("data", Box::new(body))?;

    confined.wait();
    if let Some(ready) = &background {
        ready.leave_streams().map_err(file("/dev/null"))?;
    }
    match options.seccomp {
        Seccomp::None => {}
        Seccomp::Log => sandbox::enter_all(Breach::Logged)?,
        Seccomp::Kill => sandbox::enter_all(Breach::Deadly)?,
    }
    confined.wait();
    if let Some(ready) = background {
        ready.tell().map_err(file("--daemon"))?;
    }

    // The sender of `ends` is still here: an end always comes.
    let end = end.recv().unwrap_or(End::Bug);
    // A command that runs is given up, so that the end is soon.
    shared.cancel.store(true, Ordering::Relaxed);
    shared.machine().power_off();
    match end {
        End::Signal | End::Control | End::LastClient => {
            shared.log.line(EVENTS, format_args!("ended: {end:?}"));
            Ok(0)
        }
        End::Failed(channel, source) => Err(SocketError::Channel { channel, source }),
        End::Bug => Err(SocketError::Bug),
    }
}

fn print(value: &serde_json::Value) -> Result<(), SocketError> {
    match writeln!(io::stdout(), "{value}") {
        // A reader that has enough is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|source| SocketError::File { what: "standard output", source }),
    }
}

fn write_pid(target: Option<&PathOrFd>, inherited: &mut Inherited) -> io::Result<Option<PidFile>> {
    let line = format!("{}\n", std::process::id());
    match target {
        None => Ok(None),
        Some(PathOrFd::Path(path)) => {
            fs::write(path, line)?;
            Ok(Some(PidFile(path.clone())))
        }
        Some(PathOrFd::Fd(fd)) => {
            fs::File::from(inherited.take(*fd)?).write_all(line.as_bytes())?;
            Ok(None)
        }
    }
}
