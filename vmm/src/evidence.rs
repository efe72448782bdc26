//! Evidence: taken by the monitor through its VM's vTPM when the firmware hands over, or sent by a tenant or an agent in the guest.

use std::collections::BTreeMap;

use bulla_attest::eventlog::{EventLogError, Log};
use bulla_attest::{Bank, CborError, Evidence, PcrValues, Root, TakenAt, TpmEvidence};
use bulla_boot_abi::chain::QUOTE_PCRS;
use bulla_boot_abi::mailbox::Reply;
use bulla_tpm_types::eventlog::EventLog;
use bulla_tpm_types::{
    HashAlg, Marshal as _, PcrSelection, PcrSelectionList, command, response, response::ResponseError, rh, templates,
};
use bulla_vtpm_client::{Locality, VtpmClient};

/// Why no evidence could be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The vTPM process does not answer as it should.
    #[error("the vTPM process failed: {0}")]
    Vtpm(#[from] bulla_vtpm_client::Error),
    /// The vTPM refused a command.
    #[error("the vTPM refused {command}: {source}")]
    Refused {
        /// Name of the command.
        command: &'static str,
        /// What it answered.
        source: ResponseError,
    },
    /// The vTPM's answer lacks PCRs that were asked for.
    #[error("the vTPM gave no value for PCR {0} of the SHA-256 bank")]
    PcrMissing(u32),
    /// The log area does not hold a log.
    #[error("the event log in guest memory is malformed: {0}")]
    EventLog(#[from] bulla_tpm_types::eventlog::LogError),
}

/// Why a monitor does not put its name to what an agent in its guest says.
#[derive(Debug, thiserror::Error)]
pub enum AgentEvidenceError {
    /// No claims, or not as `docs/evidence.md` has them.
    #[error(transparent)]
    Claims(#[from] CborError),
    /// Over another nonce than the one that was given.
    #[error("the claims are over another nonce")]
    Nonce,
    /// Said to be taken at hand-over, where no agent is.
    #[error("the claims are not said to be taken by the guest")]
    TakenAt,
    /// By another key than the one of this VM's vTPM: whatever signed, the monitor does not know it.
    #[error("the quote is not by the attestation key of this VM's vTPM")]
    AttestationKey,
}

/// The PCRs that bulla's quotes cover.
fn selection() -> PcrSelection {
    let pcrs: Vec<u32> = QUOTE_PCRS.iter().copied().map(u32::from).collect();
    PcrSelection::new(HashAlg::Sha256, &pcrs)
}

fn list(selection: PcrSelection) -> PcrSelectionList {
    let mut list = PcrSelectionList::new();
    let pushed = list.push(selection);
    debug_assert!(pushed, "an empty list has room for one selection");
    list
}

/// Creates the AK, quotes [`QUOTE_PCRS`] of the SHA-256 bank over `nonce`, reads the same PCRs, and flushes the AK.
///
/// `log_area` is a private copy of the event log area; what follows the last event in it is cut off. The vTPM is left as it was, but
/// for its clock: the AK is a primary key that the guest can create again, with the same result.
///
/// # Errors
/// [`TakeError`]; the AK is flushed also when the quote fails.
pub fn take(vtpm: &mut VtpmClient, nonce: &[u8], log_area: &[u8]) -> Result<Evidence, TakeError> {
    let (_, log_len) = EventLog::in_area(log_area)?;
    let event_log = log_area.get(..log_len).unwrap_or_default().to_vec();
    let answer = vtpm.command(Locality::ZERO, &command::create_primary(rh::ENDORSEMENT, &templates::ak_p256()))?;
    let refused = |command| move |source| TakeError::Refused { command, source };
    let ak = response::parse_create_primary(&answer).map_err(refused("TPM2_CreatePrimary"))?;
    let quoted = vtpm.command(Locality::ZERO, &command::quote(ak.handle, nonce, &list(selection())));
    let flushed = vtpm.command(Locality::ZERO, &command::flush_context(ak.handle));
    let quoted = quoted?;
    let quote = response::parse_quote(&quoted).map_err(refused("TPM2_Quote"))?;
    response::parse_empty(&flushed?).map_err(refused("TPM2_FlushContext"))?;
    Ok(Evidence {
        nonce: nonce.to_vec(),
        root: Root::VmmHosted,
        taken_at: TakenAt::Handover,
        tpm: TpmEvidence {
            ak_public: ak.public.to_vec(),
            quote: quote.attest_bytes.to_vec(),
            signature: quote.signature.to_vec(),
            pcrs: read_pcrs(vtpm)?,
        },
        event_log,
    })
}

/// The attestation key that the guest will find in its vTPM: TPMT_PUBLIC. It is created and flushed; ask before a guest of
/// many keys has taken all the vTPM's room.
///
/// # Errors
/// [`TakeError`].
pub fn ak_public(vtpm: &mut VtpmClient) -> Result<Vec<u8>, TakeError> {
    let refused = |command| move |source| TakeError::Refused { command, source };
    let answer = vtpm.command(Locality::ZERO, &command::create_primary(rh::ENDORSEMENT, &templates::ak_p256()))?;
    let ak = response::parse_create_primary(&answer).map_err(refused("TPM2_CreatePrimary"))?;
    let flushed = vtpm.command(Locality::ZERO, &command::flush_context(ak.handle))?;
    response::parse_empty(&flushed).map_err(refused("TPM2_FlushContext"))?;
    Ok(ak.public.to_vec())
}

/// The evidence that an agent in the guest sent when it was given `nonce`, as far as a monitor can vouch for it: over this
/// nonce, by the attestation key `ak_public` of this VM's vTPM. Whether the quote is good is for the verifier to say.
///
/// # Errors
/// [`AgentEvidenceError`]: agent at fault.
pub fn from_agent(nonce: &[u8], ak_public: &[u8], claims: &[u8]) -> Result<Evidence, AgentEvidenceError> {
    let evidence = Evidence::from_unsigned(claims)?;
    if evidence.nonce != nonce {
        return Err(AgentEvidenceError::Nonce);
    }
    if evidence.taken_at != TakenAt::Guest {
        return Err(AgentEvidenceError::TakenAt);
    }
    if evidence.tpm.ak_public != ak_public {
        return Err(AgentEvidenceError::AttestationKey);
    }
    // What the vTPM rests on, the monitor knows and the guest does not.
    Ok(Evidence { root: Root::VmmHosted, ..evidence })
}

/// Puts together the evidence that a tenant sent when it was asked for a quote over `nonce`.
///
/// The tenant does not send PCR values: they follow from its log, and the quote's digest tells whether truly. `None` if `reply` is
/// no quote.
///
/// # Errors
/// A log that cannot be read or replayed: tenant at fault.
pub fn from_tenant(nonce: &[u8], reply: Reply) -> Result<Option<Evidence>, EventLogError> {
    let Reply::Quote { ak_public, attest, signature, event_log } = reply else {
        return Ok(None);
    };
    let replay = Log::parse(&event_log)?.replay()?;
    let values = selection().iter().map(|pcr| (pcr, replay.value(Bank::Sha256, pcr))).collect();
    let pcrs = BTreeMap::from([(Bank::Sha256, values)]);
    Ok(Some(Evidence {
        nonce: nonce.to_vec(),
        root: Root::VmmHosted,
        taken_at: TakenAt::Guest,
        tpm: TpmEvidence { ak_public, quote: attest, signature, pcrs },
        event_log,
    }))
}

/// TPM2_PCR_Read answers at most eight PCRs at a time and says which: ask until all are there (Part 3, 22.4).
fn read_pcrs(vtpm: &mut VtpmClient) -> Result<PcrValues, TakeError> {
    let mut wanted: Vec<u32> = selection().iter().collect();
    let mut values = BTreeMap::new();
    while let Some(&first) = wanted.first() {
        let ask = list(PcrSelection::new(HashAlg::Sha256, &wanted));
        let answer = vtpm.command(Locality::ZERO, &command::pcr_read(&ask))?;
        let refused = |source| TakeError::Refused { command: "TPM2_PCR_Read", source };
        let read = response::parse_pcr_read(&answer).map_err(refused)?;
        let given: Vec<u32> = read.selection.iter().flat_map(PcrSelection::iter).collect();
        for (pcr, digest) in given.iter().zip(read.values.iter()) {
            values.insert(*pcr, digest.as_bytes().to_vec());
        }
        let before = wanted.len();
        wanted.retain(|pcr| !values.contains_key(pcr));
        if wanted.len() == before {
            return Err(TakeError::PcrMissing(first));
        }
    }
    Ok(BTreeMap::from([(Bank::Sha256, values)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Evidence {
        let digests = QUOTE_PCRS.iter().map(|pcr| (u32::from(*pcr), vec![*pcr; 32])).collect();
        let pcrs = BTreeMap::from([(Bank::Sha256, digests)]);
        let tpm = TpmEvidence { ak_public: vec![1; 90], quote: vec![2; 90], signature: vec![3; 72], pcrs };
        Evidence { nonce: vec![7; 16], root: Root::Simulated, taken_at: TakenAt::Guest, tpm, event_log: vec![4; 99] }
    }

    #[test]
    fn the_monitor_vouches_for_its_own_vtpms_key_and_nonce_and_for_nothing_else() {
        let sent = sent();
        let claims = sent.to_unsigned();
        let taken = from_agent(&[7; 16], &[1; 90], &claims).unwrap();
        assert_eq!(taken, Evidence { root: Root::VmmHosted, ..sent.clone() });
        assert!(matches!(from_agent(&[8; 16], &[1; 90], &claims), Err(AgentEvidenceError::Nonce)));
        assert!(matches!(from_agent(&[7; 16], &[9; 90], &claims), Err(AgentEvidenceError::AttestationKey)));
        let handover = Evidence { taken_at: TakenAt::Handover, ..sent }.to_unsigned();
        assert!(matches!(from_agent(&[7; 16], &[1; 90], &handover), Err(AgentEvidenceError::TakenAt)));
        assert!(matches!(from_agent(&[7; 16], &[1; 90], b"no claims"), Err(AgentEvidenceError::Claims(_))));
    }

    /// The agent knows nothing of the firmware's contract, so its list is its own.
    #[test]
    fn the_agent_quotes_what_the_chain_extends() {
        assert_eq!(bulla_agent::tpm::QUOTE_PCRS, QUOTE_PCRS.map(u32::from));
        let most = bulla_boot_abi::mailbox::NONCE_MAX;
        assert_eq!(*bulla_agent::frame::NONCE_SIZES.end(), most, "no nonce that could be a channel's binding");
        assert!(bulla_agent::frame::EVIDENCE_MAX > bulla_boot_abi::map::EVENT_LOG_SIZE as usize + 8192);
    }
}
