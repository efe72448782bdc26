//! Seeds of the vTPM's targets: every command of the table, on a TPM that has something of everything.

use bulla_fuzz_bodies::described::{PASSWORD, SESSIONS, Session, describe};
use bulla_fuzz_bodies::prepared::{self, states};
use bulla_tpm_types::{Handle, StartupType, cc, command, rh};

use super::{put, sized};

/// A step of `tpm_command`: a command with the Empty Auth for its first `auths` handles, described.
fn step(code: u32, handles: &[Handle], auths: usize, params: &str) -> Vec<u8> {
    with(code, handles, &[PASSWORD; 3][..auths], params)
}

/// The same with other sessions.
fn with(code: u32, handles: &[Handle], sessions: &[Session], params: &str) -> Vec<u8> {
    [&[8, 0][..], &describe(code, handles, sessions, params)].concat()
}

const fn key(number: u32) -> Handle {
    Handle(0x8100_0000 + number)
}

const fn index(number: u32) -> Handle {
    Handle(0x0100_0000 + number)
}

const fn object(number: u32) -> Handle {
    Handle(0x8000_0000 + number)
}

const RSA_STORAGE: Handle = key(0);
const RSA: Handle = key(1);
const ECC_STORAGE: Handle = key(2);
const ECC: Handle = key(3);
const AK: Handle = key(4);
const ECDAA: Handle = key(5);
const HMAC_KEY: Handle = key(6);
const AES: Handle = key(7);
const SEALED: Handle = key(8);
const DERIVE: Handle = key(9);
const POLICY: Handle = Handle(0x0300_0002);
const TRIAL: Handle = Handle(0x0300_0003);
const HMAC_SESSION: Handle = Handle(0x0200_0000);
/// The first object that a seed makes.
const NEW: Handle = object(4);

const DIGEST: &str = "(5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a)";
const ZEROS: &str = "(0000000000000000000000000000000000000000000000000000000000000000)";
const IV: &str = "(000102030405060708090a0b0c0d0e0f)";
/// The base point of P-256.
const POINT: &str = "(6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296) \
                     (4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5)";

pub(crate) fn vtpm() {
    for (name, steps) in [
        ("hierarchies", hierarchies()),
        ("lockout", lockout()),
        ("clear", clear()),
        ("audit", audit()),
        ("pcrs", pcrs()),
        ("nv", nv()),
        ("nv_pins", nv_pins()),
        ("nv_locks", nv_locks()),
        ("objects", objects()),
        ("create", create()),
        ("duplicates", duplicates()),
        ("credentials", credentials()),
        ("rsa", rsa()),
        ("ecc", ecc()),
        ("ecdaa", ecdaa()),
        ("symmetric", symmetric()),
        ("keyed_hashes", keyed_hashes()),
        ("attestation", attestation()),
        ("x509", x509()),
        ("policies", policies()),
        ("policies_of_others", policies_of_others()),
        ("sessions", sessions()),
        ("contexts", contexts()),
        ("lifecycle", lifecycle()),
    ] {
        put("tpm_command", name, &[&[1][..], &steps.concat()].concat());
    }

    state_files();
    control();

    let mut tpm = prepared::new();
    tpm.init();
    put("vtpm_state", "new", &[&[0], &tpm.permanent()[..]].concat());
    tpm.execute(0, &command::startup(StartupType::Clear));
    put("vtpm_state", "running", &[&[0], &tpm.permanent()[..]].concat());
    tpm.execute(0, &command::shutdown(StartupType::State));
    put("vtpm_state", "shut_down", &[&[0], &tpm.permanent()[..]].concat());
    put("vtpm_state", "suspended", &[1]);
    put("vtpm_state", "suspended_elsewhere", &[1, 0, 30, 0xff]);
    put("vtpm_state", "everything", &[2]);
    // A byte changed now and then, through all of both states.
    let (permanent, volatile) = states();
    for (kind, state, name) in [(1, volatile, "volatile_changed"), (2, permanent, "permanent_changed")] {
        for (number, at) in (11..state.len()).step_by(state.len() / 12).enumerate() {
            let [high, low] = u16::try_from(at).expect("small").to_be_bytes();
            put("vtpm_state", &format!("{name}_{number}"), &[kind, high, low, state[at] ^ 1]);
        }
    }
}

