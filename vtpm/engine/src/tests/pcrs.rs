//! PCR: extending, resetting, localities, roots of trust, selections.

use bulla_tpm_types::{
    DigestValues, Ha, Handle, HashAlg, PcrSelection, PcrSelectionList, StartupType, command, hash, rc, response, rh,
};

use super::{code, code_at, pcr, powered_on, run, started, startup, update_counter};

/// pcrUpdateCounter after Startup(CLEAR): all PCR but 16 and 21 to 23, which are not counted.
pub(super) const INITIAL_COUNT: u32 = 20;

/// Digests of `data` in each bank.
pub(super) fn digests(data: &[u8]) -> DigestValues {
    hash::digest_banks(data)
}

fn extended(alg: HashAlg, old: &[u8], data: &[u8]) -> Vec<u8> {
    let digest = hash::digest(alg, &[data]);
    hash::digest(alg, &[old, digest.as_bytes()]).as_bytes().to_vec()
}

#[test]
fn extending_hashes_old_and_new_in_each_bank() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &command::pcr_extend(4, &digests(b"kernel"))), rc::SUCCESS);
    for alg in HashAlg::BANKS {
        assert_eq!(pcr(&mut tpm, alg, 4), extended(alg, &vec![0; alg.size()], b"kernel"));
        assert_eq!(pcr(&mut tpm, alg, 5), vec![0; alg.size()]);
    }
}

#[test]
fn banks_without_a_digest_keep_their_value_and_unknown_banks_are_ignored() {
    let mut tpm = started();
    let some = [hash::digest(HashAlg::Sha512, &[b"x"]), hash::digest(HashAlg::Sha256, &[b"x"])];
    let some = DigestValues::from_slice(&some).expect("two");
    assert_eq!(code(&mut tpm, &command::pcr_extend(4, &some)), rc::SUCCESS);
    assert_eq!(pcr(&mut tpm, HashAlg::Sha1, 4), [0; 20]);
    assert_eq!(pcr(&mut tpm, HashAlg::Sha256, 4), extended(HashAlg::Sha256, &[0; 32], b"x"));
}

#[test]
fn an_event_is_hashed_for_each_bank() {
    let mut tpm = started();
    let values = response::parse_digest_values(&run(&mut tpm, &command::pcr_event(7, b"event"))).expect("digests");
    assert_eq!(values, digests(b"event"));
    assert_eq!(pcr(&mut tpm, HashAlg::Sha384, 7), extended(HashAlg::Sha384, &[0; 48], b"event"));
    assert_eq!(code(&mut tpm, &command::pcr_event(7, &[0; 1024])), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::pcr_event(7, &[0; 1025])), rc::SIZE.parameter(1));
}

#[test]
fn extending_the_null_handle_changes_nothing() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &command::pcr_extend(rh::NULL.0, &digests(b"x"))), rc::SUCCESS);
    assert_eq!(update_counter(&mut tpm), INITIAL_COUNT);
    let values = response::parse_digest_values(&run(&mut tpm, &command::pcr_event(rh::NULL.0, b"x")));
    assert_eq!(values, Ok(digests(b"x")));
}

/// PTP 1.05, table "PCR attributes": for each PCR, the localities that may extend and that may reset it.
#[test]
fn localities_may_what_the_profile_says() {
    let table = |pcr: u32| -> (&[u8], &[u8]) {
        match pcr {
            0..=15 => (&[0, 1, 2, 3, 4], &[]),
            16 | 23 => (&[0, 1, 2, 3, 4], &[0, 1, 2, 3]),
            17 | 18 => (&[2, 3, 4], &[4]),
            19 => (&[2, 3], &[4]),
            20 => (&[1, 2, 3], &[2, 4]),
            _ => (&[2], &[2, 4]),
        }
    };
    let mut tpm = started();
    for n in 0..24 {
        for locality in [0, 1, 2, 3, 4, 5, 31, 32, 255] {
            let want = |allowed: &[u8]| if allowed.contains(&locality) { rc::SUCCESS } else { rc::LOCALITY };
            let (extend, reset) = table(n);
            let got = code_at(&mut tpm, locality, &command::pcr_extend(n, &digests(b"x")));
            assert_eq!(got, want(extend), "extending {n} at {locality}");
            let got = code_at(&mut tpm, locality, &command::pcr_event(n, b"x"));
            assert_eq!(got, want(extend), "event in {n} at {locality}");
            let got = code_at(&mut tpm, locality, &command::pcr_reset(n));
            assert_eq!(got, want(reset), "resetting {n} at {locality}");
        }
    }
}

#[test]
fn a_reset_pcr_is_zero() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &command::pcr_extend(16, &digests(b"x"))), rc::SUCCESS);
    assert_ne!(pcr(&mut tpm, HashAlg::Sha1, 16), [0; 20]);
    assert_eq!(code(&mut tpm, &command::pcr_reset(16)), rc::SUCCESS);
    assert_eq!(pcr(&mut tpm, HashAlg::Sha1, 16), [0; 20]);
    assert_eq!(update_counter(&mut tpm), INITIAL_COUNT, "PCR 16 is not counted");
    assert_eq!(code(&mut tpm, &command::pcr_extend(0, &digests(b"x"))), rc::SUCCESS);
    assert_eq!(update_counter(&mut tpm), INITIAL_COUNT + 3, "one for each bank");
}

