//! `bulla measure`

use std::collections::BTreeMap;
use std::path::PathBuf;

use bulla_attest::Expected;
use bulla_vmm::measure::{MeasureError, expected};

use serde_json::json;

use super::{BootArguments, Exit, Failure, say, write_file};

/// Compute what a VM should measure, without running it.
///
/// Prints the PCRs that a VM started with the same arguments will have, and with --out writes them with the whole event
/// log for `bulla-attest verify --expected`. Needs no KVM, no TPM and no privileges. Memory size and number of vCPUs are
/// measured too: give the same as to `bulla run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    boot: BootArguments,
    /// Write the expected values here, for `bulla-attest verify --expected`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the computed TCG event log here (binary, as `tpm2_eventlog` reads it).
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let files = arguments.boot.read()?;
    let expected = expected(&arguments.boot.inputs(&files))
        .map_err(|e: MeasureError| Failure::because(Exit::BadInput, "cannot measure", &e))?;
    if let Some(path) = &arguments.out {
        let bytes = expected.to_bytes().map_err(|e| Failure::because(Exit::BadInput, "expected values", &e))?;
        write_file(path, &bytes)?;
    }
    if let Some(path) = &arguments.event_log {
        let log = expected.to_event_log().map_err(|e| Failure::because(Exit::BadInput, "event log", &e))?;
        write_file(path, &log)?;
    }
    if arguments.json {
        say!("{:#}", json(&expected));
        return Ok(Exit::Done);
    }
    for (bank, pcrs) in &expected.pcrs {
        say!("{bank}:");
        for (pcr, digest) in pcrs {
            say!("  {pcr:>2}: {}", hex::encode(digest));
        }
    }
    say!("events:");
    for event in &expected.events {
        say!("  PCR {:>2}  {}", event.pcr, event.name);
    }
    Ok(Exit::Done)
}

fn json(expected: &Expected) -> serde_json::Value {
    let hex_map = |digests: &bulla_attest::Digests| -> BTreeMap<String, String> {
        digests.iter().map(|(bank, digest)| (bank.to_string(), hex::encode(digest))).collect()
    };
    let pcrs: BTreeMap<String, BTreeMap<u32, String>> = expected
        .pcrs
        .iter()
        .map(|(bank, values)| (bank.to_string(), values.iter().map(|(pcr, v)| (*pcr, hex::encode(v))).collect()))
        .collect();
    let events: Vec<serde_json::Value> = expected
        .events
        .iter()
        .map(|e| {
            json!({ "pcr": e.pcr, "type": e.event_type, "name": e.name, "digests": hex_map(&e.digests),
                    "data": hex::encode(&e.data) })
        })
        .collect();
    json!({ "root": expected.root, "machine": expected.machine, "pcrs": pcrs, "events": events })
}
