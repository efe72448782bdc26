//! Contexts: ContextSave, ContextLoad, and the handles they leave in GetCapability.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    Context, Handle, HashAlg, Marshal, Rc, StartupType, Unmarshal, cap, cc, command, ht, rc, response, rh,
};

use super::sessions::{Client, Terms, save, start_plain};
use super::{code, load_ak, run, shutdown, started, startup};
use crate::Tpm;
use crate::context::{MAX_OBJECT_CONTEXT, MAX_SESSION_CONTEXT};

fn load_context(context: &[u8]) -> Vec<u8> {
    Builder::new(cc::CONTEXT_LOAD, &[]).params(|w| w.bytes(context)).build()
}

fn loaded(tpm: &mut Tpm, context: &[u8]) -> Handle {
    response::parse_handle(&run(tpm, &load_context(context))).expect("loaded")
}

fn handles(tpm: &mut Tpm, kind: u8) -> Vec<u32> {
    let bytes = run(tpm, &command::get_capability(cap::HANDLES, u32::from(kind) << 24, 100));
    let params = response::parse(&bytes, false).expect("a list").params.to_vec();
    params[9..].chunks(4).map(|h| u32::from_be_bytes(h.try_into().expect("four"))).collect()
}

#[test]
fn objects_come_back_as_often_as_asked() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER);
    let context = save(&mut tpm, key.handle);
    let again = loaded(&mut tpm, &context);
    assert_ne!(again, key.handle);
    let read = |tpm: &mut Tpm, h| response::parse_read_public(&run(tpm, &command::read_public(h))).expect("loaded");
    assert_eq!(read(&mut tpm, again).qualified_name, read(&mut tpm, key.handle).qualified_name);
    let quote = run(&mut tpm, &command::quote(again, b"nonce", &Default::default()));
    assert!(response::parse_quote(&quote).is_ok());
    assert_eq!(handles(&mut tpm, ht::TRANSIENT), [0x8000_0000, 0x8000_0001]);
}

#[test]
fn sequences_go_on_where_they_were_saved() {
    let mut tpm = started();
    for alg in [Some(HashAlg::Sha256), None] {
        let first = response::parse_handle(&run(&mut tpm, &command::hash_sequence_start(alg))).expect("a sequence");
        assert_eq!(code(&mut tpm, &command::sequence_update(first, b"ab")), rc::SUCCESS);
        let context = save(&mut tpm, first);
        assert_eq!(Context::from_bytes(&context).map(|c| c.saved_handle), Ok(Handle(0x8000_0001)));
        assert_eq!(code(&mut tpm, &command::flush_context(first)), rc::SUCCESS);
        let again = loaded(&mut tpm, &context);
        if alg.is_some() {
            let done = response::parse_hash(&run(&mut tpm, &command::sequence_complete(again, b"c", rh::NULL)));
            let want = bulla_tpm_types::hash::digest(HashAlg::Sha256, &[b"abc"]).digest();
            assert_eq!(done.expect("a digest").0, want);
        } else {
            let done = run(&mut tpm, &command::event_sequence_complete(rh::NULL, again, b"c"));
            let want = bulla_tpm_types::hash::digest_banks(b"abc");
            assert_eq!(response::parse_digest_values(&done), Ok(want));
        }
    }
}

#[test]
fn sessions_come_back_once() {
    let mut tpm = started();
    let session = start_plain(&mut tpm, 0);
    let policy = start_plain(&mut tpm, 1);
    assert_eq!(handles(&mut tpm, ht::LOADED_SESSION), [session.0, policy.0]);
    let first = save(&mut tpm, session);
    assert_eq!(handles(&mut tpm, ht::LOADED_SESSION), [policy.0]);
    assert_eq!(handles(&mut tpm, ht::SAVED_SESSION), [session.0]);
    assert_eq!(code(&mut tpm, &Builder::new(cc::CONTEXT_SAVE, &[session]).build()), rc::REFERENCE_H0);
    assert_eq!(loaded(&mut tpm, &first), session);
    assert_eq!(code(&mut tpm, &load_context(&first)), rc::HANDLE.parameter(1));
    let second = save(&mut tpm, session);
    assert_eq!(code(&mut tpm, &load_context(&first)), rc::HANDLE.parameter(1));
    assert_eq!(loaded(&mut tpm, &second), session);
    // A saved session can be ended, and does not come back then.
    let third = save(&mut tpm, session);
    assert_eq!(code(&mut tpm, &command::flush_context(session)), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &load_context(&third)), rc::HANDLE.parameter(1));
    assert_eq!(handles(&mut tpm, ht::SAVED_SESSION), [0; 0]);
}

