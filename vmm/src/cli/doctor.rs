//! `bulla doctor`

use bulla_vmm::doctor::{Standing, can_run, examine};

use super::{Exit, Failure, say};

/// Say what this host can do, and what to do about what is missing.
///
/// Exit code 0 if VMs can run here, 3 if not.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON: a list of {name, standing, seen, advice}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let findings = examine();
    if arguments.json {
        let text = serde_json::to_string_pretty(&findings);
        say!("{}", text.map_err(|e| Failure::because(Exit::HostFailed, "cannot write JSON", &e))?);
    } else {
        for finding in &findings {
            let mark = match finding.standing {
                Standing::Good => "ok     ",
                Standing::Absent => "absent ",
                Standing::Limited => "LIMITED",
                Standing::Blocking => "MISSING",
            };
            say!("{mark} {:<10} {}", finding.name, finding.seen);
            if let Some(advice) = &finding.advice {
                say!("        {:<10} → {advice}", "");
            }
        }
    }
    Ok(if can_run(&findings) { Exit::Done } else { Exit::NoBackend })
}
