//! What a monitor and its guest's firmware do with a vTPM, from power to quote, through the real process.

use std::path::Path;

use bulla_tpm_types::hash::{digest_banks, extend};
use bulla_tpm_types::{
    Attested, DigestValues, EccParameter, Ha, HashAlg, List, PcrSelection, PcrSelectionList, Public, PublicKind,
    Signature, SignatureValue, StartupType, Unmarshal as _, command, response, rh, templates,
};
use bulla_vtpm_client::{Locality, VtpmProcess};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

fn start() -> VtpmProcess {
    let mut process = VtpmProcess::spawn(Path::new(env!("CARGO_BIN_EXE_bulla-vtpm"))).unwrap();
    process.client().power_on().unwrap();
    process
}

fn run(vtpm: &mut VtpmProcess, command: &[u8]) -> Vec<u8> {
    vtpm.client().command(Locality::ZERO, command).unwrap()
}

fn one(alg: HashAlg, pcrs: &[u32]) -> PcrSelectionList {
    List::from_slice(&[PcrSelection::new(alg, pcrs)]).unwrap()
}

fn pcr(vtpm: &mut VtpmProcess, alg: HashAlg, number: u32) -> Vec<u8> {
    let answer = run(vtpm, &command::pcr_read(&one(alg, &[number])));
    let read = response::parse_pcr_read(&answer).unwrap();
    read.values[0].as_bytes().to_vec()
}

/// 32 bytes, as the verifier wants them; a TPM may leave leading zeros out.
fn padded(parameter: &EccParameter) -> Vec<u8> {
    let bytes = parameter.as_bytes();
    [&vec![0; 32 - bytes.len()], bytes].concat()
}

/// The uncompressed point of a P-256 key.
fn point(public: &Public) -> Vec<u8> {
    let PublicKind::Ecc { unique, .. } = &public.kind else { panic!("{public:?}") };
    [vec![4], padded(&unique.x), padded(&unique.y)].concat()
}

fn r_and_s(signature: &Signature) -> Vec<u8> {
    let Signature::Signed { hash: HashAlg::Sha256, value: SignatureValue::Ecdsa { r, s } } = signature else {
        panic!("{signature:?}")
    };
    [padded(r), padded(s)].concat()
}

#[test]
fn the_firmware_that_the_monitor_shows_is_in_pcr_0() {
    let firmware: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    let mut vtpm = start();
    let answer = vtpm.client().hash_sequence(&firmware).unwrap();
    let digests = DigestValues::from_bytes(&answer).unwrap();
    let expected = digest_banks(&firmware);
    response::parse_empty(&run(&mut vtpm, &command::startup(StartupType::Clear))).unwrap();
    for alg in HashAlg::BANKS {
        let digest = expected.bank(alg).unwrap();
        assert_eq!(digests.bank(alg).unwrap(), digest);
        // PTP: after an H-CRTM sequence PCR 0 starts from 4, the locality it came from.
        let mut initial = Ha::zero(alg);
        *initial.as_bytes_mut().last_mut().unwrap() = 4;
        assert_eq!(pcr(&mut vtpm, alg, 0), extend(&initial, digest).unwrap().as_bytes(), "{alg}");
    }
}

#[test]
fn power_takes_the_measurements_away() {
    let mut vtpm = start();
    response::parse_empty(&run(&mut vtpm, &command::startup(StartupType::Clear))).unwrap();
    response::parse_empty(&run(&mut vtpm, &command::pcr_extend(8, &digest_banks(b"kernel")))).unwrap();
    assert_ne!(pcr(&mut vtpm, HashAlg::Sha256, 8), [0; 32]);
    vtpm.client().power_on().unwrap();
    response::parse_empty(&run(&mut vtpm, &command::startup(StartupType::Clear))).unwrap();
    assert_eq!(pcr(&mut vtpm, HashAlg::Sha256, 8), [0; 32]);
}

#[test]
fn a_quote_made_in_the_sandbox_verifies_outside() {
    let mut vtpm = start();
    response::parse_empty(&run(&mut vtpm, &command::startup(StartupType::Clear))).unwrap();
    response::parse_empty(&run(&mut vtpm, &command::pcr_extend(8, &digest_banks(b"kernel")))).unwrap();
    let answer = run(&mut vtpm, &command::create_primary(rh::OWNER, &templates::ak_p256()));
    let key = response::parse_create_primary(&answer).unwrap();

    let selection = one(HashAlg::Sha256, &[0, 8]);
    let answer = run(&mut vtpm, &command::quote(key.handle, b"nonce", &selection));
    let quote = response::parse_quote(&answer).unwrap();
    assert_eq!(quote.attest.extra_data.as_bytes(), b"nonce");
    let Attested::Quote { pcr_digest, .. } = &quote.attest.attested else { panic!("{:?}", quote.attest) };
    let parts = [pcr(&mut vtpm, HashAlg::Sha256, 0), pcr(&mut vtpm, HashAlg::Sha256, 8)].concat();
    assert_eq!(pcr_digest.as_bytes(), bulla_tpm_types::hash::digest(HashAlg::Sha256, &[&parts]).as_bytes());

    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(&key.public));
    let signature = r_and_s(&quote.signature);
    public.verify(quote.attest_bytes, &signature).unwrap();
    let mut forged = quote.attest_bytes.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(public.verify(&forged, &signature).is_err());
}

#[test]
fn two_processes_are_two_tpms() {
    let names: Vec<_> = (0..2)
        .map(|_| {
            let mut vtpm = start();
            response::parse_empty(&run(&mut vtpm, &command::startup(StartupType::Clear))).unwrap();
            let answer = run(&mut vtpm, &command::create_primary(rh::ENDORSEMENT, &templates::ek_p256()));
            response::parse_create_primary(&answer).unwrap().name.as_bytes().to_vec()
        })
        .collect();
    assert_ne!(names[0], names[1]);
}
