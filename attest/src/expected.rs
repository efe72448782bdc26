//! Expected values: what a VM must have measured, computed offline from the same inputs.
//!
//! Written by `bulla measure` as `exp.cbor`; the layout is in `docs/evidence.md`.

use std::collections::BTreeMap;

use bulla_tpm_types::eventlog::{LogBuilder, LogFull, ev, startup_locality_event};
use bulla_tpm_types::{DigestValues, Ha, HashAlg};
use ciborium::value::Value;

use crate::bank::{Bank, Digests, PCR_COUNT, PcrValues, digests_of};
use crate::cbor::{self, CborError, Fields, bytes, int, text};
use crate::eventlog::initial_value;
use crate::evidence::{bank_from_cbor, pcrs_from_cbor, pcrs_to_cbor};
use crate::root::Root;

/// Largest file of expected values, in bytes.
pub const MAX_EXPECTED: usize = 1024 * 1024;

/// The profile of this layout.
const PROFILE: &str = "tag:bulla.invalid,2026:expected:1";

const WHAT: &str = "expected values";

/// Why expected values cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectedError {
    /// The CBOR is not what docs/evidence.md describes.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// An event cannot have happened.
    #[error("expected values: event {index} ({name}): {reason}")]
    Event {
        /// Position in the list of events.
        index: usize,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The startup locality is none a TPM knows.
    #[error("expected values: startup locality {0} is none of 0, 3 and 4")]
    Locality(u8),
    /// The PCR values are not what the events give.
    #[error("expected values: the PCR values are not what the events replay to")]
    Inconsistent,
    /// The event log cannot be written.
    #[error("expected values: {0}")]
    Log(#[from] LogFull),
}

/// One expected event, in log order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedEvent {
    /// The PCR it extends.
    pub pcr: u32,
    /// TCG event type.
    pub event_type: u32,
    /// What it measures, for people: `kernel`, `command line`.
    pub name: String,
    /// The digests it extends, one for each bank.
    pub digests: Digests,
    /// Event data.
    pub data: Vec<u8>,
}

impl ExpectedEvent {
    /// The event that measuring `content` gives, in every bank.
    #[must_use]
    pub fn measure(pcr: u32, event_type: u32, name: &str, content: &[u8], data: &[u8]) -> Self {
        Self { pcr, event_type, name: name.to_owned(), digests: digests_of(content), data: data.to_vec() }
    }
}

/// What a VM must have measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The root of trust these values were computed for; weaker evidence is rejected.
    pub root: Root,
    /// The machine, for people: `memory` → `256 MiB`.
    pub machine: BTreeMap<String, String>,
    /// Locality of TPM2_Startup: 4 with an H-CRTM.
    pub startup_locality: u8,
    /// Expected values of the PCRs that the events extend.
    pub pcrs: PcrValues,
    /// The events, in log order. Events that extend nothing are not among them.
    pub events: Vec<ExpectedEvent>,
}

impl Expected {
    /// Computes the PCR values of these events. Root is `vmm-hosted` and the machine has no description until set.
    pub fn from_events(startup_locality: u8, events: Vec<ExpectedEvent>) -> Result<Self, ExpectedError> {
        if !matches!(startup_locality, 0 | 3 | 4) {
            return Err(ExpectedError::Locality(startup_locality));
        }
        let mut pcrs = PcrValues::new();
        for (index, event) in events.iter().enumerate() {
            let wrong = |reason| Err(ExpectedError::Event { index, name: event.name.clone(), reason });
            if event.pcr >= PCR_COUNT {
                return wrong("there is no such PCR");
            }
            if event.event_type == ev::NO_ACTION {
                return wrong("EV_NO_ACTION extends nothing");
            }
            for bank in Bank::ALL {
                let Some(digest) = event.digests.get(&bank).filter(|d| d.len() == bank.size()) else {
                    return wrong("it lacks a digest for a bank, or has one of another size");
                };
                let value = pcrs.entry(bank).or_default().entry(event.pcr);
                let value = value.or_insert_with(|| initial_value(bank, event.pcr, startup_locality));
                *value = bank.digest(&[value, digest]);
            }
        }
        Ok(Self { root: Root::VmmHosted, machine: BTreeMap::new(), startup_locality, pcrs, events })
    }

