//! Any bytes at all: the TPM lives on, and every response is well formed.

use bulla_tpm_types::command::{self, Builder};
use bulla_tpm_types::{
    AuthCommand, Handle, HashAlg, Nonce, PcrSelection, PcrSelectionList, SessionAttributes, StartupType, cc, hash, rc,
    response, rh, st, templates,
};
use proptest::prelude::*;

use super::sessions::start_plain;
use super::{code, load, load_ak, run, started};
use crate::table::{Auth, COMMANDS, HandleKind, find};
use crate::{MAX_RESPONSE_SIZE, Tpm};

/// Checks a response without knowing what it answers.
fn assert_well_formed(response: &[u8]) {
    assert!((10..=MAX_RESPONSE_SIZE).contains(&response.len()));
    let tag = u16::from_be_bytes([response[0], response[1]]);
    let size = u32::from_be_bytes([response[2], response[3], response[4], response[5]]);
    let code = u32::from_be_bytes([response[6], response[7], response[8], response[9]]);
    assert_eq!(size as usize, response.len());
    assert!(matches!(tag, st::NO_SESSIONS | st::SESSIONS | st::RSP_COMMAND));
    if code != 0 {
        assert_eq!(response.len(), 10);
        assert_eq!(tag == st::RSP_COMMAND, code == rc::BAD_TAG.0);
    }
}

fn assert_alive(tpm: &mut Tpm) {
    assert_eq!(code(tpm, &command::get_random(8)), rc::SUCCESS);
}

pub(super) fn valid_commands() -> Vec<Vec<u8>> {
    let key = Handle(0x8000_0000);
    let sequence = Handle(0x8000_0001);
    let selection = PcrSelectionList::from_slice(&[PcrSelection { alg: HashAlg::Sha384, select: [0xff; 3] }]);
    let selection = selection.expect("one");
    vec![
        command::startup(StartupType::Clear),
        command::shutdown(StartupType::State),
        command::self_test(true),
        command::get_test_result(),
        command::get_random(99),
        command::stir_random(b"stir"),
        command::get_capability(6, 0x100, 200),
        command::get_capability(7, 0, 200),
        command::get_capability_pcrs(),
        command::pcr_extend(10, &hash::digest_banks(b"x")),
        command::pcr_event(16, b"event"),
        command::pcr_read(&selection),
        command::pcr_reset(23),
        command::hash(b"data", HashAlg::Sha1, rh::OWNER),
        command::hash_sequence_start(Some(HashAlg::Sha256)),
        command::hash_sequence_start(None),
        command::sequence_update(sequence, b"data"),
        command::sequence_complete(sequence, b"data", rh::OWNER),
        command::event_sequence_complete(Handle(3), sequence, b"data"),
        command::create_primary(rh::OWNER, &templates::ak_p256()),
        command::create_primary(rh::ENDORSEMENT, &templates::ek_p256()),
        command::read_public(key),
        command::quote(key, b"nonce", &selection),
        command::read_clock(),
        command::flush_context(sequence),
        Builder::new(cc::INCREMENTAL_SELF_TEST, &[]).params(|w| w.bytes(&[0, 0, 0, 1, 0, 11])).build(),
    ]
    .into_iter()
    .chain(admin_commands())
    .chain(object_commands())
    .chain(session_commands())
    .chain(nv_commands())
    .chain(super::curves::valid_commands())
    .chain(super::x509::valid_commands())
    .collect()
}

/// Where [`prepared`] has put a storage key and its sessions.
const PARENT: Handle = Handle(0x8000_0002);
const HMAC_SESSION: Handle = Handle(0x0200_0000);
const POLICY: Handle = Handle(0x0300_0001);

fn password(code: u32, handles: &[Handle], auths: usize, params: &str) -> Vec<u8> {
    let builder = if auths == 0 { Builder::new(code, handles) } else { Builder::with_empty_auth(code, handles, auths) };
    builder.params(|w| w.bytes(&super::unhex(params))).build()
}

