//! NV Indexes of each type, and what may not be done with them.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    AuthCommand, Digest, Handle, HashAlg, Marshal, NvAttributes as A, NvKind, NvPin, NvPublic, Rc, SessionAttributes,
    StartupType, cc, command, hash, rc, response, rh,
};

use super::{code, run, shutdown, started, startup};
use crate::Tpm;

/// Where the tests have their indices.
pub(super) const INDEX: Handle = Handle(0x0100_0001);

/// What an index needs that owner and authValue write and read.
pub(super) fn open() -> A {
    A::OWNER_READ | A::OWNER_WRITE | A::AUTH_READ | A::AUTH_WRITE | A::NO_DA
}

pub(super) fn public(kind: NvKind, attributes: A) -> NvPublic {
    let data_size = match kind {
        NvKind::Ordinary => 16,
        NvKind::Extend => 32,
        _ => 8,
    };
    let attributes = kind.attributes() | attributes;
    NvPublic { index: INDEX, name_alg: HashAlg::Sha256, attributes, auth_policy: Digest::EMPTY, data_size }
}

/// Defines an index with the Empty Auth.
pub(super) fn define(tpm: &mut Tpm, public: &NvPublic) -> Rc {
    let by = if public.attributes.contains(A::PLATFORM_CREATE) { rh::PLATFORM } else { rh::OWNER };
    code(tpm, &command::nv_define_space(by, b"", public))
}

fn defined(kind: NvKind, attributes: A) -> Tpm {
    let mut tpm = started();
    assert_eq!(define(&mut tpm, &public(kind, attributes)), rc::SUCCESS);
    tpm
}

/// A command about [`INDEX`], authorized by the Empty Auth of `by`.
fn nv(tpm: &mut Tpm, code_of: u32, by: Handle, params: &[u8]) -> Rc {
    code(tpm, &Builder::with_empty_auth(code_of, &[by, INDEX], 1).params(|w| w.bytes(params)).build())
}

fn read(tpm: &mut Tpm, size: u16, offset: u16) -> Result<Vec<u8>, Rc> {
    let bytes = run(tpm, &command::nv_read(rh::OWNER, INDEX, size, offset));
    match response::parse_nv_read(&bytes) {
        Ok(data) => Ok(data.to_vec()),
        Err(response::ResponseError::Tpm(rc)) => Err(rc),
        Err(e) => panic!("{e}"),
    }
}

fn write(tpm: &mut Tpm, data: &[u8], offset: u16) -> Rc {
    code(tpm, &command::nv_write(rh::OWNER, INDEX, data, offset))
}

fn attributes(tpm: &mut Tpm) -> A {
    let bytes = run(tpm, &command::nv_read_public(INDEX));
    let (public, name) = response::parse_nv_read_public(&bytes).expect("the public area");
    assert_eq!(name, public.name());
    public.attributes
}

fn number(tpm: &mut Tpm) -> u64 {
    u64::from_be_bytes(read(tpm, 8, 0).expect("a number").try_into().expect("8 octets"))
}

fn increment(tpm: &mut Tpm) -> Rc {
    nv(tpm, cc::NV_INCREMENT, rh::OWNER, &[])
}

/// Power goes without a shutdown, or after one; then comes a startup.
fn cycle(tpm: &mut Tpm, down: Option<StartupType>, up: StartupType) {
    if let Some(kind) = down {
        shutdown(tpm, kind);
    }
    tpm.init();
    startup(tpm, up).expect("startup");
}

