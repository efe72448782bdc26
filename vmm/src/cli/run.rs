//! `bulla run`

mod console;
mod events;
mod take;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulla_vmm::backend::CpuFeatures;
use bulla_vmm::backend::kvm::KvmBackend;
use bulla_vmm::confine;
use bulla_vmm::machine::{BuildError, Machine, MachineConfig, StopReason};
use bulla_vtpm_client::{VtpmProcess, find_binary};

use super::{BootArguments, Exit, Failure, parse_nonce};
use console::Console;
use events::{Events, Until};
use take::Take;

/// Boot a kernel in a measured VM.
///
/// Firmware, ACPI tables, memory map, bootloader, kernel, initrd and command line are measured into the VM's own vTPM
/// before each runs. With --evidence, a quote over --nonce is taken through the vTPM when the firmware hands over to the
/// kernel, and written at once; `bulla-attest verify` checks it. Ctrl-C ends the VM.
///
/// Before the guest's first instruction this process gives up opening files, making connections, starting programs and all other
/// system calls that a running VM does not need; one of them would end it (SIGSYS, shown as "bad system call").
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    boot: BootArguments,
    /// Write evidence here at the hand-over to the kernel. The file is made, empty, at the start.
    #[arg(long, value_name = "FILE", requires = "nonce")]
    evidence: Option<PathBuf>,
    /// The verifier's nonce: 16 to 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "evidence", value_parser = parse_nonce)]
    nonce: Option<super::Nonce>,
    /// Key that signs the evidence's envelope (PEM), made if the file is not there. Without it: a key for this run only.
    #[arg(long, value_name = "FILE", requires = "evidence")]
    host_key: Option<PathBuf>,
    /// Where the guest's console goes: `stdio`, `none`, or a file.
    #[arg(long, value_name = "WHERE", default_value = "stdio")]
    console: String,
    /// Stop with exit code 0 when this is reached: `handover`, or `console:TEXT` for a text on the console.
    #[arg(long, value_name = "WHAT", value_parser = events::parse_until)]
    until: Option<Until>,
    /// Give up with exit code 1 after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// CPU features to show beyond or short of the defaults, e.g. `+x2apic,-popcnt`.
    #[arg(long, value_name = "LIST", default_value = "", allow_hyphen_values = true)]
    cpu_features: String,
    /// Shared memory at the channel window: a file that another VM maps too.
    #[arg(long, value_name = "FILE")]
    channel: Option<PathBuf>,
    /// Mailbox of the bundled tenant: a file of 64 KiB that a program of the host maps too.
    #[arg(long, value_name = "FILE")]
    mailbox: Option<PathBuf>,
    /// Print one JSON object a line for each milestone, for the evidence and for the end. A console on `stdio` goes to
    /// standard error then.
    #[arg(long)]
    json: bool,
    /// DANGEROUS, for debugging the monitor only: keep all rights of this user while the guest runs. A guest that takes over the
    /// monitor can then do all that you can.
    #[arg(long)]
    no_confine: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let files = arguments.boot.read()?;
    let inputs = arguments.boot.inputs(&files);
    let images = inputs.images();
    let events = Arc::new(Events::new(arguments.json, arguments.until.clone()));
    let config = config(arguments, &events)?;
    let impossible = |e| Failure::because(Exit::BadInput, "no such machine can be", &e);
    config.validate().and_then(|()| images.validate()).map_err(impossible)?;
    let take = Take::prepare(arguments.evidence.as_deref(), arguments.nonce.as_ref(), arguments.host_key.as_deref())?;

    super::require_kvm()?;
    let backend = KvmBackend::open().map_err(|e| Failure::because(Exit::NoBackend, "cannot use KVM", &e))?;
    let binary = find_binary().map_err(|e| Failure::because(Exit::HostFailed, "no vTPM", &e))?;
    let vtpm = VtpmProcess::spawn(&binary).map_err(|e| Failure::because(Exit::HostFailed, "vTPM", &e))?;
    let handler = take.handler(Arc::clone(&events));
    // The process is ended and reaped when this function returns, after the machine is gone.
    let (client, child) = vtpm.into_parts();
    let mut machine = Machine::build(config, &images, &backend, client, handler).map_err(|e| build_failure(&e))?;
    drop(files);

    events.on_reached(machine.stopper());
    let stopper = machine.stopper();
    // Landlock has to come before the first thread, and the filter after the last call that a running VM has no need of.
    let landlock = (!arguments.no_confine).then(confine::give_up_files);
    // A second Ctrl-C is no different from the first: the VM ends between two instructions.
    ctrlc::set_handler(move || stopper.stop()).map_err(|e| Failure::because(Exit::HostFailed, "Ctrl-C", &e))?;
    if landlock.is_some() {
        confine::filter_calls(child.pid()).map_err(|e| {
            Failure::because(Exit::HostFailed, "cannot confine the monitor (and will not run without: see --help)", &e)
        })?;
    } else {
        eprintln!("bulla: --no-confine: a guest that takes over this monitor can do all that you can");
    }
    events.confined(landlock);
    machine.start().map_err(|e| Failure::because(Exit::HostFailed, "cannot start the VM", &e))?;
    let limit = arguments.timeout.map(Duration::from_secs);
    let outcome = conclude(&machine, limit, &events, &take);
    drop(machine);
    if let Ok((_, text)) = &outcome {
        events.stopped(text);
    }
    outcome.map(|(exit, _)| exit)
}

