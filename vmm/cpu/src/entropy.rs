//! Where RDRAND and RDSEED get their numbers.

/// A source of random numbers.
pub(crate) enum Entropy {
    /// The host's.
    Host,
    /// SplitMix64 from a seed: for runs that can be repeated, and worth nothing as a secret.
    Seeded(u64),
}

impl Entropy {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        match self {
            // The host's source failing is not the guest's to handle: there is no number without it.
            Self::Host => getrandom::u64().unwrap_or_default(),
            Self::Seeded(state) => {
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let x = (*state ^ *state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
                x ^ x >> 31
            }
        }
    }
}
