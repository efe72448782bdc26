//! The program `bulla-vtpm`: a TPM 2.0 for one virtual machine.
//!
//! # Unsafe rules
//!
//! 1. This program opens nothing and starts no thread before it enters the sandbox.

use std::os::fd::RawFd;
use std::process::ExitCode;

use bulla_vtpm::info::{self, Named, Properties};
use bulla_vtpm::{platform, sandbox, server, swtpm};
use bulla_vtpm_client::Exit;
use clap::{Parser, Subcommand};

/// A TPM 2.0 for one virtual machine, in a process of its own
///
/// The monitor `bulla` starts one bulla-vtpm for each virtual machine and talks to it over a socket pair. You need this
/// program by hand only to ask what its TPM can do:
///
///     bulla-vtpm info
///
/// The TPM lives in memory and is manufactured anew, with new seeds, each time: its keys end with the process.
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
    /// Before it reads the first byte the process gives up everything but this socket, standard error, memory, randomness
    /// and the time; an attempt at any other system call kills it. It ends when the monitor closes the socket. The
    /// protocol is in the documentation of the crate bulla-vtpm-client.
    Serve {
        /// The socket: a connected Unix stream socket, by its file descriptor
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(RawFd).range(0..))]
        fd: RawFd,
        /// Be killed when the thread that started this process ends, which must be one of process PID
        #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
        parent: Option<i32>,
    },
    /// Be a TPM on sockets, as `swtpm socket --tpm2` is and with its options: for QEMU, libvirt and the TPM software stack
    Socket(Box<swtpm::Options>),
    /// Manufacture a TPM in memory and print its properties: algorithms, PCR banks, commands
    Info {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

const EXIT_CODES: &str = "\
Exit codes:
  0  the monitor closed the socket; or info was printed
  2  the command line was wrong
  3  the sandbox could not be entered; nothing was read
  4  the monitor sent what is not a frame
  5  the socket, or standard output, failed
  6  the TPM failed
A process killed by SIGSYS tried to leave its sandbox: please report it.";

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve { fd, parent } => serve(fd, parent),
        Command::Socket(options) => socket(&options),
        Command::Info { json } => print_info(json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((exit, reason)) => {
            eprintln!("bulla-vtpm: {reason}");
            exit_code(exit)
        }
    }
}

/// How to end, and why in words.
type Failure = (Exit, String);

fn failure<E: std::error::Error>(exit: Exit) -> impl FnOnce(E) -> Failure {
    move |error| (exit, error.to_string())
}

fn exit_code(exit: Exit) -> ExitCode {
    exit.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn serve(fd: RawFd, parent: Option<i32>) -> Result<(), Failure> {
    // SAFETY: rule 1.
    let mut socket = unsafe { sandbox::enter(fd, parent) }.map_err(failure(Exit::Sandbox))?;
    let mut tpm = platform::manufacture();
    server::serve(&mut tpm, &mut socket).map_err(|error| (error.exit(), error.to_string()))
}

fn socket(options: &swtpm::Options) -> Result<(), Failure> {
    // SAFETY: the unsafe rule 1 of this file is `adopt`'s.
    let inherited = unsafe { swtpm::Inherited::adopt(options.descriptors()) }.map_err(failure(Exit::Usage))?;
    swtpm::run(options, inherited).map_err(|error| (error.exit(), error.to_string()))
}

fn print_info(json: bool) -> Result<(), Failure> {
    use std::io::Write as _;

    let properties = info::properties(&mut platform::manufacture()).map_err(failure(Exit::Engine))?;
    let text = if json {
        serde_json::to_string_pretty(&properties).map_err(failure(Exit::Engine))? + "\n"
    } else {
        in_words(&properties)
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(failure(Exit::Socket))
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
