//! The big-endian cursor: Part 1, "Canonical form"; Part 2, 4.4.

use alloc::vec::Vec;

use crate::error::{Error, ErrorKind};

/// Reads big-endian fields from a byte slice. Every read is checked; a failed read consumes nothing.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    base: usize,
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, base: 0 }
    }

    /// How many bytes have not been read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes have been read.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.base
    }

    /// The bytes not yet read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// An error about the field `what`, located at the current offset.
    #[must_use]
    pub fn error(&self, kind: ErrorKind, what: &'static str) -> Error {
        Error { kind, what, offset: self.base }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let Some((head, tail)) = self.bytes.split_at_checked(n) else {
            return Err(self.error(ErrorKind::Insufficient, what));
        };
        self.bytes = tail;
        self.base += n;
        Ok(head)
    }

    /// The next `n` bytes, as a reader whose offsets go on from this one's.
    pub fn part(&mut self, n: usize, what: &'static str) -> Result<Self, Error> {
        let base = self.base;
        Ok(Self { bytes: self.take(n, what)?, base })
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let Some((head, tail)) = self.bytes.split_first_chunk::<N>() else {
            return Err(self.error(ErrorKind::Insufficient, what));
        };
        self.bytes = tail;
        self.base += N;
        Ok(*head)
    }

    /// A `UINT8`; `what` names it in the error.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.array::<1>(what).map(|[b]| b)
    }

    /// A big-endian `UINT16`.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// A big-endian `UINT32`.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// A big-endian `UINT64`.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// The contents of a TPM2B (`UINT16` size, then that many bytes) of at most `max` bytes.
    ///
    /// A size above `max` is TPM_RC_SIZE, fewer bytes than the size TPM_RC_INSUFFICIENT.
    pub fn tpm2b(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let start = self.clone();
        let size = usize::from(self.u16(what)?);
        if size > max {
            *self = start;
            return Err(self.error(ErrorKind::Size, what));
        }
        self.take(size, what)
    }

    /// A TPM2B that holds a structure: reads the size, then the structure.
    ///
    /// A size of zero, or a structure of another size, is TPM_RC_SIZE (Part 2, 10.4: "size of the buffer"), after any
    /// error in the structure itself, as in the reference implementation.
    pub fn sized<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let at = self.clone();
        let size = usize::from(self.u16(what)?);
        if size == 0 {
            return Err(at.error(ErrorKind::Size, what));
        }
        let start = self.base;
        let value = read(self)?;
        if self.base - start == size { Ok(value) } else { Err(self.error(ErrorKind::Size, what)) }
    }

    /// A structure.
    pub fn get<T: Unmarshal<'a>>(&mut self) -> Result<T, Error> {
        T::unmarshal(self)
    }
}

/// Appends big-endian fields to a byte vector.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    buf: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer that appends to `buf`, so that its allocation is used again.
    #[must_use]
    pub fn from_vec(buf: Vec<u8>) -> Self {
        Self { buf }
    }

    /// The bytes written.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.buf
    }

    /// The bytes written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf
    }

    /// How many bytes have been written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Forgets what was written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(len);
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// A `UINT8`.
    pub fn u8(&mut self, v: u8) {
        self.buf.push(v);
    }

    /// A big-endian `UINT16`.
    pub fn u16(&mut self, v: u16) {
        self.bytes(&v.to_be_bytes());
    }

    /// A big-endian `UINT32`.
    pub fn u32(&mut self, v: u32) {
        self.bytes(&v.to_be_bytes());
    }

    /// A big-endian `UINT64`.
    pub fn u64(&mut self, v: u64) {
        self.bytes(&v.to_be_bytes());
    }

    /// A structure.
    pub fn put<T: Marshal + ?Sized>(&mut self, v: &T) {
        v.marshal(self);
    }

    /// A TPM2B around what `write` writes.
    ///
    /// # Panics
    /// If `write` writes more than 65535 bytes: no structure of this crate can.
    pub fn sized(&mut self, write: impl FnOnce(&mut Self)) {
        let at = self.len();
        self.u16(0);
        write(self);
        let size = u16::try_from(self.len() - at - 2).expect("a TPM2B holds at most 65535 bytes");
        self.patch(at, &size.to_be_bytes());
    }

    /// A TPM2B with these contents.
    ///
    /// # Panics
    /// If `bytes` is longer than 65535 bytes.
    pub fn tpm2b(&mut self, bytes: &[u8]) {
        self.sized(|w| w.bytes(bytes));
    }

    /// Overwrites bytes written before, starting `at` bytes from the beginning.
    ///
    /// # Panics
    /// If those bytes have not been written.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.buf[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A structure that has a canonical TPM wire form.
pub trait Marshal {
    /// Appends the wire form.
    fn marshal(&self, w: &mut Writer);

    /// The wire form as a vector of its own.
    fn to_vec(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.marshal(&mut w);
        w.into_vec()
    }
}

/// A structure that can be read from its canonical TPM wire form.
pub trait Unmarshal<'a>: Sized {
    /// Reads the structure; the reader is left after it.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error>;

    /// Reads the structure from all of `bytes`; bytes left over are TPM_RC_SIZE.
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let value = Self::unmarshal(&mut r)?;
        if r.is_empty() { Ok(value) } else { Err(r.error(ErrorKind::Size, "trailing bytes")) }
    }
}
