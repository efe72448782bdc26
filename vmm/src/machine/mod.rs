//! A virtual machine that boots measured: assembly, run loop, and what it tells its owner.
//!
//! [`Machine::build`] has the vTPM measure the firmware before anything of it runs, puts the images into the boot
//! window, and leaves the vCPU in the state that [`bulla_boot_abi::image`] describes. [`Machine::start`] lets it run on
//! a thread. While the guest waits in a write to the progress port, the owner's handler runs on that thread with the
//! VM's memory and vTPM at hand; evidence is taken there.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bulla_boot_abi::map;
use bulla_boot_abi::progress::{Milestone, Progress};
use bulla_vtpm_client::{Locality, VtpmClient, VtpmProcess};

use crate::acpi::AcpiConfig;
use crate::backend::{Backend, BackendError, Partition, Vcpu, VcpuExit};
use crate::devices::power::PowerEvent;
use crate::devices::tpm::{TpmBackend, TpmBackendError};
use crate::devices::{Clock, NoIrq, Platform, PlatformParts};
use crate::memory::{GuestMemory, MemoryError, MemorySizes, SharedFiles};

mod boot;
mod clock;
mod config;
mod control;
mod lifecycle;

#[cfg(test)]
mod tests;

pub use config::{BuildError, ConfigError, Images, MachineConfig, VCPUS_MAX};
pub use control::StopReason;
pub use lifecycle::{IllegalTransition, VmState};

use clock::{MachineClock, TimerThread};
use control::Control;

/// What a progress handler gets to work with, while the guest waits.
pub struct AtProgress<'a> {
    /// The VM's memory.
    pub memory: &'a GuestMemory,
    /// The VM's vTPM.
    pub vtpm: &'a mut VtpmClient,
    /// Nanoseconds of VM time; see [`Machine::vm_time`].
    pub vm_time: u64,
}

