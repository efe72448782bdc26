//! `bulla run`

mod agent;
mod console;
mod events;
mod take;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulla_attest::HostKey;
use bulla_vmm::backend::{BackendError, CpuFeatures};
use bulla_vmm::confine;
use bulla_vmm::machine::{BuildError, Machine, MachineConfig, StopReason};
use bulla_vtpm_client::{Error as VtpmError, StatePlace, VtpmChild, VtpmProcess, find_binary};

use super::{BootArguments, Exit, Failure, parse_nonce};
use agent::{AgentEvidence, AgentLine};
use console::Console;
use events::{Events, Until};
use take::Take;

/// Boot a kernel in a measured VM.
///
/// Firmware, ACPI tables, memory map, bootloader, kernel, initrd and command line are measured into the VM's own vTPM
/// before each runs. With --evidence, a quote over --nonce is taken through the vTPM when the firmware hands over to the
/// kernel, and written at once; `bulla-attest verify` checks it. With --agent-evidence, the agent in the guest
/// (`bulla-attest initramfs`) is given the nonce on the second serial port, and what it quotes is written. Ctrl-C ends the VM.
///
/// Before the guest's first instruction this process gives up opening files, making connections, starting programs and all other
/// system calls that a running VM does not need; one of them would end it (SIGSYS, shown as "bad system call").
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("evidences").args(["evidence", "agent_evidence"]).multiple(true)))]
pub(crate) struct Arguments {
    #[command(flatten)]
    boot: BootArguments,
    #[command(flatten)]
    accel: super::AccelArguments,
    /// The same run from the same inputs, instruction for instruction, on the software processor: time is the number of
    /// instructions executed, idle time is skipped, the calendar begins at 2026-01-01, RDRAND is seeded and keeps no secrets.
    /// Not part of the promise: what the vTPM draws at random (its keys, TPM2_GetRandom, so quotes too) and what it makes the
    /// guest do, and what others write into --channel or --mailbox.
    #[arg(long)]
    deterministic: bool,
    /// Write evidence here at the hand-over to the kernel. The file is made, empty, at the start.
    #[arg(long, value_name = "FILE", requires = "nonce")]
    evidence: Option<PathBuf>,
    /// Write evidence here that the agent in the guest takes. The file is made, empty, at the start; exit code 1 if it is still
    /// empty when the VM is over.
    #[arg(long, value_name = "FILE", requires = "nonce")]
    agent_evidence: Option<PathBuf>,
    /// The verifier's nonce: 16 to 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "evidences", value_parser = parse_nonce)]
    nonce: Option<super::Nonce>,
    /// Key that signs the evidence's envelope (PEM), made if the file is not there. Without it: a key for this run only.
    #[arg(long, value_name = "FILE", requires = "evidences")]
    host_key: Option<PathBuf>,
    /// Where the guest's console goes: `stdio`, `none`, or a file.
    #[arg(long, value_name = "WHERE", default_value = "stdio")]
    console: String,
    /// Stop with exit code 0 when this is reached: `handover`, `agent-evidence` when it is written, or
    /// `console:TEXT` for a text on the console.
    #[arg(long, value_name = "WHAT", value_parser = events::parse_until)]
    until: Option<Until>,
    /// Give up with exit code 1 after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[command(flatten)]
    tpm: TpmStateArguments,
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

/// Where the VM's TPM lives on when the VM is over.
#[derive(Debug, clap::Args)]
pub(crate) struct TpmStateArguments {
    /// Keep the TPM's state in this folder, made if it is not there: the next VM that is started with it has the same TPM. One
    /// VM at a time. Without it the TPM, with all its keys, ends with the VM.
    #[arg(long, value_name = "DIR")]
    tpm_state: Option<PathBuf>,
    /// Key that the state is encrypted with: a file of 64 hexadecimal digits; or host-tpm[,pcrs=N+N][,tcti=TCTI]: made with the
    /// state, and sealed by this host's TPM. Without it: one that is made beside the state.
    #[arg(long, value_name = "FILE|host-tpm", requires = "tpm_state")]
    tpm_state_key: Option<PathBuf>,
    /// A file, made if it is not there, that remembers which state was the last: an older one is refused. It has to be where
    /// backups and snapshots of the folder do not reach. Or host-tpm:INDEX[,tcti=TCTI]: a counter in this host's TPM that tells
    /// starts.
    #[arg(long, value_name = "FILE|host-tpm:INDEX", requires = "tpm_state")]
    tpm_state_anchor: Option<PathBuf>,
    /// Go on from a state that is older than the anchor remembers. The TPM shows it: resetCount moves on, its clock is not
    /// safe.
    #[arg(long, requires = "tpm_state_anchor")]
    tpm_accept_rollback: bool,
}

impl TpmStateArguments {
    fn place(&self) -> Option<StatePlace> {
        Some(StatePlace {
            dir: self.tpm_state.clone()?,
            key: self.tpm_state_key.clone(),
            anchor: self.tpm_state_anchor.clone(),
            accept_rollback: self.tpm_accept_rollback,
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let files = arguments.boot.read()?;
    let inputs = arguments.boot.inputs(&files);
    let images = inputs.images();
    let events = Arc::new(Events::new(arguments.json, arguments.until.clone()));
    let mut config = config(arguments, &events)?;
    let impossible = |e| Failure::because(Exit::BadInput, "no such machine can be", &e);
    config.validate().and_then(|()| images.validate()).map_err(impossible)?;
    let Wanted { take, agent, line } = Wanted::prepare(arguments, &events)?;
    if let Some(line) = line {
        config.com2 = Box::new(line);
    }

    let (backend, choice) = arguments.accel.open(arguments.deterministic)?;
    events.backend(&choice, arguments.accel.is_open());
    let binary = find_binary().map_err(|e| Failure::because(Exit::HostFailed, "no vTPM", &e))?;
    let place = arguments.tpm.place();
    let vtpm =
        VtpmProcess::spawn_with(&binary, place.as_ref()).map_err(|e| Failure::because(Exit::HostFailed, "vTPM", &e))?;
    let handler = take.handler(Arc::clone(&events), agent.clone());
    // The process is ended and reaped when this function returns, after the machine is gone.
    let (client, mut child) = vtpm.into_parts();
    let machine = Machine::build(config, &images, &*backend, client, handler);
    let mut machine = machine.map_err(|e| build_failure(&e, &mut child))?;
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
    let vm_time = machine.vm_time();
    drop(machine);
    // If the VM ended well otherwise.
    let outcome = outcome.and_then(|done| agent.and_then(|agent| agent.failure()).map_or(Ok(done), Err));
    if let Ok((_, text)) = &outcome {
        events.stopped(text, vm_time);
    }
    outcome.map(|(exit, _)| exit)
}

/// The evidence that is wanted, made ready before the VM starts.
#[derive(Default)]
struct Wanted {
    take: Take,
    agent: Option<Arc<AgentEvidence>>,
    line: Option<AgentLine>,
}

impl Wanted {
    fn prepare(arguments: &Arguments, events: &Arc<Events>) -> Result<Self, Failure> {
        let Some(nonce) = &arguments.nonce else { return Ok(Self::default()) };
        let key = match &arguments.host_key {
            Some(file) => HostKey::load_or_generate(file),
            None => HostKey::generate(),
        };
        let key = Arc::new(key.map_err(|e| Failure::because(Exit::BadInput, "host key", &e))?);
        let take = Take::prepare(arguments.evidence.as_deref(), nonce, &key)?;
        let Some(path) = &arguments.agent_evidence else { return Ok(Self { take, ..Self::default() }) };
        let (line, agent) = AgentLine::prepare(path, nonce, &key, Arc::clone(events))?;
        Ok(Self { take, agent: Some(agent), line: Some(line) })
    }
}

fn config(arguments: &Arguments, events: &Arc<Events>) -> Result<MachineConfig, Failure> {
    let features: Result<CpuFeatures, _> = arguments.cpu_features.parse();
    let console = Console::open(&arguments.console, arguments.json, Arc::clone(events))?;
    Ok(MachineConfig {
        memory: arguments.boot.memory,
        vcpus: arguments.boot.cpus,
        tpm_interface: arguments.boot.tpm_interface.into(),
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

fn build_failure(error: &BuildError, vtpm: &mut VtpmChild) -> Failure {
    use bulla_vtpm_client::Exit as VtpmExit;
    if let BuildError::Vtpm(VtpmError::Ended { .. }) = error
        && let Ok(Some(end @ (VtpmExit::State | VtpmExit::Locked | VtpmExit::RolledBack))) = vtpm.ended()
    {
        // The process has said more on standard error.
        return Failure::new(Exit::TpmState, format!("the vTPM did not start: {end}"));
    }
    let exit = match error {
        BuildError::Config(_) | BuildError::Backend(BackendError::TooManyVcpus { .. }) => Exit::BadInput,
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