/// Valid commands about hierarchies, audit, PCR, clocks and lockout.
fn admin_commands() -> Vec<Vec<u8>> {
    let key = Handle(0x8000_0000);
    vec![
        password(cc::HIERARCHY_CONTROL, &[rh::ENDORSEMENT], 1, "4000000b 00"),
        password(cc::CHANGE_EPS, &[rh::PLATFORM], 1, ""),
        password(cc::CHANGE_PPS, &[rh::PLATFORM], 1, ""),
        password(cc::CLEAR_CONTROL, &[rh::LOCKOUT], 1, "01"),
        password(cc::CLOCK_SET, &[rh::OWNER], 1, "0000000001000000"),
        password(cc::PCR_ALLOCATE, &[rh::PLATFORM], 1, "00000002 000d 03 ffffff 0004 03 000000"),
        password(cc::PCR_SET_AUTH_POLICY, &[rh::PLATFORM], 1, &format!("0020 {} 000b 00000014", "5a".repeat(32))),
        password(cc::PCR_SET_AUTH_VALUE, &[Handle(20)], 1, "0001 31"),
        password(cc::PP_COMMANDS, &[rh::PLATFORM], 1, "00000001 00000126 00000000"),
        password(cc::SET_PRIMARY_POLICY, &[rh::OWNER], 1, &format!("0020 {} 000b", "5a".repeat(32))),
        password(cc::CLOCK_RATE_ADJUST, &[rh::OWNER], 1, "03"),
        password(cc::GET_COMMAND_AUDIT_DIGEST, &[rh::ENDORSEMENT, key], 2, "0001 61 0010"),
        password(cc::DICTIONARY_ATTACK_PARAMETERS, &[rh::LOCKOUT], 1, "00000005 00000010 00000000"),
        password(cc::SET_ALGORITHM_SET, &[rh::PLATFORM], 1, "00000000"),
        password(cc::SET_COMMAND_CODE_AUDIT_STATUS, &[rh::OWNER], 1, "0010 00000001 0000017b 00000001 00000144"),
        password(cc::GET_SESSION_AUDIT_DIGEST, &[rh::ENDORSEMENT, key, HMAC_SESSION], 2, "0001 61 0010"),
        password(cc::POLICY_PHYSICAL_PRESENCE, &[POLICY], 0, ""),
    ]
}

