//! The layers of Part 3, 5: header, mode, handles, sessions, parameters; each with its response codes.

use std::sync::atomic::Ordering;

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    AuthCommand, Digest, Handle, NvKind, ObjectAttributes as A, Public, Rc, SensitiveCreate, StartupType, cc, command,
    rc, response, rh, templates,
};

use super::{code, load_ak, powered_on, run, started, startup, unhex};
use crate::table::{Auth, COMMANDS, HandleKind};
use crate::{MAX_COMMAND_SIZE, Tpm};

fn answer(tpm: &mut Tpm, hex: &str) -> Vec<u8> {
    run(tpm, &unhex(hex))
}

#[test]
fn header() {
    let mut tpm = started();
    // A bad tag is answered as a TPM 1.2 would (Part 3, 5.2).
    assert_eq!(answer(&mut tpm, "00c1 0000000a 0000017b"), unhex("00c4 0000000a 0000001e"));
    assert_eq!(answer(&mut tpm, "8003 0000000c 0000017b 0001"), unhex("00c4 0000000a 0000001e"));
    let short = rc::INSUFFICIENT;
    assert_eq!(code(&mut tpm, &[]), short);
    assert_eq!(code(&mut tpm, &unhex("80")), short);
    assert_eq!(code(&mut tpm, &unhex("8001 000000")), short);
    assert_eq!(code(&mut tpm, &unhex("8001 00000006")), short);
    assert_eq!(code(&mut tpm, &unhex("8001 0000000b 0000017b 0001")), rc::COMMAND_SIZE);
    assert_eq!(code(&mut tpm, &unhex("8001 0000000d 0000017b 0001")), rc::COMMAND_SIZE);
    assert_eq!(code(&mut tpm, &unhex("8001 0000000a 00000999")), rc::COMMAND_CODE);
    assert_eq!(code(&mut tpm, &unhex("8001 0000000a 2000017b")), rc::COMMAND_CODE);
    let mut huge = vec![0; MAX_COMMAND_SIZE + 1];
    huge[..10].copy_from_slice(&unhex("8001 00001001 0000017b"));
    assert_eq!(code(&mut tpm, &huge), rc::COMMAND_SIZE);
}

#[test]
fn what_comes_before_startup() {
    let (mut tpm, _) = powered_on();
    assert_eq!(code(&mut tpm, &unhex("8001 0000000a 00000999")), rc::COMMAND_CODE);
    // The mode is checked before handles, sessions and parameters.
    assert_eq!(code(&mut tpm, &unhex("8002 0000000a 00000182")), rc::INITIALIZE);
    assert_eq!(code(&mut tpm, &unhex("8001 0000000b 00000144 00")), rc::INSUFFICIENT.parameter(1));
    assert_eq!(code(&mut tpm, &unhex("8001 0000000d 00000144 0000 00")), rc::SIZE);
    startup(&mut tpm, StartupType::Clear).expect("startup");
}

#[test]
fn handles() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &unhex("8002 0000000c 00000182 0000")), rc::INSUFFICIENT.handle(1));
    assert_eq!(code(&mut tpm, &unhex("8001 0000000a 00000173")), rc::INSUFFICIENT.handle(1));
    assert_eq!(code(&mut tpm, &command::read_public(rh::OWNER)), rc::VALUE.handle(1));
    assert_eq!(code(&mut tpm, &command::read_public(Handle(0x8000_0000))), rc::REFERENCE_H0);
    assert_eq!(code(&mut tpm, &command::read_public(Handle(0x80ff_ffff))), rc::VALUE.handle(1));
    assert_eq!(code(&mut tpm, &command::read_public(Handle(0x8100_0001))), rc::HANDLE.handle(1));
    let second = command::event_sequence_complete(Handle(0), Handle(0x8000_0007), b"");
    assert_eq!(code(&mut tpm, &second), Rc(rc::REFERENCE_H0.0 + 1));
    let second = command::event_sequence_complete(Handle(0), rh::OWNER, b"");
    assert_eq!(code(&mut tpm, &second), rc::VALUE.handle(2));
    let primary = command::create_primary(rh::LOCKOUT, &templates::ak_p256());
    assert_eq!(code(&mut tpm, &primary), rc::VALUE.handle(1));
}

