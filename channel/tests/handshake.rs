//! What the attested handshake refuses, and that it says why.
#![cfg(not(loom))]

mod common;

use bulla_channel::appraise::{AppraisalError, PolicyError};
use bulla_channel::handshake::{AttestedHandshake, Established, HandshakeError};
use bulla_channel::noise::NoiseError;
use bulla_channel::{ChannelId, PcrRule, PcrSet, PeerPolicy, PinnedAks, Role, State};
use bulla_tpm_types::{AsymScheme, Attested, HashAlg, ObjectAttributes, PcrSelection, PublicKind};
use common::{Draft, FakeTpm, ID, policy, values};
use zeroize::Zeroizing;

type Outcome = Result<Established, HandshakeError>;

fn end(role: Role, id: ChannelId, policy: PeerPolicy) -> AttestedHandshake {
    let seed = role as u8;
    AttestedHandshake::new(role, id, policy, &Zeroizing::new([seed + 1; 32]), &Zeroizing::new([seed + 11; 32]))
}

/// Runs a handshake; the responder's outcome is `None` if message 3 never came.
fn run(
    (mut initiator_tpm, initiator_policy): (FakeTpm, PeerPolicy),
    (mut responder_tpm, responder_policy): (FakeTpm, PeerPolicy),
) -> (Outcome, Option<Outcome>) {
    let mut initiator = end(Role::Initiator, ID, initiator_policy);
    let mut responder = end(Role::Responder, ID, responder_policy);
    let message1 = initiator.begin().unwrap();
    let message2 = match responder.answer(&message1, &mut responder_tpm) {
        Ok(message) => message,
        Err(error) => return (Err(HandshakeError::Noise(NoiseError::OutOfTurn)), Some(Err(error))),
    };
    match initiator.prove(&message2, &mut initiator_tpm) {
        Ok((message3, established)) => (Ok(established), Some(responder.accept(&message3))),
        Err(error) => {
            assert_eq!(initiator.state(), State::Closed);
            (Err(error), None)
        }
    }
}

fn refusal(outcome: Outcome) -> AppraisalError {
    match outcome {
        Err(HandshakeError::Peer(error)) => error,
        other => panic!("expected the peer to be refused, got {other:?}"),
    }
}

/// What an honest end says of a peer whose own checks were removed: the spoiled quote is replayed by a TPM whose
/// owner does not look at it. Returns what the initiator and what the responder say.
fn refusals(spoil: fn(&mut Draft)) -> [AppraisalError; 2] {
    let liar = || FakeTpm::spoiled(2, spoil);
    let as_responder = {
        let mut initiator = end(Role::Initiator, ID, policy(&liar()));
        let message1 = initiator.begin().unwrap();
        let message2 = liar::answer(&message1, &mut liar());
        refusal(initiator.prove(&message2, &mut FakeTpm::new(1)).map(|(_, established)| established))
    };
    let as_initiator = {
        let mut responder = end(Role::Responder, ID, policy(&liar()));
        let mut dishonest = liar::Initiator::new();
        let message2 = responder.answer(&dishonest.begin(), &mut FakeTpm::new(1)).unwrap();
        refusal(responder.accept(&dishonest.prove(&message2, &mut liar())))
    };
    [as_responder, as_initiator]
}

/// A peer that speaks Noise properly and says whatever it likes in the payloads.
mod liar {
    use super::*;
    use bulla_channel::Attester;
    use bulla_channel::identity::extra_data;
    use bulla_channel::noise::Handshake;

    fn noise(role: Role) -> Handshake {
        let prologue = [&b"bulla-channel-v1"[..], ID.as_bytes()].concat();
        Handshake::new(role, &prologue, &Zeroizing::new([0x71; 32]), &Zeroizing::new([0x72; 32]))
    }

    fn message(noise: &mut Handshake, tpm: &mut FakeTpm) -> Vec<u8> {
        let mut message = Vec::new();
        noise.write_tokens(&mut message).unwrap();
        let payload = tpm.quote(&extra_data(noise.transcript())).unwrap().encode().unwrap();
        noise.write_payload(&payload, &mut message).unwrap();
        message
    }

    pub(super) fn answer(message1: &[u8], tpm: &mut FakeTpm) -> Vec<u8> {
        let mut noise = noise(Role::Responder);
        let rest = noise.read_tokens(message1).unwrap();
        noise.read_payload(rest).unwrap();
        message(&mut noise, tpm)
    }

    pub(super) struct Initiator(Handshake);

