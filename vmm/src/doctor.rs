//! What this host can do for bulla, and what to do about what is missing.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::backend::kvm::probe::{DeviceState, Kind, Probe};
use crate::backend::select;
use crate::confine::{Landlock, landlock_here};

/// How a finding bears on running VMs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As it should be.
    Good,
    /// Not there; bulla works without it.
    Absent,
    /// Works, with a cost or a risk.
    Limited,
    /// Stops `bulla run` and `bulla demo`.
    Blocking,
}

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Short name, stable: scripts select by it.
    pub name: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// What was seen.
    pub seen: String,
    /// What to do, if there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn new(name: &'static str, standing: Standing, seen: impl Into<String>, advice: Option<&str>) -> Self {
        Self { name, standing, seen: seen.into(), advice: advice.map(Into::into) }
    }
}

/// Looks at everything. Opens `/dev/kvm` and reads files below `/proc` and `/sys`; changes nothing.
#[must_use]
pub fn examine() -> Vec<Finding> {
    let probe = Probe::take();
    vec![
        accel(&probe),
        kvm(&probe),
        soft(),
        vtpm(),
        memory(),
        hugepages(),
        seccomp(),
        landlock(),
        open_files(),
        sev(),
        tdx(),
    ]
}

/// Whether `bulla run` can work on a host with these findings.
#[must_use]
pub fn can_run(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.standing != Standing::Blocking)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

fn vtpm() -> Finding {
    match bulla_vtpm_client::find_binary() {
        Ok(path) => Finding::new("vtpm", Standing::Good, path.display().to_string(), None),
        Err(e) => Finding::new(
            "vtpm",
            Standing::Blocking,
            e.to_string(),
            Some("build it (cargo build --release -p bulla-vtpm) beside bulla, or set BULLA_VTPM to its path"),
        ),
    }
}

/// The value of a line of /proc/meminfo, in KiB (or pages for HugePages_*).
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory() -> Finding {
    let available = read("/proc/meminfo").and_then(|t| meminfo(&t, "MemAvailable"));
    match available {
        Some(kib) if kib < 256 * 1024 => Finding::new(
            "memory",
            Standing::Limited,
            format!("{} MiB available", kib / 1024),
            Some("a stock Linux guest wants 256 MiB or more: free some memory"),
        ),
        Some(kib) => Finding::new("memory", Standing::Good, format!("{} MiB available", kib / 1024), None),
        None => Finding::new("memory", Standing::Limited, "cannot read /proc/meminfo", Some("mount /proc")),
    }
}

