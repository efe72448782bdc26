//! The system calls that `bulla-vtpm socket` is left with once everything is open and all threads run.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompFilter};

use super::filter::{Argument, rule};
use super::{SandboxError, step};

/// What happens on a system call that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The kernel writes it to its audit log, and the call is made.
    Logged,
    /// The process is killed.
    Deadly,
}

/// Confines all threads of this process for the rest of its life: they gain no privileges, are not read or traced by
/// processes of the same user, leave no core, and make only the system calls that serving needs. They still accept connections, take
/// descriptors from the control channel, read and write what is open, and remove the names that they made.
///
/// # Errors
/// See [`SandboxError`]. There is no way back from the steps that were taken.
pub fn enter_all(breach: Breach) -> Result<(), SandboxError> {
    rustix::thread::set_no_new_privs(true).map_err(step("no_new_privs"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("dumpable"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(step("resource limits"))?;
    let program = program(breach).map_err(seccompiler::Error::from)?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| match error {
        seccompiler::Error::ThreadSync(_) => {
            SandboxError::Step { step: "system call filter of all threads", source: io::Error::other(error) }
        }
        error => error.into(),
    })
}

fn program(breach: Breach) -> Result<BpfProgram, BackendError> {
    let int = |index, value: i32| (index, SeccompCmpArgLen::Dword, u64::from(value.cast_unsigned()));
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let writable = libc::PROT_READ | libc::PROT_WRITE;

    let rules: [(c_long, &[&[Argument]]); 42] = [
        // The channels, the log, the bells between threads.
        (libc::SYS_read, &[]),
        (libc::SYS_write, &[]),
        (libc::SYS_writev, &[]),
        (libc::SYS_recvmsg, &[]),
        (libc::SYS_sendto, &[]),
        (libc::SYS_accept4, &[]),
        (libc::SYS_close, &[]),
        // Rust's library asks before it closes one, when it checks itself.
        (libc::SYS_fcntl, &[&[int(1, libc::F_GETFD)]]),
        (libc::SYS_poll, &[]),
        (libc::SYS_ppoll, &[]),
        // The state's file.
        (libc::SYS_pread64, &[]),
        (libc::SYS_pwrite64, &[]),
        (libc::SYS_fdatasync, &[]),
        (libc::SYS_flock, &[]),
        // At the end: the names of the sockets and of the file of the process id.
        (libc::SYS_unlink, &[]),
        (libc::SYS_unlinkat, &[&[int(2, 0)]]),
        // What the engine needs of the host.
        (libc::SYS_getrandom, &[]),
        (libc::SYS_clock_gettime, &[]),
        // The allocator, which has an arena for each thread. No page becomes executable.
        (libc::SYS_brk, &[]),
        (
            libc::SYS_mmap,
            &[
                &[int(2, writable), int(3, anonymous)],
                &[int(2, writable), int(3, anonymous | libc::MAP_STACK)],
                &[int(2, libc::PROT_NONE), int(3, anonymous | libc::MAP_NORESERVE)],
            ],
        ),
        (libc::SYS_mprotect, &[&[int(2, writable)], &[int(2, libc::PROT_NONE)]]),
        (libc::SYS_mremap, &[&[int(3, libc::MREMAP_MAYMOVE)]]),
        (libc::SYS_munmap, &[]),
        (libc::SYS_madvise, &[&[int(2, libc::MADV_DONTNEED)], &[int(2, libc::MADV_FREE)]]),
        // Threads that wait for each other, and end; that of the signals may just begin.
        (libc::SYS_prctl, &[&[int(0, libc::PR_SET_NAME)]]),
        (libc::SYS_sched_getaffinity, &[]),
        (libc::SYS_futex, &[]),
        (libc::SYS_sched_yield, &[]),
        (libc::SYS_set_robust_list, &[]),
        (libc::SYS_rseq, &[]),
        (libc::SYS_rt_sigreturn, &[]),
        (libc::SYS_rt_sigaction, &[]),
        (libc::SYS_sigaltstack, &[]),
        (libc::SYS_rt_sigprocmask, &[]),
        // abort(3), so that a bug (SIGABRT) and a breach (SIGSYS) look different.
        (libc::SYS_getpid, &[]),
        (libc::SYS_gettid, &[]),
        (libc::SYS_tgkill, &[&[int(0, process), int(2, libc::SIGABRT)]]),
        // After a stop and a continue.
        (libc::SYS_restart_syscall, &[]),
        (libc::SYS_nanosleep, &[]),
        (libc::SYS_clock_nanosleep, &[]),
        (libc::SYS_exit, &[]),
        (libc::SYS_exit_group, &[]),
    ];
    let mut map = BTreeMap::new();
    for (call, alternatives) in rules {
        let rules: Result<Vec<_>, _> = alternatives.iter().map(|all| rule(all)).collect();
        map.insert(call, rules?);
    }
    let otherwise = match breach {
        Breach::Logged => SeccompAction::Log,
        Breach::Deadly => SeccompAction::KillProcess,
    };
    SeccompFilter::new(map, otherwise, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}