fn hierarchies() -> Vec<Vec<u8>> {
    vec![
        step(cc::HIERARCHY_CHANGE_AUTH, &[rh::ENDORSEMENT], 1, "(61)"),
        with(cc::SET_PRIMARY_POLICY, &[rh::ENDORSEMENT], &[SESSIONS[1]], &format!("{DIGEST} 000b")),
        step(cc::SET_PRIMARY_POLICY, &[rh::OWNER], 1, "() 0010"),
        step(cc::CHANGE_EPS, &[rh::PLATFORM], 1, ""),
        step(cc::CHANGE_PPS, &[rh::PLATFORM], 1, ""),
        step(cc::PP_COMMANDS, &[rh::PLATFORM], 1, "00000001 00000126 00000000"),
        step(cc::SET_ALGORITHM_SET, &[rh::PLATFORM], 1, "00000001"),
        step(cc::CLOCK_SET, &[rh::OWNER], 1, "0000000001000000"),
        step(cc::CLOCK_RATE_ADJUST, &[rh::OWNER], 1, "03"),
        step(cc::READ_CLOCK, &[], 0, ""),
        step(cc::HIERARCHY_CONTROL, &[rh::OWNER], 1, "40000001 00"),
        step(cc::READ_PUBLIC, &[AK], 0, ""),
        step(cc::HIERARCHY_CONTROL, &[rh::PLATFORM], 1, "40000001 01"),
        step(cc::EVICT_CONTROL, &[rh::OWNER, SEALED], 1, "81000008"),
    ]
}

fn lockout() -> Vec<Vec<u8>> {
    vec![
        step(cc::DICTIONARY_ATTACK_PARAMETERS, &[rh::LOCKOUT], 1, "00000002 00000010 00000020"),
        step(cc::NV_DEFINE_SPACE, &[rh::OWNER], 1, "(31) (01400000 000b 00060006 () 0004)"),
        with(cc::NV_READ, &[Handle(0x0140_0000); 2], &[SESSIONS[2]], "0004 0000"),
        with(cc::NV_READ, &[Handle(0x0140_0000); 2], &[SESSIONS[2]], "0004 0000"),
        step(cc::GET_CAPABILITY, &[], 0, "00000006 00000200 000000ff"),
        vec![4, 0, 60],
        step(cc::DICTIONARY_ATTACK_LOCK_RESET, &[rh::LOCKOUT], 1, ""),
        with(cc::CLEAR_CONTROL, &[rh::LOCKOUT], &[SESSIONS[2]], "01"),
        step(cc::CLEAR_CONTROL, &[rh::PLATFORM], 1, "01"),
    ]
}

fn clear() -> Vec<Vec<u8>> {
    vec![
        step(cc::CLEAR_CONTROL, &[rh::LOCKOUT], 1, "01"),
        step(cc::CLEAR_CONTROL, &[rh::PLATFORM], 1, "00"),
        step(cc::CLEAR, &[rh::LOCKOUT], 1, ""),
        step(cc::GET_CAPABILITY, &[], 0, "00000001 81000000 000000ff"),
        step(cc::GET_CAPABILITY, &[], 0, "00000001 01000000 000000ff"),
    ]
}

fn audit() -> Vec<Vec<u8>> {
    vec![
        step(cc::SET_COMMAND_CODE_AUDIT_STATUS, &[rh::OWNER], 1, "0010 00000001 0000017b 00000001 00000144"),
        step(cc::GET_RANDOM, &[], 0, "0008"),
        step(cc::GET_COMMAND_AUDIT_DIGEST, &[rh::ENDORSEMENT, AK], 2, "(61) 0010"),
        step(cc::SET_COMMAND_CODE_AUDIT_STATUS, &[rh::OWNER], 1, "000c 00000000 00000000"),
        with(cc::GET_RANDOM, &[], &[SESSIONS[6]], "0008"),
        step(cc::GET_SESSION_AUDIT_DIGEST, &[rh::ENDORSEMENT, AK, HMAC_SESSION], 2, "(61) 0010"),
        step(cc::GET_CAPABILITY, &[], 0, "00000004 00000000 000000ff"),
    ]
}

fn pcrs() -> Vec<Vec<u8>> {
    vec![
        step(cc::PCR_READ, &[], 0, "00000003 0004 03 ff0000 000b 03 000001 000c 03 ffffff"),
        step(cc::PCR_EXTEND, &[Handle(16)], 1, &format!("00000001 000b {}", &DIGEST[1..65])),
        step(cc::PCR_EVENT, &[Handle(10)], 1, "(6576656e74)"),
        step(cc::PCR_RESET, &[Handle(23)], 1, ""),
        step(cc::PCR_SET_AUTH_POLICY, &[rh::PLATFORM], 1, &format!("{DIGEST} 000b 00000014")),
        step(cc::PCR_SET_AUTH_VALUE, &[Handle(20)], 1, "(31)"),
        step(cc::EVENT_SEQUENCE_COMPLETE, &[Handle(16), object(1)], 2, "(6162)"),
        step(cc::PCR_ALLOCATE, &[rh::PLATFORM], 1, "00000002 000d 03 ffffff 0004 03 000000"),
        step(cc::GET_CAPABILITY, &[], 0, "00000005 00000000 00000001"),
        step(cc::GET_CAPABILITY, &[], 0, "00000007 00000000 000000ff"),
        vec![0],
        vec![1],
        [&[2][..], &sized(b"firmware")].concat(),
        vec![3],
        step(cc::STARTUP, &[], 0, "0000"),
        step(cc::PCR_READ, &[], 0, "00000001 000d 03 010002"),
    ]
}

