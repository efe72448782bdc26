//! The TCG event log: reading one into owned events, and replaying it to the PCR values it accounts for.
//!
//! A log by itself proves nothing. It is believed as far as replaying it gives the PCR values that a TPM quoted,
//! and only for what digests cover: event data and EV_NO_ACTION events are never covered by themselves.

use bulla_tpm_types::eventlog::{self as tcg, ev};

pub use bulla_tpm_types::eventlog::LogError;

use crate::bank::{Bank, Digests, PCR_COUNT, PcrValues};

/// Largest log read, in bytes.
pub const MAX_LOG: usize = 16 * 1024 * 1024;

/// Why a log cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// Not a well-formed log.
    #[error("event log: {0}")]
    Parse(#[from] LogError),
    /// Larger than [`MAX_LOG`].
    #[error("event log: {0} bytes, more than the limit of {MAX_LOG}")]
    TooLarge(usize),
    /// An event extends a PCR that does not exist.
    #[error("event log: event {index} extends PCR {pcr}, but the last PCR is 23")]
    NoSuchPcr {
        /// Number of the event, the header being 0.
        index: usize,
        /// The PCR it names.
        pcr: u32,
    },
    /// A StartupLocality event that cannot be true.
    #[error("event log: event {index}: StartupLocality {reason}")]
    StartupLocality {
        /// Number of the event, the header being 0.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// One event after the header of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Number of the event, the header being 0 (and the first event of a legacy log without one too).
    pub index: usize,
    /// The PCR it extends.
    pub pcr: u32,
    /// TCG event type.
    pub event_type: u32,
    /// Digests of the banks that bulla knows.
    pub digests: Digests,
    /// Event data.
    pub data: Vec<u8>,
}

impl Event {
    /// Whether the event extends its PCR: all do but EV_NO_ACTION (PFP 1.06, 10.4.1).
    #[must_use]
    pub fn extends(&self) -> bool {
        self.event_type != ev::NO_ACTION
    }

    /// Type and, where it is text, data: `EV_IPL "bulla: kernel"`.
    #[must_use]
    pub fn describe(&self) -> String {
        describe(self.event_type, &self.data)
    }

    /// The locality this event gives for TPM2_Startup, if it is the event that does.
    #[must_use]
    pub fn startup_locality(&self) -> Option<u8> {
        if self.extends() { None } else { tcg::parse_startup_locality(&self.data) }
    }

    /// Whether the digests are those of the data, for the types of which the profile says that they are
    /// (PFP 1.06, 10.4.1). `None` for other types.
    #[must_use]
    pub fn data_is_digested(&self) -> Option<bool> {
        const DIGEST_OF_DATA: [u32; 4] = [ev::SEPARATOR, ev::ACTION, ev::EFI_ACTION, ev::S_CRTM_VERSION];
        DIGEST_OF_DATA
            .contains(&self.event_type)
            .then(|| self.digests.iter().all(|(bank, digest)| bank.digest(&[&self.data]) == *digest))
    }
}

/// A log read into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The banks every event has a digest for, of those bulla knows.
    pub banks: Vec<Bank>,
    /// Whether the log is a legacy one, with SHA-1 digests only.
    pub legacy: bool,
    /// The events after the header, EV_NO_ACTION included.
    pub events: Vec<Event>,
}

/// What a log accounts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Locality of TPM2_Startup: where PCR 0 started.
    pub startup_locality: u8,
    /// Values of the PCRs that events extend.
    pub pcrs: PcrValues,
}

impl Replay {
    /// The value the log gives a PCR: its initial one where no event extends it.
    #[must_use]
    pub fn value(&self, bank: Bank, pcr: u32) -> Vec<u8> {
        let extended = self.pcrs.get(&bank).and_then(|values| values.get(&pcr));
        extended.cloned().unwrap_or_else(|| initial_value(bank, pcr, self.startup_locality))
    }
}

