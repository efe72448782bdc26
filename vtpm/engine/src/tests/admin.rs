//! Hierarchy control, lockout, PCR allocation, clocks, audit, physical presence, profiles.

use std::sync::atomic::Ordering;

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{
    AuthCommand, Handle, HashAlg, Marshal, Nonce, Rc, Reader, SessionAttributes as A, StartupType, cap, cc, command,
    hash, pt, rc, rh,
};

use super::sessions::start_plain;
use super::{Platform, code, load_ak, pcr, powered_on, run, shutdown, started, startup, unhex};
use crate::{Profile, Tpm};

/// A command with one empty password for each of `auths` handles.
fn cmd(cc: u32, handles: &[Handle], auths: usize, params: &str) -> Vec<u8> {
    Builder::with_empty_auth(cc, handles, auths).params(|w| w.bytes(&unhex(params))).build()
}

/// The response code of a command that one handle authorizes with an empty password.
fn by(tpm: &mut Tpm, handle: Handle, cc: u32, params: &str) -> Rc {
    code(tpm, &cmd(cc, &[handle], 1, params))
}

fn property(tpm: &mut Tpm, property: u32) -> u32 {
    let bytes = run(tpm, &command::get_capability(cap::TPM_PROPERTIES, property, 1));
    let (_, list) = response::parse_capability_properties(&bytes).expect("a list");
    assert_eq!(list[0].0, property);
    list[0].1
}

fn params(tpm: &mut Tpm, command: &[u8]) -> Vec<u8> {
    let bytes = run(tpm, command);
    response::parse(&bytes, false).expect("success").params.to_vec()
}

fn reboot(tpm: &mut Tpm) {
    tpm.init();
    startup(tpm, StartupType::Clear).expect("startup");
}

#[test]
fn a_disabled_hierarchy_is_not_there() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::OWNER).handle;
    let other = load_ak(&mut tpm, rh::ENDORSEMENT).handle;
    let evict = Builder::with_empty_auth(cc::EVICT_CONTROL, &[rh::OWNER, key], 1).params(|w| w.u32(0x8100_0001));
    assert_eq!(code(&mut tpm, &evict.build()), rc::SUCCESS);
    // Who may: the platform everything, a hierarchy may disable itself.
    assert_eq!(by(&mut tpm, rh::ENDORSEMENT, cc::HIERARCHY_CONTROL, "40000001 00"), rc::AUTH_TYPE);
    assert_eq!(by(&mut tpm, rh::OWNER, cc::HIERARCHY_CONTROL, "40000001 01"), rc::SUCCESS, "it is enabled");
    assert_eq!(by(&mut tpm, rh::OWNER, cc::HIERARCHY_CONTROL, "4000000c 00"), rc::AUTH_TYPE);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::HIERARCHY_CONTROL, "40000007 00"), rc::VALUE.parameter(1));
    assert_eq!(by(&mut tpm, rh::OWNER, cc::HIERARCHY_CONTROL, "40000001 00"), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::read_public(key)), rc::REFERENCE_H0);
    assert_eq!(code(&mut tpm, &command::read_public(other)), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::read_public(Handle(0x8100_0001))), rc::HANDLE.handle(1));
    assert_eq!(by(&mut tpm, rh::OWNER, cc::HIERARCHY_CHANGE_AUTH, "0000"), rc::HIERARCHY.handle(1));
    let external = "0000 000e 0008 000b 00000040 0000 0010 0000 40000001";
    let external = Builder::new(cc::LOAD_EXTERNAL, &[]).params(|w| w.bytes(&unhex(external))).build();
    assert_eq!(code(&mut tpm, &external), rc::HIERARCHY.parameter(3));
    assert_eq!(property(&mut tpm, pt::STARTUP_CLEAR) & 0xf, 0b1101);
    assert_eq!(by(&mut tpm, rh::OWNER, cc::HIERARCHY_CONTROL, "40000001 01"), rc::HIERARCHY.handle(1));
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::HIERARCHY_CONTROL, "40000001 01"), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::read_public(Handle(0x8100_0001))), rc::SUCCESS);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::HIERARCHY_CONTROL, "4000000d 00"), rc::SUCCESS);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::HIERARCHY_CONTROL, "4000000c 00"), rc::SUCCESS);
    assert_eq!(property(&mut tpm, pt::STARTUP_CLEAR) & 0xf, 0b0110);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::HIERARCHY_CONTROL, "4000000c 01"), rc::HIERARCHY.handle(1));
    // A resume brings back the platform only, any other startup all of them.
    assert_eq!(by(&mut tpm, rh::OWNER, cc::HIERARCHY_CONTROL, "40000001 00"), rc::SUCCESS);
    shutdown(&mut tpm, StartupType::State);
    tpm.init();
    startup(&mut tpm, StartupType::State).expect("resume");
    assert_eq!(property(&mut tpm, pt::STARTUP_CLEAR) & 0xf, 0b0101);
    reboot(&mut tpm);
    assert_eq!(property(&mut tpm, pt::STARTUP_CLEAR) & 0xf, 0b1111);
}

