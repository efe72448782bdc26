//! The process in which generated code runs on the processor of this machine. All of this package's unsafe code is here.
//!
//! It is a process of its own, re-executed, that reads cases from standard input and writes outcomes to standard
//! output, and under a seccomp filter may do nothing else: whatever a case does, it does to this process.
//!
//! Rules:
//! 1. **One thread.** [`CONTEXT`] is touched by the one thread of the worker and by the signal handler that interrupts it.
//!    Rust code outside of the handler does not use it while [`enter`] runs.
//! 2. **Fixed mappings.** [`map_image`] maps the pages of [`layout`] below 4 GiB, where a position-independent
//!    executable and its libraries are not, with `MAP_FIXED_NOREPLACE`: it replaces nothing, or fails. They stay for the
//!    life of the process. They hold plain bytes, which anything may be written to.
//! 3. **Foreign thread pointer.** Between `wrfsbase` in [`enter`] and in its end FS is not the thread's: the handler
//!    calls nothing that could use thread-local storage, and does not panic.
//! 4. **The handler knows where to return to.** [`CONTEXT`]'s `inside` is set after the host's registers have been saved
//!    and cleared after they are restored; only when it is set does the handler change the place that is returned to.
//! 5. **What a case may destroy.** A case with a wild pointer could write to the worker's own memory; the addresses are
//!    so few and far off that it does not happen by chance, and what comes of it is the death of the worker or a
//!    false report, in a process that holds nothing and may do nothing.

use std::arch::naked_asm;
use std::cell::UnsafeCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use crate::case::{self, Case, FX_SIZE, HANG_MARK, Registers, THROUGH_MARK, word};
use crate::host::MAX_BATCH;
use crate::layout;

/// Room for answers: of a case, at most some 33 KiB.
const ANSWER: usize = 1 << 20;

/// What [`enter`] reads and writes. The layout is fixed because assembly knows it.
#[repr(C, align(64))]
struct Context {
    start_fx: [u8; FX_SIZE],
    end_fx: [u8; FX_SIZE],
    start: Words,
    end: Words,
    host_rsp: u64,
    host_fs: u64,
    host_gs: u64,
    /// A clean RFLAGS, and the MXCSR of an ordinary program behind it.
    clean: u64,
    mxcsr: u64,
    /// Set while the case has the processor.
    inside: u64,
    /// Vector, or a mark.
    event: u64,
    error: u64,
    address: u64,
    selectors: [u16; 8],
    /// Counts cases, for the clock.
    number: u64,
    /// The case that was running when the clock last struck.
    struck: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Words {
    gpr: [u64; 16],
    rip: u64,
    rflags: u64,
    fs: u64,
    gs: u64,
}

const NOTHING: Words = Words { gpr: [0; 16], rip: 0, rflags: 0, fs: 0, gs: 0 };

struct Shared(UnsafeCell<Context>);

// SAFETY: rule 1.
unsafe impl Sync for Shared {}

static CONTEXT: Shared = Shared(UnsafeCell::new(Context {
    start_fx: [0; FX_SIZE],
    end_fx: [0; FX_SIZE],
    start: NOTHING,
    end: NOTHING,
    host_rsp: 0,
    host_fs: 0,
    host_gs: 0,
    clean: 0x202,
    mxcsr: 0x1F80,
    inside: 0,
    event: 0,
    error: 0,
    address: 0,
    selectors: [0; 8],
    number: 0,
    struck: 0,
}));

const START: usize = offset_of!(Context, start);
const END: usize = offset_of!(Context, end);
const RIP: usize = offset_of!(Words, rip);
const RFLAGS: usize = offset_of!(Words, rflags);
const FS: usize = offset_of!(Words, fs);
const GS: usize = offset_of!(Words, gs);

/// Gives the processor to the case in [`CONTEXT`]. Returns when it has ended, in whatever way.
#[unsafe(naked)]
extern "C" fn enter() {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "lea r15, [rip + {context}]",
        "mov [r15 + {host_rsp}], rsp",
        "rdfsbase rax",
        "mov [r15 + {host_fs}], rax",
        "rdgsbase rax",
        "mov [r15 + {host_gs}], rax",
        "mov qword ptr [r15 + {inside}], 1",
        "fxrstor64 [r15 + {start_fx}]",
        "mov rax, [r15 + {start} + {gs}]",
        "wrgsbase rax",
        "mov rax, [r15 + {start} + {fs}]",
        "wrfsbase rax",
        "lea rsp, [r15 + {start} + {rflags}]",
        "popfq",
        "mov rax, [r15 + {start} + 0]", "mov rcx, [r15 + {start} + 8]",
        "mov rdx, [r15 + {start} + 16]", "mov rbx, [r15 + {start} + 24]",
        "mov rsp, [r15 + {start} + 32]", "mov rbp, [r15 + {start} + 40]",
        "mov rsi, [r15 + {start} + 48]", "mov rdi, [r15 + {start} + 56]",
        "mov r8, [r15 + {start} + 64]", "mov r9, [r15 + {start} + 72]",
        "mov r10, [r15 + {start} + 80]", "mov r11, [r15 + {start} + 88]",
        "mov r12, [r15 + {start} + 96]", "mov r13, [r15 + {start} + 104]",
        "mov r14, [r15 + {start} + 112]", "mov r15, [r15 + {start} + 120]",
        "jmp qword ptr [rip + {context} + {start} + {rip_field}]",
        context = sym CONTEXT,
        host_rsp = const offset_of!(Context, host_rsp),
        host_fs = const offset_of!(Context, host_fs),
        host_gs = const offset_of!(Context, host_gs),
        inside = const offset_of!(Context, inside),
        start_fx = const offset_of!(Context, start_fx),
        start = const START,
        rip_field = const RIP,
        rflags = const RFLAGS,
        fs = const FS,
        gs = const GS,
    )
}

