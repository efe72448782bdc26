//! The three commands: read files, call the library, print.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bulla_attest::eventlog::{EventLogError, Log, MAX_LOG, Replay, type_name};
use bulla_attest::export::{self, ExportError};
use bulla_attest::{
    Bank, EvidenceError, Expected, ExpectedError, MAX_EVIDENCE, MAX_EXPECTED, MAX_POLICY, NONCE_SIZES, Policy,
    PolicyError, SignedEvidence, appraise,
};

use crate::{EventlogArgs, ExportArgs, VerifyArgs};

/// Why a command could not do its work. A rejection is not an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: usize },
    #[error("{}: not UTF-8 text", .0.display())]
    NotText(PathBuf),
    #[error("--nonce: not hex: {0}")]
    NonceHex(hex::FromHexError),
    #[error("--nonce: a nonce has 8 to 64 bytes, not {0}")]
    NonceSize(usize),
    #[error("{}: {source}", path.display())]
    Evidence { path: PathBuf, source: EvidenceError },
    #[error("{}: {source}", path.display())]
    Expected { path: PathBuf, source: ExpectedError },
    #[error("{}: {source}", path.display())]
    Policy { path: PathBuf, source: PolicyError },
    #[error("{}: {source}", path.display())]
    EventLog { path: PathBuf, source: EventLogError },
    #[cfg(feature = "initramfs")]
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[cfg(feature = "initramfs")]
    #[error("initramfs: {0}")]
    Initramfs(#[from] bulla_initramfs::ArchiveError),
    #[error("export: {0}")]
    Export(#[from] ExportError),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, CommandError> {
    let io = |source| CommandError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file of exactly the limit from a larger one.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(io)?.take(most).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > limit {
        return Err(CommandError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn read_text(path: &Path, limit: usize) -> Result<String, CommandError> {
    String::from_utf8(read(path, limit)?).map_err(|_| CommandError::NotText(path.to_owned()))
}

fn read_evidence(path: &Path) -> Result<SignedEvidence, CommandError> {
    SignedEvidence::from_bytes(&read(path, MAX_EVIDENCE)?)
        .map_err(|source| CommandError::Evidence { path: path.to_owned(), source })
}

pub(crate) fn verify(args: &VerifyArgs) -> Result<bool, CommandError> {
    let nonce = hex::decode(&args.nonce).map_err(CommandError::NonceHex)?;
    if !NONCE_SIZES.contains(&nonce.len()) {
        return Err(CommandError::NonceSize(nonce.len()));
    }
    let in_policy = |path: &Path| {
        let path = path.to_owned();
        move |source| CommandError::Policy { path, source }
    };
    let mut policy = match &args.policy {
        Some(path) => Policy::from_toml(&read_text(path, MAX_POLICY)?).map_err(in_policy(path))?,
        None => Policy::default(),
    };
    if let Some(path) = &args.ak {
        policy.pin_ak_pem(&read_text(path, MAX_POLICY)?).map_err(in_policy(path))?;
    }
    if let Some(path) = &args.host_key {
        policy.pin_host_key_pem(&read_text(path, MAX_POLICY)?).map_err(in_policy(path))?;
    }
    let expected = match &args.expected {
        Some(path) => {
            let read = Expected::from_bytes(&read(path, MAX_EXPECTED)?);
            Some(read.map_err(|source| CommandError::Expected { path: path.clone(), source })?)
        }
        None => None,
    };
    let evidence = read_evidence(&args.evidence)?;
    let verdict = appraise(&evidence, &nonce, expected.as_ref(), &policy);
    let mut out = io::stdout().lock();
    if args.json {
        heard(writeln!(out, "{}", serde_json::to_string_pretty(&verdict)?))?;
    } else {
        heard(write!(out, "{verdict}"))?;
    }
    Ok(verdict.accepted)
}

/// A reader of standard output that has left, as `head` does, is no error: the exit code still says how it went.
fn heard(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

pub(crate) fn eventlog(args: &EventlogArgs) -> Result<bool, CommandError> {
    let bytes = read(&args.file, MAX_LOG)?;
    let bad = |source| CommandError::EventLog { path: args.file.clone(), source };
    let log = Log::parse(&bytes).map_err(bad)?;
    let replay = if args.replay { Some(log.replay().map_err(bad)?) } else { None };
    let mut out = io::stdout().lock();
    if args.json {
        heard(writeln!(out, "{}", serde_json::to_string_pretty(&log_as_json(&log, replay.as_ref()))?))?;
    } else {
        heard(print_log(&mut out, &log, replay.as_ref()))?;
    }
    Ok(true)
}

fn print_log(out: &mut impl Write, log: &Log, replay: Option<&Replay>) -> io::Result<()> {
    let banks = log.banks.iter().map(|bank| bank.name()).collect::<Vec<_>>().join(", ");
    let kind = if log.legacy { "SHA-1 log" } else { "crypto-agile log" };
    writeln!(out, "{kind}, banks {banks}, {} events", log.events.len())?;
    for event in &log.events {
        writeln!(out, "{:>4}  PCR {:<2}  {}", event.index, event.pcr, event.describe())?;
        for (bank, digest) in &event.digests {
            writeln!(out, "              {bank:<7} {}", hex::encode(digest))?;
        }
    }
    let Some(replay) = replay else { return Ok(()) };
    writeln!(out, "\nReplayed from startup locality {}:", replay.startup_locality)?;
    for (bank, values) in &replay.pcrs {
        for (pcr, value) in values {
            writeln!(out, "{bank:<7} PCR {pcr:<2}  {}", hex::encode(value))?;
        }
    }
    Ok(())
}

fn log_as_json(log: &Log, replay: Option<&Replay>) -> serde_json::Value {
    let digests = |digests: &bulla_attest::Digests| -> serde_json::Map<String, serde_json::Value> {
        digests.iter().map(|(bank, digest)| (bank.to_string(), hex::encode(digest).into())).collect()
    };
    let event = |event: &bulla_attest::eventlog::Event| {
        serde_json::json!({
            "index": event.index,
            "pcr": event.pcr,
            "type": event.event_type,
            "type_name": type_name(event.event_type),
            "text": event.describe(),
            "digests": digests(&event.digests),
            "data": hex::encode(&event.data),
        })
    };
    let values = |values: &std::collections::BTreeMap<u32, Vec<u8>>| -> serde_json::Map<String, serde_json::Value> {
        values.iter().map(|(pcr, value)| (pcr.to_string(), hex::encode(value).into())).collect()
    };
    let mut json = serde_json::json!({
        "legacy": log.legacy,
        "banks": log.banks,
        "events": log.events.iter().map(event).collect::<Vec<_>>(),
    });
    if let (Some(replay), Some(json)) = (replay, json.as_object_mut()) {
        let bank = |(bank, pcrs): (&Bank, _)| (bank.to_string(), serde_json::Value::Object(values(pcrs)));
        let pcrs: serde_json::Map<String, serde_json::Value> = replay.pcrs.iter().map(bank).collect();
        json.insert("startup_locality".to_owned(), replay.startup_locality.into());
        json.insert("pcrs".to_owned(), pcrs.into());
    }
    json
}

pub(crate) fn export(args: &ExportArgs) -> Result<bool, CommandError> {
    let evidence = read_evidence(&args.evidence)?;
    for path in export::tpm2_tools(evidence.evidence(), &args.tpm2_tools)? {
        heard(writeln!(io::stdout(), "{}", path.display()))?;
    }
    Ok(true)
}