#[test]
fn ordinary_indices_hold_what_is_written() {
    let mut tpm = defined(NvKind::Ordinary, open());
    assert_eq!(read(&mut tpm, 16, 0), Err(rc::NV_UNINITIALIZED));
    assert_eq!(write(&mut tpm, b"abc", 4), rc::SUCCESS);
    assert_eq!(read(&mut tpm, 16, 0).expect("data"), b"\0\0\0\0abc\0\0\0\0\0\0\0\0\0");
    assert!(attributes(&mut tpm).contains(A::WRITTEN));
    assert_eq!(nv(&mut tpm, cc::NV_WRITE, INDEX, b"\0\x01z\0\x04"), rc::SUCCESS);
    assert_eq!(read(&mut tpm, 3, 4).expect("data"), b"zbc");
    assert_eq!(read(&mut tpm, 0, 16).expect("data"), b"");
    assert_eq!(read(&mut tpm, 17, 0), Err(rc::NV_RANGE));
    assert_eq!(read(&mut tpm, 1, 16), Err(rc::NV_RANGE));
    assert_eq!(read(&mut tpm, 0, 17), Err(rc::VALUE.parameter(2)));
    assert_eq!(read(&mut tpm, 1025, 0), Err(rc::VALUE.parameter(1)));
    assert_eq!(write(&mut tpm, &[0; 17], 0), rc::NV_RANGE);
    assert_eq!(write(&mut tpm, &[0; 1], 16), rc::NV_RANGE);
    assert_eq!(write(&mut tpm, &[], 17), rc::VALUE.parameter(2));
    assert_eq!(write(&mut tpm, &[0; 1025], 0), rc::SIZE.parameter(1));
    for code_of in [cc::NV_INCREMENT, cc::NV_EXTEND, cc::NV_SET_BITS] {
        let params: &[u8] = match code_of {
            cc::NV_EXTEND => &[0, 0],
            cc::NV_SET_BITS => &[0; 8],
            _ => &[],
        };
        assert_eq!(nv(&mut tpm, code_of, rh::OWNER, params), rc::ATTRIBUTES.handle(2));
    }
    assert_eq!(nv(&mut tpm, cc::NV_UNDEFINE_SPACE, rh::OWNER, &[]), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::nv_read_public(INDEX)), rc::HANDLE.handle(1));
}

#[test]
fn counters_never_go_back() {
    let mut tpm = defined(NvKind::Counter, open());
    assert_eq!(write(&mut tpm, &[0; 8], 0), rc::ATTRIBUTES);
    for want in 1..=3 {
        assert_eq!(increment(&mut tpm), rc::SUCCESS);
        assert_eq!(number(&mut tpm), want);
    }
    // Another counter with the same handle starts above what this one was; so does one after the owner has cleared.
    assert_eq!(nv(&mut tpm, cc::NV_UNDEFINE_SPACE, rh::OWNER, &[]), rc::SUCCESS);
    assert_eq!(define(&mut tpm, &public(NvKind::Counter, open())), rc::SUCCESS);
    assert_eq!(read(&mut tpm, 8, 0), Err(rc::NV_UNINITIALIZED));
    assert_eq!((increment(&mut tpm), number(&mut tpm)), (rc::SUCCESS, 4));
    assert_eq!(code(&mut tpm, &Builder::with_empty_auth(cc::CLEAR, &[rh::LOCKOUT], 1).build()), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::nv_read_public(INDEX)), rc::HANDLE.handle(1));
    assert_eq!(define(&mut tpm, &public(NvKind::Counter, open())), rc::SUCCESS);
    assert_eq!((increment(&mut tpm), number(&mut tpm)), (rc::SUCCESS, 5));
    // The power is no way back either.
    cycle(&mut tpm, None, StartupType::Clear);
    assert_eq!(number(&mut tpm), 5);
}

