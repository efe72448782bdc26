//! A TPM of a few lines: it signs whatever quote it is told to.
#![expect(dead_code, reason = "each test file uses its own part of this")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

use std::collections::{BTreeMap, BTreeSet};

use bulla_channel::appraise::AkName;
use bulla_channel::{
    AttestedIdentity, Attester, BoxError, ChannelId, PcrRule, PcrSet, PcrValue, PeerPolicy, PinnedAks,
};
use bulla_tpm_types::{
    Attest, Attested, ClockInfo, Data, Digest, EccParameter, EccPoint, HashAlg, Marshal, Name, PcrSelection,
    PcrSelectionList, Public, PublicKind, Signature, SignatureValue, templates,
};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature as Ecdsa, SigningKey};
use sha2::{Digest as _, Sha256};

pub const ID: ChannelId = ChannelId::new([0x42; 32]);
pub const PCRS: [u8; 3] = [0, 4, 8];

/// A quote before it is signed, for tests to spoil.
pub struct Draft {
    pub public: Public,
    pub extra: Vec<u8>,
    pub selection: PcrSelectionList,
    pub listed: Vec<PcrValue>,
    pub digest: Vec<u8>,
    /// If set, attested instead of the quote.
    pub instead: Option<Attested>,
    /// Edits the bytes that are signed.
    pub bytes: fn(&mut Vec<u8>),
    /// Edits the signature's bytes.
    pub signature: fn(&mut Vec<u8>),
}

pub struct FakeTpm {
    pub key: SigningKey,
    pub pcrs: BTreeMap<u8, [u8; 32]>,
    pub spoil: fn(&mut Draft),
    pub calls: u32,
}

impl FakeTpm {
    pub fn new(seed: u8) -> Self {
        Self {
            key: SigningKey::from_slice(&[seed; 32]).unwrap(),
            pcrs: PCRS.iter().map(|pcr| (*pcr, [*pcr; 32])).collect(),
            spoil: |_| {},
            calls: 0,
        }
    }

    pub fn spoiled(seed: u8, spoil: fn(&mut Draft)) -> Self {
        Self { spoil, ..Self::new(seed) }
    }

    pub fn public(&self) -> Public {
        let mut public = templates::ak_p256();
        let point = self.key.verifying_key().to_sec1_point(false);
        if let PublicKind::Ecc { unique, .. } = &mut public.kind {
            *unique = EccPoint {
                x: EccParameter::new(&point.as_bytes()[1..33]).unwrap(),
                y: EccParameter::new(&point.as_bytes()[33..65]).unwrap(),
            };
        }
        public
    }

    pub fn name(&self) -> AkName {
        AkName::new(self.public().name().as_bytes().try_into().unwrap())
    }
}

impl Attester for FakeTpm {
    fn quote(&mut self, extra: &[u8; 48]) -> Result<AttestedIdentity, BoxError> {
        self.calls += 1;
        let selected: Vec<u32> = self.pcrs.keys().map(|pcr| u32::from(*pcr)).collect();
        let mut hash = Sha256::new();
        self.pcrs.values().for_each(|value| hash.update(value));
        let mut draft = Draft {
            public: self.public(),
            extra: extra.to_vec(),
            selection: PcrSelectionList::from_slice(&[PcrSelection::new(HashAlg::Sha256, &selected)]).unwrap(),
            listed: self.pcrs.iter().map(|(pcr, sha256)| PcrValue { pcr: *pcr, sha256: *sha256 }).collect(),
            digest: hash.finalize().to_vec(),
            instead: None,
            bytes: |_| {},
            signature: |_| {},
        };
        (self.spoil)(&mut draft);
        let quote = Attested::Quote { pcr_select: draft.selection, pcr_digest: Digest::new(&draft.digest).unwrap() };
        let mut attest = Attest {
            qualified_signer: Name::new(&[0, 11, 1, 2, 3]).unwrap(),
            extra_data: Data::new(&draft.extra).unwrap(),
            clock_info: ClockInfo::default(),
            firmware_version: 1,
            attested: draft.instead.unwrap_or(quote),
        }
        .to_vec();
        (draft.bytes)(&mut attest);
        let ecdsa: Ecdsa = self.key.sign(&attest);
        let (r, s) = ecdsa.split_bytes();
        let mut signature = Signature::Signed {
            hash: HashAlg::Sha256,
            value: SignatureValue::Ecdsa { r: EccParameter::new(&r).unwrap(), s: EccParameter::new(&s).unwrap() },
        }
        .to_vec();
        (draft.signature)(&mut signature);
        Ok(AttestedIdentity { ak_public: draft.public.to_vec(), attest, signature, pcr_values: draft.listed })
    }
}

/// Accepts exactly the AK of `peer`, booted like us.
pub fn policy(peer: &FakeTpm) -> PeerPolicy {
    PeerPolicy {
        aks: PinnedAks::OneOf(vec![peer.name()]),
        selection: PcrSet::of(&PCRS).unwrap(),
        pcrs: PcrRule::SameAsMine(PcrSet::of(&PCRS).unwrap()),
    }
}

/// Accepts exactly the AK of `peer` with these PCR values.
pub fn values(peer: &FakeTpm, accepted: &[(u8, [u8; 32])]) -> PeerPolicy {
    let mut map: BTreeMap<u8, BTreeSet<[u8; 32]>> = BTreeMap::new();
    for (pcr, value) in accepted {
        map.entry(*pcr).or_default().insert(*value);
    }
    PeerPolicy { pcrs: PcrRule::Values(map), ..policy(peer) }
}

/// Bytes that are random enough for a test and the same each time.
pub fn fixed_random(seed: u8) -> impl FnMut(&mut [u8]) -> Result<(), BoxError> {
    let mut state = [seed; 32];
    move |out| {
        for chunk in out.chunks_mut(32) {
            state = Sha256::digest(state).into();
            chunk.copy_from_slice(&state[..chunk.len()]);
        }
        Ok(())
    }
}
