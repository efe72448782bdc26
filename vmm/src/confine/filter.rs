//! The system calls that are left to a monitor whose VM runs.

use std::collections::BTreeMap;

use kvm_bindings::{kvm_irq_routing, kvm_msi, kvm_regs, kvm_sregs, kvm_translation, kvm_userspace_memory_region};
use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What an argument has to be.
#[derive(Clone, Copy)]
enum Argument {
    /// This argument, of 32 bits, has this value.
    Is(u8, u32),
    /// These bits (second) of this argument, of 32 bits, have these values (third).
    Bits(u8, u32, u32),
    /// This pointer is null.
    Null(u8),
}
use Argument::{Bits, Is, Null};

/// A call, and the alternatives of what all its arguments have to be; none: whatever they are.
type Call<'a> = (c_long, &'a [&'a [Argument]]);

/// Encodes the number of an ioctl of KVM that takes a `T` (`include/uapi/asm-generic/ioctl.h`).
const fn kvm<T>(direction: u32, number: u32) -> Argument {
    const KVMIO: u32 = 0xAE;
    Is(1, (direction << 30) | ((size_of::<T>() as u32) << 16) | (KVMIO << 8) | number)
}
const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// The ioctls of a VM that runs. Not among them: making VMs and vCPUs, or whatever a terminal or a device understands.
const IOCTLS: &[&[Argument]] = &[
    &[kvm::<()>(NONE, 0x80)],                           // KVM_RUN
    &[kvm::<kvm_msi>(WRITE, 0xA5)],                     // KVM_SIGNAL_MSI
    &[kvm::<kvm_irq_routing>(WRITE, 0x6A)],             // KVM_SET_GSI_ROUTING
    &[kvm::<kvm_userspace_memory_region>(WRITE, 0x46)], // KVM_SET_USER_MEMORY_REGION: the boot window goes
    &[kvm::<kvm_regs>(READ, 0x81)],                     // KVM_GET_REGS, as the next two: where a guest failed
    &[kvm::<kvm_sregs>(READ, 0x83)],                    // KVM_GET_SREGS
    &[kvm::<kvm_translation>(READ | WRITE, 0x85)],      // KVM_TRANSLATE
];

/// What a C library's `pthread_create` asks `clone` for: a thread, never a process.
const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// Guard pages of a thread's stack, as newer C libraries make them (Linux 6.13).
const MADV_GUARD_INSTALL: u32 = 102;
const MADV_GUARD_REMOVE: u32 = 103;

const fn bits(value: i32) -> u32 {
    value.cast_unsigned()
}

/// The calls whose arguments are known beforehand.
const CALLS: &[Call<'_>] = &[
    // The guest.
    (libc::SYS_ioctl, IOCTLS),
    // What is open: console, evidence, standard streams, the pipe that a Ctrl-C comes through.
    (libc::SYS_read, &[]),
    (libc::SYS_write, &[]),
    (libc::SYS_writev, &[]),
    (libc::SYS_close, &[]),
    // A check of Rust's library before it closes.
    (libc::SYS_fcntl, &[&[Is(1, bits(libc::F_GETFD))]]),
    // The vTPM: its socket (which is connected: no address), its end.
    (libc::SYS_recvfrom, &[]),
    (libc::SYS_sendto, &[&[Null(4)]]),
    (libc::SYS_wait4, &[]),
    // Keys and signatures.
    (libc::SYS_getrandom, &[]),
    // Time, where the vDSO cannot tell it, and waiting.
    (libc::SYS_clock_gettime, &[]),
    (libc::SYS_clock_nanosleep, &[]),
    (libc::SYS_nanosleep, &[]),
    (libc::SYS_futex, &[]),
    (libc::SYS_sched_yield, &[]),
    (libc::SYS_restart_syscall, &[]),
    // Memory.
    (libc::SYS_brk, &[]),
    (libc::SYS_munmap, &[]),
    (libc::SYS_mremap, &[&[Is(3, bits(libc::MREMAP_MAYMOVE))]]),
    (
        libc::SYS_madvise,
        &[
            &[Is(2, bits(libc::MADV_DONTNEED))],
            &[Is(2, bits(libc::MADV_FREE))],
            &[Is(2, MADV_GUARD_INSTALL)],
            &[Is(2, MADV_GUARD_REMOVE)],
        ],
    ),
    // Threads: their making, and what a new one does first.
    (libc::SYS_set_robust_list, &[]),
    (libc::SYS_rseq, &[]),
    (libc::SYS_sched_getaffinity, &[]),
    (libc::SYS_prctl, &[&[Is(0, bits(libc::PR_SET_NAME))]]),
    (libc::SYS_sigaltstack, &[]),
    // Signals: kicks of the vCPU, and abort(3), within this process.
    (libc::SYS_rt_sigaction, &[]),
    (libc::SYS_rt_sigprocmask, &[]),
    (libc::SYS_rt_sigreturn, &[]),
    (libc::SYS_getpid, &[]),
    (libc::SYS_gettid, &[]),
    (libc::SYS_exit, &[]),
    (libc::SYS_exit_group, &[]),
];

/// Any call that is not in the lists, or not with these arguments, or not through the native system call interface,
/// kills the process.
pub(super) fn allowed(vtpm: u32) -> Result<BpfProgram, BackendError> {
    let this = std::process::id();
    let exec = bits(libc::PROT_EXEC);
    let anonymous = bits(libc::MAP_ANONYMOUS);
    // A bit that Linux has ignored for twenty years, and one C library still sets.
    let thread = [Bits(0, !bits(libc::CLONE_DETACHED), bits(THREAD))];
    let not_executable = [Bits(2, exec, 0)];
    // Of no file either: what could be mapped executable, could be mapped so before.
    let memory = [Bits(2, exec, 0), Bits(3, anonymous, anonymous)];
    let kick = [Is(0, this)];
    let end = [Is(0, vtpm), Is(1, bits(libc::SIGKILL))];
    let with_arguments: [(c_long, [&[Argument]; 1]); 5] = [
        (libc::SYS_clone, [&thread]),
        (libc::SYS_mmap, [&memory]),
        (libc::SYS_mprotect, [&not_executable]),
        (libc::SYS_tgkill, [&kick]),
        (libc::SYS_kill, [&end]),
    ];
    let mut calls = CALLS.to_vec();
    calls.extend(with_arguments.iter().map(|(call, alternatives)| (*call, &alternatives[..])));
    calls.extend(REFUSED.iter().map(|call| (*call, &[][..])));
    program(&calls, SeccompAction::KillProcess, SeccompAction::Allow)
}

/// Calls that get `ENOSYS`. `clone3` hides its flags from a filter, and C libraries fall back to `clone`; the others are
/// how libraries look for a backtrace's symbols, the number of processors and the like, and go on without.
const REFUSED: &[c_long] = &[
    libc::SYS_clone3,
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
];

pub(super) fn refused() -> Result<BpfProgram, BackendError> {
    let calls: Vec<Call<'_>> = REFUSED.iter().map(|call| (*call, &[][..])).collect();
    program(&calls, SeccompAction::Allow, SeccompAction::Errno(bits(libc::ENOSYS)))
}

fn program(calls: &[Call<'_>], others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, BackendError> {
    let mut map = BTreeMap::new();
    for (call, alternatives) in calls {
        let rules: Result<Vec<_>, _> = alternatives.iter().map(|all| rule(all)).collect();
        let second = map.insert(*call, rules?).is_some();
        debug_assert!(!second, "call {call} is listed twice, and one entry would overrule the other");
    }
    SeccompFilter::new(map, others, these, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn rule(arguments: &[Argument]) -> Result<SeccompRule, BackendError> {
    let conditions: Result<Vec<_>, _> = arguments.iter().map(|argument| condition(*argument)).collect();
    SeccompRule::new(conditions?)
}

fn condition(argument: Argument) -> Result<SeccompCondition, BackendError> {
    let (index, length, operator, value) = match argument {
        Is(index, value) => (index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value)),
        Bits(index, mask, value) => {
            (index, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask.into()), u64::from(value))
        }
        Null(index) => (index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0),
    };
    SeccompCondition::new(index, length, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ioctl_numbers_are_those_of_the_kernels_headers() {
        let numbers: Vec<u32> = IOCTLS
            .iter()
            .map(|all| match all {
                [Is(1, number)] => *number,
                _ => 0,
            })
            .collect();
        let known = [0xAE80, 0x4020_AEA5, 0x4008_AE6A, 0x4020_AE46, 0x8090_AE81, 0x8138_AE83, 0xC018_AE85];
        assert_eq!(numbers, known);
    }

    #[test]
    fn both_filters_can_be_built() {
        assert!(allowed(1).is_ok());
        assert!(refused().is_ok());
    }
}