#[test]
fn orderly_counters_skip_ahead_when_power_is_lost() {
    let mut tpm = defined(NvKind::Counter, open() | A::ORDERLY);
    assert_eq!(increment(&mut tpm), rc::SUCCESS);
    assert_eq!(increment(&mut tpm), rc::SUCCESS);
    cycle(&mut tpm, Some(StartupType::Clear), StartupType::Clear);
    assert_eq!(number(&mut tpm), 2);
    assert_eq!(increment(&mut tpm), rc::SUCCESS);
    cycle(&mut tpm, None, StartupType::Clear);
    assert_eq!(number(&mut tpm), 0xff);
    assert_eq!((increment(&mut tpm), number(&mut tpm)), (rc::SUCCESS, 0x100));
    cycle(&mut tpm, None, StartupType::Clear);
    assert_eq!(number(&mut tpm), 0x1ff);
    // A shutdown that was followed by an increment is none.
    shutdown(&mut tpm, StartupType::State);
    assert_eq!(increment(&mut tpm), rc::SUCCESS);
    shutdown(&mut tpm, StartupType::State);
    assert_eq!(increment(&mut tpm), rc::SUCCESS);
    tpm.init();
    assert!(startup(&mut tpm, StartupType::State).is_err());
    startup(&mut tpm, StartupType::Clear).expect("startup");
    assert_eq!(number(&mut tpm), 0x2ff);
}

#[test]
fn bits_and_digests_accumulate() {
    let mut tpm = defined(NvKind::Bits, open());
    for bits in [0x8000_0000_0000_0000u64, 5, 0] {
        assert_eq!(nv(&mut tpm, cc::NV_SET_BITS, rh::OWNER, &bits.to_be_bytes()), rc::SUCCESS);
    }
    assert_eq!(number(&mut tpm), 0x8000_0000_0000_0005);

    let mut tpm = defined(NvKind::Extend, open());
    let mut want = vec![0; 32];
    for data in [&b"one"[..], b"", &[7; 1024]] {
        let size = (data.len() as u16).to_be_bytes();
        assert_eq!(nv(&mut tpm, cc::NV_EXTEND, INDEX, &[&size, data].concat()), rc::SUCCESS);
        want = hash::digest(HashAlg::Sha256, &[&want, data]).as_bytes().to_vec();
    }
    assert_eq!(read(&mut tpm, 32, 0).expect("a digest"), want);
}

#[test]
fn locks_last_as_long_as_they_should() {
    let lockable = open() | A::WRITE_ST_CLEAR | A::READ_ST_CLEAR;
    let mut tpm = defined(NvKind::Ordinary, lockable);
    assert_eq!(write(&mut tpm, b"x", 0), rc::SUCCESS);
    for lock in [cc::NV_WRITE_LOCK, cc::NV_READ_LOCK] {
        // A second time is no error.
        assert_eq!((nv(&mut tpm, lock, rh::OWNER, &[]), nv(&mut tpm, lock, INDEX, &[])), (rc::SUCCESS, rc::SUCCESS));
    }
    let locked = |tpm: &mut Tpm| (write(tpm, b"y", 0), read(tpm, 1, 0));
    assert_eq!(locked(&mut tpm), (rc::NV_LOCKED, Err(rc::NV_LOCKED)));
    // A resumed TPM is still locked, one that has started anew is not.
    cycle(&mut tpm, Some(StartupType::State), StartupType::State);
    assert_eq!(locked(&mut tpm), (rc::NV_LOCKED, Err(rc::NV_LOCKED)));
    cycle(&mut tpm, Some(StartupType::State), StartupType::Clear);
    assert_eq!(locked(&mut tpm), (rc::SUCCESS, Ok(b"y".to_vec())));

    // For good.
    let mut tpm = defined(NvKind::Ordinary, open() | A::WRITE_DEFINE);
    assert_eq!(nv(&mut tpm, cc::NV_READ_LOCK, rh::OWNER, &[]), rc::ATTRIBUTES.handle(2));
    assert_eq!(write(&mut tpm, b"x", 0), rc::SUCCESS);
    assert_eq!(nv(&mut tpm, cc::NV_WRITE_LOCK, rh::OWNER, &[]), rc::SUCCESS);
    cycle(&mut tpm, None, StartupType::Clear);
    assert_eq!(write(&mut tpm, b"y", 0), rc::NV_LOCKED);
    // Not on what was never written.
    let mut tpm = defined(NvKind::Ordinary, open() | A::WRITE_DEFINE);
    assert_eq!(nv(&mut tpm, cc::NV_WRITE_LOCK, rh::OWNER, &[]), rc::SUCCESS);
    assert_eq!(write(&mut tpm, b"y", 0), rc::NV_LOCKED);
    cycle(&mut tpm, None, StartupType::Clear);
    assert_eq!(write(&mut tpm, b"y", 0), rc::SUCCESS);

    // All at once.
    let mut tpm = defined(NvKind::Bits, open() | A::GLOBAL_LOCK | A::ORDERLY);
    assert_eq!(nv(&mut tpm, cc::NV_WRITE_LOCK, rh::OWNER, &[]), rc::ATTRIBUTES.handle(2));
    let global = Builder::with_empty_auth(cc::NV_GLOBAL_WRITE_LOCK, &[rh::OWNER], 1).build();
    assert_eq!(code(&mut tpm, &global), rc::SUCCESS);
    assert_eq!(nv(&mut tpm, cc::NV_SET_BITS, rh::OWNER, &[0; 8]), rc::NV_LOCKED);
    cycle(&mut tpm, None, StartupType::Clear);
    assert_eq!(nv(&mut tpm, cc::NV_SET_BITS, rh::OWNER, &[0; 8]), rc::SUCCESS);
}