    impl Initiator {
        pub(super) fn new() -> Self {
            Self(noise(Role::Initiator))
        }

        pub(super) fn begin(&mut self) -> Vec<u8> {
            let mut message = Vec::new();
            self.0.write_tokens(&mut message).unwrap();
            self.0.write_payload(&[], &mut message).unwrap();
            message
        }

        pub(super) fn prove(&mut self, message2: &[u8], tpm: &mut FakeTpm) -> Vec<u8> {
            let rest = self.0.read_tokens(message2).unwrap();
            self.0.read_payload(rest).unwrap();
            message(&mut self.0, tpm)
        }
    }
}

fn both(error: AppraisalError) -> [AppraisalError; 2] {
    [error.clone(), error]
}

#[test]
fn two_good_machines_agree_on_keys_and_know_each_other() {
    let (a, b) = (FakeTpm::new(1), FakeTpm::new(2));
    let (names, policies) = ((a.name(), b.name()), (policy(&b), policy(&a)));
    let (initiator, responder) = run((a, policies.0), (b, policies.1));
    let (initiator, responder) = (initiator.unwrap(), responder.unwrap().unwrap());
    assert_eq!(*initiator.session.initiator_key, *responder.session.initiator_key);
    assert_eq!(*initiator.session.responder_key, *responder.session.responder_key);
    assert_ne!(*initiator.session.initiator_key, *initiator.session.responder_key);
    assert_eq!(initiator.session.transcript, responder.session.transcript);
    assert_eq!((responder.peer.ak(), initiator.peer.ak()), (&names.0, &names.1));
    assert_eq!(initiator.peer.pcr_values().len(), 3);
}

#[test]
fn a_quote_over_another_transcript_is_refused() {
    assert_eq!(refusals(|draft| draft.extra[47] ^= 1), both(AppraisalError::ExtraData));
}

#[test]
fn a_quote_for_ordinary_evidence_is_refused() {
    // The transcript hash alone, as a 32-byte nonce: the longest that a verifier's nonce may be.
    assert_eq!(
        refusals(|draft| {
            draft.extra.drain(..16);
        }),
        both(AppraisalError::ExtraData)
    );
}

#[test]
fn a_quote_recorded_in_an_earlier_handshake_is_refused() {
    struct Replayer(Option<bulla_channel::AttestedIdentity>, FakeTpm);
    impl bulla_channel::Attester for Replayer {
        fn quote(&mut self, extra: &[u8; 48]) -> Result<bulla_channel::AttestedIdentity, bulla_channel::BoxError> {
            self.0.clone().map_or_else(|| self.1.quote(extra), Ok)
        }
    }
    // Our own side notices too: an attester that answers another question is of no use to anyone.
    let old = bulla_channel::Attester::quote(&mut FakeTpm::new(2), &[9; 48]).unwrap();
    let mut responder = end(Role::Responder, ID, policy(&FakeTpm::new(1)));
    let message1 = end(Role::Initiator, ID, policy(&FakeTpm::new(2))).begin().unwrap();
    assert!(matches!(
        responder.answer(&message1, &mut Replayer(Some(old), FakeTpm::new(2))),
        Err(HandshakeError::OwnQuote(AppraisalError::ExtraData))
    ));
    assert_eq!(responder.state(), State::Closed);
}

#[test]
fn a_wrong_selection_is_refused() {
    let spoils: [fn(&mut Draft); 4] = [
        |draft| draft.selection[0].select[0] |= 2,
        |draft| draft.selection[0].select[0] &= !1,
        |draft| draft.selection[0].alg = HashAlg::Sha1,
        |draft| {
            let extra = PcrSelection::new(HashAlg::Sha384, &[]);
            assert!(draft.selection.push(extra));
        },
    ];
    for spoil in spoils {
        assert_eq!(refusals(spoil), both(AppraisalError::Selection));
    }
}

#[test]
fn listed_values_that_are_not_the_quoted_ones_are_refused() {
    assert_eq!(refusals(|draft| draft.listed.truncate(2)), both(AppraisalError::ListedPcrs));
    assert_eq!(refusals(|draft| draft.listed[1].pcr = 5), both(AppraisalError::ListedPcrs));
    assert_eq!(refusals(|draft| draft.listed[1].sha256[0] ^= 1), both(AppraisalError::PcrDigest));
    assert_eq!(refusals(|draft| draft.digest.truncate(31)), both(AppraisalError::PcrDigest));
}

