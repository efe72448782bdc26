//! What the engine does, command by command and error by error.

mod admin;
mod attest;
mod capability;
mod contexts;
mod curves;
mod derived;
mod duplicates;
mod errors;
mod fuzz;
mod hashes;
mod lifecycle;
mod memory;
mod nv;
mod objects;
mod pcrs;
mod peer;
mod policies;
mod primary;
mod rsa;
mod samples;
mod sessions;
mod state;
mod symmetric;
mod x509;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use bulla_tpm_types::response::ResponseError;
use bulla_tpm_types::{Handle, PcrSelection, PcrSelectionList, Rc, StartupType, command, response, templates};

use super::{Clock, Entropy, EntropyError, Tpm};

/// Bytes from hexadecimal digits; anything else is ignored.
pub(super) fn unhex(s: &str) -> Vec<u8> {
    let digits: Vec<u8> = s.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

/// A platform whose entropy and time a test controls. Its entropy counts up, so that tests are repeatable.
#[derive(Clone, Default)]
struct Platform {
    counter: Arc<AtomicU8>,
    broken: Arc<AtomicBool>,
    now_ms: Arc<AtomicU64>,
}

impl Entropy for Platform {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), EntropyError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(EntropyError);
        }
        buf.iter_mut().for_each(|b| *b = self.counter.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

impl Clock for Platform {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

/// A TPM with its power on and no startup yet, on a platform that the test can change.
fn powered_on() -> (Tpm, Platform) {
    let platform = Platform::default();
    let mut tpm = Tpm::manufacture(Box::new(platform.clone()), Box::new(platform.clone()));
    tpm.init();
    (tpm, platform)
}

/// A TPM after Startup(CLEAR).
fn started() -> Tpm {
    let (mut tpm, _) = powered_on();
    startup(&mut tpm, StartupType::Clear).expect("the first startup");
    tpm
}

fn run(tpm: &mut Tpm, command: &[u8]) -> Vec<u8> {
    tpm.execute(0, command)
}

/// The response code of a command, from a response that is well formed for a command without handles.
fn code(tpm: &mut Tpm, command: &[u8]) -> Rc {
    code_at(tpm, 0, command)
}

fn code_at(tpm: &mut Tpm, locality: u8, command: &[u8]) -> Rc {
    let bytes = tpm.execute(locality, command);
    match response::parse(&bytes, false) {
        Ok(_) => Rc(0),
        Err(ResponseError::Tpm(rc)) => rc,
        Err(e) => panic!("{e}: {bytes:02x?}"),
    }
}

fn startup(tpm: &mut Tpm, kind: StartupType) -> Result<(), ResponseError> {
    response::parse_empty(&run(tpm, &command::startup(kind)))
}

fn shutdown(tpm: &mut Tpm, kind: StartupType) {
    response::parse_empty(&run(tpm, &command::shutdown(kind))).expect("shutdown");
}

fn pcr(tpm: &mut Tpm, alg: bulla_tpm_types::HashAlg, n: u32) -> Vec<u8> {
    let selection = PcrSelectionList::from_slice(&[PcrSelection::new(alg, &[n])]).expect("one bank");
    let read = response::parse_pcr_read(&run(tpm, &command::pcr_read(&selection))).expect("PCR_Read");
    assert_eq!(read.selection, selection);
    read.values[0].to_vec()
}

fn update_counter(tpm: &mut Tpm) -> u32 {
    let read = response::parse_pcr_read(&run(tpm, &command::pcr_read(&PcrSelectionList::new())));
    read.expect("PCR_Read").update_counter
}

fn load(tpm: &mut Tpm, hierarchy: Handle, template: &bulla_tpm_types::Public) -> response::CreatePrimary {
    response::parse_create_primary(&run(tpm, &command::create_primary(hierarchy, template))).expect("a primary key")
}

fn load_ak(tpm: &mut Tpm, hierarchy: Handle) -> response::CreatePrimary {
    load(tpm, hierarchy, &templates::ak_p256())
}