#[test]
fn startups_unwrite_what_is_volatile() {
    let state = Some(StartupType::State);
    for (extra, after_restart, after_reset) in [
        (A::NONE, true, true),
        (A::CLEAR_ST_CLEAR, false, false),
        (A::ORDERLY, true, false),
        (A::ORDERLY | A::CLEAR_ST_CLEAR, false, false),
    ] {
        let mut tpm = defined(NvKind::Ordinary, open() | extra);
        let written = |down, up, tpm: &mut Tpm| {
            assert_eq!(write(tpm, b"data", 0), rc::SUCCESS);
            cycle(tpm, down, up);
            let still = attributes(tpm).contains(A::WRITTEN);
            assert_eq!(read(tpm, 4, 0), if still { Ok(b"data".to_vec()) } else { Err(rc::NV_UNINITIALIZED) });
            still
        };
        assert!(written(state, StartupType::State, &mut tpm), "{extra:?}");
        assert_eq!(written(state, StartupType::Clear, &mut tpm), after_restart, "{extra:?}");
        assert_eq!(written(Some(StartupType::Clear), StartupType::Clear, &mut tpm), after_reset, "{extra:?}");
        assert_eq!(written(None, StartupType::Clear, &mut tpm), after_reset, "{extra:?}");
        // The first write after that leaves nothing of what was there before.
        assert_eq!(write(&mut tpm, b"x", 0), rc::SUCCESS);
        let want = if after_reset { b"xata" } else { b"x\0\0\0" };
        assert_eq!(read(&mut tpm, 4, 0).expect("data"), want, "{extra:?}");
    }
}

/// Authorizes with a password.
fn with_password(code_of: u32, handles: &[Handle], password: &[u8], params: &[u8]) -> Vec<u8> {
    let session = AuthCommand::password(password).expect("fits");
    Builder::with_sessions(code_of, handles, &[session]).params(|w| w.bytes(params)).build()
}

fn pin(tpm: &mut Tpm) -> NvPin {
    let data = read(tpm, 8, 0).expect("a PIN");
    bulla_tpm_types::Unmarshal::from_bytes(&data).expect("a PIN")
}

/// A PIN index with the authValue "pin" and a limit.
fn pin_index(kind: NvKind, limit: u32) -> Tpm {
    let mut tpm = started();
    let attributes = A::OWNER_READ | A::OWNER_WRITE | A::AUTH_READ | A::NO_DA;
    let define = command::nv_define_space(rh::OWNER, b"pin", &public(kind, attributes));
    assert_eq!(code(&mut tpm, &define), rc::SUCCESS);
    assert_eq!(use_pin(&mut tpm, b"pin"), rc::AUTH_UNAVAILABLE, "not written yet");
    assert_eq!(write(&mut tpm, &NvPin { count: 0, limit }.to_vec(), 0), rc::SUCCESS);
    tpm
}

