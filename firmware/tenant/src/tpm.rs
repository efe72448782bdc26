//! The tenant's TPM: its attestation key and what it signs.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use bulla_channel::{AttestedIdentity, Attester, BoxError, PcrValue};
use bulla_guest_rt::interface::InterfaceError;
use bulla_guest_rt::measure::Transport;
use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{Handle, HashAlg, Marshal, PcrSelection, PcrSelectionList, command, rh, templates};

use crate::policy::quoted;

/// Why the TPM did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TpmError {
    /// It could not be talked to.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// It refused, or its response makes no sense.
    #[error("{command}: {error}")]
    Refused {
        /// Which command.
        command: &'static str,
        /// What it answered.
        error: ResponseError,
    },
    /// It gives no value for a PCR.
    #[error("TPM has no PCR {0} in its SHA-256 bank")]
    PcrMissing(u8),
    /// It gives no random bytes.
    #[error("TPM gives no random bytes")]
    NoRandom,
    /// Two uses at once: a bug.
    #[error("TPM is in use")]
    Busy,
}

/// What a quote consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// TPMT_PUBLIC of the attestation key.
    pub ak_public: Vec<u8>,
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// A TPM with an attestation key loaded.
#[derive(Debug)]
pub struct Tpm<T> {
    transport: T,
    ak: Handle,
    ak_public: Vec<u8>,
}

fn refused(command: &'static str) -> impl Fn(ResponseError) -> TpmError {
    move |error| TpmError::Refused { command, error }
}

impl<T: Transport> Tpm<T> {
    /// Creates the attestation key, a primary of the endorsement hierarchy: the same one each time, as long as the TPM's
    /// endorsement seed is the same.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn new(mut transport: T) -> Result<Self, TpmError> {
        let answer = transport.transmit(&command::create_primary(rh::ENDORSEMENT, &templates::ak_p256()))?;
        let ak = response::parse_create_primary(answer).map_err(refused("TPM2_CreatePrimary"))?;
        Ok(Self { transport, ak: ak.handle, ak_public: ak.public.to_vec() })
    }

    /// Quotes [`quoted`] of the SHA-256 bank over `extra`.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn quote(&mut self, extra: &[u8]) -> Result<Quote, TpmError> {
        let answer = self.transport.transmit(&command::quote(self.ak, extra, &list(quoted().iter())))?;
        let quote = response::parse_quote(answer).map_err(refused("TPM2_Quote"))?;
        let (attest, signature) = (quote.attest_bytes.to_vec(), quote.signature.to_vec());
        Ok(Quote { ak_public: self.ak_public.clone(), attest, signature })
    }

    /// The values of [`quoted`], in ascending order.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn pcr_values(&mut self) -> Result<Vec<PcrValue>, TpmError> {
        let mut values = BTreeMap::new();
        // TPM2_PCR_Read gives as many values as fit its response, and says which (Part 3, 22.4).
        loop {
            let missing = || quoted().iter().filter(|pcr| !values.contains_key(pcr));
            let Some(first) = missing().next() else { break };
            let answer = self.transport.transmit(&command::pcr_read(&list(missing())))?;
            let read = response::parse_pcr_read(answer).map_err(refused("TPM2_PCR_Read"))?;
            let given = read.selection.iter().filter(|bank| bank.alg == HashAlg::Sha256).flat_map(PcrSelection::iter);
            for (pcr, digest) in given.zip(read.values.iter()) {
                if let (Ok(pcr), Ok(sha256)) = (u8::try_from(pcr), digest.as_bytes().try_into()) {
                    values.insert(pcr, PcrValue { pcr, sha256 });
                }
            }
            if !values.contains_key(&first) {
                return Err(TpmError::PcrMissing(first));
            }
        }
        values.retain(|pcr, _| quoted().contains(*pcr));
        Ok(values.into_values().collect())
    }

    /// Fills `out` with the TPM's random bytes.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn random(&mut self, out: &mut [u8]) -> Result<(), TpmError> {
        let mut rest = out;
        while !rest.is_empty() {
            let wanted = u16::try_from(rest.len().min(32)).unwrap_or(32);
            let answer = self.transport.transmit(&command::get_random(wanted))?;
            let bytes = response::parse_get_random(answer).map_err(refused("TPM2_GetRandom"))?;
            let len = bytes.len().min(rest.len());
            if len == 0 {
                return Err(TpmError::NoRandom);
            }
            let (head, tail) = rest.split_at_mut_checked(len).ok_or(TpmError::NoRandom)?;
            head.iter_mut().zip(bytes.iter()).for_each(|(to, from)| *to = *from);
            rest = tail;
        }
        Ok(())
    }
}

