//! _TPM_Init, Startup, Shutdown, self tests, failure mode, time.

use std::sync::atomic::Ordering;

use bulla_tpm_types::{AlgId, HashAlg, Marshal, StartupType, alg, cap, cc, command, pt, rc, response};

use super::pcrs::INITIAL_COUNT;
use super::{Platform, code, code_at, pcr, powered_on, run, shutdown, started, startup, update_counter};
use crate::Tpm;

#[test]
fn before_power_and_before_startup_only_startup_is_heard() {
    let platform = Platform::default();
    let mut tpm = Tpm::manufacture(Box::new(platform.clone()), Box::new(platform));
    assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::INITIALIZE);
    tpm.init();
    assert_eq!(code(&mut tpm, &command::get_random(1)), rc::INITIALIZE);
    assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::INITIALIZE);
    assert_eq!(code(&mut tpm, &command::get_random(1)), rc::SUCCESS);
}

#[test]
fn startup_comes_from_locality_0_or_3() {
    for locality in [1, 2, 4, 32] {
        let (mut tpm, _) = powered_on();
        assert_eq!(code_at(&mut tpm, locality, &command::startup(StartupType::Clear)), rc::LOCALITY);
    }
    let (mut tpm, _) = powered_on();
    assert_eq!(code_at(&mut tpm, 3, &command::startup(StartupType::Clear)), rc::SUCCESS);
    let mut want = vec![0; 32];
    want[31] = 3;
    assert_eq!(pcr(&mut tpm, HashAlg::Sha256, 0), want);
}

#[test]
fn a_wrong_startup_type_is_a_wrong_first_parameter() {
    let (mut tpm, _) = powered_on();
    assert_eq!(code(&mut tpm, &command::simple(cc::STARTUP, &AlgId(2))), rc::VALUE.parameter(1));
    assert_eq!(startup(&mut tpm, StartupType::State), Err(response::ResponseError::Tpm(rc::VALUE.parameter(1))));
    startup(&mut tpm, StartupType::Clear).expect("a refused startup changes nothing");
    shutdown(&mut tpm, StartupType::Clear);
    tpm.init();
    assert_eq!(startup(&mut tpm, StartupType::State), Err(response::ResponseError::Tpm(rc::VALUE.parameter(1))));
}

#[test]
fn resume_brings_back_the_static_pcr_and_resets_the_others() {
    let mut tpm = started();
    let ones = super::pcrs::digests(&[0x11; 4]);
    for n in [5, 16, 23] {
        assert_eq!(code(&mut tpm, &command::pcr_extend(n, &ones)), rc::SUCCESS);
    }
    let five = pcr(&mut tpm, HashAlg::Sha384, 5);
    let counter = update_counter(&mut tpm);
    shutdown(&mut tpm, StartupType::State);
    tpm.init();
    startup(&mut tpm, StartupType::State).expect("resume");
    assert_eq!(pcr(&mut tpm, HashAlg::Sha384, 5), five);
    assert_eq!(pcr(&mut tpm, HashAlg::Sha384, 16), [0; 48]);
    assert_eq!(pcr(&mut tpm, HashAlg::Sha384, 17), [0xff; 48]);
    assert_eq!(update_counter(&mut tpm), counter + 4, "PCR 17 to 20 got their initial values");
    let clock = response::parse_read_clock(&run(&mut tpm, &command::read_clock())).expect("clock").clock_info;
    assert_eq!((clock.reset_count, clock.restart_count, clock.safe), (1, 1, true));
}

#[test]
fn restart_clears_the_pcr_but_goes_on_counting() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &command::pcr_extend(5, &super::pcrs::digests(&[1]))), rc::SUCCESS);
    let counter = update_counter(&mut tpm);
    shutdown(&mut tpm, StartupType::State);
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("restart");
    assert_eq!(pcr(&mut tpm, HashAlg::Sha1, 5), [0; 20]);
    assert_eq!(update_counter(&mut tpm), counter + INITIAL_COUNT);
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("reset");
    assert_eq!(update_counter(&mut tpm), INITIAL_COUNT);
    let clock = response::parse_read_clock(&run(&mut tpm, &command::read_clock())).expect("clock").clock_info;
    assert_eq!((clock.reset_count, clock.restart_count, clock.safe), (2, 0, false));
}

/// A change of saved state after TPM2_Shutdown makes the shutdown void.
#[test]
fn an_extend_after_shutdown_undoes_it() {
    let mut tpm = started();
    shutdown(&mut tpm, StartupType::State);
    assert_eq!(code(&mut tpm, &command::pcr_extend(1, &super::pcrs::digests(&[1]))), rc::SUCCESS);
    tpm.init();
    assert!(startup(&mut tpm, StartupType::State).is_err());
}

