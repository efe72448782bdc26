//! Hash, extend, log: one link of the measured chain at a time.

use alloc::vec::Vec;

use bulla_boot_abi::progress::Failure;
use bulla_tpm_types::eventlog::{EventLog, LogBuilder, LogError, LogFull, NewLogError, ev, startup_locality_event};
use bulla_tpm_types::hash::Hasher;
use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{DigestValues, HashAlg, StartupType, command};

use crate::interface::{Interface, InterfaceError, Registers};

/// Something that carries a command to the TPM and its response back.
pub trait Transport {
    /// Sends a command and gives the response.
    ///
    /// # Errors
    /// The TPM could not be talked to.
    fn transmit(&mut self, command: &[u8]) -> Result<&[u8], InterfaceError>;
}

impl<R: Registers> Transport for Interface<R> {
    fn transmit(&mut self, command: &[u8]) -> Result<&[u8], InterfaceError> {
        Self::transmit(self, command)
    }
}

/// Why something was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// The TPM could not be talked to.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The TPM refused.
    #[error("{command}: {error}")]
    Refused {
        /// Which command.
        command: &'static str,
        /// What it answered.
        error: ResponseError,
    },
    /// The TPM has no active bank that this program can compute.
    #[error("the TPM has no active PCR bank of a known algorithm")]
    NoBank,
    /// The event log area is full.
    #[error(transparent)]
    Log(#[from] LogFull),
    /// The event log handed over is not one.
    #[error(transparent)]
    NewLog(#[from] NewLogError),
}

impl MeasureError {
    /// The failure to tell the monitor.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Interface(InterfaceError::Missing(_)) => Failure::TpmMissing,
            Self::Interface(_) | Self::Refused { .. } | Self::NoBank => Failure::TpmFailed,
            Self::Log(LogFull::MissingDigest(_)) => Failure::WindowItemMissing,
            Self::Log(_) => Failure::EventLogFull,
            Self::NewLog(_) => Failure::Handoff,
        }
    }
}

impl From<LogError> for MeasureError {
    fn from(error: LogError) -> Self {
        Self::NewLog(error.into())
    }
}

/// The digests of `data` in each of `banks`, in one pass over memory.
pub fn digests(banks: &[HashAlg], data: &[u8]) -> DigestValues {
    // Small enough to stay in the first-level cache until the last hasher has seen it.
    const CHUNK: usize = 16 << 10;
    let mut hashers: Vec<Hasher> = banks.iter().copied().map(Hasher::new).collect();
    for chunk in data.chunks(CHUNK) {
        hashers.iter_mut().for_each(|h| h.update(chunk));
    }
    let mut values = DigestValues::new();
    for hasher in hashers {
        let pushed = values.push(hasher.finish());
        debug_assert!(pushed, "there are as many places as algorithms");
    }
    values
}

/// A TPM and the event log that tells what was extended into it.
#[derive(Debug)]
pub struct Chain<'l, T> {
    tpm: T,
    banks: Vec<HashAlg>,
    log: LogBuilder<'l>,
}