#[test]
fn clear_can_be_forbidden() {
    let mut tpm = started();
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::CLEAR_CONTROL, "00"), rc::AUTH_FAIL);
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::CLEAR_CONTROL, "01"), rc::SUCCESS);
    assert_eq!(property(&mut tpm, pt::PERMANENT) & 0x100, 0x100);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::CLEAR, ""), rc::DISABLED);
    reboot(&mut tpm);
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::CLEAR, ""), rc::DISABLED);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::CLEAR_CONTROL, "00"), rc::SUCCESS);
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::CLEAR, ""), rc::SUCCESS);
    assert_eq!(property(&mut tpm, pt::PERMANENT), 0x400);
}

#[test]
fn other_seeds_make_other_keys() {
    let mut tpm = started();
    for (hierarchy, change, kept) in
        [(rh::ENDORSEMENT, cc::CHANGE_EPS, rh::PLATFORM), (rh::PLATFORM, cc::CHANGE_PPS, rh::ENDORSEMENT)]
    {
        let (before, same) = (load_ak(&mut tpm, hierarchy), load_ak(&mut tpm, kept));
        assert_eq!(by(&mut tpm, rh::OWNER, change, ""), rc::VALUE.handle(1));
        assert_eq!(by(&mut tpm, rh::PLATFORM, change, ""), rc::SUCCESS);
        assert_eq!(code(&mut tpm, &command::read_public(before.handle)), rc::REFERENCE_H0);
        assert_eq!(code(&mut tpm, &command::read_public(same.handle)), rc::SUCCESS);
        assert_ne!(load_ak(&mut tpm, hierarchy).public, before.public);
        assert_eq!(load_ak(&mut tpm, kept).public, same.public);
        for n in 0..3 {
            run(&mut tpm, &command::flush_context(Handle(0x8000_0000 + n)));
        }
    }
}

/// H(0… ‖ TPM_CC_PolicyCommandCode ‖ command).
pub(super) fn policy_for(command: u32) -> Vec<u8> {
    let code = cc::POLICY_COMMAND_CODE.to_be_bytes();
    hash::digest(HashAlg::Sha256, &[&[0; 32], &code, &command.to_be_bytes()]).as_bytes().to_vec()
}

fn with_session(handles: &[Handle], session: Handle, cc: u32, params: &str) -> Vec<u8> {
    let auth =
        AuthCommand { handle: session, nonce: Nonce::EMPTY, attributes: A::CONTINUE_SESSION, hmac: Nonce::EMPTY };
    Builder::with_sessions(cc, handles, &[auth]).params(|w| w.bytes(&unhex(params))).build()
}

