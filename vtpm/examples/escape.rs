//! A prisoner: enters the sandbox of the vTPM, then does what its first argument says.
//!
//! Not part of the product. `tests/sandbox.rs` starts it with a socket as standard input, and watches it
//! die. What it tries is what code injected into a vTPM would try: raw system calls.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;
use std::time::Instant;

use bulla_vtpm::sandbox;
use libc::c_long;

/// A system call that the sandbox must not let pass, by number and arguments.
type Call = (&'static str, c_long, [usize; 6]);

const PATH: &std::ffi::CStr = c"/etc/passwd";
const RW: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;
const ANON: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;

fn calls() -> Vec<Call> {
    let path = PATH.as_ptr() as usize;
    let exec = libc::PROT_EXEC as usize;
    let cwd = libc::AT_FDCWD as usize;
    vec![
        ("openat", libc::SYS_openat, [cwd, path, 0, 0, 0, 0]),
        ("stat", libc::SYS_newfstatat, [cwd, path, 0, 0, 0, 0]),
        ("socket", libc::SYS_socket, [1, 1, 0, 0, 0, 0]),
        ("sendmsg", libc::SYS_sendmsg, [0; 6]),
        ("recvmsg", libc::SYS_recvmsg, [0; 6]),
        ("clone", libc::SYS_clone, [17, 0, 0, 0, 0, 0]),
        ("clone3", libc::SYS_clone3, [0; 6]),
        ("execve", libc::SYS_execve, [path, 0, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [0; 6]),
        ("kill", libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
        ("dup", libc::SYS_dup, [0; 6]),
        ("close", libc::SYS_close, [0; 6]),
        ("ioctl", libc::SYS_ioctl, [2, 0x5412, path, 0, 0, 0]),
        ("pread64", libc::SYS_pread64, [2, path, 0, 0, 0, 0]),
        ("pwrite64", libc::SYS_pwrite64, [2, path, 1, 0, 0, 0]),
        ("fdatasync", libc::SYS_fdatasync, [2, 0, 0, 0, 0, 0]),
        ("prctl", libc::SYS_prctl, [4, 1, 0, 0, 0, 0]),
        ("seccomp", libc::SYS_seccomp, [0; 6]),
        ("prlimit64", libc::SYS_prlimit64, [0; 6]),
        ("unshare", libc::SYS_unshare, [0; 6]),
        ("memfd_create", libc::SYS_memfd_create, [path, 0, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0]),
        ("bpf", libc::SYS_bpf, [0; 6]),
        ("userfaultfd", libc::SYS_userfaultfd, [0; 6]),
        ("process_vm_writev", libc::SYS_process_vm_writev, [1, 0, 0, 0, 0, 0]),
        // Allowed calls with arguments that are not.
        ("read stderr", libc::SYS_read, [2, path, 0, 0, 0, 0]),
        ("write fd 1", libc::SYS_write, [1, path, 1, 0, 0, 0]),
        ("mmap executable", libc::SYS_mmap, [0, 4096, RW | exec, ANON, usize::MAX, 0]),
        ("mmap a file", libc::SYS_mmap, [0, 4096, RW, libc::MAP_PRIVATE as usize, 0, 0]),
        ("mmap shared", libc::SYS_mmap, [0, 4096, RW, 0x21, usize::MAX, 0]),
        ("mprotect", libc::SYS_mprotect, [0, 4096, exec, 0, 0, 0]),
        ("tgkill another", libc::SYS_tgkill, [1, 1, 6, 0, 0, 0]),
        ("mremap fixed", libc::SYS_mremap, [0, 0, 0, 3, 0, 0]),
        ("futex wait", libc::SYS_futex, [path, 128, 0, 0, 0, 0]),
        // The other doors into the kernel.
        ("a number without a call", 0x0FFF, [0; 6]),
        ("x32 getpid", 0x4000_0000 | 39, [0; 6]),
    ]
}

/// What must not pass on the files of a state: the first is only a lock, the second is written.
fn on_files(kept: &[i32]) -> Vec<Call> {
    let fd = |index: usize| kept.get(index).map_or(usize::MAX, |fd| *fd as usize);
    let path = PATH.as_ptr() as usize;
    vec![
        ("pwrite64 to the lock", libc::SYS_pwrite64, [fd(0), path, 1, 0, 0, 0]),
        ("pread64 of the lock", libc::SYS_pread64, [fd(0), path, 0, 0, 0, 0]),
        ("read the file", libc::SYS_read, [fd(1), path, 0, 0, 0, 0]),
        ("write the file", libc::SYS_write, [fd(1), path, 1, 0, 0, 0]),
        ("truncate the file", libc::SYS_ftruncate, [fd(1), 0, 0, 0, 0, 0]),
        ("unlock", libc::SYS_flock, [fd(0), 8, 0, 0, 0, 0]),
        ("map the file", libc::SYS_mmap, [0, 4096, RW, libc::MAP_SHARED as usize, fd(1), 0]),
        ("close the file", libc::SYS_close, [fd(1), 0, 0, 0, 0, 0]),
    ]
}

fn open(path: String) -> std::io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// What a store does, and a file beyond its limit.
fn store(file: &File) -> ExitCode {
    let mut back = [0; 5];
    let done = file
        .write_all_at(b"state", 100)
        .and_then(|()| file.sync_data())
        .and_then(|()| file.read_exact_at(&mut back, 100));
    if done.is_err() || back != *b"state" {
        return ExitCode::FAILURE;
    }
    // Ends by SIGXFSZ.
    let _ = file.write_all_at(b"!", sandbox::STATE_FILE);
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    if wanted == "list files" {
        for (name, ..) in on_files(&[]) {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    if wanted == "list" {
        for (name, ..) in calls() {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    // A vTPM with a state that lasts: files to keep, the second of which may be written.
    let files: Vec<File> = match std::env::args().skip(2).map(open).collect() {
        Ok(files) => files,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let kept: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let written = kept.get(1..).unwrap_or_default();
    // SAFETY: sandbox rule 1: a single thread that has opened nothing else.
    let mut socket = match unsafe { sandbox::enter(0, None, &kept, written) } {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(3);
        }
    };
    // The watcher knows by this byte that what kills the process comes later.
    if socket.write_all(b"!").is_err() {
        return ExitCode::from(5);
    }
    if wanted == "behave" {
        return behave(&mut socket);
    }
    if let Some(file) = files.get(1)
        && wanted == "store"
    {
        return store(file);
    }
    if wanted == "hoard" {
        // Ends at the address-space limit, by the allocator's abort.
        black_box(vec![1_u8; 1 << 30]);
        return ExitCode::SUCCESS;
    }
    let on_files = on_files(&kept);
    let Some((_, number, [a, b, c, d, e, f])) = calls().into_iter().chain(on_files).find(|c| c.0 == wanted) else {
        return ExitCode::from(2);
    };
    // SAFETY: sandbox rule 2, but for the pointers, which lead to constants or nowhere: the kernel checks
    // them. No call here is meant to return.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    black_box(result);
    ExitCode::SUCCESS
}

/// Does all that an honest engine does, and returns what it heard, twice, to its monitor.
fn behave(socket: &mut sandbox::Socket) -> ExitCode {
    let mut heard = [0; 5];
    let mut random = [0; 32];
    // From small to past the allocator's threshold for mappings of their own, growing and shrinking.
    let mut memory = Vec::new();
    for round in 0..24 {
        memory.resize(1 << round, round as u8);
        memory.shrink_to_fit();
    }
    drop(black_box(memory));
    let started = Instant::now();
    let random_came = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    black_box(started.elapsed());
    eprintln!("last words");
    let done =
        socket.read_exact(&mut heard).and_then(|()| socket.write_all(&heard)).and_then(|()| socket.write_all(&heard));
    if done.is_ok() && random_came == Ok(32) && random != [0; 32] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
