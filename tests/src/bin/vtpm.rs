//! bulla-vtpm and swtpm side by side: the same commands over the same socket protocol, to both in turn. Prints medians and
//! the ratio; fails only if something does not work, never because of a time.
//!
//! Both keep their state in a folder of the same file system and get one connection over loopback TCP. What stores is measured twice: with
//! the state on the disk, where bulla-vtpm flushes what it answers for and swtpm 0.7 does not, and in memory (/dev/shm), where a flush costs
//! nothing. A key is generated
//! from another template each time, because the time that a search for primes takes differs from key to key.
#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use bulla_tests::program;
use bulla_tpm_types::command::{self as tpm, Builder};
use bulla_tpm_types::{
    AsymScheme, EccParms, EccPoint, Ha, Handle, HashAlg, KdfScheme, NvAttributes, NvKind, NvPublic,
    ObjectAttributes as A, PcrSelection, PcrSelectionList, Public, PublicKeyRsa, PublicKind, RsaParms, StartupType,
    Symmetric, cc, ecc, hash, rh, st,
};
use clap::Parser;
use serde::Serialize;

/// Times bulla-vtpm and swtpm in turn, over the same socket protocol.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each cheap command is sent; a tenth as often the slow ones.
    #[arg(long, default_value_t = 300)]
    runs: usize,
    /// RSA-2048 keys to generate.
    #[arg(long, default_value_t = 60)]
    keys: usize,
    /// Only bulla-vtpm.
    #[arg(long)]
    no_peer: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

/// One line: medians of both, in its unit, and the ratio.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    unit: &'static str,
    bulla: f64,
    swtpm: Option<f64>,
    ratio: Option<f64>,
    aim: f64,
}

const PATIENCE: Duration = Duration::from_secs(20);

/// A TPM process with one connection; killed when dropped.
struct Tpm {
    process: Child,
    stream: TcpStream,
    _state: tempfile::TempDir,
    /// From spawning it to its answer to TPM2_Startup.
    start: Duration,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // Gone already if it failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Tpm {
    fn start(program: &PathBuf, place: &Path) -> Anything<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let state = tempfile::tempdir_in(place)?;
        let begun = Instant::now();
        let mut process = Command::new(program)
            .args(["socket", "--tpm2", "--flags", "not-need-init", "--tpmstate"])
            .arg(format!("dir={}", state.path().display()))
            .args(["--server", &format!("type=tcp,port={port}")])
            .stdout(Stdio::null())
            .spawn()?;
        let stream = loop {
            if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                break stream;
            }
            if let Some(status) = process.try_wait()? {
                return Err(format!("{} ended: {status}", program.display()).into());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} does not listen", program.display()).into());
            }
            thread::sleep(Duration::from_micros(200));
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut this = Self { process, stream, _state: state, start: Duration::ZERO };
        this.run(&tpm::startup(StartupType::Clear))?;
        this.start = begun.elapsed();
        Ok(this)
    }

    fn run(&mut self, command: &[u8]) -> Anything<Vec<u8>> {
        self.stream.write_all(command)?;
        let mut answer = vec![0; 4096];
        let mut got = 0;
        loop {
            got += match self.stream.read(answer.get_mut(got..).unwrap_or_default())? {
                0 => return Err("the TPM hung up".into()),
                n => n,
            };
            let Some(header) = answer.first_chunk::<10>().copied() else { continue };
            let size = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
            if got >= 10 && got >= usize::try_from(size)? {
                answer.truncate(got);
                let code = u32::from_be_bytes([header[6], header[7], header[8], header[9]]);
                return if code == 0 {
                    Ok(answer)
                } else {
                    Err(format!("{} answered {code:#x}", hex::encode(command)).into())
                };
            }
        }
    }

    /// A command whose response starts with a handle.
    fn handle(&mut self, command: &[u8]) -> Anything<Handle> {
        let answer = self.run(command)?;
        let bytes = answer.get(10..14).ok_or("no handle")?;
        Ok(Handle(u32::from_be_bytes(bytes.try_into()?)))
    }

    fn timed(&mut self, command: &[u8]) -> Anything<f64> {
        let begun = Instant::now();
        self.run(command)?;
        Ok(micros(begun.elapsed()))
    }

    /// Resident memory in 10⁶ bytes.
    fn resident(&self) -> Anything<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
        Ok(kib * 1024.0 / 1e6)
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