/// Valid or nearly valid commands about objects.
fn object_commands() -> Vec<Vec<u8>> {
    let key = Handle(0x8000_0000);
    let digest = "0020".to_owned() + &"5a".repeat(32);
    vec![
        password(cc::EVICT_CONTROL, &[rh::OWNER, key], 1, "81000001"),
        password(cc::HIERARCHY_CHANGE_AUTH, &[rh::LOCKOUT], 1, "0001 31"),
        // Sealed data: sensitive, public, outside info, creation PCR.
        password(
            cc::CREATE,
            &[PARENT],
            1,
            "0007 0000 0003 736563 000e 0008 000b 00000052 0000 0010 0000 0000 00000000",
        ),
        password(cc::CREATE_LOADED, &[PARENT], 1, "0007 0000 0003 736563 000e 0008 000b 00000052 0000 0010 0000"),
        password(cc::LOAD, &[PARENT], 1, "0004 0002 aabb 000e 0008 000b 00000052 0000 0010 0000"),
        // A public keyed hash, and a symmetric key with its sensitive area.
        password(cc::LOAD_EXTERNAL, &[], 0, &format!("0000 002e 0008 000b 00000040 0000 0010 {digest} 40000001")),
        password(
            cc::LOAD_EXTERNAL,
            &[],
            0,
            "0018 0025 0000 0000 0010 000102030405060708090a0b0c0d0e0f 0012 0025 0010 00060040 0000 0006 0080 0043 0000 \
             40000007",
        ),
        password(cc::UNSEAL, &[key], 1, ""),
        password(cc::ACTIVATE_CREDENTIAL, &[key, PARENT], 2, "0004 0002 aabb 0004 0000 0000"),
        password(cc::MAKE_CREDENTIAL, &[PARENT], 0, "0004 01020304 0004 000b aabb"),
        password(cc::CERTIFY, &[key, key], 2, "0001 61 0010"),
        password(cc::CERTIFY_CREATION, &[key, key], 1, &format!("0001 61 {digest} 0010 8021 40000001 {digest}")),
        password(cc::GET_TIME, &[rh::ENDORSEMENT, key], 2, "0001 61 0010"),
        password(cc::OBJECT_CHANGE_AUTH, &[key, PARENT], 1, "0001 31"),
        password(cc::DUPLICATE, &[key, PARENT], 1, "0000 0006 0080 0043"),
        password(cc::REWRAP, &[rh::NULL, PARENT], 1, "0002 aabb 0002 aabb 0000"),
        password(cc::REWRAP, &[PARENT, rh::NULL], 1, "0002 aabb 0002 aabb 0006 0001 01 0001 02"),
        password(
            cc::IMPORT,
            &[PARENT],
            1,
            "0000 000e 0008 000b 00000040 0000 0010 0000 000e 000c 0008 0000 0000 0004 64617461 0000 0010",
        ),
        password(cc::CLEAR, &[rh::LOCKOUT], 1, ""),
        password(cc::DICTIONARY_ATTACK_LOCK_RESET, &[rh::LOCKOUT], 1, ""),
        password(cc::CONTEXT_SAVE, &[key], 0, ""),
        password(cc::CONTEXT_SAVE, &[HMAC_SESSION], 0, ""),
        password(cc::CONTEXT_LOAD, &[], 0, "0000000000000001 80000000 40000001 0006 0004 0002 aabb"),
        password(cc::ECDH_KEY_GEN, &[key], 0, ""),
        password(cc::ECDH_ZGEN, &[key], 1, "0006 0001 01 0001 02"),
        password(cc::RSA_DECRYPT, &[key], 1, "0002 6162 0017 000b 0002 6100"),
        password(cc::RSA_ENCRYPT, &[key], 0, "0002 6162 0015 0000"),
        password(cc::HMAC, &[key], 1, "0002 6162 000b"),
        password(cc::ENCRYPT_DECRYPT, &[key], 1, "00 0043 0010 000102030405060708090a0b0c0d0e0f 0002 6162"),
        password(cc::ENCRYPT_DECRYPT_2, &[key], 1, "0002 6162 00 0043 0010 000102030405060708090a0b0c0d0e0f"),
        password(cc::HMAC_START, &[key], 1, "0000 000b"),
        password(cc::SIGN, &[key], 1, &format!("{digest} 0010 8024 40000007 0000")),
        password(cc::VERIFY_SIGNATURE, &[key], 0, &format!("{digest} 0018 000b {digest} {digest}")),
        password(cc::TEST_PARMS, &[], 0, "0025 0006 0080 0043"),
    ]
}

/// Valid or nearly valid commands about NV Indexes.
fn nv_commands() -> Vec<Vec<u8>> {
    let index = super::nv::INDEX;
    let both = [rh::OWNER, index];
    let define = |attributes: &str| format!("0000 000e 01000001 000b {attributes} 0000 0008");
    let special = Handle(0x0140_0001);
    let mut all: Vec<_> = ["02060006", "02060016", "02060026", "020e0092", "460d0001"]
        .map(|attributes| password(cc::NV_DEFINE_SPACE, &[rh::OWNER], 1, &define(attributes)))
        .into();
    all.extend([
        password(cc::NV_WRITE, &both, 1, "0008 0000000000000009 0000"),
        password(cc::NV_WRITE, &[index, index], 1, "0002 6162 0003"),
        password(cc::NV_INCREMENT, &both, 1, ""),
        password(cc::NV_EXTEND, &both, 1, "0002 6162"),
        password(cc::NV_SET_BITS, &both, 1, "8000000000000001"),
        password(cc::NV_READ, &both, 1, "0008 0000"),
        password(cc::NV_READ_PUBLIC, &[index], 0, ""),
        password(cc::NV_WRITE_LOCK, &both, 1, ""),
        password(cc::NV_READ_LOCK, &both, 1, ""),
        password(cc::NV_GLOBAL_WRITE_LOCK, &[rh::OWNER], 1, ""),
        password(cc::NV_CHANGE_AUTH, &[index], 1, "0001 31"),
        password(cc::NV_CERTIFY, &[Handle(0x8000_0000), rh::OWNER, index], 2, "0001 61 0010 0004 0000"),
        password(cc::NV_CERTIFY, &[rh::NULL, index, index], 2, "0000 0010 0000 0000"),
        password(cc::POLICY_NV, &[rh::OWNER, index, POLICY], 1, "0002 0000 0006 0002"),
        password(cc::POLICY_AUTHORIZE_NV, &[rh::OWNER, index, POLICY], 1, ""),
        password(cc::POLICY_SECRET, &[index, POLICY], 1, "0000 0000 0001 61 ffffffff"),
        password(cc::NV_UNDEFINE_SPACE_SPECIAL, &[special, rh::PLATFORM], 2, ""),
        password(cc::NV_UNDEFINE_SPACE, &both, 1, ""),
    ]);
    all
}

