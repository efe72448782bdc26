//! Reading a log.

use super::{LogAlg, MAX_LOG_ALGS, SPEC_ID_SIGNATURE, SpecId, ev};
use crate::buffers::{Ha, List};
use crate::constants::{AlgId, HashAlg, alg};
use crate::pcr::DigestValues;

/// Octets of an event without digests and data: PCR, type, number of digests, size of data.
const SMALLEST_EVENT: usize = 16;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogErrorKind {
    /// The log ends inside a field.
    #[error("the log ends inside {0}")]
    Truncated(&'static str),
    /// The header lists no algorithm, or more than [`MAX_LOG_ALGS`].
    #[error("the header lists {0} digest algorithms")]
    AlgCount(u32),
    /// The header lists an algorithm twice.
    #[error("the header lists algorithm {0:#06x} twice")]
    AlgTwice(u16),
    /// The header gives a known algorithm another digest size, or a size of zero or above 64.
    #[error("the header gives algorithm {alg:#06x} digests of {size} bytes")]
    AlgSize {
        /// TPM_ALG_ID.
        alg: u16,
        /// The size in the header.
        size: u16,
    },
    /// The header's data is longer than its fields.
    #[error("the header has {0} bytes too many")]
    HeaderTail(usize),
    /// An event has another number of digests than the header lists algorithms.
    #[error("the event has {got} digests where the header lists {want} algorithms")]
    DigestCount {
        /// Digests in the event.
        got: u32,
        /// Algorithms in the header.
        want: usize,
    },
    /// An event has a digest of an algorithm that the header does not list.
    #[error("the event has a digest of algorithm {0:#06x}, which the header does not list")]
    DigestAlg(u16),
    /// An event has two digests of one algorithm.
    #[error("the event has two digests of algorithm {0:#06x}")]
    DigestTwice(u16),
}

/// What is wrong with a log, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {event} at byte {offset}: {kind}")]
pub struct LogError {
    /// What is wrong.
    pub kind: LogErrorKind,
    /// Number of the event, counting the header as 0.
    pub event: usize,
    /// Offset of the bad field from the start of the log.
    pub offset: usize,
}

/// A little-endian cursor.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], (LogErrorKind, usize)> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or((LogErrorKind::Truncated(what), self.offset))?;
        self.rest = tail;
        self.offset += n;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], (LogErrorKind, usize)> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or((LogErrorKind::Truncated(what), self.offset))?;
        self.rest = tail;
        self.offset += N;
        Ok(*head)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, (LogErrorKind, usize)> {
        self.array::<1>(what).map(|[b]| b)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, (LogErrorKind, usize)> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, (LogErrorKind, usize)> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn data(&mut self) -> Result<&'a [u8], (LogErrorKind, usize)> {
        let size = self.u32("the event size")?;
        self.take(usize::try_from(size).unwrap_or(usize::MAX), "the event data")
    }
}

/// The digests of one event: as many as the log has algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests<'a> {
    list: List<(u16, &'a [u8]), MAX_LOG_ALGS>,
}

impl<'a> Digests<'a> {
    /// The digests with their algorithms, in the order of the event.
    pub fn iter(&self) -> impl Iterator<Item = (AlgId, &'a [u8])> + '_ {
        self.list.iter().map(|&(id, digest)| (AlgId(id), digest))
    }

    /// The digest of one algorithm.
    #[must_use]
    pub fn get(&self, alg: HashAlg) -> Option<&'a [u8]> {
        self.iter().find(|(id, _)| *id == alg.id()).map(|(_, digest)| digest)
    }

    /// The digests of the algorithms this crate knows; others are left out.
    #[must_use]
    pub fn known(&self) -> DigestValues {
        let mut values = DigestValues::new();
        for (id, digest) in self.iter() {
            let fits = HashAlg::from_id(id).and_then(|a| Ha::new(a, digest)).is_none_or(|ha| values.push(ha));
            debug_assert!(fits, "there are as many places as known algorithms, and each occurs once");
        }
        values
    }
}