fn policy_session(tpm: &mut Tpm, command: u32) -> Handle {
    let session = start_plain(tpm, 1);
    let policy = Builder::new(cc::POLICY_COMMAND_CODE, &[session]).params(|w| w.u32(command)).build();
    assert_eq!(code(tpm, &policy), rc::SUCCESS);
    session
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_hierarchy_can_be_authorized_by_its_policy() {
    let mut tpm = started();
    for hierarchy in [rh::OWNER, rh::ENDORSEMENT, rh::PLATFORM, rh::LOCKOUT] {
        let session = policy_session(&mut tpm, cc::HIERARCHY_CHANGE_AUTH);
        let change = with_session(&[hierarchy], session, cc::HIERARCHY_CHANGE_AUTH, "0000");
        assert_eq!(code(&mut tpm, &change), rc::AUTH_UNAVAILABLE.session(1));
        assert_eq!(by(&mut tpm, hierarchy, cc::SET_PRIMARY_POLICY, "0001 61 000b"), rc::SIZE.parameter(1));
        assert_eq!(by(&mut tpm, hierarchy, cc::SET_PRIMARY_POLICY, "0000 000b"), rc::SIZE.parameter(1));
        let set = format!("0020 {} 000b", hex(&policy_for(cc::HIERARCHY_CHANGE_AUTH)));
        assert_eq!(by(&mut tpm, hierarchy, cc::SET_PRIMARY_POLICY, &set), rc::SUCCESS);
        assert_eq!(code(&mut tpm, &change), rc::SUCCESS);
        assert_eq!(code(&mut tpm, &change), rc::POLICY_FAIL.session(1), "a policy authorizes once");
        let listed = params(&mut tpm, &command::get_capability(cap::AUTH_POLICIES, hierarchy.0, 1));
        assert_eq!(listed[9..15], [&hierarchy.to_vec()[..], &[0, 0x0b]].concat());
        assert_eq!(listed[15..], policy_for(cc::HIERARCHY_CHANGE_AUTH));
        assert_eq!(by(&mut tpm, hierarchy, cc::SET_PRIMARY_POLICY, "0000 0010"), rc::SUCCESS);
        assert_eq!(code(&mut tpm, &command::flush_context(session)), rc::SUCCESS);
    }
}

fn lockout_counter(tpm: &mut Tpm) -> u32 {
    property(tpm, pt::LOCKOUT_COUNTER)
}

#[test]
fn lockout_follows_its_parameters() {
    let (mut tpm, platform) = powered_on();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::DICTIONARY_ATTACK_PARAMETERS, "00000002 0000000a 00000014"), rc::SUCCESS);
    let got = [pt::MAX_AUTH_FAIL, pt::LOCKOUT_INTERVAL, pt::LOCKOUT_RECOVERY].map(|p| property(&mut tpm, p));
    assert_eq!(got, [2, 10, 20]);
    let key = super::errors::keyed(false, b"pw", &mut tpm);
    let quote = super::errors::quote_with;
    assert_eq!(code(&mut tpm, &quote(key, b"no")), rc::AUTH_FAIL.session(1));
    assert_eq!(code(&mut tpm, &quote(key, b"no")), rc::AUTH_FAIL.session(1));
    assert_eq!(code(&mut tpm, &quote(key, b"pw")), rc::LOCKOUT);
    assert_eq!(property(&mut tpm, pt::PERMANENT) & 0x200, 0x200);
    platform.now_ms.fetch_add(9_999, Ordering::Relaxed);
    assert_eq!(lockout_counter(&mut tpm), 2);
    platform.now_ms.fetch_add(1, Ordering::Relaxed);
    assert_eq!(lockout_counter(&mut tpm), 1);
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::DICTIONARY_ATTACK_LOCK_RESET, ""), rc::SUCCESS);
    assert_eq!(lockout_counter(&mut tpm), 0);
    // lockoutAuth: one wrong guess, then its own recovery.
    let wrong = AuthCommand::password(b"no").expect("fits");
    let wrong = Builder::with_sessions(cc::DICTIONARY_ATTACK_LOCK_RESET, &[rh::LOCKOUT], &[wrong]).build();
    assert_eq!(code(&mut tpm, &wrong), rc::AUTH_FAIL.session(1));
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::DICTIONARY_ATTACK_LOCK_RESET, ""), rc::LOCKOUT);
    reboot(&mut tpm);
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::DICTIONARY_ATTACK_LOCK_RESET, ""), rc::LOCKOUT);
    platform.now_ms.fetch_add(20_000, Ordering::Relaxed);
    // A recovery of 0 is the next reboot.
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::DICTIONARY_ATTACK_PARAMETERS, "00000002 00000000 00000000"), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &wrong), rc::AUTH_FAIL.session(1));
    platform.now_ms.fetch_add(1 << 40, Ordering::Relaxed);
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::DICTIONARY_ATTACK_LOCK_RESET, ""), rc::LOCKOUT);
    reboot(&mut tpm);
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::DICTIONARY_ATTACK_LOCK_RESET, ""), rc::SUCCESS);
    // Without an interval nothing is counted; without tries there is always lockout.
    let key = super::errors::keyed(false, b"pw", &mut tpm);
    for _ in 0..4 {
        assert_eq!(code(&mut tpm, &quote(key, b"no")), rc::AUTH_FAIL.session(1));
    }
    assert_eq!(lockout_counter(&mut tpm), 0);
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::DICTIONARY_ATTACK_PARAMETERS, "00000000 0000000a 00000000"), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &quote(key, b"pw")), rc::LOCKOUT);
}