const KEY: A = A::FIXED_TPM.with(A::FIXED_PARENT).with(A::SENSITIVE_DATA_ORIGIN).with(A::USER_WITH_AUTH).with(A::NO_DA);

/// The template of a signing key whose `unique` field begins with `n`.
fn template(kind: PublicKind, restricted: bool) -> Public {
    let attributes = if restricted { KEY.with(A::SIGN).with(A::RESTRICTED) } else { KEY.with(A::SIGN) };
    Public { name_alg: Some(HashAlg::Sha256), attributes, auth_policy: Default::default(), kind }
}

fn p256(n: u32) -> Public {
    let parms = EccParms {
        symmetric: Symmetric::Null,
        scheme: AsymScheme::Ecdsa(HashAlg::Sha256),
        curve: ecc::NIST_P256,
        kdf: KdfScheme::Null,
    };
    let x = bulla_tpm_types::EccParameter::new(&n.to_be_bytes()).unwrap_or_default();
    template(PublicKind::Ecc { parms, unique: EccPoint { x, y: x } }, true)
}

fn rsa(n: u32, restricted: bool) -> Public {
    let parms = RsaParms {
        symmetric: Symmetric::Null,
        scheme: AsymScheme::Rsassa(HashAlg::Sha256),
        key_bits: 2048,
        exponent: 0,
    };
    let unique = PublicKeyRsa::new(&[n.to_be_bytes(); 64].concat()).unwrap_or_default();
    template(PublicKind::Rsa { parms, unique }, restricted)
}

/// Sign with the key's own scheme and a NULL ticket: the key is not restricted.
fn sign(key: Handle) -> Vec<u8> {
    let digest = hash::digest(HashAlg::Sha256, &[b"something to sign"]);
    Builder::with_empty_auth(cc::SIGN, &[key], 1)
        .params(|w| {
            w.tpm2b(digest.as_bytes());
            w.put(&AsymScheme::Null);
            w.u16(st::HASHCHECK);
            w.put(&rh::NULL);
            w.tpm2b(&[]);
        })
        .build()
}

const INDEX: Handle = Handle(0x0180_0001);
const FIRST_OBJECT: Handle = Handle(0x8000_0000);

/// What is timed: a name, a unit, the aim, and how one measurement is taken.
type Measurement = fn(&mut Tpm, u32) -> Anything<f64>;

/// Each with how often it is taken: in runs, in tenths of runs, or as many as keys.
enum Often {
    Always,
    Tenth,
    Keys,
}

fn selection(pcrs: &[u32]) -> Anything<PcrSelectionList> {
    PcrSelectionList::from_slice(&[PcrSelection::new(HashAlg::Sha256, pcrs)]).ok_or_else(|| "too many".into())
}

