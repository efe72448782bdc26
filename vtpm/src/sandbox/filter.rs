//! The system calls that are left.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What an allowed call's argument has to be: index, and the whole value.
pub(super) type Argument = (u8, SeccompCmpArgLen, u64);

const STDERR: u64 = 2;

/// Builds the filter, with `written` the files of the state: any call that is not in the list below, or not with these arguments, or not through the
/// native system call interface, kills the process (SIGSYS).
pub(super) fn program(socket: RawFd, written: &[RawFd]) -> Result<BpfProgram, BackendError> {
    let fd = |fd: u64| (0, SeccompCmpArgLen::Dword, fd);
    let int = |index, value: i32| (index, SeccompCmpArgLen::Dword, u64::from(value.cast_unsigned()));
    let socket = u64::from(socket.cast_unsigned());
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = rustix::thread::gettid().as_raw_nonzero().get();

    let rules: [(c_long, &[&[Argument]]); 19] = [
        // The conversation with the monitor, and last words.
        (libc::SYS_read, &[&[fd(socket)]]),
        (libc::SYS_write, &[&[fd(socket)], &[fd(STDERR)]]),
        // What the engine needs of the host.
        (libc::SYS_getrandom, &[]),
        // Where the vDSO cannot read the clock itself.
        (libc::SYS_clock_gettime, &[]),
        // The allocator: private anonymous memory that is never executable. A page's rights cannot be
        // changed afterwards either: mprotect is not here.
        (libc::SYS_brk, &[]),
        (
            libc::SYS_mmap,
            &[&[int(2, libc::PROT_READ | libc::PROT_WRITE), int(3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)]],
        ),
        (libc::SYS_mremap, &[&[int(3, libc::MREMAP_MAYMOVE)]]),
        (libc::SYS_munmap, &[]),
        (libc::SYS_madvise, &[&[int(2, libc::MADV_DONTNEED)], &[int(2, libc::MADV_FREE)]]),
        // The C library's one-time initialisation wakes waiters that a single thread does not have.
        (libc::SYS_futex, &[&[int(1, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG)]]),
        // Back from Rust's handler of stack overflows, and its end.
        (libc::SYS_rt_sigreturn, &[]),
        (libc::SYS_sigaltstack, &[]),
        // abort(3), so that a bug (SIGABRT) and a breach (SIGSYS) look different.
        (libc::SYS_rt_sigprocmask, &[]),
        (libc::SYS_getpid, &[]),
        (libc::SYS_gettid, &[]),
        (libc::SYS_tgkill, &[&[int(0, process), int(1, thread), int(2, libc::SIGABRT)]]),
        // After a stop and a continue.
        (libc::SYS_restart_syscall, &[]),
        (libc::SYS_exit, &[]),
        (libc::SYS_exit_group, &[]),
    ];

    let mut map = BTreeMap::new();
    // The state: at offsets, so that no position is shared with whoever else has the file open; and to the disk.
    let files: Result<Vec<_>, _> = written.iter().map(|file| rule(&[int(0, *file)])).collect();
    let files = files?;
    // To a filter no rules for a call mean that all of it is allowed.
    if !files.is_empty() {
        for call in [libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_fdatasync] {
            map.insert(call, files.clone());
        }
    }
    for (call, alternatives) in rules {
        let rules: Result<Vec<_>, _> = alternatives.iter().map(|all| rule(all)).collect();
        map.insert(call, rules?);
    }
    SeccompFilter::new(map, SeccompAction::KillProcess, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?
        .try_into()
}

pub(super) fn rule(arguments: &[Argument]) -> Result<SeccompRule, BackendError> {
    let conditions: Result<Vec<_>, _> = arguments
        .iter()
        .map(|(index, length, value)| SeccompCondition::new(*index, length.clone(), SeccompCmpOp::Eq, *value))
        .collect();
    SeccompRule::new(conditions?)
}