fn list(pcrs: impl Iterator<Item = u8>) -> PcrSelectionList {
    let pcrs: Vec<u32> = pcrs.map(u32::from).collect();
    PcrSelectionList::from_slice(&[PcrSelection::new(HashAlg::Sha256, &pcrs)]).unwrap_or_default()
}

/// A TPM that the tenant and its channel both use, one at a time.
#[derive(Debug)]
pub struct SharedTpm<T>(Rc<RefCell<Tpm<T>>>);

impl<T> Clone for SharedTpm<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: Transport> SharedTpm<T> {
    /// Shares `tpm`.
    #[must_use]
    pub fn new(tpm: Tpm<T>) -> Self {
        Self(Rc::new(RefCell::new(tpm)))
    }

    /// Uses the TPM.
    ///
    /// # Errors
    /// What `work` says, or [`TpmError::Busy`].
    pub fn with<U>(&self, work: impl FnOnce(&mut Tpm<T>) -> Result<U, TpmError>) -> Result<U, TpmError> {
        work(&mut *self.0.try_borrow_mut().map_err(|_| TpmError::Busy)?)
    }
}

impl<T: Transport> Attester for SharedTpm<T> {
    fn quote(&mut self, extra: &[u8; 48]) -> Result<AttestedIdentity, BoxError> {
        let (quote, pcr_values) = self.with(|tpm| Ok((tpm.quote(extra)?, tpm.pcr_values()?)))?;
        let Quote { ak_public, attest, signature } = quote;
        Ok(AttestedIdentity { ak_public, attest, signature, pcr_values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EngineTransport, fresh_seed};
    use bulla_channel::appraise::{AppraisalError, verify};

    fn tpm(seed: u8) -> Tpm<EngineTransport> {
        let mut transport = EngineTransport::started(seed);
        transport.extend(4, b"kernel");
        Tpm::new(transport).unwrap()
    }

    #[test]
    fn what_the_vtpm_quotes_verifies_as_a_channel_identity() {
        let mut shared = SharedTpm::new(tpm(fresh_seed()));
        let identity = Attester::quote(&mut shared, &[7; 48]).unwrap();
        assert_eq!(identity.pcr_values.len(), quoted().iter().count());
        let verified = verify(&identity, &[7; 48], Some(quoted())).unwrap();
        assert_eq!(verified.pcr_values(), identity.pcr_values);
        assert_eq!(verify(&identity, &[8; 48], Some(quoted())).err(), Some(AppraisalError::ExtraData));
    }

    #[test]
    fn the_attestation_key_is_the_same_each_time() {
        let mut tpm = tpm(fresh_seed());
        let first = tpm.ak_public.clone();
        let again = Tpm::new(tpm.transport).unwrap();
        assert_eq!(again.ak_public, first);
        tpm = again;
        assert_eq!(tpm.quote(b"nonce").unwrap().ak_public, first);
    }

    #[test]
    fn any_number_of_random_bytes_is_given() {
        let mut tpm = tpm(fresh_seed());
        let mut out = [0; 100];
        tpm.random(&mut out).unwrap();
        assert!(out.chunks(10).all(|chunk| chunk != [0; 10]));
    }

    #[test]
    fn a_refusal_names_the_command() {
        let mut tpm = tpm(fresh_seed());
        tpm.transport.refuse = Some(alloc::vec![0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0]);
        let name = |error| match error {
            TpmError::Refused { command, .. } => command,
            other => panic!("{other}"),
        };
        assert_eq!(name(tpm.quote(b"").unwrap_err()), "TPM2_Quote");
        assert_eq!(name(tpm.pcr_values().unwrap_err()), "TPM2_PCR_Read");
        assert_eq!(name(tpm.random(&mut [0]).unwrap_err()), "TPM2_GetRandom");
    }

    #[test]
    fn a_tpm_that_never_gives_anything_is_not_asked_for_ever() {
        let mut tpm = tpm(fresh_seed());
        // GetRandom: an empty buffer. PCR_Read: no PCR and no value.
        tpm.transport.refuse = Some(alloc::vec![0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0]);
        assert_eq!(tpm.random(&mut [0; 4]), Err(TpmError::NoRandom));
        let mut empty = alloc::vec![0x80, 1, 0, 0, 0, 22, 0, 0, 0, 0];
        empty.resize(22, 0);
        tpm.transport.refuse = Some(empty);
        assert_eq!(tpm.pcr_values(), Err(TpmError::PcrMissing(0)));
    }
}
