//! A ring of fixed-size slots for one direction, over memory that nobody can be trusted with.
//!
//! Both sides keep their position in **private** memory. The only thing read from the shared region to
//! decide what to do next is the state word of the one slot the private position points at, and that word is
//! compared with the only two values it may legally have; it is never used as an index. The rest of the slot
//! is fetched once, word by word, into private memory, and only that copy is looked at.
//!
//! Layout of a region (all values little-endian; offsets in bytes):
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`], written by the initiator when everything else is ready |
//! | 8 | 8 | version (bits 0–15), log2 of the number of slots (16–31), slot size in bytes (32–63) |
//! | 16 | 4080 | unused, zero |
//! | 4096 | slots × 2048 | ring initiator → responder |
//! | 4096 + slots × 2048 | slots × 2048 | ring responder → initiator |
//!
//! A slot:
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 8 | state: `2·lap` free, `2·lap + 1` published (`lap` = position / slots) |
//! | 8 | 8 | position (counts every message of this direction from 0) |
//! | 16 | 4 | payload length, at most [`MAX_PAYLOAD`] |
//! | 20 | 4 | kind: 1 handshake, 2 data, 3 close |
//! | 24 | 8 | reserved, zero |
//! | 32 | 2016 | payload |
//!
//! The producer publishes with a release store of `2·lap + 1`, the consumer acknowledges with a release store
//! of `2·lap + 2`, which is "free" for the next lap. A zeroed region is therefore an empty one.
#![forbid(unsafe_code)]

use crate::region::Region;

/// `"BULLACHN"` as little-endian bytes in memory.
pub const MAGIC: u64 = u64::from_le_bytes(*b"BULLACHN");
/// Version of the region layout.
pub const VERSION: u64 = 1;
/// Bytes before the first ring.
pub const HEADER_BYTES: usize = 4096;
/// Bytes in a slot, header included.
pub const SLOT_BYTES: usize = 2048;
/// Bytes of a slot before its payload.
pub const SLOT_HEADER_BYTES: usize = 32;
/// Largest payload of a slot in bytes.
pub const MAX_PAYLOAD: usize = SLOT_BYTES - SLOT_HEADER_BYTES;
/// Fewest slots a direction may have.
pub const MIN_SLOTS: u64 = 2;
/// Most slots a direction uses, however large the region is.
pub const MAX_SLOTS: u64 = 1024;
/// Positions a ring can count before it must be replaced.
pub const MAX_POSITION: u64 = 1 << 48;

const WORD: usize = 8;
const SLOT_WORDS: usize = SLOT_BYTES / WORD;

/// Which way a ring carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The ring the initiator writes.
    InitiatorToResponder,
    /// The ring the responder writes.
    ResponderToInitiator,
}

/// What a slot carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Noise handshake message.
    Handshake,
    /// A sealed message of the application.
    Data,
    /// A sealed end of the conversation.
    Close,
}

impl Kind {
    /// The number that stands for this kind in a slot and in a record's associated data.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Handshake => 1,
            Self::Data => 2,
            Self::Close => 3,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Handshake),
            2 => Some(Self::Data),
            3 => Some(Self::Close),
            _ => None,
        }
    }
}

/// Why a ring refused. Only [`RingError::Full`] and [`RingError::TooLong`] leave it usable; every other variant means
/// that the peer or the host wrote what an honest one never writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The region cannot hold two rings of [`MIN_SLOTS`] slots.
    #[error("shared region of {words} words is too small for two rings")]
    RegionTooSmall {
        /// Words in the region.
        words: usize,
    },
    /// An access fell outside the region.
    #[error("word {index} is outside the shared region")]
    OutOfRegion {
        /// The word asked for.
        index: usize,
    },
    /// The region's header is neither empty nor ours.
    #[error("region header says {magic:#018x}/{geometry:#018x}, expected {expected:#018x}")]
    Header {
        /// The first word found.
        magic: u64,
        /// The second word found.
        geometry: u64,
        /// The second word that this layout requires.
        expected: u64,
    },
    /// The consumer has not acknowledged the slot yet; try again later.
    #[error("ring is full")]
    Full,
    /// The payload does not fit a slot.
    #[error("payload of {len} bytes exceeds the slot's {MAX_PAYLOAD}")]
    TooLong {
        /// Bytes offered.
        len: usize,
    },
    /// A slot's state word has a value it can never have at this position.
    #[error("slot at position {position} has state {found}, which is impossible there")]
    State {
        /// The private position.
        position: u64,
        /// The state word found.
        found: u64,
    },
    /// A slot that was free a moment ago says it is not.
    #[error("slot at position {position} was free and is no longer")]
    Retracted {
        /// The private position.
        position: u64,
    },
    /// A published slot carries another position than the one expected: replayed, swapped or reordered.
    #[error("slot at position {position} says it is number {found}")]
    Position {
        /// The private position.
        position: u64,
        /// The position found in the slot.
        found: u64,
    },
    /// A published slot has a length no slot can have.
    #[error("slot at position {position} claims {len} payload bytes")]
    Length {
        /// The private position.
        position: u64,
        /// The length found in the slot.
        len: u32,
    },
    /// A published slot has an unknown kind.
    #[error("slot at position {position} is of unknown kind {kind}")]
    Kind {
        /// The private position.
        position: u64,
        /// The kind found in the slot.
        kind: u32,
    },
    /// A published slot's reserved bytes are not zero.
    #[error("slot at position {position} has non-zero reserved bytes")]
    Reserved {
        /// The private position.
        position: u64,
    },
    /// [`MAX_POSITION`] messages have been carried.
    #[error("ring has carried all the messages it can count")]
    Exhausted,
}

/// Where everything is in a region of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    slots: u64,
}

impl Layout {
    /// The layout of a region of `words` 64-bit words: the largest power of two of slots that fits twice,
    /// at most [`MAX_SLOTS`].
    ///
    /// # Errors
    /// [`RingError::RegionTooSmall`] if fewer than [`MIN_SLOTS`] fit.
    pub fn for_words(words: usize) -> Result<Self, RingError> {
        let fit = words.saturating_sub(HEADER_BYTES / WORD) / (2 * SLOT_WORDS);
        let fit = u64::try_from(fit).unwrap_or(MAX_SLOTS).min(MAX_SLOTS);
        match fit.checked_ilog2() {
            Some(log2) if 1 << log2 >= MIN_SLOTS => Ok(Self { slots: 1 << log2 }),
            _ => Err(RingError::RegionTooSmall { words }),
        }
    }

    /// Number of slots of each direction; a power of two.
    #[must_use]
    pub const fn slots(self) -> u64 {
        self.slots
    }

    /// Bytes a region must have for `slots` slots in each direction.
    #[must_use]
    pub const fn bytes_for(slots: usize) -> usize {
        HEADER_BYTES + 2 * slots * SLOT_BYTES
    }

    const fn geometry(self) -> u64 {
        VERSION | ((self.slots.trailing_zeros() as u64) << 16) | ((SLOT_BYTES as u64) << 32)
    }

    /// Writes the header that [`Layout::check_header`] looks for.
    ///
    /// # Errors
    /// [`RingError::OutOfRegion`] if the region is smaller than it said.
    pub fn write_header<R: Region>(self, region: &R) -> Result<(), RingError> {
        store(region, 1, self.geometry())?;
        region.store_release(0, MAGIC).ok_or(RingError::OutOfRegion { index: 0 })
    }

    /// Whether the initiator has announced itself with the same layout; `false` while the region is untouched.
    ///
    /// # Errors
    /// [`RingError::Header`] if there is something else in the header. Nothing is derived from the header: it
    /// only turns a mismatch of versions into a message instead of a silence.
    pub fn check_header<R: Region>(self, region: &R) -> Result<bool, RingError> {
        let magic = load_acquire(region, 0)?;
        if magic == 0 {
            return Ok(false);
        }
        let geometry = load(region, 1)?;
        if magic == MAGIC && geometry == self.geometry() {
            Ok(true)
        } else {
            Err(RingError::Header { magic, geometry, expected: self.geometry() })
        }
    }
}

/// The private half of either end: which slot comes next.
#[derive(Debug)]
struct Cursor {
    layout: Layout,
    direction: Direction,
    position: u64,
}

impl Cursor {
    /// Index of the first word of the current slot. Derived from private values alone.
    fn slot(&self) -> Result<usize, RingError> {
        if self.position >= MAX_POSITION {
            return Err(RingError::Exhausted);
        }
        let slot = self.position % self.layout.slots;
        let slot = match self.direction {
            Direction::InitiatorToResponder => slot,
            Direction::ResponderToInitiator => slot + self.layout.slots,
        };
        usize::try_from(slot)
            .ok()
            .and_then(|slot| slot.checked_mul(SLOT_WORDS))
            .and_then(|words| words.checked_add(HEADER_BYTES / WORD))
            .ok_or(RingError::OutOfRegion { index: usize::MAX })
    }

    /// The state word of a free slot at this position; one more means published.
    fn free(&self) -> u64 {
        self.position / self.layout.slots * 2
    }
}

/// The writing end of a ring.
#[derive(Debug)]
pub struct Producer {
    cursor: Cursor,
}

impl Producer {
    /// The writing end of `direction`, at its beginning.
    #[must_use]
    pub const fn new(layout: Layout, direction: Direction) -> Self {
        Self { cursor: Cursor { layout, direction, position: 0 } }
    }

    /// Messages pushed so far.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.cursor.position
    }

    /// Checks that the next [`Producer::push`] finds a free slot, as far as the consumer says so.
    ///
    /// # Errors
    /// [`RingError::Full`] if the consumer has not acknowledged yet; otherwise as [`Producer::push`].
    pub fn ready<R: Region>(&self, region: &R) -> Result<(), RingError> {
        let free = self.cursor.free();
        let found = load_acquire(region, self.cursor.slot()?)?;
        if found == free {
            Ok(())
        } else if Some(found) == free.checked_sub(1) {
            Err(RingError::Full)
        } else {
            Err(RingError::State { position: self.cursor.position, found })
        }
    }

    /// Publishes one message.
    ///
    /// # Errors
    /// [`RingError::TooLong`] and [`RingError::Full`] change nothing; [`RingError::State`] means that the slot's
    /// state word was tampered with.
    pub fn push<R: Region>(&mut self, region: &R, kind: Kind, payload: &[u8]) -> Result<(), RingError> {
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAX_PAYLOAD)
            .ok_or(RingError::TooLong { len: payload.len() })?;
        self.ready(region)?;
        let slot = self.cursor.slot()?;
        store(region, slot + 1, self.cursor.position)?;
        store(region, slot + 2, u64::from(len) | u64::from(kind.code()) << 32)?;
        store(region, slot + 3, 0)?;
        let first = slot + SLOT_HEADER_BYTES / WORD;
        for (index, chunk) in (first..).zip(payload.chunks(WORD)) {
            let mut word = [0; WORD];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            store(region, index, u64::from_le_bytes(word))?;
        }
        region.store_release(slot, self.cursor.free() + 1).ok_or(RingError::OutOfRegion { index: slot })?;
        self.cursor.position += 1;
        Ok(())
    }
}

/// A private copy of one slot.
#[derive(Debug)]
pub struct Fetched {
    kind: Kind,
    len: usize,
    payload: [u8; MAX_PAYLOAD],
}

impl Default for Fetched {
    fn default() -> Self {
        Self { kind: Kind::Data, len: 0, payload: [0; MAX_PAYLOAD] }
    }
}

impl Fetched {
    /// What the slot carried.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The slot's payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload.get(..self.len).unwrap_or_default()
    }

    /// The slot's payload, to be worked on in place.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload.get_mut(..self.len).unwrap_or_default()
    }
}

/// The reading end of a ring.
#[derive(Debug)]
pub struct Consumer {
    cursor: Cursor,
}

impl Consumer {
    /// The reading end of `direction`, at its beginning.
    #[must_use]
    pub const fn new(layout: Layout, direction: Direction) -> Self {
        Self { cursor: Cursor { layout, direction, position: 0 } }
    }

    /// Messages taken so far.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.cursor.position
    }

    /// Copies the next message to `out` and acknowledges it; `false` if there is none yet.
    ///
    /// # Errors
    /// Any error but [`RingError::Exhausted`] means that the slot is not what an honest producer writes. The
    /// position does not move then, and `out` holds nothing of use.
    pub fn pop<R: Region>(&mut self, region: &R, out: &mut Fetched) -> Result<bool, RingError> {
        let position = self.cursor.position;
        let slot = self.cursor.slot()?;
        let free = self.cursor.free();
        let found = load_acquire(region, slot)?;
        if found == free {
            return Ok(false);
        }
        if found != free + 1 {
            return Err(RingError::State { position, found });
        }
        // Single fetch: each word below is loaded exactly once, and what is checked is the private copy.
        let number = load(region, slot + 1)?;
        let shape = load(region, slot + 2)?;
        let reserved = load(region, slot + 3)?;
        if number != position {
            return Err(RingError::Position { position, found: number });
        }
        if reserved != 0 {
            return Err(RingError::Reserved { position });
        }
        let (claimed, code) = (shape as u32, (shape >> 32) as u32);
        let kind = Kind::from_code(code).ok_or(RingError::Kind { position, kind: code })?;
        let len = usize::try_from(claimed)
            .ok()
            .filter(|len| *len <= MAX_PAYLOAD)
            .ok_or(RingError::Length { position, len: claimed })?;
        (out.kind, out.len) = (kind, len);
        let first = slot + SLOT_HEADER_BYTES / WORD;
        for (index, chunk) in (first..).zip(out.payload_mut().chunks_mut(WORD)) {
            let word = load(region, index)?.to_le_bytes();
            chunk.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
        region.store_release(slot, free + 2).ok_or(RingError::OutOfRegion { index: slot })?;
        self.cursor.position += 1;
        Ok(true)
    }
}

fn load<R: Region>(region: &R, index: usize) -> Result<u64, RingError> {
    region.load(index).ok_or(RingError::OutOfRegion { index })
}

fn load_acquire<R: Region>(region: &R, index: usize) -> Result<u64, RingError> {
    region.load_acquire(index).ok_or(RingError::OutOfRegion { index })
}

fn store<R: Region>(region: &R, index: usize, value: u64) -> Result<(), RingError> {
    region.store(index, value).ok_or(RingError::OutOfRegion { index })
}
