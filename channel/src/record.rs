//! Sealed records: what the ring carries once the handshake is done.
//!
//! A record is the message encrypted with ChaCha20-Poly1305, then the 16-byte tag. Each direction has its own
//! key and counts its records from 0; the count is the nonce and is never sent. The associated data is
//!
//! | bytes | content |
//! |---|---|
//! | 16 | `"bulla-record-v1"` and a zero byte |
//! | 32 | channel id |
//! | 1 | direction: 0 initiator → responder, 1 responder → initiator |
//! | 1 | kind, as in the slot: 2 data, 3 close |
//! | 8 | record number, little-endian |
//! | 4 | message length in bytes, little-endian |
//!
//! so a record opens only in its own channel, direction, place and length. The first failure erases the key: there
//! is no second try, no skipping and no resynchronisation.
//!
//! There is no rekeying yet. A direction ends after [`MAX_RECORDS`] records; that is 8.6 TB of full records under
//! one key, far below the bounds of the cipher for one forgery attempt (AEAD limits, draft-irtf-cfrg-aead-limits).
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::ChannelId;
use crate::aead::{Aead, TAG_BYTES};
use crate::ring::{Direction, Kind, MAX_PAYLOAD};

/// Longest message in bytes. Longer ones are refused, not fragmented.
pub const MAX_MESSAGE: usize = MAX_PAYLOAD - TAG_BYTES;
/// Records a direction may carry under its key.
pub const MAX_RECORDS: u64 = 1 << 32;

const LABEL: &[u8; 16] = b"bulla-record-v1\0";
const AD_BYTES: usize = 16 + 32 + 1 + 1 + 8 + 4;

/// Why a record was refused. [`RecordError::TooLong`] changes nothing; all others end the direction for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The message does not fit one record.
    #[error("message of {len} bytes exceeds the record's {MAX_MESSAGE}")]
    TooLong {
        /// Bytes offered.
        len: usize,
    },
    /// The record is shorter than its tag.
    #[error("record {number} of {len} bytes is shorter than its tag")]
    Truncated {
        /// The record expected.
        number: u64,
        /// Bytes found.
        len: usize,
    },
    /// The record is not the next one of this channel and direction, or was changed on its way.
    #[error("record {number} does not authenticate")]
    Forged {
        /// The record expected.
        number: u64,
    },
    /// [`MAX_RECORDS`] have been carried.
    #[error("{number} records have been carried, as many as one key may")]
    Exhausted {
        /// Records carried.
        number: u64,
    },
    /// An earlier failure or a close record ended this direction.
    #[error("this direction is closed")]
    Closed,
}

/// One direction's key and count; either end of it.
struct Half {
    key: Option<Aead>,
    id: ChannelId,
    direction: Direction,
    number: u64,
    limit: u64,
}

impl Half {
    fn new(key: &Zeroizing<[u8; 32]>, id: ChannelId, direction: Direction) -> Self {
        Self { key: Some(Aead::new(key)), id, direction, number: 0, limit: MAX_RECORDS }
    }

    fn check_limit(&mut self) -> Result<(), RecordError> {
        if self.key.is_none() {
            return Err(RecordError::Closed);
        }
        if self.number >= self.limit {
            self.key = None;
            return Err(RecordError::Exhausted { number: self.number });
        }
        Ok(())
    }

    fn associated_data(&self, kind: Kind, len: usize) -> [u8; AD_BYTES] {
        let direction = match self.direction {
            Direction::InitiatorToResponder => 0,
            Direction::ResponderToInitiator => 1,
        };
        // No message is longer than a slot, so its length is exact in 32 bits.
        let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let parts = LABEL
            .iter()
            .chain(self.id.as_bytes())
            .copied()
            .chain([direction, kind.code()])
            .chain(self.number.to_le_bytes())
            .chain(len);
        let mut ad = [0; AD_BYTES];
        ad.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        ad
    }
}

/// Seals the records of one direction.
pub struct Sealer(Half);

