//! The vTPM's engine, after a boot that measured something.

use std::io;

use bulla_tpm_types::eventlog::{LogBuilder, ev};
use bulla_tpm_types::{HashAlg, StartupType, command, hash};
use bulla_vtpm::engine::{Clock, Entropy, EntropyError, Tpm as Engine};

use crate::tpm::{QUOTE_PCRS, Transport};

struct Counting(u8);

impl Entropy for Counting {
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

pub(crate) struct EngineTransport {
    engine: Engine,
    asked: usize,
    /// The command with this number, and all after it, are answered so.
    pub(crate) refuse: Option<(usize, Vec<u8>)>,
}

impl EngineTransport {
    /// A started TPM with all PCRs that are quoted extended, and the log of that.
    pub(crate) fn booted() -> (Self, Vec<u8>) {
        let mut engine = Engine::manufacture(Box::new(Counting(3)), Box::new(Stopped));
        engine.init();
        let mut ok = |command: &[u8]| assert_eq!(engine.execute(0, command)[6..10], [0; 4]);
        ok(&command::startup(StartupType::Clear));
        let mut area = vec![0; 8192];
        let mut log = LogBuilder::new(&mut area, &HashAlg::BANKS).unwrap();
        for pcr in QUOTE_PCRS {
            let digests = hash::digest_banks(b"a link of the chain");
            ok(&command::pcr_extend(pcr, &digests));
            log.append(pcr, ev::IPL, &digests, b"a link of the chain").unwrap();
        }
        let log = log.as_bytes().to_vec();
        (Self { engine, asked: 0, refuse: None }, log)
    }
}

impl Transport for EngineTransport {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let number = self.asked;
        self.asked += 1;
        match &self.refuse {
            Some((from, answer)) if number >= *from => Ok(answer.clone()),
            _ => Ok(self.engine.execute(0, command)),
        }
    }
}
