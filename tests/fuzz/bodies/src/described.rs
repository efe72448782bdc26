//! Commands described in few bytes, so that a mutation of one is again a command whose sizes are right.
//!
//! ```text
//! number of the command in CODES u8 · how many handles (bits 0 and 1) and sessions (bits 2 and 3) u8
//! number in HANDLES u8, for each handle · number in SESSIONS u8, for each session
//! parameters: pieces, each a byte and what it announces:
//!     0  the end of the innermost TPM2B, or of the command · 1 to 254  as many bytes · 255  the begin of a TPM2B
//! ```
//!
//! Numbers are taken modulo the length of their list, so every byte stands for something.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{AuthCommand, Handle, Nonce, SessionAttributes, cc, rh};

use crate::script::Script;

/// The TPM2B in a TPM2B in a TPM2B that any command has, and one more.
const MAX_DEPTH: usize = 4;
const END: u8 = 0;
const BEGIN: u8 = 255;

/// Every command there is, in the order of their codes.
#[rustfmt::skip]
pub const CODES: [u32; 113] = {
    use cc::*;
    [
        NV_UNDEFINE_SPACE_SPECIAL, EVICT_CONTROL, HIERARCHY_CONTROL, NV_UNDEFINE_SPACE, CHANGE_EPS, CHANGE_PPS, CLEAR,
        CLEAR_CONTROL, CLOCK_SET, HIERARCHY_CHANGE_AUTH, NV_DEFINE_SPACE, PCR_ALLOCATE, PCR_SET_AUTH_POLICY, PP_COMMANDS,
        SET_PRIMARY_POLICY, CLOCK_RATE_ADJUST, CREATE_PRIMARY, NV_GLOBAL_WRITE_LOCK, GET_COMMAND_AUDIT_DIGEST,
        NV_INCREMENT, NV_SET_BITS, NV_EXTEND, NV_WRITE, NV_WRITE_LOCK, DICTIONARY_ATTACK_LOCK_RESET,
        DICTIONARY_ATTACK_PARAMETERS, NV_CHANGE_AUTH, PCR_EVENT, PCR_RESET, SEQUENCE_COMPLETE, SET_ALGORITHM_SET,
        SET_COMMAND_CODE_AUDIT_STATUS, INCREMENTAL_SELF_TEST, SELF_TEST, STARTUP, SHUTDOWN, STIR_RANDOM,
        ACTIVATE_CREDENTIAL, CERTIFY, POLICY_NV, CERTIFY_CREATION, DUPLICATE, GET_TIME, GET_SESSION_AUDIT_DIGEST,
        NV_READ, NV_READ_LOCK, OBJECT_CHANGE_AUTH, POLICY_SECRET, REWRAP, CREATE, ECDH_ZGEN, HMAC, IMPORT, LOAD, QUOTE,
        RSA_DECRYPT, HMAC_START, SEQUENCE_UPDATE, SIGN, UNSEAL, POLICY_SIGNED, CONTEXT_LOAD, CONTEXT_SAVE, ECDH_KEY_GEN,
        ENCRYPT_DECRYPT, FLUSH_CONTEXT, LOAD_EXTERNAL, MAKE_CREDENTIAL, NV_READ_PUBLIC, POLICY_AUTHORIZE,
        POLICY_AUTH_VALUE, POLICY_COMMAND_CODE, POLICY_COUNTER_TIMER, POLICY_CP_HASH, POLICY_LOCALITY, POLICY_NAME_HASH,
        POLICY_OR, POLICY_TICKET, READ_PUBLIC, RSA_ENCRYPT, START_AUTH_SESSION, VERIFY_SIGNATURE, ECC_PARAMETERS,
        GET_CAPABILITY, GET_RANDOM, GET_TEST_RESULT, HASH, PCR_READ, POLICY_PCR, POLICY_RESTART, READ_CLOCK, PCR_EXTEND,
        PCR_SET_AUTH_VALUE, NV_CERTIFY, EVENT_SEQUENCE_COMPLETE, HASH_SEQUENCE_START, POLICY_PHYSICAL_PRESENCE,
        POLICY_DUPLICATION_SELECT, POLICY_GET_DIGEST, TEST_PARMS, COMMIT, POLICY_PASSWORD, ZGEN_2PHASE, EC_EPHEMERAL,
        POLICY_NV_WRITTEN, POLICY_TEMPLATE, CREATE_LOADED, POLICY_AUTHORIZE_NV, ENCRYPT_DECRYPT_2, CERTIFY_X509,
        ECC_ENCRYPT, ECC_DECRYPT, NO_COMMAND,
    ]
};

