//! Policies, and what they authorize. That their digests are the specification's is what `tests/swtpm.rs` compares.

use std::sync::atomic::Ordering;

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    Auth, AuthCommand, Digest, Handle, HashAlg, Nonce, ObjectAttributes as A, Public, Rc, SessionAttributes,
    StartupType, cc, command, hash, rc, response, rh,
};

use super::objects::{child, loaded, sealing_template, storage};
use super::sessions::start_plain;
use super::{code, code_at, powered_on, run, started, startup, unhex};
use crate::Tpm;

/// A policy command for a session, which has to succeed.
fn policy(tpm: &mut Tpm, code_of: u32, session: Handle, params: &str) {
    assert_eq!(code(tpm, &policy_command(code_of, session, params)), rc::SUCCESS);
}

fn policy_command(code: u32, session: Handle, params: &str) -> Vec<u8> {
    Builder::new(code, &[session]).params(|w| w.bytes(&unhex(params))).build()
}

/// The digest that a trial session comes to.
fn trial(tpm: &mut Tpm, steps: &[(u32, &str)]) -> Digest {
    let session = start_plain(tpm, 3);
    steps.iter().for_each(|(code, params)| policy(tpm, *code, session, params));
    let bytes = run(tpm, &Builder::new(cc::POLICY_GET_DIGEST, &[session]).build());
    let digest = response::parse_get_random(&bytes).expect("a digest");
    assert_eq!(code(tpm, &command::flush_context(session)), rc::SUCCESS);
    digest
}

/// Sealed data that only a policy opens, with the authValue "pw".
fn sealed(tpm: &mut Tpm, steps: &[(u32, &str)]) -> Handle {
    let auth_policy = trial(tpm, steps);
    let parent = storage(tpm, rh::OWNER).handle;
    let template = Public { attributes: A::from_bits(0x12), auth_policy, ..sealing_template() };
    let made = child(tpm, parent, b"pw", b"data", &template);
    let item = loaded(tpm, parent, &made);
    assert_eq!(code(tpm, &command::flush_context(parent)), rc::SUCCESS);
    item
}

/// Unseal with a session that is not keyed, so needs no HMAC; `hmac` is in its place.
fn unseal(item: Handle, session: Handle, hmac: &[u8]) -> Vec<u8> {
    let session = AuthCommand {
        handle: session,
        nonce: Nonce::new(&[1; 32]).expect("fits"),
        attributes: SessionAttributes::CONTINUE_SESSION,
        hmac: Auth::new(hmac).expect("fits"),
    };
    Builder::with_sessions(cc::UNSEAL, &[item], &[session]).build()
}

#[test]
fn a_policy_authorizes_once() {
    let mut tpm = started();
    let steps = [(cc::POLICY_COMMAND_CODE, "0000015e")];
    let item = sealed(&mut tpm, &steps);
    let session = start_plain(&mut tpm, 1);
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::POLICY_FAIL.session(1));
    policy(&mut tpm, cc::POLICY_COMMAND_CODE, session, "0000015e");
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::POLICY_FAIL.session(1));
    let trial = start_plain(&mut tpm, 3);
    policy(&mut tpm, cc::POLICY_COMMAND_CODE, trial, "0000015e");
    assert_eq!(code(&mut tpm, &unseal(item, trial, b"")), rc::ATTRIBUTES.session(1));
}

#[test]
fn password_and_auth_value_are_the_same_policy_met_in_two_ways() {
    let mut tpm = started();
    let item = sealed(&mut tpm, &[(cc::POLICY_PASSWORD, "")]);
    assert_eq!(trial(&mut tpm, &[(cc::POLICY_PASSWORD, "")]), trial(&mut tpm, &[(cc::POLICY_AUTH_VALUE, "")]));
    let session = start_plain(&mut tpm, 1);
    policy(&mut tpm, cc::POLICY_PASSWORD, session, "");
    // The object is DA-protected, so wrong ones count.
    assert_eq!(code(&mut tpm, &unseal(item, session, b"wrong")), rc::AUTH_FAIL.session(1));
    assert_eq!(code(&mut tpm, &unseal(item, session, b"pw")), rc::SUCCESS);
    policy(&mut tpm, cc::POLICY_AUTH_VALUE, session, "");
    assert_eq!(code(&mut tpm, &unseal(item, session, b"pw")), rc::AUTH_FAIL.session(1));
    assert_eq!(tpm.lockout.failed_tries(), 2);
}

#[test]
fn pcr_may_not_change_between_policy_and_use() {
    let mut tpm = started();
    let steps = [(cc::POLICY_PCR, "0000 00000001 000b 03 010000")];
    let item = sealed(&mut tpm, &steps);
    let session = start_plain(&mut tpm, 1);
    policy(&mut tpm, steps[0].0, session, steps[0].1);
    // A PCR that counts, though not the one of the policy.
    assert_eq!(code(&mut tpm, &command::pcr_extend(7, &hash::digest_banks(b"x"))), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::PCR_CHANGED);
    let again = policy_command(steps[0].0, session, steps[0].1);
    assert_eq!(code(&mut tpm, &again), rc::PCR_CHANGED);
    policy(&mut tpm, cc::POLICY_RESTART, session, "");
    policy(&mut tpm, steps[0].0, session, steps[0].1);
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::pcr_extend(0, &hash::digest_banks(b"x"))), rc::SUCCESS);
    policy(&mut tpm, steps[0].0, session, steps[0].1);
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::POLICY_FAIL.session(1));
}

