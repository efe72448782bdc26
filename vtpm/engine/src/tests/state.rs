//! What survives a loss of power, and what a suspended machine takes along.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bulla_tpm_types::{Handle, HashAlg, StartupType, cc, command, rc, response, rh, templates};
use proptest::prelude::*;

use super::pcrs::digests;
use super::{Platform, code, load, load_ak, pcr, powered_on, run, shutdown, started, startup, update_counter};
use crate::{StateError, Storage, StorageError, Tpm};

const PERSISTENT: Handle = Handle(0x8100_0001);

/// A storage that a test looks into and breaks.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<(Vec<Vec<u8>>, bool)>>);

impl Memory {
    fn stores(&self) -> usize {
        self.0.lock().expect("unpoisoned").0.len()
    }

    fn last(&self) -> Vec<u8> {
        self.0.lock().expect("unpoisoned").0.last().cloned().expect("something was stored")
    }

    fn set_broken(&self, broken: bool) {
        self.0.lock().expect("unpoisoned").1 = broken;
    }
}

impl Storage for Memory {
    fn store(&mut self, permanent: &[u8]) -> Result<(), StorageError> {
        let mut inner = self.0.lock().expect("unpoisoned");
        if inner.1 {
            return Err(StorageError);
        }
        inner.0.push(permanent.to_vec());
        Ok(())
    }
}

/// A started TPM with a storage that it has stored itself in.
fn stored() -> (Tpm, Platform, Memory) {
    let memory = Memory::default();
    let (mut tpm, platform) = powered_on();
    tpm.set_storage(Box::new(memory.clone()));
    startup(&mut tpm, StartupType::Clear).expect("startup");
    (tpm, platform, memory)
}

/// The same TPM in another process, switched on.
fn loaded(permanent: &[u8]) -> Tpm {
    let mut tpm = load_on(&Platform::default(), permanent).expect("a state");
    tpm.init();
    tpm
}

fn load_on(platform: &Platform, permanent: &[u8]) -> Result<Tpm, StateError> {
    Tpm::load(Box::new(platform.clone()), Box::new(platform.clone()), permanent)
}

fn clock(tpm: &mut Tpm) -> bulla_tpm_types::ClockInfo {
    response::parse_read_clock(&run(tpm, &command::read_clock())).expect("ReadClock").clock_info
}

