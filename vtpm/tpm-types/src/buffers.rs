//! Small sized buffers (TPM2B_*), hash values (TPMT_HA) and lists (TPML_*), all stored in place.

use core::fmt;
use core::ops::Deref;

use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::HashAlg;
use crate::error::{Error, ErrorKind};

/// The largest digest of a hash algorithm this crate knows: SHA-512.
pub(crate) const MAX_DIGEST: usize = 64;

/// A TPM2B of at most `MAX` bytes, stored in place (Part 2, 10.4).
#[derive(Clone, Copy)]
pub struct Tpm2b<const MAX: usize> {
    len: u16,
    bytes: [u8; MAX],
}

/// TPM2B_DIGEST (Part 2, 10.4.2).
pub type Digest = Tpm2b<MAX_DIGEST>;
/// TPM2B_NONCE (Part 2, 10.4.4).
pub type Nonce = Digest;
/// TPM2B_AUTH (Part 2, 10.4.5).
pub type Auth = Digest;
/// TPM2B_DATA: at most a TPMT_HA (Part 2, 10.4.3).
pub type Data = Tpm2b<{ MAX_DIGEST + 2 }>;
/// TPM2B_NAME: a handle, or a hash algorithm and a digest (Part 2, 10.5.3).
pub type Name = Tpm2b<{ MAX_DIGEST + 4 }>;
/// TPM2B_LABEL (Part 2, 11.1.9).
pub type Label = Tpm2b<32>;
/// TPM2B_ECC_PARAMETER: up to P-521 (Part 2, 11.2.5.1).
pub type EccParameter = Tpm2b<66>;
/// TPM2B_PUBLIC_KEY_RSA: up to RSA-4096 (Part 2, 11.2.4.5).
pub type PublicKeyRsa = Tpm2b<512>;

impl<const MAX: usize> Tpm2b<MAX> {
    /// The empty buffer.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; MAX] };

    /// A buffer with these contents, or `None` when they are longer than `MAX`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut b = Self::EMPTY;
        b.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        b.len = u16::try_from(bytes.len()).ok()?;
        Some(b)
    }

    /// A buffer of `len` zero bytes, or `None` when that is more than `MAX`.
    #[must_use]
    pub fn zeros(len: usize) -> Option<Self> {
        (len <= MAX).then_some(Self { len: u16::try_from(len).ok()?, bytes: [0; MAX] })
    }

    /// The contents.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl<const MAX: usize> Default for Tpm2b<MAX> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const MAX: usize> Deref for Tpm2b<MAX> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<const MAX: usize> PartialEq for Tpm2b<MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const MAX: usize> Eq for Tpm2b<MAX> {}

impl<const MAX: usize> fmt::Debug for Tpm2b<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(self.as_bytes(), f)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl<const MAX: usize> Marshal for Tpm2b<MAX> {
    fn marshal(&self, w: &mut Writer) {
        w.u16(self.len);
        w.bytes(self.as_bytes());
    }
}

impl<'a, const MAX: usize> Unmarshal<'a> for Tpm2b<MAX> {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        let bytes = r.tpm2b(MAX, "TPM2B")?;
        Self::new(bytes).ok_or_else(|| at.error(ErrorKind::Size, "TPM2B"))
    }
}

/// TPMT_HA: a digest and the algorithm that made it (Part 2, 10.3.2).
#[derive(Clone, Copy)]
pub struct Ha {
    alg: HashAlg,
    bytes: [u8; MAX_DIGEST],
}

impl Ha {
    /// A hash value, or `None` when the length is not the algorithm's.
    #[must_use]
    pub fn new(alg: HashAlg, digest: &[u8]) -> Option<Self> {
        if digest.len() != alg.size() {
            return None;
        }
        let mut bytes = [0; MAX_DIGEST];
        bytes.get_mut(..digest.len())?.copy_from_slice(digest);
        Some(Self { alg, bytes })
    }

    /// The all-zero hash value.
    #[must_use]
    pub const fn zero(alg: HashAlg) -> Self {
        Self { alg, bytes: [0; MAX_DIGEST] }
    }

    /// The algorithm.
    #[must_use]
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// The digest, as long as the algorithm makes it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.alg.size()]
    }

    /// The digest, to be overwritten.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.alg.size()]
    }

    /// The digest as a TPM2B_DIGEST.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { len: self.alg.size() as u16, bytes: self.bytes }
    }
}

impl Default for Ha {
    fn default() -> Self {
        Self::zero(HashAlg::Sha256)
    }
}

impl PartialEq for Ha {
    fn eq(&self, other: &Self) -> bool {
        self.alg == other.alg && self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Ha {}

impl fmt::Debug for Ha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.alg)?;
        hex(self.as_bytes(), f)
    }
}

impl Marshal for Ha {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.alg);
        w.bytes(self.as_bytes());
    }
}

impl<'a> Unmarshal<'a> for Ha {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let alg = r.get::<HashAlg>()?;
        let mut ha = Self::zero(alg);
        ha.as_bytes_mut().copy_from_slice(r.take(alg.size(), "TPMU_HA")?);
        Ok(ha)
    }
}

/// A TPML_*: a `UINT32` count and at most `MAX` structures, stored in place (Part 2, 10.9).
#[derive(Clone, Copy)]
pub struct List<T, const MAX: usize> {
    len: usize,
    items: [T; MAX],
}

impl<T: Copy + Default, const MAX: usize> List<T, MAX> {
    /// The empty list.
    #[must_use]
    pub fn new() -> Self {
        Self { len: 0, items: [T::default(); MAX] }
    }

    /// A list of these items, or `None` when there are more than `MAX`.
    #[must_use]
    pub fn from_slice(items: &[T]) -> Option<Self> {
        let mut list = Self::new();
        items.iter().all(|i| list.push(*i)).then_some(list)
    }

    /// Appends an item; false when the list is full.
    #[must_use]
    pub fn push(&mut self, item: T) -> bool {
        match self.items.get_mut(self.len) {
            Some(slot) => {
                *slot = item;
                self.len += 1;
                true
            }
            None => false,
        }
    }
}

impl<T: Copy + Default, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.items[..self.len]
    }
}

impl<T, const MAX: usize> core::ops::DerefMut for List<T, MAX> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items[..self.len]
    }
}

impl<T: PartialEq, const MAX: usize> PartialEq for List<T, MAX> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, const MAX: usize> Eq for List<T, MAX> {}

impl<T: fmt::Debug, const MAX: usize> fmt::Debug for List<T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Marshal, const MAX: usize> Marshal for List<T, MAX> {
    fn marshal(&self, w: &mut Writer) {
        w.u32(self.len as u32);
        self.iter().for_each(|i| w.put(i));
    }
}

impl<'a, T: Unmarshal<'a> + Copy + Default, const MAX: usize> Unmarshal<'a> for List<T, MAX> {
    /// A count above `MAX` is TPM_RC_SIZE.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        let count = r.u32("TPML count")?;
        let mut list = Self::new();
        if usize::try_from(count).map_or(true, |c| c > MAX) {
            return Err(at.error(ErrorKind::Size, "TPML count"));
        }
        for _ in 0..count {
            let full = !list.push(r.get()?);
            debug_assert!(!full, "count was checked");
        }
        Ok(list)
    }
}