#[test]
fn localities_and_commands_are_kept_to() {
    let mut tpm = started();
    let steps = [(cc::POLICY_LOCALITY, "06")];
    let item = sealed(&mut tpm, &steps);
    for (locality, want) in
        [(0, rc::LOCALITY), (1, rc::SUCCESS), (2, rc::SUCCESS), (3, rc::LOCALITY), (32, rc::LOCALITY)]
    {
        let session = start_plain(&mut tpm, 1);
        policy(&mut tpm, steps[0].0, session, steps[0].1);
        assert_eq!(code_at(&mut tpm, locality, &unseal(item, session, b"")), want, "locality {locality}");
        assert_eq!(code(&mut tpm, &command::flush_context(session)), rc::SUCCESS);
    }
    let cp_hash = hash::digest(HashAlg::Sha256, &[&cc::UNSEAL.to_be_bytes(), &[0; 34]]);
    let hex: String = cp_hash.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let params = format!("0020 {hex}");
    let steps = [(cc::POLICY_CP_HASH, params.as_str())];
    let item = sealed(&mut tpm, &steps);
    let session = start_plain(&mut tpm, 1);
    policy(&mut tpm, steps[0].0, session, steps[0].1);
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::POLICY_FAIL.session(1), "another object's Name");
}

/// PolicySecret with an expiration: the session ends then, and the ticket stands for the secret until then, but not
/// for another reference, and not after a loss of power.
#[test]
fn secrets_expire_and_leave_tickets() {
    let (mut tpm, platform) = powered_on();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    let secret = |session: Handle, params: &str| {
        Builder::with_empty_auth(cc::POLICY_SECRET, &[rh::OWNER, session], 1)
            .params(|w| w.bytes(&unhex(params)))
            .build()
    };
    let session = start_plain(&mut tpm, 1);
    // -10 seconds: a ticket is wanted.
    let bytes = run(&mut tpm, &secret(session, "0000 0000 0001 61 fffffff6"));
    let answer = response::parse(&bytes, false).expect("approved").params.to_vec();
    assert_eq!(answer[..2], [0, 8]);
    let (timeout, ticket) = (&answer[..10], &answer[10..]);
    let with_ticket = |policy_ref: &[u8], session: Handle| {
        Builder::new(cc::POLICY_TICKET, &[session])
            .params(|w| {
                w.bytes(timeout);
                w.tpm2b(&[]);
                w.tpm2b(policy_ref);
                w.tpm2b(&[0x40, 0, 0, 1]);
                w.bytes(ticket);
            })
            .build()
    };
    let other = start_plain(&mut tpm, 1);
    assert_eq!(code(&mut tpm, &with_ticket(b"b", other)), rc::TICKET.parameter(5));
    assert_eq!(code(&mut tpm, &with_ticket(b"a", other)), rc::SUCCESS);
    let digest = |tpm: &mut Tpm, session| {
        response::parse_get_random(&run(tpm, &Builder::new(cc::POLICY_GET_DIGEST, &[session]).build()))
            .expect("a digest")
    };
    assert_eq!(digest(&mut tpm, other), digest(&mut tpm, session));
    platform.now_ms.fetch_add(10_001, Ordering::Relaxed);
    assert_eq!(code(&mut tpm, &with_ticket(b"a", other)), rc::EXPIRED.parameter(1));
    let late: Rc = code(&mut tpm, &secret(session, "0000 0000 0000 00000001"));
    assert_eq!(late, rc::EXPIRED.parameter(4));
    // The power comes back, and with it the TPM's Time starts anew.
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    let session = start_plain(&mut tpm, 1);
    assert_eq!(code(&mut tpm, &with_ticket(b"a", session)), rc::TICKET.parameter(5));
}

#[test]
fn expired_sessions_authorize_nothing() {
    let (mut tpm, platform) = powered_on();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    let trial_session = start_plain(&mut tpm, 3);
    let secret = |session: Handle, params: &str| {
        Builder::with_empty_auth(cc::POLICY_SECRET, &[rh::OWNER, session], 1)
            .params(|w| w.bytes(&unhex(params)))
            .build()
    };
    assert_eq!(code(&mut tpm, &secret(trial_session, "0000 0000 0000 00000000")), rc::SUCCESS);
    let bytes = run(&mut tpm, &Builder::new(cc::POLICY_GET_DIGEST, &[trial_session]).build());
    let auth_policy = response::parse_get_random(&bytes).expect("a digest");
    let parent = storage(&mut tpm, rh::OWNER).handle;
    let template = Public { attributes: A::from_bits(0x12), auth_policy, ..sealing_template() };
    let made = child(&mut tpm, parent, b"pw", b"data", &template);
    let item = loaded(&mut tpm, parent, &made);
    let session = start_plain(&mut tpm, 1);
    assert_eq!(code(&mut tpm, &secret(session, "0000 0000 0000 0000000a")), rc::SUCCESS);
    platform.now_ms.fetch_add(9_000, Ordering::Relaxed);
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &secret(session, "0000 0000 0000 0000000a")), rc::SUCCESS);
    platform.now_ms.fetch_add(2_000, Ordering::Relaxed);
    assert_eq!(code(&mut tpm, &unseal(item, session, b"")), rc::EXPIRED.session(1));
}