fn nv() -> Vec<Vec<u8>> {
    let mut all = vec![
        step(cc::NV_WRITE, &[rh::OWNER, index(0)], 1, "(6162) 0003"),
        step(cc::NV_INCREMENT, &[rh::OWNER, index(1)], 1, ""),
        step(cc::NV_INCREMENT, &[rh::OWNER, index(6)], 1, ""),
        step(cc::NV_SET_BITS, &[rh::OWNER, index(2)], 1, "0000000000000001"),
        step(cc::NV_EXTEND, &[rh::OWNER, index(3)], 1, "(6162)"),
        step(cc::NV_READ_PUBLIC, &[index(7)], 0, ""),
        step(cc::NV_CERTIFY, &[AK, rh::OWNER, index(0)], 2, "(61) 0010 0004 0000"),
        step(cc::NV_CERTIFY, &[rh::NULL, index(0), index(0)], 2, "() 0010 0000 0000"),
        step(cc::NV_DEFINE_SPACE, &[rh::PLATFORM], 1, "() (01400000 000b 460d0001 () 0008)"),
        step(cc::NV_UNDEFINE_SPACE_SPECIAL, &[Handle(0x0140_0000), rh::PLATFORM], 2, ""),
        step(cc::NV_UNDEFINE_SPACE, &[rh::OWNER, index(7)], 1, ""),
        step(cc::NV_DEFINE_SPACE, &[rh::OWNER], 1, &format!("(6162) (01000007 000c 02060006 {DIGEST} 0800)")),
        step(cc::NV_CHANGE_AUTH, &[index(7)], 1, "(31)"),
    ];
    all.extend((0..7).map(|n| step(cc::NV_READ, &[rh::OWNER, index(n)], 1, "0008 0000")));
    all
}

fn nv_pins() -> Vec<Vec<u8>> {
    vec![
        with(cc::POLICY_SECRET, &[index(4), POLICY], &[PASSWORD], "() () () 00000000"),
        with(cc::POLICY_SECRET, &[index(5), TRIAL], &[SESSIONS[2]], "() () () 00000000"),
        step(cc::NV_READ, &[rh::OWNER, index(5)], 1, "0008 0000"),
        step(cc::NV_WRITE, &[rh::OWNER, index(4)], 1, "(0000000100000001) 0000"),
        with(cc::NV_READ, &[index(4), index(4)], &[PASSWORD], "0008 0000"),
    ]
}

fn nv_locks() -> Vec<Vec<u8>> {
    vec![
        step(cc::NV_DEFINE_SPACE, &[rh::OWNER], 1, "() (01400000 000b 8206e006 () 0008)"),
        step(cc::NV_WRITE, &[rh::OWNER, Handle(0x0140_0000)], 1, "(6162636465666768) 0000"),
        step(cc::NV_READ_LOCK, &[rh::OWNER, Handle(0x0140_0000)], 1, ""),
        step(cc::NV_READ, &[rh::OWNER, Handle(0x0140_0000)], 1, "0008 0000"),
        step(cc::NV_WRITE_LOCK, &[rh::OWNER, Handle(0x0140_0000)], 1, ""),
        step(cc::NV_GLOBAL_WRITE_LOCK, &[rh::OWNER], 1, ""),
        step(cc::SHUTDOWN, &[], 0, "0001"),
        vec![0],
        step(cc::STARTUP, &[], 0, "0001"),
        step(cc::NV_READ, &[rh::OWNER, Handle(0x0140_0000)], 1, "0008 0000"),
    ]
}

fn objects() -> Vec<Vec<u8>> {
    vec![
        step(cc::READ_PUBLIC, &[RSA], 0, ""),
        step(cc::UNSEAL, &[SEALED], 1, ""),
        step(cc::LOAD_EXTERNAL, &[], 0, &format!("() (0008 000b 00000040 () 0010 {DIGEST}) 40000001")),
        step(
            cc::LOAD_EXTERNAL,
            &[],
            0,
            &format!("(0025 () () {IV}) (0025 0010 00060040 () 0006 0080 0043 ()) 40000007"),
        ),
        step(cc::ENCRYPT_DECRYPT_2, &[object(5)], 1, &format!("(6162) 00 0043 {IV}")),
        step(
            cc::LOAD_EXTERNAL,
            &[],
            0,
            &format!("() (0023 000b 00040040 () 0010 0018 000b 0003 0010 {POINT}) 40000007"),
        ),
        step(cc::FLUSH_CONTEXT, &[], 0, "80000004"),
        step(cc::EVICT_CONTROL, &[rh::OWNER, object(3)], 1, "8100000a"),
        step(cc::OBJECT_CHANGE_AUTH, &[AES, rh::OWNER], 1, "(31)"),
        step(cc::LOAD, &[ECC_STORAGE], 1, "(6162) (0008 000b 00000052 () 0010 ())"),
        step(cc::TEST_PARMS, &[], 0, "0001 0006 0080 0043 0010 0800 00000000"),
        step(cc::TEST_PARMS, &[], 0, "0023 0010 0018 000b 0004 0010"),
        step(cc::GET_CAPABILITY, &[], 0, "00000001 80000000 000000ff"),
    ]
}

