//! The two TPMs that are compared.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulla_tpm_types::HashAlg;
use bulla_vtpm_engine::{Clock, Entropy, EntropyError, Profile, Tpm};

use super::rng::Rng;

/// How long swtpm may take for a command before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// A swtpm with an empty state, powered on and started; killed and reaped when dropped.
pub(crate) struct Swtpm {
    stream: TcpStream,
    process: Child,
    dir: PathBuf,
}

impl Swtpm {
    /// `None` where swtpm is not installed.
    pub(crate) fn start() -> Option<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let dir = std::env::temp_dir().join(format!("bulla-vtpm-differential-{}-{port}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let mut process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", dir.display()))
            .args(["--server", &format!("type=tcp,port={port}")])
            .stdout(Stdio::null())
            .spawn()
            .inspect_err(|_| fs::remove_dir_all(&dir).unwrap())
            .ok()?;
        let stream = loop {
            assert!(process.try_wait().unwrap().is_none(), "swtpm ended");
            if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                break stream;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(Self { stream, process, dir })
    }

    /// Its response. It waits for ten octets, so `command` has at least these.
    pub(crate) fn run(&mut self, command: &[u8]) -> Vec<u8> {
        self.stream.write_all(command).expect("swtpm takes commands");
        let mut answer = vec![0; 10];
        self.stream.read_exact(&mut answer).expect("swtpm answers");
        let size = u32::from_be_bytes(answer[2..6].try_into().unwrap());
        answer.resize(usize::try_from(size).unwrap(), 0);
        self.stream.read_exact(&mut answer[10..]).expect("swtpm answers all");
        answer
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Entropy of a seed, so that a run can be repeated.
struct Seeded(Rng);

impl Entropy for Seeded {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), EntropyError> {
        buf.iter_mut().for_each(|b| *b = self.0.byte());
        Ok(())
    }
}

struct Since(Instant);

impl Clock for Since {
    fn now_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// Our engine with the banks that swtpm begins with, after Startup(CLEAR).
pub(crate) fn ours(seed: u64) -> Tpm {
    let profile = Profile::default().banks(&HashAlg::ALL).unwrap();
    let mut tpm = Tpm::manufacture_as(&profile, Box::new(Seeded(Rng::new(seed))), Box::new(Since(Instant::now())));
    tpm.init();
    assert_eq!(tpm.execute(0, b"\x80\x01\0\0\0\x0c\0\0\x01\x44\0\0")[6..], [0; 4]);
    tpm
}