/// One event of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// The PCR that the event says was extended.
    pub pcr: u32,
    /// Event type, see [`ev`].
    pub event_type: u32,
    /// The digests that were extended.
    pub digests: Digests<'a>,
    /// The event's data; whether it is what the digests are of depends on the type.
    pub data: &'a [u8],
    /// Number of the event, counting the header as 0.
    pub index: usize,
    /// Offset of the event from the start of the log.
    pub offset: usize,
}

impl EventRef<'_> {
    /// Whether the event extended nothing: EV_NO_ACTION.
    #[must_use]
    pub fn is_informative(&self) -> bool {
        self.event_type == ev::NO_ACTION
    }
}

/// A log: its header and its events.
#[derive(Clone, Debug)]
pub struct EventLog<'a> {
    spec: Option<SpecId<'a>>,
    events: Cursor<'a>,
    first: usize,
}

impl<'a> EventLog<'a> {
    /// Reads the header of a log; the events are checked as they are iterated over.
    ///
    /// A log that starts with "Spec ID Event03" is crypto-agile; any other is legacy, with SHA-1 digests.
    /// `bytes` must end where the log ends: see [`Self::in_area`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LogError> {
        let mut c = Cursor { rest: bytes, offset: 0 };
        let start = c.clone();
        let header = legacy_event(&mut c, 0).map_err(|(kind, offset)| LogError { kind, event: 0, offset })?;
        if !(header.event_type == ev::NO_ACTION && header.data.starts_with(&SPEC_ID_SIGNATURE)) {
            return Ok(Self { spec: None, events: start, first: 0 });
        }
        let data_offset = c.offset - header.data.len();
        let spec = spec_id(Cursor { rest: header.data, offset: data_offset }).map_err(|(kind, offset)| LogError {
            kind,
            event: 0,
            offset,
        })?;
        Ok(Self { spec: Some(spec), events: c, first: 1 })
    }

    /// Reads a log in a larger memory area, as ACPI describes it: the log ends where 16 octets, the smallest
    /// event, are all zero or all ones, which is how firmware leaves the unused part. Answers also the length of
    /// the log.
    pub fn in_area(area: &'a [u8]) -> Result<(Self, usize), LogError> {
        let log = Self::parse(area)?;
        let mut events = log.events();
        let mut end = log.events.offset;
        loop {
            let next = area.get(end..).unwrap_or_default().iter().take(SMALLEST_EVENT);
            if next.clone().all(|b| *b == 0) || next.clone().all(|b| *b == 0xff) {
                break;
            }
            match events.next() {
                Some(event) => event?,
                None => break,
            };
            end = events.cursor.offset;
        }
        let used = area.get(..end).unwrap_or_default();
        Ok((Self::parse(used)?, end))
    }

    /// The header; `None` for a legacy log.
    #[must_use]
    pub fn spec_id(&self) -> Option<&SpecId<'a>> {
        self.spec.as_ref()
    }

    /// Whether every event has a digest of this algorithm.
    #[must_use]
    pub fn has_bank(&self, alg: HashAlg) -> bool {
        match &self.spec {
            Some(spec) => spec.algs.iter().any(|a| a.id == alg.id()),
            None => alg == HashAlg::Sha1,
        }
    }

    /// The events after the header. Ends after the first error.
    #[must_use]
    pub fn events(&self) -> Events<'a> {
        Events {
            algs: self.spec.as_ref().map(|s| s.algs),
            cursor: self.events.clone(),
            index: self.first,
            failed: false,
        }
    }
}

/// Iterator over the events of a log.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    algs: Option<List<LogAlg, MAX_LOG_ALGS>>,
    cursor: Cursor<'a>,
    index: usize,
    failed: bool,
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<EventRef<'a>, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.cursor.rest.is_empty() {
            return None;
        }
        let event = match &self.algs {
            Some(algs) => agile_event(&mut self.cursor, self.index, algs),
            None => legacy_event(&mut self.cursor, self.index),
        };
        self.failed = event.is_err();
        let index = self.index;
        self.index += 1;
        Some(event.map_err(|(kind, offset)| LogError { kind, event: index, offset }))
    }
}

