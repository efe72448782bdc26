//! A prisoner: confines itself as a monitor does, then does what its first argument says.
//!
//! Not part of the product. `tests/confine.rs` starts it and watches it die. What it tries is what code injected into a
//! monitor would try: raw system calls, on a thread that was there before the filter. Its standard input must be a pipe
//! that stays open, and is what keeps its child, the stand-in for a vTPM, alive.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bulla_vmm::confine;
use libc::c_long;

/// A system call by name, number and arguments.
type Call = (&'static str, c_long, [usize; 6]);

const PATH: &std::ffi::CStr = c"/etc/passwd";
const RW: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;
const EXEC: usize = libc::PROT_EXEC as usize;
const ANON: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
const CWD: usize = libc::AT_FDCWD as usize;

/// What must kill. `child` is the process that stands for the vTPM.
fn deadly(child: usize) -> Vec<Call> {
    let path = PATH.as_ptr() as usize;
    let parent = std::os::unix::process::parent_id() as usize;
    vec![
        ("creat", libc::SYS_creat, [path, 0, 0, 0, 0, 0]),
        ("openat2", libc::SYS_openat2, [CWD, path, 0, 0, 0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0; 6]),
        ("unlink", libc::SYS_unlink, [0; 6]),
        ("renameat2", libc::SYS_renameat2, [0; 6]),
        ("ftruncate", libc::SYS_ftruncate, [1, 0, 0, 0, 0, 0]),
        ("socket", libc::SYS_socket, [1, 1, 0, 0, 0, 0]),
        ("socketpair", libc::SYS_socketpair, [1, 1, 0, 0, 0, 0]),
        ("connect", libc::SYS_connect, [0; 6]),
        ("bind", libc::SYS_bind, [0; 6]),
        ("sendmsg", libc::SYS_sendmsg, [0; 6]),
        ("recvmsg", libc::SYS_recvmsg, [0; 6]),
        ("sendto an address", libc::SYS_sendto, [0, path, 1, 0, path, 16]),
        ("execve", libc::SYS_execve, [path, 0, 0, 0, 0, 0]),
        ("execveat", libc::SYS_execveat, [CWD, path, 0, 0, 0, 0]),
        ("fork", libc::SYS_fork, [0; 6]),
        ("vfork by clone", libc::SYS_clone, [(libc::CLONE_VM | libc::CLONE_VFORK) as usize | 17, 0, 0, 0, 0, 0]),
        ("fork by clone", libc::SYS_clone, [17, 0, 0, 0, 0, 0]),
        ("clone a namespace", libc::SYS_clone, [0x3d_0f00 | libc::CLONE_NEWNET as usize, 0, 0, 0, 0, 0]),
        ("ptrace the child", libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, child, 0, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [child, 0, 0, 0, 0, 0]),
        ("process_vm_writev", libc::SYS_process_vm_writev, [child, 0, 0, 0, 0, 0]),
        ("pidfd_open", libc::SYS_pidfd_open, [child, 0, 0, 0, 0, 0]),
        ("kill another, with signal 0", libc::SYS_kill, [parent, 0, 0, 0, 0, 0]),
        ("kill another", libc::SYS_kill, [parent, libc::SIGCONT as usize, 0, 0, 0, 0]),
        ("kill all", libc::SYS_kill, [usize::MAX, 0, 0, 0, 0, 0]),
        ("stop the child", libc::SYS_kill, [child, libc::SIGSTOP as usize, 0, 0, 0, 0]),
        ("tgkill another", libc::SYS_tgkill, [child, child, 0, 0, 0, 0]),
        ("mprotect executable", libc::SYS_mprotect, [0, 4096, EXEC | 1, 0, 0, 0]),
        ("pkey_mprotect", libc::SYS_pkey_mprotect, [0, 4096, EXEC, 0, 0, 0]),
        ("mmap executable", libc::SYS_mmap, [0, 4096, RW | EXEC, ANON, usize::MAX, 0]),
        ("mmap a file", libc::SYS_mmap, [0, 4096, 1, libc::MAP_PRIVATE as usize, 0, 0]),
        ("shmat", libc::SYS_shmat, [0; 6]),
        ("memfd_create", libc::SYS_memfd_create, [path, 0, 0, 0, 0, 0]),
        ("a terminal's ioctl", libc::SYS_ioctl, [0, libc::TIOCSTI as usize, path, 0, 0, 0]),
        ("KVM_CREATE_VM", libc::SYS_ioctl, [0, 0xAE01, 0, 0, 0, 0]),
        ("KVM_CREATE_VCPU", libc::SYS_ioctl, [0, 0xAE41, 0, 0, 0, 0]),
        ("dup", libc::SYS_dup, [0; 6]),
        ("fcntl F_SETFL", libc::SYS_fcntl, [0, libc::F_SETFL as usize, 0, 0, 0, 0]),
        ("prctl", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0, 0]),
        ("seccomp", libc::SYS_seccomp, [0; 6]),
        ("prlimit64", libc::SYS_prlimit64, [0; 6]),
        ("setuid", libc::SYS_setuid, [0; 6]),
        ("unshare", libc::SYS_unshare, [0; 6]),
        ("mount", libc::SYS_mount, [0; 6]),
        ("chroot", libc::SYS_chroot, [path, 0, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0]),
        ("bpf", libc::SYS_bpf, [0; 6]),
        ("userfaultfd", libc::SYS_userfaultfd, [0; 6]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 6]),
        ("madvise hardware poison", libc::SYS_madvise, [0, 4096, libc::MADV_HWPOISON as usize, 0, 0, 0]),
        // The other doors into the kernel.
        ("a number without a call", 0x0FFF, [0; 6]),
        ("x32 getpid", 0x4000_0000 | 39, [0; 6]),
    ]
}

