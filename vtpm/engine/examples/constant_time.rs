//! Whether what the engine does with secrets takes the same path whatever they are: `./x constant-time`.
//!
//! Nothing is timed. The program single-steps itself (the processor's trap flag) from marker to marker and compares the
//! sequences of instruction addresses: exact and the same in each run, on a busy machine, too. What may differ only in
//! secrets has to take the very same instructions. One group leaks on purpose and has to be caught. What this
//! cannot see are memory accesses at secret addresses and instructions that take their time by their operands; there
//! is no such table in the code, and no division of secrets but by crypto-bigint's routines.
//!
//! Commands go through the engine as anybody's do. A step takes a trap, some microseconds, so what would take too many is
//! traced by itself: the RSA modules, which the engine keeps to itself, are compiled into this program from the same files,
//! the private operation with a key of 512 bits, and the paddings as functions.
extern crate alloc;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bulla_tpm_types::command::{self, Builder};
use bulla_tpm_types::{
    AsymScheme, Auth, AuthCommand, EccParameter, EccParms, EccPoint, Handle, HashAlg, Nonce, ObjectAttributes, Public,
    PublicKind, Reader, SessionAttributes, StartupType, cc, hash, response, rh, templates,
};
use bulla_vtpm_engine::{Clock, Entropy, EntropyError, Tpm};
use secret::Secret;
use zeroize::Zeroizing;

#[path = "../src/crypto.rs"]
#[expect(dead_code, reason = "the engine's")]
mod crypto;
#[path = "../src/drbg.rs"]
#[expect(dead_code, reason = "the engine's")]
mod drbg;
mod platform {
    pub(crate) use bulla_vtpm_engine::{Entropy, EntropyError};
}
#[path = "../src/secret.rs"]
#[expect(dead_code, reason = "the engine's")]
mod secret;
#[expect(dead_code, reason = "the engine's")]
#[path = "../src/rsa"]
mod rsa {
    use super::{HashAlg, Secret};

    #[path = "key.rs"]
    mod key;
    #[path = "montgomery.rs"]
    mod montgomery;
    #[path = "padding.rs"]
    mod padding;
    #[path = "prime.rs"]
    mod prime;

    pub(super) fn oaep_message(alg: HashAlg, label: &[u8], encoded: Secret) -> Option<Secret> {
        padding::oaep_message(alg, label, encoded)
    }

    pub(super) fn rsaes_message(encoded: &Secret) -> Option<Secret> {
        padding::rsaes_message(encoded)
    }

    /// The key of 512 bits of these primes.
    pub(super) fn key_of([p, q]: [Vec<u8>; 2]) -> key::PrivateKey {
        let number = |octets: &[u8]| key::number(octets, octets.len()).expect("whole words");
        key::PrivateKey::from_primes(number(&p), number(&q), 512, 65537).expect("a key")
    }
}

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
    // SAFETY: the kernel hands over a valid structure.
    let info = unsafe { &*info };
    // SAFETY: the kernel hands over a valid structure, to this handler alone.
    let context = unsafe { &mut *context };
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
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = step as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the action is complete; its handler's signature is that of SA_SIGINFO.
    let installed = unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut()) };
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

/// The answer to a command that must succeed.
fn succeed(tpm: &mut Tpm, command: &[u8]) -> Vec<u8> {
    let answer = tpm.execute(0, command);
    assert_eq!(answer[6..10], [0; 4], "{command:02x?}");
    answer
}

/// The trace of a command, which succeeds or not.
fn execute(tpm: &mut Tpm, command: &[u8], good: bool) -> Trace {
    let (answer, trace) = traced(|| tpm.execute(0, command));
    assert_eq!(answer[6..10] == [0; 4], good, "{answer:02x?}");
    trace
}

#[inline(never)]
fn leaky(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| black_box(a) == black_box(b))
}

/// The rows of the table, and whether each is as it should be.
struct Table {
    good: bool,
}

impl Table {
    fn new() -> Self {
        println!("{:<10}  {:>6}  {:>12}  what varies", "verdict", "traces", "instructions");
        Self { good: true }
    }

