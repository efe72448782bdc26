//! Bytes as a list of things to do.

/// Cuts a target's input into numbers and strings; ends where they end.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// A 16-bit length, then that many bytes, or as many as there are.
    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_be_bytes(self.array()?);
        Some(self.up_to(len.into()))
    }

    /// That many bytes, or as many as there are.
    pub(crate) fn up_to(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(self.0.len().min(count));
        self.0 = tail;
        head
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}
