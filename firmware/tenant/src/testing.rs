//! A machine for tests: the vTPM's own engine, a region on the heap, and patience counted in polls.

use alloc::boxed::Box;
use alloc::vec::Vec;
use std::sync::atomic::{AtomicU8, Ordering};

use bulla_boot_abi::mailbox::BenchKind;
use bulla_guest_rt::interface::InterfaceError;
use bulla_guest_rt::measure::Transport;
use bulla_tpm_types::eventlog::{LogBuilder, ev};
use bulla_tpm_types::{HashAlg, StartupType, command, hash};
use bulla_vtpm::engine::{Clock, Entropy, EntropyError, Tpm as Engine};

use crate::boot::BootFacts;
use crate::serve::Machine;

struct Entropic(u8);

impl Entropy for Entropic {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), EntropyError> {
        for byte in buf {
            self.0 = self.0.wrapping_mul(5).wrapping_add(17);
            *byte = self.0;
        }
        Ok(())
    }
}

struct Stopped;

impl Clock for Stopped {
    fn now_ms(&self) -> u64 {
        0
    }
}

/// The engine behind the tenant's transport.
pub(crate) struct EngineTransport {
    engine: Engine,
    response: Vec<u8>,
    /// If set, every command is answered so.
    pub(crate) refuse: Option<Vec<u8>>,
}

impl EngineTransport {
    /// A started TPM whose secrets follow from `seed`.
    pub(crate) fn started(seed: u8) -> Self {
        let mut engine = Engine::manufacture(Box::new(Entropic(seed)), Box::new(Stopped));
        engine.init();
        engine.execute(0, &command::startup(StartupType::Clear));
        Self { engine, response: Vec::new(), refuse: None }
    }

    pub(crate) fn extend(&mut self, pcr: u32, data: &[u8]) {
        let answer = self.engine.execute(0, &command::pcr_extend(pcr, &hash::digest_banks(data)));
        assert_eq!(answer[6..10], [0; 4]);
    }
}

impl Transport for EngineTransport {
    fn transmit(&mut self, command: &[u8]) -> Result<&[u8], InterfaceError> {
        self.response = self.refuse.clone().unwrap_or_else(|| self.engine.execute(0, command));
        Ok(&self.response)
    }
}

pub(crate) fn facts(cmdline: &str) -> BootFacts {
    let mut log = std::vec![0; 4096];
    let mut builder = LogBuilder::new(&mut log, &HashAlg::BANKS).expect("room for a header");
    builder.append(4, ev::IPL, &hash::digest_banks(b"kernel"), b"kernel").expect("room for an event");
    let len = builder.len();
    log.truncate(len);
    BootFacts { cmdline: cmdline.into(), event_log: log }
}

/// Waits for as many polls as it has patience.
pub(crate) struct Patience {
    pub(crate) most: u32,
    pub(crate) left: u32,
    pub(crate) exits: Vec<BenchKind>,
}

impl Patience {
    pub(crate) fn of(most: u32) -> Self {
        Self { most, left: 0, exits: Vec::new() }
    }
}

impl Machine for Patience {
    fn start_waiting(&mut self) {
        self.left = self.most;
    }
    fn keep_waiting(&mut self) -> bool {
        std::thread::sleep(std::time::Duration::from_micros(20));
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
    fn exit(&mut self, kind: BenchKind) {
        self.exits.push(kind);
    }
}

/// A seed that no other call gets.
pub(crate) fn fresh_seed() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