/// Valid or nearly valid commands about sessions and policies.
fn session_commands() -> Vec<Vec<u8>> {
    let digest = "0020".to_owned() + &"5a".repeat(32);
    let policy = |code, params: &str| password(code, &[POLICY], 0, params);
    let nonce = "0010 000102030405060708090a0b0c0d0e0f";
    vec![
        password(cc::START_AUTH_SESSION, &[rh::NULL, rh::NULL], 0, &format!("{nonce} 0000 00 0006 0080 0043 000b")),
        password(cc::START_AUTH_SESSION, &[rh::NULL, rh::OWNER], 0, &format!("{nonce} 0000 01 000a 000b 000b")),
        password(cc::START_AUTH_SESSION, &[PARENT, PARENT], 0, &format!("{nonce} 0006 0001 01 0001 02 00 0010 000b")),
        password(cc::POLICY_SECRET, &[rh::OWNER, POLICY], 1, "0000 0000 0001 61 ffffffff"),
        password(
            cc::POLICY_SIGNED,
            &[Handle(0x8000_0000), POLICY],
            0,
            &format!("0000 0000 0000 00000000 0018 000b {digest} {digest}"),
        ),
        policy(cc::POLICY_AUTHORIZE, &format!("{digest} 0000 0022 000b {} 8022 40000001 {digest}", &digest[4..])),
        policy(cc::POLICY_AUTH_VALUE, ""),
        policy(cc::POLICY_COMMAND_CODE, "0000015e"),
        policy(cc::POLICY_COUNTER_TIMER, "0004 00000000 0000 0007"),
        policy(cc::POLICY_CP_HASH, &digest),
        policy(cc::POLICY_LOCALITY, "01"),
        policy(cc::POLICY_NAME_HASH, &digest),
        policy(cc::POLICY_OR, &format!("00000002 0020 {} {digest}", "00".repeat(32))),
        policy(cc::POLICY_TICKET, &format!("0008 00000000ffffffff 0000 0000 0004 40000001 8023 40000001 {digest}")),
        policy(cc::POLICY_PCR, "0000 00000001 000b 03 ff0000"),
        policy(cc::POLICY_RESTART, ""),
        policy(cc::POLICY_DUPLICATION_SELECT, "0002 aabb 0002 aabb 01"),
        policy(cc::POLICY_GET_DIGEST, ""),
        policy(cc::POLICY_PASSWORD, ""),
        policy(cc::POLICY_NV_WRITTEN, "01"),
        policy(cc::POLICY_TEMPLATE, &digest),
        // A session that encrypts, which is not keyed and so takes an HMAC of no octets.
        Builder::with_sessions(cc::GET_RANDOM, &[], &[encrypting(0x41)]).params(|w| w.u16(9)).build(),
        Builder::with_sessions(cc::STIR_RANDOM, &[], &[encrypting(0x21)]).params(|w| w.tpm2b(b"masked")).build(),
        Builder::with_sessions(cc::GET_RANDOM, &[], &[encrypting(0x81)]).params(|w| w.u16(9)).build(),
    ]
}

fn encrypting(attributes: u8) -> AuthCommand {
    AuthCommand {
        handle: HMAC_SESSION,
        nonce: Nonce::new(&[3; 32]).expect("fits"),
        attributes: SessionAttributes::from_bits(attributes),
        hmac: Default::default(),
    }
}