fn hugepages() -> Finding {
    let total = read("/proc/meminfo").and_then(|t| meminfo(&t, "HugePages_Total")).unwrap_or(0);
    let thp = read("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_else(|| "absent".into());
    let seen = format!("{total} reserved, transparent: {thp}");
    if thp.contains("[never]") || thp == "absent" {
        let advice = "guest memory will use 4 KiB pages; \
             for speed: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
        return Finding::new("hugepages", Standing::Absent, seen, Some(advice));
    }
    Finding::new("hugepages", Standing::Good, seen, None)
}

/// The two parts of a monitor's confinement; see [`crate::confine`].
fn seccomp() -> Finding {
    match read("/proc/sys/kernel/seccomp/actions_avail") {
        Some(actions) if actions.split_whitespace().any(|action| action == "kill_process") => {
            Finding::new("seccomp", Standing::Good, "confines monitors and vTPMs", None)
        }
        Some(actions) => {
            let advice = "run a kernel from 4.14 on with CONFIG_SECCOMP_FILTER";
            Finding::new("seccomp", Standing::Blocking, format!("cannot kill a process, only: {actions}"), Some(advice))
        }
        None => {
            let advice = "if `bulla run` cannot confine itself: a kernel from 4.14 on with CONFIG_SECCOMP_FILTER can";
            Finding::new("seccomp", Standing::Limited, "cannot tell: this kernel does not say", Some(advice))
        }
    }
}

fn landlock() -> Finding {
    let (standing, seen) = match landlock_here() {
        Landlock::Full => (Standing::Good, "active: files, TCP and abstract sockets"),
        Landlock::Partial => (Standing::Good, "active for files; kernels from 6.12 on do more"),
        Landlock::Absent => {
            let seen = "this kernel has none, or it is not switched on: seccomp alone confines the monitor";
            (Standing::Absent, seen)
        }
    };
    Finding::new("landlock", standing, seen, None)
}

fn open_files() -> Finding {
    let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match soft {
        Some(n) if n < 256 => Finding::new(
            "open-files",
            Standing::Limited,
            format!("limit {n}"),
            Some("raise it (ulimit -n 1024) to run several VMs"),
        ),
        Some(n) => Finding::new("open-files", Standing::Good, format!("limit {n}"), None),
        None => Finding::new("open-files", Standing::Good, "unlimited", None),
    }
}

/// A yes/no module parameter, as sysfs prints it.
fn parameter(path: &str) -> bool {
    read(path).is_some_and(|v| v == "Y" || v == "1")
}

fn sev() -> Finding {
    let found: Vec<&str> = [
        ("SEV", "/sys/module/kvm_amd/parameters/sev"),
        ("SEV-ES", "/sys/module/kvm_amd/parameters/sev_es"),
        ("SEV-SNP", "/sys/module/kvm_amd/parameters/sev_snp"),
    ]
    .into_iter()
    .filter_map(|(name, path)| parameter(path).then_some(name))
    .collect();
    if found.is_empty() || !Path::new("/dev/sev").exists() {
        return Finding::new("sev", Standing::Absent, "this host offers no AMD SEV", None);
    }
    Finding::new("sev", Standing::Good, found.join(", "), Some("bulla does not use it yet: evidence is `vmm-hosted`"))
}

fn tdx() -> Finding {
    if parameter("/sys/module/kvm_intel/parameters/tdx") {
        let advice = "bulla does not use it yet: evidence is `vmm-hosted`";
        return Finding::new("tdx", Standing::Good, "kvm_intel.tdx=Y", Some(advice));
    }
    Finding::new("tdx", Standing::Absent, "this host offers no Intel TDX", None)
}

/// What `--accel auto` takes here.
fn accel(probe: &Probe) -> Finding {
    let choice = select::automatic(probe);
    let standing = if choice.kvm { Standing::Good } else { Standing::Limited };
    Finding::new("accel", standing, format!("VMs run on {choice}"), None)
}

fn soft() -> Finding {
    Finding::new("soft", Standing::Good, "the software processor needs nothing of this host", None)
}

fn kvm(probe: &Probe) -> Finding {
    if !matches!(probe.device, DeviceState::Usable { .. }) {
        return Finding::new("kvm", Standing::Absent, probe.device.to_string(), Some(probe.device.advice()));
    }
    let modules = probe.modules.join(", ");
    let place = if probe.in_a_vm { ", this host is itself a VM" } else { "" };
    let seen = format!("{}, {} (modules: {modules}{place})", probe.device, probe.kind);
    let lacking = probe.capabilities.iter().find(|c| c.needed && c.value <= 0);
    if let Some(capability) = lacking {
        let advice = format!("{} is needed: run a newer kernel", capability.name);
        return Finding::new("kvm", Standing::Absent, seen, Some(&advice));
    }
    if probe.kind == Kind::DePrivileged {
        let advice = "with --accel kvm, measured boot and the bundled tenant work; stock kernels need VT-x or SVM, or --accel soft";
        return Finding::new("kvm", Standing::Limited, seen, Some(advice));
    }
    Finding::new("kvm", Standing::Good, seen, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_lines_are_found_by_their_whole_key() {
        let text = "MemAvailableX:  1 kB\nMemAvailable:   4711 kB\nHugePages_Total:   3\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(4711));
        assert_eq!(meminfo(text, "HugePages_Total"), Some(3));
        assert_eq!(meminfo(text, "Mem"), None);
    }

    #[test]
    fn every_finding_that_blocks_says_what_to_do() {
        for finding in examine() {
            assert!(finding.standing != Standing::Blocking || finding.advice.is_some(), "{finding:?}");
        }
    }
}