/// What must be answered with ENOSYS.
fn refused() -> Vec<Call> {
    let path = PATH.as_ptr() as usize;
    vec![
        ("open", libc::SYS_open, [path, 0, 0, 0, 0, 0]),
        ("openat", libc::SYS_openat, [CWD, path, 0, 0, 0, 0]),
        ("stat", libc::SYS_stat, [path, 0, 0, 0, 0, 0]),
        ("newfstatat", libc::SYS_newfstatat, [CWD, path, 0, 0, 0, 0]),
        ("readlink", libc::SYS_readlink, [path, 0, 0, 0, 0, 0]),
        ("clone3", libc::SYS_clone3, [0; 6]),
    ]
}

fn main() -> ExitCode {
    let wish = std::env::args().nth(1).unwrap_or_default();
    match wish.as_str() {
        "list" => {
            deadly(0).iter().for_each(|call| println!("{}", call.0));
            ExitCode::SUCCESS
        }
        // Stands for the vTPM: lives as long as the pipe.
        "child" => {
            let _ = std::io::stdin().read(&mut [0]);
            ExitCode::SUCCESS
        }
        "files" => without_files(),
        _ => prisoner(&wish).unwrap_or(ExitCode::from(3)),
    }
}

/// Only the first step: Landlock must hold alone, on this thread and on later ones.
fn without_files() -> ExitCode {
    // Nobody listens there, so it is refused in any case; the reason tells by whom.
    let try_all = || {
        let file = File::open("/etc/passwd").err().and_then(|e| e.raw_os_error());
        let made = File::create(std::env::temp_dir().join("bulla-escape")).err().and_then(|e| e.raw_os_error());
        let tcp = TcpStream::connect("127.0.0.1:9").err().and_then(|e| e.raw_os_error());
        format!("{:?}", [file, made, tcp])
    };
    let landlock = confine::give_up_files();
    let later = thread::spawn(try_all).join().unwrap_or_default();
    println!("{landlock} {} {later}", try_all());
    ExitCode::SUCCESS
}

fn prisoner(wish: &str) -> Option<ExitCode> {
    let child = Command::new(std::env::current_exe().ok()?).arg("child").stdout(Stdio::null()).spawn().ok()?;
    let id = child.id() as usize;
    let start = Instant::now();
    let _ = confine::give_up_files();
    let mut took = start.elapsed();
    let (go, going) = mpsc::channel();
    let call = deadly(id).into_iter().find(|call| call.0 == wish);
    let before = thread::spawn(move || {
        let () = going.recv().unwrap_or_default();
        if let Some(call) = call {
            black_box(make(call));
        }
    });
    let start = Instant::now();
    if let Err(error) = confine::filter_calls(child.id()) {
        eprintln!("{error}");
        return None;
    }
    took += start.elapsed();
    // The watcher knows by this that what kills the process comes later.
    println!("confined");
    match wish {
        "behave" => return Some(behave(child, took)),
        "refused" => return Some(all_refused()),
        _ => go.send(()).ok()?,
    }
    before.join().ok()?;
    Some(ExitCode::SUCCESS)
}

fn make((_, number, [a, b, c, d, e, f]): Call) -> c_long {
    // SAFETY: no pointer here leads to memory that the kernel would change: to a constant or nowhere. Calls that would
    // break this process are not meant to return.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

fn all_refused() -> ExitCode {
    for call in refused() {
        let result = make(call);
        let error = std::io::Error::last_os_error();
        if result != -1 || error.raw_os_error() != Some(libc::ENOSYS) {
            println!("{}: {result}, {error}", call.0);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Does what a monitor does beside running its guest.
fn behave(mut child: Child, took: Duration) -> ExitCode {
    // From small to past the allocator's threshold for mappings of their own, on a thread with an arena of its own.
    let worker = thread::Builder::new().name("worker".to_owned()).spawn(|| {
        let mut memory = Vec::new();
        for round in 0..24 {
            memory.resize(1 << round, round as u8);
            memory.shrink_to_fit();
        }
        thread::sleep(Duration::from_millis(1));
        let _ = black_box(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic));
        let mut random = [0; 32];
        getrandom::fill(&mut random).is_ok() && black_box(memory).len() == 1 << 23
    });
    let worked = worker.is_ok_and(|thread| thread.join().unwrap_or(false));
    // With RUST_BACKTRACE it looks for symbols in files: it must live without them.
    let panicked = thread::spawn(|| panic!("as asked")).join().is_err();
    let killed = child.kill().is_ok() && child.wait().is_ok();
    let _ =
        writeln!(std::io::stderr(), "worked {worked}, panicked {panicked}, killed {killed}, confining took {took:?}");
    if worked && panicked && killed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