/// A PCR_Reset of PCR 16 with this session area.
fn reset_with(area: &str) -> Vec<u8> {
    Builder::new(cc::PCR_RESET, &[Handle(16)])
        .params(|w| w.bytes(&unhex(area)))
        .build()
        .into_iter()
        .enumerate()
        .map(|(i, b)| if i == 1 { 2 } else { b })
        .collect()
}

#[test]
fn sessions() {
    let mut tpm = started();
    let good = "00000009 40000009 0000 01 0000";
    assert_eq!(run(&mut tpm, &reset_with(good)), unhex("8002 00000013 00000000 00000000 0000 01 0000"));
    let mut is = |area: &str, want: Rc| assert_eq!(code(&mut tpm, &reset_with(area)), want, "{area}");
    is("", rc::AUTHSIZE);
    is("0000", rc::AUTHSIZE);
    is("00000000", rc::AUTHSIZE);
    is("00000008 40000009 0000 01 00", rc::AUTHSIZE);
    is("0000000a 40000009 0000 01 0000", rc::AUTHSIZE);
    is("ffffffff 40000009 0000 01 0000", rc::AUTHSIZE);
    is("00000009 40000007 0000 01 0000", rc::VALUE.session(1));
    is("00000009 80000000 0000 01 0000", rc::VALUE.session(1));
    is("00000009 02000000 0000 01 0000", rc::REFERENCE_S0);
    is("00000009 03000001 0000 01 0000", rc::REFERENCE_S0);
    is("00000009 40000009 0041 01 0000", rc::SIZE.session(1));
    is("00000009 40000009 0001 01 0000", rc::INSUFFICIENT.session(1));
    is("0000000a 40000009 0001 00 01 0000", rc::NONCE.session(1));
    is("00000009 40000009 0000 09 0000", rc::RESERVED_BITS.session(1));
    for attributes in ["21", "41", "81", "03", "05"] {
        is(&format!("00000009 40000009 0000 {attributes} 0000"), rc::ATTRIBUTES.session(1));
    }
    is("00000009 40000009 0000 01 0041", rc::SIZE.session(1));
    is("00000009 40000009 0000 01 0001", rc::INSUFFICIENT.session(1));
    is("0000000a 40000009 0000 01 0001 31", rc::BAD_AUTH.session(1));
    is("0000000a 40000009 0000 01 0001 00", rc::SUCCESS);
    is("00000012 40000009 0000 01 0000 40000009 0000 01 0000", rc::HANDLE.session(2));
    is("00000012 40000009 0000 01 0000 02000000 0000 01 0000", Rc(rc::REFERENCE_S0.0 + 1));
    let four = "00000024".to_owned() + &"40000009 0000 01 0000".repeat(4);
    is(&four, rc::SIZE.session(4));
    is(&(good.to_owned() + "00"), rc::SIZE);
}

#[test]
fn commands_that_take_no_sessions() {
    let mut tpm = started();
    let session = [AuthCommand::password(b"").expect("fits")];
    let flush = Builder::with_sessions(cc::FLUSH_CONTEXT, &[], &session).params(|w| w.put(&Handle(0x8000_0000)));
    assert_eq!(code(&mut tpm, &flush.build()), rc::AUTH_CONTEXT);
    let startup = Builder::with_sessions(cc::STARTUP, &[], &session).params(|w| w.u16(0));
    let (mut off, _) = powered_on();
    assert_eq!(code(&mut off, &startup.build()), rc::AUTH_CONTEXT);
    // A password must be for a handle.
    let random = Builder::with_sessions(cc::GET_RANDOM, &[], &session).params(|w| w.u16(1));
    assert_eq!(code(&mut tpm, &random.build()), rc::HANDLE.session(1));
}