const MEASUREMENTS: [(&str, f64, Often, Measurement); 13] = [
    ("GetRandom, 32 bytes", 1.0, Often::Always, |t, _| t.timed(&tpm::get_random(32))),
    ("PCR_Extend, SHA-256", 0.6, Often::Always, |t, n| {
        let digest: Ha = hash::digest(HashAlg::Sha256, &[&n.to_be_bytes()]);
        let digests = bulla_tpm_types::DigestValues::from_slice(&[digest]).unwrap_or_default();
        t.timed(&tpm::pcr_extend(10, &digests))
    }),
    ("PCR_Read, 8 PCRs", 1.0, Often::Always, |t, _| t.timed(&tpm::pcr_read(&selection(&[0, 1, 2, 3, 4, 5, 6, 7])?))),
    ("hash sequence of 4 KiB", 1.0, Often::Always, |t, _| {
        let block = [0x5a; 1024];
        let begun = Instant::now();
        let sequence = t.handle(&tpm::hash_sequence_start(Some(HashAlg::Sha256)))?;
        for _ in 0..3 {
            t.run(&tpm::sequence_update(sequence, &block))?;
        }
        t.run(&tpm::sequence_complete(sequence, &block, rh::NULL))?;
        Ok(micros(begun.elapsed()))
    }),
    ("CreatePrimary, P-256", 1.0, Often::Tenth, |t, n| created(t, &p256(n))),
    ("CreatePrimary, RSA-2048", 1.0, Often::Keys, |t, n| created(t, &rsa(n, true))),
    ("Quote, P-256", 0.6, Often::Tenth, |t, _| quoted(t, &p256(0))),
    ("Quote, RSA-2048", 1.0, Often::Tenth, |t, _| quoted(t, &rsa(0, true))),
    ("Sign, RSA-2048", 1.0, Often::Tenth, |t, _| {
        let key = t.handle(&tpm::create_primary(rh::OWNER, &rsa(0, false)))?;
        let taken = t.timed(&sign(key))?;
        t.run(&tpm::flush_context(key))?;
        Ok(taken)
    }),
    ("NV_Write, 32 bytes, on disk", 1.0, Often::Always, written),
    ("NV_Read, 32 bytes", 1.0, Often::Always, |t, _| t.timed(&tpm::nv_read(rh::OWNER, INDEX, 32, 0))),
    ("session start and flush", 1.0, Often::Always, |t, _| {
        let start = Builder::new(cc::START_AUTH_SESSION, &[rh::NULL, rh::NULL])
            .params(|w| {
                w.tpm2b(&[1; 32]);
                w.tpm2b(&[]);
                w.u8(0);
                w.put(&Symmetric::Null);
                w.put(&HashAlg::Sha256);
            })
            .build();
        let begun = Instant::now();
        let session = t.handle(&start)?;
        t.run(&tpm::flush_context(session))?;
        Ok(micros(begun.elapsed()))
    }),
    ("context save and load, P-256", 1.0, Often::Tenth, |t, n| {
        let key = t.handle(&tpm::create_primary(rh::OWNER, &p256(n)))?;
        let begun = Instant::now();
        let saved = t.run(&tpm::simple(cc::CONTEXT_SAVE, &key))?;
        t.run(&tpm::flush_context(key))?;
        let load = Builder::new(cc::CONTEXT_LOAD, &[]).params(|w| w.bytes(saved.get(10..).unwrap_or_default()));
        let loaded = t.handle(&load.build())?;
        let taken = micros(begun.elapsed());
        t.run(&tpm::flush_context(loaded))?;
        Ok(taken)
    }),
];

fn written(t: &mut Tpm, n: u32) -> Anything<f64> {
    if n == 0 {
        t.run(&tpm::nv_define_space(rh::OWNER, &[], &index()))?;
    }
    t.timed(&tpm::nv_write(rh::OWNER, INDEX, &[n as u8; 32], 0))
}

fn index() -> NvPublic {
    let attributes = NvKind::Ordinary.attributes().with(NvAttributes::OWNER_WRITE).with(NvAttributes::OWNER_READ);
    let attributes = attributes.with(NvAttributes::NO_DA);
    NvPublic { index: INDEX, name_alg: HashAlg::Sha256, attributes, auth_policy: Default::default(), data_size: 32 }
}

fn created(t: &mut Tpm, template: &Public) -> Anything<f64> {
    let taken = t.timed(&tpm::create_primary(rh::OWNER, template))?;
    t.run(&tpm::flush_context(FIRST_OBJECT))?;
    Ok(taken)
}

fn quoted(t: &mut Tpm, template: &Public) -> Anything<f64> {
    let key = t.handle(&tpm::create_primary(rh::OWNER, template))?;
    let quote = tpm::quote(key, b"nonce", &selection(&[0, 1, 2, 3, 4, 5, 6, 7])?);
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(t.timed(&quote)?);
    }
    t.run(&tpm::flush_context(key))?;
    median(&mut times).ok_or_else(|| "no quote".into())
}