#[test]
fn only_what_was_saved_is_loaded() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER);
    let context = save(&mut tpm, key.handle);
    let is = |tpm: &mut Tpm, bytes: &[u8], want: Rc| assert_eq!(code(tpm, &load_context(bytes)), want);
    // Sequence number, kind, hierarchy, and each octet of the blob.
    for at in (0..context.len()).step_by(7) {
        let mut changed = context.clone();
        changed[at] ^= 1;
        assert!(!code(&mut tpm, &load_context(&changed)).is_success(), "octet {at}");
    }
    let parsed = Context::from_bytes(&context).expect("a context");
    let renamed = |saved: u32, hierarchy| Context { saved_handle: Handle(saved), hierarchy, ..parsed }.to_vec();
    is(&mut tpm, &renamed(0x8000_0002, rh::OWNER), rc::INTEGRITY.parameter(1));
    is(&mut tpm, &renamed(0x8000_0003, rh::OWNER), rc::VALUE.parameter(1));
    is(&mut tpm, &renamed(0x8000_0000, rh::ENDORSEMENT), rc::INTEGRITY.parameter(1));
    is(&mut tpm, &renamed(0x8000_0000, rh::LOCKOUT), rc::VALUE.parameter(1));
    is(&mut tpm, &renamed(0x0200_0000, rh::OWNER), rc::HIERARCHY.parameter(1));
    is(&mut tpm, &context[..context.len() - 1], rc::INSUFFICIENT.parameter(1));
    // Some clients pad the blob; with anything but zeros it is not the same.
    let padded = |with: u8| {
        let blob = [parsed.blob, &[with; 100]].concat();
        Context { blob: &blob, ..parsed }.to_vec()
    };
    is(&mut tpm, &padded(1), rc::SIZE.parameter(1));
    is(&mut tpm, &padded(0), rc::SUCCESS);
}

#[test]
fn contexts_end_with_a_reset_and_survive_a_restart() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER).handle;
    let object = save(&mut tpm, key);
    let handle = start_plain(&mut tpm, 0);
    let session = save(&mut tpm, handle);
    for kind in [StartupType::State, StartupType::Clear] {
        shutdown(&mut tpm, StartupType::State);
        tpm.init();
        startup(&mut tpm, kind).expect("startup");
        assert_eq!(handles(&mut tpm, ht::SAVED_SESSION), [handle.0]);
        assert_eq!(code(&mut tpm, &load_context(&object)), rc::SUCCESS);
    }
    assert_eq!(loaded(&mut tpm, &session), handle);
    let session = save(&mut tpm, handle);
    shutdown(&mut tpm, StartupType::Clear);
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    assert_eq!(handles(&mut tpm, ht::SAVED_SESSION), [0; 0]);
    assert_eq!(code(&mut tpm, &load_context(&object)), rc::INTEGRITY.parameter(1));
    assert_eq!(code(&mut tpm, &load_context(&session)), rc::INTEGRITY.parameter(1));
}

/// A session that came back, or was ended, after a shutdown does not come back again after the startup.
#[test]
fn a_shutdown_does_not_bring_back_sessions_that_were_used_since() {
    for flushed in [false, true] {
        let mut tpm = started();
        let handle = start_plain(&mut tpm, 0);
        let context = save(&mut tpm, handle);
        shutdown(&mut tpm, StartupType::State);
        if flushed {
            assert_eq!(code(&mut tpm, &command::flush_context(handle)), rc::SUCCESS);
        } else {
            assert_eq!(loaded(&mut tpm, &context), handle);
        }
        tpm.init();
        assert!(startup(&mut tpm, StartupType::State).is_err(), "the shutdown does not count");
        startup(&mut tpm, StartupType::Clear).expect("startup");
        assert_eq!(code(&mut tpm, &load_context(&context)), rc::INTEGRITY.parameter(1));
    }
}

