//! The claims of one guest as deterministic CBOR (RFC 8949, 4.2.1).
//!
//! They are the claims of `docs/evidence.md` without the envelope, which takes a host key: an Unprotected CWT Claims Set
//! (RFC 9781, tag 601). `bulla_attest::Evidence::from_unsigned` reads them.

use bulla_tpm_types::{HashAlg, hash};

/// What the claims are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The host's nonce.
    pub nonce: Vec<u8>,
    /// TPMT_PUBLIC of the attestation key.
    pub ak_public: Vec<u8>,
    /// TPMS_ATTEST.
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE over it.
    pub signature: Vec<u8>,
    /// Values of the quoted PCRs of the SHA-256 bank, in ascending order.
    pub pcrs: Vec<(u32, Vec<u8>)>,
    /// The event log, as Linux shows it.
    pub event_log: Vec<u8>,
}

/// Tag of a UCCS (RFC 9781, 2).
const TAG_UCCS: u64 = 601;
/// The profile of this layout.
const PROFILE: &str = "tag:bulla.invalid,2026:evidence:1";
/// What the guest itself can say of what its TPM rests on is nothing: the least. Its monitor knows better.
const ROOT: &str = "simulated";
/// Type RAND of a UEID (RFC 9711, 4.2.1).
const UEID_RAND: u8 = 1;

impl Parts {
    /// The claims.
    #[must_use]
    pub fn to_claims(&self) -> Vec<u8> {
        let mut ueid = vec![UEID_RAND];
        ueid.extend(hash::digest(HashAlg::Sha256, &[&self.ak_public]).as_bytes());
        let mut out = Cbor(Vec::with_capacity(self.event_log.len() + 2048));
        out.head(TAG, TAG_UCCS);
        // Keys in the bytewise order of their encodings.
        out.head(MAP, 7);
        out.label(10).bytes(&self.nonce);
        out.label(256).bytes(&ueid);
        out.label(265).text(PROFILE);
        out.label(-70001).text(ROOT);
        out.label(-70002).head(MAP, 4);
        out.label(1).bytes(&self.ak_public);
        out.label(2).bytes(&self.quote);
        out.label(3).bytes(&self.signature);
        out.label(4).head(MAP, 1);
        out.label(i64::from(HashAlg::Sha256.id().0)).head(MAP, self.pcrs.len() as u64);
        for (pcr, value) in &self.pcrs {
            out.label(i64::from(*pcr)).bytes(value);
        }
        out.label(-70003).bytes(&self.event_log);
        out.label(-70004).text("guest");
        out.0
    }
}

/// Major types (RFC 8949, 3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const MAP: u8 = 5;
const TAG: u8 = 6;

struct Cbor(Vec<u8>);

impl Cbor {
    /// Major type and argument, in the fewest bytes.
    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        let bytes = argument.to_be_bytes();
        let (additional, len) = match argument {
            0..=23 => (bytes[7], 0),
            24..=0xFF => (24, 1),
            0x100..=0xFFFF => (25, 2),
            0x1_0000..=0xFFFF_FFFF => (26, 4),
            _ => (27, 8),
        };
        self.0.push(major | additional);
        self.0.extend(&bytes[bytes.len() - len..]);
    }

    /// The key of the item that follows.
    fn label(&mut self, key: i64) -> &mut Self {
        match u64::try_from(key) {
            Ok(key) => self.head(UNSIGNED, key),
            Err(_) => self.head(NEGATIVE, !key.cast_unsigned()),
        }
        self
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.0.extend(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_attest::{Bank, Evidence, Root, TakenAt};

    #[test]
    fn numbers_are_encoded_as_the_rfc_does() {
        // RFC 8949, appendix A.
        let known: [(i64, &[u8]); 10] = [
            (0, &[0x00]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (1000, &[0x19, 0x03, 0xE8]),
            (1_000_000, &[0x1A, 0x00, 0x0F, 0x42, 0x40]),
            (1_000_000_000_000, &[0x1B, 0x00, 0x00, 0x00, 0xE8, 0xD4, 0xA5, 0x10, 0x00]),
            (-1, &[0x20]),
            (-100, &[0x38, 0x63]),
            (-1000, &[0x39, 0x03, 0xE7]),
            (-70001, &[0x3A, 0x00, 0x01, 0x11, 0x70]),
        ];
        for (number, bytes) in known {
            let mut out = Cbor(Vec::new());
            out.label(number);
            assert_eq!(out.0, bytes, "{number}");
        }
    }

    #[test]
    fn a_verifier_reads_what_the_agent_writes() {
        let parts = Parts {
            nonce: vec![7; 16],
            ak_public: vec![1; 90],
            quote: vec![2; 300],
            signature: vec![3; 72],
            pcrs: crate::tpm::QUOTE_PCRS.map(|pcr| (pcr, vec![pcr as u8; 32])).to_vec(),
            event_log: vec![4; 65536],
        };
        let claims = parts.to_claims();
        let read = Evidence::from_unsigned(&claims).unwrap();
        assert_eq!((read.taken_at, read.root), (TakenAt::Guest, Root::Simulated));
        assert_eq!(read.tpm.pcrs[&Bank::Sha256].clone().into_iter().collect::<Vec<_>>(), parts.pcrs);
        assert_eq!((&read.nonce, &read.event_log), (&parts.nonce, &parts.event_log));
        assert_eq!((read.tpm.ak_public.clone(), read.tpm.quote.clone()), (parts.ak_public, parts.quote));
        assert_eq!(read.tpm.signature, parts.signature);
        assert_eq!(read.to_unsigned(), claims);
    }
}