/// For each command of the table: no sessions where some are needed, and one byte too many.
#[test]
fn every_command_needs_its_sessions_and_refuses_trailing_bytes() {
    let mut tpm = started();
    let sequence = response::parse_handle(&run(&mut tpm, &command::hash_sequence_start(None))).expect("a sequence");
    let policy = super::sessions::start_plain(&mut tpm, 1);
    let hmac = super::sessions::start_plain(&mut tpm, 0);
    let index = super::nv::public(NvKind::Ordinary, super::nv::open());
    assert_eq!(super::nv::define(&mut tpm, &index), rc::SUCCESS);
    for spec in COMMANDS {
        let handles: Vec<_> = spec
            .handles
            .iter()
            .map(|h| match h.kind {
                HandleKind::Pcr | HandleKind::PcrOrNull => Handle(16),
                HandleKind::Object | HandleKind::Context => sequence,
                HandleKind::Hierarchy
                | HandleKind::BaseHierarchy
                | HandleKind::HierarchyAuth
                | HandleKind::Provision
                | HandleKind::Entity
                | HandleKind::NvAuth => rh::OWNER,
                HandleKind::ObjectOrNull | HandleKind::EntityOrNull | HandleKind::Parent => rh::NULL,
                HandleKind::Clear | HandleKind::Lockout => rh::LOCKOUT,
                HandleKind::Endorsement => rh::ENDORSEMENT,
                HandleKind::Platform => rh::PLATFORM,
                HandleKind::NvIndex => super::nv::INDEX,
                HandleKind::Policy => policy,
                HandleKind::Hmac => hmac,
            })
            .collect();
        let auths = spec.handles.iter().filter(|h| h.auth != Auth::None).count();
        if auths > 0 {
            assert_eq!(code(&mut tpm, &Builder::new(spec.code, &handles).build()), rc::AUTH_MISSING, "{}", spec.name);
        }
        // Zeros are valid parameters of most commands; at some length there are too many.
        let tail = |n: usize| {
            let b = if auths > 0 {
                Builder::with_empty_auth(spec.code, &handles, auths)
            } else {
                Builder::new(spec.code, &handles)
            };
            b.params(|w| w.bytes(&vec![0; n])).build()
        };
        let refused = code(&mut tpm, &tail(600));
        assert!(!refused.is_success(), "{} took 600 zeros", spec.name);
    }
    let extend = Builder::with_empty_auth(cc::PCR_EXTEND, &[Handle(16)], 1).params(|w| w.bytes(&[0; 5])).build();
    assert_eq!(code(&mut tpm, &extend), rc::SIZE);
    let clock = Builder::new(cc::READ_CLOCK, &[]).params(|w| w.u8(0)).build();
    assert_eq!(code(&mut tpm, &clock), rc::SIZE);
}

#[test]
fn two_handles_take_their_sessions_in_order() {
    let mut tpm = started();
    let start = Builder::new(cc::HASH_SEQUENCE_START, &[])
        .params(|w| {
            w.tpm2b(b"pw");
            w.u16(0x0010);
        })
        .build();
    let sequence = response::parse_handle(&run(&mut tpm, &start)).expect("a sequence");
    let complete = |passwords: &[&[u8]]| {
        let sessions: Vec<_> = passwords.iter().map(|p| AuthCommand::password(p).expect("fits")).collect();
        Builder::with_sessions(cc::EVENT_SEQUENCE_COMPLETE, &[Handle(16), sequence], &sessions)
            .params(|w| w.tpm2b(b""))
            .build()
    };
    assert_eq!(code(&mut tpm, &complete(&[b""])), rc::AUTH_MISSING);
    assert_eq!(code(&mut tpm, &complete(&[b"pw", b""])), rc::BAD_AUTH.session(1));
    assert_eq!(code(&mut tpm, &complete(&[b"", b""])), rc::BAD_AUTH.session(2));
    assert_eq!(code(&mut tpm, &complete(&[b"", b"pw"])), rc::SUCCESS);
}

#[test]
fn parameters() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &unhex("8001 0000000b 0000017b 00")), rc::INSUFFICIENT.parameter(1));
    assert_eq!(code(&mut tpm, &unhex("8001 0000000d 0000017b 0001 00")), rc::SIZE);
    assert_eq!(code(&mut tpm, &unhex("8001 0000000b 00000143 02")), rc::VALUE.parameter(1));
    assert_eq!(code(&mut tpm, &unhex("8001 00000016 0000017a 00000005 00000000 0000")), rc::COMMAND_SIZE);
    assert_eq!(code(&mut tpm, &unhex("8001 00000014 0000017a 00000005 00000000 0000")), rc::INSUFFICIENT.parameter(3));
    // TPM2_Hash: data, then a hash algorithm that is none, then a hierarchy that is none.
    assert_eq!(code(&mut tpm, &unhex("8001 00000012 0000017d 0000 0010 40000001")), rc::HASH.parameter(2));
    assert_eq!(code(&mut tpm, &unhex("8001 00000012 0000017d 0000 000b 4000000a")), rc::VALUE.parameter(3));
    // PCR_Read: too many selections; a selection of too few octets.
    assert_eq!(code(&mut tpm, &unhex("8001 0000000e 0000017e 00000005")), rc::SIZE.parameter(1));
    assert_eq!(code(&mut tpm, &unhex("8001 00000013 0000017e 00000001 000b 02 0000")), rc::VALUE.parameter(1));
}