/// Part 1, 19.8.6: a loss of power may have hidden a failure.
#[test]
fn power_lost_after_a_guess_counts_as_a_failure() {
    let mut tpm = started();
    reboot(&mut tpm);
    assert_eq!(lockout_counter(&mut tpm), 0, "nothing was tried");
    let quote = |tpm: &mut Tpm| {
        let key = super::errors::keyed(false, b"pw", tpm);
        assert_eq!(code(tpm, &super::errors::quote_with(key, b"pw")), rc::SUCCESS);
    };
    quote(&mut tpm);
    reboot(&mut tpm);
    assert_eq!(lockout_counter(&mut tpm), 1);
    quote(&mut tpm);
    shutdown(&mut tpm, StartupType::Clear);
    reboot(&mut tpm);
    assert_eq!(lockout_counter(&mut tpm), 1, "the shutdown was orderly");
    shutdown(&mut tpm, StartupType::Clear);
    quote(&mut tpm);
    reboot(&mut tpm);
    assert_eq!(lockout_counter(&mut tpm), 2, "the guess came after the shutdown");
}

fn banks(tpm: &mut Tpm) -> Vec<usize> {
    let bytes = run(tpm, &command::get_capability_pcrs());
    response::parse_capability_pcrs(&bytes).expect("banks").iter().map(|b| b.iter().count()).collect()
}