/// Where a case that came through goes to: saves its registers, and returns from [`enter`].
#[unsafe(naked)]
extern "C" fn through() {
    naked_asm!(
        "mov [rip + {context} + {end} + 120], r15",
        "lea r15, [rip + {context}]",
        "mov [r15 + {end} + 0], rax", "mov [r15 + {end} + 8], rcx",
        "mov [r15 + {end} + 16], rdx", "mov [r15 + {end} + 24], rbx",
        "mov [r15 + {end} + 32], rsp", "mov [r15 + {end} + 40], rbp",
        "mov [r15 + {end} + 48], rsi", "mov [r15 + {end} + 56], rdi",
        "mov [r15 + {end} + 64], r8", "mov [r15 + {end} + 72], r9",
        "mov [r15 + {end} + 80], r10", "mov [r15 + {end} + 88], r11",
        "mov [r15 + {end} + 96], r12", "mov [r15 + {end} + 104], r13",
        "mov [r15 + {end} + 112], r14",
        "lea rsp, [r15 + {end} + {rflags} + 8]",
        "pushfq",
        "lea rsp, [r15 + {clean}]",
        "popfq",
        "fxsave64 [r15 + {end_fx}]",
        "rdfsbase rax",
        "mov [r15 + {end} + {fs}], rax",
        "rdgsbase rax",
        "mov [r15 + {end} + {gs}], rax",
        "mov word ptr [r15 + {selectors} + 0], es",
        "mov word ptr [r15 + {selectors} + 2], cs",
        "mov word ptr [r15 + {selectors} + 4], ss",
        "mov word ptr [r15 + {selectors} + 6], ds",
        "mov word ptr [r15 + {selectors} + 8], fs",
        "mov word ptr [r15 + {selectors} + 10], gs",
        "mov qword ptr [r15 + {event}], {mark}",
        "jmp {resume}",
        context = sym CONTEXT,
        end = const END,
        rflags = const RFLAGS,
        fs = const FS,
        gs = const GS,
        clean = const offset_of!(Context, clean),
        end_fx = const offset_of!(Context, end_fx),
        selectors = const offset_of!(Context, selectors),
        event = const offset_of!(Context, event),
        mark = const THROUGH_MARK,
        resume = sym resume,
    )
}