impl core::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sealer").field("number", &self.0.number).finish_non_exhaustive()
    }
}

impl Sealer {
    /// The sealing end of `direction`.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>, id: ChannelId, direction: Direction) -> Self {
        Self(Half::new(key, id, direction))
    }

    /// Seals `message` as the next record into `out`, whose former content is dropped.
    ///
    /// # Errors
    /// [`RecordError::TooLong`], [`RecordError::Exhausted`], [`RecordError::Closed`].
    pub fn seal(&mut self, kind: Kind, message: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let half = &mut self.0;
        if message.len() > MAX_MESSAGE {
            return Err(RecordError::TooLong { len: message.len() });
        }
        half.check_limit()?;
        let ad = half.associated_data(kind, message.len());
        out.clear();
        out.extend_from_slice(message);
        let tag = half
            .key
            .as_ref()
            .ok_or(RecordError::Closed)?
            .seal(half.number, &ad, out)
            .ok_or(RecordError::TooLong { len: message.len() })?;
        out.extend_from_slice(&tag);
        half.number += 1;
        if kind == Kind::Close {
            half.key = None;
        }
        Ok(())
    }
}

/// Opens the records of one direction.
pub struct Opener(Half);

impl core::fmt::Debug for Opener {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Opener").field("number", &self.0.number).finish_non_exhaustive()
    }
}

