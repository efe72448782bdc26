//! What kind of `/dev/kvm` this host has, for `bulla doctor` and for messages that say what to do.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

const DEVICE: &str = "/dev/kvm";
/// `KVM_API_VERSION`; it has been 12 since Linux 2.6.22 and will stay.
const API_VERSION: i32 = 12;

/// The state of the device.
#[derive(Debug)]
pub enum DeviceState {
    /// It can be opened, speaks the API, and makes virtual machines.
    Usable {
        /// `KVM_GET_API_VERSION`.
        api_version: i32,
    },
    /// It is not there.
    Absent {
        /// Whether the processor has hardware virtualization all the same.
        processor: Processor,
    },
    /// It is there, but this user may not open it.
    NoPermission {
        /// Its owner's group ID.
        gid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Another hypervisor holds the processor.
    InUse,
    /// It is there, but there is no hardware or module behind it.
    NoHardware,
    /// It speaks another API.
    WrongApi {
        /// `KVM_GET_API_VERSION`.
        api_version: i32,
    },
    /// Something else.
    Failed {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl fmt::Display for DeviceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable { api_version } => write!(f, "{DEVICE} is usable (API {api_version})"),
            Self::Absent { .. } => write!(f, "there is no {DEVICE}"),
            Self::NoPermission { gid, mode } => {
                write!(f, "no permission to open {DEVICE} (group {gid}, mode {:o})", mode & 0o7777)
            }
            Self::InUse => {
                write!(f, "{DEVICE} cannot make a virtual machine: the processor is held by another hypervisor")
            }
            Self::NoHardware => write!(f, "{DEVICE} has no hardware behind it"),
            Self::WrongApi { api_version } => write!(f, "{DEVICE} speaks API {api_version}, not {API_VERSION}"),
            Self::Failed { what, source } => write!(f, "cannot {what} {DEVICE}: {source}"),
        }
    }
}

impl DeviceState {
    /// What the user can do about it, as a sentence; empty if nothing needs doing.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Usable { .. } => "",
            Self::Absent { processor: Processor::Vmx } => {
                "Load the module (`modprobe kvm_intel`); if that fails, enable VT-x in the machine's firmware setup"
            }
            Self::Absent { processor: Processor::Svm } => {
                "Load the module (`modprobe kvm_amd`); if that fails, enable SVM in the machine's firmware setup"
            }
            Self::Absent { processor: Processor::NoVirtualization } => {
                "The processor shows no VT-x or SVM: enable them in the machine's firmware setup, or, if this is a \
                 virtual machine, enable nested virtualization on its host; in a container, pass the device in \
                 (`--device /dev/kvm`)"
            }
            Self::NoPermission { .. } => {
                "Add yourself to the device's group (`usermod -aG kvm $USER`, then log in again), or run as a user \
                 who may open it"
            }
            Self::InUse => "Stop the other hypervisor (VirtualBox, VMware, Xen) or unload its modules",
            Self::NoHardware => "Enable VT-x or SVM in the machine's firmware setup",
            Self::WrongApi { .. } => "Run a Linux kernel with the stable KVM API",
            Self::Failed { .. } => "See the kernel's log (`dmesg`)",
        }
    }
}

/// What the processor says of itself in /proc/cpuinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// Intel VT-x.
    Vmx,
    /// AMD SVM.
    Svm,
    /// Neither.
    NoVirtualization,
}

/// What carries a guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// VT-x: guest code runs on the processor.
    Vmx,
    /// SVM: guest code runs on the processor.
    Svm,
    /// No hardware virtualization: the guest's user code runs on the processor, its kernel is interpreted by the
    /// host's. Measured boot works; a stock Linux kernel is too slow or stops.
    DePrivileged,
    /// No module that this version of bulla knows.
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmx => "Intel VT-x",
            Self::Svm => "AMD SVM",
            Self::DePrivileged => "de-privileging (no hardware virtualization: guest kernels are interpreted)",
            Self::Unknown => "of an unknown kind",
        })
    }
}

/// A KVM capability and what the host says to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityFact {
    /// Its name in the kernel's documentation.
    pub name: &'static str,
    /// Whether bulla cannot do without.
    pub needed: bool,
    /// `KVM_CHECK_EXTENSION`: 0 is no, 1 is yes, more is a number with a meaning of its own.
    pub value: i32,
}

/// Everything found out.
#[derive(Debug)]
pub struct Probe {
    /// Whether the device can be used.
    pub device: DeviceState,
    /// What is behind it.
    pub kind: Kind,
    /// What the processor shows.
    pub processor: Processor,
    /// This host is itself a guest (the processor shows the hypervisor bit).
    pub in_a_vm: bool,
    /// Names of the loaded KVM modules.
    pub modules: Vec<String>,
    /// Capabilities, empty if the device cannot be opened.
    pub capabilities: Vec<CapabilityFact>,
    /// Most vCPUs, 0 if the device cannot be opened.
    pub max_vcpus: usize,
    /// Most memory slots, 0 if the device cannot be opened.
    pub max_memory_slots: usize,
}

/// Capabilities worth knowing, beyond the needed ones.
const OPTIONAL: &[(Cap, &str)] = &[
    (Cap::TscDeadlineTimer, "KVM_CAP_TSC_DEADLINE_TIMER"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::TscControl, "KVM_CAP_TSC_CONTROL"),
    (Cap::X86Smm, "KVM_CAP_X86_SMM"),
    (Cap::NestedState, "KVM_CAP_NESTED_STATE"),
    (Cap::DirtyLogRing, "KVM_CAP_DIRTY_LOG_RING"),
    (Cap::GuestMemfd, "KVM_CAP_GUEST_MEMFD"),
    (Cap::MemoryAttributes, "KVM_CAP_MEMORY_ATTRIBUTES"),
];

