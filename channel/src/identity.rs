//! What a peer shows of itself: an attestation key, a quote, and the PCR values behind the quote.
//!
//! Layout of an identity, the payload of handshake messages 2 and 3 (integers big-endian, as everywhere in TPM
//! structures):
//!
//! | bytes | content |
//! |---|---|
//! | 1 | version, 1 |
//! | 2 + n | TPMT_PUBLIC of the attestation key |
//! | 2 + n | TPMS_ATTEST |
//! | 2 + n | TPMT_SIGNATURE over it |
//! | 1 | number of PCR values, at most 24 |
//! | each 1 + 32 | PCR index and its SHA-256 value, in ascending order of index |
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use crate::ring::MAX_PAYLOAD;

/// Number of PCRs a TPM of the PC Client profile has.
pub const PCR_COUNT: u8 = 24;
/// Bytes of the data a quote is taken over: 16 of label and 32 of transcript hash.
pub const EXTRA_BYTES: usize = 48;
/// Longest identity that fits handshake message 2, the largest one.
pub const MAX_IDENTITY: usize = MAX_PAYLOAD - 32 - (32 + 16) - 16;

const LABEL: &[u8; 16] = b"bulla-channel-v1";
const VERSION: u8 = 1;

/// The extraData of a channel quote: `"bulla-channel-v1"` ‖ the handshake's transcript hash.
///
/// At 48 bytes it is longer than any nonce that ordinary evidence accepts (32 bytes), so a quote taken for a
/// verifier can never be used in a handshake, nor the other way round.
#[must_use]
pub fn extra_data(transcript: &[u8; 32]) -> [u8; EXTRA_BYTES] {
    let mut extra = [0; EXTRA_BYTES];
    extra.iter_mut().zip(LABEL.iter().chain(transcript)).for_each(|(to, from)| *to = *from);
    extra
}

/// A set of PCR indices below 24.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PcrSet(u32);

impl PcrSet {
    /// The set whose members are the bits set in `bits`; `None` if any is 24 or above.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits >> PCR_COUNT == 0 { Some(Self(bits)) } else { None }
    }

    /// The set of `pcrs`; `None` if any is 24 or above.
    #[must_use]
    pub fn of(pcrs: &[u8]) -> Option<Self> {
        pcrs.iter().try_fold(Self(0), |set, pcr| (*pcr < PCR_COUNT).then_some(Self(set.0 | 1 << pcr)))
    }

    /// One bit for each member.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether `pcr` is a member.
    #[must_use]
    pub const fn contains(self, pcr: u8) -> bool {
        pcr < PCR_COUNT && self.0 >> pcr & 1 == 1
    }

    /// Whether there is no member.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..PCR_COUNT).filter(move |pcr| self.contains(*pcr))
    }
}

/// One PCR of the SHA-256 bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrValue {
    /// PCR index.
    pub pcr: u8,
    /// Its value.
    pub sha256: [u8; 32],
}

/// An identity as it crosses the channel; nothing in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestedIdentity {
    /// TPMT_PUBLIC of the attestation key.
    pub ak_public: Vec<u8>,
    /// TPMS_ATTEST: the quote.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE over `attest`.
    pub signature: Vec<u8>,
    /// The quoted PCRs' values, in ascending order.
    pub pcr_values: Vec<PcrValue>,
}

/// Why bytes are not an identity, or an identity has no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes end inside the field named.
    #[error("identity ends inside {field} at byte {offset}")]
    Truncated {
        /// Field that was cut.
        field: &'static str,
        /// Offset of that field's missing part.
        offset: usize,
    },
    /// Unknown version.
    #[error("identity has version {found}, expected {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// A PCR index is 24 or above, or not above the one before it.
    #[error("identity lists PCR {pcr} out of order or out of range")]
    PcrOrder {
        /// The index found.
        pcr: u8,
    },
    /// There are bytes after the identity.
    #[error("{extra} bytes after the identity")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// The identity does not fit a handshake message.
    #[error("identity of {len} bytes exceeds {MAX_IDENTITY}")]
    TooLong {
        /// Its length.
        len: usize,
    },
}

impl AttestedIdentity {
    /// The identity's bytes.
    ///
    /// # Errors
    /// [`IdentityError::TooLong`], [`IdentityError::PcrOrder`].
    pub fn encode(&self) -> Result<Vec<u8>, IdentityError> {
        let mut out = Vec::with_capacity(512);
        out.push(VERSION);
        for field in [&self.ak_public, &self.attest, &self.signature] {
            let len = u16::try_from(field.len()).map_err(|_| IdentityError::TooLong { len: field.len() })?;
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(field);
        }
        out.push(u8::try_from(self.pcr_values.len()).unwrap_or(u8::MAX));
        let mut order = PcrOrder::default();
        for value in &self.pcr_values {
            order.next(value.pcr)?;
            out.push(value.pcr);
            out.extend_from_slice(&value.sha256);
        }
        if out.len() > MAX_IDENTITY {
            return Err(IdentityError::TooLong { len: out.len() });
        }
        Ok(out)
    }

