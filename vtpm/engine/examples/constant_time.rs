//! Whether what the engine does with secrets takes the same path whatever they are:
//! `cargo run --release -p bulla-vtpm-engine --example constant_time`.
//!
//! Nothing is timed. The program single-steps itself (the processor's trap flag) from marker to marker and compares the
//! sequences of instruction addresses: exact and the same in each run, on a busy machine, too. Commands that may differ
//! only in secrets have to take the very same instructions. One group leaks on purpose and has to be caught. What this
//! cannot see are memory accesses at secret addresses and instructions that take their time by their operands; there
//! is no such table in the code, and no division of secrets but by crypto-bigint's routines.
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bulla_tpm_types::command::{self, Builder};
use bulla_tpm_types::{
    AsymScheme, AuthCommand, Handle, HashAlg, ObjectAttributes, Public, PublicKeyRsa, PublicKind, Reader, RsaParms,
    StartupType, Symmetric, cc, response, rh, templates,
};
use bulla_vtpm_engine::{Clock, Entropy, EntropyError, Tpm};

const BITS: u16 = 1024;
const SIZE: usize = BITS as usize / 8;
const PASSWORD: &[u8; 16] = b"aaaaaaaabaaaaaaa";

/// An allocator that never gives the same place twice and always aligns alike: its path depends on nothing.
struct Bump {
    arena: UnsafeCell<[u8; ARENA]>,
    used: AtomicUsize,
}
const ARENA: usize = 1 << 30;
const ALIGN: usize = 64;

// SAFETY: each octet of the arena is handed out once.
unsafe impl Sync for Bump {}

