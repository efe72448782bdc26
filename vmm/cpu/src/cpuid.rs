//! What the processor announces.

/// What a processor announces, hence executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u64);

impl Features {
    /// Everything.
    pub const ALL: Self = Self(u64::MAX);

    /// 1 GiB pages.
    pub fn gib_pages(&self) -> bool {
        true
    }
}