    /// Reads an identity from all of `bytes`.
    ///
    /// # Errors
    /// Any [`IdentityError`]. There is one encoding for an identity: what decodes encodes to the same bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        if bytes.len() > MAX_IDENTITY {
            return Err(IdentityError::TooLong { len: bytes.len() });
        }
        let mut cursor = Cursor { rest: bytes, offset: 0 };
        let [found] = cursor.array("version")?;
        if found != VERSION {
            return Err(IdentityError::Version { found });
        }
        let ak_public = cursor.sized("ak_public")?;
        let attest = cursor.sized("attest")?;
        let signature = cursor.sized("signature")?;
        let [count] = cursor.array("PCR count")?;
        let mut pcr_values = Vec::new();
        let mut order = PcrOrder::default();
        for _ in 0..count {
            let [pcr] = cursor.array("PCR index")?;
            order.next(pcr)?;
            let sha256 = cursor.array("PCR value")?;
            pcr_values.push(PcrValue { pcr, sha256 });
        }
        if !cursor.rest.is_empty() {
            return Err(IdentityError::Trailing { extra: cursor.rest.len() });
        }
        Ok(Self { ak_public, attest, signature, pcr_values })
    }
}

/// PCR indices must ascend, which also bounds their number.
#[derive(Default)]
struct PcrOrder {
    least: u8,
}

impl PcrOrder {
    fn next(&mut self, pcr: u8) -> Result<(), IdentityError> {
        if pcr < self.least || pcr >= PCR_COUNT {
            return Err(IdentityError::PcrOrder { pcr });
        }
        self.least = pcr + 1;
        Ok(())
    }
}

struct Cursor<'b> {
    rest: &'b [u8],
    offset: usize,
}

impl<'b> Cursor<'b> {
    fn take(&mut self, len: usize, field: &'static str) -> Result<&'b [u8], IdentityError> {
        let (head, tail) =
            self.rest.split_at_checked(len).ok_or(IdentityError::Truncated { field, offset: self.offset })?;
        self.rest = tail;
        self.offset += len;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], IdentityError> {
        let mut out = [0; N];
        out.iter_mut().zip(self.take(N, field)?).for_each(|(to, from)| *to = *from);
        Ok(out)
    }

    fn sized(&mut self, field: &'static str) -> Result<Vec<u8>, IdentityError> {
        let len = u16::from_be_bytes(self.array(field)?);
        Ok(self.take(len.into(), field)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn identity(pcrs: u32) -> AttestedIdentity {
        let pcrs = PcrSet::from_bits(pcrs & 0xff_ffff).unwrap();
        AttestedIdentity {
            ak_public: vec![1; 88],
            attest: vec![2; 150],
            signature: vec![3; 72],
            pcr_values: pcrs.iter().map(|pcr| PcrValue { pcr, sha256: [pcr; 32] }).collect(),
        }
    }

    #[test]
    fn an_identity_with_all_pcrs_fits_a_message() {
        let all = identity(0xff_ffff);
        assert_eq!(AttestedIdentity::decode(&all.encode().unwrap()), Ok(all));
    }

    #[test]
    fn every_truncation_is_named() {
        let bytes = identity(0b101).encode().unwrap();
        for len in 0..bytes.len() {
            assert!(matches!(AttestedIdentity::decode(&bytes[..len]), Err(IdentityError::Truncated { .. })));
        }
    }

    #[test]
    fn repeated_descending_and_impossible_pcrs_are_refused() {
        for (bad, pcrs) in [(3, [3, 3]), (2, [5, 2]), (24, [1, 24])] {
            let good = identity(0b11);
            let mut identity = good.clone();
            for (value, pcr) in identity.pcr_values.iter_mut().zip(pcrs) {
                value.pcr = pcr;
            }
            let refused = IdentityError::PcrOrder { pcr: bad };
            assert_eq!(identity.encode(), Err(refused));
            let mut bytes = good.encode().unwrap();
            let first = bytes.len() - 2 * 33;
            (bytes[first], bytes[first + 33]) = (pcrs[0], pcrs[1]);
            assert_eq!(AttestedIdentity::decode(&bytes), Err(refused));
        }
    }

    #[test]
    fn the_quote_is_over_a_label_and_the_transcript() {
        let extra = extra_data(&[7; 32]);
        assert_eq!(extra[..16], *b"bulla-channel-v1");
        assert_eq!(extra[16..], [7; 32]);
    }

    #[test]
    fn pcr_24_is_not_a_pcr() {
        assert!(PcrSet::of(&[23]).unwrap().contains(23));
        assert_eq!(PcrSet::of(&[24]), None);
        assert_eq!(PcrSet::from_bits(1 << 24), None);
    }

    proptest! {
        #[test]
        fn any_identity_round_trips(pcrs: u32, ak in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut identity = identity(pcrs);
            identity.ak_public = ak;
            prop_assert_eq!(AttestedIdentity::decode(&identity.encode().unwrap()), Ok(identity));
        }

        #[test]
        fn any_bytes_decode_without_panic_and_canonically(
            bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..300))
        {
            if let Ok(identity) = AttestedIdentity::decode(&bytes) {
                prop_assert_eq!(identity.encode().unwrap(), bytes);
            }
        }
    }
}
