//! Evidence: taken by the monitor through its VM's vTPM when the firmware hands over, or sent by a tenant.

use std::collections::BTreeMap;

use bulla_attest::eventlog::{EventLogError, Log};
use bulla_attest::{Bank, Evidence, PcrValues, Root, TakenAt, TpmEvidence};
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