fn create() -> Vec<Vec<u8>> {
    let sealed = "(() (736563)) (0008 000b 00000452 () 0010 ()) (6f) 00000001 000b 03 010000";
    let ecc = |curve| format!("(() ()) (0023 000b 00060472 () 0010 0010 {curve} 0010 () ()) () 00000000");
    vec![
        step(cc::CREATE, &[ECC_STORAGE], 1, sealed),
        step(cc::CREATE, &[RSA_STORAGE], 1, sealed),
        step(cc::CREATE, &[ECC_STORAGE], 1, &ecc("0004")),
        step(
            cc::CREATE,
            &[ECC_STORAGE],
            1,
            "(() ()) (0001 000b 00040472 () 0010 0016 000b 0400 00000000 ()) () 00000000",
        ),
        step(cc::CREATE, &[ECC_STORAGE], 1, "(() ()) (0025 000b 00060472 () 0006 0100 0043 ()) () 00000000"),
        step(
            cc::CREATE_LOADED,
            &[RSA_STORAGE],
            1,
            "((31) ()) (0023 000c 00030472 () 0006 0100 0043 0010 0003 0010 () ())",
        ),
        step(cc::CREATE_LOADED, &[rh::NULL], 1, "(() ()) (0008 0004 00040472 () 0005 0004 ())"),
        step(
            cc::CREATE_LOADED,
            &[DERIVE],
            1,
            "(() (6c6162656c)) (0023 000b 00040452 () 0010 0018 000b 0003 0010 (6c) (63))",
        ),
        step(cc::CREATE_LOADED, &[DERIVE], 1, "(() (6c)) (0025 000b 00060452 () 0006 0080 0043 () ())"),
        step(cc::CREATE_PRIMARY, &[rh::OWNER], 1, &ecc("0003")),
    ]
}

fn duplicates() -> Vec<Vec<u8>> {
    vec![
        // DUP authorization: a policy that says so, of a new object whose policy it is.
        step(cc::POLICY_COMMAND_CODE, &[TRIAL], 0, "0000014b"),
        step(cc::POLICY_GET_DIGEST, &[TRIAL], 0, ""),
        step(
            cc::CREATE_LOADED,
            &[ECC_STORAGE],
            1,
            "(() (64617461)) (0008 000b 00000440 (bef56b8c1cc84e11edd717528d2cd99356bd2bbf8f015209c3f84aeeaba8e8a2) 0010 ())",
        ),
        step(cc::POLICY_COMMAND_CODE, &[POLICY], 0, "0000014b"),
        with(cc::DUPLICATE, &[NEW, RSA_STORAGE], &[SESSIONS[11]], "() 0010"),
        step(cc::POLICY_COMMAND_CODE, &[POLICY], 0, "0000014b"),
        with(cc::DUPLICATE, &[NEW, rh::NULL], &[SESSIONS[11]], &format!("{IV} 0006 0080 0043")),
        step(cc::REWRAP, &[rh::NULL, RSA_STORAGE], 1, "(6162) (6162) ()"),
        step(cc::REWRAP, &[ECC_STORAGE, rh::NULL], 1, &format!("(6162) (6162) ({POINT})")),
        // A duplicate that nothing protects: its sensitive area.
        step(
            cc::IMPORT,
            &[ECC_STORAGE],
            1,
            "() (0008 000b 00000040 () 0010 (d7ba2b83ea8fc6bd0d3d53b7d7b6ae6e6aa3e6a37a2f0eb4ff1a9d6b3a5df0b0)) \
             ((0008 () (73656564) (64617461))) () 0010",
        ),
        step(
            cc::IMPORT,
            &[ECC_STORAGE],
            1,
            &format!("() (0025 000b 00060040 () 0006 0080 0043 {DIGEST}) ((0025 () {DIGEST} {IV})) () 0010"),
        ),
        step(cc::POLICY_RESTART, &[TRIAL], 0, ""),
        step(cc::POLICY_DUPLICATION_SELECT, &[TRIAL], 0, &format!("(000b{0}) (000b{0}) 01", &DIGEST[1..65])),
    ]
}

fn credentials() -> Vec<Vec<u8>> {
    vec![
        step(cc::MAKE_CREDENTIAL, &[RSA_STORAGE], 0, "(01020304) (000baabb)"),
        step(cc::MAKE_CREDENTIAL, &[ECC_STORAGE], 0, "(01020304) (000baabb)"),
        step(cc::ACTIVATE_CREDENTIAL, &[AK, ECC_STORAGE], 2, &format!("({DIGEST} aabb) ({POINT})")),
        step(cc::ACTIVATE_CREDENTIAL, &[AK, RSA_STORAGE], 2, &format!("({DIGEST} aabb) ({})", "11".repeat(128))),
    ]
}

