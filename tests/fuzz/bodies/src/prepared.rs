//! A TPM in which there is something of everything: it takes some time to make, so it is made once and then restored.

use std::sync::OnceLock;

use bulla_tpm_types::command::{flush_context, startup};
use bulla_tpm_types::{Handle, StartupType, cc, rh};
use bulla_vtpm::engine::Tpm;

use crate::described::{self, PASSWORD, describe};
use crate::platform::Platform;
use crate::script::Script;

const PRIMARY: Handle = Handle(0x8000_0000);
const HMAC_KEY: Handle = Handle(0x8100_0006);
const ECC_STORAGE: Handle = Handle(0x8100_0002);

/// Public areas of primary keys, which become persistent from 0x81000000 on.
#[rustfmt::skip]
const PERSISTENT: [(&str, &str); 10] = [
    // RSA for storage; RSA that signs and decrypts. 1024 bits are quick.
    ("()", "0001 000b 00030472 () 0006 0080 0043 0010 0400 00000000 ()"),
    ("()", "0001 000b 00060472 () 0010 0010 0400 00000000 ()"),
    // P-256: for storage, for signatures and ECDH, restricted for attestation, for ECDAA.
    ("()", "0023 000b 00030472 () 0006 0080 0043 0010 0003 0010 () ()"),
    ("()", "0023 000b 00060472 () 0010 0010 0003 0010 () ()"),
    ("()", "0023 000b 00050472 () 0010 0018 000b 0003 0010 () ()"),
    ("()", "0023 000b 00040472 () 0010 001a 000b 0000 0003 0010 () ()"),
    // HMAC, AES, sealed data, a derivation parent.
    ("()", "0008 000b 00040472 () 0005 000b ()"),
    ("()", "0025 000b 00060472 () 0006 0080 0043 ()"),
    ("(736563726574)", "0008 000b 00000452 () 0010 ()"),
    ("()", "0008 000b 00030472 () 000a 000b 0022 ()"),
];

/// Attributes and sizes of NV Indexes from 0x01000000 on: ordinary, counter, bits, extend, PIN pass, PIN fail, an orderly
/// counter, one that a policy alone writes.
const INDEXES: [(&str, &str); 8] = [
    ("02060006", "0010"),
    ("02060016", "0008"),
    ("02060026", "0008"),
    ("02060046", "0020"),
    ("020e0092", "0008"),
    ("020e0082", "0008"),
    ("06060016", "0008"),
    ("020a000a", "0008"),
];

/// A TPM as [`PERSISTENT`] and [`INDEXES`] say, with sessions 0x02000000 (AES), 0x02000001 (XOR), 0x03000002 (policy) and
/// 0x03000003 (trial), and sequences 0x80000000 (hash), 0x80000001 (event) and 0x80000002 (HMAC), and sealed data
/// 0x80000003 that may be duplicated.
pub(crate) fn prepared(platform: &Platform) -> Tpm {
    let (permanent, volatile) = states();
    let mut tpm = platform.load(permanent).expect("a state of this release");
    tpm.restore_volatile(volatile).expect("a state of this release");
    tpm
}

/// A new TPM, powered off, the same one each time.
#[must_use]
pub fn new() -> Tpm {
    Platform::patient().manufacture()
}

/// The permanent and the volatile state of the TPM that has something of everything.
#[must_use]
pub fn states() -> (&'static [u8], &'static [u8]) {
    static STATES: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let (permanent, volatile) = STATES.get_or_init(|| {
        let tpm = make();
        (tpm.permanent().to_vec(), tpm.volatile().to_vec())
    });
    (permanent, volatile)
}

