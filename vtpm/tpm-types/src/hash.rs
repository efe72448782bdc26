//! Hash functions by TPM algorithm.

use sha1::Sha1;
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::buffers::{Ha, List};
use crate::codec::{Reader, Unmarshal as _, Writer};
use crate::constants::HashAlg;
use crate::error::{Error, ErrorKind};
use crate::pcr::DigestValues;

/// A running hash of one algorithm.
#[derive(Clone)]
#[expect(missing_docs, reason = "the variants are the algorithms of those names")]
pub enum Hasher {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl core::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Hasher({})", self.alg())
    }
}

impl Hasher {
    /// Starts a hash.
    #[must_use]
    pub fn new(alg: HashAlg) -> Self {
        match alg {
            HashAlg::Sha1 => Self::Sha1(Sha1::new()),
            HashAlg::Sha256 => Self::Sha256(Sha256::new()),
            HashAlg::Sha384 => Self::Sha384(Sha384::new()),
            HashAlg::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// The algorithm.
    #[must_use]
    pub fn alg(&self) -> HashAlg {
        match self {
            Self::Sha1(_) => HashAlg::Sha1,
            Self::Sha256(_) => HashAlg::Sha256,
            Self::Sha384(_) => HashAlg::Sha384,
            Self::Sha512(_) => HashAlg::Sha512,
        }
    }

    /// Adds data.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha1(h) => h.update(data),
            Self::Sha256(h) => h.update(data),
            Self::Sha384(h) => h.update(data),
            Self::Sha512(h) => h.update(data),
        }
    }

    /// Writes the algorithm and the state, for [`Hasher::restore`]. The form is not one of the specification's.
    pub fn save(&self, w: &mut Writer) {
        w.put(&self.alg());
        match self {
            Self::Sha1(h) => w.bytes(&h.serialize()),
            Self::Sha256(h) => w.bytes(&h.serialize()),
            Self::Sha384(h) => w.bytes(&h.serialize()),
            Self::Sha512(h) => w.bytes(&h.serialize()),
        }
    }

    /// Reads what [`Hasher::save`] has written.
    pub fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        /// `counted`: where the number of blocks ends, which comes after the chaining value, little-endian. The digest has
        /// the number of bits, which must not overflow.
        fn state<H: SerializableState>(r: &mut Reader<'_>, counted: usize) -> Result<H, Error> {
            let at = r.clone();
            let bad = || at.error(ErrorKind::Value, "hash state");
            let size = size_of::<sha2::digest::common::hazmat::SerializedState<H>>();
            let bytes = r.take(size, "hash state")?;
            if bytes.get(counted - 2..counted) != Some(&[0, 0]) {
                return Err(bad());
            }
            let bytes = bytes.try_into().map_err(|_| bad())?;
            H::deserialize(bytes).map_err(|_| bad())
        }
        Ok(match HashAlg::unmarshal(r)? {
            HashAlg::Sha1 => Self::Sha1(state(r, 20 + 8)?),
            HashAlg::Sha256 => Self::Sha256(state(r, 32 + 8)?),
            HashAlg::Sha384 => Self::Sha384(state(r, 64 + 16)?),
            HashAlg::Sha512 => Self::Sha512(state(r, 64 + 16)?),
        })
    }

    /// The digest of everything added.
    #[must_use]
    pub fn finish(self) -> Ha {
        let mut ha = Ha::zero(self.alg());
        let out = ha.as_bytes_mut();
        match self {
            Self::Sha1(h) => out.copy_from_slice(&h.finalize()),
            Self::Sha256(h) => out.copy_from_slice(&h.finalize()),
            Self::Sha384(h) => out.copy_from_slice(&h.finalize()),
            Self::Sha512(h) => out.copy_from_slice(&h.finalize()),
        }
        ha
    }
}

/// The digest of the concatenation of `parts`.
#[must_use]
pub fn digest(alg: HashAlg, parts: &[&[u8]]) -> Ha {
    let mut h = Hasher::new(alg);
    parts.iter().for_each(|p| h.update(p));
    h.finish()
}

/// The digests of `data` in each of [`HashAlg::BANKS`].
#[must_use]
pub fn digest_banks(data: &[u8]) -> DigestValues {
    List::from_slice(&HashAlg::BANKS.map(|alg| digest(alg, &[data]))).unwrap_or_default()
}

/// The value of a PCR of value `old` after extending it with `new` (Part 1, 17.2).
///
/// `None` when the two are of different banks.
#[must_use]
pub fn extend(old: &Ha, new: &Ha) -> Option<Ha> {
    (old.alg() == new.alg()).then(|| digest(old.alg(), &[old.as_bytes(), new.as_bytes()]))
}
