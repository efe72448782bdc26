//! The crate `tpm2-protocol` as a second opinion: what we marshal it reads, and what it writes of that is the
//! same bytes; what it writes we read.

use bulla_tpm_types::command;
use bulla_tpm_types::{
    Attest, Attested, ClockInfo, CreationData, Data, Digest, EccParameter, Handle, HashAlg, Locality, Marshal, Name,
    PcrSelection, PcrSelectionList, Public, PublicKeyRsa, PublicKind, Signature, SignatureValue, StartupType,
    Symmetric, TkCreation, Unmarshal, hash, rh, st, templates,
};
use proptest::prelude::*;
use tpm2_protocol::data as peer;
use tpm2_protocol::frame::{self, TpmCommand, TpmFrame, TpmUnmarshalBody, tpm_marshal_command};
use tpm2_protocol::{TpmMarshal, TpmUnmarshal, TpmWriter};

fn written(write: impl FnOnce(&mut TpmWriter<'_>) -> tpm2_protocol::TpmResult<()>) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut w = TpmWriter::new(&mut buffer);
    write(&mut w).expect("the peer writes what it has read");
    w.as_bytes().to_vec()
}

/// The peer reads `ours` as a `T`, and writes the same bytes; we read them as ours again.
fn same<T, U>(ours: &U)
where
    T: TpmMarshal + TpmUnmarshal,
    U: Marshal + for<'a> Unmarshal<'a> + PartialEq + std::fmt::Debug,
{
    let bytes = ours.to_vec();
    let (theirs, rest) = T::unmarshal(&bytes).unwrap_or_else(|e| panic!("the peer refuses {ours:?}: {e}"));
    assert!(rest.is_empty());
    let again = written(|w| theirs.marshal(w));
    assert_eq!(again, bytes);
    assert_eq!(&U::from_bytes(&again).expect("we read what the peer wrote"), ours);
}

/// The same for a command.
fn same_command<C: TpmUnmarshalBody + TpmFrame>(bytes: &[u8]) {
    let wire = TpmCommand::cast(bytes).expect("the peer sees a command");
    let body = wire.unmarshal::<C>().unwrap_or_else(|e| panic!("the peer refuses {bytes:02x?}: {e}"));
    let mut sessions = Vec::new();
    let mut rest = wire.auth_area().expect("a session area");
    while !rest.is_empty() {
        let (session, after) = peer::TpmsAuthCommand::unmarshal(rest).expect("a session");
        sessions.push(session);
        rest = after;
    }
    let tag = if sessions.is_empty() { peer::TpmSt::NoSessions } else { peer::TpmSt::Sessions };
    assert_eq!(written(|w| tpm_marshal_command(&body, tag, &sessions, w)), bytes);
}

#[test]
fn commands() {
    let selection = PcrSelectionList::from_slice(&[PcrSelection::new(HashAlg::Sha384, &[0, 23])]).expect("one");
    let key = Handle(0x8000_0000);
    same_command::<frame::TpmStartupCommand>(&command::startup(StartupType::State));
    same_command::<frame::TpmShutdownCommand>(&command::shutdown(StartupType::Clear));
    same_command::<frame::TpmSelfTestCommand>(&command::self_test(true));
    same_command::<frame::TpmGetTestResultCommand>(&command::get_test_result());
    same_command::<frame::TpmGetRandomCommand>(&command::get_random(32));
    same_command::<frame::TpmStirRandomCommand>(&command::stir_random(b"stir"));
    same_command::<frame::TpmGetCapabilityCommand>(&command::get_capability_pcrs());
    same_command::<frame::TpmPcrExtendCommand>(&command::pcr_extend(4, &hash::digest_banks(b"x")));
    same_command::<frame::TpmPcrEventCommand>(&command::pcr_event(4, b"event"));
    same_command::<frame::TpmPcrReadCommand>(&command::pcr_read(&selection));
    same_command::<frame::TpmPcrResetCommand>(&command::pcr_reset(16));
    same_command::<frame::TpmHashCommand>(&command::hash(b"data", HashAlg::Sha512, rh::OWNER));
    same_command::<frame::TpmHashSequenceStartCommand>(&command::hash_sequence_start(Some(HashAlg::Sha1)));
    same_command::<frame::TpmHashSequenceStartCommand>(&command::hash_sequence_start(None));
    same_command::<frame::TpmSequenceUpdateCommand>(&command::sequence_update(key, b"data"));
    same_command::<frame::TpmSequenceCompleteCommand>(&command::sequence_complete(key, b"data", rh::NULL));
    same_command::<frame::TpmEventSequenceCompleteCommand>(&command::event_sequence_complete(rh::NULL, key, b"data"));
    same_command::<frame::TpmCreatePrimaryCommand>(&command::create_primary(rh::ENDORSEMENT, &templates::ek_p256()));
    same_command::<frame::TpmCreatePrimaryCommand>(&command::create_primary(rh::OWNER, &templates::ak_p256()));
    same_command::<frame::TpmReadPublicCommand>(&command::read_public(key));
    same_command::<frame::TpmFlushContextCommand>(&command::flush_context(key));
    same_command::<frame::TpmQuoteCommand>(&command::quote(key, b"nonce", &selection));
    same_command::<frame::TpmReadClockCommand>(&command::read_clock());
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=max)
}