/// TCG_PCR_EVENT (10.2.1).
fn legacy_event<'a>(c: &mut Cursor<'a>, index: usize) -> Result<EventRef<'a>, (LogErrorKind, usize)> {
    let offset = c.offset;
    let pcr = c.u32("the PCR index")?;
    let event_type = c.u32("the event type")?;
    let mut digests = Digests::default();
    let pushed = digests.list.push((alg::SHA1.0, c.take(HashAlg::Sha1.size(), "the SHA-1 digest")?));
    debug_assert!(pushed, "an empty list has room");
    Ok(EventRef { pcr, event_type, digests, data: c.data()?, index, offset })
}

/// TCG_PCR_EVENT2 (10.2.2): one digest for each algorithm of the header, in any order.
fn agile_event<'a>(c: &mut Cursor<'a>, index: usize, algs: &[LogAlg]) -> Result<EventRef<'a>, (LogErrorKind, usize)> {
    let offset = c.offset;
    let pcr = c.u32("the PCR index")?;
    let event_type = c.u32("the event type")?;
    let at = c.offset;
    let count = c.u32("the digest count")?;
    if usize::try_from(count) != Ok(algs.len()) {
        return Err((LogErrorKind::DigestCount { got: count, want: algs.len() }, at));
    }
    let mut digests = Digests::default();
    for _ in 0..count {
        let at = c.offset;
        let id = c.u16("the digest algorithm")?;
        let Some(alg) = algs.iter().find(|a| a.id.0 == id) else {
            return Err((LogErrorKind::DigestAlg(id), at));
        };
        if digests.list.iter().any(|(seen, _)| *seen == id) {
            return Err((LogErrorKind::DigestTwice(id), at));
        }
        let pushed = digests.list.push((id, c.take(usize::from(alg.size), "a digest")?));
        debug_assert!(pushed, "the header's list has the same length");
    }
    Ok(EventRef { pcr, event_type, digests, data: c.data()?, index, offset })
}

/// TCG_EfiSpecIDEvent (10.4.5.1).
fn spec_id(mut c: Cursor<'_>) -> Result<SpecId<'_>, (LogErrorKind, usize)> {
    c.take(SPEC_ID_SIGNATURE.len(), "the signature")?;
    let platform_class = c.u32("platformClass")?;
    let version_minor = c.u8("specVersionMinor")?;
    let version_major = c.u8("specVersionMajor")?;
    let errata = c.u8("specErrata")?;
    let uintn_size = c.u8("uintnSize")?;
    let at = c.offset;
    let count = c.u32("numberOfAlgorithms")?;
    if count == 0 || usize::try_from(count).map_or(true, |n| n > MAX_LOG_ALGS) {
        return Err((LogErrorKind::AlgCount(count), at));
    }
    let mut algs = List::<LogAlg, MAX_LOG_ALGS>::new();
    for _ in 0..count {
        let at = c.offset;
        let alg = LogAlg { id: AlgId(c.u16("algorithmId")?), size: c.u16("digestSize")? };
        if algs.iter().any(|a| a.id == alg.id) {
            return Err((LogErrorKind::AlgTwice(alg.id.0), at));
        }
        let right = match HashAlg::from_id(alg.id) {
            Some(known) => usize::from(alg.size) == known.size(),
            None => (1..=64).contains(&alg.size),
        };
        if !right {
            return Err((LogErrorKind::AlgSize { alg: alg.id.0, size: alg.size }, at));
        }
        let pushed = algs.push(alg);
        debug_assert!(pushed, "the count was checked");
    }
    let vendor_info_size = c.u8("vendorInfoSize")?;
    let vendor_info = c.take(usize::from(vendor_info_size), "vendorInfo")?;
    if !c.rest.is_empty() {
        return Err((LogErrorKind::HeaderTail(c.rest.len()), c.offset));
    }
    Ok(SpecId { platform_class, version_minor, version_major, errata, uintn_size, algs, vendor_info })
}