fn evict(tpm: &mut Tpm, object: Handle, persistent: Handle) -> bulla_tpm_types::Rc {
    let cmd = command::Builder::with_empty_auth(cc::EVICT_CONTROL, &[rh::OWNER, object], 1);
    code(tpm, &cmd.params(|w| w.put(&persistent)).build())
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_promised() {
    let (mut tpm, _, memory) = stored();
    let primary = load(&mut tpm, rh::OWNER, &templates::ak_p256());
    assert_eq!(evict(&mut tpm, primary.handle, PERSISTENT), rc::SUCCESS);
    let name = run(&mut tpm, &command::read_public(PERSISTENT));
    let before = clock(&mut tpm);

    let mut again = loaded(&memory.last());
    startup(&mut again, StartupType::Clear).expect("startup");
    assert_eq!(run(&mut again, &command::read_public(PERSISTENT)), name);
    assert_eq!(load(&mut again, rh::OWNER, &templates::ak_p256()).name, primary.name);
    let after = clock(&mut again);
    assert_eq!((after.reset_count, after.safe), (before.reset_count + 1, false));
    assert!(after.clock >= before.clock);
}

#[test]
fn an_orderly_shutdown_is_told_from_a_loss_of_power() {
    for (kind, counts) in [(StartupType::Clear, (1, 1)), (StartupType::State, (1, 1))] {
        let (mut tpm, _, memory) = stored();
        assert_eq!(code(&mut tpm, &command::pcr_extend(5, &digests(&[1]))), rc::SUCCESS);
        let value = pcr(&mut tpm, HashAlg::Sha256, 5);
        shutdown(&mut tpm, kind);
        let mut again = loaded(&memory.last());
        startup(&mut again, kind).expect("startup");
        let c = clock(&mut again);
        assert!(c.safe, "{kind:?}");
        if kind == StartupType::State {
            assert_eq!((c.reset_count, c.restart_count), counts);
            assert_eq!(pcr(&mut again, HashAlg::Sha256, 5), value);
        } else {
            assert_eq!((c.reset_count, c.restart_count), (2, 0));
        }
        // The shutdown counts once: that startup has stored that it is over.
        let memory = Memory::default();
        let mut once = loaded(&memory_after_startup(&tpm, kind, &memory));
        assert!(startup(&mut once, StartupType::State).is_err());
        startup(&mut once, StartupType::Clear).expect("startup");
        assert!(!clock(&mut once).safe);
    }
}

/// What a TPM that was shut down has stored when its next startup answers.
fn memory_after_startup(tpm: &Tpm, kind: StartupType, memory: &Memory) -> Vec<u8> {
    let mut next = loaded(&tpm.permanent());
    next.set_storage(Box::new(memory.clone()));
    startup(&mut next, kind).expect("startup");
    memory.last()
}

#[test]
fn extending_pcr_stores_nothing_unless_a_shutdown_is_pending() {
    let (mut tpm, _, memory) = stored();
    let before = memory.stores();
    for _ in 0..10 {
        assert_eq!(code(&mut tpm, &command::pcr_extend(5, &digests(&[1]))), rc::SUCCESS);
    }
    assert_eq!(memory.stores(), before);
    shutdown(&mut tpm, StartupType::State);
    assert_eq!(memory.stores(), before + 1);
    for _ in 0..2 {
        assert_eq!(code(&mut tpm, &command::pcr_extend(5, &digests(&[1]))), rc::SUCCESS);
        assert_eq!(memory.stores(), before + 2);
    }
    let mut again = loaded(&memory.last());
    assert!(startup(&mut again, StartupType::State).is_err(), "the saved PCR are not those that were extended since");
}

#[test]
fn no_clock_was_ever_reported_larger_than_the_one_after_a_loss_of_power() {
    let (mut tpm, platform, memory) = stored();
    let before = memory.stores();
    for step in 1..=50u64 {
        platform.now_ms.store(step * 700, Ordering::Relaxed);
        let reported = clock(&mut tpm);
        let mut again = loaded(&memory.last());
        startup(&mut again, StartupType::Clear).expect("startup");
        assert!(clock(&mut again).clock >= reported.clock);
        assert!(!clock(&mut again).safe);
    }
    // 35 s are eight times 4096 ms.
    assert_eq!(memory.stores(), before + 8);
}

#[test]
fn what_cannot_be_stored_did_not_succeed() {
    let (mut tpm, _, memory) = stored();
    let primary = load_ak(&mut tpm, rh::OWNER);
    memory.set_broken(true);
    assert_eq!(evict(&mut tpm, primary.handle, PERSISTENT), rc::FAILURE);
    assert_eq!(code(&mut tpm, &command::get_random(8)), rc::FAILURE);
    // Power alone does not mend it.
    tpm.init();
    assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::FAILURE);
    memory.set_broken(false);
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    // As after a loss of power in the middle of it: the old or the new, and what is there is stored.
    let here = code(&mut tpm, &command::read_public(PERSISTENT));
    let mut again = loaded(&memory.last());
    startup(&mut again, StartupType::Clear).expect("startup");
    assert_eq!(code(&mut again, &command::read_public(PERSISTENT)), here);
}