/// Returns from [`enter`] with the host's registers. R15 points to [`CONTEXT`], the flags are clean.
#[unsafe(naked)]
extern "C" fn resume() {
    naked_asm!(
        "fninit",
        "ldmxcsr [r15 + {mxcsr}]",
        "xor eax, eax",
        "mov ds, eax",
        "mov es, eax",
        "mov fs, eax",
        "mov gs, eax",
        "mov rax, [r15 + {host_fs}]",
        "wrfsbase rax",
        "mov rax, [r15 + {host_gs}]",
        "wrgsbase rax",
        "mov rsp, [r15 + {host_rsp}]",
        "mov qword ptr [r15 + {inside}], 0",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        mxcsr = const offset_of!(Context, mxcsr),
        host_fs = const offset_of!(Context, host_fs),
        host_gs = const offset_of!(Context, host_gs),
        host_rsp = const offset_of!(Context, host_rsp),
        inside = const offset_of!(Context, inside),
    )
}

/// The signal handler as the kernel calls it: the interrupted code's AC flag would make Rust code fault.
#[unsafe(naked)]
extern "C" fn handler_entry(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    naked_asm!(
        "pushfq",
        "and dword ptr [rsp], {keep}",
        "popfq",
        "jmp {handler}",
        keep = const !0x4_4500i32, // AC, NT, DF and TF off
        handler = sym handler,
    )
}

/// Writes down what the case had come to, and leads back to the worker.
extern "C" fn handler(signal: i32, _info: *mut libc::siginfo_t, user: *mut libc::c_void) {
    // SAFETY: the kernel passes the `ucontext_t` of the interrupted code, which is ours while the handler runs.
    let user = unsafe { &mut *user.cast::<libc::ucontext_t>() };
    let context = CONTEXT.0.get();
    // SAFETY: rule 1: the interrupted code is assembly that holds no reference, or code outside of `enter` that is
    // behind its use of the context as `inside` tells.
    let context = unsafe { &mut *context };
    if context.inside == 0 {
        if signal != libc::SIGVTALRM {
            // SAFETY: always callable; the worker itself is broken, and its parent sees it die.
            unsafe { libc::_exit(101) };
        }
        return;
    }
    let registers = &mut user.uc_mcontext.gregs;
    if signal == libc::SIGVTALRM && context.struck != context.number {
        context.struck = context.number;
        return;
    }
    for (to, from) in context.end.gpr.iter_mut().zip(GREGS) {
        *to = registers[from as usize] as u64;
    }
    context.end.rip = registers[libc::REG_RIP as usize] as u64;
    context.end.rflags = registers[libc::REG_EFL as usize] as u64;
    context.event =
        if signal == libc::SIGVTALRM { HANG_MARK } else { registers[libc::REG_TRAPNO as usize] as u64 & 0xFF };
    context.error = registers[libc::REG_ERR as usize] as u64;
    context.address = registers[libc::REG_CR2 as usize] as u64;
    // SAFETY: the kernel points this at the FXSAVE image in the signal's frame.
    let fx = unsafe { &*user.uc_mcontext.fpregs.cast::<[u8; FX_SIZE]>() };
    context.end_fx = *fx;
    // SAFETY: reads two registers; the kernel has the instructions switched on, else `enter` had not come so far.
    unsafe {
        std::arch::asm!("rdfsbase {}", "rdgsbase {}", out(reg) context.end.fs, out(reg) context.end.gs, options(nomem, nostack, preserves_flags));
    }
    let [es, ds, fs, gs]: [u16; 4];
    // SAFETY: reads four selectors.
    unsafe {
        std::arch::asm!("mov {0:x}, es", "mov {1:x}, ds", "mov {2:x}, fs", "mov {3:x}, gs", out(reg) es, out(reg) ds, out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags));
    }
    let csgsfs = registers[libc::REG_CSGSFS as usize] as u64;
    context.selectors = [es, csgsfs as u16, (csgsfs >> 48) as u16, ds, fs, gs, 0, 0];
    registers[libc::REG_RIP as usize] = resume as extern "C" fn() as usize as i64;
    registers[libc::REG_R15 as usize] = std::ptr::from_mut(context) as i64;
    registers[libc::REG_EFL as usize] = 0x202;
}