#[test]
fn initial_values_are_zero_and_ones_for_the_dynamic_pcr() {
    let mut tpm = started();
    for n in 0..24 {
        let want = if (17..=22).contains(&n) { [0xff; 32] } else { [0; 32] };
        assert_eq!(pcr(&mut tpm, HashAlg::Sha256, n), want, "PCR {n}");
    }
}

/// Part 3, 22.9 to 22.11: PCR 0 starts from 0…04 and is extended with the digest of the data.
#[test]
fn an_h_crtm_gives_pcr_0_its_first_value() {
    let (mut tpm, _) = powered_on();
    tpm.hash_start();
    tpm.hash_data(b"firm");
    tpm.hash_data(b"ware");
    assert_eq!(tpm.hash_end(), digests(b"firmware"));
    startup(&mut tpm, StartupType::Clear).expect("startup");
    for alg in HashAlg::BANKS {
        let mut start = Ha::zero(alg);
        *start.as_bytes_mut().last_mut().expect("octets") = 4;
        assert_eq!(pcr(&mut tpm, alg, 0), extended(alg, start.as_bytes(), b"firmware"));
    }
    // The next power cycle has no trace of it.
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    assert_eq!(pcr(&mut tpm, HashAlg::Sha1, 0), [0; 20]);
}

#[test]
fn a_d_rtm_resets_the_dynamic_pcr_and_extends_pcr_17() {
    let mut tpm = started();
    let zero = pcr(&mut tpm, HashAlg::Sha256, 0);
    tpm.hash_start();
    tpm.hash_data(b"monitor");
    tpm.hash_end();
    assert_eq!(pcr(&mut tpm, HashAlg::Sha256, 17), extended(HashAlg::Sha256, &[0; 32], b"monitor"));
    for n in 18..=22 {
        assert_eq!(pcr(&mut tpm, HashAlg::Sha256, n), [0; 32]);
    }
    assert_eq!(pcr(&mut tpm, HashAlg::Sha256, 0), zero);
}

#[test]
fn hash_signals_out_of_place_do_nothing() {
    let (mut tpm, _) = powered_on();
    tpm.hash_data(b"x");
    assert!(tpm.hash_end().is_empty());
    startup(&mut tpm, StartupType::Clear).expect("startup");
    assert_eq!(pcr(&mut tpm, HashAlg::Sha1, 0), [0; 20]);
}

/// Software that gets a command in between cannot have a startup count as one with an H-CRTM, whose PCR 0 then
/// would be anything it likes.
#[test]
fn a_command_ends_an_unfinished_hash_sequence() {
    let (mut tpm, _) = powered_on();
    tpm.hash_start();
    tpm.hash_data(b"x");
    assert_eq!(code_at(&mut tpm, 3, &command::startup(StartupType::Clear)), rc::SUCCESS);
    assert!(tpm.hash_end().is_empty());
    let mut want = [0; 20];
    want[19] = 3;
    assert_eq!(pcr(&mut tpm, HashAlg::Sha1, 0), want);
    assert_eq!(pcr(&mut tpm, HashAlg::Sha1, 17), [0xff; 20]);
}

#[test]
fn reading_answers_eight_pcr_and_which() {
    let mut tpm = started();
    let all = PcrSelectionList::from_slice(&[
        PcrSelection::new(HashAlg::Sha512, &[1]),
        PcrSelection::new(HashAlg::Sha1, &[22, 23]),
        PcrSelection { alg: HashAlg::Sha256, select: [0xff; 3] },
    ])
    .expect("three");
    let read = response::parse_pcr_read(&run(&mut tpm, &command::pcr_read(&all))).expect("PCR_Read");
    let want = PcrSelectionList::from_slice(&[
        PcrSelection::new(HashAlg::Sha512, &[]),
        PcrSelection::new(HashAlg::Sha1, &[22, 23]),
        PcrSelection::new(HashAlg::Sha256, &[0, 1, 2, 3, 4, 5]),
    ]);
    assert_eq!((Some(read.selection), read.values.len()), (want, 8));
    assert_eq!((&read.values[0][..], &read.values[1][..]), (&[0xff; 20][..], &[0; 20][..]));
}

#[test]
fn pcr_handles_end_at_23() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &command::pcr_extend(24, &digests(b"x"))), rc::VALUE.handle(1));
    assert_eq!(code(&mut tpm, &command::pcr_reset(rh::NULL.0)), rc::VALUE.handle(1));
    assert_eq!(code(&mut tpm, &command::pcr_reset(Handle(0x8000_0000).0)), rc::VALUE.handle(1));
}
