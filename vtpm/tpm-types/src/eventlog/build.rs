//! Writing a log.

use super::{EventLog, LogAlg, LogError, MAX_LOG_ALGS, SPEC_ID_SIGNATURE, ev};
use crate::buffers::List;
use crate::constants::HashAlg;
use crate::pcr::DigestValues;

/// Why an event was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogFull {
    /// The area has too little room; nothing was written.
    #[error("the event needs {need} bytes, the log area has {left} left")]
    Room {
        /// Size of the event.
        need: usize,
        /// Bytes left in the area.
        left: usize,
    },
    /// The event has no digest for an algorithm of the log's header; nothing was written.
    #[error("the event has no digest of algorithm {0:#06x}")]
    MissingDigest(u16),
}

/// Why writing cannot go on in an area that has a log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewLogError {
    /// The bytes are not a log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log is a legacy one.
    #[error("the log is not crypto-agile")]
    Legacy,
    /// The used length lies outside the area.
    #[error("the log is said to have {used} bytes in an area of {area}")]
    Length {
        /// Bytes in use.
        used: usize,
        /// Size of the area.
        area: usize,
    },
}

/// Writes a crypto-agile log into a memory area. Each event is written whole or not at all.
#[derive(Debug)]
pub struct LogBuilder<'a> {
    area: &'a mut [u8],
    used: usize,
    algs: List<LogAlg, MAX_LOG_ALGS>,
}

impl<'a> LogBuilder<'a> {
    /// Starts a log with its header: platform class client, profile 2.0 errata 2, 64-bit UINTN, no vendor
    /// information (PFP 1.06, 10.4.5.1).
    ///
    /// At most [`MAX_LOG_ALGS`] of `algs` are used; there are not that many kinds.
    pub fn new(area: &'a mut [u8], algs: &[HashAlg]) -> Result<Self, LogFull> {
        let mut list = List::new();
        for &alg in algs {
            let pushed = list.push(LogAlg::from(alg));
            debug_assert!(pushed, "there are fewer algorithms than places");
        }
        let mut log = Self { area, used: 0, algs: list };
        let spec_len = SPEC_ID_SIGNATURE.len() + 4 + 4 + 4 + 4 * log.algs.len() + 1;
        log.reserve(4 + 4 + HashAlg::Sha1.size() + 4 + spec_len)?;
        log.put(&0u32.to_le_bytes());
        log.put(&ev::NO_ACTION.to_le_bytes());
        log.put(&[0; 20]);
        log.put(&(spec_len as u32).to_le_bytes());
        log.put(&SPEC_ID_SIGNATURE);
        log.put(&0u32.to_le_bytes());
        // specVersionMinor, specVersionMajor, specErrata, uintnSize.
        log.put(&[0, 2, 2, 2]);
        log.put(&(log.algs.len() as u32).to_le_bytes());
        for alg in algs.iter().copied().map(LogAlg::from) {
            log.put(&alg.id.0.to_le_bytes());
            log.put(&alg.size.to_le_bytes());
        }
        log.put(&[0]);
        Ok(log)
    }

    /// Goes on with the log in the first `used` bytes of `area`, after checking all of it.
    pub fn resume(area: &'a mut [u8], used: usize) -> Result<Self, NewLogError> {
        let len = area.len();
        let bytes = area.get(..used).ok_or(NewLogError::Length { used, area: len })?;
        let log = EventLog::parse(bytes)?;
        let algs = log.spec_id().ok_or(NewLogError::Legacy)?.algs;
        log.events().try_for_each(|e| e.map(drop))?;
        Ok(Self { area, used, algs })
    }

    /// Appends an event. `digests` needs one digest for each algorithm of the header; others are left out.
    pub fn append(&mut self, pcr: u32, event_type: u32, digests: &DigestValues, data: &[u8]) -> Result<(), LogFull> {
        let algs = self.algs;
        let digest_of = |alg: &LogAlg| digests.iter().find(|d| d.alg().id() == alg.id);
        if let Some(alg) = algs.iter().find(|a| digest_of(a).is_none()) {
            return Err(LogFull::MissingDigest(alg.id.0));
        }
        let digest_len: usize = algs.iter().map(|a| 2 + usize::from(a.size)).sum();
        self.reserve(data.len().saturating_add(4 + 4 + 4 + digest_len + 4))?;
        self.put(&pcr.to_le_bytes());
        self.put(&event_type.to_le_bytes());
        self.put(&(algs.len() as u32).to_le_bytes());
        for digest in algs.iter().filter_map(digest_of) {
            self.put(&digest.alg().id().0.to_le_bytes());
            self.put(digest.as_bytes());
        }
        self.put(&(data.len() as u32).to_le_bytes());
        self.put(data);
        Ok(())
    }

    /// Appends an EV_NO_ACTION event, whose digests are zero and extend nothing.
    pub fn append_no_action(&mut self, pcr: u32, data: &[u8]) -> Result<(), LogFull> {
        let mut zeros = DigestValues::new();
        for alg in HashAlg::ALL {
            let pushed = zeros.push(crate::Ha::zero(alg));
            debug_assert!(pushed, "there are as many places as algorithms");
        }
        self.append(pcr, ev::NO_ACTION, &zeros, data)
    }

    /// The log so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.area.get(..self.used).unwrap_or_default()
    }

    /// Length of the log in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing was written: never, a log has a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn reserve(&self, need: usize) -> Result<(), LogFull> {
        let left = self.area.len().saturating_sub(self.used);
        if need > left || u32::try_from(need).is_err() { Err(LogFull::Room { need, left }) } else { Ok(()) }
    }

    /// Writes what [`Self::reserve`] found room for.
    fn put(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        if let Some(place) = self.area.get_mut(self.used..end) {
            place.copy_from_slice(bytes);
            self.used = end;
        }
    }
}