/// PolicySecret with the PIN, in a trial session.
fn use_pin(tpm: &mut Tpm, given: &[u8]) -> Rc {
    let session = super::sessions::start_plain(tpm, 1);
    let answer = code(tpm, &with_password(cc::POLICY_SECRET, &[INDEX, session], given, &[0; 10]));
    assert_eq!(code(tpm, &command::flush_context(session)), rc::SUCCESS);
    answer
}

#[test]
fn a_pin_fail_index_counts_failures() {
    let mut tpm = pin_index(NvKind::PinFail, 3);
    let wrong = rc::BAD_AUTH.session(1);
    for (given, answer, count) in [
        (&b"nip"[..], wrong, 1),
        (b"nip", wrong, 2),
        (b"pin", rc::SUCCESS, 0),
        (b"", wrong, 1),
        (b"nip", wrong, 2),
        (b"nip", wrong, 3),
        (b"pin", rc::AUTH_UNAVAILABLE, 3),
    ] {
        assert_eq!(use_pin(&mut tpm, given), answer);
        assert_eq!(pin(&mut tpm).count, count);
    }
    // The count survives the power, and the owner can write another.
    cycle(&mut tpm, None, StartupType::Clear);
    assert_eq!(use_pin(&mut tpm, b"pin"), rc::AUTH_UNAVAILABLE);
    assert_eq!(write(&mut tpm, &NvPin { count: 2, limit: 3 }.to_vec(), 0), rc::SUCCESS);
    assert_eq!(use_pin(&mut tpm, b"pin"), rc::SUCCESS);
    assert_eq!(pin(&mut tpm), NvPin { count: 0, limit: 3 });
}

#[test]
fn a_pin_pass_index_counts_uses() {
    let mut tpm = pin_index(NvKind::PinPass, 2);
    for (given, answer, count) in [
        (&b"pin"[..], rc::SUCCESS, 1),
        (b"nip", rc::BAD_AUTH.session(1), 1),
        (b"pin", rc::SUCCESS, 2),
        (b"pin", rc::AUTH_UNAVAILABLE, 2),
    ] {
        assert_eq!(use_pin(&mut tpm, given), answer);
        assert_eq!(pin(&mut tpm).count, count);
    }
}

#[test]
fn no_ticket_and_no_bound_session_evades_the_count_of_a_pin() {
    let mut tpm = pin_index(NvKind::PinPass, 9);
    let session = super::sessions::start_plain(&mut tpm, 1);
    // expiration -1 asks for a ticket.
    let params = [&[0; 6][..], &[0xff; 4]].concat();
    let bytes = run(&mut tpm, &with_password(cc::POLICY_SECRET, &[INDEX, session], b"pin", &params));
    let answer = response::parse(&bytes, false).expect("PolicySecret");
    assert_eq!(answer.params, [&[0, 0, 0x80, 0x23][..], &rh::NULL.to_vec(), &[0, 0]].concat());
    let start = Builder::new(cc::START_AUTH_SESSION, &[rh::NULL, INDEX]).params(|w| {
        w.tpm2b(&[7; 32]);
        w.bytes(&[0, 0, 0, 0, 0x10, 0, 0x0b]);
    });
    assert_eq!(code(&mut tpm, &start.build()), rc::HANDLE.handle(2));
}