#[test]
fn a_suspended_tpm_goes_on_where_it_was() {
    let (mut tpm, platform, _) = stored();
    let key = load_ak(&mut tpm, rh::OWNER);
    let sequence = response::parse_handle(&run(&mut tpm, &command::hash_sequence_start(Some(HashAlg::Sha256))));
    let sequence = sequence.expect("a sequence");
    assert_eq!(code(&mut tpm, &command::sequence_update(sequence, b"what do ya want ")), rc::SUCCESS);
    let session = super::sessions::start_plain(&mut tpm, 1);
    let policy = command::Builder::new(cc::POLICY_COMMAND_CODE, &[session]).params(|w| w.u32(cc::UNSEAL));
    assert_eq!(code(&mut tpm, &policy.build()), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::pcr_extend(17, &digests(&[1]))), rc::LOCALITY);
    assert_eq!(code(&mut tpm, &command::pcr_extend(16, &digests(&[1]))), rc::SUCCESS);
    platform.now_ms.store(1234, Ordering::Relaxed);
    let before = clock(&mut tpm);

    let (permanent, volatile) = (tpm.permanent(), tpm.volatile());
    let elsewhere = Platform::default();
    elsewhere.now_ms.store(9_000_000, Ordering::Relaxed);
    let mut again = load_on(&elsewhere, &permanent).expect("permanent");
    again.restore_volatile(&volatile).expect("volatile");
    assert_eq!(again.volatile(), volatile);
    assert_eq!(again.permanent(), permanent);

    assert_eq!(clock(&mut again), before);
    assert_eq!(pcr(&mut again, HashAlg::Sha256, 16), pcr(&mut tpm, HashAlg::Sha256, 16));
    assert_eq!(update_counter(&mut again), update_counter(&mut tpm));
    let get_digest = command::Builder::new(cc::POLICY_GET_DIGEST, &[session]).build();
    let complete = command::sequence_complete(sequence, b"for nothing?", rh::OWNER);
    for cmd in [command::read_public(key.handle), get_digest, complete] {
        assert_eq!(run(&mut again, &cmd), run(&mut tpm, &cmd));
    }
}

#[test]
fn volatile_state_goes_with_its_own_boot_only() {
    let (mut tpm, _, memory) = stored();
    let volatile = tpm.volatile();
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    let mut later = load_on(&Platform::default(), &memory.last()).expect("permanent");
    let error = later.restore_volatile(&volatile).expect_err("of an earlier boot");
    assert!(error.to_string().contains("boot that the state is of"), "{error}");
    assert_eq!(code(&mut later, &command::startup(StartupType::Clear)), rc::INITIALIZE);
    later.init();
    startup(&mut later, StartupType::Clear).expect("startup");
    let mut other = load_on(&Platform::default(), &started().permanent()).expect("permanent");
    assert!(other.restore_volatile(&memory.last()).is_err(), "permanent is not volatile");
}

#[test]
fn a_diverged_tpm_does_not_resume_and_shows_it() {
    let (mut tpm, _, memory) = stored();
    shutdown(&mut tpm, StartupType::State);
    let mut copy = load_on(&Platform::default(), &memory.last()).expect("permanent");
    copy.diverge(40);
    copy.init();
    assert!(startup(&mut copy, StartupType::State).is_err());
    startup(&mut copy, StartupType::Clear).expect("startup");
    let c = clock(&mut copy);
    assert_eq!((c.reset_count, c.restart_count, c.safe), (1 + 40 + 1, 0, false));
    let mut later = loaded(&copy.permanent());
    startup(&mut later, StartupType::Clear).expect("startup");
    assert!(!clock(&mut later).safe);
    let clear = command::Builder::with_empty_auth(cc::CLEAR, &[rh::LOCKOUT], 1).build();
    assert_eq!(code(&mut later, &clear), rc::SUCCESS);
    assert!(clock(&mut later).safe);
}

/// The frame of a state with these sections: tag, version, body.
fn frame(which: u8, sections: &[(u16, u8, &[u8])]) -> Vec<u8> {
    let mut state = [b"bullaTPM\0\x01", &[which][..]].concat();
    for (tag, version, body) in sections {
        state.extend(tag.to_be_bytes());
        state.push(*version);
        state.extend((body.len() as u32).to_be_bytes());
        state.extend(*body);
    }
    state
}

fn sections(state: &[u8]) -> Vec<(u16, u8, &[u8])> {
    let mut rest = &state[11..];
    let mut all = Vec::new();
    while let [t0, t1, version, l0, l1, l2, l3, tail @ ..] = rest {
        let (body, tail) = tail.split_at(u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize);
        all.push((u16::from_be_bytes([*t0, *t1]), *version, body));
        rest = tail;
    }
    all
}