#[test]
fn what_is_not_a_quote_by_a_tpm_is_refused() {
    assert_eq!(refusals(|draft| draft.bytes = |bytes| bytes[0] ^= 1), both(AppraisalError::NotGenerated));
    assert_eq!(
        refusals(|draft| {
            let name = bulla_tpm_types::Name::new(&[1; 34]).unwrap();
            draft.instead = Some(Attested::Certify { name, qualified_name: name });
        }),
        both(AppraisalError::NotQuote { tag: 0x8017 })
    );
    assert!(matches!(
        refusals(|draft| draft.bytes = |bytes| bytes.push(0)),
        [
            AppraisalError::Malformed { structure: "TPMS_ATTEST", .. },
            AppraisalError::Malformed { structure: "TPMS_ATTEST", .. }
        ]
    ));
}

#[test]
fn a_wrong_signature_is_refused() {
    assert_eq!(
        refusals(|draft| draft.signature = |bytes| *bytes.last_mut().unwrap() ^= 1),
        both(AppraisalError::Signature)
    );
    // SHA-384 is another scheme.
    assert_eq!(refusals(|draft| draft.signature = |bytes| bytes[3] = 0x0c), both(AppraisalError::SignatureScheme));
    // r = 0 is out of range.
    assert_eq!(refusals(|draft| draft.signature = |bytes| bytes[6..38].fill(0)), both(AppraisalError::SignatureScheme));
}

#[test]
fn a_key_that_could_sign_anything_or_leave_the_tpm_is_refused() {
    let attributes = bulla_tpm_types::templates::ak_p256().attributes;
    let missing = [
        ObjectAttributes::RESTRICTED,
        ObjectAttributes::SIGN,
        ObjectAttributes::FIXED_TPM,
        ObjectAttributes::SENSITIVE_DATA_ORIGIN,
    ];
    let spoils: [fn(&mut Draft); 4] = [
        |draft| draft.public.attributes = draft.public.attributes.without(ObjectAttributes::RESTRICTED),
        |draft| draft.public.attributes = draft.public.attributes.without(ObjectAttributes::SIGN),
        |draft| draft.public.attributes = draft.public.attributes.without(ObjectAttributes::FIXED_TPM),
        |draft| draft.public.attributes = draft.public.attributes.without(ObjectAttributes::SENSITIVE_DATA_ORIGIN),
    ];
    for (spoil, bit) in spoils.into_iter().zip(missing) {
        let found = attributes.without(bit).bits();
        assert_eq!(refusals(spoil), both(AppraisalError::AkAttributes { found }));
    }
    assert_eq!(
        refusals(|draft| draft.public.attributes = draft.public.attributes.with(ObjectAttributes::DECRYPT)),
        both(AppraisalError::AkAttributes { found: attributes.with(ObjectAttributes::DECRYPT).bits() })
    );
}

#[test]
fn a_key_of_another_scheme_or_off_the_curve_is_refused() {
    assert_eq!(
        refusals(|draft| {
            if let PublicKind::Ecc { parms, .. } = &mut draft.public.kind {
                parms.scheme = AsymScheme::Ecdsa(HashAlg::Sha1);
            }
        }),
        both(AppraisalError::AkScheme)
    );
    assert_eq!(
        refusals(|draft| {
            if let PublicKind::Ecc { unique, .. } = &mut draft.public.kind {
                unique.x = unique.y;
            }
        }),
        both(AppraisalError::AkPoint)
    );
}

#[test]
fn a_wrong_ak_is_refused_by_either_end() {
    let wanted = FakeTpm::new(3);
    let (a, b) = (FakeTpm::new(1), FakeTpm::new(2));
    let (a_policy, b_policy) = (policy(&b), policy(&a));
    let (initiator, _) = run((FakeTpm::new(1), policy(&wanted)), (FakeTpm::new(2), b_policy));
    assert_eq!(refusal(initiator), AppraisalError::UnknownAk);
    let (initiator, responder) = run((a, a_policy), (b, policy(&wanted)));
    assert!(initiator.is_ok());
    assert_eq!(refusal(responder.unwrap()), AppraisalError::UnknownAk);
}

