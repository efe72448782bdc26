//! `bulla demo`: the whole story, every part of it checked.

mod story;
mod vm;

use std::time::Instant;

use serde::Serialize;

use super::{Exit, Failure, say};
use story::{Held, Story};

/// Show the whole story in a few seconds, and check every part of it.
///
/// Boots two VMs with the bundled guest, each with its own vTPM; verifies both quotes against values computed offline; boots a third whose kernel
/// has one flipped bit and sees it rejected by name; lets the two good ones exchange messages through shared memory; looks into that memory as the
/// host could, and flips a bit in it.
///
/// Exit code 0 only if every claim held, 1 if one did not, 3 if this host cannot run VMs with the --accel asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    accel: super::AccelArguments,
    /// Print one JSON object: each claim as a field, what was seen, and timings.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Every claim held.
    ok: bool,
    /// What executed the guests, and why.
    accel: &'static str,
    accel_why: &'a str,
    #[serde(flatten)]
    held: &'a Held,
    /// What was seen, for a person.
    details: &'a [String],
    /// Whole demo, milliseconds.
    milliseconds: u128,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    // Not kept: each monitor opens its own.
    let (_, choice) = arguments.accel.open(false)?;
    let start = Instant::now();
    let mut story = Story::new(!arguments.json, choice.name());
    story.say(&format!("the guests run on {choice}"));
    let result = story.tell();
    let held = story.held();
    let ok = held.all() && result.is_ok();
    if let Err(error) = &result {
        story.say(&format!("stopped: {error}"));
    }
    if arguments.json {
        let report = Report {
            ok,
            accel: choice.name(),
            accel_why: &choice.why,
            held: story.held(),
            details: story.details(),
            milliseconds: start.elapsed().as_millis(),
        };
        let text = serde_json::to_string_pretty(&report);
        say!("{}", text.map_err(|e| Failure::because(Exit::HostFailed, "cannot write JSON", &e))?);
    } else {
        say!("");
        for (claim, held) in story.held().list() {
            say!("{} {claim}", if held { "held  " } else { "FAILED" });
        }
        say!(
            "{} in {:.1} s",
            if ok { "every claim held" } else { "NOT every claim held" },
            start.elapsed().as_secs_f32()
        );
    }
    match result {
        Err(error) if error.exit() != Exit::GuestFailed => Err(error),
        _ if ok => Ok(Exit::Done),
        _ => Ok(Exit::GuestFailed),
    }
}