/// Resuming under another root of trust than the state was saved under would vouch for code that did not run.
#[test]
fn resume_needs_the_same_root_of_trust() {
    let mut tpm = started();
    shutdown(&mut tpm, StartupType::State);
    tpm.init();
    tpm.hash_start();
    tpm.hash_data(b"firmware");
    tpm.hash_end();
    assert!(startup(&mut tpm, StartupType::State).is_err());
    startup(&mut tpm, StartupType::Clear).expect("restart");
}

#[test]
fn time_starts_anew_and_clock_goes_on() {
    let (mut tpm, platform) = powered_on();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    platform.now_ms.store(5_000, Ordering::Relaxed);
    let read = |tpm: &mut Tpm| response::parse_read_clock(&run(tpm, &command::read_clock())).expect("ReadClock");
    let before = read(&mut tpm);
    assert_eq!((before.time, before.clock_info.clock, before.clock_info.safe), (5_000, 5_000, true));
    shutdown(&mut tpm, StartupType::Clear);
    platform.now_ms.store(6_000, Ordering::Relaxed);
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    let after = read(&mut tpm);
    assert_eq!((after.time, after.clock_info.clock, after.clock_info.safe), (0, 6_000, true));
}

#[test]
fn self_tests_are_counted_down() {
    let mut tpm = started();
    let todo = |tpm: &mut Tpm, algs: &[AlgId]| {
        let mut params = (algs.len() as u32).to_be_bytes().to_vec();
        algs.iter().for_each(|a| params.extend(a.to_vec()));
        let cmd = command::Builder::new(cc::INCREMENTAL_SELF_TEST, &[]).params(|w| w.bytes(&params)).build();
        let bytes = run(tpm, &cmd);
        response::parse(&bytes, false).expect("success").params.to_vec()
    };
    // The hashes of the banks were tested at startup.
    assert_eq!(todo(&mut tpm, &[]), super::unhex("00000005 0001 0005 0006 000d 0018"));
    assert_eq!(todo(&mut tpm, &[alg::SHA512, alg::XOR]), super::unhex("00000004 0001 0005 0006 0018"));
    let result = |tpm: &mut Tpm| {
        let bytes = run(tpm, &command::get_test_result());
        response::parse(&bytes, false).expect("success").params.to_vec()
    };
    // Who asks for the result has the rest tested.
    assert_eq!(result(&mut tpm), super::unhex("0000 00000000"));
    assert_eq!(todo(&mut tpm, &[]), super::unhex("00000000"));
    assert_eq!(code(&mut tpm, &command::self_test(true)), rc::SUCCESS);
    assert_eq!(result(&mut tpm), super::unhex("0000 00000000"));
}

#[test]
fn without_entropy_the_tpm_is_in_failure_mode() {
    let platform = Platform::default();
    platform.broken.store(true, Ordering::Relaxed);
    let mut tpm = Tpm::manufacture(Box::new(platform.clone()), Box::new(platform.clone()));
    tpm.init();
    assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::FAILURE);
    assert_eq!(code(&mut tpm, &command::get_random(8)), rc::FAILURE);
    let result = run(&mut tpm, &command::get_test_result());
    assert_eq!(response::parse(&result, false).expect("allowed").params, super::unhex("0000 00000101"));
    let properties = command::get_capability(cap::TPM_PROPERTIES, pt::MANUFACTURER, 1);
    let (_, list) = response::parse_capability_properties(&run(&mut tpm, &properties)).expect("allowed");
    assert_eq!(list, [(pt::MANUFACTURER, u32::from_be_bytes(*b"BULA"))]);
    assert_eq!(code(&mut tpm, &command::get_capability_pcrs()), rc::FAILURE);
    // It was born without seeds, so power alone does not mend it.
    platform.broken.store(false, Ordering::Relaxed);
    tpm.init();
    assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::FAILURE);
    assert!(tpm.hash_end().is_empty());
}

#[test]
fn entropy_that_comes_back_ends_failure_mode_at_the_next_power_on() {
    let (mut tpm, platform) = powered_on();
    platform.broken.store(true, Ordering::Relaxed);
    tpm.init();
    assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::FAILURE);
    platform.broken.store(false, Ordering::Relaxed);
    tpm.init();
    assert_eq!(code(&mut tpm, &command::startup(StartupType::Clear)), rc::SUCCESS);
}
