//! Attestation key, quote and PCR values.

use std::collections::BTreeMap;
use std::io;

use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{Handle, HashAlg, Marshal as _, PcrSelection, PcrSelectionList, command, rh, templates};

use crate::claims::Parts;

/// The PCRs that are quoted, of the SHA-256 bank: those that bulla's chain extends or separates. Linux extends others (IMA: 10).
pub const QUOTE_PCRS: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12];

/// A way to a TPM.
pub trait Transport {
    /// Sends a command and waits for its response.
    ///
    /// # Errors
    /// Whatever keeps the response from coming.
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// Why the TPM did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// It could not be talked to.
    #[error("{command}: {source}")]
    Transport {
        /// Name of the command.
        command: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It refused, or its response makes no sense.
    #[error("{command}: {source}")]
    Refused {
        /// Name of the command.
        command: &'static str,
        /// What it answered.
        source: ResponseError,
    },
    /// It gives no value for a PCR.
    #[error("the TPM gives no value for PCR {0} of its SHA-256 bank")]
    PcrMissing(u32),
}

/// Creates the attestation key, quotes [`QUOTE_PCRS`] over `nonce`, reads their values, and flushes the key.
///
/// The key is a primary of the endorsement hierarchy with the template of the house, so that it is the same at each boot, and the
/// same that the monitor finds through its end of the TPM.
///
/// # Errors
/// [`TpmError`]. The key is flushed all the same.
pub fn quote(tpm: &mut impl Transport, nonce: &[u8], event_log: Vec<u8>) -> Result<Parts, TpmError> {
    let create = command::create_primary(rh::ENDORSEMENT, &templates::ak_p256());
    let ak = ask(tpm, "TPM2_CreatePrimary", &create, response::parse_create_primary)?;
    let quoted = quote_with(tpm, ak.handle, nonce);
    let flushed = ask(tpm, "TPM2_FlushContext", &command::flush_context(ak.handle), response::parse_empty);
    let (quote, signature) = quoted?;
    flushed?;
    let pcrs = read_pcrs(tpm)?;
    Ok(Parts { nonce: nonce.to_vec(), ak_public: ak.public.to_vec(), quote, signature, pcrs, event_log })
}

fn ask<T>(
    tpm: &mut impl Transport,
    command: &'static str,
    bytes: &[u8],
    parse: impl FnOnce(&[u8]) -> Result<T, ResponseError>,
) -> Result<T, TpmError> {
    let answer = tpm.transmit(bytes).map_err(|source| TpmError::Transport { command, source })?;
    parse(&answer).map_err(|source| TpmError::Refused { command, source })
}

fn quote_with(tpm: &mut impl Transport, ak: Handle, nonce: &[u8]) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
    ask(tpm, "TPM2_Quote", &command::quote(ak, nonce, &list(&QUOTE_PCRS)), |answer| {
        let quote = response::parse_quote(answer)?;
        Ok((quote.attest_bytes.to_vec(), quote.signature.to_vec()))
    })
}

fn list(pcrs: &[u32]) -> PcrSelectionList {
    PcrSelectionList::from_slice(&[PcrSelection::new(HashAlg::Sha256, pcrs)]).unwrap_or_default()
}

/// TPM2_PCR_Read answers at most eight PCRs at a time and says which: ask until all are there (Part 3, 22.4).
fn read_pcrs(tpm: &mut impl Transport) -> Result<Vec<(u32, Vec<u8>)>, TpmError> {
    let mut values = BTreeMap::new();
    let mut wanted = QUOTE_PCRS.to_vec();
    while let Some(&first) = wanted.first() {
        let answer = ask(tpm, "TPM2_PCR_Read", &command::pcr_read(&list(&wanted)), response::parse_pcr_read)?;
        let given = answer.selection.iter().filter(|bank| bank.alg == HashAlg::Sha256).flat_map(PcrSelection::iter);
        for (pcr, digest) in given.zip(answer.values.iter()) {
            // What was not asked for is not told on.
            if wanted.contains(&pcr) && digest.len() == HashAlg::Sha256.size() {
                values.insert(pcr, digest.as_bytes().to_vec());
            }
        }
        let before = wanted.len();
        wanted.retain(|pcr| !values.contains_key(pcr));
        if wanted.len() == before {
            return Err(TpmError::PcrMissing(first));
        }
    }
    Ok(values.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::EngineTransport;
    use bulla_attest::{Evidence, HostKey, Policy, SignedEvidence, appraise};

    const NONCE: [u8; 32] = [9; 32];

    #[test]
    fn what_the_agent_hands_out_verifies_and_only_with_its_nonce() {
        let (mut tpm, log) = EngineTransport::booted();
        let parts = quote(&mut tpm, &NONCE, log).unwrap();
        let mut evidence = Evidence::from_unsigned(&parts.to_claims()).unwrap();
        // What a monitor does.
        evidence.root = bulla_attest::Root::VmmHosted;
        let signed = evidence.sign(&HostKey::generate().unwrap()).unwrap();
        let read = SignedEvidence::from_bytes(&signed).unwrap();
        let verdict = appraise(&read, &NONCE, None, &Policy::default());
        assert!(verdict.accepted, "{verdict}");
        assert!(!appraise(&read, &[8; 32], None, &Policy::default()).accepted);
    }

    #[test]
    fn the_key_is_the_same_each_time_and_none_is_left_behind() {
        let (mut tpm, log) = EngineTransport::booted();
        let keys: Vec<_> = (0..10).map(|_| quote(&mut tpm, &NONCE, log.clone()).unwrap().ak_public).collect();
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_refusal_names_the_command() {
        for (index, name) in
            ["TPM2_CreatePrimary", "TPM2_Quote", "TPM2_FlushContext", "TPM2_PCR_Read"].iter().enumerate()
        {
            let (mut tpm, log) = EngineTransport::booted();
            tpm.refuse = Some((index, vec![0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0]));
            match quote(&mut tpm, &NONCE, log).unwrap_err() {
                TpmError::Refused { command, .. } => assert_eq!(command, *name),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_tpm_that_gives_no_values_is_not_asked_for_ever() {
        let (mut tpm, log) = EngineTransport::booted();
        // PCR_Read: no PCR and no value.
        let mut empty = vec![0x80, 1, 0, 0, 0, 22, 0, 0, 0, 0];
        empty.resize(22, 0);
        tpm.refuse = Some((3, empty));
        assert!(matches!(quote(&mut tpm, &NONCE, log), Err(TpmError::PcrMissing(0))));
    }
}