pub(super) fn keyed(noda: bool, auth: &[u8], tpm: &mut Tpm) -> Handle {
    let mut public = templates::ak_p256();
    if !noda {
        public.attributes = public.attributes.without(A::NO_DA);
    }
    let public = Public { auth_policy: Digest::EMPTY, ..public };
    let cmd = Builder::with_empty_auth(cc::CREATE_PRIMARY, &[rh::OWNER], 1)
        .params(|w| {
            w.sized(|w| w.put(&SensitiveCreate { user_auth: auth, data: &[] }));
            w.sized(|w| w.put(&public));
            w.tpm2b(&[]);
            w.u32(0);
        })
        .build();
    response::parse_create_primary(&run(tpm, &cmd)).expect("a key").handle
}

pub(super) fn quote_with(key: Handle, password: &[u8]) -> Vec<u8> {
    let session = AuthCommand::password(password).expect("fits");
    Builder::with_sessions(cc::QUOTE, &[key], &[session])
        .params(|w| {
            w.tpm2b(b"");
            w.u16(0x0010);
            w.u32(0);
        })
        .build()
}

#[test]
fn passwords_of_keys() {
    let mut tpm = started();
    let key = keyed(true, b"open sesame\0", &mut tpm);
    assert_eq!(code(&mut tpm, &quote_with(key, b"")), rc::BAD_AUTH.session(1));
    assert_eq!(code(&mut tpm, &quote_with(key, b"open sesamf")), rc::BAD_AUTH.session(1));
    assert_eq!(code(&mut tpm, &quote_with(key, b"open sesame")), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &quote_with(key, b"open sesame\0\0\0")), rc::SUCCESS);
}

/// Part 1, 19.8: failures lock DA-protected keys, time unlocks them one by one, noDA keys are never locked.
#[test]
fn guessing_passwords_ends_in_lockout() {
    let (mut tpm, platform) = powered_on();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    let protected = keyed(false, b"pw", &mut tpm);
    let free = keyed(true, b"pw", &mut tpm);
    for _ in 0..32 {
        assert_eq!(code(&mut tpm, &quote_with(protected, b"no")), rc::AUTH_FAIL.session(1));
    }
    assert_eq!(code(&mut tpm, &quote_with(protected, b"pw")), rc::LOCKOUT);
    assert_eq!(code(&mut tpm, &quote_with(free, b"pw")), rc::SUCCESS);
    platform.now_ms.fetch_add(7_200_000, Ordering::Relaxed);
    assert_eq!(code(&mut tpm, &quote_with(protected, b"no")), rc::AUTH_FAIL.session(1));
    assert_eq!(code(&mut tpm, &quote_with(protected, b"pw")), rc::LOCKOUT);
    // Taking the power away does not forget the failures.
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    let protected = keyed(false, b"pw", &mut tpm);
    assert_eq!(code(&mut tpm, &quote_with(protected, b"pw")), rc::LOCKOUT);
    platform.now_ms.fetch_add(7_200_000, Ordering::Relaxed);
    assert_eq!(code(&mut tpm, &quote_with(protected, b"pw")), rc::SUCCESS);
}

#[test]
fn an_error_leaves_the_tpm_as_it_was() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER);
    let mut broken = command::quote(key.handle, b"x", &Default::default());
    broken.push(0);
    let size = (broken.len() as u32).to_be_bytes();
    broken[2..6].copy_from_slice(&size);
    assert_eq!(code(&mut tpm, &broken), rc::SIZE);
    assert_eq!(code(&mut tpm, &command::read_public(key.handle)), rc::SUCCESS);
    assert_eq!(super::update_counter(&mut tpm), super::pcrs::INITIAL_COUNT);
}