/// The general registers of a signal's context in the order of encodings.
const GREGS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Maps fresh pages at a fixed address.
fn map(address: u64, size: u64, protection: i32) -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
    // SAFETY: rule 2.
    let got = unsafe { libc::mmap(address as *mut libc::c_void, size as usize, protection, flags, -1, 0) };
    if got as u64 == address { Ok(got.cast()) } else { Err(io::Error::last_os_error()) }
}

fn protect(address: u64, size: u64, protection: i32) -> io::Result<()> {
    // SAFETY: rule 2: pages that `map` made.
    let result = unsafe { libc::mprotect(address as *mut libc::c_void, size as usize, protection) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The image's memory: code, data, the read-only page.
struct Pages {
    now: Vec<u8>,
}

impl Pages {
    fn map_image() -> io::Result<Self> {
        const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
        map(layout::CODE, layout::CODE_SIZE, RW | libc::PROT_EXEC)?;
        let data = map(layout::DATA, layout::DATA_SIZE + layout::PAGE, RW)?;
        let first = case::image(0);
        // SAFETY: rule 2: the pages are there, writable, and as long.
        unsafe {
            data.copy_from_nonoverlapping(first[layout::DATA_OFFSET..].as_ptr(), first.len() - layout::DATA_OFFSET);
        };
        protect(layout::READ_ONLY, layout::PAGE, libc::PROT_READ)?;
        let jump = map(layout::THROUGH, layout::PAGE, RW)?;
        // jmp [rip + 2], and the pointer, aligned because the case may have AC set
        let mut bytes = [0xFF, 0x25, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[8..].copy_from_slice(&(through as extern "C" fn() as usize as u64).to_le_bytes());
        // SAFETY: rule 2: the page is there and writable.
        unsafe { jump.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        protect(layout::THROUGH, layout::PAGE, libc::PROT_READ | libc::PROT_EXEC)?;
        Ok(Self { now: vec![0; layout::READ_ONLY_OFFSET] })
    }

    /// Gives the writable pages the content of `image`.
    fn fill(&self, image: &[u8]) {
        let (code, data) = image[..layout::READ_ONLY_OFFSET].split_at(layout::DATA_OFFSET);
        // SAFETY: rule 2: the pages are there and as long.
        unsafe { (layout::CODE as *mut u8).copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        // SAFETY: likewise.
        unsafe { (layout::DATA as *mut u8).copy_from_nonoverlapping(data.as_ptr(), data.len()) };
    }

    /// Copies the writable pages into `now`.
    fn look(&mut self) {
        let (code, data) = self.now.split_at_mut(layout::DATA_OFFSET);
        // SAFETY: rule 2: the pages are there and as long.
        unsafe { (layout::CODE as *const u8).copy_to_nonoverlapping(code.as_mut_ptr(), code.len()) };
        // SAFETY: likewise, two pages of data.
        unsafe { (layout::DATA as *const u8).copy_to_nonoverlapping(data.as_mut_ptr(), layout::DATA_SIZE as usize) };
    }
}

fn handle_signals() -> io::Result<()> {
    const STACK: usize = 1 << 16;
    let stack = Box::leak(vec![0u8; STACK].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK };
    // SAFETY: the stack is never freed.
    if unsafe { libc::sigaltstack(&raw const stack, null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a structure of plain numbers.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler_entry as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGVTALRM] {
        // SAFETY: the handler is one for SA_SIGINFO, and keeps rules 3 and 4.
        if unsafe { libc::sigaction(signal, &raw const action, null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let tick = libc::timeval { tv_sec: 0, tv_usec: 200_000 };
    let clock = libc::itimerval { it_interval: tick, it_value: tick };
    // SAFETY: plain numbers in, nothing out.
    if unsafe { libc::setitimer(libc::ITIMER_VIRTUAL, &raw const clock, null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// From here on the process may read `input`, write `output`, and end.
fn confine(input: &File, output: &File) -> Result<(), seccompiler::Error> {
    let only = |file: &File| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let descriptor = file.as_raw_fd() as u64;
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, descriptor)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    let rules = [
        (libc::SYS_read, only(input)?),
        (libc::SYS_write, only(output)?),
        (libc::SYS_rt_sigreturn, vec![]),
        (libc::SYS_exit_group, vec![]),
    ];
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program)
}

/// Why a worker did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("the worker cannot set itself up: {0}")]
    Setup(#[from] io::Error),
    /// The seccomp filter.
    #[error("the worker cannot confine itself: {0}")]
    Confine(#[from] seccompiler::Error),
    /// The processor has no user-mode access to segment bases.
    #[error("this kernel or processor has no FSGSBASE, which the worker needs")]
    NoFsGsBase,
}

/// The body of the worker process: cases in, outcomes out, until the input ends.
///
/// A batch is a count, 8 bytes, and that many cases; the answer is one outcome for each, each followed by its changes.
pub fn work() -> Result<(), Error> {
    // SAFETY: always callable.
    if unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 == 0 {
        return Err(Error::NoFsGsBase);
    }
    let mut pages = Pages::map_image()?;
    handle_signals()?;
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // All that is allocated is allocated here: the filter has no system call for more.
    let mut cases = vec![0; MAX_BATCH * Case::SIZE];
    let mut answer: Vec<u8> = Vec::with_capacity(ANSWER);
    let mut image = case::image(0);
    let mut number = 0;
    let mut count = [0; 8];
    confine(&input, &output)?;
    while input.read_exact(&mut count).is_ok() {
        let count = (u64::from_le_bytes(count) as usize).min(MAX_BATCH);
        let batch = &mut cases[..count * Case::SIZE];
        input.read_exact(batch)?;
        answer.clear();
        for mut bytes in batch.chunks_exact(Case::SIZE) {
            let start = Registers::read(&mut bytes);
            let memory = word(&mut bytes);
            let length = (word(&mut bytes) as usize).min(bytes.len());
            if memory != number {
                case::image_into(memory, &mut image);
                number = memory;
            }
            run(&mut pages, &start, &bytes[..length], &mut image, &mut answer);
            if answer.len() > ANSWER / 2 {
                output.write_all(&answer)?;
                answer.clear();
            }
        }
        output.write_all(&answer)?;
    }
    Ok(())
}

/// Runs one case and appends its outcome. `image` is the memory without the code.
fn run(pages: &mut Pages, start: &Registers, code: &[u8], image: &mut [u8], answer: &mut Vec<u8>) {
    case::place(start.rip, code, image);
    pages.fill(image);
    let context = CONTEXT.0.get();
    {
        // SAFETY: rule 1: the clock's handler, too, only looks at `inside`, which is 0.
        let context = unsafe { &mut *context };
        context.number += 1;
        context.start_fx = start.fx;
        context.start =
            Words { gpr: start.gpr, rip: start.rip, rflags: start.rflags, fs: start.fs_base, gs: start.gs_base };
        context.error = 0;
        context.address = 0;
    }
    enter();
    pages.look();
    {
        // SAFETY: as above.
        let context = unsafe { &*context };
        let end = &context.end;
        let rip = if context.event == THROUGH_MARK { layout::THROUGH } else { end.rip };
        for word in end.gpr.iter().chain([&rip, &end.rflags, &end.fs, &end.gs]) {
            answer.extend_from_slice(&word.to_le_bytes());
        }
        answer.extend_from_slice(&context.end_fx);
        let [es, cs, ss, ds, fs, gs, ..] = context.selectors.map(u64::from);
        let low = es | cs << 16 | ss << 32 | ds << 48;
        for word in [context.event, context.error, context.address, low, fs | gs << 16] {
            answer.extend_from_slice(&word.to_le_bytes());
        }
    }
    let count_at = answer.len();
    answer.extend_from_slice(&[0; 8]);
    let mut count = 0u64;
    case::changes(image, &pages.now, |at, word| {
        answer.extend_from_slice(&u64::from(at).to_le_bytes());
        answer.extend_from_slice(&word.to_le_bytes());
        count += 1;
    });
    answer[count_at..count_at + 8].copy_from_slice(&count.to_le_bytes());
    case::unplace(start.rip, code, image);
}