#[test]
fn wrong_auth_values_count_towards_lockout_unless_the_index_says_no() {
    for (extra, want) in [(A::NONE, rc::AUTH_FAIL), (A::NO_DA, rc::BAD_AUTH)] {
        let mut tpm = started();
        let attributes = A::AUTH_READ | A::AUTH_WRITE | extra;
        let define = command::nv_define_space(rh::OWNER, b"secret", &public(NvKind::Ordinary, attributes));
        assert_eq!(code(&mut tpm, &define), rc::SUCCESS);
        let by_value = |given| with_password(cc::NV_WRITE, &[INDEX, INDEX], given, b"\0\x01x\0\0");
        assert_eq!(code(&mut tpm, &by_value(b"wrong")), want.session(1));
        assert_eq!(code(&mut tpm, &by_value(b"secret")), rc::SUCCESS);
        assert_eq!(tpm.lockout.failed_tries(), u32::from(want == rc::AUTH_FAIL));
        // Who the attributes do not name may do nothing.
        assert_eq!(write(&mut tpm, b"x", 0), rc::NV_AUTHORIZATION);
        assert_eq!(read(&mut tpm, 1, 0), Err(rc::NV_AUTHORIZATION));
        assert_eq!(nv(&mut tpm, cc::NV_READ, rh::PLATFORM, &[0; 4]), rc::NV_AUTHORIZATION);
    }
    let mut tpm = defined(NvKind::Ordinary, A::OWNER_READ | A::OWNER_WRITE);
    assert_eq!(nv(&mut tpm, cc::NV_WRITE, INDEX, &[0; 4]), rc::AUTH_UNAVAILABLE);
    assert_eq!(nv(&mut tpm, cc::NV_READ, INDEX, &[0; 4]), rc::AUTH_UNAVAILABLE);
    let other = NvPublic { index: Handle(0x0100_0002), ..public(NvKind::Ordinary, open()) };
    assert_eq!(define(&mut tpm, &other), rc::SUCCESS);
    assert_eq!(nv(&mut tpm, cc::NV_WRITE, other.index, &[0; 4]), rc::NV_AUTHORIZATION);
}

#[test]
fn definitions_that_make_no_sense_are_refused() {
    let mut tpm = started();
    let base = public(NvKind::Ordinary, open());
    let with = |kind: NvKind, a: A| public(kind, a);
    let pin = A::OWNER_READ | A::OWNER_WRITE | A::NO_DA;
    let (size, wrong) = (rc::SIZE.parameter(2), rc::ATTRIBUTES.parameter(2));
    for (public, want) in [
        (NvPublic { data_size: 2049, ..base }, size),
        (NvPublic { data_size: 1025, attributes: base.attributes | A::WRITE_ALL, ..base }, size),
        (NvPublic { auth_policy: Digest::new(&[0; 20]).expect("fits"), ..base }, size),
        (NvPublic { data_size: 7, ..with(NvKind::Counter, open()) }, size),
        (NvPublic { data_size: 9, ..with(NvKind::Bits, open()) }, size),
        (NvPublic { data_size: 20, ..with(NvKind::Extend, open()) }, size),
        (NvPublic { data_size: 4, ..with(NvKind::PinPass, pin) }, size),
        (NvPublic { attributes: open() | A::from_bits(0x30), ..base }, wrong),
        (with(NvKind::Ordinary, open() | A::WRITTEN), wrong),
        (with(NvKind::Ordinary, open() | A::WRITE_LOCKED), wrong),
        (with(NvKind::Ordinary, open() | A::READ_LOCKED), wrong),
        (with(NvKind::Ordinary, A::OWNER_READ), wrong),
        (with(NvKind::Ordinary, A::OWNER_WRITE), wrong),
        (with(NvKind::Ordinary, open() | A::CLEAR_ST_CLEAR | A::WRITE_DEFINE), wrong),
        (with(NvKind::Ordinary, open() | A::POLICY_DELETE), wrong),
        (with(NvKind::Counter, open() | A::CLEAR_ST_CLEAR), wrong),
        (with(NvKind::PinPass, pin | A::AUTH_WRITE), wrong),
        (with(NvKind::PinPass, pin | A::GLOBAL_LOCK), wrong),
        (with(NvKind::PinPass, pin | A::WRITE_DEFINE), wrong),
        (with(NvKind::PinFail, pin.without(A::NO_DA)), wrong),
        (NvPublic { index: Handle(0x8000_0000), ..base }, rc::VALUE.parameter(2)),
        (NvPublic { attributes: open() | A::from_bits(0x100), ..base }, rc::RESERVED_BITS.parameter(2)),
    ] {
        assert_eq!(define(&mut tpm, &public), want, "{public:?}");
    }
    let mut by =
        |handle, auth: &[u8], public: &NvPublic| code(&mut tpm, &command::nv_define_space(handle, auth, public));
    assert_eq!(by(rh::OWNER, &[1; 33], &base), rc::SIZE.parameter(1));
    assert_eq!(by(rh::OWNER, &[1; 65], &base), rc::SIZE.parameter(1));
    assert_eq!(by(rh::PLATFORM, &[], &base), rc::ATTRIBUTES.handle(1));
    assert_eq!(by(rh::OWNER, &[], &with(NvKind::Bits, open() | A::PLATFORM_CREATE)), rc::ATTRIBUTES.handle(1));
    assert_eq!(by(rh::ENDORSEMENT, &[], &base), rc::VALUE.handle(1));
    // Trailing zeros are not part of an authValue.
    assert_eq!(by(rh::OWNER, &[0; 64], &base), rc::SUCCESS);
    assert_eq!(by(rh::OWNER, &[], &base), rc::NV_DEFINED);
}