    /// The crypto-agile log that the firmware writes for these events.
    pub fn to_event_log(&self) -> Result<Vec<u8>, ExpectedError> {
        const HEADERS: usize = 256;
        const EVENT: usize = 4 * 4 + (2 + 20) + (2 + 32) + (2 + 48);
        let size = self.events.iter().map(|e| EVENT.saturating_add(e.data.len())).fold(HEADERS, usize::saturating_add);
        let mut area = vec![0; size];
        let mut log = LogBuilder::new(&mut area, &HashAlg::BANKS)?;
        // A log without this event says 0, or 4 if it has an H-CRTM event.
        if self.startup_locality != 0 || self.events.iter().any(|e| e.event_type == ev::EFI_HCRTM_EVENT) {
            log.append_no_action(0, &startup_locality_event(self.startup_locality))?;
        }
        for event in &self.events {
            let digest = |alg: HashAlg| Ha::new(alg, event.digests.get(&Bank::from_id(alg.id().0)?)?);
            let digests: Vec<Ha> = HashAlg::BANKS.into_iter().filter_map(digest).collect();
            let digests = DigestValues::from_slice(&digests).unwrap_or_default();
            log.append(event.pcr, event.event_type, &digests, &event.data)?;
        }
        let used = log.len();
        area.truncate(used);
        Ok(area)
    }

    /// The deterministic CBOR of an `exp.cbor`.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ExpectedError> {
        let event = |event: &ExpectedEvent| {
            let digests = event.digests.iter().map(|(bank, d)| (int(bank.id()), bytes(d))).collect();
            Value::Map(vec![
                (int(1), int(event.pcr)),
                (int(2), int(event.event_type)),
                (int(3), text(&event.name)),
                (int(4), Value::Map(digests)),
                (int(5), bytes(&event.data)),
            ])
        };
        let encoded = cbor::encode(Value::Map(vec![
            (int(1), text(PROFILE)),
            (int(2), text(self.root.name())),
            (int(3), Value::Map(self.machine.iter().map(|(k, v)| (text(k), text(v))).collect())),
            (int(4), int(self.startup_locality)),
            (int(5), pcrs_to_cbor(&self.pcrs)),
            (int(6), Value::Array(self.events.iter().map(event).collect())),
        ]));
        // What we write must be readable: sizes and consistency included.
        Self::from_bytes(&encoded)?;
        Ok(encoded)
    }

    /// Reads an `exp.cbor`. The PCR values in it must be those that its events give.
    pub fn from_bytes(encoded: &[u8]) -> Result<Self, ExpectedError> {
        let mut fields = Fields::new(cbor::decode(encoded, MAX_EXPECTED, WHAT)?, WHAT)?;
        if fields.text(1, "profile")? != PROFILE {
            return Err(fields.invalid("profile", PROFILE).into());
        }
        let root = fields.text(2, "root")?;
        let root = root.parse().map_err(|_| fields.invalid("root", "the name of a root"))?;
        let machine =
            fields.map(3, "machine")?.into_iter().map(|(k, v)| Some((k.into_text().ok()?, v.into_text().ok()?)));
        let machine = machine.collect::<Option<_>>().ok_or_else(|| fields.invalid("machine", "text to text"))?;
        let locality = fields.u32(4, "startup locality")?;
        let locality = u8::try_from(locality).map_err(|_| fields.invalid("startup locality", "0, 3 or 4"))?;
        let pcrs = pcrs_from_cbor(fields.map(5, "pcrs")?, WHAT)?;
        let events: Result<_, CborError> = fields.array(6, "events")?.into_iter().map(event_from_cbor).collect();
        fields.finish()?;
        let replayed = Self::from_events(locality, events?)?;
        if replayed.pcrs != pcrs {
            return Err(ExpectedError::Inconsistent);
        }
        Ok(Self { root, machine, ..replayed })
    }
}

fn event_from_cbor(value: Value) -> Result<ExpectedEvent, CborError> {
    let mut fields = Fields::new(value, "expected event")?;
    let pcr = fields.u32(1, "pcr")?;
    let event_type = fields.u32(2, "event type")?;
    let name = fields.text(3, "name")?;
    let digest = |(alg, digest): (Value, Value)| Some((bank_from_cbor(&alg)?, digest.into_bytes().ok()?));
    let digests = fields.map(4, "digests")?.into_iter().map(digest).collect::<Option<_>>();
    let digests = digests.ok_or_else(|| fields.invalid("digests", "a map from bank to digest"))?;
    let data = fields.bytes(5, "data")?;
    fields.finish()?;
    Ok(ExpectedEvent { pcr, event_type, name, digests, data })
}