fn rsa() -> Vec<Vec<u8>> {
    let block = format!("(00{})", "11".repeat(127));
    vec![
        step(cc::RSA_ENCRYPT, &[RSA], 0, "(6162) 0017 000b (6100)"),
        step(cc::RSA_ENCRYPT, &[RSA], 0, "(6162) 0015 ()"),
        step(cc::RSA_ENCRYPT, &[RSA], 0, &format!("{block} 0010 ()")),
        step(cc::RSA_DECRYPT, &[RSA], 1, &format!("{block} 0010 ()")),
        step(cc::RSA_DECRYPT, &[RSA], 1, &format!("{block} 0017 000b (6100)")),
        step(cc::RSA_DECRYPT, &[RSA], 1, &format!("{block} 0015 ()")),
        step(cc::SIGN, &[RSA], 1, &format!("{DIGEST} 0014 000b 8024 40000007 ()")),
        step(cc::SIGN, &[RSA], 1, &format!("{DIGEST} 0016 000b 8024 40000007 ()")),
        step(cc::VERIFY_SIGNATURE, &[RSA], 0, &format!("{DIGEST} 0014 000b {block}")),
        step(cc::VERIFY_SIGNATURE, &[RSA], 0, &format!("{DIGEST} 0016 000b {block}")),
        step(cc::START_AUTH_SESSION, &[RSA, rh::NULL], 0, &format!("{IV} {block} 00 0010 000b")),
        step(cc::START_AUTH_SESSION, &[RSA_STORAGE, RSA], 0, &format!("{IV} {block} 00 0010 000b")),
    ]
}

fn ecc() -> Vec<Vec<u8>> {
    vec![
        step(cc::ECDH_KEY_GEN, &[ECC], 0, ""),
        step(cc::ECDH_ZGEN, &[ECC], 1, &format!("({POINT})")),
        step(cc::ECC_PARAMETERS, &[], 0, "0005"),
        step(cc::EC_EPHEMERAL, &[], 0, "0003"),
        step(cc::ZGEN_2PHASE, &[ECC], 1, &format!("({POINT}) ({POINT}) 0019 0000")),
        step(cc::SIGN, &[ECC], 1, &format!("{DIGEST} 0018 000b 8024 40000007 ()")),
        step(cc::SIGN, &[ECC], 1, &format!("{DIGEST} 001c 000b 8024 40000007 ()")),
        step(cc::VERIFY_SIGNATURE, &[ECC], 0, &format!("{DIGEST} 0018 000b {DIGEST} {DIGEST}")),
        step(cc::VERIFY_SIGNATURE, &[ECC], 0, &format!("{DIGEST} 001c 000b {DIGEST} {DIGEST}")),
        step(cc::ECC_ENCRYPT, &[ECC], 0, "(64617461) 0021 000b"),
        step(cc::ECC_DECRYPT, &[ECC], 1, &format!("({POINT}) (64617461) {DIGEST} 0021 000b")),
        step(cc::START_AUTH_SESSION, &[ECC_STORAGE, ECC], 0, &format!("{IV} ({POINT}) 01 0006 0080 0043 000b")),
    ]
}

fn ecdaa() -> Vec<Vec<u8>> {
    vec![
        step(cc::COMMIT, &[ECDAA], 1, "() () ()"),
        step(cc::SIGN, &[ECDAA], 1, &format!("{DIGEST} 001a 000b 0000 8024 40000007 ()")),
        step(cc::COMMIT, &[ECDAA], 1, &format!("({POINT}) () ()")),
        step(cc::COMMIT, &[ECDAA], 1, "() (6162) (6364)"),
        step(cc::SIGN, &[ECDAA], 1, &format!("{DIGEST} 001a 000b 0001 8024 40000007 ()")),
        step(cc::QUOTE, &[ECDAA], 1, "() 001a 000b 0002 00000001 000b 03 ff0000"),
    ]
}

fn symmetric() -> Vec<Vec<u8>> {
    let long = "5a".repeat(100);
    vec![
        step(cc::ENCRYPT_DECRYPT, &[AES], 1, &format!("00 0043 {IV} ({long})")),
        step(cc::ENCRYPT_DECRYPT, &[AES], 1, &format!("01 0010 {IV} ({long})")),
        step(cc::ENCRYPT_DECRYPT_2, &[AES], 1, &format!("(6162) 01 0043 {IV}")),
        step(cc::CREATE_LOADED, &[ECC_STORAGE], 1, "(() ()) (0025 000b 00060472 () 0006 0080 0010 ())"),
        step(cc::ENCRYPT_DECRYPT_2, &[NEW], 1, &format!("{IV} 00 0040 {IV}")),
        step(cc::ENCRYPT_DECRYPT_2, &[NEW], 1, &format!("{IV} 00 0041 {IV}")),
        step(cc::ENCRYPT_DECRYPT_2, &[NEW], 1, &format!("{IV} 00 0042 {IV}")),
        step(cc::ENCRYPT_DECRYPT_2, &[NEW], 1, &format!("{IV} 00 0044 ()")),
    ]
}