fn numbered(n: u32, kind: NvKind, data_size: u16) -> NvPublic {
    NvPublic { index: Handle(0x0110_0000 + n), data_size, ..public(kind, open()) }
}

/// How many indices from number `from` can be defined until the space is full.
fn fill(tpm: &mut Tpm, from: u32, kind: NvKind, data_size: u16) -> u32 {
    let refused = (0..1000).find(|n| define(tpm, &numbered(from + n, kind, data_size)) == rc::NV_SPACE);
    refused.expect("a bound")
}

#[test]
fn space_is_bounded_and_counters_always_fit() {
    let mut tpm = started();
    let large = fill(&mut tpm, 0, NvKind::Ordinary, 2048);
    assert!(large > 50, "{large}");
    fill(&mut tpm, 1000, NvKind::Ordinary, 0);
    let counters = fill(&mut tpm, 2000, NvKind::Counter, 8);
    assert!(counters >= 8, "{counters}");
    assert_eq!(tpm.nv.counters_available(), 0);
}

#[test]
fn only_a_policy_changes_the_auth_value_or_deletes_for_good() {
    let mut tpm = defined(NvKind::Ordinary, open());
    let change = Builder::with_empty_auth(cc::NV_CHANGE_AUTH, &[INDEX], 1).params(|w| w.tpm2b(b"new")).build();
    assert_eq!(code(&mut tpm, &change), rc::AUTH_TYPE);

    let session = super::sessions::start_plain(&mut tpm, 3);
    let code_only = |code_of| Builder::new(cc::POLICY_COMMAND_CODE, &[session]).params(|w| w.u32(code_of)).build();
    assert_eq!(code(&mut tpm, &code_only(cc::NV_CHANGE_AUTH)), rc::SUCCESS);
    let bytes = run(&mut tpm, &Builder::new(cc::POLICY_GET_DIGEST, &[session]).build());
    let auth_policy = response::parse_get_random(&bytes).expect("a digest");
    let with_policy = NvPublic { index: Handle(0x0100_0002), auth_policy, ..public(NvKind::Ordinary, open()) };
    assert_eq!(define(&mut tpm, &with_policy), rc::SUCCESS);
    let handle = super::sessions::start_plain(&mut tpm, 1);
    let attributes = SessionAttributes::CONTINUE_SESSION;
    let by_policy = AuthCommand { handle, nonce: Digest::EMPTY, attributes, hmac: Digest::EMPTY };
    let change = |size: usize| {
        let builder = Builder::with_sessions(cc::NV_CHANGE_AUTH, &[with_policy.index], &[by_policy]);
        builder.params(|w| w.tpm2b(&vec![1; size])).build()
    };
    assert_eq!(code(&mut tpm, &change(3)), rc::POLICY_FAIL.session(1));
    let says = Builder::new(cc::POLICY_COMMAND_CODE, &[handle]).params(|w| w.u32(cc::NV_CHANGE_AUTH)).build();
    assert_eq!(code(&mut tpm, &says), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &change(33)), rc::SIZE.parameter(1));
    assert_eq!(code(&mut tpm, &change(3)), rc::SUCCESS);
    let read = |given| with_password(cc::NV_READ, &[with_policy.index, with_policy.index], given, &[0; 4]);
    assert_eq!(code(&mut tpm, &read(&[])), rc::BAD_AUTH.session(1));
    assert_eq!(code(&mut tpm, &read(&[1; 3])), rc::NV_UNINITIALIZED);
}

