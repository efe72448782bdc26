//! A vTPM that is killed, again and again, at random points: what it has answered is there afterwards, and what it was
//! doing is there or not.
//!
//! This program starts itself as the process that is killed. Another seed: `BULLA_CRASH_SEED=… cargo test`.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use bulla_tpm_types::{Digest, Handle, HashAlg, NvAttributes, NvPublic, StartupType, command, response, rh};
use bulla_vtpm::engine::Tpm;
use bulla_vtpm::{platform, state};

/// Writes that succeed before the test is content.
const WRITES: u64 = 1000;
const INDEX: Handle = Handle(0x0150_0001);
const FOLDER: &str = "BULLA_CRASH_FOLDER";

fn run(tpm: &mut Tpm, command: &[u8]) -> Vec<u8> {
    tpm.execute(0, command)
}

/// The TPM of a folder, started.
fn started(folder: &Path) -> Tpm {
    let options = state::Options { key: state::KeySource::Beside, ..state::Options::default() };
    let mut tpm = platform::start(state::open(folder, options).expect("a state or none")).expect("a state").tpm;
    tpm.init();
    response::parse_empty(&run(&mut tpm, &command::startup(StartupType::Clear))).expect("startup");
    tpm
}

/// What the index holds; `None` when there is none or nothing was written.
fn value(tpm: &mut Tpm) -> Option<u64> {
    let bytes = run(tpm, &command::nv_read(rh::OWNER, INDEX, 8, 0));
    response::parse_nv_read(&bytes).ok().map(|v| u64::from_be_bytes(v.try_into().expect("8 bytes")))
}

/// The process that is killed: counts up in NV, and says each number once its write was answered.
#[test]
#[ignore = "started by the other test"]
fn victim() {
    let folder = env::var(FOLDER).expect("a folder");
    let mut tpm = started(Path::new(&folder));
    let mut next = value(&mut tpm).map_or(0, |v| v + 1);
    if next == 0 {
        let attributes = NvAttributes::OWNER_READ.with(NvAttributes::OWNER_WRITE).with(NvAttributes::NO_DA);
        let public =
            NvPublic { index: INDEX, name_alg: HashAlg::Sha256, attributes, auth_policy: Digest::EMPTY, data_size: 8 };
        // It may be there, from before a kill, without a value.
        run(&mut tpm, &command::nv_define_space(rh::OWNER, &[], &public));
    }
    let mut out = std::io::stdout();
    loop {
        let written = run(&mut tpm, &command::nv_write(rh::OWNER, INDEX, &next.to_be_bytes(), 0));
        response::parse_empty(&written).expect("written");
        writeln!(out, "answered {next}").and_then(|()| out.flush()).expect("somebody listens");
        next += 1;
    }
}

/// xorshift64*: enough to choose moments.
struct Moments(u64);

impl Moments {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

#[test]
fn killed_at_random_points_in_a_thousand_writes_it_starts_with_the_old_or_the_new_value() {
    let seed = env::var("BULLA_CRASH_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
    eprintln!("BULLA_CRASH_SEED={seed}");
    let mut moments = Moments(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut answered: Option<u64> = None;
    let mut kills = 0;
    while answered.is_none_or(|n| n < WRITES) {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // Now and then before it has said anything: in the middle of its start.
        let enough = moments.below(60);
        let mut said = 0;
        while said < enough {
            let Some(Ok(line)) = lines.next() else { panic!("it ended by itself: {:?}", child.wait()) };
            if let Some(n) = line.split("answered ").nth(1) {
                answered = Some(n.trim().parse().expect("a number"));
                said += 1;
            }
        }
        sleep(Duration::from_micros(moments.below(3000)));
        child.kill().expect("killed");
        assert_eq!(child.wait().expect("its end").signal(), Some(9));
        kills += 1;
        // What it said between the last line read and its end.
        for line in lines.map_while(Result::ok) {
            if let Some(n) = line.split("answered ").nth(1).and_then(|n| n.trim().parse().ok()) {
                answered = Some(n);
            }
        }
        let found = value(&mut started(folder.path()));
        let old_or_new = found == answered || found == Some(answered.map_or(0, |n| n + 1));
        assert!(old_or_new, "answered {answered:?}, found {found:?}, after {kills} kills, seed {seed}");
        answered = found;
    }
    assert!(kills >= 10, "{kills}");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 2, "state and key, and nothing left over");
}