fn config(arguments: &Arguments, events: &Arc<Events>) -> Result<MachineConfig, Failure> {
    let features: Result<CpuFeatures, _> = arguments.cpu_features.parse();
    let console = Console::open(&arguments.console, arguments.json, Arc::clone(events))?;
    Ok(MachineConfig {
        memory: arguments.boot.memory,
        vcpus: arguments.boot.cpus,
        cpu_features: features.map_err(|e| Failure::because(Exit::BadInput, "--cpu-features", &e))?,
        console: Box::new(console),
        channel: arguments.channel.as_deref().map(open_shared).transpose()?,
        mailbox: arguments.mailbox.as_deref().map(open_shared).transpose()?,
        ..MachineConfig::default()
    })
}

fn open_shared(path: &Path) -> Result<File, Failure> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map_err(|e| Failure::because(Exit::BadInput, format!("cannot open {}", path.display()), &e))
}

fn build_failure(error: &BuildError) -> Failure {
    let exit = match error {
        BuildError::Config(_) => Exit::BadInput,
        _ => Exit::HostFailed,
    };
    Failure::because(exit, "cannot build the machine", error)
}

/// Waits for the end and says how it went: exit code and a sentence.
fn conclude(
    machine: &Machine,
    limit: Option<Duration>,
    events: &Events,
    take: &Take,
) -> Result<(Exit, String), Failure> {
    let reason = match limit {
        None => machine.wait(),
        Some(limit) => machine.wait_for(limit).ok_or_else(|| {
            Failure::new(Exit::GuestFailed, format!("the VM was not done after {} s (--timeout)", limit.as_secs()))
        })?,
    };
    if let Some(failure) = take.failure() {
        return Err(failure);
    }
    match &*reason {
        StopReason::PoweredOff | StopReason::Reset => Ok((Exit::Done, reason.to_string())),
        StopReason::Host if events.reached() => Ok((Exit::Done, "reached what --until names".to_owned())),
        StopReason::Host => Err(Failure::new(Exit::GuestFailed, "interrupted")),
        StopReason::Guest(_) | StopReason::TripleFault | StopReason::Vcpu(_) => {
            Err(Failure::because(Exit::GuestFailed, "the guest failed", &*reason))
        }
        StopReason::BootWindow(_) => Err(Failure::because(Exit::HostFailed, "the host failed", &*reason)),
    }
}
