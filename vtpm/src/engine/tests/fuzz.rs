//! Any bytes at all: the TPM lives on, and every response is well formed.

use bulla_tpm_types::command::{self, Builder};
use bulla_tpm_types::{Handle, HashAlg, PcrSelection, PcrSelectionList, StartupType, cc, hash, rc, rh, st, templates};
use proptest::prelude::*;

use super::{code, load_ak, run, started};
use crate::engine::table::{COMMANDS, find};
use crate::engine::{MAX_RESPONSE_SIZE, Tpm};

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

fn valid_commands() -> Vec<Vec<u8>> {
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
}

#[test]
fn the_valid_commands_cover_the_table() {
    let codes: Vec<_> = valid_commands().iter().map(|c| u32::from_be_bytes([c[6], c[7], c[8], c[9]])).collect();
    assert!(COMMANDS.iter().all(|c| codes.contains(&c.code)));
    assert!(COMMANDS.is_sorted_by(|a, b| a.code < b.code) && COMMANDS.iter().all(|c| find(c.code).is_some()));
}

/// A TPM with a key and an event sequence loaded.
fn prepared() -> Tpm {
    let mut tpm = started();
    load_ak(&mut tpm, rh::OWNER);
    run(&mut tpm, &command::hash_sequence_start(None));
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
        let spec = which.get(&COMMANDS);
        let handles: Vec<_> = spec.handles.iter().map(|_| Handle(0x8000_0000)).collect();
        let builder = if sessions {
            Builder::with_empty_auth(spec.code, &handles, handles.len())
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