// SAFETY: what is returned is in the arena, aligned to ALIGN (nothing here wants more), and nobody else's.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().next_multiple_of(ALIGN);
        let base = self.arena.get() as usize;
        let first = base.next_multiple_of(ALIGN) - base;
        let at = first + self.used.fetch_add(size, Ordering::Relaxed);
        if layout.align() > ALIGN || at + size > ARENA {
            return std::ptr::null_mut();
        }
        // SAFETY: at + size is inside the arena.
        unsafe { self.arena.get().cast::<u8>().add(at) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static BUMP: Bump = Bump { arena: UnsafeCell::new([0; ARENA]), used: AtomicUsize::new(0) };

struct Platform(u8);

impl Entropy for Platform {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), EntropyError> {
        for b in buf {
            *b = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

impl Clock for Platform {
    fn now_ms(&self) -> u64 {
        0
    }
}

/// Where stepping begins and ends.
#[inline(never)]
fn mark() {
    // SAFETY: a breakpoint, which comes back from `step`.
    unsafe { std::arch::asm!("int3") };
}

/// How many instructions a region took, and a digest of where they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trace {
    instructions: u64,
    digest: u64,
}

static INSTRUCTIONS: AtomicU64 = AtomicU64::new(0);
static DIGEST: AtomicU64 = AtomicU64::new(0);

/// The handler of SIGTRAP: a breakpoint turns stepping on and off, a step is recorded.
extern "C" fn step(_: libc::c_int, info: *const libc::siginfo_t, context: *mut libc::ucontext_t) {
    const TRAP_FLAG: i64 = 1 << 8;
    // SAFETY: the kernel hands over valid structures, to this handler alone.
    let (info, context) = unsafe { (&*info, &mut *context) };
    let registers = &mut context.uc_mcontext.gregs;
    if info.si_code == libc::TRAP_TRACE {
        let at = registers[libc::REG_RIP as usize].cast_unsigned();
        let digest = (DIGEST.load(Ordering::Relaxed) ^ at).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        DIGEST.store(digest, Ordering::Relaxed);
        INSTRUCTIONS.fetch_add(1, Ordering::Relaxed);
    } else {
        registers[libc::REG_EFL as usize] ^= TRAP_FLAG;
    }
}

fn handle_traps() {
    // SAFETY: all zeros is a valid sigaction, which the handler completes; its signature is that of SA_SIGINFO.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = step as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(installed, 0, "sigaction");
}

fn traced<T>(run: impl FnOnce() -> T) -> (T, Trace) {
    INSTRUCTIONS.store(0, Ordering::Relaxed);
    DIGEST.store(0, Ordering::Relaxed);
    mark();
    let result = run();
    mark();
    let trace = Trace { instructions: INSTRUCTIONS.load(Ordering::Relaxed), digest: DIGEST.load(Ordering::Relaxed) };
    (black_box(result), trace)
}

/// Executes a command, which succeeds or not.
fn execute(tpm: &mut Tpm, command: &[u8], good: bool) -> Trace {
    let (answer, trace) = traced(|| tpm.execute(0, command));
    assert_eq!(answer[6..10] == [0; 4], good, "{answer:02x?}");
    trace
}

fn key(tpm: &mut Tpm, number: u8) -> Handle {
    let parms = RsaParms { symmetric: Symmetric::Null, scheme: AsymScheme::Null, key_bits: BITS, exponent: 0 };
    let unique = PublicKeyRsa::new(&[number]).unwrap();
    let attributes = ObjectAttributes::from_bits(0x2_0472);
    let public = Public { attributes, kind: PublicKind::Rsa { parms, unique }, ..templates::ak_rsa2048() };
    let bytes = tpm.execute(0, &command::create_primary(rh::OWNER, &public));
    response::parse_create_primary(&bytes).unwrap().handle
}

fn encrypt(tpm: &mut Tpm, key: Handle, scheme: AsymScheme, message: &[u8]) -> Vec<u8> {
    let command = Builder::new(cc::RSA_ENCRYPT, &[key]).params(|w| {
        w.tpm2b(message);
        w.put(&scheme);
        w.tpm2b(&[]);
    });
    let bytes = tpm.execute(0, &command.build());
    Reader::new(response::parse(&bytes, false).unwrap().params).tpm2b(SIZE, "outData").unwrap().to_vec()
}

fn decrypt(key: Handle, scheme: AsymScheme, encrypted: &[u8], password: &[u8]) -> Vec<u8> {
    let auth = AuthCommand::password(password).unwrap();
    let command = Builder::with_sessions(cc::RSA_DECRYPT, &[key], &[auth]).params(|w| {
        w.tpm2b(encrypted);
        w.put(&scheme);
        w.tpm2b(&[]);
    });
    command.build()
}

#[inline(never)]
fn leaky(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| black_box(a) == black_box(b))
}

/// Whether the traces of a group are the same, or not if it leaks on purpose.
fn judge(name: &str, traces: &[Trace], must_differ: bool) -> bool {
    let differ = traces.iter().any(|t| *t != traces[0]);
    let verdict = match (differ, must_differ) {
        (true, true) => "caught",
        (false, false) => "equal",
        (true, false) => "DIFFER",
        (false, true) => "NOT CAUGHT",
    };
    let counts: Vec<_> = traces.iter().map(|t| t.instructions).collect();
    println!("{verdict}: {name}: {counts:?} instructions");
    differ == must_differ
}

fn main() -> ExitCode {
    handle_traps();
    let mut tpm = Tpm::manufacture(Box::new(Platform(1)), Box::new(Platform(0)));
    tpm.init();
    tpm.execute(0, &command::startup(StartupType::Clear));
    let keys = [key(&mut tpm, 1), key(&mut tpm, 2)];
    let oaep = AsymScheme::Oaep(HashAlg::Sha256);
    let mut ciphertexts = Vec::new();
    for (key, message) in [(keys[0], [0; 16]), (keys[0], [0xff; 16]), (keys[1], [0; 16]), (keys[1], [0x5a; 16])] {
        ciphertexts.push((key, encrypt(&mut tpm, key, oaep, &message)));
    }
    // What has been executed once finds its symbols bound and its tests passed.
    let warm = decrypt(keys[0], oaep, &ciphertexts[0].1, b"");
    assert_eq!(tpm.execute(0, &warm)[6..10], [0; 4]);

    let leaks = [0, 7, 15].map(|at| {
        let (a, mut b) = ([0x11; 16], [0x11; 16]);
        b[at] = 0;
        traced(|| leaky(black_box(&a), black_box(&b))).1
    });
    let mut good = judge("a comparison that ends early, on purpose", &leaks, true);

    let sealed = sealed(&mut tpm);
    let unseal = |password: &[u8; 16]| {
        let auth = AuthCommand::password(password).unwrap();
        Builder::with_sessions(cc::UNSEAL, &[sealed], &[auth]).build()
    };
    tpm.execute(0, &unseal(b"xxxxxxxxxxxxxxxx"));
    // PASSWORD with the first octet wrong, the last, one amid, and all.
    let wrong = [b"baaaaaaabaaaaaaa", b"aaaaaaaabaaaaaab", b"aaaaaaaacaaaaaaa", b"bbbbbbbbabbbbbbb"];
    let traces: Vec<_> = wrong.iter().map(|w| execute(&mut tpm, &unseal(w), false)).collect();
    good &= judge("where a password is wrong", &traces, false);

    let traces: Vec<_> =
        ciphertexts.iter().map(|(key, c)| execute(&mut tpm, &decrypt(*key, oaep, c, b""), true)).collect();
    good &= judge("RSA_Decrypt with OAEP: keys and ciphertexts", &traces, false);

    for (name, scheme, paddings) in [("OAEP", oaep, wrong_oaep()), ("RSAES", AsymScheme::Rsaes, wrong_rsaes())] {
        let mut trace = |padding: &Vec<u8>| {
            let encrypted = encrypt(&mut tpm, keys[0], AsymScheme::Null, padding);
            execute(&mut tpm, &decrypt(keys[0], scheme, &encrypted, b""), false)
        };
        let traces: Vec<_> = paddings.iter().map(&mut trace).collect();
        good &= judge(&format!("RSA_Decrypt with {name}: what is wrong with the padding"), &traces, false);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sealed data with a password of 16 octets, not protected against dictionary attacks, which counts tries.
fn sealed(tpm: &mut Tpm) -> Handle {
    let kind = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
    let attributes = ObjectAttributes::from_bits(0x452);
    let public = Public { attributes, kind, ..templates::ak_p256() };
    let command = Builder::with_empty_auth(cc::CREATE_PRIMARY, &[rh::OWNER], 1).params(|w| {
        w.sized(|w| {
            w.tpm2b(PASSWORD);
            w.tpm2b(b"data");
        });
        w.sized(|w| w.put(&public));
        w.tpm2b(&[]);
        w.u32(0);
    });
    response::parse(&tpm.execute(0, &command.build()), true).unwrap().handle.unwrap()
}

/// Encoded messages that are wrong in their first octet, their label, before the message, and everywhere.
fn wrong_oaep() -> Vec<Vec<u8>> {
    // Masks make of these what looks random, and begins otherwise than a message.
    [0x01, 0x00, 0x02, 0x7f].into_iter().map(|first| [&[first][..], &[first ^ 0x3c; SIZE - 1]].concat()).collect()
}

/// Encoded messages that have a wrong type, another, no end of the filler, and too early a one.
fn wrong_rsaes() -> Vec<Vec<u8>> {
    let with = |first: [u8; 2], zero: Option<usize>| {
        let mut encoded = vec![0xa5; SIZE];
        encoded[..2].copy_from_slice(&first);
        if let Some(at) = zero {
            encoded[at] = 0;
        }
        encoded
    };
    vec![with([0, 1], Some(100)), with([1, 2], Some(20)), with([0, 2], None), with([0, 2], Some(5))]
}