#[test]
fn banks_change_at_the_next_reset() {
    let mut tpm = started();
    assert_eq!(by(&mut tpm, rh::OWNER, cc::PCR_ALLOCATE, "00000000"), rc::VALUE.handle(1));
    let none = "00000003 0004 03 000000 000b 03 000000 000c 03 000000";
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PCR_ALLOCATE, none), rc::PCR);
    assert_eq!(banks(&mut tpm), [24, 24, 24, 0]);
    let wanted = "00000003 0004 03 000000 000c 03 010002 000d 03 ffffff";
    let allocate = cmd(cc::PCR_ALLOCATE, &[rh::PLATFORM], 1, wanted);
    let size = 24 * 32 + 2 * 48 + 24 * 64;
    let answer = run(&mut tpm, &allocate);
    assert_eq!(answer[14..27], [&[1, 0, 0, 0, 24][..], &u32::to_be_bytes(size), &u32::to_be_bytes(24 * 164)].concat());
    assert_eq!(banks(&mut tpm), [24, 24, 24, 0], "not yet");
    assert_eq!(code(&mut tpm, &command::shutdown(StartupType::State)), rc::TYPE.parameter(1));
    shutdown(&mut tpm, StartupType::Clear);
    tpm.init();
    tpm.hash_start();
    tpm.hash_data(b"firmware");
    let digests = tpm.hash_end();
    assert_eq!(
        digests.iter().map(|d| d.alg()).collect::<Vec<_>>(),
        [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
    );
    startup(&mut tpm, StartupType::Clear).expect("startup");
    assert_eq!(banks(&mut tpm), [0, 24, 2, 24]);
    let mut four = vec![0; 64];
    four[63] = 4;
    let digest = hash::digest(HashAlg::Sha512, &[b"firmware"]);
    let want = hash::digest(HashAlg::Sha512, &[&four, digest.as_bytes()]);
    assert_eq!(pcr(&mut tpm, HashAlg::Sha512, 0), want.as_bytes());
    // What is not there is neither extended, nor read, nor quoted.
    let all = [HashAlg::Sha1, HashAlg::Sha384, HashAlg::Sha512].map(|alg| hash::digest(alg, &[b"x"]));
    let all = bulla_tpm_types::DigestValues::from_slice(&all).expect("three");
    assert_eq!(code(&mut tpm, &command::pcr_extend(1, &all)), rc::SUCCESS);
    let selection = Builder::new(cc::PCR_READ, &[])
        .params(|w| w.bytes(&unhex("00000003 0004 03 020000 000c 03 030000 000d 03 020000")))
        .build();
    let read = response::parse_pcr_read(&run(&mut tpm, &selection)).expect("PCR_Read");
    assert_eq!(read.selection.iter().map(|s| s.select[0]).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(read.values.iter().map(|v| v.len()).collect::<Vec<_>>(), [48, 64]);
    let event = response::parse_digest_values(&run(&mut tpm, &command::pcr_event(2, b"e"))).expect("digests");
    assert_eq!(event.len(), 3);
    // The state keeps it.
    let platform = Platform::default();
    let mut again =
        Tpm::load(Box::new(platform.clone()), Box::new(platform), &tpm.permanent()).expect("the state of a TPM");
    reboot(&mut again);
    assert_eq!(banks(&mut again), [0, 24, 2, 24]);
}

#[test]
fn three_pcr_have_an_authorization_of_their_own() {
    let mut tpm = started();
    assert_eq!(by(&mut tpm, Handle(1), cc::PCR_SET_AUTH_VALUE, "0000"), rc::VALUE);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PCR_SET_AUTH_POLICY, "0000 0010 00000001"), rc::VALUE.parameter(3));
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PCR_SET_AUTH_POLICY, "0000 0010 00000018"), rc::VALUE.parameter(3));
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PCR_SET_AUTH_POLICY, "0001 61 0010 00000014"), rc::SIZE.parameter(1));
    let extend = |tpm: &mut Tpm, n| super::code_at(tpm, 2, &command::pcr_extend(n, &super::pcrs::digests(b"x")));
    assert_eq!(extend(&mut tpm, 20), rc::SUCCESS);
    assert_eq!(by(&mut tpm, Handle(22), cc::PCR_SET_AUTH_VALUE, "0002 7077"), rc::SUCCESS);
    assert_eq!(extend(&mut tpm, 20), rc::BAD_AUTH.session(1));
    assert_eq!(extend(&mut tpm, 23), rc::SUCCESS);
    let policy = format!("0020 {} 000b 00000015", hex(&policy_for(cc::PCR_RESET)));
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PCR_SET_AUTH_POLICY, &policy), rc::SUCCESS);
    let session = policy_session(&mut tpm, cc::PCR_RESET);
    let reset = with_session(&[Handle(20)], session, cc::PCR_RESET, "");
    assert_eq!(super::code_at(&mut tpm, 2, &reset), rc::SUCCESS);
    assert_eq!(extend(&mut tpm, 20), rc::AUTH_TYPE, "only by its policy");
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PCR_SET_AUTH_POLICY, "0000 0010 00000015"), rc::SUCCESS);
    shutdown(&mut tpm, StartupType::State);
    tpm.init();
    startup(&mut tpm, StartupType::State).expect("resume");
    assert_eq!(extend(&mut tpm, 20), rc::BAD_AUTH.session(1));
    reboot(&mut tpm);
    assert_eq!(extend(&mut tpm, 20), rc::SUCCESS);
}

