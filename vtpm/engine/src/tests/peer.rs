//! The crate `tpm2-protocol` as a second opinion on the engine's responses.

use bulla_tpm_types::{Handle, HashAlg, PcrSelection, PcrSelectionList, command, hash, rh, templates};
use tpm2_protocol::TpmWriter;
use tpm2_protocol::frame::{self, TpmFrame, TpmMarshalBody, TpmResponse, TpmUnmarshalBody};

use super::{run, started};

/// The peer reads the response's body as an `R`, and writes the same handles and parameters.
pub(super) fn same<R: TpmUnmarshalBody + TpmFrame + TpmMarshalBody>(response: &[u8]) {
    let wire = TpmResponse::cast(response).expect("the peer sees a response");
    let body = wire.unmarshal::<R>().unwrap_or_else(|e| panic!("the peer refuses {response:02x?}: {e}"));
    let mut buffer = [0; 4096];
    let mut w = TpmWriter::new(&mut buffer);
    body.marshal_handles(&mut w).expect("the peer writes what it has read");
    let handles = w.len();
    body.marshal_parameters(&mut w).expect("the peer writes what it has read");
    let (handles, params) = w.as_bytes().split_at(handles);
    let sessions = response[..2] == [0x80, 0x02];
    let at = 10 + handles.len() + if sessions { 4 } else { 0 };
    assert_eq!(&response[10..10 + handles.len()], handles);
    assert_eq!(&response[at..at + params.len()], params);
    let tail = &response[at + params.len()..];
    assert_eq!(tail.len() % 5, 0, "nothing but sessions follows");
    assert_eq!(sessions, !tail.is_empty());
}

#[test]
fn responses() {
    let mut tpm = started();
    let selection = PcrSelectionList::from_slice(&[PcrSelection::new(HashAlg::Sha384, &[0, 23])]).expect("one");
    let key = Handle(0x8000_0000);
    let sequence = Handle(0x8000_0002);
    let mut ask = |command: Vec<u8>| run(&mut tpm, &command);
    same::<frame::TpmCreatePrimaryResponse>(&ask(command::create_primary(rh::OWNER, &templates::ak_p256())));
    same::<frame::TpmCreatePrimaryResponse>(&ask(command::create_primary(rh::ENDORSEMENT, &templates::ek_p256())));
    same::<frame::TpmReadPublicResponse>(&ask(command::read_public(key)));
    same::<frame::TpmQuoteResponse>(&ask(command::quote(key, b"nonce", &selection)));
    same::<frame::TpmPcrReadResponse>(&ask(command::pcr_read(&selection)));
    same::<frame::TpmPcrExtendResponse>(&ask(command::pcr_extend(1, &hash::digest_banks(b"x"))));
    same::<frame::TpmPcrEventResponse>(&ask(command::pcr_event(1, b"x")));
    same::<frame::TpmPcrResetResponse>(&ask(command::pcr_reset(16)));
    same::<frame::TpmGetRandomResponse>(&ask(command::get_random(32)));
    same::<frame::TpmHashResponse>(&ask(command::hash(b"data", HashAlg::Sha1, rh::OWNER)));
    same::<frame::TpmHashSequenceStartResponse>(&ask(command::hash_sequence_start(Some(HashAlg::Sha256))));
    same::<frame::TpmSequenceUpdateResponse>(&ask(command::sequence_update(sequence, b"x")));
    same::<frame::TpmSequenceCompleteResponse>(&ask(command::sequence_complete(sequence, b"x", rh::NULL)));
    same::<frame::TpmHashSequenceStartResponse>(&ask(command::hash_sequence_start(None)));
    same::<frame::TpmEventSequenceCompleteResponse>(&ask(command::event_sequence_complete(Handle(8), sequence, b"x")));
    same::<frame::TpmReadClockResponse>(&ask(command::read_clock()));
    same::<frame::TpmGetTestResultResponse>(&ask(command::get_test_result()));
    same::<frame::TpmFlushContextResponse>(&ask(command::flush_context(key)));
    // Lists of every capability that the peer knows (not the PCR properties), whole and in part.
    for capability in [0, 1, 2, 3, 4, 5, 6, 8] {
        for count in [0, 1, 1000] {
            same::<frame::TpmGetCapabilityResponse>(&ask(command::get_capability(capability, 0, count)));
        }
    }
}
