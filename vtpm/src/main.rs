//! The program `bulla-vtpm`: a TPM 2.0 for one virtual machine.
//!
//! # Unsafe rules
//!
//! 1. Before it enters the sandbox this program starts no thread and opens nothing but the files of a state, whose
//!    descriptors it has the sandbox keep. (Files that it opened, read and closed before are not there any more, nor is the
//!    way to a TPM of the host's.)

use std::os::fd::{AsRawFd as _, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use bulla_vtpm::info::{self, Named, Properties};
use bulla_vtpm::state::{self, AnchorPlace, HostTpm, KeyFormat, KeySource, OpenAnchor};
use bulla_vtpm::{platform, sandbox, server, setup, swtpm};
use bulla_vtpm_client::Exit;
use clap::{Parser, Subcommand};

/// A TPM 2.0 for one virtual machine, in a process of its own
///
/// The monitor `bulla` starts one bulla-vtpm for each virtual machine and talks to it over a socket pair. You need this
/// program by hand only to ask what its TPM can do:
///
///     bulla-vtpm info
///
/// Without a place to keep its state the TPM lives in memory and is manufactured anew, with new seeds, each time: its keys
/// end with the process.
#[derive(Parser)]
#[command(version, after_long_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a monitor on a socket that it opened (for monitors, not for people)
    ///
    /// Before it reads the first byte the process gives up everything but this socket, standard error, memory, randomness,
    /// the time and the open files of its state, if it has one; an attempt at any other system call kills it. It ends when the monitor closes the socket. The
    /// protocol is in the documentation of the crate bulla-vtpm-client.
    Serve {
        /// The socket: a connected Unix stream socket, by its file descriptor
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(RawFd).range(0..))]
        fd: RawFd,
        /// Be killed when the thread that started this process ends, which must be one of process PID
        #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
        parent: Option<i32>,
        #[command(flatten)]
        state: StateArguments,
    },
    /// Be a TPM on sockets, as `swtpm socket --tpm2` is and with its options: for QEMU, libvirt and the TPM software stack
    Socket(Box<swtpm::Options>),
    /// Manufacture the state of a TPM before its first use, as `swtpm_setup --tpm2` does: endorsement keys and certificates
    Setup(Box<setup::Options>),
    /// Manufacture a TPM in memory and print its properties: algorithms, PCR banks, commands
    Info {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where a TPM's state is kept, and how.
#[derive(clap::Args)]
struct StateArguments {
    /// Keep the TPM's state in this folder, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Key that the state is encrypted with: a file of 64 hexadecimal digits; or host-tpm[,pcrs=N+N][,tcti=TCTI], made with
    /// the state and sealed by this host's TPM. Without it: a file beside the state
    #[arg(long, value_name = "FILE|host-tpm", requires = "state", value_parser = state_key)]
    state_key: Option<StateKey>,
    /// What remembers which state was the last one, so that an older one is refused: a file on other storage, or
    /// host-tpm:INDEX[,tcti=TCTI], a counter in this host's TPM that tells starts
    #[arg(long, value_name = "FILE|host-tpm:INDEX", requires = "state", value_parser = AnchorPlace::parse)]
    state_anchor: Option<AnchorPlace>,
    /// Go on from a state that is older than the anchor remembers; the TPM then shows it
    #[arg(long, requires = "state_anchor")]
    accept_rollback: bool,
}

/// Where the state's key is.
#[derive(Clone)]
enum StateKey {
    File(PathBuf),
    HostTpm(HostTpm),
}

fn state_key(text: &str) -> Result<StateKey, String> {
    HostTpm::parse(text).map_or_else(|| Ok(StateKey::File(text.into())), |host| host.map(StateKey::HostTpm))
}

const EXIT_CODES: &str = "\
Exit codes:
  0  the monitor closed the socket; or info was printed; or the state was made, or is there and --not-overwrite
  2  the command line was wrong
  3  the sandbox could not be entered; nothing was read
  4  the monitor sent what is not a frame
  5  the socket, standard output, or the certificate authority or another file of setup failed
  6  the TPM failed
  7  the TPM's state could not be opened: no such key, another key, damaged, no access; or setup found one already
  8  another process has the TPM's state
  9  the TPM's state was rolled back
A process killed by SIGSYS tried to leave its sandbox: please report it.";

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve { fd, parent, state } => serve(fd, parent, &state),
        Command::Socket(options) => return socket(&options).unwrap_or_else(give_up),
        Command::Setup(options) => set_up(&options),
        Command::Info { json } => print_info(json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => give_up(failure),
    }
}

fn give_up((exit, reason): Failure) -> ExitCode {
    eprintln!("bulla-vtpm: {reason}");
    exit_code(exit)
}