#[test]
fn the_encrypting_commands_are_valid() {
    for attributes in [0x41, 0x21, 0x81] {
        let mut tpm = prepared();
        let (code_of, params): (u32, &[u8]) =
            if attributes == 0x21 { (cc::STIR_RANDOM, &[0, 2, 1, 2]) } else { (cc::GET_RANDOM, &[0, 9]) };
        let cmd = Builder::with_sessions(code_of, &[], &[encrypting(attributes)]).params(|w| w.bytes(params)).build();
        assert_eq!(code(&mut tpm, &cmd), rc::SUCCESS, "{attributes:#x}");
    }
}

#[test]
fn the_valid_commands_cover_the_table() {
    let codes: Vec<_> = valid_commands().iter().map(|c| u32::from_be_bytes([c[6], c[7], c[8], c[9]])).collect();
    let missing: Vec<_> = COMMANDS.iter().filter(|c| !codes.contains(&c.code)).map(|c| c.name).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(COMMANDS.is_sorted_by(|a, b| a.code < b.code) && COMMANDS.iter().all(|c| find(c.code).is_some()));
}

/// A TPM with a key, an event sequence, a storage key, an HMAC and a policy session loaded.
pub(super) fn prepared() -> Tpm {
    let mut tpm = started();
    load_ak(&mut tpm, rh::OWNER);
    run(&mut tpm, &command::hash_sequence_start(None));
    assert_eq!(load(&mut tpm, rh::OWNER, &templates::ek_p256()).handle, PARENT);
    let start = session_commands().remove(0);
    assert_eq!(response::parse(&run(&mut tpm, &start), true).expect("a session").handle, Some(HMAC_SESSION));
    assert_eq!(start_plain(&mut tpm, 1), POLICY);
    tpm
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn random_bytes(locality: u8, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut tpm = started();
        assert_well_formed(&tpm.execute(locality, &bytes));
        assert_alive(&mut tpm);
    }

    /// A valid header around random bytes reaches the handlers.
    #[test]
    fn random_bytes_after_a_good_header(
        locality in 0u8..5, which: prop::sample::Index, sessions: bool, tail in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut tpm = prepared();
        let spec = which.get(COMMANDS);
        let handles: Vec<_> = spec
            .handles
            .iter()
            .map(|h| if h.kind == HandleKind::Policy { POLICY } else { PARENT })
            .collect();
        let builder = if sessions {
            Builder::with_empty_auth(spec.code, &handles, spec.handles.iter().filter(|h| h.auth != Auth::None).count())
        } else {
            Builder::new(spec.code, &handles)
        };
        assert_well_formed(&tpm.execute(locality, &builder.params(|w| w.bytes(&tail)).build()));
        assert_alive(&mut tpm);
    }

    /// Sequences of valid commands with a few bytes changed, cut or added, with the size set right or not.
    #[test]
    fn mutated_commands(
        steps in prop::collection::vec(
            (any::<prop::sample::Index>(), 0u8..5, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
             0usize..12, any::<bool>(), any::<bool>()),
            1..12,
        ),
    ) {
        let mut tpm = prepared();
        let commands = valid_commands();
        for (which, locality, changes, length, cut, fix) in steps {
            let mut command = which.get(&commands).clone();
            for (at, to) in changes {
                let at = at.index(command.len());
                command[at] = to;
            }
            if length > 6 {
                let by = length - 6;
                if cut { command.truncate(command.len() - by.min(command.len())); } else { command.extend(vec![0; by]); }
            }
            if fix && command.len() >= 6 {
                let size = (command.len() as u32).to_be_bytes();
                command[2..6].copy_from_slice(&size);
            }
            assert_well_formed(&tpm.execute(locality, &command));
        }
        assert_alive(&mut tpm);
    }

    /// Hash signals between commands, in any order, around power and startup.
    #[test]
    fn signals_in_any_order(signals in prop::collection::vec(0u8..6, 0..20)) {
        let mut tpm = started();
        for signal in signals {
            match signal {
                0 => tpm.init(),
                1 => tpm.hash_start(),
                2 => tpm.hash_data(b"data"),
                3 => prop_assert!(matches!(tpm.hash_end().len(), 0 | 3)),
                4 => assert_well_formed(&run(&mut tpm, &command::startup(StartupType::Clear))),
                _ => assert_well_formed(&run(&mut tpm, &command::shutdown(StartupType::State))),
            }
        }
        tpm.init();
        prop_assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::SUCCESS);
    }
}