/// No command's code.
const NO_COMMAND: u32 = 0x0000_01ff;

/// Handles of all kinds: those that the prepared TPM has, and others.
#[rustfmt::skip]
pub const HANDLES: [Handle; 50] = [
    rh::OWNER, rh::ENDORSEMENT, rh::PLATFORM, rh::LOCKOUT, rh::NULL,
    Handle(0), Handle(10), Handle(16), Handle(20), Handle(23),
    Handle(0x0100_0000), Handle(0x0100_0001), Handle(0x0100_0002), Handle(0x0100_0003), Handle(0x0100_0004),
    Handle(0x0100_0005), Handle(0x0100_0006), Handle(0x0100_0007), Handle(0x0140_0000),
    Handle(0x0200_0000), Handle(0x0200_0001), Handle(0x0200_0002), Handle(0x0300_0000), Handle(0x0300_0001),
    Handle(0x0300_0002), Handle(0x0300_0003), Handle(0x0300_0004),
    Handle(0x8000_0000), Handle(0x8000_0001), Handle(0x8000_0002), Handle(0x8000_0003), Handle(0x8000_0004),
    Handle(0x8000_0005), Handle(0x8000_0006), Handle(0x8000_0007), Handle(0x8000_0008),
    Handle(0x8100_0000), Handle(0x8100_0001), Handle(0x8100_0002), Handle(0x8100_0003), Handle(0x8100_0004),
    Handle(0x8100_0005), Handle(0x8100_0006), Handle(0x8100_0007), Handle(0x8100_0008), Handle(0x8100_0009),
    Handle(0x8100_000a), Handle(0x8180_0000), Handle(0x8180_0001), Handle(0x1234_5678),
];

/// A session of a described command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Which.
    pub handle: Handle,
    /// TPMA_SESSION.
    pub attributes: u8,
    /// The password, or the HMAC: empty where there is no key for one.
    pub hmac: &'static [u8],
}

const fn session(handle: u32, attributes: u8) -> Session {
    Session { handle: Handle(handle), attributes, hmac: b"" }
}

/// The Empty Auth.
pub const PASSWORD: Session = session(rh::PW.0, 1);

/// Sessions of all kinds: continueSession 01, auditExclusive 02, auditReset 04, decrypt 20, encrypt 40, audit 80.
#[rustfmt::skip]
pub const SESSIONS: [Session; 16] = [
    PASSWORD, Session { hmac: b"a", ..PASSWORD }, Session { hmac: b"not it", ..PASSWORD },
    session(0x0200_0000, 0x01), session(0x0200_0000, 0x21), session(0x0200_0000, 0x41), session(0x0200_0000, 0x81),
    session(0x0200_0000, 0xe7), session(0x0200_0001, 0x01), session(0x0200_0001, 0x61), session(0x0200_0001, 0x00),
    session(0x0300_0002, 0x01), session(0x0300_0002, 0x61), session(0x0300_0002, 0x00), session(0x0300_0003, 0x01),
    session(0x0300_0004, 0x01),
];

fn of<T: Copy, const N: usize>(list: &[T; N], number: u8) -> T {
    list[usize::from(number) % N]
}