#[test]
fn the_clock_is_set_and_adjusted() {
    let (mut tpm, platform) = powered_on();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    let read = |tpm: &mut Tpm| response::parse_read_clock(&run(tpm, &command::read_clock())).expect("ReadClock");
    assert_eq!(by(&mut tpm, rh::OWNER, cc::CLOCK_SET, "ffff000000000001"), rc::VALUE.parameter(1));
    assert_eq!(by(&mut tpm, rh::OWNER, cc::CLOCK_SET, "0000000000100000"), rc::SUCCESS);
    assert_eq!(by(&mut tpm, rh::OWNER, cc::CLOCK_SET, "00000000000fffff"), rc::VALUE.parameter(1));
    assert_eq!((read(&mut tpm).clock_info.clock, read(&mut tpm).time), (0x10_0000, 0));
    for wrong in ["04", "fc", "80"] {
        assert_eq!(by(&mut tpm, rh::OWNER, cc::CLOCK_RATE_ADJUST, wrong), rc::VALUE.parameter(1));
    }
    assert_eq!(by(&mut tpm, rh::OWNER, cc::CLOCK_RATE_ADJUST, "03"), rc::SUCCESS);
    platform.now_ms.fetch_add(10_000, Ordering::Relaxed);
    assert_eq!(read(&mut tpm).time, 10_100);
    // Never more than 15 percent off.
    for _ in 0..40 {
        assert_eq!(by(&mut tpm, rh::PLATFORM, cc::CLOCK_RATE_ADJUST, "fd"), rc::SUCCESS);
    }
    platform.now_ms.fetch_add(10_000, Ordering::Relaxed);
    let after = read(&mut tpm);
    assert_eq!((after.time, after.clock_info.clock), (18_600, 0x10_0000 + 18_600));
    // After a disorderly end Clock is not safe until it has passed all that it may have shown.
    reboot(&mut tpm);
    let disorderly = read(&mut tpm).clock_info;
    assert_eq!((disorderly.clock & 0xfff, disorderly.safe), (0xfff, false));
    assert_eq!(by(&mut tpm, rh::OWNER, cc::CLOCK_SET, &format!("{:016x}", disorderly.clock + 1)), rc::SUCCESS);
    assert!(read(&mut tpm).clock_info.safe);
}

/// TPMS_COMMAND_AUDIT_INFO: counter, digest, digest of the codes.
fn audit_digest(tpm: &mut Tpm, signer: Handle) -> (u64, Vec<u8>, Vec<u8>) {
    let bytes = run(tpm, &cmd(cc::GET_COMMAND_AUDIT_DIGEST, &[rh::ENDORSEMENT, signer], 2, "0000 0010"));
    let mut r = Reader::new(&bytes[14..]);
    let attest = r.tpm2b(512, "attest").expect("TPM2B_ATTEST");
    let attest: bulla_tpm_types::Attest = Reader::new(attest).get().expect("TPMS_ATTEST");
    match attest.attested {
        bulla_tpm_types::Attested::CommandAudit { audit_counter, audit_digest, command_digest, .. } => {
            (audit_counter, audit_digest.as_bytes().to_vec(), command_digest.as_bytes().to_vec())
        }
        other => panic!("{other:?}"),
    }
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    hash::digest(HashAlg::Sha256, parts).as_bytes().to_vec()
}

