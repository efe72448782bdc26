//! The vTPM's process, from the monitor's side.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::error::SpawnError;
use crate::{Exit, VtpmClient};

/// Where a vTPM keeps its state, which then outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePlace {
    /// The folder; made if it is not there.
    pub dir: PathBuf,
    /// The file with the key, 64 hexadecimal digits, or else what `--state-key` takes. `None`: a key beside the state.
    pub key: Option<PathBuf>,
    /// The file that remembers, on other storage, which state was the last one, or else what `--state-anchor` takes.
    pub anchor: Option<PathBuf>,
    /// Whether to go on from a state that is older than the anchor remembers.
    pub accept_rollback: bool,
}

/// A running `bulla-vtpm`, alone with its end of a socket pair; killed and reaped when dropped.
#[derive(Debug)]
pub struct VtpmProcess {
    client: VtpmClient,
    child: VtpmChild,
}

/// The process of a [`VtpmProcess`] without the connection; killed and reaped when dropped.
#[derive(Debug)]
pub struct VtpmChild(Child);

impl VtpmProcess {
    /// Starts `binary` (see [`find_binary`](crate::find_binary)) as a vTPM of its own: an empty
    /// environment, the socket as its standard input, no standard output, this process's standard error.
    /// Does not wait for it: the first call to the [`client`](Self::client) does.
    ///
    /// The process ends when this side of the socket is closed, by whatever death of the monitor. Started
    /// from the monitor's main thread it is also killed with it (PR_SET_PDEATHSIG), even if it hangs; that
    /// signal goes by the death of the *thread* that started the process, so from other threads,
    /// which may end while the VM runs, it is not asked for.
    ///
    /// # Errors
    /// See [`SpawnError`].
    pub fn spawn(binary: &Path) -> Result<Self, SpawnError> {
        Self::spawn_with(binary, None)
    }

    /// The same with a state that lasts. Whether it can be used shows at the first call to the client: else that one fails
    /// with [`Error::Ended`](crate::Error::Ended), and [`ended`](Self::ended) tells [`Exit::State`], [`Exit::Locked`] or
    /// [`Exit::RolledBack`]; the details go to standard error.
    ///
    /// # Errors
    /// See [`SpawnError`].
    pub fn spawn_with(binary: &Path, state: Option<&StatePlace>) -> Result<Self, SpawnError> {
        let start = |source| SpawnError::Start { binary: binary.to_owned(), source };
        // Both ends are close-on-exec; what becomes the child's standard input is a copy that is not.
        let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Socket)?;
        let client = VtpmClient::new(ours).map_err(SpawnError::Socket)?;
        // An absolute path, so that nothing is searched for in an environment that is empty.
        let program = binary.canonicalize().map_err(start)?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--fd", "0"])
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            // A group of its own: an interrupt typed at the monitor is the monitor's to handle.
            .process_group(0);
        if let Some(StatePlace { dir, key, anchor, accept_rollback }) = state {
            command.arg("--state").arg(dir);
            for (option, file) in [("--state-key", key), ("--state-anchor", anchor)] {
                if let Some(file) = file {
                    command.arg(option).arg(file);
                }
            }
            if *accept_rollback {
                command.arg("--accept-rollback");
            }
        }
        if from_main_thread() {
            command.args(["--parent", &process::id().to_string()]);
        }
        let child = command.spawn().map_err(start)?;
        Ok(Self { client, child: VtpmChild(child) })
    }

    /// The connection to it.
    pub fn client(&mut self) -> &mut VtpmClient {
        &mut self.client
    }

    /// The connection and the process, for those who keep them in two places.
    #[must_use]
    pub fn into_parts(self) -> (VtpmClient, VtpmChild) {
        (self.client, self.child)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// How it ended, see [`VtpmChild::ended`].
    ///
    /// # Errors
    /// The system's, on asking for the state of a child.
    pub fn ended(&mut self) -> io::Result<Option<Exit>> {
        self.child.ended()
    }
}

impl VtpmChild {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended; `None` if it runs. After [`Error::Ended`](crate::Error::Ended) this tells why,
    /// for which it waits a tenth of a second at most.
    ///
    /// # Errors
    /// The system's, on asking for the state of a child.
    pub fn ended(&mut self) -> io::Result<Option<Exit>> {
        for _ in 0..50 {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status.into()));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }
}

impl Drop for VtpmChild {
    fn drop(&mut self) {
        // Fails only if it has ended already; then the wait reaps it all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn from_main_thread() -> bool {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()) == Ok(process::id())
}