/// Called for each write to the progress port, on the vCPU's thread. [`ControlFlow::Break`] ends the VM. A
/// [`Progress::Failed`] ends it in any case, after the call; so does, after the call for [`Milestone::Handover`], a boot
/// window that cannot be withdrawn.
pub type ProgressHandler = Box<dyn FnMut(Progress, &mut AtProgress<'_>) -> ControlFlow<()> + Send>;

/// A vTPM that a machine can own: its process, or a bare connection to one that somebody else looks after.
pub trait Vtpm: Send {
    /// The connection.
    fn client(&mut self) -> &mut VtpmClient;
}

impl Vtpm for VtpmClient {
    fn client(&mut self) -> &mut VtpmClient {
        self
    }
}

impl Vtpm for VtpmProcess {
    fn client(&mut self) -> &mut VtpmClient {
        Self::client(self)
    }
}

/// The vTPM, shared between the TPM's interface, the progress handler and the owner. One command at a time.
#[derive(Clone)]
struct SharedVtpm(Arc<Mutex<Box<dyn Vtpm>>>);

impl SharedVtpm {
    fn with<T>(&self, f: impl FnOnce(&mut VtpmClient) -> T) -> T {
        f(self.0.lock().unwrap_or_else(PoisonError::into_inner).client())
    }
}

impl TpmBackend for SharedVtpm {
    fn execute(&mut self, locality: u8, command: &[u8]) -> Result<Vec<u8>, TpmBackendError> {
        let locality = Locality::try_from(locality)?;
        Ok(self.with(|vtpm| vtpm.command(locality, command))?)
    }

    fn established(&mut self) -> Result<bool, TpmBackendError> {
        Ok(self.with(VtpmClient::established)?)
    }

    fn reset_established(&mut self, locality: u8) -> Result<(), TpmBackendError> {
        let locality = Locality::try_from(locality)?;
        Ok(self.with(|vtpm| vtpm.reset_established(locality))?)
    }

    fn hash_start(&mut self) -> Result<(), TpmBackendError> {
        Ok(self.with(VtpmClient::hash_start)?)
    }

    fn hash_data(&mut self, data: &[u8]) -> Result<(), TpmBackendError> {
        Ok(self.with(|vtpm| vtpm.hash_data(data))?)
    }

    fn hash_end(&mut self) -> Result<(), TpmBackendError> {
        Ok(self.with(VtpmClient::hash_end).map(drop)?)
    }
}

/// What the vCPU's thread and the owner have in common.
struct Core {
    memory: Arc<GuestMemory>,
    vtpm: SharedVtpm,
    platform: Arc<Platform>,
    clock: MachineClock,
    control: Arc<Control>,
}

/// A virtual machine. Dropping it ends the VM.
pub struct Machine {
    core: Arc<Core>,
    /// Until it is started.
    vcpu: Option<Box<dyn Vcpu>>,
    thread: Option<JoinHandle<()>>,
    timers: Option<TimerThread>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("state", &self.state())
            .field("memory", &self.core.memory)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// Builds a machine: the vTPM gets power and measures the firmware, memory is mapped and filled, devices and vCPU
    /// are made. Nothing runs yet.
    ///
    /// # Errors
    /// [`BuildError`] says who is at fault.
    pub fn build(
        config: MachineConfig,
        images: &Images<'_>,
        backend: &dyn Backend,
        mut vtpm: impl Vtpm + 'static,
        handler: ProgressHandler,
    ) -> Result<Self, BuildError> {
        config.validate()?;
        images.validate()?;
        let firmware = boot::firmware_header(images)?;
        let cpuid = config.cpu_features.apply(&backend.capabilities().cpuid).map_err(ConfigError::from)?;
        let tables = AcpiConfig { vcpus: config.vcpus, tpm: config.tpm_interface };
        let facts = boot::Facts::of(config.memory, &tables)?;

        let firmware_digests = boot::measure_firmware(vtpm.client(), images.firmware)?;
        let window = boot::Window::plan(images, &facts, &firmware_digests)?;
        let sizes = MemorySizes { ram: config.memory, boot_window: window.len(), ..MemorySizes::default() };
        let files = SharedFiles { channel: config.channel, mailbox: config.mailbox };
        let memory = Arc::new(GuestMemory::allocate(&sizes, files)?);
        memory.write(map::FIRMWARE_BASE, images.firmware)?;
        window.fill(&memory)?;

        let partition = backend.create_partition()?;
        memory.attach(&*partition)?;
        let mut vcpu = partition.create_processors(config.vcpus, &cpuid)?;
        let reset = vcpu.state().map_err(BackendError::from)?;
        vcpu.set_state(&boot::initial_state(&reset, &firmware)).map_err(BackendError::from)?;

        let control = Arc::new(Control::new(vcpu.kicker()));
        let vtpm = SharedVtpm(Arc::new(Mutex::new(Box::new(vtpm))));
        let clock = MachineClock::of(partition.time());
        let powered = Arc::clone(&control);
        let platform = Arc::new(Platform::new(PlatformParts {
            clock: Arc::new(clock.clone()) as Arc<dyn Clock>,
            irq_sink: partition.irq_sink(),
            ext_int: Arc::new(NoIrq),
            com1: config.console,
            com2: config.com2,
            tpm: Box::new(vtpm.clone()),
            tpm_interface: config.tpm_interface,
            progress: progress_port(handler, &partition, &memory, &vtpm, &control, clock.clone()),
            power: Arc::new(move |event| {
                powered.stop(match event {
                    PowerEvent::Reset => StopReason::Reset,
                    PowerEvent::PowerOff => StopReason::PoweredOff,
                });
            }),
        })?);
        let core = Arc::new(Core { memory, vtpm, platform, clock, control });
        Ok(Self { core, vcpu: Some(vcpu), thread: None, timers: None })
    }

    /// Lets the VM run, on a thread of its own.
    ///
    /// # Errors
    /// [`StartError`] if it has been started before, or the host has no thread left.
    pub fn start(&mut self) -> Result<(), StartError> {
        self.core.control.start()?;
        let Some(vcpu) = self.vcpu.take() else { return Ok(()) };
        let core = Arc::clone(&self.core);
        if let MachineClock::Host(clock) = &core.clock {
            self.timers = Some(TimerThread::start(Arc::clone(&core.platform), Arc::clone(clock))?);
        }
        core.clock.start();
        self.thread = Some(std::thread::Builder::new().name("vcpu0".to_owned()).spawn(move || run(&core, vcpu))?);
        Ok(())
    }

    /// Stops the VM between two instructions and returns when it has stopped.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it does not run, or ended before it could pause.
    pub fn pause(&self) -> Result<(), IllegalTransition> {
        self.core.control.pause()
    }

    /// Lets a paused VM go on.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it is not paused.
    pub fn resume(&self) -> Result<(), IllegalTransition> {
        self.core.control.resume()
    }

    /// Ends the VM, as if its plug were pulled; returns at once. Does nothing if it is over.
    pub fn stop(&self) {
        self.core.control.stop(StopReason::Host);
        if self.vcpu.is_some() {
            self.core.control.ended();
        }
    }

    /// Waits until the VM is over and says why it is.
    pub fn wait(&self) -> Arc<StopReason> {
        self.core.control.wait()
    }

    /// The same for at most `limit`; `None` if the VM is not over by then.
    pub fn wait_for(&self, limit: Duration) -> Option<Arc<StopReason>> {
        self.core.control.wait_for(limit)
    }

    /// What the VM is doing.
    pub fn state(&self) -> VmState {
        self.core.control.state()
    }

    /// Gives the guest something to read from its console; returns how many bytes were taken.
    pub fn console_input(&self, bytes: &[u8]) -> usize {
        self.core.platform.console_input(bytes)
    }

    /// Presses the power button: a guest that listens shuts down.
    pub fn press_power_button(&self) {
        self.core.platform.press_power_button();
    }

    /// Nanoseconds for which the VM has run; the same in each deterministic run at the same point.
    pub fn vm_time(&self) -> u64 {
        self.core.clock.now()
    }

    /// The VM's memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.core.memory
    }

    /// Has `f` talk to the VM's vTPM; a guest that wants it too waits.
    pub fn with_vtpm<T>(&self, f: impl FnOnce(&mut VtpmClient) -> T) -> T {
        self.core.vtpm.with(f)
    }

    /// A handle with which another thread or a signal handler's thread can end the VM.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.core.control))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported when it happened.
            let _ = thread.join();
        }
        self.timers = None;
        self.core.platform.flush_consoles();
    }
}