#[test]
fn audited_commands_are_in_the_digest() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::ENDORSEMENT).handle;
    let set = "0010 00000003 00000145 00000999 0000017b 00000000";
    assert_eq!(by(&mut tpm, rh::OWNER, cc::SET_COMMAND_CODE_AUDIT_STATUS, set), rc::SUCCESS);
    let listed = params(&mut tpm, &command::get_capability(cap::AUDIT_COMMANDS, 0, 9));
    assert_eq!(listed[5..], unhex("00000002 00000140 0000017b"));
    let (counter, digest, codes) = audit_digest(&mut tpm, key);
    assert_eq!((counter, codes), (1, sha256(&[&unhex("00000140 0000017b")])));
    let cp = sha256(&[&unhex("00000140 40000001"), &unhex(set)]);
    let rp = sha256(&[&unhex("00000000 00000140")]);
    assert_eq!(digest, sha256(&[&[0; 32], &cp, &rp]));
    // Signed, it begins anew; a failed command is not in it; whoever does not sign changes nothing.
    assert_eq!(audit_digest(&mut tpm, rh::NULL).1, [0u8; 0]);
    let random = params(&mut tpm, &command::get_random(4));
    assert_eq!(code(&mut tpm, &unhex("8001 0000000b 0000017b 00")), rc::INSUFFICIENT.parameter(1));
    let want =
        sha256(&[&[0; 32], &sha256(&[&unhex("0000017b 0004")]), &sha256(&[&unhex("00000000 0000017b"), &random])]);
    assert_eq!(audit_digest(&mut tpm, rh::NULL), (2, want.clone(), sha256(&[&unhex("00000140 0000017b")])));
    // It survives a resume, but not a command after the shutdown, nor a reset.
    shutdown(&mut tpm, StartupType::State);
    tpm.init();
    startup(&mut tpm, StartupType::State).expect("resume");
    assert_eq!(audit_digest(&mut tpm, rh::NULL).1, want);
    shutdown(&mut tpm, StartupType::State);
    run(&mut tpm, &command::get_random(4));
    tpm.init();
    assert!(matches!(startup(&mut tpm, StartupType::State), Err(ResponseError::Tpm(_))));
    startup(&mut tpm, StartupType::Clear).expect("reset");
    assert_eq!((audit_digest(&mut tpm, rh::NULL).1.len(), property(&mut tpm, pt::AUDIT_COUNTER_1)), (0, 2));
    // Another algorithm: not together with lists, and not audited itself.
    let both = "000c 00000001 0000017b 00000000";
    assert_eq!(by(&mut tpm, rh::OWNER, cc::SET_COMMAND_CODE_AUDIT_STATUS, both), rc::VALUE.parameter(1));
    assert_eq!(by(&mut tpm, rh::OWNER, cc::SET_COMMAND_CODE_AUDIT_STATUS, "000c 00000000 00000000"), rc::SUCCESS);
    let (counter, digest, codes) = audit_digest(&mut tpm, rh::NULL);
    assert_eq!((counter, digest.len(), codes.len()), (2, 0, 48));
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::CLEAR, ""), rc::SUCCESS);
    assert_eq!(property(&mut tpm, pt::AUDIT_COUNTER_1), 0);
}

#[test]
fn the_digest_of_an_audit_session_is_attested() {
    let mut tpm = started();
    let session = start_plain(&mut tpm, 0);
    let get = cmd(cc::GET_SESSION_AUDIT_DIGEST, &[rh::ENDORSEMENT, rh::NULL, session], 2, "0000 0010");
    assert_eq!(code(&mut tpm, &get), rc::TYPE.handle(3));
    let auth = AuthCommand {
        handle: session,
        nonce: Nonce::EMPTY,
        attributes: A::CONTINUE_SESSION | A::AUDIT,
        hmac: Nonce::EMPTY,
    };
    let random = Builder::with_sessions(cc::GET_RANDOM, &[], &[auth]).params(|w| w.u16(4)).build();
    let answer = run(&mut tpm, &random);
    let rp = sha256(&[&unhex("00000000 0000017b"), &answer[14..20]]);
    let want = sha256(&[&[0; 32], &sha256(&[&unhex("0000017b 0004")]), &rp]);
    for exclusive in [1, 0] {
        let bytes = run(&mut tpm, &get);
        let at = bytes.windows(32).position(|w| w == want).expect("the digest");
        assert_eq!(bytes[at - 3], exclusive, "the first attestation itself ends the exclusive use");
    }
    let policy = start_plain(&mut tpm, 1);
    let wrong = cmd(cc::GET_SESSION_AUDIT_DIGEST, &[rh::ENDORSEMENT, rh::NULL, policy], 2, "0000 0010");
    assert_eq!(code(&mut tpm, &wrong), rc::VALUE.handle(3));
}