fn median(samples: &mut [f64]) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

fn main() -> Anything<()> {
    let arguments = Arguments::parse();
    let ours = program("bulla-vtpm");
    let programs: Vec<PathBuf> = if arguments.no_peer { vec![ours] } else { vec![ours, "swtpm".into()] };
    let (disk, memory) = (std::env::temp_dir(), PathBuf::from("/dev/shm"));
    let times = arguments.runs.div_ceil(10);
    let mut rows = starts(&programs, times, &disk, "process start to first answer, on disk")?;
    if memory.is_dir() {
        rows.extend(starts(&programs, times, &memory, "process start to first answer")?.into_iter().take(1));
        let mut tpms = started(&programs, &memory)?;
        rows.push(measured(&mut tpms, "NV_Write, 32 bytes", 1.0, arguments.runs, written)?);
    }
    let mut tpms = started(&programs, &disk)?;
    for (name, aim, often, measure) in MEASUREMENTS {
        let times = match often {
            Often::Always => arguments.runs,
            Often::Tenth => arguments.runs.div_ceil(10),
            Often::Keys => arguments.keys,
        };
        rows.push(measured(&mut tpms, name, aim, times, measure)?);
    }
    let mut resident = tpms.iter().map(|t| Ok(vec![t.resident()?])).collect::<Anything<Vec<_>>>()?;
    rows.push(row("resident memory after all that", "MB", 1.0, &mut resident)?);

    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    println!("{:<40} {:>12} {:>12} {:>7}", "medians", "bulla-vtpm", "swtpm", "ratio");
    for row in &rows {
        let number = |n: Option<f64>, places| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.places$}"));
        let (ours, theirs) = (number(Some(row.bulla), 1), number(row.swtpm, 1));
        let ratio = number(row.ratio, 2);
        println!("{:<40} {ours:>9} {} {theirs:>9} {} {ratio:>7}  (aim <= {})", row.name, row.unit, row.unit, row.aim);
    }
    Ok(())
}

fn started(programs: &[PathBuf], place: &Path) -> Anything<Vec<Tpm>> {
    programs.iter().map(|program| Tpm::start(program, place)).collect()
}

/// Takes one measurement of each TPM in turn, `times` times.
fn measured(tpms: &mut [Tpm], name: &'static str, aim: f64, times: usize, measure: Measurement) -> Anything<Row> {
    eprintln!("{name}");
    let mut samples = vec![Vec::new(); tpms.len()];
    for n in 0..times.max(1) {
        for (tpm, samples) in tpms.iter_mut().zip(&mut samples) {
            samples.push(measure(tpm, u32::try_from(n)?)?);
        }
    }
    row(name, "µs", aim, &mut samples)
}

/// The time from spawning a process to its answer to TPM2_Startup, and its memory then. The state is new each time.
fn starts(programs: &[PathBuf], times: usize, place: &Path, name: &'static str) -> Anything<Vec<Row>> {
    eprintln!("{name}");
    let (mut time, mut memory) = (vec![Vec::new(); programs.len()], vec![Vec::new(); programs.len()]);
    for _ in 0..times.max(1) {
        for ((program, time), memory) in programs.iter().zip(&mut time).zip(&mut memory) {
            let tpm = Tpm::start(program, place)?;
            time.push(micros(tpm.start));
            memory.push(tpm.resident()?);
        }
    }
    Ok(vec![row(name, "µs", 0.6, &mut time)?, row("resident memory at start", "MB", 1.0, &mut memory)?])
}

fn row(name: &'static str, unit: &'static str, aim: f64, samples: &mut [Vec<f64>]) -> Anything<Row> {
    let mut medians = samples.iter_mut().filter_map(|s| median(s));
    let bulla = medians.next().ok_or("no sample")?;
    let swtpm = medians.next();
    Ok(Row { name, unit, bulla, swtpm, ratio: swtpm.map(|s| bulla / s), aim })
}