/// Ends a VM from elsewhere.
#[derive(Clone)]
pub struct Stopper(Arc<Control>);

impl Stopper {
    /// See [`Machine::stop`]; a VM that has not been started is not affected until it is.
    pub fn stop(&self) {
        self.0.stop(StopReason::Host);
    }
}

/// Why a VM did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It has been started before.
    #[error(transparent)]
    State(#[from] IllegalTransition),
    /// The host has no thread left.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// What happens at a write to the progress port.
fn progress_port(
    mut handler: ProgressHandler,
    partition: &Arc<dyn Partition>,
    memory: &Arc<GuestMemory>,
    vtpm: &SharedVtpm,
    control: &Arc<Control>,
    clock: MachineClock,
) -> Box<dyn FnMut(u32) + Send> {
    let (partition, memory, vtpm) = (Arc::clone(partition), Arc::clone(memory), vtpm.clone());
    let control = Arc::clone(control);
    Box::new(move |value| {
        let progress = Progress::from(value);
        let vm_time = clock.now();
        let verdict = vtpm.with(|vtpm| handler(progress, &mut AtProgress { memory: &memory, vtpm, vm_time }));
        if verdict.is_break() {
            control.stop(StopReason::Host);
        }
        match progress {
            Progress::Failed(failure) => control.stop(StopReason::Guest(failure)),
            Progress::Reached(Milestone::Handover) => {
                if let Err(error) = memory.withdraw_boot_window(&*partition) {
                    control.stop(StopReason::BootWindow(error));
                }
            }
            _ => {}
        }
    })
}

/// The vCPU's thread.
fn run(core: &Core, mut vcpu: Box<dyn Vcpu>) {
    /// For a backend that leaves waiting to us: how long the vCPU rests before it looks for interrupts again.
    const REST: Duration = Duration::from_millis(1);
    let (pause, resume) = (|| core.clock.stop(), || core.clock.start());
    while core.control.go_on(pause, resume).is_some() {
        match vcpu.run(&mut &*core.platform) {
            Ok(VcpuExit::Kicked | VcpuExit::Debug) => {}
            Ok(VcpuExit::Halt) => std::thread::sleep(REST),
            Ok(VcpuExit::Shutdown) => core.control.stop(StopReason::TripleFault),
            Ok(VcpuExit::Reset) => core.control.stop(StopReason::Reset),
            Err(error) => core.control.stop(StopReason::Vcpu(error)),
        }
    }
    core.clock.stop();
    core.platform.flush_consoles();
    core.control.ended();
}

impl From<MemoryError> for BuildError {
    /// Sizes are the configuration's fault, the rest is the host's.
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Layout(_) | MemoryError::FileTooShort { .. } => Self::Config(error.into()),
            MemoryError::Backend(error) => Self::Backend(error),
            error => Self::Memory(error),
        }
    }
}