#[test]
fn commands_can_need_somebody_at_the_machine() {
    let mut tpm = started();
    let set = "00000003 00000126 0000017b 0000012d 00000000";
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PP_COMMANDS, set), rc::PP.session(1));
    tpm.set_physical_presence(true);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PP_COMMANDS, set), rc::SUCCESS);
    let listed = params(&mut tpm, &command::get_capability(cap::PP_COMMANDS, 0, 9));
    assert_eq!(listed[5..], unhex("00000002 00000126 0000012d"));
    tpm.set_physical_presence(false);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::CLEAR, ""), rc::PP.session(1));
    assert_eq!(by(&mut tpm, rh::LOCKOUT, cc::CLEAR, ""), rc::SUCCESS, "only the platform needs it");
    let policy = hash::digest(HashAlg::Sha256, &[&[0; 32], &cc::POLICY_PHYSICAL_PRESENCE.to_be_bytes()]);
    let set = format!("0020 {} 000b", hex(policy.as_bytes()));
    assert_eq!(by(&mut tpm, rh::OWNER, cc::SET_PRIMARY_POLICY, &set), rc::SUCCESS);
    let session = start_plain(&mut tpm, 1);
    let present = Builder::new(cc::POLICY_PHYSICAL_PRESENCE, &[session]).build();
    assert_eq!(code(&mut tpm, &present), rc::SUCCESS);
    let change = with_session(&[rh::OWNER], session, cc::HIERARCHY_CHANGE_AUTH, "0000");
    assert_eq!(code(&mut tpm, &change), rc::PP.session(1));
    tpm.set_physical_presence(true);
    assert_eq!(code(&mut tpm, &change), rc::SUCCESS);
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::PP_COMMANDS, "00000000 00000002 00000126 0000012d"), rc::SUCCESS);
    let listed = params(&mut tpm, &command::get_capability(cap::PP_COMMANDS, 0, 9));
    assert_eq!(listed[5..], unhex("00000001 0000012d"), "it always needs it itself");
}

#[test]
fn a_profile_names_vendor_and_banks() {
    let platform = Platform::default();
    let profile = Profile::default().vendor("SW  ").and_then(|p| p.banks(&[HashAlg::Sha256])).expect("short");
    assert_eq!(Profile::default().vendor("seventeen octets!"), None);
    assert_eq!(Profile::default().banks(&[]), None);
    let mut tpm = Tpm::manufacture_as(&profile, Box::new(platform.clone()), Box::new(platform.clone()));
    let mut again = {
        reboot(&mut tpm);
        Tpm::load(Box::new(platform.clone()), Box::new(platform), &tpm.permanent()).expect("the state of a TPM")
    };
    reboot(&mut again);
    for tpm in [&mut tpm, &mut again] {
        assert_eq!(property(tpm, pt::VENDOR_STRING_1).to_be_bytes(), *b"SW  ");
        assert_eq!(property(tpm, pt::VENDOR_STRING_2), 0);
        assert_eq!(banks(tpm), [0, 24, 0, 0]);
    }
}

#[test]
fn established_is_kept_until_a_high_locality_resets_it() {
    let (mut tpm, platform) = powered_on();
    assert!(!tpm.established());
    tpm.hash_start();
    assert!(tpm.established());
    assert!(!tpm.reset_established(2));
    tpm.init();
    assert!(tpm.established());
    let again = Tpm::load(Box::new(platform.clone()), Box::new(platform), &tpm.permanent()).expect("a state");
    assert!(again.established());
    assert!(tpm.reset_established(3));
    assert!(!tpm.established());
}

#[test]
fn the_algorithm_set_is_a_number() {
    let mut tpm = started();
    assert_eq!(by(&mut tpm, rh::PLATFORM, cc::SET_ALGORITHM_SET, "00000007"), rc::SUCCESS);
    assert_eq!(property(&mut tpm, pt::ALGORITHM_SET), 7);
}