impl Probe {
    /// Looks at the host. Opens the device and makes one empty virtual machine, nothing else.
    pub fn take() -> Self {
        let (processor, in_a_vm) = parse_cpuinfo(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
        let modules = loaded_modules(Path::new("/sys/module"));
        let kind = kind_of(&modules, processor);
        let none = |device| Self {
            device,
            kind,
            processor,
            in_a_vm,
            modules: modules.clone(),
            capabilities: Vec::new(),
            max_vcpus: 0,
            max_memory_slots: 0,
        };
        let kvm = match Kvm::new() {
            Ok(kvm) => kvm,
            Err(e) => return none(open_failure(&e.into())),
        };
        let device = match kvm.get_api_version() {
            API_VERSION => match kvm.create_vm() {
                Ok(_) => DeviceState::Usable { api_version: API_VERSION },
                Err(e) => create_failure(e.into()),
            },
            api_version => DeviceState::WrongApi { api_version },
        };
        let needed = super::NEEDED.iter().map(|(cap, name)| (cap, name, true));
        let optional = OPTIONAL.iter().map(|(cap, name)| (cap, name, false));
        let capabilities = needed
            .chain(optional)
            .map(|(cap, name, needed)| CapabilityFact { name, needed, value: kvm.check_extension_int(*cap) })
            .collect();
        let (max_vcpus, max_memory_slots) = (kvm.get_max_vcpus(), kvm.get_nr_memslots());
        Self { capabilities, max_vcpus, max_memory_slots, ..none(device) }
    }
}

/// Reads an error of `open("/dev/kvm")`.
pub(super) fn open_failure(error: &io::Error) -> DeviceState {
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            let (processor, _) = parse_cpuinfo(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
            DeviceState::Absent { processor }
        }
        Some(libc::EACCES | libc::EPERM) => {
            let (gid, mode) = fs::metadata(DEVICE).map_or((0, 0), |m| (m.gid(), m.mode()));
            DeviceState::NoPermission { gid, mode }
        }
        Some(libc::ENODEV | libc::ENXIO) => DeviceState::NoHardware,
        Some(libc::EBUSY) => DeviceState::InUse,
        _ => DeviceState::Failed { what: "open", source: same(error) },
    }
}

/// Reads an error of `KVM_CREATE_VM`.
fn create_failure(error: io::Error) -> DeviceState {
    match error.raw_os_error() {
        Some(libc::EBUSY) => DeviceState::InUse,
        Some(libc::ENODEV | libc::EOPNOTSUPP) => DeviceState::NoHardware,
        _ => DeviceState::Failed { what: "make a virtual machine with", source: error },
    }
}

fn same(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// The first processor's flags.
fn parse_cpuinfo(text: &str) -> (Processor, bool) {
    let flags = text.lines().find(|l| l.starts_with("flags")).and_then(|l| l.split_once(':')).map_or("", |(_, f)| f);
    let has = |name: &str| flags.split_ascii_whitespace().any(|flag| flag == name);
    let processor = if has("vmx") {
        Processor::Vmx
    } else if has("svm") {
        Processor::Svm
    } else {
        Processor::NoVirtualization
    };
    (processor, has("hypervisor"))
}

/// Names that begin with `kvm`, sorted. (Built-in code is there too, if it has parameters.)
fn loaded_modules(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| name == "kvm" || name.starts_with("kvm_"))
        .collect();
    names.sort();
    names
}

fn kind_of(modules: &[String], processor: Processor) -> Kind {
    let loaded = |name: &str| modules.iter().any(|m| m == name);
    // With several of them built in, the processor says which one is at work.
    if loaded("kvm_intel") && processor == Processor::Vmx {
        Kind::Vmx
    } else if loaded("kvm_amd") && processor == Processor::Svm {
        Kind::Svm
    } else if loaded("kvm_pvm") {
        Kind::DePrivileged
    } else {
        Kind::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_whole_words_of_the_flags_line() {
        let cpu = |flags: &str| parse_cpuinfo(&format!("model name : vmx svm\nflags\t\t: fpu {flags} lm\nbugs : x\n"));
        assert_eq!(cpu("vmx"), (Processor::Vmx, false));
        assert_eq!(cpu("svm hypervisor"), (Processor::Svm, true));
        assert_eq!(cpu("vmx_not svm_lock"), (Processor::NoVirtualization, false));
        assert_eq!(parse_cpuinfo(""), (Processor::NoVirtualization, false));
    }

    #[test]
    fn the_kind_needs_module_and_processor_to_agree() {
        let kind = |names: &[&str], cpu| kind_of(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), cpu);
        assert_eq!(kind(&["kvm", "kvm_intel"], Processor::Vmx), Kind::Vmx);
        assert_eq!(kind(&["kvm", "kvm_amd", "kvm_intel"], Processor::Svm), Kind::Svm);
        assert_eq!(kind(&["kvm", "kvm_intel", "kvm_pvm"], Processor::NoVirtualization), Kind::DePrivileged);
        assert_eq!(kind(&["kvm"], Processor::Vmx), Kind::Unknown);
    }

    #[test]
    fn each_failure_to_open_says_what_to_do() {
        for code in [libc::ENOENT, libc::EACCES, libc::ENODEV, libc::EBUSY, libc::EMFILE] {
            let state = open_failure(&io::Error::from_raw_os_error(code));
            assert!(!matches!(state, DeviceState::Usable { .. }));
            assert!(!state.advice().is_empty(), "{state}");
        }
        let absent = open_failure(&io::Error::from_raw_os_error(libc::ENOENT));
        assert!(absent.to_string().contains("no /dev/kvm"));
    }
}