/// How to end, and why in words.
type Failure = (Exit, String);

fn failure<E: std::error::Error>(exit: Exit) -> impl FnOnce(E) -> Failure {
    move |error| (exit, error.to_string())
}

fn exit_code(exit: Exit) -> ExitCode {
    exit.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A state that is open, and all descriptors that it has.
struct OpenState {
    opened: state::Opened,
    descriptors: Vec<RawFd>,
}

impl StateArguments {
    fn open(&self) -> Result<Option<OpenState>, Failure> {
        let Some(dir) = &self.state else { return Ok(None) };
        let mut options = state::Options { accept_rollback: self.accept_rollback, ..state::Options::default() };
        match &self.state_key {
            Some(StateKey::File(file)) => {
                options.key = KeySource::from_file(file, KeyFormat::Hex).map_err(failure(Exit::State))?;
            }
            Some(StateKey::HostTpm(host)) => options.key = KeySource::HostTpm(host.clone()),
            None => {}
        }
        let mut descriptors = Vec::new();
        let anchor = self.state_anchor.as_ref().map(AnchorPlace::open).transpose();
        match anchor.map_err(|error| (Exit::State, format!("cannot open the anchor: {error}")))? {
            Some(OpenAnchor::File(anchor)) => {
                descriptors.push(anchor.file().as_raw_fd());
                options.anchor = Some(Box::new(anchor));
            }
            Some(OpenAnchor::Counter(counter)) => options.counter = Some(counter),
            None => {}
        }
        let opened = state::open(dir, options).map_err(|error| (error.exit(), error.to_string()))?;
        let store = opened.store();
        descriptors.push(store.descriptor());
        // Never closed: the lock ends with the process, and close(2) is not for a sandbox.
        std::mem::forget(store);
        Ok(Some(OpenState { opened, descriptors }))
    }
}

fn serve(fd: RawFd, parent: Option<i32>, state: &StateArguments) -> Result<(), Failure> {
    let state = state.open()?;
    let files = state.as_ref().map(|state| state.descriptors.as_slice()).unwrap_or_default();
    // SAFETY: rule 1.
    let mut socket = unsafe { sandbox::enter(fd, parent, files, files) }.map_err(failure(Exit::Sandbox))?;
    let mut tpm = match state {
        // A machine of this monitor's is not suspended, so the volatile part has no meaning.
        Some(state) => platform::start(state.opened).map_err(failure(Exit::State))?.tpm,
        None => platform::manufacture(),
    };
    server::serve(&mut tpm, &mut socket).map_err(|error| (error.exit(), error.to_string()))
}

fn socket(options: &swtpm::Options) -> Result<ExitCode, Failure> {
    // SAFETY: the unsafe rule 1 of this file is `adopt`'s.
    let inherited = unsafe { swtpm::Inherited::adopt(options.descriptors()) }.map_err(failure(Exit::Usage))?;
    swtpm::run(options, inherited).map(ExitCode::from).map_err(|error| (error.exit(), error.to_string()))
}

fn set_up(options: &setup::Options) -> Result<(), Failure> {
    // SAFETY: the unsafe rule 1 of this file is `adopt`'s.
    let mut inherited = unsafe { swtpm::Inherited::adopt(options.descriptor()) }.map_err(failure(Exit::Usage))?;
    setup::run(options, &mut inherited).map(drop).map_err(|error| (error.exit(), error.to_string()))
}

fn print_info(json: bool) -> Result<(), Failure> {
    use std::io::Write as _;

    let properties = info::properties(&mut platform::manufacture()).map_err(failure(Exit::Engine))?;
    let text = if json {
        serde_json::to_string_pretty(&properties).map_err(failure(Exit::Engine))? + "\n"
    } else {
        in_words(&properties)
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has enough, as `head` has, is no error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(failure(Exit::Socket)),
    }
}

fn in_words(p: &Properties) -> String {
    let names = |list: &[Named]| {
        let names: Vec<String> =
            list.iter().map(|n| if n.name.is_empty() { format!("{:#x}", n.id) } else { n.name.to_owned() }).collect();
        names.join(" ")
    };
    format!(
        "TPM {}, library specification revision {}.{:02}\n\
         manufacturer  {}\n\
         vendor        {}\n\
         firmware      {}\n\
         largest       command {} bytes, response {} bytes\n\
         PCR banks     {}\n\
         algorithms    {}\n\
         commands      {}\n",
        p.family,
        p.revision / 100,
        p.revision % 100,
        p.manufacturer,
        p.vendor,
        p.firmware_version,
        p.max_command_size,
        p.max_response_size,
        p.banks.join(" "),
        names(&p.algorithms),
        names(&p.commands),
    )
}
