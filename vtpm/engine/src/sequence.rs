//! Sequence objects: hashes, HMACs and events whose data come in pieces (Part 1, 32).

use alloc::vec::Vec;

use bulla_tpm_types::hash::Hasher;
use bulla_tpm_types::{Digest, Error, ErrorKind, Ha, HashAlg, Reader, Writer};
use zeroize::Zeroizing;

use super::cipher::Cmac;
use super::pcr::HashSequence;

/// The largest block of a hash algorithm: SHA-512's.
const MAX_BLOCK: usize = 128;

/// An unfinished HMAC (FIPS 198-1), whose state can be saved.
#[derive(Clone)]
pub(super) struct HmacSequence {
    inner: Hasher,
    key: Zeroizing<[u8; MAX_BLOCK]>,
}

impl HmacSequence {
    /// Begins an HMAC.
    pub(super) fn new(alg: HashAlg, key: &[u8]) -> Self {
        let block = block_size(alg);
        let mut padded = Zeroizing::new([0; MAX_BLOCK]);
        let hashed;
        let key = if key.len() > block {
            hashed = bulla_tpm_types::hash::digest(alg, &[key]);
            hashed.as_bytes()
        } else {
            key
        };
        padded.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        let mut inner = Hasher::new(alg);
        inner.update(&masked(&padded, block, 0x36));
        Self { inner, key: padded }
    }

    fn finish(self) -> Ha {
        let alg = self.inner.alg();
        let outer = masked(&self.key, block_size(alg), 0x5c);
        bulla_tpm_types::hash::digest(alg, &[&*outer, self.inner.finish().as_bytes()])
    }
}

const fn block_size(alg: HashAlg) -> usize {
    match alg {
        HashAlg::Sha1 | HashAlg::Sha256 => 64,
        HashAlg::Sha384 | HashAlg::Sha512 => 128,
    }
}

fn masked(key: &[u8; MAX_BLOCK], block: usize, mask: u8) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(key.iter().take(block).map(|b| b ^ mask).collect())
}

/// What a sequence object computes.
#[derive(Clone)]
pub(super) enum SequenceKind {
    /// One digest: HashSequenceStart with an algorithm.
    Hash(Hasher),
    /// One digest for each bank: HashSequenceStart with TPM_ALG_NULL.
    Event(HashSequence),
    /// MAC_Start with an HMAC key.
    Hmac(HmacSequence),
    /// MAC_Start with a cipher's key.
    Cmac(Cmac),
}

/// A sequence object.
#[derive(Clone)]
pub(super) struct Sequence {
    /// Its state.
    pub(super) kind: SequenceKind,
    /// Whether the data so far may get a ticket; `None` before the first data.
    ticket_safe: Option<bool>,
}

impl Sequence {
    /// Begins a hash sequence.
    pub(super) fn new(alg: HashAlg) -> Self {
        Self { kind: SequenceKind::Hash(Hasher::new(alg)), ticket_safe: None }
    }

    /// Begins an event sequence.
    pub(super) fn event(sequence: HashSequence) -> Self {
        Self { kind: SequenceKind::Event(sequence), ticket_safe: None }
    }

    /// Begins an HMAC sequence.
    pub(super) fn hmac(alg: HashAlg, key: &[u8]) -> Self {
        Self { kind: SequenceKind::Hmac(HmacSequence::new(alg, key)), ticket_safe: None }
    }

    /// Begins a CMAC sequence; `None` for a key that is not one of AES.
    pub(super) fn cmac(key: &[u8]) -> Option<Self> {
        Some(Self { kind: SequenceKind::Cmac(Cmac::new(key)?), ticket_safe: None })
    }

    /// Adds data.
    pub(super) fn update(&mut self, data: &[u8]) {
        if self.ticket_safe.is_none() && !data.is_empty() {
            self.ticket_safe = Some(may_have_ticket(data));
        }
        match &mut self.kind {
            SequenceKind::Hash(h) => h.update(data),
            SequenceKind::Event(h) => h.update(data),
            SequenceKind::Hmac(h) => h.inner.update(data),
            SequenceKind::Cmac(c) => c.update(data),
        }
    }

    /// The digest and whether it may get a ticket, which a MAC does not; `None` for an event sequence.
    pub(super) fn finish(self) -> Option<(Digest, bool)> {
        match self.kind {
            SequenceKind::Hash(h) => Some((h.finish().digest(), self.ticket_safe.unwrap_or(false))),
            SequenceKind::Hmac(h) => Some((h.finish().digest(), false)),
            SequenceKind::Cmac(c) => Some((c.finish(), false)),
            SequenceKind::Event(_) => None,
        }
    }

    /// Writes the state for [`Sequence::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.u8(match self.ticket_safe {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        });
        match &self.kind {
            SequenceKind::Hash(h) => {
                w.u8(0);
                h.save(w);
            }
            SequenceKind::Event(h) => {
                w.u8(1);
                h.save(w);
            }
            SequenceKind::Hmac(h) => {
                w.u8(2);
                h.inner.save(w);
                w.bytes(&*h.key);
            }
            SequenceKind::Cmac(c) => {
                w.u8(3);
                c.save(w);
            }
        }
    }

    /// Reads what [`Sequence::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        let at = r.clone();
        let ticket_safe = match r.u8("sequence")? {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            _ => return Err(at.error(ErrorKind::Value, "sequence")),
        };
        let kind = match r.u8("sequence")? {
            0 => SequenceKind::Hash(Hasher::restore(r)?),
            1 => SequenceKind::Event(HashSequence::restore(r)?),
            2 => {
                let inner = Hasher::restore(r)?;
                let mut key = Zeroizing::new([0; MAX_BLOCK]);
                key.copy_from_slice(r.take(MAX_BLOCK, "HMAC key")?);
                SequenceKind::Hmac(HmacSequence { inner, key })
            }
            3 => SequenceKind::Cmac(Cmac::restore(r)?),
            _ => return Err(at.error(ErrorKind::Value, "sequence")),
        };
        Ok(Self { kind, ticket_safe })
    }
}

/// Whether data that starts so cannot be taken for a structure that a TPM generated: it does not start with
/// TPM_GENERATED_VALUE, and is long enough to tell (Part 3, 15.4).
pub(super) fn may_have_ticket(data: &[u8]) -> bool {
    data.len() >= 4 && !data.starts_with(b"\xffTCG")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hmac;

    #[test]
    fn an_hmac_in_pieces_is_the_hmac_of_the_whole_also_when_saved_between() {
        for alg in HashAlg::ALL {
            for key in [&b""[..], b"key", &[7; 64], &[7; 65], &[9; 128], &[9; 129]] {
                let mut sequence = Sequence::hmac(alg, key);
                sequence.update(b"what do ya want ");
                let mut w = Writer::new();
                sequence.save(&mut w);
                let saved = w.into_vec();
                let mut restored = Sequence::restore(&mut Reader::new(&saved)).expect("what was saved");
                restored.update(b"for nothing?");
                let want = hmac(alg, key, &[b"what do ya want for nothing?"]);
                assert_eq!(restored.finish(), Some((want.digest(), false)));
            }
        }
    }

    #[test]
    fn what_was_not_saved_is_not_restored() {
        for bytes in [&[][..], &[3, 0], &[0, 3], &[0, 0, 0, 0x0b, 1, 2, 3]] {
            assert!(Sequence::restore(&mut Reader::new(bytes)).is_err());
        }
    }
}