/// The next described command of a script, as it is sent.
pub(crate) fn read(script: &mut Script<'_>) -> Option<Vec<u8>> {
    let code = of(&CODES, script.byte()?);
    let counts = script.byte()?;
    let handles: Option<Vec<Handle>> = (0..counts & 3).map(|_| Some(of(&HANDLES, script.byte()?))).collect();
    let sessions: Option<Vec<Session>> = (0..counts >> 2 & 3).map(|_| Some(of(&SESSIONS, script.byte()?))).collect();
    let (handles, sessions) = (handles?, sessions?);
    let areas: Vec<AuthCommand> = sessions
        .iter()
        .map(|session| AuthCommand {
            handle: session.handle,
            nonce: if session.handle == rh::PW { Nonce::EMPTY } else { Nonce::new(&[7; 16]).expect("short") },
            attributes: SessionAttributes::from_bits(session.attributes),
            hmac: bulla_tpm_types::Auth::new(session.hmac).expect("short"),
        })
        .collect();
    let params = read_params(script);
    let builder =
        if areas.is_empty() { Builder::new(code, &handles) } else { Builder::with_sessions(code, &handles, &areas) };
    Some(builder.params(|w| w.bytes(&params)).build())
}

fn read_params(script: &mut Script<'_>) -> Vec<u8> {
    // What is inside a TPM2B is written behind room for its size.
    let mut params = Vec::new();
    let mut begun: Vec<usize> = Vec::new();
    let close = |params: &mut Vec<u8>, at: usize| {
        let size = u16::try_from(params.len() - at - 2).unwrap_or(u16::MAX);
        params[at..at + 2].copy_from_slice(&size.to_be_bytes());
    };
    while let Some(piece) = script.byte() {
        match piece {
            END => match begun.pop() {
                Some(at) => close(&mut params, at),
                None => break,
            },
            BEGIN if begun.len() < MAX_DEPTH => {
                begun.push(params.len());
                params.extend([0; 2]);
            }
            count => params.extend(script.up_to(count.into())),
        }
    }
    begun.into_iter().rev().for_each(|at| close(&mut params, at));
    params
}

/// Describes a command. `params` are hexadecimal digits, with a TPM2B, which has no size then, in parentheses; spaces are
/// for readers.
///
/// # Panics
/// When something is not in the lists, or `params` is not of that form: what is described stands in source code.
#[must_use]
pub fn describe(code: u32, handles: &[Handle], sessions: &[Session], params: &str) -> Vec<u8> {
    let number = |at: Option<usize>, what: &str| u8::try_from(at.unwrap_or_else(|| panic!("{what} is in no list")));
    let place = |at, what: &str| number(at, what).expect("short lists");
    let mut bytes = vec![place(CODES.iter().position(|c| *c == code), &format!("command {code:#x}"))];
    bytes.push(handles.len() as u8 | (sessions.len() as u8) << 2);
    for handle in handles {
        bytes.push(place(HANDLES.iter().position(|h| h == handle), &format!("{handle:?}")));
    }
    for session in sessions {
        bytes.push(place(SESSIONS.iter().position(|s| s == session), &format!("{session:?}")));
    }
    let mut literal = Vec::new();
    let mut high = None;
    let flush = |bytes: &mut Vec<u8>, literal: &mut Vec<u8>| {
        for part in literal.chunks(usize::from(BEGIN - 1)) {
            bytes.push(part.len() as u8);
            bytes.extend(part);
        }
        literal.clear();
    };
    for c in params.chars() {
        match (c, c.to_digit(16), high.take()) {
            (_, Some(low), Some(high)) => literal.push((high << 4 | low) as u8),
            (_, Some(digit), None) => high = Some(digit),
            (' ', None, None) => {}
            ('(', None, None) => {
                flush(&mut bytes, &mut literal);
                bytes.push(BEGIN);
            }
            (')', None, None) => {
                flush(&mut bytes, &mut literal);
                bytes.push(END);
            }
            _ => panic!("{c:?} in {params:?}"),
        }
    }
    flush(&mut bytes, &mut literal);
    bytes.push(END);
    bytes
}
