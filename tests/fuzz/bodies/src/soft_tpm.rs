//! An attestation key outside any TPM. What it signs is real and, for equal bytes, equal (RFC 6979).

use bulla_channel::{AkName, PcrRule, PcrSet, PinnedAks};
use bulla_channel::{AttestedIdentity, Attester, BoxError, PcrValue, PeerPolicy};
use bulla_tpm_types::{
    Attest, Attested, ClockInfo, Data, Digest, EccParameter, EccPoint, HashAlg, Marshal, Name, PcrSelection,
    PcrSelectionList, Public, PublicKind, Signature, SignatureValue, hash, templates,
};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{self, SigningKey};

/// The PCRs in the channel's quotes.
const PCRS: [u8; 2] = [0, 4];

/// The key.
#[derive(Clone, Debug)]
pub struct SoftTpm {
    key: SigningKey,
    public: Public,
}

impl SoftTpm {
    /// The key number `seed`, which is not 0.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed; 32]).expect("below the curve's order");
        let mut public = templates::ak_p256();
        let point = key.verifying_key().to_sec1_point(false);
        let (x, y) = point.as_bytes()[1..].split_at(32);
        if let PublicKind::Ecc { unique, .. } = &mut public.kind {
            *unique =
                EccPoint { x: EccParameter::new(x).expect("32 bytes"), y: EccParameter::new(y).expect("32 bytes") };
        }
        Self { key, public }
    }

    /// Its TPMT_PUBLIC.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// TPM2_Quote over PCRs of the SHA-256 bank: TPMS_ATTEST and TPMT_SIGNATURE.
    #[must_use]
    pub fn sign_quote(&self, extra: &[u8], pcrs: &[u32], values: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let selection = [PcrSelection::new(HashAlg::Sha256, pcrs)];
        let digest = hash::digest(HashAlg::Sha256, &[values]);
        let attest = Attest {
            qualified_signer: Name::new(self.public().name().as_bytes()).expect("a Name"),
            extra_data: Data::new(extra).expect("at most 64 bytes"),
            clock_info: ClockInfo { clock: 1, reset_count: 1, restart_count: 0, safe: true },
            firmware_version: 1,
            attested: Attested::Quote {
                pcr_select: PcrSelectionList::from_slice(&selection).expect("one bank"),
                pcr_digest: Digest::new(digest.as_bytes()).expect("32 bytes"),
            },
        }
        .to_vec();
        let signed: ecdsa::Signature = self.key.sign(&attest);
        let (r, s) = signed.split_bytes();
        let parameter = |bytes: &[u8]| EccParameter::new(bytes).expect("32 bytes");
        let value = SignatureValue::Ecdsa { r: parameter(&r), s: parameter(&s) };
        (attest, Signature::Signed { hash: HashAlg::Sha256, value }.to_vec())
    }

    /// A policy that accepts this key and no other, booted as the one who asks.
    #[must_use]
    pub fn policy(&self) -> PeerPolicy {
        let name = self.public().name().as_bytes().try_into().expect("a SHA-256 Name");
        let selection = PcrSet::of(&PCRS).expect("PCRs");
        PeerPolicy { aks: PinnedAks::OneOf(vec![AkName::new(name)]), selection, pcrs: PcrRule::SameAsMine(selection) }
    }
}

impl Attester for SoftTpm {
    fn quote(&mut self, extra: &[u8; 48]) -> Result<AttestedIdentity, BoxError> {
        let pcr_values = PCRS.map(|pcr| PcrValue { pcr, sha256: [pcr; 32] }).to_vec();
        let values: Vec<u8> = pcr_values.iter().flat_map(|value| value.sha256).collect();
        let (attest, signature) = self.sign_quote(extra, &PCRS.map(u32::from), &values);
        Ok(AttestedIdentity { ak_public: self.public().to_vec(), attest, signature, pcr_values })
    }
}