#[test]
fn what_is_saved_comes_back() {
    use crate::nv::Nv;
    use bulla_tpm_types::{Reader, Writer};
    let mut tpm = defined(NvKind::Ordinary, open() | A::WRITE_ST_CLEAR);
    assert_eq!(write(&mut tpm, b"x", 3), rc::SUCCESS);
    let orderly = NvPublic { index: Handle(0x0100_0007), ..public(NvKind::Counter, open() | A::ORDERLY) };
    assert_eq!(define(&mut tpm, &orderly), rc::SUCCESS);
    let more = Builder::with_empty_auth(cc::NV_INCREMENT, &[rh::OWNER, orderly.index], 1).build();
    for _ in 0..3 {
        assert_eq!(code(&mut tpm, &more), rc::SUCCESS);
    }
    let save = |nv: &Nv| {
        let mut w = Writer::new();
        nv.save(&mut w);
        w.into_vec()
    };
    let bytes = save(&tpm.nv);
    let restored = Nv::restore(&mut Reader::new(&bytes)).expect("what was saved");
    assert_eq!(save(&restored), bytes);
    assert_eq!(restored.get(INDEX).expect("there").data(), tpm.nv.get(INDEX).expect("there").data());
    // Of the orderly counter, what was stored at its first step.
    assert_eq!(restored.get(orderly.index).expect("there").number(), 1);
    // What is in RAM only comes back with it.
    let mut w = Writer::new();
    tpm.nv.save_volatile(&mut w);
    let volatile = w.into_vec();
    let mut restored = restored;
    restored.restore_volatile(&mut Reader::new(&volatile)).expect("what was saved");
    assert_eq!(restored.get(orderly.index).expect("there").number(), 3);
    assert!(restored.restore_volatile(&mut Reader::new(&volatile[1..])).is_err());
    // No prefix is a state, and no change of a length or type is taken.
    for end in 0..bytes.len() {
        assert!(Nv::restore(&mut Reader::new(&bytes[..end])).is_err(), "{end}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0xff;
        // It must not panic; where it is taken, it is bounded.
        if let Ok(nv) = Nv::restore(&mut Reader::new(&changed)) {
            assert!(nv.handles().count() <= 2);
        }
    }
}

#[test]
fn indices_of_a_disabled_hierarchy_are_not_there() {
    let mut tpm = defined(NvKind::Ordinary, open());
    let of_platform = A::PP_READ | A::PP_WRITE | A::PLATFORM_CREATE;
    let platform = NvPublic { index: Handle(0x0100_0002), ..public(NvKind::Ordinary, of_platform) };
    assert_eq!(define(&mut tpm, &platform), rc::SUCCESS);
    let there = |tpm: &mut Tpm, index| code(tpm, &command::nv_read_public(index));
    let gone = rc::HANDLE.handle(1);
    let _ = tpm.hierarchies.set_enabled(rh::PLATFORM_NV, false);
    tpm.permanent_changed();
    assert_eq!((there(&mut tpm, INDEX), there(&mut tpm, platform.index)), (rc::SUCCESS, gone));
    let another = NvPublic { index: Handle(0x0100_0003), ..platform };
    assert_eq!(define(&mut tpm, &another), rc::HIERARCHY.handle(1));
    let _ = tpm.hierarchies.set_enabled(rh::PLATFORM_NV, true);
    let _ = tpm.hierarchies.set_enabled(rh::OWNER, false);
    tpm.permanent_changed();
    assert_eq!((there(&mut tpm, INDEX), there(&mut tpm, platform.index)), (gone, rc::SUCCESS));
}