    /// A group of traces, which have to be the same, or not if it leaks on purpose.
    fn row(&mut self, name: &str, traces: &[Trace], leaks: bool) {
        let differ = traces.iter().any(|t| *t != traces[0]);
        let verdict = match (differ, leaks) {
            (true, true) => "caught",
            (false, false) => "equal",
            (true, false) => "DIFFER",
            (false, true) => "NOT CAUGHT",
        };
        let mut counts: Vec<String> = traces.iter().map(|t| t.instructions.to_string()).collect();
        counts.dedup();
        println!("{verdict:<10}  {:>6}  {:>12}  {name}", traces.len(), counts.join(", "));
        self.good &= differ == leaks;
    }
}

fn main() -> ExitCode {
    handle_traps();
    let mut table = Table::new();
    let leaks = [0, 7, 15].map(|at| {
        let (a, mut b) = ([0x11; 16], [0x11; 16]);
        b[at] = 0;
        traced(|| leaky(black_box(&a), black_box(&b))).1
    });
    table.row("a comparison that ends early, on purpose: has to be caught", &leaks, true);
    authorizations(&mut table);
    paddings(&mut table);
    private_operations(&mut table);
    curves(&mut table);
    if table.good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn started() -> Tpm {
    let mut tpm = Tpm::manufacture(Box::new(Platform(1)), Box::new(Platform(0)));
    tpm.init();
    succeed(&mut tpm, &command::startup(StartupType::Clear));
    tpm
}

/// Octets that differ from the right ones in the first, the last, one amid, and all places.
fn wrong(right: &[u8]) -> Vec<Vec<u8>> {
    let touched = |range: std::ops::Range<usize>| {
        let mut octets = right.to_vec();
        octets[range].iter_mut().for_each(|o| *o ^= 0x55);
        octets
    };
    let last = right.len() - 1;
    vec![touched(0..1), touched(last..last + 1), touched(last / 2..last / 2 + 1), touched(0..last + 1)]
}

/// Passwords and HMACs that are wrong, whole commands.
fn authorizations(table: &mut Table) {
    let mut tpm = started();
    let (sealed, name) = sealed(&mut tpm);
    let unseal = |auth: AuthCommand| Builder::with_sessions(cc::UNSEAL, &[sealed], &[auth]).build();
    let password = |password: &[u8]| unseal(AuthCommand::password(password).unwrap());
    succeed(&mut tpm, &password(PASSWORD));
    // What has been executed once finds its symbols bound and its tests passed.
    execute(&mut tpm, &password(b"xxxxxxxxxxxxxxxx"), false);
    let traces: Vec<_> = wrong(PASSWORD).iter().map(|w| execute(&mut tpm, &password(w), false)).collect();
    table.row("where a password is wrong (TPM2_Unseal)", &traces, false);

    let nonce = [7; 16];
    let start = Builder::new(cc::START_AUTH_SESSION, &[rh::NULL, rh::NULL]).params(|w| {
        w.tpm2b(&nonce);
        w.tpm2b(&[]);
        // An HMAC session without symmetric algorithm, with SHA-256.
        w.bytes(&[0, 0, 0x10, 0, 0x0b]);
    });
    let answer = succeed(&mut tpm, &start.build());
    let answer = response::parse(&answer, true).unwrap();
    let session = answer.handle.unwrap();
    let nonce_tpm = Reader::new(answer.params).tpm2b(64, "nonceTPM").unwrap().to_vec();
    // Part 1, 16.7 and 19.6.5.
    let cp_hash = hash::digest(HashAlg::Sha256, &[&cc::UNSEAL.to_be_bytes(), &name]);
    let right = crypto::hmac(HashAlg::Sha256, PASSWORD, &[cp_hash.as_bytes(), &nonce, &nonce_tpm, &[1]]);
    let with_hmac = |hmac: &[u8]| {
        let attributes = SessionAttributes::CONTINUE_SESSION;
        unseal(AuthCommand {
            handle: session,
            nonce: Nonce::new(&nonce).unwrap(),
            attributes,
            hmac: Auth::new(hmac).unwrap(),
        })
    };
    execute(&mut tpm, &with_hmac(&[0; 32]), false);
    let traces: Vec<_> = wrong(right.as_bytes()).iter().map(|w| execute(&mut tpm, &with_hmac(w), false)).collect();
    table.row("where an HMAC is wrong (TPM2_Unseal)", &traces, false);
    // That HMAC was the one to be wrong about.
    succeed(&mut tpm, &with_hmac(right.as_bytes()));
}

/// What is wrong with a padding, and what is in one that is right.
fn paddings(table: &mut Table) {
    const SIZE: usize = 128;
    let alg = HashAlg::Sha256;
    let label = b"label\0";
    let label_hash = hash::digest(alg, &[label]);
    // lHash, zeros, a one, the message; before them the first octet, and a seed that has a part in where nothing is.
    let block = |message: &[u8]| {
        let mut db = vec![0; SIZE - 33];
        db[..32].copy_from_slice(label_hash.as_bytes());
        let at = db.len() - message.len();
        db[at - 1] = 1;
        db[at..].copy_from_slice(message);
        db
    };
    let encode = |first: u8, seed: u8, db: &[u8]| {
        let (mut seed, mut db) = (vec![seed; 32], db.to_vec());
        mask(alg, &seed, &mut db);
        mask(alg, &db, &mut seed);
        Zeroizing::new([vec![first], seed, db].concat().into_boxed_slice())
    };
    let decode = |encoded: &Secret, good: bool| {
        let encoded = encoded.clone();
        let (message, trace) = traced(|| rsa::oaep_message(alg, label, encoded));
        assert_eq!(message.is_some(), good);
        trace
    };
    let (first, second) = (block(&[0; 16]), block(&[0xff; 16]));
    decode(&encode(0, 1, &first), true);
    let traces = [(1, &first), (2, &first), (1, &second), (0xff, &second)].map(|(s, b)| decode(&encode(0, s, b), true));
    table.row("message and seed of a right OAEP padding", &traces, false);
    let changed = |at: usize, to: u8| {
        let mut db = first.clone();
        db[at] = to;
        encode(0, 1, &db)
    };
    let mut no_one = first.clone();
    no_one[32..].fill(0);
    let mut blocks = vec![encode(1, 1, &first), encode(0xff, 2, &second), encode(0, 1, &no_one)];
    // The label's first octet and last, the octets after it, each of them, and the end of the padding.
    blocks.extend([0, 31].map(|at| changed(at, label_hash.as_bytes()[at] ^ 0x80)));
    blocks.extend((32..first.len() - 16).map(|at| changed(at, 2)));
    decode(&blocks[0], false);
    let traces: Vec<_> = blocks.iter().map(|block| decode(block, false)).collect();
    table.row("what is wrong with an OAEP padding, and where", &traces, false);

    let encode = |head: [u8; 2], zero: Option<usize>, message: u8| {
        let mut encoded = vec![0xa5; SIZE];
        encoded[..2].copy_from_slice(&head);
        if let Some(at) = zero {
            encoded[at] = 0;
            encoded[at + 1..].fill(message);
        }
        Zeroizing::new(encoded.into_boxed_slice())
    };
    let decode = |encoded: &Secret, good: bool| {
        let (message, trace) = traced(|| rsa::rsaes_message(encoded));
        assert_eq!(message.is_some(), good);
        trace
    };
    decode(&encode([0, 2], Some(100), 0), true);
    let traces = [0, 1, 0xff].map(|message| decode(&encode([0, 2], Some(100), message), true));
    table.row("message of a right RSAES padding", &traces, false);
    let mut blocks = vec![encode([0, 2], None, 0)];
    blocks.extend([[0, 1], [1, 2], [0xff, 0xff]].map(|head| encode(head, Some(100), 0)));
    blocks.extend((2..10).map(|at| encode([0, 2], Some(at), 0x5a)));
    blocks.extend((10..SIZE - 1).map(|at| encode([0, 0], Some(at), 0x5a)));
    decode(&blocks[0], false);
    let traces: Vec<_> = blocks.iter().map(|block| decode(block, false)).collect();
    table.row("what is wrong with an RSAES padding, and where", &traces, false);
}

/// XORs MGF1 of a seed (RFC 8017, B.2.1).
fn mask(alg: HashAlg, seed: &[u8], data: &mut [u8]) {
    for (counter, block) in (0u32..).zip(data.chunks_mut(alg.size())) {
        let mask = hash::digest(alg, &[seed, &counter.to_be_bytes()]);
        block.iter_mut().zip(mask.as_bytes()).for_each(|(b, m)| *b ^= m);
    }
}

/// Primes of 256 bits: a key of 512 takes the instructions that longer ones repeat.
const PRIMES: [[&str; 2]; 2] = [
    [
        "f774eb5248db40af72158370d269a9a5ae658f33fe3b890b93f448b3a5aa3c81",
        "de7d6b377936d536243d35702c1eea1f265974a7cc966f46c6aa7d550101b811",
    ],
    [
        "c2b38755cd37880e16ac4191a26aa0ae044f1574f037afc644d82a531289bafb",
        "cf28f65e408fc146794ec926bc9e28eabee8062610e8ad0186a74a63a8c7d9e1",
    ],
];

/// The RSA private operation: keys, ciphertexts and blindings.
fn private_operations(table: &mut Table) {
    let unhex = |digits: &str| -> Vec<u8> {
        digits.as_bytes().chunks(2).map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    };
    let keys = PRIMES.map(|primes| rsa::key_of(primes.map(unhex)));
    let apply = |(key, input, seed): (usize, u8, u8)| {
        let mut random = drbg::Drbg::new(&[&[seed]]);
        let input = [vec![0x11], vec![input; 63]].concat();
        let (result, trace) = traced(|| keys[key].apply(&mut random, &input));
        assert!(result.is_some());
        trace
    };
    let traces = [(0, 0, 1), (1, 0xff, 2)].map(apply);
    table.row("RSA-512 private operation: key, input, blinding", &traces, false);
}

/// ECDSA and ECDH with P-256, whole commands.
fn curves(table: &mut Table) {
    let mut tpm = started();
    let keys = [1, 2].map(|number| {
        let unique = EccPoint { x: EccParameter::new(&[number]).unwrap(), y: EccParameter::default() };
        // signs and decrypts, unrestricted.
        let attributes = ObjectAttributes::from_bits(0x6_0472);
        let PublicKind::Ecc { parms, .. } = templates::ak_p256().kind else { unreachable!() };
        let parms = EccParms { scheme: AsymScheme::Null, ..parms };
        let public = Public { attributes, kind: PublicKind::Ecc { parms, unique }, ..templates::ak_p256() };
        let bytes = succeed(&mut tpm, &command::create_primary(rh::OWNER, &public));
        let created = response::parse_create_primary(&bytes).unwrap();
        let PublicKind::Ecc { unique, .. } = created.public.kind else { unreachable!() };
        (created.handle, unique)
    });
    let sign = |key: Handle, digest: u8| {
        let command = Builder::with_empty_auth(cc::SIGN, &[key], 1).params(|w| {
            w.tpm2b(&[digest; 32]);
            w.put(&AsymScheme::Ecdsa(HashAlg::Sha256));
            // No ticket: TPM_ST_HASHCHECK, TPM_RH_NULL.
            w.bytes(&[0x80, 0x24, 0x40, 0, 0, 7, 0, 0]);
        });
        command.build()
    };
    succeed(&mut tpm, &sign(keys[0].0, 9));
    let traces = [(0, 1), (1, 0xff)].map(|(key, digest)| execute(&mut tpm, &sign(keys[key].0, digest), true));
    table.row("TPM2_Sign with ECDSA and P-256: key, digest, nonce", &traces, false);
    let z_gen = |key: Handle, point: &EccPoint| {
        Builder::with_empty_auth(cc::ECDH_ZGEN, &[key], 1).params(|w| w.sized(|w| w.put(point))).build()
    };
    succeed(&mut tpm, &z_gen(keys[0].0, &keys[1].1));
    let traces = [0, 1].map(|key| execute(&mut tpm, &z_gen(keys[key].0, &keys[0].1), true));
    table.row("TPM2_ECDH_ZGen with P-256: key", &traces, false);
}

/// Sealed data with a password of 16 octets and its Name; not protected against dictionary attacks, which counts tries.
fn sealed(tpm: &mut Tpm) -> (Handle, Vec<u8>) {
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
    let created = response::parse_create_primary(&succeed(tpm, &command.build())).unwrap();
    (created.handle, created.public.name().as_bytes().to_vec())
}