#[test]
fn a_wrong_pcr_is_refused_by_either_end_and_named() {
    let changed = |seed| {
        let mut tpm = FakeTpm::new(seed);
        tpm.pcrs.insert(4, [0xee; 32]);
        tpm
    };
    let (a, b) = (FakeTpm::new(1), FakeTpm::new(2));
    let wrong = AppraisalError::PcrValue { pcr: 4 };
    let (initiator, _) = run((FakeTpm::new(1), policy(&b)), (changed(2), policy(&a)));
    assert_eq!(refusal(initiator), wrong);
    // The changed initiator would refuse the other one too, were it honest; it accepts what it finds there.
    let (_, responder) = run((changed(1), values(&b, &[(4, [4; 32])])), (FakeTpm::new(2), policy(&a)));
    assert_eq!(refusal(responder.unwrap()), wrong);
    let (initiator, _) = run((FakeTpm::new(1), values(&b, &[(8, [1; 32]), (8, [2; 32])])), (b, policy(&a)));
    assert_eq!(refusal(initiator), AppraisalError::PcrValue { pcr: 8 });
}

#[test]
fn one_of_several_accepted_pcr_values_is_enough() {
    let (a, b) = (FakeTpm::new(1), FakeTpm::new(2));
    let policies = (values(&b, &[(8, [1; 32]), (8, [8; 32])]), values(&a, &[(0, [0; 32])]));
    let (initiator, responder) = run((a, policies.0), (b, policies.1));
    assert!(initiator.is_ok() && responder.unwrap().is_ok());
}

#[test]
fn our_own_ak_presented_back_is_refused_even_under_another_name() {
    let any = PeerPolicy { aks: PinnedAks::Any, ..policy(&FakeTpm::new(1)) };
    let (initiator, _) = run((FakeTpm::new(1), any.clone()), (FakeTpm::new(1), any.clone()));
    assert_eq!(refusal(initiator), AppraisalError::Reflected);
    let renamed = FakeTpm::spoiled(1, |draft| {
        draft.public.attributes = draft.public.attributes.without(ObjectAttributes::NO_DA);
    });
    let (initiator, _) = run((FakeTpm::new(1), any.clone()), (renamed, any));
    assert_eq!(refusal(initiator), AppraisalError::Reflected);
}

#[test]
fn another_channel_is_another_conversation() {
    let mut initiator = end(Role::Initiator, ID, policy(&FakeTpm::new(2)));
    let mut responder = end(Role::Responder, ChannelId::new([0; 32]), policy(&FakeTpm::new(1)));
    let message2 = responder.answer(&initiator.begin().unwrap(), &mut FakeTpm::new(2)).unwrap();
    assert!(matches!(
        initiator.prove(&message2, &mut FakeTpm::new(1)),
        Err(HandshakeError::Noise(NoiseError::Decrypt { message: 2, .. }))
    ));
}

#[test]
fn the_initiator_reveals_nothing_to_a_peer_it_refuses() {
    let (a, stranger) = (FakeTpm::new(1), FakeTpm::new(3));
    let (initiator, responder) = run((FakeTpm::new(1), policy(&FakeTpm::new(2))), (stranger, policy(&a)));
    assert_eq!(refusal(initiator), AppraisalError::UnknownAk);
    assert!(responder.is_none());
}

#[test]
fn steps_outside_the_table_are_refused_and_final() {
    let mut responder = end(Role::Responder, ID, policy(&FakeTpm::new(1)));
    assert!(matches!(
        responder.begin(),
        Err(HandshakeError::Transition { role: Role::Responder, from: State::Start, to: State::AwaitingAnswer })
    ));
    assert!(matches!(
        responder.answer(&[0; 32], &mut FakeTpm::new(2)),
        Err(HandshakeError::Transition { from: State::Closed, .. })
    ));
}

#[test]
fn nothing_leaves_the_closed_state() {
    let states = [State::Start, State::AwaitingAnswer, State::AwaitingProof, State::Open, State::Closed];
    for (role, next) in [Role::Initiator, Role::Responder].into_iter().flat_map(|r| states.map(|s| (r, s))) {
        assert!(!State::Closed.may_become(role, next));
    }
}

#[test]
fn senseless_policies_are_refused() {
    let good = policy(&FakeTpm::new(1));
    assert_eq!(good.validate(), Ok(()));
    let nobody = PeerPolicy { aks: PinnedAks::OneOf(vec![]), ..good.clone() };
    assert_eq!(nobody.validate(), Err(PolicyError::NoAk));
    let everybody = PeerPolicy { aks: PinnedAks::Any, pcrs: PcrRule::SameAsMine(PcrSet::default()), ..good.clone() };
    assert_eq!(everybody.validate(), Err(PolicyError::Everybody));
    let unquoted = PeerPolicy { pcrs: PcrRule::SameAsMine(PcrSet::of(&[9]).unwrap()), ..good };
    assert_eq!(unquoted.validate(), Err(PolicyError::NotSelected { pcr: 9 }));
}
