//! `bulla-agent`: hands out evidence of the machine that it runs in. As process 1 it prepares what it needs, and switches the machine
//! off afterwards.
//!
//! Linux gives process 1 what follows `--` on its command line, so that the options below can stand there.
#![forbid(unsafe_code)]

mod system;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use bulla_agent::talk::{TalkError, hand_out};
use bulla_agent::tpm::{self, TpmError};
use bulla_tpm_types::eventlog::{EventLog, LogError};

use system::{Serial, SystemError, TpmDevice};

const USAGE: &str = "\
bulla-agent: quote this machine's TPM over the host's nonce and hand the evidence to the host

usage: bulla-agent [--port DEVICE] [--tpm DEVICE] [--event-log FILE]

  --port DEVICE     serial line to the host (/dev/ttyS1)
  --tpm DEVICE      the TPM (/dev/tpmrm0, else /dev/tpm0)
  --event-log FILE  (/sys/kernel/security/tpm0/binary_bios_measurements)

As process 1 it mounts devtmpfs, sysfs and securityfs first and powers off afterwards; Linux passes it the options that follow `--` on
the kernel's command line.

Exit code: 0 the host has the evidence, 1 it has not, 2 wrong usage.";

/// Larger than what bulla's firmware has room for.
const EVENT_LOG_MAX: u64 = 80 * 1024;

struct Options {
    port: PathBuf,
    tpm: Vec<PathBuf>,
    event_log: PathBuf,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            port: "/dev/ttyS1".into(),
            tpm: vec!["/dev/tpmrm0".into(), "/dev/tpm0".into()],
            event_log: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
        };
        while let Some(name) = arguments.next() {
            let name = name.to_string_lossy().into_owned();
            let mut value = || arguments.next().map(PathBuf::from).ok_or(format!("{name} without a value"));
            match name.as_str() {
                "--port" => options.port = value()?,
                "--tpm" => options.tpm = vec![value()?],
                "--event-log" => options.event_log = value()?,
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }
}

/// Why the host has no evidence of this machine.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("cannot mount {0}")]
    Mount(SystemError),
    #[error("cannot open the line to the host: {0}")]
    Port(SystemError),
    #[error(transparent)]
    Talk(#[from] TalkError<EvidenceError>),
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum EvidenceError {
    #[error("cannot read the event log: {0}")]
    ReadLog(SystemError),
    #[error("the event log is malformed: {0}")]
    Log(#[from] LogError),
    #[error("cannot open the TPM: {0}")]
    OpenTpm(SystemError),
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

/// A console that cannot be written to keeps nobody from anything.
fn say(what: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "bulla-agent: {what}");
}

fn main() -> ExitCode {
    let init = std::process::id() == 1;
    let code = match Options::read(std::env::args_os().skip(1)) {
        Ok(options) => match attest(&options, init) {
            Ok(()) => 0,
            Err(error) => {
                say(format_args!("no evidence: {error}"));
                1
            }
        },
        Err(error) => {
            say(format_args!("{error}\n{USAGE}"));
            2
        }
    };
    if init {
        say("powering off");
        // If process 1 ends, Linux stops with a panic: better than a machine that seems to do something.
        say(format_args!("cannot power off: {}", system::power_off()));
    }
    ExitCode::from(code)
}

fn attest(options: &Options, init: bool) -> Result<(), AgentError> {
    if init {
        system::mount_all().map_err(AgentError::Mount)?;
    }
    let mut line = Serial::open(&options.port).map_err(AgentError::Port)?;
    say(format_args!("asking for a nonce on {}", options.port.display()));
    hand_out(&mut line, |nonce| evidence(options, nonce))?;
    say("the host has the evidence");
    Ok(())
}

fn evidence(options: &Options, nonce: &[u8]) -> Result<Vec<u8>, EvidenceError> {
    say(format_args!("a nonce of {} bytes", nonce.len()));
    let log = system::read(&options.event_log, EVENT_LOG_MAX).map_err(EvidenceError::ReadLog)?;
    let events = EventLog::parse(&log)?.events().filter(Result::is_ok).count();
    say(format_args!("event log: {} bytes, {events} events", log.len()));
    let (mut tpm, path) = TpmDevice::open(&options.tpm).map_err(EvidenceError::OpenTpm)?;
    let claims = tpm::quote(&mut tpm, nonce, log)?.to_claims();
    say(format_args!("{}: quoted, {} bytes of evidence", path.display(), claims.len()));
    Ok(claims)
}