proptest! {
    #[test]
    fn structures(
        name in bytes(34), extra in bytes(48), digest in bytes(48), r in bytes(32), s in bytes(32), rsa in bytes(256),
        clock: u64, reset_count: u32, restart_count: u32, safe: bool, firmware_version: u64, select: [u8; 3],
        alg in prop::sample::select(HashAlg::ALL.to_vec()),
    ) {
        let name = Name::new(&name).expect("fits");
        let digest = Digest::new(&digest).expect("fits");
        let pcr_select = PcrSelectionList::from_slice(&[PcrSelection { alg, select }]).expect("one");
        let extra_data = Data::new(&extra).expect("fits");
        let clock_info = ClockInfo { clock, reset_count, restart_count, safe };
        for attested in [
            Attested::Quote { pcr_select, pcr_digest: digest },
            Attested::Certify { name, qualified_name: name },
            Attested::Creation { object_name: name, creation_hash: digest },
            Attested::SessionAudit { exclusive: safe, session_digest: digest },
            Attested::Time { time: bulla_tpm_types::TimeInfo { time: clock, clock_info }, firmware_version },
        ] {
            same::<peer::TpmsAttest, _>(&Attest { qualified_signer: name, extra_data, clock_info, firmware_version, attested });
        }
        same::<peer::TpmsCreationData, _>(&CreationData {
            pcr_select, pcr_digest: digest, locality: Locality::TWO, parent_name_alg: Some(alg),
            parent_name: name, parent_qualified_name: name, outside_info: extra_data,
        });
        same::<peer::TpmtTkCreation, _>(&TkCreation { tag: st::CREATION, hierarchy: rh::OWNER, digest });
        same::<peer::TpmtTkHashcheck, _>(&TkCreation { tag: st::HASHCHECK, hierarchy: rh::NULL, digest });
        same::<peer::TpmsClockInfo, _>(&clock_info);
        same::<peer::TpmlPcrSelection, _>(&pcr_select);
        same::<peer::TpmlDigestValues, _>(&hash::digest_banks(&extra));

        let value = SignatureValue::Ecdsa { r: EccParameter::new(&r).expect("fits"), s: EccParameter::new(&s).expect("fits") };
        same::<peer::TpmtSignature, _>(&Signature::Signed { hash: alg, value });
        let rsa = PublicKeyRsa::new(&rsa).expect("fits");
        same::<peer::TpmtSignature, _>(&Signature::Signed { hash: alg, value: SignatureValue::Rsassa(rsa) });
        same::<peer::TpmtSignature, _>(&Signature::Signed { hash: alg, value: SignatureValue::Rsapss(rsa) });
        same::<peer::TpmtSignature, _>(&Signature::Hmac(hash::digest(alg, &[&extra])));
        same::<peer::TpmtSignature, _>(&Signature::Null);

        let mut public = templates::ek_p256();
        public.auth_policy = digest;
        same::<peer::TpmtPublic, _>(&public);
        // The peer takes at most 32 bytes here, where TPMU_PUBLIC_ID has a TPM2B_DIGEST.
        let short = Digest::new(digest.get(..32).unwrap_or(&digest)).expect("fits");
        let kinds = [
            PublicKind::KeyedHash { scheme: bulla_tpm_types::KeyedHashScheme::Hmac(alg), unique: digest },
            PublicKind::SymCipher { sym: Symmetric::AES_128_CFB, unique: short },
            PublicKind::Rsa {
                parms: bulla_tpm_types::RsaParms {
                    symmetric: Symmetric::Null, scheme: bulla_tpm_types::AsymScheme::Rsassa(alg), key_bits: 2048, exponent: 0,
                },
                unique: rsa,
            },
        ];
        for kind in kinds {
            same::<peer::TpmtPublic, _>(&Public { kind, ..public });
        }
        same::<peer::TpmtPublic, _>(&templates::ak_p256());
    }
}
