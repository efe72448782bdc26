//! What the agent asks of Linux: file systems, the TPM's device, the serial port, the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bulla_agent::talk::Line;
use bulla_agent::tpm::Transport;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::mount::{MountFlags, mount};
use rustix::system::RebootCommand;
use rustix::termios::{ControlModes, OptionalActions, Termios, tcdrain, tcgetattr, tcsetattr};

/// What did not work, and on what.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct SystemError {
    path: PathBuf,
    source: io::Error,
}

fn on(path: &Path) -> impl Fn(io::Error) -> SystemError {
    move |source| SystemError { path: path.to_owned(), source }
}

/// Mounts what the agent reads, and nothing that it does not need.
pub(crate) fn mount_all() -> Result<(), SystemError> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, place) in [("devtmpfs", "/dev"), ("sysfs", "/sys"), ("securityfs", "/sys/kernel/security")] {
        let failed = on(Path::new(place));
        // In sysfs a directory cannot be made and need not be.
        let _ = fs::create_dir(place);
        match mount(kind, place, kind, flags, None) {
            // Somebody was here before.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    Ok(())
}

/// Reads a file that may not be larger than `limit`. Files of securityfs do not know their sizes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, SystemError> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(on(path))?;
    if bytes.len() as u64 > limit {
        return Err(on(path)(io::Error::other(format!("larger than {limit} bytes"))));
    }
    Ok(bytes)
}

/// A TPM's character device: a command in one write, its response in one read.
pub(crate) struct TpmDevice(File);

/// The largest response of a TPM through Linux (TPM_BUFSIZE).
const RESPONSE_MAX: usize = 4096;

impl TpmDevice {
    /// Opens the first of `paths` that is there, and says which.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<(Self, &Path), SystemError> {
        let mut missing = SystemError { path: PathBuf::from("/dev"), source: io::ErrorKind::NotFound.into() };
        for path in paths {
            match File::options().read(true).write(true).open(path) {
                Ok(file) => return Ok((Self(file), path)),
                Err(source) if source.kind() == io::ErrorKind::NotFound => missing = on(path)(source),
                Err(source) => return Err(on(path)(source)),
            }
        }
        Err(missing)
    }
}

impl Transport for TpmDevice {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        if self.0.write(command)? != command.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut response = vec![0; RESPONSE_MAX];
        let len = self.0.read(&mut response)?;
        response.truncate(len);
        Ok(response)
    }
}

/// A serial port that passes bytes on as they are.
pub(crate) struct Serial(File);

/// How long one [`Line::receive`] waits.
const WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const BAUD: u32 = 115_200;

impl Serial {
    pub(crate) fn open(path: &Path) -> Result<Self, SystemError> {
        let failed = on(path);
        // Without NONBLOCK, opening would wait for a carrier until CLOCAL is set; NOCTTY: no signals from this line.
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(&failed)?;
        let set_up = || -> rustix::io::Result<()> {
            let mut settings: Termios = tcgetattr(&file)?;
            settings.make_raw();
            settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
            settings.control_modes -= ControlModes::CRTSCTS;
            settings.set_speed(BAUD)?;
            tcsetattr(&file, OptionalActions::Flush, &settings)?;
            fcntl_setfl(&file, OFlags::empty())
        };
        set_up().map_err(|error| failed(error.into()))?;
        Ok(Self(file))
    }
}

impl Line for Serial {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        Ok(tcdrain(&self.0)?)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut ready, Some(&WAIT)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(0),
            Ok(_) => self.0.read(buffer),
            Err(error) => Err(error.into()),
        }
    }
}

/// Switches the machine off. Returns only if that is not possible.
pub(crate) fn power_off() -> io::Error {
    // What has been printed shall be seen.
    let _ = tcdrain(io::stdout());
    rustix::fs::sync();
    match rustix::system::reboot(RebootCommand::PowerOff) {
        Ok(()) => io::Error::other("the machine is still on"),
        Err(error) => error.into(),
    }
}