impl<'l, T: Transport> Chain<'l, T> {
    /// Starts the TPM, asks for its active banks, and begins a log that says so and tells that an H-CRTM ran.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn start(mut tpm: T, log_area: &'l mut [u8]) -> Result<Self, MeasureError> {
        let refused = |command| move |error| MeasureError::Refused { command, error };
        let answer = tpm.transmit(&command::startup(StartupType::Clear))?;
        response::parse_empty(answer).map_err(refused("TPM2_Startup"))?;
        let answer = tpm.transmit(&command::get_capability_pcrs())?;
        let allocation = response::parse_capability_pcrs(answer).map_err(refused("TPM2_GetCapability"))?;
        let banks: Vec<HashAlg> = allocation.iter().filter(|s| !s.is_empty()).map(|s| s.alg).collect();
        if banks.is_empty() {
            return Err(MeasureError::NoBank);
        }
        let mut log = LogBuilder::new(log_area, &banks)?;
        // PFP §10.4.5.3: locality 4 tells that PCR 0 began with an H-CRTM sequence.
        log.append_no_action(0, &startup_locality_event(4))?;
        Ok(Self { tpm, banks, log })
    }

    /// Goes on with a TPM that was started and the first `used` bytes of a log.
    ///
    /// # Errors
    /// [`MeasureError::NewLog`].
    pub fn resume(tpm: T, log_area: &'l mut [u8], used: usize) -> Result<Self, MeasureError> {
        let written = log_area.get(..used).unwrap_or_default();
        let log = EventLog::parse(written)?;
        let spec_id = log.spec_id().ok_or(NewLogError::Legacy)?;
        let banks = spec_id.algs.iter().filter_map(|a| HashAlg::from_id(a.id)).collect();
        Ok(Self { tpm, banks, log: LogBuilder::resume(log_area, used)? })
    }

    /// The TPM's active banks.
    pub fn banks(&self) -> &[HashAlg] {
        &self.banks
    }

    /// Bytes of the log so far.
    pub fn log_len(&self) -> usize {
        self.log.len()
    }

    /// Logs what the TPM itself has extended into PCR 0.
    ///
    /// # Errors
    /// [`MeasureError::Log`], also if `digests` lacks a bank.
    pub fn log_hcrtm(&mut self, digests: &DigestValues, event: &[u8]) -> Result<(), MeasureError> {
        Ok(self.log.append(0, ev::EFI_HCRTM_EVENT, digests, event)?)
    }

    /// Measures `data` into a PCR and logs it as an event.
    ///
    /// # Errors
    /// [`MeasureError`]; the caller must not go on.
    pub fn measure(&mut self, pcr: u8, event_type: u32, data: &[u8], event: &[u8]) -> Result<(), MeasureError> {
        let digests = digests(&self.banks, data);
        self.extend(pcr, event_type, &digests, event)
    }

    /// Extends digests into a PCR and logs them as an event.
    ///
    /// # Errors
    /// [`MeasureError`]; the caller must not go on.
    pub fn extend(
        &mut self,
        pcr: u8,
        event_type: u32,
        digests: &DigestValues,
        event: &[u8],
    ) -> Result<(), MeasureError> {
        let answer = self.tpm.transmit(&command::pcr_extend(u32::from(pcr), digests))?;
        response::parse_empty(answer).map_err(|error| MeasureError::Refused { command: "TPM2_PCR_Extend", error })?;
        Ok(self.log.append(u32::from(pcr), event_type, digests, event)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use bulla_tpm_types::hash::digest_banks;
    use bulla_tpm_types::{AlgId, PcrSelection, PcrSelectionList, Rc, Writer, cc};

    /// A TPM with some banks that takes every command but one; it keeps the commands.
    struct Fake {
        banks: Vec<HashAlg>,
        refuses: u32,
        commands: Vec<Vec<u8>>,
        answer: Vec<u8>,
    }

    impl Fake {
        fn new(banks: &[HashAlg]) -> Self {
            Self { banks: banks.to_vec(), refuses: 0, commands: vec![], answer: vec![] }
        }
    }

    impl Transport for &mut Fake {
        fn transmit(&mut self, command: &[u8]) -> Result<&[u8], InterfaceError> {
            self.commands.push(command.to_vec());
            let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
            let mut w = Writer::new();
            let tag: u16 = if code == cc::PCR_EXTEND { 0x8002 } else { 0x8001 };
            w.u16(tag);
            w.u32(0);
            w.u32(if code == self.refuses { 0x101 } else { 0 });
            match code {
                cc::PCR_EXTEND => w.bytes(&[0, 0, 0, 0, 0, 0, 1, 0, 0]),
                cc::GET_CAPABILITY => {
                    let all: Vec<u32> = (0..24).collect();
                    let selections = HashAlg::BANKS.map(|alg| {
                        let pcrs = if self.banks.contains(&alg) { &all[..] } else { &[] };
                        PcrSelection::new(alg, pcrs)
                    });
                    w.u8(0);
                    w.u32(5);
                    w.put(&PcrSelectionList::from_slice(&selections).unwrap());
                }
                _ => {}
            }
            let len = w.len() as u32;
            w.patch(2, &len.to_be_bytes());
            self.answer = w.into_vec();
            Ok(&self.answer)
        }
    }

    #[test]
    fn an_event_is_extended_into_the_active_banks_only_and_logged_with_the_same_digests() {
        let banks = [HashAlg::Sha256, HashAlg::Sha384];
        let mut tpm = Fake::new(&banks);
        let mut area = vec![0; 4096];
        let mut chain = Chain::start(&mut tpm, &mut area).unwrap();
        assert_eq!(chain.banks(), banks);
        chain.measure(4, ev::IPL, b"data", b"event").unwrap();
        let used = chain.log_len();
        assert_eq!(tpm.commands.last(), Some(&command::pcr_extend(4, &digests(&banks, b"data"))));
        let log = EventLog::parse(&area[..used]).unwrap();
        let events: Vec<_> = log.events().collect::<Result<_, _>>().unwrap();
        let event = events.last().unwrap();
        assert_eq!((event.pcr, event.event_type, event.data), (4, ev::IPL, &b"event"[..]));
        let sha384: [u8; 48] = digest_banks(b"data").bank(HashAlg::Sha384).unwrap().as_bytes().try_into().unwrap();
        assert!(area[..used].windows(48).any(|w| w == sha384));
    }

    #[test]
    fn one_pass_in_chunks_gives_the_digests_of_the_whole() {
        let data: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        assert_eq!(digests(&HashAlg::BANKS, &data), digest_banks(&data));
        assert_eq!(digests(&HashAlg::BANKS, &[]), digest_banks(&[]));
    }

    #[test]
    fn a_log_is_continued_by_the_next_stage_with_the_same_banks() {
        let mut tpm = Fake::new(&[HashAlg::Sha1, HashAlg::Sha256]);
        let mut area = vec![0; 4096];
        let used = Chain::start(&mut tpm, &mut area).unwrap().log_len();
        let mut chain = Chain::resume(&mut tpm, &mut area, used).unwrap();
        assert_eq!(chain.banks(), [HashAlg::Sha1, HashAlg::Sha256]);
        chain.measure(9, ev::IPL, b"initrd", b"e").unwrap();
        let used = chain.log_len();
        assert_eq!(EventLog::parse(&area[..used]).unwrap().events().count(), 2);
        assert!(matches!(Chain::resume(&mut tpm, &mut area, used - 1), Err(MeasureError::NewLog(_))));
    }

    #[test]
    fn a_refusal_is_told_with_its_command_and_nothing_is_logged() {
        let mut tpm = Fake::new(&HashAlg::BANKS);
        tpm.refuses = cc::PCR_EXTEND;
        let mut area = vec![0; 4096];
        let mut chain = Chain::start(&mut tpm, &mut area).unwrap();
        let before = chain.log_len();
        let error = chain.measure(0, ev::SEPARATOR, &[0; 4], &[0; 4]).unwrap_err();
        let refused = MeasureError::Refused { command: "TPM2_PCR_Extend", error: ResponseError::Tpm(Rc(0x101)) };
        assert_eq!(error, refused);
        assert_eq!(error.failure(), Failure::TpmFailed);
        assert_eq!(chain.log_len(), before);
    }

    #[test]
    fn a_tpm_without_banks_is_refused() {
        let mut tpm = Fake::new(&[]);
        let mut area = vec![0; 4096];
        assert_eq!(Chain::start(&mut tpm, &mut area).err(), Some(MeasureError::NoBank));
    }

    #[test]
    fn a_full_log_stops_the_chain() {
        let mut tpm = Fake::new(&HashAlg::BANKS);
        let mut area = vec![0; 400];
        let mut chain = Chain::start(&mut tpm, &mut area).unwrap();
        let error = chain.measure(0, ev::IPL, b"x", &[0; 300]).unwrap_err();
        assert_eq!(error.failure(), Failure::EventLogFull);
    }

    #[test]
    fn hcrtm_digests_that_lack_a_bank_are_refused() {
        let mut tpm = Fake::new(&HashAlg::BANKS);
        let mut area = vec![0; 4096];
        let mut chain = Chain::start(&mut tpm, &mut area).unwrap();
        let only = digests(&[HashAlg::Sha256], b"fw");
        let missing = AlgId(HashAlg::Sha1.id().0);
        assert_eq!(chain.log_hcrtm(&only, b"HCRTM"), Err(MeasureError::Log(LogFull::MissingDigest(missing.0))));
    }
}