#[test]
fn the_rule_of_compatibility_holds() {
    let tpm = started();
    let state = tpm.permanent();
    let known = sections(&state);
    assert_eq!(frame(1, &known), **state);
    let with = |tag, version, body: &'static [u8]| {
        let mut all = known.clone();
        all.push((tag, version, body));
        load_on(&Platform::default(), &frame(1, &all))
    };
    assert!(with(0xfff0, 9, b"whatever").is_ok(), "what may be left out");
    assert!(matches!(with(0x7ff0, 1, b"whatever"), Err(StateError::UnknownSection { tag: 0x7ff0, .. })));
    assert!(matches!(with(0x0001, 1, b""), Err(StateError::Order { tag: 1, .. })));
    assert!(matches!(load_on(&Platform::default(), &frame(2, &known)), Err(StateError::Header(_))));
    for n in 0..known.len() {
        let mut all = known.clone();
        all[n].1 += 100;
        let newer = load_on(&Platform::default(), &frame(1, &all));
        assert!(matches!(newer, Err(StateError::SectionVersion { .. })), "{newer:?}");
        all[n].1 -= 100;
        let longer = [all[n].2, &[0]].concat();
        all[n].2 = &longer;
        let long = load_on(&Platform::default(), &frame(1, &all));
        assert!(matches!(long, Err(StateError::Section { .. })), "{long:?}");
    }
    let mut newer = state.to_vec();
    newer[9] = 2;
    assert_eq!(load_on(&Platform::default(), &newer).err(), Some(StateError::Format(2)));
    for n in 0..6 {
        let mut all = known.clone();
        all.remove(n);
        let without = load_on(&Platform::default(), &frame(1, &all));
        assert!(matches!(without, Err(StateError::Missing(_))), "{without:?}");
    }
    assert_eq!(load_on(&Platform::default(), &vec![0; 1 << 20]).err(), Some(StateError::TooLong(1 << 20)));
}

/// A state with something in every section.
fn rich() -> (Vec<u8>, Vec<u8>) {
    let (mut tpm, _, _) = stored();
    let key = load_ak(&mut tpm, rh::OWNER);
    assert_eq!(evict(&mut tpm, key.handle, PERSISTENT), rc::SUCCESS);
    let sequence = run(&mut tpm, &command::hash_sequence_start(None));
    response::parse_handle(&sequence).expect("a sequence");
    let session = command::Builder::new(cc::START_AUTH_SESSION, &[rh::NULL, PERSISTENT]);
    let session = session.params(|w| w.bytes(&super::unhex("0010 07070707070707070707070707070707 0000 00 0010 000b")));
    response::parse(&run(&mut tpm, &session.build()), true).expect("a bound session");
    shutdown(&mut tpm, StartupType::State);
    (tpm.permanent().to_vec(), tpm.volatile().to_vec())
}

#[test]
fn a_state_that_ends_early_is_an_error_at_every_byte() {
    let (permanent, volatile) = rich();
    for n in 0..permanent.len() {
        assert!(load_on(&Platform::default(), &permanent[..n]).is_err(), "{n} bytes");
    }
    for n in 0..volatile.len() {
        let mut tpm = load_on(&Platform::default(), &permanent).expect("permanent");
        assert!(tpm.restore_volatile(&volatile[..n]).is_err(), "{n} bytes");
    }
}

proptest! {
    /// Whatever bytes are changed: an error or a TPM that starts.
    #[test]
    fn a_changed_state_is_an_error_or_a_tpm(
        which: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (mut permanent, mut volatile) = rich();
        let changed = if which { &mut permanent } else { &mut volatile };
        for (at, to) in changes {
            let at = at.index(changed.len());
            changed[at] = to;
        }
        if let Ok(mut tpm) = load_on(&Platform::default(), &permanent) {
            prop_assert_eq!(&*load_on(&Platform::default(), &tpm.permanent()).expect("its own").permanent(), &*tpm.permanent());
            if tpm.restore_volatile(&volatile).is_ok() {
                for cmd in [command::get_random(8), command::read_clock(), command::shutdown(StartupType::State)] {
                    run(&mut tpm, &cmd);
                }
            }
            tpm.init();
            run(&mut tpm, &command::startup(StartupType::Clear));
        }
    }
}
