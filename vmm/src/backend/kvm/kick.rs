//! Stopping a vCPU from another thread.
//!
//! `KVM_RUN` returns at once when the byte `immediate_exit` of the shared `kvm_run` page is 1, and a signal takes
//! a thread out of the guest. So a kick sets the byte, then signals the thread if it is inside `run`: whether the
//! vCPU is on its way in, inside, or answering a device access, it comes out.
//!
//! Rules for the unsafe code here:
//! 1. The byte is reached only as an atomic, through the pointer in [`Target`], under its lock.
//! 2. The pointer is removed, under the lock, before the vCPU (and with it the mapping of its page) goes away.
//! 3. A thread is signalled only under the lock and only between its `enter` and the drop of the [`Inside`] guard,
//!    so it exists.
//! 4. The signal's handler does nothing.
#![expect(unsafe_code, reason = "signals and a byte shared with the kernel; see the rules above")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::backend::Kick;

/// The byte `immediate_exit` of a vCPU's `kvm_run` page.
struct ImmediateExit(NonNull<AtomicU8>);

// SAFETY: the byte is only used atomically (rule 1) and outlives its use (rule 2).
unsafe impl Send for ImmediateExit {}

#[derive(Default)]
struct Target {
    byte: Option<ImmediateExit>,
    thread: Option<libc::pthread_t>,
}

/// Both ends of the kick: the vCPU's and that of whoever wants it to stop.
#[derive(Default)]
pub(super) struct Kicker {
    target: Mutex<Target>,
}

impl Kicker {
    /// # Safety
    /// `byte` points at the `immediate_exit` byte of a live vCPU, and [`Self::detach`] is called before that vCPU is
    /// dropped.
    pub(super) unsafe fn attach(byte: NonNull<u8>) -> Arc<Self> {
        let target = Target { byte: Some(ImmediateExit(byte.cast())), thread: None };
        Arc::new(Self { target: Mutex::new(target) })
    }

    pub(super) fn detach(&self) {
        *self.lock() = Target::default();
    }

    /// Marks this thread as the one that runs the vCPU, until the guard is dropped.
    pub(super) fn enter(&self) -> io::Result<Inside<'_>> {
        let signal = ready_signal()?;
        unblock(signal)?;
        // SAFETY: no preconditions.
        let thread = unsafe { libc::pthread_self() };
        self.lock().thread = Some(thread);
        Ok(Inside(self))
    }

    /// Takes a kick, if there was one.
    pub(super) fn take(&self) -> bool {
        self.with_byte(|byte| byte.swap(0, Ordering::AcqRel) != 0)
    }

    fn with_byte(&self, f: impl FnOnce(&AtomicU8) -> bool) -> bool {
        match &self.lock().byte {
            // SAFETY: rule 2; the lock is held while `f` runs.
            Some(byte) => f(unsafe { byte.0.as_ref() }),
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kick for Kicker {
    fn kick(&self) {
        let target = self.lock();
        let Some(byte) = &target.byte else { return };
        // SAFETY: rule 2; the lock is held.
        unsafe { byte.0.as_ref() }.store(1, Ordering::Release);
        if let (Some(thread), Ok(signal)) = (target.thread, ready_signal()) {
            // SAFETY: rule 3. The result is of no interest: the byte alone stops the next entry.
            let _ = unsafe { libc::pthread_kill(thread, signal) };
        }
    }
}

/// The thread that holds it may be signalled.
pub(super) struct Inside<'a>(&'a Kicker);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.lock().thread = None;
    }
}

/// The signal used for kicks; its handler is installed on first use, for the whole process.
fn ready_signal() -> io::Result<libc::c_int> {
    static SIGNAL: OnceLock<Result<libc::c_int, i32>> = OnceLock::new();
    SIGNAL
        .get_or_init(|| install().map_err(|e| e.raw_os_error().unwrap_or(libc::EINVAL)))
        .map_err(io::Error::from_raw_os_error)
}

extern "C" fn do_nothing(_: libc::c_int) {}

fn install() -> io::Result<libc::c_int> {
    let signal = libc::SIGRTMIN() + 3;
    let handler: extern "C" fn(libc::c_int) = do_nothing;
    // SAFETY: all zeroes is a valid sigaction: no flags (so no SA_RESTART: KVM_RUN must come back with EINTR).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: `action` is a valid sigaction and the handler does nothing (rule 4).
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if result == 0 { Ok(signal) } else { Err(io::Error::last_os_error()) }
}

/// A thread inherits its creator's signal mask; one that blocks our signal could not be stopped.
fn unblock(signal: libc::c_int) -> io::Result<()> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised and `signal` is a valid number.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: the set is initialised; the old mask is not asked for.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}
