//! The commands of a stock kernel's driver, byte for byte, to the program bulla-vtpm.

use std::path::Path;

use bulla_tpm_types::{response, rh};
use bulla_vtpm_client::{Locality, VtpmProcess};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-vtpm");
const COMMANDS: &str = include_str!("data/linux-7.2-crb.txt");

/// The first command comes before TPM2_Startup, which is how SeaBIOS looks for a TPM 2.0.
const BEFORE_STARTUP: response::ResponseError = response::ResponseError::Tpm(bulla_tpm_types::rc::INITIALIZE);

fn unhex(line: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
    line.as_bytes().chunks(2).map(|d| digit(d[0]) << 4 | digit(d[1])).collect()
}

#[test]
fn every_command_of_firmware_and_driver_succeeds() {
    let mut process = VtpmProcess::spawn(Path::new(PROGRAM)).unwrap();
    process.client().power_on().unwrap();
    let mut answered = 0;
    for line in COMMANDS.lines().filter(|l| !l.starts_with('#')) {
        let answer = process.client().command(Locality::ZERO, &unhex(line)).unwrap();
        let got = response::parse(&answer, false);
        if answered == 0 {
            assert_eq!(got.unwrap_err(), BEFORE_STARTUP);
        } else {
            assert!(got.is_ok(), "{line}: {got:?}");
        }
        answered += 1;
    }
    assert_eq!(answered, 30);
    // The firmware has given the platform hierarchy a random authValue, so nobody after it has it.
    let template = bulla_tpm_types::templates::ak_p256();
    let create = bulla_tpm_types::command::create_primary(rh::PLATFORM, &template);
    let refused = process.client().command(Locality::ZERO, &create).unwrap();
    let bad_auth = bulla_tpm_types::rc::BAD_AUTH.session(1);
    assert_eq!(response::parse(&refused, true).unwrap_err(), response::ResponseError::Tpm(bad_auth));
}
