//! Localities.

use thiserror::Error;

/// Where a command comes from, as the platform vouches for it: locality 0 to 4
/// (TCG PC Client Platform TPM Profile, "Locality").
///
/// The extended localities 32 to 255 of TPM 2.0 Part 2 (TPMA_LOCALITY) do not exist on a PC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality(u8);

impl Locality {
    /// The static operating system and everything it starts.
    pub const ZERO: Self = Self(0);
    /// The platform's root of trust: the only origin of an H-CRTM sequence.
    pub const FOUR: Self = Self(4);

    /// The number, 0 to 4.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A locality that a PC does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("locality {0} does not exist: a PC has 0 to 4")]
pub struct NoSuchLocality(pub u8);

impl TryFrom<u8> for Locality {
    type Error = NoSuchLocality;

    fn try_from(number: u8) -> Result<Self, NoSuchLocality> {
        if number <= 4 { Ok(Self(number)) } else { Err(NoSuchLocality(number)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localities_are_zero_to_four() {
        for number in 0..=255_u8 {
            assert_eq!(Locality::try_from(number).is_ok(), number < 5);
        }
    }
}