/// Commands that use what [`prepared`] has: each kind of object, Index, session and sequence.
pub(crate) fn uses() -> &'static [Vec<u8>] {
    static USES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    USES.get_or_init(|| {
        let digest = "(5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a)";
        let (key, index, object) =
            (|n: u32| Handle(0x8100_0000 + n), |n: u32| Handle(0x0100_0000 + n), |n: u32| Handle(0x8000_0000 + n));
        let sign = format!("{digest} 0010 8024 40000007 ()");
        let mut all = vec![
            command(cc::SIGN, &[key(1)], 1, &format!("{digest} 0014 000b 8024 40000007 ()")),
            command(cc::SIGN, &[key(3)], 1, &format!("{digest} 0018 000b 8024 40000007 ()")),
            command(cc::SIGN, &[key(6)], 1, &sign),
            command(cc::QUOTE, &[key(4)], 1, "() 0010 00000001 000b 03 ffffff"),
            command(cc::COMMIT, &[key(5)], 1, "() () ()"),
            command(cc::ENCRYPT_DECRYPT, &[key(7)], 1, "00 0043 (000102030405060708090a0b0c0d0e0f) (6162)"),
            command(cc::UNSEAL, &[key(8)], 1, ""),
            command(cc::CREATE_LOADED, &[key(9)], 1, "(() (6c6162656c)) (0008 000b 00040452 () 0005 000b () ())"),
            command(cc::CREATE, &[key(0)], 1, "(() (73)) (0008 000b 00000452 () 0010 ()) () 00000000"),
            command(cc::CREATE, &[key(2)], 1, "(() (73)) (0008 000b 00000452 () 0010 ()) () 00000000"),
            command(cc::NV_EXTEND, &[rh::OWNER, index(3)], 1, "(6162)"),
            command(cc::NV_INCREMENT, &[index(6), index(6)], 1, ""),
            command(cc::POLICY_PCR, &[Handle(0x0300_0002)], 0, "() 00000001 000b 03 ff0000"),
            command(cc::POLICY_GET_DIGEST, &[Handle(0x0300_0003)], 0, ""),
            command(cc::SEQUENCE_UPDATE, &[object(0)], 1, "(6162)"),
            command(cc::SEQUENCE_COMPLETE, &[object(2)], 1, "(6162) 40000007"),
            command(cc::EVENT_SEQUENCE_COMPLETE, &[Handle(16), object(1)], 2, "(6162)"),
            command(cc::CONTEXT_SAVE, &[object(3)], 0, ""),
            command(cc::CONTEXT_SAVE, &[Handle(0x0200_0001)], 0, ""),
            command(cc::READ_CLOCK, &[], 0, ""),
        ];
        all.extend((0..8).map(|n| command(cc::NV_READ, &[index(n), index(n)], 1, "0008 0000")));
        all
    })
}

/// A command with the Empty Auth for its first `auths` handles; its parameters are written as in [`describe`].
fn command(code: u32, handles: &[Handle], auths: usize, params: &str) -> Vec<u8> {
    let bytes = describe(code, handles, &[PASSWORD; 3][..auths], params);
    described::read(&mut Script::new(&bytes)).expect("whole")
}

fn make() -> Tpm {
    let mut tpm = new();
    tpm.init();
    let mut run = |command: &[u8]| {
        let response = tpm.execute(0, command);
        assert!(response.get(6..10) == Some(&[0; 4]), "{command:02x?}: {response:02x?}");
    };
    run(&startup(StartupType::Clear));
    for (number, (data, public)) in PERSISTENT.iter().enumerate() {
        let params = format!("(() {data}) ({public}) () 00000000");
        run(&command(cc::CREATE_PRIMARY, &[rh::OWNER], 1, &params));
        run(&command(cc::EVICT_CONTROL, &[rh::OWNER, PRIMARY], 1, &format!("{:08x}", 0x8100_0000 + number)));
        run(&flush_context(PRIMARY));
    }
    for (number, (attributes, size)) in INDEXES.iter().enumerate() {
        let public = format!("{:08x} 000b {attributes} () {size}", 0x0100_0000 + number);
        run(&command(cc::NV_DEFINE_SPACE, &[rh::OWNER], 1, &format!("() ({public})")));
    }
    let index = |number: u32| Handle(0x0100_0000 + number);
    run(&command(cc::NV_WRITE, &[rh::OWNER, index(0)], 1, "(000102030405060708090a0b0c0d0e0f) 0000"));
    run(&command(cc::NV_INCREMENT, &[index(1), index(1)], 1, ""));
    run(&command(cc::NV_SET_BITS, &[rh::OWNER, index(2)], 1, "8000000000000001"));
    run(&command(cc::NV_EXTEND, &[rh::OWNER, index(3)], 1, "(6162)"));
    for pin in [4, 5] {
        run(&command(cc::NV_WRITE, &[rh::OWNER, index(pin)], 1, "(0000000000000005) 0000"));
    }
    run(&command(cc::NV_INCREMENT, &[index(6), index(6)], 1, ""));
    let nonce = "(000102030405060708090a0b0c0d0e0f)";
    for kind in ["00 0006 0080 0043 000b", "00 000a 000b 000b", "01 0006 0080 0043 000b", "03 0010 000b"] {
        run(&command(cc::START_AUTH_SESSION, &[rh::NULL, rh::NULL], 0, &format!("{nonce} () {kind}")));
    }
    run(&command(cc::HASH_SEQUENCE_START, &[], 0, "() 000b"));
    run(&command(cc::HASH_SEQUENCE_START, &[], 0, "() 0010"));
    run(&command(cc::HMAC_START, &[HMAC_KEY], 1, "() 000b"));
    run(&command(cc::CREATE_LOADED, &[ECC_STORAGE], 1, "(() (64617461)) (0008 000b 00000440 () 0010 ())"));
    tpm
}
