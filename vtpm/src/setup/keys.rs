//! The endorsement keys of the TCG EK Credential Profile 2.5: their templates, and where they and their certificates go.

use bulla_tpm_types::{Handle, Public, templates};
use clap::ValueEnum;

/// An endorsement key by its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndorsementKey {
    /// L-1: RSA 2048, low range.
    L1Rsa2048,
    /// L-2: ECC NIST P-256, low range.
    L2P256,
    /// H-1: RSA 2048, high range.
    H1Rsa2048,
    /// H-2: ECC NIST P-256, high range.
    H2P256,
    /// H-3: ECC NIST P-384.
    H3P384,
    /// H-4: ECC NIST P-521.
    H4P521,
    /// H-6: RSA 3072.
    H6Rsa3072,
    /// H-7: RSA 4096.
    H7Rsa4096,
}

/// A curve on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Curve {
    /// NIST P-256.
    #[value(name = "p256", aliases = ["nist-p256", "secp256r1"])]
    P256,
    /// NIST P-384.
    #[value(name = "p384", aliases = ["nist-p384", "secp384r1"])]
    P384,
    /// NIST P-521.
    #[value(name = "p521", aliases = ["nist-p521", "secp521r1"])]
    P521,
}

/// The length of an RSA key on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RsaSize {
    /// 2048 bits.
    #[value(name = "2048")]
    Rsa2048,
    /// 3072 bits.
    #[value(name = "3072")]
    Rsa3072,
    /// 4096 bits.
    #[value(name = "4096", alias = "max")]
    Rsa4096,
}

impl EndorsementKey {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::L1Rsa2048,
        Self::L2P256,
        Self::H1Rsa2048,
        Self::H2P256,
        Self::H3P384,
        Self::H4P521,
        Self::H6Rsa3072,
        Self::H7Rsa4096,
    ];

    /// The RSA key of a length; `high` asks for the high range where there are two.
    #[must_use]
    pub const fn rsa(size: RsaSize, high: bool) -> Self {
        match (size, high) {
            (RsaSize::Rsa2048, false) => Self::L1Rsa2048,
            (RsaSize::Rsa2048, true) => Self::H1Rsa2048,
            (RsaSize::Rsa3072, _) => Self::H6Rsa3072,
            (RsaSize::Rsa4096, _) => Self::H7Rsa4096,
        }
    }

    /// The key on a curve; `high` asks for the high range where there are two.
    #[must_use]
    pub const fn ecc(curve: Curve, high: bool) -> Self {
        match (curve, high) {
            (Curve::P256, false) => Self::L2P256,
            (Curve::P256, true) => Self::H2P256,
            (Curve::P384, _) => Self::H3P384,
            (Curve::P521, _) => Self::H4P521,
        }
    }

    /// The profile's name of the template.
    #[must_use]
    pub const fn template_name(self) -> &'static str {
        match self {
            Self::L1Rsa2048 => "L-1",
            Self::L2P256 => "L-2",
            Self::H1Rsa2048 => "H-1",
            Self::H2P256 => "H-2",
            Self::H3P384 => "H-3",
            Self::H4P521 => "H-4",
            Self::H6Rsa3072 => "H-6",
            Self::H7Rsa4096 => "H-7",
        }
    }

    /// The kind of key, in the words of swtpm_setup's file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1Rsa2048 => "rsa2048",
            Self::L2P256 => "secp256r1",
            Self::H1Rsa2048 => "rsa2048-high",
            Self::H2P256 => "secp256r1-high",
            Self::H3P384 => "secp384r1",
            Self::H4P521 => "secp521r1",
            Self::H6Rsa3072 => "rsa3072",
            Self::H7Rsa4096 => "rsa4096",
        }
    }

    /// The template.
    #[must_use]
    pub fn template(self) -> Public {
        match self {
            Self::L1Rsa2048 => templates::ek_rsa2048(),
            Self::L2P256 => templates::ek_p256(),
            Self::H1Rsa2048 => templates::ek_h1_rsa2048(),
            Self::H2P256 => templates::ek_h2_p256(),
            Self::H3P384 => templates::ek_h3_p384(),
            Self::H4P521 => templates::ek_h4_p521(),
            Self::H6Rsa3072 => templates::ek_h6_rsa3072(),
            Self::H7Rsa4096 => templates::ek_h7_rsa4096(),
        }
    }

    /// The NV Index of its certificate (TCG EK Credential Profile 2.5, 2.2.1).
    #[must_use]
    pub const fn certificate_index(self) -> Handle {
        Handle(match self {
            Self::L1Rsa2048 => 0x01c0_0002,
            Self::L2P256 => 0x01c0_000a,
            Self::H1Rsa2048 => 0x01c0_0012,
            Self::H2P256 => 0x01c0_0014,
            Self::H3P384 => 0x01c0_0016,
            Self::H4P521 => 0x01c0_0018,
            Self::H6Rsa3072 => 0x01c0_001c,
            Self::H7Rsa4096 => 0x01c0_001e,
        })
    }

    /// Where the key is made persistent: 0x81010001 and 0x81010002 (TCG Registry of Reserved TPM 2.0 Handles); in
    /// the high range with the last octet of the certificate's index, as swtpm_setup does it.
    #[must_use]
    pub const fn handle(self) -> Handle {
        Handle(match self {
            Self::L1Rsa2048 => 0x8101_0001,
            Self::L2P256 => 0x8101_0002,
            high => 0x8101_0000 | high.certificate_index().0 & 0xff,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_keys_share_a_place() {
        let places =
            |place: fn(EndorsementKey) -> u32| EndorsementKey::ALL.map(place).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(places(|key| key.handle().0).len(), 8);
        assert_eq!(places(|key| key.certificate_index().0).len(), 8);
        // With them 0x01c0_0012 to 0x01c0_001e are all even: the odd ones are for templates.
        assert!(places(|key| key.certificate_index().0).iter().all(|index| index % 2 == 0));
        assert_eq!(EndorsementKey::H3P384.handle(), Handle(0x8101_0016));
    }
}
