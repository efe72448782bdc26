//! Evidence as files for stock tools: `tpm2_checkquote` and `tpm2_eventlog` of tpm2-tools 5.4 and later.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::bank::{Bank, PcrValues};
use crate::evidence::Evidence;
use crate::quote::{AttestationKey, Quote, QuoteError, QuoteSignature};

/// Why evidence cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A TPM structure in the evidence cannot be read.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Writes the evidence into `dir`, which is made if it does not exist; files of these names are replaced.
///
/// | file | for | content |
/// |---|---|---|
/// | `quote.msg` | `tpm2_checkquote -m` | TPMS_ATTEST |
/// | `quote.sig` | `-s` | TPMT_SIGNATURE |
/// | `quote.pcrs` | `-f` | PCR selection and values, as `tpm2_quote -o` writes them |
/// | `ak.pem` | `-u` | the attestation key |
/// | `nonce.hex` | `-q` | the nonce |
/// | `eventlog.bin` | `tpm2_eventlog` | the event log |
/// | `README` | people | the commands |
///
/// Nothing is appraised: these tools check the quote themselves, the envelope they do not know.
pub fn tpm2_tools(evidence: &Evidence, dir: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let quote = Quote::parse(&evidence.tpm.quote)?;
    let hash = QuoteSignature::parse(&evidence.tpm.signature)?.hash;
    let ak = AttestationKey::parse(&evidence.tpm.ak_public)?;
    let readme = format!(
        "Files for tpm2-tools, written by bulla-attest export. In this directory:\n\n  \
         tpm2_checkquote -u ak.pem -m quote.msg -s quote.sig -f quote.pcrs -g {hash} -q $(cat nonce.hex)\n  \
         tpm2_eventlog eventlog.bin\n\n\
         tpm2_eventlog before 5.6 ignores StartupLocality and extends EV_NO_ACTION events, so its PCR 0 is wrong\n\
         for every machine with an H-CRTM; compare PCR 0 with `bulla-attest eventlog eventlog.bin --replay`.\n"
    );
    let files: [(&str, Vec<u8>); 7] = [
        ("quote.msg", evidence.tpm.quote.clone()),
        ("quote.sig", evidence.tpm.signature.clone()),
        ("quote.pcrs", pcr_file(&quote, &evidence.tpm.pcrs)?),
        ("ak.pem", ak.to_pem()?.into_bytes()),
        ("nonce.hex", format!("{}\n", hex::encode(&quote.nonce)).into_bytes()),
        ("eventlog.bin", evidence.event_log.clone()),
        ("README", readme.into_bytes()),
    ];
    fs::create_dir_all(dir).map_err(|source| ExportError::Io { path: dir.to_owned(), source })?;
    let mut written = Vec::new();
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content).map_err(|source| ExportError::Io { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}

/// The "serialized" PCR file of tpm2-tools: the C structures TPML_PCR_SELECTION, a count, and that many
/// TPML_DIGEST as tpm2-tss 3 lays them out on a little-endian machine, padding included.
fn pcr_file(quote: &Quote, pcrs: &PcrValues) -> Result<Vec<u8>, QuoteError> {
    const SELECTIONS: usize = 16; // TPM2_NUM_PCR_BANKS
    const SELECTION: usize = 8; // UINT16 hash, BYTE sizeofSelect, BYTE pcrSelect[4], one byte of padding
    const DIGESTS: usize = 8; // digests in a TPML_DIGEST
    const DIGEST: usize = 64; // sizeof(TPMU_HA)

    let mut selections = Vec::new();
    let mut values: Vec<&[u8]> = Vec::new();
    for (bank, selected) in &quote.selection {
        selections.extend(bank.id().to_le_bytes());
        selections.push(3);
        let bits: u32 = selected.iter().filter(|&&pcr| pcr < 24).fold(0, |bits, pcr| bits | 1 << pcr);
        selections.extend(bits.to_le_bytes());
        selections.push(0);
        for &pcr in selected {
            values.push(value(pcrs, *bank, pcr)?);
        }
    }
    selections.resize(SELECTIONS * SELECTION, 0);

    let lists: Vec<&[&[u8]]> = values.chunks(DIGESTS).collect();
    let mut file = Vec::new();
    file.extend((quote.selection.len() as u32).to_le_bytes());
    file.extend(selections);
    file.extend((lists.len() as u32).to_le_bytes());
    for list in lists {
        file.extend((list.len() as u32).to_le_bytes());
        for place in 0..DIGESTS {
            let digest = list.get(place).copied().unwrap_or_default();
            file.extend((digest.len() as u16).to_le_bytes());
            file.extend(digest);
            file.resize(file.len() + DIGEST - digest.len(), 0);
        }
    }
    Ok(file)
}

fn value(pcrs: &PcrValues, bank: Bank, pcr: u32) -> Result<&[u8], QuoteError> {
    let value = pcrs.get(&bank).and_then(|values| values.get(&pcr));
    value.map(Vec::as_slice).ok_or(QuoteError::MissingPcr { bank, pcr })
}