fn keyed_hashes() -> Vec<Vec<u8>> {
    vec![
        step(cc::HMAC, &[HMAC_KEY], 1, "(6162) 000b"),
        step(cc::HMAC_START, &[HMAC_KEY], 1, "() 0010"),
        step(cc::SEQUENCE_UPDATE, &[NEW], 1, "(6162)"),
        step(cc::SEQUENCE_COMPLETE, &[NEW], 1, "(6162) 40000007"),
        step(cc::SEQUENCE_UPDATE, &[object(0)], 1, "(6162)"),
        step(cc::SEQUENCE_COMPLETE, &[object(0)], 1, "() 40000001"),
        step(cc::SEQUENCE_COMPLETE, &[object(2)], 1, "(6162) 40000007"),
        step(cc::HASH_SEQUENCE_START, &[], 0, "(31) 000d"),
        with(cc::SEQUENCE_UPDATE, &[object(0)], &[SESSIONS[1]], "(6162)"),
        step(cc::HASH, &[], 0, "(64617461) 000c 40000001"),
        step(cc::SIGN, &[HMAC_KEY], 1, &format!("{DIGEST} 0005 000b 8024 40000007 ()")),
        step(cc::VERIFY_SIGNATURE, &[HMAC_KEY], 0, &format!("{DIGEST} 0005 000b {}", &DIGEST[1..65])),
        // CMAC: a symmetric key that signs.
        step(cc::CREATE_LOADED, &[ECC_STORAGE], 1, "(() ()) (0025 000b 00040472 () 0006 0080 003f ())"),
        step(cc::HMAC, &[object(0)], 1, "(6162) 003f"),
        step(cc::HMAC, &[object(2)], 1, "(6162) 003f"),
    ]
}

fn attestation() -> Vec<Vec<u8>> {
    let ticket = format!("8021 40000001 {DIGEST}");
    vec![
        step(cc::QUOTE, &[AK], 1, "(6e6f6e6365) 0010 00000002 000b 03 ffffff 0004 03 010000"),
        step(cc::QUOTE, &[RSA], 1, "() 0016 000b 00000001 000b 03 010000"),
        step(cc::CERTIFY, &[ECC, AK], 2, "(61) 0010"),
        step(cc::CERTIFY, &[SEALED, RSA], 2, "() 0014 000b"),
        step(cc::CERTIFY, &[AES, rh::NULL], 2, "() 0010"),
        step(cc::CERTIFY_CREATION, &[AK, ECC], 1, &format!("() {DIGEST} 0010 {ticket}")),
        step(cc::GET_TIME, &[rh::ENDORSEMENT, HMAC_KEY], 2, "(61) 0005 000b"),
        step(cc::GET_TIME, &[rh::ENDORSEMENT, AK], 2, "(61) 0010"),
    ]
}

/// TPM2_CertifyX509 with a partial certificate: issuer, validity, subject and a key usage that fits signing keys.
fn x509() -> Vec<Vec<u8>> {
    let name = "300d310b300906035504030c0241 42".replace(' ', "");
    let validity = "301e170d3236303130313030303030305a170d3336303130313030303030305a";
    let usage = "a3123010 300e0603551d0f0101ff040403020780";
    let body = format!("{name}{validity}{name}{usage}").replace(' ', "");
    let partial = format!("(30{:02x}{body})", body.len() / 2);
    let name_alone = format!("(30{:02x}{name})", name.len() / 2);
    vec![
        step(cc::CREATE_LOADED, &[ECC_STORAGE], 1, "(() ()) (0023 000b 000c0472 () 0010 0018 000b 0003 0010 () ())"),
        step(cc::CERTIFY_X509, &[ECC, NEW], 2, &format!("() 0010 {partial}")),
        step(cc::CERTIFY_X509, &[NEW, NEW], 2, &format!("() 0018 000b {partial}")),
        step(cc::CERTIFY_X509, &[RSA, NEW], 2, &format!("() 0010 {partial}")),
        step(cc::CERTIFY_X509, &[ECC, NEW], 2, &format!("() 0010 {name_alone}")),
    ]
}

fn policies() -> Vec<Vec<u8>> {
    let trial = |code, params: &str| step(code, &[TRIAL], 0, params);
    let policy = |code, params: &str| step(code, &[POLICY], 0, params);
    vec![
        trial(cc::POLICY_AUTH_VALUE, ""),
        trial(cc::POLICY_PASSWORD, ""),
        trial(cc::POLICY_PHYSICAL_PRESENCE, ""),
        trial(cc::POLICY_COMMAND_CODE, "0000015e"),
        trial(cc::POLICY_COUNTER_TIMER, "(00000000) 0000 0007"),
        trial(cc::POLICY_LOCALITY, "01"),
        trial(cc::POLICY_OR, &format!("00000002 {ZEROS} {DIGEST}")),
        trial(cc::POLICY_PCR, "() 00000001 000b 03 ff0000"),
        trial(cc::POLICY_NV_WRITTEN, "01"),
        trial(cc::POLICY_CP_HASH, DIGEST),
        policy(cc::POLICY_OR, &format!("00000002 {ZEROS} {DIGEST}")),
        policy(cc::POLICY_COUNTER_TIMER, "(00000000) 0000 0007"),
        policy(cc::POLICY_NAME_HASH, DIGEST),
        policy(cc::POLICY_LOCALITY, "1f"),
        policy(cc::POLICY_PCR, &format!("{DIGEST} 00000001 000b 03 000001")),
        policy(cc::POLICY_AUTH_VALUE, ""),
        policy(cc::POLICY_GET_DIGEST, ""),
        policy(cc::POLICY_RESTART, ""),
        policy(cc::POLICY_TEMPLATE, DIGEST),
        policy(cc::POLICY_GET_DIGEST, ""),
    ]
}