impl Log {
    /// Reads all events of a log.
    pub fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        if bytes.len() > MAX_LOG {
            return Err(EventLogError::TooLarge(bytes.len()));
        }
        let log = tcg::EventLog::parse(bytes)?;
        let banks: Vec<Bank> = match log.spec_id() {
            Some(spec) => spec.algs.iter().filter_map(|alg| Bank::from_id(alg.id.0)).collect(),
            None => vec![Bank::Sha1],
        };
        let mut events = Vec::new();
        for event in log.events() {
            let event = event?;
            let digest = |(id, digest): (bulla_tpm_types::AlgId, &[u8])| Some((Bank::from_id(id.0)?, digest.to_vec()));
            events.push(Event {
                index: event.index,
                pcr: event.pcr,
                event_type: event.event_type,
                digests: event.digests.iter().filter_map(digest).collect(),
                data: event.data.to_vec(),
            });
        }
        Ok(Self { banks, legacy: log.spec_id().is_none(), events })
    }

    /// Where PCR 0 starts: at the locality of TPM2_Startup, and at 4 where an H-CRTM came first (TPM 2.0 Part 1,
    /// 34.3; PFP 1.06, 10.4.5.3). The event that says so must precede all that extends PCR 0, and be the only one.
    pub fn startup_locality(&self) -> Result<u8, EventLogError> {
        let mut locality = None;
        let mut first_in_pcr0 = None;
        for event in &self.events {
            let wrong = |reason| Err(EventLogError::StartupLocality { index: event.index, reason });
            match event.startup_locality() {
                Some(_) if locality.is_some() => return wrong("is given twice"),
                Some(_) if first_in_pcr0.is_some() => return wrong("comes after an event that extends PCR 0"),
                Some(value @ (0 | 3 | 4)) => locality = Some(value),
                Some(_) => return wrong("is none of 0, 3 and 4"),
                None if event.extends() && event.pcr == 0 => {
                    first_in_pcr0.get_or_insert(event.event_type);
                }
                None => {}
            }
        }
        let hcrtm = first_in_pcr0 == Some(ev::EFI_HCRTM_EVENT);
        Ok(locality.unwrap_or(if hcrtm { 4 } else { 0 }))
    }

    /// Extends all events into PCRs as a TPM would, in every bank.
    pub fn replay(&self) -> Result<Replay, EventLogError> {
        let startup_locality = self.startup_locality()?;
        let mut pcrs = PcrValues::new();
        for event in self.events.iter().filter(|e| e.extends()) {
            if event.pcr >= PCR_COUNT {
                return Err(EventLogError::NoSuchPcr { index: event.index, pcr: event.pcr });
            }
            for (bank, digest) in &event.digests {
                let values = pcrs.entry(*bank).or_default();
                let value =
                    values.entry(event.pcr).or_insert_with(|| initial_value(*bank, event.pcr, startup_locality));
                *value = bank.digest(&[value, digest]);
            }
        }
        Ok(Replay { startup_locality, pcrs })
    }
}

/// The value of a PCR after TPM2_Startup(CLEAR) (PC Client Platform TPM Profile, 4.6).
#[must_use]
pub fn initial_value(bank: Bank, pcr: u32, startup_locality: u8) -> Vec<u8> {
    // The PCRs of the dynamic root of trust start with all ones.
    let mut value = vec![if (17..=22).contains(&pcr) { 0xff } else { 0 }; bank.size()];
    if let (0, Some(last)) = (pcr, value.last_mut()) {
        *last = startup_locality;
    }
    value
}

/// The name of an event type: `EV_IPL`, or its number where the profile has none.
#[must_use]
pub fn type_name(event_type: u32) -> String {
    ev::name(event_type).map_or_else(|| format!("event type {event_type:#010x}"), str::to_owned)
}

/// Type and, where it is text, data.
#[must_use]
pub fn describe(event_type: u32, data: &[u8]) -> String {
    let name = type_name(event_type);
    match (tcg::parse_startup_locality(data), printable(data)) {
        (Some(locality), _) if event_type == ev::NO_ACTION => format!("{name} StartupLocality {locality}"),
        (_, Some(text)) => format!("{name} \"{text}\""),
        (_, None) => name,
    }
}

/// Event data as text for a terminal: printable ASCII, as it is or in UTF-16LE, without its NUL.
fn printable(data: &[u8]) -> Option<String> {
    const SHOWN: usize = 72;
    let fits = |c: &char| c.is_ascii_graphic() || *c == ' ';
    let wide = |data: &[u8]| {
        let units = data.chunks(2).map(|pair| match pair {
            [low, 0] => char::from(*low),
            _ => '\0',
        });
        units.collect::<Vec<char>>()
    };
    let narrow = |data: &[u8]| data.iter().copied().map(char::from).collect::<Vec<char>>();
    let shown = |mut chars: Vec<char>| {
        if chars.last() == Some(&'\0') {
            chars.pop();
        }
        let good = !chars.is_empty() && chars.iter().all(fits);
        let more = if chars.len() > SHOWN { "…" } else { "" };
        good.then(|| chars.iter().take(SHOWN).collect::<String>() + more)
    };
    let data = data.get(..4096).unwrap_or(data);
    shown(narrow(data)).or_else(|| shown(wide(data)))
}