impl Opener {
    /// The opening end of `direction`.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>, id: ChannelId, direction: Direction) -> Self {
        Self(Half::new(key, id, direction))
    }

    /// Opens the next record in place and returns its message.
    ///
    /// # Errors
    /// Any [`RecordError`] but `TooLong`; the direction is closed afterwards.
    pub fn open<'r>(&mut self, kind: Kind, record: &'r mut [u8]) -> Result<&'r mut [u8], RecordError> {
        let half = &mut self.0;
        half.check_limit()?;
        let key = half.key.take().ok_or(RecordError::Closed)?;
        let (number, len) = (half.number, record.len());
        let (text, tag) = record.split_last_chunk_mut::<TAG_BYTES>().ok_or(RecordError::Truncated { number, len })?;
        let ad = half.associated_data(kind, text.len());
        key.open(number, &ad, text, tag).ok_or(RecordError::Forged { number })?;
        half.number += 1;
        if kind != Kind::Close {
            half.key = Some(key);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Direction::{InitiatorToResponder, ResponderToInitiator};
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    const ID: ChannelId = ChannelId::new([7; 32]);

    fn pair() -> (Sealer, Opener) {
        let key = Zeroizing::new([9; 32]);
        (Sealer::new(&key, ID, InitiatorToResponder), Opener::new(&key, ID, InitiatorToResponder))
    }

    fn sealed(sealer: &mut Sealer, kind: Kind, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(kind, message, &mut out).unwrap();
        out
    }

    #[test]
    fn records_open_in_order_and_only_once() {
        let (mut sealer, mut opener) = pair();
        let mut first = sealed(&mut sealer, Kind::Data, b"first");
        let mut second = sealed(&mut sealer, Kind::Data, b"");
        let mut replay = second.clone();
        assert_eq!(opener.open(Kind::Data, &mut first).unwrap(), b"first");
        assert_eq!(opener.open(Kind::Data, &mut second).unwrap(), b"");
        assert_eq!(opener.open(Kind::Data, &mut replay), Err(RecordError::Forged { number: 2 }));
    }

    #[test]
    fn after_one_failure_even_a_good_record_is_refused() {
        let (mut sealer, mut opener) = pair();
        let mut good = sealed(&mut sealer, Kind::Data, b"good");
        assert!(opener.open(Kind::Data, &mut [0; 20]).is_err());
        assert_eq!(opener.open(Kind::Data, &mut good), Err(RecordError::Closed));
    }

    #[test]
    fn a_skipped_record_is_refused() {
        let (mut sealer, mut opener) = pair();
        let _lost = sealed(&mut sealer, Kind::Data, b"lost");
        let mut next = sealed(&mut sealer, Kind::Data, b"next");
        assert_eq!(opener.open(Kind::Data, &mut next), Err(RecordError::Forged { number: 0 }));
    }

    #[test]
    fn a_record_opens_in_no_other_channel_direction_or_kind() {
        let key = Zeroizing::new([9; 32]);
        let record = sealed(&mut pair().0, Kind::Data, b"secret");
        let others = [
            (ChannelId::new([8; 32]), InitiatorToResponder, Kind::Data),
            (ID, ResponderToInitiator, Kind::Data),
            (ID, InitiatorToResponder, Kind::Close),
        ];
        for (id, direction, kind) in others {
            assert_eq!(
                Opener::new(&key, id, direction).open(kind, &mut record.clone()),
                Err(RecordError::Forged { number: 0 })
            );
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_detected() {
        let record = sealed(&mut pair().0, Kind::Data, b"a message worth changing");
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(pair().1.open(Kind::Data, &mut changed), Err(RecordError::Forged { number: 0 }));
        }
    }

    #[test]
    fn every_truncation_is_detected() {
        let record = sealed(&mut pair().0, Kind::Data, b"shorter and shorter");
        for len in 0..record.len() {
            let result = pair().1.open(Kind::Data, &mut record.clone()[..len]).err();
            let expected = if len < TAG_BYTES {
                RecordError::Truncated { number: 0, len }
            } else {
                RecordError::Forged { number: 0 }
            };
            assert_eq!(result, Some(expected));
        }
    }

    #[test]
    fn the_limit_of_records_ends_both_ends() {
        let (mut sealer, mut opener) = pair();
        (sealer.0.limit, opener.0.limit) = (1, 1);
        let mut only = sealed(&mut sealer, Kind::Data, b"only");
        let exhausted = RecordError::Exhausted { number: 1 };
        let mut out = Vec::new();
        assert_eq!(sealer.seal(Kind::Data, b"", &mut out), Err(exhausted));
        assert_eq!(sealer.seal(Kind::Data, b"", &mut out), Err(RecordError::Closed));
        assert!(opener.open(Kind::Data, &mut only).is_ok());
        assert_eq!(opener.open(Kind::Data, &mut only), Err(exhausted));
    }

    #[test]
    fn an_overlong_message_is_refused_and_changes_nothing() {
        let (mut sealer, mut opener) = pair();
        let mut out = Vec::new();
        assert_eq!(
            sealer.seal(Kind::Data, &[0; MAX_MESSAGE + 1], &mut out),
            Err(RecordError::TooLong { len: MAX_MESSAGE + 1 })
        );
        let mut longest = sealed(&mut sealer, Kind::Data, &[5; MAX_MESSAGE]);
        assert_eq!(longest.len(), MAX_PAYLOAD);
        assert_eq!(opener.open(Kind::Data, &mut longest).unwrap(), [5; MAX_MESSAGE]);
    }

    #[test]
    fn a_close_record_ends_the_direction() {
        let (mut sealer, mut opener) = pair();
        let mut close = sealed(&mut sealer, Kind::Close, b"");
        assert!(opener.open(Kind::Close, &mut close).is_ok());
        assert_eq!(sealer.seal(Kind::Data, b"late", &mut vec![]), Err(RecordError::Closed));
        assert_eq!(opener.open(Kind::Data, &mut [0; 20]), Err(RecordError::Closed));
    }

    proptest! {
        #[test]
        fn any_message_round_trips(messages in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..300), 1..8))
        {
            let (mut sealer, mut opener) = pair();
            for message in messages {
                let mut record = sealed(&mut sealer, Kind::Data, &message);
                prop_assert_eq!(opener.open(Kind::Data, &mut record).unwrap(), &message);
            }
        }

        #[test]
        fn any_bytes_are_refused_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(pair().1.open(Kind::Data, &mut bytes).is_err());
        }
    }
}