fn policies_of_others() -> Vec<Vec<u8>> {
    let ticket = |tag, hierarchy| format!("{tag} {hierarchy} {DIGEST}");
    let signed = format!("() () (6162) 00000000 0018 000b {DIGEST} {DIGEST}");
    vec![
        step(cc::POLICY_SECRET, &[rh::OWNER, POLICY], 1, "() () (61) ffffffff"),
        step(cc::POLICY_SECRET, &[HMAC_KEY, TRIAL], 1, "() () () 00000010"),
        step(cc::POLICY_SIGNED, &[ECC, TRIAL], 0, &signed),
        step(cc::POLICY_SIGNED, &[ECC, POLICY], 0, &signed),
        step(
            cc::POLICY_TICKET,
            &[POLICY],
            0,
            &format!("(00000000ffffffff) () () (40000001) {}", ticket("8023", "40000001")),
        ),
        step(cc::POLICY_NV, &[rh::OWNER, index(0), POLICY], 1, "(0001) 0000 0000"),
        step(cc::POLICY_NV, &[index(1), index(1), TRIAL], 1, "(0000000000000001) 0000 0008"),
        step(
            cc::POLICY_AUTHORIZE,
            &[TRIAL],
            0,
            &format!("{ZEROS} () (000b{}) {}", &DIGEST[1..65], ticket("8022", "40000001")),
        ),
        step(
            cc::POLICY_AUTHORIZE,
            &[POLICY],
            0,
            &format!("{ZEROS} () (000b{}) {}", &DIGEST[1..65], ticket("8022", "40000001")),
        ),
        step(cc::POLICY_AUTHORIZE_NV, &[rh::OWNER, index(0), POLICY], 1, ""),
        step(cc::POLICY_AUTHORIZE_NV, &[rh::OWNER, index(0), TRIAL], 1, ""),
    ]
}

fn sessions() -> Vec<Vec<u8>> {
    let nonce = IV;
    vec![
        with(cc::STIR_RANDOM, &[], &[SESSIONS[4]], "(6d61736b6564)"),
        with(cc::GET_RANDOM, &[], &[SESSIONS[5]], "0009"),
        with(cc::UNSEAL, &[SEALED], &[SESSIONS[5]], ""),
        with(cc::CREATE, &[ECC_STORAGE], &[SESSIONS[9]], "(() (73)) (0008 000b 00000452 () 0010 ()) () 00000000"),
        with(cc::NV_READ, &[rh::OWNER, index(0)], &[PASSWORD, SESSIONS[5]], "0008 0000"),
        with(cc::NV_READ, &[rh::OWNER, index(0)], &[SESSIONS[3], SESSIONS[9], SESSIONS[12]], "0008 0000"),
        with(cc::HASH, &[], &[SESSIONS[7]], "(64617461) 000b 40000001"),
        step(cc::START_AUTH_SESSION, &[rh::NULL, SEALED], 0, &format!("{nonce} () 00 0010 000b")),
        step(cc::START_AUTH_SESSION, &[rh::NULL, rh::NULL], 0, &format!("{nonce} () 01 000a 000d 000d")),
        with(cc::UNSEAL, &[SEALED], &[SESSIONS[10]], ""),
    ]
}

fn contexts() -> Vec<Vec<u8>> {
    vec![
        step(cc::CONTEXT_SAVE, &[object(0)], 0, ""),
        step(cc::CONTEXT_SAVE, &[object(3)], 0, ""),
        step(cc::CONTEXT_SAVE, &[HMAC_SESSION], 0, ""),
        step(cc::CONTEXT_SAVE, &[POLICY], 0, ""),
        step(cc::CONTEXT_LOAD, &[], 0, &format!("0000000000000001 02000000 40000007 ({DIGEST} aabbccdd)")),
        step(cc::CONTEXT_LOAD, &[], 0, &format!("0000000000000001 80000000 40000001 ({DIGEST} aabbccdd)")),
        step(cc::FLUSH_CONTEXT, &[], 0, "02000000"),
        step(cc::GET_CAPABILITY, &[], 0, "00000001 02000000 000000ff"),
        step(cc::GET_CAPABILITY, &[], 0, "00000001 03000000 000000ff"),
    ]
}