/// TPM2_Clear (Part 3, 24.6).
#[test]
fn clearing_ends_the_owners_and_the_endorsement_objects() {
    let mut tpm = started();
    let ek = load_ak(&mut tpm, rh::ENDORSEMENT);
    let owner = load_ak(&mut tpm, rh::OWNER);
    let platform = load_ak(&mut tpm, rh::PLATFORM);
    let context = save(&mut tpm, ek.handle);
    let clear = Builder::with_empty_auth(cc::CLEAR, &[rh::LOCKOUT], 1).build();
    assert_eq!(code(&mut tpm, &clear), rc::SUCCESS);
    assert_eq!(handles(&mut tpm, ht::TRANSIENT), [platform.handle.0]);
    assert_eq!(code(&mut tpm, &load_context(&context)), rc::INTEGRITY.parameter(1));
    // The endorsement hierarchy's keys are the same again, the owner's are not.
    assert_eq!(load_ak(&mut tpm, rh::ENDORSEMENT).name, ek.name);
    assert_ne!(load_ak(&mut tpm, rh::OWNER).name, owner.name);
    let time = response::parse_read_clock(&run(&mut tpm, &command::read_clock())).expect("a clock");
    assert_eq!((time.clock_info.reset_count, time.clock_info.clock), (0, 0));
}

#[test]
fn contexts_are_no_larger_than_announced() {
    let mut tpm = started();
    let parent = super::load(&mut tpm, rh::OWNER, &bulla_tpm_types::templates::ek_p256());
    let event = response::parse_handle(&run(&mut tpm, &command::hash_sequence_start(None))).expect("a sequence");
    for handle in [parent.handle, event] {
        let context = save(&mut tpm, handle);
        let blob = Context::from_bytes(&context).expect("a context").blob.len();
        assert!(blob <= MAX_OBJECT_CONTEXT, "{blob}");
    }
    let terms = Terms { bind: Some((parent.handle, &[])), cipher: 16, ..Terms::default() };
    let bound = Client::start(&mut tpm, &terms).handle;
    let context = save(&mut tpm, bound);
    assert!(Context::from_bytes(&context).expect("a context").blob.len() <= MAX_SESSION_CONTEXT);
}

/// Part 1, 30.5.2: the oldest saved session is the only one that can be loaded when the others would lie 2^16 behind.
#[test]
fn the_gap_between_saved_sessions_is_limited() {
    let mut tpm = started();
    let old = start_plain(&mut tpm, 0);
    let oldest = save(&mut tpm, old);
    let other = start_plain(&mut tpm, 0);
    let mut context = save(&mut tpm, other);
    let mut saves = 2;
    let refused = loop {
        assert_eq!(loaded(&mut tpm, &context), other);
        let bytes = run(&mut tpm, &Builder::new(cc::CONTEXT_SAVE, &[other]).build());
        match response::parse(&bytes, false) {
            Ok(answer) => context = answer.params.to_vec(),
            Err(e) => break e,
        }
        saves += 1;
    };
    assert_eq!((refused, saves), (response::ResponseError::Tpm(rc::CONTEXT_GAP), 0xffff));
    let start = code(
        &mut tpm,
        &Builder::new(cc::START_AUTH_SESSION, &[rh::NULL, rh::NULL])
            .params(|w| w.bytes(&super::unhex("0010 000102030405060708090a0b0c0d0e0f 0000 00 0010 000b")))
            .build(),
    );
    assert_eq!(start, rc::CONTEXT_GAP);
    assert_eq!(loaded(&mut tpm, &oldest), old);
    save(&mut tpm, other);
}
