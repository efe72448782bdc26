//! A register of 256 bits, one for each vector: IRR, ISR, TMR (SDM vol. 3A, §11.8.4).

/// A set of interrupt vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors([u64; 4]);

impl Vectors {
    /// No vector.
    pub const NONE: Self = Self([0; 4]);

    /// From the words of a saved state, lowest vectors first.
    #[must_use]
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// The words, lowest vectors first.
    #[must_use]
    pub const fn words(self) -> [u64; 4] {
        self.0
    }

    const fn place(vector: u8) -> (usize, u64) {
        ((vector >> 6) as usize, 1 << (vector & 63))
    }

    /// Puts `vector` in, or takes it out.
    pub const fn set(&mut self, vector: u8, present: bool) {
        let (word, bit) = Self::place(vector);
        if present {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }

    /// Whether `vector` is in.
    #[must_use]
    pub const fn contains(self, vector: u8) -> bool {
        let (word, bit) = Self::place(vector);
        self.0[word] & bit != 0
    }

    /// The highest vector, which is the one of highest priority.
    #[must_use]
    pub fn highest(self) -> Option<u8> {
        (0u8..4).zip(self.0).rev().find(|(_, word)| *word != 0).map(|(i, word)| (i << 6) | word.ilog2() as u8)
    }

    /// The 32 bits that register `index` (0 to 7) of the group shows.
    #[must_use]
    pub(super) const fn register(self, index: u8) -> u32 {
        (self.0[(index as usize >> 1) & 3] >> ((index & 1) * 32)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_is_found_where_it_was_put() {
        for vector in 0..=255 {
            let mut set = Vectors::NONE;
            set.set(vector, true);
            assert!(set.contains(vector));
            assert_eq!(set.highest(), Some(vector));
            for index in 0..8 {
                let expected = if index == vector / 32 { 1 << (vector % 32) } else { 0 };
                assert_eq!(set.register(index), expected, "{vector} {index}");
            }
            set.set(0, true);
            assert_eq!(set.highest(), Some(vector));
            set.set(vector, false);
            assert!(!set.contains(vector));
        }
        assert_eq!(Vectors::NONE.highest(), None);
    }
}