fn lifecycle() -> Vec<Vec<u8>> {
    vec![
        step(cc::SELF_TEST, &[], 0, "01"),
        step(cc::INCREMENTAL_SELF_TEST, &[], 0, "00000002 000b 0001"),
        step(cc::GET_TEST_RESULT, &[], 0, ""),
        step(cc::STIR_RANDOM, &[], 0, "(73746972)"),
        vec![7],
        step(cc::GET_CAPABILITY, &[], 0, "00000000 00000001 000000ff"),
        step(cc::GET_CAPABILITY, &[], 0, "00000002 0000011f 000000ff"),
        step(cc::GET_CAPABILITY, &[], 0, "00000003 0000011f 000000ff"),
        step(cc::GET_CAPABILITY, &[], 0, "00000006 00000100 000000ff"),
        step(cc::GET_CAPABILITY, &[], 0, "00000008 00000000 000000ff"),
        step(cc::SHUTDOWN, &[], 0, "0001"),
        vec![0],
        step(cc::STARTUP, &[], 0, "0001"),
        vec![1],
        [&[2][..], &sized(b"launched")].concat(),
        vec![3],
        vec![7],
        step(cc::SHUTDOWN, &[], 0, "0000"),
        vec![0],
        step(cc::STARTUP, &[], 0, "0000"),
        step(cc::GET_RANDOM, &[], 0, "0020"),
    ]
}

/// Steps of `vtpm_state_file`.
fn state_files() {
    let store = |text: &[u8]| [&[0][..], &sized(text)].concat();
    let suspend = [&[1][..], &sized(b"permanent"), &sized(b"volatile")].concat();
    let open = vec![7];
    let history = [store(b"one"), store(b"two"), open.clone(), suspend, open.clone(), store(b"three"), open.clone()];
    for (name, damage) in [
        ("whole", vec![]),
        ("generation", vec![2, 0, 0, 35, 9]),
        ("length", vec![2, 1, 0, 156, 0xff]),
        ("kind_of_key", vec![2, 0, 0, 11, 3]),
        ("tag", vec![2, 1, 0, 160, 0]),
        ("rewritten", [&[3, 0, 0, 0][..], &sized(b"bullaNVR\0\x01")].concat()),
        ("slot_set_back", vec![4, 1]),
        ("cut", vec![5, 0, 20]),
        ("copied", vec![6]),
    ] {
        for anchored in [0, 1] {
            let steps = [history.concat(), damage.clone(), open.clone(), store(b"four"), open.clone()].concat();
            put("vtpm_state_file", &format!("{name}_{anchored}"), &[&[anchored][..], &steps].concat());
        }
    }
}

/// Steps of `swtpm_control`.
fn control() {
    let request = |number: u8, fields: &[u8]| [&[1, number][..], &sized(fields)].concat();
    let command = |code, params: &str| [&[4][..], &describe(code, &[], &[], params)].concat();
    let on = [request(2, &[0; 4]), command(cc::STARTUP, "0000")].concat();
    let get = |kind| request(0x0c, &[[0; 4], [0, 0, 0, kind], [0; 4]].concat());
    let runs: [(&str, Vec<Vec<u8>>); 8] = [
        ("power", vec![on.clone(), request(4, &[]), request(0x0f, &[]), request(0x0e, &[]), request(3, &[])]),
        (
            "questions",
            vec![
                request(1, &[]),
                request(0x11, &[0; 4]),
                request(0x12, &[[0, 0, 0, 0], [0, 0, 0, 7], [0; 4], [0; 4]].concat()),
            ],
        ),
        (
            "hashes",
            vec![
                request(2, &[0; 4]),
                request(6, &[]),
                [&[2, 0][..], &sized(b""), &sized(b"firmware")].concat(),
                request(8, &[]),
                command(cc::STARTUP, "0000"),
                request(4, &[]),
                request(0x0b, &[3]),
            ],
        ),
        (
            "localities",
            vec![
                on.clone(),
                request(5, &[3]),
                [&[5, 2][..], &describe(cc::GET_RANDOM, &[], &[], "0008")].concat(),
                [&[3][..], &sized(&[0x80, 1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, 1])].concat(),
                request(9, &[]),
            ],
        ),
        (
            "states",
            vec![on.clone(), get(1), get(2), get(3), get(4), request(0x0a, &[]), request(0x0e, &[]), on.clone()],
        ),
        ("moves", vec![on.clone(), vec![6], command(cc::GET_RANDOM, "0008"), vec![6]]),
        (
            "other_states",
            vec![
                [&[7, 1][..], &sized(&[])].concat(),
                [&[7, 2][..], &sized(&[])].concat(),
                request(2, &[0; 4]),
                command(cc::READ_CLOCK, ""),
                request(0x0e, &[]),
                [&[7, 1][..], &sized(&[0, 40, 1])].concat(),
                [&[7, 2][..], &sized(&[0, 40, 1])].concat(),
            ],
        ),
        ("as_they_are", vec![[&[0][..], &sized(&[0, 0, 0, 1])].concat(), [&[0][..], &sized(&[0, 0, 0, 99])].concat()]),
    ];
    for (name, steps) in runs {
        for kind in [0, 0x1d, 0x12] {
            put("swtpm_control", &format!("{name}_{kind:02x}"), &[&[kind][..], &steps.concat()].concat());
        }
    }
}
